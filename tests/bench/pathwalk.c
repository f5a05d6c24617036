/*
 * The peer: the kind of client that is easily written with libnfs and libfuse. libfuse's high-level API
 * with its single-threaded loop, paths, and libnfs's blocking calls, which walk every path from the root.
 *
 *   pathwalk NFS-URL MOUNTPOINT          in the foreground, until unmounted
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <nfsc/libnfs.h>

static struct nfs_context *nfs;

static struct nfsfh *handle(const struct fuse_file_info *fi) {
        return (struct nfsfh *) (uintptr_t) fi->fh;
}

static void stat_of(struct stat *to, const struct nfs_stat_64 *from) {
        memset(to, 0, sizeof *to);
        to->st_ino = from->nfs_ino;
        to->st_mode = (mode_t) from->nfs_mode;
        to->st_nlink = from->nfs_nlink;
        to->st_uid = (uid_t) from->nfs_uid;
        to->st_gid = (gid_t) from->nfs_gid;
        to->st_rdev = from->nfs_rdev;
        to->st_size = (off_t) from->nfs_size;
        to->st_blksize = (blksize_t) from->nfs_blksize;
        to->st_blocks = (blkcnt_t) ((from->nfs_size + 511) / 512);
        to->st_atim = (struct timespec){ (time_t) from->nfs_atime, (long) from->nfs_atime_nsec };
        to->st_mtim = (struct timespec){ (time_t) from->nfs_mtime, (long) from->nfs_mtime_nsec };
        to->st_ctim = (struct timespec){ (time_t) from->nfs_ctime, (long) from->nfs_ctime_nsec };
}

static int do_getattr(const char *path, struct stat *st, struct fuse_file_info *fi) {
        struct nfs_stat_64 from;
        int r = fi ? nfs_fstat64(nfs, handle(fi), &from) : nfs_lstat64(nfs, path, &from);

        if (r == 0)
                stat_of(st, &from);
        return r;
}

static int do_readlink(const char *path, char *buf, size_t size) {
        return nfs_readlink(nfs, path, buf, (int) size);
}

static int do_mkdir(const char *path, mode_t mode) {
        return nfs_mkdir2(nfs, path, (int) mode);
}

static int do_unlink(const char *path) {
        return nfs_unlink(nfs, path);
}

static int do_rmdir(const char *path) {
        return nfs_rmdir(nfs, path);
}

static int do_symlink(const char *target, const char *path) {
        return nfs_symlink(nfs, target, path);
}

static int do_rename(const char *from, const char *to, unsigned flags) {
        return flags ? -EINVAL : nfs_rename(nfs, from, to);
}

static int do_link(const char *from, const char *to) {
        return nfs_link(nfs, from, to);
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *fi) {
        return nfs_chmod(nfs, path, (int) mode & 07777);
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi) {
        return nfs_lchown(nfs, path, (int) uid, (int) gid);
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *fi) {
        return fi ? nfs_ftruncate(nfs, handle(fi), (uint64_t) size) : nfs_truncate(nfs, path, (uint64_t) size);
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi) {
        struct timeval tv[2];
        struct timespec now;

        (void) clock_gettime(CLOCK_REALTIME, &now);
        for (int i = 0; i < 2; i++) {
                const struct timespec *t = &times[i];

                if (t->tv_nsec == UTIME_OMIT) /* near enough: libnfs sets both */
                        t = &times[!i];
                if (t->tv_nsec == UTIME_NOW || t->tv_nsec == UTIME_OMIT)
                        t = &now;
                tv[i] = (struct timeval){ t->tv_sec, t->tv_nsec / 1000 };
        }
        return nfs_lutimes(nfs, path, tv);
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *fi) {
        struct nfsfh *fh;
        int r = nfs_open2(nfs, path, fi->flags | O_CREAT, (int) mode & 07777, &fh);

        fi->fh = r == 0 ? (uintptr_t) fh : 0;
        return r;
}

static int do_open(const char *path, struct fuse_file_info *fi) {
        struct nfsfh *fh;
        int r = nfs_open(nfs, path, fi->flags & ~(O_CREAT | O_EXCL), &fh);

        fi->fh = r == 0 ? (uintptr_t) fh : 0;
        return r;
}

static int do_read(const char *path, char *buf, size_t size, off_t offset, struct fuse_file_info *fi) {
        return nfs_pread(nfs, handle(fi), (uint64_t) offset, size, buf);
}

static int do_write(const char *path, const char *buf, size_t size, off_t offset, struct fuse_file_info *fi) {
        return nfs_pwrite(nfs, handle(fi), (uint64_t) offset, size, buf);
}

static int do_release(const char *path, struct fuse_file_info *fi) {
        return nfs_close(nfs, handle(fi));
}

static int do_fsync(const char *path, int datasync, struct fuse_file_info *fi) {
        return nfs_fsync(nfs, handle(fi));
}

static int do_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi,
                      enum fuse_readdir_flags flags) {
        struct nfsdir *dir;
        struct nfsdirent *d;
        int r = nfs_opendir(nfs, path, &dir);

        if (r < 0)
                return r;
        while ((d = nfs_readdir(nfs, dir)))
                (void) fill(buf, d->name, NULL, 0, 0);
        nfs_closedir(nfs, dir);
        return 0;
}

static int do_statfs(const char *path, struct statvfs *st) {
        return nfs_statvfs(nfs, path, st);
}

static const struct fuse_operations ops = {
        .getattr = do_getattr,
        .readlink = do_readlink,
        .mkdir = do_mkdir,
        .unlink = do_unlink,
        .rmdir = do_rmdir,
        .symlink = do_symlink,
        .rename = do_rename,
        .link = do_link,
        .chmod = do_chmod,
        .chown = do_chown,
        .truncate = do_truncate,
        .utimens = do_utimens,
        .create = do_create,
        .open = do_open,
        .read = do_read,
        .write = do_write,
        .release = do_release,
        .fsync = do_fsync,
        .readdir = do_readdir,
        .statfs = do_statfs,
};

int main(int argc, char **argv) {
        char *fuse_argv[] = {
                argv[0], (char *) "-f", (char *) "-s", (char *) "-o", (char *) "default_permissions,fsname=pathwalk", NULL, NULL
        };
        struct nfs_url *url;

        nfs = nfs_init_context();
        url = argc == 3 && nfs ? nfs_parse_url_dir(nfs, argv[1]) : NULL;
        if (!url) {
                (void) fprintf(stderr, "usage: pathwalk nfs://HOST/EXPORT?nfsport=N&mountport=N MOUNTPOINT\n");
                return 2;
        }
        if (nfs_mount(nfs, url->server, url->path) != 0) {
                (void) fprintf(stderr, "pathwalk: %s\n", nfs_get_error(nfs));
                return 1;
        }
        fuse_argv[5] = argv[2];
        return fuse_main(6, fuse_argv, &ops, NULL);
}
