/*
 * NFSv3 (RFC 1813): the table, and the shapes that several procedures share.
 *
 * The procedures are in v3_attr.c (attributes and file systems), v3_io.c (data), v3_name.c (names) and
 * v3_dir.c (directories). Each is two functions: arguments in, results out. There is no state.
 */
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "src/nfs/v3.h"

#define PROC(PROC_NAME, name) [NFS_##PROC_NAME] = { v3_encode_##name, v3_decode_##name }

const NfsOps nfs_v3_ops = {
        .program = NFS_PROGRAM,
        .version = NFS_V3,
        .status_delay = NFS3ERR_JUKEBOX,
        .status_errno = nfs_status_errno,
        .dirent_next = v3_dirent_next,
        .procs =
                {
                        PROC(NULL, null),     PROC(GETATTR, getattr), PROC(SETATTR, setattr),
                        PROC(LOOKUP, lookup), PROC(ACCESS, access),   PROC(READLINK, readlink),
                        PROC(READ, read),     PROC(WRITE, write),     PROC(CREATE, create),
                        PROC(MKDIR, mkdir),   PROC(SYMLINK, symlink), PROC(MKNOD, mknod),
                        PROC(REMOVE, remove), PROC(RMDIR, rmdir),     PROC(RENAME, rename),
                        PROC(LINK, link),     PROC(READDIR, readdir), PROC(READDIRPLUS, readdirplus),
                        PROC(FSSTAT, fsstat), PROC(FSINFO, fsinfo),   PROC(PATHCONF, pathconf),
                        PROC(COMMIT, commit),
                },
};

static const char *const proc_names[NFS_N_PROCS] = {
        "NULL",     "GETATTR",     "SETATTR",    "LOOKUP",       "ACCESS",   "READLINK", "READ",     "WRITE",
        "CREATE",   "MKDIR",       "SYMLINK",    "MKNOD",        "REMOVE",   "RMDIR",    "RENAME",   "LINK",
        "READDIR",  "READDIRPLUS", "FSSTAT",     "FSINFO",       "PATHCONF", "COMMIT",   "NLM_NULL", "NLM_TEST",
        "NLM_LOCK", "NLM_CANCEL",  "NLM_UNLOCK", "NLM_FREE_ALL", "GETPORT",
};

const char *nfs_proc_name(enum NfsProc proc) {
        return (unsigned int) proc < NFS_N_PROCS ? proc_names[proc] : "?";
}

int nfs_dirent_next(const NfsCall *call, void **iter, NfsDirent *ret) {
        return nfs_v3_ops.dirent_next(call, iter, ret);
}

/* ---- out ---- */

nfs_fh3 v3_fh(const NfsFh *fh) {
        return (nfs_fh3){ .data = { .data_len = fh->len, .data_val = (char *) fh->data } };
}

diropargs3 v3_dirop(const NfsFh *dir, const char *name) {
        return (diropargs3){ .dir = v3_fh(dir), .name = (char *) name };
}

/* nfstime3 is unsigned: 1970 to 2106. */
nfstime3 v3_time(const struct timespec *ts) {
        if (ts->tv_sec < 0)
                return (nfstime3){ 0, 0 };
        if (ts->tv_sec > (time_t) UINT32_MAX)
                return (nfstime3){ UINT32_MAX, 0 };
        return (nfstime3){ (uint32_t) ts->tv_sec, (uint32_t) ts->tv_nsec };
}

static time_how set_time(enum NfsSetTime how) {
        switch (how) {
        case NFS_TIME_SERVER:
                return SET_TO_SERVER_TIME;
        case NFS_TIME_CLIENT:
                return SET_TO_CLIENT_TIME;
        default:
                return DONT_CHANGE;
        }
}

void v3_encode_sattr(const NfsSetAttr *set, sattr3 *ret) {
        *ret = (sattr3){
                .mode = { .set_it = set->set_mode, .set_mode3_u.mode = set->mode & 07777 },
                .uid = { .set_it = set->set_uid, .set_uid3_u.uid = set->uid },
                .gid = { .set_it = set->set_gid, .set_gid3_u.gid = set->gid },
                .size = { .set_it = set->set_size, .set_size3_u.size = set->size },
                .atime = { .set_it = set_time(set->set_atime), .set_atime_u.atime = v3_time(&set->atime) },
                .mtime = { .set_it = set_time(set->set_mtime), .set_mtime_u.mtime = v3_time(&set->mtime) },
        };
}

/* ---- in ---- */

static struct timespec decode_time(nfstime3 t) {
        return (struct timespec){ .tv_sec = t.seconds, .tv_nsec = MIN(t.nseconds, 999999999u) };
}

int v3_decode_fh(const nfs_fh3 *fh, NfsFh *ret) {
        if (fh->data.data_len == 0 || fh->data.data_len > NFS_FH_MAX || !fh->data.data_val)
                return -EBADMSG;
        ret->len = fh->data.data_len;
        memcpy(ret->data, fh->data.data_val, ret->len);
        return 0;
}

int v3_decode_attr(const fattr3 *attr, NfsAttr *ret) {
        static const mode_t types[] = {
                [NF3REG] = S_IFREG, [NF3DIR] = S_IFDIR,   [NF3BLK] = S_IFBLK,  [NF3CHR] = S_IFCHR,
                [NF3LNK] = S_IFLNK, [NF3SOCK] = S_IFSOCK, [NF3FIFO] = S_IFIFO,
        };
        uint32_t type = (uint32_t) attr->type;

        if (type == 0 || type >= ELEMENTSOF(types))
                return -EBADMSG;
        *ret = (NfsAttr){
                .mode = types[type] | (attr->mode & 07777), /* some servers send the type bits too */
                .nlink = attr->nlink,
                .uid = attr->uid,
                .gid = attr->gid,
                .size = MIN(attr->size, (uint64_t) INT64_MAX), /* off_t is signed */
                .used = attr->used,
                .fsid = attr->fsid,
                .fileid = attr->fileid,
                .atime = decode_time(attr->atime),
                .mtime = decode_time(attr->mtime),
                .ctime = decode_time(attr->ctime),
        };
        if (type == NF3BLK || type == NF3CHR)
                ret->rdev = makedev(attr->rdev.specdata1, attr->rdev.specdata2);
        return 0;
}

int v3_decode_post_attr(const post_op_attr *attr, bool *ret_has, NfsAttr *ret) {
        if (!attr->attributes_follow)
                return 0;
        if (v3_decode_attr(&attr->post_op_attr_u.attributes, ret) < 0)
                return -EBADMSG;
        *ret_has = true;
        return 0;
}

int v3_decode_post_fh(const post_op_fh3 *fh, bool *ret_has, NfsFh *ret) {
        if (!fh->handle_follows)
                return 0;
        if (v3_decode_fh(&fh->post_op_fh3_u.handle, ret) < 0)
                return -EBADMSG;
        *ret_has = true;
        return 0;
}

int v3_decode_wcc(const wcc_data *wcc, NfsWcc *ret) {
        const wcc_attr *before = &wcc->before.pre_op_attr_u.attributes;

        if (wcc->before.attributes_follow) {
                ret->has_before = true;
                ret->before_size = before->size;
                ret->before_mtime = decode_time(before->mtime);
                ret->before_ctime = decode_time(before->ctime);
        }
        return v3_decode_post_attr(&wcc->after, &ret->has_after, &ret->after);
}
