/*
 * A blocking RPC client over libnfs, for mounting: one connection, one call at a time, a deadline.
 */
#pragma once

#include "src/nfs/ops.h"
#include "src/nfs/xprt.h"

typedef struct RpcClient {
        struct rpc_context *rpc;
        XprtAuth auth;
        Record record;
        bool connected, replied;
        uint16_t local_port;
        const NfsOps *ops; /* of client_nfs_call() */
        /* How the last call ended, if client_wait() returned -EREMOTEIO. */
        enum CompatError error;
        /* Runs for a reply, which is valid only inside. */
        void (*reply)(struct RpcClient *client, void *data);
        void *userdata;
        int result; /* of reply(), for whoever wants it */
} RpcClient;

/* Connects. deadline: ns, monotonic. Negative errno: ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT.. */
int client_open(RpcClient *client, const NfsAddr *addr, uint16_t port, bool resvport, int program, int version,
                uint64_t deadline);

/* Takes one that was never opened, zeroed. */
void client_close(RpcClient *client);

/* libnfs's callback and its argument for a request on this client; then client_wait(). */
void client_callback(struct rpc_context *rpc, int status, void *data, void *client);

/*
 * Waits for the answer to the one request made. 0: reply() has run. -EREMOTEIO: the server refused the call
 * at the RPC layer, see error. -ETIMEDOUT, -ECONNRESET..: no answer. -EMSGSIZE: see xprt_service().
 */
int client_wait(RpcClient *client, uint64_t deadline);

/*
 * An NFS call (or, on a client of program NLM, a lock manager's) on the client: 0: call->err, status and res are filled (no
 * pointers into the reply).
 */
int client_nfs_call(RpcClient *client, NfsCall *call, uint64_t deadline);
