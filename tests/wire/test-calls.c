/*
 * Every procedure against a server that behaves: arguments and results, credentials, counters.
 */
#include <criterion/criterion.h>
#include <sys/stat.h>

#include "harness.h"

static Harness h;

static void setup(void) {
        harness_init(&h);
}

static void teardown(void) {
        harness_done(&h);
}

TestSuite(calls, .init = setup, .fini = teardown, .timeout = 30);

Test(calls, every_procedure_is_answered) {
        static const char data[] = "data";
        NfsFh other = test_fh(1);
        TestCall t;

        for (int proc = 0; proc < NFS3_N_PROCS; proc++) {
                test_call_init(&h, &t, (enum NfsProc) proc, proc == NFS_READDIR || proc == NFS_READDIRPLUS ? 1 : 5);
                t.call.args.name = proc == NFS_LOOKUP ? "f3" : "new";
                switch (proc) {
                case NFS_READ:
                        t.call.args.read.count = 100;
                        break;
                case NFS_WRITE:
                        t.call.args.write.data = data;
                        t.call.args.write.count = sizeof data;
                        break;
                case NFS_SYMLINK:
                        t.call.args.symlink.target = "target";
                        break;
                case NFS_MKNOD:
                        t.call.args.mknod.type = S_IFIFO;
                        break;
                case NFS_RENAME:
                        t.call.args.rename.to_dir = &other;
                        t.call.args.rename.to_name = "to";
                        break;
                case NFS_LINK:
                        t.call.args.link.dir = &other;
                        break;
                case NFS_READDIR:
                case NFS_READDIRPLUS:
                        t.call.args.readdir.count = 8192;
                        break;
                }
                cr_assert_eq(test_call_run(&t), 0, "%s: err %d", nfs_proc_name(t.call.proc), t.call.err);
                cr_assert_eq(t.n_done, 1);
                cr_assert_eq(fakenfs_seen(h.fake, proc), 1);
                cr_assert_eq(h.stats.calls[proc], 1);
                cr_assert_gt(h.stats.rtt_ns_sum[proc], 0);
        }
        cr_assert_eq(h.stats.bytes_written, sizeof data);
        cr_assert_eq(h.stats.connects, 1);
}

Test(calls, attributes_are_mapped) {
        TestCall t;

        test_call_init(&h, &t, NFS_GETATTR, 1);
        cr_assert_eq(test_call_run(&t), 0);
        cr_assert(t.call.res.has_attr);
        cr_assert_eq(t.call.res.attr.mode, S_IFDIR | 0755);
        cr_assert_eq(t.call.res.attr.fsid, 99);
        cr_assert_eq(t.call.res.attr.fileid, 1);
        cr_assert_eq(t.call.res.attr.mtime.tv_sec, 3000000000);
        cr_assert_eq(t.call.res.attr.mtime.tv_nsec, 5);
}

Test(calls, lookup_finds_or_not) {
        TestCall t;

        test_call_init(&h, &t, NFS_LOOKUP, 1);
        t.call.args.name = "f7";
        cr_assert_eq(test_call_run(&t), 0);
        NfsFh want = test_fh(9);
        cr_assert(t.call.res.has_fh && nfs_fh_equal(&t.call.res.fh, &want));
        cr_assert(t.call.res.has_attr && t.call.res.has_dir_attr);
        cr_assert_eq(t.call.res.attr.fileid, 9);

        test_call_init(&h, &t, NFS_LOOKUP, 1);
        t.call.args.name = "nothing";
        cr_assert_eq(test_call_run(&t), ENOENT);
        cr_assert_eq(t.call.status, 2);
        cr_assert_eq(h.stats.errors[NFS_LOOKUP], 1);
}

static uint8_t got[4096];

static void copy_read(TestCall *t) {
        memcpy(got, t->call.res.read.data, t->call.res.read.count);
}

Test(calls, read_delivers_the_bytes) {
        TestCall t;

        test_call_init(&h, &t, NFS_READ, 5);
        t.call.args.read.offset = 12345;
        t.call.args.read.count = sizeof got;
        t.then = copy_read;
        cr_assert_eq(test_call_run(&t), 0);
        cr_assert_eq(t.call.res.read.count, sizeof got);
        cr_assert(!t.call.res.read.eof);
        for (uint32_t i = 0; i < sizeof got; i++)
                cr_assert_eq(got[i], fakenfs_byte(5, 12345 + i));

        test_call_init(&h, &t, NFS_READ, 5);
        t.call.args.read.offset = (1 << 20) - 10;
        t.call.args.read.count = 100;
        cr_assert_eq(test_call_run(&t), 0);
        cr_assert_eq(t.call.res.read.count, 10);
        cr_assert(t.call.res.read.eof);
        cr_assert_eq(h.stats.bytes_read, sizeof got + 10);
}

Test(calls, write_tells_wcc_and_verifier) {
        static uint8_t data[1 << 20];
        TestCall t;
        uint8_t verf[NFS_VERF_SIZE];

        test_call_init(&h, &t, NFS_WRITE, 5);
        t.call.args.write.data = data;
        t.call.args.write.count = sizeof data;
        t.call.args.write.stable = NFS_DATA_SYNC;
        cr_assert_eq(test_call_run(&t), 0);
        cr_assert_eq(t.call.res.write.count, sizeof data);
        cr_assert_eq(t.call.res.write.committed, NFS_DATA_SYNC);
        cr_assert(t.call.res.wcc.has_before && t.call.res.wcc.has_after);
        cr_assert_eq(t.call.res.wcc.before_size, 4095);
        memcpy(verf, t.call.res.write.verf, sizeof verf);

        fakenfs_set_verifier(h.fake, 1);
        test_call_init(&h, &t, NFS_COMMIT, 5);
        cr_assert_eq(test_call_run(&t), 0);
        cr_assert_neq(memcmp(verf, t.call.res.write.verf, sizeof verf), 0);
}

static void walk(TestCall *t) {
        bool plus = t->call.proc == NFS_READDIRPLUS;
        void *iter = t->call.res.readdir.entries;
        char name[16];
        NfsDirent entry;
        int n = 0, r;

        while ((r = nfs_dirent_next(&t->call, &iter, &entry)) > 0) {
                (void) snprintf(name, sizeof name, "f%d", n);
                cr_assert_str_eq(entry.name, name);
                cr_assert_eq(entry.fileid, (uint64_t) n + 2);
                cr_assert_eq(entry.cookie, (uint64_t) n + 1);
                cr_assert_eq(entry.has_attr, plus);
                cr_assert_eq(entry.has_fh, plus);
                n++;
        }
        cr_assert_eq(r, 0);
        cr_assert_eq(n, 100);
}

Test(calls, directories_are_walked) {
        TestCall t;

        for (int plus = 0; plus <= 1; plus++) {
                test_call_init(&h, &t, plus ? NFS_READDIRPLUS : NFS_READDIR, 1);
                t.call.args.readdir.count = 65536;
                t.then = walk;
                cr_assert_eq(test_call_run(&t), 0);
                cr_assert(t.call.res.readdir.eof);
                cr_assert(t.call.res.has_attr);
        }
}

Test(calls, a_long_symlink_target_is_sent) {
        static char target[4096];
        TestCall t;

        memset(target, 't', sizeof target - 1);
        test_call_init(&h, &t, NFS_SYMLINK, 1);
        t.call.args.name = "link";
        t.call.args.symlink.target = target;
        cr_assert_eq(test_call_run(&t), 0);
        cr_assert(t.call.res.has_fh);
}

Test(calls, each_call_carries_its_credential) {
        NfsCred creds[] = {
                { .uid = 0, .gid = 0 },
                { .uid = 4294967294u, .gid = 5, .n_groups = 16, .groups = { 1, 2, 3 } },
                { .uid = 7, .gid = 8, .n_groups = 99 }, /* more than fit: truncated */
                { .uid = 0, .gid = 0 },
        };
        uint32_t want_groups[] = { 0, 16, 16, 0 };
        FakeRequest seen[8];
        TestCall t[4];
        int done = 0;

        for (int i = 0; i < 4; i++) {
                test_call_init(&h, &t[i], NFS_GETATTR, (uint64_t) i + 2);
                t[i].call.cred = &creds[i];
                test_call_send(&t[i]);
        }
        for (int i = 0; i < 4; i++)
                done += harness_wait(&h, &t[i].n_done, 1, 5000);
        cr_assert_eq(done, 4);
        cr_assert_eq(fakenfs_history(h.fake, seen, 8), 4);
        for (int i = 0; i < 4; i++) {
                cr_assert_eq(seen[i].id, (uint64_t) i + 2);
                cr_assert_eq(seen[i].uid, creds[i].uid);
                cr_assert_eq(seen[i].gid, creds[i].gid);
                cr_assert_eq(seen[i].n_groups, want_groups[i]);
                cr_assert_eq(seen[i].xid, t[i].call.xid);
        }
}

Test(calls, a_given_xid_is_kept) {
        FakeRequest seen[4];
        TestCall t, u;

        test_call_init(&h, &t, NFS_GETATTR, 2);
        t.call.xid = 0x12345678;
        cr_assert_eq(test_call_run(&t), 0);
        cr_assert_eq(fakenfs_history(h.fake, seen, 4), 1);
        cr_assert_eq(seen[0].xid, 0x12345678);
        cr_assert_eq(t.call.n_sent, 2, "it was sent before");

        /* Unless another call in flight has it: the two must not get each other's replies. */
        test_call_init(&h, &t, NFS_GETATTR, 2);
        test_call_init(&h, &u, NFS_ACCESS, 3);
        t.call.xid = u.call.xid = 0x87654321;
        test_call_send(&t);
        test_call_send(&u);
        cr_assert_neq(t.call.xid, u.call.xid);
        cr_assert(harness_wait(&h, &t.n_done, 1, 5000) && harness_wait(&h, &u.n_done, 1, 5000));
        cr_assert_eq(t.call.err, 0);
        cr_assert_eq(u.call.err, 0);
}

static void send_next(TestCall *t) {
        if (t->n_done < 1000)
                test_call_send(t);
}

Test(calls, a_call_is_sent_again_from_its_done) {
        TestCall t;

        test_call_init(&h, &t, NFS_GETATTR, 2);
        t.then = send_next;
        test_call_send(&t);
        t.call.xid = t.call.xid; /* kept: each counts as sent before */
        cr_assert(harness_wait(&h, &t.n_done, 1000, 20000));
        cr_assert_eq(fakenfs_seen(h.fake, NFS_GETATTR), 1000);
}
