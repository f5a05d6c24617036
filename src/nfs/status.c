/*
 * See status.h and nfs_status_errno() in include/nfs/call.h.
 *
 * NFS3ERR_NOTSUPP becomes EOPNOTSUPP, which is what applications test for. BADHANDLE is a stale handle
 * to them: the path must be looked up again. JUKEBOX never gets past the connection.
 */
#include "src/nfs/status.h"

static const struct {
        uint32_t status;
        int error;
        const char *name;
} statuses[] = {
        { 0, 0, "NFS3_OK" },
        { 1, EPERM, "NFS3ERR_PERM" },
        { 2, ENOENT, "NFS3ERR_NOENT" },
        { 5, EIO, "NFS3ERR_IO" },
        { 6, ENXIO, "NFS3ERR_NXIO" },
        { 13, EACCES, "NFS3ERR_ACCES" },
        { 17, EEXIST, "NFS3ERR_EXIST" },
        { 18, EXDEV, "NFS3ERR_XDEV" },
        { 19, ENODEV, "NFS3ERR_NODEV" },
        { 20, ENOTDIR, "NFS3ERR_NOTDIR" },
        { 21, EISDIR, "NFS3ERR_ISDIR" },
        { 22, EINVAL, "NFS3ERR_INVAL" },
        { 27, EFBIG, "NFS3ERR_FBIG" },
        { 28, ENOSPC, "NFS3ERR_NOSPC" },
        { 30, EROFS, "NFS3ERR_ROFS" },
        { 31, EMLINK, "NFS3ERR_MLINK" },
        { 63, ENAMETOOLONG, "NFS3ERR_NAMETOOLONG" },
        { 66, ENOTEMPTY, "NFS3ERR_NOTEMPTY" },
        { 69, EDQUOT, "NFS3ERR_DQUOT" },
        { 70, ESTALE, "NFS3ERR_STALE" },
        { 71, EREMOTE, "NFS3ERR_REMOTE" },
        { 10001, ESTALE, "NFS3ERR_BADHANDLE" },
        { 10002, EAGAIN, "NFS3ERR_NOT_SYNC" },
        { 10003, EINVAL, "NFS3ERR_BAD_COOKIE" },
        { 10004, EOPNOTSUPP, "NFS3ERR_NOTSUPP" },
        { 10005, EINVAL, "NFS3ERR_TOOSMALL" },
        { 10006, EREMOTEIO, "NFS3ERR_SERVERFAULT" },
        { 10007, EINVAL, "NFS3ERR_BADTYPE" },
        { 10008, EAGAIN, "NFS3ERR_JUKEBOX" },
};

static const struct {
        uint32_t status;
        const char *name;
} mount_statuses[] = {
        { 0, "MNT3_OK" },
        { 1, "MNT3ERR_PERM" },
        { 2, "MNT3ERR_NOENT" },
        { 5, "MNT3ERR_IO" },
        { 13, "MNT3ERR_ACCES" },
        { 20, "MNT3ERR_NOTDIR" },
        { 22, "MNT3ERR_INVAL" },
        { 63, "MNT3ERR_NAMETOOLONG" },
        { 10004, "MNT3ERR_NOTSUPP" },
        { 10006, "MNT3ERR_SERVERFAULT" },
};

int nlm_status_errno(uint32_t status) {
        switch (status) {
        case NLM_GRANTED:
                return 0;
        case NLM_DENIED:
        case NLM_BLOCKED:
                return EAGAIN;
        case NLM_DEADLOCK:
                return EDEADLK;
        case NLM_ROFS:
                return EROFS;
        case NLM_STALE_FH:
                return ESTALE;
        case NLM_FBIG:
                return EOVERFLOW;
        default:
                return ENOLCK;
        }
}

int nfs_status_errno(uint32_t status) {
        for (size_t i = 0; i < ELEMENTSOF(statuses); i++)
                if (statuses[i].status == status)
                        return statuses[i].error;
        return EIO;
}

const char *nfs_status_name(uint32_t status) {
        for (size_t i = 0; i < ELEMENTSOF(statuses); i++)
                if (statuses[i].status == status)
                        return statuses[i].name;
        return "unknown status";
}

const char *mount_status_name(uint32_t status) {
        for (size_t i = 0; i < ELEMENTSOF(mount_statuses); i++)
                if (mount_statuses[i].status == status)
                        return mount_statuses[i].name;
        return "unknown status";
}
