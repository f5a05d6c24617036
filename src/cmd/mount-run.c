/*
 * Mounting: checks, the daemon, the bind; again and in the background if asked to.
 *
 * Each attempt, in order: is it there already; the volume's lock; a daemon (a living one, or a new one);
 * the bind mount; the lock is let go. A daemon that we started and that nobody uses in the end goes away
 * by itself, so a failure after that point has nothing to undo.
 *
 * Binding a subdirectory asks the server. So it is done in a process that can be left behind if the
 * server does not answer, as any call that touches the file system.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/log.h"
#include "mount-job.h"
#include "sys/rundir.h"

#define LOCK_TIMEOUT  (45 * NSEC_PER_SEC)
#define START_TIMEOUT (40 * NSEC_PER_SEC) /* systemd may be slow, then the server */
#define BIND_TIMEOUT  (10 * NSEC_PER_SEC)
#define LOST_LOOKS    5u
#define LOST_PAUSE    (200 * NSEC_PER_MSEC)
#define RETRY_FIRST   (1 * NSEC_PER_SEC)
#define RETRY_MOST_FG (10 * NSEC_PER_SEC)
#define RETRY_MOST_BG (60 * NSEC_PER_SEC)

/* What a bind mount inherits from the mount that it copies. */
#define BIND_FLAGS                                                                                                               \
        (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME)

/* An attempt: which volume, and where in it. */
typedef struct Attempt {
        const MountJob *job;
        const char *source; /* "host:/export" */
        const char *subdir; /* of that, or "" */
        const char *session;
        char id[VOLUME_ID_SIZE];
        uint64_t start_timeout;
} Attempt;

void mount_say(const MountJob *job, const char *fmt, ...) {
        va_list ap;

        if (!job->verbose || job->background)
                return;
        (void) printf("%s: %s: ", job->program, job->source_text);
        va_start(ap, fmt);
        (void) vprintf(fmt, ap);
        va_end(ap);
        (void) putchar('\n');
        (void) fflush(stdout);
}

void mount_complain(const MountJob *job, const Failure *failure) {
        if (job->background)
                log_error("%s: on %s: %s", job->source_text, job->target_text, failure->text);
        else
                failure_print(failure, job->program, job->source_text);
}

/* Opens without touching what is mounted there. */
static int target_resolve(MountJob *job, Failure *failure) {
        _cleanup_(fd_closep) int fd = open(job->target_text, O_PATH | O_DIRECTORY | O_CLOEXEC);
        char link[32], path[PATH_MAX];
        ssize_t n;

        if (fd < 0 && errno == ENOENT)
                return failure_set(failure, EXIT_CODE_FAILED, "mount point %s does not exist; create the directory first",
                                   job->target_text);
        if (fd < 0 && errno == ENOTDIR)
                return failure_set(failure, EXIT_CODE_FAILED, "mount point %s is not a directory", job->target_text);
        if (fd < 0)
                return failure_set(failure, EXIT_CODE_FAILED, "cannot open mount point %s: %s", job->target_text,
                                   strerror(errno));
        (void) snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof path);
        if (n <= 0 || (size_t) n >= sizeof path)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot resolve mount point %s: %s (is /proc mounted?)",
                                   job->target_text, n < 0 ? strerror(errno) : "too long");
        job->target = strndup(path, (size_t) n);
        return job->target ? 0 : failure_no_memory(failure);
}

static int fuse_check(Failure *failure) {
        _cleanup_(fd_closep) int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

        if (fd >= 0)
                return 0;
        if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
                return failure_set(failure, EXIT_CODE_FAILED,
                                   "/dev/fuse is missing (%s): load the kernel's fuse module (modprobe fuse)", strerror(errno));
        return failure_set(failure, EXIT_CODE_FAILED, "cannot open /dev/fuse: %s%s", strerror(errno),
                           errno == EPERM ? " (does this container or cgroup allow the device?)" : "");
}

static int mount_remount(const MountJob *job, Failure *failure) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        _cleanup_(freep) char *session = NULL;
        int r;

        r = mount_table_read(&table);
        if (r < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot read the mount table: %s", strerror(-r));
        if (!mount_table_find(&table, job->target))
                return failure_set(failure, EXIT_CODE_FAILED, "cannot remount %s: no NFS volume is mounted there", job->target);
        session = session_options_format(&job->options.session);
        if (session && *session)
                mount_say(job, "a remount changes only the flags of the mount, not %s", session);
        if (job->fake)
                return 0;
        r = mount_change(job->target, job->options.attr_set, job->options.attr_clr);
        if (r == -EBUSY)
                return failure_set(failure, EXIT_CODE_FAILED, "cannot remount %s read-only: files are open for writing there",
                                   job->target);
        if (r < 0)
                return failure_set(failure, EXIT_CODE_FAILED, "cannot remount %s: %s", job->target, strerror(-r));
        return 0;
}

/*
 * A fresh mount has its own flags and none of the shared volume's. The kernel asks FUSE nothing when a device file is opened, so
 * unless it goes by the mode bits everybody may: only who asks for device files has them.
 */
static void bind_flags(const MountOptions *options, uint64_t *ret_set, uint64_t *ret_clr) {
        bool dev = (options->attr_clr & MOUNT_ATTR_NODEV) || options->session.default_permissions || options->session.idmap;

        *ret_set = options->attr_set | (dev ? 0 : MOUNT_ATTR_NODEV);
        *ret_clr = options->attr_clr | BIND_FLAGS;
}

static void bind_call(void *arg, BoundedResult *result) {
        const Attempt *attempt = arg;
        const char *step = "";
        char dir[PATH_MAX];
        uint64_t set, clr;

        bind_flags(&attempt->job->options, &set, &clr);
        result->result = rundir_path(attempt->id, "mnt", dir, sizeof dir);
        if (result->result == 0)
                result->result = mount_bind(dir, attempt->subdir, attempt->job->target, set, clr, &step);
        (void) snprintf(result->text, sizeof result->text, "%s", step);
}

/* The bind process had to be killed: it may have got there. */
static bool bind_landed(const Attempt *attempt) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        const MountEntry *volume, *entry;
        char path[PATH_MAX];

        if (volume_mountpoint(attempt->id, path, sizeof path) < 0 || mount_table_read(&table) < 0)
                return false;
        volume = mount_table_find(&table, path);
        entry = mount_table_find(&table, attempt->job->target);
        return volume && entry && volume->dev == entry->dev;
}

static int attempt_bind(const Attempt *attempt, Failure *failure) {
        const char *target = attempt->job->target;
        BoundedResult result = { 0 };
        int r;

        r = bounded_call(bind_call, (void *) (uintptr_t) attempt, now_ns() + MIN(BIND_TIMEOUT, attempt->start_timeout), &result);
        if (r < 0) {
                if (bind_landed(attempt))
                        return 0;
                if (r == -EINTR)
                        return failure_set(failure, EXIT_CODE_INTERRUPTED, "interrupted by a signal");
                (void) failure_set(failure, EXIT_CODE_FAILED, "timed out while mounting on %s: %s", target,
                                   r == -ETIMEDOUT ? "the server does not answer" : strerror(-r));
                failure->again = r == -ETIMEDOUT;
                return failure->exit;
        }
        r = result.result;
        if (r == 0)
                return 0;
        if (strcmp(result.text, "open the subdirectory") == 0)
                return failure_set(failure, EXIT_CODE_FAILED, "cannot mount the directory %s of %s: %s", attempt->subdir,
                                   attempt->source, strerror(-r));
        if (strcmp(result.text, "open the target") == 0 || (r == -ENOENT && strcmp(result.text, "move_mount") == 0))
                return failure_set(failure, EXIT_CODE_FAILED, "mount point %s went away while the volume was being started: %s",
                                   target, strerror(-r));
        if (r == -ENOSYS)
                return failure_set(failure, EXIT_CODE_FAILED, "%s: this kernel is too old (Linux 5.15 or newer is needed)",
                                   result.text);
        return failure_set(failure, EXIT_CODE_FAILED, "cannot mount on %s: %s: %s%s", target, result.text, strerror(-r),
                           r == -EPERM ? " (CAP_SYS_ADMIN is needed)" : "");
}

/* In slices, for the sake of signals. */
static int attempt_lock(const Attempt *attempt, int *ret_fd, Failure *failure) {
        uint64_t deadline = now_ns() + LOCK_TIMEOUT;
        int r;

        do
                r = volume_lock(attempt->id, MIN(deadline, now_ns() + 100 * NSEC_PER_MSEC), ret_fd);
        while (r == -ETIMEDOUT && now_ns() < deadline && !interrupted());
        if (r == 0)
                return 0;
        if (r == -ETIMEDOUT && interrupted())
                return failure_set(failure, EXIT_CODE_INTERRUPTED, "interrupted by a signal");
        if (r == -ETIMEDOUT) {
                (void) failure_set(failure, EXIT_CODE_FAILED,
                                   "timed out: another mount of this volume is still waiting for the server");
                failure->again = true;
                return failure->exit;
        }
        return failure_set(failure, EXIT_CODE_SYSTEM, "cannot lock volume %s in %s: %s", attempt->id, rundir(), strerror(-r));
}

/* A daemon that has lost its mountpoint goes out of the way as soon as it has noticed, and has the lock. */
static int attempt_lock_settled(const Attempt *attempt, int *ret_fd, Failure *failure) {
        for (unsigned n = 0;; n++) {
                int r = attempt_lock(attempt, ret_fd, failure);

                if (r != 0 || n == LOST_LOOKS || !volume_is_lost(attempt->id))
                        return r;
                volume_unlock(attempt->id, *ret_fd, false);
                if (sleep_until(now_ns() + LOST_PAUSE))
                        return failure_set(failure, EXIT_CODE_INTERRUPTED, "interrupted by a signal");
        }
}

/* The daemon says that a parent of our path is exported: go there. *ret_subdir: the way back. */
static int attempt_redirect(const MountJob *job, const char *export, Source *ret_source, char **ret_subdir, Failure *failure) {
        _cleanup_(freep) char *text = NULL, *message = NULL;
        _cleanup_(source_done) Source source = { 0 };
        const char *rest;
        size_t len;
        int r;

        r = asprintf(&text, strchr(job->source.host, ':') ? "[%s]:%s" : "%s:%s", job->source.host, export);
        if (r < 0) {
                text = NULL;
                return failure_no_memory(failure);
        }
        r = source_parse(text, &source, &message);
        len = r < 0 || strcmp(source.path, "/") == 0 ? 0 : strlen(source.path);
        if (r < 0 || strncmp(job->source.path, source.path, len) != 0 || job->source.path[len] != '/' ||
            strcmp(job->source.path, source.path) == 0)
                return failure_set(failure, EXIT_CODE_SOFTWARE, "nfsvold wants the export %.256s for %s", export,
                                   job->source.path);
        rest = job->source.path + len + 1;
        *ret_subdir = path_join(rest, job->options.subdir);
        if (!*ret_subdir)
                return failure_no_memory(failure);
        *ret_source = source;
        source = (Source){ 0 };
        return 0;
}

/*
 * Lock, daemon, bind. *ret_export: neither, mount that export instead. Looks once more, under the lock,
 * whether somebody has done it: many may mount the same thing in the same place at once.
 */
static int attempt_once(Attempt *attempt, char **ret_export, Failure *failure) {
        const MountJob *job = attempt->job;
        StartRequest request = {
                .id = attempt->id,
                .source = attempt->source,
                .session = attempt->session,
                .target = job->target,
                .verbose = job->verbose && !job->background,
                .program = job->program,
        };
        enum StartResult result = START_RUNNING;
        bool present;
        int lock_fd, r;

        r = attempt_lock_settled(attempt, &lock_fd, failure);
        if (r != 0)
                return r;
        r = mount_present(job, &present, failure);
        if (r != 0 || present) {
                volume_unlock(attempt->id, lock_fd, !control_is_alive(attempt->id));
                return r;
        }
        request.lock_fd = lock_fd;
        request.deadline = now_ns() + attempt->start_timeout;
        r = volume_start(&request, &result, ret_export, failure);
        if (r != 0 || result == START_SUBDIR) {
                /* No daemon, so no volume; but one in another namespace is none of our business. */
                volume_unlock(attempt->id, lock_fd, !control_is_alive(attempt->id));
                return r;
        }
        mount_say(job, "volume %s of %s is %s", attempt->id, attempt->source,
                  result == START_RUNNING ? "running already" : "ready");
        r = attempt_bind(attempt, failure);
        volume_unlock(attempt->id, lock_fd, false);
        return r;
}

static uint64_t start_timeout(void) {
        const char *text = secure_getenv("NFSVOL_START_TIMEOUT"); /* seconds, for tests */
        unsigned long seconds = text ? strtoul(text, NULL, 10) : 0;

        return seconds > 0 && seconds < 3600 ? seconds * NSEC_PER_SEC : START_TIMEOUT;
}

static int mount_attempt(const MountJob *job, const char *session, uint64_t unique, Failure *failure) {
        _cleanup_(freep) char *export = NULL, *subdir = NULL, *ignored = NULL;
        _cleanup_(source_done) Source parent = { 0 };
        Attempt attempt = {
                .job = job,
                .source = job->source.text,
                .subdir = job->options.subdir ? job->options.subdir : "",
                .session = session,
                .start_timeout = start_timeout(),
        };
        bool present;
        int r;

        if (job->fake)
                return 0;
        r = mount_present(job, &present, failure);
        if (r != 0 || present)
                return r;
        r = rundir_make();
        if (r < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot use the directory %s: %s%s", rundir(), strerror(-r),
                                   r == -EPERM ? " (it must belong to root, and only root may write to it)" : "");
        volume_id(attempt.source, session, unique, attempt.id);
        r = attempt_once(&attempt, &export, failure);
        if (r != 0 || !export)
                return r;
        r = attempt_redirect(job, export, &parent, &subdir, failure);
        if (r != 0)
                return r;
        mount_say(job, "the server exports %s; mounting the directory %s of it", parent.text, subdir);
        attempt.source = parent.text;
        attempt.subdir = subdir;
        volume_id(attempt.source, session, unique, attempt.id);
        r = attempt_once(&attempt, &ignored, failure);
        if (r == 0 && ignored)
                return failure_set(failure, EXIT_CODE_SOFTWARE, "nfsvold wants the export %.256s, after %s", ignored, export);
        return r;
}

/* nfs(5), bg: the parent has succeeded, the child goes on. Returns in the child, or with an exit code. */
static int mount_background(MountJob *job, const Failure *why, Failure *failure) {
        pid_t pid;

        (void) fprintf(stderr, "%s: %s: %s; trying again in the background\n", job->program, job->source_text, why->text);
        (void) fflush(NULL);
        pid = fork();
        if (pid < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot go into the background: %s", strerror(errno));
        if (pid > 0)
                _exit(EXIT_CODE_OK);
        (void) setsid();
        (void) !chdir("/");
        stdio_detach();
        descriptors_close();
        log_open(LOG_TARGET_SYSTEM, job->program, job->source_text);
        job->background = true;
        return 0;
}

static int mount_retry(MountJob *job, const char *session, uint64_t unique, Failure *failure) {
        uint64_t deadline = now_ns() + job->options.retry * 60 * NSEC_PER_SEC;
        uint64_t pause = RETRY_FIRST;
        Failure said = { 0 };
        int r;

        for (;;) {
                uint64_t next;

                r = mount_attempt(job, session, unique, failure);
                next = now_ns() + pause;
                if (r == 0 || !failure->again || next >= deadline)
                        return r;
                if (job->options.bg && !job->background) {
                        Failure why = *failure;

                        r = mount_background(job, &why, failure);
                        if (r != 0)
                                return r;
                }
                mount_say(job, "%s; trying again", failure->text);
                if (job->background && strcmp(failure->text, said.text) != 0) {
                        said = *failure;
                        log_warning("%s: on %s: %s; trying again", job->source_text, job->target_text, failure->text);
                }
                if (sleep_until(next))
                        return failure_set(failure, EXIT_CODE_INTERRUPTED, "interrupted by a signal");
                pause = MIN(2 * pause, job->background ? RETRY_MOST_BG : RETRY_MOST_FG);
        }
}

static int mount_check(const MountJob *job, Failure *failure) {
        const SessionOptions *session = &job->options.session;
        bool v6 = strchr(job->source.host, ':') != NULL;

        if (geteuid() != 0)
                return failure_set(failure, EXIT_CODE_USAGE, "only root can mount");
        if (v6 && session->family == AF_INET && !session->addr)
                return failure_set(failure, EXIT_CODE_FAILED,
                                   "proto=tcp means IPv4, but the server's address is IPv6; use proto=tcp6, "
                                   "or leave it out");
        return 0;
}

static void mount_say_notes(const MountJob *job) {
        for (const char *p = job->options.notes; p && *p;) {
                size_t len = strcspn(p, "\n");

                mount_say(job, "%.*s", (int) len, p);
                p += len + (p[len] == '\n');
        }
}

int mount_run(MountJob *job, Failure *failure) {
        _cleanup_(freep) char *session = NULL;
        uint64_t unique = 0;
        int r;

        r = mount_check(job, failure);
        if (r != 0)
                return r;
        mount_say_notes(job);
        r = target_resolve(job, failure);
        if (r != 0)
                return r;
        if (job->options.remount)
                return mount_remount(job, failure);
        r = fuse_check(failure);
        if (r != 0)
                return r;
        session = session_options_format(&job->options.session);
        if (!session)
                return failure_no_memory(failure);
        if (job->options.session.nosharecache && getrandom(&unique, sizeof unique, 0) != (ssize_t) sizeof unique)
                unique = now_ns();
        return mount_retry(job, session, unique, failure);
}
