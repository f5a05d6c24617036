/*
 * What a server or a network can do to one call short of lying about lengths (test-forged.c): each call is
 * done exactly once, with the right answer or the right error, and those after it work.
 */
#include <criterion/criterion.h>
#include <sys/resource.h>

#include "harness.h"

static Harness h;

static void setup(void) {
        harness_init(&h);
}

static void teardown(void) {
        harness_done(&h);
}

TestSuite(faults, .init = setup, .fini = teardown, .timeout = 60);

static void reconnect(uint32_t timeo_ms) {
        h.conn = nfs_conn_free(h.conn);
        h.config.timeo_ms = timeo_ms;
        harness_connect(&h);
        cr_assert_eq(test_getattr(&h, 2), 0);
}

/* GETATTR of f0 with the fault on its first sending only; then one that must work. */
static int once(enum FakeAction action, uint32_t arg, uint32_t times) {
        TestCall t;
        int r;

        fakenfs_fault(h.fake, NFS_GETATTR, action, arg, 0, times);
        test_call_init(&h, &t, NFS_GETATTR, 2);
        r = test_call_run(&t);
        harness_run(&h, 20);
        cr_assert_eq(t.n_done, 1);
        fakenfs_clear(h.fake);
        cr_assert_eq(test_getattr(&h, 3), 0, "the call after it");
        return r;
}

typedef struct Healing {
        enum FakeAction action;
        uint32_t arg;
        uint64_t seen; /* how often the server sees the first call */
} Healing;

static void heals(const Healing *fault) {
        uint64_t before = fakenfs_seen(h.fake, NFS_GETATTR), seen;

        cr_assert_eq(once(fault->action, fault->arg, 1), 0, "%d %u", (int) fault->action, fault->arg);
        seen = fakenfs_seen(h.fake, NFS_GETATTR) - before;
        cr_assert_eq(seen, fault->seen + 1, "%d %u: %lu", (int) fault->action, fault->arg, seen);
        cr_assert_eq(h.stats.bad_replies, 0);
}

Test(faults, faults_that_heal) {
        static const Healing cases[] = {
                { FAKE_DELAY, 50, 1 },   { FAKE_CLOSE, 0, 2 },     { FAKE_CLOSE_AFTER, 0, 2 }, { FAKE_PARTIAL, 1, 2 },
                { FAKE_PARTIAL, 3, 2 },  { FAKE_PARTIAL, 4, 2 },   { FAKE_PARTIAL, 20, 2 },    { FAKE_PARTIAL, 100, 2 },
                { FAKE_FRAGMENT, 1, 1 }, { FAKE_FRAGMENT, 20, 1 }, { FAKE_TRICKLE, 60, 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                heals(&cases[i]);
        cr_assert_eq(h.stats.timeouts, 0);
}

Test(faults, faults_that_heal_after_a_time_out) {
        static const Healing cases[] = {
                { FAKE_DROP, 0, 2 },
                { FAKE_BAD_XID, 0, 2 },
                { FAKE_RAW_LENGTH, 1000, 2 },
        };

        reconnect(1500); /* longer than the machine stalls */
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                heals(&cases[i]);
        cr_assert_geq(h.stats.timeouts, ELEMENTSOF(cases), "and perhaps one that was slow");
}

static uint64_t peak_memory(void) {
        struct rusage usage;

        cr_assert_eq(getrusage(RUSAGE_SELF, &usage), 0);
        return (uint64_t) usage.ru_maxrss * 1024;
}

/* Who keeps what is sent without bound shall fail before the machine does. A sanitizer reserves more than that by itself. */
static void bound_memory(void) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cr_assert_eq(setrlimit(RLIMIT_AS, &(struct rlimit){ 1u << 30, 1u << 30 }), 0);
#endif
}

/* RFC 5531, section 11: a record ends with the fragment that says so. None here does, or it would be larger than any reply. */
Test(faults, records_without_an_end) {
        static const Healing cases[] = {
                { FAKE_ENDLESS, 1, 2 },
                { FAKE_ENDLESS, 64, 2 },
                { FAKE_ENDLESS, 1000, 2 },
                { FAKE_ENDLESS, 1 << 20, 2 },
                { FAKE_ENDLESS, 8 << 20, 2 },
                { FAKE_RAW_LENGTH, 8 << 20, 2 },
                { FAKE_RAW_LENGTH, 0x7fffffff, 2 },
        };
        uint64_t seen = 0, before;

        bound_memory();
        cr_assert_eq(test_getattr(&h, 2), 0);
        before = peak_memory();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                seen = fakenfs_seen(h.fake, NFS_GETATTR);
                cr_assert_eq(once(cases[i].action, cases[i].arg, 1), 0, "%d %u", (int) cases[i].action, cases[i].arg);
                cr_assert_eq(fakenfs_seen(h.fake, NFS_GETATTR) - seen, cases[i].seen + 1);
                cr_assert_eq(h.stats.bad_replies, i + 1);
                cr_assert_eq(h.stats.connects, i + 2);
        }
        cr_assert_lt(peak_memory() - before, 64u << 20, "%lu bytes", peak_memory() - before);
        cr_assert_eq(h.stats.timeouts, 0);
}

/* One connection after the other brings nothing else: they are made less and less often. */
Test(faults, records_without_an_end_again_and_again) {
        TestCall t;

        bound_memory();
        fakenfs_fault(h.fake, NFS_GETATTR, FAKE_ENDLESS, 100, 0, 0);
        test_call_init(&h, &t, NFS_GETATTR, 2);
        test_call_send(&t);
        harness_run(&h, 2000);
        cr_assert_eq(t.n_done, 0);
        cr_assert_leq(h.stats.connects, 6, "%lu, and between them 100, 200, 400, 800 ms", h.stats.connects);
        cr_assert_geq(h.stats.connects, 3);
        fakenfs_clear(h.fake);
        cr_assert(harness_wait(&h, &t.n_done, 1, 10000));
        cr_assert_eq(t.call.err, 0);
}

/* What comes is complete and of the right size, but nobody has asked for it, and there is always more. */
Test(faults, replies_that_nobody_asked_for) {
        static const uint32_t sizes[] = { 24, 1000, 1 << 20 };

        bound_memory();
        reconnect(300);
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                cr_assert_eq(once(FAKE_FLOOD, sizes[i], 1), 0, "%u", sizes[i]);
        cr_assert_geq(h.stats.timeouts, ELEMENTSOF(sizes));
        cr_assert_eq(h.stats.bad_replies, 0);
}

/* A record shorter than its contents leaves the stream out of step: the connection is to be made anew. */
Test(faults, a_short_record_marker) {
        reconnect(300);
        for (uint32_t len = 0; len < 64; len += 4) {
                int r = once(FAKE_RAW_LENGTH, len, 1);

                cr_assert(r == 0 || r == EIO, "length %u: %d", len, r);
        }
}

Test(faults, garbage_is_an_error_of_that_call) {
        for (int i = 0; i < 50; i++) {
                int r = once(FAKE_GARBAGE, 0, 1);

                cr_assert(r == EIO || r == EACCES || r == EOPNOTSUPP, "%d", r);
        }
        cr_assert_gt(h.stats.bad_replies, 0);
}

Test(faults, rpc_errors) {
        cr_assert_eq(once(FAKE_ACCEPT, 1, 1), EIO);
        cr_assert_eq(once(FAKE_ACCEPT, 2, 1), EIO);
        cr_assert_eq(once(FAKE_ACCEPT, 3, 1), EOPNOTSUPP);
        cr_assert_eq(once(FAKE_ACCEPT, 4, 1), EIO);
        cr_assert_eq(once(FAKE_ACCEPT, 5, 1), EIO);
        cr_assert_eq(once(FAKE_ACCEPT, 77, 1), EIO);
        cr_assert_eq(once(FAKE_DENY, 1, 1), EACCES);
        cr_assert_eq(once(FAKE_DENY, 5, 1), EACCES);
        cr_assert_eq(h.stats.connects, 1, "none of these is the connection's fault");
}

Test(faults, statuses_become_errnos) {
        cr_assert_eq(once(FAKE_STATUS, 70, 1), ESTALE);
        cr_assert_eq(once(FAKE_STATUS, 10001, 1), ESTALE);
        cr_assert_eq(once(FAKE_STATUS, 28, 1), ENOSPC);
        cr_assert_eq(once(FAKE_STATUS, 69, 1), EDQUOT);
        cr_assert_eq(once(FAKE_STATUS, 12345, 1), EIO);
}

Test(faults, jukebox_is_waited_out_under_a_new_xid) {
        uint64_t start = now_ns();
        FakeRequest seen[8];

        fakenfs_fault(h.fake, NFS_GETATTR, FAKE_STATUS, 10008, 0, 2);
        cr_assert_eq(test_getattr(&h, 2), 0);
        cr_assert_eq(h.stats.jukebox, 2);
        cr_assert_geq(now_ns() - start, 700 * NSEC_PER_MSEC, "250 ms and 500 ms");
        cr_assert_eq(fakenfs_history(h.fake, seen, 8), 3);
        cr_assert_neq(seen[0].xid, seen[1].xid);
        cr_assert_neq(seen[1].xid, seen[2].xid);
        cr_assert_eq(h.stats.connects, 1);
}

Test(faults, the_xid_stays_when_it_is_sent_again) {
        FakeRequest seen[8];

        fakenfs_fault(h.fake, NFS_REMOVE, FAKE_CLOSE_AFTER, 0, 0, 1);
        TestCall t;
        test_call_init(&h, &t, NFS_REMOVE, 1);
        t.call.args.name = "f1";
        cr_assert_eq(test_call_run(&t), 0);
        cr_assert_eq(t.call.n_sent, 2);
        cr_assert_eq(h.stats.resent[NFS_REMOVE], 1);
        cr_assert_eq(fakenfs_history(h.fake, seen, 8), 2);
        cr_assert_eq(seen[0].xid, seen[1].xid);
        cr_assert_eq(fakenfs_executed(h.fake, NFS_REMOVE), 2, "which is why XIDs matter");
}

Test(faults, a_lost_reply_while_others_are_answered) {
        TestCall lost, other;
        uint64_t start;

        reconnect(1000);
        start = now_ns();
        fakenfs_fault(h.fake, NFS_ACCESS, FAKE_DROP, 0, 0, 1);
        test_call_init(&h, &lost, NFS_ACCESS, 2);
        test_call_send(&lost);
        while (!lost.n_done && now_ns() - start < 10 * NSEC_PER_SEC) {
                test_call_init(&h, &other, NFS_GETATTR, 3);
                cr_assert_eq(test_call_run(&other), 0);
                harness_run(&h, 20);
        }
        cr_assert_eq(lost.n_done, 1);
        cr_assert_eq(lost.call.err, 0);
        cr_assert_geq(now_ns() - start, 3000 * NSEC_PER_MSEC, "not before its major time-out");
        cr_assert_eq(h.n_down, 0, "the server did respond");
}

/* With the time-outs of nfs(5). */
static void reconnect_patient(void) {
        reconnect(60000);
}

Test(faults, a_dropped_request_is_asked_again) {
        TestCall reading, removing;
        uint64_t start = now_ns();

        reconnect_patient();
        fakenfs_fault(h.fake, NFS_LOOKUP, FAKE_DROP, 0, 0, 1);
        fakenfs_fault(h.fake, NFS_REMOVE, FAKE_DROP, 0, 0, 1);
        test_call_init(&h, &removing, NFS_REMOVE, 1);
        removing.call.args.name = "f1";
        test_call_send(&removing);
        test_call_init(&h, &reading, NFS_LOOKUP, 1);
        reading.call.args.name = "f0";
        cr_assert_eq(test_call_run(&reading), 0);
        cr_assert_geq(now_ns() - start, 4900 * NSEC_PER_MSEC);
        cr_assert_eq(reading.call.n_sent, 1, "no other connection has seen this XID");
        cr_assert_eq(h.stats.resent[NFS_LOOKUP], 1);
        cr_assert_eq(removing.n_done, 0, "it changes something");
        cr_assert_eq(fakenfs_seen(h.fake, NFS_REMOVE), 1);
        cr_assert_eq(h.stats.connects, 1);
        h.conn = nfs_conn_free(h.conn); /* before the calls go */
}

Test(faults, dropped_requests_are_asked_again_few_at_once) {
        enum { N = 10 };
        TestCall dropped[N], later;

        reconnect_patient();
        fakenfs_fault(h.fake, NFS_READ, FAKE_DROP, 0, 0, N);
        for (int i = 0; i < N; i++) {
                test_call_init(&h, &dropped[i], NFS_READ, 2);
                dropped[i].call.args.read.count = 4096;
                test_call_send(&dropped[i]);
        }
        test_call_init(&h, &later, NFS_READ, 2);
        later.call.args.read.count = 4096;
        cr_assert_eq(test_call_run(&later), 0);
        cr_assert(harness_wait(&h, &dropped[3].n_done, 1, 10000));
        cr_assert_eq(dropped[0].call.err, 0);
        cr_assert_eq(dropped[4].n_done, 0);
        cr_assert(harness_wait(&h, &dropped[N - 1].n_done, 1, 10000));
        cr_assert_eq(h.stats.resent[NFS_READ], N);
}

Test(faults, a_slow_server_is_not_asked_again) {
        TestCall slow;
        uint64_t start = now_ns();

        reconnect_patient();
        fakenfs_fault(h.fake, NFS_READ, FAKE_DELAY, 7000, 0, 1);
        test_call_init(&h, &slow, NFS_READ, 2);
        slow.call.args.read.count = 4096;
        test_call_send(&slow);
        while (!slow.n_done && now_ns() - start < 15 * NSEC_PER_SEC) {
                cr_assert_eq(test_getattr(&h, 3), 0);
                harness_run(&h, 100);
        }
        cr_assert_eq(slow.n_done, 1);
        cr_assert_eq(slow.call.err, 0);
        cr_assert_eq(h.stats.resent[NFS_READ], 0);
}

Test(faults, order_and_exactly_once_over_kicks) {
        enum { N = 2000 };
        static TestCall t[N];
        static FakeRequest seen[FAKE_HISTORY];
        uint32_t n;
        int done = 0;

        cr_assert_eq(test_getattr(&h, 2), 0);
        fakenfs_pause(h.fake, true);
        for (int i = 0; i < N; i++) {
                test_call_init(&h, &t[i], NFS_GETATTR, (uint64_t) i + 2);
                test_call_send(&t[i]);
        }
        harness_run(&h, 50);
        cr_assert_eq(nfs_conn_in_flight(h.conn), N);
        fakenfs_kick(h.fake); /* all of them unread */
        fakenfs_pause(h.fake, false);
        for (int i = 0; i < N; i++)
                done += harness_wait(&h, &t[i].n_done, 1, 10000);
        cr_assert_eq(done, N);
        cr_assert_eq(nfs_conn_in_flight(h.conn), 0);
        for (int i = 0; i < N; i++) {
                cr_assert_eq(t[i].n_done, 1);
                cr_assert_eq(t[i].call.err, 0);
                cr_assert_eq(t[i].call.res.attr.fileid, (uint64_t) i + 2);
        }
        /* The last N requests came in the order they were first sent. */
        n = fakenfs_history(h.fake, seen, FAKE_HISTORY);
        cr_assert_geq(n, N);
        for (uint32_t i = 0; i < N; i++)
                cr_assert_eq(seen[n - N + i].id, i + 2);
}

Test(faults, a_hung_server_comes_back) {
        TestCall t;

        reconnect(300);
        h.n_down = h.n_up = 0;
        fakenfs_pause(h.fake, true);
        test_call_init(&h, &t, NFS_GETATTR, 2);
        test_call_send(&t);
        cr_assert(harness_wait(&h, &h.n_down, 1, 10000));
        harness_run(&h, 600);
        cr_assert_eq(t.n_done, 0, "hard");
        cr_assert_eq(h.n_down, 1);
        cr_assert_eq(h.n_up, 0);
        cr_assert_gt(h.stats.timeouts, 0);
        fakenfs_pause(h.fake, false);
        cr_assert(harness_wait(&h, &t.n_done, 1, 5000));
        cr_assert_eq(t.call.err, 0);
        cr_assert_eq(h.n_up, 1);
}
