/*
 * What libnfs is told about the next request beside its arguments. Both are set around the call that makes it, on the thread
 * that makes it.
 */
#pragma once

#include <stddef.h>

/*
 * libnfs 4 and 5 give most requests a buffer of 4096 bytes; a SYMLINK with a long target (and an NFSv4
 * COMPOUND) needs more: the number of extra bytes.
 */
extern __thread size_t nfs_pdu_hint;

/* It is another procedure than the one that is called, with the same arguments and results; NULL: it is that. */
typedef struct NfsPduProcedure {
        int program, version, procedure;
} NfsPduProcedure;
extern __thread const NfsPduProcedure *nfs_pdu_procedure;
