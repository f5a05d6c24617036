/*
 * May the caller do this? The server decides (RFC 1813 section 3.3.4): mode bits lie where it squashes users or has
 * ACLs. One ACCESS asks for everything at once; the answer is kept for this credential as long as the attributes are
 * believed (cache.c), and the attributes that come with it are news of their own.
 */
#include "volume.h"

static void access_done(NfsCall *call);

static int access_result(uint32_t mask, uint32_t granted) {
        return (granted & mask) == mask ? 0 : EACCES;
}

void op_access(Op *op, uint32_t mask, bool ask, void (*then)(Op *op, int err)) {
        uint64_t now = reactor_now(op->reactor->reactor);
        uint32_t granted;

        op->access.mask = mask;
        op->access.then = then;
        op->access.has_attr = true; /* as much as what is cached */
        if (!ask && cache_access(op->inode, &op->cred, mask, now, &granted))
                return then(op, access_result(mask, granted));
        op_call(op, NFS_ACCESS, inode_fh(op->inode), access_done)->access.mask = NFS_ACCESS_ALL;
        op_send(op);
}

static void access_done(NfsCall *call) {
        Op *op = op_done(call);
        uint32_t granted = call->res.access.mask;

        if (call->err)
                return op->access.then(op, call->err);
        op->access.has_attr = call->res.has_attr;
        if (call->res.has_attr)
                cache_update(op->reactor->vfs, op->inode, &call->res.attr, call_time(call));
        if (op->inode->record->type == S_IFDIR && !(granted & NFS_ACCESS_LOOKUP))
                cache_search_refused(op->reactor->vfs, op->inode);
        cache_access_store(op->inode, &op->cred, NFS_ACCESS_ALL, granted, reactor_now(op->reactor->reactor));
        op->access.then(op, access_result(op->access.mask, granted));
}

/* access(2), chdir(2) */

static uint32_t access_mask(const Inode *inode, int mask) {
        bool dir = inode->record->type == S_IFDIR;
        uint32_t bits = 0;

        if (mask & R_OK)
                bits |= NFS_ACCESS_READ;
        if (mask & W_OK)
                bits |= NFS_ACCESS_MODIFY | NFS_ACCESS_EXTEND; /* DELETE is for some servers a matter of each entry */
        if (mask & X_OK)
                bits |= dir ? NFS_ACCESS_LOOKUP : NFS_ACCESS_EXECUTE;
        return bits;
}

void vfs_access(Op *op, uint64_t nodeid, int mask) {
        uint32_t bits;

        if (!op_begin(op, nodeid))
                return;
        bits = access_mask(op->inode, mask);
        if (bits == 0)
                return op_reply_err(op, 0);
        op_access(op, bits, false, op_reply_err);
}
