/*
 * Notes of which servers may hold locks, over the lives of a machine.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/io.h"
#include "sys/lockmark.h"

#define ADDRESS "192.0.2.1"
#define FORMER  "00000000-0000-4000-8000-000000000000 "

static char dir[64], state[128], list[128];
static LockMarks marks;

static void setup(void) {
        (void) snprintf(dir, sizeof dir, "/tmp/nfsvol-test-lockmark.XXXXXX");
        cr_assert_not_null(mkdtemp(dir));
        (void) snprintf(state, sizeof state, "%s/state/locks", dir);
        (void) snprintf(list, sizeof list, "%s/run/.nlm", dir);
        (void) snprintf(marks.state_path, sizeof marks.state_path, "%s/state", dir);
        (void) snprintf(marks.rundir_path, sizeof marks.rundir_path, "%s/run", dir);
        cr_assert_eq(setenv("NFSVOL_STATEDIR", marks.state_path, 1), 0);
        cr_assert_eq(setenv("NFSVOL_RUNDIR", marks.rundir_path, 1), 0);
}

static void teardown(void) {
        char path[128];

        (void) unlink(state);
        (void) snprintf(path, sizeof path, "%s/state", dir);
        cr_expect(rmdir(path) == 0 || errno == ENOENT || errno == ENOTDIR, "something was left in %s", path);
        (void) unlink(path);
        (void) unlink(list);
        (void) snprintf(path, sizeof path, "%s/run", dir);
        cr_expect(rmdir(path) == 0 || errno == ENOENT, "something was left in %s", path);
        cr_expect_eq(rmdir(dir), 0, "something was left in %s", dir);
}

TestSuite(lockmark, .init = setup, .fini = teardown);

static bool open_marks(void) {
        cr_assert_eq(lock_marks_open(&marks, now_ns() + NSEC_PER_SEC), 0);
        return marks.is_first;
}

/* Was it the first of its boot? Marks of former ones stay. */
static bool enter(uint64_t volume, const char *node) {
        bool is_first = open_marks();

        cr_assert_eq(lock_marks_add(&marks, volume, ADDRESS, 4045, "192.0.2.9", node), 0);
        cr_assert_eq(lock_marks_enter(&marks), 0);
        cr_assert_eq(lock_marks_save(&marks), 0);
        lock_marks_close(&marks);
        return is_first;
}

static void leave(uint64_t volume) {
        (void) open_marks();
        if (lock_marks_leave(&marks, volume))
                cr_assert_eq(lock_marks_save(&marks), 0);
        lock_marks_close(&marks);
}

static size_t n_former(void) {
        size_t n = 0;

        (void) open_marks();
        for (size_t i = 0; i < marks.n_marks; i++)
                n += lock_mark_is_former(&marks, &marks.marks[i]);
        lock_marks_close(&marks);
        return n;
}

static void write_state(const char *what, size_t len) {
        int fd = open(state, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        cr_assert_geq(fd, 0);
        cr_assert_eq(io_write_full(fd, what, len), 0);
        (void) close(fd);
}

/* Of a former boot, of the lock manager at port. */
static void add_former(unsigned port) {
        static char text[1 << 20];
        ssize_t n = io_read_file(state, text, sizeof text - 160);

        (void) sprintf(text + MAX(n, 0), FORMER "0000000000000001 " ADDRESS " %u 192.0.2.9 0 node\n", port);
        write_state(text, strlen(text));
}

/* As after a start of the machine: the run directory is empty. */
static void restart(void) {
        cr_assert_eq(unlink(list), 0);
}

static bool is_there(const char *path) {
        return access(path, F_OK) == 0;
}

Test(lockmark, one_boot) {
        cr_assert(enter(1, "node"));
        cr_assert_not(enter(2, "node"));
        cr_assert_not(enter(3, "renamed"));
        (void) open_marks();
        cr_assert_eq(marks.n_marks, 3);
        cr_assert_eq(marks.marks[2].volume, 3);
        cr_assert_eq(marks.marks[2].port, 4045);
        cr_assert_eq(marks.marks[2].tries, 0);
        cr_assert_str_eq(marks.marks[2].address, ADDRESS);
        cr_assert_str_eq(marks.marks[2].local, "192.0.2.9");
        cr_assert_str_eq(marks.marks[2].node, "renamed");
        cr_assert_not(lock_mark_is_former(&marks, &marks.marks[2]));
        lock_marks_close(&marks);
        leave(2);
        leave(2);
        leave(3);
        cr_assert(is_there(state));
        leave(1);
        cr_assert_not(is_there(state));
        cr_assert_not(enter(4, "node"), "once in a boot");
        leave(4);
        restart();
        cr_assert(enter(5, "node"));
        leave(5);
}

Test(lockmark, former_boots) {
        cr_assert(enter(9, "node"));
        leave(9);
        restart();
        add_former(1);
        add_former(2);
        add_former(1);
        cr_assert_eq(n_former(), 2, "each server once");
        cr_assert(open_marks());
        marks.marks[0].tries = 2;
        lock_marks_drop(&marks, 1);
        cr_assert_eq(lock_marks_add(&marks, 1, ADDRESS, 4045, "", "node"), 0);
        cr_assert_eq(lock_marks_enter(&marks), 0);
        cr_assert_eq(lock_marks_save(&marks), 0);
        lock_marks_close(&marks);
        cr_assert_not(open_marks());
        cr_assert_eq(marks.n_marks, 2);
        cr_assert_eq(marks.marks[0].tries, 2);
        lock_marks_close(&marks);
        leave(1);
        cr_assert_eq(n_former(), 1, "it has the same number, and is not the same");
}

/* That there may be locks is known also where nothing can be noted. */
Test(lockmark, a_state_that_cannot_be_written) {
        cr_assert(enter(9, "node"));
        leave(9);
        restart();
        add_former(1);
        cr_assert(open_marks());
        cr_assert_eq(lock_marks_enter(&marks), 0);
        marks.state_error = -EROFS;
        cr_assert_eq(lock_marks_save(&marks), -EROFS);
        lock_marks_close(&marks);
        cr_assert_not(enter(2, "node"));
        leave(2);
        cr_assert_eq(n_former(), 1);
}

Test(lockmark, a_state_that_cannot_be_read) {
        char path[128];

        (void) snprintf(path, sizeof path, "%s/state", dir);
        cr_assert_eq(close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
        cr_assert(open_marks());
        cr_assert_eq(marks.n_marks, 0);
        cr_assert_eq(lock_marks_enter(&marks), 0);
        cr_assert_eq(lock_marks_save(&marks), -ENOTDIR);
        lock_marks_close(&marks);
        cr_assert_not(open_marks());
        cr_assert_not(lock_marks_leave(&marks, 1));
        lock_marks_close(&marks);
}

/* Another run directory has volumes in this boot. */
Test(lockmark, two_run_directories) {
        cr_assert(enter(1, "node"));
        restart();
        add_former(1);
        cr_assert_not(enter(2, "node"));
        leave(2);
        leave(1);
}

Test(lockmark, nonsense_in_the_files) {
        static const char *const nonsense[] = {
                "x\n",
                "\n\n \n",
                FORMER,
                FORMER "\n",
                FORMER "1",
                FORMER "1 a 0 b 0 c\n",
                FORMER "1 a 70000 b 0 c\n",
                FORMER "1 a 1 b 0\n",
                FORMER "1 a 1 b c d\n",
                FORMER "1 a 1 b 0 %\xff\n",
                "0 1 a 1 b 0 c\n",
                "\xff\xfe\n",
                FORMER "1 a 1 b 0 no", /* the end is missing */
        };
        char *large = malloc(3 << 20);

        cr_assert(enter(9, "node"));
        leave(9);
        for (size_t i = 0; i < ELEMENTSOF(nonsense); i++) {
                restart();
                write_state(nonsense[i], strlen(nonsense[i]));
                cr_assert_eq(n_former(), 0, "%zu", i);
                cr_assert(enter(1, "node"), "%zu", i);
                leave(1);
        }
        write_state("\0\0\n", 3);
        cr_assert_eq(n_former(), 0);
        memset(large, 'x', 3 << 20);
        write_state(large, 3 << 20);
        free(large);
        (void) open_marks();
        cr_assert_eq(lock_marks_save(&marks), -EFBIG, "nobody knows what it was");
        lock_marks_close(&marks);
        cr_assert(is_there(state));
        cr_assert_eq(truncate(list, 5), 0);
        cr_assert(open_marks(), "nothing was entered in this boot");
        lock_marks_close(&marks);
}

Test(lockmark, names) {
        static const char *const names[] = { "", " ", "%", "a b", "a\nb", "\n", "\t", "\xc3\xa4", "a.b-c_d:e", "100%25" };
        char longest[LOCK_MARK_NODE];

        memset(longest, ' ', sizeof longest - 1);
        longest[sizeof longest - 1] = '\0';
        for (size_t i = 0; i <= ELEMENTSOF(names); i++) {
                const char *name = i < ELEMENTSOF(names) ? names[i] : longest;

                (void) enter(i + 1, name);
                (void) open_marks();
                cr_assert_eq(marks.n_marks, i + 1, "%zu", i);
                cr_assert_str_eq(marks.marks[i].node, name, "%zu", i);
                lock_marks_close(&marks);
        }
        for (size_t i = 0; i <= ELEMENTSOF(names); i++)
                leave(i + 1);
}

/* Servers come and go for years: those that could never be told do not pile up. */
Test(lockmark, many_former_boots) {
        cr_assert(enter(1, "node"));
        for (unsigned i = 1; i <= 300; i++)
                add_former(i);
        leave(1);
        cr_assert_eq(n_former(), 256);
        (void) open_marks();
        cr_assert_eq(marks.marks[0].port, 45, "the newest");
        cr_assert_eq(marks.marks[255].port, 300);
        lock_marks_close(&marks);
}

/* Many at once: one of them is the first. */
Test(lockmark, at_once, .timeout = 60) {
        int status, n = 0;

        for (uint64_t i = 0; i < 20; i++)
                if (fork() == 0) {
                        LockMarks own;
                        int r = lock_marks_open(&own, now_ns() + 20 * NSEC_PER_SEC);
                        bool is_first = own.is_first;

                        if (r < 0 || lock_marks_add(&own, i, ADDRESS, 1, "", "node") < 0 || lock_marks_enter(&own) < 0 ||
                            lock_marks_save(&own) < 0)
                                _exit(2);
                        lock_marks_close(&own);
                        _exit(is_first);
                }
        for (int i = 0; i < 20; i++) {
                cr_assert_gt(wait(&status), 0);
                cr_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1, "%x", (unsigned) status);
                n += WEXITSTATUS(status);
        }
        cr_assert_eq(n, 1);
        for (uint64_t i = 0; i < 20; i++)
                leave(i);
        cr_assert_not(is_there(state));
}
