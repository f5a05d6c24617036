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
 *   opens      fh of open(2) and opendir(3) -> inode, flags, credentials
 *   counters
 *
 * Pages are touched only as far as they are used: a small volume has a small memory. Indexes (hash
 * tables, free lists) are not here: they are private to the process and rebuilt.
 */
#pragma once

#include <stdatomic.h>

#include "nfs/conn.h"
#include "nfs/mount.h"

#define MEMORY_MAGIC   UINT64_C(0x6c6f767366766e01)
#define MEMORY_VERSION 1

#define REACTORS_MAX 16
#define SLOTS        192 /* requests in flight per reactor */
#define BUFFERS      24  /* of them large, per reactor */
#define INODES_MAX   (1u << 22)
#define OPENS_MAX    (1u << 18)

#define IO_MAX       (1024u * 1024) /* largest READ and WRITE */
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
        uint32_t attempts;      /* how often a worker died over it */
        uint32_t reply_len;
        uint32_t xid;           /* of the changing RPC, for the server's duplicate-request cache; 0: none */
        uint32_t seal;          /* of the request, of a WRITE its head (memory_seal()): it is what the kernel sent */
        uint32_t reply_seal;    /* of reply[] */
        NfsFh object;           /* what the operation has made so far; len 0: nothing known */
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
        Slot slots[SLOTS];
        Buffer buffers[BUFFERS] __attribute__((aligned(4096)));
} Journal;

/* Node id = index | generation << 32; the root is index 1, generation 0, so its node id is FUSE's. */
#define RECORD_LOST 2 /* damaged: the kernel may still have its id, so nothing else ever gets it */

typedef struct InodeRecord {
        _Atomic uint32_t used; /* published last */
        uint32_t generation;
        _Atomic uint64_t n_lookup; /* counted before the reply; may be too high after a crash, never too low */
        uint64_t fileid;
        uint32_t type; /* S_IFMT */
        NfsFh fh;
        uint32_t seal;      /* of index, generation, fileid, type and fh */
        uint64_t silly_dir; /* unlinked while open: the directory that holds its .nfs name; 0: no */
} InodeRecord;

typedef struct OpenRecord {
        _Atomic uint32_t used; /* published last */
        uint32_t generation;
        uint64_t nodeid;
        uint64_t unique; /* of the request that made it: executed again, it finds it */
        uint32_t flags;  /* open(2) */
        NfsCred cred;
        uint32_t seal; /* of index and all the above */
} OpenRecord;

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
        uint64_t connection_id; /* random: makes verifiers of EXCLUSIVE creates ours */
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

        /* worker */
        _Atomic uint32_t worker_pid;
        _Atomic uint32_t worker_state; /* enum WorkerState */
        _Atomic uint32_t worker_starts;
        _Atomic uint32_t pongs[REACTORS_MAX];
        _Atomic uint32_t server_up[REACTORS_MAX]; /* 2: not responding (nfs(5), retrans), else 1 */
        _Atomic uint64_t unstable_bytes;          /* written, kept until COMMIT */
        _Atomic uint64_t n_inodes, n_opens;
        _Atomic uint32_t inodes_high, opens_high; /* no entry at or above was ever used */
        _Atomic uint64_t write_errors_lost; /* latched errors that nobody came to hear */

        /* FUSE_INIT as the kernel sent it, and our answer: what was negotiated is state */
        _Atomic uint32_t init_len;
        uint8_t init_request[256] __attribute__((aligned(8)));
        _Atomic uint32_t init_replied;

        ReactorStats stats[REACTORS_MAX];
        Journal journal[REACTORS_MAX] __attribute__((aligned(4096)));
        OpenRecord opens[OPENS_MAX] __attribute__((aligned(4096)));
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

/* Makes pages resident and mapped for writing, so that no read(2) into them can fault. 0 or negative errno. */
int memory_populate(void *start, size_t size);
