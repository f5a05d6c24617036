/* vfs/verify.c: tables that agree, and each kind of disagreement named. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/mman.h>

#include "src/vfs/pending.h"
#include "src/vfs/volume.h"

static Memory *memory;
static int memory_fd;
static SessionOptions options = { .acregmin = 3, .acregmax = 60, .acdirmin = 30, .acdirmax = 60 };
static Vfs *vfs;
static VfsReactor vr;
static Inode *dir, *file;
static Open *opened;

static NfsFh handle(uint32_t n) {
        NfsFh fh = { .len = 8 };

        memcpy(fh.data, "file", 4);
        memcpy(fh.data + 4, &n, 4);
        return fh;
}

static Inode *look(uint32_t n, mode_t type, uint64_t parent) {
        NfsAttr attr = { .mode = type | 0755, .nlink = 1, .fileid = n };
        NfsFh fh = handle(n);
        Inode *inode = inode_lookup(vfs, &fh, &attr, parent, "name");

        cache_update(vfs, inode, &attr, (CallTime){ 1, 1 });
        return inode;
}

/* A directory, a file in it that is open and has something written, and one that is only known. */
static void setup(void) {
        Op op = { .unique = 1 };
        uint64_t fh, seq;

        cr_assert_eq(memory_new(&memory, &memory_fd), 0);
        memory->n_reactors = 1;
        memory->mount.root = handle(0);
        memory->mount.root_attr = (NfsAttr){ .mode = S_IFDIR | 0755, .nlink = 2, .fileid = 1 };
        memory->mount.info.rtmax = memory->mount.info.wtmax = 1 << 20;
        cr_assert_eq(vfs_new(memory, &options, &vfs), 0);
        vr = (VfsReactor){ .vfs = vfs };
        cr_assert_eq(reactor_new(&vr.reactor), 0);
        op.reactor = &vr;
        dir = look(1, S_IFDIR, 1);
        file = look(2, S_IFREG, dir->nodeid);
        (void) look(3, S_IFREG, dir->nodeid);
        cr_assert_eq(open_add(&op, file, 0, &opened, &fh), 0);
        cr_assert_eq(pending_add(&vr, file, &op.cred, 0, "data", 4, NFS_UNSTABLE, &seq), 0);
}

static void teardown(void) {
        timer_disarm(&vr.writeback);
        (void) reactor_free(vr.reactor);
        vfs_free(vfs);
        (void) munmap(memory, sizeof *memory);
        (void) close(memory_fd);
}

TestSuite(verify, .init = setup, .fini = teardown);

static const VerifyReport *verify(void) {
        VfsVerify *v;

        atomic_fetch_add(&memory->verify.asked, 1);
        v = vfs_verify_begin(vfs);
        cr_assert_not_null(v);
        vfs_verify_reactor(v, &vr);
        vfs_verify_end(v);
        cr_assert_eq(atomic_load(&memory->verify.answered), atomic_load(&memory->verify.asked));
        return &memory->verify;
}

/* Of all that is violated one is this rule. */
static void violates(enum VerifyRule rule, const char *how) {
        const VerifyReport *report = verify();

        for (uint32_t i = 0; i < MIN(report->n_faults, (uint32_t) VERIFY_FAULTS_MAX); i++)
                if (report->faults[i].rule == rule)
                        return;
        cr_assert_fail("%s: not found", how);
}

Test(verify, sound) {
        const VerifyReport *report = verify();

        cr_assert_eq(report->n_faults, 0, "rule %u of %llu", report->faults[0].rule, (unsigned long long) report->faults[0].what);
        cr_expect_eq(report->counts[VERIFY_INODES], 4);
        cr_expect_eq(report->counts[VERIFY_LOOKUPS], 4);
        cr_expect_eq(report->counts[VERIFY_OPENS], 1);
        cr_expect_eq(report->counts[VERIFY_OPEN_DIRS], 0);
        cr_expect_eq(report->counts[VERIFY_PINS], 2, "the open and the data");
        cr_expect_eq(report->counts[VERIFY_DIRTY], 1);
}

#define DAMAGE(lvalue, value, rule)                                                                                              \
        do {                                                                                                                     \
                __typeof__(lvalue) *p = &(lvalue), before = *p;                                                                  \
                *p = (value);                                                                                                    \
                violates(rule, #lvalue);                                                                                         \
                *p = before;                                                                                                     \
                cr_assert_eq(verify()->n_faults, 0, "%s", #lvalue);                                                              \
        } while (0)

Test(verify, each_disagreement_is_named) {
        ExtentRecord *extent = &memory->extents.records[0];

        DAMAGE(file->record->fileid, 99, VERIFY_INODE_RECORD);
        DAMAGE(file->record->generation, 99, VERIFY_INODE_RECORD);
        DAMAGE(file->record->fh.data[0], 99, VERIFY_INODE_INDEX);
        DAMAGE(file->n_busy, 1, VERIFY_INODE_PINS);
        DAMAGE(file->n_busy, 3, VERIFY_INODE_PINS);
        DAMAGE(file->n_open, 2, VERIFY_INODE_OPENS);
        DAMAGE(dir->n_open_children, 0, VERIFY_INODE_CHILDREN);
        DAMAGE(vfs->n_open_unplaced, 1, VERIFY_UNPLACED);
        DAMAGE(file->n_writing, 1, VERIFY_INODE_WRITING);
        DAMAGE(vfs->inodes[4].record->n_lookup, 0, VERIFY_INODE_UNUSED);
        DAMAGE(memory->n_inodes, 5, VERIFY_INODE_COUNT);
        DAMAGE(vfs->inode_chunks[0].free, dir, VERIFY_INODE_FREE);
        DAMAGE(opened->record->nodeid, dir->nodeid, VERIFY_OPEN_RECORD);
        DAMAGE(opened->record->nodeid, dir->nodeid, VERIFY_OPEN_INODE);
        DAMAGE(opened->inode, NULL, VERIFY_OPEN_INODE);
        DAMAGE(memory->n_opens, 0, VERIFY_OPEN_COUNT);
        DAMAGE(memory->opens_high, 2, VERIFY_OPEN_FREE);
        DAMAGE(extent->offset, 1, VERIFY_EXTENT_RECORD);
        DAMAGE(extent->len, EXTENT_SMALL + 1, VERIFY_EXTENT_RECORD);
        DAMAGE(extent->nodeid, 1, VERIFY_EXTENT_INODE);
        DAMAGE(extent->state, EXTENT_UNSTABLE, VERIFY_EXTENT_FILE);
        DAMAGE(extent->state, EXTENT_FREE, VERIFY_EXTENT_FREE);
        DAMAGE(vfs->bytes_used, 0, VERIFY_EXTENT_ROOM);
        DAMAGE(memory->dirty_bytes, 5, VERIFY_EXTENT_BYTES);
        DAMAGE(file->pending->n_extents, 2, VERIFY_PENDING_EXTENTS);
        DAMAGE(file->pending->n_sent, 1, VERIFY_PENDING_SENT);
}

/* A used inode of which nobody knows is a leak; so is one whose record says it is free. */
Test(verify, a_file_that_is_forgotten_goes_with_what_needed_it) {
        inode_forget(vfs, file->nodeid, 1);
        cr_assert_eq(verify()->n_faults, 0, "it is open");
        DAMAGE(file->record->used, 0, VERIFY_OPEN_INODE);
}

/* What only a dead worker's work in the background needed goes with it. */
Test(verify, nothing_is_left_of_what_a_dead_worker_did) {
        Inode *inode = inode_pin(vfs, vfs->inodes[4].nodeid);

        inode_forget(vfs, inode->nodeid, 1);
        vfs_free(vfs);
        cr_assert_eq(vfs_new(memory, &options, &vfs), 0);
        violates(VERIFY_INODE_UNUSED, "not yet");
        vfs_recovered(&(VfsReactor){ .vfs = vfs });
        cr_assert_eq(verify()->n_faults, 0);
        cr_assert_eq(memory->verify.counts[VERIFY_INODES], 3);
        cr_assert_eq(memory->verify.counts[VERIFY_PINS], 2, "the open and the data");
}

/* Who waits for data that is not there would wait for ever. */
Test(verify, nobody_waits_for_nothing) {
        Op op = { .reactor = &vr, .inode = file };

        op.wait.in_file = true;
        op.wait.seq = file->pending->last_seq;
        TAILQ_INSERT_TAIL(&file->pending->waiting, &op, wait.wait_link);
        cr_assert_eq(verify()->n_faults, 0);
        DAMAGE(op.wait.in_file, false, VERIFY_PENDING_WAITER);
        pending_drop_extent(vfs, file->pending, TAILQ_FIRST(&file->pending->unwritten));
        violates(VERIFY_PENDING_WAITER, "all of it has been written");
        violates(VERIFY_PENDING_EMPTY, "nothing is on its way");
}
