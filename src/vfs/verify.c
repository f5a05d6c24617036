/*
 * See include/vfs/verify.h. What each table says of the others is counted from the other side as well: who pins an inode,
 * who has it open, whose directory it is in, which extents are whose.
 *
 * Not counted from the other side: the pins of what runs in the background (a READDIRPLUS read ahead, a .nfs name that is
 * removed). While there is any, an inode may have more pins than are known.
 *
 * Thread: the first reactor's, while the others stand still; so no lock is taken but where a function called takes one.
 */
#include "lock.h"
#include "pending.h"

/* What others say of an inode. */
typedef struct Tally {
        uint32_t n_pins, n_open, n_open_children;
} Tally;

struct VfsVerify {
        Vfs *vfs;
        VerifyReport *report;
        Tally *tally; /* of each inode */
        uint32_t high;
        uint32_t n_background;
};

void vfs_verify_equal(VfsVerify *verify, enum VerifyRule rule, uint64_t what, uint64_t found, uint64_t expected) {
        VerifyReport *report = verify->report;

        if (found == expected)
                return;
        if (report->n_faults < VERIFY_FAULTS_MAX)
                report->faults[report->n_faults] =
                        (VerifyFault){ .rule = rule, .what = what, .found = found, .expected = expected };
        report->n_faults++;
}

static void check(VfsVerify *verify, enum VerifyRule rule, uint64_t what, bool holds) {
        vfs_verify_equal(verify, rule, what, holds, true);
}

static void count(VfsVerify *verify, enum VerifyCount what, uint64_t n) {
        verify->report->counts[what] += n;
}

/* A used inode's; NULL: there is none. */
static Tally *tally_of(VfsVerify *verify, const Inode *inode) {
        ptrdiff_t index = inode ? inode - verify->vfs->inodes : 0;

        if (index <= 0 || index >= (ptrdiff_t) verify->high || !inode->record || atomic_load(&inode->record->used) != 1)
                return NULL;
        return &verify->tally[index];
}

/* Whether there is an inode to be pinned. */
static bool pinned(VfsVerify *verify, const Inode *inode) {
        Tally *tally = tally_of(verify, inode);

        if (tally)
                tally->n_pins++;
        return tally;
}

VfsVerify *vfs_verify_begin(Vfs *vfs) {
        VfsVerify *verify = calloc(1, sizeof *verify);

        if (!verify)
                return NULL;
        verify->vfs = vfs;
        verify->report = &vfs->memory->verify;
        verify->high = atomic_load(&vfs->memory->inodes_high);
        verify->tally = calloc(verify->high, sizeof *verify->tally);
        if (!verify->tally) {
                free(verify);
                return NULL;
        }
        atomic_store(&verify->report->begun, atomic_load(&verify->report->asked));
        verify->report->n_faults = 0;
        memset(verify->report->counts, 0, sizeof verify->report->counts);
        return verify;
}

void vfs_verify_reactor(VfsVerify *verify, const VfsReactor *vr) {
        verify->n_background += vr->n_background + vr->n_dispensable;
}

void vfs_verify_op(VfsVerify *verify, const Op *op) {
        count(verify, VERIFY_REQUESTS, 1);
        (void) pinned(verify, op->inode);
        (void) pinned(verify, op->inode2);
        (void) pinned(verify, op->victim);
        if (op->opening && tally_of(verify, op->inode))
                tally_of(verify, op->inode)->n_open++;
}

/* ---- opens ---- */

static void check_open(VfsVerify *verify, uint32_t index) {
        Open *open = &verify->vfs->opens[index];
        Tally *tally = tally_of(verify, open->inode);

        check(verify, VERIFY_OPEN_RECORD, index, open->record && open_is_whole(verify->vfs, open));
        check(verify, VERIFY_OPEN_INODE, index, tally && open->record && open->record->nodeid == open->inode->nodeid);
        if (!tally)
                return;
        tally->n_pins++;
        tally->n_open++;
        count(verify, S_ISDIR(open->inode->record->type) ? VERIFY_OPEN_DIRS : VERIFY_OPENS, 1);
}

static void check_opens(VfsVerify *verify) {
        Vfs *vfs = verify->vfs;
        uint32_t high = atomic_load(&vfs->memory->opens_high), n = 0, n_lost = 0, n_free = 0;

        for (uint32_t i = 0; i < high; i++) {
                uint32_t used = atomic_load(&vfs->memory->opens[i].used);

                n_lost += used == RECORD_LOST;
                n += used != RECORD_LOST && used != 0;
                if (used != RECORD_LOST && used != 0)
                        check_open(verify, i);
        }
        for (const Open *open = vfs->free_opens; open && n_free <= high; open = open->next_free)
                n_free++;
        vfs_verify_equal(verify, VERIFY_OPEN_COUNT, 0, atomic_load(&vfs->memory->n_opens), n);
        vfs_verify_equal(verify, VERIFY_OPEN_FREE, 0, n_free, high - n - n_lost);
        count(verify, VERIFY_DAMAGED, n_lost);
}

/* ---- what was written ---- */

static void check_extents(VfsVerify *verify) {
        static const enum VerifyCount counts[] = {
                [EXTENT_DIRTY] = VERIFY_DIRTY, [EXTENT_SENT] = VERIFY_SENT, [EXTENT_UNSTABLE] = VERIFY_UNSTABLE
        };
        uint64_t bytes[EXTENT_UNSTABLE + 1] = { 0 }, used = 0;
        Vfs *vfs = verify->vfs;
        Extent *extent = NULL;

        while ((extent = extent_next(vfs, extent))) {
                enum ExtentState state = extent_state(extent);
                uint64_t index = (uint64_t) (extent - vfs->extents);

                if (state == EXTENT_FREE) {
                        check(verify, VERIFY_EXTENT_FREE, index, !extent->inode);
                        continue;
                }
                check(verify, VERIFY_EXTENT_RECORD, index, state <= EXTENT_UNSTABLE && extent_is_whole(vfs, extent));
                check(verify, VERIFY_EXTENT_INODE, index,
                      tally_of(verify, extent->inode) && extent->inode->nodeid == extent->record->nodeid &&
                              extent->inode->pending);
                used += extent->capacity;
                if (state > EXTENT_UNSTABLE)
                        continue;
                count(verify, counts[state], 1);
                bytes[state] += extent_len(extent);
        }
        vfs_verify_equal(verify, VERIFY_EXTENT_ROOM, 0, vfs->bytes_used, used);
        vfs_verify_equal(verify, VERIFY_EXTENT_BYTES, EXTENT_DIRTY, atomic_load(&vfs->memory->dirty_bytes),
                         bytes[EXTENT_DIRTY] + bytes[EXTENT_SENT]);
        vfs_verify_equal(verify, VERIFY_EXTENT_BYTES, EXTENT_UNSTABLE, atomic_load(&vfs->memory->unstable_bytes),
                         bytes[EXTENT_UNSTABLE]);
        check(verify, VERIFY_ROOM_WAITER, 0, TAILQ_EMPTY(&vfs->for_room) || vfs->bytes_used > 0);
}

/* The extents of one of its lists; returns how many. */
static uint32_t check_list(VfsVerify *verify, const Pending *pending, const struct ExtentList *list, bool unstable) {
        const Extent *extent;
        uint64_t seq = 0;
        uint32_t n = 0;

        TAILQ_FOREACH(extent, list, extent_link) {
                bool ordered = unstable || extent->record->seq >= seq;

                check(verify, VERIFY_EXTENT_FILE, (uint64_t) (extent - verify->vfs->extents),
                      extent->inode == pending->inode && (extent_state(extent) == EXTENT_UNSTABLE) == unstable && ordered);
                seq = extent->record->seq;
                n++;
        }
        return n;
}

static void check_pending(VfsVerify *verify, const Pending *pending) {
        const Inode *inode = pending->inode;
        uint64_t bytes_sent = 0, nodeid = inode->nodeid;
        uint32_t n = 0, n_sent = 0;
        const Extent *extent;
        const Op *op;

        check(verify, VERIFY_EXTENT_INODE, nodeid, pinned(verify, inode) && inode->pending == pending);
        n += check_list(verify, pending, &pending->unwritten, false);
        n += check_list(verify, pending, &pending->unstable, true);
        TAILQ_FOREACH(extent, &pending->unwritten, extent_link)
                if (extent_state(extent) == EXTENT_SENT) {
                        n_sent++;
                        bytes_sent += extent_len(extent);
                }
        vfs_verify_equal(verify, VERIFY_PENDING_EXTENTS, nodeid, pending->n_extents, n);
        vfs_verify_equal(verify, VERIFY_PENDING_SENT, nodeid, pending->n_sent, n_sent);
        vfs_verify_equal(verify, VERIFY_PENDING_SENT, nodeid, pending->bytes_sent, bytes_sent);
        vfs_verify_equal(verify, VERIFY_INODE_WRITING, nodeid, inode->n_writing, n_sent);
        TAILQ_FOREACH(op, &pending->waiting, wait.wait_link)
                check(verify, VERIFY_PENDING_WAITER, nodeid,
                      op->wait.in_file && op->inode == inode && pending_has_up_to(pending, op->wait.seq, op->wait.stable));
        check(verify, VERIFY_PENDING_EMPTY, nodeid, n > 0 || pending->committing);
}

static void check_written(VfsVerify *verify) {
        const Pending *pending;

        check_extents(verify);
        TAILQ_FOREACH(pending, &verify->vfs->pending, volume_link)
                check_pending(verify, pending);
}

/* ---- locks ---- */

/* Records that a request has in hand. */
static void count_room(const LockRequest *request, uint32_t *n_asked, uint32_t *n_taken) {
        const LockRecord *record = request ? request->room.record : NULL;

        if (record)
                ++*(atomic_load(&record->state) == LOCK_FREE ? n_taken : n_asked);
        if (request && request->room.spare)
                ++*n_taken;
}

static void check_lock_file(VfsVerify *verify, const LockFile *file, uint32_t *n_held, uint32_t *n_asked, uint32_t *n_taken) {
        const LockRecords *records = &file->locks->records;
        const LockRequest *request;
        const LockRange *range;

        check(verify, VERIFY_LOCK_FILE, file->inode->nodeid,
              pinned(verify, file->inode) && file->inode->locks == file &&
                      (file->stepping || file->current || !TAILQ_EMPTY(&file->requests) || !TAILQ_EMPTY(&file->zapping) ||
                       !lockset_is_empty(&file->set)));
        TAILQ_FOREACH(range, &file->set.ranges, range_link) {
                const LockRecord *record = range->record;

                check(verify, VERIFY_LOCK_RECORD, (uint64_t) (record - records->records),
                      atomic_load(&record->state) == LOCK_HELD && lock_record_is_whole(records, record) &&
                              record->nodeid == file->inode->nodeid && record->start == range->start &&
                              record->end == range->end && record->type == range->type);
                ++*n_held;
        }
        TAILQ_FOREACH(request, &file->requests, request_link)
                count_room(request, n_asked, n_taken);
        TAILQ_FOREACH(request, &file->zapping, request_link)
                count_room(request, n_asked, n_taken);
        count_room(file->current, n_asked, n_taken);
}

static void check_locks(VfsVerify *verify) {
        uint32_t n_held = 0, n_asked = 0, n_taken = 0, n_records = 0, high;
        Locks *locks = verify->vfs->locks;
        const LockFile *file;

        if (!locks)
                return;
        high = atomic_load(locks->records.high);
        for (uint32_t i = 0; i < high; i++)
                n_records += atomic_load(&locks->records.records[i].state) != LOCK_FREE;
        TAILQ_FOREACH(file, &locks->files, file_link)
                check_lock_file(verify, file, &n_held, &n_asked, &n_taken);
        vfs_verify_equal(verify, VERIFY_LOCK_COUNT, 0, atomic_load(locks->records.n_held), n_held);
        vfs_verify_equal(verify, VERIFY_LOCK_FILE, 0, n_records, n_held + n_asked);
        vfs_verify_equal(verify, VERIFY_LOCK_FREE, 0, locks->records.n_free, high - n_records - n_taken);
        count(verify, VERIFY_LOCKS_HELD, n_held);
        count(verify, VERIFY_LOCKS_ASKED, n_asked);
}

/* ---- inodes: last, when the others have said what they know of them ---- */

static void tally_children(VfsVerify *verify) {
        uint32_t n_unplaced = 0;

        for (uint32_t i = 1; i < verify->high; i++) {
                const Inode *inode = &verify->vfs->inodes[i];
                uint32_t parent = (uint32_t) inode->parent;

                verify->tally[i].n_pins += (inode->drop.vfs != NULL) + reread_pins(inode) + inode->asking;
                if (!tally_of(verify, inode) || !S_ISREG(inode->record->type) || inode->n_open == 0)
                        continue;
                if (inode->unplaced)
                        n_unplaced += inode->n_open;
                else if (parent < verify->high && verify->vfs->inodes[parent].nodeid == inode->parent)
                        verify->tally[parent].n_open_children += inode->n_open;
        }
        vfs_verify_equal(verify, VERIFY_UNPLACED, 0, verify->vfs->n_open_unplaced, n_unplaced);
}

static void check_inode(VfsVerify *verify, uint32_t index) {
        Inode *inode = &verify->vfs->inodes[index];
        const Tally *tally = tally_of(verify, inode);
        uint64_t n_lookup, nodeid = inode->nodeid;

        check(verify, VERIFY_INODE_RECORD, nodeid ? nodeid : index, tally && inode_is_whole(verify->vfs, inode));
        if (!tally)
                return;
        check(verify, VERIFY_INODE_INDEX, nodeid, inode_is_indexed(verify->vfs, inode));
        n_lookup = inode_is_root(inode) ? 1 : atomic_load(&inode->record->n_lookup);
        check(verify, VERIFY_INODE_UNUSED, nodeid, n_lookup > 0 || inode->n_busy > 0);
        if (verify->n_background == 0 || inode->n_busy < tally->n_pins)
                vfs_verify_equal(verify, VERIFY_INODE_PINS, nodeid, inode->n_busy, tally->n_pins);
        vfs_verify_equal(verify, VERIFY_INODE_OPENS, nodeid, inode->n_open, tally->n_open);
        vfs_verify_equal(verify, VERIFY_INODE_CHILDREN, nodeid, inode->n_open_children, tally->n_open_children);
        check(verify, VERIFY_INODE_WRITING, nodeid, inode->pending || inode->n_writing == 0);
        count(verify, VERIFY_LOOKUPS, n_lookup);
        count(verify, VERIFY_PINS, inode->n_busy);
}

static void check_chunk(VfsVerify *verify, uint32_t c) {
        const InodeChunk *chunk = &verify->vfs->inode_chunks[c];
        uint32_t n = 0;

        for (const Inode *inode = chunk->free; inode && n <= INODE_CHUNK_SIZE; inode = inode->next_free)
                n++;
        vfs_verify_equal(verify, VERIFY_INODE_FREE, c, n, chunk->n_touched - chunk->n_used);
}

static void check_inodes(VfsVerify *verify) {
        Vfs *vfs = verify->vfs;
        uint32_t n = 0, n_lost = 0;

        tally_children(verify);
        for (uint32_t i = 1; i < verify->high; i++) {
                uint32_t used;

                if (i % INODE_CHUNK_SIZE >= vfs->inode_chunks[i / INODE_CHUNK_SIZE].n_touched)
                        continue; /* and it shall not be touched now */
                used = atomic_load(&vfs->memory->inodes[i].used);
                n_lost += used == RECORD_LOST;
                n += used != RECORD_LOST && used != 0;
                if (used != RECORD_LOST && used != 0)
                        check_inode(verify, i);
        }
        vfs_verify_equal(verify, VERIFY_INODE_COUNT, 0, atomic_load(&vfs->memory->n_inodes), n);
        vfs_verify_equal(verify, VERIFY_INODE_INDEX, 0, HASH_CNT(by_fh, vfs->by_fh), n);
        for (uint32_t c = 0; c * INODE_CHUNK_SIZE < verify->high; c++)
                check_chunk(verify, c);
        count(verify, VERIFY_INODES, n);
        count(verify, VERIFY_DAMAGED, n_lost);
}

void vfs_verify_end(VfsVerify *verify) {
        VerifyReport *report = verify->report;

        check_opens(verify);
        check_written(verify);
        check_locks(verify);
        check_inodes(verify);
        count(verify, VERIFY_BACKGROUND, verify->n_background);
        atomic_store(&report->answered, atomic_load(&report->begun));
        free(verify->tally);
        free(verify);
}
