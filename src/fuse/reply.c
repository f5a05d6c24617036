/*
 * vfs/'s answers to libfuse. Each writes one reply and ends the op: its slot is free afterwards.
 */
#include <fcntl.h>

#include "base/crashpoint.h"
#include "private.h"

static FuseOp *reply_begin(Op *op) {
        FuseOp *fop = container_of(op, FuseOp, op);

        fop->channel->current = fop;
        return fop;
}

static void reply_end(FuseOp *fop) {
        fop->channel->current = NULL;
        channel_release(fop);
}

static double seconds(uint64_t ns) {
        return (double) ns / (double) NSEC_PER_SEC;
}

static void fill_stat(const Vfs *vfs, const NfsAttr *attr, struct stat *st) {
        *st = (struct stat){
                .st_ino = vfs_ino(vfs, attr->fsid, attr->fileid),
                .st_mode = attr->mode,
                .st_nlink = attr->nlink,
                .st_uid = attr->uid,
                .st_gid = attr->gid,
                .st_rdev = attr->rdev,
                .st_size = (off_t) attr->size,
                .st_blksize = 4096,
                .st_blocks = (blkcnt_t) ((attr->used + 511) / 512),
                .st_atim = attr->atime,
                .st_mtim = attr->mtime,
                .st_ctim = attr->ctime,
        };
}

static void fill_entry(const FuseOp *fop, const VfsEntry *entry, struct fuse_entry_param *e) {
        *e = (struct fuse_entry_param){
                .ino = entry->nodeid,
                .entry_timeout = seconds(entry->entry_timeout),
                .attr_timeout = seconds(entry->attr_timeout),
        };
        if (entry->nodeid)
                fill_stat(fop->channel->volume->vfs, &entry->attr, &e->attr);
}

static void reply_err(Op *op, int err) {
        FuseOp *fop = reply_begin(op);

        (void) fuse_reply_err(fop->req, err);
        reply_end(fop);
}

static void reply_entry(Op *op, const VfsEntry *entry) {
        FuseOp *fop = reply_begin(op);
        struct fuse_entry_param e;

        fill_entry(fop, entry, &e);
        (void) fuse_reply_entry(fop->req, &e);
        if (fop->unheard && e.ino)
                vfs_forget(fop->channel->volume->vfs, e.ino, 1);
        reply_end(fop);
}

static void reply_attr(Op *op, uint64_t nodeid, const NfsAttr *attr, uint64_t timeout) {
        FuseOp *fop = reply_begin(op);
        struct stat st;

        (void) nodeid;
        fill_stat(fop->channel->volume->vfs, attr, &st);
        (void) fuse_reply_attr(fop->req, &st, seconds(timeout));
        reply_end(fop);
}

static void fill_file_info(FuseOp *fop, uint64_t fh, unsigned flags, struct fuse_file_info *fi) {
        *fi = (struct fuse_file_info){
                .fh = fh,
                .keep_cache = (flags & VFS_OPEN_KEEP_CACHE) != 0,
                .direct_io = (flags & VFS_OPEN_DIRECT_IO) != 0,
        };
        fop->parallel_writes = fi->direct_io && !(fop->open_flags & O_APPEND);
}

static void reply_open(Op *op, uint64_t fh, unsigned flags) {
        FuseOp *fop = reply_begin(op);
        struct fuse_file_info fi;

        fill_file_info(fop, fh, flags, &fi);
        (void) fuse_reply_open(fop->req, &fi);
        if (fop->unheard)
                vfs_open_unheard(fop->channel->vr, slot_header(fop->channel, fop->slot)->nodeid, fh);
        reply_end(fop);
}

static void reply_create(Op *op, const VfsEntry *entry, uint64_t fh, unsigned flags) {
        FuseOp *fop = reply_begin(op);
        struct fuse_entry_param e;
        struct fuse_file_info fi;

        fill_entry(fop, entry, &e);
        fill_file_info(fop, fh, flags, &fi);
        (void) fuse_reply_create(fop->req, &e, &fi);
        if (fop->unheard) {
                vfs_open_unheard(fop->channel->vr, e.ino, fh);
                vfs_forget(fop->channel->volume->vfs, e.ino, 1);
        }
        reply_end(fop);
}

static void reply_data(Op *op, const void *data, size_t size) {
        FuseOp *fop = reply_begin(op);

        (void) fuse_reply_buf(fop->req, data, size);
        reply_end(fop);
}

static void reply_written(Op *op, size_t count) {
        FuseOp *fop = reply_begin(op);

        (void) fuse_reply_write(fop->req, count);
        reply_end(fop);
}

/* statvfs(3): frsize is the unit of the block counts. NFS counts bytes. */
static void reply_statfs(Op *op, const NfsFsStat *stat, uint32_t bsize, uint32_t name_max) {
        const uint32_t unit = 4096;
        FuseOp *fop = reply_begin(op);
        struct statvfs st = {
                .f_bsize = bsize,
                .f_frsize = unit,
                .f_blocks = stat->total_bytes / unit,
                .f_bfree = stat->free_bytes / unit,
                .f_bavail = stat->avail_bytes / unit,
                .f_files = stat->total_files,
                .f_ffree = stat->free_files,
                .f_favail = stat->avail_files,
                .f_namemax = name_max,
        };

        (void) fuse_reply_statfs(fop->req, &st);
        reply_end(fop);
}

static bool reply_dirent(Op *op, const char *name, uint64_t ino, mode_t type, uint64_t offset, const VfsEntry *entry) {
        FuseOp *fop = container_of(op, FuseOp, op);
        char *p = (char *) fop->channel->dir_buffer + fop->dir_len;
        size_t left = fop->dir_size - fop->dir_len, size;
        struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = type } };

        if (entry)
                fill_entry(fop, entry, &e);
        if (op->plus)
                size = fuse_add_direntry_plus(fop->req, p, left, name, &e, (off_t) offset);
        else
                size = fuse_add_direntry(fop->req, p, left, name, &e.attr, (off_t) offset);
        if (size > left)
                return false;
        fop->dir_len += size;
        return true;
}

static void reply_dir(Op *op) {
        FuseOp *fop = reply_begin(op);

        (void) fuse_reply_buf(fop->req, (const char *) fop->channel->dir_buffer, fop->dir_len);
        reply_end(fop);
}

/* The XID is noted by whoever gives the call one: 0 says that it did not go out, and nothing of this step was done. */
static void op_executing(Op *op, unsigned step, const NfsFh *object, uint64_t object_id) {
        FuseOp *fop = container_of(op, FuseOp, op);
        Slot *slot = fop->slot;

        atomic_store_explicit(&slot->xid, 0, memory_order_release);
        if (object)
                slot->object = *object;
        if (object_id)
                slot->object_id = object_id;
        slot->step = step;
        atomic_store_explicit(&slot->state, SLOT_EXEC, memory_order_release);
        crash_point(EXECUTING);
}

static void op_placed(Op *op, uint64_t offset) {
        FuseOp *fop = container_of(op, FuseOp, op);
        struct fuse_write_in *in = slot_write(fop);

        in->offset = offset;
        atomic_thread_fence(memory_order_release); /* a crash here: not placed, and nothing was sent */
        in->padding = WRITE_PLACED;
        crash_point(APPEND_PLACED);
}

static void reply_lock(Op *op, const VfsLock *lock) {
        FuseOp *fop = reply_begin(op);
        struct flock fl = {
                .l_type = lock->type == LOCK_EXCLUSIVE ? F_WRLCK
                          : lock->type == LOCK_SHARED  ? F_RDLCK
                                                       : F_UNLCK,
                .l_whence = SEEK_SET,
                .l_start = (off_t) lock->start,
                .l_len = lock->end == LOCK_END ? 0 : (off_t) (lock->end - lock->start + 1),
                .l_pid = lock->pid,
        };

        (void) fuse_reply_lock(fop->req, &fl);
        reply_end(fop);
}

static void op_waiting(Op *op) {
        FuseOp *fop = container_of(op, FuseOp, op);

        fop->slot->n_faults = 0;
}

const OpReply fuse_op_reply = {
        .err = reply_err,
        .entry = reply_entry,
        .attr = reply_attr,
        .open = reply_open,
        .create = reply_create,
        .data = reply_data,
        .written = reply_written,
        .statfs = reply_statfs,
        .dirent = reply_dirent,
        .dir = reply_dir,
        .executing = op_executing,
        .placed = op_placed,
        .lock = reply_lock,
        .waiting = op_waiting,
};
