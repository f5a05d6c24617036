/*
 * READ and WRITE. One FUSE request is one RPC, unless the server gives or takes less than it was asked
 * (RFC 1813: it may): then the rest is asked for, until the end of the file.
 *
 * The credentials are those of the open, not of the caller: a descriptor may have been handed on, and
 * the kernel itself writes what was changed through mmap.
 *
 * A WRITE goes out UNSTABLE and is answered when the server has the data; a copy stays until a COMMIT
 * says that it is on stable storage (unstable.c). O_SYNC, O_DSYNC, -o sync: FILE_SYNC, no copy.
 * O_APPEND: the kernel's idea of the end may be old, so the server is asked for the size first; two
 * nodes can still meet (RFC 1813 has no append). Pages that were changed through mmap have their place, and may
 * come through any descriptor that is open for writing, an appending one too.
 */
#include <fcntl.h>

#include "volume.h"

static void read_send(Op *op);
static void read_done(NfsCall *call);
static void write_append(Op *op);
static void write_append_done(NfsCall *call);
static void write_begin(Op *op);
static void write_send(Op *op);
static void write_done(NfsCall *call);

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
        op->io.done = 0;
        op->io.gathered = NULL;
        read_send(op);
}

static void read_send(Op *op) {
        NfsArgs *args = op_call(op, NFS_READ, inode_fh(op->inode), read_done);

        args->read.offset = op->io.offset + op->io.done;
        args->read.count = MIN(op->io.size - op->io.done, op->reactor->vfs->read_size);
        op_send(op);
}

static void read_reply(Op *op, const void *data, size_t size) {
        uint8_t *gathered = op->io.gathered;

        op_finish(op);
        op->reply->data(op, data, size);
        free(gathered);
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
        if (call->res.has_attr)
                cache_update(op->reactor->vfs, op->inode, &call->res.attr, call->sent_at);
        complete = call->res.read.eof || count == 0 || op->io.done + count >= op->io.size;
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

void vfs_write(Op *op, uint64_t nodeid, uint64_t fh, uint64_t offset, const void *data, uint32_t size,
               bool at_offset) {
        if (!io_begin(op, nodeid, fh))
                return;
        op->io.data = data;
        op->io.offset = offset;
        op->io.size = size;
        op->io.done = 0;
        op->io.file_sync = false;
        if (size == 0) {
                op_finish(op);
                return op->reply->written(op, 0);
        }
        if ((op->open->record->flags & O_APPEND) && !at_offset)
                return write_append(op);
        write_begin(op);
}

/* There was no room to keep more; now there is. The data has been written in any case. */
static void write_throttled(Op *op) {
        uint32_t done = op->io.done;

        if (op->commit.err && op->commit.err != EINTR)
                return op_reply_err(op, op->commit.err); /* it was taken: nobody else would report it */

        op_finish(op);
        op->reply->written(op, done);
}

static void write_finish(Op *op, int err) {
        uint32_t done = op->io.done;

        (void) pthread_mutex_lock(&op->inode->lock);
        op->inode->n_writing--;
        (void) pthread_mutex_unlock(&op->inode->lock);
        if (err && done == 0)
                return op_reply_err(op, err);
        switch (unstable_pressure(op->reactor, op->inode)) {
        case UNSTABLE_LOW:
                break;
        case UNSTABLE_HIGH:
                unstable_commit(op->reactor, op->inode, NULL, NULL);
                break;
        case UNSTABLE_FULL:
                return unstable_commit(op->reactor, op->inode, op, write_throttled);
        }
        op_finish(op);
        op->reply->written(op, done);
}

static void write_begin(Op *op) {
        (void) pthread_mutex_lock(&op->inode->lock);
        op->inode->n_writing++;
        (void) pthread_mutex_unlock(&op->inode->lock);
        write_send(op);
}

static void write_append(Op *op) {
        (void) op_call(op, NFS_GETATTR, inode_fh(op->inode), write_append_done);
        op_send(op);
}

static void write_append_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err)
                return op_reply_err(op, call->err);
        /* before this counts as writing: what has changed here was somebody else */
        cache_update(op->reactor->vfs, op->inode, &call->res.attr, call->sent_at);
        op->io.offset = call->res.attr.size;
        op->reply->placed(op, op->io.offset);
        write_begin(op);
}

static bool write_is_sync(const Op *op) {
        return op->reactor->vfs->options->sync || (op->open->record->flags & (O_SYNC | O_DSYNC));
}

static void write_send(Op *op) {
        NfsArgs *args = op_call(op, NFS_WRITE, inode_fh(op->inode), write_done);

        args->write.offset = op->io.offset + op->io.done;
        args->write.count = MIN(op->io.size - op->io.done, op->reactor->vfs->write_size);
        args->write.data = op->io.data + op->io.done;
        args->write.stable = write_is_sync(op) || op->io.file_sync ? NFS_FILE_SYNC : NFS_UNSTABLE;
        op->reply->executing(op, NULL);
        op_send(op);
}

static void write_done(NfsCall *call) {
        Op *op = op_done(call);
        NfsRes *res = &call->res;
        uint32_t count = res->write.count;

        if (call->err) {
                cache_expire(op->inode);
                return write_finish(op, call->err);
        }
        cache_update_wcc(op->reactor->vfs, op->inode, &res->wcc, call->sent_at);
        if ((res->write.committed == NFS_UNSTABLE || unstable_pending(op->inode)) &&
            unstable_add(op->reactor->vfs, op->inode, &op->cred, call->args.write.offset, call->args.write.data,
                         count, res->write.verf) < 0) {
                /* no memory to keep it until a COMMIT: write the same once more, to stable storage */
                op->io.file_sync = true;
                return write_send(op);
        }
        op->io.file_sync = false;
        op->io.done += count;
        if (op->io.done < op->io.size)
                return write_send(op);
        write_finish(op, 0);
}
