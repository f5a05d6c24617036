#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "base/io.h"
#include "sys/mounts.h"
#include "test-cmd-harness.h"

#define MAX_ARGS 16

static char base[64];

const char *at(const char *leaf) {
        static char paths[16][256];
        static unsigned next;
        char *path = paths[next++ % ELEMENTSOF(paths)];

        (void) snprintf(path, sizeof paths[0], "%s/%s", base, leaf);
        return path;
}

static void copy_file(const char *from, const char *to) {
        int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
        struct stat st;

        cr_assert(in >= 0 && out >= 0 && fstat(in, &st) == 0, "%s", from);
        for (off_t done = 0; done < st.st_size;)
                cr_assert_gt(sendfile(out, in, &done, (size_t) (st.st_size - done)), 0);
        (void) close(in);
        (void) close(out);
}

/* Volumes of this machine that are none of ours; only in our namespace. */
static void forget_others(void) {
        _cleanup_(mount_table_done) MountTable table = { 0 };

        cr_assert_eq(mount_table_read(&table), 0);
        for (size_t i = table.n_entries; i-- > 0;)
                (void) umount2(table.entries[i].target, MNT_DETACH);
}

void helper_setup(void) {
        static const char *const links[] = { "mount.fuse.nfs", "mount.nfs", "mount.nfs4", "umount.fuse.nfs" };

        if (!getenv("NFSVOL_TEST_HELPER") || geteuid() != 0 || access("/dev/fuse", R_OK) < 0 || unshare(CLONE_NEWNS) < 0)
                cr_skip_test("needs root, mount namespaces, /dev/fuse, and meson's environment");
        cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        forget_others();
        (void) snprintf(base, sizeof base, "/tmp/nfsvol-test-helper.XXXXXX");
        cr_assert_not_null(mkdtemp(base));
        cr_assert_eq(mount("none", base, "tmpfs", 0, "mode=755"), 0);
        copy_file(getenv("NFSVOL_TEST_HELPER"), at("nfsvol"));
        copy_file(getenv("NFSVOL_TEST_DAEMON"), at("nfsvold"));
        for (size_t i = 0; i < ELEMENTSOF(links); i++)
                cr_assert_eq(symlink("nfsvol", at(links[i])), 0);
        cr_assert_eq(mkdir(at("t"), 0755), 0);
        cr_assert_eq(mkdir(at("t2"), 0755), 0);
        cr_assert_eq(mkdir(at("t3"), 0755), 0);
        (void) setenv("NFSVOL_RUNDIR", at("run"), 1);
        (void) setenv("NFSVOL_FAKE_COUNT", at("count"), 1);
        (void) setenv("ASAN_OPTIONS", "detect_leaks=1", 0);
}

/* The daemons end with their mounts. */
void helper_teardown(void) {
        _cleanup_(mount_table_done) MountTable table = { 0 };

        if (mount_table_read(&table) == 0)
                for (size_t i = table.n_entries; i-- > 0;)
                        if (strncmp(table.entries[i].target, base, strlen(base)) == 0)
                                (void) umount2(table.entries[i].target, MNT_DETACH);
        (void) umount2(base, MNT_DETACH);
        (void) rmdir(base);
}

Process start_argv(const char *program, char **argv, uid_t uid) {
        Process p = { .start = now_ns() };
        int out[2], err[2];

        cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
        cr_assert_eq(pipe2(err, O_CLOEXEC), 0);
        p.pid = fork();
        cr_assert_geq(p.pid, 0);
        if (p.pid == 0) {
                (void) dup2(open("/dev/null", O_RDONLY), 0);
                (void) dup2(out[1], 1);
                (void) dup2(err[1], 2);
                /* Something a caller might leave open. */
                (void) dup2(out[1], 17);
                if (uid && setuid(uid) < 0)
                        _exit(99);
                (void) execv(at(program), argv);
                _exit(98);
        }
        (void) close(out[1]);
        (void) close(err[1]);
        p.out = out[0];
        p.err = err[0];
        return p;
}

/* To the end of both outputs, as kubelet does: a daemon that keeps them open shows here. */
Run finish(Process p) {
        Run run = { 0 };
        int status;
        ssize_t n;

        n = io_read_full(p.out, run.out, sizeof run.out - 1);
        cr_assert_geq(n, 0);
        n = io_read_full(p.err, run.err, sizeof run.err - 1);
        cr_assert_geq(n, 0);
        run.seconds = (double) (now_ns() - p.start) / 1e9;
        (void) close(p.out);
        (void) close(p.err);
        cr_assert_eq(waitpid(p.pid, &status, 0), p.pid);
        run.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        return run;
}

Process start(const char *program, ...) {
        char *argv[MAX_ARGS] = { (char *) (uintptr_t) at(program) };
        va_list ap;
        size_t n = 1;

        va_start(ap, program);
        while (n < MAX_ARGS - 1 && (argv[n] = va_arg(ap, char *)))
                n++;
        va_end(ap);
        return start_argv(program, argv, 0);
}

size_t lines(const char *text) {
        size_t n = 0;

        for (; *text; text++)
                n += *text == '\n';
        return n;
}

bool is_mounted(const char *leaf, const char *root) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        const MountEntry *entry;

        cr_assert_eq(mount_table_read(&table), 0);
        entry = mount_table_find(&table, at(leaf));
        return entry && (!root || strcmp(entry->root, root) == 0);
}

/* Mounts beneath base. */
size_t count_mounts(void) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        size_t n = 0;

        cr_assert_eq(mount_table_read(&table), 0);
        for (size_t i = 0; i < table.n_entries; i++)
                n += strncmp(table.entries[i].target, base, strlen(base)) == 0;
        return n;
}

size_t count_starts(void) {
        struct stat st;

        return stat(at("count"), &st) < 0 ? 0 : (size_t) st.st_size;
}

/* No mount, no directory, no lock. */
void expect_nothing_left(const char *what) {
        cr_expect_eq(count_mounts(), 0, "%s: mounts are left", what);
        cr_expect(rmdir(at("run")) == 0 || errno == ENOENT, "%s: something is left in the run directory", what);
}

void expect_failure(const Run *r, int status, const char *text, const char *what) {
        cr_expect_eq(r->status, status, "%s: exit %d, expected %d: %s", what, r->status, status, r->err);
        cr_expect(strstr(r->err, text) != NULL, "%s: \"%s\" does not contain \"%s\"", what, r->err, text);
        cr_expect_eq(lines(r->err), 1, "%s: not one line: %s", what, r->err);
        cr_expect_str_empty(r->out, "%s: %s", what, r->out);
}

void expect_success(const Run *r, const char *what) {
        cr_expect_eq(r->status, 0, "%s: exit %d: %s", what, r->status, r->err);
        cr_expect_str_empty(r->err, "%s: %s", what, r->err);
}
