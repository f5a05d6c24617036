/*
 * Binds and the mount table, with real mounts in a mount namespace of each test's own.
 *
 * The volume is a FUSE mount without a server: the kernel makes binds of its root without asking anybody.
 * What needs answers is done with a tmpfs.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "sys/mounts.h"

static char base[64];

static const char *at(const char *leaf) {
        static char paths[8][256];
        static unsigned next;
        char *path = paths[next++ % ELEMENTSOF(paths)];

        (void) snprintf(path, sizeof paths[0], "%s/%s", base, leaf);
        return path;
}

/* A private namespace, a tmpfs to work in. It goes with the test's process. */
static void setup(void) {
        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
                cr_skip_test("needs root and mount namespaces");
        cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        (void) snprintf(base, sizeof base, "/tmp/nfsvol-test-mounts.XXXXXX");
        cr_assert_not_null(mkdtemp(base));
        cr_assert_eq(mount("none", base, "tmpfs", 0, NULL), 0);
        cr_assert_eq(mkdir(at("vol"), 0755), 0);
        cr_assert_eq(mkdir(at("a b"), 0755), 0);
        cr_assert_eq(mkdir(at("t"), 0755), 0);
        cr_assert_eq(mkdir(at("t2"), 0755), 0);
}

static void teardown(void) {
        (void) umount2(base, MNT_DETACH);
        (void) rmdir(base);
}

TestSuite(mounts, .init = setup, .fini = teardown);

/* A volume with two directories and links out of it. */
static void volume_make(void) {
        cr_assert_eq(mount("volume", at("vol"), "tmpfs", MS_NOEXEC, NULL), 0);
        cr_assert_eq(mkdir(at("vol/dir"), 0755), 0);
        cr_assert_eq(mkdir(at("vol/dir/sub"), 0755), 0);
        cr_assert_eq(symlink("dir/sub", at("vol/inside")), 0);
        cr_assert_eq(symlink("/tmp", at("vol/absolute")), 0);
        cr_assert_eq(symlink("../t", at("vol/outside")), 0);
        cr_assert_eq(close(open(at("vol/file"), O_CREAT | O_WRONLY, 0644)), 0);
}

Test(mounts, bind_and_flags) {
        const char *step = NULL;
        struct statvfs st;

        volume_make();
        cr_assert_eq(mount_bind(at("vol"), NULL, at("t"), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME,
                                MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR__ATIME, &step),
                     0, "%s", step);
        cr_assert_eq(statvfs(at("t"), &st), 0);
        cr_expect_eq(st.f_flag & (ST_RDONLY | ST_NOSUID | ST_NOATIME), ST_RDONLY | ST_NOSUID | ST_NOATIME);
        cr_expect_eq(st.f_flag & ST_NOEXEC, 0, "cleared, though the volume has it");
        cr_assert_eq(statvfs(at("vol"), &st), 0);
        cr_expect_eq(st.f_flag & (ST_RDONLY | ST_NOSUID), 0, "the volume itself is untouched");
        cr_assert_eq(access(at("t/dir/sub"), F_OK), 0);
        cr_assert_eq(mkdir(at("t/new"), 0755), -1);
        cr_assert_eq(errno, EROFS);

        cr_assert_eq(mount_change(at("t"), 0, MOUNT_ATTR_RDONLY), 0);
        cr_assert_eq(mkdir(at("t/new"), 0755), 0);
        cr_assert_eq(statvfs(at("t"), &st), 0);
        cr_expect(st.f_flag & ST_NOSUID, "what is not mentioned stays");
        cr_assert_eq(mount_change(at("t/new"), MOUNT_ATTR_RDONLY, 0), -EINVAL, "no mount point");
        cr_assert_eq(mount_change(at("t"), 0, 0), 0);
}

Test(mounts, subdir) {
        static const struct {
                const char *subdir;
                int expected;
        } cases[] = {
                { "", 0 },         { "dir", 0 },          { "dir/sub", 0 },       { "inside", 0 },
                { "no", -ENOENT }, { "file", -ENOTDIR },  { "dir/..", 0 },        { "..", -EXDEV },
                { "/", -EXDEV },   { "outside", -EXDEV }, { "absolute", -EXDEV }, { "dir/../../t", -EXDEV },
        };

        volume_make();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const char *step = NULL;
                int r = mount_bind(at("vol"), cases[i].subdir, at("t"), 0, 0, &step);

                cr_expect_eq(r, cases[i].expected, "%s: %d at %s", cases[i].subdir, r, step);
                if (r < 0)
                        cr_expect_str_eq(step, "open the subdirectory");
                cr_expect_eq(umount2(at("t"), 0), r < 0 ? -1 : 0, "%s", cases[i].subdir);
        }
}

Test(mounts, target) {
        const char *step = NULL;

        volume_make();
        cr_expect_eq(mount_bind(at("vol"), NULL, at("none"), 0, 0, &step), -ENOENT);
        cr_expect_str_eq(step, "open the target");
        cr_expect_eq(access(at("none"), F_OK), -1, "never created");
        cr_expect_eq(mount_bind(at("vol"), NULL, at("vol/file"), 0, 0, &step), -ENOTDIR);
        cr_expect_eq(mount_bind(at("none"), NULL, at("t"), 0, 0, &step), -ENOENT);
        cr_expect_str_eq(step, "open the volume");
}

/* A target that is removed between opening it and mounting: what a late helper meets. */
Test(mounts, target_removed) {
        int fd = open(at("t"), O_PATH | O_DIRECTORY), tree;

        volume_make();
        cr_assert_eq(rmdir(at("t")), 0);
        tree = open_tree(AT_FDCWD, at("vol"), OPEN_TREE_CLONE);
        cr_assert_geq(tree, 0);
        cr_expect_eq(move_mount(tree, "", fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), -1);
        cr_expect_eq(errno, ENOENT);
}

/* What one user mounts inside must not appear in the others' binds. */
Test(mounts, binds_are_not_peers) {
        const char *step;

        volume_make();
        cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0);
        cr_assert_eq(mount_bind(at("vol"), NULL, at("t"), 0, 0, &step), 0);
        cr_assert_eq(mount_bind(at("vol"), NULL, at("t2"), 0, 0, &step), 0);
        cr_assert_eq(mount("none", at("t/dir"), "tmpfs", 0, NULL), 0);
        cr_assert_eq(mkdir(at("t/dir/secret"), 0700), 0);
        cr_expect_eq(access(at("t2/dir/secret"), F_OK), -1);
        cr_expect_eq(access(at("vol/dir/secret"), F_OK), -1);
        cr_assert_eq(umount2(at("t/dir"), 0), 0);
        cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
}

/* Mounted, with nobody who answers. The descriptor keeps it alive. */
static int fuse_mount(const char *source, const char *target) {
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        char options[128];

        if (fd < 0)
                cr_skip_test("needs /dev/fuse");
        (void) snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", fd);
        cr_assert_eq(mount(source, target, "fuse.nfs", MS_NOSUID, options), 0, "%s", strerror(errno));
        return fd;
}

Test(mounts, table) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        const MountEntry *volume, *entry;
        size_t before;
        const char *step;
        int fd;

        cr_assert_eq(mount_table_read(&table), 0);
        before = table.n_entries;
        mount_table_done(&table);

        fd = fuse_mount("host:/ex port\\x", at("vol"));
        cr_assert_eq(mount_bind(at("vol"), NULL, at("a b"), MOUNT_ATTR_RDONLY, 0, &step), 0, "%s", step);
        cr_assert_eq(mount_bind(at("vol"), NULL, at("t"), 0, 0, &step), 0, "%s", step);
        cr_assert_eq(mount_bind(at("vol"), NULL, at("t"), 0, 0, &step), 0, "over itself");
        cr_assert_eq(mount("none", at("t2"), "tmpfs", 0, NULL), 0);

        cr_assert_eq(mount_table_read(&table), 0);
        cr_expect_eq(table.n_entries, before + 4);
        volume = mount_table_find(&table, at("vol"));
        cr_assert_not_null(volume);
        cr_expect_str_eq(volume->source, "host:/ex port\\x");
        cr_expect_str_eq(volume->fstype, "fuse.nfs");
        cr_expect_str_eq(volume->root, "/");
        entry = mount_table_find(&table, at("a b"));
        cr_assert_not_null(entry);
        cr_expect_eq(entry->dev, volume->dev);
        cr_expect(strncmp(entry->options, "ro,", 3) == 0, "%s", entry->options);
        cr_expect_not_null(mount_table_find(&table, at("t")));
        cr_expect_null(mount_table_find(&table, at("t2")), "another type");
        cr_expect_null(mount_table_find(&table, at("t/")), "not canonical");
        cr_expect_eq(mount_table_count(&table, volume->dev, NULL), 4);
        cr_expect_eq(mount_table_count(&table, volume->dev, at("vol")), 3);
        cr_expect_eq(mount_table_count(&table, volume->dev + 1, NULL), 0);
        mount_table_done(&table);

        /* Another file system on top: ours is not what is mounted there. */
        cr_assert_eq(mount("none", at("a b"), "tmpfs", 0, NULL), 0);
        cr_assert_eq(mount_table_read(&table), 0);
        cr_expect_null(mount_table_find(&table, at("a b")));
        cr_expect_eq(mount_table_count(&table, mount_table_find(&table, at("vol"))->dev, at("vol")), 3, "still counted");
        cr_assert_eq(umount2(at("a b"), 0), 0);
        cr_assert_eq(umount2(at("a b"), 0), 0);
        cr_assert_eq(umount2(at("t"), 0), 0);
        cr_assert_eq(umount2(at("t"), 0), 0);
        cr_assert_eq(umount2(at("vol"), 0), 0);
        (void) close(fd);
}
