/*
 * A FUSE passthrough: what the kernel's FUSE costs when there is no network behind it.
 *
 *   passthrough SOURCE MOUNTPOINT [S]    in the foreground, until unmounted
 *
 * libfuse's low-level API and its default loop (as many threads as there is work). A node is an O_PATH
 * descriptor, found again by (device, inode). Attributes and names are believed for S seconds; if not
 * given, for 3, as nfsvol believes a new file's, and pages are kept when a file is opened again. No writeback cache, as in
 * nfsvol.
 */
#define FUSE_USE_VERSION 314
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <uthash.h>

static double valid_s = 3;

typedef struct Key {
        dev_t dev;
        ino_t ino;
} Key;

typedef struct Node {
        Key key;
        int fd; /* O_PATH */
        uint64_t n_lookup;
        UT_hash_handle hh;
} Node;

typedef struct Dir {
        DIR *stream;
        struct dirent *entry; /* read, did not fit */
        off_t offset;
} Dir;

static Node root;
static Node *nodes;
static pthread_mutex_t nodes_lock = PTHREAD_MUTEX_INITIALIZER;

static Node *node_of(fuse_ino_t ino) {
        return ino == FUSE_ROOT_ID ? &root : (Node *) (uintptr_t) ino;
}

static int fd_of(fuse_ino_t ino) {
        return node_of(ino)->fd;
}

static void proc_path(fuse_ino_t ino, char buf[64]) {
        (void) snprintf(buf, 64, "/proc/self/fd/%d", fd_of(ino));
}

/* Takes fd. */
static Node *node_ref(int fd, const struct stat *st) {
        Key key;
        Node *node;

        memset(&key, 0, sizeof key);
        key.dev = st->st_dev;
        key.ino = st->st_ino;
        (void) pthread_mutex_lock(&nodes_lock);
        HASH_FIND(hh, nodes, &key, sizeof key, node);
        if (node) {
                (void) close(fd);
        } else {
                node = calloc(1, sizeof *node);
                if (!node)
                        abort();
                node->key = key;
                node->fd = fd;
                HASH_ADD(hh, nodes, key, sizeof node->key, node);
        }
        node->n_lookup++;
        (void) pthread_mutex_unlock(&nodes_lock);
        return node;
}

static void node_forget(fuse_ino_t ino, uint64_t n) {
        Node *node = node_of(ino);
        bool gone;

        if (node == &root)
                return;
        (void) pthread_mutex_lock(&nodes_lock);
        node->n_lookup -= n;
        gone = node->n_lookup == 0;
        if (gone)
                HASH_DEL(nodes, node);
        (void) pthread_mutex_unlock(&nodes_lock);
        if (gone) {
                (void) close(node->fd);
                free(node);
        }
}

/* 0 or an errno. */
static int entry_of(fuse_ino_t parent, const char *name, struct fuse_entry_param *entry) {
        int fd = openat(fd_of(parent), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

        memset(entry, 0, sizeof *entry);
        entry->attr_timeout = entry->entry_timeout = valid_s;
        if (fd < 0)
                return errno;
        if (fstatat(fd, "", &entry->attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
                int err = errno;

                (void) close(fd);
                return err;
        }
        entry->ino = (uintptr_t) node_ref(fd, &entry->attr);
        return 0;
}

static void reply_entry(fuse_req_t req, fuse_ino_t parent, const char *name, int r) {
        struct fuse_entry_param entry;
        int err = r < 0 ? errno : entry_of(parent, name, &entry);

        (void) (err ? fuse_reply_err(req, err) : fuse_reply_entry(req, &entry));
}

static void reply_result(fuse_req_t req, int r) {
        (void) fuse_reply_err(req, r < 0 ? errno : 0);
}

/* ---- names ---- */

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
        reply_entry(req, parent, name, 0);
}

static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n) {
        node_forget(ino, n);
        fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
        for (size_t i = 0; i < count; i++)
                node_forget(forgets[i].ino, forgets[i].nlookup);
        fuse_reply_none(req);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
        reply_entry(req, parent, name, mkdirat(fd_of(parent), name, mode));
}

static void do_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev) {
        reply_entry(req, parent, name, mknodat(fd_of(parent), name, mode, dev));
}

static void do_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
        reply_entry(req, parent, name, symlinkat(target, fd_of(parent), name));
}

static void do_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name) {
        char path[64];

        proc_path(ino, path);
        reply_entry(req, parent, name, linkat(AT_FDCWD, path, fd_of(parent), name, AT_SYMLINK_FOLLOW));
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
        reply_result(req, unlinkat(fd_of(parent), name, 0));
}

static void do_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
        reply_result(req, unlinkat(fd_of(parent), name, AT_REMOVEDIR));
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name, unsigned flags) {
        reply_result(req, renameat2(fd_of(parent), name, fd_of(to), to_name, flags));
}

static void do_readlink(fuse_req_t req, fuse_ino_t ino) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(fd_of(ino), "", target, sizeof target - 1);

        if (n < 0)
                return (void) fuse_reply_err(req, errno);
        target[n] = '\0';
        (void) fuse_reply_readlink(req, target);
}

/* ---- attributes ---- */

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        struct stat st;

        (void) fi;
        if (fstatat(fd_of(ino), "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
                return (void) fuse_reply_err(req, errno);
        (void) fuse_reply_attr(req, &st, valid_s);
}

static void time_to_set(struct timespec *to, struct timespec from, int set, int now) {
        *to = from;
        if (now)
                to->tv_nsec = UTIME_NOW;
        else if (!set)
                to->tv_nsec = UTIME_OMIT;
}

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int valid, struct fuse_file_info *fi) {
        struct timespec times[2];
        char path[64];
        int r = 0;

        proc_path(ino, path);
        if (valid & FUSE_SET_ATTR_MODE)
                r = chmod(path, attr->st_mode);
        if (r == 0 && valid & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
                r = fchownat(fd_of(ino), "", valid & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t) -1,
                             valid & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t) -1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
        if (r == 0 && valid & FUSE_SET_ATTR_SIZE)
                r = fi ? ftruncate((int) fi->fh, attr->st_size) : truncate(path, attr->st_size);
        if (r == 0 && valid & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) {
                time_to_set(&times[0], attr->st_atim, valid & FUSE_SET_ATTR_ATIME, valid & FUSE_SET_ATTR_ATIME_NOW);
                time_to_set(&times[1], attr->st_mtim, valid & FUSE_SET_ATTR_MTIME, valid & FUSE_SET_ATTR_MTIME_NOW);
                r = utimensat(AT_FDCWD, path, times, 0);
        }
        if (r < 0)
                return (void) fuse_reply_err(req, errno);
        do_getattr(req, ino, fi);
}

static void do_statfs(fuse_req_t req, fuse_ino_t ino) {
        struct statvfs st;

        if (fstatvfs(fd_of(ino), &st) < 0)
                return (void) fuse_reply_err(req, errno);
        (void) fuse_reply_statfs(req, &st);
}

/* ---- files ---- */

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi) {
        struct fuse_entry_param entry;
        int fd = openat(fd_of(parent), name, (fi->flags | O_CREAT | O_CLOEXEC) & ~O_NOFOLLOW, mode), err;

        if (fd < 0)
                return (void) fuse_reply_err(req, errno);
        err = entry_of(parent, name, &entry);
        if (err) {
                (void) close(fd);
                return (void) fuse_reply_err(req, err);
        }
        fi->fh = (uint64_t) fd;
        fi->keep_cache = 1;
        (void) fuse_reply_create(req, &entry, fi);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        char path[64];
        int fd;

        proc_path(ino, path);
        /* direct I/O here would only change what the local file system does */
        fd = open(path, (fi->flags & ~(O_NOFOLLOW | O_DIRECT)) | O_CLOEXEC);
        if (fd < 0)
                return (void) fuse_reply_err(req, errno);
        fi->fh = (uint64_t) fd;
        fi->keep_cache = 1;
        (void) fuse_reply_open(req, fi);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

        (void) ino;
        buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
        buf.buf[0].fd = (int) fi->fh;
        buf.buf[0].pos = offset;
        (void) fuse_reply_data(req, &buf, FUSE_BUF_SPLICE_MOVE);
}

static void do_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t offset, struct fuse_file_info *fi) {
        struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
        ssize_t n;

        (void) ino;
        out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
        out.buf[0].fd = (int) fi->fh;
        out.buf[0].pos = offset;
        n = fuse_buf_copy(&out, in, 0);
        (void) (n < 0 ? fuse_reply_err(req, (int) -n) : fuse_reply_write(req, (size_t) n));
}

static void do_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        (void) ino;
        (void) close((int) fi->fh);
        (void) fuse_reply_err(req, 0);
}

static void do_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
        (void) ino;
        reply_result(req, datasync ? fdatasync((int) fi->fh) : fsync((int) fi->fh));
}

/* ---- directories ---- */

static void do_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        Dir *dir = calloc(1, sizeof *dir);
        int fd = openat(fd_of(ino), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (!dir || fd < 0 || !(dir->stream = fdopendir(fd)))
                return (void) fuse_reply_err(req, errno);
        fi->fh = (uintptr_t) dir;
        (void) fuse_reply_open(req, fi);
}

static void do_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
        Dir *dir = (Dir *) (uintptr_t) fi->fh;

        (void) ino;
        (void) closedir(dir->stream);
        free(dir);
        (void) fuse_reply_err(req, 0);
}

/* How long the entry is in buf; more than size: it does not fit. */
static size_t add_entry(fuse_req_t req, fuse_ino_t parent, const struct dirent *d, char *buf, size_t size, bool plus) {
        struct fuse_entry_param entry = { .attr = { .st_ino = d->d_ino, .st_mode = (mode_t) d->d_type << 12 } };
        bool counted = false;
        size_t n;

        if (!plus)
                return fuse_add_direntry(req, buf, size, d->d_name, &entry.attr, d->d_off);
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
                counted = entry_of(parent, d->d_name, &entry) == 0;
        n = fuse_add_direntry_plus(req, buf, size, d->d_name, &entry, d->d_off);
        if (n > size && counted)
                node_forget(entry.ino, 1);
        return n;
}

static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi, bool plus) {
        Dir *dir = (Dir *) (uintptr_t) fi->fh;
        char *buf = malloc(size);
        size_t used = 0;

        if (!buf)
                return (void) fuse_reply_err(req, ENOMEM);
        if (offset != dir->offset) {
                seekdir(dir->stream, offset);
                dir->entry = NULL;
                dir->offset = offset;
        }
        for (;;) {
                size_t n;

                if (!dir->entry)
                        dir->entry = readdir(dir->stream);
                if (!dir->entry)
                        break;
                n = add_entry(req, ino, dir->entry, buf + used, size - used, plus);
                if (n > size - used)
                        break;
                used += n;
                dir->offset = dir->entry->d_off;
                dir->entry = NULL;
        }
        (void) fuse_reply_buf(req, buf, used);
        free(buf);
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        read_dir(req, ino, size, offset, fi, false);
}

static void do_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        read_dir(req, ino, size, offset, fi, true);
}

/* Absent: xattr, flush, access: answered with ENOSYS once, then the kernel does not ask again. */
static const struct fuse_lowlevel_ops ops = {
        .lookup = do_lookup,
        .forget = do_forget,
        .forget_multi = do_forget_multi,
        .getattr = do_getattr,
        .setattr = do_setattr,
        .readlink = do_readlink,
        .mknod = do_mknod,
        .mkdir = do_mkdir,
        .unlink = do_unlink,
        .rmdir = do_rmdir,
        .symlink = do_symlink,
        .rename = do_rename,
        .link = do_link,
        .open = do_open,
        .create = do_create,
        .read = do_read,
        .write_buf = do_write_buf,
        .release = do_release,
        .fsync = do_fsync,
        .opendir = do_opendir,
        .readdir = do_readdir,
        .readdirplus = do_readdirplus,
        .releasedir = do_releasedir,
        .statfs = do_statfs,
};

int main(int argc, char **argv) {
        char *fuse_argv[] = { argv[0], (char *) "-o", (char *) "default_permissions,fsname=passthrough", NULL };
        struct fuse_args args = FUSE_ARGS_INIT(3, fuse_argv);
        struct rlimit limit = { 500000, 500000 };
        struct fuse_loop_config *config;
        struct fuse_session *session;
        int r;

        if (argc != 3 && argc != 4) {
                (void) fprintf(stderr, "usage: passthrough SOURCE MOUNTPOINT [SECONDS]\n");
                return 2;
        }
        if (argc == 4)
                valid_s = atof(argv[3]);
        (void) setrlimit(RLIMIT_NOFILE, &limit);
        (void) umask(0);
        root.fd = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
        session = fuse_session_new(&args, &ops, sizeof ops, NULL);
        config = fuse_loop_cfg_create();
        if (root.fd < 0 || !session || !config || fuse_session_mount(session, argv[2]) != 0) {
                perror("passthrough");
                return 1;
        }
        r = fuse_session_loop_mt(session, config);
        fuse_session_unmount(session);
        fuse_session_destroy(session);
        fuse_loop_cfg_destroy(config);
        return r != 0;
}
