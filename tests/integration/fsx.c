/*
 * fsx DIR SECONDS SEED NPROC [no-mmap] [no-direct] [no-truncate]
 *
 * Random I/O against a model in memory. Each of NPROC processes has a file of its own, on which it does everything:
 * reads, writes, appends, truncates, mappings, O_DIRECT, fsync, closing and opening again. And it owns every
 * NPROC-th block of one shared file: there it reads, writes and maps its own blocks only, while the
 * others do the same with theirs (O_DIRECT is left out there: beside it the kernel gives no promise about
 * pages that another process reads at the same moment).
 *
 * After each round all close their files; then each process opens the shared file and its neighbour's own file
 * and compares them with the models, which are in shared memory.
 *
 * A difference ends it: the offset, what was expected and what came, the last operations, and the seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cases.h"

#define FILE_MAX  (1u << 20)
#define BLOCK     (5u * 4096) /* of the shared file; a multiple of the page, for mappings */
#define N_BLOCKS  64
#define OPS       300 /* per process and round */
#define PROCS_MAX 32
#define HISTORY   40
#define LINE      100

/* A model: what a file must contain. */
typedef struct Model {
        uint64_t size;
        uint8_t data[FILE_MAX + 4096];
} Model;

typedef struct Shared {
        pthread_barrier_t barrier;
        atomic_bool end;
        _Atomic uint64_t n_ops;
        _Atomic uint64_t shared_size;
        Model own[PROCS_MAX];
        uint8_t data[N_BLOCKS * BLOCK]; /* of the shared file */
} Shared;

/* One process' view of one file. */
typedef struct Subject {
        const char *name;
        char path[512];
        Model *model;
        int fd;
        int append_fd; /* opened when first used, closed with fd */
} Subject;

static struct {
        const char *dir;
        uint64_t seed;
        int n_procs;
        bool mmap, direct, truncate;
} options = { .mmap = true, .direct = true, .truncate = true };

static Shared *shared;
static int self;
static uint64_t rng, shared_end; /* shared_end: how far the shared file reaches by this process' own writes */
static uint8_t *scratch;         /* page-aligned, FILE_MAX + 4096 */
static char history[HISTORY][LINE];
static unsigned n_history;

/* ---- telling ---- */

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...) {
        va_list args;

        va_start(args, format);
        (void) vsnprintf(history[n_history++ % HISTORY], LINE, format, args);
        va_end(args);
        atomic_fetch_add(&shared->n_ops, 1);
}

static _Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void give_up(const char *format, ...) {
        static char text[HISTORY * LINE + 2000];
        size_t n = 0, first = n_history > HISTORY ? n_history - HISTORY : 0;
        va_list args;

        n += (size_t) snprintf(text, sizeof text, "fsx: process %d, seed %llu: ", self, (unsigned long long) options.seed);
        va_start(args, format);
        n += (size_t) vsnprintf(text + n, 1000, format, args);
        va_end(args);
        n += (size_t) snprintf(text + n, 100, "\nits last operations:\n");
        for (size_t i = first; i < n_history; i++)
                n += (size_t) snprintf(text + n, sizeof text - n, "  %s\n", history[i % HISTORY]);
        (void) !write(STDERR_FILENO, text, n); /* at once: processes may fail together */
        _exit(1);
}

/* Is it what was read that is wrong, or what is there? In the kernel's pages; behind them; a moment later. */
static const char *look_again(const char *name, const uint8_t *want, uint64_t offset, size_t size) {
        static char text[100];
        uint64_t start = offset & ~4095ull;
        size_t n = 0, span = (offset + size - start + 4095) & ~4095ull;
        char path[600];

        (void) snprintf(path, sizeof path, "%s/%s", options.dir, name);
        for (int i = 0; i < 4; i++) {
                int fd = open(path, O_RDONLY | (i % 2 ? O_DIRECT : 0));
                bool read = fd >= 0 && pread(fd, scratch, span, (off_t) start) >= (ssize_t) (offset + size - start);

                n += (size_t) snprintf(text + n, sizeof text - n, "%s %s",
                                       i % 2 ? ", direct"
                                       : i   ? "; after 2 s"
                                             : "now",
                                       !read                                                 ? "?"
                                       : memcmp(scratch + (offset - start), want, size) == 0 ? "right"
                                                                                             : "wrong");
                (void) close(fd);
                if (i == 1)
                        (void) sleep(2);
        }
        return text;
}

static void compare(const char *how, const char *name, const uint8_t *got, const uint8_t *want, uint64_t offset, size_t size) {
        uint8_t first[4];
        struct timespec at;
        size_t i = 0, n_wrong = 0, last = 0;

        if (memcmp(got, want, size) == 0)
                return;
        while (got[i] == want[i])
                i++;
        for (size_t k = i; k < size; k++)
                if (got[k] != want[k]) {
                        n_wrong++;
                        last = k;
                }
        (void) clock_gettime(CLOCK_REALTIME, &at);
        for (size_t k = 0; k < sizeof first; k++)
                first[k] = got[MIN(i + k, size - 1)];
        give_up("%s %s: %zu bytes are wrong in [%#llx, %#llx] at %lld.%03ld; the first are %02x %02x %02x %02x, not %02x %02x "
                "%02x %02x; %s",
                how, name, n_wrong, (unsigned long long) (offset + i), (unsigned long long) (offset + last),
                (long long) at.tv_sec, at.tv_nsec / 1000000, first[0], first[1], first[2], first[3], want[i],
                want[MIN(i + 1, size - 1)], want[MIN(i + 2, size - 1)], want[MIN(i + 3, size - 1)],
                look_again(name, want + i, offset + i, last + 1 - i));
}

static size_t checked(ssize_t n, const char *what, const Subject *s) {
        if (n < 0)
                give_up("%s %s: %s", what, s->name, strerror(errno));
        return (size_t) n;
}

/* ---- a file of one's own: everything ---- */

static uint64_t below(uint64_t n) {
        return random_below(&rng, n);
}

/* Small ones are as likely as large ones. */
static size_t some_size(size_t max) {
        size_t limit = (size_t) 1 << below(18);

        return 1 + below(MIN(limit, max));
}

static void fill(uint8_t *p, size_t size) {
        uint64_t value = random_next(&rng);

        for (size_t i = 0; i < size; i++) {
                if (i % 8 == 0)
                        value = random_next(&rng);
                p[i] = (uint8_t) (value >> (i % 8 * 8)) | 1; /* never 0: a hole is recognised */
        }
}

static void model_write(Model *m, uint64_t offset, const uint8_t *p, size_t size) {
        if (offset > m->size)
                memset(m->data + m->size, 0, offset - m->size);
        memcpy(m->data + offset, p, size);
        if (offset + size > m->size)
                m->size = offset + size;
}

static void model_truncate(Model *m, uint64_t size) {
        if (size > m->size)
                memset(m->data + m->size, 0, size - m->size);
        m->size = size;
}

static void check_size(Subject *s) {
        struct stat st;

        if (fstat(s->fd, &st) < 0 || (uint64_t) st.st_size != s->model->size)
                give_up("fstat %s: size %lld, not %llu", s->name, (long long) st.st_size, (unsigned long long) s->model->size);
        if (stat(s->path, &st) < 0 || (uint64_t) st.st_size != s->model->size)
                give_up("stat %s: size %lld, not %llu", s->name, (long long) st.st_size, (unsigned long long) s->model->size);
}

static int open_subject(const Subject *s, int flags) {
        int fd = open(s->path, flags, 0644);

        if (fd < 0)
                give_up("open %s with %#x: %s", s->path, flags, strerror(errno));
        return fd;
}

static void check_read(Subject *s, const char *how, size_t n, uint64_t offset, size_t size) {
        uint64_t want = offset >= s->model->size ? 0 : MIN(size, s->model->size - offset);

        if (n != want)
                give_up("%s %s at %#llx, %zu bytes: gave %zu, not %llu", how, s->name, (unsigned long long) offset, size, n,
                        (unsigned long long) want);
        compare(how, s->name, scratch, s->model->data + offset, offset, n);
}

static void do_read(Subject *s) {
        uint64_t offset = below(s->model->size + 10);
        size_t size = some_size(FILE_MAX);

        note("read %s %#llx %#zx", s->name, (unsigned long long) offset, size);
        check_read(s, "read", checked(pread(s->fd, scratch, size, (off_t) offset), "read", s), offset, size);
}

static uint64_t write_offset(size_t size, const Model *m) {
        uint64_t offset = below(10) == 0 ? below(FILE_MAX) : below(m->size + 1);

        return MIN(offset, FILE_MAX - size);
}

static void do_write(Subject *s) {
        size_t size = some_size(FILE_MAX);
        uint64_t offset = write_offset(size, s->model);

        fill(scratch, size);
        note("write %s %#llx %#zx", s->name, (unsigned long long) offset, size);
        if (checked(pwrite(s->fd, scratch, size, (off_t) offset), "write", s) != size)
                give_up("write %s: short", s->name);
        model_write(s->model, offset, scratch, size);
}

static void do_writev(Subject *s) {
        size_t size = some_size(FILE_MAX), cut = below(size);
        uint64_t offset = write_offset(size, s->model);
        struct iovec iov[2] = { { scratch, cut }, { scratch + cut, size - cut } };

        fill(scratch, size);
        note("writev %s %#llx %#zx+%#zx", s->name, (unsigned long long) offset, cut, size - cut);
        if (checked(pwritev(s->fd, iov, 2, (off_t) offset), "writev", s) != size)
                give_up("writev %s: short", s->name);
        model_write(s->model, offset, scratch, size);
}

static void do_append(Subject *s) {
        size_t size = some_size(10000);

        if (s->model->size + size > FILE_MAX)
                return;
        fill(scratch, size);
        note("append %s %#zx", s->name, size);
        if (s->append_fd < 0)
                s->append_fd = open_subject(s, O_WRONLY | O_APPEND);
        if (checked(write(s->append_fd, scratch, size), "append", s) != size)
                give_up("append %s: short", s->name);
        model_write(s->model, s->model->size, scratch, size);
}

static void do_truncate(Subject *s) {
        uint64_t size = below(3) == 0 ? below(FILE_MAX) : below(s->model->size + 1);
        bool by_path = below(2);

        if (!options.truncate)
                return;
        note("%s %s %#llx", by_path ? "truncate" : "ftruncate", s->name, (unsigned long long) size);
        (void) checked(by_path ? truncate(s->path, (off_t) size) : ftruncate(s->fd, (off_t) size), "truncate", s);
        model_truncate(s->model, size);
}

static void do_open_trunc(Subject *s) {
        if (!options.truncate || below(4) != 0)
                return;
        note("open %s O_TRUNC", s->name);
        if (close(open_subject(s, O_WRONLY | O_TRUNC)) < 0)
                give_up("close %s: %s", s->name, strerror(errno));
        model_truncate(s->model, 0);
}

/* Maps the pages of a range that exists, and says where it begins in them. */
static uint8_t *map_range(Subject *s, uint64_t offset, size_t size, int prot, size_t *ret_head) {
        size_t head = offset % 4096;
        void *p = mmap(NULL, size + head, prot, MAP_SHARED, s->fd, (off_t) (offset - head));

        if (p == MAP_FAILED)
                give_up("mmap %s: %s", s->name, strerror(errno));
        *ret_head = head;
        return p;
}

static void do_mmap(Subject *s) {
        bool writing = below(2), sync = below(2);
        uint64_t offset;
        uint8_t *p;
        size_t size, head;

        if (!options.mmap || s->model->size == 0)
                return;
        offset = below(s->model->size);
        size = some_size(s->model->size - offset);
        note("mmap %s %s %#llx %#zx%s", writing ? "write" : "read", s->name, (unsigned long long) offset, size,
             writing && sync ? " msync" : "");
        p = map_range(s, offset, size, PROT_READ | (writing ? PROT_WRITE : 0), &head);
        compare("mmap", s->name, p + head, s->model->data + offset, offset, size);
        if (writing) {
                fill(p + head, size);
                memcpy(s->model->data + offset, p + head, size);
                if (sync && msync(p, size + head, MS_SYNC) < 0)
                        give_up("msync %s: %s", s->name, strerror(errno));
        }
        (void) munmap(p, size + head);
}

static void do_direct(Subject *s) {
        bool writing = below(2);
        size_t size = (some_size(FILE_MAX / 2) + 4095) & ~(size_t) 4095;
        uint64_t offset = write_offset(size, s->model) & ~UINT64_C(4095);
        int fd;

        if (!options.direct)
                return;
        note("direct %s %s %#llx %#zx", writing ? "write" : "read", s->name, (unsigned long long) offset, size);
        fd = open_subject(s, O_RDWR | O_DIRECT);
        if (writing) {
                fill(scratch, size);
                if (checked(pwrite(fd, scratch, size, (off_t) offset), "direct write", s) != size)
                        give_up("direct write %s: short", s->name);
                model_write(s->model, offset, scratch, size);
        } else {
                check_read(s, "direct read", checked(pread(fd, scratch, size, (off_t) offset), "direct read", s), offset, size);
        }
        if (close(fd) < 0)
                give_up("close %s: %s", s->name, strerror(errno));
}

static void do_sync(Subject *s) {
        bool data = below(2);

        note("%s %s", data ? "fdatasync" : "fsync", s->name);
        (void) checked(data ? fdatasync(s->fd) : fsync(s->fd), "fsync", s);
}

static void close_subject(Subject *s) {
        if (close(s->fd) < 0 || (s->append_fd >= 0 && close(s->append_fd) < 0))
                give_up("close %s: %s", s->name, strerror(errno));
        s->append_fd = -1;
}

static void do_reopen(Subject *s) {
        static const int flags[] = { O_RDWR, O_RDWR, O_RDWR, O_RDWR | O_SYNC };

        note("close and open %s", s->name);
        close_subject(s);
        s->fd = open_subject(s, flags[below(4)]);
}

static void do_rename(Subject *s) {
        char away[600];

        note("rename %s away and back", s->name);
        (void) snprintf(away, sizeof away, "%s.away", s->path);
        if (rename(s->path, away) < 0 || rename(away, s->path) < 0)
                give_up("rename %s: %s", s->name, strerror(errno));
}

static void do_drop(Subject *s) {
        note("drop the pages of %s", s->name);
        (void) posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void operate(Subject *s) {
        static void (*const ops[])(Subject *) = { do_read,       do_read,   do_read,   do_write,    do_write,
                                                  do_write,      do_writev, do_append, do_truncate, do_truncate,
                                                  do_open_trunc, do_mmap,   do_mmap,   do_direct,   do_direct,
                                                  do_sync,       do_reopen, do_rename, do_drop };

        ops[below(sizeof ops / sizeof ops[0])](s);
        check_size(s);
}

static void check_whole(const char *path, const char *name, const uint8_t *want, uint64_t size) {
        Subject s = { .name = name };
        size_t n = 0;
        ssize_t r;
        int fd;

        (void) snprintf(s.path, sizeof s.path, "%s", path);
        note("compare all of %s", name);
        fd = open_subject(&s, O_RDONLY);
        while (n <= size && (r = pread(fd, scratch + n % FILE_MAX, FILE_MAX - n % FILE_MAX, (off_t) n)) != 0) {
                size_t got = checked(r, "read", &s);

                if (n + got > size)
                        give_up("%s is longer than %llu", name, (unsigned long long) size);
                compare("read", name, scratch + n % FILE_MAX, want + n, n, got);
                n += got;
        }
        if (n != size)
                give_up("%s has %zu bytes, not %llu", name, n, (unsigned long long) size);
        (void) close(fd);
}

/* ---- the shared file: own blocks only ---- */

static uint64_t own_range(size_t *ret_size) {
        uint64_t block = below((uint64_t) (N_BLOCKS / options.n_procs)) * (uint64_t) options.n_procs + (uint64_t) self;
        uint64_t start = below(BLOCK);

        *ret_size = 1 + below(BLOCK - start);
        return block * BLOCK + start;
}

static void shared_read(Subject *s) {
        size_t size, n;
        uint64_t offset = own_range(&size);

        note("read %s %#llx %#zx", s->name, (unsigned long long) offset, size);
        n = checked(pread(s->fd, scratch, size, (off_t) offset), "read", s);
        if (n < size && offset + n < shared_end)
                give_up("read %s at %#llx, %zu bytes: gave %zu although own writes reach to %#llx", s->name,
                        (unsigned long long) offset, size, n, (unsigned long long) shared_end);
        memset(scratch + n, 0, size - n);
        compare("read", s->name, scratch, shared->data + offset, offset, size);
}

static void shared_written(uint64_t end) {
        uint64_t size = atomic_load(&shared->shared_size);

        shared_end = MAX(shared_end, end);
        while (size < end && !atomic_compare_exchange_weak(&shared->shared_size, &size, end))
                ;
}

static void shared_write(Subject *s) {
        size_t size;
        uint64_t offset = own_range(&size);

        fill(scratch, size);
        note("write %s %#llx %#zx", s->name, (unsigned long long) offset, size);
        if (checked(pwrite(s->fd, scratch, size, (off_t) offset), "write", s) != size)
                give_up("write %s: short", s->name);
        memcpy(shared->data + offset, scratch, size);
        shared_written(offset + size);
}

static void shared_mmap(Subject *s) {
        size_t size, head;
        uint64_t offset = own_range(&size);
        uint8_t *p;

        if (!options.mmap || offset >= shared_end)
                return;
        size = MIN(size, shared_end - offset);
        note("mmap write %s %#llx %#zx", s->name, (unsigned long long) offset, size);
        p = map_range(s, offset, size, PROT_READ | PROT_WRITE, &head);
        compare("mmap", s->name, p + head, shared->data + offset, offset, size);
        fill(p + head, size);
        memcpy(shared->data + offset, p + head, size);
        (void) munmap(p, size + head);
}

static void operate_shared(Subject *s) {
        static void (*const ops[])(Subject *) = { shared_read,  shared_read, shared_write, shared_write,
                                                  shared_write, shared_mmap, do_sync,      do_reopen };

        ops[below(sizeof ops / sizeof ops[0])](s);
}

/* ---- rounds ---- */

static void wait_for_all(void) {
        (void) pthread_barrier_wait(&shared->barrier);
}

static void subject_init(Subject *s, const char *name, int number, Model *model) {
        static char names[2][32];
        static int n;

        (void) snprintf(names[n], sizeof names[n], "%s%.0d", name, number);
        s->name = names[n++];
        (void) snprintf(s->path, sizeof s->path, "%s/%s", options.dir, s->name);
        s->model = model;
}

static void round_begin(Subject *common, bool first) {
        if (self == 0) {
                common->fd = open_subject(common, O_RDWR | O_CREAT);
                if (first || below(2)) { /* sometimes it grows, sometimes it has its size from the beginning */
                        uint64_t size = below(2) ? sizeof shared->data : 0;

                        if (ftruncate(common->fd, 0) < 0 || ftruncate(common->fd, (off_t) size) < 0)
                                give_up("ftruncate %s: %s", common->name, strerror(errno));
                        memset(shared->data, 0, sizeof shared->data);
                        atomic_store(&shared->shared_size, size);
                }
                (void) close(common->fd);
        }
        wait_for_all();
        shared_end = atomic_load(&shared->shared_size);
        wait_for_all();
        common->fd = open_subject(common, O_RDWR);
}

static _Noreturn void process(uint64_t end) {
        int neighbour = (self + 1) % options.n_procs;
        Subject own = { .append_fd = -1 }, common = { .append_fd = -1 };
        char path[512], name[32];

        rng = options.seed * 1000003 + (uint64_t) self;
        scratch = mmap(NULL, FILE_MAX + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        subject_init(&own, "own", self + 1, &shared->own[self]);
        subject_init(&common, "shared", 0, NULL);
        (void) snprintf(name, sizeof name, "own%d", neighbour + 1);
        (void) snprintf(path, sizeof path, "%s/%s", options.dir, name);
        own.fd = open_subject(&own, O_RDWR | O_CREAT | O_TRUNC);
        for (bool first = true;; first = false) {
                round_begin(&common, first);
                for (int i = 0; i < OPS; i++) {
                        operate(&own);
                        operate_shared(&common);
                }
                close_subject(&own);
                close_subject(&common);
                wait_for_all();
                check_whole(common.path, common.name, shared->data, atomic_load(&shared->shared_size));
                check_whole(path, name, shared->own[neighbour].data, shared->own[neighbour].size);
                if (self == 0)
                        atomic_store(&shared->end, (uint64_t) time(NULL) >= end);
                wait_for_all();
                if (atomic_load(&shared->end))
                        _exit(0);
                own.fd = open_subject(&own, O_RDWR);
        }
}

static void shared_make(void) {
        pthread_barrierattr_t attr;

        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
                exit(2);
        (void) pthread_barrierattr_init(&attr);
        (void) pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        (void) pthread_barrier_init(&shared->barrier, &attr, (unsigned) options.n_procs);
}

static int parse(int argc, char **argv) {
        if (argc < 5)
                return -1;
        options.dir = argv[1];
        options.seed = strtoull(argv[3], NULL, 0);
        options.n_procs = atoi(argv[4]);
        for (int i = 5; i < argc; i++) {
                if (strcmp(argv[i], "no-mmap") == 0)
                        options.mmap = false;
                else if (strcmp(argv[i], "no-direct") == 0)
                        options.direct = false;
                else if (strcmp(argv[i], "no-truncate") == 0)
                        options.truncate = false;
                else
                        return -1;
        }
        return options.n_procs >= 1 && options.n_procs <= PROCS_MAX ? 0 : -1;
}

int main(int argc, char **argv) {
        pid_t pids[PROCS_MAX];
        int status, rc = 0;

        if (parse(argc, argv) < 0) {
                (void) fprintf(stderr, "usage: fsx DIR SECONDS SEED NPROC [no-mmap] [no-direct] [no-truncate]\n");
                return 2;
        }
        shared_make();
        for (self = 0; self < options.n_procs; self++) {
                pids[self] = fork();
                if (pids[self] == 0)
                        process((uint64_t) time(NULL) + (uint64_t) atoi(argv[2]));
        }
        for (int n = 0; n < options.n_procs && rc == 0; n++) {
                if (wait(&status) < 0)
                        return 2;
                if (status != 0) {
                        if (WIFSIGNALED(status))
                                (void) fprintf(stderr, "fsx: a process died of signal %d\n", WTERMSIG(status));
                        rc = 1; /* the others wait for it for ever */
                        for (int i = 0; i < options.n_procs; i++)
                                (void) kill(pids[i], SIGKILL);
                }
        }
        while (wait(NULL) > 0)
                ;
        (void) printf("%llu operations, seed %llu\n", (unsigned long long) atomic_load(&shared->n_ops),
                      (unsigned long long) options.seed);
        return rc;
}
