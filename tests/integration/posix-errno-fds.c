/* The system calls that take a descriptor, and what each gives for those that it does not like. */
#include <dirent.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <termios.h>

#include "posix-errno.h"

static char buf[4096];
static struct iovec iov = { buf, 1 };

static long call_read(int fd) {
        return read(fd, buf, 1);
}
static long call_pread(int fd) {
        return pread(fd, buf, 1, 0);
}
static long call_readv(int fd) {
        return readv(fd, &iov, 1);
}
static long call_preadv(int fd) {
        return preadv(fd, &iov, 1, 0);
}
static long call_write(int fd) {
        return write(fd, "x", 1);
}
static long call_pwrite(int fd) {
        return pwrite(fd, "x", 1, 0);
}
static long call_writev(int fd) {
        return writev(fd, &iov, 1);
}
static long call_pwritev(int fd) {
        return pwritev(fd, &iov, 1, 0);
}
static long call_lseek(int fd) {
        return lseek(fd, 0, SEEK_SET);
}
static long call_fstat(int fd) {
        return fstat(fd, &(struct stat){ 0 });
}
static long call_fstatfs(int fd) {
        return fstatfs(fd, &(struct statfs){ 0 });
}
static long call_fsync(int fd) {
        return fsync(fd);
}
static long call_fdatasync(int fd) {
        return fdatasync(fd);
}
static long call_syncfs(int fd) {
        return syncfs(fd);
}
static long call_sync_file_range(int fd) {
        return sync_file_range(fd, 0, 1, SYNC_FILE_RANGE_WRITE);
}
static long call_ftruncate(int fd) {
        return ftruncate(fd, 1);
}
static long call_fallocate(int fd) {
        return fallocate(fd, 0, 0, 1);
}
static long call_fadvise(int fd) { /* gives the error itself */
        errno = posix_fadvise(fd, 0, 1, POSIX_FADV_WILLNEED);
        return errno ? -1 : 0;
}
static long call_readahead(int fd) {
        return readahead(fd, 0, 1);
}
static long call_fchmod(int fd) {
        return fchmod(fd, 0755);
}
static long call_fchown(int fd) {
        return fchown(fd, 1000, 1000);
}
static long call_futimens(int fd) {
        return futimens(fd, (struct timespec[2]){ { 1000, 0 }, { 1000, 0 } });
}
static long call_getdents(int fd) {
        return getdents64(fd, buf, sizeof buf);
}
static long call_fchdir(int fd) {
        return fchdir(fd);
}
static long call_flock(int fd) {
        return flock(fd, LOCK_EX | LOCK_NB);
}
static long lock(int fd, int command, short type) {
        return fcntl(fd, command, &(struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_len = 1 });
}
static long call_getlk(int fd) {
        return lock(fd, F_GETLK, F_WRLCK);
}
static long setlk_read(int fd) {
        return lock(fd, F_SETLK, F_RDLCK);
}
static long setlk_write(int fd) {
        return lock(fd, F_SETLK, F_WRLCK);
}
static long setlkw(int fd) {
        return lock(fd, F_SETLKW, F_WRLCK);
}
static long ofd_setlk_read(int fd) {
        return lock(fd, F_OFD_SETLK, F_RDLCK);
}
static long ofd_setlk_write(int fd) {
        return lock(fd, F_OFD_SETLK, F_WRLCK);
}
static long unlock(int fd) {
        return lock(fd, F_SETLK, F_UNLCK);
}
static long call_getfl(int fd) {
        return fcntl(fd, F_GETFL);
}
static long call_setfl(int fd) {
        return fcntl(fd, F_SETFL, O_APPEND);
}
static long call_setfl_noatime(int fd) {
        return fcntl(fd, F_SETFL, O_NOATIME);
}
static long call_getfd(int fd) {
        return fcntl(fd, F_GETFD);
}
static long call_notify(int fd) {
        return fcntl(fd, F_NOTIFY, DN_CREATE);
}
static long call_dup(int fd) {
        return dup(fd);
}
static long call_close(int fd) {
        return close(fd);
}
static long call_fgetxattr(int fd) {
        return fgetxattr(fd, "user.x", buf, sizeof buf);
}
static long call_fsetxattr(int fd) {
        return fsetxattr(fd, "user.x", "v", 1, 0);
}
static long call_flistxattr(int fd) {
        return flistxattr(fd, NULL, 0);
}
static long call_fremovexattr(int fd) {
        return fremovexattr(fd, "user.x");
}
static long map(int fd, int prot, int flags) {
        return mmap(NULL, 1, prot, flags, fd, 0) == MAP_FAILED ? -1 : 0;
}
static long mmap_read(int fd) {
        return map(fd, PROT_READ, MAP_SHARED);
}
static long mmap_write(int fd) {
        return map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
}
static long mmap_private(int fd) {
        return map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}
static long call_ioctl(int fd) {
        struct termios t;

        return ioctl(fd, TCGETS, &t);
}
static long copy_file_range_from(int fd) {
        return copy_file_range(fd, NULL, fd_of("open/roots", O_WRONLY), NULL, 1, 0);
}
static long copy_file_range_to(int fd) {
        return copy_file_range(fd_of("open/file", O_RDONLY), NULL, fd, NULL, 1, 0);
}
static long sendfile_from(int fd) {
        int ends[2];

        OK(pipe(ends));
        return sendfile(ends[1], fd, NULL, 1);
}
static long sendfile_to(int fd) {
        return sendfile(fd, fd_of("file", O_RDONLY), NULL, 1);
}
static long splice_from(int fd) {
        int ends[2];

        OK(pipe(ends));
        return splice(fd, NULL, ends[1], NULL, 1, SPLICE_F_NONBLOCK);
}
static long splice_to(int fd) {
        int ends[2];

        OK(pipe(ends));
        EQ(write(ends[1], "x", 1), 1);
        return splice(ends[0], NULL, fd, NULL, 1, SPLICE_F_NONBLOCK);
}
static long call_fexecve(int fd) {
        return exec_at(fd, "", AT_EMPTY_PATH);
}
static long fchownat_empty_path(int fd) {
        return fchownat(fd, "", 1000, 1000, AT_EMPTY_PATH);
}
static long statx_empty_path(int fd) {
        return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &(struct statx){ 0 });
}

const FdCall errno_fds[] = {
        { "read", call_read, .instead = { [FD_WRITER] = EBADF, [FD_DIRECTORY] = EISDIR, [FD_FIFO] = EAGAIN } },
        { "pread", call_pread, .instead = { [FD_WRITER] = EBADF, [FD_DIRECTORY] = EISDIR, [FD_FIFO] = ESPIPE } },
        { "readv", call_readv, .instead = { [FD_WRITER] = EBADF, [FD_DIRECTORY] = EISDIR, [FD_FIFO] = EAGAIN } },
        { "preadv", call_preadv, .instead = { [FD_WRITER] = EBADF, [FD_DIRECTORY] = EISDIR, [FD_FIFO] = ESPIPE } },
        { "write", call_write, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF } },
        { "pwrite", call_pwrite, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF, [FD_FIFO] = ESPIPE } },
        { "writev", call_writev, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF } },
        { "pwritev", call_pwritev, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF, [FD_FIFO] = ESPIPE } },
        { "lseek", call_lseek, .instead = { [FD_FIFO] = ESPIPE } },
        { "fstat", call_fstat, .instead = { [FD_PATH] = NONE } },
        { "statx_empty_path", statx_empty_path, .instead = { [FD_PATH] = NONE } },
        { "fstatfs", call_fstatfs, .instead = { [FD_PATH] = NONE } },
        { "fsync", call_fsync, .instead = { [FD_FIFO] = EINVAL } },
        { "fdatasync", call_fdatasync, .instead = { [FD_FIFO] = EINVAL } },
        { "syncfs", call_syncfs },
        { "sync_file_range", call_sync_file_range, .instead = { [FD_FIFO] = ESPIPE } },
        { "ftruncate", call_ftruncate, .instead = { [FD_READER] = EINVAL, [FD_DIRECTORY] = EINVAL, [FD_FIFO] = EINVAL } },
        { "fallocate", call_fallocate, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF, [FD_FIFO] = ESPIPE } },
        { "fadvise", call_fadvise, .instead = { [FD_FIFO] = ESPIPE } },
        { "readahead", call_readahead, .instead = { [FD_WRITER] = EBADF, [FD_DIRECTORY] = EINVAL, [FD_FIFO] = EINVAL } },
        { "fchmod", call_fchmod, .instead = { [FD_OF_OTHER] = EPERM, [FD_ON_READ_ONLY_MOUNT] = EROFS } },
        { "fchown", call_fchown, .instead = { [FD_OF_OTHER] = EPERM, [FD_ON_READ_ONLY_MOUNT] = EROFS } },
        { "fchownat_empty_path", fchownat_empty_path,
          .instead = { [FD_PATH] = NONE, [FD_OF_OTHER] = EPERM, [FD_ON_READ_ONLY_MOUNT] = EROFS } },
        { "futimens", call_futimens, .instead = { [FD_OF_OTHER] = EPERM, [FD_ON_READ_ONLY_MOUNT] = EROFS } },
        { "getdents", call_getdents, .instead = { [FD_READER] = ENOTDIR, [FD_FIFO] = ENOTDIR } },
        { "fchdir", call_fchdir, .instead = { [FD_PATH] = ENOTDIR, [FD_READER] = ENOTDIR, [FD_FIFO] = ENOTDIR } },
        { "flock", call_flock },
        { "getlk", call_getlk },
        { "setlk_read", setlk_read, .instead = { [FD_WRITER] = EBADF } },
        { "setlk_write", setlk_write, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF } },
        { "setlkw", setlkw, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF } },
        { "unlock", unlock },
        { "ofd_setlk_read", ofd_setlk_read, .instead = { [FD_WRITER] = EBADF } },
        { "ofd_setlk_write", ofd_setlk_write, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF } },
        { "getfl", call_getfl, .instead = { [FD_PATH] = NONE } },
        { "getfd", call_getfd, .instead = { [FD_PATH] = NONE } },
        { "setfl", call_setfl },
        { "setfl_noatime", call_setfl_noatime, .instead = { [FD_OF_OTHER] = EPERM } },
        { "notify", call_notify, .instead = { [FD_READER] = ENOTDIR, [FD_FIFO] = ENOTDIR } },
        { "dup", call_dup, .instead = { [FD_PATH] = NONE } },
        { "close", call_close, .instead = { [FD_PATH] = NONE } },
        { "fgetxattr", call_fgetxattr, .instead = { [FD_FIFO] = ENODATA } },
        { "fsetxattr", call_fsetxattr, .instead = { [FD_FIFO] = EPERM, [FD_ON_READ_ONLY_MOUNT] = EROFS } },
        { "flistxattr", call_flistxattr },
        { "fremovexattr", call_fremovexattr, .instead = { [FD_FIFO] = EPERM, [FD_ON_READ_ONLY_MOUNT] = EROFS } },
        { "mmap_read", mmap_read, .instead = { [FD_WRITER] = EACCES, [FD_DIRECTORY] = ENODEV, [FD_FIFO] = ENODEV } },
        { "mmap_write", mmap_write,
          .instead = { [FD_READER] = EACCES, [FD_WRITER] = EACCES, [FD_DIRECTORY] = EACCES, [FD_FIFO] = ENODEV } },
        { "mmap_private", mmap_private, .instead = { [FD_WRITER] = EACCES, [FD_DIRECTORY] = ENODEV, [FD_FIFO] = ENODEV } },
        { "ioctl", call_ioctl, .instead = { [FD_READER] = ENOTTY, [FD_DIRECTORY] = ENOTTY, [FD_FIFO] = ENOTTY } },
        { "copy_file_range_from", copy_file_range_from,
          .instead = { [FD_WRITER] = EBADF, [FD_DIRECTORY] = EISDIR, [FD_FIFO] = EINVAL } },
        { "copy_file_range_to", copy_file_range_to,
          .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EISDIR, [FD_FIFO] = EINVAL } },
        { "sendfile_from", sendfile_from, .instead = { [FD_WRITER] = EBADF, [FD_DIRECTORY] = EINVAL, [FD_FIFO] = EINVAL } },
        { "sendfile_to", sendfile_to, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF } },
        { "splice_from", splice_from, .instead = { [FD_WRITER] = EBADF, [FD_DIRECTORY] = EINVAL, [FD_FIFO] = EAGAIN } },
        { "splice_to", splice_to, .instead = { [FD_READER] = EBADF, [FD_DIRECTORY] = EBADF } },
        { "fexecve", call_fexecve,
          .instead = { [FD_PATH] = EACCES, [FD_READER] = EACCES, [FD_DIRECTORY] = EACCES, [FD_FIFO] = EACCES } },
        { 0 },
};
