/*
 * See fakenfs.h: the server's thread, its connections, and the faults that are not in a reply's contents.
 *
 * One thread polls; what other threads set (faults, flags, counters) is under lock. A connection's replies
 * wait in a list until they are due and the socket takes them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto.h"

#define CONNS_MAX     64
#define FAULTS_MAX    32
#define INPUT_MAX     (4u << 20)
#define KEYS          340
#define ENDLESS_CHUNK 65536

typedef struct Output {
        STAILQ_ENTRY(Output) link;
        uint64_t due_ms;
        size_t len, sent;
        bool close_after, endless;
        size_t trickle;
        uint8_t data[];
} Output;
STAILQ_HEAD(OutputList, Output);

/* A request that is executed when it is due. */
typedef struct Late {
        STAILQ_ENTRY(Late) link;
        uint64_t due_ms;
        size_t len;
        uint8_t record[];
} Late;

typedef struct Conn {
        int fd; /* -1: free */
        uint16_t source_port;
        bool closing; /* sent its last byte; waits for the peer to close */
        uint8_t *input;
        size_t have, used;
        struct OutputList ready, delayed;
} Conn;

struct FakeNfs {
        FakeNfsConfig config;
        struct sockaddr_in addr;
        int listen_fd, wake_fd;
        pthread_t thread;
        Conn conns[CONNS_MAX];
        STAILQ_HEAD(, Late) late;
        uint8_t *reply;

        pthread_mutex_t lock; /* all below */
        ProtoState state;
        FakeFault faults[FAULTS_MAX];
        uint32_t n_faults;
        bool paused, stop, kick, off;
        uint64_t n_ordered, n_taken; /* changes of these four */
        pthread_cond_t taken;
        uint64_t seen[KEYS], executed[KEYS], n_seen, n_executed, n_accepted;
        FakeRequest history[FAKE_HISTORY];
        uint64_t n_history;
};

static uint64_t now_ms(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}

/* ---- connections ---- */

static void outputs_free(struct OutputList *list) {
        Output *out;

        while ((out = STAILQ_FIRST(list))) {
                STAILQ_REMOVE_HEAD(list, link);
                free(out);
        }
}

static void conn_drop(Conn *conn) {
        if (conn->fd < 0)
                return;
        (void) close(conn->fd);
        conn->fd = -1;
        conn->have = conn->used = 0;
        outputs_free(&conn->ready);
        outputs_free(&conn->delayed);
}

static void conn_accept(FakeNfs *fake) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        int fd = accept4(fake->listen_fd, (struct sockaddr *) &peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int on = 1, i;

        if (fd < 0)
                return;
        (void) pthread_mutex_lock(&fake->lock);
        fake->n_accepted++;
        (void) pthread_mutex_unlock(&fake->lock);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        for (i = 0; i < CONNS_MAX && fake->conns[i].fd >= 0; i++)
                ;
        if (i == CONNS_MAX) {
                (void) close(fd);
                return;
        }
        fake->conns[i].fd = fd;
        fake->conns[i].source_port = ntohs(peer.sin_port);
        fake->conns[i].closing = false;
        if (!fake->conns[i].input)
                fake->conns[i].input = malloc(INPUT_MAX);
}

/* ---- replies ---- */

/* Fragments of size bytes each, with their markers. */
static size_t fragment(uint8_t *to, const uint8_t *reply, size_t len, size_t size) {
        size_t at = 0, done, part;
        uint32_t marker;

        for (done = 0; done < len; done += part) {
                part = len - done < size ? len - done : size;
                marker = htonl((uint32_t) part | (done + part == len ? 0x80000000u : 0));
                memcpy(to + at, &marker, 4);
                memcpy(to + at + 4, reply + done, part);
                at += 4 + part;
        }
        return at;
}

/* What is sent over and over: records, or fragments, of size bytes that begin with xid, if that fits. */
static void conn_queue_endless(Conn *conn, size_t size, uint32_t xid, bool last) {
        size_t n = ENDLESS_CHUNK / (size + 4) + 1;
        Output *out = calloc(1, sizeof *out + n * (size + 4));
        uint32_t marker = htonl((uint32_t) size | (last ? 0x80000000u : 0));

        if (!out)
                abort();
        out->endless = true;
        out->len = n * (size + 4);
        xid = htonl(xid);
        for (size_t i = 0; i < n; i++) {
                memcpy(out->data + i * (size + 4), &marker, 4);
                memcpy(out->data + i * (size + 4) + 4, &xid, size < 4 ? size : 4);
        }
        STAILQ_INSERT_TAIL(&conn->ready, out, link);
}

static void conn_queue(Conn *conn, const uint8_t *reply, size_t len, const FakeFault *fault) {
        enum FakeAction action = fault ? fault->action : FAKE_NONE;
        size_t size = action == FAKE_FRAGMENT && fault->arg > 0 ? fault->arg : len;
        Output *out = calloc(1, sizeof *out + len + 4 * (len / (size ? size : 1) + 2));
        uint32_t marker;

        if (!out)
                abort();
        out->len = fragment(out->data, reply, len, size);
        if (action == FAKE_RAW_LENGTH) {
                marker = htonl(fault->arg | 0x80000000u);
                memcpy(out->data, &marker, 4);
        }
        if (action == FAKE_CLOSE || action == FAKE_CLOSE_AFTER || action == FAKE_PARTIAL) {
                size = action == FAKE_PARTIAL ? fault->arg : 0;
                out->len = size < out->len ? size : out->len;
                out->close_after = true;
        }
        if (action == FAKE_TRICKLE)
                out->trickle = fault->arg;
        if (action == FAKE_DELAY) {
                out->due_ms = now_ms() + fault->arg;
                STAILQ_INSERT_TAIL(&conn->delayed, out, link);
        } else {
                STAILQ_INSERT_TAIL(&conn->ready, out, link);
        }
}

static void conn_release_delayed(Conn *conn) {
        uint64_t now = now_ms();
        Output *out, *next;

        for (out = STAILQ_FIRST(&conn->delayed); out; out = next) {
                next = STAILQ_NEXT(out, link);
                if (out->due_ms > now)
                        continue;
                STAILQ_REMOVE(&conn->delayed, out, Output, link);
                STAILQ_INSERT_TAIL(&conn->ready, out, link);
        }
}

/* The last byte is out: FIN, not RST, which would eat it. */
static void conn_finish(Conn *conn) {
        outputs_free(&conn->ready);
        outputs_free(&conn->delayed);
        (void) shutdown(conn->fd, SHUT_WR);
        conn->closing = true;
}

static void conn_flush(Conn *conn) {
        Output *out;
        ssize_t n;

        conn_release_delayed(conn);
        while ((out = STAILQ_FIRST(&conn->ready))) {
                bool trickling = out->sent < out->trickle && out->sent < out->len;
                size_t want = trickling ? 1 : out->len - out->sent;

                n = want ? send(conn->fd, out->data + out->sent, want, MSG_NOSIGNAL) : 0;
                if (n < 0) {
                        if (errno != EAGAIN)
                                conn_drop(conn);
                        return;
                }
                out->sent += (size_t) n;
                if (trickling)
                        (void) usleep(1000);
                if (out->sent < out->len)
                        continue;
                if (out->endless) {
                        out->sent = 0;
                        return; /* others want to be served, too */
                }
                if (out->close_after) {
                        conn_finish(conn);
                        return;
                }
                STAILQ_REMOVE_HEAD(&conn->ready, link);
                free(out);
        }
}

/* ---- requests ---- */

/* Under lock. */
static bool fault_take(FakeNfs *fake, int key, FakeFault *ret) {
        for (uint32_t i = 0; i < fake->n_faults; i++) {
                FakeFault *fault = &fake->faults[i];

                if (fault->key != FAKE_ANY && fault->key != key)
                        continue;
                if (!fault->forever && fault->times == 0)
                        continue;
                if (fault->skip > 0) {
                        fault->skip--;
                        continue;
                }
                if (!fault->forever)
                        fault->times--;
                *ret = *fault;
                return true;
        }
        return false;
}

static void remember(FakeNfs *fake, const ProtoRequest *request) {
        fake->seen[request->key]++;
        fake->n_seen++;
        fake->history[fake->n_history++ % FAKE_HISTORY] = (FakeRequest){
                .key = request->key,
                .xid = request->xid,
                .id = proto_id(request),
                .uid = request->uid,
                .gid = request->gid,
                .n_groups = request->n_groups,
                .source_port = request->source_port,
        };
}

static void put_off(FakeNfs *fake, const uint8_t *record, size_t len, uint32_t ms) {
        Late *late = calloc(1, sizeof *late + len);

        if (!late)
                abort();
        late->due_ms = now_ms() + ms;
        late->len = len;
        memcpy(late->record, record, len);
        STAILQ_INSERT_TAIL(&fake->late, late, link);
}

static void execute_late(FakeNfs *fake) {
        uint64_t now = now_ms();
        ProtoRequest request;
        Late *late, *next;

        for (late = STAILQ_FIRST(&fake->late); late; late = next) {
                next = STAILQ_NEXT(late, link);
                if (late->due_ms > now)
                        continue;
                STAILQ_REMOVE(&fake->late, late, Late, link);
                (void) pthread_mutex_lock(&fake->lock);
                if (proto_parse(late->record, late->len, &request) == 0)
                        (void) proto_reply(&fake->state, &request, NULL, fake->reply);
                (void) pthread_mutex_unlock(&fake->lock);
                free(late);
        }
}

static bool executes(const FakeFault *fault) {
        return !fault || (fault->action != FAKE_CLOSE && fault->action != FAKE_STATUS && fault->action != FAKE_ACCEPT &&
                          fault->action != FAKE_DENY);
}

static void handle(FakeNfs *fake, Conn *conn, const uint8_t *record, size_t len) {
        ProtoRequest request;
        FakeFault fault;
        const FakeFault *hit;

        if (proto_parse(record, len, &request) < 0)
                return;
        request.source_port = conn->source_port;
        (void) pthread_mutex_lock(&fake->lock);
        remember(fake, &request);
        hit = fault_take(fake, request.key, &fault) ? &fault : NULL;
        if (executes(hit)) {
                fake->executed[request.key]++;
                fake->n_executed++;
        }
        if (hit && hit->action == FAKE_LATE)
                put_off(fake, record, len, hit->arg);
        else
                len = proto_reply(&fake->state, &request, hit, fake->reply);
        (void) pthread_mutex_unlock(&fake->lock);
        if (hit && hit->action == FAKE_ENDLESS)
                conn_queue_endless(conn, hit->arg, request.xid, false);
        else if (hit && hit->action == FAKE_FLOOD)
                conn_queue_endless(conn, hit->arg, ~request.xid, true);
        else if (!hit || (hit->action != FAKE_DROP && hit->action != FAKE_LATE))
                conn_queue(conn, fake->reply, len, hit);
}

static void conn_read(FakeNfs *fake, Conn *conn) {
        ssize_t n = recv(conn->fd, conn->input + conn->have, INPUT_MAX - conn->have, MSG_DONTWAIT);
        uint32_t len;

        if (n < 0 && errno == EAGAIN)
                return;
        if (n <= 0) {
                conn_drop(conn);
                return;
        }
        if (conn->closing)
                return;
        conn->have += (size_t) n;
        while (conn->have - conn->used >= 4) {
                memcpy(&len, conn->input + conn->used, 4);
                len = ntohl(len) & 0x7fffffff;
                if (len > INPUT_MAX - 8) {
                        conn_drop(conn);
                        return;
                }
                if (conn->have - conn->used < len + 4)
                        break;
                handle(fake, conn, conn->input + conn->used + 4, len);
                conn->used += len + 4;
        }
        memmove(conn->input, conn->input + conn->used, conn->have - conn->used);
        conn->have -= conn->used;
        conn->used = 0;
}

/* ---- the thread ---- */

static int listen_open(FakeNfs *fake) {
        socklen_t len = sizeof fake->addr;
        int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -1;
        (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (struct sockaddr *) &fake->addr, sizeof fake->addr) < 0 || listen(fd, 64) < 0 ||
            getsockname(fd, (struct sockaddr *) &fake->addr, &len) < 0) {
                on = errno;
                (void) close(fd);
                errno = on;
                return -1;
        }
        return fd;
}

static void drop_all(FakeNfs *fake) {
        for (int i = 0; i < CONNS_MAX; i++)
                conn_drop(&fake->conns[i]);
}

/* What other threads asked for. */
static void take_orders(FakeNfs *fake, bool *ret_stop, bool *ret_paused) {
        uint64_t n_ordered;
        bool kick, off;

        (void) pthread_mutex_lock(&fake->lock);
        n_ordered = fake->n_ordered;
        kick = fake->kick;
        fake->kick = false;
        off = fake->off;
        *ret_stop = fake->stop;
        *ret_paused = fake->paused;
        (void) pthread_mutex_unlock(&fake->lock);
        if (off && fake->listen_fd >= 0) {
                (void) close(fake->listen_fd);
                fake->listen_fd = -1;
                kick = true;
        } else if (!off && fake->listen_fd < 0) {
                fake->listen_fd = listen_open(fake);
        }
        if (kick)
                drop_all(fake);
        (void) pthread_mutex_lock(&fake->lock);
        fake->n_taken = n_ordered;
        (void) pthread_cond_broadcast(&fake->taken);
        (void) pthread_mutex_unlock(&fake->lock);
}

static int poll_set(FakeNfs *fake, bool paused, struct pollfd *fds, Conn **conns, int *ret_timeout) {
        int n = 2;

        fds[0] = (struct pollfd){ .fd = fake->wake_fd, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = paused ? -1 : fake->listen_fd, .events = POLLIN };
        *ret_timeout = STAILQ_EMPTY(&fake->late) ? -1 : 1;
        for (int i = 0; i < CONNS_MAX; i++) {
                Conn *conn = &fake->conns[i];

                if (conn->fd < 0)
                        continue;
                if (!STAILQ_EMPTY(&conn->delayed))
                        *ret_timeout = 1;
                conns[n] = conn;
                fds[n++] = (struct pollfd){
                        .fd = paused ? -1 : conn->fd,
                        .events = POLLIN | (STAILQ_EMPTY(&conn->ready) || conn->closing ? 0 : POLLOUT),
                };
        }
        return n;
}

static void *serve(void *arg) {
        FakeNfs *fake = arg;
        struct pollfd fds[CONNS_MAX + 2];
        Conn *conns[CONNS_MAX + 2];
        int n, timeout;
        bool stop, paused;
        uint64_t count;

        for (;;) {
                take_orders(fake, &stop, &paused);
                if (stop)
                        return NULL;
                n = poll_set(fake, paused, fds, conns, &timeout);
                (void) poll(fds, (nfds_t) n, timeout);
                if (fds[0].revents)
                        (void) !read(fake->wake_fd, &count, sizeof count);
                for (int i = 2; i < n; i++) {
                        if (paused || conns[i]->fd != fds[i].fd)
                                continue;
                        if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
                                conn_read(fake, conns[i]);
                        if (conns[i]->fd >= 0 && !conns[i]->closing)
                                conn_flush(conns[i]);
                }
                execute_late(fake);
                if (fds[1].revents & POLLIN)
                        conn_accept(fake);
        }
}

/* ---- from other threads ---- */

static void wake(FakeNfs *fake) {
        (void) !write(fake->wake_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

FakeNfs *fakenfs_start(const FakeNfsConfig *config) {
        FakeNfs *fake = calloc(1, sizeof *fake);

        if (!fake)
                return NULL;
        fake->config = *config;
        fake->addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(config->port) };
        (void) inet_pton(AF_INET, config->address ? config->address : "127.0.0.1", &fake->addr.sin_addr);
        fake->listen_fd = listen_open(fake);
        if (fake->listen_fd < 0) {
                free(fake);
                return NULL;
        }
        fake->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fake->reply = malloc(PROTO_REPLY_MAX + 65536);
        STAILQ_INIT(&fake->late);
        for (int i = 0; i < CONNS_MAX; i++) {
                fake->conns[i].fd = -1;
                STAILQ_INIT(&fake->conns[i].ready);
                STAILQ_INIT(&fake->conns[i].delayed);
        }
        fake->state = (ProtoState){
                .config = &fake->config,
                .port = ntohs(fake->addr.sin_port),
                .verifier = 0x1122334455667788,
                .next_id = config->n_files + 2,
        };
        (void) pthread_mutex_init(&fake->lock, NULL);
        (void) pthread_cond_init(&fake->taken, NULL);
        if (fake->wake_fd < 0 || !fake->reply || pthread_create(&fake->thread, NULL, serve, fake) != 0)
                abort();
        return fake;
}

FakeNfs *fakenfs_stop(FakeNfs *fake) {
        Late *late;

        if (!fake)
                return NULL;
        (void) pthread_mutex_lock(&fake->lock);
        fake->stop = true;
        (void) pthread_mutex_unlock(&fake->lock);
        wake(fake);
        (void) pthread_join(fake->thread, NULL);
        drop_all(fake);
        while ((late = STAILQ_FIRST(&fake->late))) {
                STAILQ_REMOVE_HEAD(&fake->late, link);
                free(late);
        }
        for (int i = 0; i < CONNS_MAX; i++)
                free(fake->conns[i].input);
        if (fake->listen_fd >= 0)
                (void) close(fake->listen_fd);
        (void) close(fake->wake_fd);
        (void) pthread_cond_destroy(&fake->taken);
        (void) pthread_mutex_destroy(&fake->lock);
        free(fake->reply);
        free(fake);
        return NULL;
}

uint16_t fakenfs_port(const FakeNfs *fake) {
        return fake->state.port; /* set once */
}

void fakenfs_fault(FakeNfs *fake, int key, enum FakeAction action, uint32_t arg, uint32_t skip, uint32_t times) {
        (void) pthread_mutex_lock(&fake->lock);
        if (fake->n_faults == FAULTS_MAX)
                abort();
        fake->faults[fake->n_faults++] = (FakeFault){
                .key = key,
                .action = action,
                .arg = arg,
                .skip = skip,
                .times = times,
                .forever = times == 0,
        };
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_clear(FakeNfs *fake) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->n_faults = 0;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_set_verifier(FakeNfs *fake, uint64_t verifier) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->state.verifier = verifier;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_replace_handles(FakeNfs *fake) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->state.epoch++;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_ignore_create_times(FakeNfs *fake) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->state.no_create_time = true;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_set_time_grain(FakeNfs *fake, uint32_t ns) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->state.time_grain = ns;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_touch(FakeNfs *fake, uint64_t id) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->state.touched = id;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_link(FakeNfs *fake, uint64_t id) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->state.linked = id;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_acl(FakeNfs *fake, uint64_t id, uint32_t mode, uint32_t uid, uint32_t access) {
        (void) pthread_mutex_lock(&fake->lock);
        if (fake->state.n_acls == ACLS_MAX)
                abort();
        fake->state.acls[fake->state.n_acls++] = (FakeAcl){ id, mode, uid, access };
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_set_grace(FakeNfs *fake, bool grace) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->state.grace = grace;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_forget_locks(FakeNfs *fake) {
        (void) pthread_mutex_lock(&fake->lock);
        fake->state.n_locks = 0;
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_hold_lock(FakeNfs *fake, uint64_t id, uint32_t svid, bool exclusive, uint64_t offset, uint64_t length) {
        FakeLock lock = {
                .id = id,
                .start = offset,
                .end = length ? offset + length - 1 : UINT64_MAX,
                .svid = svid,
                .exclusive = exclusive,
                .owner = "\0other\0client",
                .owner_len = 13,
        };

        (void) pthread_mutex_lock(&fake->lock);
        proto_set_lock(&fake->state, &lock, true);
        (void) pthread_mutex_unlock(&fake->lock);
}

uint32_t fakenfs_locks(FakeNfs *fake, uint64_t id, FakeLock *ret, uint32_t max) {
        uint32_t n = 0;

        (void) pthread_mutex_lock(&fake->lock);
        for (uint32_t i = 0; i < fake->state.n_locks && n < max; i++)
                if (fake->state.locks[i].id == id)
                        ret[n++] = fake->state.locks[i];
        (void) pthread_mutex_unlock(&fake->lock);
        return n;
}

/* Returns when the server's thread has done it. */
static void order(FakeNfs *fake, bool *flag, bool value) {
        uint64_t mine;

        (void) pthread_mutex_lock(&fake->lock);
        *flag = value;
        mine = ++fake->n_ordered;
        wake(fake);
        while (fake->n_taken < mine)
                (void) pthread_cond_wait(&fake->taken, &fake->lock);
        (void) pthread_mutex_unlock(&fake->lock);
}

void fakenfs_kick(FakeNfs *fake) {
        order(fake, &fake->kick, true);
}

void fakenfs_pause(FakeNfs *fake, bool paused) {
        order(fake, &fake->paused, paused);
}

void fakenfs_listen(FakeNfs *fake, bool on) {
        order(fake, &fake->off, !on);
}

static uint64_t counter(FakeNfs *fake, const uint64_t *value) {
        uint64_t n;

        (void) pthread_mutex_lock(&fake->lock);
        n = *value;
        (void) pthread_mutex_unlock(&fake->lock);
        return n;
}

uint64_t fakenfs_seen(FakeNfs *fake, int key) {
        return counter(fake, key < 0 ? &fake->n_seen : &fake->seen[key]);
}

uint64_t fakenfs_executed(FakeNfs *fake, int key) {
        return counter(fake, key < 0 ? &fake->n_executed : &fake->executed[key]);
}

uint64_t fakenfs_accepted(FakeNfs *fake) {
        return counter(fake, &fake->n_accepted);
}

uint32_t fakenfs_history(FakeNfs *fake, FakeRequest *ret, uint32_t max) {
        uint64_t first;
        uint32_t n = 0;

        (void) pthread_mutex_lock(&fake->lock);
        first = fake->n_history > FAKE_HISTORY ? fake->n_history - FAKE_HISTORY : 0;
        for (uint64_t i = first; i < fake->n_history && n < max; i++)
                ret[n++] = fake->history[i % FAKE_HISTORY];
        (void) pthread_mutex_unlock(&fake->lock);
        return n;
}
