/* vfs/dir.c beside what a successor may make of it. */
#include <criterion/criterion.h>
#include <fcntl.h>

#include "volume.h"

static uint64_t fh;

static void setup(void) {
        TestOp t;

        volume_prepare(NFS_NLM_UNUSED);
        worker_start();
        init(&t);
        vfs_opendir(&t.op, 1);
        cr_assert_eq(result(&t), 0);
        fh = t.fh;
}

static void teardown(void) {
        worker_end();
        volume_done();
}

TestSuite(dir, .init = setup, .fini = teardown, .timeout = 60);

/* A READDIR that was answered, and is executed again by a successor beside the RELEASEDIR that came after. */
Test(dir, released_while_it_is_read) {
        TestOp t, other;

        fakenfs_fault(fake, NFS_READDIR, FAKE_DELAY, 100, 0, 1);
        init(&t);
        vfs_readdir(&t.op, 1, fh, 0);
        turn_for(20);
        init(&other);
        vfs_releasedir(&other.op, 1, fh);
        cr_assert_eq(result(&other), 0);
        init(&other);
        vfs_opendir(&other.op, 1); /* in the same place */
        cr_assert_eq(result(&other), 0);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(t.size, 100);

        fh = other.fh;
        init(&other);
        vfs_readdir(&other.op, 1, fh, 0);
        cr_assert_eq(result(&other), 0);
        cr_assert_eq(other.size, 100);
}

/* The same beside the next READDIR, which another reactor may have: they must not fill the same one. */
Test(dir, read_beside_the_next) {
        TestOp t, other;

        fakenfs_fault(fake, NFS_READDIR, FAKE_DELAY, 100, 0, 1);
        init(&t);
        vfs_readdir(&t.op, 1, fh, 0);
        init(&other);
        vfs_readdir(&other.op, 1, fh, 0);
        cr_assert_neq(t.op.stream, other.op.stream);
        cr_assert_eq(result(&other), 0);
        cr_assert_eq(other.size, 100);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(t.size, 100);
}
