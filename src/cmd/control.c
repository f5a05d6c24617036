/*
 * Client of a volume's control socket.
 *
 * One line of JSON there, one object back, and the end. Connecting is how one finds out whether a volume
 * has a daemon: a socket whose process died refuses.
 */
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cmd.h"
#include "sys/rundir.h"

#define ANSWER_MAX (4 << 20)

int control_connect(const char *id, int *ret_fd) {
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        _cleanup_(fd_closep) int fd = -1;
        int r;

        r = rundir_path(id, "control", addr.sun_path, sizeof addr.sun_path);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *) &addr, sizeof addr) < 0) {
                if (errno != EAGAIN)
                        return -errno;
                /* Its queue is full, so somebody listens. */
                *ret_fd = -1;
                return 0;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

bool control_is_alive(const char *id) {
        int fd;

        if (control_connect(id, &fd) < 0)
                return false;
        (void) fd_close(fd);
        return true;
}

/* Waits for events until deadline. 0, -ETIMEDOUT or -EINTR. */
static int control_wait(int fd, short events, uint64_t deadline) {
        for (;;) {
                struct pollfd pfd = { .fd = fd, .events = events };
                uint64_t now = now_ns();

                if (interrupted())
                        return -EINTR;
                if (now >= deadline)
                        return -ETIMEDOUT;
                if (poll(&pfd, 1, (int) MIN((deadline - now) / NSEC_PER_MSEC + 1, UINT64_C(100))) > 0)
                        return 0;
        }
}

static int control_send(int fd, const char *text, uint64_t deadline) {
        size_t len = strlen(text), done = 0;

        while (done < len) {
                ssize_t n = send(fd, text + done, len - done, MSG_NOSIGNAL);
                int r;

                if (n >= 0) {
                        done += (size_t) n;
                        continue;
                }
                if (errno != EAGAIN && errno != EINTR)
                        return -errno;
                r = control_wait(fd, POLLOUT, deadline);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Everything up to the end. Owned by the caller. */
static int control_receive(int fd, uint64_t deadline, char **ret_text) {
        _cleanup_(freep) char *text = NULL;
        size_t size = 0, len = 0;

        for (;;) {
                ssize_t n;
                int r;

                if (len + 1 >= size) {
                        char *more = size < ANSWER_MAX ? realloc(text, size + 65536) : NULL;

                        if (!more)
                                return size < ANSWER_MAX ? -ENOMEM : -EMSGSIZE;
                        text = more;
                        size += 65536;
                }
                n = recv(fd, text + len, size - len - 1, 0);
                if (n == 0)
                        break;
                if (n > 0) {
                        len += (size_t) n;
                        continue;
                }
                if (errno != EAGAIN && errno != EINTR)
                        return -errno;
                r = control_wait(fd, POLLIN, deadline);
                if (r < 0)
                        return r;
        }
        text[len] = '\0';
        *ret_text = TAKE_PTR(text);
        return 0;
}

int control_call(const char *id, const char *request, uint64_t deadline, json_t **ret_answer) {
        _cleanup_(fd_closep) int fd = -1;
        _cleanup_(freep) char *text = NULL;
        json_t *object;
        int r;

        r = control_connect(id, &fd);
        if (r < 0)
                return r;
        if (fd < 0)
                return -ETIMEDOUT;
        r = control_send(fd, request, deadline);
        if (r < 0)
                return r;
        r = control_receive(fd, deadline, &text);
        if (r < 0)
                return r;
        object = json_loads(text, 0, NULL);
        if (!json_is_object(object)) {
                json_decref(object);
                return *text ? -EBADMSG : -ECONNRESET;
        }
        *ret_answer = object;
        return 0;
}

int control_status(const char *id, uint64_t deadline, json_t **ret_status) {
        return control_call(id, "{\"verb\":\"status\"}\n", deadline, ret_status);
}
