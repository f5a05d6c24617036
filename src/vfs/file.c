/*
 * Open files: OPEN, RELEASE, FLUSH, FSYNC.
 *
 * Close-to-open (nfs(5)): an OPEN asks the server, with one ACCESS, which brings the permission and
 * the attributes. If those are what the kernel's pages were read from, the pages are kept; if not, they
 * are dropped, and with them the kernel's attributes, before the open is answered: its size is
 * what the kernel bounds reads by. nocto: what is cached is believed while it is valid.
 *
 * An unlink or a rename over the file's name that was under way when the OPEN began may take the file away after the
 * server has said yes: then it is asked again, until none of those is left. Later ones see that the file is open.
 * What others have unlinked a server may go on serving by its handle, while somebody there has it open. It has no name any
 * more, so whoever opens it by one means another file: ESTALE, and the kernel looks the name up again.
 *
 * A close or fsync(2) commits what was written UNSTABLE, and reports what was lost, to each who has the file open once.
 */
#include <fcntl.h>

#include "base/crashpoint.h"
#include "volume.h"

#ifndef FMODE_EXEC
#define FMODE_EXEC 0x20 /* the kernel's flag for an open by execve(2) */
#endif

static void open_checked(Op *op, int err);
static void open_getattr_done(NfsCall *call);
static void open_finish(Op *op);

static uint32_t open_mask(int flags) {
        uint32_t mask = 0;

        if (flags & FMODE_EXEC)
                return NFS_ACCESS_EXECUTE;
        if ((flags & O_ACCMODE) != O_WRONLY)
                mask |= NFS_ACCESS_READ;
        if ((flags & O_ACCMODE) != O_RDONLY)
                mask |= NFS_ACCESS_MODIFY | NFS_ACCESS_EXTEND;
        return mask;
}

void vfs_open(Op *op, uint64_t nodeid, int flags) {
        uint64_t left;
        NfsAttr attr;
        bool believed;

        if (!op_begin(op, nodeid))
                return;
        if (!opening_begin(op))
                return op_reply_err(op, ESTALE);
        op->attr.flags = flags;
        believed =
                op->reactor->vfs->options->nocto && cache_attr(op->inode, reactor_now(op->reactor->reactor), false, &attr, &left);
        op_access(op, open_mask(op->attr.flags), !believed, open_checked);
}

static void open_checked(Op *op, int err) {
        if (err)
                return op_reply_err(op, err);
        if (!opening_is_safe(op))
                return op_access(op, open_mask(op->attr.flags), true, open_checked);
        if (op->access.has_attr)
                return open_finish(op);
        (void) op_call(op, NFS_GETATTR, inode_fh(op->inode), open_getattr_done);
        op_send(op);
}

static void open_getattr_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err)
                return op_reply_err(op, call->err);
        cache_update(op->reactor->vfs, op->inode, &call->res.attr, call_time(call));
        open_finish(op);
}

static void open_dropped(Op *op) {
        if (op->wait.err)
                return op_reply_err(op, op->wait.err);
        open_finish(op);
}

static bool is_unlinked(Inode *inode) {
        bool is;

        inode_lock(inode);
        is = inode->has_attr && inode->attr.nlink == 0;
        inode_unlock(inode);
        return is;
}

static void open_finish(Op *op) {
        Vfs *vfs = op->reactor->vfs;
        int flags = op->attr.flags;
        unsigned reply_flags = 0;
        uint64_t fh;
        Open *open;
        int r;

        if (is_unlinked(op->inode)) {
                cache_doubt_names(vfs);
                return op_reply_err(op, ESTALE);
        }
        /* what is asked about the file after this shall be believed by the kernel */
        if (pages_wait(op, op->inode, open_dropped))
                return;
        r = open_add(op, op->inode, flags, &open, &fh);
        if (r < 0)
                return op_reply_err(op, -r);
        if (flags & (O_APPEND | O_DIRECT))
                reply_flags |= VFS_OPEN_DIRECT_IO;
        if (cache_keep_pages(op->inode)) {
                reply_flags |= VFS_OPEN_KEEP_CACHE;
        } else {
                reread_unsure(op->inode); /* the kernel drops them */
                if (vfs->notify.inval_attr)
                        vfs->notify.inval_attr(vfs->notify.userdata, op->inode->nodeid);
        }
        op->reply->executing(op, 0, NULL, 0); /* once it was answered, a successor must not open once more */
        op->open = open;                      /* op_finish() */
        op_finish(op);
        op->reply->open(op, fh, reply_flags);
}

/* ---- close ---- */

/* false: there is no such open. */
static bool release(VfsReactor *vr, Inode *inode, uint64_t fh, bool has_flock, uint64_t flock_owner) {
        Open *open = open_get(vr->vfs, fh, inode->nodeid);
        NfsCred cred;

        if (!open)
                return false;
        cred = open->record->cred;
        /* FLUSH came before, for each close(2); but data of a mmap may have been written since. Before locks go. */
        pending_commit(vr, inode);
        if (locks_known(inode))
                locks_drop_open(vr, inode, fh, has_flock, flock_owner);
        open_remove(vr->vfs, open);
        crash_point(OPEN_REMOVED);
        if (inode_give_up(vr->vfs, inode))
                remove_silly(vr, inode, &cred);
        return true;
}

void vfs_release(Op *op, uint64_t nodeid, uint64_t fh, bool has_flock, uint64_t flock_owner) {
        if (op_begin(op, nodeid))
                op_reply_err(op, release(op->reactor, op->inode, fh, has_flock, flock_owner) ? 0 : EBADF);
}

void vfs_open_unheard(VfsReactor *vr, uint64_t nodeid, uint64_t fh) {
        Inode *inode = inode_pin(vr->vfs, nodeid);

        if (!inode)
                return;
        (void) release(vr, inode, fh, false, 0);
        inode_unpin(vr->vfs, inode);
}

static void synced(Op *op) {
        pending_error_reply(op, op->wait.err);
}

/* Pins the inode; the open's credentials. NULL: answered. */
static Open *flush_begin(Op *op, uint64_t nodeid, uint64_t fh) {
        Open *open;

        if (!op_begin(op, nodeid))
                return NULL;
        open = open_get(op->reactor->vfs, fh, nodeid);
        if (!open)
                op_reply_err(op, EBADF);
        else
                op->cred = open->record->cred;
        return open;
}

/* then(op), with op->wait.err. A file of which nothing is pending has only a latched error to tell. */
static void flush_data(Op *op, Open *open, void (*then)(Op *op)) {
        if (pending_wait(op, true, open, then))
                return;
        op->wait.err = pending_error(op, open);
        then(op);
}

/* Done again, it would take what was locked since it was answered. */
static void flush_unlocked(Op *op) {
        if (op->wait.err)
                return pending_error_reply(op, op->wait.err);
        op_reply_err_once(op, op->lock.err);
}

/* POSIX: a process loses its locks on a file with the first descriptor of it that it closes. After the data. */
static void flush_unlock(Op *op) {
        op->lock.err = 0;
        if (!op->reactor->vfs->locks)
                return pending_error_reply(op, op->wait.err);
        if (!locks_known(op->inode))
                return flush_unlocked(op);
        if (!op->interrupted)
                return locks_drop_owner(op, LOCK_POSIX, op->lock.owner, flush_unlocked);
        locks_drop_owner(op, LOCK_POSIX, op->lock.owner, NULL);
        op->lock.err = 0;
        flush_unlocked(op);
}

void vfs_flush(Op *op, uint64_t nodeid, uint64_t fh, uint64_t owner) {
        Open *open = flush_begin(op, nodeid, fh);

        if (!open)
                return;
        op->lock.owner = owner;
        if ((open->record->flags & O_ACCMODE) != O_RDONLY)
                return flush_data(op, open, flush_unlock);
        /* close(2) of a descriptor that cannot write must not take the error that a writer is to hear */
        if (!locks_known(op->inode) || !pending_wait(op, true, NULL, flush_unlock))
                flush_unlock(op);
}

void vfs_fsync(Op *op, uint64_t nodeid, uint64_t fh) {
        Open *open = flush_begin(op, nodeid, fh);

        if (open)
                flush_data(op, open, synced);
}
