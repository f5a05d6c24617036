/*
 * READ and WRITE. One READ of the kernel is one RPC, unless the server gives less than it was asked (RFC 1813: it may): then
 * the rest is asked for, until the end of the file. What was written here and is not on the server goes there first, where a
 * READ would miss it.
 *
 * A WRITE is kept (pending.c) and answered; the server has it later. O_SYNC, O_DSYNC, -o sync: when it is on the server's
 * stable storage; O_DIRECT: when the server has it.
 *
 * The credentials are those of the open, not of the caller: a descriptor may have been handed on, and
 * the kernel itself writes what was changed through mmap.
 *
 * O_APPEND: the kernel's idea of the end may be old, so unless data at the end is pending here the server is asked for the
 * size first; two nodes can still meet (RFC 1813 has no append). Pages that were changed through mmap have their place, and
 * may come through any descriptor that is open for writing, an appending one too. The kernel takes the file to end behind the
 * place that it thought of, and attributes that it asked for before pages were dropped it ignores. So if somebody here could
 * read, it is answered when there will be nothing to drop for it: he sees what he has appended.
 *
 * What of a WRITE and a READ of the same page comes first, and what follows: reread.c.
 */
#include <fcntl.h>

#include "volume.h"

static void read_begin(Op *op);
static void read_flushed(Op *op);
static void read_send(Op *op);
static void read_done(NfsCall *call);
static void write_placed(Op *op);
static bool drops_set_id(Op *op);
static void set_id_dropped(NfsCall *call);
static void write_append(Op *op);
static void write_append_flushed(Op *op);
static void write_append_done(NfsCall *call);
static void write_append_dropped(Op *op);
static void write_append_place(Op *op);
static void write_keep(Op *op);
static void write_looked(NfsCall *call);
static void write_settled(Op *op);
static void write_room(Op *op);
static void write_waited(Op *op);
static void write_reply(Op *op);
static void write_dropped(Op *op);

/* Pins the inode; the open's credentials. false: answered. */
static bool io_begin(Op *op, uint64_t nodeid, uint64_t fh) {
        if (!op_begin(op, nodeid))
                return false;
        op->open = open_get(op->reactor->vfs, fh, nodeid);
        if (!op->open) {
                op_reply_err(op, EBADF);
                return false;
        }
        op->cred = op->open->record->cred;
        return true;
}

/* ---- read ---- */

void vfs_read(Op *op, uint64_t nodeid, uint64_t fh, uint64_t offset, uint32_t size) {
        if (!io_begin(op, nodeid, fh))
                return;
        op->io.offset = offset;
        op->io.size = size;
        op->io.gathered = NULL;
        reread_begin(op);
        read_begin(op);
}

static void read_begin(Op *op) {
        op->io.done = 0;
        if (pending_conflicts(op->inode, op->io.offset, op->io.size) && pending_wait(op, false, NULL, read_flushed))
                return;
        read_send(op);
}

static void read_flushed(Op *op) {
        if (op->wait.err) {
                free(op->io.gathered);
                return op_reply_err(op, op->wait.err);
        }
        read_send(op);
}

static void read_send(Op *op) {
        NfsArgs *args = op_call(op, NFS_READ, inode_fh(op->inode), read_done);

        args->read.offset = op->io.offset + op->io.done;
        args->read.count = MIN(op->io.size - op->io.done, op->reactor->vfs->read_size);
        op_send(op);
}

/* What the answer says of the file is taken over after the kernel has it: see coherence.c. */
static void read_reply(Op *op, const void *data, size_t size) {
        uint8_t *gathered = op->io.gathered;
        bool has_attr = op->call.res.has_attr;
        CallTime time = call_time(&op->call);
        NfsAttr attr = op->call.res.attr;
        Vfs *vfs = op->reactor->vfs;
        Inode *inode = op->inode;

        inode_repin(vfs, inode);
        op_finish(op);
        op->reply->data(op, data, size);
        free(gathered);
        if (has_attr)
                cache_update_read(vfs, inode, &attr, time);
        inode_unpin(vfs, inode);
}

static void read_done(NfsCall *call) {
        Op *op = op_done(call);
        const void *data = call->res.read.data;
        uint32_t count = call->res.read.count;
        bool complete;

        if (call->err) {
                free(op->io.gathered);
                return op_reply_err(op, call->err);
        }
        if (op_is_in_doubt(op)) {
                free(TAKE_PTR(op->io.gathered));
                return read_begin(op);
        }
        complete = call->res.read.eof || count == 0 || op->io.done + count >= op->io.size;
        if (complete && reread_again(op)) {
                free(TAKE_PTR(op->io.gathered));
                return read_begin(op);
        }
        if (complete && !op->io.gathered)
                return read_reply(op, data, count);

        if (!op->io.gathered)
                op->io.gathered = malloc(op->io.size);
        if (!op->io.gathered)
                return op_reply_err(op, ENOMEM);
        memcpy(op->io.gathered + op->io.done, data, count);
        op->io.done += count;
        if (complete)
                return read_reply(op, op->io.gathered, op->io.done);
        read_send(op);
}

/* ---- write ---- */

void vfs_write(Op *op, uint64_t nodeid, uint64_t fh, uint64_t offset, const void *data, uint32_t size, enum VfsWriteKind kind) {
        int err;

        if (!io_begin(op, nodeid, fh))
                return;
        op->io.data = data;
        op->io.waited = false;
        op->io.offset = offset;
        op->io.asked = kind == VFS_WRITE_PLACED ? UINT64_MAX : offset;
        op->io.size = size;
        if (size == 0) {
                op_finish(op);
                return op->reply->written(op, 0);
        }
        /* as nfs(5): what went wrong with earlier data is told as soon as somebody can hear it */
        err = pending_error(op, op->open);
        if (err)
                return pending_error_reply(op, err);
        op->io.appends = (op->open->record->flags & O_APPEND) && kind == VFS_WRITE;
        op->io.from_pages = kind == VFS_WRITE_PAGES;
        if (op->open->record->flags & (O_APPEND | O_DIRECT))
                reread_hold(op);
        if (op->reactor->vfs->options->idmap && (op->open->record->flags & (O_APPEND | O_DIRECT)) && drops_set_id(op))
                return;
        write_placed(op);
}

static void write_placed(Op *op) {
        if (op->io.appends)
                return write_append(op);
        write_keep(op);
}

/*
 * With idmap the server sees root write, who leaves the set-user-ID and set-group-ID bits. The kernel clears them before it
 * writes to its pages; before what goes by them it is done here, whoever writes. false: there are none.
 */
static bool drops_set_id(Op *op) {
        NfsSetAttr attr = { .set_mode = true };
        NfsArgs *args;
        mode_t mode;

        inode_lock(op->inode);
        mode = op->inode->has_attr ? op->inode->attr.mode : 0;
        inode_unlock(op->inode);
        attr.mode = mode & 07777 & ~(mode_t) (S_ISUID | (mode & S_IXGRP ? S_ISGID : 0));
        if (attr.mode == (mode & 07777))
                return false;
        args = op_call(op, NFS_SETATTR, inode_fh(op->inode), set_id_dropped);
        args->setattr.attr = attr;
        op_send(op);
        return true;
}

static void set_id_dropped(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err)
                return op_reply_err(op, call->err);
        cache_update_wcc(op->reactor->vfs, op->inode, &call->res.wcc, call_time(call));
        write_placed(op);
}

/*
 * Behind what is pending already, if that is the end. Else the server knows where the end is; what has changed there was
 * somebody else.
 */
static void write_append(Op *op) {
        uint64_t end = pending_append_offset(op->inode);

        if (end > 0) {
                op->io.offset = end;
                op->reply->placed(op, end);
                return write_keep(op);
        }
        /* where the server's end is, is not known: it shall be told when nothing is on its way there */
        if (pending_any(op->inode, false) && pending_wait(op, false, NULL, write_append_flushed))
                return;
        op->wait.err = 0;
        write_append_flushed(op);
}

static void write_append_flushed(Op *op) {
        if (op->wait.err)
                return op_reply_err(op, op->wait.err);
        (void) op_call(op, NFS_GETATTR, inode_fh(op->inode), write_append_done);
        op_send(op);
}

static void write_append_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err)
                return op_reply_err(op, call->err);
        if (op_is_in_doubt(op))
                return write_append(op);
        cache_update(op->reactor->vfs, op->inode, &call->res.attr, call_time(call));
        op->entry.attr.size = call->res.attr.size;
        /* the kernel will think that the file is so long */
        if (pages_wait(op, op->inode, write_append_dropped))
                return;
        write_append_place(op);
}

static void write_append_dropped(Op *op) {
        if (op->wait.err)
                return op_reply_err(op, op->wait.err);
        write_append_place(op);
}

static void write_append_place(Op *op) {
        uint64_t end;

        end = pending_append_offset(op->inode); /* another descriptor may have written since */
        op->io.offset = MAX(op->entry.attr.size, end);
        op->reply->placed(op, op->io.offset);
        write_keep(op);
}

/* Who wants to know that the server has it before he goes on? */
static bool write_is_sync(const Op *op) {
        return op->reactor->vfs->options->sync || (op->open->record->flags & (O_SYNC | O_DSYNC));
}

static bool is_appended_elsewhere(const Op *op) {
        return (op->open->record->flags & O_APPEND) && !op->io.from_pages && op->io.offset != op->io.asked &&
               atomic_load_explicit(&op->inode->n_readers, memory_order_relaxed) > 0 && !vfs_checks_each_read(op->reactor->vfs);
}

/* The server would refuse it, later: RFC 1813, FSINFO, maxfilesize. */
static bool is_too_far(const Op *op) {
        uint64_t max = op->reactor->vfs->memory->mount.info.max_file_size;

        return op->io.size > max || op->io.offset > max - op->io.size;
}

static void write_keep(Op *op) {
        bool sync = write_is_sync(op), direct = op->open->record->flags & O_DIRECT, again;
        uint64_t seq;
        int r;

        if (is_too_far(op))
                return op_reply_err(op, EFBIG);
        r = pending_add(op->reactor, op->inode, &op->cred, op->io.offset, op->io.data, op->io.size,
                        sync ? NFS_FILE_SYNC : NFS_UNSTABLE, &seq);
        if (r < 0) {
                again = op->io.waited;
                op->io.waited = true;
                reread_hold(op);
                return extent_wait_room(op, again, write_room);
        }
        reread_written(op);
        if (op->io.waited)
                extent_pass_room(op->reactor->vfs);
        op->reply->executing(op, 0, NULL, 0); /* from here on a successor must not do it again once it was answered */
        if (!sync && !direct && !is_appended_elsewhere(op))
                return write_reply(op);
        if (pending_wait_for(op, seq, write_waited))
                return;
        op->wait.err = pending_error(op, op->open);
        write_waited(op);
}

static void write_room(Op *op) {
        if (op->wait.err)
                return op_reply_err(op, op->wait.err);
        write_keep(op);
}

static void write_waited(Op *op) {
        if (op->wait.err)
                return pending_error_reply(op, op->wait.err);
        if (!is_appended_elsewhere(op))
                return write_reply(op);
        (void) op_call(op, NFS_GETATTR, inode_fh(op->inode), write_looked);
        op_send(op);
}

static void write_looked(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err == 0) /* else: what was written is written */
                cache_update(op->reactor->vfs, op->inode, &call->res.attr, call_time(call));
        if (!pages_wait(op, op->inode, write_settled))
                write_settled(op);
}

static void write_settled(Op *op) {
        op->wait.err = 0;
        write_reply(op);
}

static void write_reply(Op *op) {
        if (!reread_drop(op, write_dropped))
                write_dropped(op);
}

static void write_dropped(Op *op) {
        uint32_t size = op->io.size;

        op_finish(op);
        op->reply->written(op, size);
}
