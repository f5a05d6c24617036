/*
 * The locked ranges of one file, with their records in the recovery memory. No server, no waiting.
 *
 * Ranges of one owner never overlap, and touching ones of one type are one range. Every change is made so that a
 * process can die between any two stores and lockset_load() finds either what was or what was to be: see lockset.c.
 *
 * Thread: the caller's lock (Locks.mutex).
 */
#pragma once

#include <sys/queue.h>

#include "vfs/op.h"

/* Who holds or wants locks on one file. */
typedef struct LockOwner {
        uint64_t id;
        enum LockKind kind;
        uint32_t svid;
        uint64_t fh;
        pid_t pid;
        NfsCred cred; /* of the last request */
        unsigned n_refs;
        bool retired; /* found no more (lockdoubt.c) */
        TAILQ_ENTRY(LockOwner) owner_link;
} LockOwner;

typedef struct LockRange {
        LockOwner *owner; /* referenced */
        enum LockType type;
        uint64_t start, end; /* inclusive */
        LockRecord *record;
        TAILQ_ENTRY(LockRange) range_link;
} LockRange;

typedef struct LockSet {
        TAILQ_HEAD(, LockOwner) owners;
        TAILQ_HEAD(, LockRange) ranges; /* by start */
} LockSet;

/* The records of a volume: which are free. */
typedef struct LockRecords {
        LockRecord *records; /* LOCKS_MAX of them */
        _Atomic uint32_t *high;
        _Atomic uint64_t *n_held;
        uint32_t *free, n_free;
        uint64_t next_serial;
} LockRecords;

/* What a change may need, taken before the server is asked, so that its answer can always be kept. */
typedef struct LockRoom {
        LockRecord *record, *spare;
        LockRange *range, *spare_range;
} LockRoom;

/* 0 or -ENOMEM. Records that are not FREE are the caller's to load. */
int lock_records_init(LockRecords *records, Memory *memory);
void lock_records_done(LockRecords *records);

/* 0, -ENOLCK (no record is free) or -ENOMEM; then nothing was taken. */
int lock_room_take(LockRecords *records, LockRoom *room);
/* The same for a record that is in use already. Its maker had a spare one: if any is needed, one is there. 0 or -ENOMEM. */
int lock_room_load(LockRecords *records, LockRoom *room, LockRecord *record);
/* What is left of it; a record in use (room->record NULL) is not. */
void lock_room_give(LockRecords *records, LockRoom *room);

/* room->record says: the server is (to be) asked for this. */
void lock_record_ask(LockRecords *records, LockRoom *room, uint64_t nodeid, const LockOwner *owner, enum LockType type,
                     uint64_t start, uint64_t end);
/* Is it as it was written? start and end may have been changed since. */
bool lock_record_is_whole(const LockRecords *records, const LockRecord *record);
/* The server said no; room keeps the record. */
void lock_record_unask(LockRoom *room);
/* It is free for others. */
void lock_record_drop(LockRecords *records, LockRecord *record);

void lockset_init(LockSet *set);
/* Everything, without touching the records. */
void lockset_done(LockSet *set);
static inline bool lockset_is_empty(const LockSet *set) {
        return TAILQ_EMPTY(&set->owners);
}

LockOwner *lockset_find_owner(LockSet *set, enum LockKind kind, uint64_t id);
/* With one reference for the caller. NULL: ENOMEM. */
LockOwner *lockset_new_owner(LockSet *set, enum LockKind kind, uint64_t id, uint32_t svid);
LockOwner *lock_owner_ref(LockOwner *owner);
void lock_owner_unref(LockSet *set, LockOwner *owner);

/* A range of somebody else that forbids owner this lock; NULL: none. */
const LockRange *lockset_conflict(const LockSet *set, const LockOwner *owner, enum LockType type, uint64_t start, uint64_t end);
/* Does owner hold anything in the range? */
bool lockset_holds(const LockSet *set, const LockOwner *owner, uint64_t start, uint64_t end);
/* Does owner hold all of it, with this type or more? */
bool lockset_covers(const LockSet *set, const LockOwner *owner, enum LockType type, uint64_t start, uint64_t end);
/* The type in which owner holds at, and up to where (at most end) that is so. */
enum LockType lockset_segment(const LockSet *set, const LockOwner *owner, uint64_t at, uint64_t end, uint64_t *ret_end);

/*
 * The range becomes owner's with this type (NONE: nobody's). room->record, if there is one, is that of the request,
 * and becomes HELD first; it may be absent for NONE only. Uses what it needs of room.
 */
void lockset_apply(LockRecords *records, LockSet *set, LockOwner *owner, enum LockType type, uint64_t start, uint64_t end,
                   uint64_t nodeid, LockRoom *room);

/* The owner asks for something with this open file, or a record says that it did: see LockRecord.fh. */
void lock_owner_came_with(LockOwner *owner, uint64_t fh);
/* The owner of a record, made if need be; with a reference. NULL: ENOMEM. */
LockOwner *lockset_load_owner(LockSet *set, const LockRecord *record);
/* lockset_apply() for a HELD record that a former worker left; those of a file in the order of their serials. 0 or -ENOMEM. */
int lockset_load(LockRecords *records, LockSet *set, LockRecord *record);
