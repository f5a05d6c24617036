/*
 * The connection as such: time-outs, cancelling, reconnecting without spinning, addresses, source ports.
 */
#include <criterion/criterion.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "harness.h"

static Harness h;

static void setup(void) {
        harness_prepare(&h);
}

static void teardown(void) {
        harness_done(&h);
}

TestSuite(conn, .init = setup, .fini = teardown, .timeout = 60);

static uint64_t cpu_us(void) {
        struct rusage usage;

        (void) getrusage(RUSAGE_SELF, &usage);
        return (uint64_t) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
               (uint64_t) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* ---- soft ---- */

/* Time-outs after 300, 600 and 900 ms. */
static void connect_soft(void) {
        h.config.timeo_ms = 300;
        h.config.soft = true;
        harness_connect(&h);
}

/* The machine may stall for so long, too. */
static bool answers(void) {
        for (int i = 0; i < 3; i++)
                if (test_getattr(&h, 2) == 0)
                        return true;
        return false;
}

static void soft_call_ends(int want_err) {
        uint64_t start = now_ns(), took;

        cr_assert_eq(test_getattr(&h, 2), want_err);
        took = (now_ns() - start) / NSEC_PER_MSEC;
        cr_assert(took >= 880 && took < 8000, "%lu ms", took);
        cr_assert_eq(nfs_conn_in_flight(h.conn), 0);
}

Test(conn, soft_with_a_hung_server) {
        connect_soft();
        cr_assert(answers());
        h.n_down = h.n_up = 0;
        fakenfs_pause(h.fake, true);
        soft_call_ends(EIO);
        soft_call_ends(EIO);
        cr_assert_eq(h.n_down, 1);
        fakenfs_pause(h.fake, false);
        cr_assert(answers());
        cr_assert_eq(h.n_up, 1);
}

Test(conn, softerr_says_so) {
        h.config.softerr = true;
        connect_soft();
        fakenfs_pause(h.fake, true);
        soft_call_ends(ETIMEDOUT);
}

Test(conn, soft_while_refused) {
        fakenfs_listen(h.fake, false);
        harness_run(&h, 50);
        connect_soft();
        soft_call_ends(EIO);
        soft_call_ends(EIO);
        cr_assert_eq(h.n_down, 1);
        fakenfs_listen(h.fake, true);
        cr_assert(harness_until(&h, nfs_conn_is_up(h.conn)));
        cr_assert_eq(h.n_up, 1, "nobody had to ask");
        cr_assert(answers());
}

Test(conn, soft_with_a_server_that_closes) {
        fakenfs_fault(h.fake, NFS_GETATTR, FAKE_CLOSE, 0, 0, 0);
        connect_soft();
        soft_call_ends(EIO);
}

/* ---- hard, and not spinning ---- */

Test(conn, calls_wait_for_the_server) {
        TestCall t[10];
        uint64_t cpu;

        fakenfs_listen(h.fake, false);
        harness_run(&h, 50);
        harness_connect(&h);
        for (int i = 0; i < 10; i++) {
                test_call_init(&h, &t[i], NFS_GETATTR, (uint64_t) i + 2);
                test_call_send(&t[i]);
        }
        cpu = cpu_us();
        harness_run(&h, 2000);
        cr_assert_lt(cpu_us() - cpu, 300000);
        cr_assert_eq(t[0].n_done, 0);
        cr_assert(!nfs_conn_is_up(h.conn));
        (void) harness_until(&h, h.stats.connect_failures >= 3);
        cr_assert(h.stats.connect_failures >= 3 && h.stats.connect_failures <= 7, "%lu", h.stats.connect_failures);
        fakenfs_listen(h.fake, true);
        for (int i = 0; i < 10; i++)
                cr_assert(harness_wait(&h, &t[i].n_done, 1, 10000));
        for (int i = 1; i < 10; i++)
                cr_assert_gt(t[i].order, t[i - 1].order);
        cr_assert_eq(t[9].call.n_sent, 1);
}

Test(conn, a_server_that_accepts_and_closes) {
        TestCall t;

        fakenfs_fault(h.fake, NFS_GETATTR, FAKE_CLOSE, 0, 0, 0);
        harness_connect(&h);
        test_call_init(&h, &t, NFS_GETATTR, 2);
        test_call_send(&t);
        harness_run(&h, 3000);
        cr_assert_lt(fakenfs_accepted(h.fake), 8);
        fakenfs_clear(h.fake);
        cr_assert(harness_wait(&h, &t.n_done, 1, 10000));
        cr_assert_eq(t.call.err, 0);
}

Test(conn, one_call_that_kills_every_connection) {
        static TestCall poison, other;
        uint64_t cpu = cpu_us(), end = now_ns() + 2 * NSEC_PER_SEC;

        fakenfs_fault(h.fake, NFS_ACCESS, FAKE_CLOSE, 0, 0, 0);
        harness_connect(&h);
        test_call_init(&h, &poison, NFS_ACCESS, 2);
        test_call_send(&poison);
        while (now_ns() < end) {
                test_call_init(&h, &other, NFS_GETATTR, 2);
                cr_assert_neq(test_call_run(&other), -1);
                harness_run(&h, 5);
        }
        cr_assert_lt(fakenfs_accepted(h.fake), 30);
        cr_assert_lt(cpu_us() - cpu, 500000);
        nfs_call_cancel(&poison.call);
        cr_assert(harness_wait(&h, &poison.n_done, 1, 5000));
}

Test(conn, a_connection_that_lasted_is_replaced_at_once) {
        uint64_t start, best = UINT64_MAX;

        harness_connect(&h);
        cr_assert_eq(test_getattr(&h, 2), 0);
        for (unsigned i = 0; i < 5 && best >= 60 * NSEC_PER_MSEC; i++) {
                harness_run(&h, 1100);
                start = now_ns();
                fakenfs_kick(h.fake);
                cr_assert(harness_until(&h, h.stats.connects == i + 2));
                best = MIN(best, now_ns() - start);
                cr_assert(nfs_conn_is_up(h.conn));
        }
        cr_assert_lt(best, 60 * NSEC_PER_MSEC);
        cr_assert_eq(h.stats.connect_failures, 0);
}

/* ---- cancelling ---- */

Test(conn, cancel_in_flight) {
        TestCall t;

        harness_connect(&h);
        cr_assert_eq(test_getattr(&h, 2), 0);
        fakenfs_fault(h.fake, NFS_GETATTR, FAKE_DELAY, 2000, 0, 1);
        test_call_init(&h, &t, NFS_GETATTR, 2);
        test_call_send(&t);
        cr_assert(harness_until(&h, fakenfs_seen(h.fake, NFS_GETATTR) == 2));
        nfs_call_cancel(&t.call);
        cr_assert_eq(t.n_done, 0, "never inside nfs_call_cancel()");
        nfs_call_cancel(&t.call);
        cr_assert(harness_wait(&h, &t.n_done, 1, 5000));
        cr_assert_eq(t.call.err, EINTR);
        harness_run(&h, 2500); /* the reply comes and finds nobody */
        cr_assert_eq(t.n_done, 1);
        cr_assert_eq(h.stats.cancels, 1);
        cr_assert_eq(test_getattr(&h, 3), 0);
        cr_assert_eq(h.stats.connects, 1);
}

Test(conn, cancel_before_it_is_sent_and_while_down) {
        TestCall t;

        harness_connect(&h);
        test_call_init(&h, &t, NFS_GETATTR, 2);
        test_call_send(&t);
        nfs_call_cancel(&t.call);
        cr_assert(harness_wait(&h, &t.n_done, 1, 5000));
        cr_assert_eq(t.call.err, EINTR);
        cr_assert_eq(test_getattr(&h, 2), 0);

        fakenfs_listen(h.fake, false);
        cr_assert(harness_until(&h, !nfs_conn_is_up(h.conn)));
        test_call_init(&h, &t, NFS_GETATTR, 2);
        test_call_send(&t);
        harness_run(&h, 100);
        nfs_call_cancel(&t.call);
        cr_assert(harness_wait(&h, &t.n_done, 1, 5000));
        cr_assert_eq(t.call.err, EINTR);
        cr_assert_eq(nfs_conn_in_flight(h.conn), 0);
}

Test(conn, cancel_while_delayed) {
        TestCall t;

        harness_connect(&h);
        fakenfs_fault(h.fake, NFS_GETATTR, FAKE_STATUS, 10008, 0, 0);
        test_call_init(&h, &t, NFS_GETATTR, 2);
        test_call_send(&t);
        cr_assert(harness_until(&h, h.stats.jukebox == 1));
        nfs_call_cancel(&t.call);
        cr_assert(harness_wait(&h, &t.n_done, 1, 5000));
        cr_assert_eq(t.call.err, EINTR);
        harness_run(&h, 400);
        cr_assert_eq(fakenfs_seen(h.fake, NFS_GETATTR), 1);
}

/* After a cancelled WRITE the caller's data is gone; what libnfs still has to send must not be it. */
Test(conn, cancelled_writes_leave_no_pointers) {
        enum { N = 16, SIZE = 1 << 20 };
        static TestCall t[N];
        void *data[N];

        harness_connect(&h);
        cr_assert_eq(test_getattr(&h, 2), 0);
        fakenfs_pause(h.fake, true);
        for (int i = 0; i < N; i++) {
                data[i] = malloc(SIZE);
                memset(data[i], i, SIZE);
                test_call_init(&h, &t[i], NFS_WRITE, 2);
                t[i].call.args.write.data = data[i];
                t[i].call.args.write.count = SIZE;
                test_call_send(&t[i]);
        }
        harness_run(&h, 50);
        for (int i = 0; i < N; i++)
                nfs_call_cancel(&t[i].call);
        for (int i = 0; i < N; i++) {
                cr_assert(harness_wait(&h, &t[i].n_done, 1, 5000));
                free(data[i]);
        }
        fakenfs_pause(h.fake, false);
        cr_assert_eq(test_getattr(&h, 2), 0);
}

/* Sent again on a connection that takes nothing, duplicates would pile up behind it. */
Test(conn, duplicates_wait_until_the_last_ones_have_left) {
        enum { N = 16, SIZE = 1 << 20 };
        static TestCall t[N];
        static char data[SIZE];

        h.config.timeo_ms = 60000;
        harness_connect(&h);
        cr_assert_eq(test_getattr(&h, 2), 0);
        fakenfs_pause(h.fake, true);
        for (int i = 0; i < N; i++) {
                test_call_init(&h, &t[i], NFS_WRITE, 2);
                t[i].call.args.write.data = data;
                t[i].call.args.write.count = SIZE;
                test_call_send(&t[i]);
        }
        harness_run(&h, 50);
        fakenfs_kick(h.fake);
        cr_assert(harness_until(&h, h.stats.connects == 2 && h.stats.resent[NFS_WRITE] == N));
        harness_run(&h, 1500);
        cr_assert_eq(h.stats.connects, 2);
        cr_assert_eq(h.stats.resent[NFS_WRITE], N);
        fakenfs_pause(h.fake, false);
        for (int i = 0; i < N; i++) {
                cr_assert(harness_wait(&h, &t[i].n_done, 1, 5000));
                cr_assert_eq(t[i].call.err, 0);
        }
}

Test(conn, freeing_ends_every_call) {
        TestCall sent, delayed, cancelled;

        harness_connect(&h);
        fakenfs_fault(h.fake, NFS_GETATTR, FAKE_DROP, 0, 0, 0);
        fakenfs_fault(h.fake, NFS_ACCESS, FAKE_STATUS, 10008, 0, 0);
        test_call_init(&h, &sent, NFS_GETATTR, 2);
        test_call_init(&h, &delayed, NFS_ACCESS, 2);
        test_call_init(&h, &cancelled, NFS_GETATTR, 2);
        test_call_send(&sent);
        test_call_send(&delayed);
        test_call_send(&cancelled);
        cr_assert(harness_until(&h, h.stats.jukebox == 1 && fakenfs_seen(h.fake, NFS_GETATTR) == 2));
        nfs_call_cancel(&cancelled.call);
        h.conn = nfs_conn_free(h.conn);
        cr_assert(sent.n_done == 1 && delayed.n_done == 1 && cancelled.n_done == 1);
        cr_assert(sent.call.err == EINTR && delayed.call.err == EINTR && cancelled.call.err == EINTR);
}

/* ---- addresses and ports ---- */

Test(conn, every_address_is_tried) {
        uint64_t start, best = UINT64_MAX;
        unsigned n = 0;

        h.addrs[0] = test_addr("127.0.0.9");
        h.addrs[1] = test_addr("127.0.0.10");
        h.addrs[2] = test_addr("127.0.0.1");
        h.config.n_addrs = 3;
        while (n < 5 && best >= 90 * NSEC_PER_MSEC) {
                h.conn = nfs_conn_free(h.conn);
                start = now_ns();
                harness_connect(&h);
                cr_assert_eq(test_getattr(&h, 2), 0);
                best = MIN(best, now_ns() - start);
                cr_assert_eq(h.stats.connect_failures, 2 * ++n);
        }
        cr_assert_lt(best, 90 * NSEC_PER_MSEC, "no pause between addresses");
        harness_run(&h, 1100);
        fakenfs_kick(h.fake);
        cr_assert_eq(test_getattr(&h, 2), 0);
        cr_assert_eq(h.stats.connect_failures, 2 * n, "the one that worked is tried first");
}

static uint16_t source_port(bool resvport) {
        FakeRequest seen[FAKE_HISTORY];
        uint32_t n;

        h.config.resvport = resvport;
        harness_connect(&h);
        cr_assert_eq(test_getattr(&h, 2), 0);
        h.conn = nfs_conn_free(h.conn);
        n = fakenfs_history(h.fake, seen, FAKE_HISTORY);
        return seen[n - 1].source_port;
}

Test(conn, source_ports) {
        cr_assert_geq(source_port(false), 1024);
        if (geteuid() == 0)
                cr_assert_lt(source_port(true), 1024);
        cr_assert_geq(source_port(false), 1024, "and the capability comes and goes");
}

/* Without the capability that a port below 1024 wants: the server is to know its duplicates all the same. */
Test(conn, the_source_port_stays) {
        FakeRequest seen[8];

        if (geteuid() == 0)
                cr_assert_eq(seteuid(65534), 0);
        h.config.resvport = true;
        harness_connect(&h);
        cr_assert_eq(test_getattr(&h, 2), 0);
        fakenfs_kick(h.fake);
        cr_assert_eq(test_getattr(&h, 2), 0);
        cr_assert_eq(fakenfs_history(h.fake, seen, 8), 2);
        cr_assert_eq(h.stats.connects, 2);
        cr_assert_geq(seen[0].source_port, 1024);
        cr_assert_eq(seen[0].source_port, seen[1].source_port);
        if (getuid() == 0) /* a leak checker wants to be what it was */
                cr_assert(seteuid(0) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
}

Test(conn, bad_configurations) {
        NfsConn *conn = NULL;

        h.config.n_addrs = 0;
        cr_assert_eq(nfs_conn_new(h.reactor, &h.config, &conn), -EINVAL);
        cr_assert_null(conn);
}
