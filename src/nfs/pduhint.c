/*
 * See pduhint.h. Replaces libnfs's rpc_allocate_pdu(), which it calls through its PLT, by its rpc_allocate_pdu2() with what was
 * said. From 6 on the library sizes its buffers by itself, if it is told of none.
 */
#include "src/nfs/compat.h"
#include "src/nfs/pduhint.h"

__thread size_t nfs_pdu_hint;
__thread const NfsPduProcedure *nfs_pdu_procedure;

#ifdef LIBNFS_API_V2
#define HINTS 0, 0
extern struct rpc_pdu *rpc_allocate_pdu2(struct rpc_context *rpc, int program, int version, int procedure, rpc_cb cb,
                                         void *private_data, zdrproc_t decode, int decode_size, size_t hint, int vectors);
#else
#define HINTS nfs_pdu_hint
extern struct rpc_pdu *rpc_allocate_pdu2(struct rpc_context *rpc, int program, int version, int procedure, rpc_cb cb,
                                         void *private_data, zdrproc_t decode, int decode_size, size_t hint);
#endif

struct rpc_pdu *rpc_allocate_pdu(struct rpc_context *rpc, int program, int version, int procedure, rpc_cb cb, void *private_data,
                                 zdrproc_t decode, int decode_size);

struct rpc_pdu *rpc_allocate_pdu(struct rpc_context *rpc, int program, int version, int procedure, rpc_cb cb, void *private_data,
                                 zdrproc_t decode, int decode_size) {
        NfsPduProcedure what = { program, version, procedure };

        if (nfs_pdu_procedure)
                what = *nfs_pdu_procedure;
        return rpc_allocate_pdu2(rpc, what.program, what.version, what.procedure, cb, private_data, decode, decode_size, HINTS);
}
