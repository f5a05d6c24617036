/*
 * `nfsvol umount` and umount.fuse.nfs: unmounts one mount, and only that.
 *
 * What mount(2) calls MNT_FORCE aborts the whole FUSE connection, for every pod that uses the volume. So
 * -f detaches this mount here (MNT_DETACH), and the other users notice nothing. The file system is not
 * touched: its server may be dead, which is when kubelet calls this. But if its daemon is dead, and nobody answers what others
 * wait for, they are told so.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "cmd.h"
#include "config.h"

typedef struct UmountJob {
        const char *program, *target_text;
        char *target; /* canonical, owned */
        bool force, lazy, verbose, read_only;
        dev_t dev;
        enum MountLife life; /* SILENT: its daemon is dead, and whoever uses it hangs */
} UmountJob;

static void umount_usage(FILE *out, const char *program) {
        (void) fprintf(out,
                       "Usage: %s DIR [-flnrv] [-t TYPE]\n"
                       "\n"
                       "Unmounts the NFS volume from DIR; other mounts of the same volume stay.\n"
                       "\n"
                       "  -l  detach now, clean up when it is no longer used\n"
                       "  -f  the same: works while the server is down\n"
                       "  -r  if it is busy, make it read only instead\n"
                       "  -v  say what is done\n"
                       "  -n, -t TYPE  accepted, no effect\n",
                       program);
}

/* -1: go on; otherwise the exit code. */
static int job_parse(UmountJob *job, int argc, char **argv) {
        static const struct option options[] = {
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'V' },
                { "force", no_argument, NULL, 'f' },
                { "lazy", no_argument, NULL, 'l' },
                { "verbose", no_argument, NULL, 'v' },
                { "no-mtab", no_argument, NULL, 'n' },
                { "read-only", no_argument, NULL, 'r' },
                { "types", required_argument, NULL, 't' },
                { 0 },
        };
        int c;

        optind = 0;
        while ((c = getopt_long(argc, argv, "hVflvnrt:N:", options, NULL)) >= 0)
                switch (c) {
                case 'h':
                        umount_usage(stdout, job->program);
                        return EXIT_CODE_OK;
                case 'V':
                        (void) printf("%s %s\n", job->program, NFSVOL_VERSION);
                        return EXIT_CODE_OK;
                case 'f':
                        job->force = true;
                        break;
                case 'l':
                        job->lazy = true;
                        break;
                case 'v':
                        job->verbose = true;
                        break;
                case 'r':
                        job->read_only = true;
                        break;
                case 'n':
                case 't':
                        break;
                default:
                        umount_usage(stderr, job->program);
                        return EXIT_CODE_USAGE;
                }
        if (argc - optind != 1) {
                umount_usage(stderr, job->program);
                return EXIT_CODE_USAGE;
        }
        job->target_text = argv[optind];
        return -1;
}

/* Finds the mount by name alone; only what is no mount of ours is looked at more closely. */
static int target_find(UmountJob *job, Failure *failure) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        _cleanup_(freep) char *path = NULL, *real = NULL;
        const MountEntry *entry;
        int r;

        r = mount_table_read(&table);
        if (r < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot read the mount table: %s", strerror(-r));
        r = path_canonical_parent(job->target_text, &path);
        if (r < 0)
                return failure_set(failure, EXIT_CODE_FAILED, "cannot find it: %s", strerror(-r));
        entry = mount_table_find(&table, path);
        if (!entry) {
                real = realpath(path, NULL);
                if (!real)
                        return failure_set(failure, EXIT_CODE_FAILED, "cannot find it: %s", strerror(errno));
                entry = mount_table_find(&table, real);
                if (!entry)
                        return failure_set(failure, EXIT_CODE_FAILED, "no NFS volume is mounted there");
        }
        job->dev = entry->dev;
        job->life = volume_life(&table, entry->dev);
        job->target = real ? TAKE_PTR(real) : TAKE_PTR(path);
        return 0;
}

static int umount_run(UmountJob *job, Failure *failure) {
        int flags = job->force || job->lazy ? MNT_DETACH : 0;
        int r;

        if (geteuid() != 0)
                return failure_set(failure, EXIT_CODE_USAGE, "only root can unmount");
        r = target_find(job, failure);
        if (r != 0)
                return r;
        r = mount_end(job->target, job->dev, job->life, flags);
        if (r == 0) {
                if (job->life == MOUNT_SILENT)
                        (void) printf("%s: the daemon of %s was dead: what waited for its files has been told so\n", job->program,
                                      job->target);
                if (job->verbose)
                        (void) printf("%s: %s %s\n", job->program, job->target, flags & MNT_DETACH ? "detached" : "unmounted");
                return 0;
        }
        if (r == -EBUSY && job->read_only && mount_change(job->target, MOUNT_ATTR_RDONLY, 0) == 0) {
                (void) printf("%s: %s is busy, and read only now\n", job->program, job->target);
                return 0;
        }
        if (r == -EBUSY)
                return failure_set(failure, EXIT_CODE_FAILED,
                                   "it is busy: something uses it (fuser -vm shows what); -l detaches it anyway");
        return failure_set(failure, EXIT_CODE_FAILED, "cannot unmount it: %s", strerror(-r));
}

int cmd_umount(int argc, char **argv) {
        UmountJob job = { .program = argv[0] };
        Failure failure = { 0 };
        int r;

        r = job_parse(&job, argc, argv);
        if (r < 0) {
                r = umount_run(&job, &failure);
                if (r != 0)
                        failure_print(&failure, job.program, job.target_text);
        }
        free(job.target);
        return r;
}
