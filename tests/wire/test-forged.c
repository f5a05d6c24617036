/*
 * A server that lies about lengths. Run under AddressSanitizer: libnfs 4.0.0 by itself reads and writes out
 * of bounds in most of these. The first test shows that the checked functions (src/nfs/hardening.c) are the
 * ones libnfs uses; without it the others prove nothing.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>

#include "harness.h"
#include "nfs/mount.h"

static Harness h;

static void setup(void) {
        harness_init(&h);
}

static void teardown(void) {
        harness_done(&h);
}

TestSuite(forged, .init = setup, .fini = teardown, .timeout = 60);

Test(forged, libnfs_uses_our_functions) {
        static const char *const names[] = {
                "libnfs_zdr_bytes", "libnfs_zdr_opaque", "libnfs_zdr_string",
                "libnfs_zdr_array", "zdr_malloc",        "zdr_entry3",
                "zdr_entryplus3",   "zdr_nlm4_oh",       "recv",
        };
        Dl_info ours, library, symbol;

        cr_assert(dladdr((void *) setup, &ours));
        cr_assert(dladdr(dlsym(RTLD_DEFAULT, "rpc_service"), &library));
        cr_assert_neq(ours.dli_fbase, library.dli_fbase);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                /* What the dynamic linker resolves for everybody, libnfs's PLT too. */
                cr_assert(dladdr(dlsym(RTLD_DEFAULT, names[i]), &symbol), "%s", names[i]);
                cr_assert_eq(symbol.dli_fbase, ours.dli_fbase, "%s is libnfs's", names[i]);
        }
}

static void walk(TestCall *t) {
        void *iter = t->call.res.readdir.entries;
        NfsDirent entry;
        int r;

        if (t->call.proc != NFS_READDIR && t->call.proc != NFS_READDIRPLUS)
                return;
        while ((r = nfs_dirent_next(&t->call, &iter, &entry)) > 0)
                ;
        if (r < 0)
                t->call.err = -r;
}

static int forged(enum NfsProc proc, uint64_t id, enum FakeAction action, uint32_t arg) {
        static const char data[100];
        TestCall t;
        int r;

        fakenfs_fault(h.fake, (int) proc, action, arg, 0, 1);
        test_call_init(&h, &t, proc, id);
        t.then = walk;
        t.call.args.name = "f1";
        switch (proc) {
        case NFS_READ:
                t.call.args.read.count = 4096;
                break;
        case NFS_WRITE:
                t.call.args.write.data = data;
                t.call.args.write.count = sizeof data;
                break;
        case NFS_READDIR:
        case NFS_READDIRPLUS:
                t.call.args.readdir.count = 65536;
                break;
        default:
                break;
        }
        r = test_call_run(&t);
        fakenfs_clear(h.fake);
        cr_assert_eq(test_getattr(&h, 3), 0, "the call after it");
        return r;
}

static const uint32_t lengths[] = {
        4097, 5000, 65536, 1 << 20, 0x7ffffffc, 0x7fffffff, 0x80000000, 0xffffff00, 0xffffffd8, 0xfffffffc, 0xffffffff,
};

Test(forged, read_length) {
        for (size_t i = 0; i < ELEMENTSOF(lengths); i++)
                cr_assert_eq(forged(NFS_READ, 2, FAKE_LENGTH, lengths[i]), EIO, "%x", lengths[i]);
        cr_assert_eq(forged(NFS_READ, 2, FAKE_LENGTH, 100), EIO, "less than the count says");
        cr_assert_eq(h.stats.bad_replies, ELEMENTSOF(lengths) + 1);
}

Test(forged, counts) {
        cr_assert_eq(forged(NFS_READ, 2, FAKE_COUNT, 4097), EIO);
        cr_assert_eq(forged(NFS_READ, 2, FAKE_COUNT, 0), EIO, "neither data nor end of file");
        cr_assert_eq(forged(NFS_READ, 2, FAKE_COUNT, 1), 0, "a short read is fine");
        cr_assert_eq(forged(NFS_WRITE, 2, FAKE_COUNT, 101), EIO);
        cr_assert_eq(forged(NFS_WRITE, 2, FAKE_COUNT, 0), EIO);
        cr_assert_eq(forged(NFS_WRITE, 2, FAKE_COUNT, 0xffffffff), EIO);
        cr_assert_eq(forged(NFS_WRITE, 2, FAKE_COUNT, 99), 0, "a short write is fine");
}

Test(forged, strings) {
        uint64_t symlink = UINT64_C(1) << 41;

        for (size_t i = 0; i < ELEMENTSOF(lengths); i++) {
                cr_assert_eq(forged(NFS_READLINK, symlink, FAKE_LENGTH, lengths[i]), EIO, "%x", lengths[i]);
                cr_assert_neq(forged(NFS_READDIR, 1, FAKE_LENGTH, lengths[i]), 0, "%x", lengths[i]);
        }
        cr_assert_eq(forged(NFS_READLINK, symlink, FAKE_LENGTH, 0), EIO, "an empty target");
        cr_assert_eq(forged(NFS_READLINK, symlink, FAKE_NAME, 3), EIO, "a NUL inside");
}

Test(forged, names) {
        for (uint32_t kind = 0; kind < 4; kind++) {
                int r = forged(NFS_READDIR, 1, FAKE_NAME, kind);

                cr_assert(r == EBADMSG || r == EIO, "%u: %d", kind, r);
                r = forged(NFS_READDIRPLUS, 1, FAKE_NAME, kind);
                cr_assert(r == EBADMSG || r == EIO, "%u: %d", kind, r);
        }
        cr_assert_eq(h.stats.bad_replies, 8);
}

Test(forged, directories) {
        cr_assert_eq(forged(NFS_READDIRPLUS, 1, FAKE_LOOP, 0), EIO);
        cr_assert_eq(forged(NFS_READDIRPLUS, 1, FAKE_LENGTH, 20000), 0, "many entries: 40 bytes each, one record");
}

Test(forged, more_than_a_record_may_hold) {
        TestCall t;

        fakenfs_fault(h.fake, NFS_READDIRPLUS, FAKE_LENGTH, 100000, 0, 1);
        test_call_init(&h, &t, NFS_READDIRPLUS, 1);
        t.call.args.readdir.count = 65536;
        cr_assert_eq(test_call_run(&t), 0, "refused, asked again on another connection");
        cr_assert_eq(h.stats.connects, 2);
}

Test(forged, a_call_instead_of_a_reply) {
        for (int proc = NFS_GETATTR; proc <= NFS_READ; proc++)
                if (proc != NFS_SETATTR && proc != NFS_ACCESS)
                        cr_assert_eq(forged((enum NfsProc) proc, 2, FAKE_CALL, 0), EIO, "%d", proc);
}

Test(forged, file_types) {
        static const uint32_t types[] = { 0, 8, 77, 0x80000000, 0xffffffff };

        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                cr_assert_eq(forged(NFS_GETATTR, 2, FAKE_TYPE, types[i]), EIO);
                cr_assert_eq(forged(NFS_LOOKUP, 1, FAKE_TYPE, types[i]), EIO);
                cr_assert_eq(forged(NFS_WRITE, 2, FAKE_TYPE, types[i]), EIO);
        }
}

Test(forged, mount_flavours) {
        static const uint32_t counts[] = { 5000, 0x10000, 0x3fffffff, 0x40000000, 0x40000001, 0x80000000, 0xffffffff };
        NfsMountConfig config = {
                .host = "127.0.0.1",
                .path = "/x",
                .port = fakenfs_port(h.fake),
                .mountport = fakenfs_port(h.fake),
                .cred = &test_cred,
                .timeout_ms = 5000,
        };
        NfsMountResult result;
        char message[512];

        for (size_t i = 0; i < ELEMENTSOF(counts); i++) {
                fakenfs_fault(h.fake, FAKE_MNT, FAKE_LENGTH, counts[i], 0, 1);
                cr_assert_eq(nfs_export_mount(&config, &result, message, sizeof message), NFS_MOUNT_PROTOCOL, "%x: %s", counts[i],
                             message);
        }
        cr_assert_eq(nfs_export_mount(&config, &result, message, sizeof message), NFS_MOUNT_OK);
}

/* Random bytes behind a good header, for every procedure. */
Test(forged, garbage_everywhere) {
        for (int round = 0; round < 20; round++)
                for (int proc = 0; proc < NFS3_N_PROCS; proc++)
                        if (proc != NFS_SYMLINK && proc != NFS_RENAME && proc != NFS_LINK)
                                cr_assert_geq(forged((enum NfsProc) proc, 2, FAKE_GARBAGE, 0), 0);
}
