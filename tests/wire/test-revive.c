/*
 * Handles that the server has replaced (vfs/revive.c): who has a file open goes on; what is not surely the same file stays
 * stale.
 */
#include <criterion/criterion.h>
#include <fcntl.h>

#include "src/vfs/volume.h"
#include "volume.h"

#define ID 5 /* f3 */

static uint64_t nodeid, fh;
static uint8_t data[4096];

static void setup(void) {
        volume_prepare(NFS_NLM_REQUIRED);
        worker_start();
        nodeid = file_find("f3");
        fh = file_open(nodeid, O_RDWR);
}

static void teardown(void) {
        worker_end();
        volume_done();
}

TestSuite(revive, .init = setup, .fini = teardown, .timeout = 60);

static int read_some(void) {
        TestOp t;

        init(&t);
        vfs_read(&t.op, nodeid, fh, 0, 4096);
        return result(&t);
}

static int write_some(void) {
        TestOp t;

        init(&t);
        vfs_write(&t.op, nodeid, fh, 0, data, 100, VFS_WRITE);
        return result(&t);
}

static int sync_file(void) {
        TestOp t;

        init(&t);
        vfs_fsync(&t.op, nodeid, fh);
        return result(&t);
}

static int stat_root(void) {
        TestOp t;

        init(&t);
        vfs_getattr(&t.op, 1);
        return result(&t);
}

static int rename_file(const char *name, const char *to_name) {
        TestOp t;

        init(&t);
        vfs_rename(&t.op, 1, name, 1, to_name, 0);
        return result(&t);
}

static int lock(enum LockType type) {
        VfsLock wanted = { .type = type, .start = 0, .end = 9, .pid = 1 };
        TestOp t;

        init(&t);
        vfs_setlk(&t.op, nodeid, fh, LOCK_POSIX, 1, &wanted, false);
        return result(&t);
}

Test(revive, read_goes_on) {
        cr_assert_eq(read_some(), 0);
        fakenfs_replace_handles(fake);
        cr_assert_eq(read_some(), 0);
        cr_assert_eq(atomic_load(&memory->handles_replaced), 2, "the root's, and the file's");
        cr_assert_eq(fakenfs_executed(fake, FAKE_MNT), 2);
        fakenfs_replace_handles(fake);
        cr_assert_eq(read_some(), 0, "once more");
        cr_assert_eq(atomic_load(&memory->handles_replaced), 4);
        cr_assert_eq(read_some(), 0);
        cr_assert_eq(atomic_load(&memory->handles_replaced), 4);
}

Test(revive, the_root_alone) {
        fakenfs_replace_handles(fake);
        cr_assert_eq(stat_root(), 0);
        cr_assert_eq(atomic_load(&memory->handles_replaced), 1);
}

Test(revive, many_wait_for_one) {
        TestOp t[20];

        fakenfs_replace_handles(fake);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                init(&t[i]);
                vfs_read(&t[i].op, nodeid, fh, 0, 4096);
        }
        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                cr_assert_eq(result(&t[i]), 0);
        cr_assert_eq(fakenfs_executed(fake, FAKE_MNT), 2);
        cr_assert_eq(fakenfs_executed(fake, NFS_READDIR), 2, "the first one with the stale handle of the root");
}

/* A WRITE in flight, and a COMMIT. */
Test(revive, written_data_arrives) {
        cr_assert_eq(write_some(), 0);
        fakenfs_replace_handles(fake);
        cr_assert_eq(sync_file(), 0);
        cr_assert_eq(atomic_load(&memory->handles_replaced), 2);

        cr_assert_eq(write_some(), 0);
        cr_assert_eq(read_some(), 0, "sent, and not committed");
        fakenfs_replace_handles(fake);
        cr_assert_eq(sync_file(), 0);
        cr_assert_eq(atomic_load(&memory->handles_replaced), 4);
}

/* Names go in its directory while that is read, and while it is looked up (nfs-ganesha). */
static void written_data_arrives_in_spite_of(enum NfsProc proc, uint32_t status, uint32_t skip, uint32_t times) {
        cr_assert_eq(write_some(), 0);
        fakenfs_replace_handles(fake);
        fakenfs_fault(fake, proc, FAKE_STATUS, status, skip, times);
        cr_assert_eq(sync_file(), 0);
        cr_assert_eq(atomic_load(&memory->handles_replaced), 2);
        cr_assert_geq(fakenfs_seen(fake, proc), skip + times + 1);
}

Test(revive, a_name_goes_while_the_directory_is_read) {
        written_data_arrives_in_spite_of(NFS_READDIR, 2, 1, 20);
}

Test(revive, a_name_goes_while_the_stale_directory_is_read) {
        written_data_arrives_in_spite_of(NFS_READDIR, 2, 0, 1);
}

Test(revive, a_name_is_stale_while_the_directory_is_read) {
        written_data_arrives_in_spite_of(NFS_READDIR, 70, 1, 1);
}

Test(revive, a_name_is_stale_while_it_is_looked_up) {
        written_data_arrives_in_spite_of(NFS_LOOKUP, 70, 0, 1);
}

/* A server that is in trouble for a moment. */
Test(revive, a_directory_that_cannot_be_read_now) {
        written_data_arrives_in_spite_of(NFS_READDIR, 5, 1, 2);
}

Test(revive, a_name_that_cannot_be_looked_up_now) {
        written_data_arrives_in_spite_of(NFS_LOOKUP, 10006, 0, 1);
}

Test(revive, the_server_cannot_say_whether_it_is_stale_now) {
        written_data_arrives_in_spite_of(NFS_GETATTR, 5, 0, 1);
}

Test(revive, a_directory_that_cannot_be_read) {
        fakenfs_replace_handles(fake);
        fakenfs_fault(fake, NFS_READDIR, FAKE_STATUS, 2, 0, 0);
        cr_assert_eq(read_some(), ESTALE);
        fakenfs_clear(fake);
        turn_for(2100);
        cr_assert_eq(read_some(), 0);
}

Test(revive, locks_are_taken_and_given_back) {
        fakenfs_replace_handles(fake);
        cr_assert_eq(lock(LOCK_EXCLUSIVE), 0);
        fakenfs_replace_handles(fake);
        cr_assert_eq(lock(LOCK_NONE), 0);
        cr_assert(turn_until(fakenfs_locks(fake, ID, &(FakeLock){ 0 }, 1) == 0));
}

/* It may be another file, with the same id. */
Test(revive, what_was_changed_stays_stale) {
        cr_assert_eq(write_some(), 0);
        fakenfs_replace_handles(fake);
        fakenfs_touch(fake, ID);
        cr_assert_eq(read_some(), ESTALE);
}

Test(revive, what_was_changed_stays_stale_for_a_reader) {
        uint64_t n = fakenfs_executed(fake, NFS_READDIR);

        fakenfs_replace_handles(fake);
        fakenfs_touch(fake, ID);
        cr_assert_eq(read_some(), ESTALE);
        cr_assert_eq(fakenfs_executed(fake, NFS_READDIR), n + 3, "there might be another name with its id");
        for (int i = 0; i < 10; i++)
                cr_assert_eq(read_some(), ESTALE);
        cr_assert_eq(fakenfs_executed(fake, NFS_READDIR), n + 3, "not asked for all the time");
        fakenfs_touch(fake, 0);
        turn_for(2100);
        cr_assert_eq(read_some(), 0);
}

/* A WRITE that was executed, and not answered, is why it was changed. */
Test(revive, changed_by_an_unanswered_write) {
        TestOp t;

        fakenfs_fault(fake, NFS_WRITE, FAKE_DROP, 0, 0, 1);
        cr_assert_eq(write_some(), 0);
        init(&t);
        vfs_fsync(&t.op, nodeid, fh);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_WRITE) == 1));
        fakenfs_touch(fake, ID);
        fakenfs_replace_handles(fake);
        fakenfs_kick(fake);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(atomic_load(&memory->handles_replaced), 2);
}

Test(revive, interrupted) {
        TestOp t;

        fakenfs_replace_handles(fake);
        fakenfs_fault(fake, NFS_READDIR, FAKE_DROP, 0, 0, 0);
        init(&t);
        vfs_read(&t.op, nodeid, fh, 0, 4096);
        cr_assert_not(is_done(&t, 200));
        vfs_interrupt(&t.op);
        cr_assert_eq(result(&t), EINTR);
}

/* MOUNT is another service, and may be there later. */
Test(revive, mount_is_asked_until_it_answers) {
        TestOp t;

        fakenfs_replace_handles(fake);
        fakenfs_fault(fake, FAKE_MNT, FAKE_CLOSE, 0, 0, 1);
        init(&t);
        vfs_read(&t.op, nodeid, fh, 0, 4096);
        cr_assert_eq(result(&t), 0);
        cr_assert_geq(fakenfs_seen(fake, FAKE_MNT), 3);
}

/* ... and may know its exports later still. */
Test(revive, refused_by_a_server_that_is_starting) {
        fakenfs_replace_handles(fake);
        fakenfs_fault(fake, FAKE_MNT, FAKE_STATUS, 2, 0, 6); /* the path, and what is above it, three times */
        cr_assert_eq(read_some(), 0);
        cr_assert_eq(fakenfs_executed(fake, FAKE_MNT), 2);
}

Test(revive, no_export_any_more) {
        fakenfs_replace_handles(fake);
        fakenfs_fault(fake, FAKE_MNT, FAKE_STATUS, 2, 0, 0);
        cr_assert_eq(read_some(), ESTALE);
        cr_assert_eq(stat_root(), ESTALE);
        fakenfs_clear(fake);
        turn_for(2100);
        cr_assert_eq(read_some(), 0);
}

/* Others that meet it first know that it may be that. */
Test(revive, changed_by_an_unanswered_write_others_come_first) {
        TestOp t, r;

        fakenfs_fault(fake, NFS_WRITE, FAKE_DROP, 0, 0, 0);
        cr_assert_eq(write_some(), 0);
        init(&t);
        vfs_fsync(&t.op, nodeid, fh);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_WRITE) == 1));
        fakenfs_kick(fake);
        cr_assert(turn_until(fakenfs_executed(fake, NFS_WRITE) >= 2));
        fakenfs_touch(fake, ID);
        fakenfs_replace_handles(fake);
        cr_assert_eq(file_find("f3"), nodeid);
        init(&r);
        vfs_read(&r.op, nodeid, fh, 1u << 19, 4096);
        turn_for(100);
        fakenfs_clear(fake);
        fakenfs_kick(fake);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(result(&r), 0);
}

/* We know what it is called now. */
Test(revive, renamed_while_open) {
        cr_assert_eq(rename_file("f3", "f77"), 0);
        Inode *inode = inode_pin(vfs, nodeid);
        cr_assert_eq(inode->record->name_hash, name_hash("f77"));
        inode_unpin(vfs, inode);
}

/* ... and that this has changed its ctime. */
Test(revive, changed_by_being_renamed) {
        cr_assert_eq(rename_file("f3", "f77"), 0);
        fakenfs_fault(fake, NFS_LOOKUP, FAKE_STATUS, 2, 0, 1); /* to the fake server it was not renamed */
        cr_assert_eq(rename_file("f77", "f3"), 0);
        fakenfs_touch(fake, ID);
        fakenfs_replace_handles(fake);
        worker_end();
        worker_start();
        cr_assert_eq(read_some(), 0);
        fakenfs_touch(fake, 0);
        fakenfs_replace_handles(fake);
        cr_assert_eq(read_some(), 0, "older");
        fakenfs_touch(fake, ID);
        fakenfs_replace_handles(fake);
        cr_assert_eq(read_some(), ESTALE, "that was somebody else");
}

/* So does removing another name of it. */
Test(revive, changed_by_losing_a_name) {
        TestOp t;

        fakenfs_link(fake, ID);
        init(&t);
        vfs_lookup(&t.op, 1, "f3");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(write_some(), 0);
        Inode *inode = inode_pin(vfs, nodeid);
        inode_note_place(inode, 1, "x2");
        init(&t);
        vfs_unlink(&t.op, 1, "f3"); /* to the fake server it is still there, as another name would be */
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_REMOVE), 1);
        cr_assert_eq(inode->record->name_hash, name_hash("x2"), "it still has that");
        inode_note_place(inode, 1, "f3");
        init(&t);
        vfs_unlink(&t.op, 1, "f3");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(inode->record->name_hash, NAME_LOST);
        inode_unpin(vfs, inode);
        fakenfs_touch(fake, ID);
        fakenfs_replace_handles(fake);
        cr_assert_eq(sync_file(), 0);
}

/* The directory's name is looked up first: it is the one in which we have files open. */
Test(revive, a_directory_that_is_looked_up_first) {
        uint64_t dir = file_find("d3");
        TestOp t;

        init(&t);
        vfs_lookup(&t.op, dir, "f7");
        cr_assert_eq(result(&t), 0);
        (void) file_open(t.nodeid, O_RDWR);
        fakenfs_replace_handles(fake);
        fakenfs_touch(fake, (UINT64_C(1) << 40) + 3); /* others make files in it all the time */
        cr_assert_eq(file_find("d3"), dir);
        init(&t);
        vfs_unlink(&t.op, dir, "f7");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_REMOVE), 0);
}

/* Twice, and a successor that has not seen the second. */
Test(revive, a_name_that_is_looked_up_first_by_a_successor) {
        fakenfs_replace_handles(fake);
        cr_assert_eq(read_some(), 0);
        fakenfs_replace_handles(fake);
        cr_assert_eq(stat_root(), 0);
        worker_end();
        worker_start();
        cr_assert_eq(file_find("f3"), nodeid);
}

/* Who looks the name up again finds the file that is open: it is one file, with all that is pending. */
Test(revive, a_name_that_is_looked_up_first) {
        cr_assert_eq(write_some(), 0);
        fakenfs_replace_handles(fake);
        cr_assert_eq(file_find("f3"), nodeid);
        cr_assert_eq(sync_file(), 0);
        cr_assert_neq(file_find("f4"), nodeid);
}

/* ... so that it is hidden, and not removed. */
Test(revive, unlinked_while_open) {
        TestOp t;

        fakenfs_replace_handles(fake);
        init(&t);
        vfs_unlink(&t.op, 1, "f3");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_REMOVE), 0);
        cr_assert_geq(fakenfs_executed(fake, NFS_RENAME), 1);
}

/* Many names were read ahead. */
static void unlink_begin(TestOp *t, const char *name) {
        init(t);
        vfs_unlink(&t->op, 1, name);
}

/* It has its .nfs name, and a ctime that nobody has told: others meet it first. */
Test(revive, unlinked_while_open_not_answered) {
        TestOp t;

        fakenfs_fault(fake, NFS_RENAME, FAKE_DROP, 0, 0, 0);
        unlink_begin(&t, "f3");
        cr_assert(turn_until(fakenfs_executed(fake, NFS_RENAME) == 1));
        fakenfs_touch(fake, ID);
        fakenfs_replace_handles(fake);
        fakenfs_kick(fake);
        cr_assert_eq(read_some(), 0);
        fakenfs_clear(fake);
        fakenfs_kick(fake);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_REMOVE), 0);
}

/* The kernel knew its name, and had no reason to look it up again. */
Test(revive, opened_after_they_were_replaced) {
        uint64_t other;
        TestOp t;

        options.nocto = true; /* else opening it asks the server */
        options.acregmin = options.acregmax = 60;
        other = file_find("f4");
        init(&t);
        vfs_access(&t.op, other, R_OK);
        cr_assert_eq(result(&t), 0);
        fakenfs_replace_handles(fake);
        cr_assert_eq(stat_root(), 0);
        (void) file_open(other, O_RDONLY);
        unlink_begin(&t, "f4");
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_REMOVE), 0);
}

static TestOp *making; /* shared with the worker that dies */

static void make(TestOp *t) {
        vfs_create(&t->op, 1, "f100", 0600, O_CREAT | O_EXCL | O_RDWR);
}

static void makes(void) {
        init(making);
        make(making);
        CHECK(turn_until(making->object_id)); /* the SETATTR is the next thing to leave */
        CHECK(!is_done(making, 200));
}

/* A worker died over the SETATTR that follows an exclusive CREATE; the server has done it. */
Test(revive, made_exclusively_by_a_former_worker) {
        TestOp t;

        making = shared_op();
        fakenfs_fault(fake, NFS_SETATTR, FAKE_DROP, 0, 0, 1);
        in_a_worker_that_dies(makes);
        fakenfs_replace_handles(fake);
        init_again(&t, making);
        make(&t);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_CREATE), 1);
}

Test(revive, names_read_ahead) {
        TestOp t;
        char name[16];

        for (unsigned i = 0; i < 100; i++) {
                (void) snprintf(name, sizeof name, "f%u", i);
                init(&t);
                vfs_lookup(&t.op, 1, name);
                cr_assert_eq(result(&t), 0);
        }
}

/* What was found is known to every later worker. */
Test(revive, a_successor_knows) {
        uint64_t n;

        fakenfs_replace_handles(fake);
        cr_assert_eq(read_some(), 0);
        n = fakenfs_executed(fake, FAKE_MNT);
        worker_end();
        worker_start();
        cr_assert_eq(read_some(), 0);
        cr_assert_eq(stat_root(), 0);
        cr_assert_eq(fakenfs_executed(fake, FAKE_MNT), n);
}
