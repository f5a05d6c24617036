/*
 * vfs/'s locks against a lock manager that misbehaves: what is not answered, answered with nonsense, blocked, refused for a
 * time; callers who do not wait for the answer; a server that restarts, with and without a grace period, at another
 * port; a worker that dies. Each time the server must hold in the end what the callers were told, and nothing else.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "volume.h"

#define ID 5 /* f3 */

static uint64_t nodeid, fh, fh2;

static void lock_start(TestOp *t, uint64_t owner, enum LockType type, uint64_t start, uint64_t end, bool wait) {
        VfsLock lock = { .type = type, .start = start, .end = end, .pid = (pid_t) owner };

        init(t);
        vfs_setlk(&t->op, nodeid, owner == 2 ? fh2 : fh, LOCK_POSIX, owner, &lock, wait);
}

static int lock(uint64_t owner, enum LockType type, uint64_t start, uint64_t end) {
        TestOp t;

        lock_start(&t, owner, type, start, end, false);
        return result(&t);
}

/* ---- what the server has ---- */

static uint32_t server_has(FakeLock *ret) {
        FakeLock locks[16];
        uint32_t n = fakenfs_locks(fake, ID, locks, ELEMENTSOF(locks));

        if (ret && n > 0)
                *ret = locks[0];
        return n;
}

/* Within five seconds. type NONE: nothing. */
static bool server_comes_to(enum LockType type, uint64_t start, uint64_t end) {
        uint64_t limit = now_ns() + 5 * NSEC_PER_SEC;
        FakeLock held = { 0 };

        for (;;) {
                uint32_t n = server_has(&held);

                if (type == LOCK_NONE ? n == 0
                                      : n == 1 && held.exclusive == (type == LOCK_EXCLUSIVE) && held.start == start &&
                                                held.end == (end == LOCK_END ? UINT64_MAX : end))
                        return true;
                if (now_ns() > limit)
                        return false;
                turn_for(10);
        }
}

static void setup(void) {
        volume_prepare(NFS_NLM_REQUIRED);
        worker_start();
        nodeid = file_find("f3");
        fh = file_open(nodeid, O_RDWR);
        fh2 = file_open(nodeid, O_RDWR);
}

static void teardown(void) {
        worker_end();
        volume_done();
}

TestSuite(locks, .init = setup, .fini = teardown, .timeout = 60);

/* ---- */

Test(locks, owners_are_kept_apart) {
        FakeLock held[4];
        TestOp t;

        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        cr_assert_eq(lock(2, LOCK_EXCLUSIVE, 9, 9), EAGAIN);
        cr_assert_eq(lock(2, LOCK_EXCLUSIVE, 10, LOCK_END), 0);
        cr_assert_eq(fakenfs_locks(fake, ID, held, ELEMENTSOF(held)), 2);
        cr_assert_neq(held[0].svid, held[1].svid);
        cr_assert_eq(fakenfs_executed(fake, FAKE_NLM(2)), 2, "what is known here is not asked for");
        fakenfs_hold_lock(fake, ID + 1, 7, true, 0, 0); /* of another file */

        init(&t);
        vfs_flush(&t.op, nodeid, fh2, 2);
        cr_assert_eq(result(&t), 0);
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 0, 9));
        init(&t);
        vfs_release(&t.op, nodeid, fh, false, 0); /* as of an open file description: they go with their fh */
        cr_assert_eq(result(&t), 0);
        cr_assert(server_comes_to(LOCK_NONE, 0, 0));
        cr_assert(turn_until(atomic_load(&memory->n_locks) == 0));
}

Test(locks, nonsense_for_an_answer) {
        static const enum FakeAction actions[] = { FAKE_GARBAGE, FAKE_NAME, FAKE_LENGTH };

        for (size_t i = 0; i < ELEMENTSOF(actions); i++) {
                fakenfs_fault(fake, FAKE_NLM(2), actions[i], 0xfffffff0, 0, 1);
                cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), EIO, "%zu", i);
                cr_assert(server_comes_to(LOCK_NONE, 0, 0), "it had granted it");
                fakenfs_clear(fake);
        }
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        /* an unlock is repeated until it is understood */
        fakenfs_fault(fake, FAKE_NLM(4), FAKE_GARBAGE, 0, 0, 1);
        (void) lock(1, LOCK_NONE, 0, LOCK_END);
        cr_assert(server_comes_to(LOCK_NONE, 0, 0));
        turn_for(1200);
        cr_assert_eq(lock(2, LOCK_EXCLUSIVE, 0, 9), 0);
}

Test(locks, a_connection_that_breaks) {
        fakenfs_fault(fake, FAKE_NLM(2), FAKE_CLOSE_AFTER, 0, 0, 1);
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        fakenfs_fault(fake, FAKE_NLM(2), FAKE_CLOSE, 0, 0, 1);
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 10, 19), 0);
        fakenfs_fault(fake, FAKE_NLM(4), FAKE_CLOSE_AFTER, 0, 0, 1);
        cr_assert_eq(lock(1, LOCK_NONE, 0, 9), 0);
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 10, 19));
        cr_assert_eq(atomic_load(&memory->n_locks_lost), 0);
}

/* It was not asked to block. */
Test(locks, blocked_is_cancelled) {
        TestOp t;

        fakenfs_fault(fake, FAKE_NLM(2), FAKE_STATUS, NLM_BLOCKED, 0, 1);
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), EAGAIN);
        cr_assert_eq(fakenfs_seen(fake, FAKE_NLM(3)), 1);
        fakenfs_fault(fake, FAKE_NLM(2), FAKE_STATUS, NLM_BLOCKED, 0, 2);
        lock_start(&t, 1, LOCK_EXCLUSIVE, 0, 9, true);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_seen(fake, FAKE_NLM(3)), 3);
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 0, 9));
}

Test(locks, grace_period_is_waited_out) {
        TestOp t, other;

        fakenfs_set_grace(fake, true);
        lock_start(&t, 1, LOCK_EXCLUSIVE, 0, 9, false);
        lock_start(&other, 2, LOCK_EXCLUSIVE, 20, 29, true);
        cr_assert_not(is_done(&t, 700));
        cr_assert_eq(other.n_done, 0);
        vfs_interrupt(&other.op);
        cr_assert_eq(result(&other), EINTR);
        fakenfs_set_grace(fake, false);
        cr_assert_eq(result(&t), 0);
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 0, 9));
}

Test(locks, statuses) {
        static const struct {
                uint32_t status;
                int err;
        } cases[] = { { NLM_DENIED_NOLOCKS, ENOLCK }, { NLM_DEADLOCK, EDEADLK }, { NLM_STALE_FH, ESTALE },
                      { NLM_FBIG, EOVERFLOW },        { NLM_FAILED, ENOLCK },    { 4711, ENOLCK } };
        TestOp t;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                fakenfs_fault(fake, FAKE_NLM(2), FAKE_STATUS, cases[i].status, 0, 1);
                lock_start(&t, 1, LOCK_EXCLUSIVE, 0, 9, true);
                cr_assert_eq(result(&t), cases[i].err);
        }
        cr_assert(turn_until(atomic_load(&memory->n_locks) == 0));
        turn_for(20);
        for (uint32_t i = 0; i < atomic_load(&memory->locks_high); i++)
                cr_assert_eq(atomic_load(&memory->locks[i].state), LOCK_FREE);
}

Test(locks, test_of_a_lock) {
        VfsLock wanted = { .type = LOCK_EXCLUSIVE, .start = 0, .end = LOCK_END };
        TestOp t;

        fakenfs_hold_lock(fake, ID, 7, false, 100, 0);
        init(&t);
        vfs_getlk(&t.op, nodeid, fh, 1, &wanted);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(t.lock.type, LOCK_SHARED);
        cr_assert_eq(t.lock.start, 100);
        cr_assert_eq(t.lock.end, LOCK_END);
        wanted.end = 99;
        init(&t);
        vfs_getlk(&t.op, nodeid, fh, 1, &wanted);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(t.lock.type, LOCK_NONE);
}

/* ---- callers who go ---- */

Test(locks, interrupted_in_flight) {
        TestOp t;

        fakenfs_fault(fake, FAKE_NLM(2), FAKE_DELAY, 2000, 0, 1);
        lock_start(&t, 1, LOCK_EXCLUSIVE, 0, 9, true);
        cr_assert(turn_until(fakenfs_seen(fake, FAKE_NLM(2)) == 1));
        vfs_interrupt(&t.op);
        cr_assert(is_done(&t, 1000));
        cr_assert_eq(t.err, EINTR);
        /* the same again, as after a restarted system call: it waits until that is settled, and gets it */
        lock_start(&t, 1, LOCK_EXCLUSIVE, 5, 6, true);
        cr_assert_eq(result(&t), 0);
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 5, 6));
}

/* What was held before is held afterwards, as it was. */
Test(locks, interrupted_upgrade) {
        TestOp t;

        cr_assert_eq(lock(1, LOCK_SHARED, 0, 9), 0);
        fakenfs_fault(fake, FAKE_NLM(2), FAKE_DELAY, 2000, 0, 1);
        lock_start(&t, 1, LOCK_EXCLUSIVE, 0, 19, true);
        cr_assert(turn_until(fakenfs_seen(fake, FAKE_NLM(2)) == 2));
        vfs_interrupt(&t.op);
        cr_assert_eq(result(&t), EINTR);
        cr_assert(server_comes_to(LOCK_SHARED, 0, 9));
        cr_assert_eq(lock(2, LOCK_SHARED, 5, 5), 0);
}

Test(locks, interrupted_while_polling) {
        uint64_t seen;
        TestOp t;

        fakenfs_hold_lock(fake, ID, 7, true, 0, 0);
        lock_start(&t, 1, LOCK_EXCLUSIVE, 0, 9, true);
        cr_assert_not(is_done(&t, 500));
        seen = fakenfs_seen(fake, FAKE_NLM(2));
        cr_assert_leq(seen, 5, "50, 100, 200.. ms: %u", (unsigned) seen);
        cr_assert(turn_until(t.n_waits >= 3));
        cr_assert_eq(atomic_load(&memory->n_lock_waiters), 1);
        vfs_interrupt(&t.op);
        cr_assert_eq(result(&t), EINTR);
        cr_assert_eq(atomic_load(&memory->n_lock_waiters), 0);
        seen = fakenfs_seen(fake, FAKE_NLM(2));
        turn_for(1200);
        cr_assert_eq(fakenfs_seen(fake, FAKE_NLM(2)), seen, "nobody asks any more");
        cr_assert_eq(server_has(NULL), 1);
}

/* The oldest first, whoever asks for how much. How long did handing it on take at most, in ns? */
static uint64_t handed_on_in_turn(void) {
        uint64_t begin, longest = 0;
        TestOp t[3];

        fakenfs_hold_lock(fake, ID, 7, true, 0, 0);
        for (unsigned i = 0; i < 3; i++) {
                lock_start(&t[i], i + 1, LOCK_EXCLUSIVE, 0, 9, true);
                cr_assert_not(is_done(&t[i], 100));
        }
        fakenfs_forget_locks(fake);
        for (unsigned i = 0; i < 3; i++) {
                cr_assert_eq(result(&t[i]), 0, "%u", i);
                for (unsigned k = i + 1; k < 3; k++)
                        cr_assert_eq(t[k].n_done, 0);
                cr_assert_eq(lock(i + 1, LOCK_NONE, 0, LOCK_END), 0);
                begin = now_ns();
                if (i < 2)
                        cr_assert_eq(result(&t[i + 1]), 0);
                longest = MAX(longest, now_ns() - begin);
        }
        return longest;
}

Test(locks, waiters_in_turn) {
        uint64_t best = UINT64_MAX;

        for (int i = 0; i < 10 && best >= 40 * NSEC_PER_MSEC; i++)
                best = MIN(best, handed_on_in_turn());
        cr_assert_lt(best, 40 * NSEC_PER_MSEC, "handed on at once");
}

/* ---- the server restarts ---- */

static void restart(bool grace) {
        fakenfs_forget_locks(fake);
        fakenfs_set_grace(fake, grace);
        fakenfs_kick(fake);
}

Test(locks, reclaimed_in_the_grace_period) {
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        restart(true);
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 0, 9));
        fakenfs_set_grace(fake, false);
        fakenfs_kick(fake); /* no restart: nothing changes */
        turn_for(300);
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 0, 9));
        cr_assert_eq(lock(1, LOCK_NONE, 0, 9), 0);
        cr_assert(server_comes_to(LOCK_NONE, 0, 0));
        cr_assert_eq(atomic_load(&memory->n_locks_lost), 0);
}

Test(locks, taken_again_without_a_grace_period) {
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        cr_assert_eq(lock(1, LOCK_NONE, 4, 4), 0);
        restart(false);
        cr_assert(turn_until(server_has(NULL) == 2));
        turn_for(300);
        cr_assert_eq(server_has(NULL), 2);
        cr_assert_eq(atomic_load(&memory->n_locks_lost), 0);
}

Test(locks, lost_to_another_client) {
        VfsLock wanted = { .type = LOCK_EXCLUSIVE, .start = 0, .end = LOCK_END };
        TestOp t;

        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        cr_assert_eq(lock(1, LOCK_SHARED, 20, 29), 0);
        fakenfs_listen(fake, false);
        fakenfs_forget_locks(fake);
        fakenfs_hold_lock(fake, ID, 7, true, 5, 1);
        fakenfs_listen(fake, true);
        cr_assert(turn_until(atomic_load(&memory->n_locks_lost) > 0));
        turn_for(500);
        cr_assert_eq(atomic_load(&memory->n_locks_lost), 1);
        cr_assert_eq(atomic_load(&memory->n_locks), 1);
        init(&t);
        vfs_getlk(&t.op, nodeid, fh2, 2, &wanted);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(t.lock.start, 20, "the other one is there still");
}

/* A lock manager that comes back at another port: the portmapper tells. As root, and if port 111 is free. */
Test(locks, another_port) {
        static const FakeNfsConfig config = { .n_files = 100 };
        FakeNfs *moved = fakenfs_start(&config), *portmapper, *old = fake;
        FakeNfsConfig portmap = { .port = 111, .nlm_port = fakenfs_port(moved) };

        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        portmapper = fakenfs_start(&portmap);
        if (!portmapper) {
                moved = fakenfs_stop(moved);
                cr_skip("port 111 is not ours to have");
        }
        options.nlmport = 0;
        fakenfs_listen(old, false);
        fake = moved;
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 0, 9));
        cr_assert_eq(memory->mount.nlmport, fakenfs_port(moved));
        cr_assert_eq(lock(2, LOCK_EXCLUSIVE, 10, 19), 0);
        cr_assert_eq(server_has(NULL), 2);
        worker_end();
        fake = old;
        fakenfs_listen(old, true);
        worker_start(); /* for teardown */
        moved = fakenfs_stop(moved);
        portmapper = fakenfs_stop(portmapper);
}

/* ---- soft ---- */

Test(locks, soft_gives_up_and_is_settled_later) {
        TestOp t;

        worker_end();
        options.soft = true;
        options.timeo = 10; /* and as long again */
        worker_start();
        fh = file_open(nodeid, O_RDWR);
        fh2 = file_open(nodeid, O_RDWR);
        fakenfs_fault(fake, FAKE_NLM(2), FAKE_DROP, 0, 0, 0); /* done, but no answer */
        lock_start(&t, 1, LOCK_EXCLUSIVE, 0, 9, true);
        cr_assert_eq(result(&t), EIO);
        fakenfs_clear(fake);
        cr_assert(server_comes_to(LOCK_NONE, 0, 0));
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        fakenfs_fault(fake, FAKE_NLM(4), FAKE_DROP, 0, 0, 0);
        lock_start(&t, 1, LOCK_NONE, 0, 9, false);
        cr_assert_eq(result(&t), EIO);
        fakenfs_clear(fake);
        /* taken again before that is settled: it is not what is given back then */
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 5, 6), 0);
        turn_for(1500);
        cr_assert(server_comes_to(LOCK_EXCLUSIVE, 5, 6));
        cr_assert_eq(atomic_load(&memory->n_locks), 1);
}

/* ---- a worker dies ---- */

static void holds(void) {
        CHECK(lock(1, LOCK_EXCLUSIVE, 0, 9) == 0);
        CHECK(lock(1, LOCK_NONE, 4, 4) == 0);
}

Test(locks, a_successor_holds_what_was_held) {
        FakeLock held[4];

        in_a_worker_that_dies(holds);
        cr_assert_eq(atomic_load(&memory->n_locks), 2);
        cr_assert_eq(lock(2, LOCK_EXCLUSIVE, 9, 9), EAGAIN);
        cr_assert_eq(lock(2, LOCK_EXCLUSIVE, 4, 4), 0);
        cr_assert_eq(lock(2, LOCK_NONE, 4, 4), 0);
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 4, 4), 0);
        cr_assert_eq(fakenfs_locks(fake, ID, held, ELEMENTSOF(held)), 3, "it does not merge");
        cr_assert(held[0].svid == held[1].svid && held[1].svid == held[2].svid, "the same owner for the server");
        cr_assert_eq(lock(1, LOCK_NONE, 0, LOCK_END), 0);
        cr_assert(server_comes_to(LOCK_NONE, 0, 0));
}

/* What a dying worker scribbled over is not believed, and the rest is. */
Test(locks, a_damaged_record) {
        LockRecord *record;
        uint32_t i = 0;

        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        cr_assert_eq(lock(2, LOCK_EXCLUSIVE, 20, 29), 0);
        worker_end();
        while (atomic_load(&memory->locks[i].state) != LOCK_HELD || memory->locks[i].owner != 1)
                i++;
        record = &memory->locks[i];
        record->svid ^= 1;
        worker_start();
        cr_assert_eq(atomic_load(&record->state), LOCK_FREE);
        cr_assert_eq(atomic_load(&memory->n_locks), 1);
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 20, 20), EAGAIN);
}

static TestOp unanswered;

static void asks(void) {
        lock_start(&unanswered, 1, LOCK_EXCLUSIVE, 0, 9, true);
        CHECK(!is_done(&unanswered, 100));
}

/* Granted, and nobody was told: the request is executed again by the journal, or it was interrupted. */
Test(locks, a_successor_settles_what_was_asked) {
        fakenfs_fault(fake, FAKE_NLM(2), FAKE_DROP, 0, 0, 1);
        in_a_worker_that_dies(asks);
        fakenfs_clear(fake);
        cr_assert(server_comes_to(LOCK_NONE, 0, 0));
        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
}

static void gives_back(void) {
        CHECK(lock(1, LOCK_EXCLUSIVE, 0, 9) == 0);
        CHECK(lock(1, LOCK_SHARED, 20, 29) == 0);
        lock_start(&unanswered, 1, LOCK_NONE, 0, 9, false);
        CHECK(!is_done(&unanswered, 100));
}

Test(locks, a_successor_gives_back_what_was_to_be) {
        fakenfs_fault(fake, FAKE_NLM(4), FAKE_CLOSE, 0, 0, 0);
        in_a_worker_that_dies(gives_back);
        fakenfs_clear(fake);
        cr_assert(server_comes_to(LOCK_SHARED, 20, 29));
        cr_assert(turn_until(atomic_load(&memory->n_locks) == 1));
}

/* ---- the end ---- */

Test(locks, the_end_gives_all_back) {
        TestOp t;

        cr_assert_eq(lock(1, LOCK_EXCLUSIVE, 0, 9), 0);
        cr_assert_eq(lock(2, LOCK_SHARED, 20, 29), 0);
        lock_start(&t, 2, LOCK_EXCLUSIVE, 0, 9, true);
        turn_for(50);
        vfs_locks_end(vr);
        cr_assert_eq(result(&t), EINTR);
        cr_assert(server_comes_to(LOCK_NONE, 0, 0));
        cr_assert(turn_until(atomic_load(&memory->n_locks) == 0)); /* its answer */
}
