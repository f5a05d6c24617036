/*
 * What extent.c, pending.c and writeback.c share: the data of write(2) on its way to the server.
 *
 * An Extent is the private side of a record of memory->extents; a Pending is what one file has of them. Inode.lock protects
 * both, but for what is marked.
 */
#pragma once

#include <bsd/sys/tree.h>

#include "volume.h"

typedef struct Extent Extent;

struct Extent {
        ExtentRecord *record;
        uint8_t *data;
        uint32_t capacity;

        Inode *inode; /* NULL: free */
        RB_ENTRY(Extent) by_offset;
        TAILQ_ENTRY(Extent) extent_link; /* free list (room_lock), Pending.unwritten or Pending.unstable */
        uint64_t since;                  /* ns: when it was made dirty, or unstable */
        bool committing;                 /* the COMMIT under way covers it */
        bool owed; /* by the reactor that a dead worker sent it with: an end of the volume waits for that (background) */

        bool parts_unstable; /* of its parts (ExtentRecord.done) one may be only in the server's memory */

        /* SENT: the reactor that sent it */
        VfsReactor *reactor;
        NfsCall call;
        TAILQ_ENTRY(Extent) send_link;
        ReviveWait revive;
};

TAILQ_HEAD(ExtentList, Extent);
RB_HEAD(ExtentTree, Extent);

struct Pending {
        Inode *inode;                     /* pinned */
        TAILQ_ENTRY(Pending) volume_link; /* pending_lock */

        struct ExtentTree by_offset;
        struct ExtentList unwritten; /* DIRTY and SENT, in the order of seq */
        struct ExtentList unstable;  /* in the order in which they became so */
        uint32_t n_extents, n_sent;
        uint64_t bytes_sent;
        uint64_t last_seq;
        uint64_t flush_seq;  /* what is not above it is to be sent, the others wait for more to join them */
        uint64_t commit_seq; /* the same, for COMMIT */
        uint32_t len_max;    /* no extent is longer */
        uint64_t end;        /* of what is unwritten: the file is at least so long */
        struct OpList waiting;

        bool doubtful; /* the server may have restarted: what is UNSTABLE may be missing there until that is known */
        bool committing;
        VfsReactor *reactor; /* that runs the COMMIT */
        NfsCall commit;
        ReviveWait revive;         /* of the COMMIT */
        NfsCred cred, commit_cred; /* of the last writer; the one that the COMMIT goes out with */
        bool gone;                 /* empty: whoever sees that first frees it */
};

/* The server may have forgotten what is UNSTABLE. */
static inline bool pending_is_doubtful(const Pending *pending) {
        return pending->doubtful && !TAILQ_EMPTY(&pending->unstable);
}

static inline enum ExtentState extent_state(const Extent *extent) {
        return (enum ExtentState) atomic_load_explicit(&extent->record->state, memory_order_relaxed);
}

static inline uint32_t extent_len(const Extent *extent) {
        return atomic_load_explicit(&extent->record->len, memory_order_relaxed);
}

static inline uint64_t extent_end(const Extent *extent) {
        return extent->record->offset + extent_len(extent);
}

/* ---- extent.c: the store. room_lock, a leaf: taken also inside Inode.lock ---- */

/* A free extent for at least size bytes, sized so that more may join it up to hint; NULL: no room. */
Extent *extent_take(Vfs *vfs, uint32_t size, uint32_t hint);
/* Publishes what the caller has filled (record and data) as state. */
void extent_publish(Vfs *vfs, Extent *extent, enum ExtentState state);
/* From one published state to another. */
void extent_set_state(Vfs *vfs, Extent *extent, enum ExtentState state);
/* An extent that is DIRTY has grown: to be told how much it is now. */
void extent_set_len(Vfs *vfs, Extent *extent, uint32_t len);
void extent_give(Vfs *vfs, Extent *extent);
/* What a file's data may be made of at most, in one extent: the size of a WRITE. */
uint32_t extent_limit(const Vfs *vfs);
/* Nothing has been kept for a while: the memory of all of it goes back to the system, if there is still nothing. */
void extent_give_back(Vfs *vfs);
bool extent_has_memory(const Vfs *vfs);
/* Is its record as it was written, and does it make sense? */
bool extent_is_whole(const Vfs *vfs, const Extent *extent);
/* The next one that was ever used, from NULL on; NULL: there are no more. */
Extent *extent_next(const Vfs *vfs, const Extent *extent);
/* So full that files should be committed. */
bool extent_room_is_short(Vfs *vfs);

/* ---- pending.c ---- */

/* What is to be done now: WRITEs and COMMIT sent, waiting ops woken, an empty Pending freed. Not under the lock. */
void pending_step(VfsReactor *vr, Inode *inode);
/* Everything up to the newest is to be written, and with stable committed. */
void pending_want(Pending *pending, bool stable);
/* A recovered extent, its record is checked. 0 or -ENOMEM. */
int pending_adopt(Vfs *vfs, Inode *inode, Extent *extent);
/* All of these under the lock. Out of the file's lists, and free. */
void pending_drop_extent(Vfs *vfs, Pending *pending, Extent *extent);
/* There is a new connection, perhaps because the server restarted: Pending.doubtful. Not under the lock. */
void pending_doubt(VfsReactor *vr, Inode *inode);
/* UNSTABLE, and forgotten by the server. */
void pending_write_again(Vfs *vfs, Pending *pending, Extent *extent);
/* A lost write is told to the next who asks. */
void pending_latch_error(Inode *inode, int err);

/* Under the lock: is there anything up to seq that is not on the server; stable: on its stable storage? */
bool pending_has_up_to(const Pending *pending, uint64_t seq, bool stable);

/* ---- waiter.c ---- */

/* Under the lock: whoever has what it waits for. */
void pending_wake(Pending *pending);

/* ---- writeback.c ---- */

/* Sends the COMMIT of pending, whose committing was set under the lock. Not under the lock. */
void commit_send(VfsReactor *vr, Pending *pending);
/* There is data that nobody may ever flush: looks again in a while. */
void writeback_arm(VfsReactor *vr);
