/*
 * The kernel's mount table, as far as it is ours. libmount knows the escapes.
 *
 * Only /proc/self/mountinfo is read, so this is safe to ask while any server hangs.
 */
#include <libmount.h>
#include <string.h>

#include "sys/mounts.h"

static void table_freep(struct libmnt_table **table) {
        mnt_unref_table(*table);
}

static void iter_freep(struct libmnt_iter **iter) {
        mnt_free_iter(*iter);
}

static void entry_done(MountEntry *entry) {
        free(entry->target);
        free(entry->source);
        free(entry->root);
        free(entry->fstype);
        free(entry->options);
}

static int copy_string(const char *text, char **ret) {
        *ret = strdup(text ? text : "");
        return *ret ? 0 : -ENOMEM;
}

static int entry_init(MountEntry *entry, struct libmnt_fs *fs) {
        *entry = (MountEntry){ .dev = mnt_fs_get_devno(fs) };
        if (copy_string(mnt_fs_get_target(fs), &entry->target) < 0 || copy_string(mnt_fs_get_source(fs), &entry->source) < 0 ||
            copy_string(mnt_fs_get_root(fs), &entry->root) < 0 || copy_string(mnt_fs_get_fstype(fs), &entry->fstype) < 0 ||
            copy_string(mnt_fs_get_options(fs), &entry->options) < 0) {
                entry_done(entry);
                return -ENOMEM;
        }
        return 0;
}

/* Whether another mount stands on the same spot. The root file system is its own parent's place. */
static bool fs_is_covered(struct libmnt_table *table, struct libmnt_fs *fs) {
        _cleanup_(iter_freep) struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
        struct libmnt_fs *other;

        while (iter && mnt_table_next_fs(table, iter, &other) == 0)
                if (other != fs && mnt_fs_get_parent_id(other) == mnt_fs_get_id(fs) &&
                    strcmp(mnt_fs_get_target(other), mnt_fs_get_target(fs)) == 0)
                        return true;
        return false;
}

int mount_table_read(MountTable *ret) {
        _cleanup_(table_freep) struct libmnt_table *table = mnt_new_table_from_file("/proc/self/mountinfo");
        _cleanup_(iter_freep) struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
        _cleanup_(mount_table_done) MountTable ours = { 0 };
        struct libmnt_fs *fs;
        int n, r;

        if (!table)
                return errno > 0 ? -errno : -EIO;
        if (!iter)
                return -ENOMEM;
        n = mnt_table_get_nents(table);
        ours.entries = calloc((size_t) n + 1, sizeof *ours.entries);
        if (!ours.entries)
                return -ENOMEM;
        while (mnt_table_next_fs(table, iter, &fs) == 0) {
                const char *type = mnt_fs_get_fstype(fs);

                if (!type || strcmp(type, "fuse.nfs") != 0 || !mnt_fs_get_target(fs))
                        continue;
                r = entry_init(&ours.entries[ours.n_entries], fs);
                if (r < 0)
                        return r;
                ours.entries[ours.n_entries++].covered = fs_is_covered(table, fs);
        }
        *ret = ours;
        ours = (MountTable){ 0 };
        return 0;
}

void mount_table_done(MountTable *table) {
        for (size_t i = 0; i < table->n_entries; i++)
                entry_done(&table->entries[i]);
        free(table->entries);
        *table = (MountTable){ 0 };
}

const MountEntry *mount_table_find(const MountTable *table, const char *target) {
        for (size_t i = table->n_entries; i-- > 0;)
                if (!table->entries[i].covered && strcmp(table->entries[i].target, target) == 0)
                        return &table->entries[i];
        return NULL;
}

size_t mount_table_count(const MountTable *table, dev_t dev, const char *except) {
        size_t n = 0;

        for (size_t i = 0; i < table->n_entries; i++)
                if (table->entries[i].dev == dev && (!except || strcmp(table->entries[i].target, except) != 0))
                        n++;
        return n;
}
