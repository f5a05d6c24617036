/*
 * NFSv3 inside: the shapes that several procedures share, and the procedures, by file.
 *
 * decode functions return 0 or -EBADMSG; nothing that comes from the server is trusted.
 */
#pragma once

#include "src/nfs/ops.h"

nfs_fh3 v3_fh(const NfsFh *fh);
diropargs3 v3_dirop(const NfsFh *dir, const char *name);
nfstime3 v3_time(const struct timespec *ts);
void v3_encode_sattr(const NfsSetAttr *set, sattr3 *ret);

int v3_decode_fh(const nfs_fh3 *fh, NfsFh *ret);
int v3_decode_attr(const fattr3 *attr, NfsAttr *ret);
int v3_decode_post_attr(const post_op_attr *attr, bool *ret_has, NfsAttr *ret);
int v3_decode_post_fh(const post_op_fh3 *fh, bool *ret_has, NfsFh *ret);
int v3_decode_wcc(const wcc_data *wcc, NfsWcc *ret);

#define V3_PROC(name)                                                                                                            \
        int v3_encode_##name(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer);            \
        int v3_decode_##name(NfsCall *call, void *reply, void *buffer)

/* v3_attr.c */
V3_PROC(null);
V3_PROC(getattr);
V3_PROC(setattr);
V3_PROC(access);
V3_PROC(fsstat);
V3_PROC(fsinfo);
V3_PROC(pathconf);

/* v3_io.c */
V3_PROC(read);
V3_PROC(write);
V3_PROC(commit);

/* v3_name.c */
V3_PROC(lookup);
V3_PROC(readlink);
V3_PROC(create);
V3_PROC(mkdir);
V3_PROC(symlink);
V3_PROC(mknod);
V3_PROC(remove);
V3_PROC(rmdir);
V3_PROC(rename);
V3_PROC(link);

/* v3_dir.c */
V3_PROC(readdir);
V3_PROC(readdirplus);
int v3_dirent_next(const NfsCall *call, void **iter, NfsDirent *ret);

#undef V3_PROC
