/* Names: link(2), symlink(2), unlink(2), mkdir(2), rmdir(2), and what a name may be. */
#include <dirent.h>
#include <limits.h>

#include "cases.h"

/* ---- links ---- */

static void case_link(void) {
        file_text("a", "data");
        EQ(stat_of("a").st_nlink, 1);
        OK(link("a", "b"));
        EQ(stat_of("a").st_nlink, 2);
        EQ(stat_of("a").st_ino, stat_of("b").st_ino);
        OK(mkdir("d", 0755));
        OK(link("b", "d/c"));
        EQ(stat_of("a").st_nlink, 3);
        file_text("d/c", "changed");
        file_is("a", "changed");
        OK(unlink("a"));
        EQ(stat_of("b").st_nlink, 2);
        OK(unlink("b"));
        EQ(stat_of("d/c").st_nlink, 1);
        file_is("d/c", "changed");
}

static void case_link_errors(void) {
        file_text("a", "x");
        file_text("b", "y");
        OK(mkdir("d", 0755));
        FAILS(link("a", "b"), EEXIST);
        FAILS(link("a", "d"), EEXIST);
        FAILS(link("none", "c"), ENOENT);
        FAILS(link("a", "none/c"), ENOENT);
        FAILS(link("a", "b/c"), ENOTDIR);
        FAILS(link("d", "e"), EPERM);
        FAILS(link("a", "/dev/nfsvol-posix-link"), EXDEV);
        file_is("b", "y");
}

static void case_link_of_symlink(void) {
        file_text("a", "x");
        OK(symlink("a", "l"));
        OK(link("l", "m")); /* not followed */
        CHECK(S_ISLNK(lstat_of("m").st_mode));
        EQ(lstat_of("l").st_nlink, 2);
        OK(linkat(AT_FDCWD, "l", AT_FDCWD, "n", AT_SYMLINK_FOLLOW));
        CHECK(S_ISREG(lstat_of("n").st_mode));
        EQ(stat_of("a").st_nlink, 2);
}

static void case_link_of_open_file(void) {
        int fd = file_open("a", O_CREAT | O_RDWR);
        struct stat st;

        EQ(write(fd, "x", 1), 1);
        OK(link("a", "b"));
        OK(fstat(fd, &st));
        EQ(st.st_nlink, 2);
        EQ(write(fd, "y", 1), 1);
        file_is("b", "xy");
        OK(unlink("a"));
        OK(fstat(fd, &st));
        CHECK(st.st_nlink >= 1);
        OK(close(fd));
        file_is("b", "xy");
}

static void case_links_many(void) {
        char name[16];

        file_text("a", "x");
        for (int i = 0; i < 200; i++) {
                (void) snprintf(name, sizeof name, "l%d", i);
                OK(link("a", name));
        }
        EQ(stat_of("a").st_nlink, 201);
        for (int i = 0; i < 200; i++) {
                (void) snprintf(name, sizeof name, "l%d", i);
                EQ(stat_of(name).st_ino, stat_of("a").st_ino);
                OK(unlink(name));
        }
        EQ(stat_of("a").st_nlink, 1);
}

static void case_symlink(void) {
        char buf[64];

        OK(symlink("some/where", "l"));
        EQ(lstat_of("l").st_size, 10);
        EQ(readlink("l", buf, sizeof buf), 10);
        CHECK(memcmp(buf, "some/where", 10) == 0);
        EQ(readlink("l", buf, 4), 4);
        FAILS(readlink("l", buf, 0), EINVAL);
        FAILS(symlink("x", "l"), EEXIST);
        FAILS(stat("l", &(struct stat){ 0 }), ENOENT);
        file_text("a", "x");
        FAILS(readlink("a", buf, sizeof buf), EINVAL);
        FAILS(symlink("", "m"), ENOENT);
        FAILS(symlink("x", "none/m"), ENOENT);
        OK(unlink("l"));
        CHECK(!exists("l"));
}

static void case_symlink_targets_of_all_lengths(void) {
        static const int sizes[] = { 1, 255, 256, 1000, 1023, 1024, 4000, 4084, 4090, PATH_MAX - 1 };
        static char target[PATH_MAX + 1], buf[PATH_MAX + 1];

        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                int size = sizes[i];

                for (int k = 0; k < size; k++)
                        target[k] = (char) ('a' + k % 26);
                target[size] = '\0';
                if (symlink(target, "l") < 0)
                        FAIL("symlink to %d bytes: %s", size, strerror(errno));
                EQ(readlink("l", buf, sizeof buf), size);
                CHECK(memcmp(target, buf, (size_t) size) == 0);
                EQ(lstat_of("l").st_size, size);
                OK(unlink("l"));
        }
        memset(target, 'x', PATH_MAX);
        FAILS(symlink(target, "l"), ENAMETOOLONG);
}

static void case_symlink_to_directory(void) {
        OK(mkdir("d", 0755));
        OK(symlink("d", "l"));
        file_text("l/a", "x");
        file_is("d/a", "x");
        FAILS(rmdir("l"), ENOTDIR);
        FAILS(mkdir("l", 0755), EEXIST);
        CHECK(S_ISDIR(lstat_of("l/").st_mode));
        OK(unlink("l"));
        file_is("d/a", "x");
}

/* ---- unlink ---- */

static void case_unlink_errors(void) {
        OK(mkdir("d", 0755));
        file_text("a", "x");
        FAILS(unlink("d"), EISDIR);
        FAILS(unlink("none"), ENOENT);
        FAILS(unlink("a/b"), ENOTDIR);
        FAILS(unlink("a/"), ENOTDIR);
        OK(unlink("a"));
        FAILS(unlink("a"), ENOENT);
}

static void case_unlink_symlink_keeps_target(void) {
        file_text("a", "x");
        OK(symlink("a", "l"));
        OK(unlink("l"));
        file_is("a", "x");
}

static void case_unlink_and_create_again(void) {
        ino_t last = 0;
        int n_same = 0;

        for (int i = 0; i < 100; i++) {
                char text[16];

                (void) snprintf(text, sizeof text, "round %d", i);
                file_text("a", text);
                file_is("a", text);
                n_same += stat_of("a").st_ino == last;
                last = stat_of("a").st_ino;
                OK(unlink("a"));
                CHECK(!exists("a"));
        }
        (void) n_same; /* inode numbers may be used again; the contents must be the new ones all the same */
}

/* A name goes from one kind to another and back: what was known of the old one must not be believed. */
static void case_name_changes_its_kind(void) {
        for (int i = 0; i < 20; i++) {
                file_text("a", "x");
                CHECK(S_ISREG(lstat_of("a").st_mode));
                OK(unlink("a"));
                OK(mkdir("a", 0755));
                CHECK(S_ISDIR(lstat_of("a").st_mode));
                file_text("a/b", "y");
                OK(unlink("a/b"));
                OK(rmdir("a"));
                OK(symlink("nowhere", "a"));
                CHECK(S_ISLNK(lstat_of("a").st_mode));
                OK(unlink("a"));
                CHECK(!exists("a"));
        }
}

/* ---- directories ---- */

static void case_mkdir(void) {
        OK(mkdir("d", 0777));
        EQ(mode_of("d"), 0755);
        CHECK(S_ISDIR(stat_of("d").st_mode));
        (void) umask(0);
        OK(mkdir("e", 01777));
        EQ(mode_of("e"), 01777);
        OK(mkdir("f", 0));
        EQ(mode_of("f"), 0);
        FAILS(mkdir("d", 0755), EEXIST);
        file_text("a", "x");
        FAILS(mkdir("a", 0755), EEXIST);
        FAILS(mkdir("a/b", 0755), ENOTDIR);
        FAILS(mkdir("none/b", 0755), ENOENT);
        FAILS(mkdir(".", 0755), EEXIST);
        OK(mkdir("trailing/", 0755));
}

static void case_mkdir_nlink(void) {
        nlink_t before;

        OK(mkdir("d", 0755));
        before = stat_of("d").st_nlink;
        EQ(before, 2);
        OK(mkdir("d/e", 0755));
        OK(mkdir("d/f", 0755));
        EQ(stat_of("d").st_nlink, 4);
        OK(rmdir("d/e"));
        EQ(stat_of("d").st_nlink, 3);
        OK(rename("d/f", "f"));
        EQ(stat_of("d").st_nlink, 2);
}

static void case_rmdir_errors(void) {
        OK(mkdir("d", 0755));
        file_text("d/a", "x");
        FAILS(rmdir("d"), ENOTEMPTY);
        FAILS(rmdir("d/a"), ENOTDIR);
        FAILS(rmdir("none"), ENOENT);
        FAILS(rmdir("d/."), EINVAL);
        FAILS(rmdir("d/.."), ENOTEMPTY);
        OK(unlink("d/a"));
        OK(rmdir("d"));
        CHECK(!exists("d"));
        FAILS(rmdir("d"), ENOENT);
}

static void case_mkdir_deep(void) {
        int dir = OK(open(".", O_RDONLY | O_DIRECTORY)), at = dir;

        for (int i = 0; i < 100; i++) {
                int next;

                OK(mkdirat(at, "deeper", 0755));
                next = OK(openat(at, "deeper", O_RDONLY | O_DIRECTORY));
                if (at != dir)
                        OK(close(at));
                at = next;
        }
        OK(close(OK(openat(at, "file", O_CREAT | O_WRONLY, 0644))));
        OK(unlinkat(at, "file", 0));
        for (int i = 0; i < 100; i++) {
                OK(fchdir(at));
                OK(close(at));
                at = OK(open("..", O_RDONLY | O_DIRECTORY));
                OK(unlinkat(at, "deeper", AT_REMOVEDIR));
        }
        OK(fchdir(dir));
        CHECK(!exists("deeper"));
}

/* ---- what a name may be ---- */

static void use_name(const char *name) {
        bool found = false;
        struct dirent *e;
        char other[300];
        DIR *d;

        file_text(name, name);
        file_is(name, name);
        d = opendir(".");
        CHECK(d);
        while ((e = readdir(d)))
                found |= strcmp(e->d_name, name) == 0;
        OK(closedir(d));
        if (!found)
                FAIL("readdir does not give a name of %zu bytes", strlen(name));
        memcpy(other, name, strlen(name) + 1);
        other[strlen(other) - 1] ^= 2;
        OK(rename(name, other));
        CHECK(!exists(name));
        file_is(other, name);
        OK(link(other, name));
        OK(unlink(other));
        OK(unlink(name));
        OK(mkdir(name, 0755));
        OK(rmdir(name));
        OK(symlink(name, name));
        OK(unlink(name));
}

static void case_names_of_255_bytes(void) {
        char name[258];

        for (int size = 250; size <= 255; size++) {
                memset(name, 'n', (size_t) size);
                name[size] = '\0';
                use_name(name);
        }
}

static void case_names_too_long(void) {
        static char name[PATH_MAX + 10];
        struct stat st;

        memset(name, 'n', 256);
        file_text("a", "x");
        FAILS(open(name, O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
        FAILS(mkdir(name, 0755), ENAMETOOLONG);
        FAILS(symlink("x", name), ENAMETOOLONG);
        FAILS(link("a", name), ENAMETOOLONG);
        FAILS(rename("a", name), ENAMETOOLONG);
        FAILS(stat(name, &st), ENAMETOOLONG);
        FAILS(unlink(name), ENAMETOOLONG);
        for (int i = 0; i < PATH_MAX; i++)
                name[i] = i % 2 ? '/' : '.';
        FAILS(stat(name, &st), ENAMETOOLONG);
}

static void case_names_odd_bytes(void) {
        char name[4] = "xyz";

        for (int c = 1; c < 256; c++)
                if (c != '/') {
                        name[1] = (char) c;
                        use_name(name);
                }
        use_name("..a");
        use_name("...");
        use_name(" ");
        use_name("a b\nc\td");
        use_name("-rf");
        use_name("\\040");
        use_name("\xc3\xa9"
                 "e");
        use_name("\xff\xfe");
        use_name(".hidden");
        use_name("%s%n");
}

static void case_names_differ_in_case(void) {
        file_text("a", "small");
        file_text("A", "large");
        file_is("a", "small");
        file_is("A", "large");
}

/* Not found, then made, then found: a remembered absence must not outlive it. */
static void case_absence_is_not_remembered_too_long(void) {
        char name[16];

        for (int i = 0; i < 30; i++) {
                (void) snprintf(name, sizeof name, "n%d", i);
                CHECK(!exists(name));
                CHECK(!exists(name));
                switch (i % 5) {
                case 0:
                        file_text(name, "x");
                        break;
                case 1:
                        OK(mkdir(name, 0755));
                        break;
                case 2:
                        OK(symlink("x", name));
                        break;
                case 3:
                        OK(link("n0", name));
                        break;
                case 4:
                        file_text("tmp", "x");
                        OK(rename("tmp", name));
                        break;
                }
                CHECK(exists(name));
        }
}

const Case name_cases[] = {
        CASE(link),
        CASE(link_errors),
        CASE(link_of_symlink),
        CASE(link_of_open_file),
        CASE(links_many),
        CASE(symlink),
        CASE(symlink_targets_of_all_lengths),
        CASE(symlink_to_directory),
        CASE(unlink_errors),
        CASE(unlink_symlink_keeps_target),
        CASE(unlink_and_create_again),
        CASE(name_changes_its_kind),
        CASE(mkdir),
        CASE(mkdir_nlink),
        CASE(rmdir_errors),
        CASE(mkdir_deep),
        CASE(names_of_255_bytes),
        CASE(names_too_long),
        CASE(names_odd_bytes),
        CASE(names_differ_in_case),
        CASE(absence_is_not_remembered_too_long),
        { 0 },
};
