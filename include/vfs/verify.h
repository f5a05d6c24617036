/*
 * Do the tables of a volume agree with each other? What `nfsvol status --verify` asks.
 *
 * While all reactors stand still between two turns, nothing is half done, and what is checked must hold exactly.
 * fuse/ gives its requests to a VfsVerify (fuse_volume_verify()), the rest is vfs/'s own. The result is numbers: the
 * keeper, which cannot trust the worker, puts them into words.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define VERIFY_FAULTS_MAX 64u

enum VerifyCount {
        VERIFY_INODES,
        VERIFY_LOOKUPS, /* the root counts as 1: the kernel never forgets it */
        VERIFY_PINS,
        VERIFY_OPENS, /* of files */
        VERIFY_OPEN_DIRS,
        VERIFY_REQUESTS,
        VERIFY_DIRTY, /* extents */
        VERIFY_SENT,
        VERIFY_UNSTABLE,
        VERIFY_LOCKS_HELD,
        VERIFY_LOCKS_ASKED,
        VERIFY_BACKGROUND, /* RPCs that no request waits for */
        VERIFY_DAMAGED,    /* records that a former worker left, and that nobody uses any more */
        VERIFY_N_COUNTS,
};

enum VerifyRule {
        VERIFY_INODE_RECORD,
        VERIFY_INODE_INDEX,
        VERIFY_INODE_UNUSED,
        VERIFY_INODE_PINS,
        VERIFY_INODE_OPENS,
        VERIFY_INODE_CHILDREN,
        VERIFY_INODE_WRITING,
        VERIFY_INODE_COUNT,
        VERIFY_INODE_FREE,
        VERIFY_UNPLACED,
        VERIFY_OPEN_RECORD,
        VERIFY_OPEN_INODE,
        VERIFY_OPEN_COUNT,
        VERIFY_OPEN_FREE,
        VERIFY_EXTENT_RECORD,
        VERIFY_EXTENT_INODE,
        VERIFY_EXTENT_FILE,
        VERIFY_EXTENT_FREE,
        VERIFY_EXTENT_ROOM,
        VERIFY_EXTENT_BYTES,
        VERIFY_PENDING_EXTENTS,
        VERIFY_PENDING_SENT,
        VERIFY_PENDING_WAITER,
        VERIFY_PENDING_EMPTY,
        VERIFY_ROOM_WAITER,
        VERIFY_LOCK_RECORD,
        VERIFY_LOCK_FILE,
        VERIFY_LOCK_COUNT,
        VERIFY_LOCK_FREE,
        VERIFY_SLOT_STATE,
        VERIFY_SLOT_REQUEST,
        VERIFY_SLOT_COUNT,
        VERIFY_BUFFERS,
        VERIFY_N_RULES,
};

typedef struct VerifyFault {
        uint32_t rule; /* enum VerifyRule */
        uint64_t what; /* node id, index... as the rule's words say */
        uint64_t found, expected;
} VerifyFault;

/* In the recovery memory. Whole if answered before a reader's copy is begun after it. */
typedef struct VerifyReport {
        _Atomic uint32_t asked; /* by the keeper */
        _Atomic uint32_t begun, answered;
        uint32_t n_faults; /* all of them; the first VERIFY_FAULTS_MAX are kept */
        uint64_t counts[VERIFY_N_COUNTS];
        VerifyFault faults[VERIFY_FAULTS_MAX];
} VerifyReport;

typedef struct Vfs Vfs;
typedef struct VfsReactor VfsReactor;
typedef struct Op Op;
typedef struct VfsVerify VfsVerify;

/* All reactors stand still until vfs_verify_end(). NULL: no memory; nothing is answered. */
VfsVerify *vfs_verify_begin(Vfs *vfs);
void vfs_verify_reactor(VfsVerify *verify, const VfsReactor *vr);
/* A request that is being executed. */
void vfs_verify_op(VfsVerify *verify, const Op *op);
void vfs_verify_equal(VfsVerify *verify, enum VerifyRule rule, uint64_t what, uint64_t found, uint64_t expected);
/* All of vfs/, and the report. */
void vfs_verify_end(VfsVerify *verify);
