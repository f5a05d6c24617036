/*
 * libnfs 4 and 5 give most requests a buffer of 4096 bytes; a SYMLINK with a long target (and an NFSv4
 * COMPOUND) needs more. Set the number of extra bytes around such a call, on the thread that makes it.
 */
#pragma once

#include <stddef.h>

extern __thread size_t nfs_pdu_hint;
