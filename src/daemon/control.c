/*
 * The control socket: <rundir>/<id>/control. One line of JSON in, one object out, closed. Root's only (the
 * directory is 0700). A client that sends nothing is dropped; answers are small and go out in one send, so no
 * client can hold the keeper up.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "daemon.h"

#define REQUEST_MAX 1024

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

static char *verb_status(const Keeper *keeper) {
        return status_format(keeper);
}

static const struct {
        const char *name;
        char *(*run)(const Keeper *keeper);
} verbs[] = {
        { "status", verb_status },
};

static char *answer(const Keeper *keeper, const char *request) {
        json_t *object = json_loads(request, 0, NULL);
        const char *verb = json_string_value(json_object_get(object, "verb"));
        char *text = NULL;

        for (unsigned i = 0; verb && i < ELEMENTSOF(verbs) && !text; i++)
                if (strcmp(verb, verbs[i].name) == 0)
                        text = verbs[i].run(keeper);
        if (!text)
                text = strdup("{\"error\":\"no such verb\"}\n");
        json_decref(object);
        return text;
}

static int client_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Client *client = userdata;
        ssize_t n = read(fd, client->request + client->len, sizeof client->request - 1 - client->len);
        char *text;

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
        if (client->len > 0) {
                text = answer(client->keeper, client->request);
                if (text)
                        (void) send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
                free(text);
        }
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
            sd_event_add_time(keeper->event, &client->timer, CLOCK_MONOTONIC, now + 5 * 1000 * 1000, 0, client_late,
                              client) < 0)
                client_free(client);
        return 0;
}

int control_listen(Keeper *keeper) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        if ((size_t) snprintf(address.sun_path, sizeof address.sun_path, "%s/control", keeper->directory) >=
            sizeof address.sun_path)
                return -ENAMETOOLONG;
        (void) unlink(address.sun_path);
        if (bind(fd, (struct sockaddr *) &address, sizeof address) < 0 || listen(fd, 128) < 0)
                return -errno;
        keeper->control_fd = TAKE_FD(fd);
        return 0;
}

int control_watch(Keeper *keeper) {
        return sd_event_add_io(keeper->event, &keeper->control, keeper->control_fd, EPOLLIN, control_ready, keeper);
}
