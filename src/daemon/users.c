/*
 * Who uses the volume, and its end.
 *
 * The kernel's mount table is the only register: every mount of this file system but our own mountpoint is a
 * user. /proc/self/mountinfo tells when the table changes; on a busy node it does so all the time, so it
 * is read at most every SETTLE. When nobody has used the volume for `linger` seconds it is taken down
 * under its lock, which a helper holds from finding us alive until its mount stands: it either finds us, or finds
 * nothing and starts another.
 *
 * After that the worker serves whoever still has the file system (other mount namespaces, open files of a lazy
 * umount) until the kernel closes the connection; then both processes end. So it is, too, for those who use a volume whose own
 * mountpoint somebody has unmounted (umount -a): it cannot be mounted any more, a new one must be able to take its name.
 *
 * Told to end (SIGTERM, as at shutdown), every mount that nobody is using is unmounted, again and again until the last
 * has gone: systemd tries each mount unit once, at the same time as it stops those who use it, and leaves the busy ones.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/log.h"
#include "conf/options.h"
#include "daemon.h"
#include "sys/mounts.h"
#include "sys/rundir.h"

#define SETTLE_USEC (100 * 1000)
#define RETRY_USEC  (250 * 1000)

static int users_check(Keeper *keeper);

static uint64_t linger_ns(const Keeper *keeper) {
        MountOptions options;
        uint64_t linger;
        char *why = NULL;

        mount_options_init(&options);
        linger = mount_options_parse(&options, keeper->memory->options, &why) < 0 ? 10 : options.session.linger;
        free(why);
        mount_options_done(&options);
        return linger * NSEC_PER_SEC;
}

static int timer_fired(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) source;
        (void) usec;
        return users_check(userdata);
}

static int check_in(Keeper *keeper, uint64_t usec) {
        uint64_t now;
        int r;

        r = sd_event_now(keeper->event, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return r;
        if (!keeper->linger_timer)
                return sd_event_add_time(keeper->event, &keeper->linger_timer, CLOCK_MONOTONIC, now + usec, 10000, timer_fired,
                                         keeper);
        r = sd_event_source_set_time(keeper->linger_timer, now + usec);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(keeper->linger_timer, SD_EVENT_ONESHOT);
}

/*
 * The mount table in which our device number is ours: empty when the kernel has ended the connection, for it may have let go of
 * the file system, and the next one that is mounted gets its number. Looked at afterwards, so that the number was ours
 * while the table was read.
 */
static int table_read(const Keeper *keeper, MountTable *ret) {
        int r;

        r = mount_table_read(ret);
        if (r >= 0 && device_has_ended(keeper)) {
                mount_table_done(ret);
                *ret = (MountTable){ 0 };
        }
        return r;
}

static int count_users(Keeper *keeper) {
        MountTable table;
        int r;

        r = table_read(keeper, &table);
        if (r < 0)
                return r;
        keeper->n_users = mount_table_count(&table, keeper->record->dev, keeper->record->mountpoint);
        mount_table_done(&table);
        return 0;
}

enum { PLACE_LOST, PLACE_COVERED, PLACE_OURS }; /* our mount is not there (any more); there, under another one; there */

static bool directory_is_ours(const Keeper *keeper) {
        char path[600];
        struct stat st;

        (void) snprintf(path, sizeof path, "%s/control", keeper->record->directory);
        return stat(path, &st) == 0 && st.st_ino == keeper->record->control_ino;
}

/*
 * What is at our mountpoint, or negative errno. Also when the connection was aborted, and the mounts are still there: as
 * long as the directory is ours nobody else has mounted anything in it.
 */
static int place_read(const Keeper *keeper) {
        const KeeperRecord *record = keeper->record;
        const MountEntry *entry;
        int place = PLACE_LOST;
        MountTable table;
        int r;

        r = mount_table_read(&table);
        if (r < 0)
                return r;
        if (device_has_ended(keeper) && !directory_is_ours(keeper)) { /* now: so it was ours while the table was read */
                mount_table_done(&table);
                return PLACE_LOST;
        }
        entry = mount_table_find(&table, record->mountpoint);
        if (entry && entry->dev == record->dev)
                place = PLACE_OURS;
        for (size_t i = 0; i < table.n_entries && place == PLACE_LOST; i++)
                if (table.entries[i].dev == record->dev && strcmp(table.entries[i].target, record->mountpoint) == 0)
                        place = PLACE_COVERED;
        mount_table_done(&table);
        return place;
}

/* Under the volume's lock. It can be done twice, and is until its last step shows that it was done. */
static int take_down(Keeper *keeper) {
        static const char *const leaves[] = { "key", "control" };
        char path[600];
        int place;

        control_close(keeper);
        place = place_read(keeper);
        if (place < 0) {
                log_warning("cannot read the mount table: %s", strerror(-place));
                return check_in(keeper, RETRY_USEC);
        }
        if (place == PLACE_OURS && umount2(keeper->record->mountpoint, MNT_DETACH) < 0)
                log_warning("cannot detach %s: %s", keeper->record->mountpoint, strerror(errno));
        if (directory_is_ours(keeper)) {
                (void) rmdir(keeper->record->mountpoint);
                for (unsigned i = 0; i < ELEMENTSOF(leaves); i++) {
                        (void) snprintf(path, sizeof path, "%s/%s", keeper->record->directory, leaves[i]);
                        (void) unlink(path);
                }
                if (rmdir(keeper->record->directory) < 0)
                        log_warning("%s stays: %s", keeper->record->directory, strerror(errno));
        }
        keeper->record->mounted = false;
        return 0;
}

/* Nobody but we should unmount it. Under the lock. */
static bool is_lost(const Keeper *keeper) {
        return keeper->record->mounted && place_read(keeper) == PLACE_LOST;
}

int users_take_down(Keeper *keeper, bool force) {
        int lock, r;

        if (!keeper->record->mounted)
                return 0;
        r = volume_lock(keeper->memory->id, force ? now_ns() + 2 * NSEC_PER_SEC : 0, &lock);
        if (r < 0 && !force)
                return r;
        if (r < 0)
                lock = -1; /* we are told to go; a helper that holds it will find a dead socket */
        r = count_users(keeper);
        if (!force && (r < 0 || (keeper->n_users > 0 && !is_lost(keeper)))) {
                volume_unlock(keeper->memory->id, lock, false);
                return r < 0 ? r : -EBUSY;
        }
        keeper->record->draining = true; /* from here on a successor finishes it */
        r = take_down(keeper);
        volume_unlock(keeper->memory->id, lock, lock >= 0 && !keeper->record->mounted);
        return r;
}

void users_resume(Keeper *keeper) {
        int lock;

        if (!keeper->record->draining || !keeper->record->mounted)
                return;
        if (volume_lock(keeper->memory->id, now_ns() + 2 * NSEC_PER_SEC, &lock) < 0)
                lock = -1;
        (void) take_down(keeper);
        volume_unlock(keeper->memory->id, lock, lock >= 0 && !keeper->record->mounted);
}

/* Unmounts what is not busy. */
static void unmount_idle(Keeper *keeper) {
        MountTable table;

        if (table_read(keeper, &table) < 0)
                return;
        for (size_t i = table.n_entries; i-- > 0;)
                if (table.entries[i].dev == keeper->record->dev &&
                    strcmp(table.entries[i].target, keeper->record->mountpoint) != 0 &&
                    umount2(table.entries[i].target, UMOUNT_NOFOLLOW) == 0)
                        log_info("unmounted %s", table.entries[i].target);
        keeper->n_users = mount_table_count(&table, keeper->record->dev, keeper->record->mountpoint);
        mount_table_done(&table);
}

int users_end(Keeper *keeper) {
        int r;

        keeper->record->ending = true;
        r = users_take_down(keeper, true);
        unmount_idle(keeper);
        return r < 0 ? r : check_in(keeper, RETRY_USEC);
}

/* The next thing to do about users: nothing, look again later, or the end. */
static int users_check(Keeper *keeper) {
        uint64_t now = now_ns(), linger = linger_ns(keeper);
        int r;

        users_resume(keeper);
        if (keeper->record->ending) {
                unmount_idle(keeper);
                return keeper->n_users > 0 ? check_in(keeper, RETRY_USEC) : 0;
        }
        if (keeper->record->draining)
                return 0;
        r = count_users(keeper);
        if (r < 0) {
                log_warning("cannot read the mount table: %s", strerror(-r));
                return check_in(keeper, 1000 * 1000);
        }
        if (is_lost(keeper)) {
                r = users_take_down(keeper, false);
                if (r < 0)
                        return check_in(keeper, RETRY_USEC);
                log_warning("somebody has unmounted %s: those who have the volume mounted keep it, the next mount has a daemon "
                            "of its own",
                            keeper->record->mountpoint);
                return 0;
        }
        if (keeper->n_users > 0) {
                keeper->idle_since = 0;
                return 0;
        }
        if (keeper->idle_since == 0)
                keeper->idle_since = now;
        if (now - keeper->idle_since < linger)
                return check_in(keeper, (keeper->idle_since + linger - now) / 1000 + 1000);
        r = users_take_down(keeper, false);
        if (r < 0)
                return check_in(keeper, 200 * 1000); /* -EAGAIN, -EBUSY: somebody is coming */
        log_info("no users for %llu s: going", (unsigned long long) (linger / NSEC_PER_SEC));
        return 0;
}

static int mountinfo_changed(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Keeper *keeper = userdata;

        (void) source;
        (void) fd;
        (void) revents;
        return keeper->record->draining ? 0 : check_in(keeper, SETTLE_USEC);
}

int users_watch(Keeper *keeper) {
        int r;

        keeper->mountinfo_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        if (keeper->mountinfo_fd < 0)
                return -errno;
        r = sd_event_add_io(keeper->event, &keeper->mountinfo, keeper->mountinfo_fd, EPOLLPRI, mountinfo_changed, keeper);
        if (r < 0)
                return r;
        return users_check(keeper);
}
