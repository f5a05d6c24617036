/*
 * The lock manager's protocol: what is sent, what is made of the answers, also of forged ones; and how the mount
 * finds it.
 */
#include <criterion/criterion.h>

#include "harness.h"
#include "nfs/mount.h"

static Harness h;
static int n_connected;

static void connected(void *userdata) {
        (void) userdata;
        n_connected++;
}

static void setup(void) {
        harness_prepare(&h);
        h.config.protocol = NFS_PROTOCOL_NLM4;
        h.config.connected = connected;
        harness_connect(&h);
}

static void teardown(void) {
        harness_done(&h);
}

TestSuite(nlm, .init = setup, .fini = teardown, .timeout = 60);

static void lock_init(TestCall *t, enum NfsProc proc, uint64_t id, uint32_t svid, uint64_t offset, uint64_t length) {
        test_call_init(&h, t, proc, id);
        t->call.args.lock.caller = "node";
        t->call.args.lock.owner = "owner@node";
        t->call.args.lock.svid = svid;
        t->call.args.lock.offset = offset;
        t->call.args.lock.length = length;
        t->call.args.lock.exclusive = true;
}

static int run(enum NfsProc proc, uint32_t svid, uint64_t offset, uint64_t length) {
        TestCall t;

        lock_init(&t, proc, 5, svid, offset, length);
        return test_call_run(&t);
}

Test(nlm, lock_test_unlock) {
        FakeLock locks[8];
        TestCall t;

        cr_assert_eq(run(NLM_NULL, 0, 0, 0), 0);
        cr_assert_eq(run(NLM_LOCK, 1, 10, 10), 0);
        cr_assert_eq(fakenfs_locks(h.fake, 5, locks, 8), 1);
        cr_assert_eq(locks[0].start, 10);
        cr_assert_eq(locks[0].end, 19);
        cr_assert_eq(locks[0].svid, 1);
        cr_assert(locks[0].exclusive);
        cr_assert_str_eq(locks[0].caller, "node");
        cr_assert_eq(memcmp(locks[0].owner, "owner@node", 10), 0);
        cr_assert_eq(run(NLM_LOCK, 1, 10, 10), 0, "once more, by its holder");
        cr_assert_eq(run(NLM_LOCK, 2, 19, 1), EAGAIN);
        cr_assert_eq(run(NLM_LOCK, 2, 20, 0), 0);

        lock_init(&t, NLM_TEST, 5, 2, 0, 0);
        cr_assert_eq(test_call_run(&t), EAGAIN);
        cr_assert_eq(t.call.status, NLM_DENIED);
        cr_assert_eq(t.call.res.holder.svid, 1);
        cr_assert_eq(t.call.res.holder.offset, 10);
        cr_assert_eq(t.call.res.holder.length, 10);
        cr_assert(t.call.res.holder.exclusive);
        lock_init(&t, NLM_TEST, 5, 2, 0, 10);
        cr_assert_eq(test_call_run(&t), 0);

        cr_assert_eq(run(NLM_UNLOCK, 1, 14, 2), 0);
        cr_assert_eq(fakenfs_locks(h.fake, 5, locks, 8), 3);
        cr_assert_eq(run(NLM_CANCEL, 1, 14, 2), 0);
        cr_assert_eq(h.stats.calls[NLM_LOCK], 4);
        cr_assert_eq(h.stats.errors[NLM_LOCK], 1);
}

/* The owner that other clients send may be any bytes. */
Test(nlm, a_holder_whose_owner_is_not_text) {
        TestCall t;

        fakenfs_hold_lock(h.fake, 5, 77, true, 100, 0);
        lock_init(&t, NLM_TEST, 5, 1, 0, 0);
        cr_assert_eq(test_call_run(&t), EAGAIN);
        cr_assert_eq(t.call.res.holder.svid, 77);
        cr_assert_eq(t.call.res.holder.offset, 100);
        cr_assert_eq(t.call.res.holder.length, 0);
}

Test(nlm, statuses) {
        static const struct {
                uint32_t status;
                int err;
        } cases[] = {
                { NLM_DENIED, EAGAIN },       { NLM_DENIED_NOLOCKS, ENOLCK },
                { NLM_BLOCKED, EAGAIN },      { NLM_DEADLOCK, EDEADLK },
                { NLM_ROFS, EROFS },          { NLM_STALE_FH, ESTALE },
                { NLM_FBIG, EOVERFLOW },      { NLM_FAILED, ENOLCK },
                { NLM_DENIED_GRACE, ENOLCK }, { 10, ENOLCK },
                { 0xffffffff, ENOLCK },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                TestCall t;

                fakenfs_fault(h.fake, FAKE_NLM(2), FAKE_STATUS, cases[i].status, 0, 1);
                lock_init(&t, NLM_LOCK, 5, 1, 0, 0);
                cr_assert_eq(test_call_run(&t), cases[i].err, "%u", cases[i].status);
                cr_assert_eq(t.call.status, cases[i].status);
        }
        cr_assert_eq(h.stats.jukebox, 0, "the grace period is the caller's business");
}

Test(nlm, grace) {
        TestCall t;

        fakenfs_set_grace(h.fake, true);
        lock_init(&t, NLM_LOCK, 5, 1, 0, 0);
        cr_assert_eq(test_call_run(&t), ENOLCK);
        cr_assert_eq(t.call.status, NLM_DENIED_GRACE);
        lock_init(&t, NLM_LOCK, 5, 1, 0, 0);
        t.call.args.lock.reclaim = true;
        cr_assert_eq(test_call_run(&t), 0);
        fakenfs_set_grace(h.fake, false);
        lock_init(&t, NLM_LOCK, 5, 1, 0, 0);
        t.call.args.lock.reclaim = true;
        cr_assert_eq(test_call_run(&t), ENOLCK);
        cr_assert_eq(t.call.status, NLM_DENIED_GRACE);
}

/* A connection that breaks: sent again under the same XID, and whoever keeps locks hears of the new one. */
Test(nlm, reconnect) {
        FakeRequest history[64];
        uint32_t n, xid = 0, n_locks = 0;

        cr_assert_eq(run(NLM_LOCK, 1, 0, 1), 0);
        cr_assert_eq(n_connected, 1);
        fakenfs_fault(h.fake, FAKE_NLM(2), FAKE_CLOSE_AFTER, 0, 0, 1);
        cr_assert_eq(run(NLM_LOCK, 1, 5, 1), 0);
        cr_assert_eq(n_connected, 2);
        n = fakenfs_history(h.fake, history, ELEMENTSOF(history));
        for (uint32_t i = 1; i < n; i++) {
                if (history[i].key != FAKE_NLM(2))
                        continue;
                if (n_locks++ == 1)
                        cr_assert_eq(history[i].xid, xid);
                xid = history[i].xid;
        }
        cr_assert_eq(n_locks, 2, "after the first");
        cr_assert_eq(h.stats.resent[NLM_LOCK], 1);
}

static void wrong(enum NfsProc proc, enum FakeAction action, uint32_t arg) {
        fakenfs_clear(h.fake);
        fakenfs_fault(h.fake, FAKE_NLM((int) proc - NLM_NULL), action, arg, 0, 1);
        cr_assert_eq(run(proc, 1, 0, 0), EIO, "%s %d %x", nfs_proc_name(proc), (int) action, arg);
        cr_assert_eq(run(NLM_NULL, 0, 0, 0), 0, "the call after it");
}

/* Lengths that lie: of the cookie and of the holder's owner. Under AddressSanitizer. */
Test(nlm, forged) {
        static const uint32_t lengths[] = {
                0, 3, 5000, 65536, 1 << 20, 0x7ffffffc, 0x7fffffff, 0x80000000, 0xffffff00, 0xffffffd8, 0xfffffffc, 0xffffffff,
        };

        fakenfs_hold_lock(h.fake, 5, 77, true, 0, 0);
        for (size_t i = 0; i < ELEMENTSOF(lengths); i++) {
                for (int proc = NLM_LOCK; proc <= NLM_UNLOCK; proc++)
                        wrong((enum NfsProc) proc, FAKE_LENGTH, lengths[i]);
                if (lengths[i] > 1000) /* shorter ones shift what follows: a holder that may be */
                        wrong(NLM_TEST, FAKE_LENGTH, lengths[i]);
        }
        for (int proc = NLM_TEST; proc <= NLM_UNLOCK; proc++) {
                wrong((enum NfsProc) proc, FAKE_NAME, 0);
                for (int round = 0; round < 20; round++) {
                        TestCall t;

                        fakenfs_fault(h.fake, FAKE_NLM(proc - NLM_NULL), FAKE_GARBAGE, 0, 0, 1);
                        lock_init(&t, (enum NfsProc) proc, 5, 1, 0, 0);
                        cr_assert_geq(test_call_run(&t), 0);
                        fakenfs_clear(h.fake);
                }
        }
}

/* A machine that is up again: what it held is free, what others hold is not; and a server that cannot be told. */
Test(nlm, locks_of_a_former_life) {
        NfsMountConfig config = { .cred = &test_cred };
        NfsAddr addr = h.config.addrs[0];
        uint16_t port = fakenfs_port(h.fake);
        FakeLock locks[8];
        bool sent;

        cr_assert_eq(run(NLM_LOCK, 1, 10, 10), 0);
        cr_assert_eq(run(NLM_LOCK, 2, 30, 0), 0);
        fakenfs_hold_lock(h.fake, 5, 77, true, 0, 5);
        cr_assert_eq(nfs_locks_free(&config, &addr, port, "another node", 2000, &sent), 0);
        cr_assert_eq(fakenfs_locks(h.fake, 5, locks, 8), 3);
        cr_assert_eq(nfs_locks_free(&config, &addr, port, "node", 2000, &sent), 0);
        cr_assert_eq(fakenfs_locks(h.fake, 5, locks, 8), 1);
        cr_assert_eq(locks[0].svid, 77);

        fakenfs_fault(h.fake, FAKE_NLM(23), FAKE_DROP, 0, 0, 1);
        cr_assert_eq(nfs_locks_free(&config, &addr, port, "node", 300, &sent), -ETIMEDOUT);
        cr_assert(sent);
}

Test(nlm, cancelled_in_flight) {
        TestCall t;

        fakenfs_fault(h.fake, FAKE_NLM(2), FAKE_DELAY, 2000, 0, 1);
        lock_init(&t, NLM_LOCK, 5, 1, 0, 0);
        test_call_send(&t);
        cr_assert(harness_until(&h, fakenfs_seen(h.fake, FAKE_NLM(2)) == 1));
        nfs_call_cancel(&t.call);
        cr_assert(harness_wait(&h, &t.n_done, 1, 1000));
        cr_assert_eq(t.call.err, EINTR);
        cr_assert_eq(run(NLM_UNLOCK, 1, 0, 0), 0);
}

/* ---- how the mount finds it ---- */

static NfsMountResult result;
static char message[512];

static enum NfsMountError mount_with(NfsMountConfig *config) {
        config->host = "127.0.0.1";
        config->path = "/export";
        config->cred = &test_cred;
        config->timeout_ms = 3000;
        config->port = config->mountport = fakenfs_port(h.fake);
        message[0] = '\0';
        return nfs_export_mount(config, &result, message, sizeof message);
}

Test(nlm, mount_with_a_port_given) {
        NfsMountConfig config = { .nlm = NFS_NLM_WANTED, .nlmport = fakenfs_port(h.fake) };

        cr_assert_eq(mount_with(&config), NFS_MOUNT_OK, "%s", message);
        cr_assert_eq(result.nlmport, fakenfs_port(h.fake));
        config.nlm = NFS_NLM_UNUSED;
        cr_assert_eq(mount_with(&config), NFS_MOUNT_OK);
        cr_assert_eq(result.nlmport, 0);
}

Test(nlm, mount_where_there_is_none) {
        NfsMountConfig config = { .nlm = NFS_NLM_WANTED, .nlmport = fakenfs_port(h.fake) };

        fakenfs_fault(h.fake, FAKE_NLM(0), FAKE_ACCEPT, 1, 0, 0); /* PROG_UNAVAIL */
        cr_assert_eq(mount_with(&config), NFS_MOUNT_OK, "%s", message);
        cr_assert_eq(result.nlmport, 0);
        config.nlm = NFS_NLM_REQUIRED;
        cr_assert_eq(mount_with(&config), NFS_MOUNT_NO_LOCKS);
        cr_assert(strstr(message, "nolock"), "%s", message);
        fakenfs_clear(h.fake);
        config.nlmport = 1; /* nobody listens there */
        cr_assert_eq(mount_with(&config), NFS_MOUNT_NO_LOCKS);
        cr_assert(strstr(message, "port 1 "), "%s", message);
}

/* The portmapper is at port 111 or nowhere: as root only, and if the port is free. */
Test(nlm, mount_asks_the_portmapper) {
        FakeNfsConfig portmapper = { .port = 111, .nlm_port = fakenfs_port(h.fake) };
        NfsMountConfig config = { .nlm = NFS_NLM_REQUIRED };
        FakeNfs *pmap = fakenfs_start(&portmapper);
        NfsAddr addr = h.config.addrs[0];
        FakeLock locks[8];
        bool sent;

        if (!pmap)
                cr_skip("port 111 is not ours to have");
        cr_assert_eq(mount_with(&config), NFS_MOUNT_OK, "%s", message);
        cr_assert_eq(result.nlmport, fakenfs_port(h.fake));
        cr_assert_eq(fakenfs_seen(pmap, FAKE_GETPORT), 1);

        /* where the lock manager was when the locks were noted, and no more; where it is, and cannot do it */
        cr_assert_eq(run(NLM_LOCK, 1, 10, 10), 0);
        cr_assert_eq(nfs_locks_free(&config, &addr, 1, "node", 2000, &sent), 0);
        cr_assert_eq(fakenfs_locks(h.fake, 5, locks, 8), 0);
        cr_assert_eq(fakenfs_seen(pmap, FAKE_GETPORT), 2);
        fakenfs_fault(h.fake, FAKE_NLM(23), FAKE_ACCEPT, 3, 0, 1);
        cr_assert_eq(nfs_locks_free(&config, &addr, result.nlmport, "node", 2000, &sent), -EREMOTEIO);
        pmap = fakenfs_stop(pmap);
        cr_assert_eq(nfs_locks_free(&config, &addr, 1, "node", 2000, &sent), -ECONNREFUSED);
        cr_assert_not(sent);

        cr_assert_eq(mount_with(&config), NFS_MOUNT_NO_LOCKS);
        cr_assert(strstr(message, "portmapper"), "%s", message);
        portmapper.nlm_port = 1; /* not registered */
        pmap = fakenfs_start(&portmapper);
        cr_assert(pmap);
        cr_assert_eq(mount_with(&config), NFS_MOUNT_NO_LOCKS);
        cr_assert(strstr(message, "knows none"), "%s", message);
        config.nlm = NFS_NLM_WANTED;
        cr_assert_eq(mount_with(&config), NFS_MOUNT_OK);
        cr_assert_eq(result.nlmport, 0);
        pmap = fakenfs_stop(pmap);
}
