/*
 * `nfsvol status`: what a volume's daemon says about itself, for humans or as the JSON it came in.
 *
 * The daemon may be of another version: what it does not say is left out, what it says and we do not
 * know is in --json.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

#define VERIFY_TIMEOUT (10 * NSEC_PER_SEC) /* the keeper gives up before */

static void status_usage(FILE *out, const char *program) {
        (void) fprintf(out,
                       "Usage: %s [--json] [--verify] [DIR | HOST:/PATH | ID]\n"
                       "\n"
                       "Says how the volume mounted on DIR, those of a source, the one with that id, or all are.\n"
                       "\n"
                       "  --json    as JSON\n"
                       "  --verify  the daemon checks its tables against each other, too: exit code 4 if they do not agree\n",
                       program);
}

static void print_line(const char *name, const char *text) {
        (void) printf("  %-14s %s\n", name, text);
}

static void print_string(const json_t *object, const char *key, const char *name) {
        const char *text = json_string_value(json_object_get(object, key));

        if (text && *text)
                print_line(name, text);
}

/* A daemon without a scope of its own can be killed with whoever ran mount(8): worth saying. */
static void print_scope(const json_t *status) {
        const char *scope = json_string_value(json_object_get(status, "scope"));

        if (scope)
                print_line("scope", *scope ? scope : "none (no systemd, or noscope)");
}

/* Seconds, for humans. */
static void print_uptime(const json_t *status) {
        const json_t *value = json_object_get(status, "uptime_s");
        long long seconds = (long long) json_number_value(value);
        char text[64];

        if (!json_is_number(value))
                return;
        (void) snprintf(text, sizeof text, "%lldd %02lld:%02lld:%02lld", seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60,
                        seconds % 60);
        print_line("up for", text);
}

static void print_processes(const json_t *status) {
        const json_t *keeper = json_object_get(status, "keeper_pid"), *worker = json_object_get(status, "worker_pid");
        const json_t *standby = json_object_get(status, "standby_pid");
        char text[128];
        int n = 0;

        if (!json_is_integer(keeper))
                return;
        n = snprintf(text, sizeof text, "keeper %lld", (long long) json_integer_value(keeper));
        if (json_is_integer(worker))
                n += snprintf(text + n, sizeof text - (size_t) n, ", worker %lld", (long long) json_integer_value(worker));
        if (json_integer_value(standby) > 0)
                (void) snprintf(text + n, sizeof text - (size_t) n, ", standby %lld", (long long) json_integer_value(standby));
        print_line("processes", text);
}

/* What has happened to them so far. */
static void print_restarts(const json_t *status) {
        long long restarts = (long long) json_integer_value(json_object_get(status, "restarts"));
        long long keepers = (long long) json_integer_value(json_object_get(status, "keeper_restarts"));
        long long upgrades = (long long) json_integer_value(json_object_get(status, "upgrades"));
        const json_t *stall = json_object_get(status, "stall");
        char text[256];
        int n;

        if (restarts + keepers + upgrades == 0)
                return;
        n = snprintf(text, sizeof text, "worker %lld, keeper %lld, upgrades %lld", restarts, keepers, upgrades);
        if (json_is_object(stall) && n > 0 && (size_t) n < sizeof text)
                (void) snprintf(text + n, sizeof text - (size_t) n, "; pause %.1f ms, longest %.1f ms",
                                json_number_value(json_object_get(stall, "last_ms")),
                                json_number_value(json_object_get(stall, "worst_ms")));
        print_line("restarts", text);
        print_string(status, "last_end", "the last one");
}

static void print_server(const json_t *status) {
        const json_t *server = json_object_get(status, "server");
        const json_t *up = json_object_get(server, "up"), *port = json_object_get(server, "port");
        const json_t *connections = json_object_get(server, "connections");
        const char *host = json_string_value(json_object_get(server, "host"));
        double waiting = json_number_value(json_object_get(server, "waiting_s"));
        const char *address = json_string_value(json_object_get(server, "address"));
        const char *export = json_string_value(json_object_get(server, "export"));

        if (!json_is_object(server))
                return;
        (void) printf("  %-14s %s", "server", host ? host : "?");
        if (address)
                (void) printf(" (%s", address);
        if (address && json_is_integer(port))
                (void) printf(" port %lld", (long long) json_integer_value(port));
        (void) printf("%s%s", address ? ")" : "", json_is_true(up) ? ", up" : json_is_false(up) ? ", DOWN" : "");
        if (json_is_integer(connections))
                (void) printf(", %lld connection%s", (long long) json_integer_value(connections),
                              json_integer_value(connections) == 1 ? "" : "s");
        if (waiting >= 1.0)
                (void) printf(", a request has waited for %.0f s", waiting);
        (void) putchar('\n');
        if (export)
                print_line("export", export);
}

static void print_requests(const json_t *status) {
        const json_t *requests = json_object_get(status, "requests");
        char text[96];

        if (!json_is_object(requests))
                return;
        (void) snprintf(text, sizeof text, "%lld in flight, %lld in all",
                        (long long) json_integer_value(json_object_get(requests, "in_flight")),
                        (long long) json_integer_value(json_object_get(requests, "total")));
        print_line("requests", text);
}

static void print_rpcs(const json_t *status) {
        json_t *rpcs = json_object_get(status, "rpcs"), *rpc;
        const char *name;

        if (json_object_size(rpcs) == 0)
                return;
        (void) printf("  %-14s %12s %8s %8s %10s\n", "calls", "sent", "resent", "errors", "rtt us");
        json_object_foreach(rpcs, name, rpc) {
                (void) printf("    %-12s %12lld %8lld %8lld %10.0f\n", name,
                              (long long) json_integer_value(json_object_get(rpc, "calls")),
                              (long long) json_integer_value(json_object_get(rpc, "resent")),
                              (long long) json_integer_value(json_object_get(rpc, "errors")),
                              json_number_value(json_object_get(rpc, "rtt_us")));
        }
}

static void print_counters(const json_t *status) {
        json_t *counters = json_object_get(status, "counters"), *value;
        const char *name;

        if (json_object_size(counters) == 0)
                return;
        (void) printf("  counters\n");
        json_object_foreach(counters, name, value) {
                if (json_is_integer(value))
                        (void) printf("    %-28s %12lld\n", name, (long long) json_integer_value(value));
        }
}

static void print_verify(const json_t *status) {
        const json_t *verify = json_object_get(status, "verify"), *violation;
        json_t *counts = json_object_get(verify, "counts"), *value;
        const char *name;
        char text[64];
        size_t i;

        if (!json_is_object(verify))
                return;
        (void) snprintf(text, sizeof text, "%lld violations",
                        (long long) json_integer_value(json_object_get(verify, "n_violations")));
        print_line("tables", json_is_true(json_object_get(verify, "consistent")) ? "consistent" : text);
        json_array_foreach(json_object_get(verify, "violations"), i, violation)(void)
                printf("    %s\n", json_string_value(violation) ? json_string_value(violation) : "?");
        json_object_foreach(counts, name, value)(void) printf("    %-28s %12lld\n", name, (long long) json_integer_value(value));
}

static void status_print(const VolumeList *list, const VolumeInfo *info) {
        const json_t *status = info->status;
        char text[64];

        (void) printf("%s\n", *info->source ? info->source : info->id);
        if (info->id[0])
                print_line("volume", info->id);
        print_line("state", info->state);
        if (info->problem)
                print_line("problem", info->problem);
        print_string(status, "problem", "problem");
        print_string(status, "options", "options");
        print_processes(status);
        print_restarts(status);
        print_uptime(status);
        print_server(status);
        print_requests(status);
        print_string(status, "locks", "locks");
        print_scope(status);
        print_string(status, "version", "version");
        (void) snprintf(text, sizeof text, "%zu", info->users);
        print_line("mounts", text);
        for (size_t i = 0; i < list->table.n_entries; i++) {
                const MountEntry *entry = &list->table.entries[i];

                if (volume_is_used_by(info, entry))
                        (void) printf("    %s%s%s (%s)\n", entry->target, strcmp(entry->root, "/") == 0 ? "" : " from ",
                                      strcmp(entry->root, "/") == 0 ? "" : entry->root, entry->options);
        }
        print_rpcs(status);
        print_counters(status);
        print_verify(status);
}

/* What the daemon said; for one that says nothing, what we know. */
static json_t *status_to_json(const VolumeInfo *info) {
        json_t *object;

        if (info->status)
                return json_incref(info->status);
        object = json_object();
        if (info->id[0])
                (void) json_object_set_new(object, "id", json_string(info->id));
        (void) json_object_set_new(object, "source", json_string(info->source));
        (void) json_object_set_new(object, "state", json_string(info->state));
        if (info->problem)
                (void) json_object_set_new(object, "problem", json_string(info->problem));
        (void) json_object_set_new(object, "users", json_integer((json_int_t) info->users));
        return object;
}

/* Adds what it finds to the status. An exit code. */
static int status_verify(const VolumeInfo *info) {
        json_t *answer = NULL, *verify;
        const char *why;
        int r, code = EXIT_CODE_FAILED;

        r = control_call(info->id, "{\"verb\":\"verify\"}\n", now_ns() + VERIFY_TIMEOUT, &answer);
        verify = r < 0 ? NULL : json_object_get(answer, "verify");
        why = r < 0 ? strerror(-r) : json_string_value(json_object_get(answer, "error"));
        if (json_is_object(verify)) {
                (void) json_object_set(info->status, "verify", verify);
                code = json_is_true(json_object_get(verify, "consistent")) ? EXIT_CODE_OK : EXIT_CODE_SOFTWARE;
        } else
                (void) fprintf(stderr, "nfsvol status: %s: cannot be verified: %s\n", info->id, why ? why : "?");
        json_decref(answer);
        return code;
}

static int status_report(const VolumeList *list, const char *what, bool json, bool verify) {
        _cleanup_(volume_name_done) VolumeName name;
        json_t *array = json ? json_array() : NULL;
        int code = EXIT_CODE_OK;
        size_t n = 0;

        volume_name_init(&name, list, what);
        for (size_t i = 0; i < list->n; i++) {
                const VolumeInfo *info = &list->items[i];

                if (!volume_matches(info, &name))
                        continue;
                if (verify)
                        code = MAX(code, status_verify(info));
                if (json)
                        (void) json_array_append_new(array, status_to_json(info));
                else {
                        (void) printf("%s", n > 0 ? "\n" : "");
                        status_print(list, info);
                }
                n++;
        }
        if (json && (n > 0 || !what)) {
                /* One volume asked for: its object; otherwise a list. */
                (void) json_dumpf(what && n == 1 ? json_array_get(array, 0) : array, stdout, JSON_INDENT(2));
                (void) putchar('\n');
        }
        json_decref(array);
        if (n == 0 && what) {
                (void) fprintf(stderr, "nfsvol status: %s: no NFS volume is mounted there, has that source or that id\n", what);
                code = EXIT_CODE_FAILED;
        }
        return code;
}

int cmd_status(int argc, char **argv) {
        static const struct option options[] = {
                { "json", no_argument, NULL, 'j' },
                { "verify", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' },
                { 0 },
        };
        _cleanup_(volume_list_done) VolumeList list = { 0 };
        bool json = false, verify = false;
        int c, r;

        optind = 0;
        while ((c = getopt_long(argc, argv, "jvh", options, NULL)) >= 0) {
                if (c == 'h') {
                        status_usage(stdout, argv[0]);
                        return EXIT_CODE_OK;
                }
                if (c != 'j' && c != 'v') {
                        status_usage(stderr, argv[0]);
                        return EXIT_CODE_USAGE;
                }
                json = json || c == 'j';
                verify = verify || c == 'v';
        }
        if (argc - optind > 1) {
                status_usage(stderr, argv[0]);
                return EXIT_CODE_USAGE;
        }
        r = volume_list_read(&list, true);
        if (r < 0) {
                (void) fprintf(stderr, "%s: cannot find the volumes: %s\n", argv[0], strerror(-r));
                return EXIT_CODE_SYSTEM;
        }
        return status_report(&list, argv[optind], json, verify);
}
