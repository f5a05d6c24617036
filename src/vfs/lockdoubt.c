/*
 * Locks: questions that the server may still carry out after it has answered newer ones.
 *
 * A LOCK or UNLOCK whose connection went before the answer came (the worker died, or the server was unreachable for a
 * while) may be on its way through the server, which carries out what it has read and may take its time: NLM has no
 * reply cache, and servers serve the old and the new connection at once. Done late, such a LOCK is held for nobody, for
 * ever; such an UNLOCK takes away what was taken since. So:
 *
 *   - The range is confirmed, as of each question that was not answered, and again some times after that (DELAYS_NS): what
 *     the owner holds by then is asked for, what it does not hold is given back. At once when the server denies somebody
 *     something that overlaps.
 *   - An owner that holds nothing and wants nothing is retired: if the same process or description comes again, it gets
 *     another number, to which no late question does anything.
 *
 * The record of such a doubt stays ASKED, with the time since when it is one, so that later workers go on with it and do
 * not begin again; unless a question for it was on its way, which may be late itself.
 */
#include "base/log.h"
#include "lock.h"

#define HURRY_NS (200 * NSEC_PER_MSEC) /* between two that somebody's denial asks for */

static const uint64_t DELAYS_NS[] = { 200 * NSEC_PER_MSEC, 2 * NSEC_PER_SEC, 10 * NSEC_PER_SEC };

/* When it is to be confirmed next; LOCK_NOT_DUE: not any more. */
static uint64_t next_due(const LockRequest *request, uint64_t now) {
        for (unsigned i = 0; i < ELEMENTSOF(DELAYS_NS); i++)
                if (request->doubt_since + DELAYS_NS[i] > now)
                        return request->doubt_since + DELAYS_NS[i];
        return LOCK_NOT_DUE;
}

void lock_doubt_load(LockRequest *request) {
        uint64_t now = now_ns(), since = request->room.record->doubt_since;

        request->doubt = true;
        request->doubt_since = MIN(since, now);
        if (request->doubt_since == 0)
                return; /* never settled: at once */
        request->due = next_due(request, now);
        if (request->due == LOCK_NOT_DUE) /* once more: the former worker may not have come to it */
                request->due = 0;
}

void lock_doubt_loaded(LockFile *file) {
        LockRequest *request;

        TAILQ_FOREACH(request, &file->requests, request_link)
                if (request->doubt)
                        lock_doubt_retire(file, request->owner, 0);
}

void lock_doubt_retire(LockFile *file, LockOwner *owner, unsigned n_own_refs) {
        unsigned n_doubts = 0;
        LockRequest *request;

        if (owner->n_refs == n_own_refs)
                return;
        TAILQ_FOREACH(request, &file->requests, request_link)
                n_doubts += request->doubt && request->owner == owner;
        if (n_doubts > 0 && owner->n_refs == n_doubts + n_own_refs)
                owner->retired = true;
}

bool lock_doubt_again(LockRequest *request) {
        uint64_t now = now_ns(), due;

        if (!request->doubt || request->file->locks->ending)
                return false;
        if (request->doubt_since == 0) {
                request->doubt_since = now;
                if (request->room.record)
                        request->room.record->doubt_since = now;
        }
        due = next_due(request, now);
        if (due == LOCK_NOT_DUE)
                return false;
        request->at = request->start;
        lock_request_again(request, due);
        return true;
}

void lock_doubt_new(LockFile *file, LockOwner *owner, uint64_t start, uint64_t end) {
        LockRequest *request;

        TAILQ_FOREACH(request, &file->requests, request_link)
                if (request->doubt && request->doubt_since && request->owner == owner && request->start <= start &&
                    request->end >= end)
                        break;
        if (!request) {
                request = lock_request_new(file, lock_owner_ref(owner), LOCK_CONFIRM, LOCK_NONE, start, end);
                if (!request)
                        return log_error("out of memory: a lock is not confirmed");
                request->doubt = true;
                if (lock_room_take(&file->locks->records, &request->room) == 0)
                        lock_record_ask(&file->locks->records, &request->room, file->inode->nodeid, owner, LOCK_SHARED, start,
                                        end);
        }
        request->doubt_since = 0;
        (void) lock_doubt_again(request);
}

bool lock_doubt_hurry(const LockRequest *denied) {
        uint64_t now = now_ns();
        LockRequest *request;
        bool any = false;

        TAILQ_FOREACH(request, &denied->file->requests, request_link) {
                if (!request->doubt || request->owner == denied->owner || request->start > denied->end ||
                    request->end < denied->start)
                        continue;
                if (request->due > now && now - request->hurried_at >= HURRY_NS) {
                        request->hurried_at = now;
                        request->due = 0;
                }
                any |= request->due <= now;
        }
        return any;
}

void lock_doubt_end(LockFile *file) {
        LockRequest *request;

        TAILQ_FOREACH(request, &file->requests, request_link)
                if (request->doubt)
                        request->due = 0;
}
