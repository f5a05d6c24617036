/*
 * COMMIT, and what concerns the pending data of the whole volume: when it goes out although nobody asks.
 *
 * One COMMIT per file is on its way at a time. It covers what is UNSTABLE when that is decided (Extent.committing). A verifier
 * other than that of the WRITEs says that the server restarted between them and may have forgotten (RFC 1813 section 3.3.21):
 * then all of the file that is UNSTABLE is DIRTY again, and sent FILE_SYNC this time.
 *
 * Data does not stay here long, for other clients wait to see it, and a node can lose its power: it is sent after WRITE_NS
 * and committed after COMMIT_NS. Both are looked after by a timer that runs only while there is something, and until the memory
 * of it has been given back, QUIET_NS after.
 */
#include "base/crashpoint.h"
#include "base/log.h"
#include "pending.h"

#define PERIOD_NS NSEC_PER_SEC
#define WRITE_NS  (5 * NSEC_PER_SEC) /* as vm.dirty_writeback_centisecs */
#define COMMIT_NS (5 * NSEC_PER_SEC)
#define QUIET_NS  (10 * NSEC_PER_SEC)

static void commit_done(NfsCall *call);
static void commit_settle(Pending *pending);

/* ---- COMMIT ---- */

void commit_send(VfsReactor *vr, Pending *pending) {
        Inode *inode = pending->inode;

        inode_lock(inode);
        pending->commit_cred = pending->cred;
        pending->commit = (NfsCall){ .proc = NFS_COMMIT, .cred = &pending->commit_cred, .done = commit_done };
        pending->commit.args.fh = inode_fh(inode);
        pending->reactor = vr;
        inode_unlock(inode);
        crash_point(COMMIT_SENT);
        background_begin(vr);
        nfs_call_send(vr->conn, &pending->commit);
}

/* Under the lock, as all of these. What the COMMIT covered is committed, or lost. */
static void let_go(Vfs *vfs, Pending *pending) {
        Extent *extent, *next;

        for (extent = TAILQ_FIRST(&pending->unstable); extent; extent = next) {
                next = TAILQ_NEXT(extent, extent_link);
                if (extent->committing)
                        pending_drop_extent(vfs, pending, extent);
        }
}

static void forgotten(Vfs *vfs, Pending *pending) {
        Extent *extent;

        log_notice("the server restarted before it committed what was written: writing it again");
        while ((extent = TAILQ_FIRST(&pending->unstable))) {
                extent->record->stable = NFS_FILE_SYNC;
                pending_write_again(vfs, pending, extent);
        }
}

static void committed(Vfs *vfs, Pending *pending, const uint8_t verf[static NFS_VERF_SIZE]) {
        Extent *extent;

        TAILQ_FOREACH(extent, &pending->unstable, extent_link)
                if (extent->committing && memcmp(extent->record->verf, verf, NFS_VERF_SIZE) != 0)
                        return forgotten(vfs, pending);
        let_go(vfs, pending);
}

static void commit_revived(ReviveWait *wait) {
        Pending *pending = container_of(wait, Pending, revive);
        VfsReactor *vr = pending->reactor;

        if (!wait->revived)
                return commit_settle(pending);
        commit_send(vr, pending);
        background_end(vr);
}

static void commit_done(NfsCall *call) {
        Pending *pending = container_of(call, Pending, commit);

        crash_point(COMMIT_ANSWERED);
        if (call->err == ESTALE && revive_again(pending->reactor, pending->inode, call, commit_revived, &pending->revive))
                return;
        commit_settle(pending);
}

static void commit_settle(Pending *pending) {
        const NfsCall *call = &pending->commit;
        VfsReactor *vr = pending->reactor;
        Inode *inode = pending->inode;

        inode_repin(vr->vfs, inode); /* its Pending may go */
        pending->revive.n = 0;
        if (!call->err)
                cache_update_wcc(vr->vfs, inode, &call->res.wcc, call_time(call));
        inode_lock(inode);
        if (call->err) {
                let_go(vr->vfs, pending);
                pending_latch_error(inode, call->err);
        } else {
                committed(vr->vfs, pending, call->res.write.verf);
        }
        pending->committing = false;
        inode_unlock(inode);
        pending_step(vr, inode);
        inode_unpin(vr->vfs, inode);
        background_end(vr);
}

/* ---- the volume's files ---- */

static unsigned count_files(Vfs *vfs) {
        unsigned n = 0;
        Pending *pending;

        (void) pthread_mutex_lock(&vfs->pending_lock);
        TAILQ_FOREACH(pending, &vfs->pending, volume_link)
                n++;
        (void) pthread_mutex_unlock(&vfs->pending_lock);
        return n;
}

/* The file that has held its data for longest, pinned; NULL: none. It moves to the end of the list. (table_lock is taken
 * inside pending_lock.) */
static Inode *oldest(Vfs *vfs) {
        Inode *inode = NULL;
        Pending *pending;

        (void) pthread_mutex_lock(&vfs->pending_lock);
        pending = TAILQ_FIRST(&vfs->pending);
        if (pending) {
                TAILQ_REMOVE(&vfs->pending, pending, volume_link);
                TAILQ_INSERT_TAIL(&vfs->pending, pending, volume_link);
                inode = pending->inode;
                inode_repin(vfs, inode);
        }
        (void) pthread_mutex_unlock(&vfs->pending_lock);
        return inode;
}

void writeback_relieve(VfsReactor *vr) {
        Inode *inode = oldest(vr->vfs);

        if (!inode)
                return;
        pending_commit_next(vr, inode);
        inode_unpin(vr->vfs, inode);
}

static void age(VfsReactor *vr, Inode *inode, uint64_t now) {
        Pending *pending;
        Extent *extent;

        inode_lock(inode);
        pending = inode->pending;
        extent = pending ? TAILQ_FIRST(&pending->unwritten) : NULL;
        if (extent && extent->since + WRITE_NS <= now)
                pending_want(pending, false);
        extent = pending ? TAILQ_FIRST(&pending->unstable) : NULL;
        if (extent && extent->since + COMMIT_NS <= now)
                pending_want(pending, pending->commit_seq == 0);
        inode_unlock(inode);
        pending_step(vr, inode);
}

static void rest(VfsReactor *vr, uint64_t now) {
        Vfs *vfs = vr->vfs;
        uint64_t since = atomic_load_explicit(&vfs->quiet_since, memory_order_relaxed);

        if (!extent_has_memory(vfs))
                return;
        if (since == 0)
                atomic_store_explicit(&vfs->quiet_since, now, memory_order_relaxed);
        else if (since + QUIET_NS <= now) {
                atomic_store_explicit(&vfs->quiet_since, 0, memory_order_relaxed);
                return extent_give_back(vfs);
        }
        writeback_arm(vr);
}

static void writeback_fired(Timer *timer) {
        VfsReactor *vr = container_of(timer, VfsReactor, writeback);
        Vfs *vfs = vr->vfs;
        uint64_t now = reactor_now(vr->reactor);
        unsigned n = count_files(vfs);

        if (n == 0)
                return rest(vr, now);
        atomic_store_explicit(&vfs->quiet_since, 0, memory_order_relaxed);
        writeback_arm(vr);
        while (n-- > 0) {
                Inode *inode = oldest(vfs);

                if (!inode)
                        break;
                age(vr, inode, now);
                inode_unpin(vfs, inode);
        }
}

void writeback_arm(VfsReactor *vr) {
        if (vr->writeback.due)
                return;
        vr->writeback.fired = writeback_fired;
        timer_arm(vr->reactor, &vr->writeback, reactor_now(vr->reactor) + PERIOD_NS);
}

static void step_all(VfsReactor *vr, void (*step)(VfsReactor *vr, Inode *inode)) {
        for (unsigned n = count_files(vr->vfs); n > 0; n--) {
                Inode *inode = oldest(vr->vfs);

                if (!inode)
                        return;
                step(vr, inode);
                inode_unpin(vr->vfs, inode);
        }
}

/* What must go out with this reactor's XIDs, but waits for something older to be written by another one. */
static void owe(VfsReactor *vr, Inode *inode) {
        Extent *extent;

        pending_step(vr, inode);
        inode_lock(inode);
        if (inode->pending)
                TAILQ_FOREACH(extent, &inode->pending->unwritten, extent_link)
                        if (extent_state(extent) == EXTENT_DIRTY && atomic_load(&extent->record->xid) != 0 &&
                            extent->record->reactor == vr->index) {
                                extent->owed = true;
                                background_begin(vr);
                        }
        inode_unlock(inode);
}

void writeback_start(VfsReactor *vr) {
        step_all(vr, owe);
        writeback_arm(vr);
}

void writeback_doubt(VfsReactor *vr) {
        step_all(vr, pending_doubt);
}

void vfs_sync_all(VfsReactor *vr, VfsSync *sync) {
        bool again = sync->waiting;

        if (!again)
                TAILQ_INSERT_TAIL(&vr->syncs, sync, sync_link);
        sync->waiting = true;
        background_begin(vr);
        step_all(vr, again ? pending_commit_next : pending_commit);
        background_end(vr);
}
