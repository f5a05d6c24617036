/* Directories: readdir(3) and its positions, the current directory. */
#include <dirent.h>
#include <limits.h>

#include "cases.h"

static DIR *open_dir(const char *path) {
        DIR *d = opendir(path);

        if (!d)
                FAIL("opendir %s: %s", path, strerror(errno));
        return d;
}

static struct dirent *next(DIR *d) {
        struct dirent *e;

        errno = 0;
        e = readdir(d);
        if (!e && errno != 0)
                FAIL("readdir: %s", strerror(errno));
        return e;
}

static bool is_dot(const char *name) {
        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Reads to the end; every entry is f<number> below n, none twice, all of [from, to) there. */
static void check_numbered(DIR *d, int n, int from, int to) {
        char *seen = calloc((size_t) n, 1);
        struct dirent *e;

        CHECK(seen);
        while ((e = next(d))) {
                int i;

                if (is_dot(e->d_name) || e->d_name[0] != 'f')
                        continue;
                i = atoi(e->d_name + 1);
                CHECK(i >= 0 && i < n);
                if (seen[i]++)
                        FAIL("%s came twice", e->d_name);
        }
        for (int i = from; i < to; i++)
                if (!seen[i])
                        FAIL("f%d did not come", i);
        free(seen);
}

static void make_numbered(const char *dir, int from, int to) {
        char path[64];

        for (int i = from; i < to; i++) {
                (void) snprintf(path, sizeof path, "%s/f%d", dir, i);
                OK(close(OK(open(path, O_CREAT | O_EXCL | O_WRONLY, 0644))));
        }
}

static int count(const char *path) {
        DIR *d = open_dir(path);
        struct dirent *e;
        int n = 0, n_dots = 0;

        while ((e = next(d))) {
                n++;
                n_dots += is_dot(e->d_name);
        }
        EQ(n_dots, 2);
        OK(closedir(d));
        return n - 2;
}

static void case_readdir_empty(void) {
        OK(mkdir("d", 0755));
        EQ(count("d"), 0);
        EQ(count("d"), 0);
}

static void case_readdir_one(void) {
        struct dirent *e;
        DIR *d;

        OK(mkdir("d", 0755));
        file_text("d/only", "x");
        EQ(count("d"), 1);
        d = open_dir("d");
        while ((e = next(d))) {
                if (strcmp(e->d_name, "only") == 0) {
                        EQ(e->d_ino, stat_of("d/only").st_ino);
                        CHECK(e->d_type == DT_REG || e->d_type == DT_UNKNOWN);
                }
                if (strcmp(e->d_name, ".") == 0)
                        EQ(e->d_ino, stat_of("d").st_ino);
        }
        OK(closedir(d));
}

static void case_readdir_thousand(void) {
        DIR *d;

        OK(mkdir("d", 0755));
        make_numbered("d", 0, 1000);
        EQ(count("d"), 1000);
        d = open_dir("d");
        check_numbered(d, 1000, 0, 1000);
        rewinddir(d);
        check_numbered(d, 1000, 0, 1000);
        OK(closedir(d));
}

static void case_readdir_types_and_inodes(void) {
        struct dirent *e;
        struct stat st;
        DIR *d;

        OK(mkdir("d", 0755));
        file_text("d/reg", "x");
        OK(mkdir("d/dir", 0755));
        OK(symlink("x", "d/lnk"));
        OK(mkfifo("d/fifo", 0644));
        d = open_dir("d");
        while ((e = next(d))) {
                if (is_dot(e->d_name))
                        continue;
                OK(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
                EQ(e->d_ino, st.st_ino);
                if (e->d_type != DT_UNKNOWN)
                        EQ(DTTOIF(e->d_type), st.st_mode & S_IFMT);
        }
        OK(closedir(d));
}

static void case_readdir_stat_each(void) { /* as ls -l: the attributes that come with the names are right */
        struct dirent *e;
        struct stat st;
        char path[64];
        DIR *d;

        OK(mkdir("d", 0755));
        for (int i = 0; i < 300; i++) {
                (void) snprintf(path, sizeof path, "d/f%d", i);
                file_make(path, "0123456789", (size_t) (i % 10));
                OK(chmod(path, 0600 + (mode_t) (i % 8)));
        }
        for (int round = 0; round < 3; round++) {
                d = open_dir("d");
                while ((e = next(d))) {
                        int i = atoi(e->d_name + 1);

                        if (is_dot(e->d_name))
                                continue;
                        OK(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
                        EQ(st.st_size, i % 10 + (i == 7 ? round : 0));
                        EQ(st.st_mode & 07777, 0600 + i % 8);
                        EQ(e->d_ino, st.st_ino);
                }
                OK(closedir(d));
                OK(truncate("d/f7", 8 + round));
        }
}

static void case_telldir_seekdir(void) {
        enum { N = 500 };
        static long places[N + 2];
        static char names[N + 2][32];
        struct dirent *e;
        int n = 0;
        DIR *d;

        OK(mkdir("d", 0755));
        make_numbered("d", 0, N);
        d = open_dir("d");
        for (;;) {
                long place = telldir(d);

                e = next(d);
                if (!e)
                        break;
                CHECK(n < N + 2);
                places[n] = place;
                (void) snprintf(names[n++], sizeof names[0], "%.31s", e->d_name);
        }
        EQ(n, N + 2);
        for (int i = n - 1; i >= 0; i -= 7) {
                seekdir(d, places[i]);
                e = next(d);
                CHECK(e && strcmp(e->d_name, names[i]) == 0);
                if (i + 1 < n) {
                        e = next(d);
                        CHECK(e && strcmp(e->d_name, names[i + 1]) == 0);
                }
        }
        OK(closedir(d));
}

static void case_rewinddir_sees_changes(void) {
        DIR *d;

        OK(mkdir("d", 0755));
        make_numbered("d", 0, 10);
        d = open_dir("d");
        check_numbered(d, 10, 0, 10);
        make_numbered("d", 10, 20);
        OK(unlink("d/f0"));
        rewinddir(d);
        check_numbered(d, 20, 1, 20);
        OK(closedir(d));
        EQ(count("d"), 19);
}

static void case_readdir_sees_each_change(void) {
        char path[32];

        OK(mkdir("d", 0755));
        for (int i = 0; i < 100; i++) {
                (void) snprintf(path, sizeof path, "d/f%d", i);
                if (i % 3 == 0)
                        OK(mkdir(path, 0755));
                else
                        file_text(path, "x");
                EQ(count("d"), i + 1);
        }
        for (int i = 0; i < 100; i++) {
                (void) snprintf(path, sizeof path, "d/f%d", i);
                OK(i % 3 == 0 ? rmdir(path) : unlink(path));
                EQ(count("d"), 99 - i);
        }
}

/* Entries that nobody touches come once, however much is made and removed around them. */
static void case_readdir_while_changing(void) {
        enum { N = 1000 };
        struct dirent *e;
        char path[32];
        int n = 0;
        DIR *d;

        OK(mkdir("d", 0755));
        make_numbered("d", 0, N);
        d = open_dir("d");
        {
                char *seen = calloc(N, 1);

                CHECK(seen);
                while ((e = next(d))) {
                        if (e->d_name[0] == 'f') {
                                int i = atoi(e->d_name + 1);

                                if (seen[i]++)
                                        FAIL("%s came twice", e->d_name);
                        }
                        (void) snprintf(path, sizeof path, "d/x%d", n++);
                        file_text(path, "x");
                        if (n % 3 == 0)
                                OK(unlink(path));
                        CHECK(n < 100 * N);
                }
                for (int i = 0; i < N; i++)
                        if (!seen[i])
                                FAIL("f%d did not come", i);
                free(seen);
        }
        OK(closedir(d));
}

/* rm -r: each entry is removed as soon as it has been read. */
static void case_readdir_removing_all(void) {
        enum { N = 1000 };
        struct dirent *e;
        int n = 0;
        DIR *d;

        OK(mkdir("d", 0755));
        make_numbered("d", 0, N);
        d = open_dir("d");
        while ((e = next(d)))
                if (!is_dot(e->d_name)) {
                        OK(unlinkat(dirfd(d), e->d_name, 0));
                        n++;
                }
        EQ(n, N);
        OK(closedir(d));
        EQ(count("d"), 0);
        OK(rmdir("d"));
}

static void case_readdir_of_removed(void) {
        struct dirent *e;
        DIR *d;

        OK(mkdir("d", 0755));
        d = open_dir("d");
        OK(rmdir("d"));
        errno = 0;
        while ((e = readdir(d)))
                CHECK(is_dot(e->d_name));
        CHECK(errno == 0 || errno == ENOENT || errno == ESTALE);
        OK(closedir(d));
}

static void case_readdir_errors(void) {
        file_text("a", "x");
        CHECK(!opendir("a"));
        EQ(errno, ENOTDIR);
        CHECK(!opendir("none"));
        EQ(errno, ENOENT);
}

static void case_readdir_two_readers(void) {
        DIR *a, *b;

        OK(mkdir("d", 0755));
        make_numbered("d", 0, 300);
        a = open_dir("d");
        b = open_dir("d");
        for (int i = 0; i < 100; i++)
                CHECK(next(a));
        check_numbered(b, 300, 0, 300);
        for (int i = 0; i < 202; i++)
                CHECK(next(a));
        CHECK(!next(a));
        OK(closedir(a));
        OK(closedir(b));
}

static void case_readdir_long_names(void) {
        char path[300];

        OK(mkdir("d", 0755));
        for (int i = 0; i < 200; i++) {
                (void) snprintf(path, sizeof path, "d/%0*d", 20 + i % 236, i);
                file_text(path, "");
        }
        EQ(count("d"), 200);
}

/* ---- the current directory ---- */

static void case_getcwd(void) {
        char before[PATH_MAX], after[PATH_MAX];

        CHECK(getcwd(before, sizeof before));
        OK(mkdir("d", 0755));
        OK(chdir("d"));
        CHECK(getcwd(after, sizeof after));
        EQ(strncmp(before, after, strlen(before)), 0);
        CHECK(strcmp(after + strlen(before), "/d") == 0);
        OK(rename("../d", "../e"));
        CHECK(getcwd(after, sizeof after));
        CHECK(strcmp(after + strlen(before), "/e") == 0);
        OK(chdir(".."));
        CHECK(getcwd(after, sizeof after));
        CHECK(strcmp(before, after) == 0);
        FAILS(chdir("none"), ENOENT);
        file_text("a", "x");
        FAILS(chdir("a"), ENOTDIR);
}

static void case_cwd_removed(void) {
        char buf[PATH_MAX];
        int up = OK(open(".", O_RDONLY | O_DIRECTORY));

        OK(mkdir("d", 0755));
        OK(chdir("d"));
        OK(rmdir("../d"));
        CHECK(!getcwd(buf, sizeof buf));
        EQ(errno, ENOENT);
        CHECK(open("new", O_CREAT | O_WRONLY, 0644) < 0);
        CHECK(errno == ENOENT || errno == ESTALE);
        CHECK(mkdir("new", 0755) < 0);
        CHECK(errno == ENOENT || errno == ESTALE);
        OK(fchdir(up));
        CHECK(!exists("d"));
}

static void case_fchdir_of_renamed(void) {
        int d;

        OK(mkdir("d", 0755));
        file_text("d/a", "x");
        d = OK(open("d", O_RDONLY | O_DIRECTORY));
        OK(rename("d", "e"));
        OK(fchdir(d));
        file_is("a", "x");
        file_is("../e/a", "x");
}

const Case dir_cases[] = {
        CASE(readdir_empty),
        CASE(readdir_one),
        CASE(readdir_thousand),
        CASE(readdir_types_and_inodes),
        CASE(readdir_stat_each),
        CASE(telldir_seekdir),
        CASE(rewinddir_sees_changes),
        CASE(readdir_sees_each_change),
        CASE(readdir_while_changing),
        CASE(readdir_removing_all),
        CASE(readdir_of_removed),
        CASE(readdir_errors),
        CASE(readdir_two_readers),
        CASE(readdir_long_names),
        CASE(getcwd),
        CASE(cwd_removed),
        CASE(fchdir_of_renamed),
        { 0 },
};
