/*
 * See lockset.h. How a change survives a crash:
 *
 *   1. The request's record is ASKED before the server is. Its serial is higher than that of any other record.
 *   2. The server has done it: the record becomes HELD, by one atomic store. From here on it counts, wherever it
 *      overlaps older records of its owner; a record of type NONE cuts them.
 *   3. The older records are cut or freed: each step is one store of one word, or a new record published, and leaves the
 *      same meaning as before it. Of two records of one type that touch, the new one grows over the old, which then goes.
 *   4. A record of type NONE has done its work, and is freed.
 *
 * lockset_load() of the HELD records in the order of their serials repeats step 3 and 4.
 */
#include "base/crashpoint.h"
#include "lockset.h"
#include "vfs/vfs.h"

static uint64_t before(uint64_t at) {
        return at > 0 ? at - 1 : 0;
}

static bool overlaps(const LockRange *range, uint64_t start, uint64_t end) {
        return range->start <= end && range->end >= start;
}

static bool touches(const LockRange *range, uint64_t start, uint64_t end) {
        return range->start <= (end < LOCK_END ? end + 1 : end) && range->end >= before(start);
}

/* ---- records ---- */

int lock_records_init(LockRecords *records, Memory *memory) {
        uint32_t high = atomic_load(&memory->locks_high);

        *records = (LockRecords){
                .records = memory->locks,
                .high = &memory->locks_high,
                .n_held = &memory->n_locks,
                .next_serial = 1,
        };
        if (high > LOCKS_MAX)
                atomic_store(&memory->locks_high, high = LOCKS_MAX);
        atomic_store(records->n_held, 0);
        records->free = calloc(LOCKS_MAX, sizeof *records->free);
        if (!records->free)
                return -ENOMEM;
        for (uint32_t i = high; i-- > 0;) {
                const LockRecord *record = &records->records[i];

                if (atomic_load_explicit(&record->state, memory_order_acquire) == LOCK_FREE)
                        records->free[records->n_free++] = i;
                else
                        records->next_serial = MAX(records->next_serial, record->serial + 1);
        }
        return 0;
}

void lock_records_done(LockRecords *records) {
        free(records->free);
        records->free = NULL;
}

static LockRecord *record_take(LockRecords *records) {
        uint32_t high;

        if (records->n_free > 0)
                return &records->records[records->free[--records->n_free]];
        high = atomic_load(records->high);
        if (high >= LOCKS_MAX)
                return NULL;
        atomic_store(records->high, high + 1);
        return &records->records[high];
}

/* It is FREE. */
static void record_give(LockRecords *records, LockRecord *record) {
        records->free[records->n_free++] = (uint32_t) (record - records->records);
}

void lock_record_drop(LockRecords *records, LockRecord *record) {
        atomic_store_explicit(&record->state, LOCK_FREE, memory_order_release);
        record_give(records, record);
}

int lock_room_take(LockRecords *records, LockRoom *room) {
        int r = 0;

        *room = (LockRoom){
                .record = record_take(records),
                .spare = record_take(records),
                .range = calloc(1, sizeof *room->range),
                .spare_range = calloc(1, sizeof *room->range),
        };
        if (!room->record || !room->spare)
                r = -ENOLCK;
        else if (!room->range || !room->spare_range)
                r = -ENOMEM;
        if (r < 0)
                lock_room_give(records, room);
        return r;
}

int lock_room_load(LockRecords *records, LockRoom *room, LockRecord *record) {
        *room = (LockRoom){
                .record = record,
                .spare = record_take(records),
                .range = calloc(1, sizeof *room->range),
                .spare_range = calloc(1, sizeof *room->spare_range),
        };
        if (room->range && room->spare_range)
                return 0;
        room->record = NULL;
        lock_room_give(records, room);
        return -ENOMEM;
}

void lock_room_give(LockRecords *records, LockRoom *room) {
        if (room->record)
                lock_record_drop(records, room->record);
        if (room->spare)
                record_give(records, room->spare);
        free(room->range);
        free(room->spare_range);
        *room = (LockRoom){ 0 };
}

static uint32_t record_seal(const LockRecords *records, const LockRecord *record) {
        uint32_t seal = memory_seal((uint32_t) (record - records->records), &record->type, sizeof record->type);

        /* whole words, without padding */
        return memory_seal(seal, &record->serial, offsetof(LockRecord, seal) - offsetof(LockRecord, serial));
}

bool lock_record_is_whole(const LockRecords *records, const LockRecord *record) {
        return record->seal == record_seal(records, record);
}

static void record_fill(LockRecords *records, LockRecord *record, uint64_t nodeid, const LockOwner *owner, enum LockType type,
                        uint64_t start, uint64_t end, enum LockState state) {
        record->type = type;
        record->start = start;
        record->end = end;
        record->serial = records->next_serial++;
        record->nodeid = nodeid;
        record->owner = owner->id;
        record->fh = owner->fh;
        record->kind = owner->kind;
        record->svid = owner->svid;
        record->pid = (uint32_t) owner->pid;
        record->cred = owner->cred;
        record->seal = record_seal(records, record);
        record->doubt_since = 0;
        atomic_store_explicit(&record->state, state, memory_order_release);
}

void lock_record_ask(LockRecords *records, LockRoom *room, uint64_t nodeid, const LockOwner *owner, enum LockType type,
                     uint64_t start, uint64_t end) {
        record_fill(records, room->record, nodeid, owner, type, start, end, LOCK_ASKED);
        crash_point(LOCK_ASKED);
}

void lock_record_unask(LockRoom *room) {
        if (room->record)
                atomic_store_explicit(&room->record->state, LOCK_FREE, memory_order_release);
}

/* ---- owners ---- */

void lockset_init(LockSet *set) {
        TAILQ_INIT(&set->owners);
        TAILQ_INIT(&set->ranges);
}

LockOwner *lockset_find_owner(LockSet *set, enum LockKind kind, uint64_t id) {
        LockOwner *owner;

        TAILQ_FOREACH(owner, &set->owners, owner_link)
                if (owner->kind == kind && owner->id == id && !owner->retired)
                        return owner;
        return NULL;
}

LockOwner *lockset_new_owner(LockSet *set, enum LockKind kind, uint64_t id, uint32_t svid) {
        LockOwner *owner = calloc(1, sizeof *owner);

        if (!owner)
                return NULL;
        owner->kind = kind;
        owner->id = id;
        owner->svid = svid;
        owner->n_refs = 1;
        TAILQ_INSERT_TAIL(&set->owners, owner, owner_link);
        return owner;
}

LockOwner *lock_owner_ref(LockOwner *owner) {
        owner->n_refs++;
        return owner;
}

void lock_owner_unref(LockSet *set, LockOwner *owner) {
        if (!owner || --owner->n_refs > 0)
                return;
        TAILQ_REMOVE(&set->owners, owner, owner_link);
        free(owner);
}

/* ---- ranges ---- */

void lockset_done(LockSet *set) {
        LockRange *range;

        while ((range = TAILQ_FIRST(&set->ranges))) {
                TAILQ_REMOVE(&set->ranges, range, range_link);
                lock_owner_unref(set, range->owner);
                free(range);
        }
}

const LockRange *lockset_conflict(const LockSet *set, const LockOwner *owner, enum LockType type, uint64_t start, uint64_t end) {
        const LockRange *range;

        TAILQ_FOREACH(range, &set->ranges, range_link) {
                if (range->start > end)
                        break;
                if (range->owner != owner && overlaps(range, start, end) &&
                    (type == LOCK_EXCLUSIVE || range->type == LOCK_EXCLUSIVE))
                        return range;
        }
        return NULL;
}

enum LockType lockset_segment(const LockSet *set, const LockOwner *owner, uint64_t at, uint64_t end, uint64_t *ret_end) {
        const LockRange *range;

        *ret_end = end;
        TAILQ_FOREACH(range, &set->ranges, range_link) {
                if (range->owner != owner || range->end < at)
                        continue;
                if (range->start > at) {
                        *ret_end = MIN(end, range->start - 1);
                        return LOCK_NONE;
                }
                *ret_end = MIN(end, range->end);
                return range->type;
        }
        return LOCK_NONE;
}

bool lockset_holds(const LockSet *set, const LockOwner *owner, uint64_t start, uint64_t end) {
        const LockRange *range;

        TAILQ_FOREACH(range, &set->ranges, range_link)
                if (range->owner == owner && overlaps(range, start, end))
                        return true;
        return false;
}

bool lockset_covers(const LockSet *set, const LockOwner *owner, enum LockType type, uint64_t start, uint64_t end) {
        uint64_t to;

        for (uint64_t at = start;; at = to + 1) {
                if (lockset_segment(set, owner, at, end, &to) < type)
                        return false;
                if (to >= end)
                        return true;
        }
}

static void range_insert(LockSet *set, LockRange *range) {
        LockRange *other;

        TAILQ_FOREACH(other, &set->ranges, range_link)
                if (other->start > range->start)
                        break;
        if (other)
                TAILQ_INSERT_BEFORE(other, range, range_link);
        else
                TAILQ_INSERT_TAIL(&set->ranges, range, range_link);
}

static void range_remove(LockRecords *records, LockSet *set, LockRange *range) {
        TAILQ_REMOVE(&set->ranges, range, range_link);
        lock_record_drop(records, range->record);
        atomic_fetch_sub_explicit(records->n_held, 1, memory_order_relaxed);
        lock_owner_unref(set, range->owner);
        free(range);
}

static void range_add(LockRecords *records, LockSet *set, LockRange *range, LockOwner *owner, enum LockType type,
                      LockRecord *record) {
        *range = (LockRange){
                .owner = lock_owner_ref(owner),
                .type = type,
                .start = record->start,
                .end = record->end,
                .record = record,
        };
        atomic_fetch_add_explicit(records->n_held, 1, memory_order_relaxed);
        range_insert(set, range);
}

static void range_set_end(LockRange *range, uint64_t end) {
        range->end = end;
        __atomic_store_n(&range->record->end, end, __ATOMIC_RELEASE);
}

static void range_set_start(LockSet *set, LockRange *range, uint64_t start) {
        range->start = start;
        __atomic_store_n(&range->record->start, start, __ATOMIC_RELEASE);
        TAILQ_REMOVE(&set->ranges, range, range_link);
        range_insert(set, range);
}

/* What range has of start to end is gone. */
static void range_cut(LockRecords *records, LockSet *set, LockRange *range, uint64_t start, uint64_t end, uint64_t nodeid,
                      LockRoom *room) {
        if (range->start < start && range->end > end && room->spare && room->spare_range) {
                LockRecord *right = TAKE_PTR(room->spare);

                record_fill(records, right, nodeid, range->owner, range->type, end + 1, range->end, LOCK_HELD);
                crash_point(LOCK_CUT);
                range_set_end(range, start - 1);
                range_add(records, set, TAKE_PTR(room->spare_range), range->owner, range->type, right);
        } else if (range->start < start) {
                range_set_end(range, start - 1);
        } else if (range->end > end) {
                range_set_start(set, range, end + 1);
        } else {
                range_remove(records, set, range);
        }
}

void lockset_apply(LockRecords *records, LockSet *set, LockOwner *owner, enum LockType type, uint64_t start, uint64_t end,
                   uint64_t nodeid, LockRoom *room) {
        LockRecord *record = TAKE_PTR(room->record);
        LockRange *range, *next;

        (void) lock_owner_ref(owner); /* while its last range may go */
        if (record)
                atomic_store_explicit(&record->state, LOCK_HELD, memory_order_release);
        crash_point(LOCK_HELD);
        for (range = TAILQ_FIRST(&set->ranges); range; range = next) {
                next = TAILQ_NEXT(range, range_link);
                if (range->owner != owner)
                        continue;
                if (type != LOCK_NONE && range->type == type && touches(range, start, end)) {
                        if (range->start < record->start)
                                __atomic_store_n(&record->start, range->start, __ATOMIC_RELEASE);
                        if (range->end > record->end)
                                __atomic_store_n(&record->end, range->end, __ATOMIC_RELEASE);
                        range_remove(records, set, range);
                } else if (overlaps(range, start, end)) {
                        range_cut(records, set, range, start, end, nodeid, room);
                }
        }
        if (type != LOCK_NONE)
                range_add(records, set, TAKE_PTR(room->range), owner, type, record);
        else if (record)
                lock_record_drop(records, record);
        lock_owner_unref(set, owner);
}

void lock_owner_came_with(LockOwner *owner, uint64_t fh) {
        if (owner->n_refs == 1 || owner->fh == VFS_GONE_FH || fh == VFS_GONE_FH)
                owner->fh = fh;
        else if (owner->fh != fh)
                owner->fh = VFS_NO_FH;
}

LockOwner *lockset_load_owner(LockSet *set, const LockRecord *record) {
        LockOwner *owner;

        TAILQ_FOREACH(owner, &set->owners, owner_link)
                if (owner->kind == record->kind && owner->id == record->owner && owner->svid == record->svid)
                        break;
        owner = owner ? lock_owner_ref(owner) : lockset_new_owner(set, record->kind, record->owner, record->svid);
        if (!owner)
                return NULL;
        if (owner->n_refs == 1)
                owner->pid = (pid_t) record->pid;
        lock_owner_came_with(owner, record->fh);
        owner->cred = record->cred;
        return owner;
}

int lockset_load(LockRecords *records, LockSet *set, LockRecord *record) {
        LockOwner *owner = lockset_load_owner(set, record);
        LockRoom room;
        int r;

        if (!owner)
                return -ENOMEM;
        r = lock_room_load(records, &room, record);
        if (r < 0) {
                lock_owner_unref(set, owner);
                return r;
        }
        lockset_apply(records, set, owner, record->type, record->start, record->end, record->nodeid, &room);
        lock_room_give(records, &room);
        lock_owner_unref(set, owner);
        return 0;
}
