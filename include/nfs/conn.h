/*
 * A connection of one reactor to one server: connects, sends, times out, reconnects, sends again.
 *
 * It never gives up by itself: while the server is away calls wait in a list, and connecting is tried
 * again with back-off (first at once, then doubling to a bound, every address of the server in turn).
 * Only libnfs is behind it; nothing of libnfs shows.
 *
 * Theory of operation: src/nfs/conn.c.
 */
#pragma once

#include "base/reactor.h"
#include "nfs/call.h"

/* Per-connection counters: written by the reactor's thread (relaxed atomics), read by anyone. */
typedef struct NfsStats {
        uint64_t calls[NFS_N_PROCS];  /* sent for the first time */
        uint64_t resent[NFS_N_PROCS]; /* sent again */
        uint64_t errors[NFS_N_PROCS]; /* done with err != 0 */
        uint64_t bytes_read, bytes_written;
        uint64_t connects, connect_failures, timeouts, jukebox, bad_replies, cancels;
        uint64_t rtt_ns_sum[NFS_N_PROCS]; /* of answered calls, from the first send */
        /* not counters but how it is now */
        uint64_t connected;     /* 0 or 1 */
        uint64_t waiting_since; /* when the call that waits longest was sent: ns, monotonic; 0: none waits */
} NfsStats;

#define NFS_PORTMAP_PORT 111

enum NfsProtocol { NFS_PROTOCOL_V3, NFS_PROTOCOL_NLM4, NFS_PROTOCOL_PORTMAP };

typedef struct NfsConnConfig {
        enum NfsProtocol protocol; /* which NfsProcs it takes */
        const char *server;        /* for messages: the name the user gave */
        const NfsAddr *addrs;
        uint32_t n_addrs;
        uint16_t port;
        bool resvport;      /* use a source port below 1024, if we may */
        bool soft, softerr; /* neither: hard. softerr: ETIMEDOUT instead of EIO */
        uint32_t timeo_ms;  /* nfs(5) timeo: until a call counts as unanswered; then linear back-off */
        uint32_t retrans;   /* nfs(5) retrans: unanswered this often = "not responding"; soft: error */
        NfsStats *stats;    /* may be in shared memory */
        /*
         * A server's duplicate-request cache knows calls by XID and by the port they come from. In memory that outlives
         * us, or NULL: where XIDs go on (0: anywhere), and the port all connections are made from (0: any).
         */
        _Atomic uint32_t *next_xid, *source_port;
        /*
         * The server went away (up = false: retrans × timeo without an answer, or connecting failed that
         * long) or is back. May be NULL. From the reactor; must not send or cancel calls.
         */
        void (*state_changed)(void *userdata, bool up);
        /*
         * A connection was made, and what waited is queued on it. May be NULL. From the reactor; must not send or
         * cancel calls.
         */
        void (*connected)(void *userdata);
        /* No address takes a connection at this port. May be NULL. The same. */
        void (*unreachable)(void *userdata);
        void *userdata;
} NfsConnConfig;

/* config is copied (addrs too; strings and stats must live on). Starts connecting at once. */
int nfs_conn_new(Reactor *reactor, const NfsConnConfig *config, NfsConn **ret);

/* Every call left is done with EINTR before this returns; so not from inside a done(). */
NfsConn *nfs_conn_free(NfsConn *conn);

/* To another port, from the next connection on: the present one is given up. Not from inside a done() of conn. */
void nfs_conn_set_port(NfsConn *conn, uint16_t port);

/* Is there a working connection now? */
bool nfs_conn_is_up(const NfsConn *conn);

/* Calls on the wire or waiting. */
uint32_t nfs_conn_in_flight(const NfsConn *conn);
