/*
 * What must outlive this machine: which servers may hold locks for it. A lock manager keeps the locks of a client that has died
 * until that says so, after it is up again; the kernel's client has rpc.statd(8) for that. Here it is a mark, a line for each
 * volume and address in NFSVOL_STATEDIR/locks, made before the volume asks for its first lock, taken out when it has given back
 * the last:
 *
 *   BOOT VOLUME ADDRESS PORT LOCAL TRIES NODE      the kernel's boot id; the volume's own number; where the lock manager is; from
 *                                                  where it is asked, and under which name (escaped): the server knows this
 *                                                  node by one or both; how often it was told in vain
 *
 * A mark of another boot is of a volume that died with the machine. A server cannot be told to free some locks of this node and
 * not others, and one server has more than one address. So all of them are told before any volume of this boot may ask for a
 * lock: by the first one, while the others wait; and then never again in this boot. That there is a first one stands in
 * <rundir>/.nlm, which does not outlive the boot; it is the lock over both files as well. (So a state directory belongs to one run
 * directory at a time.)
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
        uint32_t tries;
        char node[LOCK_MARK_NODE];
} LockMark;

typedef struct LockMarks {
        LockMark *marks; /* those of former boots differ in where or what the server is told */
        size_t n_marks;
        bool is_first; /* no volume of this boot may have a lock: servers can be told of former ones */

        /* private */
        char boot[LOCK_MARK_BOOT], rundir_path[288], state_path[288];
        int lock_fd;
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

/* From now on there may be locks of this boot. Negative errno: nobody knows, so there must be none. */
int lock_marks_enter(LockMarks *marks);

/* Drops the volume's. false: it has none. */
bool lock_marks_leave(LockMarks *marks, uint64_t volume);

/* Writes NFSVOL_STATEDIR/locks, to the disk. 0 or negative errno: what stood there may stand there still. */
int lock_marks_save(LockMarks *marks);
