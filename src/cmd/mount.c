/*
 * The mount helper: `nfsvol mount`, mount.fuse.nfs, mount.nfs, mount.nfs4.
 *
 * Called by mount(8), so mostly by kubelet, which shows what we print only if we fail, waits for the end
 * of our output without a time-out, and tries again by itself: we say one line, fail in seconds and leave
 * nothing behind. This file reads the command line; mount-run.c does it.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "config.h"
#include "mount-job.h"

static void mount_usage(FILE *out, const char *program) {
        (void) fprintf(out,
                       "Usage: %s HOST:/PATH DIR [-fnrsvw] [-o OPTIONS] [-t TYPE]\n"
                       "\n"
                       "Mounts a directory of an NFS server on DIR.\n"
                       "\n"
                       "  -o OPTIONS      as in nfs(5); see --help-options and mount.fuse.nfs(8)\n"
                       "  -r, -w          read only; read and write\n"
                       "  -s              ignore unknown options\n"
                       "  -f              fake: check everything, mount nothing\n"
                       "  -n              no effect (there is no mtab to write)\n"
                       "  -t TYPE         file system type, as mount(8) passes it\n"
                       "  -v              say what is done, and which options have no effect\n"
                       "  --help-options  list all options\n"
                       "  -h, --help      this\n"
                       "  -V, --version   the version\n",
                       program);
}

static int usage_error(const char *program, const char *text) {
        (void) fprintf(stderr, "%s: %s (%s --help shows the usage)\n", program, text, program);
        return EXIT_CODE_USAGE;
}

/* Appends one more -o. */
static int options_append(char **options, const char *text) {
        char *all = NULL;

        if (asprintf(&all, "%s%s%s", *options ? *options : "", *options ? "," : "", text) < 0)
                return -ENOMEM;
        free(*options);
        *options = all;
        return 0;
}

enum { OPT_HELP_OPTIONS = 256 };

static const struct option long_options[] = {
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { "fake", no_argument, NULL, 'f' },
        { "no-mtab", no_argument, NULL, 'n' },
        { "read-only", no_argument, NULL, 'r' },
        { "ro", no_argument, NULL, 'r' },
        { "read-write", no_argument, NULL, 'w' },
        { "rw", no_argument, NULL, 'w' },
        { "sloppy", no_argument, NULL, 's' },
        { "verbose", no_argument, NULL, 'v' },
        { "options", required_argument, NULL, 'o' },
        { "types", required_argument, NULL, 't' },
        { "namespace", required_argument, NULL, 'N' },
        { "help-options", no_argument, NULL, OPT_HELP_OPTIONS },
        { 0 },
};

/* One more word that is not an option. */
static int job_positional(MountJob *job, const char *text) {
        if (!job->source_text)
                job->source_text = text;
        else if (!job->target_text)
                job->target_text = text;
        else
                return usage_error(job->program, "too many arguments");
        return 0;
}

/* -1: go on; otherwise the exit code. *options_text is owned by the caller. */
static int job_parse(MountJob *job, int argc, char **argv, char **options_text) {
        int c, r;

        optind = 0;
        opterr = 0;
        /* '-': words that are not options come as option 1, whatever POSIXLY_CORRECT says. */
        while ((c = getopt_long(argc, argv, "-:hVfnrwsvo:t:N:", long_options, NULL)) >= 0) {
                r = 0;
                switch (c) {
                case 1:
                        r = job_positional(job, optarg);
                        break;
                case 'h':
                        mount_usage(stdout, job->program);
                        return EXIT_CODE_OK;
                case 'V':
                        (void) printf("%s %s\n", job->program, NFSVOL_VERSION);
                        return EXIT_CODE_OK;
                case OPT_HELP_OPTIONS:
                        mount_options_help(stdout);
                        return EXIT_CODE_OK;
                case 'f':
                        job->fake = true;
                        break;
                case 'n':
                        break;
                case 'r':
                case 'w':
                        r = options_append(options_text, c == 'r' ? "ro" : "rw");
                        break;
                case 's':
                        job->options.sloppy = true;
                        break;
                case 'v':
                        job->verbose = true;
                        break;
                case 'o':
                        r = options_append(options_text, optarg);
                        break;
                case 't':
                        job->nfs4 = job->nfs4 || strcmp(optarg, "nfs4") == 0;
                        break;
                case 'N':
                        return usage_error(job->program, "-N (another mount namespace) is not supported; use nsenter(1)");
                case ':':
                        return usage_error(job->program, "an option lacks its value");
                default:
                        return usage_error(job->program, "unknown command line option");
                }
                if (r < 0)
                        return usage_error(job->program, "out of memory");
                if (r > 0)
                        return r;
        }
        for (; optind < argc; optind++) {
                r = job_positional(job, argv[optind]);
                if (r != 0)
                        return r;
        }
        if (!job->source_text || !job->target_text || !*job->target_text)
                return usage_error(job->program, "HOST:/PATH and a directory are expected");
        return -1;
}

/* Text to values; what can be said without looking at anything. */
static int job_check(MountJob *job, const char *options_text, Failure *failure) {
        _cleanup_(freep) char *message = NULL;
        const char *source = job->source_text;
        int r;

        /* nfsvol#HOST:/PATH, if somebody asks for it without mount.fuse, which strips that. */
        if (strncmp(source, "nfsvol#", 7) == 0)
                source += 7;
        r = source_parse(source, &job->source, &message);
        if (r >= 0)
                r = mount_options_parse(&job->options, options_text, &message);
        if (r < 0)
                return message ? failure_set(failure, EXIT_CODE_FAILED, "%s", message) : failure_no_memory(failure);
        if (job->nfs4 && job->options.session.vers != 3)
                return failure_set(failure, EXIT_CODE_FAILED,
                                   "NFS version 4 is not supported yet; use -t nfs or -t fuse.nfs, or vers=3");
        return 0;
}

int cmd_mount(int argc, char **argv) {
        MountJob job = { .program = argv[0], .nfs4 = strcmp(argv[0], "mount.nfs4") == 0 };
        _cleanup_(freep) char *options_text = NULL;
        Failure failure = { 0 };
        int r;

        mount_options_init(&job.options);
        r = job_parse(&job, argc, argv, &options_text);
        if (r < 0) {
                r = job_check(&job, options_text, &failure);
                if (r == 0)
                        r = mount_run(&job, &failure);
                if (r != 0)
                        mount_complain(&job, &failure);
        }
        source_done(&job.source);
        mount_options_done(&job.options);
        free(job.target);
        return r;
}
