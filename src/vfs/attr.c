/*
 * Attributes, READLINK, STATFS.
 *
 * Two of these must never hang, because kubelet, df and umount(8) ask them of a server that may be dead,
 * on hard mounts too: the attributes of a directory, and STATFS. They wait for BOUND_NS; then what
 * was last known is the answer. (The root's attributes are known from the mount; a STATFS that
 * never got an answer is EIO.)
 */
#include "volume.h"

static void getattr_start(Op *op);
static void getattr_done(NfsCall *call);
static void setattr_checked(Op *op, int err);
static void setattr_allowed(Op *op);
static void setattr_start(Op *op);
static void setattr_flushed(Op *op);
static void setattr_done(NfsCall *call);
static void setattr_getattr_done(NfsCall *call);
static void setattr_reply(Op *op, const NfsAttr *attr);
static void readlink_done(NfsCall *call);
static void statfs_done(NfsCall *call);

/* ---- getattr ---- */

void vfs_getattr(Op *op, uint64_t nodeid) {
        if (!op_begin(op, nodeid))
                return;
        getattr_start(op);
}

static void getattr_flushed(Op *op) {
        if (op->wait.err)
                return op_reply_err(op, op->wait.err);
        getattr_start(op);
}

/* Size and times of a file are the server's: it must have what was written. */
static void getattr_start(Op *op) {
        uint64_t left;
        NfsAttr attr;

        if (op->inode->record->type == S_IFREG && pending_any(op->inode, false) && pending_wait(op, false, NULL, getattr_flushed))
                return;
        if (cache_links_known(op->reactor->vfs, op->inode) && cache_ctime_known(op->reactor->vfs, op->inode) &&
            cache_attr(op->inode, reactor_now(op->reactor->reactor), false, &attr, &left))
                return op_reply_attr(op, &attr);
        if (op->inode->record->type == S_IFDIR)
                op_bound(op);
        (void) op_call(op, NFS_GETATTR, inode_fh(op->inode), getattr_done);
        op_send(op);
}

/*
 * kubelet takes a mount whose root answers EIO for one that can be unmounted, and with ETIMEDOUT (softerr) leaves the pod. The root
 * of a mount can be any directory.
 */
static int silence_error(const Op *op, int err) {
        return op->out_of_time || (err == ETIMEDOUT && S_ISDIR(op->inode->record->type)) ? EIO : err;
}

static void getattr_done(NfsCall *call) {
        Op *op = op_done(call);
        uint64_t left;
        NfsAttr attr;

        if (op->out_of_time && cache_attr(op->inode, 0, true, &attr, &left))
                return op_reply_attr(op, &attr);
        if (call->err) {
                if (call->err == ESTALE)
                        cache_expire(op->inode);
                return op_reply_err(op, silence_error(op, call->err));
        }
        if ((call->res.attr.mode & S_IFMT) != op->inode->record->type)
                return op_reply_err(op, ESTALE);
        if (op_is_in_doubt(op))
                return getattr_start(op);
        cache_update(op->reactor->vfs, op->inode, &call->res.attr, call_time(call));
        op_reply_attr(op, &call->res.attr);
}

/* ---- setattr ---- */

void vfs_setattr(Op *op, uint64_t nodeid, const NfsSetAttr *attr, uint64_t fh) {
        Open *open;

        if (!op_begin(op, nodeid))
                return;
        op->attr.attr = *attr;
        open = fh != VFS_NO_FH ? open_get(op->reactor->vfs, fh, nodeid) : NULL;
        if (open)
                op->cred = open->record->cred;
        if (!attr->set_size || open || op->replayed)
                return setattr_allowed(op);
        /* truncate(2): servers let the owner do it whatever the mode says, for the sake of ftruncate(2) */
        op_access(op, NFS_ACCESS_MODIFY, false, setattr_checked);
}

static void setattr_checked(Op *op, int err) {
        if (err)
                return op_reply_err(op, err);
        setattr_allowed(op);
}

/*
 * What was written before must not change the times after, nor grow a file that was cut: so it must not be sent once more,
 * either, because the server forgot it.
 */
static void setattr_allowed(Op *op) {
        if (pending_any(op->inode, true) && pending_wait(op, true, NULL, setattr_flushed))
                return;
        setattr_start(op);
}

static void setattr_flushed(Op *op) {
        if (op->wait.err)
                return op_reply_err(op, op->wait.err);
        setattr_start(op);
}

static void setattr_start(Op *op) {
        op_call(op, NFS_SETATTR, inode_fh(op->inode), setattr_done)->setattr.attr = op->attr.attr;
        op_send_changing(op, 0, NULL, 0);
}

static void setattr_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err) {
                cache_expire(op->inode);
                return op_reply_err(op, call->err);
        }
        cache_update_wcc(op->reactor->vfs, op->inode, &call->res.wcc, call_time(call));
        if (call->res.wcc.has_after)
                return setattr_reply(op, &call->res.wcc.after);
        (void) op_call(op, NFS_GETATTR, inode_fh(op->inode), setattr_getattr_done);
        op_send(op);
}

static void setattr_getattr_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err)
                return op_reply_err(op, call->err);
        cache_update(op->reactor->vfs, op->inode, &call->res.attr, call_time(call));
        setattr_reply(op, &call->res.attr);
}

/*
 * While a file is cut the kernel writes none of its pages; and who drops those that were changed through mmap waits for that.
 * So this must not wait for him.
 */
static void setattr_reply(Op *op, const NfsAttr *attr) {
        if (op->attr.attr.set_size)
                return op_reply_attr_now(op, attr);
        op_reply_attr(op, attr);
}

/* ---- readlink ---- */

void vfs_readlink(Op *op, uint64_t nodeid) {
        if (!op_begin(op, nodeid))
                return;
        (void) op_call(op, NFS_READLINK, inode_fh(op->inode), readlink_done);
        op_send(op);
}

static void readlink_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err)
                return op_reply_err(op, call->err);
        if (call->res.has_attr)
                cache_update(op->reactor->vfs, op->inode, &call->res.attr, call_time(call));
        op_finish(op);
        op->reply->data(op, call->res.readlink.target, call->res.readlink.len);
}

/* ---- statfs ---- */

void vfs_statfs(Op *op, uint64_t nodeid) {
        if (!op_begin(op, nodeid))
                return;
        op_bound(op);
        (void) op_call(op, NFS_FSSTAT, inode_fh(op->inode), statfs_done);
        op_send(op);
}

static void statfs_store(Vfs *vfs, const NfsFsStat *stat) {
        (void) pthread_mutex_lock(&vfs->statfs_lock);
        vfs->fsstat = *stat;
        vfs->has_fsstat = true;
        (void) pthread_mutex_unlock(&vfs->statfs_lock);
}

static bool statfs_known(Vfs *vfs, NfsFsStat *ret) {
        bool known;

        (void) pthread_mutex_lock(&vfs->statfs_lock);
        known = vfs->has_fsstat;
        *ret = vfs->fsstat;
        (void) pthread_mutex_unlock(&vfs->statfs_lock);
        return known;
}

static void statfs_done(NfsCall *call) {
        Op *op = op_done(call);
        Vfs *vfs = op->reactor->vfs;
        NfsFsStat stat = call->res.fsstat;

        if (!call->err)
                statfs_store(vfs, &stat);
        else if (!op->out_of_time || !statfs_known(vfs, &stat))
                return op_reply_err(op, silence_error(op, call->err));
        op_finish(op);
        op->reply->statfs(op, &stat, vfs->write_size, MIN(vfs->memory->mount.info.name_max, (uint32_t) NFS_NAME_MAX));
}

typedef struct Prime {
        NfsCall call;
        NfsCred cred;
        VfsReactor *reactor;
} Prime;

static void prime_done(NfsCall *call) {
        Prime *prime = container_of(call, Prime, call);

        if (!call->err)
                statfs_store(prime->reactor->vfs, &call->res.fsstat);
        dispensable_end(prime->reactor);
        free(prime);
}

void statfs_prime(VfsReactor *vr) {
        Prime *prime = calloc(1, sizeof *prime);

        if (!prime)
                return;
        prime->reactor = vr;
        prime->call = (NfsCall){ .proc = NFS_FSSTAT, .cred = &prime->cred, .done = prime_done };
        prime->call.args.fh = inode_fh(&vr->vfs->inodes[1]);
        dispensable_begin(vr);
        nfs_call_send(vr->conn, &prime->call);
}
