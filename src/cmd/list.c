/*
 * `nfsvol list`: the volumes of this machine, one a line or as JSON.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

static void list_usage(FILE *out, const char *program) {
        (void) fprintf(out,
                       "Usage: %s [--json]\n"
                       "\n"
                       "Lists the NFS volumes of this machine: id, daemon, mounts, state, source.\n",
                       program);
}

/* Not json_pack("s", ...), which fails on what is not UTF-8, as a server's paths may be. */
static json_t *text_to_json(const char *text) {
        json_t *string = json_string(text);
        char *copy;

        if (string)
                return string;
        copy = strdup(text);
        for (char *p = copy; p && *p; p++)
                if ((unsigned char) *p >= 0x80)
                        *p = '?';
        string = json_string(copy ? copy : "");
        free(copy);
        return string;
}

static json_t *mounts_to_json(const VolumeList *list, const VolumeInfo *info) {
        json_t *array = json_array();

        for (size_t i = 0; i < list->table.n_entries; i++)
                if (volume_is_used_by(info, &list->table.entries[i]))
                        (void) json_array_append_new(array, text_to_json(list->table.entries[i].target));
        return array;
}

static int list_print_json(const VolumeList *list) {
        json_t *array = json_array();
        int r;

        for (size_t i = 0; i < list->n; i++) {
                const VolumeInfo *info = &list->items[i];
                json_t *object = json_object();
                json_t *pid = info->status ? json_object_get(info->status, "keeper_pid") : NULL;

                (void) json_object_set_new(object, "id", info->id[0] ? json_string(info->id) : json_null());
                (void) json_object_set_new(object, "source", text_to_json(info->source));
                (void) json_object_set_new(object, "state", json_string(info->state));
                (void) json_object_set_new(object, "users", json_integer((json_int_t) info->users));
                (void) json_object_set_new(object, "pid", pid ? json_incref(pid) : json_null());
                (void) json_object_set_new(object, "mounts", mounts_to_json(list, info));
                (void) json_array_append_new(array, object);
        }
        r = json_dumpf(array, stdout, JSON_INDENT(2));
        (void) putchar('\n');
        json_decref(array);
        return r == 0 ? EXIT_CODE_OK : EXIT_CODE_SYSTEM;
}

static int list_print(const VolumeList *list) {
        if (list->n == 0)
                return EXIT_CODE_OK;
        (void) printf("%-16s  %8s  %5s  %-22s  %s\n", "ID", "PID", "USERS", "STATE", "SOURCE");
        for (size_t i = 0; i < list->n; i++) {
                const VolumeInfo *info = &list->items[i];
                long long pid = json_integer_value(json_object_get(info->status, "keeper_pid"));
                char pid_text[24] = "-";

                if (pid > 0)
                        (void) snprintf(pid_text, sizeof pid_text, "%lld", pid);
                (void) printf("%-16s  %8s  %5zu  %-22s  %s\n", info->id[0] ? info->id : "-", pid_text, info->users, info->state,
                              info->source);
        }
        return EXIT_CODE_OK;
}

int cmd_list(int argc, char **argv) {
        static const struct option options[] = {
                { "json", no_argument, NULL, 'j' },
                { "help", no_argument, NULL, 'h' },
                { 0 },
        };
        _cleanup_(volume_list_done) VolumeList list = { 0 };
        bool json = false;
        int c, r;

        optind = 0;
        while ((c = getopt_long(argc, argv, "jh", options, NULL)) >= 0) {
                if (c == 'h') {
                        list_usage(stdout, argv[0]);
                        return EXIT_CODE_OK;
                }
                if (c != 'j') {
                        list_usage(stderr, argv[0]);
                        return EXIT_CODE_USAGE;
                }
                json = true;
        }
        if (optind < argc) {
                list_usage(stderr, argv[0]);
                return EXIT_CODE_USAGE;
        }
        r = volume_list_read(&list, true);
        if (r < 0) {
                (void) fprintf(stderr, "%s: cannot find the volumes: %s\n", argv[0], strerror(-r));
                return EXIT_CODE_SYSTEM;
        }
        return json ? list_print_json(&list) : list_print(&list);
}
