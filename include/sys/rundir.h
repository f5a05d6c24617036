/*
 * /run/nfsvol: <id>/ per volume (mnt/ the shared FUSE mountpoint, control the daemon's socket, key the
 * text its id was made from) and <id>.lock.
 *
 * The lock serialises starting, using and taking down one volume: a helper holds it from "is there a
 * daemon?" until its bind mount stands; a daemon takes it to go away. It is flock(2), so a process that
 * dies lets go. The file itself is removed with the volume, by the holder of the lock.
 *
 * NFSVOL_RUNDIR in the environment overrides the directory (tests).
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/util.h"

const char *rundir(void);

/* Makes a directory, and checks that it is ours: root's, and nobody else may change it. 0 or negative errno. */
int owned_directory_make(const char *path, mode_t mode);

/* Makes the directory (0755, root's), checks that it is ours. 0 or negative errno. */
int rundir_make(void);

/* "<rundir>/<id>" or "<rundir>/<id>/<leaf>" into buf. 0 or -ENAMETOOLONG. leaf may be NULL. */
int rundir_path(const char *id, const char *leaf, char *buf, size_t size);

/* Waits until deadline (ns, monotonic; 0: only tries). 0 and *ret_fd, -ETIMEDOUT (-EAGAIN), or an error. */
int volume_lock(const char *id, uint64_t deadline, int *ret_fd);

/* Lets go. remove: the volume is gone, its lock file goes too. Takes -1. */
void volume_unlock(const char *id, int fd, bool remove);
