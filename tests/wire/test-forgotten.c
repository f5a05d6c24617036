/*
 * The server restarts and has forgotten what was not committed (vfs/pending.c). An answer from before it has that again may
 * come after it has: nobody is told of it.
 */
#include <criterion/criterion.h>
#include <fcntl.h>

#include "volume.h"

static uint64_t nodeid, fh;

static void setup(void) {
        volume_prepare(NFS_NLM_UNUSED);
        worker_start();
        nodeid = file_find("f3");
        fh = file_open(nodeid, O_RDWR);
}

static void teardown(void) {
        worker_end();
        volume_done();
}

TestSuite(forgotten, .init = setup, .fini = teardown, .timeout = 60);

/* Two pieces, so that they need a COMMIT, and are UNSTABLE until then. */
static void write_unstable(uint64_t at) {
        static uint8_t data[4096];
        TestOp t;

        for (int i = 0; i < 2; i++) {
                init(&t);
                vfs_write(&t.op, nodeid, fh, at + i * 65536u, data, sizeof data, VFS_WRITE);
                cr_assert_eq(result(&t), 0);
        }
        init(&t);
        vfs_getattr(&t.op, nodeid); /* wants them on the server */
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_WRITE), 2);
        cr_assert_eq(fakenfs_executed(fake, NFS_COMMIT), 0);
}

/* proc is sent; the server restarts; what proc gets from it comes half a second later than all else. */
static void restarts_over(int proc) {
        fakenfs_fault(fake, proc, FAKE_CLOSE, 0, 0, 1);
        fakenfs_fault(fake, proc, FAKE_DELAY, 500, 0, 1);
        fakenfs_set_verifier(fake, 77);
}

static void is_asked_again(TestOp *t, int proc) {
        uint64_t before = fakenfs_seen(fake, proc);

        cr_assert_eq(result(t), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_WRITE), 4, "they are written again");
        cr_assert_eq(fakenfs_seen(fake, proc) - before, 3, "sent, sent again, asked again");
}

Test(forgotten, read) {
        TestOp t;

        write_unstable(0);
        restarts_over(NFS_READ);
        init(&t);
        vfs_read(&t.op, nodeid, fh, 65536, 4096);
        is_asked_again(&t, NFS_READ);
        cr_assert_eq(t.size, 4096);
}

Test(forgotten, attributes) {
        TestOp t;

        write_unstable(0);
        options.noac = true;
        restarts_over(NFS_GETATTR);
        init(&t);
        vfs_getattr(&t.op, nodeid);
        is_asked_again(&t, NFS_GETATTR);
}

/* Its place is where the server says that the end is. */
Test(forgotten, append) {
        static uint8_t data[100];
        uint64_t log = file_open(nodeid, O_WRONLY | O_APPEND);
        TestOp t;

        write_unstable(0);
        restarts_over(NFS_GETATTR);
        init(&t);
        vfs_write(&t.op, nodeid, log, 1 << 20, data, sizeof data, VFS_WRITE); /* the kernel takes it for the end, too */
        is_asked_again(&t, NFS_GETATTR);
}
