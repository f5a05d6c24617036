/*
 * Making libnfs contexts: connect one to an address, and say who asks.
 */
#pragma once

#include "base/util.h"
#include "nfs/types.h"
#include "src/nfs/compat.h"
#include "src/nfs/record.h"

/* The AUTH_SYS credential of a context. libnfs owns auth; we rewrite what it points to. */
typedef struct XprtAuth {
        struct AUTH *auth;
        uint32_t ids_offset; /* of uid, gid, groups behind the machine name */
        bool valid;
        NfsCred cred; /* what is in auth, if valid */
} XprtAuth;

/*
 * A new context that is connecting; its descriptor is rpc_get_fd(). cb runs inside rpc_service(). Negative
 * errno if that failed at once. resvport false: from a port above 1023 even when we could do otherwise.
 * source_port: the local port to use if it can be had (0: any), and then the one that is used. Any thread.
 */
int xprt_open(const NfsAddr *addr, uint16_t port, bool resvport, _Atomic uint32_t *source_port, int program, int version,
              rpc_cb cb, void *userdata, struct rpc_context **ret);

/*
 * rpc_service() for events (POLLIN, POLLOUT); it may leave some of what has come for the next time. Negative errno: the
 * connection is gone; -EMSGSIZE: by us, because the server sends a record that is longer than any reply.
 */
int xprt_service(struct rpc_context *rpc, Record *record, int events);

/* Once per context, before the first xprt_auth_set(). */
int xprt_auth_init(XprtAuth *auth, struct rpc_context *rpc);

/* What is encoded from now on carries cred. */
void xprt_auth_set(XprtAuth *auth, const NfsCred *cred);
