/*
 * Which volumes there are: the run directory, the mount table and, if asked to, the daemons put together.
 *
 * Nothing here touches a file system of ours, so it is truthful while servers hang. What a daemon does
 * not answer is reported as that; the counts come from the kernel in any case.
 */
#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "sys/rundir.h"

#define ANSWER_TIMEOUT (2 * NSEC_PER_SEC)

static bool is_volume_id(const char *name) {
        return strlen(name) == VOLUME_ID_SIZE - 1 && strspn(name, "0123456789abcdef") == VOLUME_ID_SIZE - 1;
}

static VolumeInfo *volume_list_add(VolumeList *list) {
        VolumeInfo *items = reallocarray(list->items, list->n + 1, sizeof *items);

        if (!items)
                return NULL;
        list->items = items;
        items[list->n] = (VolumeInfo){.state = "unknown"};
        return &items[list->n++];
}

static void volume_ask(VolumeInfo *info, bool ask) {
        const char *state;
        int fd, r;

        if (!ask) {
                r = control_connect(info->id, &fd);
                if (r == 0)
                        (void) fd_close(fd);
        } else
                r = control_status(info->id, now_ns() + ANSWER_TIMEOUT, &info->status);
        if (r == -ETIMEDOUT)
                info->state = "daemon does not answer";
        else if (r == -ECONNREFUSED || r == -ENOENT)
                info->state = "dead";
        else if (r == -EACCES)
                info->state = "unknown";
        else if (r < 0)
                info->state = "daemon answers nonsense";
        else {
                state = json_string_value(json_object_get(info->status, "state"));
                info->state = state ? state : "running";
        }
}

/* One directory of the run directory. */
static int volume_add_id(VolumeList *list, const char *id, bool ask) {
        VolumeInfo *info = volume_list_add(list);
        const MountEntry *entry = NULL;
        const char *source = "";
        char path[PATH_MAX];

        if (!info)
                return -ENOMEM;
        (void) snprintf(info->id, sizeof info->id, "%s", id);
        if (volume_mountpoint(id, path, sizeof path) == 0)
                entry = mount_table_find(&list->table, path);
        volume_ask(info, ask);
        if (entry) {
                info->dev = entry->dev;
                info->users = mount_table_count(&list->table, entry->dev, path);
                source = entry->source;
        } else if (info->status && json_string_value(json_object_get(info->status, "source")))
                source = json_string_value(json_object_get(info->status, "source"));
        info->source = strdup(source);
        return info->source ? 0 : -ENOMEM;
}

/* Mounts whose volume has gone without them. */
static int volume_add_orphans(VolumeList *list) {
        for (size_t i = 0; i < list->table.n_entries; i++) {
                const MountEntry *entry = &list->table.entries[i];
                bool known = false;
                VolumeInfo *info;

                for (size_t k = 0; k < list->n; k++)
                        known = known || list->items[k].dev == entry->dev;
                if (known)
                        continue;
                info = volume_list_add(list);
                if (!info)
                        return -ENOMEM;
                info->dev = entry->dev;
                info->users = mount_table_count(&list->table, entry->dev, NULL);
                info->state = "without a daemon here";
                info->source = strdup(entry->source);
                if (!info->source)
                        return -ENOMEM;
        }
        return 0;
}

static int volume_compare(const void *a, const void *b) {
        const VolumeInfo *x = a, *y = b;
        int r = strcmp(x->source, y->source);

        return r != 0 ? r : strcmp(x->id, y->id);
}

static int volume_list_fill(VolumeList *list, bool ask) {
        DIR *dir = opendir(rundir());
        struct dirent *entry;
        int r = 0;

        if (!dir && errno != ENOENT)
                return -errno;
        while (r == 0 && dir && (entry = readdir(dir)))
                if (is_volume_id(entry->d_name))
                        r = volume_add_id(list, entry->d_name, ask);
        if (dir)
                (void) closedir(dir);
        return r == 0 ? volume_add_orphans(list) : r;
}

int volume_list_read(VolumeList *ret, bool ask) {
        VolumeList list = {0};
        int r;

        r = mount_table_read(&list.table);
        if (r == 0)
                r = volume_list_fill(&list, ask);
        if (r < 0) {
                volume_list_done(&list);
                return r;
        }
        if (list.n > 1)
                qsort(list.items, list.n, sizeof *list.items, volume_compare);
        *ret = list;
        return 0;
}

void volume_list_done(VolumeList *list) {
        for (size_t i = 0; i < list->n; i++) {
                free(list->items[i].source);
                json_decref(list->items[i].status);
        }
        free(list->items);
        mount_table_done(&list->table);
        *list = (VolumeList){0};
}
