/* The directory of the group "errno", and the cases that are a product: of calls and paths, of calls and descriptors. */
#include <assert.h>
#include <dirent.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "posix-errno.h"

#define USER 1000

#ifdef __SANITIZE_ADDRESS__
#define HAS_ADDRESS_SANITIZER
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define HAS_ADDRESS_SANITIZER
#endif
#endif

/* ---- the directory ---- */

static const struct Thing {
        const char *path;
        mode_t mode;
        uid_t uid;
        const char *text; /* of a file; or the target of a link */
        bool newer;       /* its times may change */
} things[] = {
        { "file", S_IFREG | 0644, .text = "data" },
        { "dir", S_IFDIR | 0755 },
        { "full", S_IFDIR | 0755 },
        { "full/file", S_IFREG | 0644 },
        { "full/dir", S_IFDIR | 0755 },
        { "link", S_IFLNK | 0777, .text = "file" },
        { "dirlink", S_IFLNK | 0777, .text = "dir" },
        { "dangling", S_IFLNK | 0777, .text = "none" },
        { "loop", S_IFLNK | 0777, .text = "loop" },
        { "fifo", S_IFIFO | 0600 },
        { "socket", S_IFSOCK | 0600 },
        { "text", S_IFREG | 0755, .text = "no program" },
        { "script", S_IFREG | 0755, .text = "#!./none\n" },
        { "program", S_IFREG | 0755 }, /* a copy of cat(1) */
        { "secret", S_IFREG | 0600, .text = "secret" },
        { "private", S_IFDIR | 0700 },
        { "private/file", S_IFREG | 0666 },
        { "private/dir", S_IFDIR | 0755 },
        { "shut", S_IFDIR | 0755 },
        { "shut/file", S_IFREG | 0666, USER },
        { "shut/dir", S_IFDIR | 0755, USER },
        { "open", S_IFDIR | 0777 },
        { "open/file", S_IFREG | 0644, USER, .text = "mine" },
        { "open/dir", S_IFDIR | 0755, USER },
        { "open/roots", S_IFREG | 0666, .text = "theirs" },
        { "open/rootdir", S_IFDIR | 0755 },
        { "sticky", S_IFDIR | 01777 },
        { "sticky/file", S_IFREG | 0666 },
        { "sticky/dir", S_IFDIR | 0777 },
        { "mnt", S_IFDIR | 0755 },
        /* write(2) sets the times before it looks at the buffer */
        { "touched", S_IFREG | 0644, .text = "touched", .newer = true },
        /* a case may use it and leave it empty */
        { "scratch", S_IFDIR | 0755, .newer = true },
        /* made last: what is newer has been changed since */
        { "stamp", S_IFREG | 0644 },
};

enum { N_THINGS = sizeof things / sizeof things[0] };

static void copy_program(const char *from, const char *to) {
        static char buf[1 << 24];
        int fd = file_open(from, O_RDONLY);
        ssize_t n = OK(read(fd, buf, sizeof buf));

        CHECK((size_t) n < sizeof buf);
        file_make(to, buf, (size_t) n);
        OK(close(fd));
}

static void make_things(void) {
        for (const struct Thing *t = things; t < things + N_THINGS; t++) {
                if (S_ISDIR(t->mode))
                        OK(mkdir(t->path, 0755));
                else if (S_ISLNK(t->mode))
                        OK(symlink(t->text, t->path));
                else if (strcmp(t->path, "program") == 0)
                        copy_program("/bin/cat", t->path);
                else if (S_ISREG(t->mode))
                        file_text(t->path, t->text ? t->text : "");
                else
                        OK(mknod(t->path, t->mode, 0));
                if (t->uid != 0)
                        OK(lchown(t->path, t->uid, t->uid));
                if (!S_ISLNK(t->mode))
                        OK(chmod(t->path, t->mode & 07777));
        }
}

static bool is_newer(struct timespec a, struct timespec b) {
        return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

/* The names in the directory at path are those that begin with prefix in the table. */
static void check_names(const char *path, const char *prefix) {
        DIR *d = opendir(path);
        struct dirent *e;
        int n_found = 0, n_made = 0;
        char name[512];

        if (!d)
                FAIL("opendir %s: %s", path, strerror(errno));
        while ((e = readdir(d))) {
                bool known = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;

                n_found += !known;
                (void) snprintf(name, sizeof name, "%s%s", prefix, e->d_name);
                for (const struct Thing *t = things; t < things + N_THINGS && !known; t++)
                        known = strcmp(t->path, name) == 0;
                if (!known)
                        FAIL("a new name: %s", name);
        }
        for (const struct Thing *t = things; t < things + N_THINGS; t++)
                n_made += strncmp(t->path, prefix, strlen(prefix)) == 0 && !strchr(t->path + strlen(prefix), '/');
        if (n_found != n_made)
                FAIL("%s: %d names, not %d", path, n_found, n_made);
        OK(closedir(d));
}

static void changed_nothing(void) {
        struct timespec made = stat_of("stamp").st_ctim;

        check_names(".", "");
        for (const struct Thing *t = things; t < things + N_THINGS; t++) {
                struct stat st = lstat_of(t->path);
                char prefix[64];

                if (st.st_mode != t->mode || st.st_uid != t->uid)
                        FAIL("%s: mode %o of %u, not %o of %u", t->path, st.st_mode, st.st_uid, t->mode, t->uid);
                if (S_ISREG(t->mode) && t->text)
                        file_is(t->path, t->text);
                if (S_ISDIR(t->mode)) {
                        (void) snprintf(prefix, sizeof prefix, "%s/", t->path);
                        check_names(t->path, prefix);
                }
                if (!t->newer && (is_newer(st.st_ctim, made) || is_newer(st.st_mtim, made)))
                        FAIL("%s has been changed", t->path);
        }
}

/* ---- what a row does first ---- */

void as_user(void) {
        become(USER, USER, (gid_t) -1);
}

void mounted(unsigned long flags) {
        if (unshare(CLONE_NEWNS) < 0 && errno == EPERM)
                case_skip("nothing can be mounted here");
        OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
        OK(mount(".", "mnt", NULL, MS_BIND, NULL));
        if (flags)
                OK(mount(NULL, "mnt", NULL, MS_BIND | MS_REMOUNT | flags, NULL));
}

void in_removed(void) {
        OK(mkdir("scratch/gone", 0755));
        OK(chdir("scratch/gone"));
        OK(rmdir("../gone"));
}

int fd_of(const char *path, int flags) {
        return file_open(path, flags | O_NONBLOCK);
}

long exec_at(int at, const char *path, int flags) {
        char *const argv[] = { (char *) "cat", NULL };
        int result[2], err = 0;

        OK(pipe2(result, O_CLOEXEC));
        if (child_start() == 0) {
                (void) syscall(SYS_execveat, at, path, argv, NULL, flags);
                err = errno;
                (void) !write(result[1], &err, sizeof err);
                child_end();
        }
        OK(close(result[1]));
        (void) !read(result[0], &err, sizeof err); /* nothing, if it has become another program */
        errno = err;
        return err ? -1 : 0;
}

int closed_fd(void) {
        int fd = OK(fcntl(STDERR_FILENO, F_DUPFD, 500)); /* what the call itself opens gets another number */

        OK(close(fd));
        return fd;
}

static volatile uintptr_t first_page = 64; /* the compiler shall not know */

void *nowhere(void) {
#ifdef HAS_ADDRESS_SANITIZER
        case_skip("AddressSanitizer looks at what a call is given before the kernel does");
#endif
        return (void *) first_page;
}

bool is_nowhere(const void *p) {
        return p == (const void *) first_page;
}

void row_fails(const char *name, long r, int err, const char *what) {
        const Difference *d = differences;
        struct rlimit limit;
        int got = errno;

        OK(getrlimit(RLIMIT_FSIZE, &limit));
        limit.rlim_cur = limit.rlim_max;
        OK(setrlimit(RLIMIT_FSIZE, &limit));
        while (on_nfs && d->name && strcmp(d->name, name) != 0)
                d++;
        errno = got;
        if (!on_nfs || !d->name)
                case_fails(r, err, what, __FILE__, __LINE__);
        else if (d->gives)
                case_fails(r, d->gives, what, __FILE__, __LINE__);
        else
                (void) case_ok(r, what, __FILE__, __LINE__);
}

/* ---- calls and paths ---- */

typedef struct Row {
        char name[88];
        const PathCall *call; /* with a path of bad_paths; or fd_call, with a descriptor of bad_fds */
        const FdCall *fd_call;
        int bad, err;
} Row;

typedef enum How { AS_ROOT, AS_USER, REMOVED, MOUNTED, READ_ONLY } How;

static const struct BadPath {
        const char *name;
        const char *path; /* %s: what the call works on */
        int err;          /* what most calls give; 0: none does */
        int makes;        /* those that want nothing to be there, if not the same */
        unsigned only;    /* for calls that do one of these; 0: all */
        unsigned unless;  /* not for these */
        How how;
} bad_paths[N_BAD_PATHS] = {
        [OF_FILE] = { "file", "file", 0, EEXIST },
        [OF_DIRECTORY] = { "directory", "dir", 0, EEXIST },
        [OF_FULL_DIRECTORY] = { "full_directory", "full" },
        [OF_LINK] = { "link", "link", 0, EEXIST },
        [OF_LINK_TO_DIRECTORY] = { "link_to_directory", "dirlink", 0, EEXIST },
        [OF_DANGLING_LINK] = { "dangling_link", "dangling", ENOENT, EEXIST, .unless = STAYS | REPLACES },
        [OF_LOOP] = { "link_loop", "loop", ELOOP, EEXIST, .only = MAKES | REPLACES, .unless = STAYS },
        [OF_FIFO] = { "fifo", "fifo", 0, EEXIST },
        [OF_SOCKET] = { "socket", "socket", 0, EEXIST },
        [OF_DOT] = { "dot", "dir/.", 0, EEXIST },
        [OF_DOT_DOT] = { "dot_dot", "dir/..", 0, EEXIST },
        [OF_MISSING] = { "missing", "none", ENOENT, .unless = MAKES | REPLACES },
        [OF_MISSING_SLASH] = { "missing_and_slash", "none/", ENOENT, .only = MAKES | TAKES | REPLACES },
        [OF_FILE_SLASH] = { "file_and_slash", "file/", ENOTDIR },
        [OF_LINK_SLASH] = { "link_to_file_and_slash", "link/", ENOTDIR, .only = MAKES | TAKES | REPLACES | STAYS },
        [OF_LINK_TO_DIRECTORY_SLASH] = { "link_to_directory_and_slash", "dirlink/", 0, EEXIST },
        [IN_MISSING] = { "component_is_missing", "none/%s", ENOENT },
        [IN_FILE] = { "component_is_file", "file/%s", ENOTDIR },
        [IN_DANGLING_LINK] = { "component_is_dangling_link", "dangling/%s", ENOENT },
        [IN_LOOP] = { "component_is_link_loop", "loop/%s", ELOOP },
        [OF_EMPTY_PATH] = { "empty_path", "", ENOENT },
        [OF_LONG_NAME] = { "name_of_256_bytes", NULL, ENAMETOOLONG },
        [OF_LONG_PATH] = { "path_of_4096_bytes", NULL, ENAMETOOLONG },
        [OF_BAD_POINTER] = { "bad_pointer", NULL, EFAULT },
        [AT_CLOSED_DESCRIPTOR] = { "at_closed_descriptor", "%s", EBADF, .only = AT },
        [AT_FILE] = { "at_file", "%s", ENOTDIR, .only = AT },
        [IN_REMOVED_DIRECTORY] = { "in_removed_directory", "%s", ENOENT, .only = MAKES | TAKES | REPLACES, .how = REMOVED },
        [BELOW_UNSEARCHABLE] = { "component_is_not_searchable", "private/%s", EACCES, .how = AS_USER },
        [IN_UNWRITABLE] = { "directory_is_not_writable", "shut/%s", EACCES, .only = MAKES | TAKES | REPLACES, .how = AS_USER },
        [IN_STICKY] = { "directory_is_sticky", "sticky/%s", EPERM, .only = TAKES, .how = AS_USER },
        [OF_SECRET_FILE] = { "file_of_other", "secret", 0, EEXIST, .how = AS_USER },
        [OF_SECRET_DIRECTORY] = { "directory_of_other", "private", 0, EEXIST, .how = AS_USER },
        [ON_READ_ONLY_MOUNT] = { "read_only_mount", "%s", EROFS, .only = CHANGES, .how = READ_ONLY },
        [OF_MOUNT_POINT] = { "mount_point", "mnt", .how = MOUNTED },
        [ON_OTHER_MOUNT] = { "other_mount", "mnt/%s", .how = MOUNTED },
};

static int path_err(const PathCall *c, int i) {
        const struct BadPath *bad = &bad_paths[i];

        if (c->instead[i])
                return c->instead[i] == NONE ? 0 : c->instead[i];
        if ((bad->only && !(c->does & bad->only)) || c->does & bad->unless)
                return 0;
        return c->does & MAKES && bad->makes ? bad->makes : bad->err;
}

static const char *path_of(const Row *r) {
        static char path[PATH_MAX + 1], name[256 + 1];
        const char *on = r->call->on ? r->call->on : r->call->does & (MAKES | REPLACES) ? "new" : "file";
        const char *before, *pattern = bad_paths[r->bad].path;

        memset(name, 'n', sizeof name - 1);
        switch (r->bad) {
        case OF_BAD_POINTER:
                return nowhere();
        case OF_LONG_NAME:
                return name;
        case OF_LONG_PATH:
                for (int i = 0; i < PATH_MAX; i++)
                        path[i] = i % 2 ? '/' : '.';
                return path;
        }
        before = strstr(pattern, "%s");
        if (!before)
                return pattern;
        (void) snprintf(path, sizeof path, "%.*s%s", (int) (before - pattern), pattern, on);
        return path;
}

static void run_path(const void *row) {
        const Row *r = row;
        const char *path = path_of(r);
        int at = AT_FDCWD;
        char what[128];
        long got;

        if (r->bad == AT_CLOSED_DESCRIPTOR)
                at = closed_fd();
        if (r->bad == AT_FILE)
                at = fd_of("file", O_RDONLY);
        switch (bad_paths[r->bad].how) {
        case AS_ROOT:
                break;
        case AS_USER:
                as_user();
                break;
        case REMOVED:
                in_removed();
                break;
        case MOUNTED:
                mounted(0);
                break;
        case READ_ONLY:
                mounted(MS_RDONLY);
                OK(chdir("mnt"));
                break;
        }
        got = r->call->run(at, path);
        (void) snprintf(what, sizeof what, "%s of %.30s (%s)", r->call->name, is_nowhere(path) ? "nowhere" : path,
                        bad_paths[r->bad].name);
        row_fails(r->name, got, r->err, what);
}

/* ---- calls and descriptors ---- */

static const struct BadFd {
        const char *name;
        const char *path;
        int flags;
        int err; /* what most calls give; 0: none does */
        How how;
} bad_fds[N_BAD_FDS] = {
        [FD_CLOSED] = { "closed", NULL, 0, EBADF },
        [FD_PATH] = { "o_path", "file", O_PATH, EBADF },
        [FD_READER] = { "opened_for_reading", "file", O_RDONLY },
        [FD_WRITER] = { "opened_for_writing", "file", O_WRONLY },
        [FD_DIRECTORY] = { "directory", "dir", O_RDONLY },
        [FD_FIFO] = { "fifo", "fifo", O_RDWR },
        [FD_OF_OTHER] = { "file_of_other", "file", O_RDWR, .how = AS_USER },
        [FD_ON_READ_ONLY_MOUNT] = { "read_only_mount", "mnt/file", O_RDONLY, .how = READ_ONLY },
};

static int fd_err(const FdCall *c, int i) {
        if (c->instead[i])
                return c->instead[i] == NONE ? 0 : c->instead[i];
        return bad_fds[i].err;
}

static void run_fd(const void *row) {
        const Row *r = row;
        const struct BadFd *bad = &bad_fds[r->bad];
        char what[128];
        long got;
        int fd;

        if (bad->how == READ_ONLY)
                mounted(MS_RDONLY);
        fd = bad->path ? fd_of(bad->path, bad->flags) : closed_fd();
        if (bad->how == AS_USER)
                as_user();
        got = r->fd_call->run(fd);
        (void) snprintf(what, sizeof what, "%s (%s)", r->fd_call->name, bad->name);
        row_fails(r->name, got, r->err, what);
}

/* ---- the list ---- */

static Case list[2000];
static size_t n_listed;

static void list_add(Case c) {
        assert(n_listed + 1 < sizeof list / sizeof list[0]); /* the last one ends it */
        list[n_listed++] = c;
}

static void list_add_all(const Case *cases) {
        while (cases->name)
                list_add(*cases++);
}

static void list_add_row(Row row, const char *call, const char *why, void (*run)(const void *row)) {
        static Row rows[sizeof list / sizeof list[0]];
        Row *r = &rows[n_listed];

        if (row.err == 0)
                return;
        *r = row;
        (void) snprintf(r->name, sizeof r->name, "errno_%s_%s_%s", call, strerrorname_np(row.err), why);
        list_add((Case){ r->name, .run_row = run, .row = r });
}

const Case *errno_cases(void) {
        if (n_listed > 0)
                return list;
        list_add((Case){ "errno_directory_is_made", make_things });
        for (const PathCall *c = errno_paths; c->name; c++)
                for (int i = 0; i < N_BAD_PATHS; i++)
                        list_add_row((Row){ .call = c, .bad = i, .err = path_err(c, i) }, c->name, bad_paths[i].name, run_path);
        for (const FdCall *c = errno_fds; c->name; c++)
                for (int i = 0; i < N_BAD_FDS; i++)
                        list_add_row((Row){ .fd_call = c, .bad = i, .err = fd_err(c, i) }, c->name, bad_fds[i].name, run_fd);
        list_add_all(errno_name_cases);
        list_add_all(errno_file_cases);
        list_add((Case){ "errno_calls_changed_nothing", changed_nothing });
        return list;
}
