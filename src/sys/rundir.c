/*
 * /run/nfsvol and the volumes' locks.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "config.h"
#include "sys/rundir.h"

#define LOCK_POLL_MIN (1 * NSEC_PER_MSEC)
#define LOCK_POLL_MAX (10 * NSEC_PER_MSEC)

const char *rundir(void) {
        const char *dir = secure_getenv("NFSVOL_RUNDIR");

        return dir && *dir == '/' ? dir : NFSVOL_RUNDIR;
}

int rundir_make(void) {
        struct stat st;

        if (mkdir(rundir(), 0755) < 0 && errno != EEXIST)
                return -errno;
        if (lstat(rundir(), &st) < 0)
                return -errno;
        if (!S_ISDIR(st.st_mode))
                return -ENOTDIR;
        /* Somebody else's directory would let him choose what we mount and whom we talk to. */
        if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
                return -EPERM;
        return 0;
}

int rundir_path(const char *id, const char *leaf, char *buf, size_t size) {
        int n = snprintf(buf, size, "%s/%s%s%s", rundir(), id, leaf ? "/" : "", leaf ? leaf : "");

        return n < 0 || (size_t) n >= size ? -ENAMETOOLONG : 0;
}

static int lock_path(const char *id, char *buf, size_t size) {
        int n = snprintf(buf, size, "%s/%s.lock", rundir(), id);

        return n < 0 || (size_t) n >= size ? -ENAMETOOLONG : 0;
}

/* The file that we locked may have been removed by its last holder while we waited. */
static bool lock_is_current(int fd, const char *path) {
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
        if (!lock_is_current(fd, path))
                return -EAGAIN;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* flock(2) cannot wait with a time-out without a signal, and signals are not ours: hence the polling. */
int volume_lock(const char *id, uint64_t deadline, int *ret_fd) {
        uint64_t pause = LOCK_POLL_MIN;
        char path[4096];
        int r;

        r = lock_path(id, path, sizeof path);
        if (r < 0)
                return r;
        for (;;) {
                struct timespec ts;

                r = lock_try(path, ret_fd);
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

void volume_unlock(const char *id, int fd, bool remove) {
        char path[4096];

        if (fd < 0)
                return;
        /* Only the holder removes it, and only while its file is the one that others would open. */
        if (remove && lock_path(id, path, sizeof path) == 0 && lock_is_current(fd, path))
                (void) unlink(path);
        (void) fd_close(fd);
}
