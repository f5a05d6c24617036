/* rename(2) and renameat2(2). */
#include <linux/fs.h>

#include "cases.h"

static int rename_with(const char *from, const char *to, unsigned flags) {
        return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void case_rename_file(void) {
        ino_t ino;

        file_text("a", "data");
        ino = stat_of("a").st_ino;
        OK(rename("a", "b"));
        CHECK(!exists("a"));
        file_is("b", "data");
        EQ(stat_of("b").st_ino, ino);
        OK(rename("b", "b"));
        file_is("b", "data");
}

static void case_rename_over_file(void) {
        file_text("a", "new");
        file_text("b", "old");
        OK(rename("a", "b"));
        CHECK(!exists("a"));
        file_is("b", "new");
}

static void case_rename_over_open_file(void) {
        int old, moved;

        file_text("a", "new");
        file_text("b", "old");
        old = file_open("b", O_RDWR);
        moved = file_open("a", O_RDWR);
        OK(rename("a", "b"));
        fd_is(old, "old");
        fd_is(moved, "new");
        EQ(pwrite(old, "O", 1, 0), 1);
        EQ(pwrite(moved, "N", 1, 0), 1);
        fd_is(old, "Old");
        file_is("b", "New");
        OK(close(old));
        OK(close(moved));
        file_is("b", "New");
        CHECK(!exists("a"));
}

/* As editors and databases replace a file, while a reader opens it again and again. */
static void case_rename_over_is_atomic(void) {
        int done[2];
        pid_t pid;
        char c;

        file_text("a", "version");
        OK(pipe2(done, O_NONBLOCK));
        pid = child_start();
        if (pid == 0) {
                for (int i = 0; i < 300; i++) {
                        file_text("a.new", "version");
                        OK(rename("a.new", "a"));
                }
                EQ(write(done[1], "x", 1), 1);
                child_end();
        }
        while (read(done[0], &c, 1) < 0) {
                /* it may come too late: at the open, or, rarely, at the first read */
                int fd = open("a", O_RDONLY);
                char text[16] = "";

                if (fd < 0 && errno == ESTALE && on_nfs)
                        continue;
                CHECK(fd >= 0);
                if (pread(fd, text, sizeof text, 0) < 0 && errno == ESTALE && on_nfs) {
                        OK(close(fd));
                        continue;
                }
                CHECK(memcmp(text, "version", 7) == 0);
                OK(close(fd));
        }
        child_wait(pid);
}

static void case_rename_across_directories(void) {
        OK(mkdir("d", 0755));
        OK(mkdir("e", 0755));
        file_text("d/a", "data");
        OK(rename("d/a", "e/b"));
        CHECK(!exists("d/a"));
        file_is("e/b", "data");
        OK(rename("d", "e/d"));
        OK(rename("e/b", "e/d/b"));
        file_is("e/d/b", "data");
        OK(rename("e/d", "d"));
        file_is("d/b", "data");
}

static void case_rename_directory_with_contents(void) {
        int fd;

        OK(mkdir("d", 0755));
        OK(mkdir("d/sub", 0755));
        file_text("d/sub/a", "data");
        fd = file_open("d/sub/a", O_RDWR);
        OK(rename("d", "e"));
        FAILS(open("d/sub/a", O_RDONLY), ENOENT);
        file_is("e/sub/a", "data");
        EQ(pwrite(fd, "D", 1, 0), 1);
        file_is("e/sub/a", "Data");
        OK(close(fd));
}

static void case_rename_dotdot_follows(void) {
        OK(mkdir("d", 0755));
        OK(mkdir("e", 0755));
        OK(mkdir("d/sub", 0755));
        OK(chdir("d/sub"));
        EQ(stat_of("..").st_ino, stat_of("../../d").st_ino);
        OK(rename("../../d/sub", "../../e/sub"));
        EQ(stat_of("..").st_ino, stat_of("../../e").st_ino);
        EQ(stat_of("../sub").st_ino, stat_of(".").st_ino);
}

static void case_rename_errors(void) {
        file_text("a", "x");
        OK(mkdir("d", 0755));
        OK(mkdir("e", 0755));
        OK(mkdir("full", 0755));
        file_text("full/f", "y");
        FAILS(rename("none", "b"), ENOENT);
        FAILS(rename("none", "a"), ENOENT);
        FAILS(rename("a", "none/b"), ENOENT);
        FAILS(rename("a", "a/b"), ENOTDIR);
        FAILS(rename("a", "d"), EISDIR);
        FAILS(rename("d", "a"), ENOTDIR);
        FAILS(rename("d", "d/sub"), EINVAL);
        OK(mkdir("d/sub", 0755));
        FAILS(rename("d", "d/sub/d"), EINVAL);
        FAILS(rename("d/sub", "d"), ENOTEMPTY);
        OK(rmdir("d/sub"));
        FAILS(rename("d", "full"), ENOTEMPTY);
        FAILS(rename("a", "/proc/x"), EXDEV);
        FAILS(rename(".", "x"), EBUSY);
        FAILS(rename("d/..", "x"), EBUSY);
        FAILS(rename("a/", "b"), ENOTDIR);
        OK(rename("d", "e")); /* over an empty one */
        CHECK(!exists("d"));
        file_is("full/f", "y");
        file_is("a", "x");
}

static void case_rename_links_of_one_file(void) { /* does nothing, says POSIX */
        file_text("a", "x");
        OK(link("a", "b"));
        OK(rename("a", "b"));
        CHECK(exists("a"));
        CHECK(exists("b"));
        EQ(stat_of("a").st_nlink, 2);
}

static void case_rename_links_of_one_open_file(void) {
        int fd;

        file_text("a", "x");
        OK(link("a", "b"));
        fd = file_open("b", O_RDWR);
        OK(rename("a", "b"));
        EQ(stat_of("a").st_nlink, 2);
        EQ(stat_of("b").st_ino, stat_of("a").st_ino);
        fd_is(fd, "x");
        OK(close(fd));
        file_is("a", "x");
        file_is("b", "x");
}

static void case_rename_symlink(void) {
        file_text("a", "x");
        OK(symlink("a", "l"));
        OK(rename("l", "m"));
        CHECK(S_ISLNK(lstat_of("m").st_mode));
        file_is("m", "x");
        file_text("b", "y");
        OK(rename("b", "m"));
        CHECK(S_ISREG(lstat_of("m").st_mode));
        file_is("a", "x");
        file_is("m", "y");
}

static void case_rename_over_symlink_to_directory(void) {
        OK(mkdir("d", 0755));
        OK(symlink("d", "l"));
        file_text("a", "x");
        OK(rename("a", "l"));
        CHECK(S_ISREG(lstat_of("l").st_mode));
        OK(symlink("d", "m"));
        FAILS(rename("d", "m"), ENOTDIR);
}

static void case_rename_noreplace(void) {
        file_text("a", "x");
        file_text("b", "y");
        OK(mkdir("d", 0755));
        FAILS(rename_with("a", "b", RENAME_NOREPLACE), EEXIST);
        FAILS(rename_with("a", "d", RENAME_NOREPLACE), EEXIST);
        FAILS(rename_with("d", "b", RENAME_NOREPLACE), EEXIST);
        FAILS(rename_with("none", "c", RENAME_NOREPLACE), ENOENT);
        file_is("b", "y");
        OK(rename_with("a", "c", RENAME_NOREPLACE));
        file_is("c", "x");
        CHECK(!exists("a"));
}

static void case_rename_exchange(void) {
        file_text("a", "x");
        file_text("b", "y");
        if (on_nfs) {
                FAILS(rename_with("a", "b", RENAME_EXCHANGE), EINVAL);
                file_is("a", "x");
                file_is("b", "y");
                return;
        }
        OK(rename_with("a", "b", RENAME_EXCHANGE));
        file_is("a", "y");
        file_is("b", "x");
        FAILS(rename_with("a", "none", RENAME_EXCHANGE), ENOENT);
}

static void case_rename_bad_flags(void) {
        file_text("a", "x");
        FAILS(rename_with("a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
        FAILS(rename_with("a", "b", 1u << 20), EINVAL);
        file_is("a", "x");
        CHECK(!exists("b"));
}

static void case_rename_unlinked_name_is_free(void) {
        int fd;

        file_text("a", "x");
        file_text("b", "y");
        fd = file_open("b", O_RDONLY);
        OK(unlink("b"));
        OK(rename("a", "b"));
        file_is("b", "x");
        fd_is(fd, "y");
        OK(close(fd));
        file_is("b", "x");
}

/* A file in use is renamed twice and then removed: no name of it stays. */
static void case_rename_then_unlink_while_open(void) {
        int fd;

        OK(mkdir("d", 0755));
        fd = file_open("a", O_CREAT | O_RDWR);
        EQ(write(fd, "x", 1), 1);
        OK(rename("a", "b"));
        OK(rename("b", "d/c"));
        OK(unlink("d/c"));
        CHECK(!exists("d/c"));
        fd_is(fd, "x");
        EQ(write(fd, "y", 1), 1);
        fd_is(fd, "xy");
        OK(close(fd));
        for (int i = 0; rmdir("d") < 0; i++) {
                EQ(errno, ENOTEMPTY);
                CHECK(i < 500);
                OK(usleep(10000));
        }
}

static void case_rename_by_two_processes(void) { /* of the same name: one wins */
        for (int round = 0; round < 30; round++) {
                int turn = turn_new();
                pid_t pids[2];
                char to[16];

                file_text("a", "x");
                for (int i = 0; i < 2; i++) {
                        pids[i] = child_start();
                        if (pids[i] == 0) {
                                (void) snprintf(to, sizeof to, "b%d", i);
                                turn_take(turn);
                                if (rename("a", to) < 0)
                                        EQ(errno, ENOENT);
                                child_end();
                        }
                }
                turn_give(turn);
                turn_give(turn);
                child_wait(pids[0]);
                child_wait(pids[1]);
                EQ(exists("b0") + exists("b1"), 1);
                CHECK(!exists("a"));
                (void) unlink("b0");
                (void) unlink("b1");
                OK(close(turn));
        }
}

const Case rename_cases[] = {
        CASE(rename_file),
        CASE(rename_over_file),
        CASE(rename_over_open_file),
        CASE(rename_over_is_atomic),
        CASE(rename_across_directories),
        CASE(rename_directory_with_contents),
        CASE(rename_dotdot_follows),
        CASE(rename_errors),
        CASE(rename_links_of_one_file),
        CASE(rename_links_of_one_open_file),
        CASE(rename_symlink),
        CASE(rename_over_symlink_to_directory),
        CASE(rename_noreplace),
        CASE(rename_exchange),
        CASE(rename_bad_flags),
        CASE(rename_unlinked_name_is_free),
        CASE(rename_then_unlink_while_open),
        CASE(rename_by_two_processes),
        { 0 },
};
