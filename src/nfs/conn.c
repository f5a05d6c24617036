/*
 * The transport: keeps one connection to one server alive, or tries to.
 *
 * Theory of operation
 *
 * A connection (NfsConn) lives as long as its volume; a wire (wire.h) is one TCP connection of it. Of
 * libnfs only encoding, decoding and moving bytes is used. Its time-outs and its reconnecting are not: they
 * lose their place in the stream. Instead every call stays in our own list until it is answered,
 * and when a wire breaks, it is destroyed and all of the list is encoded again on the next one, in the
 * order of the first sending and under the same XIDs.
 *
 *     BACKOFF ──state_due──► CONNECTING ──connected──► UP
 *        ▲                        │ refused, no route,   │ closed, reset, nothing heard
 *        └────────────────────────┴──── state_due ───────┘ while calls time out
 *
 * Only conn_step() changes the state. Whoever notices something (the descriptor, the timer, the hook)
 * tells it an event. CLOSED is entered from anywhere by nfs_conn_free() and never left.
 *
 * A wire that lasted is replaced at once; one that brought a reply but did not last, after 100 ms. Else
 * every address of the server is tried in turn and then there is a pause, from 100 ms doubling to 5 s. So a
 * server that refuses, or accepts and closes, or closes on one particular call, costs ten connects a second
 * at most. If wire after wire ends so without one reply, it may be the first call that the server cannot
 * stand (one too large for it, say): then that one goes behind the others, who shall not starve.
 *
 * Sending: a call is encoded when it is sent and leaves with all others of this turn when our hook runs at
 * the end of the turn; replies are read there, too, so that rpc_service(), which walks everything in
 * flight, runs once a turn, or twice if replies make calls; not once a call.
 *
 * All wires of a connection come from the same local port, as far as that can be had, and what was sent before is sent
 * under the XID that it had: so a server finds it in its duplicate-request cache, and does not execute it twice.
 *
 * Time: nothing is retransmitted over a living TCP connection, that is TCP's work, but for what a server may have dropped:
 * duplicates of what was sent on an earlier one (calls_repeat()), and calls that only read (calls_expire()). A call
 * unanswered for its deadline (call.c) breaks the wire if nothing at all was heard for timeo; if others are answered,
 * it is first given until its major time-out. There is one timer, armed for the earliest of the state's
 * and the calls' deadlines, or earlier.
 *
 * Thread: all of it runs on the reactor's thread, and nothing is shared with other connections.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/random.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "src/nfs/conn_private.h"

#define BACKOFF_MIN_MS         100
#define BACKOFF_MAX_MS         5000
#define CONNECT_TIMEOUT_MIN_MS 1000 /* timeo, within these */
#define CONNECT_TIMEOUT_MAX_MS 10000
#define LASTED_NS              NSEC_PER_SEC
#define FRUITLESS_MAX          2 /* wires in a row */
#define LOG_INTERVAL_NS        (10 * NSEC_PER_SEC)

enum ConnEvent {
        EVENT_DUE,       /* state_due has passed */
        EVENT_CONNECTED, /* the wire is */
        EVENT_BROKEN,    /* the wire is, or could not be made */
};

static void conn_connect(NfsConn *conn, uint64_t now);
static void conn_up(NfsConn *conn, uint64_t now);
static void conn_broken(NfsConn *conn, uint64_t now, int error);
static void conn_attempt_failed(NfsConn *conn, uint64_t now, int error);

/* ---- states ---- */

static void conn_enter(NfsConn *conn, enum ConnState state, uint64_t due) {
        conn->state = state;
        conn->state_due = due;
        if (due)
                conn_arm(conn, due);
}

static void conn_step(NfsConn *conn, enum ConnEvent event, int error) {
        uint64_t now = now_ns();

        switch (conn->state) {
        case CONN_BACKOFF:
                if (event == EVENT_DUE)
                        conn_connect(conn, now);
                break;
        case CONN_CONNECTING:
                if (event == EVENT_CONNECTED)
                        conn_up(conn, now);
                else
                        conn_attempt_failed(conn, now, error);
                break;
        case CONN_UP:
                if (event == EVENT_BROKEN)
                        conn_broken(conn, now, error);
                break;
        case CONN_CLOSED:
                break;
        }
}

static void conn_drop_wire(NfsConn *conn) {
        stat_set(&conn->stats->connected, 0);
        fd_source_remove(&conn->source);
        conn->ready_events = 0;
        conn->wire = wire_free(conn->wire);
}

/* Of a wire that is broken. */
static const char *conn_why(int error) {
        if (error == -EMSGSIZE)
                return "it sends a record that is longer than any reply";
        return strerror(error ? -error : ETIMEDOUT);
}

static const char *conn_address(const NfsConn *conn, char *buf, size_t size) {
        return nfs_addr_format(&conn->addrs[conn->next_addr], buf, size) < 0 ? "?" : buf;
}

static void conn_connect(NfsConn *conn, uint64_t now) {
        uint32_t limit_ms = MAX(conn->config.timeo_ms, (uint32_t) CONNECT_TIMEOUT_MIN_MS);
        int r;

        limit_ms = MIN(limit_ms, (uint32_t) CONNECT_TIMEOUT_MAX_MS);
        conn_enter(conn, CONN_CONNECTING, now + limit_ms * NSEC_PER_MSEC);
        r = wire_open(conn->ops, &conn->pool, &conn->addrs[conn->next_addr], conn->config.port, conn->config.resvport,
                      conn->config.source_port, &conn->wire);
        if (r == 0) {
                conn->wire->replied = call_replied;
                conn->wire->failed_call = call_failed;
                conn->wire->userdata = conn;
                r = fd_source_add(conn->reactor, &conn->source, wire_fd(conn->wire), EPOLLOUT);
        }
        if (r < 0)
                conn_step(conn, EVENT_BROKEN, r);
}

/* This address does not work now: the next one, and after all of them a pause. */
static void conn_attempt_failed(NfsConn *conn, uint64_t now, int error) {
        char address[INET6_ADDRSTRLEN + 20];

        conn_drop_wire(conn);
        stat_add(&conn->stats->connect_failures, 1);
        if (!conn->failure_logged) {
                log_notice("%s: cannot connect to %s port %u: %s, trying again", conn->config.server,
                           conn_address(conn, address, sizeof address), conn->config.port, conn_why(error));
                conn->failure_logged = true;
        }
        if (now - conn->down_since >= conn_major_timeout(conn))
                conn_set_responding(conn, false);

        conn->next_addr = (conn->next_addr + 1) % conn->config.n_addrs;
        if (++conn->n_tried < conn->config.n_addrs) {
                conn_enter(conn, CONN_BACKOFF, now);
                return;
        }
        conn->n_tried = 0;
        conn->backoff_ms = MAX(conn->backoff_ms * 2, (uint32_t) BACKOFF_MIN_MS);
        conn->backoff_ms = MIN(conn->backoff_ms, (uint32_t) BACKOFF_MAX_MS);
        conn_enter(conn, CONN_BACKOFF, now + conn->backoff_ms * NSEC_PER_MSEC);
        if (conn->config.unreachable)
                conn->config.unreachable(conn->config.userdata);
}

/* What TCP itself does about a silent peer. Failures leave the defaults. */
static void conn_set_sockopts(const NfsConn *conn, int fd) {
        int timeo_s = (int) MAX(conn->config.timeo_ms / 1000, 1u);
        int idle = MIN(timeo_s, 60), count = (int) MIN(conn->config.retrans + 1, 10u), on = 1;
        unsigned int user_ms = (unsigned int) MIN(conn_major_timeout(conn) / NSEC_PER_MSEC, (uint64_t) 600 * 1000);

        user_ms = MAX(user_ms, 1000u);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof user_ms);
}

static void conn_up(NfsConn *conn, uint64_t now) {
        char address[INET6_ADDRSTRLEN + 20];

        conn_enter(conn, CONN_UP, 0);
        conn_set_sockopts(conn, wire_fd(conn->wire));
        conn->up_since = now;
        conn->heard_at = now;
        conn->proven = false;
        stat_add(&conn->stats->connects, 1);
        stat_set(&conn->stats->connected, 1);
        log_debug("%s: connected to %s port %u", conn->config.server, conn_address(conn, address, sizeof address),
                  conn->config.port);
        if (conn->failure_logged && conn->responding)
                log_notice("%s: connected", conn->config.server);
        conn->failure_logged = false;
        if (TAILQ_EMPTY(&conn->calls))
                conn_set_responding(conn, true); /* else the first reply says so */
        calls_resend(conn);
        if (conn->config.connected)
                conn->config.connected(conn->config.userdata);
}

static void conn_broken(NfsConn *conn, uint64_t now, int error) {
        bool lasted = now - conn->up_since >= LASTED_NS;

        if (error == -EMSGSIZE)
                stat_add(&conn->stats->bad_replies, 1);
        if (now - conn->logged_at >= LOG_INTERVAL_NS) {
                log_write(error == -EMSGSIZE ? LOG_WARNING : LOG_INFO, "%s: connection lost (%s), %u calls wait",
                          conn->config.server, conn_why(error), conn->n_calls);
                conn->logged_at = now;
        }
        if (!lasted && !conn->proven) {
                if (++conn->n_fruitless >= FRUITLESS_MAX)
                        calls_rotate(conn);
                conn_attempt_failed(conn, now, error);
                return;
        }
        conn_drop_wire(conn);
        conn->down_since = now;
        conn->n_fruitless = 0;
        conn->n_tried = 0;
        conn->backoff_ms = 0;
        conn_enter(conn, CONN_BACKOFF, lasted ? now : now + BACKOFF_MIN_MS * NSEC_PER_MSEC);
}

/* ---- what wakes us ---- */

/* While connecting, the socket's verdict is fetched before libnfs can: it forgets the errno. */
static void conn_check_connected(NfsConn *conn, uint32_t events) {
        int error = 0, r;
        socklen_t len = sizeof error;

        if (getsockopt(conn->source.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
                error = errno;
        if (!error && !(events & (EPOLLIN | EPOLLOUT)))
                error = ECONNRESET; /* hung up without saying why */
        if (error) {
                conn_step(conn, EVENT_BROKEN, -error);
                return;
        }
        r = wire_service(conn->wire, events & (EPOLLIN | EPOLLOUT));
        if (r < 0)
                conn_step(conn, EVENT_BROKEN, r);
        else if (conn->wire->connected)
                conn_step(conn, EVENT_CONNECTED, 0);
        else
                (void) fd_source_modify(&conn->source, wire_wants(conn->wire));
}

static void conn_ready(FdSource *source, uint32_t events) {
        NfsConn *conn = container_of(source, NfsConn, source);

        if (conn->state == CONN_CONNECTING) {
                conn_check_connected(conn, events);
                return;
        }
        if (events & (EPOLLERR | EPOLLHUP))
                events |= EPOLLIN; /* recv() says what it is */
        if (events & EPOLLIN)
                conn->heard_at = reactor_now(conn->reactor);
        conn->ready_events |= events;
}

/* The end of a turn, or of a round of it: replies in, everything that was queued out. */
static void conn_hook(Hook *hook) {
        NfsConn *conn = container_of(hook, NfsConn, hook);
        const NfsCall *first = TAILQ_FIRST(&conn->calls);
        uint32_t events = conn->ready_events;
        int r;

        stat_set(&conn->stats->waiting_since, first ? first->sent_at : 0);
        if (conn->state != CONN_UP || (!events && !conn->wire->queued))
                return;
        conn->ready_events = 0;
        r = wire_service(conn->wire, events | EPOLLOUT);
        crash_point(CALL_SENT);
        if (r == 0)
                r = fd_source_modify(&conn->source, wire_wants(conn->wire));
        if (r < 0)
                conn_step(conn, EVENT_BROKEN, r);
}

/* Deferred by senders, too, so that the loop does not sleep before the hook has sent what they queued. */
static void conn_task(Task *task) {
        calls_finish(container_of(task, NfsConn, task));
}

static void conn_repeat(Timer *timer) {
        calls_repeat(container_of(timer, NfsConn, repeat_timer));
}

static void conn_timer(Timer *timer) {
        NfsConn *conn = container_of(timer, NfsConn, timer);
        uint64_t now = now_ns();

        if (conn->expiry_due && conn->expiry_due <= now && calls_expire(conn, now))
                conn_step(conn, EVENT_BROKEN, -ETIMEDOUT);
        if (conn->state_due && conn->state_due <= now)
                conn_step(conn, EVENT_DUE, -ETIMEDOUT);
        if (conn->state_due)
                conn_arm(conn, conn->state_due);
        if (conn->expiry_due)
                conn_arm(conn, conn->expiry_due);
        calls_finish(conn);
}

void conn_arm(NfsConn *conn, uint64_t due) {
        if (!conn->timer.due || due < conn->timer.due)
                timer_arm(conn->reactor, &conn->timer, due);
}

void conn_set_responding(NfsConn *conn, bool responding) {
        if (conn->responding == responding)
                return;
        conn->responding = responding;
        if (responding)
                log_notice("%s: server OK", conn->config.server);
        else
                log_warning("%s: server not responding, %s", conn->config.server,
                            conn->config.soft ? "timed out" : "still trying");
        if (conn->config.state_changed)
                conn->config.state_changed(conn->config.userdata, responding);
}

uint64_t conn_major_timeout(const NfsConn *conn) {
        return (uint64_t) conn->config.timeo_ms * (conn->config.retrans + 1) * NSEC_PER_MSEC;
}

/* ---- life ---- */

static uint32_t random_xid(void) {
        uint32_t xid;

        if (getrandom(&xid, sizeof xid, GRND_NONBLOCK) != sizeof xid)
                xid = (uint32_t) now_ns() * 2654435761u + (uint32_t) getpid();
        return xid | 1;
}

static const NfsOps *ops_of(const NfsConnConfig *config) {
        switch (config->protocol) {
        case NFS_PROTOCOL_NLM4:
                return &nlm4_ops;
        case NFS_PROTOCOL_PORTMAP:
                return config->addrs[0].addr.ss_family == AF_INET6 ? &portmap3_ops : &portmap2_ops;
        default:
                return &nfs_v3_ops;
        }
}

int nfs_conn_new(Reactor *reactor, const NfsConnConfig *config, NfsConn **ret) {
        NfsConn *conn;

        if (config->n_addrs == 0 || config->n_addrs > NFS_ADDRS_MAX || config->timeo_ms == 0)
                return -EINVAL;
        conn = calloc(1, sizeof *conn);
        if (!conn)
                return -ENOMEM;
        conn->config = *config;
        memcpy(conn->addrs, config->addrs, config->n_addrs * sizeof *config->addrs);
        conn->config.addrs = conn->addrs;
        conn->ops = ops_of(config);
        conn->reactor = reactor;
        conn->stats = config->stats ? config->stats : &conn->own_stats;
        conn->responding = true;
        conn->source.fd = -1;
        conn->source.ready = conn_ready;
        conn->timer.fired = conn_timer;
        conn->repeat_timer.fired = conn_repeat;
        conn->hook.run = conn_hook;
        conn->task.run = conn_task;
        TAILQ_INIT(&conn->calls);
        TAILQ_INIT(&conn->delayed);
        TAILQ_INIT(&conn->finished);
        flight_pool_init(&conn->pool);
        if (!conn->config.next_xid)
                conn->config.next_xid = &conn->own_next_xid;
        if (!conn->config.source_port)
                conn->config.source_port = &conn->own_source_port;
        if (atomic_load(conn->config.next_xid) == 0)
                atomic_store(conn->config.next_xid, random_xid());

        reactor_add_hook(reactor, &conn->hook);
        conn->down_since = now_ns();
        conn_enter(conn, CONN_BACKOFF, conn->down_since);
        *ret = conn;
        return 0;
}

NfsConn *nfs_conn_free(NfsConn *conn) {
        if (!conn)
                return NULL;
        conn->state = CONN_CLOSED;
        conn_drop_wire(conn);
        calls_abort(conn);
        timer_disarm(&conn->timer);
        timer_disarm(&conn->repeat_timer);
        reactor_undefer(conn->reactor, &conn->task);
        reactor_remove_hook(conn->reactor, &conn->hook);
        flight_pool_done(&conn->pool);
        free(conn);
        return NULL;
}

void nfs_conn_set_port(NfsConn *conn, uint16_t port) {
        if (conn->config.port == port)
                return;
        conn->config.port = port;
        if (conn->state == CONN_UP || conn->state == CONN_CONNECTING)
                conn_step(conn, EVENT_BROKEN, -ECONNRESET);
}

bool nfs_conn_is_up(const NfsConn *conn) {
        return conn->state == CONN_UP;
}

uint32_t nfs_conn_in_flight(const NfsConn *conn) {
        return conn->n_calls;
}
