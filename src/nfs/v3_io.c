/*
 * NFSv3: READ, WRITE, COMMIT. See v3.c.
 *
 * Where libnfs does not copy what is written (see compat.h), the flight keeps a copy: after a cancelled call
 * the caller's data is gone while libnfs still has the request.
 */
#include "src/nfs/v3.h"

int v3_encode_read(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        READ3args args = {
                .file = v3_fh(call->args.fh),
                .offset = call->args.read.offset,
                .count = call->args.read.count,
        };

        if (compat_read_needs_buffer()) {
                *buffer = malloc(MAX(args.count, 1u));
                if (!*buffer)
                        return -ENOMEM;
        }
        return compat_read3(rpc, cb, *buffer, &args, userdata);
}

int v3_decode_read(NfsCall *call, void *reply, void *buffer) {
        const READ3res *res = reply;
        const READ3resok *ok = &res->READ3res_u.resok;
        uint32_t len;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->READ3res_u.resfail.file_attributes, &call->res.has_attr, &call->res.attr);
        call->res.read.data = compat_read3_data(ok, buffer, &len);
        call->res.read.count = len;
        call->res.read.eof = ok->eof;
        if (len != ok->count || len > call->args.read.count)
                return -EBADMSG;
        if (len == 0 && !ok->eof && call->args.read.count > 0)
                return -EBADMSG; /* neither data nor the end: asking again would never end */
        return v3_decode_post_attr(&ok->file_attributes, &call->res.has_attr, &call->res.attr);
}

int v3_encode_write(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        WRITE3args args = {
                .file = v3_fh(call->args.fh),
                .offset = call->args.write.offset,
                .count = call->args.write.count,
                .stable = (stable_how) call->args.write.stable,
                .data = { .data_len = call->args.write.count, .data_val = (char *) call->args.write.data },
        };

        if (!compat_write_is_copied()) {
                *buffer = malloc(MAX(args.count, 1u));
                if (!*buffer)
                        return -ENOMEM;
                memcpy(*buffer, call->args.write.data, args.count);
                args.data.data_val = *buffer;
        }
        return COMPAT_CALL(nfs3_write, rpc, cb, &args, userdata);
}

int v3_decode_write(NfsCall *call, void *reply, void *buffer) {
        const WRITE3res *res = reply;
        const WRITE3resok *ok = &res->WRITE3res_u.resok;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_wcc(&res->WRITE3res_u.resfail.file_wcc, &call->res.wcc);
        if (ok->count > call->args.write.count || (ok->count == 0 && call->args.write.count > 0) ||
            (uint32_t) ok->committed > NFS_FILE_SYNC)
                return -EBADMSG;
        call->res.write.count = ok->count;
        call->res.write.committed = (enum NfsStable) ok->committed;
        memcpy(call->res.write.verf, ok->verf, NFS_VERF_SIZE);
        return v3_decode_wcc(&ok->file_wcc, &call->res.wcc);
}

int v3_encode_commit(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        COMMIT3args args = {
                .file = v3_fh(call->args.fh),
                .offset = call->args.commit.offset,
                .count = call->args.commit.count,
        };

        return COMPAT_CALL(nfs3_commit, rpc, cb, &args, userdata);
}

int v3_decode_commit(NfsCall *call, void *reply, void *buffer) {
        const COMMIT3res *res = reply;
        const COMMIT3resok *ok = &res->COMMIT3res_u.resok;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_wcc(&res->COMMIT3res_u.resfail.file_wcc, &call->res.wcc);
        memcpy(call->res.write.verf, ok->verf, NFS_VERF_SIZE);
        return v3_decode_wcc(&ok->file_wcc, &call->res.wcc);
}
