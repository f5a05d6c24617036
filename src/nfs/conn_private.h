/*
 * A connection from inside: conn.c has the essay, call.c the life of a call on it.
 */
#pragma once

#include "nfs/conn.h"
#include "src/nfs/wire.h"

TAILQ_HEAD(NfsCallList, NfsCall);

/* call->state. Who may change it: call.c. */
enum CallState {
        CALL_IDLE,     /* the caller's: new, or done */
        CALL_WAITING,  /* in conn->calls: on the wire if call->flight, else for a connection */
        CALL_DELAYED,  /* in conn->delayed: the server said "later" */
        CALL_FINISHED, /* in conn->finished: its done() is the next thing to happen */
};

enum ConnState {
        CONN_BACKOFF,    /* no wire; connects at state_due */
        CONN_CONNECTING, /* a wire that is not connected; fails at state_due */
        CONN_UP,         /* calls go out as they come */
        CONN_CLOSED,     /* nfs_conn_free() has begun */
};

struct NfsConn {
        NfsConnConfig config; /* addrs: ours */
        NfsAddr addrs[NFS_ADDRS_MAX];
        const NfsOps *ops;
        Reactor *reactor;
        NfsStats *stats, own_stats;

        enum ConnState state;
        uint64_t state_due; /* ns, monotonic */
        uint32_t next_addr; /* the address being used, or tried next */
        uint32_t n_tried;   /* addresses that failed in this round */
        uint32_t backoff_ms;
        uint32_t n_fruitless; /* wires in a row that were connected and brought no reply */
        bool proven;          /* a reply has come over this wire */
        bool responding;      /* what state_changed() was told last */
        bool failure_logged;  /* of this outage */
        uint64_t up_since, heard_at, down_since, logged_at;
        uint64_t answered[NFS_N_PROCS]; /* when the latest call that was answered had been sent */

        NfsWire *wire;
        NfsFlightPool pool;
        FdSource source;
        uint32_t ready_events; /* of this turn, for the hook */
        Timer timer, repeat_timer;
        Hook hook;
        Task task;

        struct NfsCallList calls, delayed, finished;
        uint32_t n_calls;
        uint32_t n_given_xids;                          /* calls that came with an XID */
        _Atomic uint32_t own_next_xid, own_source_port; /* where the config names none */
        uint64_t expiry_due;                            /* when calls_expire() has something to do; 0: nothing */
};

static inline void stat_add(uint64_t *counter, uint64_t n) {
        __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline void stat_set(uint64_t *gauge, uint64_t value) {
        __atomic_store_n(gauge, value, __ATOMIC_RELAXED);
}

/* ---- call.c ---- */

/* The connection is up: everything that waits is encoded, in the order it was first sent. */
void calls_resend(NfsConn *conn);

/* The first call may be what ends every connection: last in the next resend. */
void calls_rotate(NfsConn *conn);

/*
 * Every wait that is over: soft calls end, delayed ones are sent, what only reads is asked again. True: the wire is to be
 * broken.
 */
bool calls_expire(NfsConn *conn, uint64_t now);

/* Sends again what was sent on an earlier wire and may have been dropped as a duplicate. */
void calls_repeat(NfsConn *conn);

/* Runs done() of what is in conn->finished. */
void calls_finish(NfsConn *conn);

/* All of them, with EINTR. */
void calls_abort(NfsConn *conn);

/* NfsWire's callbacks. */
void call_replied(NfsWire *wire, NfsCall *call, int r);
void call_failed(NfsWire *wire, NfsCall *call, enum CompatError error);

/* ---- conn.c ---- */

/* Something is due at this time: the timer fires no later. */
void conn_arm(NfsConn *conn, uint64_t due);

/* The server does, or does not, answer. Tells whoever wants to know, once. */
void conn_set_responding(NfsConn *conn, bool responding);

/* After this long without an answer the server is "not responding" (nfs(5): timeo, retrans). */
uint64_t conn_major_timeout(const NfsConn *conn);
