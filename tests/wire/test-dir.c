/* vfs/dir.c beside what a successor may make of it; what is kept of a large directory (vfs/ahead.c). */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>

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

/* Backwards: what is read ahead is not what is asked for. */
Test(ahead, of_a_large_directory) {
        volume_files = 200000;
        volume_prepare(NFS_NLM_UNUSED);
        options.acregmin = options.acregmax = options.acdirmin = options.acdirmax = 600;
        worker_start();
        for (uint32_t i = 1; i < 8000; i++) {
                char name[16];

                (void) snprintf(name, sizeof name, "f%u", volume_files - i);
                (void) file_find(name);
        }
        cr_assert_gt(fakenfs_executed(fake, NFS_READDIRPLUS), 50);
        cr_assert_lt(fakenfs_executed(fake, NFS_READDIRPLUS), 100, "no more than 65536 names are kept");
        worker_end();
        volume_done();
}
