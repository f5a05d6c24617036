/*
 * NFSv3's shapes in ours: types, times, handles, attributes to set.
 */
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "src/nfs/v3.h"

Test(v3, file_types) {
        static const mode_t want[] = { 0, S_IFREG, S_IFDIR, S_IFBLK, S_IFCHR, S_IFLNK, S_IFSOCK, S_IFIFO };
        NfsAttr attr;

        for (uint32_t type = 0; type < 300; type++) {
                fattr3 from = { .type = (ftype3) type, .mode = 0100644 };
                int r = v3_decode_attr(&from, &attr);

                cr_assert_eq(r, type >= 1 && type <= 7 ? 0 : -EBADMSG);
                if (r == 0)
                        cr_assert_eq(attr.mode, want[type] | 0644);
        }
}

Test(v3, times_are_unsigned_and_clamped) {
        fattr3 from = { .type = NF3REG };
        NfsAttr attr;

        from.mtime = (nfstime3){ UINT32_MAX, 999999999 };
        from.ctime = (nfstime3){ 1, UINT32_MAX };
        cr_assert_eq(v3_decode_attr(&from, &attr), 0);
        cr_assert_eq(attr.mtime.tv_sec, (time_t) UINT32_MAX);
        cr_assert_eq(attr.mtime.tv_nsec, 999999999);
        cr_assert_eq(attr.ctime.tv_nsec, 999999999);

        cr_assert_eq(v3_time(&(struct timespec){ -5, 7 }).seconds, 0);
        cr_assert_eq(v3_time(&(struct timespec){ INT64_MAX, 7 }).seconds, UINT32_MAX);
        cr_assert_eq(v3_time(&(struct timespec){ 3000000000, 7 }).seconds, 3000000000u);
        cr_assert_eq(v3_time(&(struct timespec){ 3000000000, 7 }).nseconds, 7);
}

Test(v3, sizes_fit_off_t) {
        fattr3 from = { .type = NF3REG, .size = UINT64_MAX };
        NfsAttr attr;

        cr_assert_eq(v3_decode_attr(&from, &attr), 0);
        cr_assert_eq(attr.size, INT64_MAX);
}

Test(v3, devices) {
        fattr3 from = { .type = NF3CHR, .rdev = { 8, 300 } };
        NfsAttr attr;

        cr_assert_eq(v3_decode_attr(&from, &attr), 0);
        cr_assert_eq(major(attr.rdev), 8);
        cr_assert_eq(minor(attr.rdev), 300);
}

Test(v3, handles) {
        char bytes[NFS_FH_MAX + 1] = "handle";
        NfsFh fh;

        for (uint32_t len = 0; len <= sizeof bytes; len++) {
                nfs_fh3 from = { .data = { .data_len = len, .data_val = bytes } };
                int r = v3_decode_fh(&from, &fh);

                cr_assert_eq(r, len >= 1 && len <= NFS_FH_MAX ? 0 : -EBADMSG);
                if (r == 0)
                        cr_assert(fh.len == len && memcmp(fh.data, bytes, len) == 0);
        }
        cr_assert_eq(v3_decode_fh(&(nfs_fh3){ .data = { .data_len = 5 } }, &fh), -EBADMSG);
}

Test(v3, attributes_to_set) {
        NfsSetAttr set = {
                .set_mode = true,
                .mode = S_IFREG | 04755,
                .set_size = true,
                .size = 77,
                .set_atime = NFS_TIME_SERVER,
                .set_mtime = NFS_TIME_CLIENT,
                .mtime = { 5, 6 },
        };
        sattr3 to;

        v3_encode_sattr(&set, &to);
        cr_assert(to.mode.set_it && to.mode.set_mode3_u.mode == 04755);
        cr_assert(!to.uid.set_it && !to.gid.set_it);
        cr_assert(to.size.set_it && to.size.set_size3_u.size == 77);
        cr_assert_eq(to.atime.set_it, SET_TO_SERVER_TIME);
        cr_assert_eq(to.mtime.set_it, SET_TO_CLIENT_TIME);
        cr_assert_eq(to.mtime.set_mtime_u.mtime.seconds, 5);
}

Test(v3, the_table_is_complete) {
        for (int proc = 0; proc < NFS3_N_PROCS; proc++)
                cr_assert(nfs_v3_ops.procs[proc].encode && nfs_v3_ops.procs[proc].decode, "%d", proc);
}
