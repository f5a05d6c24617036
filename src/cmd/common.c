/*
 * What the commands share.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include "cmd.h"
#include "sys/rundir.h"

#define LIFE_TIMEOUT (5 * NSEC_PER_SEC) /* a daemon whose server is silent answers statfs(2) within 3 */

int failure_set(Failure *failure, int exit, const char *fmt, ...) {
        va_list ap;

        failure->exit = exit;
        failure->again = false;
        va_start(ap, fmt);
        (void) vsnprintf(failure->text, sizeof failure->text, fmt, ap);
        va_end(ap);
        for (char *p = failure->text; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        *p = '?';
        return exit;
}

int failure_no_memory(Failure *failure) {
        return failure_set(failure, EXIT_CODE_SYSTEM, "out of memory");
}

void failure_print(const Failure *failure, const char *program, const char *subject) {
        _cleanup_(freep) char *line = NULL;

        if (asprintf(&line, "%s: %s%s%s\n", program, subject ? subject : "", subject ? ": " : "", failure->text) < 0)
                line = NULL;
        /* One write: 50 helpers may share the terminal. */
        (void) fputs(line ? line : "out of memory\n", stderr);
}

static void interrupt_set(sigset_t *set) {
        (void) sigemptyset(set);
        (void) sigaddset(set, SIGTERM);
        (void) sigaddset(set, SIGINT);
        (void) sigaddset(set, SIGHUP);
}

void interrupt_init(void) {
        sigset_t set;

        interrupt_set(&set);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        (void) signal(SIGPIPE, SIG_IGN);
        (void) signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would reap children behind our back */
}

bool interrupted(void) {
        sigset_t set;

        return sigpending(&set) == 0 &&
               (sigismember(&set, SIGTERM) == 1 || sigismember(&set, SIGINT) == 1 || sigismember(&set, SIGHUP) == 1);
}

int interrupt_fd(void) {
        static int fd = -1;
        sigset_t set;

        if (fd < 0) {
                interrupt_set(&set);
                fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        }
        return fd;
}

void signals_reset(void) {
        sigset_t none;

        for (int sig = 1; sig < NSIG; sig++)
                if (sig != SIGKILL && sig != SIGSTOP)
                        (void) signal(sig, SIG_DFL);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
}

static int ms_until(uint64_t deadline) {
        uint64_t now = now_ns();

        if (now >= deadline)
                return 0;
        return (int) MIN((deadline - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, (uint64_t) INT_MAX);
}

bool sleep_until(uint64_t deadline) {
        struct pollfd pfd = { .fd = interrupt_fd(), .events = POLLIN };

        while (now_ns() < deadline && !interrupted())
                (void) poll(&pfd, 1, ms_until(deadline));
        return interrupted();
}

void stdio_detach(void) {
        int fd = open("/dev/null", O_RDWR);

        if (fd < 0)
                return;
        for (int i = 0; i < 3; i++)
                if (fd != i)
                        (void) dup2(fd, i);
        if (fd > 2)
                (void) close(fd);
}

void descriptors_close(void) {
        int keep = interrupt_fd();

        if (keep < 3) {
                (void) close_range(3, ~0U, 0);
                return;
        }
        if (keep > 3)
                (void) close_range(3, (unsigned) keep - 1, 0);
        (void) close_range((unsigned) keep + 1, ~0U, 0);
}

int wait_child(pid_t pid, uint64_t deadline, int *ret_status) {
        for (;;) {
                pid_t r = waitpid(pid, ret_status, WNOHANG);
                struct timespec pause = { .tv_nsec = 2 * (long) NSEC_PER_MSEC };

                if (r == pid)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (now_ns() >= deadline)
                        return -ETIMEDOUT;
                (void) nanosleep(&pause, NULL);
        }
}

static _Noreturn void bounded_child(void (*call)(void *arg, BoundedResult *result), void *arg, int pipe_fd) {
        BoundedResult result = { 0 };

        signals_reset();
        stdio_detach();
        /* Above all not the volume's lock, which would stay locked for as long as we hang. */
        if (dup2(pipe_fd, 3) < 0)
                _exit(1);
        (void) close_range(4, ~0U, 0);
        call(arg, &result);
        (void) !write(3, &result, sizeof result);
        _exit(0);
}

/* The result, if it came until deadline. 0, -ETIMEDOUT, -EINTR, -EIO. */
static int bounded_read(int fd, uint64_t deadline, BoundedResult *ret) {
        struct pollfd pfds[2] = { { .fd = fd, .events = POLLIN }, { .fd = interrupt_fd(), .events = POLLIN } };

        for (;;) {
                int n = poll(pfds, 2, ms_until(deadline));

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0 && pfds[0].revents)
                        return read(fd, ret, sizeof *ret) == (ssize_t) sizeof *ret ? 0 : -EIO;
                if (interrupted())
                        return -EINTR;
                if (now_ns() >= deadline)
                        return -ETIMEDOUT;
        }
}

int bounded_call(void (*call)(void *arg, BoundedResult *result), void *arg, uint64_t deadline, BoundedResult *ret) {
        int fds[2], status, r;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid < 0) {
                r = -errno;
                (void) close(fds[0]);
                (void) close(fds[1]);
                return r;
        }
        if (pid == 0)
                bounded_child(call, arg, fds[1]);
        (void) close(fds[1]);
        r = bounded_read(fds[0], deadline, ret);
        if (r == -ETIMEDOUT || r == -EINTR) {
                (void) kill(pid, SIGKILL);
                /* It may have finished in this very moment. */
                if (wait_child(pid, now_ns() + 200 * NSEC_PER_MSEC, &status) == 0 &&
                    read(fds[0], ret, sizeof *ret) == (ssize_t) sizeof *ret)
                        r = 0;
        } else
                (void) wait_child(pid, now_ns() + NSEC_PER_SEC, &status);
        (void) close(fds[0]);
        return r;
}

/* statfs(2) is not answered from a cache: without a daemon it fails at once. */
static void life_statfs(void *arg, BoundedResult *result) {
        struct statfs st;

        result->result = statfs(arg, &st) < 0 ? -errno : 0;
}

enum MountLife mount_life(const char *path) {
        BoundedResult result = { 0 };
        int r = bounded_call(life_statfs, (void *) (uintptr_t) path, now_ns() + LIFE_TIMEOUT, &result);

        if (r == -ETIMEDOUT)
                return MOUNT_SILENT;
        if (r < 0)
                return MOUNT_UNKNOWN;
        return result.result == -ENOTCONN || result.result == -ECONNABORTED ? MOUNT_ENDED : MOUNT_ALIVE;
}

int path_canonical_parent(const char *path, char **ret_path) {
        _cleanup_(freep) char *copy = strdup(path), *parent = NULL, *joined = NULL;
        char *slash, *last;
        size_t len;

        if (!copy)
                return -ENOMEM;
        for (len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
                copy[len - 1] = '\0';
        slash = strrchr(copy, '/');
        last = slash ? slash + 1 : copy;
        if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
                joined = realpath(*copy ? copy : ".", NULL);
                if (!joined)
                        return -errno;
                *ret_path = TAKE_PTR(joined);
                return 0;
        }
        if (slash)
                *slash = '\0';
        parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
        if (!parent)
                return -errno;
        if (asprintf(&joined, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, last) < 0) {
                joined = NULL;
                return -ENOMEM;
        }
        *ret_path = TAKE_PTR(joined);
        return 0;
}

char *path_join(const char *a, const char *b) {
        char *joined;

        a = a ? a : "";
        b = b ? b : "";
        return asprintf(&joined, "%s%s%s", a, *a && *b ? "/" : "", b) < 0 ? NULL : joined;
}

int volume_mountpoint(const char *id, char *buf, size_t size) {
        char canonical[PATH_MAX];
        int n;

        if (!realpath(rundir(), canonical))
                return -errno;
        n = snprintf(buf, size, "%s/%s/mnt", canonical, id);
        return n < 0 || (size_t) n >= size ? -ENAMETOOLONG : 0;
}
