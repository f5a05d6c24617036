/* The group "errno": what one call alone gives, of open files. */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "posix-errno.h"

#define READER  fd_of("file", O_RDONLY)
#define WRITER  fd_of("open/roots", O_WRONLY)
#define RDWR    fd_of("open/roots", O_RDWR)
#define TOUCHED fd_of("touched", O_WRONLY)
#define DIR_FD  fd_of("dir", O_RDONLY)

static char buf[4096];

/* ---- reading and writing ---- */

static long with_iov(ssize_t (*call)(int, const struct iovec *, int), int fd, void *base, size_t size, int n) {
        struct iovec iov[2] = { { base, size }, { buf, 1 } };

        return call(fd, iov, n);
}

/* Files may be of this size until the call has been made (row_fails()): the log is a file, too. */
static void limit_size(rlim_t size) {
        struct rlimit limit;

        (void) signal(SIGXFSZ, SIG_IGN);
        OK(getrlimit(RLIMIT_FSIZE, &limit));
        limit.rlim_cur = size;
        OK(setrlimit(RLIMIT_FSIZE, &limit));
}

/* On NFS it may be fsync(2) that is told. On tmpfs no offset is too large: then it is as good if the byte is there. */
static long write_far(void) {
        char c = '\0';
        int fd;
        long r;

        file_text("scratch/far", "x");
        fd = fd_of("scratch/far", O_RDWR);
        r = pwrite(fd, "f", 1, LLONG_MAX - 1);
        if (r == 1)
                r = fsync(fd);
        if (r == 0 && pread(fd, &c, 1, LLONG_MAX - 1) == 1 && c == 'f') {
                errno = EFBIG;
                r = -1;
        }
        case_fails(r, EFBIG, "pwrite", __FILE__, __LINE__);
        OK(unlink("scratch/far"));
        errno = EFBIG;
        return -1;
}

static long copy_overlapping(void) {
        int fd = fd_of("open/roots", O_RDWR);

        return copy_file_range(fd, &(off64_t){ 0 }, fd, &(off64_t){ 1 }, 3, 0);
}

static long copy_far(void) {
        return copy_file_range(READER, &(off64_t){ 10 }, WRITER, NULL, SIZE_MAX, 0);
}

static long splice_two_files(void) {
        return splice(READER, NULL, WRITER, NULL, 1, 0);
}

static long splice_at(void) {
        int ends[2];

        OK(pipe(ends));
        return splice(READER, NULL, ends[1], &(off64_t){ 0 }, 1, 0);
}

/* ---- memory ---- */

static long map(size_t size, int prot, int flags, int fd, uint64_t offset) {
        return mmap(NULL, size, prot, flags, fd, (off_t) offset) == MAP_FAILED ? -1 : 0;
}

static long map_executable(void) {
        mounted(MS_NOEXEC);
        return map(1, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd_of("mnt/program", O_RDONLY), 0);
}

static void *page(int prot) {
        void *p = mmap(NULL, 4096, prot, MAP_SHARED, READER, 0);

        CHECK(p != MAP_FAILED);
        return p;
}

static long sync_unmapped(void) {
        void *p = page(PROT_READ);

        OK(munmap(p, 4096));
        return msync(p, 4096, MS_SYNC);
}

/* ---- locks ---- */

static long lock(int fd, int command, struct flock l) {
        return fcntl(fd, command, &l);
}

#define WRITE_LOCK(...) ((struct flock){ .l_type = F_WRLCK, __VA_ARGS__ })

/* The file is locked, by somebody else than who has the descriptor that is given back. */
static int locked(void) {
        OK(lock(RDWR, F_OFD_SETLK, WRITE_LOCK(.l_len = 10)));
        return RDWR;
}

static int flocked(void) {
        OK(flock(RDWR, LOCK_EX));
        return RDWR;
}

static void on_alarm(int signal) {
        (void) signal;
}

/* A signal comes every now and then, so that one comes while the call waits. */
static void interrupted_every(long ms) {
        struct itimerval often = { { ms / 1000, ms % 1000 * 1000 }, { ms / 1000, ms % 1000 * 1000 } };
        struct sigaction action = { .sa_handler = on_alarm };

        OK(sigaction(SIGALRM, &action, NULL));
        OK(setitimer(ITIMER_REAL, &often, NULL));
}

static long wait_locked(int command) {
        int fd = locked();

        interrupted_every(20);
        return lock(fd, command, WRITE_LOCK(.l_len = 10));
}

static long wait_flocked(void) {
        int fd = flocked();

        interrupted_every(20);
        return flock(fd, LOCK_EX);
}

/* Each of two processes holds what the other one waits for: whoever comes second is told. */
static long lock_each_other(void) {
        int fd = RDWR, ready = turn_new(), status, err = 0;
        pid_t pid;

        OK(lock(fd, F_SETLK, WRITE_LOCK(.l_start = 1, .l_len = 1)));
        pid = child_start();
        if (pid == 0) {
                OK(lock(fd, F_SETLK, WRITE_LOCK(.l_start = 0, .l_len = 1)));
                turn_give(ready);
                _exit(lock(fd, F_SETLKW, WRITE_LOCK(.l_start = 1, .l_len = 1)) < 0 ? errno : 0);
        }
        turn_take(ready);
        interrupted_every(10000); /* if nobody is told */
        if (lock(fd, F_SETLKW, WRITE_LOCK(.l_start = 0, .l_len = 1)) < 0)
                err = errno;
        OK(lock(fd, F_SETLK, (struct flock){ .l_type = F_UNLCK }));
        OK(waitpid(pid, &status, 0));
        errno = err ? err : WEXITSTATUS(status);
        return errno ? -1 : 0;
}

/* ---- directories ---- */

static long read_removed(void) {
        int fd;

        OK(mkdir("scratch/d", 0755));
        fd = fd_of("scratch/d", O_RDONLY);
        OK(rmdir("scratch/d"));
        return getdents64(fd, buf, sizeof buf);
}

#define ROWS(X)                                                                                                                  \
        X(read, EFAULT, buffer, syscall(SYS_read, READER, nowhere(), 4))                                                         \
        X(pread, EFAULT, buffer, syscall(SYS_pread64, READER, nowhere(), 4, 0))                                                  \
        X(pread, EINVAL, negative_offset, pread(READER, buf, 1, -1))                                                             \
        X(readv, EFAULT, buffer, with_iov(readv, READER, nowhere(), 4, 1))                                                       \
        X(readv, EFAULT, vector, readv(READER, nowhere(), 1))                                                                    \
        X(readv, EINVAL, negative_count, with_iov(readv, READER, buf, 1, -1))                                                    \
        X(readv, EINVAL, negative_size, with_iov(readv, READER, buf, (size_t) -1, 2))                                            \
        X(readv, EINVAL, vector_of_1025, with_iov(readv, READER, buf, 1, 1025))                                                  \
        X(preadv2, EOPNOTSUPP, unknown_flag, preadv2(READER, &(struct iovec){ buf, 1 }, 1, 0, 1 << 20))                          \
        X(write, EFAULT, buffer, syscall(SYS_write, TOUCHED, nowhere(), 4))                                                      \
        X(pwrite, EFAULT, buffer, syscall(SYS_pwrite64, TOUCHED, nowhere(), 4, 0))                                               \
        X(pwrite, EINVAL, negative_offset, pwrite(WRITER, "x", 1, -1))                                                           \
        X(writev, EFAULT, buffer, with_iov(writev, TOUCHED, nowhere(), 4, 1))                                                    \
        X(writev, EFAULT, vector, writev(WRITER, nowhere(), 1))                                                                  \
        X(writev, EINVAL, negative_count, with_iov(writev, WRITER, buf, 1, -1))                                                  \
        X(writev, EINVAL, vector_of_1025, with_iov(writev, WRITER, buf, 1, 1025))                                                \
        X(pwritev2, EOPNOTSUPP, unknown_flag, pwritev2(WRITER, &(struct iovec){ buf, 1 }, 1, 0, 1 << 20))                        \
        X(write, EFBIG, beyond_limit, (limit_size(0), write(WRITER, "x", 1)))                                                    \
        X(pwrite, EFBIG, beyond_limit, (limit_size(100), pwrite(WRITER, "x", 1, 100)))                                           \
        X(writev, EFBIG, beyond_limit, (limit_size(0), with_iov(writev, WRITER, buf, 1, 1)))                                     \
        X(ftruncate, EFBIG, beyond_limit, (limit_size(100), ftruncate(WRITER, 101)))                                             \
        X(truncate, EFBIG, beyond_limit, (limit_size(100), truncate("open/roots", 101)))                                         \
        X(pwrite, EFBIG, far, write_far())                                                                                       \
        X(ftruncate, EINVAL, negative_size, ftruncate(WRITER, -1))                                                               \
        X(fallocate, EINVAL, no_length, fallocate(WRITER, 0, 0, 0))                                                              \
        X(fallocate, EINVAL, negative_offset, fallocate(WRITER, 0, -1, 1))                                                       \
        X(fallocate, EOPNOTSUPP, unknown_mode, fallocate(WRITER, 1 << 20, 0, 1))                                                 \
        X(fallocate, EOPNOTSUPP, hole_that_changes_the_size, fallocate(WRITER, FALLOC_FL_PUNCH_HOLE, 0, 1))                      \
        X(sync_file_range, EINVAL, unknown_flag, sync_file_range(WRITER, 0, 1, 1 << 20))                                         \
        X(sync_file_range, EINVAL, negative_offset, sync_file_range(WRITER, -1, 1, SYNC_FILE_RANGE_WRITE))                       \
        X(fadvise, EINVAL, unknown_advice, (errno = posix_fadvise(READER, 0, 1, 99), errno ? -1 : 0))                            \
        X(lseek, EINVAL, negative_offset, lseek(READER, -1, SEEK_SET))                                                           \
        X(lseek, EINVAL, before_the_beginning, lseek(READER, -5, SEEK_END))                                                      \
        X(lseek, EINVAL, unknown_whence, lseek(READER, 0, 99))                                                                   \
        X(lseek, ENXIO, data_beyond_the_end, lseek(READER, 5, SEEK_DATA))                                                        \
        X(lseek, ENXIO, data_at_the_end, lseek(READER, 4, SEEK_DATA))                                                            \
        X(lseek, ENXIO, hole_beyond_the_end, lseek(READER, 5, SEEK_HOLE))                                                        \
        X(lseek, ENXIO, data_at_negative_offset, lseek(READER, -1, SEEK_DATA))                                                   \
        X(copy_file_range, EINVAL, unknown_flag, copy_file_range(READER, NULL, WRITER, NULL, 1, 1))                              \
        X(copy_file_range, EINVAL, overlapping, copy_overlapping())                                                              \
        X(copy_file_range, EOVERFLOW, far, copy_far())                                                                           \
        X(copy_file_range, EBADF, appends, copy_file_range(READER, NULL, fd_of("open/file", O_WRONLY | O_APPEND), NULL, 1, 0))   \
        X(copy_file_range, EFBIG, beyond_limit, (limit_size(0), copy_file_range(READER, NULL, WRITER, NULL, 1, 0)))              \
        X(sendfile, EINVAL, appends, sendfile(fd_of("open/file", O_WRONLY | O_APPEND), READER, NULL, 1))                         \
        X(sendfile, EINVAL, negative_offset, sendfile(WRITER, READER, &(off_t){ -1 }, 1))                                        \
        X(sendfile, EFAULT, offset, sendfile(WRITER, READER, nowhere(), 1))                                                      \
        X(splice, EINVAL, no_pipe, splice_two_files())                                                                           \
        X(splice, ESPIPE, offset_in_pipe, splice_at())                                                                           \
        X(fstat, EFAULT, buffer, syscall(SYS_fstat, READER, nowhere()))                                                          \
        X(fstatfs, EFAULT, buffer, syscall(SYS_fstatfs, READER, nowhere()))                                                      \
        X(futimens, EINVAL, billion_nanoseconds, futimens(WRITER, (struct timespec[2]){ { 0, 1000000000 } }))                    \
        X(getdents, EINVAL, small_buffer, getdents64(DIR_FD, buf, 8))                                                            \
        X(getdents, EFAULT, buffer, syscall(SYS_getdents64, DIR_FD, nowhere(), 4096))                                            \
        X(getdents, ENOENT, removed_directory, read_removed())                                                                   \
        X(lseek, EINVAL, negative_in_directory, lseek(DIR_FD, -1, SEEK_SET))                                                     \
        X(fchdir, EACCES, unsearchable, (as_user(), fchdir(fd_of("private", O_PATH))))                                           \
        X(fexecve, ENOENT, empty_path_without_flag, exec_at(READER, "", 0))                                                      \
        X(fcntl, EINVAL, unknown_command, fcntl(READER, 9999))                                                                   \
        X(fcntl, EBADF, pipe_size_of_a_file, fcntl(READER, F_GETPIPE_SZ))                                                        \
        X(ioctl, ENOTTY, unknown_request, ioctl(READER, 0x12345678))                                                             \
        X(epoll_ctl, EPERM, file, epoll_ctl(OK(epoll_create1(0)), EPOLL_CTL_ADD, READER, &(struct epoll_event){ 0 }))            \
        X(epoll_ctl, EPERM, directory, epoll_ctl(OK(epoll_create1(0)), EPOLL_CTL_ADD, DIR_FD, &(struct epoll_event){ 0 }))       \
        X(mmap, EINVAL, no_size, map(0, PROT_READ, MAP_SHARED, READER, 0))                                                       \
        X(mmap, EINVAL, offset_in_page, map(1, PROT_READ, MAP_SHARED, READER, 1))                                                \
        X(mmap, EINVAL, neither_shared_nor_private, map(1, PROT_READ, 0, READER, 0))                                             \
        X(mmap, EOVERFLOW, far, map(1, PROT_READ, MAP_SHARED, READER, UINT64_C(1) << 63))                                        \
        X(mmap, EPERM, executable_on_noexec_mount, map_executable())                                                             \
        X(mprotect, EACCES, writable_of_reader, mprotect(page(PROT_READ), 4096, PROT_READ | PROT_WRITE))                         \
        X(msync, EINVAL, offset_in_page, msync((char *) page(PROT_READ) + 1, 1, MS_SYNC))                                        \
        X(msync, EINVAL, synced_and_not, msync(page(PROT_READ), 4096, MS_SYNC | MS_ASYNC))                                       \
        X(msync, ENOMEM, unmapped, sync_unmapped())                                                                              \
        X(setlk, EAGAIN, locked, lock(locked(), F_SETLK, WRITE_LOCK(.l_len = 10)))                                               \
        X(setlk, EAGAIN, read_of_locked, lock(locked(), F_SETLK, (struct flock){ .l_type = F_RDLCK, .l_start = 9 }))             \
        X(ofd_setlk, EAGAIN, locked, lock(locked(), F_OFD_SETLK, WRITE_LOCK(.l_len = 10)))                                       \
        X(setlkw, EINTR, locked, wait_locked(F_SETLKW))                                                                          \
        X(ofd_setlkw, EINTR, locked, wait_locked(F_OFD_SETLKW))                                                                  \
        X(setlkw, EDEADLK, each_others, lock_each_other())                                                                       \
        X(setlk, EINVAL, unknown_type, lock(RDWR, F_SETLK, (struct flock){ .l_type = 99 }))                                      \
        X(setlk, EINVAL, unknown_whence, lock(RDWR, F_SETLK, WRITE_LOCK(.l_whence = 99)))                                        \
        X(setlk, EINVAL, negative_start, lock(RDWR, F_SETLK, WRITE_LOCK(.l_start = -1)))                                         \
        X(setlk, EINVAL, before_the_beginning, lock(RDWR, F_SETLK, WRITE_LOCK(.l_start = 5, .l_len = -10)))                      \
        X(setlk, EOVERFLOW, end_is_too_far, lock(RDWR, F_SETLK, WRITE_LOCK(.l_start = LLONG_MAX, .l_len = 2)))                   \
        X(setlk, EOVERFLOW, start_is_too_far, lock(RDWR, F_SETLK, WRITE_LOCK(.l_whence = SEEK_END, .l_start = LLONG_MAX)))       \
        X(setlk, EFAULT, lock, fcntl(RDWR, F_SETLK, nowhere()))                                                                  \
        X(getlk, EINVAL, of_no_lock, lock(RDWR, F_GETLK, (struct flock){ .l_type = F_UNLCK }))                                   \
        X(ofd_setlk, EINVAL, pid, lock(RDWR, F_OFD_SETLK, WRITE_LOCK(.l_pid = 1)))                                               \
        X(flock, EAGAIN, locked, flock(flocked(), LOCK_EX | LOCK_NB))                                                            \
        X(flock, EAGAIN, shared_of_locked, flock(flocked(), LOCK_SH | LOCK_NB))                                                  \
        X(flock, EINTR, locked, wait_flocked())                                                                                  \
        X(flock, EINVAL, no_operation, flock(READER, 0))                                                                         \
        X(flock, EINVAL, unknown_operation, flock(READER, 1 << 20))

ROWS(ROW_FUNCTION)

const Case errno_file_cases[] = { ROWS(ROW_CASE){ 0 } };
