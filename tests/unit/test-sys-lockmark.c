/*
 * Notes of which servers may hold locks, over the lives of a machine.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/io.h"
#include "sys/lockmark.h"

#define ADDRESS "192.0.2.1"
#define FORMER  "00000000-0000-4000-8000-000000000000 "

static char dir[64], path[128];
static char freed[256]; /* names, each with a comma */
static int free_result;

static void setup(void) {
        (void) snprintf(dir, sizeof dir, "/tmp/nfsvol-test-lockmark.XXXXXX");
        cr_assert_not_null(mkdtemp(dir));
        (void) snprintf(path, sizeof path, "%s/locks/" ADDRESS, dir);
        cr_assert_eq(setenv("NFSVOL_STATEDIR", dir, 1), 0);
}

static void teardown(void) {
        char locks[128];

        (void) snprintf(locks, sizeof locks, "%s/locks", dir);
        (void) unlink(path);
        cr_expect(rmdir(locks) == 0 || errno == ENOENT, "something was left in %s", locks);
        cr_expect_eq(rmdir(dir), 0, "something was left in %s", dir);
}

TestSuite(lockmark, .init = setup, .fini = teardown);

static int freeing(void *userdata, const char *node) {
        (void) userdata;
        (void) strcat(strcat(freed, node), ",");
        return free_result;
}

static int enter(uint64_t volume, const char *node) {
        freed[0] = '\0';
        return lock_mark_enter(ADDRESS, volume, node, now_ns() + NSEC_PER_SEC, freeing, NULL);
}

static int leave(uint64_t volume) {
        return lock_mark_leave(ADDRESS, volume, now_ns() + NSEC_PER_SEC);
}

static const char *text(void) {
        static char buf[4096];
        ssize_t n = io_read_file(path, buf, sizeof buf);

        return n < 0 ? "" : buf;
}

static void write_text(const char *what) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        cr_assert_geq(fd, 0);
        cr_assert_eq(io_write_full(fd, what, strlen(what)), 0);
        (void) close(fd);
}

static size_t lines(void) {
        size_t n = 0;

        for (const char *p = text(); *p; p++)
                n += *p == '\n';
        return n;
}

Test(lockmark, one_life) {
        struct stat st;

        cr_assert_eq(enter(1, "node"), 0);
        cr_assert_eq(enter(2, "node"), 0);
        cr_assert_eq(enter(3, "renamed"), 0);
        cr_assert_str_empty(freed);
        cr_assert_eq(lines(), 3, "%s", text());
        cr_assert_not_null(strstr(text(), " 0000000000000003 renamed\n"));
        cr_assert_eq(leave(2), 0);
        cr_assert_eq(leave(2), 0);
        cr_assert_eq(lines(), 2, "%s", text());
        cr_assert_eq(leave(3), 0);
        cr_assert_eq(leave(1), 0);
        cr_assert_eq(stat(path, &st), -1);
}

Test(lockmark, former_lives) {
        cr_assert_eq(enter(9, "node"), 0);
        write_text(FORMER "0000000000000001 a\n" FORMER "0000000000000002 b\n11111111-0000-4000-8000-000000000000 3 a\n");
        cr_assert_eq(enter(4, "node"), 2);
        cr_assert_str_eq(freed, "a,b,");
        cr_assert_eq(lines(), 1, "%s", text());
        cr_assert_eq(enter(5, "node"), 0);
        cr_assert_eq(leave(4), 0);
        cr_assert_eq(leave(5), 0);
}

/* The one that died before had the same number: nobody confuses the two. */
Test(lockmark, another_boot_with_the_same_number) {
        cr_assert_eq(enter(9, "node"), 0);
        write_text(FORMER "0000000000000001 node\n");
        cr_assert_eq(leave(1), 0);
        cr_assert_eq(lines(), 1);
        cr_assert_eq(enter(1, "node"), 1);
        cr_assert_eq(leave(1), 0);
}

/* Who is noted in this boot may hold locks now. */
Test(lockmark, not_while_there_are_others) {
        char both[8192];

        cr_assert_eq(enter(1, "node"), 0);
        (void) snprintf(both, sizeof both, FORMER "0000000000000007 node\n%s", text());
        write_text(both);
        cr_assert_eq(enter(2, "node"), 0);
        cr_assert_str_empty(freed);
        cr_assert_eq(lines(), 3, "%s", text());
        cr_assert_eq(leave(1), 0);
        cr_assert_eq(leave(2), 0);
        cr_assert_eq(lines(), 1, "%s", text());
        cr_assert_eq(enter(3, "node"), 1);
        cr_assert_eq(leave(3), 0);
}

Test(lockmark, a_server_that_cannot_be_told) {
        cr_assert_eq(enter(9, "node"), 0);
        write_text(FORMER "0000000000000001 node\n");
        free_result = -ETIMEDOUT;
        cr_assert_eq(enter(2, "node"), 0);
        cr_assert_str_eq(freed, "node,");
        cr_assert_eq(lines(), 2, "it is told in another life");
        free_result = 0;
        cr_assert_eq(leave(2), 0);
        cr_assert_eq(enter(2, "node"), 1);
        cr_assert_eq(leave(2), 0);
}

Test(lockmark, nonsense_in_the_file) {
        static const char *const nonsense[] = {
                "x\n", "\n\n \n", FORMER "\n", FORMER "1\n", FORMER "1", "0 1 node\n", "\xff\xfe", FORMER "zz node",
        };
        char *large = malloc((300 << 10) + 1);

        cr_assert_eq(enter(9, "node"), 0);
        for (size_t i = 0; i < ELEMENTSOF(nonsense); i++) {
                write_text(nonsense[i]);
                cr_assert_eq(enter(1, "node"), strspn(nonsense[i], "\n") == strlen(nonsense[i]) ? 0 : 1, "%zu", i);
                cr_assert(!*freed || strcmp(freed, "node,") == 0, "%zu: %s", i, freed);
                cr_assert_eq(lines(), 1, "%zu: %s", i, text());
                cr_assert_eq(leave(1), 0);
        }
        memset(large, 'x', 300 << 10);
        large[300 << 10] = '\0';
        write_text(large);
        cr_assert_eq(enter(1, "node"), -EFBIG);
        free(large);
}

Test(lockmark, addresses_that_are_none) {
        static const char *const bad[] = { "", ".", "..", "../x", "a/b" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                cr_assert_eq(lock_mark_enter(bad[i], 1, "node", 0, freeing, NULL), -EINVAL, "%s", bad[i]);
}

/* Many at once: the former life is ended by one of them, and before any other has entered. */
Test(lockmark, at_once, .timeout = 60) {
        int status, n = 0;

        cr_assert_eq(enter(99, "node"), 0);
        write_text(FORMER "0000000000000001 node\n");
        for (uint64_t i = 0; i < 20; i++)
                if (fork() == 0)
                        _exit(lock_mark_enter(ADDRESS, i, "node", now_ns() + 20 * NSEC_PER_SEC, freeing, NULL) & 0xff);
        for (int i = 0; i < 20; i++) {
                cr_assert_gt(wait(&status), 0);
                cr_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1, "%x", (unsigned) status);
                n += WEXITSTATUS(status);
        }
        cr_assert_eq(n, 1);
        cr_assert_eq(lines(), 20, "%s", text());
        for (uint64_t i = 0; i < 20; i++)
                cr_assert_eq(leave(i), 0);
}
