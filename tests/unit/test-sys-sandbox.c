/*
 * What a process in the sandbox can still do, and what not. Each in a child, for there is no way back.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/util.h"
#include "sys/sandbox.h"

static bool has_landlock;

#define CHECK(x)                                                                                                                 \
        do {                                                                                                                     \
                if (!(x)) {                                                                                                      \
                        (void) fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #x, strerror(errno));                      \
                        _exit(1);                                                                                                \
                }                                                                                                                \
        } while (0)
#define CHECK_ERR(x, err) CHECK((x) == -1 && errno == (err))

static void in_sandbox(void (*f)(void)) {
        int status;
        pid_t pid;

        if (SANITIZED)
                cr_skip("a sanitizer does what is forbidden");
        pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
                CHECK(sandbox_drop_privileges() == 0);
                CHECK(sandbox_enter(&has_landlock) == 0);
                f();
                _exit(0);
        }
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned) status);
}

static void files(void) {
        char text[16];
        int fd;

        fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0 && read(fd, text, sizeof text) == sizeof text);
        CHECK(close(fd) == 0);
        CHECK_ERR(open("/etc/hostname", O_WRONLY), ENOSYS);
        CHECK_ERR(open("/proc/self/comm", O_RDWR), ENOSYS);
        CHECK_ERR(open("/tmp/nfsvol-test-sandbox", O_RDONLY | O_CREAT, 0600), ENOSYS);
        CHECK_ERR(mkdir("/tmp/nfsvol-test-sandbox", 0700), ENOSYS);
        CHECK_ERR(unlink("/tmp/nfsvol-test-sandbox"), ENOSYS);
        if (!has_landlock)
                return;
        CHECK_ERR(open("/etc/passwd", O_RDONLY), EACCES);
        CHECK_ERR(open("/", O_RDONLY | O_DIRECTORY), EACCES);
        CHECK_ERR(open("/proc/self/root/etc/passwd", O_RDONLY), EACCES);
}

Test(sandbox, files) {
        in_sandbox(files);
}

static void sockets(void) {
        CHECK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0);
        CHECK(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 || errno == EAFNOSUPPORT);
        CHECK_ERR(socket(AF_UNIX, SOCK_STREAM, 0), ENOSYS); /* the keeper, systemd, a container runtime */
        CHECK_ERR(socket(AF_UNIX, SOCK_DGRAM, 0), ENOSYS);
        CHECK_ERR(socket(AF_INET, SOCK_DGRAM, 0), ENOSYS);
        CHECK_ERR(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), ENOSYS);
        CHECK_ERR(socket(AF_NETLINK, SOCK_RAW, 0), ENOSYS);
        CHECK_ERR(socket(AF_PACKET, SOCK_RAW, 0), ENOSYS);
}

Test(sandbox, sockets) {
        in_sandbox(sockets);
}

static void *thread(void *arg) {
        return malloc(1 << 20) ? arg : NULL;
}

static void processes(void) {
        char *argv[] = { (char *) (uintptr_t) "true", NULL };
        int status, here = 0;
        pthread_t t;
        void *there;
        pid_t pid;

        CHECK(pthread_create(&t, NULL, thread, &here) == 0);
        CHECK(pthread_join(t, &there) == 0 && there == &here);
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
                _exit(7);
        CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
        CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR && raise(SIGUSR1) == 0);
        CHECK_ERR(kill(getppid(), 0), ENOSYS);
        CHECK_ERR(fcntl(0, F_SETOWN, getppid()), ENOSYS);
        CHECK_ERR(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL), ENOSYS);
        CHECK_ERR(unshare(CLONE_NEWUSER), ENOSYS);
        CHECK_ERR(execv("/bin/true", argv), ENOSYS);
        CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
        CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
}

Test(sandbox, processes) {
        in_sandbox(processes);
}

static void capabilities(void) {
        char line[128];
        unsigned long long caps = 0;
        FILE *f = fopen("/proc/self/status", "re");

        CHECK(f);
        while (fgets(line, sizeof line, f))
                if (sscanf(line, "CapEff: %llx", &caps) == 1 || sscanf(line, "CapPrm: %llx", &caps) == 1)
                        CHECK((caps & ~(1ULL << 10)) == 0);
        CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

Test(sandbox, capabilities) {
        in_sandbox(capabilities);
}
