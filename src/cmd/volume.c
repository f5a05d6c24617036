/*
 * Having a daemon for a volume: the one that is there, or a new one.
 *
 * The volume's lock is held throughout, by the caller, and until his bind mount stands. A daemon takes
 * the same lock to go away, so one that accepts a connection here is one that stays.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "cmd.h"
#include "sys/rundir.h"

/* 1: mounted in our mount namespace, 0: not, or negative errno. */
static int volume_is_mounted(const char *id) {
        _cleanup_(mount_table_done) MountTable table = {0};
        char path[PATH_MAX];
        int r;

        r = volume_mountpoint(id, path, sizeof path);
        if (r < 0)
                return r;
        r = mount_table_read(&table);
        return r < 0 ? r : mount_table_find(&table, path) != NULL;
}

static void directory_empty(const char *path) {
        DIR *dir = opendir(path);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                /* mnt, if it is a plain directory by now, and the dead daemon's sockets and files. */
                if (unlinkat(dirfd(dir), entry->d_name, 0) < 0)
                        (void) unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
        }
        if (dir)
                (void) closedir(dir);
}

void volume_clean(const char *id) {
        char path[PATH_MAX];

        if (rundir_path(id, "mnt", path, sizeof path) < 0)
                return;
        /* Mounts of a daemon that died stand over each other if that happened more than once. */
        for (int i = 0; i < 16 && volume_is_mounted(id) == 1; i++)
                if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
                        break;
        if (rundir_path(id, NULL, path, sizeof path) < 0)
                return;
        directory_empty(path);
        (void) rmdir(path);
}

/* Something mounted here that neither we nor the daemon can do without. */
static int volume_verify(const char *id, Failure *failure) {
        int r = volume_is_mounted(id);

        if (r < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot read the mount table: %s",
                                   strerror(-r));
        if (r == 0)
                return failure_set(failure, EXIT_CODE_FAILED,
                                   "the daemon of volume %s has its mount in another mount namespace; "
                                   "run this in the namespace in which the volume was first mounted",
                                   id);
        return 0;
}

/* What a daemon of ours said. It goes by itself in every case but "ok". */
static int status_line_parse(const char *line, enum StartResult *ret_result, char **ret_export,
                             Failure *failure) {
        unsigned exit_code;
        int offset = -1;

        if (strcmp(line, "ok") == 0) {
                *ret_result = START_STARTED;
                return 0;
        }
        if (strncmp(line, "subdir /", 8) == 0) {
                char *export = strdup(line + 7);

                if (!export)
                        return failure_no_memory(failure);
                *ret_result = START_SUBDIR;
                *ret_export = export;
                return 0;
        }
        if (strncmp(line, "again ", 6) == 0) {
                (void) failure_set(failure, EXIT_CODE_FAILED, "%s", line + 6);
                failure->again = true;
                return failure->exit;
        }
        if (sscanf(line, "error %3u %n", &exit_code, &offset) == 1 && offset > 0 && exit_code > 0 &&
            exit_code < 256)
                return failure_set(failure, (int) exit_code, "%s", line + offset);
        return failure_set(failure, EXIT_CODE_SOFTWARE, "nfsvold said something unknown: %.64s", line);
}

int volume_start(const StartRequest *request, enum StartResult *ret_result, char **ret_export,
                 Failure *failure) {
        char line[DAEMON_STATUS_MAX];
        enum StartResult result = START_RUNNING;
        pid_t pid;
        int r;

        if (control_is_alive(request->id)) {
                r = volume_verify(request->id, failure);
                if (r == 0)
                        *ret_result = START_RUNNING;
                return r;
        }
        volume_clean(request->id);
        r = daemon_spawn(request, &pid, line, failure);
        if (r != 0) {
                volume_clean(request->id);
                return r;
        }
        r = status_line_parse(line, &result, ret_export, failure);
        if (r == 0 && result == START_STARTED)
                r = volume_verify(request->id, failure);
        if (r != 0 || result == START_SUBDIR) {
                daemon_reap(pid, result == START_STARTED || r == EXIT_CODE_SOFTWARE);
                volume_clean(request->id);
        }
        if (r == 0)
                *ret_result = result;
        return r;
}
