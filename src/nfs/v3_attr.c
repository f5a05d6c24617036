/*
 * NFSv3: attributes of objects and of file systems. See v3.c.
 */
#include "src/nfs/record.h"
#include "src/nfs/v3.h"

#define XFER_NONE 4096u /* for a server that says 0 */

int v3_encode_null(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        return COMPAT_CALL(nfs3_null, rpc, cb, userdata);
}

int v3_decode_null(NfsCall *call, void *reply, void *buffer) {
        call->status = 0;
        return 0;
}

int v3_encode_getattr(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        GETATTR3args args = { .object = v3_fh(call->args.fh) };

        return COMPAT_CALL(nfs3_getattr, rpc, cb, &args, userdata);
}

int v3_decode_getattr(NfsCall *call, void *reply, void *buffer) {
        const GETATTR3res *res = reply;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return 0;
        call->res.has_attr = true;
        return v3_decode_attr(&res->GETATTR3res_u.resok.obj_attributes, &call->res.attr);
}

int v3_encode_setattr(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        SETATTR3args args = { .object = v3_fh(call->args.fh) };

        v3_encode_sattr(&call->args.setattr.attr, &args.new_attributes);
        args.guard.check = call->args.setattr.guard;
        args.guard.sattrguard3_u.obj_ctime = v3_time(&call->args.setattr.guard_ctime);
        return COMPAT_CALL(nfs3_setattr, rpc, cb, &args, userdata);
}

int v3_decode_setattr(NfsCall *call, void *reply, void *buffer) {
        const SETATTR3res *res = reply;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        return v3_decode_wcc(res->status == NFS3_OK ? &res->SETATTR3res_u.resok.obj_wcc : &res->SETATTR3res_u.resfail.obj_wcc,
                             &call->res.wcc);
}

int v3_encode_access(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        ACCESS3args args = { .object = v3_fh(call->args.fh), .access = call->args.access.mask };

        return COMPAT_CALL(nfs3_access, rpc, cb, &args, userdata);
}

int v3_decode_access(NfsCall *call, void *reply, void *buffer) {
        const ACCESS3res *res = reply;
        const ACCESS3resok *ok = &res->ACCESS3res_u.resok;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->ACCESS3res_u.resfail.obj_attributes, &call->res.has_attr, &call->res.attr);
        call->res.access.mask = ok->access & NFS_ACCESS_ALL;
        return v3_decode_post_attr(&ok->obj_attributes, &call->res.has_attr, &call->res.attr);
}

int v3_encode_fsstat(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        FSSTAT3args args = { .fsroot = v3_fh(call->args.fh) };

        return COMPAT_CALL(nfs3_fsstat, rpc, cb, &args, userdata);
}

int v3_decode_fsstat(NfsCall *call, void *reply, void *buffer) {
        const FSSTAT3res *res = reply;
        const FSSTAT3resok *ok = &res->FSSTAT3res_u.resok;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->FSSTAT3res_u.resfail.obj_attributes, &call->res.has_attr, &call->res.attr);
        call->res.fsstat = (NfsFsStat){
                .total_bytes = ok->tbytes,
                .free_bytes = ok->fbytes,
                .avail_bytes = ok->abytes,
                .total_files = ok->tfiles,
                .free_files = ok->ffiles,
                .avail_files = ok->afiles,
        };
        return v3_decode_post_attr(&ok->obj_attributes, &call->res.has_attr, &call->res.attr);
}

static uint32_t transfer_size(uint32_t size) {
        return size == 0 ? XFER_NONE : MIN(size, XFER_MAX);
}

int v3_encode_fsinfo(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        FSINFO3args args = { .fsroot = v3_fh(call->args.fh) };

        return COMPAT_CALL(nfs3_fsinfo, rpc, cb, &args, userdata);
}

int v3_decode_fsinfo(NfsCall *call, void *reply, void *buffer) {
        const FSINFO3res *res = reply;
        const FSINFO3resok *ok = &res->FSINFO3res_u.resok;
        NfsFsInfo *info = &call->res.fsinfo;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->FSINFO3res_u.resfail.obj_attributes, &call->res.has_attr, &call->res.attr);
        info->rtmax = transfer_size(ok->rtmax);
        info->wtmax = transfer_size(ok->wtmax);
        info->rtpref = MIN(ok->rtpref ? transfer_size(ok->rtpref) : info->rtmax, info->rtmax);
        info->wtpref = MIN(ok->wtpref ? transfer_size(ok->wtpref) : info->wtmax, info->wtmax);
        info->dtpref = transfer_size(ok->dtpref);
        info->max_file_size = ok->maxfilesize == 0 ? INT64_MAX : MIN(ok->maxfilesize, (uint64_t) INT64_MAX);
        info->has_link = ok->properties & FSF3_LINK;
        info->has_symlink = ok->properties & FSF3_SYMLINK;
        info->homogeneous = ok->properties & FSF3_HOMOGENEOUS;
        info->cansettime = ok->properties & FSF3_CANSETTIME;
        return v3_decode_post_attr(&ok->obj_attributes, &call->res.has_attr, &call->res.attr);
}

int v3_encode_pathconf(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        PATHCONF3args args = { .object = v3_fh(call->args.fh) };

        return COMPAT_CALL(nfs3_pathconf, rpc, cb, &args, userdata);
}

int v3_decode_pathconf(NfsCall *call, void *reply, void *buffer) {
        const PATHCONF3res *res = reply;
        const PATHCONF3resok *ok = &res->PATHCONF3res_u.resok;
        NfsFsInfo *info = &call->res.fsinfo;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->PATHCONF3res_u.resfail.obj_attributes, &call->res.has_attr, &call->res.attr);
        info->link_max = ok->linkmax;
        info->name_max = ok->name_max == 0 ? NFS_NAME_MAX : MIN(ok->name_max, (uint32_t) NFS_NAME_MAX);
        info->no_trunc = ok->no_trunc;
        info->chown_restricted = ok->chown_restricted;
        info->case_insensitive = ok->case_insensitive;
        info->case_preserving = ok->case_preserving;
        return v3_decode_post_attr(&ok->obj_attributes, &call->res.has_attr, &call->res.attr);
}
