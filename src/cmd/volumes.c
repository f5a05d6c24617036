/*
 * Which volumes there are: the run directory, the mount table and, if asked to, the daemons put together.
 *
 * Nothing here touches a file system of ours that has a daemon, so it is truthful while servers hang. What a daemon does
 * not answer is reported as that; the counts come from the kernel in any case.
 */
#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>

#include "cmd.h"
#include "sys/rundir.h"

#define ANSWER_TIMEOUT (2 * NSEC_PER_SEC)

bool is_volume_id(const char *name) {
        return strlen(name) == VOLUME_ID_SIZE - 1 && strspn(name, "0123456789abcdef") == VOLUME_ID_SIZE - 1;
}

static VolumeInfo *volume_list_add(VolumeList *list) {
        VolumeInfo *items = reallocarray(list->items, list->n + 1, sizeof *items);

        if (!items)
                return NULL;
        list->items = items;
        items[list->n] = (VolumeInfo){ .state = "unknown" };
        return &items[list->n++];
}

/* Nobody listens: is there at least a worker? */
static void volume_autopsy(const MountTable *table, VolumeInfo *info) {
        enum MountLife life = info->dev != 0 ? volume_life(table, info->dev) : MOUNT_ENDED;

        info->state = life == MOUNT_ALIVE ? "unattended" : "dead";
        switch (life) {
        case MOUNT_ALIVE:
                info->problem = "its keeper and the standby have been killed, nobody will start another worker: unmount it "
                                "(umount -l) and mount it again when that is convenient";
                break;
        case MOUNT_ENDED:
                info->problem = "its processes have been killed, all at once: unmount it (umount -l) wherever it is mounted, "
                                "and mount it again";
                break;
        case MOUNT_SILENT:
                info->problem =
                        "its processes have been killed, all at once, and one is stuck in the kernel: whoever asks for its "
                        "files waits until it is unmounted (nfsvol umount) or mounted again";
                break;
        case MOUNT_UNKNOWN:
                break;
        }
}

static void volume_ask(const MountTable *table, VolumeInfo *info, bool ask) {
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
                volume_autopsy(table, info);
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
        info->dev = entry ? entry->dev : 0;
        volume_ask(&list->table, info, ask);
        if (entry) {
                info->users = mount_table_count(&list->table, entry->dev, path);
                source = entry->source;
        } else if (info->status && json_string_value(json_object_get(info->status, "source")))
                source = json_string_value(json_object_get(info->status, "source"));
        info->source = strdup(source);
        return info->source ? 0 : -ENOMEM;
}

bool volume_is_used_by(const VolumeInfo *info, const MountEntry *entry) {
        char path[PATH_MAX];

        if (info->dev == 0 || entry->dev != info->dev)
                return false;
        return !info->id[0] || volume_mountpoint(info->id, path, sizeof path) < 0 || strcmp(entry->target, path) != 0;
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
        VolumeList list = { 0 };
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
        *list = (VolumeList){ 0 };
}

/* dev of what is mounted on a directory; 0: nothing of ours. */
static dev_t dev_of_target(const VolumeList *list, const char *path) {
        _cleanup_(freep) char *canonical = NULL, *real = NULL;
        const MountEntry *entry;

        if (path_canonical_parent(path, &canonical) < 0)
                return 0;
        entry = mount_table_find(&list->table, canonical);
        if (entry)
                return entry->dev;
        /* Not a mount point of ours, so it may be touched: perhaps a symbolic link to one. */
        real = realpath(path, NULL);
        entry = real ? mount_table_find(&list->table, real) : NULL;
        return entry ? entry->dev : 0;
}

void volume_name_init(VolumeName *name, const VolumeList *list, const char *text) {
        _cleanup_(freep) char *message = NULL;

        *name = (VolumeName){ .text = text, .dev = text ? dev_of_target(list, text) : 0 };
        if (text)
                (void) source_parse(text, &name->source, &message);
}

void volume_name_done(VolumeName *name) {
        source_done(&name->source);
}

bool volume_matches(const VolumeInfo *info, const VolumeName *name) {
        if (!name->text)
                return true;
        if (name->dev != 0)
                return info->dev == name->dev;
        return strcmp(info->id, name->text) == 0 || (name->source.text && strcmp(info->source, name->source.text) == 0);
}
