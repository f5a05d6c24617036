/*
 * Write-behind: what was written to a file, on its way to the server's stable storage.
 *
 * A WRITE of the kernel is copied into an extent of the recovery memory (extent.c) and answered; it is not lost by our
 * death. What follows on it directly joins it, and what lies side by side is gathered before it goes out, so that small writes
 * make large WRITEs. An extent goes out when it is full,
 * and all of them when somebody wants them on the server: close, fsync(2), a read of what is not there yet, stat(2), a
 * change of the file's attributes, a lock, pressure, or some time (writeback.c). Many are in flight at a time.
 *
 *     DIRTY ── WRITE ──► SENT ── reply ──► UNSTABLE ── COMMIT, same verifier ──► gone
 *       ▲                  └─ reply: stable, nothing unstable before it ─────────► gone
 *       └──────────────────────────────────────┘ another verifier: the server restarted and may have forgotten
 *
 * Extents of a file may overlap; then the one with the greater seq is newer. Three rules keep them in order on the server:
 * an extent is not sent while an older one that it overlaps is DIRTY or SENT; while anything of the file is UNSTABLE
 * all that is written after it is kept, too, whatever the server says, for if one has to be written again, all are
 * (RFC 1813 sections 3.3.7, 3.3.21); and what overlaps is not SENT while a COMMIT of the older one is on its way, which may
 * say that this has to be written again.
 *
 * A new connection may be to a server that has restarted, and lacks what is UNSTABLE: then that is committed at once, and
 * until the verifier is known it counts as unwritten for who reads, appends, or asks for the size. Who had asked before asks
 * again (op_is_in_doubt()): his answer may be from between the restart and the WRITEs that followed.
 *
 * After a crash what was SENT is sent again, the same bytes under the same XID over the same connection's port, so that the
 * server's duplicate-request cache keeps the dead worker's WRITE from being executed after a later one of ours.
 *
 * A WRITE or COMMIT that fails loses data: everybody who has the file open is told when he asks next: write(2), fsync(2),
 * close(2). If nobody has, the next one who opens it is.
 *
 * Thread: any; Inode.lock. pending_step() is the one place where things happen.
 */
#include "base/crashpoint.h"
#include "base/log.h"
#include "pending.h"

#define SENT_MAX   64u           /* WRITEs of one file in flight */
#define GATHER_MAX EXTENT_MEDIUM /* enough for the cost of a WRITE not to matter */

static void extent_send(VfsReactor *vr, Extent *extent);
static void extent_written(NfsCall *call);
static void extent_settle(Extent *extent);

static int extent_compare(const Extent *a, const Extent *b) {
        if (a->record->offset != b->record->offset)
                return a->record->offset < b->record->offset ? -1 : 1;
        if (a->record->seq != b->record->seq)
                return a->record->seq < b->record->seq ? -1 : 1;
        return (uintptr_t) a < (uintptr_t) b ? -1 : a != b;
}

RB_GENERATE_INTERNAL(ExtentTree, Extent, by_offset, extent_compare, _unused_ static)

/* ---- ranges ---- */

/* The first extent that may reach to offset. */
static Extent *first_near(Pending *pending, uint64_t offset) {
        ExtentRecord record = { .offset = offset > pending->len_max ? offset - pending->len_max : 0 };
        Extent key = { .record = &record };

        return RB_NFIND(ExtentTree, &pending->by_offset, &key);
}

static bool is_unwritten(const Extent *extent) {
        return extent_state(extent) != EXTENT_UNSTABLE;
}

/* May it still be changed? What a dead worker sent may not. */
static bool is_open(const Extent *extent) {
        return extent_state(extent) == EXTENT_DIRTY && atomic_load(&extent->record->xid) == 0 &&
               atomic_load(&extent->record->done) == 0;
}

/* A worker that died while it copied left two with the same seq. What was the same in both is so no longer once one is changed:
 * that has to be the one that is written last, for every later worker, too. A larger copy has the higher index. */
static bool is_older(const Extent *a, const Extent *b) {
        return a->record->seq != b->record->seq ? a->record->seq < b->record->seq : (uintptr_t) a < (uintptr_t) b;
}

/*
 * Does a COMMIT cover it, or is about to, that does not wait for what has seq? What has come after those that the COMMIT is for
 * counts, too: else there could always be something on its way that overlaps something.
 */
static bool is_being_committed(const Pending *pending, const Extent *e, uint64_t seq) {
        return !is_unwritten(e) && (e->committing || (pending->commit_seq > 0 && seq > pending->commit_seq));
}

static bool waits_for_older(Pending *pending, const Extent *extent) {
        uint64_t end = extent_end(extent), seq = extent->record->seq;

        for (Extent *e = first_near(pending, extent->record->offset); e && e->record->offset < end;
             e = RB_NEXT(ExtentTree, &pending->by_offset, e))
                if (is_older(e, extent) && extent_end(e) > extent->record->offset &&
                    (is_unwritten(e) || is_being_committed(pending, e, seq)))
                        return true;
        return false;
}

/* Is anything SENT that overlaps what is UNSTABLE? */
static bool is_sent_over_unstable(Pending *pending) {
        const Extent *extent;

        TAILQ_FOREACH(extent, &pending->unwritten, extent_link) {
                if (extent_state(extent) != EXTENT_SENT)
                        continue;
                for (Extent *e = first_near(pending, extent->record->offset); e && e->record->offset < extent_end(extent);
                     e = RB_NEXT(ExtentTree, &pending->by_offset, e))
                        if (!is_unwritten(e) && extent_end(e) > extent->record->offset)
                                return true;
        }
        return false;
}

/*
 * Where data for [offset, end) can go without a new extent: the newest that it overlaps, or the one that ends where it
 * begins; NULL: nowhere.
 */
static Extent *find_open(Pending *pending, uint64_t offset, uint64_t end) {
        Extent *newest = NULL, *before = NULL, *found;

        for (Extent *e = first_near(pending, offset); e && e->record->offset < end;
             e = RB_NEXT(ExtentTree, &pending->by_offset, e)) {
                if (extent_end(e) > offset && (!newest || is_older(newest, e)))
                        newest = e;
                if (extent_end(e) == offset && is_open(e))
                        before = e;
        }
        found = newest ? newest : before;
        return found && is_open(found) && found->record->offset <= offset ? found : NULL;
}

/* Of what the server may not have. */
static uint64_t pending_end_of(const Pending *pending) {
        uint64_t end = TAILQ_EMPTY(&pending->unwritten) ? 0 : pending->end;
        const Extent *extent;

        if (pending->doubtful)
                TAILQ_FOREACH(extent, &pending->unstable, extent_link)
                        end = MAX(end, extent_end(extent));
        return end;
}

bool pending_unwritten(const Inode *inode) {
        return inode->pending && (!TAILQ_EMPTY(&inode->pending->unwritten) || pending_is_doubtful(inode->pending));
}

void pending_doubt(VfsReactor *vr, Inode *inode) {
        inode_lock(inode);
        if (inode->n_writing > 0)
                atomic_store(&inode->unheard, true);
        if (inode->pending && !TAILQ_EMPTY(&inode->pending->unstable)) {
                inode->pending->doubtful = true;
                (void) atomic_fetch_add_explicit(&inode->n_doubts, 1, memory_order_release);
                pending_want(inode->pending, true);
        }
        inode_unlock(inode);
        pending_step(vr, inode);
}

uint64_t pending_end(const Inode *inode) {
        uint64_t end = inode->pending ? pending_end_of(inode->pending) : 0;

        return inode->has_attr && end <= inode->attr.size ? 0 : end;
}

bool pending_conflicts(Inode *inode, uint64_t offset, uint64_t size) {
        Pending *pending;
        bool found;

        inode_lock(inode);
        pending = inode->pending;
        found = pending && (pending_end(inode) > 0 || (!inode->has_attr && pending_end_of(pending) > 0));
        for (Extent *e = pending && !found ? first_near(pending, offset) : NULL; e && e->record->offset < offset + size;
             e = RB_NEXT(ExtentTree, &pending->by_offset, e))
                if ((is_unwritten(e) || pending->doubtful) && extent_end(e) > offset) {
                        found = true;
                        break;
                }
        inode_unlock(inode);
        return found;
}

uint64_t pending_append_offset(Inode *inode) {
        uint64_t end;

        inode_lock(inode);
        end = inode->pending ? pending_end_of(inode->pending) : 0;
        if (!inode->has_attr || end < inode->attr.size)
                end = 0;
        inode_unlock(inode);
        return end;
}

bool pending_any(Inode *inode, bool stable) {
        bool any;

        inode_lock(inode);
        any = inode->pending && (!TAILQ_EMPTY(&inode->pending->unwritten) ||
                                 (stable && !TAILQ_EMPTY(&inode->pending->unstable)) || pending_is_doubtful(inode->pending));
        inode_unlock(inode);
        return any;
}

uint64_t pending_committing(Inode *inode) {
        uint64_t seq;

        inode_lock(inode);
        seq = inode->pending ? inode->pending->commit_seq : 0;
        inode_unlock(inode);
        return seq;
}

bool pending_holds_back(Inode *inode, uint64_t seq) {
        bool waits;

        inode_lock(inode);
        waits = inode->pending && pending_has_up_to(inode->pending, seq, true);
        inode->lock_waits |= waits;
        inode_unlock(inode);
        return waits;
}

/* ---- a file's Pending ---- */

static void list_remove(Vfs *vfs, Pending *pending) {
        (void) pthread_mutex_lock(&vfs->pending_lock);
        TAILQ_REMOVE(&vfs->pending, pending, volume_link);
        (void) pthread_mutex_unlock(&vfs->pending_lock);
}

static Pending *pending_new(Vfs *vfs, Inode *inode) {
        Pending *pending = calloc(1, sizeof *pending);

        if (!pending)
                return NULL;
        RB_INIT(&pending->by_offset);
        TAILQ_INIT(&pending->unwritten);
        TAILQ_INIT(&pending->unstable);
        TAILQ_INIT(&pending->waiting);
        pending->inode = inode;
        inode_repin(vfs, inode);
        (void) pthread_mutex_lock(&vfs->pending_lock);
        TAILQ_INSERT_TAIL(&vfs->pending, pending, volume_link);
        (void) pthread_mutex_unlock(&vfs->pending_lock);
        return pending;
}

static void pending_free(Vfs *vfs, Pending *pending) {
        list_remove(vfs, pending);
        inode_unpin(vfs, pending->inode);
        free(pending);
}

/* The file's Pending, with the lock held; NULL: no memory, and no lock. (The volume's list has a lock of its own.) */
static Pending *pending_lock_or_new(Vfs *vfs, Inode *inode) {
        Pending *fresh;

        inode_lock(inode);
        if (inode->pending)
                return inode->pending;
        inode_unlock(inode);
        fresh = pending_new(vfs, inode);
        if (!fresh)
                return NULL;
        inode_lock(inode);
        if (!inode->pending) {
                inode->pending = fresh;
                return fresh;
        }
        inode_unlock(inode); /* another reactor was faster */
        pending_free(vfs, fresh);
        return pending_lock_or_new(vfs, inode);
}

static void insert_unwritten(Pending *pending, Extent *extent) {
        Extent *e = TAILQ_LAST(&pending->unwritten, ExtentList);

        while (e && e->record->seq > extent->record->seq)
                e = TAILQ_PREV(e, ExtentList, extent_link);
        if (e)
                TAILQ_INSERT_AFTER(&pending->unwritten, e, extent, extent_link);
        else
                TAILQ_INSERT_HEAD(&pending->unwritten, extent, extent_link);
        pending->end = MAX(pending->end, extent_end(extent));
}

static void insert(Pending *pending, Extent *extent) {
        extent->inode = pending->inode;
        extent->since = now_ns();
        extent->committing = false;
        if (TAILQ_EMPTY(&pending->unwritten))
                pending->end = 0;
        if (is_unwritten(extent))
                insert_unwritten(pending, extent);
        else
                TAILQ_INSERT_TAIL(&pending->unstable, extent, extent_link);
        (void) RB_INSERT(ExtentTree, &pending->by_offset, extent);
        pending->n_extents++;
        pending->len_max = MAX(pending->len_max, extent_len(extent));
}

void pending_drop_extent(Vfs *vfs, Pending *pending, Extent *extent) {
        TAILQ_REMOVE(is_unwritten(extent) ? &pending->unwritten : &pending->unstable, extent, extent_link);
        (void) RB_REMOVE(ExtentTree, &pending->by_offset, extent);
        pending->n_extents--;
        extent_give(vfs, extent);
}

void pending_write_again(Vfs *vfs, Pending *pending, Extent *extent) {
        TAILQ_REMOVE(&pending->unstable, extent, extent_link);
        atomic_store(&extent->record->xid, 0);
        atomic_store(&extent->record->done, 0);
        extent_set_state(vfs, extent, EXTENT_DIRTY);
        if (TAILQ_EMPTY(&pending->unwritten))
                pending->end = 0;
        insert_unwritten(pending, extent);
        pending->flush_seq = MAX(pending->flush_seq, extent->record->seq);
        pending->commit_seq = MAX(pending->commit_seq, extent->record->seq);
}

int pending_adopt(Vfs *vfs, Inode *inode, Extent *extent) {
        ExtentRecord *record = extent->record;
        Pending *pending = pending_lock_or_new(vfs, inode);

        if (!pending)
                return -ENOMEM;
        /* what was SENT is to be sent again, as it was: the XID says so */
        extent_publish(vfs, extent, extent_state(extent) == EXTENT_UNSTABLE ? EXTENT_UNSTABLE : EXTENT_DIRTY);
        if (record->reactor >= vfs->memory->n_reactors)
                atomic_store(&record->xid, 0);
        extent->parts_unstable = atomic_load(&record->done) > 0;
        if (atomic_load(&record->xid))
                atomic_store(&inode->unheard, true);
        insert(pending, extent);
        pending->cred = record->cred;
        pending->last_seq = MAX(pending->last_seq, record->seq);
        pending_want(pending, true);
        inode_unlock(inode);
        return 0;
}

/* ---- writing ---- */

static void fill(Vfs *vfs, Pending *pending, Extent *extent, uint64_t offset, const void *data, uint32_t size) {
        uint32_t at = (uint32_t) (offset - extent->record->offset);

        memcpy(extent->data + at, data, size);
        if (at + size > extent_len(extent))
                extent_set_len(vfs, extent, at + size);
        pending->len_max = MAX(pending->len_max, at + size);
}

/* A new extent with the beginning of an old one that has become too small for what is to follow. Under the lock. */
static Extent *enlarge(Vfs *vfs, Pending *pending, Extent *old, uint32_t size) {
        Extent *extent = extent_take(vfs, size, MIN(size * 4, extent_limit(vfs)));
        ExtentRecord *record;

        if (!extent)
                return NULL;
        record = extent->record;
        memcpy(extent->data, old->data, extent_len(old));
        atomic_store(&record->len, extent_len(old));
        atomic_store(&record->done, 0);
        atomic_store(&record->xid, 0);
        record->nodeid = old->record->nodeid;
        record->offset = old->record->offset;
        record->seq = old->record->seq;
        record->stable = old->record->stable;
        record->cred = old->record->cred;
        extent_publish(vfs, extent, EXTENT_DIRTY);
        TAILQ_INSERT_BEFORE(old, extent, extent_link);
        (void) RB_INSERT(ExtentTree, &pending->by_offset, extent);
        pending->n_extents++;
        extent->inode = pending->inode;
        extent->since = old->since;
        extent->committing = false;
        crash_point(EXTENT_ENLARGED);
        pending_drop_extent(vfs, pending, old); /* a crash before this leaves two of the same: they are the same bytes */
        return extent;
}

/* Under the lock. Data that goes on where an open extent ends, or stands in it already. */
static Extent *join(Vfs *vfs, Pending *pending, const NfsCred *cred, uint64_t offset, const void *data, uint32_t size) {
        Extent *extent = find_open(pending, offset, offset + size);
        uint64_t want;

        if (!extent || memcmp(&extent->record->cred, cred, sizeof *cred) != 0)
                return NULL;
        want = offset + size - extent->record->offset;
        if (want > extent_limit(vfs))
                return NULL;
        if (want > extent->capacity)
                extent = enlarge(vfs, pending, extent, (uint32_t) want);
        if (!extent)
                return NULL;
        fill(vfs, pending, extent, offset, data, size);
        pending->end = MAX(pending->end, extent_end(extent));
        return extent;
}

/* Under the lock. */
static Extent *add_new(Vfs *vfs, Pending *pending, const NfsCred *cred, uint64_t offset, const void *data, uint32_t size) {
        bool goes_on = offset > 0 && offset == pending_end_of(pending);
        Extent *extent = extent_take(vfs, size, goes_on ? extent_limit(vfs) : size);
        ExtentRecord *record;

        if (!extent)
                return NULL;
        record = extent->record;
        record->nodeid = pending->inode->nodeid;
        record->offset = offset;
        record->seq = ++pending->last_seq;
        record->stable = NFS_UNSTABLE;
        record->cred = *cred;
        atomic_store(&record->len, size);
        atomic_store(&record->done, 0);
        atomic_store(&record->xid, 0);
        memcpy(extent->data, data, size);
        crash_point(EXTENT_FILLED);
        extent_publish(vfs, extent, EXTENT_DIRTY);
        crash_point(EXTENT_PUBLISHED);
        insert(pending, extent);
        return extent;
}

int pending_add(VfsReactor *vr, Inode *inode, const NfsCred *cred, uint64_t offset, const void *data, uint32_t size,
                enum NfsStable stable, uint64_t *ret_seq) {
        Vfs *vfs = vr->vfs;
        Pending *pending = pending_lock_or_new(vfs, inode);
        Extent *extent;
        bool go = false;

        if (!pending)
                return -ENOSPC;
        if (atomic_load_explicit(&vfs->quiet_since, memory_order_relaxed))
                atomic_store_explicit(&vfs->quiet_since, 0, memory_order_relaxed);
        extent = join(vfs, pending, cred, offset, data, size);
        if (!extent)
                extent = add_new(vfs, pending, cred, offset, data, size);
        if (extent) {
                pending->cred = *cred;
                extent->record->stable = MAX(extent->record->stable, (uint32_t) stable);
                *ret_seq = extent->record->seq;
                go = extent_len(extent) >= extent_limit(vfs) || extent->record->seq <= pending->flush_seq;
        }
        inode_unlock(inode);
        writeback_arm(vr);
        if (go || !extent) /* without one, the Pending may be empty */
                pending_step(vr, inode);
        if (extent && extent_room_is_short(vfs))
                writeback_relieve(vr);
        return extent ? 0 : -ENOSPC;
}

/* ---- joining what was written in any order ---- */

/* Is extent the only one for its piece of the file? */
static bool is_alone(Pending *pending, Extent *extent) {
        Extent *next = RB_NEXT(ExtentTree, &pending->by_offset, extent);

        if (next && next->record->offset < extent_end(extent))
                return false;
        for (Extent *e = first_near(pending, extent->record->offset); e && e != extent;
             e = RB_NEXT(ExtentTree, &pending->by_offset, e))
                if (extent_end(e) > extent->record->offset)
                        return false;
        return true;
}

/* Can it go out in the same WRITE as extent, if they lie side by side? */
static bool may_join(Pending *pending, Extent *e, const Extent *extent) {
        return is_open(e) && e->record->seq <= pending->flush_seq && e->record->stable == extent->record->stable &&
               memcmp(&e->record->cred, &extent->record->cred, sizeof e->record->cred) == 0 && is_alone(pending, e);
}

/*
 * Pieces that were written one by one, in any order, and lie side by side: one extent for all of them, and so one WRITE.
 * None of them overlaps another, so that the order among them does not matter; extent is the oldest. Under the lock.
 */
static Extent *gather(Vfs *vfs, Pending *pending, Extent *extent) {
        uint64_t limit = MIN(extent_limit(vfs), GATHER_MAX), start = extent->record->offset, end = extent_end(extent);
        Extent *first = extent, *e, *next;
        bool oldest_is_first;

        if (!may_join(pending, extent, extent))
                return extent;
        for (e = RB_PREV(ExtentTree, &pending->by_offset, extent);
             e && extent_end(e) == start && end - e->record->offset <= limit && may_join(pending, e, extent);
             e = RB_PREV(ExtentTree, &pending->by_offset, e)) {
                first = e;
                start = e->record->offset;
        }
        for (e = RB_NEXT(ExtentTree, &pending->by_offset, extent);
             e && e->record->offset == end && extent_end(e) - start <= limit && may_join(pending, e, extent);
             e = RB_NEXT(ExtentTree, &pending->by_offset, e))
                end = extent_end(e);
        if (end - start == extent_len(extent))
                return extent;
        oldest_is_first = first == extent;
        first = end - start > first->capacity ? enlarge(vfs, pending, first, (uint32_t) (end - start)) : first;
        if (!first)
                return extent;
        if (!oldest_is_first) { /* who waits for the oldest waits for all */
                TAILQ_REMOVE(&pending->unwritten, first, extent_link);
                TAILQ_INSERT_BEFORE(extent, first, extent_link);
                first->record->seq = extent->record->seq;
        }
        for (e = RB_NEXT(ExtentTree, &pending->by_offset, first); e && e->record->offset < end; e = next) {
                next = RB_NEXT(ExtentTree, &pending->by_offset, e);
                fill(vfs, pending, first, e->record->offset, e->data, extent_len(e));
                crash_point(EXTENT_GATHERED);
                pending_drop_extent(vfs, pending, e);
        }
        return first;
}

/* ---- what is to be done now ---- */

static bool is_wanted(const Vfs *vfs, const Pending *pending, const Extent *extent) {
        return extent->record->seq <= pending->flush_seq || extent_len(extent) >= extent_limit(vfs) || !is_open(extent);
}

/* What may go out now, marked as SENT. Under the lock. */
static void pick(VfsReactor *vr, Pending *pending, struct ExtentList *go) {
        Extent *e;

        TAILQ_FOREACH(e, &pending->unwritten, extent_link) {
                uint32_t xid = atomic_load(&e->record->xid);

                if (pending->n_sent >= SENT_MAX || (pending->n_sent > 0 && pending->bytes_sent >= vr->vfs->sent_max))
                        break;
                if (extent_state(e) != EXTENT_DIRTY || !is_wanted(vr->vfs, pending, e) ||
                    (xid && e->record->reactor != vr->index) || waits_for_older(pending, e))
                        continue;
                e = gather(vr->vfs, pending, e);
                e->record->reactor = vr->index;
                extent_set_state(vr->vfs, e, EXTENT_SENT);
                crash_point(EXTENT_SENT);
                e->reactor = vr;
                pending->n_sent++;
                pending->bytes_sent += extent_len(e);
                pending->inode->n_writing++;
                TAILQ_INSERT_TAIL(go, e, send_link);
        }
}

static bool may_commit(Pending *pending) {
        const Extent *first = TAILQ_FIRST(&pending->unwritten);

        return !pending->committing && pending->commit_seq > 0 && !TAILQ_EMPTY(&pending->unstable) &&
               (!first || first->record->seq > pending->commit_seq) && (pending->n_sent == 0 || !is_sent_over_unstable(pending));
}

/* Nothing to do for a COMMIT if nothing that it is wanted for is left. Under the lock. */
bool pending_has_up_to(const Pending *pending, uint64_t seq, bool stable) {
        const Extent *e = TAILQ_FIRST(&pending->unwritten);

        if (e && e->record->seq <= seq)
                return true;
        if (stable)
                TAILQ_FOREACH(e, &pending->unstable, extent_link)
                        if (e->record->seq <= seq)
                                return true;
        return false;
}

void pending_step(VfsReactor *vr, Inode *inode) {
        struct ExtentList go = TAILQ_HEAD_INITIALIZER(go);
        Pending *pending, *gone = NULL, *commit = NULL;
        bool lock_waits;
        Extent *extent;

        inode_lock(inode);
        pending = inode->pending;
        if (!pending)
                return inode_unlock(inode);
        pick(vr, pending, &go);
        if (pending->commit_seq > 0 && !pending_has_up_to(pending, pending->commit_seq, true))
                pending->commit_seq = 0;
        if (may_commit(pending)) {
                pending->committing = true;
                TAILQ_FOREACH(extent, &pending->unstable, extent_link)
                        extent->committing = true;
                commit = pending;
        }
        pending_wake(pending);
        lock_waits = inode->lock_waits;
        inode->lock_waits = false;
        if (pending->n_extents == 0 && TAILQ_EMPTY(&pending->waiting) && !pending->committing)
                gone = TAKE_PTR(inode->pending);
        inode_unlock(inode);

        if (lock_waits)
                locks_data_settled(vr, inode);
        while ((extent = TAILQ_FIRST(&go))) {
                TAILQ_REMOVE(&go, extent, send_link);
                extent_send(vr, extent);
        }
        if (commit)
                commit_send(vr, commit);
        if (gone)
                pending_free(vr->vfs, gone);
}

/* ---- WRITE ---- */

static void extent_send(VfsReactor *vr, Extent *extent) {
        ExtentRecord *record = extent->record;
        uint32_t done = atomic_load(&record->done);

        extent->call = (NfsCall){ .proc = NFS_WRITE, .cred = &record->cred, .done = extent_written };
        extent->call.xid = atomic_load(&record->xid);
        extent->call.xid_note = &record->xid;
        extent->call.args.fh = inode_fh(extent->inode);
        extent->call.args.write.offset = record->offset + done;
        extent->call.args.write.data = extent->data + done;
        extent->call.args.write.count = MIN(extent_len(extent) - done, vr->vfs->write_size);
        extent->call.args.write.stable = (enum NfsStable) record->stable;
        background_begin(vr);
        if (extent->owed) {
                extent->owed = false;
                background_end(vr);
        }
        nfs_call_send(vr->conn, &extent->call);
}

/* Under the lock: all of it has been taken by the server. */
static void settle_written(Vfs *vfs, Pending *pending, Extent *extent, const NfsRes *res) {
        if (!extent->parts_unstable && TAILQ_EMPTY(&pending->unstable))
                return pending_drop_extent(vfs, pending, extent);
        memcpy(extent->record->verf, res->write.verf, NFS_VERF_SIZE);
        if (TAILQ_EMPTY(&pending->unstable))
                pending->doubtful = false;
        TAILQ_REMOVE(&pending->unwritten, extent, extent_link);
        TAILQ_INSERT_TAIL(&pending->unstable, extent, extent_link);
        extent->committing = false;
        extent->since = now_ns();
        atomic_store(&extent->record->done, 0);
        extent_set_state(vfs, extent, EXTENT_UNSTABLE);
        crash_point(EXTENT_UNSTABLE);
        atomic_store(&extent->record->xid, 0);
}

/*
 * Under the lock: one more part of extent was taken. How much has been in all; 0: the server restarted after an earlier one,
 * and may have forgotten that.
 */
static uint32_t part_taken(Extent *extent, const NfsRes *res) {
        ExtentRecord *record = extent->record;
        uint32_t done = atomic_load(&record->done);
        bool unstable = res->write.committed == NFS_UNSTABLE;

        if (done > 0 && extent->parts_unstable && memcmp(record->verf, res->write.verf, NFS_VERF_SIZE) != 0)
                return 0;
        memcpy(record->verf, res->write.verf, NFS_VERF_SIZE); /* before done: a successor compares, too */
        extent->parts_unstable = unstable || (done > 0 && extent->parts_unstable);
        return done + res->write.count;
}

static void extent_revived(ReviveWait *wait) {
        Extent *extent = container_of(wait, Extent, revive);
        VfsReactor *vr = extent->reactor;

        if (!wait->revived)
                return extent_settle(extent);
        atomic_store(&extent->record->xid, 0);
        extent_send(vr, extent);
        background_end(vr);
}

static void extent_written(NfsCall *call) {
        Extent *extent = container_of(call, Extent, call);

        crash_point(EXTENT_ANSWERED);
        if (call->err == ESTALE && revive_again(extent->reactor, extent->inode, call, extent_revived, &extent->revive))
                return;
        extent_settle(extent);
}

static void extent_settle(Extent *extent) {
        const NfsCall *call = &extent->call;
        VfsReactor *vr = extent->reactor;
        Inode *inode = extent->inode;
        uint32_t done;
        Pending *pending;
        bool more = false;

        inode_repin(vr->vfs, inode); /* its Pending may go */
        extent->revive.n = 0;
        if (call->err)
                cache_expire(inode);
        else
                cache_update_wcc(vr->vfs, inode, &call->res.wcc, call_time(call));
        inode_lock(inode);
        pending = inode->pending;
        done = call->err ? 0 : part_taken(extent, &call->res);
        if (!call->err && done < extent_len(extent)) {
                if (done == 0)
                        extent->record->stable = NFS_FILE_SYNC;
                atomic_store(&extent->record->xid, 0);
                atomic_store(&extent->record->done, done);
                more = true;
        } else {
                pending->n_sent--;
                pending->bytes_sent -= extent_len(extent);
                inode->n_writing--;
                if (call->err) {
                        pending_latch_error(inode, call->err);
                        pending_drop_extent(vr->vfs, pending, extent);
                } else {
                        if (inode->n_writing == 0 && call->res.wcc.has_after)
                                atomic_store(&inode->unheard, false);
                        settle_written(vr->vfs, pending, extent, &call->res); /* and it may be another file's */
                }
        }
        inode_unlock(inode);
        if (more)
                extent_send(vr, extent);
        else
                pending_step(vr, inode);
        inode_unpin(vr->vfs, inode);
        background_end(vr);
}

/* ---- what is wanted ---- */

/* A file that has one piece to write, and wants it stable, needs no COMMIT. */
static void make_stable(Pending *pending) {
        Extent *only = TAILQ_FIRST(&pending->unwritten);

        if (pending->n_extents == 1 && only && is_open(only))
                only->record->stable = NFS_FILE_SYNC;
}

void pending_want(Pending *pending, bool stable) {
        if (stable && pending->flush_seq < pending->last_seq)
                make_stable(pending);
        pending->flush_seq = pending->last_seq;
        if (stable)
                pending->commit_seq = pending->last_seq;
}

static void commit(VfsReactor *vr, Inode *inode, bool now) {
        inode_lock(inode);
        if (inode->pending)
                pending_want(inode->pending, now || inode->pending->commit_seq == 0);
        inode_unlock(inode);
        pending_step(vr, inode);
}

void pending_commit(VfsReactor *vr, Inode *inode) {
        commit(vr, inode, true);
}

void pending_commit_next(VfsReactor *vr, Inode *inode) {
        commit(vr, inode, false);
}
