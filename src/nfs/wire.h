/*
 * A wire: one libnfs context, which is one TCP connection from its connect() to its end, and the flights
 * on it. It is never reconnected; NfsConn makes another one.
 *
 * A flight is what libnfs gets as its callback's argument: the record of one encoded request. It outlives
 * the call when that is cancelled or sent elsewhere (call is NULL then), because libnfs cannot forget a
 * request. Flights come from and go back to a pool, which outlives the wires.
 */
#pragma once

#include "nfs/conn.h"
#include "src/nfs/ops.h"
#include "src/nfs/xprt.h"

typedef struct NfsWire NfsWire;
typedef struct NfsFlight NfsFlight;

TAILQ_HEAD(NfsFlightList, NfsFlight);

struct NfsFlight {
        NfsWire *wire;
        NfsCall *call;    /* NULL: nobody waits for it any more */
        NfsFlight *older; /* of the same call, sent before: whichever is answered first counts */
        void *buffer;     /* see NfsProcOps.encode */
        enum CompatError error;
        TAILQ_ENTRY(NfsFlight) link;
};

typedef struct NfsFlightPool {
        struct NfsFlightList idle;
        uint32_t n_idle;
} NfsFlightPool;

struct NfsWire {
        struct rpc_context *rpc;
        const NfsOps *ops;
        NfsFlightPool *pool;
        XprtAuth auth;
        Record record;
        bool connected;
        bool queued;                 /* something was encoded since the last wire_service() */
        struct NfsFlightList flying; /* libnfs has them */
        struct NfsFlightList failed; /* called back with an error during this wire_service() */
        /*
         * A call got its reply: r is 0 or what decode() said. Runs inside libnfs: may send and cancel
         * calls, not free the wire.
         */
        void (*replied)(NfsWire *wire, NfsCall *call, int r);
        /* A call ended at the RPC layer: denied, no such procedure, garbage. Not inside libnfs. */
        void (*failed_call)(NfsWire *wire, NfsCall *call, enum CompatError error);
        void *userdata;
};

void flight_pool_init(NfsFlightPool *pool);
void flight_pool_done(NfsFlightPool *pool);

/* Starts connecting. source_port: see xprt_open(). 0 or negative errno. */
int wire_open(const NfsOps *ops, NfsFlightPool *pool, const NfsAddr *addr, uint16_t port, bool resvport,
              _Atomic uint32_t *source_port, NfsWire **ret);

/* Closes the connection. Calls in flight are let go (call->flight is NULL), not done. Takes NULL. */
NfsWire *wire_free(NfsWire *wire);

int wire_fd(const NfsWire *wire);

/* Encodes a call under call->xid, perhaps once more; wire_service() sends it. 0 or -ENOMEM. */
int wire_send(NfsWire *wire, NfsCall *call);

/*
 * Reads what there is and writes what is queued. events: EPOLLIN, EPOLLOUT. 0, or a negative errno when
 * the connection is broken (or could not be made; -EMSGSIZE: see xprt_service()): the wire is then good for
 * wire_free() only.
 */
int wire_service(NfsWire *wire, uint32_t events);

/* All that was sent has left. */
bool wire_is_clear(const NfsWire *wire);

/* EPOLLIN, and EPOLLOUT while the socket took less than there was. */
uint32_t wire_wants(const NfsWire *wire);

/* Nobody waits for this call on the wire any more. */
void wire_forget(NfsCall *call);
