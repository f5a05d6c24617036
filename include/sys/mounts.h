/*
 * Mounting, binding, unmounting, and the kernel's mount table (libmount).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/util.h"

/*
 * Binds dir/subdir (subdir NULL or "": dir itself) on target with MOUNT_ATTR_* flags, by open_tree,
 * mount_setattr, move_mount. subdir is resolved beneath dir without following symlinks out of it.
 * target is never created. 0 or negative errno; *ret_step names the call that failed.
 */
int mount_bind(const char *dir, const char *subdir, const char *target, uint64_t attr_set, uint64_t attr_clr,
               const char **ret_step);

/* Changes the flags of the mount at target (remount). 0 or negative errno. */
int mount_change(const char *target, uint64_t attr_set, uint64_t attr_clr);

/* One line of /proc/self/mountinfo that is ours. Strings owned. */
typedef struct MountEntry {
        dev_t dev;
        char *target, *source, *root, *fstype, *options;
        bool covered; /* another mount stands on the same target, above this one */
} MountEntry;

typedef struct MountTable {
        MountEntry *entries;
        size_t n_entries;
} MountTable;

/* Every mount of type "fuse.nfs", in the table's order. 0 or negative errno. */
int mount_table_read(MountTable *ret);
void mount_table_done(MountTable *table);

/*
 * The entry that is topmost at target, or NULL (there is none, or another file system covers it). target: absolute, canonical.
 * Never touches the file system.
 */
const MountEntry *mount_table_find(const MountTable *table, const char *target);

/* How many mounts of the file system dev there are, but for the one at except (may be NULL). */
size_t mount_table_count(const MountTable *table, dev_t dev, const char *except);
