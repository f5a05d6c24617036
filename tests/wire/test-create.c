/*
 * Exclusive creation (vfs/name.c, vfs/mark.c): one RPC where the server keeps access times, and nobody is told that his own
 * file is another's, or the other way round.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>

#include "volume.h"

static void setup(void) {
        volume_prepare(NFS_NLM_UNUSED);
        worker_start();
}

static void teardown(void) {
        worker_end();
        volume_done();
}

TestSuite(create, .init = setup, .fini = teardown, .timeout = 60);

static void make(TestOp *t, const char *name) {
        vfs_create(&t->op, 1, name, 0600, O_CREAT | O_EXCL | O_RDWR);
}

static int make_new(const char *name) {
        TestOp t;

        init(&t);
        make(&t, name);
        return result(&t);
}

/* The server is known to keep marks; then the fault happens to the next CREATE. */
static void learn(void) {
        cr_assert_eq(make_new("f100"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_CREATE), 1);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 1, "EXCLUSIVE, and what it does not carry");
}

static void create_fault(enum FakeAction action, uint32_t arg) {
        fakenfs_fault(fake, NFS_CREATE, action, arg, 0, 1);
}

Test(create, one_rpc) {
        learn();
        cr_assert_eq(make_new("f101"), 0);
        cr_assert_eq(make_new("f102"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_CREATE), 3);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 1);
        cr_assert_eq(make_new("f5"), EEXIST);
        cr_assert_eq(make_new("f102"), EEXIST, "the same volume's other request");
        cr_assert_eq(fakenfs_executed(fake, NFS_LOOKUP), 0);
}

/* Nothing but EXCLUSIVE is sure there. */
Test(create, a_server_that_keeps_seconds) {
        fakenfs_set_time_grain(fake, NSEC_PER_SEC);
        for (int i = 100; i < 104; i++) {
                char name[8];

                (void) snprintf(name, sizeof name, "f%d", i);
                cr_assert_eq(make_new(name), 0);
        }
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 4);
}

/* It was replaced by another, or the export is on another disk now. */
Test(create, a_server_that_does_not_keep_them_any_more) {
        learn();
        fakenfs_set_time_grain(fake, NSEC_PER_SEC);
        cr_assert_eq(make_new("f101"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 1);
        cr_assert_eq(make_new("f102"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 2);
}

/* FreeBSD's: it sets them, and makes files without. Once seen, that is not tried again. */
Test(create, a_server_whose_create_ignores_times) {
        fakenfs_ignore_create_times(fake);
        learn();
        for (uint64_t i = 101; i < 105; i++) {
                char name[8];

                (void) snprintf(name, sizeof name, "f%d", (int) i);
                cr_assert_eq(make_new(name), 0);
                cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), i - 100);
        }
}

/* Of this user; of the next one nobody knows. */
Test(create, refused_with_a_mark) {
        static const uint32_t errors[] = { 13, 1 };

        learn();
        for (unsigned i = 0; i < ELEMENTSOF(errors); i++) {
                create_fault(FAKE_STATUS, errors[i]);
                create_fault(FAKE_STATUS, errors[i]);
                cr_assert_eq(make_new("f101"), errors[i] == 1 ? EPERM : EACCES);
        }
        cr_assert_eq(make_new("f101"), 0, "it was not the mark");
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 1);
        create_fault(FAKE_STATUS, 1);
        cr_assert_eq(make_new("f102"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 2, "EXCLUSIVE");
        cr_assert_eq(make_new("f103"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 3, "it was: not tried again");
}

/* It was made, and the server does not say more; by then its handle has been replaced. */
Test(create, made_and_looked_for) {
        learn();
        create_fault(FAKE_NO_ATTR, 0);
        fakenfs_fault(fake, NFS_GETATTR, FAKE_STATUS, 70, 0, 1);
        cr_assert_eq(make_new("f101"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_CREATE), 2);
}

/* To set the time to a value one must be the owner. EACCES may be of this directory. */
Test(create, a_time_may_not_be_set) {
        static const uint32_t errors[] = { 13, 13, 1 };

        for (unsigned i = 0; i < ELEMENTSOF(errors); i++) {
                char name[8];

                (void) snprintf(name, sizeof name, "f%u", 100 + i);
                fakenfs_fault(fake, NFS_SETATTR, FAKE_STATUS, errors[i], 0, 1);
                cr_assert_eq(make_new(name), 0, "status %u", errors[i]);
                cr_assert_eq(fakenfs_seen(fake, NFS_SETATTR), 2 * (i + 1));
        }
        cr_assert_eq(make_new("f110"), 0);
        cr_assert_eq(fakenfs_seen(fake, NFS_SETATTR), 7, "not tried again");
}

Test(create, the_answer_is_lost) {
        learn();
        create_fault(FAKE_CLOSE_AFTER, 0);
        cr_assert_eq(make_new("f101"), 0);
        cr_assert_eq(fakenfs_seen(fake, NFS_CREATE), 3);
        cr_assert_eq(fakenfs_executed(fake, NFS_LOOKUP), 1, "whose is it?");
}

Test(create, the_answer_is_lost_and_attributes_are_not_told) {
        uint64_t n;

        learn();
        n = fakenfs_executed(fake, NFS_GETATTR);
        create_fault(FAKE_CLOSE_AFTER, 0);
        fakenfs_fault(fake, NFS_LOOKUP, FAKE_NO_ATTR, 0, 0, 0);
        cr_assert_eq(make_new("f101"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_GETATTR), n + 1);
        create_fault(FAKE_CLOSE, 0);
        cr_assert_eq(make_new("f7"), EEXIST);
        cr_assert_eq(fakenfs_executed(fake, NFS_GETATTR), n + 2);
}

/* What was sent again meets another's file. */
Test(create, sent_again_and_anothers) {
        learn();
        create_fault(FAKE_CLOSE, 0);
        cr_assert_eq(make_new("f5"), EEXIST);
        cr_assert_eq(fakenfs_executed(fake, NFS_LOOKUP), 1);
}

/* EEXIST, and nothing is there by now: made again. */
Test(create, sent_again_and_gone) {
        learn();
        create_fault(FAKE_CLOSE, 0);
        create_fault(FAKE_STATUS, 17);
        cr_assert_eq(make_new("f101"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_LOOKUP), 1);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 1);
}

/* Made with EXCLUSIVE; before its mode is set another op learns that marks are kept, and its handle is replaced. */
Test(create, made_before_marks_were_known) {
        TestOp a, b;

        fakenfs_fault(fake, NFS_SETATTR, FAKE_DELAY, 300, 0, 1);
        init(&b);
        make(&b, "f100");
        cr_assert(turn_until(fakenfs_executed(fake, NFS_SETATTR) == 1));
        create_fault(FAKE_DELAY, 800);
        fakenfs_fault(fake, NFS_SETATTR, FAKE_STATUS, 70, 0, 1);
        fakenfs_fault(fake, NFS_LOOKUP, FAKE_NO_ATTR, 0, 0, 0);
        init(&a);
        make(&a, "f101");
        cr_assert_eq(result(&b), 0);
        cr_assert_eq(a.n_done, 0);
        cr_assert_eq(result(&a), 0, "own file: %d", a.err);
}

/* A directory that somebody opens to us right then is no reason to give marks up. */
Test(create, denied_once) {
        learn();
        create_fault(FAKE_STATUS, 13);
        for (int i = 1; i <= 3; i++) {
                char name[8];

                (void) snprintf(name, sizeof name, "f%d", 100 + i);
                cr_assert_eq(make_new(name), 0);
        }
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 2);
}

/* What the clock showed when an answer set out is not what it shows when that is here. */
Test(create, an_answer_that_is_late) {
        struct timespec now;
        TestOp t;

        learn();
        create_fault(FAKE_DELAY, 2000);
        cr_assert_eq(make_new("f101"), 0);
        init(&t);
        make(&t, "f102");
        cr_assert_eq(result(&t), 0);
        (void) clock_gettime(CLOCK_REALTIME, &now);
        cr_assert_lt((int64_t) (now.tv_sec * NSEC_PER_SEC + now.tv_nsec - t.object_id), (int64_t) NSEC_PER_SEC);
}

/* Linux' server says that UNCHECKED has succeeded if there is something that is no file. The kernel has to look at it first. */
Test(create, something_that_is_no_file) {
        TestOp t;

        create_fault(FAKE_TYPE, 5); /* a symbolic link */
        init(&t);
        vfs_create(&t.op, 1, "f5", 0600, O_CREAT | O_RDWR);
        cr_assert_eq(result(&t), ESTALE);
        cr_assert_eq(atomic_load(&memory->n_opens), 0);
}

/* GUARDED makes a file or fails: this answer is a broken server's, and does not tell that the name is taken. */
Test(create, exclusively_something_that_is_no_file) {
        learn();
        create_fault(FAKE_TYPE, 2);
        cr_assert_eq(make_new("f101"), EIO);
        cr_assert_eq(make_new("f102"), 0);
        cr_assert_eq(atomic_load(&memory->n_opens), 2);
}

/* Others say EINVAL, as of a name that they do not like. */
Test(create, something_odd) {
        static const struct {
                uint32_t type;
                int err;
        } cases[] = { { 5, ESTALE }, { 1, EINVAL } };

        for (unsigned i = 0; i < ELEMENTSOF(cases); i++) {
                TestOp t;

                create_fault(FAKE_STATUS, 22);
                fakenfs_fault(fake, NFS_LOOKUP, FAKE_TYPE, cases[i].type, 0, 1);
                init(&t);
                vfs_create(&t.op, 1, "f5", 0600, O_CREAT | O_RDWR);
                cr_assert_eq(result(&t), cases[i].err);
        }
}

/* Whether it took the mark only a GETATTR tells. */
Test(create, ignores_times_and_tells_no_attributes) {
        learn();
        fakenfs_ignore_create_times(fake);
        create_fault(FAKE_NO_ATTR, 0);
        cr_assert_eq(make_new("f101"), 0);
        create_fault(FAKE_CLOSE_AFTER, 0);
        cr_assert_eq(make_new("f102"), 0, "own file");
}

Test(create, no_attributes) {
        fakenfs_fault(fake, NFS_CREATE, FAKE_NO_ATTR, 0, 0, 1);
        cr_assert_eq(make_new("f100"), 0);
        cr_assert_eq(make_new("f101"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 2, "the first could not try");
        fakenfs_fault(fake, NFS_CREATE, FAKE_NO_ATTR, 0, 0, 1);
        cr_assert_eq(make_new("f102"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 2);
}

Test(create, no_exclusive) {
        fakenfs_fault(fake, NFS_CREATE, FAKE_STATUS, 10004, 0, 1);
        cr_assert_eq(make_new("f100"), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 0);
}

static TestOp *making; /* shared with the worker that dies */

static void makes(void) { /* in another process: nothing is to be asserted */
        CHECK(make_new("f100") == 0);
        init(making);
        make(making, "f101");
        CHECK(!is_done(making, 300));
        CHECK(making->object_id != 0);
}

static void make_after(TestOp *t, const char *name) {
        init_again(t, making);
        make(t, name);
}

/* A worker died over it; the server has, or has not, executed it. */
Test(create, a_successor) {
        TestOp t;

        making = shared_op();
        fakenfs_fault(fake, NFS_CREATE, FAKE_DROP, 0, 1, 1);
        in_a_worker_that_dies(makes);
        make_after(&t, "f101");
        cr_assert_eq(result(&t), 0);
        make_after(&t, "f9");
        cr_assert_eq(result(&t), EEXIST, "not its file");
        cr_assert_eq(fakenfs_executed(fake, NFS_LOOKUP), 2);
        make_after(&t, "f102");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_SETATTR), 1);
}
