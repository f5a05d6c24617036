/*
 * Pages that the kernel has of files that others change while they are open here.
 *
 * The kernel reads from its pages without asking anybody. So somebody must notice that they are old, and they must be gone
 * before the kernel hears of the new size: it would take the rest of a page, which is zero, for data (a log that grows would
 * have holes), and who has seen new times by fstat(2) would then read the old bytes.
 *
 *   Noticed: with any answer that brings attributes (cache.c). For files that are open for reading, and of which nobody
 *   else asks, the attributes are asked for here when they are no longer believed.
 *   A READ that ends early tells the kernel that the file is shorter, unless it hears of the file in between: it would fill
 *   the page with zeros. So what comes with a READ is told in a moment, when the reader has gone on.
 *   Gone: a process of its own drops them (fuse/notify.c). Until it says that it has, answers with attributes of this file wait.
 *   The kernel asks once more after that, since it does not take attributes that are older than a notification. Only who
 *   cuts a file cannot wait (attr.c).
 *
 * noac, actimeo=0: attributes are asked for at each read. Then the kernel does it itself (vfs_checks_each_read()).
 *
 * Thread: any; Inode.lock. The asking is the first reactor's.
 */
#include <fcntl.h>

#include "volume.h"

#define PERIOD_NS (100 * NSEC_PER_MSEC)
#define IDLE_NS   NSEC_PER_SEC       /* while nothing is open */
#define ASKED_NS  (NSEC_PER_SEC / 2) /* not more often, whatever acregmin says */
#define FAILED_NS (3 * NSEC_PER_SEC)
#define SCAN_MAX  4096u /* opens looked at in a period */
#define ASKED_MAX 64u   /* GETATTRs in flight */

bool vfs_checks_each_read(const Vfs *vfs) {
        return vfs->options->noac || vfs->options->acregmax == 0;
}

/* ---- dropping ---- */

static void dropped(VfsInval *inval);

/* Under the lock. The next one that the kernel is told: nothing is under way. */
static void drop_begin(Drop *drop) {
        drop->inval = (VfsInval){
                .done = dropped,
                .nodeid = drop->inode->nodeid,
                .offset = drop->from,
                .size = drop->to == UINT64_MAX ? 0 : drop->to - drop->from,
        };
        drop->again = false;
        drop->n++;
}

/* Under the lock. */
static void drop_ended(Drop *drop) {
        Op *op, *next;

        for (op = TAILQ_FIRST(&drop->waiting); op; op = next) {
                next = TAILQ_NEXT(op, wait.wait_link);
                if (op->wait.seq > drop->n)
                        continue;
                TAILQ_REMOVE(&drop->waiting, op, wait.wait_link);
                op->wait.for_drop = NULL;
                op_wake(op, 0);
        }
}

static void tell(Vfs *vfs, Drop *drop) {
        vfs->notify.inval_pages(vfs->notify.userdata, &drop->inval);
}

/* The first reactor. */
static void dropped(VfsInval *inval) {
        Drop *drop = container_of(inval, Drop, inval);
        Inode *inode = drop->inode;
        Vfs *vfs;
        bool again;

        inode_lock(inode);
        vfs = drop->vfs;
        drop_ended(drop);
        again = drop->again;
        if (again)
                drop_begin(drop);
        else
                drop->vfs = NULL;
        inode_unlock(inode);
        if (again)
                return tell(vfs, drop);
        inode_unpin(vfs, inode);
}

void drop_init(Drop *drop, Inode *inode) {
        drop->inode = inode;
        TAILQ_INIT(&drop->waiting);
}

void drop_range(Vfs *vfs, Drop *drop, uint64_t from, uint64_t to) {
        Inode *inode = drop->inode;
        bool first;

        inode_lock(inode);
        first = !drop->vfs;
        drop->from = drop->again ? MIN(drop->from, from) : from;
        drop->to = drop->again ? MAX(drop->to, to) : to;
        drop->again = true;
        drop->vfs = vfs;
        if (first)
                drop_begin(drop);
        inode_unlock(inode);
        if (!first)
                return;
        inode_repin(vfs, inode);
        tell(vfs, drop);
}

void pages_drop(Vfs *vfs, Inode *inode) {
        if (!vfs->notify.inval_pages || vfs_checks_each_read(vfs))
                return;
        inode_lock(inode);
        inode->drop_due = 0;
        inode_unlock(inode);
        reread_unsure(inode);
        drop_range(vfs, &inode->drop, 0, UINT64_MAX);
}

void pages_write(Vfs *vfs, Inode *inode) {
        if (!vfs->notify.inval_pages || atomic_load(&inode->n_writers) == 0)
                return;
        reread_unsure(inode);
        drop_range(vfs, &inode->drop, 0, UINT64_MAX);
}

void pages_drop_later(Vfs *vfs, Inode *inode) {
        if (!vfs->notify.inval_pages || vfs_checks_each_read(vfs))
                return;
        inode_lock(inode);
        if (!inode->drop_due)
                inode->drop_due = now_ns() + PERIOD_NS;
        inode_unlock(inode);
}

static bool is_due(Inode *inode, uint64_t now) {
        bool due;

        inode_lock(inode);
        due = inode->drop_due && inode->drop_due <= now;
        inode_unlock(inode);
        return due;
}

/* Under the lock: until all that has to be dropped now is. */
static void wait_begin(Op *op, Drop *drop) {
        op->wait.for_drop = drop;
        op->wait.seq = drop->n + drop->again;
        TAILQ_INSERT_TAIL(&drop->waiting, op, wait.wait_link);
}

/* true: it did wait. */
static bool wait_end(Op *op) {
        Drop *drop = atomic_load(&op->wait.for_drop); /* cleared by the first reactor; then it is woken already */
        bool waits;

        if (!drop)
                return false;
        inode_lock(drop->inode);
        waits = atomic_load(&op->wait.for_drop);
        if (waits)
                TAILQ_REMOVE(&drop->waiting, op, wait.wait_link);
        op->wait.for_drop = NULL;
        inode_unlock(drop->inode);
        return waits;
}

bool pages_wait(Op *op, Inode *inode, void (*done)(Op *op)) {
        bool waits;

        if (is_due(inode, UINT64_MAX))
                pages_drop(op->reactor->vfs, inode);
        inode_lock(inode);
        waits = inode->drop.vfs;
        op->wait.done = done;
        if (waits && op->interrupted) { /* it will not be once more */
                op_wake(op, EINTR);
        } else if (waits) {
                wait_begin(op, &inode->drop);
        }
        inode_unlock(inode);
        return waits;
}

bool pages_are_dropped(Vfs *vfs, uint64_t nodeid) {
        Inode *inode = inode_pin(vfs, nodeid);
        bool are;

        if (!inode)
                return false;
        inode_lock(inode);
        are = inode->drop.vfs || inode->drop_due;
        inode_unlock(inode);
        inode_unpin(vfs, inode);
        return are;
}

void pages_interrupt(Op *op) {
        if (wait_end(op))
                op_wake(op, EINTR);
}

static void wait_fired(Timer *timer) {
        Op *op = container_of(timer, Op, bound);

        if (wait_end(op))
                op_wake(op, 0);
}

bool drop_wait(Op *op, Drop *drop, uint64_t ns, void (*done)(Op *op)) {
        bool waits;

        inode_lock(drop->inode);
        waits = drop->vfs && !op->interrupted;
        op->wait.done = done;
        if (waits)
                wait_begin(op, drop);
        inode_unlock(drop->inode);
        if (!waits)
                return false;
        op->bound.fired = wait_fired;
        timer_arm(op->reactor->reactor, &op->bound, now_ns() + ns);
        return true;
}

/* ---- asking ---- */

typedef struct Question {
        NfsCall call;
        NfsCred cred;
        VfsReactor *reactor;
        Inode *inode; /* pinned */
} Question;

static void question_done(NfsCall *call) {
        Question *question = container_of(call, Question, call);
        VfsReactor *vr = question->reactor;
        Inode *inode = question->inode;

        if (!call->err)
                cache_update(vr->vfs, inode, &call->res.attr, call_time(call));
        inode_lock(inode);
        inode->asking = false;
        inode->ask_after = now_ns() + (call->err ? FAILED_NS : ASKED_NS);
        inode_unlock(inode);
        inode_unpin(vr->vfs, inode);
        vr->n_asked--;
        free(question);
}

static void ask(VfsReactor *vr, Inode *inode, const NfsCred *cred) {
        Question *question = calloc(1, sizeof *question);

        if (!question)
                return;
        inode_lock(inode);
        inode->asking = true;
        inode_unlock(inode);
        inode_repin(vr->vfs, inode);
        question->reactor = vr;
        question->inode = inode;
        question->cred = *cred;
        question->call = (NfsCall){ .proc = NFS_GETATTR, .cred = &question->cred, .done = question_done };
        question->call.args.fh = inode_fh(inode);
        vr->n_asked++;
        nfs_call_send(vr->conn, &question->call);
}

/* Under table_lock: of an open file, pinned, if it must be asked for, or its pages be dropped; else NULL. */
static Inode *is_old(Vfs *vfs, Open *open, uint64_t now) {
        Inode *inode = open->inode;
        bool old;

        if (!inode || !S_ISREG(inode->record->type) || (open->record->flags & O_ACCMODE) == O_WRONLY)
                return NULL;
        inode_lock(inode);
        old = (inode->drop_due && inode->drop_due <= now) || (!inode->pages.none && !inode->asking && inode->attr_valid <= now &&
                                                              inode->ask_after <= now && !pending_unwritten(inode));
        inode_unlock(inode);
        if (old)
                inode->n_busy++;
        return old ? inode : NULL;
}

static void coherence_fired(Timer *timer) {
        VfsReactor *vr = container_of(timer, VfsReactor, coherence);
        uint32_t high = atomic_load(&vr->vfs->memory->opens_high);
        uint64_t now = reactor_now(vr->reactor);
        Vfs *vfs = vr->vfs;

        for (uint32_t n = MIN(high, SCAN_MAX); n > 0 && vr->n_asked < ASKED_MAX; n--) {
                uint32_t index = vr->next_open++ % high;
                NfsCred cred = { 0 };
                Inode *inode;

                (void) pthread_mutex_lock(&vfs->table_lock);
                inode = atomic_load_explicit(&vfs->memory->opens[index].used, memory_order_acquire) == 1
                                ? is_old(vfs, &vfs->opens[index], now)
                                : NULL;
                if (inode)
                        cred = vfs->memory->opens[index].cred;
                (void) pthread_mutex_unlock(&vfs->table_lock);
                if (!inode)
                        continue;
                if (is_due(inode, now))
                        pages_drop(vfs, inode);
                else
                        ask(vr, inode, &cred);
                inode_unpin(vfs, inode);
        }
        coherence_start(vr);
}

void coherence_start(VfsReactor *vr) {
        bool idle = atomic_load_explicit(&vr->vfs->memory->n_opens, memory_order_relaxed) == 0;

        if (vfs_checks_each_read(vr->vfs))
                return;
        vr->coherence.fired = coherence_fired;
        timer_arm(vr->reactor, &vr->coherence, reactor_now(vr->reactor) + (idle ? IDLE_NS : PERIOD_NS));
}
