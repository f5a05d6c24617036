/*
 * The table from NFS status to errno, and the names.
 */
#include <criterion/criterion.h>

#include "nfs/call.h"
#include "src/nfs/compat.h"
#include "src/nfs/status.h"

Test(status, every_code_of_the_rfc_has_an_errno) {
        static const struct {
                uint32_t status;
                int error;
        } cases[] = {
                { NFS3_OK, 0 },
                { NFS3ERR_PERM, EPERM },
                { NFS3ERR_NOENT, ENOENT },
                { NFS3ERR_IO, EIO },
                { NFS3ERR_NXIO, ENXIO },
                { NFS3ERR_ACCES, EACCES },
                { NFS3ERR_EXIST, EEXIST },
                { NFS3ERR_XDEV, EXDEV },
                { NFS3ERR_NODEV, ENODEV },
                { NFS3ERR_NOTDIR, ENOTDIR },
                { NFS3ERR_ISDIR, EISDIR },
                { NFS3ERR_INVAL, EINVAL },
                { NFS3ERR_FBIG, EFBIG },
                { NFS3ERR_NOSPC, ENOSPC },
                { NFS3ERR_ROFS, EROFS },
                { NFS3ERR_MLINK, EMLINK },
                { NFS3ERR_NAMETOOLONG, ENAMETOOLONG },
                { NFS3ERR_NOTEMPTY, ENOTEMPTY },
                { NFS3ERR_DQUOT, EDQUOT },
                { NFS3ERR_STALE, ESTALE },
                { NFS3ERR_REMOTE, EREMOTE },
                { NFS3ERR_BADHANDLE, ESTALE },
                { NFS3ERR_NOTSUPP, EOPNOTSUPP },
                { NFS3ERR_SERVERFAULT, EREMOTEIO },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                cr_assert_eq(nfs_status_errno(cases[i].status), cases[i].error, "%u", cases[i].status);
}

Test(status, no_failure_looks_like_success) {
        for (uint32_t status = 1; status < 20000; status++)
                cr_assert_gt(nfs_status_errno(status), 0, "%u", status);
        cr_assert_eq(nfs_status_errno(UINT32_MAX), EIO);
}

Test(status, names) {
        cr_assert_str_eq(nfs_status_name(70), "NFS3ERR_STALE");
        cr_assert_str_eq(nfs_status_name(12345), "unknown status");
        cr_assert_str_eq(mount_status_name(13), "MNT3ERR_ACCES");
        cr_assert_str_eq(mount_status_name(14), "unknown status");
        cr_assert_str_eq(nfs_proc_name(NFS_READDIRPLUS), "READDIRPLUS");
        cr_assert_str_eq(nfs_proc_name(NFS_N_PROCS), "?");
        for (int proc = 0; proc < NFS_N_PROCS; proc++)
                cr_assert(nfs_proc_name((enum NfsProc) proc));
}
