/*
 * What all operations do: begin, send, be interrupted, run out of time, end.
 *
 * An op has at most one RPC in flight, in op->call. While it has, interrupting it (vfs_interrupt) or its
 * bound running out cancels the call, whose done() then sees EINTR and answers. Ops without a call in
 * flight answer by themselves and need neither.
 */
#include "base/log.h"
#include "volume.h"

void vfs_doing(VfsReactor *vr, uint64_t unique) {
        atomic_store_explicit(&vr->vfs->memory->doing[vr->index], unique, memory_order_relaxed);
}

bool op_begin(Op *op, uint64_t nodeid) {
        cred_of(op->reactor, op);
        op->inode = inode_pin(op->reactor->vfs, nodeid);
        if (op->inode)
                return true;
        op_reply_err(op, ESTALE);
        return false;
}

bool op_begin2(Op *op, uint64_t nodeid) {
        op->inode2 = inode_pin(op->reactor->vfs, nodeid);
        if (op->inode2)
                return true;
        op_reply_err(op, ESTALE);
        return false;
}

void op_goes_on(Op *op, void (*step)(Op *op)) {
        VfsReactor *vr = op->reactor;

        vfs_doing(vr, op->unique);
        step(op); /* may be its end */
        vfs_doing(vr, 0);
}

static void heard(Op *op) {
        NfsCall *call = &op->call;

        op->call_pending = false;
        if (call->err == ESTALE)
                cache_doubt_names(op->reactor->vfs);
        if (call->err != ESTALE || !revive_call(op))
                op->answered(call);
}

static void op_answered(NfsCall *call) {
        op_goes_on(OP_OF(call), heard);
}

NfsArgs *op_call(Op *op, enum NfsProc proc, const NfsFh *fh, void (*done)(NfsCall *call)) {
        NfsCall *call = &op->call;

        *call = (NfsCall){ .proc = proc, .cred = &op->cred, .done = op_answered };
        op->answered = done;
        op->n_doubts = op->inode ? atomic_load_explicit(&op->inode->n_doubts, memory_order_acquire) : 0;
        op->revive.which = op->revive.wait.n = 0;
        op->revive.resent = false;
        call->args.fh = fh;
        return &call->args;
}

static void abort_call(Op *op) {
        op->call_pending = false;
        op->call.err = EINTR;
        op->answered(&op->call);
}

static void aborted_run(Task *task) {
        op_goes_on(container_of(task, Op, aborted), abort_call);
}

void op_send(Op *op) {
        op->call_pending = true;
        if (op->interrupted || op->out_of_time) {
                /* cancelled between two of its RPCs: the next one is not sent at all */
                op->aborted.run = aborted_run;
                return reactor_defer(op->reactor->reactor, &op->aborted);
        }
        nfs_call_send(op->reactor->conn, &op->call);
}

void op_send_changing(Op *op, unsigned step, const NfsFh *object, uint64_t object_id) {
        uint32_t xid = op->replayed_step == step ? op->replayed_xid : 0;

        op->replayed_xid = 0;
        if (xid == 0) /* else it is noted already, and must stay so: it was sent */
                op->reply->executing(op, step, object, object_id);
        op->call.xid = xid;
        op->call.xid_note = op->xid_note;
        op_send(op);
}

Op *op_done(NfsCall *call) {
        Op *op = OP_OF(call);
        Vfs *vfs = op->reactor->vfs;

        if (call->err != EINTR && atomic_load_explicit(&vfs->late, memory_order_relaxed))
                atomic_store_explicit(&vfs->late, false, memory_order_relaxed);
        return op;
}

void op_finish(Op *op) {
        Vfs *vfs = op->reactor->vfs;

        timer_disarm(&op->bound);
        if (op->open)
                atomic_fetch_add_explicit(&TAKE_PTR(op->open)->n_done, 1, memory_order_release);
        op->stream = dir_stream_unref(op->stream);
        if (op->opening)
                opening_end(op);
        if (op->removal)
                removal_end(op);
        if (op->held)
                reread_release(op);
        if (op->inode)
                inode_unpin(vfs, TAKE_PTR(op->inode));
        if (op->inode2)
                inode_unpin(vfs, TAKE_PTR(op->inode2));
}

void op_reply_err(Op *op, int err) {
        op_finish(op);
        op->reply->err(op, err);
}

void op_reply_err_once(Op *op, int err) {
        op->reply->executing(op, 0, NULL, 0);
        op_reply_err(op, err);
}

/* Those whose pages were being dropped go on; a name that nobody waits for any more was counted. */
static void reply_entry_dropped(Op *op) {
        if (!op->wait.err)
                return op_reply_entry(op, &op->entry);
        inode_forget(op->reactor->vfs, op->entry.nodeid, 1);
        op_reply_err(op, op->wait.err);
}

void op_reply_entry(Op *op, const VfsEntry *entry) {
        Vfs *vfs = op->reactor->vfs;
        Inode *inode = entry->nodeid ? inode_pin(vfs, entry->nodeid) : NULL;
        bool waits = false;

        if (inode) {
                op->entry = *entry;
                waits = pages_wait(op, inode, reply_entry_dropped);
                inode_unpin(vfs, inode);
        }
        if (waits)
                return;
        op_finish(op);
        op->reply->entry(op, entry);
}

static void reply_attr_dropped(Op *op) {
        if (op->wait.err)
                return op_reply_err(op, op->wait.err);
        op_reply_attr(op, &op->entry.attr);
}

void op_reply_attr(Op *op, const NfsAttr *attr) {
        op->entry.attr = *attr;
        if (!pages_wait(op, op->inode, reply_attr_dropped))
                op_reply_attr_now(op, attr);
}

void op_reply_attr_now(Op *op, const NfsAttr *attr) {
        uint64_t left, nodeid = op->inode->nodeid;
        NfsAttr cached;

        /* what is cached may be newer than the reply that brought attr */
        if (!cache_attr(op->inode, reactor_now(op->reactor->reactor), false, &cached, &left)) {
                cached = *attr;
                left = 0;
        }
        op_finish(op);
        op->reply->attr(op, nodeid, &cached, left);
}

int op_make_entry(Op *op, Inode *dir, const char *name, const NfsFh *fh, const NfsAttr *attr, CallTime time, VfsEntry *ret) {
        Vfs *vfs = op->reactor->vfs;
        uint64_t now = reactor_now(op->reactor->reactor);
        Inode *inode = inode_lookup(vfs, fh, attr, dir->nodeid, name);
        VfsEntry entry = { 0 };

        if (!inode)
                return ENOMEM;
        if (inode->record->type != (attr->mode & S_IFMT)) {
                /* the server reused a handle for another kind of object */
                inode_forget(vfs, inode->nodeid, 1);
                return ESTALE;
        }
        cache_update(vfs, inode, attr, time);
        if (!cache_attr(inode, now, true, &entry.attr, &entry.attr_timeout))
                entry.attr = *attr;
        if (!cache_links_known(vfs, inode))
                entry.attr_timeout = 0;
        entry.nodeid = inode->nodeid;
        entry.entry_timeout = cache_entry_timeout(vfs, dir, true, now);
        *ret = entry;
        return 0;
}

static void bound_fired(Timer *timer) {
        Op *op = container_of(timer, Op, bound);

        op->out_of_time = true;
        atomic_store_explicit(&op->reactor->vfs->late, true, memory_order_relaxed);
        if (op->interrupted || revive_interrupt(op))
                return;
        if (op->call_pending)
                nfs_call_cancel(&op->call);
}

void op_bound(Op *op) {
        bool late = atomic_load_explicit(&op->reactor->vfs->late, memory_order_relaxed);

        op->bound.fired = bound_fired;
        timer_arm(op->reactor->reactor, &op->bound, reactor_now(op->reactor->reactor) + (late ? BOUND_LATE_NS : BOUND_NS));
}

void vfs_interrupt(Op *op) {
        if (op->interrupted)
                return;
        op->interrupted = true;
        if (revive_interrupt(op))
                return;
        if (op->call_pending && !op->out_of_time)
                return nfs_call_cancel(&op->call);
        pending_interrupt(op);
        pages_interrupt(op);
        locks_interrupt(op);
}
