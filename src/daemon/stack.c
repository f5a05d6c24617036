/*
 * The stacks of a worker that crashes, or of one that is stuck and asked for them (SIGQUIT to each thread).
 *
 * The worker writes them into a pipe, with nothing but write(2) and backtrace_symbols_fd(3), on a stack of their own; then
 * the signal does what it does without us, so that a core is made where the system wants one. The keeper
 * reads the pipe and logs. addr2line(1) makes lines of source out of the offsets.
 */
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/log.h"
#include "daemon.h"

#define FRAMES_MAX 48
#define STACK_SIZE (64 * 1024)

static int crash_fd = -1;

static void append_number(char *text, size_t size, long n) {
        char digits[24];
        size_t i = sizeof digits;

        digits[--i] = '\0';
        do
                digits[--i] = (char) ('0' + n % 10);
        while ((n /= 10) > 0);
        (void) strncat(text, digits + i, size - strlen(text) - 1);
}

/* One thread at a time; who waits too long writes all the same. */
static void write_stack(int sig) {
        static atomic_flag busy = ATOMIC_FLAG_INIT;
        char head[128] = "signal ", name[16] = "";
        void *frames[FRAMES_MAX];
        int n;

        for (int i = 0; i < 100000 && atomic_flag_test_and_set(&busy); i++)
                (void) syscall(SYS_sched_yield);
        append_number(head, sizeof head, sig);
        (void) strncat(head, ", thread ", sizeof head - strlen(head) - 1);
        append_number(head, sizeof head, syscall(SYS_gettid));
        (void) prctl(PR_GET_NAME, name);
        (void) strncat(head, " ", sizeof head - strlen(head) - 1);
        (void) strncat(head, name, sizeof head - strlen(head) - 1);
        (void) strncat(head, "\n", sizeof head - strlen(head) - 1);
        (void) !write(crash_fd, head, strlen(head));
        n = backtrace(frames, FRAMES_MAX);
        backtrace_symbols_fd(frames, n, crash_fd);
        atomic_flag_clear(&busy);
}

static void crashed(int sig) {
        int saved = errno;

        write_stack(sig);
        errno = saved;
        (void) signal(sig, SIG_DFL);
        (void) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
}

static void asked(int sig) {
        int saved = errno;

        write_stack(sig);
        errno = saved;
}

/* A core without a path would be written into "/": only where the system says where they go. */
static void allow_core(void) {
        struct rlimit limit;
        char pattern[256];

        if (io_read_file("/proc/sys/kernel/core_pattern", pattern, sizeof pattern) < 1 ||
            (pattern[0] != '|' && pattern[0] != '/') || getrlimit(RLIMIT_CORE, &limit) < 0)
                return;
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit(RLIMIT_CORE, &limit);
}

void stack_of_thread(void) {
        stack_t stack = { .ss_size = STACK_SIZE };

        if (SANITIZED) /* its own report says more, and its own stacks are in the way */
                return;
        stack.ss_sp = malloc(STACK_SIZE); /* for as long as the thread lives */
        if (stack.ss_sp)
                (void) sigaltstack(&stack, NULL);
}

void stack_on_crash(int fd) {
        static const int deadly[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
        struct sigaction action = { .sa_handler = crashed, .sa_flags = SA_ONSTACK | SA_RESETHAND };
        void *frames[2];

        if (fd < 0)
                return;
        crash_fd = fd;
        (void) backtrace(frames, 2); /* the first call loads libgcc, which a handler could not */
        stack_of_thread();
        allow_core();
        for (unsigned i = 0; i < ELEMENTSOF(deadly) && !SANITIZED; i++)
                (void) sigaction(deadly[i], &action, NULL);
        action = (struct sigaction){ .sa_handler = asked, .sa_flags = SA_ONSTACK | SA_RESTART };
        (void) sigaction(SIGQUIT, &action, NULL);
}

void stack_log(Keeper *keeper) {
        char text[4096], *line, *rest = text;
        ssize_t n;

        while ((n = read(keeper->record->stack_fds[0], text, sizeof text - 1)) > 0) {
                text[n] = '\0';
                rest = text;
                while ((line = strsep(&rest, "\n")))
                        if (*line)
                                log_error("worker's stack: %s", line);
        }
}
