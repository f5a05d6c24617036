/*
 * The recovery memory: one memfd, made by the keeper, mapped by whoever serves, that holds everything
 * which must outlive a worker. A process can die between any two instructions that write here, so an
 * entry is filled first and then published with one atomic store, and whoever attaches believes nothing:
 * every index, length and state is checked before it is used (memory_attach(), and the readers of each
 * table).
 *
 *   header     identity, limits, the descriptors' numbers, what the server said at mount time
 *   journal    per reactor: slots, one for each FUSE request between read() and reply, and the large
 *              buffers they are read into
 *   inodes     node id -> file handle, lookup count
 *   handles    those that a server gave instead of the ones it gave before
 *   opens      fh of open(2) and opendir(3) -> inode, flags, credentials
 *   locks      byte ranges that the server has locked for us, or may have
 *   extents    data that write(2) was told is written, and that is not yet on the server's stable storage
 *   counters
 *
 * Pages are touched only as far as they are used: a small volume has a small memory. Indexes (hash
 * tables, free lists) are not here: they are private to the process and rebuilt.
 */
#pragma once

#include <stdatomic.h>

#include "nfs/conn.h"
#include "nfs/mount.h"
#include "vfs/verify.h"

#define MEMORY_MAGIC UINT64_C(0x6c6f767366766e01)
#ifndef MEMORY_VERSION /* a test's program of another version */
#define MEMORY_VERSION 4
#endif

#define REACTORS_MAX 16
#define SLOTS        1024  /* requests in flight per reactor: more wait in the kernel, STATFS and INTERRUPT with them */
#define BUFFERS      SLOTS /* each of them may be large */
#define INODES_MAX   (1u << 22)
#define OPENS_MAX    (1u << 18)
#define LOCKS_MAX    (1u << 16)
#define HANDLES_MAX  (1u << 16)

#define IO_MAX       (1024u * 1024) /* largest READ and WRITE */
#define HUGE_PAGE    (2048u * 1024) /* what memory_populate_huge() makes */
#define REQUEST_HEAD 80             /* FUSE in_header + write_in: what stands before the data of a WRITE */

/*
 * A slot's life. Who may leave a state: READING: the reader, when read(2) returned; QUEUED: the
 * executor, by the first RPC that changes something (EXEC) or by replying; EXEC: by replying; DONE: once the
 * reply has been written to the kernel.
 */
enum SlotState {
        SLOT_FREE,
        SLOT_READING, /* read(2) may have filled it: a length != 0 says it has */
        SLOT_QUEUED,  /* complete; nothing on the server was changed for it */
        SLOT_EXEC,    /* the server may have executed it */
        SLOT_DONE,    /* the reply stands in reply[] and must be sent (again) */
};

#define SLOT_REQUEST_SIZE 4608 /* a SYMLINK with the longest name and target fits */
#define SLOT_REPLY_SIZE   320  /* CREATE's reply fits */

typedef struct Slot {
        _Atomic uint32_t state; /* enum SlotState */
        uint32_t len;           /* of the request */
        int32_t buffer;         /* the large buffer it stands in, or -1: request[] */
        uint16_t recovered;     /* a worker died over it */
        uint16_t n_faults;      /* as many points speak against it, of workers that died by their own doing (fuse/channel.c) */
        uint32_t reply_len;
        uint32_t step;        /* EXEC: which changing RPC of the operation (vfs/'s numbers) */
        _Atomic uint32_t xid; /* EXEC: under which it went out; 0: it did not. Sent again under the same, the server's
                                 * duplicate-request cache knows whether it has executed it */
        uint32_t seal;        /* of the request, of a WRITE its head (memory_seal()): it is what the kernel sent */
        uint32_t reply_seal;  /* of reply[] */
        uint64_t unique;      /* the kernel's number of the request, also where that was damaged */
        NfsFh object;         /* what the operation has made so far; len 0: nothing known */
        uint64_t object_id;   /* EXEC: see OpReply.executing; 0: nothing known */
        uint8_t reply[SLOT_REPLY_SIZE] __attribute__((aligned(8)));
        uint8_t request[SLOT_REQUEST_SIZE] __attribute__((aligned(8)));
} Slot;

/* The data of a WRITE begins at data[], on a page boundary; its head ends right before. */
typedef struct Buffer {
        uint8_t pad[4096 - REQUEST_HEAD];
        uint8_t head[REQUEST_HEAD];
        uint8_t data[IO_MAX];
} Buffer;

static inline void *buffer_request(Buffer *buffer) {
        return (uint8_t *) buffer + offsetof(Buffer, head);
}
#define BUFFER_REQUEST_SIZE (REQUEST_HEAD + IO_MAX)

typedef struct Journal {
        _Atomic uint32_t slots_high; /* no slot at or above was ever used; its complement in the upper half */
        Slot slots[SLOTS];
        Buffer buffers[BUFFERS] __attribute__((aligned(4096)));
} Journal;

/* How many slots there is reason to look at. */
static inline uint32_t journal_slots(const Journal *journal) {
        uint32_t word = atomic_load_explicit((_Atomic uint32_t *) &journal->slots_high, memory_order_acquire);
        uint32_t high = word & 0xffff;

        /* damaged: who waits for what is in them must not be forgotten */
        return high <= SLOTS && word >> 16 == (~high & 0xffff) ? high : SLOTS;
}

static inline void journal_set_slots(Journal *journal, uint32_t high) {
        atomic_store_explicit(&journal->slots_high, high | (~high & 0xffff) << 16, memory_order_release);
}

/* Node id = index | generation << 32; the root is index 1, generation 0, so its node id is FUSE's. */
#define RECORD_LOST 2 /* damaged: the kernel may still have its id, so nothing else ever gets it */

#define NAME_LOST 1u /* InodeRecord.name_hash; no name has it */

typedef struct InodeRecord {
        _Atomic uint32_t used; /* published last */
        uint32_t generation;
        _Atomic uint64_t n_lookup; /* counted before the reply; may be too high after a crash, never too low */
        uint64_t fileid;
        uint32_t type; /* S_IFMT */
        NfsFh fh;
        _Atomic int32_t write_error; /* errno latched for the next write, flush or fsync */
        uint32_t seal;               /* of index, generation, fileid, type and fh */
        _Atomic uint64_t silly_dir;  /* unlinked while open: the directory that holds its .nfs name; 0: no */
        _Atomic uint32_t handle;     /* the server has replaced fh: index of what it is now; 0: it has not */
        /* hints, for finding it again (vfs/revive.c) */
        _Atomic uint64_t parent;    /* the directory in which it was seen last; 0: none */
        _Atomic int64_t changed_at; /* ctime, as last known: ns; INT64_MAX: we have changed it since */
        _Atomic uint32_t name_hash; /* of its name there; 0: not known; NAME_LOST: we removed that, and it has others */
        _Atomic uint32_t epoch;     /* Memory.handle_epoch when fh was new */
} InodeRecord;

/* A handle that a server gave to a file instead of the one it had. Those that no inode refers to are free. */
typedef struct HandleRecord {
        _Atomic uint32_t used; /* published last */
        uint32_t former;       /* the inode's, before it: calls may still point to that. Private to a worker */
        uint32_t epoch;        /* Memory.handle_epoch when it was new */
        uint64_t nodeid;
        NfsFh fh;
        uint32_t seal; /* of index, nodeid and fh */
} HandleRecord;

typedef struct OpenRecord {
        _Atomic uint32_t used; /* published last */
        uint32_t generation;
        uint64_t nodeid;
        uint64_t unique; /* of the request that made it: executed again, it finds it */
        uint32_t flags;  /* open(2) */
        NfsCred cred;
        uint32_t seal; /* of index and all the above */
} OpenRecord;

enum LockType { LOCK_NONE, LOCK_SHARED, LOCK_EXCLUSIVE };
enum LockKind { LOCK_POSIX, LOCK_FLOCK }; /* fcntl(2), open file description locks too; flock(2) */

/* Who may leave a state: FREE: who fills it; ASKED: the server's answer; HELD: the ranges of its owner (vfs/lockset.c). */
enum LockState {
        LOCK_FREE,
        LOCK_ASKED, /* the server may have done it, or will be asked to */
        LOCK_HELD,  /* it has; type NONE: it has unlocked, and what this overlaps is yet to be cut */
};

typedef struct LockRecord {
        _Atomic uint32_t state; /* enum LockState; published last */
        uint32_t type;          /* enum LockType */
        uint64_t start, end;    /* inclusive */
        uint64_t serial;        /* where two of one owner overlap, the higher one counts */
        uint64_t nodeid;
        uint64_t owner; /* the kernel's number for it */
        uint64_t fh;    /* the open file that its locks go with; VFS_NO_FH: more than one; VFS_GONE_FH: released */
        uint32_t kind;  /* enum LockKind */
        uint32_t svid;  /* its number for the server */
        uint32_t pid;
        NfsCred cred;
        uint32_t seal;        /* of index, type, and all from serial on */
        uint64_t doubt_since; /* ASKED: ns, monotonic; settled then, and confirmed again (vfs/lockdoubt.c); 0: not settled */
} LockRecord;

/*
 * An extent's life. DIRTY: write(2) was answered, nothing went out. SENT: a WRITE is on its way, its data must not
 * change. UNSTABLE: the server has it, perhaps only in its memory; COMMIT frees it, another verifier makes it DIRTY again.
 */
enum ExtentState {
        EXTENT_FREE,
        EXTENT_DIRTY,
        EXTENT_SENT,
        EXTENT_UNSTABLE,
};

#define EXTENT_SIZES   3
#define EXTENTS_SMALL  16384u /* of 4 KiB */
#define EXTENTS_MEDIUM 512u   /* of 64 KiB */
#define EXTENTS_LARGE  128u   /* of IO_MAX */
#define EXTENTS_MAX    (EXTENTS_SMALL + EXTENTS_MEDIUM + EXTENTS_LARGE)
#define EXTENT_SMALL   4096u
#define EXTENT_MEDIUM  65536u

typedef struct ExtentRecord {
        _Atomic uint32_t state; /* enum ExtentState, published last */
        _Atomic uint32_t len;
        uint64_t nodeid;
        uint64_t offset;
        NfsCred cred;
        uint32_t seal;               /* of index, nodeid, offset and cred: it is written to that file, there, or nowhere */
        uint64_t seq;                /* where two of a file overlap, the greater one is the newer */
        _Atomic uint32_t done;       /* of len: what the server has taken already */
        _Atomic uint32_t xid;        /* of the WRITE that is or was on its way; 0: none */
        uint32_t reactor;            /* which sent it: the server knows XIDs by connection */
        uint32_t stable;             /* enum NfsStable it is sent with */
        uint8_t verf[NFS_VERF_SIZE]; /* UNSTABLE */
} ExtentRecord;

typedef struct ExtentStore {
        _Atomic uint32_t high[EXTENT_SIZES]; /* of each size: no record at or above was ever used */
        ExtentRecord records[EXTENTS_MAX];   /* small, medium, large */
        uint8_t small[EXTENTS_SMALL][EXTENT_SMALL] __attribute__((aligned(HUGE_PAGE))); /* and each is whole such pages */
        uint8_t medium[EXTENTS_MEDIUM][EXTENT_MEDIUM];
        uint8_t large[EXTENTS_LARGE][IO_MAX];
} ExtentStore;

/* Counted by the reactor's thread, read by anyone. */
typedef struct ReactorStats {
        NfsStats nfs;
        _Atomic uint64_t requests, replies, forgets, interrupts;
        _Atomic uint64_t recovered[SLOT_DONE + 1]; /* by state */
        _Atomic uint64_t reply_errors, poisoned, slots_busy, buffers_busy;
} ReactorStats;

enum WorkerState {
        WORKER_NONE,
        WORKER_STARTING,
        WORKER_SERVING,
        WORKER_FINISHED, /* the kernel has no mount left: do not start another */
        WORKER_LEFT,     /* told to make room for another */
        WORKER_REFUSING, /* answers every request with EIO */
};

typedef struct Memory {
        uint64_t magic;
        uint32_t version;
        uint32_t size_check; /* memory_layout(), low bits: another layout of the same version */

        /* set by the keeper before the first worker runs */
        char id[32];
        char source[4352];  /* host:/path */
        char options[4096]; /* canonical session options */
        uint32_t n_reactors;
        int32_t fuse_fd[REACTORS_MAX];
        uint64_t connection_id;      /* random: makes the verifiers and marks of exclusive creates ours */
        char node[NLM_NAME_MAX + 1]; /* under which the server's lock manager knows us, also if the machine is renamed */
        _Atomic uint32_t keeper_pid;
        uint64_t started_at; /* CLOCK_REALTIME seconds */
        char scope[256];     /* the systemd scope; "": none */
        /* how worker and keeper call each other; -1: nobody is there */
        int32_t ready_fd;              /* eventfd: the worker serves */
        int32_t stack_fd;              /* pipe: where the stack of a worker that crashes goes */
        int32_t ping_fd[REACTORS_MAX]; /* eventfds: a reactor that turns reads it and counts in pongs[] */

        /* set by the prober */
        uint32_t mount_error; /* enum NfsMountError */
        char mount_message[2048];
        NfsMountResult mount;
        char locks_text[64]; /* which kind of locks is in force, in words */

        /* worker */
        _Atomic uint32_t worker_pid;
        _Atomic uint32_t worker_state; /* enum WorkerState */
        _Atomic uint32_t worker_starts;
        _Atomic uint32_t worker_faulted;      /* the last one died by its own doing, not by kill(2): a request may have done it */
        _Atomic uint64_t doing[REACTORS_MAX]; /* unique of the request that a reactor is busy with; 0: none */
        _Atomic uint32_t pongs[REACTORS_MAX];
        _Atomic uint32_t server_up[REACTORS_MAX];   /* 2: not responding (nfs(5), retrans), else 1 */
        _Atomic uint64_t dirty_bytes;               /* written, and not yet taken by the server */
        _Atomic uint64_t unstable_bytes;            /* taken by it, kept until COMMIT */
        _Atomic uint32_t next_xid[REACTORS_MAX];    /* 0: not begun. One that comes twice would be taken for the first */
        _Atomic uint32_t source_port[REACTORS_MAX]; /* the server knows XIDs by it; 0: none yet */
        _Atomic uint64_t n_inodes, n_opens;
        _Atomic uint32_t inodes_high, opens_high; /* no entry at or above is used */
        _Atomic uint32_t inode_generation;        /* of the newest inode */
        _Atomic uint64_t write_errors_lost;       /* latched errors that nobody came to hear */
        _Atomic uint32_t locks_high;              /* as inodes_high */
        _Atomic uint32_t lock_svid;               /* of the newest owner of locks; none comes twice */
        _Atomic uint64_t n_locks, n_lock_waiters, n_locks_lost;
        NfsStats lock_stats; /* of the connection to the lock manager; its thread is the first reactor's */
        _Atomic uint64_t handles_replaced;
        _Atomic uint32_t handles_high; /* no record at or above was ever used */
        _Atomic uint32_t handle_epoch; /* so often the server has replaced the handles of a file system */
        VerifyReport verify;

        /* FUSE_INIT as the kernel sent it, and our answer: what was negotiated is state */
        _Atomic uint32_t init_len; /* published last; 0: it has not come yet */
        uint32_t init_seal;
        uint8_t init_request[256] __attribute__((aligned(8)));
        _Atomic uint32_t init_replied;

        ReactorStats stats[REACTORS_MAX];
        Journal journal[REACTORS_MAX] __attribute__((aligned(4096)));
        ExtentStore extents __attribute__((aligned(4096)));
        OpenRecord opens[OPENS_MAX] __attribute__((aligned(4096)));
        LockRecord locks[LOCKS_MAX] __attribute__((aligned(4096)));
        HandleRecord handles[HANDLES_MAX] __attribute__((aligned(4096)));
        InodeRecord inodes[INODES_MAX] __attribute__((aligned(4096)));
} Memory;

/* A check of what a successor must not believe if it was damaged. Not against malice. */
uint32_t memory_seal(uint32_t seed, const void *data, size_t size);

/* Two programs with the same number can use each other's memory. */
uint64_t memory_layout(void);

/* A new memory: *ret_fd (without close-on-exec: workers inherit it) and its mapping. 0 or negative errno. */
int memory_new(Memory **ret, int *ret_fd);

/* Maps an inherited one. -EPROTO: not one of ours, or of another version. */
int memory_attach(int fd, Memory **ret);

/* The kernel's INIT. The first one counts. */
void memory_keep_init(Memory *memory, const void *request, size_t len);
/* It is as it came, or has not come yet: else nobody can serve the kernel. */
bool memory_init_is_sane(const Memory *memory);

/* Makes pages resident and mapped for writing, so that no read(2) into them can fault. 0 or negative errno. */
int memory_populate(void *start, size_t size);
/*
 * The same for the HUGE_PAGE bytes at start, a multiple of that, and as one page: the first touch of a small one costs more than
 * to fill it. What is in them stays. Negative errno if the kernel cannot (madvise(2), MADV_COLLAPSE: since Linux 6.1).
 */
int memory_populate_huge(void *start);
