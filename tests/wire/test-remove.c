/*
 * Names that go (vfs/remove.c), and files that are unlinked while they are open.
 */
#include <criterion/criterion.h>
#include <fcntl.h>

#include "src/vfs/volume.h"
#include "volume.h"

enum { IO = 5, NOSPC = 28, NOTEMPTY = 66 }; /* nfsstat3 */

static uint64_t dir, nodeid, fh;
static _Atomic uint32_t xid;

static TestOp *hiding; /* shared with the worker that dies */

static void setup(void) {
        volume_prepare(NFS_NLM_REQUIRED);
        worker_start();
        dir = file_find("d0");
}

static void teardown(void) {
        worker_end();
        volume_done();
}

TestSuite(remove, .init = setup, .fini = teardown, .timeout = 60);

/* f7, in d0. */
static void open_it(void) {
        TestOp t;

        init(&t);
        vfs_lookup(&t.op, dir, "f7");
        cr_assert_eq(result(&t), 0);
        nodeid = t.nodeid;
        fh = file_open(nodeid, O_RDWR);
}

static void open_and_unlink(void) {
        TestOp t;

        open_it();
        init(&t);
        vfs_unlink(&t.op, dir, "f7");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_RENAME), 1);
}

static void close_it(void) {
        TestOp t;

        init(&t);
        vfs_release(&t.op, nodeid, fh, false, 0);
        cr_assert_eq(result(&t), 0);
}

static void rmdir_begin(TestOp *t) {
        init(t);
        t->op.xid_note = &xid;
        vfs_rmdir(&t->op, 1, "d0");
}

static int rename_over(void) {
        TestOp t;

        init(&t);
        vfs_rename(&t.op, 1, "f8", 1, "f9", 0);
        return result(&t);
}

Test(remove, not_empty) {
        TestOp t;

        fakenfs_fault(fake, NFS_RMDIR, FAKE_STATUS, NOTEMPTY, 0, 0);
        rmdir_begin(&t);
        cr_assert_eq(result(&t), ENOTEMPTY);
        cr_assert_eq(fakenfs_seen(fake, NFS_RMDIR), 1);
        cr_assert_eq(fakenfs_seen(fake, NFS_LOOKUP), 1, "the one of setup()");
}

/* The close returned before the removal, and the kernel may send the RELEASE after the RMDIR. */
Test(remove, what_is_going_is_waited_for) {
        TestOp t;

        open_and_unlink();
        fakenfs_fault(fake, NFS_RMDIR, FAKE_STATUS, NOTEMPTY, 0, 1);
        fakenfs_fault(fake, NFS_REMOVE, FAKE_DELAY, 1500, 0, 1);
        rmdir_begin(&t);
        cr_assert_not(is_done(&t, 20));
        close_it();
        cr_assert_not(is_done(&t, 200));
        cr_assert_eq(xid, 0, "a successor must not be told that answer once more");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_RMDIR), 1);
}

Test(remove, what_stays_is_not_waited_for) {
        uint64_t begin = now_ns();
        TestOp t;

        open_and_unlink();
        fakenfs_fault(fake, NFS_RMDIR, FAKE_STATUS, NOTEMPTY, 0, 0);
        rmdir_begin(&t);
        cr_assert_eq(result(&t), ENOTEMPTY);
        cr_assert_lt(now_ns() - begin, 4 * NSEC_PER_SEC);
        cr_assert_leq(fakenfs_seen(fake, NFS_RMDIR), 2);
}

Test(remove, waiting_is_interrupted) {
        TestOp t;

        open_and_unlink();
        fakenfs_fault(fake, NFS_REMOVE, FAKE_DROP, 0, 0, 0);
        fakenfs_fault(fake, NFS_RMDIR, FAKE_STATUS, NOTEMPTY, 0, 0);
        close_it();
        rmdir_begin(&t);
        cr_assert_not(is_done(&t, 300));
        vfs_interrupt(&t.op);
        cr_assert_eq(result(&t), EINTR);
        fakenfs_clear(fake);
        fakenfs_kick(fake);
        turn_for(200);
}

/*
 * The RENAME takes long. The server may do what is sent beside it before it, and what it finds then is not there yet: so
 * nothing is, until it is answered.
 */
Test(remove, closed_before_it_is_hidden) {
        TestOp unlinking, opening;

        open_it();
        fakenfs_fault(fake, NFS_RENAME, FAKE_DELAY, 1000, 0, 1);
        init(&unlinking);
        vfs_unlink(&unlinking.op, dir, "f7");
        cr_assert(turn_until(fakenfs_executed(fake, NFS_RENAME) == 1));
        close_it();
        init(&opening);
        vfs_open(&opening.op, nodeid, O_RDWR);
        cr_assert_eq(result(&unlinking), 0);
        cr_assert_eq(result(&opening), 0);
        turn_for(50);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 0);
        fh = opening.fh;
        close_it();
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
}

Test(remove, closed_for_good_before_it_is_hidden) {
        TestOp t;

        open_it();
        fakenfs_fault(fake, NFS_RENAME, FAKE_DELAY, 1000, 0, 1);
        init(&t);
        vfs_unlink(&t.op, dir, "f7");
        cr_assert(turn_until(fakenfs_executed(fake, NFS_RENAME) == 1));
        close_it();
        turn_for(50);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 0);
        cr_assert_eq(result(&t), 0);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
        turn_for(50);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 1);
}

/* It keeps its name, and there is nothing to remove at its last close. */
Test(remove, closed_before_it_is_not_hidden) {
        TestOp t;

        open_it();
        fakenfs_fault(fake, NFS_RENAME, FAKE_STATUS, IO, 0, 1);
        init(&t);
        vfs_unlink(&t.op, dir, "f7");
        cr_assert_eq(result(&t), EIO);
        close_it();
        turn_for(50);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 0);
}

static void hides(void) { /* in another process: nothing is to be asserted */
        open_it();
        init(hiding);
        vfs_unlink(&hiding->op, dir, "f7");
        CHECK(turn_until(hiding->object_id)); /* the RENAME is the next thing to leave */
        close_it();
        CHECK(!is_done(hiding, 20));
}

/* A worker died over it, and its last close came before that. */
Test(remove, hidden_by_a_successor) {
        TestOp t;

        hiding = shared_op();
        fakenfs_fault(fake, NFS_RENAME, FAKE_DROP, 0, 0, 1);
        in_a_worker_that_dies(hides);
        fakenfs_fault(fake, NFS_RENAME, FAKE_DELAY, 1000, 0, 1);
        init_again(&t, hiding);
        vfs_unlink(&t.op, dir, "f7");
        vfs_recovered(vr);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_RENAME) == 1));
        turn_for(50);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 0);
        cr_assert_eq(result(&t), 0);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
}

static void rename_over_it(TestOp *t) {
        open_it();
        init(t);
        vfs_rename(&t->op, dir, "f8", dir, "f7", 0);
}

/* Not even beside the RENAME that takes its other name. */
Test(remove, closed_before_it_is_renamed_over) {
        TestOp t;

        fakenfs_fault(fake, NFS_RENAME, FAKE_DELAY, 1000, 0, 1);
        rename_over_it(&t);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_RENAME) == 1));
        cr_assert_eq(fakenfs_executed(fake, NFS_LINK), 1);
        close_it();
        turn_for(50);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 0);
        cr_assert_eq(result(&t), 0);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
}

static void renames_over_it(void) { /* in another process: nothing is to be asserted */
        rename_over_it(hiding);
        CHECK(turn_until(hiding->object_id));
        turn_for(100); /* the LINK is answered, and the RENAME is not */
        close_it();
        CHECK(!is_done(hiding, 20));
}

Test(remove, renamed_over_by_a_successor) {
        TestOp t;

        hiding = shared_op();
        fakenfs_fault(fake, NFS_RENAME, FAKE_DROP, 0, 0, 1);
        in_a_worker_that_dies(renames_over_it);
        cr_assert_eq(fakenfs_executed(fake, NFS_LINK), 1);
        fakenfs_fault(fake, NFS_RENAME, FAKE_DELAY, 1000, 0, 1);
        init_again(&t, hiding);
        vfs_rename(&t.op, dir, "f8", dir, "f7", 0);
        vfs_recovered(vr);
        cr_assert(turn_until(fakenfs_seen(fake, NFS_RENAME) == 2));
        turn_for(50);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 0);
        cr_assert_eq(result(&t), 0);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
}

static void unlink_and_be_killed(enum FakeAction action) {
        TestOp t;

        open_it();
        fakenfs_fault(fake, NFS_RENAME, action, 1000, 0, 1);
        init(&t);
        vfs_unlink(&t.op, dir, "f7");
        cr_assert(turn_until(fakenfs_seen(fake, NFS_RENAME) == 1));
        cr_assert_not(is_done(&t, 20));
        vfs_interrupt(&t.op);
        cr_assert_eq(result(&t), EINTR);
}

/* rm was killed, and it has its .nfs name. */
Test(remove, killed_and_hidden) {
        TestOp t;

        unlink_and_be_killed(FAKE_DELAY);
        cr_assert_eq(fakenfs_executed(fake, NFS_RENAME), 1);
        fakenfs_fault(fake, NFS_RENAME, FAKE_STATUS, ENOENT, 0, 1);
        init(&t);
        vfs_unlink(&t.op, dir, "f7");
        cr_assert_eq(result(&t), ENOENT);
        close_it();
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
        turn_for(50);
        cr_assert_eq(fakenfs_executed(fake, NFS_REMOVE), 1);
}

/* It gets it only after the last close. */
Test(remove, killed_and_hidden_later) {
        open_and_unlink();
        fakenfs_fault(fake, NFS_REMOVE, FAKE_STATUS, ENOENT, 0, 1);
        close_it();
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 2);
}

/* It never gets it, and is opened by its own meanwhile. */
Test(remove, killed_not_hidden_and_opened) {
        TestOp t;

        unlink_and_be_killed(FAKE_DROP);
        fakenfs_fault(fake, NFS_REMOVE, FAKE_STATUS, ENOENT, 0, 1);
        close_it();
        cr_assert(turn_until(fakenfs_seen(fake, NFS_REMOVE) == 1));
        turn_for(50);
        init(&t);
        vfs_open(&t.op, nodeid, O_RDWR);
        cr_assert_eq(result(&t), 0);
        fh = t.fh;
        turn_for(1000);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 1, "it is open");
        close_it();
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
}

static void closes(void) { /* in another process: nothing is to be asserted */
        open_it();
        init(hiding);
        vfs_unlink(&hiding->op, dir, "f7");
        CHECK(result(hiding) == 0);
        hiding->nodeid = nodeid;
        close_it();
}

/* Its last close was the last thing a worker did, and it is forgotten before its successor looks around. */
Test(remove, left_over_and_forgotten) {
        hiding = shared_op();
        in_a_worker_that_dies(closes);
        inode_forget(vfs, hiding->nodeid, 1);
        vfs_recovered(vr);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
}

/* Nor is it looked for for ever. */
Test(remove, removed_by_somebody_else) {
        open_and_unlink();
        fakenfs_fault(fake, NFS_REMOVE, FAKE_STATUS, ENOENT, 0, 0);
        close_it();
        cr_assert(turn_until(fakenfs_seen(fake, NFS_REMOVE) == 2));
        turn_for(1000);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 2);
}

/* It has not, so that who removes it once more must not take the data away. */
Test(remove, killed_and_not_hidden) {
        TestOp t;

        unlink_and_be_killed(FAKE_DROP);
        init(&t);
        vfs_unlink(&t.op, dir, "f7");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_seen(fake, NFS_RENAME), 2);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 0);
        close_it();
        cr_assert(turn_until(fakenfs_executed(fake, NFS_REMOVE) == 1));
}

/* Many ways to say that there are no links: what is renamed over is moved away, and nothing of it is lost. */
Test(remove, renamed_over_without_links) {
        (void) file_open(file_find("f9"), O_RDWR);
        fakenfs_fault(fake, NFS_LINK, FAKE_STATUS, IO, 0, 0);
        cr_assert_eq(rename_over(), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_RENAME), 2);
}

Test(remove, not_renamed_over_what_cannot_be_hidden) {
        (void) file_open(file_find("f9"), O_RDWR);
        fakenfs_fault(fake, NFS_LINK, FAKE_STATUS, NOSPC, 0, 0);
        cr_assert_eq(rename_over(), ENOSPC);
        cr_assert_eq(fakenfs_executed(fake, NFS_RENAME), 0);
}

/* Who does not know what the name means must not remove it. */
Test(remove, not_removed_without_a_look) {
        TestOp t;

        (void) file_open(file_find("f9"), O_RDWR);
        fakenfs_fault(fake, NFS_LOOKUP, FAKE_STATUS, IO, 0, 0);
        init(&t);
        vfs_unlink(&t.op, 1, "f9");
        cr_assert_eq(result(&t), EIO);
        cr_assert_eq(fakenfs_seen(fake, NFS_REMOVE), 0);
}
