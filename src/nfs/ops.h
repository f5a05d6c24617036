/*
 * A version of the protocol as a table: how to make each call, how to read its reply.
 *
 * encode() hands the call to libnfs, which will run cb(rpc, status, reply, userdata) once, or never when
 * the context is destroyed. *buffer is memory that must live as long (write data, where libnfs does not
 * copy it; the destination of a read, where it wants one); freed by whoever frees the request. Negative
 * errno when there is no memory; nothing is queued then.
 *
 * decode() fills call->status and call->res from a reply that libnfs could parse. -EBADMSG: it cannot be
 * what a server may say. Pointers in call->res are into the reply.
 */
#pragma once

#include "nfs/call.h"
#include "src/nfs/compat.h"

typedef struct NfsProcOps {
        int (*encode)(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer);
        int (*decode)(NfsCall *call, void *reply, void *buffer);
} NfsProcOps;

typedef struct NfsOps {
        int program, version;
        uint32_t status_delay; /* "try again later"; 0: there is none */
        int (*status_errno)(uint32_t status);
        NfsProcOps procs[NFS_N_PROCS];
        int (*dirent_next)(const NfsCall *call, void **iter, NfsDirent *ret);
} NfsOps;

extern const NfsOps nfs_v3_ops;
extern const NfsOps nlm4_ops;
extern const NfsOps portmap2_ops, portmap3_ops; /* over IPv4, over IPv6 */
