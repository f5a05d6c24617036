/*
 * NFSv3: READDIR and READDIRPLUS. See v3.c.
 *
 * Entries stay libnfs's linked list, of one type or the other, and are checked one by one as they are walked.
 */
#include "src/nfs/conn_private.h"
#include "src/nfs/v3.h"

int v3_encode_readdir(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        READDIR3args args = {
                .dir = v3_fh(call->args.fh),
                .cookie = call->args.readdir.cookie,
                .count = call->args.readdir.count,
        };

        memcpy(args.cookieverf, call->args.readdir.verf, NFS_VERF_SIZE);
        return COMPAT_CALL(nfs3_readdir, rpc, cb, &args, userdata);
}

int v3_decode_readdir(NfsCall *call, void *reply, void *buffer) {
        const READDIR3res *res = reply;
        const READDIR3resok *ok = &res->READDIR3res_u.resok;
        NfsRes *to = &call->res;

        *to = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->READDIR3res_u.resfail.dir_attributes, &to->has_attr, &to->attr);
        memcpy(to->readdir.verf, ok->cookieverf, NFS_VERF_SIZE);
        to->readdir.eof = ok->reply.eof;
        to->readdir.entries = ok->reply.entries;
        return v3_decode_post_attr(&ok->dir_attributes, &to->has_attr, &to->attr);
}

int v3_encode_readdirplus(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        READDIRPLUS3args args = {
                .dir = v3_fh(call->args.fh),
                .cookie = call->args.readdir.cookie,
                .dircount = call->args.readdir.count,
                .maxcount = call->args.readdir.count,
        };

        memcpy(args.cookieverf, call->args.readdir.verf, NFS_VERF_SIZE);
        return COMPAT_CALL(nfs3_readdirplus, rpc, cb, &args, userdata);
}

int v3_decode_readdirplus(NfsCall *call, void *reply, void *buffer) {
        const READDIRPLUS3res *res = reply;
        const READDIRPLUS3resok *ok = &res->READDIRPLUS3res_u.resok;
        NfsRes *to = &call->res;

        *to = (NfsRes){ 0 };
        call->status = res->status;
        if (res->status != NFS3_OK)
                return v3_decode_post_attr(&res->READDIRPLUS3res_u.resfail.dir_attributes, &to->has_attr, &to->attr);
        memcpy(to->readdir.verf, ok->cookieverf, NFS_VERF_SIZE);
        to->readdir.eof = ok->reply.eof;
        to->readdir.entries = ok->reply.entries;
        return v3_decode_post_attr(&ok->dir_attributes, &to->has_attr, &to->attr);
}

/* libnfs made it a C string, so there is no NUL in it. */
static bool name_is_sane(const char *name) {
        size_t len = name ? strnlen(name, NFS_NAME_MAX + 1) : 0;

        return len > 0 && len <= NFS_NAME_MAX && !memchr(name, '/', len);
}

static int bad_entry(const NfsCall *call) {
        if (call->conn)
                stat_add(&call->conn->stats->bad_replies, 1);
        return -EBADMSG;
}

int v3_dirent_next(const NfsCall *call, void **iter, NfsDirent *ret) {
        if (!*iter)
                return 0;
        if (call->proc == NFS_READDIR) {
                const entry3 *entry = *iter;

                if (!name_is_sane(entry->name))
                        return bad_entry(call);
                *ret = (NfsDirent){ .fileid = entry->fileid, .cookie = entry->cookie, .name = entry->name };
                *iter = entry->nextentry;
        } else {
                const entryplus3 *entry = *iter;

                if (!name_is_sane(entry->name))
                        return bad_entry(call);
                *ret = (NfsDirent){ .fileid = entry->fileid, .cookie = entry->cookie, .name = entry->name };
                if (v3_decode_post_attr(&entry->name_attributes, &ret->has_attr, &ret->attr) < 0 ||
                    v3_decode_post_fh(&entry->name_handle, &ret->has_fh, &ret->fh) < 0)
                        return bad_entry(call);
                *iter = entry->nextentry;
        }
        return 1;
}
