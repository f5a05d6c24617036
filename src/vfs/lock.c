/*
 * Byte-range locks that the server keeps: POSIX, open file description and flock(2).
 *
 * Theory of operation. The kernel keeps no locks of this volume itself: each SETLK comes here. A file with locks has a
 * LockFile: the ranges that this node holds (lockset.c), and a list of requests. Owners of this node are kept apart here
 * and also by the server, each with a number (svid) and a text of its own. A request that another owner of
 * this node forbids is decided here; else the server is asked, about one thing at a time for each file: so answers come
 * in the order of questions, and what was undecided (a caller who was killed while the question was on its way) is
 * settled before anything else is asked.
 *
 *   TAKE     waits in the list ──► on the wire ──► granted: kept, pages dropped, answered
 *              ▲   denied, or the server's grace period: in a while again (50 ms, doubling to 1 s)
 *              └───────────────────────┘
 *   DROP     on the wire until it is done, whoever still waits for it
 *   CONFIRM  the server is told what we hold of a range, piece by piece: after a TAKE that nobody waits for any more,
 *            or whose answer is not known, and after a restart of the server (reclaim)
 *
 * A lock is recorded as ASKED before the server is, and as HELD before the caller hears of it; a DROP in the same way. So a
 * later worker knows what may be: it CONFIRMs what was ASKED, and the journal executes the waiting requests again.
 *
 * Coherence, as with the kernel's client: what was written is committed before a lock is given back, also if its holder was
 * killed and nobody waits for either (LockRequest.after), and what is cached of the file is dropped after one was taken, before
 * its caller goes on. What was stored through mmap the kernel writes when its pages are dropped, so they are before a lock
 * goes, too; at a close(2) it does so itself before FLUSH. (That needs a process that waits for page locks, fuse/notify.c: in
 * the meantime other requests go on.)
 *
 * flock(2) is a lock on the whole file, in the same space as fcntl(2)'s. A POSIX owner's locks go at its close(2) of any
 * descriptor of the file (FLUSH). Open file descriptions come as owners like any other, but without a FLUSH: their
 * locks go with the RELEASE of the one fh that they came with.
 *
 * Thread: requests come from any reactor; lists and ranges are under Locks.mutex; the first reactor alone speaks to the
 * server, and steps files. Answers are posted to the op's reactor.
 */

#include "base/log.h"
#include "lock.h"

#define DEADLOCK_DEPTH 16
#define CLOSING_MS     10
#define WAITERS_MAX    256 /* each holds a slot of the journal; the rest is for everybody else */
#define END_BOUND_NS   (5 * NSEC_PER_SEC)

/* ---- requests ---- */

static void request_insert(LockRequest *request) {
        struct LockRequestList *list = &request->file->requests;
        LockRequest *other;

        TAILQ_FOREACH_REVERSE(other, list, LockRequestList, request_link)
        if (other->number < request->number)
                break;
        if (other)
                TAILQ_INSERT_AFTER(list, other, request, request_link);
        else
                TAILQ_INSERT_HEAD(list, request, request_link);
        request->in = list;
}

static void request_unlink(LockRequest *request) {
        if (request->in)
                TAILQ_REMOVE(request->in, request, request_link);
        else if (request->file->current == request)
                request->file->current = NULL;
        request->in = NULL;
}

static void answered_run(Task *task) {
        Op *op = container_of(task, Op, lock.wake);

        op_goes_on(op, op->lock.done);
}

static void op_answer(Op *op, int err) {
        op->lock.request = NULL;
        op->lock.err = err;
        op->lock.wake.run = answered_run;
        reactor_post(op->reactor->reactor, &op->lock.wake);
}

void lock_request_answer(LockRequest *request, int err) {
        Op *op = TAKE_PTR(request->op);

        if (!op)
                return;
        if (request->counted) {
                request->counted = false;
                op->reactor->n_lock_waiters--;
                atomic_fetch_sub_explicit(&request->file->locks->vfs->memory->n_lock_waiters, 1, memory_order_relaxed);
        }
        op_answer(op, err);
}

void lock_request_end(LockRequest *request, int err) {
        LockFile *file = request->file;

        lock_request_answer(request, err);
        request_unlink(request);
        lock_room_give(&file->locks->records, &request->room);
        lock_doubt_retire(file, request->owner, 1);
        lock_owner_unref(&file->set, request->owner);
        free(request);
}

void lock_request_again(LockRequest *request, uint64_t due) {
        request_unlink(request);
        request->due = due;
        request_insert(request);
}

/* Takes over the reference to owner, also when it fails. */
LockRequest *lock_request_new(LockFile *file, LockOwner *owner, enum LockRequestKind kind, enum LockType type, uint64_t start,
                              uint64_t end) {
        LockRequest *request = calloc(1, sizeof *request);

        if (!request) {
                lock_owner_unref(&file->set, owner);
                return NULL;
        }
        request->number = file->locks->next_number++;
        request->kind = kind;
        request->file = file;
        request->owner = owner;
        request->type = type;
        request->start = request->at = start;
        request->end = end;
        request->after = kind == LOCK_DROP ? pending_committing(file->inode) : 0;
        request_insert(request);
        return request;
}

/* ---- files ---- */

static void file_timer_fired(Timer *timer) {
        LockFile *file = container_of(timer, LockFile, timer);
        Locks *locks = file->locks;

        lock_mutex(locks);
        lock_file_step(file);
        unlock_mutex(locks);
}

LockFile *lock_file_get(Locks *locks, Inode *inode) {
        LockFile *file = inode->locks;

        if (file)
                return file;
        file = calloc(1, sizeof *file);
        if (!file)
                return NULL;
        file->locks = locks;
        file->inode = inode;
        file->timer.fired = file_timer_fired;
        lockset_init(&file->set);
        TAILQ_INIT(&file->requests);
        TAILQ_INIT(&file->zapping);
        inode_repin(locks->vfs, inode);
        __atomic_store_n(&inode->locks, file, __ATOMIC_RELEASE);
        TAILQ_INSERT_TAIL(&locks->files, file, file_link);
        return file;
}

void lock_file_free(LockFile *file) {
        Locks *locks = file->locks;

        timer_disarm(&file->timer);
        if (file->stepping)
                TAILQ_REMOVE(&locks->work, file, work_link);
        TAILQ_REMOVE(&locks->files, file, file_link);
        __atomic_store_n(&file->inode->locks, NULL, __ATOMIC_RELEASE);
        inode_unpin(locks->vfs, file->inode);
        free(file);
        if (locks->ending && TAILQ_EMPTY(&locks->files))
                timer_arm(locks->vr->reactor, &locks->end_timer, now_ns());
}

bool locks_known(const Inode *inode) {
        return __atomic_load_n(&inode->locks, __ATOMIC_ACQUIRE) != NULL;
}

void lock_work_run(Task *task) {
        Locks *locks = container_of(task, Locks, work_task);
        LockFile *file;

        lock_mutex(locks);
        while ((file = TAILQ_FIRST(&locks->work))) {
                TAILQ_REMOVE(&locks->work, file, work_link);
                file->stepping = false;
                lock_file_step(file);
        }
        unlock_mutex(locks);
}

/* Something was added: by the first reactor itself (vr), or by another one. */
static void file_kick(LockFile *file, const VfsReactor *vr) {
        Locks *locks = file->locks;

        if (vr == locks->vr)
                return lock_file_step(file);
        if (!file->stepping) {
                file->stepping = true;
                TAILQ_INSERT_TAIL(&locks->work, file, work_link);
        }
        reactor_post(locks->vr->reactor, &locks->work_task);
}

void lock_file_wake(LockFile *file, uint64_t start, uint64_t end, bool released) {
        LockRequest *request;

        TAILQ_FOREACH(request, &file->requests, request_link) {
                if (request->kind != LOCK_TAKE || request->start > end || request->end < start)
                        continue;
                if (request->due == LOCK_NOT_DUE || released) {
                        request->due = 0;
                        request->delay_ms = 0;
                }
        }
}

void lock_file_reclaim(LockFile *file, LockOwner *owner) {
        LockRequest *request = file->current;

        if (!request || request->owner != owner || !request->reclaim)
                TAILQ_FOREACH(request, &file->requests, request_link)
                        if (request->owner == owner && request->reclaim)
                                break;
        if (request) {
                request->restart = true;
                if (request->in)
                        request->due = 0;
                return;
        }
        request = lock_request_new(file, lock_owner_ref(owner), LOCK_CONFIRM, LOCK_NONE, 0, LOCK_END);
        if (!request)
                return log_error("out of memory: a lock is not claimed again");
        request->reclaim = true;
        (void) lock_room_take(&file->locks->records, &request->room);
}

/* ---- what is next ---- */

/* Does whoever waits for the holder, directly or not, wait for us? */
static bool is_deadlock(const Locks *locks, uint64_t owner, uint64_t holder) {
        for (int depth = 0; depth < DEADLOCK_DEPTH; depth++) {
                uint64_t next = 0;
                const LockFile *file;
                const LockRequest *request;

                if (holder == owner)
                        return true;
                TAILQ_FOREACH(file, &locks->files, file_link)
                        TAILQ_FOREACH(request, &file->requests, request_link)
                                if (request->kind == LOCK_TAKE && request->blocker && request->due == LOCK_NOT_DUE &&
                                    request->owner->kind == LOCK_POSIX && request->owner->id == holder)
                                        next = request->blocker;
                if (!next)
                        return false;
                holder = next;
        }
        return false;
}

static void request_waits(LockRequest *request) {
        if (request->op)
                request->op->reply->waiting(request->op);
}

/* Whoever is denied what other wants is denied what request wants. */
static bool needs_more(const LockRequest *request, const LockRequest *other) {
        return request->start <= other->start && request->end >= other->end &&
               (request->type == LOCK_EXCLUSIVE || other->type == LOCK_SHARED);
}

/* Behind an older one that waits for another machine, a new one does not ask before it. */
static bool is_behind(LockRequest *request, uint64_t now) {
        const LockRequest *other;

        if (!request->wait || request->delay_ms > 0)
                return false;
        TAILQ_FOREACH(other, &request->file->requests, request_link) {
                if (other == request)
                        return false;
                if (other->kind == LOCK_TAKE && other->wait && other->due > now && other->due != LOCK_NOT_DUE &&
                    other->owner != request->owner && needs_more(request, other)) {
                        request->due = other->due;
                        request->delay_ms = other->delay_ms;
                        return true;
                }
        }
        return false;
}

/* What owners of this node decide. true: the request is over, or waits. */
static bool decide_here(LockRequest *request) {
        LockFile *file = request->file;
        const LockRange *range = lockset_conflict(&file->set, request->owner, request->type, request->start, request->end);
        Op *op = request->op;

        if (!range)
                return false;
        if (request->kind == LOCK_TEST) {
                if (op)
                        op->lock.lock = (VfsLock){
                                .type = range->type,
                                .start = range->start,
                                .end = range->end,
                                .pid = range->owner->pid,
                        };
                lock_request_end(request, 0);
        } else if (!request->wait && request->delay_ms == 0 && file->locks->vfs->memory->n_reactors > 1) {
                /* the holder's last close(2) may have returned, and its RELEASE still be on its way through another reactor */
                request->delay_ms = CLOSING_MS;
                request->due = now_ns() + CLOSING_MS * NSEC_PER_MSEC;
        } else if (!request->wait) {
                lock_request_end(request, EAGAIN);
        } else if (request->owner->kind == LOCK_POSIX && range->owner->kind == LOCK_POSIX &&
                   is_deadlock(file->locks, request->owner->id, range->owner->id)) {
                lock_request_end(request, EDEADLK);
        } else {
                request->blocker = range->owner->id;
                request->due = LOCK_NOT_DUE;
                request_waits(request);
        }
        return true;
}

static bool is_urgent(const LockRequest *request) {
        return request->kind == LOCK_DROP || request->kind == LOCK_CONFIRM;
}

/* What brings locks back goes first: everybody else may be waiting for it. */
static LockRequest *next_urgent(LockFile *file, uint64_t now) {
        LockRequest *request, *next;

        for (request = TAILQ_FIRST(&file->requests); request; request = next) {
                next = TAILQ_NEXT(request, request_link);
                if (!is_urgent(request) || request->due > now)
                        continue;
                if (request->kind == LOCK_DROP && !lockset_holds(&file->set, request->owner, request->start, request->end))
                        lock_request_end(request, 0);
                else if (request->kind == LOCK_DROP && pending_holds_back(file->inode, request->after))
                        request->due = LOCK_NOT_DUE;
                else
                        return request;
        }
        return NULL;
}

void locks_data_settled(VfsReactor *vr, Inode *inode) {
        Locks *locks = vr->vfs->locks;
        LockRequest *request;
        LockFile *file;

        lock_mutex(locks);
        file = inode->locks;
        if (file) {
                TAILQ_FOREACH(request, &file->requests, request_link)
                        if (request->due == LOCK_NOT_DUE)
                                request->due = 0;
                file_kick(file, vr);
        }
        unlock_mutex(locks);
}

/* What its owner gives back, and the server has not yet understood, must not take away what it takes after that. */
static bool is_behind_own(LockRequest *request) {
        const LockRequest *other;

        TAILQ_FOREACH(other, &request->file->requests, request_link)
                if (is_urgent(other) && !other->reclaim && !other->doubt_since && other->owner == request->owner &&
                    other->start <= request->end && other->end >= request->start) {
                        request->due = other->due;
                        return true;
                }
        return false;
}

static LockRequest *next_request(LockFile *file, uint64_t now) {
        LockRequest *request = next_urgent(file, now), *next;

        if (request)
                return request;
        for (request = TAILQ_FIRST(&file->requests); request; request = next) {
                next = TAILQ_NEXT(request, request_link);
                if (is_urgent(request) || request->due > now)
                        continue;
                if (!decide_here(request) && !is_behind_own(request) && !is_behind(request, now)) {
                        request->blocker = 0;
                        return request;
                }
        }
        return NULL;
}

static void file_arm(LockFile *file) {
        uint64_t due = LOCK_NOT_DUE;
        const LockRequest *request;

        TAILQ_FOREACH(request, &file->requests, request_link)
                due = MIN(due, request->due);
        if (due == LOCK_NOT_DUE)
                timer_disarm(&file->timer);
        else
                timer_arm(file->locks->vr->reactor, &file->timer, MAX(due, UINT64_C(1)));
}

void lock_file_step(LockFile *file) {
        LockRequest *request;

        while (!file->current && (request = next_request(file, now_ns()))) {
                request_unlink(request);
                file->current = request;
                lock_wire_send(file);
        }
        if (file->current)
                return timer_disarm(&file->timer); /* its answer is the next step */
        if (TAILQ_EMPTY(&file->requests) && TAILQ_EMPTY(&file->zapping) && lockset_is_empty(&file->set))
                return lock_file_free(file);
        file_arm(file);
}

/* ---- what the kernel asks for ---- */

static void setlk_written(Op *op);
static void setlk_settle(Op *op);
static void setlk_submit(Op *op);
static void setlk_done(Op *op);

static uint32_t svid_new(Locks *locks) {
        uint32_t svid = (atomic_fetch_add(&locks->vfs->memory->lock_svid, 1) + 1) & 0x3fffffff;

        return svid | 0x40000000; /* far from those of the kernel's own client, which begin at 0 */
}

/* A TAKE or a TEST of op. Under the mutex. 0, ENOMEM, ENOLCK. */
static int submit_wanted(Locks *locks, Op *op, enum LockRequestKind kind) {
        const VfsLock *lock = &op->lock.lock;
        LockRequest *request;
        LockOwner *owner;
        LockFile *file;
        int r;

        if (op->lock.wait && op->reactor->n_lock_waiters >= WAITERS_MAX)
                return ENOLCK;
        file = lock_file_get(locks, op->inode);
        if (!file)
                return ENOMEM;
        owner = lockset_find_owner(&file->set, op->lock.kind, op->lock.owner);
        owner = owner ? lock_owner_ref(owner) : lockset_new_owner(&file->set, op->lock.kind, op->lock.owner, svid_new(locks));
        request = owner ? lock_request_new(file, owner, kind, lock->type, lock->start, lock->end) : NULL;
        r = request && kind == LOCK_TAKE ? -lock_room_take(&locks->records, &request->room) : 0;
        if (!request || r) {
                if (request)
                        lock_request_end(request, 0);
                file_kick(file, op->reactor); /* it may be empty */
                return request ? r : ENOMEM;
        }
        lock_owner_came_with(owner, op->lock.fh);
        owner->cred = op->cred;
        if (lock->pid)
                owner->pid = lock->pid;
        request->wait = op->lock.wait;
        request->op = op;
        op->lock.request = request;
        if (request->wait) {
                request->counted = true;
                op->reactor->n_lock_waiters++;
                atomic_fetch_add_explicit(&locks->vfs->memory->n_lock_waiters, 1, memory_order_relaxed);
        }
        file_kick(file, op->reactor);
        return 0;
}

/* Under the mutex. op: NULL, or who waits. false: there is nothing to give back. */
static bool submit_drop(LockFile *file, LockOwner *owner, uint64_t start, uint64_t end, Op *op) {
        Locks *locks = file->locks;
        LockRequest *request = lock_request_new(file, lock_owner_ref(owner), LOCK_DROP, LOCK_NONE, start, end);

        if (!request) {
                log_error("out of memory: a lock is not given back");
                return false;
        }
        if (lock_room_take(&locks->records, &request->room) == 0)
                lock_record_ask(&locks->records, &request->room, file->inode->nodeid, owner, LOCK_NONE, start, end);
        request->op = op;
        if (op)
                op->lock.request = request;
        return true;
}

/* Does it end or weaken what its owner holds? */
static bool gives_back(Op *op) {
        Locks *locks = op->reactor->vfs->locks;
        const VfsLock *lock = &op->lock.lock;
        LockOwner *owner;
        LockFile *file;
        bool holds;

        if (lock->type == LOCK_EXCLUSIVE || !locks_known(op->inode))
                return false;
        lock_mutex(locks);
        file = op->inode->locks;
        owner = file ? lockset_find_owner(&file->set, op->lock.kind, op->lock.owner) : NULL;
        holds = owner && lockset_holds(&file->set, owner, lock->start, lock->end);
        unlock_mutex(locks);
        return holds;
}

void vfs_setlk(Op *op, uint64_t nodeid, uint64_t fh, enum LockKind kind, uint64_t owner, const VfsLock *lock, bool wait) {
        Open *open;

        if (!op->reactor->vfs->locks)
                return op_reply_err(op, ENOSYS);
        if (!op_begin(op, nodeid))
                return;
        open = open_get(op->reactor->vfs, fh, nodeid);
        if (!open)
                return op_reply_err(op, EBADF);
        op->cred = open->record->cred;
        op->lock.kind = kind;
        op->lock.owner = owner;
        op->lock.fh = fh;
        op->lock.lock = *lock;
        op->lock.wait = wait && lock->type != LOCK_NONE;
        op->lock.done = setlk_done;
        op->any_signal = op->lock.wait;
        if (gives_back(op)) {
                pages_write(op->reactor->vfs, op->inode);
                if (pages_wait(op, op->inode, setlk_written))
                        return;
        }
        setlk_settle(op);
}

/* Who is killed meanwhile has not given it back: that follows when it closes the file, after its pages. */
static void setlk_written(Op *op) {
        if (op->wait.err)
                op_reply_err(op, op->wait.err);
        else
                setlk_settle(op);
}

/* What was written is the server's first: for good before a lock goes, and lest it be dropped with the pages. */
static void setlk_settle(Op *op) {
        if (!pending_wait(op, gives_back(op), NULL, setlk_submit))
                setlk_submit(op);
}

static void setlk_submit(Op *op) {
        Locks *locks = op->reactor->vfs->locks;
        LockFile *file;
        LockOwner *owner;
        int err = 0;

        if (op->lock.lock.type != LOCK_NONE && op->interrupted)
                return op_reply_err(op, EINTR);
        lock_mutex(locks);
        if (op->lock.lock.type != LOCK_NONE) {
                err = submit_wanted(locks, op, LOCK_TAKE);
        } else {
                file = op->inode->locks;
                owner = file ? lockset_find_owner(&file->set, op->lock.kind, op->lock.owner) : NULL;
                if (owner && submit_drop(file, owner, op->lock.lock.start, op->lock.lock.end, op))
                        file_kick(file, op->reactor);
                else
                        op_answer(op, 0);
        }
        unlock_mutex(locks);
        if (err)
                op_reply_err(op, err);
}

/* Taken again after its caller has given it back, it would be nobody's. */
static void setlk_done(Op *op) {
        op_reply_err_once(op, op->lock.err);
}

static void getlk_done(Op *op) {
        VfsLock lock = op->lock.lock;

        if (op->lock.err)
                return op_reply_err(op, op->lock.err);
        op_finish(op);
        op->reply->lock(op, &lock);
}

void vfs_getlk(Op *op, uint64_t nodeid, uint64_t fh, uint64_t owner, const VfsLock *lock) {
        Locks *locks = op->reactor->vfs->locks;
        Open *open;
        int err;

        if (!locks)
                return op_reply_err(op, ENOSYS);
        if (!op_begin(op, nodeid))
                return;
        open = open_get(op->reactor->vfs, fh, nodeid);
        if (!open)
                return op_reply_err(op, EBADF);
        op->cred = open->record->cred;
        op->lock.kind = LOCK_POSIX;
        op->lock.owner = owner;
        op->lock.fh = fh;
        op->lock.lock = *lock;
        op->lock.wait = false;
        op->lock.done = getlk_done;
        lock_mutex(locks);
        err = submit_wanted(locks, op, LOCK_TEST);
        unlock_mutex(locks);
        if (err)
                op_reply_err(op, err);
}

/* ---- locks go ---- */

void locks_drop_owner(Op *op, enum LockKind kind, uint64_t id, void (*done)(Op *op)) {
        Locks *locks = op->reactor->vfs->locks;
        LockOwner *owner;
        LockFile *file;

        op->lock.done = done;
        lock_mutex(locks);
        file = op->inode->locks;
        owner = file ? lockset_find_owner(&file->set, kind, id) : NULL;
        if (owner && submit_drop(file, owner, 0, LOCK_END, done ? op : NULL))
                file_kick(file, op->reactor);
        else if (done)
                op_answer(op, 0);
        unlock_mutex(locks);
}

void locks_drop_open(VfsReactor *vr, Inode *inode, uint64_t fh, bool has_flock, uint64_t flock_owner) {
        Locks *locks = vr->vfs->locks;
        LockOwner *owner;
        LockFile *file;

        lock_mutex(locks);
        file = inode->locks;
        if (file) {
                TAILQ_FOREACH(owner, &file->set.owners, owner_link)
                        if (owner->fh == fh || (has_flock && owner->kind == LOCK_FLOCK && owner->id == flock_owner)) {
                                owner->fh = VFS_GONE_FH; /* the kernel may give the owner's id to the next one */
                                (void) submit_drop(file, owner, 0, LOCK_END, NULL);
                        }
                file_kick(file, vr);
        }
        unlock_mutex(locks);
}

/*
 * A lock that was just granted is given back, so that EINTR is true. Not if part of it was held before, which would be lost
 * with it: then it is answered in a moment, when the pages have been dropped.
 */
void locks_interrupt(Op *op) {
        Locks *locks = op->reactor->vfs->locks;
        LockRequest *request;
        LockFile *file;

        if (!locks)
                return;
        lock_mutex(locks);
        request = op->lock.request;
        if (request && !(request->in == &request->file->zapping && request->had_some)) {
                file = request->file;
                lock_request_answer(request, EINTR);
                if (request->in == &file->zapping)
                        (void) submit_drop(file, request->owner, request->start, request->end, NULL);
                else if (request->in && !is_urgent(request))
                        lock_request_end(request, 0);
                file_kick(file, op->reactor);
        }
        unlock_mutex(locks);
}

/* ---- the end ---- */

void lock_end_fired(Timer *timer) {
        Locks *locks = container_of(timer, Locks, end_timer);
        VfsReactor *vr = locks->vr;

        if (!TAILQ_EMPTY(&locks->files))
                log_warning("the server does not answer: it keeps locks that nobody holds any more");
        if (locks->ending)
                background_end(vr);
        locks->ending = false;
}

static void file_end(LockFile *file) {
        LockRequest *request, *next;
        LockOwner *owner;

        for (request = TAILQ_FIRST(&file->requests); request; request = next) {
                next = TAILQ_NEXT(request, request_link);
                if (!is_urgent(request))
                        lock_request_end(request, EINTR);
        }
        if (file->current)
                lock_request_answer(file->current, EINTR);
        TAILQ_FOREACH(owner, &file->set.owners, owner_link)
                (void) submit_drop(file, owner, 0, LOCK_END, NULL);
        lock_doubt_end(file);
        lock_file_step(file);
}

void vfs_locks_end(VfsReactor *vr) {
        Locks *locks = vr->vfs->locks;
        LockFile *file, *next;

        if (!locks || vr != locks->vr || locks->ending)
                return;
        lock_mutex(locks);
        locks->ending = true;
        background_begin(vr);
        timer_arm(vr->reactor, &locks->end_timer, now_ns() + (TAILQ_EMPTY(&locks->files) ? 0 : END_BOUND_NS));
        for (file = TAILQ_FIRST(&locks->files); file; file = next) {
                next = TAILQ_NEXT(file, file_link);
                file_end(file);
        }
        unlock_mutex(locks);
}
