/*
 * Who waits for what was written to a file, and who hears that some of it was lost.
 *
 * An op waits in Pending.waiting until everything up to its seq is on the server, or on its stable storage; pending_step()
 * wakes it. An error is told as the kernel's errseq_t does: each open file hears of it once, and one that is opened
 * later if nobody has. It stays in the recovery memory until somebody has been answered.
 *
 * Thread: any; Inode.lock, but op->wait belongs to the op's reactor once it was woken.
 */
#include "base/log.h"
#include "pending.h"

/* ---- who waits ---- */

static void wake_run(Task *task) {
        Op *op = container_of(task, Op, wait.wake);

        op_goes_on(op, op->wait.done);
}

void op_wake(Op *op, int err) {
        op->wait.err = err;
        op->wait.wake.run = wake_run;
        reactor_post(op->reactor->reactor, &op->wait.wake);
}

static bool wait_for(Op *op, uint64_t seq, bool stable, Open *hearer, void (*done)(Op *op)) {
        Inode *inode = op->inode;
        Pending *pending;
        bool waits;

        inode_lock(inode);
        pending = inode->pending;
        stable = stable || (pending && pending_is_doubtful(pending));
        waits = pending && pending_has_up_to(pending, MIN(seq, pending->last_seq), stable);
        if (waits && op->interrupted) { /* between two of its steps; it will not be once more */
                op->wait.done = done;
                op_wake(op, EINTR);
        } else if (waits) {
                pending_want(pending, stable);
                op->wait.seq = MIN(seq, pending->last_seq);
                op->wait.stable = stable;
                op->wait.hearer = hearer;
                op->wait.done = done;
                op->wait.in_file = true;
                TAILQ_INSERT_TAIL(&pending->waiting, op, wait.wait_link);
        }
        inode_unlock(inode);
        if (waits)
                pending_step(op->reactor, inode);
        return waits;
}

bool pending_wait(Op *op, bool stable, Open *hearer, void (*done)(Op *op)) {
        return wait_for(op, UINT64_MAX, stable, hearer, done);
}

bool pending_wait_for(Op *op, uint64_t seq, void (*done)(Op *op)) {
        return wait_for(op, seq, false, op->open, done);
}

void pending_interrupt(Op *op) {
        Vfs *vfs = op->reactor->vfs;
        Inode *inode = op->inode;
        bool waits = false;

        if (!inode)
                return;
        inode_lock(inode);
        if (op->wait.in_file) {
                TAILQ_REMOVE(&inode->pending->waiting, op, wait.wait_link);
                op->wait.in_file = false;
                waits = true;
        }
        inode_unlock(inode);
        (void) pthread_mutex_lock(&vfs->room_lock);
        if (op->wait.for_room) {
                TAILQ_REMOVE(&vfs->for_room, op, wait.wait_link);
                op->wait.for_room = false;
                waits = true;
        }
        (void) pthread_mutex_unlock(&vfs->room_lock);
        if (waits)
                op_wake(op, EINTR);
}

/* ---- who hears of what was lost ---- */

/* Under the lock. A former worker knew who has heard of it. */
static void errors_load(Inode *inode) {
        int err = atomic_load(&inode->record->write_error);

        if (err && inode->n_write_errors == 0) {
                inode->n_write_errors = 1;
                inode->write_error = err;
        }
}

static int error_of(Op *op, Inode *inode, Open *open) {
        bool heard;

        errors_load(inode);
        heard = open->errors_heard == inode->n_write_errors;
        if (heard)
                return 0;
        open->errors_heard = inode->n_write_errors;
        inode->write_error_heard = true;
        op->wait.heard = inode->n_write_errors;
        return inode->write_error;
}

void pending_latch_error(Inode *inode, int err) {
        if (!atomic_load(&inode->record->write_error))
                log_error("what was written to file id %llu is lost: %s", (unsigned long long) inode->record->fileid,
                          strerror(err));
        errors_load(inode);
        inode->n_write_errors++;
        inode->write_error = err;
        inode->write_error_heard = false;
        atomic_store(&inode->record->write_error, err);
        inode->pages.known = false;
}

int pending_error(Op *op, Open *open) {
        int err;

        inode_lock(op->inode);
        err = error_of(op, op->inode, open);
        inode_unlock(op->inode);
        return err;
}

void pending_error_begin(Inode *inode, Open *open) {
        inode_lock(inode);
        errors_load(inode);
        open->errors_heard = inode->n_write_errors;
        if (inode->n_write_errors > 0 && !inode->write_error_heard)
                open->errors_heard--;
        inode_unlock(inode);
}

void pending_error_reply(Op *op, int err) {
        Vfs *vfs = op->reactor->vfs;
        Inode *inode = op->inode;

        if (!err)
                return op_reply_err(op, 0);
        inode_repin(vfs, inode);
        op_reply_err_once(op, err);
        inode_lock(inode);
        /* 0: that was no such error, and there may be one of a former worker; another number: more was lost since */
        if (op->wait.heard && op->wait.heard == inode->n_write_errors)
                atomic_store(&inode->record->write_error, 0);
        inode_unlock(inode);
        inode_unpin(vfs, inode);
}

/* ---- what pending_step() does ---- */

void pending_wake(Pending *pending) {
        Inode *inode = pending->inode;
        Op *op, *next;

        for (op = TAILQ_FIRST(&pending->waiting); op; op = next) {
                next = TAILQ_NEXT(op, wait.wait_link);
                if (pending_has_up_to(pending, op->wait.seq, op->wait.stable))
                        continue;
                TAILQ_REMOVE(&pending->waiting, op, wait.wait_link);
                op->wait.in_file = false;
                op_wake(op, op->wait.hearer ? error_of(op, inode, op->wait.hearer) : 0);
        }
}
