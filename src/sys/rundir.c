/*
 * /run/nfsvol and the volumes' locks.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "config.h"
#include "sys/pathlock.h"
#include "sys/rundir.h"

const char *rundir(void) {
        const char *dir = secure_getenv("NFSVOL_RUNDIR");

        return dir && *dir == '/' ? dir : NFSVOL_RUNDIR;
}

int owned_directory_make(const char *path, mode_t mode) {
        struct stat st;

        if (mkdir(path, mode) < 0 && errno != EEXIST)
                return -errno;
        if (lstat(path, &st) < 0)
                return -errno;
        if (!S_ISDIR(st.st_mode))
                return -ENOTDIR;
        /* Somebody else's directory would let him choose what we mount and whom we talk to. */
        if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
                return -EPERM;
        return 0;
}

int rundir_make(void) {
        return owned_directory_make(rundir(), 0755);
}

int rundir_path(const char *id, const char *leaf, char *buf, size_t size) {
        int n = snprintf(buf, size, "%s/%s%s%s", rundir(), id, leaf ? "/" : "", leaf ? leaf : "");

        return n < 0 || (size_t) n >= size ? -ENAMETOOLONG : 0;
}

static int lock_path(const char *id, char *buf, size_t size) {
        int n = snprintf(buf, size, "%s/%s.lock", rundir(), id);

        return n < 0 || (size_t) n >= size ? -ENAMETOOLONG : 0;
}

int volume_lock(const char *id, uint64_t deadline, int *ret_fd) {
        char path[4096];
        int r;

        r = lock_path(id, path, sizeof path);
        return r < 0 ? r : path_lock(path, deadline, ret_fd);
}

void volume_unlock(const char *id, int fd, bool remove) {
        char path[4096];

        if (fd < 0)
                return;
        /* Only the holder removes it, and only while its file is the one that others would open. */
        if (remove && lock_path(id, path, sizeof path) == 0 && path_lock_is_current(fd, path))
                (void) unlink(path);
        (void) fd_close(fd);
}
