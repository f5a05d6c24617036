#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "daemon.h"

/*
 * posix_spawn(3) would do, but for one thing: the descriptors a worker inherits are those without
 * close-on-exec, and only they.
 */
int spawn_role(const Keeper *keeper, const char *role, pid_t *ret) {
        char fd[16], *argv[] = { (char *) "nfsvold", (char *) role, fd, (char *) "--debug", NULL };
        sigset_t none;
        pid_t pid;

        if (!keeper->args->debug)
                argv[3] = NULL;
        (void) snprintf(fd, sizeof fd, "%d", keeper->memory_fd);
        (void) sigemptyset(&none);
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                (void) execv("/proc/self/exe", argv);
                _exit(127);
        }
        *ret = pid;
        return 0;
}
