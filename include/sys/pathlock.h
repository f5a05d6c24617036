/*
 * A file as a lock between processes: flock(2), so a process that dies lets go. The file can be removed, or another one put in
 * its place, by whoever holds the lock.
 */
#pragma once

#include <stdint.h>

#include "base/util.h"

/*
 * Makes path (0600) if it is not there, and locks it. Waits until deadline (ns, monotonic; 0: only tries). 0 and *ret_fd,
 * -ETIMEDOUT (-EAGAIN), or an error.
 */
int path_lock(const char *path, uint64_t deadline, int *ret_fd);

/* Is the file that was locked still the one that others would open? */
bool path_lock_is_current(int fd, const char *path);
