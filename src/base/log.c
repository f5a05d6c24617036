/*
 * One line, one send on a non-blocking socket, or one write. Whoever logs on a request path loses the line rather
 * than time. The journal's native protocol is a datagram of FIELD=value lines (systemd's
 * JOURNAL_NATIVE_PROTOCOL); it is written by hand because sd_journal_send() blocks. So is syslogd's (RFC 3164), because
 * syslog(3) does, and opens a socket when it finds its own broken, which a confined worker may not.
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

#define LINE_SIZE        1024
#define VOLUME_SIZE      512
#define KERNEL_LINE_SIZE 976

enum Sink {
        SINK_STDERR,
        SINK_JOURNAL,
        SINK_SYSLOG,
        SINK_KERNEL,
};

static const struct sockaddr_un addresses[] = {
        [SINK_JOURNAL] = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" },
        [SINK_SYSLOG] = { .sun_family = AF_UNIX, .sun_path = "/dev/log" },
};

static struct {
        enum Sink sink;
        int fd; /* of any sink but stderr */
        int max_level;
        const char *ident;
        char volume[VOLUME_SIZE];
        _Atomic uint64_t dropped;
} log_state = {
        .fd = -1,
        .max_level = LOG_INFO,
        .ident = "nfsvol",
};

static int sink_connect(int fd, enum Sink sink) {
        return connect(fd, (const struct sockaddr *) &addresses[sink], sizeof addresses[sink]) < 0 ? -errno : 0;
}

static int sink_open(enum Sink sink) {
        _cleanup_(fd_closep) int fd = -1;

        if (sink == SINK_KERNEL)
                return open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        return fd >= 0 && sink_connect(fd, sink) >= 0 ? TAKE_FD(fd) : -1;
}

static void open_first_sink(void) {
        for (enum Sink sink = SINK_JOURNAL; sink <= SINK_KERNEL && log_state.fd < 0; sink++) {
                log_state.fd = sink_open(sink);
                if (log_state.fd >= 0)
                        log_state.sink = sink;
        }
}

void log_open(enum LogTarget target, const char *ident, const char *volume) {
        log_state.ident = ident;
        (void) snprintf(log_state.volume, sizeof log_state.volume, "%s", volume ? volume : "");
        for (char *p = log_state.volume; *p; p++)
                if (*p == '\n')
                        *p = '?'; /* a newline would begin another journal field */
        log_state.sink = SINK_STDERR;
        log_state.fd = fd_close(log_state.fd);
        if (target == LOG_TARGET_SYSTEM)
                open_first_sink();
}

void log_set_max_level(int level) {
        log_state.max_level = level;
}

/* A socket whose other end was restarted is connected again: the same one, which is all that a confined process has. */
static bool send_on_socket(struct iovec *iov, size_t n) {
        struct msghdr message = { .msg_iov = iov, .msg_iovlen = n };

        if (sendmsg(log_state.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
                return true;
        if (errno != ECONNREFUSED && errno != ENOTCONN && errno != ECONNRESET)
                return false;
        return sink_connect(log_state.fd, log_state.sink) >= 0 &&
               sendmsg(log_state.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
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

        return send_on_socket(iov, ELEMENTSOF(iov));
}

/* syslogd adds the time. */
static bool write_syslog(int level, const char *text) {
        char head[VOLUME_SIZE + 128];
        int n = snprintf(head, sizeof head, "<%d>%s[%d]: %s%s", LOG_DAEMON | level, log_state.ident, (int) getpid(),
                         log_state.volume, *log_state.volume ? ": " : "");
        struct iovec iov[] = {
                { head, (size_t) n },
                { (char *) text, strlen(text) },
        };

        return send_on_socket(iov, ELEMENTSOF(iov));
}

/* The kernel takes the level from what the line begins with, and refuses one that is longer than it keeps. */
static bool write_kernel(int level, const char *text) {
        char line[KERNEL_LINE_SIZE];
        int n = snprintf(line, sizeof line, "<%d>%s: %s%s%s", LOG_DAEMON | level, log_state.ident, log_state.volume,
                         *log_state.volume ? ": " : "", text);

        return write(log_state.fd, line, MIN((size_t) n, sizeof line - 1)) >= 0;
}

static bool write_stderr(const char *text) {
        char line[LINE_SIZE + VOLUME_SIZE + 64];
        int n = snprintf(line, sizeof line, "%s: %s%s%s\n", log_state.ident, log_state.volume, *log_state.volume ? ": " : "",
                         text);

        return write(STDERR_FILENO, line, MIN((size_t) n, sizeof line - 1)) >= 0;
}

static bool write_to_sink(int level, const char *text) {
        switch (log_state.sink) {
        case SINK_JOURNAL:
                return write_journal(level, text);
        case SINK_SYSLOG:
                return write_syslog(level, text);
        case SINK_KERNEL:
                return write_kernel(level, text);
        case SINK_STDERR:
                break;
        }
        return write_stderr(text);
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
        if (!write_to_sink(level, text))
                atomic_fetch_add_explicit(&log_state.dropped, 1, memory_order_relaxed);
        errno = saved;
}

uint64_t log_dropped(void) {
        return atomic_load_explicit(&log_state.dropped, memory_order_relaxed);
}
