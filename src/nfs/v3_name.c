/*
 * NFSv3: names. Looking them up, making and removing them. See v3.c.
 *
 * CREATE, MKDIR, SYMLINK and MKNOD have results of one shape under four names.
 */
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "src/nfs/pduhint.h"
#include "src/nfs/v3.h"

int v3_encode_lookup(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        LOOKUP3args args = { .what = v3_dirop(call->args.fh, call->args.name) };

        return COMPAT_CALL(nfs3_lookup, rpc, cb, &args, userdata);
}

int v3_decode_lookup(NfsCall *call, void *reply, void *buffer) {
        const LOOKUP3res *res = reply;
        const LOOKUP3resok *ok = &res->LOOKUP3res_u.resok;
        NfsRes *to = &call->res;

        *to = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->LOOKUP3res_u.resfail.dir_attributes, &to->has_dir_attr, &to->dir_attr);
        if (v3_decode_fh(&ok->object, &to->fh) < 0 || v3_decode_post_attr(&ok->obj_attributes, &to->has_attr, &to->attr) < 0)
                return -EBADMSG;
        to->has_fh = true;
        return v3_decode_post_attr(&ok->dir_attributes, &to->has_dir_attr, &to->dir_attr);
}

int v3_encode_readlink(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        READLINK3args args = { .symlink = v3_fh(call->args.fh) };

        return COMPAT_CALL(nfs3_readlink, rpc, cb, &args, userdata);
}

int v3_decode_readlink(NfsCall *call, void *reply, void *buffer) {
        const READLINK3res *res = reply;
        const READLINK3resok *ok = &res->READLINK3res_u.resok;
        NfsRes *to = &call->res;
        size_t len;

        *to = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->READLINK3res_u.resfail.symlink_attributes, &to->has_attr, &to->attr);
        /* A C string, in which hardening.c allows no NUL. */
        if (!ok->data)
                return -EBADMSG;
        len = strnlen(ok->data, PATH_MAX);
        if (len == 0 || len >= PATH_MAX)
                return -EBADMSG;
        to->readlink.target = ok->data;
        to->readlink.len = (uint32_t) len;
        return v3_decode_post_attr(&ok->symlink_attributes, &to->has_attr, &to->attr);
}

/* ---- making ---- */

static int decode_created(NfsCall *call, const post_op_fh3 *fh, const post_op_attr *attr, const wcc_data *wcc) {
        NfsRes *to = &call->res;

        if (v3_decode_post_fh(fh, &to->has_fh, &to->fh) < 0 || v3_decode_post_attr(attr, &to->has_attr, &to->attr) < 0)
                return -EBADMSG;
        return v3_decode_wcc(wcc, &to->wcc);
}

#define DECODE_CREATED(call, reply, PROC)                                                                                        \
        ({                                                                                                                       \
                const PROC##res *res_ = (reply);                                                                                 \
                const PROC##resok *ok_ = &res_->PROC##res_u.resok;                                                               \
                (call)->res = (NfsRes){ 0 };                                                                                     \
                (call)->status = res_->status;                                                                                   \
                res_->status == NFS3_OK ? decode_created((call), &ok_->obj, &ok_->obj_attributes, &ok_->dir_wcc)                 \
                                        : v3_decode_wcc(&res_->PROC##res_u.resfail.dir_wcc, &(call)->res.wcc);                   \
        })

int v3_encode_create(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        CREATE3args args = { .where = v3_dirop(call->args.fh, call->args.name) };

        args.how.mode = (createmode3) call->args.create.mode;
        if (call->args.create.mode == NFS_CREATE_EXCLUSIVE)
                memcpy(args.how.createhow3_u.verf, call->args.create.verf, NFS_VERF_SIZE);
        else
                v3_encode_sattr(&call->args.create.attr, &args.how.createhow3_u.obj_attributes);
        return COMPAT_CALL(nfs3_create, rpc, cb, &args, userdata);
}

int v3_decode_create(NfsCall *call, void *reply, void *buffer) {
        return DECODE_CREATED(call, reply, CREATE3);
}

int v3_encode_mkdir(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        MKDIR3args args = { .where = v3_dirop(call->args.fh, call->args.name) };

        v3_encode_sattr(&call->args.mkdir.attr, &args.attributes);
        return COMPAT_CALL(nfs3_mkdir, rpc, cb, &args, userdata);
}

int v3_decode_mkdir(NfsCall *call, void *reply, void *buffer) {
        return DECODE_CREATED(call, reply, MKDIR3);
}

int v3_encode_symlink(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        SYMLINK3args args = { .where = v3_dirop(call->args.fh, call->args.name) };
        int r;

        v3_encode_sattr(&call->args.symlink.attr, &args.symlink.symlink_attributes);
        args.symlink.symlink_data = (char *) call->args.symlink.target;
        nfs_pdu_hint = strlen(call->args.symlink.target) + 4;
        r = COMPAT_CALL(nfs3_symlink, rpc, cb, &args, userdata);
        nfs_pdu_hint = 0;
        return r;
}

int v3_decode_symlink(NfsCall *call, void *reply, void *buffer) {
        return DECODE_CREATED(call, reply, SYMLINK3);
}

int v3_encode_mknod(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        MKNOD3args args = { .where = v3_dirop(call->args.fh, call->args.name) };
        dev_t rdev = call->args.mknod.rdev;
        sattr3 attr;

        v3_encode_sattr(&call->args.mknod.attr, &attr);
        switch (call->args.mknod.type & S_IFMT) {
        case S_IFIFO:
                args.what.type = NF3FIFO;
                args.what.mknoddata3_u.pipe_attributes = attr;
                break;
        case S_IFSOCK:
                args.what.type = NF3SOCK;
                args.what.mknoddata3_u.sock_attributes = attr;
                break;
        default:
                args.what.type = S_ISBLK(call->args.mknod.type) ? NF3BLK : NF3CHR;
                args.what.mknoddata3_u.chr_device = (devicedata3){
                        .dev_attributes = attr,
                        .spec = { .specdata1 = major(rdev), .specdata2 = minor(rdev) },
                };
                break;
        }
        return COMPAT_CALL(nfs3_mknod, rpc, cb, &args, userdata);
}

int v3_decode_mknod(NfsCall *call, void *reply, void *buffer) {
        return DECODE_CREATED(call, reply, MKNOD3);
}

/* ---- removing and moving ---- */

int v3_encode_remove(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        REMOVE3args args = { .object = v3_dirop(call->args.fh, call->args.name) };

        return COMPAT_CALL(nfs3_remove, rpc, cb, &args, userdata);
}

int v3_decode_remove(NfsCall *call, void *reply, void *buffer) {
        const REMOVE3res *res = reply;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        return v3_decode_wcc(res->status == NFS3_OK ? &res->REMOVE3res_u.resok.dir_wcc : &res->REMOVE3res_u.resfail.dir_wcc,
                             &call->res.wcc);
}

int v3_encode_rmdir(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        RMDIR3args args = { .object = v3_dirop(call->args.fh, call->args.name) };

        return COMPAT_CALL(nfs3_rmdir, rpc, cb, &args, userdata);
}

int v3_decode_rmdir(NfsCall *call, void *reply, void *buffer) {
        const RMDIR3res *res = reply;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        return v3_decode_wcc(res->status == NFS3_OK ? &res->RMDIR3res_u.resok.dir_wcc : &res->RMDIR3res_u.resfail.dir_wcc,
                             &call->res.wcc);
}

int v3_encode_rename(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        RENAME3args args = {
                .from = v3_dirop(call->args.fh, call->args.name),
                .to = v3_dirop(call->args.rename.to_dir, call->args.rename.to_name),
        };

        return COMPAT_CALL(nfs3_rename, rpc, cb, &args, userdata);
}

int v3_decode_rename(NfsCall *call, void *reply, void *buffer) {
        const RENAME3res *res = reply;
        bool ok = res->status == NFS3_OK;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (v3_decode_wcc(ok ? &res->RENAME3res_u.resok.fromdir_wcc : &res->RENAME3res_u.resfail.fromdir_wcc, &call->res.wcc) < 0)
                return -EBADMSG;
        return v3_decode_wcc(ok ? &res->RENAME3res_u.resok.todir_wcc : &res->RENAME3res_u.resfail.todir_wcc, &call->res.wcc2);
}

int v3_encode_link(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        LINK3args args = {
                .file = v3_fh(call->args.fh),
                .link = v3_dirop(call->args.link.dir, call->args.name),
        };

        return COMPAT_CALL(nfs3_link, rpc, cb, &args, userdata);
}

int v3_decode_link(NfsCall *call, void *reply, void *buffer) {
        const LINK3res *res = reply;
        bool ok = res->status == NFS3_OK;

        call->res = (NfsRes){ 0 };
        call->status = res->status;
        if (v3_decode_post_attr(ok ? &res->LINK3res_u.resok.file_attributes : &res->LINK3res_u.resfail.file_attributes,
                                &call->res.has_attr, &call->res.attr) < 0)
                return -EBADMSG;
        return v3_decode_wcc(ok ? &res->LINK3res_u.resok.linkdir_wcc : &res->LINK3res_u.resfail.linkdir_wcc, &call->res.wcc);
}
