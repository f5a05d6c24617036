/* The system calls that take a path, and what each gives for a bad one, as far as it is not what all give (posix-errno.c). */
#include <dirent.h>
#include <stddef.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "posix-errno.h"

/* ---- open ---- */

static long open_read(int at, const char *path) {
        return openat(at, path, O_RDONLY | O_NONBLOCK);
}

static long open_write(int at, const char *path) {
        return openat(at, path, O_WRONLY | O_NONBLOCK);
}

static long open_create(int at, const char *path) {
        return openat(at, path, O_RDWR | O_CREAT | O_NONBLOCK, 0644);
}

static long open_excl(int at, const char *path) {
        return openat(at, path, O_RDWR | O_CREAT | O_EXCL, 0644);
}

static long open_nofollow(int at, const char *path) {
        return openat(at, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}

static long open_directory(int at, const char *path) {
        return openat(at, path, O_RDONLY | O_DIRECTORY);
}

static long open_path(int at, const char *path) {
        return openat(at, path, O_PATH);
}

static long open_tmpfile(int at, const char *path) {
        return openat(at, path, O_RDWR | O_TMPFILE, 0644);
}

static long call_opendir(int at, const char *path) {
        (void) at;
        return opendir(path) ? 0 : -1;
}

/* ---- attributes ---- */

static long call_stat(int at, const char *path) {
        return fstatat(at, path, &(struct stat){ 0 }, 0);
}

static long call_lstat(int at, const char *path) {
        return fstatat(at, path, &(struct stat){ 0 }, AT_SYMLINK_NOFOLLOW);
}

static long call_statx(int at, const char *path) {
        return statx(at, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &(struct statx){ 0 });
}

static long call_statfs(int at, const char *path) {
        (void) at;
        return statfs(path, &(struct statfs){ 0 });
}

static long call_access(int at, const char *path) {
        (void) at;
        return access(path, R_OK | W_OK);
}

static long call_faccessat2(int at, const char *path) {
        return syscall(SYS_faccessat2, at, path, R_OK | W_OK, AT_EACCESS);
}

static long call_chmod(int at, const char *path) {
        return fchmodat(at, path, 0755, 0);
}

static long call_chown(int at, const char *path) {
        return fchownat(at, path, 1000, 1000, 0);
}

static long call_lchown(int at, const char *path) {
        return fchownat(at, path, 1000, 1000, AT_SYMLINK_NOFOLLOW);
}

static long call_truncate(int at, const char *path) {
        (void) at;
        return truncate(path, 1);
}

static const struct timespec long_ago[2] = { { 1000, 0 }, { 1000, 0 } };

static long call_utimensat(int at, const char *path) {
        return utimensat(at, path, long_ago, 0);
}

static long call_lutimes(int at, const char *path) {
        return utimensat(at, path, long_ago, AT_SYMLINK_NOFOLLOW);
}

/* ---- names ---- */

static long call_mkdir(int at, const char *path) {
        return mkdirat(at, path, 0755);
}

static long call_mkfifo(int at, const char *path) {
        return mknodat(at, path, S_IFIFO | 0644, 0);
}

static long call_symlink(int at, const char *path) {
        return symlinkat("target", at, path);
}

static long call_readlink(int at, const char *path) {
        char buf[10];

        return readlinkat(at, path, buf, sizeof buf);
}

static long call_rmdir(int at, const char *path) {
        return unlinkat(at, path, AT_REMOVEDIR);
}

static long call_unlink(int at, const char *path) {
        return unlinkat(at, path, 0);
}

static long link_from(int at, const char *path) {
        return linkat(at, path, AT_FDCWD, "open/new", 0);
}

static long link_to(int at, const char *path) {
        return linkat(AT_FDCWD, "open/file", at, path, 0);
}

static long rename_from(int at, const char *path) {
        return renameat(at, path, AT_FDCWD, "open/new");
}

static long rename_to(int at, const char *path) {
        return renameat(AT_FDCWD, "open/file", at, path);
}

static long rename_directory_to(int at, const char *path) {
        return renameat(AT_FDCWD, "open/dir", at, path);
}

/* ---- others ---- */

static long call_chdir(int at, const char *path) {
        (void) at;
        return chdir(path);
}

static long call_execve(int at, const char *path) {
        return exec_at(at, path, 0);
}

static long call_getxattr(int at, const char *path) {
        char buf[16];

        (void) at;
        return getxattr(path, "user.x", buf, sizeof buf);
}

static long call_setxattr(int at, const char *path) {
        (void) at;
        return setxattr(path, "user.x", "v", 1, 0);
}

static long call_listxattr(int at, const char *path) {
        (void) at;
        return listxattr(path, NULL, 0);
}

static long call_removexattr(int at, const char *path) {
        (void) at;
        return removexattr(path, "user.x");
}

static long call_inotify_add_watch(int at, const char *path) {
        (void) at;
        return inotify_add_watch(OK(inotify_init1(0)), path, IN_CREATE);
}

static long call_name_to_handle_at(int at, const char *path) {
        union {
                struct file_handle handle;
                char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
        } u = { .handle.handle_bytes = MAX_HANDLE_SZ };
        int mount_id;

        return name_to_handle_at(at, path, &u.handle, &mount_id, 0);
}

static long with_socket(const char *path, int (*call)(int, const struct sockaddr *, socklen_t)) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));

        if (is_nowhere(path))
                return call(fd, (const struct sockaddr *) path, sizeof address);
        CHECK(strlen(path) < sizeof address.sun_path);
        memcpy(address.sun_path, path, strlen(path) + 1);
        return call(fd, (struct sockaddr *) &address, sizeof address);
}

static long call_bind(int at, const char *path) {
        (void) at;
        return with_socket(path, bind);
}

static long call_connect(int at, const char *path) {
        (void) at;
        return with_socket(path, connect);
}

/* ---- what they give instead of what is usual ---- */

#define DIRECTORIES(err)        [OF_DIRECTORY] = err, [OF_DOT] = err, [OF_DOT_DOT] = err
#define LINKS_TO_DIRECTORY(err) [OF_LINK_TO_DIRECTORY] = err, [OF_LINK_TO_DIRECTORY_SLASH] = err
#define FILES(err)              [OF_FILE] = err, [OF_FIFO] = err, [OF_SOCKET] = err
#define SPECIAL(err)            [OF_FIFO] = err, [OF_SOCKET] = err
#define LINKS(err)              [OF_LINK] = err, [OF_LINK_TO_DIRECTORY] = err, [OF_DANGLING_LINK] = err, [OF_LOOP] = err
#define FILES_AND_SLASH(err)    [OF_FILE_SLASH] = err, [OF_LINK_SLASH] = err
#define OF_OTHER(err)           [OF_SECRET_FILE] = err, [OF_SECRET_DIRECTORY] = err
#define OUTSIDE(err)            [OF_MOUNT_POINT] = err, [ON_OTHER_MOUNT] = err
#define TOO_LONG(err)           [OF_LONG_NAME] = err, [OF_LONG_PATH] = err

const PathCall errno_paths[] = {
        { "open_read", open_read, AT, .instead = { [OF_SOCKET] = ENXIO, OF_OTHER(EACCES) } },
        { "open_write", open_write, AT | CHANGES,
          .instead = { DIRECTORIES(EISDIR), LINKS_TO_DIRECTORY(EISDIR), SPECIAL(ENXIO), [OF_SECRET_FILE] = EACCES } },
        { "open_create", open_create, AT | REPLACES | CHANGES,
          .instead = { DIRECTORIES(EISDIR), LINKS_TO_DIRECTORY(EISDIR), [OF_SOCKET] = ENXIO, [OF_MISSING_SLASH] = EISDIR,
                       FILES_AND_SLASH(EISDIR), [OF_SECRET_FILE] = EACCES } },
        { "open_excl", open_excl, AT | MAKES | CHANGES,
          .instead = { [OF_MISSING_SLASH] = EISDIR, FILES_AND_SLASH(EISDIR), [OF_LINK_TO_DIRECTORY_SLASH] = EISDIR } },
        { "open_nofollow", open_nofollow, AT | STAYS, .instead = { LINKS(ELOOP), [OF_SOCKET] = ENXIO, OF_OTHER(EACCES) } },
        { "open_directory", open_directory, AT, "dir",
          .instead = { FILES(ENOTDIR), [OF_LINK] = ENOTDIR, [OF_SECRET_DIRECTORY] = EACCES } },
        { "open_path", open_path, AT },
        { "open_tmpfile", open_tmpfile, AT | CHANGES, "dir",
          .instead = { FILES(ENOTDIR), [OF_LINK] = ENOTDIR, [OF_SECRET_DIRECTORY] = EACCES } },
        { "opendir", call_opendir, 0, "dir", /* glibc looks at the path itself */
          .instead = { FILES(ENOTDIR), [OF_LINK] = ENOTDIR, [OF_SECRET_DIRECTORY] = EACCES, [OF_BAD_POINTER] = NONE } },
        { "stat", call_stat, AT },
        { "lstat", call_lstat, AT | STAYS },
        { "statx", call_statx, AT },
        { "statfs", call_statfs, 0 },
        { "access", call_access, CHANGES, .instead = { OF_OTHER(EACCES) } },
        { "faccessat2", call_faccessat2, AT | CHANGES, .instead = { OF_OTHER(EACCES) } },
        { "chmod", call_chmod, AT | CHANGES, .instead = { OF_OTHER(EPERM) } },
        { "chown", call_chown, AT | CHANGES, .instead = { OF_OTHER(EPERM) } },
        { "lchown", call_lchown, AT | CHANGES | STAYS, .instead = { OF_OTHER(EPERM) } },
        { "truncate", call_truncate, CHANGES,
          .instead = { DIRECTORIES(EISDIR), LINKS_TO_DIRECTORY(EISDIR), SPECIAL(EINVAL), [OF_SECRET_FILE] = EACCES } },
        { "utimensat", call_utimensat, AT | CHANGES, .instead = { OF_OTHER(EPERM) } },
        { "lutimes", call_lutimes, AT | CHANGES | STAYS, .instead = { OF_OTHER(EPERM) } },
        { "mkdir", call_mkdir, AT | MAKES | CHANGES,
          .instead = { [OF_MISSING_SLASH] = NONE, FILES_AND_SLASH(EEXIST), [OF_MOUNT_POINT] = EEXIST } },
        { "mkfifo", call_mkfifo, AT | MAKES | CHANGES, .instead = { FILES_AND_SLASH(EEXIST) } },
        { "symlink", call_symlink, AT | MAKES | CHANGES, .instead = { FILES_AND_SLASH(EEXIST) } },
        { "readlink", call_readlink, AT | STAYS, "link",
          .instead = { FILES(EINVAL), DIRECTORIES(EINVAL), [OF_LINK_TO_DIRECTORY_SLASH] = EINVAL } },
        { "rmdir", call_rmdir, AT | TAKES | CHANGES | STAYS, "dir",
          .instead = { FILES(ENOTDIR), LINKS(ENOTDIR), [OF_LINK_TO_DIRECTORY_SLASH] = ENOTDIR, [OF_FULL_DIRECTORY] = ENOTEMPTY,
                       [OF_DOT] = EINVAL, [OF_DOT_DOT] = ENOTEMPTY, [OF_MOUNT_POINT] = EBUSY } },
        { "unlink", call_unlink, AT | TAKES | CHANGES | STAYS,
          .instead = { DIRECTORIES(EISDIR), [OF_LINK_TO_DIRECTORY_SLASH] = ENOTDIR, [OF_MOUNT_POINT] = EISDIR } },
        { "link_from", link_from, AT | CHANGES | STAYS,
          .instead = { DIRECTORIES(EPERM), [OF_LINK_TO_DIRECTORY_SLASH] = EPERM, OUTSIDE(EXDEV) } },
        { "link_to", link_to, AT | MAKES | CHANGES, .instead = { FILES_AND_SLASH(EEXIST), [ON_OTHER_MOUNT] = EXDEV } },
        { "rename_from", rename_from, AT | TAKES | CHANGES | STAYS,
          .instead = { [OF_DOT] = EBUSY,
                       [OF_DOT_DOT] = EBUSY,
                       [OF_LINK_TO_DIRECTORY_SLASH] = ENOTDIR,
                       [OF_MOUNT_POINT] = EBUSY,
                       [ON_OTHER_MOUNT] = EXDEV } },
        { "rename_to", rename_to, AT | REPLACES | CHANGES | STAYS,
          .instead = { [OF_DIRECTORY] = EISDIR,
                       [OF_FULL_DIRECTORY] = EISDIR,
                       [OF_DOT] = EBUSY,
                       [OF_DOT_DOT] = EBUSY,
                       [OF_MISSING_SLASH] = ENOTDIR,
                       [OF_LINK_TO_DIRECTORY_SLASH] = ENOTDIR,
                       [OF_MOUNT_POINT] = EISDIR,
                       [ON_OTHER_MOUNT] = EXDEV } },
        { "rename_directory_to", rename_directory_to, AT | REPLACES | CHANGES | STAYS,
          .instead = { FILES(ENOTDIR),
                       LINKS(ENOTDIR), [OF_LINK_TO_DIRECTORY_SLASH] = ENOTDIR, [OF_FULL_DIRECTORY] = ENOTEMPTY, [OF_DOT] = EBUSY,
                       [OF_DOT_DOT] = EBUSY, [OF_MISSING_SLASH] = NONE, [OF_MOUNT_POINT] = EBUSY, [ON_OTHER_MOUNT] = EXDEV } },
        { "chdir", call_chdir, 0, "dir", .instead = { FILES(ENOTDIR), [OF_LINK] = ENOTDIR, [OF_SECRET_DIRECTORY] = EACCES } },
        { "execve", call_execve, AT, "program",
          .instead = { FILES(EACCES), DIRECTORIES(EACCES), [OF_LINK] = EACCES, LINKS_TO_DIRECTORY(EACCES), OF_OTHER(EACCES) } },
        { "getxattr", call_getxattr, 0, .instead = { SPECIAL(ENODATA) } },
        { "setxattr", call_setxattr, CHANGES, .instead = { SPECIAL(EPERM) } },
        { "listxattr", call_listxattr, 0 },
        { "removexattr", call_removexattr, CHANGES, .instead = { SPECIAL(EPERM) } },
        { "inotify_add_watch", call_inotify_add_watch, 0, .instead = { OF_OTHER(EACCES) } },
        { "name_to_handle_at", call_name_to_handle_at, AT | STAYS },
        { "bind", call_bind, MAKES | CHANGES,
          .instead = { FILES(EADDRINUSE), DIRECTORIES(EADDRINUSE), LINKS(EADDRINUSE),
                       FILES_AND_SLASH(EADDRINUSE), [OF_LINK_TO_DIRECTORY_SLASH] = EADDRINUSE, [OF_EMPTY_PATH] = NONE,
                       TOO_LONG(NONE), OF_OTHER(EADDRINUSE) } },
        { "connect", call_connect, 0, "socket",
          .instead = { FILES(ECONNREFUSED), DIRECTORIES(ECONNREFUSED),
                       LINKS_TO_DIRECTORY(ECONNREFUSED), [OF_LINK] = ECONNREFUSED, [OF_EMPTY_PATH] = NONE, TOO_LONG(NONE) } },
        { 0 },
};
