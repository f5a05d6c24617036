/*
 * What was read of a page before a WRITE of it must not stay in the kernel's cache after that was answered (vfs/reread.c). The
 * kernel is played here: it says when pages are gone.
 */
#include <criterion/criterion.h>
#include <fcntl.h>

#include "src/vfs/volume.h"
#include "volume.h"

#define PAGE 4096u

static uint64_t nodeid, reader, writer;
static VfsInval *told[8]; /* oldest first */
static unsigned n_told;
static uint64_t dropped_at; /* ns */
static bool at_once;        /* the kernel drops pages as soon as it is told */
static uint8_t data[PAGE];

static void inval_pages(void *userdata, VfsInval *inval) {
        (void) userdata;
        if (at_once)
                return inval->done(inval);
        cr_assert_lt(n_told, ELEMENTSOF(told));
        told[n_told++] = inval;
}

/* The kernel has dropped what it was told first. */
static void pages_gone(void) {
        VfsInval *first = told[0];

        cr_assert_gt(n_told, 0);
        memmove(told, told + 1, --n_told * sizeof told[0]);
        first->done(first);
}

static void start(void) {
        VfsNotify notify = { .inval_pages = inval_pages };

        worker_start();
        vfs_set_notify(vfs, &notify);
}

static void setup(void) {
        volume_prepare(NFS_NLM_UNUSED);
        options.acregmin = options.acregmax = 3600; /* nothing is asked but what is tested */
        start();
        at_once = true;
        nodeid = file_find("f3");
        reader = file_open(nodeid, O_RDONLY);
        writer = file_open(nodeid, O_RDWR);
        turn_for(150); /* an open may drop pages, too */
        at_once = false;
}

static void teardown(void) {
        worker_end();
        volume_done();
}

TestSuite(reread, .init = setup, .fini = teardown, .timeout = 60);

static void read_start(TestOp *t, uint64_t fh, uint64_t offset) {
        init(t);
        vfs_read(&t->op, nodeid, fh, offset, PAGE);
}

static void read_page(uint64_t offset) {
        TestOp t;

        read_start(&t, reader, offset);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(t.size, PAGE);
}

static void write_start(TestOp *t, uint64_t fh, uint64_t offset, enum VfsWriteKind kind) {
        init(t);
        vfs_write(&t->op, nodeid, fh, offset, data, 100, kind);
}

/* Another node has changed the file: its pages are dropped. */
static void others_write(void) {
        Inode *inode = inode_pin(vfs, nodeid);

        dropped_at = now_ns();
        pages_drop(vfs, inode);
        inode_unpin(vfs, inode);
        pages_gone();
}

/* Was t begun too late for anybody to be unsure? Then it ends, and there is another attempt: the machine may stall. */
static bool too_late(TestOp *t) {
        static unsigned n;

        if (now_ns() - dropped_at < REREAD_UNSURE_NS)
                return false;
        while (n_told > 0)
                pages_gone();
        cr_assert_eq(result(t), 0);
        return n++ < 5;
}

static void others_write_and_we(TestOp *t) {
        do {
                others_write();
                read_page(0);
                write_start(t, writer, 10, VFS_WRITE);
        } while (too_late(t));
}

Test(reread, without_a_drop_nothing_is_told) {
        TestOp t;

        read_page(0);
        write_start(&t, writer, 10, VFS_WRITE);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(n_told, 0);
}

Test(reread, written_is_answered_when_the_page_is_gone) {
        TestOp t;

        do {
                others_write();
                read_page(0);
                write_start(&t, writer, PAGE + 10, VFS_WRITE);
                cr_assert_eq(result(&t), 0, "another page");
                cr_assert_eq(n_told, 0);
                write_start(&t, writer, 10, VFS_WRITE);
        } while (too_late(&t));
        cr_assert_eq(n_told, 1);
        cr_assert_eq(told[0]->nodeid, nodeid);
        cr_assert_eq(told[0]->offset, 10);
        cr_assert_eq(told[0]->size, 100);
        cr_assert_eq(t.n_done, 0);
        pages_gone();
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(t.size, 100);
}

/* False: nothing can be said, for the others were answered without, after 5 ms. */
static bool waits_for_its_own(void) {
        uint64_t begin;
        unsigned n_done;
        bool soon;
        TestOp t[3];

        do {
                others_write();
                for (unsigned i = 0; i < 3; i++)
                        read_page(i * PAGE);
                begin = now_ns();
                for (unsigned i = 0; i < 3; i++)
                        write_start(&t[i], writer, 10 + i * PAGE, VFS_WRITE);
        } while (too_late(&t[0]) && result(&t[1]) == 0 && result(&t[2]) == 0);
        cr_assert_eq(n_told, 1);
        pages_gone();
        cr_assert_eq(n_told, 1, "the other two together");
        cr_assert_eq(told[0]->offset, 10 + PAGE);
        cr_assert_eq(told[0]->size, 100 + PAGE);
        cr_assert_eq(result(&t[0]), 0);
        n_done = (unsigned) (t[1].n_done + t[2].n_done);
        soon = now_ns() - begin < 4 * NSEC_PER_MSEC;
        pages_gone();
        cr_assert_eq(result(&t[1]), 0);
        cr_assert_eq(result(&t[2]), 0);
        cr_assert_eq(n_told, 0);
        if (soon)
                cr_assert_eq(n_done, 0);
        return soon;
}

/* Other WRITEs go on to drop: nobody waits for those that came later. */
Test(reread, each_waits_for_its_own) {
        for (int i = 0; i < 5; i++)
                if (waits_for_its_own())
                        return;
        cr_assert_fail("5 ms are never enough here");
}

/* The kernel may have locked the page until it is answered. */
Test(reread, it_is_not_waited_for_long) {
        uint64_t begin;
        TestOp t;

        others_write_and_we(&t);
        begin = now_ns();
        cr_assert_eq(result(&t), 0);
        cr_assert_lt(now_ns() - begin, 4 * NSEC_PER_SEC);
        cr_assert_eq(n_told, 1);
        pages_gone();
        turn_for(20);
        cr_assert_eq(t.n_done, 1);
}

Test(reread, an_interrupted_one_was_written) {
        TestOp t;

        others_write_and_we(&t);
        vfs_interrupt(&t.op);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(t.size, 100);
        pages_gone();
}

Test(reread, long_after_the_drop_nothing_is_told) {
        TestOp t;

        others_write();
        read_page(0);
        turn_for(150);
        write_start(&t, writer, 10, VFS_WRITE);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(n_told, 0);
}

/* The same page, written again and again, and locked by the kernel each time. */
Test(reread, not_each_one_waits) {
        uint64_t begin, best = UINT64_MAX;
        TestOp t;

        for (int k = 0; k < 3 && best >= 80 * NSEC_PER_MSEC; k++) {
                others_write_and_we(&t);
                cr_assert_eq(n_told, 1);
                begin = now_ns();
                cr_assert_eq(result(&t), 0);
                for (int i = 1; i < 20; i++) {
                        write_start(&t, writer, 10, VFS_WRITE);
                        cr_assert_eq(result(&t), 0);
                }
                best = MIN(best, now_ns() - begin);
                while (n_told > 0)
                        pages_gone();
                turn_for(150);
        }
        cr_assert_lt(best, 80 * NSEC_PER_MSEC); /* 100: all of them waited */
}

/* What is dropped for this reason is read again, and so on: that comes to an end. */
Test(reread, drops_do_not_feed_themselves) {
        uint64_t end = now_ns() + 300 * NSEC_PER_MSEC;
        unsigned n = 0;
        TestOp t;

        others_write();
        at_once = true;
        while (now_ns() < end) {
                read_page(0);
                write_start(&t, writer, 10, VFS_WRITE);
                cr_assert_eq(result(&t), 0);
        }
        at_once = false;
        for (n = 0; n < 20; n++) {
                read_page(0);
                write_start(&t, writer, 10, VFS_WRITE);
                cr_assert_eq(result(&t), 0);
        }
        cr_assert_eq(n_told, 0);
}

/* It says nothing of the file's size and times. */
Test(reread, nobody_else_waits) {
        TestOp t, s;

        others_write_and_we(&t);
        cr_assert_eq(n_told, 1);
        init(&s);
        vfs_getattr(&s.op, nodeid);
        cr_assert_eq(result(&s), 0);
        pages_gone();
        cr_assert_eq(result(&t), 0);
}

/* The server answers late; what counts is when it was kept. */
Test(reread, a_synchronous_one) {
        uint64_t sync;
        TestOp t;

        at_once = true;
        sync = file_open(nodeid, O_WRONLY | O_SYNC);
        turn_for(150);
        at_once = false;
        do {
                others_write();
                read_page(0);
                fakenfs_fault(fake, NFS_WRITE, FAKE_DELAY, 250, 0, 1);
                write_start(&t, sync, 10, VFS_WRITE);
        } while (too_late(&t));
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(n_told, 1);
        pages_gone();
}

Test(reread, in_flight_it_is_read_again) {
        uint64_t n;
        TestOp r, t;

        do {
                n = fakenfs_executed(fake, NFS_READ);
                others_write();
                fakenfs_fault(fake, NFS_READ, FAKE_DELAY, 1000, 0, 1);
                read_start(&r, reader, 0);
                cr_assert(turn_until(fakenfs_executed(fake, NFS_READ) == n + 1));
                write_start(&t, writer, 10, VFS_WRITE);
        } while (too_late(&t) && result(&r) == 0);
        cr_assert_eq(n_told, 1);
        cr_assert_eq(result(&t), 0, "the page is locked until the READ is answered");
        cr_assert_eq(result(&r), 0);
        cr_assert_eq(fakenfs_executed(fake, NFS_READ), n + 2);
        cr_assert_geq(fakenfs_executed(fake, NFS_WRITE), 1, "what is read again is there");
        pages_gone();
}

/* An appending one asks for the end of the file first; the kernel has dropped its pages before. */
Test(reread, an_appending_one_is_on_its_way_for_long) {
        uint64_t appender = file_open(nodeid, O_WRONLY | O_APPEND), n = fakenfs_seen(fake, NFS_GETATTR);
        TestOp r, t;

        fakenfs_fault(fake, NFS_GETATTR, FAKE_DELAY, 2000, 0, 1);
        write_start(&t, appender, 0, VFS_WRITE);
        cr_assert(turn_until(fakenfs_seen(fake, NFS_GETATTR) == n + 1));
        read_start(&r, reader, 1u << 20); /* nothing there yet */
        cr_assert_eq(result(&r), 0);
        cr_assert_eq(r.size, 0);
        cr_assert(turn_until(n_told > 0));
        cr_assert_eq(told[0]->offset, 1u << 20);
        pages_gone();
        cr_assert_eq(result(&t), 0);
}

Test(reread, mapped_pages_are_safe) {
        TestOp t;

        others_write();
        read_page(0);
        write_start(&t, writer, 0, VFS_WRITE_PAGES);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(n_told, 0);
}

/* A dead worker may have read before the WRITE, and nobody knows. */
Test(reread, after_a_workers_death) {
        TestOp t;

        atomic_store(&memory->init_replied, 1);
        do {
                worker_end();
                dropped_at = now_ns();
                start();
                write_start(&t, writer, 10, VFS_WRITE);
        } while (too_late(&t));
        cr_assert_eq(n_told, 1);
        pages_gone();
        cr_assert_eq(result(&t), 0);
        turn_for(150);
        write_start(&t, writer, 10, VFS_WRITE);
        cr_assert_eq(result(&t), 0);
        cr_assert_eq(n_told, 0);

        init(&t);
        t.op.recovered = true;
        vfs_write(&t.op, nodeid, writer, 10, data, 100, VFS_WRITE);
        cr_assert_eq(n_told, 1);
        pages_gone();
        cr_assert_eq(result(&t), 0);
}
