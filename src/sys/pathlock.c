/*
 * See sys/pathlock.h.
 */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "sys/pathlock.h"

#define LOCK_POLL_MIN (1 * NSEC_PER_MSEC)
#define LOCK_POLL_MAX (10 * NSEC_PER_MSEC)

/* It may have been removed by its last holder while we waited. */
bool path_lock_is_current(int fd, const char *path) {
        struct stat ours, present;

        return fstat(fd, &ours) == 0 && stat(path, &present) == 0 && ours.st_dev == present.st_dev &&
               ours.st_ino == present.st_ino;
}

/* One attempt. 0 and *ret_fd, -EAGAIN if somebody holds it or has just removed it, or an error. */
static int lock_try(const char *path, int *ret_fd) {
        _cleanup_(fd_closep) int fd = -1;

        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EINTR ? -EAGAIN : -errno;
        if (!path_lock_is_current(fd, path))
                return -EAGAIN;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* flock(2) cannot wait with a time-out without a signal, and signals are not ours: hence the polling. */
int path_lock(const char *path, uint64_t deadline, int *ret_fd) {
        uint64_t pause = LOCK_POLL_MIN;

        for (;;) {
                struct timespec ts;
                int r = lock_try(path, ret_fd);

                if (r != -EAGAIN)
                        return r;
                if (deadline == 0)
                        return -EAGAIN;
                if (now_ns() >= deadline)
                        return -ETIMEDOUT;
                ts = (struct timespec){ .tv_nsec = (long) pause };
                (void) nanosleep(&ts, NULL);
                pause = MIN(2 * pause, LOCK_POLL_MAX);
        }
}
