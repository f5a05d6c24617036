/*
 * The load: what a workload does to a mounted directory, with nothing of an interpreter in the way.
 *
 *   load write FILE TOTAL BS          a new file, BS at a time, then fsync
 *   load read FILE BS                 the whole file in order
 *   load randread FILE BS N DEPTH     N in all, by DEPTH threads, O_DIRECT; bufread: without
 *   load randwrite FILE BS N DEPTH    the same, then fsync; bufwrite
 *   load create DIR N PROCS           create, write 100 bytes, close
 *   load stat DIR N PROCS
 *   load lookup DIR N PROCS           open(2) with O_PATH: the name, and nothing else
 *   load readfile DIR N PROCS         open, read, close
 *   load unlink DIR N PROCS
 *   load getattr FILE N               fstat(2), N times
 *
 * Those with DIR: N files in all; process i works in DIR/d<i>, on f0, f1, ... One line: how many
 * operations, how many seconds, how many bytes. Making threads and processes is not timed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/util.h"

#define SMALL_SIZE 100
#define IO_ALIGN   4096
#define STACK_SIZE (128u << 10) /* there may be ten thousand readers */

static void die(const char *fmt, ...) _printf_(1, 2);
static void die(const char *fmt, ...) {
        int err = errno;
        va_list ap;

        va_start(ap, fmt);
        (void) fprintf(stderr, "load: ");
        (void) vfprintf(stderr, fmt, ap);
        (void) fprintf(stderr, ": %s\n", strerror(err));
        va_end(ap);
        exit(1);
}

static void report(uint64_t n, uint64_t start_ns, uint64_t bytes) {
        (void) printf("%lu %.6f %lu\n", n, (double) (now_ns() - start_ns) / 1e9, bytes);
}

static char *buffer_new(size_t size) {
        void *buffer;

        if (posix_memalign(&buffer, IO_ALIGN, size) != 0)
                die("memory");
        for (size_t i = 0; i < size; i++)
                ((char *) buffer)[i] = (char) (i * 31 >> 3);
        return buffer;
}

static int open_or_die(const char *path, int flags) {
        int fd = open(path, flags | O_CLOEXEC, 0644);

        if (fd < 0)
                die("open %s", path);
        return fd;
}

static uint64_t size_of(int fd) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                die("fstat");
        return (uint64_t) st.st_size;
}

/* ---- one large file ---- */

static void run_write(char **argv) {
        uint64_t total = strtoull(argv[1], NULL, 0), bs = strtoull(argv[2], NULL, 0), start;
        _cleanup_(freep) char *buffer = buffer_new(bs);
        _cleanup_(fd_closep) int fd = -1;

        start = now_ns();
        fd = open_or_die(argv[0], O_WRONLY | O_CREAT | O_TRUNC);
        for (uint64_t done = 0; done < total; done += bs)
                if (write(fd, buffer, bs) != (ssize_t) bs)
                        die("write %s", argv[0]);
        if (fsync(fd) < 0)
                die("fsync %s", argv[0]);
        report(total / bs, start, total);
}

static void run_read(char **argv) {
        uint64_t bs = strtoull(argv[1], NULL, 0), start, n = 0, bytes = 0;
        _cleanup_(freep) char *buffer = buffer_new(bs);
        _cleanup_(fd_closep) int fd = -1;
        ssize_t r;

        start = now_ns();
        fd = open_or_die(argv[0], O_RDONLY);
        while ((r = read(fd, buffer, bs)) > 0) {
                bytes += (uint64_t) r;
                n++;
        }
        if (r < 0)
                die("read %s", argv[0]);
        report(n, start, bytes);
}

typedef struct Accessor {
        pthread_t thread;
        pthread_barrier_t *barrier;
        int fd;
        uint64_t n, bs, blocks;
        unsigned seed;
        bool writes;
} Accessor;

static void *accessor_run(void *arg) {
        Accessor *a = arg;
        _cleanup_(freep) char *buffer = buffer_new(a->bs);

        (void) pthread_barrier_wait(a->barrier);
        for (uint64_t i = 0; i < a->n; i++) {
                off_t at = (off_t) ((uint64_t) rand_r(&a->seed) % a->blocks * a->bs);

                if ((a->writes ? pwrite(a->fd, buffer, a->bs, at) : pread(a->fd, buffer, a->bs, at)) != (ssize_t) a->bs)
                        die(a->writes ? "pwrite" : "pread");
        }
        return NULL;
}

/* FILE BS N DEPTH */
static void run_random(char **argv, bool writes, bool direct) {
        uint64_t bs = strtoull(argv[1], NULL, 0), n = strtoull(argv[2], NULL, 0), start;
        unsigned depth = (unsigned) strtoul(argv[3], NULL, 0);
        int flags = (writes ? O_WRONLY : O_RDONLY) | O_CLOEXEC;
        _cleanup_(fd_closep) int fd = direct ? open(argv[0], flags | O_DIRECT) : -1;
        _cleanup_(freep) Accessor *accessors = calloc(depth, sizeof *accessors);
        pthread_barrier_t barrier;
        pthread_attr_t attr;
        uint64_t blocks;

        if (fd < 0) /* a tmpfs has no direct I/O */
                fd = open_or_die(argv[0], flags);
        blocks = MAX(size_of(fd) / bs, UINT64_C(1));
        if (!accessors || pthread_barrier_init(&barrier, NULL, depth + 1) != 0 || pthread_attr_init(&attr) != 0 ||
            pthread_attr_setstacksize(&attr, STACK_SIZE) != 0)
                die("memory");
        for (unsigned i = 0; i < depth; i++) {
                accessors[i] = (Accessor){
                        .barrier = &barrier, .fd = fd, .n = n / depth, .bs = bs, .blocks = blocks, .seed = i + 1, .writes = writes
                };
                if (pthread_create(&accessors[i].thread, &attr, accessor_run, &accessors[i]) != 0)
                        die("thread");
        }
        (void) pthread_barrier_wait(&barrier);
        start = now_ns();
        for (unsigned i = 0; i < depth; i++)
                (void) pthread_join(accessors[i].thread, NULL);
        if (writes && fsync(fd) < 0)
                die("fsync %s", argv[0]);
        report(n / depth * depth, start, n / depth * depth * bs);
}

/* ---- many small files ---- */

static char small[4096];

static void file_create(const char *path) {
        int fd = open_or_die(path, O_WRONLY | O_CREAT | O_EXCL);

        if (write(fd, small, SMALL_SIZE) != SMALL_SIZE)
                die("write %s", path);
        if (close(fd) < 0)
                die("close %s", path);
}

static void file_stat(const char *path) {
        struct stat st;

        if (stat(path, &st) < 0)
                die("stat %s", path);
        if (st.st_size != SMALL_SIZE)
                die("%s has %lu bytes", path, (unsigned long) st.st_size);
}

/* Nothing but the name is asked for. */
static void file_lookup(const char *path) {
        (void) close(open_or_die(path, O_PATH));
}

static void run_getattr(char **argv) {
        uint64_t n = strtoull(argv[1], NULL, 0), start;
        _cleanup_(fd_closep) int fd = open_or_die(argv[0], O_PATH);

        start = now_ns();
        for (uint64_t i = 0; i < n; i++)
                (void) size_of(fd);
        report(n, start, 0);
}

static void file_read(const char *path) {
        int fd = open_or_die(path, O_RDONLY);

        if (read(fd, small, sizeof small) != SMALL_SIZE)
                die("read %s", path);
        (void) close(fd);
}

static void file_unlink(const char *path) {
        if (unlink(path) < 0)
                die("unlink %s", path);
}

static void files_work(const char *dir, unsigned process, uint64_t n, void (*work)(const char *path)) {
        char path[PATH_MAX];

        (void) snprintf(path, sizeof path, "%s/d%u", dir, process);
        if (chdir(path) < 0) /* else each directory above is looked up, too, where nothing is believed */
                die("chdir %s", path);
        for (uint64_t i = 0; i < n; i++) {
                (void) snprintf(path, sizeof path, "f%lu", i);
                work(path);
        }
}

static void run_files(char **argv, void (*work)(const char *path)) {
        uint64_t n = strtoull(argv[1], NULL, 0), start;
        unsigned procs = (unsigned) strtoul(argv[2], NULL, 0);
        atomic_int *go = mmap(NULL, sizeof *go, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        int status, failed = 0, start_pipe[2];
        char c;

        if (go == MAP_FAILED || pipe(start_pipe) < 0)
                die("memory");
        for (unsigned p = 0; p < procs; p++) {
                pid_t pid = fork();

                if (pid < 0)
                        die("fork");
                if (pid == 0) {
                        (void) close(start_pipe[1]);
                        atomic_fetch_add(go, 1);
                        (void) !read(start_pipe[0], &c, 1); /* its end is the start */
                        files_work(argv[0], p, n / procs, work);
                        exit(0);
                }
        }
        while (atomic_load(go) < (int) procs)
                (void) usleep(1000);
        start = now_ns();
        (void) close(start_pipe[1]);
        for (unsigned p = 0; p < procs; p++)
                if (wait(&status) < 0 || status != 0)
                        failed = 1;
        if (failed)
                exit(1);
        report(n / procs * procs, start, 0);
}

int main(int argc, char **argv) {
        const char *command = argc > 2 ? argv[1] : "";

        if (argc == 5 && strcmp(command, "write") == 0)
                run_write(argv + 2);
        else if (argc == 4 && strcmp(command, "read") == 0)
                run_read(argv + 2);
        else if (argc == 6 && (strcmp(command, "randread") == 0 || strcmp(command, "bufread") == 0))
                run_random(argv + 2, false, command[0] == 'r');
        else if (argc == 6 && (strcmp(command, "randwrite") == 0 || strcmp(command, "bufwrite") == 0))
                run_random(argv + 2, true, command[0] == 'r');
        else if (argc == 5 && strcmp(command, "create") == 0)
                run_files(argv + 2, file_create);
        else if (argc == 5 && strcmp(command, "stat") == 0)
                run_files(argv + 2, file_stat);
        else if (argc == 5 && strcmp(command, "lookup") == 0)
                run_files(argv + 2, file_lookup);
        else if (argc == 4 && strcmp(command, "getattr") == 0)
                run_getattr(argv + 2);
        else if (argc == 5 && strcmp(command, "readfile") == 0)
                run_files(argv + 2, file_read);
        else if (argc == 5 && strcmp(command, "unlink") == 0)
                run_files(argv + 2, file_unlink);
        else {
                (void) fprintf(stderr, "usage: load COMMAND FILE|DIR NUMBER... (see load.c)\n");
                return 2;
        }
        return 0;
}
