/*
 * The network lock manager, version 4 (X/Open XNFS chapter 14; RFC 1813 appendix II): the table, and the five
 * procedures, and FREE_ALL, in and out. Only the synchronous ones are used, and never blocking ones: a granted lock would be told to
 * a port of ours that there is not. So a server needs to know nothing about this node but its name.
 *
 * The cookie in each message but FREE_ALL's is the XID, and must come back.
 */
#include "src/nfs/ops.h"
#include "src/nfs/pduhint.h"

static nlm_cookie cookie_of(const uint32_t *xid) {
        return (nlm_cookie){ .data = { .data_len = sizeof *xid, .data_val = (char *) (uintptr_t) xid } };
}

static int check_cookie(const NfsCall *call, const nlm_cookie *cookie) {
        if (cookie->data.data_len != sizeof call->xid || memcmp(cookie->data.data_val, &call->xid, sizeof call->xid) != 0)
                return -EBADMSG;
        return 0;
}

static nlm4_lock lock_of(const NfsCall *call) {
        const NfsArgs *args = &call->args;

        return (nlm4_lock){
                .caller_name = (char *) (uintptr_t) args->lock.caller,
                .fh = { .data = { .data_len = args->fh->len, .data_val = (char *) (uintptr_t) args->fh->data } },
                .oh = (char *) (uintptr_t) args->lock.owner,
                .svid = args->lock.svid,
                .l_offset = args->lock.offset,
                .l_len = args->lock.length,
        };
}

static int encode_null(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        (void) call;
        (void) buffer;
        return COMPAT_CALL(nlm4_null, rpc, cb, userdata);
}

static int decode_null(NfsCall *call, void *reply, void *buffer) {
        (void) reply;
        (void) buffer;
        call->status = NLM_GRANTED;
        return 0;
}

static int encode_test(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        NLM4_TESTargs args = {
                .cookie = cookie_of(&call->xid),
                .exclusive = call->args.lock.exclusive,
                .lock = lock_of(call),
        };

        (void) buffer;
        return COMPAT_CALL(nlm4_test, rpc, cb, &args, userdata);
}

static int decode_test(NfsCall *call, void *reply, void *buffer) {
        const NLM4_TESTres *res = reply;
        const nlm4_holder *holder = &res->reply.nlm4_testreply_u.lock.holder;

        (void) buffer;
        if (check_cookie(call, &res->cookie) < 0)
                return -EBADMSG;
        call->status = (uint32_t) res->reply.status;
        if (call->status != NLM_DENIED)
                return 0;
        call->res.holder.exclusive = holder->exclusive != 0;
        call->res.holder.svid = holder->svid;
        call->res.holder.offset = holder->l_offset;
        call->res.holder.length = holder->l_len;
        if (holder->l_len == 0 || holder->l_offset + holder->l_len - 1 >= holder->l_offset)
                return 0;
        call->status = 0; /* a range that is none: nothing is known */
        return -EBADMSG;
}

static int encode_lock(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        NLM4_LOCKargs args = {
                .cookie = cookie_of(&call->xid),
                .block = call->args.lock.block,
                .exclusive = call->args.lock.exclusive,
                .lock = lock_of(call),
                .reclaim = call->args.lock.reclaim,
                .state = 1, /* of a status monitor; odd: up */
        };

        (void) buffer;
        return COMPAT_CALL(nlm4_lock, rpc, cb, &args, userdata);
}

static int decode_lock(NfsCall *call, void *reply, void *buffer) {
        const NLM4_LOCKres *res = reply;

        (void) buffer;
        if (check_cookie(call, &res->cookie) < 0)
                return -EBADMSG;
        call->status = (uint32_t) res->status;
        return 0;
}

static int encode_cancel(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        NLM4_CANCargs args = {
                .cookie = cookie_of(&call->xid),
                .block = call->args.lock.block,
                .exclusive = call->args.lock.exclusive,
                .lock = lock_of(call),
        };

        (void) buffer;
        return COMPAT_CALL(nlm4_cancel, rpc, cb, &args, userdata);
}

static int decode_cancel(NfsCall *call, void *reply, void *buffer) {
        const NLM4_CANCres *res = reply;

        (void) buffer;
        if (check_cookie(call, &res->cookie) < 0)
                return -EBADMSG;
        call->status = (uint32_t) res->status;
        return 0;
}

static int encode_unlock(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        NLM4_UNLOCKargs args = { .cookie = cookie_of(&call->xid), .lock = lock_of(call) };

        (void) buffer;
        return COMPAT_CALL(nlm4_unlock, rpc, cb, &args, userdata);
}

static int decode_unlock(NfsCall *call, void *reply, void *buffer) {
        const NLM4_UNLOCKres *res = reply;

        (void) buffer;
        if (check_cookie(call, &res->cookie) < 0)
                return -EBADMSG;
        call->status = (uint32_t) res->status;
        return 0;
}

/* libnfs has no function for it, but one for what a status monitor says, which has the same arguments and no result either. */
static int encode_free_all(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        static const NfsPduProcedure free_all = { .program = NLM_PROGRAM, .version = NLM_V4, .procedure = 23 };
        NSM1_NOTIFYargs args = { .mon_name = (char *) (uintptr_t) call->args.lock.caller };
        int r;

        (void) buffer;
        nfs_pdu_procedure = &free_all;
        r = COMPAT_CALL(nsm1_notify, rpc, cb, &args, userdata);
        nfs_pdu_procedure = NULL;
        return r;
}

const NfsOps nlm4_ops = {
        .program = NLM_PROGRAM,
        .version = NLM_V4,
        .status_delay = 0, /* the grace period is waited out by whoever wants the lock, who may give up */
        .status_errno = nlm_status_errno,
        .procs =
                {
                        [NLM_NULL] = { encode_null, decode_null },
                        [NLM_TEST] = { encode_test, decode_test },
                        [NLM_LOCK] = { encode_lock, decode_lock },
                        [NLM_CANCEL] = { encode_cancel, decode_cancel },
                        [NLM_UNLOCK] = { encode_unlock, decode_unlock },
                        [NLM_FREE_ALL] = { encode_free_all, decode_null },
                },
};
