/*
 * See wire.h.
 *
 * libnfs tells "the server answered nonsense" and "the connection is gone" by the same callback status.
 * So callbacks with an error only note their flight, and what they meant is known when rpc_service()
 * returns: 0, the server answered each of them; else, it answered none that matter, and every call is
 * still to be sent on the next wire. This also keeps callers away from a context that is being torn
 * down, which does not take new requests.
 *
 * Destroying a context calls back what is queued with CANCEL, in some versions not all of it: the list
 * of flights is ours, and what is left on it afterwards is freed.
 */
#include <poll.h>
#include <sys/epoll.h>

#include "src/nfs/wire.h"

#define POOL_MAX 1024 /* idle flights kept */

static void wire_connected(struct rpc_context *rpc, int status, void *data, void *userdata);
static void flight_ended(struct rpc_context *rpc, int status, void *data, void *userdata);

/* ---- flights ---- */

void flight_pool_init(NfsFlightPool *pool) {
        TAILQ_INIT(&pool->idle);
        pool->n_idle = 0;
}

void flight_pool_done(NfsFlightPool *pool) {
        NfsFlight *flight;

        while ((flight = TAILQ_FIRST(&pool->idle))) {
                TAILQ_REMOVE(&pool->idle, flight, link);
                free(flight);
        }
        pool->n_idle = 0;
}

static NfsFlight *flight_take(NfsWire *wire) {
        NfsFlight *flight = TAILQ_FIRST(&wire->pool->idle);

        if (flight) {
                TAILQ_REMOVE(&wire->pool->idle, flight, link);
                wire->pool->n_idle--;
        } else {
                flight = malloc(sizeof *flight);
                if (!flight)
                        return NULL;
        }
        *flight = (NfsFlight){ .wire = wire };
        return flight;
}

/* It is on no list. */
static void flight_put(NfsFlight *flight) {
        NfsFlightPool *pool = flight->wire->pool;

        free(flight->buffer);
        if (pool->n_idle >= POOL_MAX) {
                free(flight);
                return;
        }
        TAILQ_INSERT_HEAD(&pool->idle, flight, link);
        pool->n_idle++;
}

/* The call of this flight, which has none in the air from then on. */
static NfsCall *flight_take_call(NfsFlight *flight) {
        NfsCall *call = flight->call;
        NfsFlight *f;

        if (!call)
                return NULL;
        while ((f = call->flight)) {
                call->flight = TAKE_PTR(f->older);
                f->call = NULL;
        }
        return call;
}

static void flights_drop(struct NfsFlightList *list) {
        NfsFlight *flight;

        while ((flight = TAILQ_FIRST(list))) {
                TAILQ_REMOVE(list, flight, link);
                (void) flight_take_call(flight);
                flight_put(flight);
        }
}

void wire_forget(NfsCall *call) {
        if (call->flight)
                (void) flight_take_call(call->flight);
}

/* libnfs's callback, once for each request it took; never again for this flight. */
static void flight_ended(struct rpc_context *rpc, int status, void *data, void *userdata) {
        NfsFlight *flight = userdata;
        NfsWire *wire = flight->wire;
        NfsCall *call;
        int r;

        TAILQ_REMOVE(&wire->flying, flight, link);
        if (status == RPC_STATUS_ERROR && flight->call) {
                flight->error = compat_error(data);
                TAILQ_INSERT_TAIL(&wire->failed, flight, link);
                return;
        }
        call = flight_take_call(flight);
        if (status == RPC_STATUS_SUCCESS && call) {
                r = wire->ops->procs[call->proc].decode(call, data, flight->buffer);
                wire->replied(wire, call, r);
        }
        flight_put(flight);
}

/* ---- the wire ---- */

int wire_open(const NfsOps *ops, NfsFlightPool *pool, const NfsAddr *addr, uint16_t port, bool resvport,
              _Atomic uint32_t *source_port, NfsWire **ret) {
        NfsWire *wire = calloc(1, sizeof *wire);
        int r;

        if (!wire)
                return -ENOMEM;
        wire->ops = ops;
        wire->pool = pool;
        TAILQ_INIT(&wire->flying);
        TAILQ_INIT(&wire->failed);
        r = xprt_open(addr, port, resvport, source_port, ops->program, ops->version, wire_connected, wire, &wire->rpc);
        if (r == 0)
                r = xprt_auth_init(&wire->auth, wire->rpc);
        if (r < 0) {
                (void) wire_free(wire);
                return r;
        }
        *ret = wire;
        return 0;
}

NfsWire *wire_free(NfsWire *wire) {
        NfsFlight *flight;

        if (!wire)
                return NULL;
        TAILQ_FOREACH(flight, &wire->flying, link)
                (void) flight_take_call(flight);
        if (wire->rpc)
                rpc_destroy_context(wire->rpc);
        flights_drop(&wire->flying);
        flights_drop(&wire->failed);
        free(wire);
        return NULL;
}

int wire_fd(const NfsWire *wire) {
        return rpc_get_fd(wire->rpc);
}

static void wire_connected(struct rpc_context *rpc, int status, void *data, void *userdata) {
        NfsWire *wire = userdata;

        if (status == RPC_STATUS_SUCCESS)
                wire->connected = true;
}

int wire_send(NfsWire *wire, NfsCall *call) {
        NfsFlight *flight = flight_take(wire);

        if (!flight)
                return -ENOMEM;
        rpc_set_next_xid(wire->rpc, call->xid);
        if (call->cred)
                xprt_auth_set(&wire->auth, call->cred);
        if (wire->ops->procs[call->proc].encode(wire->rpc, call, flight_ended, flight, &flight->buffer) < 0) {
                flight_put(flight);
                return -ENOMEM;
        }
        TAILQ_INSERT_TAIL(&wire->flying, flight, link);
        flight->call = call;
        flight->older = call->flight;
        call->flight = flight;
        wire->queued = true;
        return 0;
}

int wire_service(NfsWire *wire, uint32_t events) {
        struct NfsFlightList failed = TAILQ_HEAD_INITIALIZER(failed);
        NfsFlight *flight;
        NfsCall *call;
        int r;

        wire->queued = false;
        r = xprt_service(wire->rpc, &wire->record, (events & EPOLLIN ? POLLIN : 0) | (events & EPOLLOUT ? POLLOUT : 0));
        if (r < 0) {
                flights_drop(&wire->failed);
                return r;
        }
        TAILQ_CONCAT(&failed, &wire->failed, link);
        while ((flight = TAILQ_FIRST(&failed))) {
                enum CompatError error = flight->error;

                TAILQ_REMOVE(&failed, flight, link);
                call = flight_take_call(flight);
                flight_put(flight);
                if (call)
                        wire->failed_call(wire, call, error);
        }
        return 0;
}

bool wire_is_clear(const NfsWire *wire) {
        return !wire->queued && !(rpc_which_events(wire->rpc) & POLLOUT);
}

uint32_t wire_wants(const NfsWire *wire) {
        return EPOLLIN | (rpc_which_events(wire->rpc) & POLLOUT ? EPOLLOUT : 0);
}
