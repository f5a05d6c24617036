/*
 * "Already mounted?"
 *
 * kubelet mounts again what it is not sure of, and exit 0 is the answer it wants. But a mount whose
 * daemon has died is not a mount, and saying 0 would leave the pod with ENOTCONN for ever: such a one is
 * detached, so that the caller mounts anew.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "mount-job.h"
#include "sys/rundir.h"

#define PROBE_TIMEOUT (2 * NSEC_PER_SEC)

/* Compares as paths on the server: host:/export/a with subdirectory b is host:/export with a/b. */
static bool entry_is_job(const MountEntry *entry, const MountJob *job) {
        _cleanup_(freep) char *message = NULL, *present = NULL, *wanted = NULL;
        _cleanup_(source_done) Source mounted = {0};
        _cleanup_(source_done) Source a = {0}, b = {0};

        if (source_parse(entry->source, &mounted, &message) < 0)
                return false;
        if (asprintf(&present, "%s%s", mounted.text, entry->root) < 0) {
                present = NULL;
                return false;
        }
        if (asprintf(&wanted, "%s/%s", job->source.text, job->options.subdir ? job->options.subdir : "") <
            0) {
                wanted = NULL;
                return false;
        }
        /* Once more through the parser, for the slashes. */
        return source_parse(present, &a, &message) >= 0 && source_parse(wanted, &b, &message) >= 0 &&
               strcmp(a.text, b.text) == 0;
}

static bool dev_has_daemon(dev_t dev) {
        _cleanup_(volume_list_done) VolumeList list = {0};

        if (volume_list_read(&list, false) < 0)
                return false;
        for (size_t i = 0; i < list.n; i++)
                if (list.items[i].id[0] && list.items[i].dev == dev)
                        return control_is_alive(list.items[i].id);
        return false;
}

/* statfs(2) is not answered from a cache: without a daemon it fails at once. */
static void probe_statfs(void *arg, BoundedResult *result) {
        struct statfs st;

        result->result = statfs(arg, &st) < 0 ? -errno : 0;
}

static bool target_is_dead(const char *target) {
        BoundedResult result = {0};

        if (bounded_call(probe_statfs, (void *) (uintptr_t) target, now_ns() + PROBE_TIMEOUT, &result) < 0)
                return false; /* hangs: somebody will answer, or will be told to by the kernel */
        return result.result == -ENOTCONN || result.result == -ECONNABORTED;
}

int mount_present(const MountJob *job, bool *ret_is, Failure *failure) {
        _cleanup_(mount_table_done) MountTable table = {0};
        const MountEntry *entry;
        int r;

        *ret_is = false;
        r = mount_table_read(&table);
        if (r < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot read the mount table: %s",
                                   strerror(-r));
        entry = mount_table_find(&table, job->target);
        if (!entry || !entry_is_job(entry, job))
                return 0;
        if (!dev_has_daemon(entry->dev) && target_is_dead(job->target)) {
                mount_say(job, "detaching the mount that a daemon, dead by now, left on %s", job->target);
                if (umount2(job->target, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
                        return failure_set(failure, EXIT_CODE_FAILED,
                                           "cannot detach the mount that a dead daemon left on %s: %s",
                                           job->target, strerror(errno));
                return 0;
        }
        mount_say(job, "already mounted on %s", job->target);
        *ret_is = true;
        return 0;
}
