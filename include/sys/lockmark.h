/*
 * What must outlive this machine: which servers may hold locks for it. A lock manager keeps the locks of a client that has died
 * until that says so, after it is up again; the kernel's client has rpc.statd(8) for that. Here it is a mark: in
 * NFSVOL_STATEDIR/locks a file for each address of a server, and in it a line for each volume that may ask for locks there, made
 * before it asks for the first, taken out when the last has been given back:
 *
 *   BOOT VOLUME NODE      the kernel's boot id; the volume's own number; the name under which the server knows this node
 *
 * A line of another boot is of a volume that died with the machine. The server can only be told to free all that it holds for
 * this node, so it is told before any volume of this boot asks it for a lock: whoever enters holds the file locked meanwhile.
 *
 * NFSVOL_STATEDIR in the environment overrides the directory (tests).
 */
#pragma once

#include <stdint.h>

#include "base/util.h"

#define LOCK_MARK_NODE_MAX 255 /* bytes */

/* Tells the server to free the locks that it holds for node. 0: it does; negative errno: not, or nobody knows. */
typedef int LockMarkFree(void *userdata, const char *node);

const char *lock_mark_statedir(void);

/*
 * The volume may ask for locks at address (numeric) from now on. Where the server holds locks for a former boot, and can hold
 * none for this one, free_all runs first, once for each name; what it fails for stays noted. Waits for others until
 * deadline (ns, monotonic).
 * Number of names that free_all has succeeded for, or negative errno: nothing has been noted.
 */
int lock_mark_enter(const char *address, uint64_t volume, const char *node, uint64_t deadline, LockMarkFree *free_all,
                    void *userdata);

/* It holds none there any more. 0 or negative errno. */
int lock_mark_leave(const char *address, uint64_t volume, uint64_t deadline);
