/*
 * Data that the server has, but perhaps only in its memory (RFC 1813 sections 3.3.7 and 3.3.21).
 *
 * A copy of each UNSTABLE WRITE is kept, with the write verifier of its reply, until a COMMIT answers with the
 * same verifier. Another verifier says that the server restarted and may have forgotten: then all that is
 * kept of the file is written again, FILE_SYNC, in the order in which it was written first. Whatever is written after
 * something that is kept is kept too, stable or not, so that it is not overtaken by older data; what is answered while
 * the writing again goes on follows at the end.
 *
 * One commit runs per file, on the reactor that began it. Who asks for one while it runs waits for the next:
 * what they wrote may have come after the COMMIT was sent.
 *
 *   idle ── unstable_commit() ──► COMMIT ── same verifier, nobody waits ──► idle
 *                                   │ ▲└─ somebody waits: again
 *                        other      ▼ │
 *                        verifier  rewriting (one WRITE after the other)
 *
 * A failed COMMIT or rewrite loses data: the error is given to those who wait, or else latched for the next
 * flush or fsync. Inode.lock protects the lists.
 */
#include "base/log.h"
#include "volume.h"

#define HIGH_BYTES (UINT64_C(64) << 20)
#define FULL_BYTES (UINT64_C(256) << 20)

typedef struct Extent {
        TAILQ_ENTRY(Extent) extent_link;
        uint64_t offset;
        uint32_t size, written;
        uint8_t verf[NFS_VERF_SIZE];
        uint8_t data[];
} Extent;

TAILQ_HEAD(ExtentList, Extent);

struct Unstable {
        Inode *inode; /* pinned */
        TAILQ_ENTRY(Unstable) volume_link;

        /* Inode.lock */
        struct ExtentList extents;    /* written, no COMMIT sent since */
        struct ExtentList committing; /* a COMMIT is on its way */
        struct OpList waiting, waiting_next;
        NfsCred cred; /* of the last writer */
        bool running, rewriting, again;

        /* the reactor that runs the commit */
        VfsReactor *reactor;
        NfsCall call;
        NfsCred call_cred;
        int err;
};

static void commit_round(Unstable *u);
static void commit_done(NfsCall *call);
static void rewrite_send(Unstable *u);
static void rewrite_done(NfsCall *call);
static void round_end(Unstable *u);

static void lock(Inode *inode) {
        (void) pthread_mutex_lock(&inode->lock);
}

static void unlock(Inode *inode) {
        (void) pthread_mutex_unlock(&inode->lock);
}

static void extent_free(Vfs *vfs, struct ExtentList *list, Extent *extent) {
        TAILQ_REMOVE(list, extent, extent_link);
        atomic_fetch_sub_explicit(&vfs->memory->unstable_bytes, extent->size, memory_order_relaxed);
        free(extent);
}

static Unstable *unstable_new(Vfs *vfs, Inode *inode) {
        Unstable *u = calloc(1, sizeof *u);

        if (!u)
                return NULL;
        TAILQ_INIT(&u->extents);
        TAILQ_INIT(&u->committing);
        TAILQ_INIT(&u->waiting);
        TAILQ_INIT(&u->waiting_next);
        u->inode = inode;
        inode_repin(vfs, inode);
        (void) pthread_mutex_lock(&vfs->unstable_lock);
        TAILQ_INSERT_TAIL(&vfs->unstable, u, volume_link);
        (void) pthread_mutex_unlock(&vfs->unstable_lock);
        return u;
}

int unstable_add(Vfs *vfs, Inode *inode, const NfsCred *cred, uint64_t offset, const void *data, uint32_t size,
                 const uint8_t verf[static NFS_VERF_SIZE]) {
        Extent *extent = malloc(sizeof *extent + size);
        Unstable *fresh = NULL, *u;

        if (!extent)
                return -ENOMEM;
        extent->offset = offset;
        extent->size = size;
        extent->written = 0;
        memcpy(extent->verf, verf, NFS_VERF_SIZE);
        memcpy(extent->data, data, size);

        lock(inode);
        if (!inode->unstable) {
                unlock(inode); /* the volume's list has a lock of its own */
                fresh = unstable_new(vfs, inode);
                if (!fresh) {
                        free(extent);
                        return -ENOMEM;
                }
                lock(inode);
                if (!inode->unstable)
                        inode->unstable = TAKE_PTR(fresh);
        }
        u = inode->unstable;
        u->cred = *cred;
        TAILQ_INSERT_TAIL(u->rewriting ? &u->committing : &u->extents, extent, extent_link);
        unlock(inode);
        atomic_fetch_add_explicit(&vfs->memory->unstable_bytes, size, memory_order_relaxed);

        if (fresh) { /* another reactor was faster */
                (void) pthread_mutex_lock(&vfs->unstable_lock);
                TAILQ_REMOVE(&vfs->unstable, fresh, volume_link);
                (void) pthread_mutex_unlock(&vfs->unstable_lock);
                inode_unpin(vfs, inode);
                free(fresh);
        }
        return 0;
}

int unstable_mark(Vfs *vfs, Inode *inode, const NfsCred *cred) {
        if (!inode->unstable)
                inode->unstable = unstable_new(vfs, inode);
        if (!inode->unstable)
                return -ENOMEM;
        inode->unstable->cred = *cred;
        return 0;
}

bool unstable_pending(Inode *inode) {
        bool pending;

        lock(inode);
        pending = inode->unstable != NULL;
        unlock(inode);
        return pending;
}

int unstable_take_error(Inode *inode) {
        int err;

        lock(inode);
        err = inode->write_error;
        inode->write_error = 0;
        unlock(inode);
        return err;
}

/* ---- who waits ---- */

static void wake_run(Task *task) {
        Op *op = container_of(task, Op, commit.wake);

        op->commit.done(op);
}

static void wake(Op *op, int err) {
        op->commit.waiting = false;
        op->commit.err = err;
        op->commit.wake.run = wake_run;
        reactor_post(op->reactor->reactor, &op->commit.wake);
}

void unstable_interrupt(Op *op) {
        Inode *inode = op->inode;
        Unstable *u;
        Op *other;

        if (!inode)
                return;
        lock(inode);
        u = inode->unstable;
        if (u && op->commit.waiting) {
                TAILQ_FOREACH(other, &u->waiting, commit.wait_link)
                        if (other == op)
                                break;
                if (other)
                        TAILQ_REMOVE(&u->waiting, op, commit.wait_link);
                else
                        TAILQ_REMOVE(&u->waiting_next, op, commit.wait_link);
                wake(op, EINTR);
        }
        unlock(inode);
}

/* ---- the commit ---- */

void unstable_commit(VfsReactor *vr, Inode *inode, Op *op, void (*done)(Op *op)) {
        bool start = false;
        Unstable *u;

        if (op)
                op->commit.done = done;
        lock(inode);
        u = inode->unstable;
        if (!u) {
                if (op) {
                        wake(op, inode->write_error);
                        inode->write_error = 0;
                }
        } else {
                if (op) {
                        op->commit.waiting = true;
                        TAILQ_INSERT_TAIL(u->running ? &u->waiting_next : &u->waiting, op, commit.wait_link);
                }
                if (u->running) {
                        u->again = true;
                } else {
                        u->running = start = true;
                        u->reactor = vr;
                }
        }
        unlock(inode);
        if (start) {
                background_begin(vr);
                commit_round(u);
        }
}

static void commit_round(Unstable *u) {
        lock(u->inode);
        u->again = false;
        u->err = 0;
        u->call_cred = u->cred;
        TAILQ_CONCAT(&u->committing, &u->extents, extent_link);
        unlock(u->inode);

        u->call = (NfsCall){ .proc = NFS_COMMIT, .cred = &u->call_cred, .done = commit_done };
        u->call.args.fh = inode_fh(u->inode);
        nfs_call_send(u->reactor->conn, &u->call);
}

static void commit_done(NfsCall *call) {
        Unstable *u = container_of(call, Unstable, call);
        Vfs *vfs = u->reactor->vfs;
        Extent *extent, *next;
        bool lost = false;

        u->err = call->err;
        if (call->err)
                return round_end(u);
        cache_update_wcc(vfs, u->inode, &call->res.wcc, call->sent_at);

        lock(u->inode);
        TAILQ_FOREACH(extent, &u->committing, extent_link)
                if (memcmp(extent->verf, call->res.write.verf, NFS_VERF_SIZE) != 0)
                        lost = true;
        if (lost) {
                u->rewriting = true;
                TAILQ_CONCAT(&u->committing, &u->extents, extent_link);
        } else {
                for (extent = TAILQ_FIRST(&u->committing); extent; extent = next) {
                        next = TAILQ_NEXT(extent, extent_link);
                        extent_free(vfs, &u->committing, extent);
                }
        }
        unlock(u->inode);
        if (!lost)
                return round_end(u);
        log_notice("the server restarted before it committed what was written: writing it again");
        rewrite_send(u);
}

static void rewrite_send(Unstable *u) {
        Extent *extent;

        lock(u->inode);
        extent = TAILQ_FIRST(&u->committing);
        if (!extent)
                u->rewriting = false;
        unlock(u->inode);
        if (!extent)
                return round_end(u);

        u->call = (NfsCall){ .proc = NFS_WRITE, .cred = &u->call_cred, .done = rewrite_done };
        u->call.args.fh = inode_fh(u->inode);
        u->call.args.write.offset = extent->offset + extent->written;
        u->call.args.write.data = extent->data + extent->written;
        u->call.args.write.count = MIN(extent->size - extent->written, u->reactor->vfs->write_size);
        u->call.args.write.stable = NFS_FILE_SYNC;
        nfs_call_send(u->reactor->conn, &u->call);
}

static void rewrite_done(NfsCall *call) {
        Unstable *u = container_of(call, Unstable, call);
        Vfs *vfs = u->reactor->vfs;
        Extent *extent;

        u->err = call->err;
        if (call->err)
                return round_end(u);
        cache_update_wcc(vfs, u->inode, &call->res.wcc, call->sent_at);
        lock(u->inode);
        extent = TAILQ_FIRST(&u->committing);
        extent->written += call->res.write.count;
        if (extent->written >= extent->size)
                extent_free(vfs, &u->committing, extent);
        unlock(u->inode);
        rewrite_send(u);
}

/* What could not be committed is lost; nobody may think otherwise. */
static void drop_failed(Unstable *u, struct ExtentList *list) {
        Extent *extent;

        while ((extent = TAILQ_FIRST(list)))
                extent_free(u->reactor->vfs, list, extent);
}

static void round_end(Unstable *u) {
        Inode *inode = u->inode;
        VfsReactor *vr = u->reactor;
        Vfs *vfs = vr->vfs;
        bool go_on, gone;
        int err, lost;
        Op *op;

        lock(inode);
        lost = u->err;
        u->rewriting = false;
        if (lost) {
                drop_failed(u, &u->committing);
                inode->write_error = lost;
                inode->pages.known = false;
        }
        err = inode->write_error;
        if (!TAILQ_EMPTY(&u->waiting))
                inode->write_error = 0;
        while ((op = TAILQ_FIRST(&u->waiting))) {
                TAILQ_REMOVE(&u->waiting, op, commit.wait_link);
                wake(op, err);
        }
        TAILQ_CONCAT(&u->waiting, &u->waiting_next, commit.wait_link);
        go_on = !TAILQ_EMPTY(&u->waiting) || (u->again && !TAILQ_EMPTY(&u->extents));
        gone = !go_on && TAILQ_EMPTY(&u->extents);
        if (!go_on)
                u->running = false;
        if (gone)
                inode->unstable = NULL;
        unlock(inode); /* from here on u belongs to whoever commits next, unless we go on or it is gone */

        if (lost && err)
                log_error("what was written to file id %llu is lost: %s",
                          (unsigned long long) inode->record->fileid, strerror(err));
        if (go_on)
                return commit_round(u);
        if (gone) {
                (void) pthread_mutex_lock(&vfs->unstable_lock);
                TAILQ_REMOVE(&vfs->unstable, u, volume_link);
                (void) pthread_mutex_unlock(&vfs->unstable_lock);
                inode_unpin(vfs, inode);
                free(u);
        }
        background_end(vr);
}

/* ---- the whole volume ---- */

/* The file that has held its data for longest, pinned; NULL: none. It moves to the end of the list. (The one
 * place where a lock is taken inside another: table_lock inside unstable_lock.) */
static Inode *oldest(Vfs *vfs) {
        Inode *inode = NULL;
        Unstable *u;

        (void) pthread_mutex_lock(&vfs->unstable_lock);
        u = TAILQ_FIRST(&vfs->unstable);
        if (u) {
                TAILQ_REMOVE(&vfs->unstable, u, volume_link);
                TAILQ_INSERT_TAIL(&vfs->unstable, u, volume_link);
                inode = u->inode;
                inode_repin(vfs, inode);
        }
        (void) pthread_mutex_unlock(&vfs->unstable_lock);
        return inode;
}

enum UnstablePressure unstable_pressure(VfsReactor *vr, Inode *inode) {
        Vfs *vfs = vr->vfs;
        uint64_t bytes = atomic_load_explicit(&vfs->memory->unstable_bytes, memory_order_relaxed);
        Inode *other;

        if (bytes < HIGH_BYTES)
                return UNSTABLE_LOW;
        other = oldest(vfs);
        if (other && other != inode)
                unstable_commit(vr, other, NULL, NULL);
        if (other)
                inode_unpin(vfs, other);
        return bytes < FULL_BYTES ? UNSTABLE_HIGH : UNSTABLE_FULL;
}

void vfs_sync_all(VfsReactor *vr, VfsSync *sync) {
        Vfs *vfs = vr->vfs;
        unsigned n = 0;
        Unstable *u;

        if (sync->waiting)
                return;
        sync->waiting = true;
        TAILQ_INSERT_TAIL(&vr->syncs, sync, sync_link);
        (void) pthread_mutex_lock(&vfs->unstable_lock);
        TAILQ_FOREACH(u, &vfs->unstable, volume_link)
                n++;
        (void) pthread_mutex_unlock(&vfs->unstable_lock);

        background_begin(vr);
        while (n-- > 0) {
                Inode *inode = oldest(vfs);

                if (!inode)
                        break;
                unstable_commit(vr, inode, NULL, NULL);
                inode_unpin(vfs, inode);
        }
        background_end(vr);
}
