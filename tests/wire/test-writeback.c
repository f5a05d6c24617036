/*
 * What is written goes out in the order that its waiters need (vfs/pending.c), over the wire.
 */
#include <criterion/criterion.h>
#include <fcntl.h>

#include "src/vfs/volume.h"
#include "volume.h"

#define ROUND_TRIP_MS 60

static uint64_t nodeid, buffered, direct;
static uint8_t data[4096];

static void setup(void) {
        volume_prepare(NFS_NLM_UNUSED);
        worker_start();
        nodeid = file_find("f3");
        buffered = file_open(nodeid, O_RDWR);
        direct = file_open(nodeid, O_RDWR | O_DIRECT);
}

static void teardown(void) {
        worker_end();
        volume_done();
}

TestSuite(writeback, .init = setup, .fini = teardown, .timeout = 60);

static void write_start(TestOp *t, uint64_t fh, uint64_t offset) {
        init(t);
        vfs_write(&t->op, nodeid, fh, offset, data, sizeof data, VFS_WRITE);
}

/* What the server has no room for in a file is refused at once (FSINFO, maxfilesize). */
Test(writeback, beyond_the_largest_file) {
        const uint64_t max = UINT64_C(1) << 60;
        TestOp t;

        write_start(&t, buffered, max - sizeof data + 1);
        cr_assert_eq(result(&t), EFBIG);
        write_start(&t, buffered, UINT64_MAX - 100);
        cr_assert_eq(result(&t), EFBIG);
        write_start(&t, buffered, max - sizeof data);
        cr_assert_eq(result(&t), 0);
}

/* Who goes on writing over the same piece does not keep from its COMMIT what was written before. */
Test(writeback, a_commit_beside_overwrites) {
        TestOp first, sync, over[3];
        unsigned n = 0;

        write_start(&first, buffered, 1 << 20);
        cr_assert_eq(result(&first), 0);
        fakenfs_fault(fake, NFS_WRITE, FAKE_DELAY, 3 * ROUND_TRIP_MS / 2, 0, 1);
        fakenfs_fault(fake, NFS_WRITE, FAKE_DELAY, ROUND_TRIP_MS, 0, 0);
        init(&sync);
        vfs_fsync(&sync.op, nodeid, buffered);
        for (unsigned i = 0; i < ELEMENTSOF(over); i++)
                write_start(&over[i], direct, 0);
        /* one of them is always on its way, and over one that is there */
        for (unsigned i = 0; n < 12; i = (i + 1) % ELEMENTSOF(over)) {
                turn_for(1);
                if (over[i].n_done == 0)
                        continue;
                cr_assert_eq(over[i].err, 0);
                if (sync.n_done)
                        break;
                write_start(&over[i], direct, 0);
                n++;
        }
        cr_assert_eq(sync.n_done, 1, "%u were written over each other meanwhile", n);
        cr_assert_eq(sync.err, 0);
        for (unsigned i = 0; i < ELEMENTSOF(over); i++)
                cr_assert_eq(result(&over[i]), 0);
}
