/*
 * A wire of some length: a TCP proxy on loopback that hands on what it gets after a fixed time, in both directions, and
 * takes as much as comes. (Linux can do that, too, with netem, where the kernel has it.)
 *
 *   delay LISTEN_PORT SERVER_PORT MS      MS: one way
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#include "base/util.h"

#define CHUNK_SIZE (256u << 10)

typedef struct Chunk {
        STAILQ_ENTRY(Chunk) chunk_link;
        uint64_t due; /* ns */
        size_t len;   /* 0: the end */
        char data[];
} Chunk;

/* One direction of one connection: a thread that reads, and one that writes when it is time. */
typedef struct Pipe {
        int from, to;
        pthread_mutex_t lock;
        pthread_cond_t filled;
        STAILQ_HEAD(, Chunk) chunks;
} Pipe;

static uint64_t delay_ns;

static void die(const char *what) {
        perror(what);
        exit(1);
}

static void *pipe_read(void *arg) {
        static __thread char buffer[CHUNK_SIZE];
        Pipe *pipe = arg;
        ssize_t n;

        do {
                Chunk *chunk;

                n = MAX(read(pipe->from, buffer, sizeof buffer), (ssize_t) 0);
                chunk = malloc(sizeof *chunk + (size_t) n);
                if (!chunk)
                        die("memory");
                chunk->due = now_ns() + delay_ns;
                chunk->len = (size_t) n;
                memcpy(chunk->data, buffer, (size_t) n);
                (void) pthread_mutex_lock(&pipe->lock);
                STAILQ_INSERT_TAIL(&pipe->chunks, chunk, chunk_link);
                (void) pthread_cond_signal(&pipe->filled);
                (void) pthread_mutex_unlock(&pipe->lock);
        } while (n > 0);
        return NULL;
}

static Chunk *pipe_next(Pipe *pipe) {
        Chunk *chunk;

        (void) pthread_mutex_lock(&pipe->lock);
        while (!(chunk = STAILQ_FIRST(&pipe->chunks)))
                (void) pthread_cond_wait(&pipe->filled, &pipe->lock);
        STAILQ_REMOVE_HEAD(&pipe->chunks, chunk_link);
        (void) pthread_mutex_unlock(&pipe->lock);
        return chunk;
}

static void *pipe_write(void *arg) {
        Pipe *pipe = arg;
        bool more = true;

        while (more) {
                Chunk *chunk = pipe_next(pipe);
                struct timespec due = { (time_t) (chunk->due / NSEC_PER_SEC), (long) (chunk->due % NSEC_PER_SEC) };

                while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0) {
                }
                more = chunk->len > 0;
                for (size_t done = 0; done < chunk->len;) {
                        ssize_t n = write(pipe->to, chunk->data + done, chunk->len - done);

                        if (n <= 0) {
                                more = false;
                                break;
                        }
                        done += (size_t) n;
                }
                free(chunk);
        }
        (void) shutdown(pipe->to, SHUT_RDWR); /* whoever reads from it ends, too; the few bytes of a pipe are not freed */
        return NULL;
}

static void pipe_start(int from, int to) {
        Pipe *pipe = calloc(1, sizeof *pipe);
        pthread_t thread;

        if (!pipe)
                die("memory");
        pipe->from = from;
        pipe->to = to;
        (void) pthread_mutex_init(&pipe->lock, NULL);
        (void) pthread_cond_init(&pipe->filled, NULL);
        STAILQ_INIT(&pipe->chunks);
        if (pthread_create(&thread, NULL, pipe_read, pipe) != 0 || pthread_create(&thread, NULL, pipe_write, pipe) != 0)
                die("thread");
}

static struct sockaddr_in loopback(const char *port) {
        return (struct sockaddr_in){ .sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                     .sin_port = htons((uint16_t) strtoul(port, NULL, 10)) };
}

/* From a port below 1024, as the server may want it. */
static int server_connect(const struct sockaddr_in *server) {
        int on = 1;

        for (uint16_t port = 1023; port > 600; port--) {
                struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons(port) };
                int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

                if (fd < 0)
                        die("socket");
                if (bind(fd, (struct sockaddr *) &from, sizeof from) == 0 &&
                    connect(fd, (const struct sockaddr *) server, sizeof *server) == 0) {
                        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                        return fd;
                }
                (void) close(fd);
        }
        die("connect");
        return -1;
}

int main(int argc, char **argv) {
        struct sockaddr_in here, server;
        int on = 1, listen_fd, client;

        if (argc != 4) {
                (void) fprintf(stderr, "usage: delay LISTEN_PORT SERVER_PORT MS\n");
                return 2;
        }
        here = loopback(argv[1]);
        server = loopback(argv[2]);
        delay_ns = strtoull(argv[3], NULL, 10) * NSEC_PER_MSEC;
        listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void) setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *) &here, sizeof here) < 0 || listen(listen_fd, 64) < 0)
                die("listen");
        while ((client = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                int fd = server_connect(&server);

                (void) setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                pipe_start(client, fd);
                pipe_start(fd, client);
        }
        die("accept");
}
