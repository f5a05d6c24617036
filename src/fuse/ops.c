/*
 * libfuse's requests to vfs/: one line each, in the order of <fuse3/fuse_lowlevel.h>. What is absent is
 * answered ENOSYS by libfuse, and the kernel then does not ask again: extended attributes and fallocate(2)
 * (EOPNOTSUPP for the caller, as NFSv3 has neither), copy_file_range(2), lseek(2) for data and holes (the
 * kernel's own answer: all is data), poll(2). Locks come only if they are the server's (session.c).
 */
#include <sys/file.h>

#include "private.h"

static FuseOp *begin(fuse_req_t req) {
        FuseChannel *channel = fuse_req_userdata(req);
        FuseOp *fop = channel->current;

        fop->req = req;
        return fop;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
        vfs_lookup(&begin(req)->op, parent, name);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        vfs_getattr(&begin(req)->op, ino);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi) {
        NfsSetAttr attr = {
                .set_mode = to_set & FUSE_SET_ATTR_MODE,
                .set_uid = to_set & FUSE_SET_ATTR_UID,
                .set_gid = to_set & FUSE_SET_ATTR_GID,
                .set_size = to_set & FUSE_SET_ATTR_SIZE,
                .mode = st->st_mode & 07777,
                .uid = st->st_uid,
                .gid = st->st_gid,
                .size = (uint64_t) st->st_size,
                .atime = st->st_atim,
                .mtime = st->st_mtim,
        };

        if (to_set & FUSE_SET_ATTR_ATIME_NOW)
                attr.set_atime = NFS_TIME_SERVER;
        else if (to_set & FUSE_SET_ATTR_ATIME)
                attr.set_atime = NFS_TIME_CLIENT;
        if (to_set & FUSE_SET_ATTR_MTIME_NOW)
                attr.set_mtime = NFS_TIME_SERVER;
        else if (to_set & FUSE_SET_ATTR_MTIME)
                attr.set_mtime = NFS_TIME_CLIENT;
        vfs_setattr(&begin(req)->op, ino, &attr, fi ? fi->fh : VFS_NO_FH);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino) {
        vfs_readlink(&begin(req)->op, ino);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev) {
        vfs_mknod(&begin(req)->op, parent, name, mode, rdev);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
        vfs_mkdir(&begin(req)->op, parent, name, mode);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
        vfs_unlink(&begin(req)->op, parent, name);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
        vfs_rmdir(&begin(req)->op, parent, name);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
        vfs_symlink(&begin(req)->op, parent, name, target);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to_name,
                      unsigned flags) {
        vfs_rename(&begin(req)->op, parent, name, to_parent, to_name, flags);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name) {
        vfs_link(&begin(req)->op, ino, parent, name);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        FuseOp *fop = begin(req);

        fop->open_flags = fi->flags;
        vfs_open(&fop->op, ino, fi->flags);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi) {
        FuseOp *fop = begin(req);

        fop->open_flags = fi->flags;
        vfs_create(&fop->op, parent, name, mode, fi->flags);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        FuseOp *fop = begin(req);

        interrupt_watch_silent(fop->channel, fop);
        vfs_read(&fop->op, ino, fi->fh, (uint64_t) offset, (uint32_t) size);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset, struct fuse_file_info *fi) {
        FuseOp *fop = begin(req);
        const struct fuse_write_in *in = slot_write(fop);

        interrupt_watch_silent(fop->channel, fop);
        vfs_write(&fop->op, ino, fi->fh, (uint64_t) offset, data, (uint32_t) size,
                  in->write_flags & FUSE_WRITE_CACHE ? VFS_WRITE_PAGES
                  : in->padding == WRITE_PLACED      ? VFS_WRITE_PLACED
                                                     : VFS_WRITE);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        FuseOp *fop = begin(req);

        interrupt_watch_silent(fop->channel, fop);
        vfs_flush(&fop->op, ino, fi->fh, fi->lock_owner);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        vfs_release(&begin(req)->op, ino, fi->fh, fi->flock_release, fi->lock_owner);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
        vfs_fsync(&begin(req)->op, ino, fi->fh);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        vfs_opendir(&begin(req)->op, ino);
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, uint64_t fh, bool plus) {
        FuseOp *fop = begin(req);

        fop->dir_size = MIN(size, (size_t) DIR_BUFFER_SIZE);
        fop->op.plus = plus;
        vfs_readdir(&fop->op, ino, fh, (uint64_t) offset);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        read_directory(req, ino, size, offset, fi->fh, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        read_directory(req, ino, size, offset, fi->fh, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        vfs_releasedir(&begin(req)->op, ino, fi->fh);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
        vfs_fsyncdir(&begin(req)->op, ino);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino) {
        vfs_statfs(&begin(req)->op, ino);
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask) {
        vfs_access(&begin(req)->op, ino, mask);
}

static VfsLock lock_from(const struct flock *lock) {
        return (VfsLock){
                .type = lock->l_type == F_WRLCK   ? LOCK_EXCLUSIVE
                        : lock->l_type == F_RDLCK ? LOCK_SHARED
                                                  : LOCK_NONE,
                .start = (uint64_t) lock->l_start,
                .end = lock->l_len ? (uint64_t) (lock->l_start + lock->l_len - 1) : LOCK_END,
                .pid = lock->l_pid,
        };
}

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock) {
        VfsLock wanted = lock_from(lock);

        vfs_getlk(&begin(req)->op, ino, fi->fh, fi->lock_owner, &wanted);
}

static void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep) {
        VfsLock wanted = lock_from(lock);

        vfs_setlk(&begin(req)->op, ino, fi->fh, LOCK_POSIX, fi->lock_owner, &wanted, sleep);
}

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int how) {
        FuseOp *fop = begin(req);
        VfsLock wanted = {
                .type = how & LOCK_EX   ? LOCK_EXCLUSIVE
                        : how & LOCK_SH ? LOCK_SHARED
                                        : LOCK_NONE,
                .end = LOCK_END,
                .pid = fop->op.pid,
        };

        vfs_setlk(&fop->op, ino, fi->fh, LOCK_FLOCK, fi->lock_owner, &wanted, !(how & LOCK_NB));
}

const struct fuse_lowlevel_ops session_ops = {
        .init = session_init,
        .lookup = op_lookup,
        .getattr = op_getattr,
        .setattr = op_setattr,
        .readlink = op_readlink,
        .mknod = op_mknod,
        .mkdir = op_mkdir,
        .unlink = op_unlink,
        .rmdir = op_rmdir,
        .symlink = op_symlink,
        .rename = op_rename,
        .link = op_link,
        .open = op_open,
        .read = op_read,
        .write = op_write,
        .flush = op_flush,
        .release = op_release,
        .fsync = op_fsync,
        .opendir = op_opendir,
        .readdir = op_readdir,
        .releasedir = op_releasedir,
        .fsyncdir = op_fsyncdir,
        .statfs = op_statfs,
        .access = op_access,
        .create = op_create,
        .getlk = op_getlk,
        .setlk = op_setlk,
        .flock = op_flock,
        .readdirplus = op_readdirplus,
};
