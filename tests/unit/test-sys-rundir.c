/*
 * The run directory and the volumes' locks, with many processes that come and go.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "sys/rundir.h"

#define ID "0123456789abcdef"

static char dir[64];

static void setup(void) {
        (void) snprintf(dir, sizeof dir, "/tmp/nfsvol-test-rundir.XXXXXX");
        cr_assert_not_null(mkdtemp(dir));
        cr_assert_eq(rmdir(dir), 0);
        cr_assert_eq(setenv("NFSVOL_RUNDIR", dir, 1), 0);
}

static void teardown(void) {
        char path[128];

        (void) snprintf(path, sizeof path, "%s/" ID ".lock", dir);
        (void) unlink(path);
        cr_expect_eq(rmdir(dir), 0, "something was left in %s", dir);
}

TestSuite(rundir, .init = setup, .fini = teardown);

Test(rundir, make) {
        struct stat st;

        cr_assert_str_eq(rundir(), dir);
        cr_assert_eq(rundir_make(), 0);
        cr_assert_eq(rundir_make(), 0);
        cr_assert_eq(stat(dir, &st), 0);
        cr_assert_eq(st.st_mode & 07777, 0755);
        cr_assert_eq(chmod(dir, 0777), 0);
        cr_assert_eq(rundir_make(), -EPERM);
        cr_assert_eq(chmod(dir, 0755), 0);
        if (geteuid() == 0) {
                cr_assert_eq(chown(dir, 12345, 0), 0);
                cr_assert_eq(rundir_make(), -EPERM);
        }
        cr_assert_eq(rmdir(dir), 0);
        cr_assert_eq(symlink("/tmp", dir), 0);
        cr_assert_eq(rundir_make(), -ENOTDIR);
        cr_assert_eq(unlink(dir), 0);
        cr_assert_eq(rundir_make(), 0);
}

Test(rundir, path) {
        char buf[128], small[8];

        cr_assert_eq(rundir_path(ID, NULL, buf, sizeof buf), 0);
        cr_assert_str_eq(buf + strlen(dir), "/" ID);
        cr_assert_eq(rundir_path(ID, "mnt", buf, sizeof buf), 0);
        cr_assert_str_eq(buf + strlen(dir), "/" ID "/mnt");
        cr_assert_eq(rundir_path(ID, "mnt", small, sizeof small), -ENAMETOOLONG);
        cr_assert_eq(rundir_make(), 0);
}

Test(rundir, lock) {
        int a = -1, b = -1;
        uint64_t start;

        cr_assert_eq(volume_lock(ID, 0, &a), -ENOENT);
        cr_assert_eq(rundir_make(), 0);
        cr_assert_eq(volume_lock(ID, 0, &a), 0);
        cr_assert_eq(fcntl(a, F_GETFD), FD_CLOEXEC);
        cr_assert_eq(volume_lock(ID, 0, &b), -EAGAIN);
        start = now_ns();
        cr_assert_eq(volume_lock(ID, start + 50 * NSEC_PER_MSEC, &b), -ETIMEDOUT);
        cr_assert(now_ns() - start >= 50 * NSEC_PER_MSEC);
        cr_assert_eq(b, -1, "touched on failure");
        volume_unlock(ID, a, false);
        cr_assert_eq(volume_lock(ID, 0, &b), 0);
        volume_unlock(ID, b, true);
        volume_unlock(ID, -1, true);
        cr_assert_eq(volume_lock(ID, 0, &b), 0);
        volume_unlock(ID, b, true);
}

typedef struct Shared {
        int inside, overlaps, entered, failed;
} Shared;

/* Enters and leaves, removing the file now and then; some die inside. */
static void race_child(Shared *shared, unsigned seed) {
        for (int i = 0; i < 40; i++) {
                int fd, r;

                r = volume_lock(ID, now_ns() + 60 * NSEC_PER_SEC, &fd);
                if (r < 0) {
                        __atomic_add_fetch(&shared->failed, 1, __ATOMIC_SEQ_CST);
                        _exit(1);
                }
                if (__atomic_add_fetch(&shared->inside, 1, __ATOMIC_SEQ_CST) != 1)
                        __atomic_add_fetch(&shared->overlaps, 1, __ATOMIC_SEQ_CST);
                __atomic_add_fetch(&shared->entered, 1, __ATOMIC_SEQ_CST);
                if (rand_r(&seed) % 4 == 0)
                        (void) usleep((unsigned) rand_r(&seed) % 300);
                __atomic_sub_fetch(&shared->inside, 1, __ATOMIC_SEQ_CST);
                if (i == 39 && seed % 2)
                        _exit(0); /* without letting go */
                volume_unlock(ID, fd, rand_r(&seed) % 2 == 0);
        }
        _exit(0);
}

Test(rundir, lock_race, .timeout = 120) {
        enum { N = 50 };
        Shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t pids[N];

        cr_assert_neq(shared, MAP_FAILED);
        cr_assert_eq(rundir_make(), 0);
        for (unsigned i = 0; i < N; i++) {
                pids[i] = fork();
                cr_assert_geq(pids[i], 0);
                if (pids[i] == 0)
                        race_child(shared, i + 1);
        }
        for (int i = 0; i < N; i++) {
                int status;

                cr_assert_eq(waitpid(pids[i], &status, 0), pids[i]);
                cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        cr_expect_eq(shared->overlaps, 0);
        cr_expect_eq(shared->failed, 0);
        cr_expect_eq(shared->entered, N * 40);
}
