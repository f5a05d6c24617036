/*
 * `nfsvol upgrade`: daemons go on with the nfsvold that is installed now. Files stay open, requests that are in flight are
 * answered by the new one; see daemon/upgrade.c.
 */
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

#define ANSWER_TIMEOUT (40 * NSEC_PER_SEC) /* the daemon bounds each step, and goes back if one fails */

typedef struct UpgradeJob {
        const char *argv0;
        char program[PATH_MAX];
        char *request; /* owned */
} UpgradeJob;

static void upgrade_usage(FILE *out, const char *program) {
        (void) fprintf(out,
                       "Usage: %s [--program PATH] --all | DIR | HOST:/PATH | ID...\n"
                       "\n"
                       "Replaces the processes of volumes by the installed version of nfsvold, under their users: a pause\n"
                       "of milliseconds. Refused, with nothing changed, if the new version cannot go on with what\n"
                       "the old one has in memory; undone if it does not come up. Also ends the wait of a volume that is\n"
                       "failing.\n"
                       "\n"
                       "  --all           every volume of this machine\n"
                       "  --program PATH  that nfsvold instead of the installed one\n",
                       program);
}

static const char *subject(const VolumeInfo *info) {
        return *info->source ? info->source : info->id;
}

/* The answer of one daemon, for people. 0 or an exit code. */
static int upgrade_report(const UpgradeJob *job, const VolumeInfo *info, int r, const json_t *answer) {
        const char *error = json_string_value(json_object_get(answer, "error"));
        const char *from = json_string_value(json_object_get(answer, "from"));
        const char *version = json_string_value(json_object_get(answer, "version"));

        if (r == -ECONNRESET)
                error = "the new keeper did not come up; the old one has taken over again (see the log)";
        else if (r == -ETIMEDOUT)
                error = "the daemon does not answer";
        else if (r < 0)
                error = r == -ECONNREFUSED || r == -ENOENT ? "it has no daemon" : strerror(-r);
        else if (!error && (!from || !version))
                error = "the daemon's answer makes no sense (is it of a version without upgrade?)";
        if (error) {
                (void) fprintf(stderr, "%s: %s: %s\n", job->argv0, subject(info), error);
                return EXIT_CODE_FAILED;
        }
        (void) printf("%s: upgraded from %s to %s, a pause of %.1f ms\n", subject(info), from, version,
                      json_number_value(json_object_get(answer, "stall_us")) / 1000);
        return EXIT_CODE_OK;
}

static int upgrade_one(const UpgradeJob *job, const VolumeInfo *info) {
        json_t *answer = NULL;
        int r;

        r = control_call(info->id, job->request, now_ns() + ANSWER_TIMEOUT, &answer);
        r = upgrade_report(job, info, r, answer);
        json_decref(answer);
        return r;
}

/* What: NULL: all. One that fails does not keep the others from being tried. */
static int upgrade_named(const UpgradeJob *job, const VolumeList *list, const char *what) {
        _cleanup_(volume_name_done) VolumeName name;
        int result = EXIT_CODE_OK;
        size_t n = 0;

        volume_name_init(&name, list, what);
        for (size_t i = 0; i < list->n; i++) {
                const VolumeInfo *info = &list->items[i];
                int r;

                if (!volume_matches(info, &name))
                        continue;
                n++;
                if (!info->id[0] || (!what && info->problem)) { /* there is nothing to go on with */
                        (void) fprintf(stderr, "%s: %s: not upgraded, it is %s\n", job->argv0, info->source, info->state);
                        result = EXIT_CODE_FAILED;
                        continue;
                }
                r = upgrade_one(job, info);
                result = r != EXIT_CODE_OK ? r : result;
        }
        if (n > 0 || !what)
                return result;
        (void) fprintf(stderr, "%s: %s: no NFS volume is mounted there, has that source or that id\n", job->argv0, what);
        return EXIT_CODE_FAILED;
}

static int job_prepare(UpgradeJob *job, const char *program) {
        _cleanup_(freep) char *text = NULL;
        json_t *object;
        int r = 0;

        if (!program)
                r = daemon_find(job->program, sizeof job->program);
        else if (!realpath(program, job->program))
                r = -errno;
        if (r < 0) {
                (void) fprintf(stderr, "%s: cannot run %s: %s\n", job->argv0, program ? program : job->program, strerror(-r));
                return EXIT_CODE_FAILED;
        }
        object = json_pack("{s:s, s:s}", "verb", "upgrade", "program", job->program);
        text = object ? json_dumps(object, JSON_COMPACT) : NULL;
        json_decref(object);
        if (!text || asprintf(&job->request, "%s\n", text) < 0)
                return EXIT_CODE_SYSTEM;
        return EXIT_CODE_OK;
}

static int upgrade_run(UpgradeJob *job, bool all, char **names) {
        _cleanup_(volume_list_done) VolumeList list = { 0 };
        int r, result;

        r = volume_list_read(&list, false);
        if (r < 0) {
                (void) fprintf(stderr, "%s: cannot find the volumes: %s\n", job->argv0, strerror(-r));
                return EXIT_CODE_SYSTEM;
        }
        if (all)
                return upgrade_named(job, &list, NULL);
        result = EXIT_CODE_OK;
        for (; *names; names++) {
                r = upgrade_named(job, &list, *names);
                result = r != EXIT_CODE_OK ? r : result;
        }
        return result;
}

int cmd_upgrade(int argc, char **argv) {
        static const struct option options[] = {
                { "all", no_argument, NULL, 'a' },
                { "program", required_argument, NULL, 'p' },
                { "help", no_argument, NULL, 'h' },
                { 0 },
        };
        UpgradeJob job = { .argv0 = argv[0] };
        const char *program = NULL;
        bool all = false;
        int c, r;

        optind = 0;
        while ((c = getopt_long(argc, argv, "ap:h", options, NULL)) >= 0)
                switch (c) {
                case 'a':
                        all = true;
                        break;
                case 'p':
                        program = optarg;
                        break;
                case 'h':
                        upgrade_usage(stdout, argv[0]);
                        return EXIT_CODE_OK;
                default:
                        upgrade_usage(stderr, argv[0]);
                        return EXIT_CODE_USAGE;
                }
        if (all == (optind < argc)) {
                upgrade_usage(stderr, argv[0]);
                return EXIT_CODE_USAGE;
        }
        r = job_prepare(&job, program);
        if (r == EXIT_CODE_OK)
                r = upgrade_run(&job, all, argv + optind);
        free(job.request);
        return r;
}
