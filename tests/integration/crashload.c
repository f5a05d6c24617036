/*
 * crashload DIR SECONDS NPROC [SAME-DIR-ELSEWHERE]: a checking load for daemons that are killed under it.
 *
 * Each process works on a tree of its own and knows what every call must return: create (O_EXCL), write, fsync, stat,
 * rename, read, link, symlink, truncate, chmod, mkdir, readdir, unlink. One in four is under a storm of signals. With
 * SAME-DIR-ELSEWHERE four more contend for a lock file made with O_EXCL, two of them there: another client.
 *
 * Any call that fails or returns something else is one line and an error. The last line is a summary; the exit code is 1
 * if there were errors. SIGTERM: it ends before the seconds are over, as it would then.
 */
#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#include "cases.h"

#define DATA_MAX (300 * 1000)

static struct Shared { _Atomic uint64_t calls, errors, bytes, locks, owners, slowest_us, end_us; } * shared;

static int id;
static uint64_t began_us;

static uint64_t now_us(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static bool is_over(void) {
        return now_us() >= atomic_load_explicit(&shared->end_us, memory_order_relaxed);
}

static void wrong(const char *call, const char *path, const char *what) {
        atomic_fetch_add(&shared->errors, 1);
        (void) fprintf(stderr, "[%d] %s %s: %s\n", id, call, path, what);
}

static void called(void) {
        uint64_t us = now_us() - began_us, slowest = atomic_load(&shared->slowest_us);

        atomic_fetch_add(&shared->calls, 1);
        while (us > slowest && !atomic_compare_exchange_weak(&shared->slowest_us, &slowest, us))
                ;
}

/* The result of a call that must succeed. */
#define DO(path, call)                                                                                                           \
        ({                                                                                                                       \
                long r_;                                                                                                         \
                began_us = now_us();                                                                                             \
                r_ = (long) (call);                                                                                              \
                if (r_ < 0)                                                                                                      \
                        wrong(#call, path, strerror(errno));                                                                     \
                called();                                                                                                        \
                r_;                                                                                                              \
        })
#define MUST(path, condition) ((condition) ? (void) 0 : wrong("not so:", path, #condition))

static void gone(const char *path) {
        struct stat st;

        MUST(path, lstat(path, &st) < 0 && errno == ENOENT);
}

static void fill(uint8_t *p, size_t n, uint64_t seed) {
        for (size_t i = 0; i + 8 <= n; i += 8) {
                uint64_t word = random_next(&seed);

                memcpy(p + i, &word, 8);
        }
}

/* ---- one file's life ---- */

static bool make_file(const char *path, const uint8_t *data, size_t size) {
        struct stat st;
        int fd = (int) DO(path, open(path, O_RDWR | O_CREAT | O_EXCL, 0644));

        if (fd < 0)
                return false;
        MUST(path, DO(path, write(fd, data, size)) == (long) size);
        (void) DO(path, fsync(fd));
        (void) DO(path, close(fd));
        MUST(path, DO(path, stat(path, &st)) == 0 && (size_t) st.st_size == size);
        MUST(path, open(path, O_RDWR | O_CREAT | O_EXCL, 0644) < 0 && errno == EEXIST);
        atomic_fetch_add(&shared->bytes, size);
        return true;
}

static void read_file(const char *path, const uint8_t *data, size_t size) {
        static uint8_t got[DATA_MAX + 1];
        int fd = (int) DO(path, open(path, O_RDONLY));

        if (fd < 0)
                return;
        MUST(path, DO(path, read(fd, got, sizeof got)) == (long) size);
        MUST(path, memcmp(got, data, size) == 0);
        (void) DO(path, close(fd));
}

static void link_and_symlink(const char *path, const char *other) {
        struct stat st;
        char target[16];

        (void) DO(other, link(path, other));
        MUST(other, DO(other, stat(other, &st)) == 0 && st.st_nlink == 2);
        (void) DO(other, unlink(other));
        gone(other);
        (void) DO(other, symlink("target", other));
        MUST(other, DO(other, readlink(other, target, sizeof target)) == 6 && memcmp(target, "target", 6) == 0);
        (void) DO(other, unlink(other));
        gone(other);
}

static void change(const char *path, size_t size) {
        struct stat st;

        (void) DO(path, truncate(path, (off_t) size / 2));
        (void) DO(path, chmod(path, 0600));
        MUST(path, DO(path, stat(path, &st)) == 0);
        MUST(path, (size_t) st.st_size == size / 2);
        MUST(path, (st.st_mode & 0777) == 0600);
}

static void directories(const char *tree, const char *dir) {
        unsigned n = 0;
        DIR *d;

        (void) DO(dir, mkdir(dir, 0755));
        (void) DO(dir, rmdir(dir));
        gone(dir);
        d = opendir(tree);
        if (!d)
                return wrong("opendir", tree, strerror(errno));
        while ((errno = 0, readdir(d)))
                n++;
        MUST(tree, errno == 0);
        MUST(tree, n == 3); /* with . and .. */
        (void) closedir(d);
}

static void tree_run(const char *top) {
        static uint8_t data[DATA_MAX];
        uint64_t seed = (uint64_t) id * 7919 + (uint64_t) getpid();
        char tree[512], a[600], b[600], c[600];

        (void) snprintf(tree, sizeof tree, "%s/p%d", top, id);
        (void) DO(tree, mkdir(tree, 0755));
        for (unsigned n = 0; !is_over(); n++) {
                size_t size = (random_below(&seed, id % 2 ? DATA_MAX : 16000) & ~(uint64_t) 7) + 8;

                size = size > DATA_MAX ? DATA_MAX : size;
                (void) snprintf(a, sizeof a, "%s/a%u", tree, n);
                (void) snprintf(b, sizeof b, "%s/b%u", tree, n);
                (void) snprintf(c, sizeof c, "%s/c%u", tree, n);
                fill(data, size, random_next(&seed));
                if (!make_file(a, data, size))
                        continue;
                (void) DO(b, rename(a, b));
                gone(a);
                read_file(b, data, size);
                link_and_symlink(b, c);
                change(b, size);
                if (n % 4 == 0)
                        directories(tree, c);
                (void) DO(b, unlink(b));
                gone(b);
        }
        (void) DO(tree, rmdir(tree));
}

/* ---- who makes a file with O_EXCL has it alone ---- */

static void lock_run(const char *dir) {
        char path[600];

        (void) snprintf(path, sizeof path, "%s/LOCK", dir);
        while (!is_over()) {
                int fd;

                began_us = now_us();
                fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
                called();
                if (fd < 0) {
                        if (errno != EEXIST)
                                wrong("open", path, strerror(errno));
                        (void) usleep(300);
                        continue;
                }
                if (atomic_fetch_add(&shared->owners, 1) != 0)
                        wrong("lock", path, "two have it");
                atomic_fetch_add(&shared->locks, 1);
                (void) close(fd);
                (void) usleep((useconds_t) (now_us() % 500));
                atomic_fetch_sub(&shared->owners, 1);
                (void) DO(path, unlink(path));
        }
}

/* ---- */

static void on_alarm(int sig) {
        (void) sig;
}

static void storm(void) {
        struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
        struct itimerval interval = { { 0, 2000 }, { 0, 2000 } };

        (void) sigaction(SIGALRM, &action, NULL);
        (void) setitimer(ITIMER_REAL, &interval, NULL);
}

static void on_term(int sig) {
        (void) sig;
        atomic_store(&shared->end_us, 0);
}

int main(int argc, char **argv) {
        int n, n_lockers;

        if (argc < 4) {
                (void) fprintf(stderr, "Usage: crashload DIR SECONDS NPROC [SAME-DIR-ELSEWHERE]\n");
                return 2;
        }
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
                return 2;
        shared->end_us = now_us() + (uint64_t) atoi(argv[2]) * 1000000;
        (void) signal(SIGTERM, on_term);
        n = atoi(argv[3]);
        n_lockers = argc > 4 ? 4 : 0;
        for (id = 0; id < n + n_lockers; id++)
                if (fork() == 0) {
                        if (id % 4 == 3)
                                storm();
                        if (id < n)
                                tree_run(argv[1]);
                        else
                                lock_run(id % 2 ? argv[1] : argv[4]);
                        _exit(0);
                }
        while (wait(NULL) > 0)
                ;
        (void) printf("%llu calls, %llu MB, %llu locks, %llu errors, slowest call %.0f ms\n", (unsigned long long) shared->calls,
                      (unsigned long long) shared->bytes / 1000000, (unsigned long long) shared->locks,
                      (unsigned long long) shared->errors, (double) shared->slowest_us / 1000);
        return shared->errors > 0;
}
