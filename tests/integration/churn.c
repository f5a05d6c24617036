/*
 * churn DIR SECONDS NPROC [--seed N] [--check OTHERDIR]
 *
 * NPROC processes create, write, rename, link, remove and list in one tree, each under names of its own, and keep a
 * model of what they did. What they did must be seen at once: a name after it was made, not the old one
 * after a rename, not what was removed; size, mode, links and contents; every own name once in a listing,
 * and none that is gone.
 *
 * At the end the whole tree is compared with all the models: through DIR, and through OTHERDIR (the server's own
 * view of the same directory).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <time.h>

#include "cases.h"

#define N_SHARED  8   /* directories that all share, in pairs: d0 d0/sub d1 d1/sub ... */
#define NODES_MAX 300 /* names of one process */
#define SIZE_MAX_ 30000
#define PATH_SIZE 2048
#define LINE_SIZE (PATH_SIZE + 200)
#define HISTORY   30

/* What a name means. Hard links share it. */
typedef struct Thing {
        mode_t mode; /* with the type */
        unsigned n_names;
        size_t size;
        uint64_t seed; /* of a file's contents; of a symlink: its target is its number */
} Thing;

typedef struct Node {
        struct Node *parent; /* NULL: shared directory `shared` */
        int shared;
        char name[40];
        Thing *thing;
        int n_children;
} Node;

static const char *dir;
static int self;
static uint64_t seed, rng, n_names;
static Node *nodes[NODES_MAX];
static int n_nodes;
static char history[HISTORY][200];
static unsigned n_history;
static char gone[16][PATH_SIZE]; /* removed lately */
static unsigned n_gone;
static _Atomic uint64_t *n_ops;
static uint8_t contents[SIZE_MAX_ + 1], buf[SIZE_MAX_ + 1];

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...) {
        va_list args;

        va_start(args, format);
        (void) vsnprintf(history[n_history++ % HISTORY], sizeof history[0], format, args);
        va_end(args);
        atomic_fetch_add(n_ops, 1);
}

static _Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void give_up(const char *format, ...) {
        static char text[16384];
        size_t n, first = n_history > HISTORY ? n_history - HISTORY : 0;
        va_list args;

        n = (size_t) snprintf(text, sizeof text, "churn: process %d, seed %llu: ", self, (unsigned long long) seed);
        va_start(args, format);
        n += (size_t) vsnprintf(text + n, PATH_SIZE, format, args);
        va_end(args);
        n += (size_t) snprintf(text + n, 100, "\nits last operations:\n");
        for (size_t i = first; i < n_history; i++)
                n += (size_t) snprintf(text + n, sizeof text - n, "  %s\n", history[i % HISTORY]);
        (void) !write(STDERR_FILENO, text, n);
        _exit(1);
}

static uint64_t below(uint64_t n) {
        return random_below(&rng, n);
}

/* ---- paths ---- */

static void shared_path(int number, char *path) {
        (void) snprintf(path, PATH_SIZE, "%s/d%d%s", dir, number / 2, number % 2 ? "/sub" : "");
}

static void dir_path(const Node *parent, int shared, char *path) {
        size_t n;

        if (!parent)
                return shared_path(shared, path);
        dir_path(parent->parent, parent->shared, path);
        n = strlen(path);
        (void) snprintf(path + n, PATH_SIZE - n, "/%s", parent->name);
}

static const char *path_of(const Node *node) {
        static char paths[4][PATH_SIZE];
        static unsigned next;
        char *path = paths[next++ % 4];

        dir_path(node, 0, path);
        return path;
}

/* ---- the model ---- */

static bool is_dir(const Node *node) {
        return S_ISDIR(node->thing->mode);
}

static Node *any(bool (*wanted)(const Node *)) {
        int start = n_nodes ? (int) below((uint64_t) n_nodes) : 0;

        for (int i = 0; i < n_nodes; i++) {
                Node *node = nodes[(start + i) % n_nodes];

                if (!wanted || wanted(node))
                        return node;
        }
        return NULL;
}

static bool is_regular(const Node *node) {
        return S_ISREG(node->thing->mode);
}
static bool is_not_dir(const Node *node) {
        return !is_dir(node);
}
static bool is_empty_dir(const Node *node) {
        return is_dir(node) && node->n_children == 0;
}

static int depth(const Node *node) {
        return node ? 1 + depth(node->parent) : 0;
}

static void place(Node *node) { /* somewhere: in a shared directory or in one of our own */
        Node *parent = below(3) == 0 ? any(is_dir) : NULL;

        node->parent = parent && depth(parent) < 6 ? parent : NULL;
        node->shared = (int) below(N_SHARED);
        (void) snprintf(node->name, sizeof node->name, "p%d.%llu", self, (unsigned long long) n_names++);
}

static Node *node_new(Thing *thing) {
        Node *node = calloc(1, sizeof *node);

        if (!node)
                give_up("no memory");
        place(node);
        node->thing = thing;
        return node;
}

static void node_add(Node *node) {
        nodes[n_nodes++] = node;
        node->thing->n_names++;
        if (node->parent)
                node->parent->n_children++;
}

static void remember_gone(const char *path) {
        (void) snprintf(gone[n_gone++ % 16], PATH_SIZE, "%s", path);
}

static void node_remove(Node *node) {
        for (int i = 0; i < n_nodes; i++)
                if (nodes[i] == node)
                        nodes[i] = nodes[--n_nodes];
        if (node->parent)
                node->parent->n_children--;
        if (--node->thing->n_names == 0)
                free(node->thing);
        free(node);
}

static Thing *thing_new(mode_t mode) {
        Thing *thing = calloc(1, sizeof *thing);

        if (!thing)
                give_up("no memory");
        thing->mode = mode;
        thing->seed = random_next(&rng);
        return thing;
}

static void fill(const Thing *thing) {
        uint64_t state = thing->seed, value = 0;

        for (size_t i = 0; i < thing->size; i++) {
                if (i % 8 == 0)
                        value = random_next(&state);
                contents[i] = (uint8_t) (value >> (i % 8 * 8));
        }
}

static void target_of(const Thing *thing, char *target) {
        (void) snprintf(target, 64, "target/%llu", (unsigned long long) thing->seed);
}

/* ---- looking ---- */

static void must_not_exist(const char *path) {
        struct stat st;

        if (lstat(path, &st) == 0)
                give_up("%s is there, and should not be", path);
        if (errno != ENOENT && errno != ENOTDIR)
                give_up("lstat %s: %s, expected ENOENT", path, strerror(errno));
}

static void look_at(const Node *node) {
        const char *path = path_of(node);
        const Thing *thing = node->thing;
        struct stat st;

        if (lstat(path, &st) < 0)
                give_up("lstat %s: %s", path, strerror(errno));
        if ((st.st_mode & S_IFMT) != (thing->mode & S_IFMT))
                give_up("%s has mode %o, not %o", path, st.st_mode, thing->mode);
        if (!S_ISLNK(thing->mode) && st.st_mode != thing->mode)
                give_up("%s has mode %o, not %o", path, st.st_mode, thing->mode);
        if (!is_dir(node) && st.st_nlink != thing->n_names)
                give_up("%s has %u links, not %u", path, (unsigned) st.st_nlink, thing->n_names);
        if (S_ISREG(thing->mode) && (size_t) st.st_size != thing->size)
                give_up("%s has size %lld, not %zu", path, (long long) st.st_size, thing->size);
}

static void read_whole(int fd, const Thing *thing, const char *path) {
        ssize_t n = pread(fd, buf, sizeof buf, 0);

        if (n < 0)
                give_up("read %s: %s", path, strerror(errno));
        fill(thing);
        if ((size_t) n != thing->size || memcmp(buf, contents, thing->size) != 0)
                give_up("%s: read gives %zd bytes that are not the %zu that were written", path, n, thing->size);
}

static void read_file(const Node *node) {
        const char *path = path_of(node);
        int fd = open(path, O_RDONLY);

        if (fd < 0)
                give_up("open %s: %s", path, strerror(errno));
        read_whole(fd, node->thing, path);
        (void) close(fd);
}

static void list_dir(const Node *parent, int shared) {
        char path[PATH_SIZE], prefix[16], seen[NODES_MAX] = { 0 };
        struct dirent *e;
        struct stat st;
        DIR *d;

        dir_path(parent, shared, path);
        (void) snprintf(prefix, sizeof prefix, "p%d.", self);
        note("list %s", path);
        d = opendir(path);
        if (!d)
                give_up("opendir %s: %s", path, strerror(errno));
        while ((errno = 0, e = readdir(d))) {
                int i;

                if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
                        continue;
                for (i = 0; i < n_nodes; i++)
                        if (nodes[i]->parent == parent && (parent || nodes[i]->shared == shared) &&
                            strcmp(nodes[i]->name, e->d_name) == 0)
                                break;
                if (i == n_nodes)
                        give_up("listing %s gives %s, which is not there any more", path, e->d_name);
                if (seen[i]++)
                        give_up("listing %s gives %s twice", path, e->d_name);
        }
        if (errno)
                give_up("readdir %s: %s", path, strerror(errno));
        (void) closedir(d);
        for (int i = 0; i < n_nodes; i++)
                if (nodes[i]->parent == parent && (parent || nodes[i]->shared == shared) && !seen[i])
                        give_up("listing %s does not give %s, which %s", path, nodes[i]->name,
                                lstat(path_of(nodes[i]), &st) == 0 ? "is there" : strerror(errno));
}

/* ---- doing ---- */

static void write_file(Node *node, int flags) {
        const char *path = path_of(node);
        int fd = open(path, flags, node->thing->mode & 07777);

        if (fd < 0)
                give_up("open %s with %#x: %s", path, flags, strerror(errno));
        node->thing->size = below(4) == 0 ? 0 : below(SIZE_MAX_);
        node->thing->seed = random_next(&rng);
        fill(node->thing);
        if (write(fd, contents, node->thing->size) != (ssize_t) node->thing->size)
                give_up("write %s: %s", path, strerror(errno));
        if (below(8) == 0 && fsync(fd) < 0)
                give_up("fsync %s: %s", path, strerror(errno));
        if (close(fd) < 0)
                give_up("close %s: %s", path, strerror(errno));
}

static void make(mode_t type) {
        Node *node;
        char target[64];
        int r = 0;

        if (n_nodes == NODES_MAX)
                return;
        node = node_new(thing_new(type | (S_ISLNK(type) ? 0777 : below(2) ? 0755 : 0700)));
        note("make %o %s", type, path_of(node));
        if (below(3) == 0)
                must_not_exist(path_of(node));
        if (S_ISDIR(type))
                r = mkdir(path_of(node), node->thing->mode & 07777);
        else if (S_ISFIFO(type))
                r = mknod(path_of(node), node->thing->mode, 0);
        else if (S_ISLNK(type)) {
                target_of(node->thing, target);
                r = symlink(target, path_of(node));
        } else
                write_file(node, O_WRONLY | O_CREAT | (below(2) ? O_EXCL : 0));
        if (r < 0)
                give_up("making %s: %s", path_of(node), strerror(errno));
        node_add(node);
        look_at(node);
}

static void do_create(void) {
        make(S_IFREG);
}
static void do_mkdir(void) {
        make(S_IFDIR);
}
static void do_other(void) {
        make(below(3) == 0 ? S_IFIFO : S_IFLNK);
}

static void do_overwrite(void) {
        Node *node = any(is_regular);

        if (!node)
                return;
        note("overwrite %s", path_of(node));
        write_file(node, O_WRONLY | O_TRUNC);
        look_at(node);
}

static void do_chmod(void) {
        Node *node = any(is_regular);

        if (!node)
                return;
        node->thing->mode = S_IFREG | (0600 + (mode_t) below(0177));
        note("chmod %o %s", node->thing->mode & 07777, path_of(node));
        if (chmod(path_of(node), node->thing->mode & 07777) < 0)
                give_up("chmod %s: %s", path_of(node), strerror(errno));
        look_at(node);
}

static void do_link(void) {
        Node *old = any(is_regular), *node;

        if (!old || n_nodes == NODES_MAX)
                return;
        node = node_new(old->thing);
        note("link %s %s", path_of(old), path_of(node));
        if (link(path_of(old), path_of(node)) < 0)
                give_up("link %s %s: %s", path_of(old), path_of(node), strerror(errno));
        node_add(node);
        look_at(node);
        look_at(old);
}

static void do_unlink(void) {
        Node *node = any(is_not_dir);
        Thing thing;
        int fd = -1;
        char path[PATH_SIZE];

        if (!node)
                return;
        (void) snprintf(path, sizeof path, "%s", path_of(node));
        thing = *node->thing;
        if (is_regular(node) && below(4) == 0) {
                fd = open(path, O_RDONLY);
                if (fd < 0)
                        give_up("open %s: %s", path, strerror(errno));
        }
        note("unlink%s %s", fd >= 0 ? " (while open)" : "", path);
        if (unlink(path) < 0)
                give_up("unlink %s: %s", path, strerror(errno));
        node_remove(node);
        must_not_exist(path);
        remember_gone(path);
        if (fd >= 0) {
                read_whole(fd, &thing, path);
                (void) close(fd);
        }
}

static void do_rmdir(void) {
        Node *node = any(is_empty_dir);
        char path[PATH_SIZE];

        if (!node)
                return;
        (void) snprintf(path, sizeof path, "%s", path_of(node));
        note("rmdir %s", path);
        /* an unlinked file that was open in it is told to be closed a moment after close(2) */
        for (int i = 0; rmdir(path) < 0; i++) {
                if (errno != ENOTEMPTY || i == 500)
                        give_up("rmdir %s: %s", path, strerror(errno));
                (void) usleep(10000);
        }
        node_remove(node);
        must_not_exist(path);
        remember_gone(path);
}

static bool contains(const Node *above, const Node *node) {
        return node && (node == above || contains(above, node->parent));
}

static void do_rename(void) {
        Node *node = any(NULL), to;
        char from[PATH_SIZE];

        if (!node)
                return;
        place(&to);
        if (contains(node, to.parent))
                return;
        (void) snprintf(from, sizeof from, "%s", path_of(node));
        note("rename %s %s", from, path_of(&to));
        if (rename(from, path_of(&to)) < 0)
                give_up("rename %s %s: %s", from, path_of(&to), strerror(errno));
        if (node->parent)
                node->parent->n_children--;
        if (to.parent)
                to.parent->n_children++;
        node->parent = to.parent;
        node->shared = to.shared;
        memcpy(node->name, to.name, sizeof to.name);
        must_not_exist(from);
        look_at(node);
        remember_gone(from);
}

static void do_rename_over(void) {
        Node *a = any(is_not_dir), *b = any(is_not_dir);
        char from[PATH_SIZE];

        if (!a || !b || a->thing == b->thing)
                return;
        (void) snprintf(from, sizeof from, "%s", path_of(a));
        note("rename %s over %s", from, path_of(b));
        if (rename(from, path_of(b)) < 0)
                give_up("rename %s %s: %s", from, path_of(b), strerror(errno));
        if (--b->thing->n_names == 0)
                free(b->thing);
        b->thing = a->thing;
        b->thing->n_names++;
        node_remove(a);
        must_not_exist(from);
        look_at(b);
}

static void do_list(void) {
        Node *node = below(2) ? any(is_dir) : NULL;

        list_dir(node, (int) below(N_SHARED));
}

static void do_stat(void) {
        Node *node = any(NULL);

        if (!node)
                return;
        note("stat %s", path_of(node));
        look_at(node);
}

static void do_read(void) {
        Node *node = any(is_regular);

        if (!node)
                return;
        note("read %s", path_of(node));
        read_file(node);
}

static void do_stat_gone(void) {
        const char *path = gone[below(16)];

        if (!*path)
                return;
        note("stat removed %s", path);
        must_not_exist(path);
}

/* ---- manifests: a line for each name, as the model has it and as a walk finds it ---- */

static uint64_t hash_of(const uint8_t *p, size_t size) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < size; i++)
                hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
        return hash;
}

static void print_line(FILE *f, const char *path, mode_t mode, unsigned n_links, size_t size, uint64_t hash) {
        if (S_ISDIR(mode))
                (void) fprintf(f, "%s mode=%o\n", path, mode);
        else
                (void) fprintf(f, "%s mode=%o links=%u size=%zu hash=%llx\n", path, mode, n_links, size,
                               (unsigned long long) hash);
}

static void print_model(FILE *f) {
        for (int i = 0; i < n_nodes; i++) {
                const Thing *thing = nodes[i]->thing;
                const char *path = path_of(nodes[i]) + strlen(dir) + 1;
                char target[64];

                target_of(thing, target);
                fill(thing);
                if (S_ISLNK(thing->mode))
                        print_line(f, path, thing->mode, thing->n_names, strlen(target),
                                   hash_of((const uint8_t *) target, strlen(target)));
                else
                        print_line(f, path, thing->mode, thing->n_names, S_ISREG(thing->mode) ? thing->size : 0,
                                   hash_of(contents, S_ISREG(thing->mode) ? thing->size : 0));
        }
}

/* The .nfs files of what was open when it was removed may stay for a moment: `*ret_wait`. */
static void walk(FILE *f, const char *base, const char *below_base, bool *ret_wait) {
        char path[PATH_SIZE], name[PATH_SIZE];
        struct dirent *e;
        DIR *d;

        (void) snprintf(path, sizeof path, "%s/%s", base, below_base);
        d = opendir(path);
        if (!d)
                give_up("opendir %s: %s", path, strerror(errno));
        while ((errno = 0, e = readdir(d))) {
                struct stat st;
                ssize_t n = 0;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                if (strncmp(e->d_name, ".nfs", 4) == 0) {
                        *ret_wait = true;
                        continue;
                }
                (void) snprintf(name, sizeof name, "%s%s%s", below_base, *below_base ? "/" : "", e->d_name);
                if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        give_up("lstat %s: %s", name, strerror(errno));
                if (S_ISREG(st.st_mode)) {
                        int fd = openat(dirfd(d), e->d_name, O_RDONLY);

                        n = fd < 0 ? -1 : read(fd, buf, sizeof buf);
                        if (n < 0)
                                give_up("reading %s: %s", name, strerror(errno));
                        (void) close(fd);
                        if (n != st.st_size)
                                give_up("%s: %zd bytes of %lld", name, n, (long long) st.st_size);
                } else if (S_ISLNK(st.st_mode)) {
                        n = readlinkat(dirfd(d), e->d_name, (char *) buf, sizeof buf);
                        if (n < 0)
                                give_up("readlink %s: %s", name, strerror(errno));
                }
                print_line(f, name, st.st_mode, (unsigned) st.st_nlink, (size_t) n, hash_of(buf, (size_t) n));
                if (S_ISDIR(st.st_mode)) {
                        char deeper[PATH_SIZE];

                        memcpy(deeper, name, sizeof name);
                        walk(f, base, deeper, ret_wait);
                }
        }
        if (errno)
                give_up("readdir %s: %s", path, strerror(errno));
        (void) closedir(d);
}

typedef struct Lines {
        char *text, **lines;
        size_t n;
} Lines;

static int line_compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static Lines lines_of(FILE *f) {
        long size = ftell(f);
        Lines l = { .text = calloc(1, (size_t) size + 1) };
        char *save = NULL;

        rewind(f);
        if (!l.text || fread(l.text, 1, (size_t) size, f) != (size_t) size)
                give_up("reading a manifest");
        l.lines = calloc((size_t) size / 2 + 1, sizeof *l.lines);
        if (!l.lines)
                give_up("no memory");
        for (char *line = strtok_r(l.text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                l.lines[l.n++] = line;
        qsort(l.lines, l.n, sizeof *l.lines, line_compare);
        return l;
}

static void lines_done(Lines *l) {
        free(l->lines);
        free(l->text);
}

/* The number of differences, the first of them told. */
static int compare_lines(const char *base, const Lines *want, const Lines *got) {
        size_t i = 0, k = 0;
        int n = 0;

        while (i < want->n || k < got->n) {
                int c = i == want->n ? 1 : k == got->n ? -1 : strcmp(want->lines[i], got->lines[k]);

                if (c == 0) {
                        i++;
                        k++;
                        continue;
                }
                if (n++ < 20)
                        (void) fprintf(stderr, "churn: %s: %s %s\n", base, c < 0 ? "expected" : "found   ",
                                       c < 0 ? want->lines[i] : got->lines[k]);
                if (c < 0)
                        i++;
                else
                        k++;
        }
        return n;
}

static int check_tree(const char *base, const Lines *want) {
        int n = 0;

        for (int i = 0; i < 200; i++) {
                FILE *f = tmpfile();
                bool again = false;
                Lines got;

                if (!f)
                        give_up("tmpfile: %s", strerror(errno));
                walk(f, base, "", &again);
                got = lines_of(f);
                (void) fclose(f);
                n = compare_lines(base, want, &got);
                lines_done(&got);
                if (!again)
                        return n;
                (void) usleep(50000);
        }
        (void) fprintf(stderr, "churn: %s: .nfs files stay\n", base);
        return n + 1;
}

/* ---- processes ---- */

static _Noreturn void process(double end, FILE *manifest) {
        static void (*const ops[])(void) = { do_create, do_create, do_create,      do_overwrite, do_chmod,
                                             do_link,   do_unlink, do_unlink,      do_mkdir,     do_rmdir,
                                             do_rename, do_rename, do_rename_over, do_list,      do_stat,
                                             do_stat,   do_read,   do_read,        do_stat_gone, do_other };
        struct timespec now;

        rng = seed * 7919 + (uint64_t) self;
        do {
                for (int i = 0; i < 20; i++)
                        ops[below(sizeof ops / sizeof ops[0])]();
                (void) clock_gettime(CLOCK_MONOTONIC, &now);
        } while ((double) now.tv_sec + (double) now.tv_nsec / 1e9 < end);
        print_model(manifest);
        if (fflush(manifest) != 0)
                give_up("writing the manifest");
        _exit(0);
}

static void make_shared_dirs(FILE *manifest) {
        char path[PATH_SIZE];

        for (int i = 0; i < N_SHARED; i++) {
                shared_path(i, path);
                if (mkdir(path, 0755) < 0)
                        give_up("mkdir %s: %s", path, strerror(errno));
                print_line(manifest, path + strlen(dir) + 1, S_IFDIR | 0755, 0, 0, 0);
        }
}

static int run(int n_procs, double seconds, FILE *manifest) {
        struct timespec now;
        pid_t pids[64];
        int status, rc = 0;

        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        (void) fflush(NULL);
        for (self = 0; self < n_procs; self++) {
                pids[self] = fork();
                if (pids[self] == 0)
                        process((double) now.tv_sec + seconds, manifest);
        }
        for (int i = 0; i < n_procs; i++) {
                if (wait(&status) < 0 || status == 0)
                        continue;
                if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
                        (void) fprintf(stderr, "churn: a process died of signal %d\n", WTERMSIG(status));
                if (rc++ == 0)
                        for (int k = 0; k < n_procs; k++)
                                (void) kill(pids[k], SIGKILL);
        }
        return rc;
}

int main(int argc, char **argv) {
        static const struct option long_options[] = { { "check", required_argument, NULL, 'c' },
                                                      { "seed", required_argument, NULL, 's' },
                                                      { 0 } };
        const char *other = NULL;
        FILE *manifest = tmpfile();
        int opt, n;
        Lines want;

        seed = 1;
        while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
                if (opt == 'c')
                        other = optarg;
                else if (opt == 's')
                        seed = strtoull(optarg, NULL, 0);
                else
                        return 2;
        }
        if (argc - optind != 3 || atoi(argv[optind + 2]) < 1 || atoi(argv[optind + 2]) > 64 || !manifest) {
                (void) fprintf(stderr, "usage: churn DIR SECONDS NPROC [--seed N] [--check OTHERDIR]\n");
                return 2;
        }
        dir = argv[optind];
        (void) umask(0);
        /* all processes append to one manifest, whole lines */
        (void) fcntl(fileno(manifest), F_SETFL, O_APPEND);
        (void) setvbuf(manifest, NULL, _IOLBF, LINE_SIZE);
        n_ops = mmap(NULL, sizeof *n_ops, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        make_shared_dirs(manifest);
        if (run(atoi(argv[optind + 2]), atof(argv[optind + 1]), manifest) != 0)
                return 1;
        (void) fseek(manifest, 0, SEEK_END);
        want = lines_of(manifest);
        n = check_tree(dir, &want);
        if (other)
                n += check_tree(other, &want);
        (void) printf("%llu operations, %zu names in the end, %d differences\n", (unsigned long long) atomic_load(n_ops), want.n,
                      n);
        lines_done(&want);
        (void) fclose(manifest);
        return n > 0;
}
