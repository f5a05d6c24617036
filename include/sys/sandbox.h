/*
 * What a process that reads a server's bytes, or the kernel's requests, takes away from itself: capabilities(7), landlock(7),
 * seccomp(2). There is no way back, and what it starts has no more.
 *
 * Thread: before any other is started, for they would keep what they have.
 */
#pragma once

#include <stdbool.h>

/* No capability but CAP_NET_BIND_SERVICE, for a port below 1024, and no program that brings others. 0 or negative errno. */
int sandbox_drop_privileges(void);

/*
 * After that: no file but what /proc shows everybody, to be read (what is open stays open); no program; no new socket but
 * for TCP; no signal but to itself; no memory that is executed later. A system call that serves no such purpose is answered with
 * ENOSYS. 0 or negative errno; on a kernel without Landlock files that root may read can be read: *ret_files is false then.
 */
int sandbox_enter(bool *ret_files);
