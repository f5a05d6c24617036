/*
 * Processes and what they are. Each role is one process at a time: two workers over one journal would answer requests
 * twice, two keepers would take the volume down under each other. A role is therefore a lock on a memfd, fcntl(2)'s: it
 * belongs to the process, is kept over execve(2) and not inherited by fork(2), and the kernel lets go of it when
 * the last thread has gone, however that came about. Whoever holds it can be asked for, so nobody acts on a pid that may
 * mean another process by now. (No other descriptor of the memfd may ever be closed in a process that has a role.)
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "daemon.h"

static struct flock role_lock(void) {
        return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
}

int role_take(int fd) {
        struct flock lock = role_lock();

        if (fcntl(fd, F_SETLK, &lock) == 0)
                return 0;
        return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

int role_wait(int fd) {
        struct flock lock = role_lock();

        while (fcntl(fd, F_SETLKW, &lock) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

pid_t role_holder(int fd) {
        struct flock lock = role_lock();

        return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0 ? lock.l_pid : 0;
}

int process_open(pid_t pid) {
        int fd = (int) syscall(SYS_pidfd_open, pid, 0);

        return fd < 0 ? -errno : fd;
}

int process_signal(int pidfd, int sig) {
        return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

/*
 * posix_spawn(3) would do, but for one thing: the descriptors a worker inherits are those without
 * close-on-exec, and only they.
 */
int spawn_role(const Keeper *keeper, const char *program, const char *role, int fd, int keep_fd, pid_t *ret) {
        char number[16], *argv[] = { (char *) "nfsvold", (char *) (uintptr_t) role, number, (char *) "--debug", NULL };
        sigset_t none;
        pid_t pid;

        if (!keeper->args->debug)
                argv[3] = NULL;
        (void) snprintf(number, sizeof number, "%d", fd);
        (void) sigemptyset(&none);
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                (void) fcntl(fd, F_SETFD, 0);
                if (keep_fd >= 0)
                        (void) fcntl(keep_fd, F_SETFD, 0);
                (void) execv(program ? program : "/proc/self/exe", argv);
                _exit(127);
        }
        *ret = pid;
        return 0;
}
