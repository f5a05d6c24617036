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

#include "mount-job.h"

/* Compares as paths on the server: host:/export/a with subdirectory b is host:/export with a/b. */
static bool entry_is_job(const MountEntry *entry, const MountJob *job) {
        _cleanup_(freep) char *message = NULL, *present = NULL, *wanted = NULL;
        _cleanup_(source_done) Source mounted = { 0 };
        _cleanup_(source_done) Source a = { 0 }, b = { 0 };

        if (source_parse(entry->source, &mounted, &message) < 0)
                return false;
        if (asprintf(&present, "%s%s", mounted.text, entry->root) < 0) {
                present = NULL;
                return false;
        }
        if (asprintf(&wanted, "%s/%s", job->source.text, job->options.subdir ? job->options.subdir : "") < 0) {
                wanted = NULL;
                return false;
        }
        /* Once more through the parser, for the slashes. */
        return source_parse(present, &a, &message) >= 0 && source_parse(wanted, &b, &message) >= 0 && strcmp(a.text, b.text) == 0;
}

/* Of what is mounted at the target. Whose daemon is not seen from here may be silent for other reasons. */
static enum MountLife target_life(const MountTable *table, const MountEntry *entry, const char *target) {
        enum MountLife life = volume_life(table, entry->dev);

        if (life == MOUNT_UNKNOWN && mount_life(target) == MOUNT_ENDED)
                life = MOUNT_ENDED;
        return life;
}

int mount_present(const MountJob *job, bool *ret_is, Failure *failure) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        const MountEntry *entry;
        enum MountLife life;
        int r;

        *ret_is = false;
        r = mount_table_read(&table);
        if (r < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot read the mount table: %s", strerror(-r));
        entry = mount_table_find(&table, job->target);
        if (!entry || !entry_is_job(entry, job))
                return 0;
        life = target_life(&table, entry, job->target);
        if (life == MOUNT_ENDED || life == MOUNT_SILENT) {
                mount_say(job, "detaching the mount that a daemon, dead by now, left on %s", job->target);
                r = mount_end(job->target, entry->dev, life, MNT_DETACH);
                if (r < 0)
                        return failure_set(failure, EXIT_CODE_FAILED, "cannot detach the mount that a dead daemon left on %s: %s",
                                           job->target, strerror(-r));
                return 0;
        }
        mount_say(job, "already mounted on %s", job->target);
        *ret_is = true;
        return 0;
}
