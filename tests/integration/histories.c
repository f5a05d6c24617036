/*
 * histories A B SERVER [--seconds N] [--jobs N] [--seed N] [--ops N] [--data-s N] [--names-s N] [--positive] [--nocto] [--sync]
 *
 * Small random histories of two clients, whose mounts of one export are A and B, and of the server itself, whose directory
 * that is. One operation follows the other, so what was first is known; each result is checked against what close-to-open
 * consistency (nfs(5)) permits:
 *
 *   data    what a client wrote it sees at once. What another has closed (or synced, or wrote under a lock it has released) it
 *           sees when it opens the file, locks it, or its attributes are older than --data-s seconds (acregmax); until
 *           then each byte is any that was there since. Nobody sees what was never there.
 *   names   what a client made and removed it sees at once, what others did within --names-s seconds (acdirmax). A name is
 *           what it was at some time since; with --positive (lookupcache=pos) it is not missing if it is there. Of what a
 *           client has seen nothing comes back.
 *
 * Not checked, because NFS promises nothing: two clients that write to one file before either has closed it; these are not
 * generated. A history that fails is made shorter as long as it still fails, and printed with its seed.
 */
#include <dirent.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/prctl.h>

#include "histories.h"

#define N_SLOTS 2 /* files that each client has open */

enum Kind {
        OP_OPEN,
        OP_READ,
        OP_WRITE,
        OP_TRUNCATE_FD,
        OP_SYNC,
        OP_CLOSE,
        OP_STAT_FD,
        OP_STAT,
        OP_REWRITE,
        OP_APPEND,
        OP_TRUNCATE,
        OP_READ_ALL,
        OP_MMAP_READ,
        OP_MMAP_WRITE,
        OP_LOCKED,
        OP_UNLINK,
        OP_RENAME,
        OP_LINK,
        OP_MKDIR,
        OP_RMDIR,
        OP_LIST,
        OP_WAIT,
        N_KINDS,
};
static const char *const kind_names[N_KINDS] = {
        "open",     "read",        "write",         "ftruncate",      "fsync",
        "close",    "fstat",       "stat",          "rewrite",        "append",
        "truncate", "read all of", "mmap and read", "mmap and write", "lock, read, write",
        "unlink",   "rename",      "link",          "mkdir",          "rmdir",
        "list",     "wait",
};
static const char *const names[N_NAMES] = { "a", "b", "c", "s/a", "s/b" };

typedef struct Step {
        enum Actor actor;
        enum Kind kind;
        int name, to, slot, flags;
        unsigned at, len;
} Step;

static const char *roots[N_ACTORS];
static double seconds = 2;
static unsigned n_ops = 14, job, n_bases, n_used;
static char base[64]; /* each history has a directory of its own, made before the clients have looked */
static int fds[2][N_SLOTS], opened[2][N_SLOTS], modes[2][N_SLOTS];

static const char *path_of(enum Actor actor, const char *name) {
        static char paths[4][400];
        static unsigned next;
        char *path = paths[next++ % 4];

        (void) snprintf(path, sizeof paths[0], "%s/%s/%s", roots[actor], base, name);
        return path;
}

static uint8_t byte_of(unsigned number, size_t i) {
        return (uint8_t) ((number * 41 + i * 7 + i / 251) % 255 + 1);
}

/* reserve() came too late: the server had the file open for a moment longer. What was removed is there, under a name. */
static bool is_number_used_again(const Object *o, int name) {
        struct stat st;

        return o->n_names == 0 && !o->reserved && lstat(path_of(SERVER, names[name]), &st) == 0 && st.st_ino == o->ino;
}

/* ---- operations on open files ---- */

/* What an open has found. NULL: an error, which was judged. */
static Object *judge_open(enum Actor actor, int name, int flags, int fd, double start) {
        struct stat st;
        int err = errno, o;

        if (fd < 0) {
                if (err == ENOENT && !(flags & O_CREAT))
                        absent(actor, name, "open", start);
                else if (err == EEXIST && (flags & O_EXCL) && object_of(name) >= 0)
                        return NULL;
                else if (!(err == EISDIR && may_be(actor, name, true, start)))
                        wrong("open: %s", strerrorname_np(err));
                return NULL;
        }
        if (fstat(fd, &st) < 0) {
                wrong("fstat: %s", strerrorname_np(errno));
                return NULL;
        }
        o = met(actor, name, st.st_ino, start);
        if (o >= 0 && (flags & O_CREAT) && is_number_used_again(&objects[o], name))
                o = -1;
        if (o >= 0 && objects[o].dir) /* read only, that works */
                return NULL;
        if (o < 0 && object_of(name) < 0 && (flags & O_CREAT)) {
                (void) object_new(false, st.st_ino);
                bind_name(actor, name, n_objects - 1);
                o = n_objects - 1;
        } else if (o < 0 || ((flags & O_EXCL) && (flags & O_CREAT))) {
                wrong("open: the file is not what the name is, nor what it was lately");
                return NULL;
        }
        if (actor != SERVER && !promise.nocto)
                refresh(&objects[o], (int) actor, start);
        expire(&objects[o], actor, start);
        if (flags & O_TRUNC)
                truncated(&objects[o], actor, 0);
        check_size(&objects[o], actor, (size_t) ((flags & O_TRUNC) ? 0 : st.st_size), "fstat after open");
        return &objects[o];
}

static int open_name(enum Actor actor, int name, int flags, Object **ret) {
        double start = now();
        int fd = open(path_of(actor, names[name]), flags | O_CLOEXEC, 0644);

        *ret = judge_open(actor, name, flags, fd, start);
        if (*ret)
                return fd;
        if (fd >= 0)
                (void) close(fd);
        return -1;
}

static void do_read(Object *o, enum Actor actor, int fd, size_t at, size_t len) {
        static uint8_t buf[SIZE_MAX_];
        double start = now();
        ssize_t n = pread(fd, buf, len, (off_t) at);

        if (n < 0) {
                if (!stale_is_fine(o, actor))
                        wrong("read: %s", strerrorname_np(errno));
                return;
        }
        expire(o, actor, start);
        check_data(o, actor, at, buf, (size_t) n, len);
}

static bool do_write(Object *o, enum Actor actor, int fd, size_t at, size_t len, bool append) {
        static uint8_t buf[SIZE_MAX_];
        ssize_t n;

        if (append)
                at = latest(o)->size;
        if (at + len > SIZE_MAX_)
                return false;
        for (size_t i = 0; i < len; i++)
                buf[i] = byte_of(change + 1, i + at);
        n = append ? write(fd, buf, len) : pwrite(fd, buf, len, (off_t) at);
        if (n == (ssize_t) len) {
                wrote(o, actor, at, buf, len);
                return true;
        }
        if (!(n < 0 && stale_is_fine(o, actor)))
                wrong("write: %zd, %s", n, n < 0 ? strerrorname_np(errno) : "");
        return false;
}

static void do_close(Object *o, enum Actor actor, int fd) {
        if (close(fd) < 0 && !stale_is_fine(o, actor))
                wrong("close: %s", strerrorname_np(errno));
        if (o->writer == (int) actor)
                flushed(o);
}

static void run_slot(const Step *s) {
        int c = (int) s->actor, fd, *slot = &fds[c][s->slot];
        Object *o = *slot >= 0 ? &objects[opened[c][s->slot]] : NULL;
        double start = now();
        struct stat st;

        if (s->kind == OP_OPEN) {
                if (*slot >= 0)
                        return;
                if ((s->flags & O_TRUNC) && (!may_write_name(s->actor, s->name, start) ||
                                             (object_of(s->name) >= 0 && !is_certain(s->actor, s->name, start))))
                        return;
                fd = open_name(s->actor, s->name, s->flags, &o);
                if (fd < 0)
                        return;
                *slot = fd;
                opened[c][s->slot] = (int) (o - objects);
                modes[c][s->slot] = s->flags;
                return;
        }
        if (!o)
                return;
        switch (s->kind) {
        case OP_READ:
                if ((modes[c][s->slot] & O_ACCMODE) != O_WRONLY)
                        do_read(o, s->actor, *slot, s->at, s->len);
                break;
        case OP_WRITE:
                if ((modes[c][s->slot] & O_ACCMODE) != O_RDONLY && may_write(o, s->actor))
                        (void) do_write(o, s->actor, *slot, s->at, s->len, modes[c][s->slot] & O_APPEND);
                break;
        case OP_TRUNCATE_FD:
                if ((modes[c][s->slot] & O_ACCMODE) == O_RDONLY || !may_write(o, s->actor))
                        break;
                if (ftruncate(*slot, s->at) == 0)
                        truncated(o, s->actor, s->at);
                else if (!stale_is_fine(o, s->actor))
                        wrong("ftruncate: %s", strerrorname_np(errno));
                break;
        case OP_SYNC:
                if (fsync(*slot) < 0 && !stale_is_fine(o, s->actor))
                        wrong("fsync: %s", strerrorname_np(errno));
                if (o->writer == c)
                        flushed(o);
                break;
        case OP_STAT_FD:
                if (fstat(*slot, &st) == 0) {
                        expire(o, s->actor, start);
                        check_size(o, s->actor, (size_t) st.st_size, "fstat");
                        if (st.st_ino != o->ino)
                                wrong("fstat: another inode");
                } else if (!stale_is_fine(o, s->actor)) {
                        wrong("fstat: %s", strerrorname_np(errno));
                }
                break;
        default:
                do_close(o, s->actor, *slot);
                *slot = -1;
        }
}

/* ---- whole files by name ---- */

static void read_mapped(Object *o, enum Actor actor, int fd) {
        static uint8_t buf[SIZE_MAX_];
        struct stat st = { 0 };
        void *p;

        if (fstat(fd, &st) < 0 || st.st_size == 0)
                return;
        p = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return wrong("mmap: %s", strerrorname_np(errno));
        memcpy(buf, p, (size_t) st.st_size);
        (void) munmap(p, (size_t) st.st_size);
        check_data(o, actor, 0, buf, (size_t) st.st_size, SIZE_MAX_);
}

static void write_mapped(Object *o, enum Actor actor, int fd, size_t at, size_t len) {
        size_t size = latest(o)->size;
        uint8_t *p;

        if (size == 0)
                return;
        at %= size;
        if (at + len > size)
                len = size - at;
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return wrong("mmap: %s", strerrorname_np(errno));
        for (size_t i = at; i < at + len; i++)
                p[i] = byte_of(change + 1, i);
        wrote(o, actor, at, p + at, len);
        (void) munmap(p, size);
}

static void locked(Object *o, enum Actor actor, int fd, const Step *s) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        double start = now();

        if (fcntl(fd, F_SETLKW, &lock) < 0) { /* nocto: opened without asking whether it is still there */
                if (!(promise.nocto && stale_is_fine(o, actor)))
                        wrong("lock: %s", strerrorname_np(errno));
                return;
        }
        refresh(o, (int) actor, start);
        do_read(o, actor, fd, 0, SIZE_MAX_);
        (void) do_write(o, actor, fd, s->at, s->len, false);
        lock.l_type = F_UNLCK;
        if (fcntl(fd, F_SETLK, &lock) < 0)
                return wrong("unlock: %s", strerrorname_np(errno));
        flushed(o);
}

static void run_file(const Step *s) {
        static const int open_flags[N_KINDS] = {
                [OP_REWRITE] = O_RDWR | O_CREAT | O_TRUNC,
                [OP_APPEND] = O_WRONLY | O_CREAT | O_APPEND,
                [OP_READ_ALL] = O_RDONLY,
                [OP_MMAP_READ] = O_RDONLY,
                [OP_MMAP_WRITE] = O_RDWR,
                [OP_LOCKED] = O_RDWR | O_CREAT,
        };
        int flags = open_flags[s->kind], fd;
        bool writes = flags != O_RDONLY;
        Object *o = object_of(s->name) >= 0 ? &objects[object_of(s->name)] : NULL;

        if (writes && (!may_write_name(s->actor, s->name, now()) || (o && !is_certain(s->actor, s->name, now()))))
                return;
        if ((s->kind == OP_MMAP_READ || s->kind == OP_MMAP_WRITE) && (promise.nocto || s->actor == SERVER))
                return;
        if (s->kind == OP_LOCKED && s->actor == SERVER)
                return;
        fd = open_name(s->actor, s->name, flags, &o);
        if (fd < 0)
                return;
        switch (s->kind) {
        case OP_REWRITE:
                (void) do_write(o, s->actor, fd, 0, s->len, false);
                break;
        case OP_APPEND:
                (void) do_write(o, s->actor, fd, 0, s->len, true);
                break;
        case OP_MMAP_READ:
                read_mapped(o, s->actor, fd);
                break;
        case OP_MMAP_WRITE:
                write_mapped(o, s->actor, fd, s->at, s->len);
                break;
        case OP_LOCKED:
                locked(o, s->actor, fd, s);
                break;
        default:
                do_read(o, s->actor, fd, 0, SIZE_MAX_);
        }
        do_close(o, s->actor, fd);
}

/* ---- names ---- */

static void run_stat(const Step *s) {
        double start = now();
        struct stat st;
        int o;

        if (lstat(path_of(s->actor, names[s->name]), &st) < 0) {
                if (errno != ENOENT)
                        return wrong("stat: %s", strerrorname_np(errno));
                return absent(s->actor, s->name, "stat", start);
        }
        o = met(s->actor, s->name, st.st_ino, start);
        if (o < 0)
                return wrong("stat: found %s which the name is not, nor was lately (it is %s)",
                             S_ISDIR(st.st_mode) ? "a directory" : "a file", object_of(s->name) < 0 ? "nothing" : "another");
        if (S_ISDIR(st.st_mode) != objects[o].dir)
                return wrong("stat: the type is wrong");
        expire(&objects[o], s->actor, start);
        if (!objects[o].dir)
                check_size(&objects[o], s->actor, (size_t) st.st_size, "stat");
}

static void run_truncate(const Step *s) {
        int o = object_of(s->name);

        if (o < 0 || objects[o].dir || !is_certain(s->actor, s->name, now()) || !may_write(&objects[o], s->actor))
                return;
        if (truncate(path_of(s->actor, names[s->name]), s->at) < 0)
                return wrong("truncate: %s", strerrorname_np(errno));
        truncated(&objects[o], s->actor, s->at);
}

/* One that removes a name of a file, or of a directory. */
static void run_remove(const Step *s) {
        const char *path = path_of(s->actor, names[s->name]);
        double start = now();
        bool dir = s->kind == OP_RMDIR;
        int o = object_of(s->name), err;

        err = (dir ? rmdir(path) : unlink(path)) < 0 ? errno : 0;
        if (err == ENOENT) {
                if (o >= 0)
                        absent(s->actor, s->name, "remove", start);
                return;
        }
        if (err == (dir ? ENOTDIR : EISDIR)) {
                if (!may_be(s->actor, s->name, !dir, start))
                        wrong("remove: %s, but it is not", strerrorname_np(err));
                return;
        }
        if (err)
                return wrong("remove: %s", strerrorname_np(err));
        if (o < 0 || objects[o].dir != dir)
                return wrong("removed what was not there");
        bind_name(s->actor, s->name, -1);
        name_lost(o, s->actor);
}

static void run_rename(const Step *s) {
        int from = object_of(s->name), to = object_of(s->to), err;
        double start = now();
        bool fits = from >= 0 && (to < 0 || objects[from].dir == objects[to].dir);

        if (s->name == s->to || !is_certain(s->actor, s->name, start) || !is_certain(s->actor, s->to, start))
                return;
        if (s->kind == OP_LINK) {
                if (from < 0 || objects[from].dir)
                        return;
                err = link(path_of(s->actor, names[s->name]), path_of(s->actor, names[s->to])) < 0 ? errno : 0;
                if (err != (to >= 0 ? EEXIST : 0))
                        return wrong("link: %s", err ? strerrorname_np(err) : "success");
                if (!err) {
                        bind_name(s->actor, s->to, from);
                        objects[from].n_names++;
                }
                return;
        }
        if (from >= 0 && !fits)
                return;
        err = rename(path_of(s->actor, names[s->name]), path_of(s->actor, names[s->to])) < 0 ? errno : 0;
        if (err != (from < 0 ? ENOENT : 0))
                return wrong("rename: %s", err ? strerrorname_np(err) : "success");
        if (err || from == to) /* two names of one file: nothing happens */
                return;
        bind_name(s->actor, s->to, from);
        bind_name(s->actor, s->name, -1);
        if (to >= 0)
                name_lost(to, s->actor);
}

static void run_mkdir(const Step *s) {
        const char *path = path_of(s->actor, names[s->name]);
        struct stat st;
        int err = mkdir(path, 0755) < 0 ? errno : 0;

        if (err != (object_of(s->name) >= 0 ? EEXIST : 0))
                return wrong("mkdir: %s", err ? strerrorname_np(err) : "success");
        if (err)
                return;
        if (lstat(path_of(SERVER, names[s->name]), &st) < 0)
                return wrong("mkdir: it is not on the server");
        (void) object_new(true, st.st_ino);
        bind_name(s->actor, s->name, n_objects - 1);
}

/* A listing is always the server's. */
static void run_list(const Step *s) {
        bool sub = s->at % 2;
        DIR *d = opendir(path_of(s->actor, sub ? "s" : ""));
        int found[N_NAMES] = { 0 };
        struct dirent *e;

        if (!d)
                return wrong("opendir: %s", strerrorname_np(errno));
        while ((e = readdir(d)))
                for (int i = sub ? N_TOP : 0; i < (sub ? N_NAMES : N_TOP); i++)
                        found[i] += strcmp(strrchr(names[i], '/') ? strrchr(names[i], '/') + 1 : names[i], e->d_name) == 0;
        (void) closedir(d);
        for (int i = sub ? N_TOP : 0; i < (sub ? N_NAMES : N_TOP); i++)
                if (found[i] != (object_of(i) >= 0))
                        wrong("listed: %s is there %d times instead of %d", names[i], found[i], object_of(i) >= 0);
}

/* ---- a history ---- */

static void run_step(const Step *s) {
        acting = s->actor;
        switch (s->kind) {
        case OP_OPEN:
        case OP_READ:
        case OP_WRITE:
        case OP_TRUNCATE_FD:
        case OP_SYNC:
        case OP_CLOSE:
        case OP_STAT_FD:
                return run_slot(s);
        case OP_STAT:
                return run_stat(s);
        case OP_TRUNCATE:
                return run_truncate(s);
        case OP_UNLINK:
        case OP_RMDIR:
                return run_remove(s);
        case OP_RENAME:
        case OP_LINK:
                return run_rename(s);
        case OP_MKDIR:
                return run_mkdir(s);
        case OP_LIST:
                return run_list(s);
        case OP_WAIT:
                (void) poll(NULL, 0, (int) ((MAX(promise.data_s, promise.names_s) + LATE * 1.5) * 1000));
                return;
        default:
                return run_file(s);
        }
}

static void run_timed(const Step *s) {
        double start = now();

        run_step(s);
        if (s->kind != OP_WAIT)
                late = MAX(late, LATE + now() - start);
}

/* When all has been closed, all see the same. */
static void check_end(void) {
        for (int c = 0; c < 2; c++)
                for (int i = 0; i < N_SLOTS; i++)
                        if (fds[c][i] >= 0)
                                run_slot(&(Step){ .actor = (enum Actor) c, .kind = OP_CLOSE, .slot = i });
        for (int actor = SERVER; actor >= 0; actor--)
                for (int i = 0; i < N_NAMES; i++) {
                        acting = (enum Actor) actor;
                        run_stat(&(Step){ .actor = (enum Actor) actor, .kind = OP_STAT, .name = i });
                        if (object_of(i) >= 0 && !objects[object_of(i)].dir && is_certain((enum Actor) actor, i, now()))
                                run_file(&(Step){ .actor = (enum Actor) actor, .kind = OP_READ_ALL, .name = i });
                }
}

static void bases_make(unsigned jobs) {
        for (job = 0; job < jobs; job++)
                for (unsigned i = 0; i < n_bases; i++) {
                        (void) snprintf(base, sizeof base, "%u.%u", job, i);
                        if (mkdir(path_of(SERVER, ""), 0755) < 0 || mkdir(path_of(SERVER, "s"), 0755) < 0 ||
                            mkdir(path_of(SERVER, "taken"), 0755) < 0) {
                                (void) fprintf(stderr, "mkdir %s: %s\n", path_of(SERVER, ""), strerror(errno));
                                exit(2);
                        }
                }
}

/*
 * What is removed shall not come back as something else with the same inode number, by which we know it: a file beside takes
 * the number as soon as it is free.
 */
static void reserve(void) {
        static unsigned number;
        char name[32];
        struct stat st;
        int fd;

        for (int i = 0; i < n_objects; i++) {
                if (objects[i].n_names > 0 || objects[i].reserved)
                        continue;
                (void) snprintf(name, sizeof name, "taken/%u", number++);
                fd = open(path_of(SERVER, name), O_WRONLY | O_CREAT, 0600);
                objects[i].reserved = fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == objects[i].ino;
                (void) close(fd);
                if (!objects[i].reserved)
                        (void) unlink(path_of(SERVER, name));
        }
}

/* reserve() came too late, as above: of two objects with one number, nobody knows which was seen. */
static bool is_a_number_used_twice(void) {
        for (int i = 0; i < n_objects; i++)
                for (int j = 0; j < i; j++)
                        if (objects[i].ino == objects[j].ino)
                                return true;
        return false;
}

/* Returns the step that went wrong; n: the end; -1: none. */
static int run_history(const Step *steps, int n) {
        int at = -1;

        if (n_used == n_bases)
                return -1;
        (void) snprintf(base, sizeof base, "%u.%u", job, n_used++);
        model_reset();
        memset(fds, 0xff, sizeof fds);
        for (int i = 0; i < n && !failed; i++) {
                run_timed(&steps[i]);
                reserve();
                if (failed)
                        at = i;
        }
        if (!failed) {
                check_end();
                if (failed)
                        at = n;
        }
        for (int c = 0; c < 2; c++)
                for (int i = 0; i < N_SLOTS; i++)
                        if (fds[c][i] >= 0)
                                (void) close(fds[c][i]);
        return is_a_number_used_twice() ? -1 : at;
}

/* data: mostly one file that is open, instead of everything. */
static Step step_random(uint64_t *rng, bool data) {
        static const int flags[] = {
                O_RDONLY,         O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL, O_RDWR | O_CREAT | O_TRUNC,
                O_RDWR | O_APPEND
        };
        static const unsigned places[] = { 0, 0, 1, 100, 4095, 4096, 9000, 20000 };
        static const unsigned lengths[] = { 1, 10, 100, 4096, 5000, 15000 };
        Step s = {
                .actor = (enum Actor)(random_below(rng, 9) % 4 % N_ACTORS),
                .kind = (enum Kind) random_below(rng, N_KINDS),
                .name = (int) random_below(rng, N_NAMES),
                .to = (int) random_below(rng, N_NAMES),
                .slot = (int) random_below(rng, N_SLOTS),
                .flags = flags[random_below(rng, sizeof flags / sizeof flags[0])],
                .at = places[random_below(rng, sizeof places / sizeof places[0])],
                .len = lengths[random_below(rng, sizeof lengths / sizeof lengths[0])],
        };

        if (random_below(rng, 3) > 0) /* mostly a few names, so that something happens to them */
                s.name %= 2;
        if (s.kind == OP_OPEN && random_below(rng, 2))
                s.flags = O_RDWR | O_CREAT;
        if (data) {
                s.kind = (enum Kind)(random_below(rng, 12) > 0 ? random_below(rng, OP_LOCKED + 1) : s.kind);
                s.name = 0;
                s.slot = (int) random_below(rng, 4) / 3;
                s.at %= 9000;
        }
        if (s.kind == OP_WAIT && (MAX(promise.data_s, promise.names_s) > 2 || random_below(rng, 3) > 0))
                s.kind = OP_READ_ALL;
        if (s.actor == SERVER && s.kind <= OP_STAT_FD)
                s.kind = random_below(rng, 2) ? OP_REWRITE : OP_STAT;
        return s;
}

static void print_step(int number, const Step *s) {
        (void) fprintf(stderr, "  %2d %c %s", number, "ABS"[s->actor], kind_names[s->kind]);
        if (s->kind <= OP_STAT_FD)
                (void) fprintf(stderr, " file %d", s->slot);
        if (s->kind == OP_OPEN || (s->kind >= OP_STAT && s->kind < OP_LIST))
                (void) fprintf(stderr, " %s", names[s->name]);
        if (s->kind == OP_OPEN)
                (void) fprintf(stderr, "%s%s%s%s%s", (s->flags & O_ACCMODE) == O_RDONLY ? " O_RDONLY" : " O_RDWR",
                               s->flags & O_CREAT ? "|O_CREAT" : "", s->flags & O_EXCL ? "|O_EXCL" : "",
                               s->flags & O_TRUNC ? "|O_TRUNC" : "", s->flags & O_APPEND ? "|O_APPEND" : "");
        if (s->kind == OP_RENAME || s->kind == OP_LINK)
                (void) fprintf(stderr, " %s", names[s->to]);
        if (s->kind == OP_READ || s->kind == OP_WRITE || s->kind == OP_TRUNCATE || s->kind == OP_TRUNCATE_FD ||
            s->kind == OP_MMAP_WRITE || s->kind == OP_LOCKED)
                (void) fprintf(stderr, " at %u", s->at);
        if (s->kind == OP_READ || s->kind == OP_WRITE || s->kind == OP_REWRITE || s->kind == OP_APPEND ||
            s->kind == OP_MMAP_WRITE || s->kind == OP_LOCKED)
                (void) fprintf(stderr, " %u bytes", s->len);
        (void) fprintf(stderr, "\n");
}

/* Without each step in turn, as long as it fails. */
static int shrink(Step *steps, int n) {
        Step less[OPS_MAX];
        bool shorter = true;

        while (shorter) {
                shorter = false;
                for (int i = n - 1; i >= 0; i--) {
                        int at = -1;

                        memcpy(less, steps, sizeof *steps * (size_t) i);
                        memcpy(less + i, steps + i + 1, sizeof *steps * (size_t) (n - i - 1));
                        for (int tries = 0; tries < 2 && at < 0; tries++)
                                at = run_history(less, n - 1);
                        if (at < 0)
                                continue;
                        n = at < n - 1 ? at + 1 : n - 1;
                        memcpy(steps, less, sizeof *steps * (size_t) n);
                        shorter = true;
                        if (i > n)
                                i = n;
                }
        }
        return n;
}

static int try_history(uint64_t seed) {
        Step all[OPS_MAX], steps[OPS_MAX];
        char first[sizeof failure];
        uint64_t rng = seed;
        int n = (int) n_ops, at, again;

        for (int i = 0; i < n; i++)
                all[i] = step_random(&rng, seed % 2);
        at = run_history(all, n);
        if (at < 0)
                return 0;
        (void) snprintf(first, sizeof first, "%s", failure);
        memcpy(steps, all, sizeof steps);
        n = shrink(steps, at < n ? at + 1 : n);
        again = run_history(steps, n);
        (void) fprintf(stderr, "histories: seed %llu, step %d%s: %s\n", (unsigned long long) seed, at,
                       at == (int) n_ops ? " (when all is closed)" : "", first);
        if (again >= 0)
                (void) fprintf(stderr, "  shorter, step %d: %s\n", again, failure);
        else /* it does not fail every time */
                memcpy(steps, all, sizeof steps), n = at < (int) n_ops ? at + 1 : (int) n_ops;
        for (int i = 0; i < n; i++)
                print_step(i, &steps[i]);
        return 1;
}

static void died(int sig) {
        (void) dprintf(STDERR_FILENO, "histories: signal %d, in %s\n", sig, base);
        _exit(3);
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "seconds", 1, NULL, 't' },  { "jobs", 1, NULL, 'j' },
                { "seed", 1, NULL, 's' },     { "ops", 1, NULL, 'o' },
                { "data-s", 1, NULL, 'd' },   { "names-s", 1, NULL, 'n' },
                { "positive", 0, NULL, 'p' }, { "nocto", 0, NULL, 'c' },
                { "sync", 0, NULL, 'y' },     { 0 },
        };
        unsigned jobs = 4, *n_histories;
        uint64_t seed = 1;
        double end;
        int c, rc = 0;

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (c) {
                case 't':
                        seconds = atof(optarg);
                        break;
                case 'j':
                        jobs = (unsigned) atoi(optarg);
                        break;
                case 's':
                        seed = strtoull(optarg, NULL, 10);
                        break;
                case 'o':
                        n_ops = (unsigned) atoi(optarg);
                        break;
                case 'd':
                        promise.data_s = atof(optarg);
                        break;
                case 'n':
                        promise.names_s = atof(optarg);
                        break;
                case 'p':
                        promise.positive = true;
                        break;
                case 'c':
                        promise.nocto = true;
                        break;
                case 'y':
                        promise.synchronous = true;
                        break;
                default:
                        return 2;
                }
        if (argc - optind != N_ACTORS || n_ops > OPS_MAX) {
                (void) fprintf(stderr, "usage: histories A B SERVER [OPTIONS]\n");
                return 2;
        }
        for (int i = 0; i < N_ACTORS; i++)
                roots[i] = argv[optind + i];
        n_bases = (unsigned) (seconds * 1200 / jobs) + 150; /* shrinking takes some */
        bases_make(jobs);
        end = now() + seconds;
        n_histories = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        for (job = 0; job < jobs; job++) {
                pid_t pid = fork();

                if (pid != 0)
                        continue;
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) signal(SIGBUS, died);
                objects = calloc(OBJECTS, sizeof *objects);
                for (uint64_t s = seed * 1000000 + job; now() < end && n_used < n_bases / 2;
                     s += jobs, (void) __atomic_fetch_add(n_histories, 1, __ATOMIC_RELAXED))
                        if (try_history(s))
                                _exit(1);
                _exit(0);
        }
        for (job = 0; job < jobs; job++) {
                int status;

                (void) wait(&status);
                rc |= status != 0;
        }
        (void) printf("# %u histories\n", *n_histories);
        return rc;
}
