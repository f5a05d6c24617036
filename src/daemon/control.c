/*
 * The control socket: <rundir>/<id>/control. One line of JSON in, one object out, closed. Root's only (the
 * directory is 0700). A client that sends nothing is dropped; answers are small and go out in one send, so no
 * client can hold the keeper up. The standby has the socket too, so that it accepts, or keeps waiting, whoever comes
 * between two keepers.
 */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "daemon.h"

#define REQUEST_MAX 8192

typedef struct Client {
        Keeper *keeper;
        int fd;
        sd_event_source *source, *timer;
        size_t len;
        char request[REQUEST_MAX];
} Client;

static void client_free(Client *client) {
        (void) sd_event_source_disable_unref(client->source);
        (void) sd_event_source_disable_unref(client->timer);
        (void) fd_close(client->fd);
        free(client);
}

static void send_line(int fd, const char *text) {
        (void) send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void control_answer(int fd, json_t *object) {
        char *text = object ? json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
        char *line = NULL;

        if (fd >= 0 && asprintf(&line, "%s\n", text ? text : "{\"error\":\"out of memory\"}") >= 0)
                send_line(fd, line);
        free(line);
        free(text);
        json_decref(object);
        (void) fd_close(fd);
}

static void verb_status(Client *client, const json_t *request) {
        _cleanup_(freep) char *text = status_format(client->keeper);

        (void) request;
        if (text)
                send_line(client->fd, text);
}

/* {"program": PATH}: answered when it is done, or has failed. */
static void verb_upgrade(Client *client, const json_t *request) {
        const char *program = json_string_value(json_object_get(request, "program"));

        if (!program || *program != '/')
                return send_line(client->fd, "{\"error\":\"upgrade to what? (program: a path)\"}\n");
        upgrade_start(client->keeper, program, TAKE_FD(client->fd));
}

static void verb_verify(Client *client, const json_t *request) {
        (void) request;
        verify_start(client->keeper, TAKE_FD(client->fd));
}

static const struct {
        const char *name;
        void (*run)(Client *client, const json_t *request);
} verbs[] = {
        { "status", verb_status },
        { "verify", verb_verify },
        { "upgrade", verb_upgrade },
};

static void answer(Client *client) {
        json_t *object = json_loads(client->request, 0, NULL);
        const char *verb = json_string_value(json_object_get(object, "verb"));
        unsigned i = 0;

        while (i < ELEMENTSOF(verbs) && !(verb && strcmp(verb, verbs[i].name) == 0))
                i++;
        if (i < ELEMENTSOF(verbs))
                verbs[i].run(client, object);
        else
                send_line(client->fd, "{\"error\":\"no such verb\"}\n");
        json_decref(object);
}

static int client_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Client *client = userdata;
        ssize_t n = read(fd, client->request + client->len, sizeof client->request - 1 - client->len);

        (void) source;
        (void) revents;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > 0) {
                client->len += (size_t) n;
                client->request[client->len] = '\0';
        }
        if (n > 0 && !strchr(client->request, '\n') && client->len < sizeof client->request - 1)
                return 0;
        /* its descriptor may live longer than it does */
        client->source = sd_event_source_disable_unref(client->source);
        if (client->len > 0)
                answer(client);
        client_free(client);
        return 0;
}

static int client_late(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) source;
        (void) usec;
        client_free(userdata);
        return 0;
}

static int control_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Keeper *keeper = userdata;
        _cleanup_(fd_closep) int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        int buffer = 1 << 20;
        Client *client;
        uint64_t now;

        (void) source;
        (void) revents;
        if (client_fd < 0)
                return 0;
        client = calloc(1, sizeof *client);
        if (!client)
                return 0;
        (void) setsockopt(client_fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        client->keeper = keeper;
        client->fd = TAKE_FD(client_fd);
        if (sd_event_now(keeper->event, CLOCK_MONOTONIC, &now) < 0 ||
            sd_event_add_io(keeper->event, &client->source, client->fd, EPOLLIN, client_ready, client) < 0 ||
            sd_event_add_time(keeper->event, &client->timer, CLOCK_MONOTONIC, now + 5 * 1000 * 1000, 0, client_late, client) < 0)
                client_free(client);
        return 0;
}

int control_listen(Keeper *keeper) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct stat st;
        _cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        if ((size_t) snprintf(address.sun_path, sizeof address.sun_path, "%s/control", keeper->record->directory) >=
            sizeof address.sun_path)
                return -ENAMETOOLONG;
        (void) unlink(address.sun_path);
        if (bind(fd, (struct sockaddr *) &address, sizeof address) < 0 || listen(fd, 128) < 0)
                return -errno;
        if (stat(address.sun_path, &st) < 0)
                return -errno;
        keeper->record->control_ino = st.st_ino;
        keeper->record->control_fd = TAKE_FD(fd);
        return 0;
}

int control_watch(Keeper *keeper) {
        int fd = keeper->record->control_fd;

        return fd < 0 ? 0 : sd_event_add_io(keeper->event, &keeper->control, fd, EPOLLIN, control_ready, keeper);
}

void control_close(Keeper *keeper) {
        keeper->control = sd_event_source_disable_unref(keeper->control);
        if (keeper->record->control_fd >= 0)
                (void) shutdown(keeper->record->control_fd, SHUT_RDWR);
        keeper->record->control_fd = fd_close(keeper->record->control_fd);
}
