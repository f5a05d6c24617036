/*
 * Running nfsvold and hearing from it.
 *
 * What the daemon inherits is chosen here, not by whoever called mount: a session of its own, "/" as its
 * directory, umask 022, /dev/null as 0, 1 and 2 (kubelet waits for the end of the helper's output without
 * a time-out), two more descriptors, the status socket and the volume's lock, and an environment of PATH and NFSVOL_*.
 *
 * A socket, because it can be shut down: after that the daemon's "ok" is there to be read, or never will be. So a daemon
 * that we end, having waited too long, is never one that serves.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cmd.h"
#include "config.h"

#define STATUS_FD      3
#define STATUS_FD_TEXT "3"
#define LOCK_FD        4
#define LOCK_FD_TEXT   "4"
#define ENV_MAX        32
#define DAEMON_PATH    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int daemon_find(char *buf, size_t size) {
        char self[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

        if (n > 0) {
                char *slash;

                self[n] = '\0';
                slash = strrchr(self, '/');
                if (slash) {
                        *slash = '\0';
                        if ((size_t) snprintf(buf, size, "%s/nfsvold", self) < size && access(buf, X_OK) == 0)
                                return 0;
                }
        }
        (void) snprintf(buf, size, "%s", NFSVOL_SBINDIR "/nfsvold");
        return access(buf, X_OK) == 0 ? 0 : -errno;
}

static _Noreturn void daemon_exec(const char *path, const StartRequest *request, int status_fd) {
        char *argv[] = { (char *) (uintptr_t) "nfsvold",        (char *) (uintptr_t) "--id",
                         (char *) (uintptr_t) request->id,      (char *) (uintptr_t) "--source",
                         (char *) (uintptr_t) request->source,  (char *) (uintptr_t) "--options",
                         (char *) (uintptr_t) request->session, (char *) (uintptr_t) "--status-fd",
                         (char *) (uintptr_t) STATUS_FD_TEXT,   (char *) (uintptr_t) "--lock-fd",
                         (char *) (uintptr_t) LOCK_FD_TEXT,     (char *) (uintptr_t) "--target",
                         (char *) (uintptr_t) request->target,  NULL };
        char *envp[ENV_MAX + 2] = { (char *) (uintptr_t) DAEMON_PATH };
        size_t n = 1;
        int lock_fd;

        for (char **e = environ; e && *e && n <= ENV_MAX; e++)
                if (strncmp(*e, "NFSVOL_", 7) == 0)
                        envp[n++] = *e;
        signals_reset();
        (void) setsid();
        (void) umask(022);
        if (chdir("/") < 0)
                _exit(EXIT_CODE_SYSTEM);
        stdio_detach();
        /* first out of each other's way */
        status_fd = fcntl(status_fd, F_DUPFD, LOCK_FD + 1);
        lock_fd = fcntl(request->lock_fd, F_DUPFD, LOCK_FD + 1);
        if (dup2(status_fd, STATUS_FD) < 0 || dup2(lock_fd, LOCK_FD) < 0)
                _exit(EXIT_CODE_SYSTEM);
        (void) close_range(LOCK_FD + 1, ~0U, 0);
        (void) execve(path, argv, envp);
        (void) dprintf(STATUS_FD, "error %d cannot run %s: %s\n", EXIT_CODE_SYSTEM, path, strerror(errno));
        _exit(EXIT_CODE_SYSTEM);
}

/*
 * One line, without its newline. 0, -ETIMEDOUT, -EINTR, -EPIPE (the end without a line), -EMSGSIZE. After -ETIMEDOUT and
 * -EINTR the daemon can say no more.
 */
static int status_read(int fd, uint64_t deadline, char line[static DAEMON_STATUS_MAX]) {
        struct pollfd pfds[2] = { { .fd = fd, .events = POLLIN }, { .fd = interrupt_fd(), .events = POLLIN } };
        size_t len = 0;
        int over = 0;

        for (;;) {
                uint64_t now = now_ns();
                ssize_t n = 1;

                if (over == 0 && (interrupted() || now >= deadline)) {
                        over = interrupted() ? -EINTR : -ETIMEDOUT;
                        (void) shutdown(fd, SHUT_RDWR); /* what has been said is still there */
                }
                if (over == 0)
                        n = poll(pfds, 2, (int) MIN((deadline - now) / NSEC_PER_MSEC + 1, (uint64_t) INT_MAX));
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n <= 0 || (over == 0 && !pfds[0].revents))
                        continue;
                if (len == DAEMON_STATUS_MAX - 1)
                        return -EMSGSIZE;
                n = read(fd, line + len, DAEMON_STATUS_MAX - 1 - len);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        return over ? over : -EPIPE;
                if (n > 0) {
                        char *end = memchr(line + len, '\n', (size_t) n);

                        len += (size_t) n;
                        if (end) {
                                *end = '\0';
                                return 0;
                        }
                }
        }
}

void daemon_reap(pid_t pid, bool kill_now) {
        int status;

        /* It is our child and not yet waited for, so the number cannot mean another process. */
        if (!kill_now && wait_child(pid, now_ns() + 3 * NSEC_PER_SEC, &status) != -ETIMEDOUT)
                return;
        (void) kill(pid, SIGTERM);
        /* a keeper waits two seconds for the volume's lock, which is ours */
        if (wait_child(pid, now_ns() + 4 * NSEC_PER_SEC, &status) != -ETIMEDOUT)
                return;
        (void) kill(pid, SIGKILL);
        (void) wait_child(pid, now_ns() + NSEC_PER_SEC, &status);
}

/* The end of the socket without a line: say what became of the process. */
static int daemon_died(pid_t pid, Failure *failure) {
        int status;

        if (wait_child(pid, now_ns() + NSEC_PER_SEC, &status) < 0) {
                daemon_reap(pid, true);
                return failure_set(failure, EXIT_CODE_FAILED, "nfsvold closed its status socket without a word (see its log)");
        }
        if (WIFSIGNALED(status))
                return failure_set(failure, EXIT_CODE_FAILED,
                                   "nfsvold was killed by signal %d (%s) before it was ready (see its log)", WTERMSIG(status),
                                   strsignal(WTERMSIG(status)));
        return failure_set(failure, EXIT_CODE_FAILED, "nfsvold ended with exit code %d before it was ready (see its log)",
                           WEXITSTATUS(status));
}

int daemon_spawn(const StartRequest *request, pid_t *ret_pid, char ret_line[static DAEMON_STATUS_MAX], Failure *failure) {
        char path[PATH_MAX];
        int fds[2], r;
        pid_t pid;

        if (daemon_find(path, sizeof path) < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot run %s: %s (is nfsvol installed completely?)", path,
                                   strerror(errno));
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return failure_set(failure, EXIT_CODE_SYSTEM, "cannot make a socket: %s", strerror(errno));
        pid = fork();
        if (pid < 0) {
                (void) failure_set(failure, EXIT_CODE_SYSTEM, "cannot fork: %s", strerror(errno));
                (void) close(fds[0]);
                (void) close(fds[1]);
                return failure->exit;
        }
        if (pid == 0)
                daemon_exec(path, request, fds[1]);
        (void) close(fds[1]);
        if (request->verbose)
                (void) printf("%s: started %s, pid %d, for volume %s\n", request->program, path, (int) pid, request->id);
        r = status_read(fds[0], request->deadline, ret_line);
        (void) close(fds[0]);
        if (r == 0) {
                *ret_pid = pid;
                return 0;
        }
        if (r == -EPIPE)
                return daemon_died(pid, failure);
        daemon_reap(pid, true);
        if (r == -EINTR)
                return failure_set(failure, EXIT_CODE_INTERRUPTED, "interrupted by a signal");
        if (r == -ETIMEDOUT) {
                (void) failure_set(failure, EXIT_CODE_FAILED, "timed out: nfsvold did not get ready (see its log)");
                failure->again = true;
                return failure->exit;
        }
        return failure_set(failure, EXIT_CODE_SOFTWARE, "cannot read what nfsvold says: %s", strerror(-r));
}
