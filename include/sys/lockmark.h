/*
 * What must outlive this machine: which servers may hold locks for it. A lock manager keeps the locks of a client that has died
 * until that says so, after it is up again; the kernel's client has rpc.statd(8) for that. Here it is a mark, a line for each
 * volume and address in NFSVOL_STATEDIR/locks, made before the volume asks for its first lock, taken out when it has given back
 * the last:
 *
 *   BOOT VOLUME ADDRESS PORT LOCAL NODE      the kernel's boot id; the volume's own number; where the lock manager is; from
 *                                            where it is asked, and under which name, escaped: the server knows this node by
 *                                            one or both
 *
 * A line of another boot is of a volume that died with the machine. A server cannot be told to free some locks of this node and
 * not others, and one server has more than one address. So all of them are told before any volume of this boot may ask for a
 * lock: by the first one, while the others wait. Which volumes may is in <rundir>/.nlm, which does not outlive the boot and
 * can always be written; it is the lock over both files. Not before the last of them has gone is there a first one again.
 *
 * NFSVOL_STATEDIR in the environment overrides the directory (tests).
 */
#pragma once

#include <stdint.h>

#include "base/util.h"

#define LOCK_MARK_BOOT    37
#define LOCK_MARK_ADDRESS 80
#define LOCK_MARK_NODE    256

typedef struct LockMark {
        char boot[LOCK_MARK_BOOT];
        uint64_t volume;
        char address[LOCK_MARK_ADDRESS]; /* numeric */
        uint16_t port;
        char local[LOCK_MARK_ADDRESS];
        char node[LOCK_MARK_NODE];
} LockMark;

typedef struct LockMarks {
        LockMark *marks; /* as they stand in NFSVOL_STATEDIR/locks; to be changed through lock_marks_drop() and _add() */
        size_t n_marks;
        /* No volume of this boot may have a lock: servers can be told of former lives. False also if that file cannot be read. */
        bool is_first;

        /* private */
        char boot[LOCK_MARK_BOOT], rundir_path[288], state_path[288];
        int lock_fd;
        uint64_t *volumes; /* <rundir>/.nlm */
        size_t n_volumes;
        int state_error;
} LockMarks;

const char *lock_marks_directory(void);

/* Waits for others until deadline (ns, monotonic). 0 or negative errno: nobody can tell who may have locks. */
int lock_marks_open(LockMarks *marks, uint64_t deadline);

/* What was not saved is lost. */
void lock_marks_close(LockMarks *marks);

/* Is it of a volume that died with the machine? */
bool lock_mark_is_former(const LockMarks *marks, const LockMark *mark);

void lock_marks_drop(LockMarks *marks, size_t i);

/* The volume may ask for locks there. 0 or -ENOMEM. */
int lock_marks_add(LockMarks *marks, uint64_t volume, const char *address, uint16_t port, const char *local, const char *node);

/* The volume is among those that may have locks. Negative errno: it is not, and must not ask for any. */
int lock_marks_enter(LockMarks *marks, uint64_t volume);

/* It has none any more: it and its marks go. */
void lock_marks_leave(LockMarks *marks, uint64_t volume);

/* Writes NFSVOL_STATEDIR/locks, to the disk. 0 or negative errno: what stood there stands there still, or nobody knows. */
int lock_marks_save(LockMarks *marks);
