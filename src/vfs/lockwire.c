/*
 * Locks: what the server is asked, and what is made of its answers. See lock.c.
 *
 * An answer is no answer if the call ended otherwise (soft time-out, nonsense): then nothing is known about the lock, and
 * what we hold of the range is confirmed, before anything else is asked about the file that depends on it.
 *
 * Reclaiming. Nobody tells us that a server has restarted, so each new connection to its lock manager is taken for
 * one, and a new connection to the NFS server makes us ask the lock manager, which shows whether that connection is still
 * good. Each held lock is claimed. A server that has not restarted, or whose grace period is over, refuses that; then the
 * lock is asked for in the usual way: granted, it was still ours, or free; denied, it is lost. As with the kernel's client
 * the holder is not told (there is no way to, in version 3), but the log is.
 *
 * A restarted lock manager may be at another port than before, unless the option nlmport= says where it is: when it cannot be
 * reached, or something else answers, the portmapper is asked.
 */
#include <stdio.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "lock.h"

#define DENIED_MIN_MS 50
#define GRACE_MIN_MS  250
#define FAILED_MIN_MS 1000
#define PAUSE_MAX_MS  1000
#define PROGRAM_NLM   100021
#define GETPORT_NS    (5 * NSEC_PER_SEC) /* not more often */

static void wire_done(NfsCall *call);
static void wire_settle(LockFile *file);

/* ---- out ---- */

static void send_call(LockFile *file, enum NfsProc proc, enum LockType type, uint64_t start, uint64_t end, bool reclaim) {
        Locks *locks = file->locks;
        LockOwner *owner = file->current->owner;

        (void) snprintf(file->owner_text, sizeof file->owner_text, "%llx.%x@%.64s",
                        (unsigned long long) locks->vfs->memory->connection_id, owner->svid, locks->caller);
        file->call = (NfsCall){ .proc = proc, .cred = &owner->cred, .done = wire_done };
        file->call.args.fh = inode_fh(file->inode);
        file->call.args.lock.caller = locks->caller;
        file->call.args.lock.owner = file->owner_text;
        file->call.args.lock.svid = owner->svid;
        file->call.args.lock.offset = start;
        file->call.args.lock.length = end == LOCK_END ? 0 : end - start + 1;
        file->call.args.lock.exclusive = type == LOCK_EXCLUSIVE;
        file->call.args.lock.reclaim = reclaim;
        nfs_call_send(locks->conn, &file->call);
}

/* Whether it was carried out a successor cannot know. */
static void note_confirm(LockFile *file, LockRequest *request) {
        if (!request->room.record)
                return;
        if (request->reclaim)
                lock_record_ask(&file->locks->records, &request->room, file->inode->nodeid, request->owner, LOCK_SHARED,
                                request->at, request->segment_end);
        else
                request->room.record->doubt_since = 0;
}

/* The next piece of a CONFIRM; none: it is over. */
static void confirm_send(LockFile *file) {
        LockRequest *request = file->current;

        if (request->restart) {
                request->restart = request->plain = false;
                request->at = request->start;
        }
        for (; request->at <= request->end; request->at = request->segment_end + 1) {
                request->segment_type =
                        lockset_segment(&file->set, request->owner, request->at, request->end, &request->segment_end);
                if (request->segment_type == LOCK_NONE && request->reclaim)
                        continue;
                note_confirm(file, request);
                send_call(file, request->segment_type == LOCK_NONE ? NLM_UNLOCK : NLM_LOCK, request->segment_type, request->at,
                          request->segment_end, request->reclaim && !request->plain);
                return;
        }
        lock_request_end(request, 0);
}

void lock_wire_send(LockFile *file) {
        LockRequest *request = file->current;

        switch (request->kind) {
        case LOCK_TAKE:
                lock_record_ask(&file->locks->records, &request->room, file->inode->nodeid, request->owner, request->type,
                                request->start, request->end);
                return send_call(file, NLM_LOCK, request->type, request->start, request->end, false);
        case LOCK_DROP:
                return send_call(file, NLM_UNLOCK, LOCK_NONE, request->start, request->end, false);
        case LOCK_TEST:
                return send_call(file, NLM_TEST, request->type, request->start, request->end, false);
        case LOCK_CONFIRM:
                return confirm_send(file);
        }
}

/* ---- answers ---- */

static bool is_answer(const NfsCall *call) {
        return call->err == 0 || call->status != 0;
}

/* Refused by the RPC layer: not executed, nor will it be the next time. */
static bool is_refused(const NfsCall *call) {
        return !is_answer(call) && (call->err == EACCES || call->err == EOPNOTSUPP);
}

static void again_later(LockRequest *request, uint32_t min_ms) {
        uint32_t delay_ms = MAX(request->delay_ms * 2, min_ms);

        request->delay_ms = MIN(delay_ms, (uint32_t) PAUSE_MAX_MS);
        lock_request_again(request, now_ns() + request->delay_ms * NSEC_PER_MSEC);
}

/* Nobody waits for the TAKE any more, or its answer is not known. */
static void take_to_confirm(LockRequest *request) {
        request->doubt |= request->unsure;
        request->unsure = false;
        request->kind = LOCK_CONFIRM;
        request->at = request->start;
        lock_request_again(request, 0);
}

static void zapped(VfsInval *inval) {
        LockRequest *request = container_of(inval, LockRequest, inval);
        LockFile *file = request->file;
        Locks *locks = file->locks;

        reread_unsure(file->inode);
        (void) pthread_mutex_lock(&locks->mutex);
        lock_request_end(request, 0);
        lock_file_step(file);
        (void) pthread_mutex_unlock(&locks->mutex);
}

static void take_granted(LockRequest *request) {
        LockFile *file = request->file;
        Vfs *vfs = file->locks->vfs;
        bool had = lockset_covers(&file->set, request->owner, request->type, request->start, request->end);

        if (!request->op)
                return take_to_confirm(request);
        request->had_some = lockset_holds(&file->set, request->owner, request->start, request->end);
        lockset_apply(&file->locks->records, &file->set, request->owner, request->type, request->start, request->end,
                      file->inode->nodeid, &request->room);
        lock_file_wake(file, request->start, request->end, false); /* it may have been more before */
        /* who gave it to a former worker may not have come to the pages */
        if ((had && !request->op->recovered) || !vfs->notify.inval_pages)
                return lock_request_end(request, 0);
        cache_zap(file->inode);
        reread_unsure(file->inode);
        file->current = NULL;
        request->in = &file->zapping;
        TAILQ_INSERT_TAIL(&file->zapping, request, request_link);
        request->inval = (VfsInval){ .done = zapped, .nodeid = file->inode->nodeid };
        vfs->notify.inval_pages(vfs->notify.userdata, &request->inval);
}

/* Those behind it that would be denied too ask after it. */
static void put_off_others(LockRequest *request) {
        LockRequest *other;

        for (other = TAILQ_NEXT(request, request_link); other; other = TAILQ_NEXT(other, request_link))
                if (other->kind == LOCK_TAKE && other->wait && other->due < request->due && other->owner != request->owner &&
                    other->start <= request->start && other->end >= request->end &&
                    (other->type == LOCK_EXCLUSIVE || request->type == LOCK_SHARED))
                        other->due = request->due;
}

/* Once, when what is in doubt has been settled. */
static bool ask_twice(LockRequest *request) {
        if (request->asked_twice || !lock_doubt_hurry(request))
                return false;
        request->asked_twice = true;
        lock_record_unask(&request->room);
        lock_request_again(request, 0);
        return true;
}

static void take_denied(LockRequest *request) {
        if (request->op && !request->wait && ask_twice(request))
                return;
        if (!request->op || !request->wait)
                return lock_request_end(request, EAGAIN);
        (void) lock_doubt_hurry(request);
        lock_record_unask(&request->room);
        again_later(request, DENIED_MIN_MS);
        put_off_others(request);
        request->op->reply->waiting(request->op);
}

static void take_done(LockRequest *request, const NfsCall *call) {
        LockFile *file = request->file;

        if (is_refused(call))
                return lock_request_end(request, call->err);
        if (!is_answer(call)) {
                lock_request_answer(request, call->err);
                return take_to_confirm(request);
        }
        switch (call->status) {
        case NLM_GRANTED:
                return take_granted(request);
        case NLM_DENIED:
                return take_denied(request);
        case NLM_BLOCKED:
                /* it was not asked to; it must not grant it when nobody expects it any more */
                file->cancelling = true;
                return send_call(file, NLM_CANCEL, request->type, request->start, request->end, false);
        case NLM_DENIED_GRACE:
                if (!request->op)
                        return lock_request_end(request, 0);
                lock_record_unask(&request->room);
                again_later(request, GRACE_MIN_MS);
                request->op->reply->waiting(request->op);
                return;
        default:
                return lock_request_end(request, call->err);
        }
}

/* The answer to CANCEL. Whatever it is, the lock may have been granted before. */
static void cancel_done(LockRequest *request) {
        LockFile *file = request->file;

        file->cancelling = false;
        if (!request->op || !request->wait) {
                lock_request_answer(request, EAGAIN);
                return take_to_confirm(request);
        }
        take_denied(request); /* asked again: granted, if it has it */
}

static void drop_done(LockRequest *request, const NfsCall *call) {
        LockFile *file = request->file;
        uint64_t start = request->start, end = request->end;

        if (is_answer(call) && call->status == NLM_DENIED_GRACE)
                return again_later(request, GRACE_MIN_MS);
        if (!is_answer(call) && !is_refused(call)) {
                lock_request_answer(request, call->err);
                return again_later(request, FAILED_MIN_MS);
        }
        /* whatever else it says: it has no such lock of ours (any more) */
        lockset_apply(&file->locks->records, &file->set, request->owner, LOCK_NONE, start, end, file->inode->nodeid,
                      &request->room);
        lock_request_end(request, is_refused(call) ? call->err : 0);
        lock_file_wake(file, start, end, true);
}

static void test_done(LockRequest *request, const NfsCall *call) {
        Op *op = request->op;
        uint64_t length = call->res.holder.length;

        if (!op)
                return lock_request_end(request, 0);
        if (is_answer(call) && call->status == NLM_DENIED_GRACE)
                return again_later(request, GRACE_MIN_MS);
        if (!is_answer(call) || (call->status != NLM_GRANTED && call->status != NLM_DENIED))
                return lock_request_end(request, call->err);
        if (call->status == NLM_DENIED && ask_twice(request))
                return;
        op->lock.lock = (VfsLock){ .type = LOCK_NONE };
        if (call->status == NLM_DENIED) {
                op->lock.lock.type = call->res.holder.exclusive ? LOCK_EXCLUSIVE : LOCK_SHARED;
                op->lock.lock.start = MIN(call->res.holder.offset, LOCK_END);
                op->lock.lock.end = length ? MIN(call->res.holder.offset + length - 1, LOCK_END) : LOCK_END;
        }
        lock_request_end(request, 0);
}

static void confirm_lost(LockRequest *request) {
        LockFile *file = request->file;
        Locks *locks = file->locks;
        LockRoom room = request->room;

        log_error(
                "lock reclaim failed: process %d has lost its lock on file id %llu, bytes %llu to %llu: another client holds it",
                (int) request->owner->pid, (unsigned long long) file->inode->record->fileid, (unsigned long long) request->at,
                (unsigned long long) request->segment_end);
        atomic_fetch_add_explicit(&locks->vfs->memory->n_locks_lost, 1, memory_order_relaxed);
        room.record = NULL; /* it is about the whole range */
        lockset_apply(&locks->records, &file->set, request->owner, LOCK_NONE, request->at, request->segment_end,
                      file->inode->nodeid, &room);
        room.record = request->room.record;
        request->room = room;
        lock_file_wake(file, request->at, request->segment_end, false);
}

static void confirm_done(LockRequest *request, const NfsCall *call) {
        bool was_lock = request->segment_type != LOCK_NONE;

        if (request->restart)
                return lock_request_again(request, 0);
        if (is_answer(call) && call->status == NLM_DENIED_GRACE) {
                if (!request->reclaim || request->plain)
                        return again_later(request, GRACE_MIN_MS);
                request->plain = true; /* not in a grace period */
                return lock_request_again(request, 0);
        }
        if (!is_answer(call) && !is_refused(call))
                return again_later(request, FAILED_MIN_MS);
        if (was_lock && call->err)
                confirm_lost(request);
        request->delay_ms = 0;
        request->at = request->segment_end + 1;
        if (request->at <= request->end)
                lock_request_again(request, 0);
        else if (!lock_doubt_again(request))
                lock_request_end(request, 0);
}

/* Before the answer changes anything: a successor must know. Of a TAKE without an answer the CONFIRM follows. */
static void note_doubt(LockRequest *request, const NfsCall *call) {
        bool reclaim = request->kind == LOCK_CONFIRM && request->reclaim;

        if (request->kind == LOCK_CONFIRM && !reclaim) {
                if (request->unsure) {
                        request->doubt = true;
                        request->doubt_since = 0;
                        request->unsure = false;
                }
                if (request->room.record)
                        request->room.record->doubt_since = request->doubt_since;
        } else if (request->kind != LOCK_TEST && (is_answer(call) || is_refused(call))) {
                if (request->unsure)
                        lock_doubt_new(request->file, request->owner, reclaim ? request->at : request->start,
                                       reclaim ? request->segment_end : request->end);
                if (reclaim)
                        lock_record_unask(&request->room);
                request->unsure = false;
        }
}

static void wire_revived(ReviveWait *wait) {
        LockFile *file = container_of(wait, LockFile, revive);
        Locks *locks = file->locks;

        if (!wait->revived || locks->stopping)
                return wire_settle(file);
        (void) pthread_mutex_lock(&locks->mutex);
        file->current->unsure |= file->call.n_sent > 1;
        (void) pthread_mutex_unlock(&locks->mutex);
        file->call.xid = 0; /* the answer to that one is known */
        file->call.args.fh = inode_fh(file->inode);
        nfs_call_send(locks->conn, &file->call);
}

/* ganesha does not say that a handle is stale here: it refuses the whole request. revive() asks. */
static bool may_be_stale(const NfsCall *call) {
        return call->status == NLM_STALE_FH || (!is_answer(call) && call->err == EIO);
}

static void wire_done(NfsCall *call) {
        LockFile *file = container_of(call, LockFile, call);
        Locks *locks = file->locks;

        crash_point(LOCK_ANSWERED);
        if (may_be_stale(call) && !locks->stopping && revive_again(locks->vr, file->inode, call, wire_revived, &file->revive))
                return;
        wire_settle(file);
}

static void wire_settle(LockFile *file) {
        const NfsCall *call = &file->call;
        Locks *locks = file->locks;
        LockRequest *request;

        file->revive.n = 0;
        if (locks->stopping)
                return;
        if (!is_answer(call))
                reactor_defer(locks->vr->reactor, &locks->rebind_task);
        (void) pthread_mutex_lock(&locks->mutex);
        request = file->current;
        request->unsure |= call->n_sent > 1 || !is_answer(call); /* on another connection */
        note_doubt(request, call);
        if (file->cancelling)
                cancel_done(request);
        else if (request->kind == LOCK_TAKE)
                take_done(request, call);
        else if (request->kind == LOCK_DROP)
                drop_done(request, call);
        else if (request->kind == LOCK_TEST)
                test_done(request, call);
        else
                confirm_done(request, call);
        lock_file_step(file);
        (void) pthread_mutex_unlock(&locks->mutex);
}

/* ---- a restart of the server ---- */

void lock_reclaim_run(Task *task) {
        Locks *locks = container_of(task, Locks, reclaim_task);
        LockFile *file, *next;
        LockOwner *owner;
        unsigned n = 0;

        (void) pthread_mutex_lock(&locks->mutex);
        for (file = TAILQ_FIRST(&locks->files); file; file = next) {
                next = TAILQ_NEXT(file, file_link);
                TAILQ_FOREACH(owner, &file->set.owners, owner_link)
                        if (lockset_holds(&file->set, owner, 0, LOCK_END)) {
                                lock_file_reclaim(file, owner);
                                n++;
                        }
                lock_file_step(file);
        }
        (void) pthread_mutex_unlock(&locks->mutex);
        if (n > 0)
                log_info("connected to the lock manager: claiming the locks of %u owners again", n);
}

static void pinged(NfsCall *call) {
        Locks *locks = container_of(call, Locks, ping);

        locks->pinging = false;
}

void lock_suspect_run(Task *task) {
        static const NfsCred nobody = { .uid = 0, .gid = 0 };
        Locks *locks = container_of(task, Locks, suspect_task);

        if (locks->pinging || atomic_load_explicit(locks->records.n_held, memory_order_relaxed) == 0)
                return;
        locks->pinging = true;
        locks->ping = (NfsCall){ .proc = NLM_NULL, .cred = &nobody, .done = pinged };
        nfs_call_send(locks->conn, &locks->ping);
}

/* ---- another port ---- */

static void getport_over(NfsCall *call) {
        Locks *locks = container_of(call, Locks, getport);
        Memory *memory = locks->vfs->memory;

        if (locks->stopping)
                return;
        locks->getport_done = true;
        reactor_defer(locks->vr->reactor, &locks->rebind_task); /* not in a done() */
        if (call->err || call->res.port == 0 || call->res.port == memory->mount.nlmport)
                return;
        log_notice("the lock manager is at port %u now", call->res.port);
        memory->mount.nlmport = call->res.port; /* also for later workers */
        nfs_conn_set_port(locks->conn, call->res.port);
}

void lock_rebind_run(Task *task) {
        Locks *locks = container_of(task, Locks, rebind_task);
        NfsConnConfig config = {
                .protocol = NFS_PROTOCOL_PORTMAP,
                .server = locks->name,
                .addrs = locks->vfs->memory->mount.addrs,
                .n_addrs = locks->vfs->memory->mount.n_addrs,
                .port = NFS_PORTMAP_PORT,
                .soft = true,
                .timeo_ms = 3000,
        };
        uint64_t now = now_ns();

        if (locks->getport_done) {
                locks->getport_done = false;
                locks->portmap = nfs_conn_free(locks->portmap);
        }
        if (locks->portmap || locks->vfs->options->nlmport || now - locks->getport_at < GETPORT_NS)
                return;
        locks->getport_at = now;
        if (nfs_conn_new(locks->vr->reactor, &config, &locks->portmap) < 0)
                return;
        locks->getport = (NfsCall){ .proc = PORTMAP_GETPORT, .done = getport_over };
        locks->getport.args.getport.program = PROGRAM_NLM;
        locks->getport.args.getport.version = 4;
        nfs_call_send(locks->portmap, &locks->getport);
}
