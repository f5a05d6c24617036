/*
 * The life of a call on a connection: sent, answered, delayed, timed out, cancelled, done.
 *
 * A call waits in conn->calls, which has the order of first sending: with a flight when the connection is
 * up, without one when it is not. The order is what a reconnect sends them in again. done() is called from
 * three places, never inside nfs_call_send() or nfs_call_cancel(): from a reply, from the timer, and
 * from the connection's task for what ended without either (conn->finished).
 *
 * Time-outs are nfs(5)'s: the first after timeo, each further one timeo later than the last, ten minutes
 * at most. timeo × (retrans + 1) after it was sent is the major time-out: a soft call ends then, whatever the
 * connection does; for a hard one the server is said not to respond. Deadlines are looked at only when
 * the timer fires, which is armed for the earliest of them but not more often than sixteen times a timeo, or once
 * a second: then the list is walked. So sending and completing a call costs no timer operation.
 *
 * A server may drop a request and say nothing (nfs-ganesha does, when it has no memory). What only reads is asked again
 * after five seconds, ten, twenty, if a later one like it was answered, or nothing was heard for as long; and after
 * twenty in any case: the oldest calls first, and few at once. So nobody waits for a minute, and a server or a link
 * that is merely slow is spared. The XID has been sent over this connection only: no answer to it can be older than
 * the call.
 *
 * XIDs count up from a random start. A call that comes with an XID of its own (sent before by a worker that
 * has died) keeps it, unless a call in flight has it; while there are such calls, new XIDs are compared.
 */
#include "base/crashpoint.h"
#include "base/log.h"
#include "src/nfs/conn_private.h"

#define INTERVAL_MAX_NS (600 * NSEC_PER_SEC)
#define DELAY_MIN_MS    250 /* after NFS3ERR_JUKEBOX, doubling */
#define DELAY_MAX_MS    5000
#define REPEAT_MIN_MS   50                 /* of what a server may have dropped, doubling; WRITE, which is large: fourfold */
#define ASK_MIN_NS      (5 * NSEC_PER_SEC) /* the same, of what only reads */
#define ASK_ANYWAY_NS   (20 * NSEC_PER_SEC)
#define ASK_BUDGET      64u /* of a connection, each time: so many calls */
#define ASK_LARGE       16u /* one whose answer is large counts as so many */
#define TICK_MAX_NS     NSEC_PER_SEC

/* ---- deadlines ---- */

static uint64_t timeo_ns(const NfsConn *conn) {
        return conn->config.timeo_ms * NSEC_PER_MSEC;
}

static void conn_expect(NfsConn *conn, uint64_t due) {
        if (!conn->expiry_due || due < conn->expiry_due) {
                conn->expiry_due = due;
                conn_arm(conn, due);
        }
}

static void call_set_deadline(NfsConn *conn, NfsCall *call, uint64_t now) {
        uint64_t interval = MIN(timeo_ns(conn) * (call->n_timeouts + 1), INTERVAL_MAX_NS);

        call->deadline = now + interval;
        if (conn->config.soft)
                call->deadline = MIN(call->deadline, call->sent_at + conn_major_timeout(conn));
}

static uint64_t call_due(const NfsCall *call) {
        return call->ask_due ? MIN(call->ask_due, call->deadline) : call->deadline;
}

/* ---- XIDs ---- */

static bool xid_in_use(const NfsConn *conn, uint32_t xid) {
        const NfsCall *call;

        TAILQ_FOREACH(call, &conn->calls, conn_link)
                if (call->xid == xid)
                        return true;
        TAILQ_FOREACH(call, &conn->delayed, conn_link)
                if (call->xid == xid)
                        return true;
        return false;
}

static void call_drop_given_xid(NfsConn *conn, NfsCall *call) {
        if (call->xid_given)
                conn->n_given_xids--;
        call->xid_given = false;
}

static void call_note_xid(NfsCall *call) {
        if (call->xid_note)
                atomic_store_explicit(call->xid_note, call->xid, memory_order_release);
        crash_point(XID_NOTED);
}

static void call_new_xid(NfsConn *conn, NfsCall *call) {
        _Atomic uint32_t *next = conn->config.next_xid;
        uint32_t xid = atomic_load_explicit(next, memory_order_relaxed);

        call_drop_given_xid(conn, call);
        while (xid == 0 || (conn->n_given_xids > 0 && xid_in_use(conn, xid)))
                xid++;
        call->xid = xid;
        atomic_store_explicit(next, xid + 1, memory_order_release);
        call_note_xid(call);
}

/* ---- completion ---- */

/* It is on no list and has no flight. */
static void call_done(NfsConn *conn, NfsCall *call) {
        call->state = CALL_IDLE;
        conn->n_calls--;
        call_drop_given_xid(conn, call);
        if (call->err)
                stat_add(&conn->stats->errors[call->proc], 1);
        call->done(call);
}

/* Later, from the connection's task. */
static void call_finish_later(NfsConn *conn, NfsCall *call, int err) {
        call->err = err;
        call->state = CALL_FINISHED;
        TAILQ_INSERT_TAIL(&conn->finished, call, conn_link);
        reactor_defer(conn->reactor, &conn->task);
}

void calls_finish(NfsConn *conn) {
        struct NfsCallList finished = TAILQ_HEAD_INITIALIZER(finished);
        NfsCall *call;

        TAILQ_CONCAT(&finished, &conn->finished, conn_link);
        while ((call = TAILQ_FIRST(&finished))) {
                TAILQ_REMOVE(&finished, call, conn_link);
                call_done(conn, call);
        }
}

/* ---- sending ---- */

static bool proc_changes(enum NfsProc proc) {
        return proc == NFS_SETATTR || (proc >= NFS_WRITE && proc <= NFS_LINK);
}

static void call_repeat_later(NfsConn *conn, NfsCall *call) {
        uint32_t shift = call->proc == NFS_WRITE ? 2 * call->n_repeats : call->n_repeats;
        uint32_t delay_ms = REPEAT_MIN_MS << MIN(shift, call->proc == NFS_WRITE ? 8u : 6u);

        call->repeat_due = now_ns() + delay_ms * NSEC_PER_MSEC;
        if (!conn->repeat_timer.due || call->repeat_due < conn->repeat_timer.due)
                timer_arm(conn->reactor, &conn->repeat_timer, call->repeat_due);
}

/* What may be executed any number of times costs so much of ASK_BUDGET; 0: it may not. */
static uint32_t proc_ask_cost(enum NfsProc proc) {
        switch (proc) {
        case NFS_GETATTR:
        case NFS_LOOKUP:
        case NFS_ACCESS:
        case NFS_READLINK:
        case NFS_FSSTAT:
        case NFS_FSINFO:
        case NFS_PATHCONF:
                return 1;
        case NFS_READ:
        case NFS_READDIR:
        case NFS_READDIRPLUS:
                return ASK_LARGE;
        default:
                return 0;
        }
}

/* On a wire that is up. */
static int call_put_on_wire(NfsConn *conn, NfsCall *call) {
        int r = wire_send(conn->wire, call);

        if (r < 0)
                return r;
        if (call->n_sent++ == 0 && call->n_delays == 0)
                stat_add(&conn->stats->calls[call->proc], 1);
        else
                stat_add(&conn->stats->resent[call->proc], 1);
        if (call->n_sent > 1 && proc_changes(call->proc))
                call_repeat_later(conn, call);
        return 0;
}

/*
 * A server that is still executing a call drops the duplicate that comes meanwhile, and sends the answer the way the first
 * one came, to a connection that is gone. So duplicates are repeated, ever more slowly, until one is answered from the
 * server's cache. WRITEs, which are large, are not while something waits to leave: it may be the last ones.
 */
void calls_repeat(NfsConn *conn) {
        uint64_t now = now_ns(), earliest = UINT64_MAX;
        bool clear;
        NfsCall *call;

        if (conn->state != CONN_UP)
                return; /* all are sent again when it is */
        clear = wire_is_clear(conn->wire);
        TAILQ_FOREACH(call, &conn->calls, conn_link) {
                if (call->repeat_due && call->repeat_due <= now) {
                        bool send = clear || call->proc != NFS_WRITE;

                        call->n_repeats += send;
                        call->repeat_due = 0;
                        if (!send || call_put_on_wire(conn, call) < 0) /* no memory: it waits all the same */
                                call_repeat_later(conn, call);
                }
                if (call->repeat_due)
                        earliest = MIN(earliest, call->repeat_due);
        }
        if (earliest != UINT64_MAX)
                timer_arm(conn->reactor, &conn->repeat_timer, earliest);
        reactor_defer(conn->reactor, &conn->task);
}

/* Into conn->calls, and out if that is possible now. */
static void call_start(NfsConn *conn, NfsCall *call, uint64_t now) {
        call->sent_at = now;
        call->n_timeouts = 0;
        call->n_repeats = 0;
        call->repeat_due = 0;
        call->ask_due = proc_ask_cost(call->proc) > 0 ? now + ASK_MIN_NS : 0;
        if (conn->state == CONN_CLOSED) {
                call_finish_later(conn, call, EINTR);
                return;
        }
        if (conn->state == CONN_UP) {
                if (call_put_on_wire(conn, call) < 0) {
                        call_finish_later(conn, call, ENOMEM);
                        return;
                }
                reactor_defer(conn->reactor, &conn->task); /* the hook sends it in this turn */
        }
        call->state = CALL_WAITING;
        TAILQ_INSERT_TAIL(&conn->calls, call, conn_link);
        call_set_deadline(conn, call, now);
        conn_expect(conn, call_due(call));
}

void nfs_call_send(NfsConn *conn, NfsCall *call) {
        call->conn = conn;
        call->flight = NULL;
        call->err = 0;
        call->status = 0;
        call->n_delays = 0;
        call->xid_given = false;
        if (call->xid == 0) {
                call_new_xid(conn, call);
                call->n_sent = 0;
        } else {
                call->n_sent = MAX(call->n_sent, 1u);
                if (xid_in_use(conn, call->xid)) {
                        call_new_xid(conn, call);
                } else {
                        call->xid_given = true;
                        conn->n_given_xids++;
                        call_note_xid(call);
                }
        }
        conn->n_calls++;
        call_start(conn, call, now_ns());
}

void calls_resend(NfsConn *conn) {
        uint64_t ask_due = now_ns() + ASK_MIN_NS;
        NfsCall *call;

        TAILQ_FOREACH(call, &conn->calls, conn_link) {
                call->n_repeats = 0;
                call->repeat_due = 0;
                if (call_put_on_wire(conn, call) < 0) /* no memory now */
                        call_repeat_later(conn, call);
                if (call->ask_due) {
                        call->ask_due = ask_due;
                        conn_expect(conn, ask_due);
                }
        }
}

void calls_rotate(NfsConn *conn) {
        NfsCall *first = TAILQ_FIRST(&conn->calls);

        if (!first)
                return;
        TAILQ_REMOVE(&conn->calls, first, conn_link);
        TAILQ_INSERT_TAIL(&conn->calls, first, conn_link);
}

/* ---- answers ---- */

/* NFS3ERR_JUKEBOX: not executed, so it is a new call to the server when it is sent again. */
static void call_delay(NfsConn *conn, NfsCall *call) {
        uint32_t delay_ms = DELAY_MIN_MS << MIN(call->n_delays, 5u);

        stat_add(&conn->stats->jukebox, 1);
        call->n_delays++;
        call->status = 0; /* nothing is known of the next sending */
        call->n_sent--;   /* that sending is accounted for */
        call_new_xid(conn, call);
        call->state = CALL_DELAYED;
        call->deadline = now_ns() + MIN(delay_ms, (uint32_t) DELAY_MAX_MS) * NSEC_PER_MSEC;
        TAILQ_INSERT_TAIL(&conn->delayed, call, conn_link);
        conn_expect(conn, call->deadline);
}

static void call_count(NfsConn *conn, NfsCall *call) {
        call->heard_at = now_ns();
        stat_add(&conn->stats->rtt_ns_sum[call->proc], call->heard_at - call->sent_at);
        if (call->err)
                return;
        if (call->proc == NFS_READ)
                stat_add(&conn->stats->bytes_read, call->res.read.count);
        else if (call->proc == NFS_WRITE)
                stat_add(&conn->stats->bytes_written, call->res.write.count);
}

void call_replied(NfsWire *wire, NfsCall *call, int r) {
        NfsConn *conn = wire->userdata;

        crash_point(REPLY_ARRIVED);
        conn->proven = true;
        conn_set_responding(conn, true);
        conn->answered[call->proc] = MAX(conn->answered[call->proc], call->sent_at);
        TAILQ_REMOVE(&conn->calls, call, conn_link);
        if (r < 0) {
                stat_add(&conn->stats->bad_replies, 1);
                call->err = EIO;
        } else if (call->status && call->status == conn->ops->status_delay) {
                call_delay(conn, call);
                return;
        } else {
                call->err = conn->ops->status_errno(call->status);
        }
        call_count(conn, call);
        call_done(conn, call);
}

void call_failed(NfsWire *wire, NfsCall *call, enum CompatError error) {
        NfsConn *conn = wire->userdata;

        conn->proven = true;
        conn_set_responding(conn, true);
        TAILQ_REMOVE(&conn->calls, call, conn_link);
        call->status = 0;
        switch (error) {
        case COMPAT_DENIED:
                call->err = EACCES;
                break;
        case COMPAT_NO_PROCEDURE:
                call->err = EOPNOTSUPP;
                break;
        case COMPAT_GARBAGE:
                stat_add(&conn->stats->bad_replies, 1);
                call->err = EIO;
                break;
        default:
                call->err = EIO;
                break;
        }
        call_count(conn, call);
        call_done(conn, call);
}

/* ---- no answers ---- */

/* One call's deadline has passed. True if the wire seems dead. */
static bool call_expired(NfsConn *conn, NfsCall *call, uint64_t now) {
        bool major = now >= call->sent_at + conn_major_timeout(conn);
        bool silent = conn->state != CONN_UP || now - conn->heard_at >= timeo_ns(conn);

        stat_add(&conn->stats->timeouts, 1);
        call->n_timeouts++;
        if (major && silent)
                conn_set_responding(conn, false);
        if (major && conn->config.soft) {
                wire_forget(call);
                TAILQ_REMOVE(&conn->calls, call, conn_link);
                call_finish_later(conn, call, conn->config.softerr ? ETIMEDOUT : EIO);
        } else {
                call_set_deadline(conn, call, now);
        }
        return conn->state == CONN_UP && (silent || major);
}

static bool call_may_be_dropped(const NfsConn *conn, const NfsCall *call, uint64_t now) {
        return call->ask_due && call->ask_due <= now &&
               (conn->answered[call->proc] > call->sent_at || now - conn->heard_at >= ASK_MIN_NS ||
                now - call->sent_at >= ASK_ANYWAY_NS);
}

/* On the same wire, and under the same XID: the first answer that comes is the answer. */
static void call_ask_again(NfsConn *conn, NfsCall *call, uint64_t now) {
        uint32_t n_sent = call->n_sent;

        call->n_repeats++;
        call->ask_due = now + (ASK_MIN_NS << MIN(call->n_repeats, 4u));
        (void) call_put_on_wire(conn, call); /* no memory: it waits for its answer all the same */
        call->n_sent = n_sent; /* what that counts is the sendings that may be answered from a cache of old answers */
        reactor_defer(conn->reactor, &conn->task);
}

static uint64_t delayed_expire(NfsConn *conn, uint64_t now) {
        NfsCall *call, *next;
        uint64_t earliest = UINT64_MAX;

        for (call = TAILQ_FIRST(&conn->delayed); call; call = next) {
                next = TAILQ_NEXT(call, conn_link);
                if (call->deadline > now) {
                        earliest = MIN(earliest, call->deadline);
                        continue;
                }
                TAILQ_REMOVE(&conn->delayed, call, conn_link);
                call_start(conn, call, now);
        }
        return earliest;
}

bool calls_expire(NfsConn *conn, uint64_t now) {
        uint64_t earliest = UINT64_MAX, delayed, tick;
        bool up = conn->state == CONN_UP, dead = false;
        uint32_t budget = !up ? 0 : wire_is_clear(conn->wire) ? ASK_BUDGET : ASK_LARGE;
        NfsCall *call, *next;

        for (call = TAILQ_FIRST(&conn->calls); call; call = next) {
                next = TAILQ_NEXT(call, conn_link);
                if (call->deadline <= now)
                        dead |= call_expired(conn, call, now);
                if (call->state != CALL_WAITING)
                        continue;
                if (proc_ask_cost(call->proc) <= budget && call_may_be_dropped(conn, call, now)) {
                        budget -= proc_ask_cost(call->proc);
                        call_ask_again(conn, call, now);
                }
                earliest = MIN(earliest, up ? call_due(call) : call->deadline);
        }
        tick = MIN(timeo_ns(conn) / 16, TICK_MAX_NS);
        if (earliest != UINT64_MAX)
                earliest = MAX(earliest, now + tick);

        conn->expiry_due = 0;
        delayed = delayed_expire(conn, now);
        earliest = MIN(earliest, delayed);
        if (earliest != UINT64_MAX)
                conn_expect(conn, earliest);
        return dead;
}

/* ---- giving up ---- */

void nfs_call_cancel(NfsCall *call) {
        NfsConn *conn = call->conn;

        switch (call->state) {
        case CALL_WAITING:
                wire_forget(call);
                TAILQ_REMOVE(&conn->calls, call, conn_link);
                break;
        case CALL_DELAYED:
                TAILQ_REMOVE(&conn->delayed, call, conn_link);
                break;
        default:
                return; /* its done() is on the way */
        }
        stat_add(&conn->stats->cancels, 1);
        call_finish_later(conn, call, EINTR);
}

void calls_abort(NfsConn *conn) {
        NfsCall *call;

        while ((call = TAILQ_FIRST(&conn->calls))) {
                TAILQ_REMOVE(&conn->calls, call, conn_link);
                call_finish_later(conn, call, EINTR);
        }
        while ((call = TAILQ_FIRST(&conn->delayed))) {
                TAILQ_REMOVE(&conn->delayed, call, conn_link);
                call_finish_later(conn, call, EINTR);
        }
        while (!TAILQ_EMPTY(&conn->finished))
                calls_finish(conn);
}
