/*
 * nfsvold: the daemon of one volume. Started by the mount helper, see include/sys/daemonize.h.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "config.h"
#include "daemon.h"

enum {
        OPT_ID = 256,
        OPT_SOURCE,
        OPT_OPTIONS,
        OPT_TARGET,
        OPT_STATUS_FD,
        OPT_LOCK_FD,
        OPT_FOREGROUND,
        OPT_DEBUG,
        OPT_LAYOUT,
        OPT_CRASH_POINTS,
        OPT_ROLE
};

static void usage(FILE *out) {
        (void) fputs("Usage: nfsvold --id ID --source HOST:/PATH --options TEXT [--target DIR]\n"
                     "               [--status-fd N] [--lock-fd N] [--foreground] [--debug]\n"
                     "       nfsvold --layout\n"
                     "\n"
                     "Serves one NFS volume: mounts it at " NFSVOL_RUNDIR "/ID/mnt, keeps it mounted while it\n"
                     "has users, and goes away after the last. It is started by mount.fuse.nfs(8) and not meant\n"
                     "to be started by hand; see nfsvold(8). --layout says of which kind the memory is that it\n"
                     "leaves to a successor.\n",
                     out);
}

static bool parse_fd(const char *text, int *ret) {
        char *end;
        long n = strtol(text, &end, 10);

        if (end == text || *end || n < 0 || n > 1 << 20)
                return false;
        *ret = (int) n;
        return true;
}

/* What nfsvold starts itself as. Their value is the descriptor of the memory, or of the keepers' record. */
static int (*const roles[])(int fd) = { prober_main, worker_main, refuser_main, standby_main, keeper_resume };

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "id", required_argument, NULL, OPT_ID },
                { "source", required_argument, NULL, OPT_SOURCE },
                { "options", required_argument, NULL, OPT_OPTIONS },
                { "target", required_argument, NULL, OPT_TARGET },
                { "status-fd", required_argument, NULL, OPT_STATUS_FD },
                { "lock-fd", required_argument, NULL, OPT_LOCK_FD },
                { "foreground", no_argument, NULL, OPT_FOREGROUND },
                { "debug", no_argument, NULL, OPT_DEBUG },
                { "prober", required_argument, NULL, OPT_ROLE + 0 },
                { "worker", required_argument, NULL, OPT_ROLE + 1 },
                { "refuser", required_argument, NULL, OPT_ROLE + 2 },
                { "standby", required_argument, NULL, OPT_ROLE + 3 },
                { "resume", required_argument, NULL, OPT_ROLE + 4 },
                { "layout", no_argument, NULL, OPT_LAYOUT },
#ifdef NFSVOL_CRASH_POINTS
                { "crash-points", no_argument, NULL, OPT_CRASH_POINTS },
#endif
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'V' },
                { 0 },
        };
        KeeperArgs args = { .options = "", .status_fd = -1, .lock_fd = -1 };
        int role = -1, fd = -1, c;
        char layout[128];

        while ((c = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
                bool ok = true;

                switch (c) {
                case OPT_ID:
                        args.id = optarg;
                        ok = strlen(optarg) < sizeof((Memory *) 0)->id && !strchr(optarg, '/');
                        break;
                case OPT_SOURCE:
                        args.source = optarg;
                        ok = strlen(optarg) < sizeof((Memory *) 0)->source;
                        break;
                case OPT_OPTIONS:
                        args.options = optarg;
                        ok = strlen(optarg) < sizeof((Memory *) 0)->options;
                        break;
                case OPT_TARGET:
                        args.target = optarg;
                        break;
                case OPT_STATUS_FD:
                        ok = parse_fd(optarg, &args.status_fd);
                        break;
                case OPT_LOCK_FD:
                        ok = parse_fd(optarg, &args.lock_fd);
                        break;
                case OPT_FOREGROUND:
                        args.foreground = true;
                        break;
                case OPT_DEBUG:
                        args.debug = true;
                        break;
                case OPT_LAYOUT:
                        layout_format(layout, sizeof layout);
                        (void) puts(layout);
                        return 0;
#ifdef NFSVOL_CRASH_POINTS
                case OPT_CRASH_POINTS:
                        crash_points_list();
                        return 0;
#endif
                case 'h':
                        usage(stdout);
                        return 0;
                case 'V':
                        (void) puts("nfsvold " NFSVOL_VERSION);
                        return 0;
                default:
                        if (c < OPT_ROLE) {
                                usage(stderr);
                                return 1;
                        }
                        role = c - OPT_ROLE;
                        ok = parse_fd(optarg, &fd);
                        break;
                }
                if (!ok) {
                        (void) fprintf(stderr, "nfsvold: bad value for an option: %s\n", optarg);
                        return 1;
                }
        }
        if (args.debug)
                log_set_max_level(LOG_DEBUG);
        if (role >= 0)
                return roles[role](fd);
        if (!args.id || !*args.id || !args.source || optind != argc) {
                usage(stderr);
                return 1;
        }
        return keeper_main(&args);
}
