/*
 * See pduhint.h. Replaces libnfs's rpc_allocate_pdu(), which it calls through its PLT, by its
 * rpc_allocate_pdu2() with the hint. From 6 on the library sizes its buffers by itself.
 */
#include "src/nfs/compat.h"
#include "src/nfs/pduhint.h"

__thread size_t nfs_pdu_hint;

#ifndef LIBNFS_API_V2

extern struct rpc_pdu *rpc_allocate_pdu2(struct rpc_context *rpc, int program, int version, int procedure, rpc_cb cb,
                                         void *private_data, zdrproc_t decode, int decode_size, size_t hint);
struct rpc_pdu *rpc_allocate_pdu(struct rpc_context *rpc, int program, int version, int procedure, rpc_cb cb, void *private_data,
                                 zdrproc_t decode, int decode_size);

struct rpc_pdu *rpc_allocate_pdu(struct rpc_context *rpc, int program, int version, int procedure, rpc_cb cb, void *private_data,
                                 zdrproc_t decode, int decode_size) {
        return rpc_allocate_pdu2(rpc, program, version, procedure, cb, private_data, decode, decode_size, nfs_pdu_hint);
}

#endif
