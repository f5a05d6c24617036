/*
 * One line, one send on a non-blocking socket. Whoever logs on a request path loses the line rather
 * than time. The journal's native protocol is a datagram of FIELD=value lines (systemd's
 * JOURNAL_NATIVE_PROTOCOL); it is written by hand because sd_journal_send() blocks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

#define LINE_SIZE    1024
#define VOLUME_SIZE  512
#define JOURNAL_PATH "/run/systemd/journal/socket"

static struct {
        int journal_fd; /* -1: stderr */
        int max_level;
        const char *ident;
        char volume[VOLUME_SIZE];
        _Atomic uint64_t dropped;
} log_state = {
        .journal_fd = -1,
        .max_level = LOG_INFO,
        .ident = "nfsvol",
};

static int journal_connect(void) {
        static const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_PATH };
        _cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0 || connect(fd, (const struct sockaddr *) &address, sizeof address) < 0)
                return -1;
        return TAKE_FD(fd);
}

void log_open(enum LogTarget target, const char *ident, const char *volume) {
        log_state.ident = ident;
        (void) snprintf(log_state.volume, sizeof log_state.volume, "%s", volume ? volume : "");
        for (char *p = log_state.volume; *p; p++)
                if (*p == '\n')
                        *p = '?'; /* a newline would begin another journal field */
        log_state.journal_fd = fd_close(log_state.journal_fd);
        if (target == LOG_TARGET_JOURNAL)
                log_state.journal_fd = journal_connect();
}

void log_set_max_level(int level) {
        log_state.max_level = level;
}

static bool write_journal(int level, const char *text) {
        char head[VOLUME_SIZE + 128];
        int n = snprintf(head, sizeof head, "PRIORITY=%d\nSYSLOG_IDENTIFIER=%s\n%s%s%sMESSAGE=", level, log_state.ident,
                         *log_state.volume ? "VOLUME=" : "", log_state.volume, *log_state.volume ? "\n" : "");
        struct iovec iov[] = {
                { head, (size_t) n },
                { (char *) text, strlen(text) },
                { (char *) "\n", 1 },
        };
        struct msghdr message = { .msg_iov = iov, .msg_iovlen = ELEMENTSOF(iov) };

        return sendmsg(log_state.journal_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static bool write_stderr(const char *text) {
        char line[LINE_SIZE + VOLUME_SIZE + 64];
        int n = snprintf(line, sizeof line, "%s: %s%s%s\n", log_state.ident, log_state.volume, *log_state.volume ? ": " : "",
                         text);

        return write(STDERR_FILENO, line, MIN((size_t) n, sizeof line - 1)) >= 0;
}

void log_write(int level, const char *fmt, ...) {
        char text[LINE_SIZE];
        int saved = errno;
        va_list ap;

        if (level > log_state.max_level)
                return;
        va_start(ap, fmt);
        (void) vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        for (char *p = text; *p; p++)
                if (*p == '\n')
                        *p = ' ';
        if (!(log_state.journal_fd >= 0 ? write_journal(level, text) : write_stderr(text)))
                atomic_fetch_add_explicit(&log_state.dropped, 1, memory_order_relaxed);
        errno = saved;
}

uint64_t log_dropped(void) {
        return atomic_load_explicit(&log_state.dropped, memory_order_relaxed);
}
