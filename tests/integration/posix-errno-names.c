/* The group "errno": what one call alone gives, of names and attributes. */
#include <linux/openat2.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "posix-errno.h"

static const char name_of_4096[4096 + 1] = { [0 ... 4095] = 'n' };

/* ---- open ---- */

static long open_how(const char *path, struct open_how how) {
        return syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

static long open_resolved(const char *path, uint64_t resolve) {
        return open_how(path, (struct open_how){ .flags = O_RDONLY, .resolve = resolve });
}

static long open_across(void) {
        mounted(0);
        return open_resolved("mnt/file", RESOLVE_NO_XDEV);
}

static long open_magic_link(void) {
        char path[64];

        (void) snprintf(path, sizeof path, "/proc/self/fd/%d", fd_of("file", O_RDONLY));
        return open_resolved(path, RESOLVE_NO_MAGICLINKS);
}

/* A program that runs: cat(1) that reads from a pipe of ours, which nobody writes to. */
static void running(void) {
        int input[2], started[2];
        char c;

        OK(pipe2(input, O_CLOEXEC));
        OK(pipe2(started, O_CLOEXEC));
        if (child_start() == 0) {
                OK(dup2(input[0], STDIN_FILENO));
                (void) execl("program", "cat", NULL);
                child_end();
        }
        OK(close(started[1]));
        EQ(read(started[0], &c, 1), 0); /* closed by execve(2) */
}

static long run_noexec(void) {
        mounted(MS_NOEXEC);
        return exec_at(AT_FDCWD, "mnt/program", 0);
}

static long run_open_for_writing(void) {
        (void) fd_of("program", O_WRONLY);
        return exec_at(AT_FDCWD, "program", 0);
}

static long open_device_of_other(void) {
        long r;
        int err;

        if (mknod("scratch/null", S_IFCHR | 0600, makedev(1, 3)) < 0 && errno == EPERM && !on_nfs)
                case_skip("devices cannot be made here");
        if (child_start() == 0) {
                as_user();
                _exit(open("scratch/null", O_RDONLY) < 0 ? errno : 0);
        }
        OK(wait(&err));
        OK(unlink("scratch/null"));
        r = WEXITSTATUS(err);
        errno = (int) r;
        return r ? -1 : 0;
}

/* ---- sockets ---- */

static const struct sockaddr_un at_new = { AF_UNIX, "new" }, at_socket = { AF_UNIX, "socket" };

static long bind_twice(void) {
        int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));

        OK(bind(fd, (const struct sockaddr *) &(struct sockaddr_un){ AF_UNIX, "scratch/s" }, sizeof at_new));
        OK(unlink("scratch/s"));
        return bind(fd, (const struct sockaddr *) &at_new, sizeof at_new);
}

static long connect_to(const struct sockaddr_un *a) {
        return connect(OK(socket(AF_UNIX, SOCK_STREAM, 0)), (const struct sockaddr *) a, sizeof *a);
}

/* ---- handles ---- */

union handle {
        struct file_handle h;
        char space[sizeof(struct file_handle) + MAX_HANDLE_SZ + 1]; /* of one case is too large */
};

static long handle_of(const char *path, unsigned size, int flags) {
        union handle u = { .h.handle_bytes = size };
        int mount_id;

        return name_to_handle_at(AT_FDCWD, path, &u.h, &mount_id, flags);
}

static long open_handle(unsigned size, int type) {
        union handle u = { .h.handle_bytes = size, .h.handle_type = type };

        return open_by_handle_at(fd_of(".", O_RDONLY), &u.h, O_RDONLY);
}

/* ---- inotify ---- */

static long watch_twice(uint32_t flags) {
        int fd = OK(inotify_init1(0));

        OK(inotify_add_watch(fd, "dir", IN_CREATE));
        return inotify_add_watch(fd, "dir", IN_CREATE | flags);
}

/* ---- unlinked ---- */

static long link_of_unlinked(void) {
        char path[64];

        file_text("scratch/a", "x");
        (void) snprintf(path, sizeof path, "/proc/self/fd/%d", fd_of("scratch/a", O_RDONLY));
        OK(unlink("scratch/a"));
        return linkat(AT_FDCWD, path, AT_FDCWD, "scratch/b", AT_SYMLINK_FOLLOW);
}

static long into_removed(void) {
        int dir;

        OK(mkdir("scratch/d", 0755));
        dir = fd_of("scratch/d", O_RDONLY);
        OK(rmdir("scratch/d"));
        return renameat(AT_FDCWD, "open/file", dir, "new");
}

#define USER(call) (as_user(), (call))
#define XATTR      "trusted.x"

static const struct timespec bad_times[2] = { { 0, 1000000000 }, { 0, 0 } };
static struct stat st;
static struct statx stx;
static char buf[256], large[65536 + 1];

#define ROWS(X)                                                                                                                  \
        X(open, EISDIR, truncates_directory, open("dir", O_RDONLY | O_TRUNC))                                                    \
        X(open, EINVAL, unlinked_file_not_for_writing, open("dir", O_RDONLY | O_TMPFILE, 0600))                                  \
        X(open, EINVAL, unlinked_file_with_a_name, open("dir", O_RDWR | O_TMPFILE | O_CREAT, 0600))                              \
        X(open, ENOTDIR, link_to_directory_not_followed, open("dirlink", O_RDONLY | O_DIRECTORY | O_NOFOLLOW))                   \
        X(open, EPERM, noatime_of_other, USER(open("file", O_RDONLY | O_NOATIME)))                                               \
        X(open, EACCES, read_fifo_of_other, USER(open("fifo", O_RDONLY | O_NONBLOCK)))                                           \
        X(open, EACCES, write_fifo_of_other, USER(open("fifo", O_RDWR | O_NONBLOCK)))                                            \
        X(open, EACCES, device_of_other, open_device_of_other())                                                                 \
        X(open, EACCES, write_readable_file, USER(open("file", O_WRONLY)))                                                       \
        X(open, EACCES, truncate_readable_file, USER(open("file", O_RDONLY | O_TRUNC)))                                          \
        X(open, EACCES, create_readable_file, USER(open("file", O_RDWR | O_CREAT, 0644)))                                        \
        X(open, ETXTBSY, running_program, (running(), open("program", O_WRONLY)))                                                \
        X(open, ETXTBSY, truncates_running_program, (running(), open("program", O_RDONLY | O_TRUNC)))                            \
        X(openat2, EINVAL, unknown_flag, open_how("file", (struct open_how){ .flags = UINT64_C(1) << 40 }))                      \
        X(openat2, EINVAL, unknown_resolve, open_resolved("file", 1 << 20))                                                      \
        X(openat2, EINVAL, mode_and_no_creation, open_how("file", (struct open_how){ .mode = 0644 }))                            \
        X(openat2, EINVAL, size, syscall(SYS_openat2, AT_FDCWD, "file", &(struct open_how){ 0 }, 8))                             \
        X(openat2, EXDEV, beneath_is_left, open_resolved("../errno/file", RESOLVE_BENEATH))                                      \
        X(openat2, EXDEV, beneath_is_absolute, open_resolved("/", RESOLVE_BENEATH))                                              \
        X(openat2, EXDEV, other_mount, open_across())                                                                            \
        X(openat2, ELOOP, no_symlinks, open_resolved("link", RESOLVE_NO_SYMLINKS))                                               \
        X(openat2, ELOOP, no_magic_links, open_magic_link())                                                                     \
        X(execve, ENOEXEC, text, exec_at(AT_FDCWD, "text", 0))                                                                   \
        X(execve, ENOENT, interpreter_is_missing, exec_at(AT_FDCWD, "script", 0))                                                \
        X(execve, EACCES, noexec_mount, run_noexec())                                                                            \
        X(execve, ETXTBSY, open_for_writing, run_open_for_writing())                                                             \
        X(execve, EFAULT, arguments, execve("program", nowhere(), NULL))                                                         \
        X(stat, EFAULT, buffer, syscall(SYS_newfstatat, AT_FDCWD, "file", nowhere(), 0))                                         \
        X(stat, EINVAL, unknown_flag, fstatat(AT_FDCWD, "file", &st, 1 << 20))                                                   \
        X(statx, EFAULT, buffer, syscall(SYS_statx, AT_FDCWD, "file", 0, STATX_BASIC_STATS, nowhere()))                          \
        X(statx, EINVAL, unknown_flag, statx(AT_FDCWD, "file", 1 << 20, STATX_BASIC_STATS, &stx))                                \
        X(statx, EINVAL, synced_and_not, statx(AT_FDCWD, "file", AT_STATX_SYNC_TYPE, STATX_BASIC_STATS, &stx))                   \
        X(statx, EINVAL, reserved_mask, statx(AT_FDCWD, "file", 0, STATX__RESERVED, &stx))                                       \
        X(statfs, EFAULT, buffer, syscall(SYS_statfs, "file", nowhere()))                                                        \
        X(getcwd, ERANGE, buffer_of_one_byte, syscall(SYS_getcwd, buf, 1))                                                       \
        X(getcwd, EFAULT, buffer, syscall(SYS_getcwd, nowhere(), 256))                                                           \
        X(getcwd, ENOENT, removed, (in_removed(), syscall(SYS_getcwd, buf, 256)))                                                \
        X(access, EINVAL, unknown_mode, access("file", 8))                                                                       \
        X(access, EACCES, execute_without_x, access("file", X_OK))                                                               \
        X(access, EACCES, execute_fifo, access("fifo", X_OK))                                                                    \
        X(access, EACCES, write_readable_file, USER(access("file", W_OK)))                                                       \
        X(access, EACCES, fifo_of_other, USER(access("fifo", R_OK)))                                                             \
        X(access, EACCES, socket_of_other, USER(access("socket", W_OK)))                                                         \
        X(access, EACCES, directory_not_writable, USER(access("dir", W_OK)))                                                     \
        X(faccessat2, EINVAL, unknown_flag, syscall(SYS_faccessat2, AT_FDCWD, "file", R_OK, 1 << 20))                            \
        X(chmod, EPERM, writable_file_of_other, USER(chmod("open/roots", 0600)))                                                 \
        X(chown, EINVAL, unknown_flag, fchownat(AT_FDCWD, "file", 0, 0, 1 << 20))                                                \
        X(chown, EPERM, own_file_to_other, USER(chown("open/file", 2000, (gid_t) -1)))                                           \
        X(chown, EPERM, own_file_to_foreign_group, USER(chown("open/file", (uid_t) -1, 2000)))                                   \
        X(chown, EPERM, own_file_to_root, USER(chown("open/file", 0, 0)))                                                        \
        X(truncate, EINVAL, negative_size, truncate("file", -1))                                                                 \
        X(truncate, ETXTBSY, running_program, (running(), truncate("program", 0)))                                               \
        X(truncate, EACCES, readable_file, USER(truncate("file", 0)))                                                            \
        X(utimensat, EINVAL, billion_nanoseconds, utimensat(AT_FDCWD, "file", bad_times, 0))                                     \
        X(utimensat, EINVAL, unknown_flag, utimensat(AT_FDCWD, "file", NULL, 1 << 20))                                           \
        X(utimensat, EFAULT, times, syscall(SYS_utimensat, AT_FDCWD, "file", nowhere(), 0))                                      \
        X(utimensat, EPERM, writable_file_of_other, USER(utimensat(AT_FDCWD, "open/roots", (struct timespec[2]){ 0 }, 0)))       \
        X(utimensat, EACCES, now_of_readable_file, USER(utimensat(AT_FDCWD, "file", NULL, 0)))                                   \
        X(mknod, EPERM, directory, mknod("new", S_IFDIR | 0755, 0))                                                              \
        X(mknod, EINVAL, unknown_type, mknod("new", 0030000 | 0644, 0))                                                          \
        X(mknod, EINVAL, link, mknod("new", S_IFLNK | 0777, 0))                                                                  \
        X(mknod, EPERM, character_device_by_user, USER(mknod("open/new", S_IFCHR | 0666, makedev(1, 3))))                        \
        X(mknod, EPERM, block_device_by_user, USER(mknod("open/new", S_IFBLK | 0666, makedev(7, 0))))                            \
        X(symlink, ENOENT, to_nothing, symlink("", "new"))                                                                       \
        X(symlink, ENAMETOOLONG, to_4096_bytes, symlink(name_of_4096, "new"))                                                    \
        X(symlink, EFAULT, to_bad_pointer, symlink(nowhere(), "new"))                                                            \
        X(readlink, EINVAL, buffer_of_0_bytes, syscall(SYS_readlink, "link", buf, 0))                                            \
        X(readlink, EINVAL, buffer_of_negative_size, syscall(SYS_readlink, "link", buf, -1))                                     \
        X(readlink, EFAULT, buffer, syscall(SYS_readlink, "link", nowhere(), 10))                                                \
        X(unlink, EINVAL, unknown_flag, unlinkat(AT_FDCWD, "file", 1))                                                           \
        X(unlink, EPERM, sticky_directory_of_other, USER(unlink("sticky/file")))                                                 \
        X(link, EINVAL, unknown_flag, linkat(AT_FDCWD, "file", AT_FDCWD, "new", 1))                                              \
        X(link, EXDEV, other_file_system, link("file", "/dev/nfsvol-posix-link"))                                                \
        X(link, ENOENT, unlinked, link_of_unlinked())                                                                            \
        X(rename, EINVAL, into_itself, rename("dir", "dir/new"))                                                                 \
        X(rename, EINVAL, into_own_child, rename("full", "full/dir/new"))                                                        \
        X(rename, ENOTEMPTY, over_own_parent, rename("full/dir", "full"))                                                        \
        X(rename, ENOENT, into_removed_directory, into_removed())                                                                \
        X(rename, EINVAL, unknown_flag, renameat2(AT_FDCWD, "file", AT_FDCWD, "new", 1 << 20))                                   \
        X(rename, EINVAL, exchange_and_noreplace,                                                                                \
          renameat2(AT_FDCWD, "file", AT_FDCWD, "text", RENAME_NOREPLACE | RENAME_EXCHANGE))                                     \
        X(rename, ENOENT, exchange_with_missing, renameat2(AT_FDCWD, "file", AT_FDCWD, "new", RENAME_EXCHANGE))                  \
        X(rename, EEXIST, noreplace_file, renameat2(AT_FDCWD, "text", AT_FDCWD, "file", RENAME_NOREPLACE))                       \
        X(rename, EEXIST, noreplace_itself, renameat2(AT_FDCWD, "file", AT_FDCWD, "file", RENAME_NOREPLACE))                     \
        X(rename, EEXIST, noreplace_directory, renameat2(AT_FDCWD, "dir", AT_FDCWD, "full", RENAME_NOREPLACE))                   \
        X(rename, EEXIST, noreplace_dangling_link, renameat2(AT_FDCWD, "file", AT_FDCWD, "dangling", RENAME_NOREPLACE))          \
        X(rename, EXDEV, other_file_system, rename("file", "/proc/new"))                                                         \
        X(rename, EPERM, over_sticky_file_of_other, USER(rename("open/file", "sticky/file")))                                    \
        X(rename, EACCES, directory_of_other_to_another, USER(rename("open/rootdir", "open/dir/new")))                           \
        X(umount, EINVAL, no_mount_point, umount2("dir", UMOUNT_NOFOLLOW))                                                       \
        X(chroot, EPERM, by_user, USER(chroot("dir")))                                                                           \
        X(bind, EINVAL, twice, bind_twice())                                                                                     \
        X(connect, EACCES, socket_of_other, USER(connect_to(&at_socket)))                                                        \
        X(name_to_handle_at, EOVERFLOW, no_room, handle_of("file", 0, 0))                                                        \
        X(name_to_handle_at, EINVAL, too_much_room, handle_of("file", MAX_HANDLE_SZ + 1, 0))                                     \
        X(name_to_handle_at, EINVAL, unknown_flag, handle_of("file", MAX_HANDLE_SZ, 1 << 20))                                    \
        X(open_by_handle_at, EINVAL, empty, open_handle(0, 1))                                                                   \
        X(open_by_handle_at, EINVAL, too_large, open_handle(MAX_HANDLE_SZ + 1, 1))                                               \
        X(open_by_handle_at, ESTALE, nonsense, open_handle(8, 0x77))                                                             \
        X(open_by_handle_at, EPERM, by_user, USER(open_handle(8, 1)))                                                            \
        X(inotify_add_watch, EINVAL, no_event, inotify_add_watch(OK(inotify_init1(0)), "dir", 0))                                \
        X(inotify_add_watch, ENOTDIR, file_is_no_directory, inotify_add_watch(OK(inotify_init1(0)), "file", IN_ONLYDIR | 2))     \
        X(inotify_add_watch, EEXIST, twice, watch_twice(IN_MASK_CREATE))                                                         \
        X(inotify_add_watch, EINVAL, created_and_added, watch_twice(IN_MASK_CREATE | IN_MASK_ADD))                               \
        X(inotify_add_watch, EINVAL, no_inotify, inotify_add_watch(fd_of("file", O_RDONLY), "dir", IN_CREATE))                   \
        X(inotify_add_watch, EBADF, closed, inotify_add_watch(closed_fd(), "dir", IN_CREATE))                                    \
        X(getxattr, ENODATA, absent, getxattr("file", XATTR, buf, sizeof buf))                                                   \
        X(getxattr, ENODATA, trusted_by_user, USER(getxattr("file", XATTR, buf, sizeof buf)))                                    \
        X(getxattr, ERANGE, empty_name, getxattr("file", "", buf, sizeof buf))                                                   \
        X(getxattr, ERANGE, name_of_4096_bytes, getxattr("file", name_of_4096, buf, sizeof buf))                                 \
        X(getxattr, EFAULT, name, getxattr("file", nowhere(), buf, sizeof buf))                                                  \
        X(getxattr, EOPNOTSUPP, no_namespace, getxattr("file", "nonsense", buf, sizeof buf))                                     \
        X(lgetxattr, ENODATA, user_of_link, lgetxattr("link", "user.x", buf, sizeof buf))                                        \
        X(setxattr, EINVAL, unknown_flag, setxattr("file", XATTR, "v", 1, 8))                                                    \
        X(setxattr, EFAULT, value, setxattr("file", XATTR, nowhere(), 1, 0))                                                     \
        X(setxattr, E2BIG, value, setxattr("file", XATTR, large, sizeof large, 0))                                               \
        X(setxattr, ENODATA, replaces_absent, setxattr("file", XATTR, "v", 1, XATTR_REPLACE))                                    \
        X(setxattr, EPERM, trusted_by_user, USER(setxattr("open/file", XATTR, "v", 1, 0)))                                       \
        X(setxattr, EOPNOTSUPP, no_namespace, setxattr("file", "nonsense", "v", 1, 0))                                           \
        X(lsetxattr, EPERM, user_of_link, lsetxattr("link", "user.x", "v", 1, 0))                                                \
        X(removexattr, ENODATA, absent, removexattr("file", XATTR))                                                              \
        X(removexattr, ERANGE, empty_name, removexattr("file", ""))

ROWS(ROW_FUNCTION)

const Case errno_name_cases[] = { ROWS(ROW_CASE){ 0 } };
