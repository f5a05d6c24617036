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
        _cleanup_(mount_table_done) MountTable table = { 0 };
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

/* .../ID/mnt in the run directory, as the mount table has it. */
static bool is_mountpoint_of_volume(const char *path, char ret_id[static VOLUME_ID_SIZE]) {
        const char *end = strrchr(path, '/'), *id = end ? end - (VOLUME_ID_SIZE - 1) : NULL;
        char mountpoint[PATH_MAX];

        if (!end || end - path < VOLUME_ID_SIZE || id[-1] != '/')
                return false;
        memcpy(ret_id, id, VOLUME_ID_SIZE - 1);
        ret_id[VOLUME_ID_SIZE - 1] = '\0';
        return is_volume_id(ret_id) && volume_mountpoint(ret_id, mountpoint, sizeof mountpoint) == 0 &&
               strcmp(mountpoint, path) == 0;
}

enum Daemon { DAEMON_THERE, DAEMON_GONE, DAEMON_UNSEEN };

/* A keeper listens, a worker locks the key: GONE is neither, UNSEEN that only the keeper is surely not there. */
static enum Daemon volume_daemon(const char *id) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        enum Daemon result = DAEMON_UNSEEN;
        char path[PATH_MAX];
        int fd, r;

        r = control_connect(id, &fd);
        if (r == 0)
                (void) fd_close(fd);
        if (r != -ECONNREFUSED && r != -ENOENT)
                return DAEMON_THERE;
        if (rundir_path(id, "key", path, sizeof path) < 0)
                return result;
        fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0)
                result = lock.l_type == F_UNLCK ? DAEMON_GONE : DAEMON_THERE;
        (void) fd_close(fd);
        return result;
}

static const MountEntry *volume_entry(const MountTable *table, dev_t dev, char ret_id[static VOLUME_ID_SIZE]) {
        for (size_t i = 0; i < table->n_entries; i++)
                if (table->entries[i].dev == dev && is_mountpoint_of_volume(table->entries[i].target, ret_id))
                        return &table->entries[i];
        return NULL;
}

enum MountLife volume_life(const MountTable *table, dev_t dev) {
        char id[VOLUME_ID_SIZE];
        const MountEntry *entry = volume_entry(table, dev, id);
        enum MountLife life;
        enum Daemon daemon;

        if (!entry)
                return MOUNT_UNKNOWN;
        daemon = volume_daemon(id);
        life = daemon == DAEMON_THERE ? MOUNT_ALIVE : mount_life(entry->target);
        return life == MOUNT_SILENT && daemon != DAEMON_GONE ? MOUNT_ALIVE : life;
}

int mount_end(const char *target, dev_t dev, enum MountLife life, int flags) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        const MountEntry *entry;
        char id[VOLUME_ID_SIZE];

        /* that took seconds: is it still the same, and as dead? */
        if (life == MOUNT_SILENT && mount_table_read(&table) == 0) {
                entry = mount_table_find(&table, target);
                if (entry && entry->dev == dev && volume_entry(&table, dev, id) && volume_daemon(id) == DAEMON_GONE)
                        flags |= MNT_FORCE | MNT_DETACH;
        }
        return umount2(target, flags | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

void volume_clean(const char *id) {
        char path[PATH_MAX];

        if (volume_mountpoint(id, path, sizeof path) < 0)
                return;
        /* Mounts of a daemon that died stand over each other if that happened more than once. */
        for (int i = 0; i < 16; i++) {
                _cleanup_(mount_table_done) MountTable table = { 0 };
                const MountEntry *entry;

                if (mount_table_read(&table) < 0)
                        break;
                entry = mount_table_find(&table, path);
                if (!entry || mount_end(path, entry->dev, volume_life(&table, entry->dev), MNT_DETACH) < 0)
                        break;
        }
        if (rundir_path(id, NULL, path, sizeof path) < 0)
                return;
        directory_empty(path);
        (void) rmdir(path);
}

bool volume_is_lost(const char *id) {
        return control_is_alive(id) && volume_is_mounted(id) == 0;
}

/* Something mounted here that neither we nor the daemon can do without. */
static int volume_verify(const char *id, Failure *failure) {
        int r = volume_is_mounted(id);

        if (r < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot read the mount table: %s", strerror(-r));
        if (r == 0)
                return failure_set(failure, EXIT_CODE_FAILED,
                                   "the daemon of volume %s has its mount in another mount namespace; "
                                   "run this in the namespace in which the volume was first mounted",
                                   id);
        return 0;
}

/* What a daemon of ours said. It goes by itself in every case but "ok". */
static int status_line_parse(const char *line, enum StartResult *ret_result, char **ret_export, Failure *failure) {
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
        if (sscanf(line, "error %3u %n", &exit_code, &offset) == 1 && offset > 0 && exit_code > 0 && exit_code < 256)
                return failure_set(failure, (int) exit_code, "%s", line + offset);
        return failure_set(failure, EXIT_CODE_SOFTWARE, "nfsvold said something unknown: %.64s", line);
}

int volume_start(const StartRequest *request, enum StartResult *ret_result, char **ret_export, Failure *failure) {
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
