/*
 * posix [--local-rules] [--without GROUP] DIR [CASE...]: what POSIX and Linux promise of a file system, case by case. TAP, with each case's group.
 * posix --differences: what is not so on NFS, and why; tab-separated.
 *
 * Each case runs in a directory DIR/<case> of its own, in a child in a process group of its own, for at most
 * LIMIT seconds. Afterwards the directory must let itself be removed. The cases of some groups share DIR/<group> instead, to be
 * quick: their first case makes what is in it, and the last one looks whether it is still so. The same cases run on a
 * local directory: one that fails there is wrong. Where NFSv3 or a server cannot do the same, posix-differs.c gives the reason,
 * and the case looks at on_nfs; with --local-rules it does not, so that it shows what differs.
 */
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>

#include "cases.h"

#define LIMIT            60
#define EXIT_SKIP        77
#define FUSE_SUPER_MAGIC 0x65735546

typedef struct Group {
        const char *name;
        const Case *cases;
        const Case *(*list)(void); /* instead of cases: made from tables */
        bool shared;               /* one directory; the first and the last case are run with any other, too */
} Group;

static const Group groups[] = {
        { "open", open_cases },
        { "io", io_cases },
        { "size", size_cases },
        { "mmap", mmap_cases },
        { "name", name_cases },
        { "rename", rename_cases },
        { "meta", meta_cases },
        { "time", time_cases },
        { "access", access_cases },
        { "dir", dir_cases },
        { "special", special_cases },
        { "lock", lock_cases },
        { "errno", .list = errno_cases, .shared = true },
};

bool on_nfs;

/* ---- checks ---- */

void case_fail(const char *file, int line, const char *format, ...) {
        char text[1024];
        va_list args;

        va_start(args, format);
        (void) vsnprintf(text, sizeof text, format, args);
        va_end(args);
        (void) dprintf(STDERR_FILENO, "%s:%d: %s\n", file, line, text);
        _exit(1);
}

void case_skip(const char *why) {
        (void) dprintf(STDERR_FILENO, "%s\n", why);
        _exit(EXIT_SKIP);
}

int case_ok(long r, const char *what, const char *file, int line) {
        if (r < 0)
                case_fail(file, line, "%s: %s", what, strerror(errno));
        return (int) r;
}

void case_fails(long r, int want, const char *what, const char *file, int line) {
        int got = errno;

        if (r >= 0)
                case_fail(file, line, "%s: gave %ld, expected %s", what, r, strerrorname_np(want));
        if (got != want)
                case_fail(file, line, "%s: gave %s, expected %s", what, strerrorname_np(got), strerrorname_np(want));
}

void case_equal(long long a, long long b, const char *what, const char *file, int line) {
        if (a != b)
                case_fail(file, line, "%s: %lld (%#llo) and %lld (%#llo)", what, a, a, b, b);
}

/* ---- files ---- */

int file_open(const char *path, int flags) {
        int fd = open(path, flags, 0644);

        if (fd < 0)
                FAIL("open %s with %#x: %s", path, flags, strerror(errno));
        return fd;
}

void file_make(const char *path, const void *data, size_t size) {
        int fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC);
        size_t done = 0;

        while (done < size) {
                ssize_t n = write(fd, (const char *) data + done, size - done);

                if (n <= 0)
                        FAIL("write %s: %zd, %s", path, n, strerror(errno));
                done += (size_t) n;
        }
        OK(close(fd));
}

void file_text(const char *path, const char *text) {
        file_make(path, text, strlen(text));
}

void fd_is(int fd, const char *text) {
        char buf[4096];
        ssize_t n = pread(fd, buf, sizeof buf - 1, 0);

        if (n < 0)
                FAIL("pread: %s", strerror(errno));
        buf[n] = '\0';
        if ((size_t) n != strlen(text) || memcmp(buf, text, (size_t) n) != 0)
                FAIL("contents are \"%s\" (%zd bytes), not \"%s\"", buf, n, text);
}

void file_is(const char *path, const char *text) {
        int fd = file_open(path, O_RDONLY);

        fd_is(fd, text);
        OK(close(fd));
}

struct stat stat_of(const char *path) {
        struct stat st;

        if (stat(path, &st) < 0)
                FAIL("stat %s: %s", path, strerror(errno));
        return st;
}

struct stat lstat_of(const char *path) {
        struct stat st;

        if (lstat(path, &st) < 0)
                FAIL("lstat %s: %s", path, strerror(errno));
        return st;
}

unsigned mode_of(const char *path) {
        return stat_of(path).st_mode & 07777;
}

long long size_of(const char *path) {
        return stat_of(path).st_size;
}

bool exists(const char *path) {
        struct stat st;

        if (lstat(path, &st) == 0)
                return true;
        if (errno != ENOENT)
                FAIL("lstat %s: %s", path, strerror(errno));
        return false;
}

static uint8_t pattern_at(uint64_t seed, size_t i) {
        uint64_t state = seed + (i >> 3);

        return (uint8_t) (random_next(&state) >> (i % 8 * 8));
}

void pattern_fill(uint8_t *p, size_t size, uint64_t seed) {
        for (size_t i = 0; i < size; i++)
                p[i] = pattern_at(seed, i);
}

/* p[0] is the pattern's byte `from`. */
void pattern_check(const uint8_t *p, size_t size, uint64_t seed, size_t from) {
        for (size_t i = 0; i < size; i++)
                if (p[i] != pattern_at(seed, from + i))
                        FAIL("byte %zu is %#x, not %#x", from + i, p[i], pattern_at(seed, from + i));
}

/* ---- processes ---- */

pid_t child_start(void) {
        pid_t pid = fork();

        if (pid < 0)
                FAIL("fork: %s", strerror(errno));
        return pid;
}

void child_end(void) {
        _exit(0);
}

void child_wait(pid_t pid) {
        int status;

        OK(waitpid(pid, &status, 0));
        if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
                _exit(EXIT_SKIP);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                FAIL("a child failed, status %#x", status);
}

void become(uid_t uid, gid_t gid, gid_t group) {
        OK(setgroups(group == (gid_t) -1 ? 0 : 1, &group));
        OK(setresgid(gid, gid, gid));
        OK(setresuid(uid, uid, uid));
        OK(prctl(PR_SET_DUMPABLE, 1)); /* /proc/self stays ours */
}

int turn_new(void) {
        return OK(eventfd(0, EFD_SEMAPHORE));
}

void turn_give(int turn) {
        OK(eventfd_write(turn, 1));
}

void turn_take(int turn) {
        eventfd_t value;

        OK(eventfd_read(turn, &value));
}

/* ---- running ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) st;
        (void) type;
        (void) ftw;
        return remove(path);
}

/*
 * The last close of an unlinked file is told to FUSE after close(2) has returned, so its .nfs name may be there a
 * little longer: a directory may take up to 5 s to become empty.
 */
static int remove_tree(const char *path) {
        for (int i = 0; i < 500; i++) {
                if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0)
                        return 0;
                if (errno != ENOTEMPTY && errno != ENOENT && errno != EBUSY)
                        return -1;
                if (access(path, F_OK) < 0)
                        return 0;
                (void) usleep(10000);
        }
        errno = ENOTEMPTY;
        return -1;
}

static _Noreturn void run_child(const Case *c, const char *dir, int log) {
        (void) setpgid(0, 0);
        (void) umask(022);
        (void) signal(SIGPIPE, SIG_IGN);
        if (dup2(log, STDERR_FILENO) < 0 || chdir(dir) < 0)
                _exit(2);
        if (c->run_row)
                c->run_row(c->row);
        else
                c->run();
        _exit(0);
}

/* Children it left behind, which may have something open that the next case wants. They have become ours. */
static void end_group(pid_t pid) {
        (void) kill(-pid, SIGKILL);
        for (int i = 0; i < 5000 && waitpid(-pid, NULL, WNOHANG) >= 0; i++)
                (void) usleep(1000);
}

/* The exit status of the case; -1: time-out. */
static int run_bounded(const Case *c, const char *dir, int log) {
        struct pollfd p = { .events = POLLIN };
        int status = 0;
        pid_t pid;

        (void) fflush(NULL);
        pid = fork();
        if (pid == 0)
                run_child(c, dir, log);
        if (pid < 0)
                return 2;
        p.fd = (int) syscall(SYS_pidfd_open, pid, 0);
        if (poll(&p, 1, LIMIT * 1000) <= 0) {
                (void) kill(-pid, SIGKILL);
                (void) dprintf(log, "time-out after %d s\n", LIMIT);
                /* one that cannot be killed must not hang us too */
                if (poll(&p, 1, 5000) <= 0) {
                        (void) dprintf(log, "and it cannot be killed\n");
                        return -1;
                }
                (void) waitpid(pid, &status, 0);
                (void) close(p.fd);
                return -1;
        }
        (void) close(p.fd);
        (void) waitpid(pid, &status, 0);
        end_group(pid);
        if (WIFSIGNALED(status)) {
                (void) dprintf(log, "died of signal %d\n", WTERMSIG(status));
                return 128 + WTERMSIG(status);
        }
        return WEXITSTATUS(status);
}

static void print_log(int log) {
        bool empty = lseek(log, 0, SEEK_END) == 0;
        char line[1200];
        FILE *f;

        (void) lseek(log, 0, SEEK_SET);
        f = empty ? NULL : fdopen(log, "r");
        while (f && fgets(line, sizeof line, f))
                (void) printf("# %s", line);
        if (f)
                (void) fclose(f);
        else
                (void) close(log);
}

static double now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

/* In DIR, which it makes, or removes afterwards, or both. */
static bool run_case(const Case *c, const char *group, const char *dir, bool make, bool take, int number) {
        int log = memfd_create("log", MFD_CLOEXEC), status;
        double start = now();

        if (log < 0 || (make && mkdir(dir, 0755) < 0)) {
                (void) printf("not ok %d - %s: mkdir %s: %s\n", number, c->name, dir, strerror(errno));
                return false;
        }
        status = run_bounded(c, dir, log);
        if (take && remove_tree(dir) < 0) {
                (void) dprintf(log, "its directory cannot be removed afterwards: %s\n", strerror(errno));
                status = 1;
        }
        (void) printf("%s %d - %s [%s]", status == 0 || status == EXIT_SKIP ? "ok" : "not ok", number, c->name, group);
        if (status == EXIT_SKIP)
                (void) printf(" # SKIP");
        if (now() - start > 2)
                (void) printf(" (%.1f s)", now() - start);
        (void) printf("\n");
        print_log(log);
        (void) fflush(stdout);
        return status == 0 || status == EXIT_SKIP;
}

typedef struct Count {
        int run, failed, chosen;
} Count;

static bool chosen(const Case *c, char **names) {
        if (!*names)
                return true;
        for (; *names; names++)
                if (strcmp(*names, c->name) == 0)
                        return true;
        return false;
}

static void run_group(const Group *g, const char *base, char **names, Count *count) {
        const Case *first = g->list ? g->list() : g->cases;
        bool any = false;
        char dir[4096];

        for (const Case *c = first; c->name; c++)
                if (chosen(c, names)) {
                        count->chosen++;
                        any = true;
                }
        for (const Case *c = first; any && c->name; c++) {
                bool begins = g->shared && c == first, ends = g->shared && !c[1].name, ok;

                if (!chosen(c, names) && !begins && !ends)
                        continue;
                (void) snprintf(dir, sizeof dir, "%s/%s", base, g->shared ? g->name : c->name);
                ok = run_case(c, g->name, dir, !g->shared || begins, !g->shared || ends, ++count->run);
                count->failed += !ok;
                if (begins && !ok) {
                        (void) remove_tree(dir);
                        return;
                }
        }
}

int main(int argc, char **argv) {
        bool local_rules = argc > 1 && strcmp(argv[1], "--local-rules") == 0;
        const char *without = "";
        Count count = { 0 };
        struct statfs st;

        if (argc == 2 && strcmp(argv[1], "--differences") == 0) {
                for (const Difference *d = differences; d->name; d++)
                        (void) printf("%s\t%s\t%s\t%s\t%s\n", d->name, d->whose, d->why, d->man,
                                      d->sometimes ? "sometimes" : "always");
                return 0;
        }
        argc -= local_rules;
        argv += local_rules;
        if (argc > 2 && strcmp(argv[1], "--without") == 0) {
                without = argv[2];
                argc -= 2;
                argv += 2;
        }
        if (argc < 2 || statfs(argv[1], &st) < 0) {
                (void) fprintf(stderr, "usage: posix [--local-rules] [--without GROUP] DIR [CASE...]\n");
                return 2;
        }
        on_nfs = st.f_type == FUSE_SUPER_MAGIC && !local_rules;
        (void) prctl(PR_SET_CHILD_SUBREAPER, 1);
        for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++)
                if (strcmp(groups[g].name, without) != 0)
                        run_group(&groups[g], argv[1], argv + 2, &count);
        (void) printf("1..%d\n", count.run);
        if (count.chosen == 0 || (argc > 2 && count.chosen != argc - 2)) {
                (void) printf("Bail out! no such case\n");
                return 2;
        }
        return count.failed > 0;
}
