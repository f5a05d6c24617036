/*
 * Pages that were read again while a WRITE of them was on its way.
 *
 * The kernel copies what a program writes into its page, unlocks the page if it is complete, and queues the WRITE after that.
 * If the page is dropped meanwhile (a lock was granted, others have changed the file), anybody may have it read again, and
 * that READ can be executed before the WRITE: because it was queued before it, by another reactor that is faster, because the
 * WRITE waits for room, or by a successor. Its answer stays in the kernel's cache, though the WRITE was answered: the writer
 * itself reads what was there before. No order of requests mends that, so it is noticed here:
 *
 *   unsure      for a while after pages of a file were dropped; while a WRITE of it is held (it waits for room, or goes round
 *               the cache, as with O_APPEND: then the kernel drops the pages before it); for a while after a worker's death
 *   then        READs for the cache note their range
 *   a WRITE     that was kept, and meets such a range, is answered when the pages of what it wrote have been dropped again
 *   a READ      that was in flight then is done again
 *
 * What was changed through mmap is safe: such a page is not read again before it is written.
 *
 * The kernel keeps a page locked that the WRITE covers in part, and that was not complete before. It cannot be dropped before the
 * answer, nor can it be old: so the answer does not wait for long.
 *
 * Thread: any; Inode.lock.
 */
#include <fcntl.h>

#include "volume.h"

#define AGAIN_NS  (10 * NSEC_PER_MSEC) /* REREAD_UNSURE_NS is longer by so much after a drop for this reason: once */
#define ANSWER_NS (5 * NSEC_PER_MSEC)
#define AGAIN_MAX 8u
#define PAGE      4096u

typedef struct Reread {
        uint64_t unsure_until;             /* ns */
        uint64_t unsure_max;               /* ns: drops of ours do not go beyond: they must not feed themselves */
        uint32_t n_held;                   /* WRITEs */
        uint32_t n_rewritten;              /* WRITEs that met what was read */
        uint64_t read_from, read_to;       /* what was read while it was unsure; to 0: nothing */
        uint64_t written_from, written_to; /* what those WRITEs wrote; to 0: nothing */
        Drop drop;
} Reread;

static bool meets(uint64_t from, uint64_t to, const Op *op) {
        return from < op->io.offset + op->io.size && op->io.offset < to;
}

static void widen(uint64_t *from, uint64_t *to, const Op *op) {
        bool empty = *to == 0;

        *from = empty ? op->io.offset : MIN(*from, op->io.offset);
        *to = MAX(*to, op->io.offset + op->io.size);
}

/* The pages of op are dropped: what was read of them does not count any more. */
static void narrow(uint64_t *from, uint64_t *to, const Op *op) {
        uint64_t first = op->io.offset / PAGE * PAGE, end = (op->io.offset + op->io.size + PAGE - 1) / PAGE * PAGE;

        if (first <= *from && end >= *to)
                *to = 0;
        else if (first <= *from && end > *from)
                *from = end;
        else if (end >= *to && first < *to)
                *to = first;
}

/* Does it go through the kernel's pages? */
static bool is_cached(const Op *op) {
        return !(op->open->record->flags & (O_APPEND | O_DIRECT));
}

/* Under the lock. NULL: no memory. */
static Reread *reread_of(Inode *inode) {
        Reread *reread = atomic_load(&inode->reread);

        if (reread)
                return reread;
        reread = calloc(1, sizeof *reread);
        if (!reread)
                return NULL;
        drop_init(&reread->drop, inode);
        atomic_store(&inode->reread, reread);
        return reread;
}

void reread_free(Inode *inode) {
        free(atomic_exchange(&inode->reread, NULL));
}

unsigned reread_pins(const Inode *inode) {
        const Reread *reread = atomic_load(&((Inode *) (uintptr_t) inode)->reread);

        return reread && reread->drop.vfs;
}

/* Under the lock. */
static bool is_unsure(const Vfs *vfs, const Reread *reread, uint64_t now) {
        return reread->n_held > 0 || now <= reread->unsure_until || now <= vfs->unsure_until;
}

/* Under the lock. */
static void unsure_from(Reread *reread, uint64_t now) {
        if (reread->n_held == 0 && now > reread->unsure_until)
                reread->read_to = reread->written_to = 0;
        reread->unsure_until = now + REREAD_UNSURE_NS;
        reread->unsure_max = reread->unsure_until + AGAIN_NS;
}

void reread_unsure(Inode *inode) {
        Reread *reread;

        if (atomic_load(&inode->n_writers) == 0) /* then nothing is on its way */
                return;
        inode_lock(inode);
        reread = reread_of(inode);
        if (reread)
                unsure_from(reread, now_ns());
        inode_unlock(inode);
}

/* ---- READ ---- */

void reread_begin(Op *op) {
        Inode *inode = op->inode;
        Vfs *vfs = op->reactor->vfs;
        uint64_t now = now_ns();
        Reread *reread;

        op->io.n_again = 0;
        if (!is_cached(op))
                return;
        /* the kernel drops pages, we do not know when; or a former worker did */
        if (vfs_checks_each_read(vfs) || now <= vfs->unsure_until)
                reread_unsure(inode);
        if (!atomic_load(&inode->reread))
                return;
        inode_lock(inode);
        reread = atomic_load(&inode->reread);
        if (is_unsure(vfs, reread, now))
                widen(&reread->read_from, &reread->read_to, op);
        op->io.n_rewritten = reread->n_rewritten;
        inode_unlock(inode);
}

bool reread_again(Op *op) {
        Inode *inode = op->inode;
        Reread *reread = atomic_load(&inode->reread);
        bool again;

        if (!reread || op->io.n_again == AGAIN_MAX || !is_cached(op))
                return false;
        inode_lock(inode);
        again = op->io.n_rewritten != reread->n_rewritten && meets(reread->written_from, reread->written_to, op);
        op->io.n_rewritten = reread->n_rewritten;
        inode_unlock(inode);
        op->io.n_again += again;
        return again;
}

/* ---- WRITE ---- */

void reread_hold(Op *op) {
        Reread *reread;

        if (op->held || op->io.from_pages)
                return;
        inode_lock(op->inode);
        reread = reread_of(op->inode);
        if (reread) {
                unsure_from(reread, now_ns());
                reread->n_held++;
                op->held = true;
        }
        inode_unlock(op->inode);
}

void reread_release(Op *op) {
        inode_lock(op->inode);
        atomic_load(&op->inode->reread)->n_held--;
        inode_unlock(op->inode);
        op->held = false;
}

void reread_written(Op *op) {
        Inode *inode = op->inode;
        Vfs *vfs = op->reactor->vfs;
        uint64_t now = now_ns(), until;
        bool surely = op->recovered || now <= vfs->unsure_until;
        Reread *reread;

        op->io.drops = false;
        if (!vfs->notify.inval_pages || op->io.from_pages || (!surely && !atomic_load(&inode->reread)))
                return;
        inode_lock(inode);
        reread = reread_of(inode);
        op->io.drops = reread && (surely || (is_unsure(vfs, reread, now) && meets(reread->read_from, reread->read_to, op)));
        if (op->io.drops) {
                reread->n_rewritten++;
                widen(&reread->written_from, &reread->written_to, op);
                narrow(&reread->read_from, &reread->read_to, op);
                until = MIN(now + AGAIN_NS, reread->unsure_max);
                reread->unsure_until = MAX(reread->unsure_until, until);
        }
        inode_unlock(inode);
}

bool reread_drop(Op *op, void (*done)(Op *op)) {
        Reread *reread = atomic_load(&op->inode->reread);

        if (!op->io.drops)
                return false;
        drop_range(op->reactor->vfs, &reread->drop, op->io.offset, op->io.offset + op->io.size);
        return drop_wait(op, &reread->drop, ANSWER_NS, done);
}
