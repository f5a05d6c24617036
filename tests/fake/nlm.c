/*
 * The fake server's lock manager, version 4 (XNFS). See proto.h.
 */
#include <stdlib.h>

#include "xdr.h"

enum { NLM_GRANTED, NLM_DENIED, NLM_DENIED_NOLOCKS, NLM_BLOCKED, NLM_DENIED_GRACE, NLM_STALE_FH = 7 };

static bool same_owner(const FakeLock *a, const FakeLock *b) {
        return a->svid == b->svid && a->owner_len == b->owner_len && memcmp(a->owner, b->owner, a->owner_len) == 0;
}

static void lock_add(ProtoState *state, const FakeLock *lock, uint64_t start, uint64_t end) {
        FakeLock *added = &state->locks[state->n_locks];

        if (state->n_locks == LOCKS_MAX)
                abort();
        *added = *lock;
        added->start = start;
        added->end = end;
        state->n_locks++;
}

void proto_set_lock(ProtoState *state, const FakeLock *lock, bool hold) {
        uint32_t n = state->n_locks;

        for (uint32_t i = 0; i < n; i++) {
                FakeLock old = state->locks[i];

                if (old.id != lock->id || !same_owner(&old, lock) || old.start > lock->end || old.end < lock->start)
                        continue;
                if (old.start < lock->start)
                        lock_add(state, &old, old.start, lock->start - 1);
                if (old.end > lock->end)
                        lock_add(state, &old, lock->end + 1, old.end);
                state->locks[i].id = 0; /* goes below */
        }
        for (uint32_t i = 0; i < state->n_locks;)
                if (state->locks[i].id == 0)
                        state->locks[i] = state->locks[--state->n_locks];
                else
                        i++;
        if (hold)
                lock_add(state, lock, lock->start, lock->end);
}

static const FakeLock *lock_in_the_way(const ProtoState *state, const FakeLock *lock) {
        for (uint32_t i = 0; i < state->n_locks; i++) {
                const FakeLock *other = &state->locks[i];

                if (other->id == lock->id && !same_owner(other, lock) && other->start <= lock->end && other->end >= lock->start &&
                    (other->exclusive || lock->exclusive))
                        return other;
        }
        return NULL;
}

static void get_lock(Reader *r, FakeLock *ret, uint8_t *ret_epoch) {
        uint64_t length;
        uint32_t len;
        const uint8_t *owner;

        get_name(r, ret->caller, sizeof ret->caller);
        ret->id = get_handle(r, ret_epoch);
        owner = get_opaque(r, &len);
        ret->owner_len = (uint8_t) (len < sizeof ret->owner ? len : sizeof ret->owner);
        memcpy(ret->owner, owner, ret->owner_len);
        ret->svid = get32(r);
        ret->start = get64(r);
        length = get64(r);
        ret->end = length ? ret->start + length - 1 : UINT64_MAX;
}

static void put_holder(Writer *w, const FakeLock *holder) {
        put32(w, holder->exclusive);
        put32(w, holder->svid);
        put32(w, faulty(w, FAKE_LENGTH) ? w->fault->arg : holder->owner_len);
        put_bytes(w, holder->owner, holder->owner_len);
        put64(w, holder->start);
        put64(w, holder->end == UINT64_MAX ? 0 : holder->end - holder->start + 1);
}

static uint32_t lock_status(ProtoState *state, const FakeLock *lock, bool reclaim) {
        if (reclaim != state->grace)
                return NLM_DENIED_GRACE;
        if (lock_in_the_way(state, lock))
                return NLM_DENIED;
        return NLM_GRANTED;
}

/* Of the client of that name; the result is void. */
static void free_all(ProtoState *state, Reader *r) {
        char caller[sizeof state->locks[0].caller];

        get_name(r, caller, sizeof caller);
        for (uint32_t i = 0; i < state->n_locks;)
                if (strcmp(state->locks[i].caller, caller) == 0)
                        state->locks[i] = state->locks[--state->n_locks];
                else
                        i++;
}

void reply_nlm(Writer *w, const ProtoRequest *request) {
        Reader r = { request->args, request->len, false };
        bool kept = w->fault && (w->fault->action == FAKE_CLOSE || w->fault->action == FAKE_STATUS);
        const FakeLock *holder = NULL;
        FakeLock lock = { 0 };
        uint8_t epoch;
        const uint8_t *cookie;
        uint32_t len, status = NLM_GRANTED;

        if (request->proc == 23)
                free_all(w->state, &r);
        if (request->proc == 0 || request->proc > 4)
                return;
        cookie = get_opaque(&r, &len);
        if (request->proc == 2 || request->proc == 3)
                (void) get32(&r); /* block */
        if (request->proc < 4)
                lock.exclusive = get32(&r) != 0;
        get_lock(&r, &lock, &epoch);
        if (epoch != w->state->epoch) {
                status = NLM_STALE_FH;
        } else if (request->proc == 1) {
                holder = lock_in_the_way(w->state, &lock);
                status = holder ? NLM_DENIED : NLM_GRANTED;
        } else if (request->proc == 2) {
                status = lock_status(w->state, &lock, get32(&r) != 0);
        }
        if (faulty(w, FAKE_STATUS))
                status = w->fault->arg;
        if (status == NLM_GRANTED && !kept && (request->proc == 2 || request->proc == 4))
                proto_set_lock(w->state, &lock, request->proc == 2);

        put32(w, faulty(w, FAKE_LENGTH) && !holder ? w->fault->arg : len);
        if (faulty(w, FAKE_NAME))
                put_bytes(w, "wrong cookie", len);
        else
                put_bytes(w, cookie, len);
        put32(w, status);
        if (request->proc == 1 && status == NLM_DENIED)
                put_holder(w, holder ? holder : &lock);
}
