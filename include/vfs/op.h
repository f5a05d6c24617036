/*
 * One operation: a request of the kernel on its way through vfs/, from the call of a vfs_*() function
 * until exactly one of its reply functions was called.
 *
 * fuse/ owns the memory (one Op for each slot of the journal) and fills the first part; vfs/ uses the
 * rest. An Op belongs to one reactor from beginning to end. Whoever holds it owns it: after a reply it
 * must not be touched.
 */
#pragma once

#include <sys/stat.h>

#include "base/reactor.h"
#include "nfs/call.h"
#include "vfs/memory.h"

typedef struct Op Op;
typedef struct Vfs Vfs;
typedef struct VfsReactor VfsReactor;
typedef struct Inode Inode;
typedef struct Open Open;

/* What LOOKUP and its like answer. Time-outs in ns: how long the kernel may believe it. */
typedef struct VfsEntry {
        uint64_t nodeid; /* 0: a negative entry; its lookup is already counted */
        NfsAttr attr;
        uint64_t entry_timeout, attr_timeout;
} VfsEntry;

/* A lock as the kernel has it. */
typedef struct VfsLock {
        enum LockType type;
        uint64_t start, end; /* inclusive; LOCK_END: to the end of the file */
        pid_t pid;           /* of the holder; 0: on another machine */
} VfsLock;

#define LOCK_END ((uint64_t) INT64_MAX)

/* Embedded by who waits for the handle of an inode. */
typedef struct ReviveWait {
        VfsReactor *reactor;
        void (*done)(struct ReviveWait *wait); /* on reactor; not before revive() has returned */
        bool revived;                          /* inode_fh() is to be tried now */
        /* private */
        struct Revival *revival; /* NULL: it has been told, or is about to be */
        unsigned n;              /* so often for one call */
        Task task;
        TAILQ_ENTRY(ReviveWait) wait_link;
} ReviveWait;

enum {
        VFS_OPEN_KEEP_CACHE = 1,
        VFS_OPEN_DIRECT_IO = 2,
};

/* The answers, by fuse/. Data is copied or written before they return. Called on the op's reactor. */
typedef struct OpReply {
        void (*err)(Op *op, int err); /* positive errno; 0: success without data */
        void (*entry)(Op *op, const VfsEntry *entry);
        void (*attr)(Op *op, uint64_t nodeid, const NfsAttr *attr, uint64_t timeout);
        void (*open)(Op *op, uint64_t fh, unsigned flags);
        void (*create)(Op *op, const VfsEntry *entry, uint64_t fh, unsigned flags);
        void (*data)(Op *op, const void *data, size_t size); /* READ, READLINK */
        void (*written)(Op *op, size_t count);
        void (*statfs)(Op *op, const NfsFsStat *stat, uint32_t bsize, uint32_t name_max);
        /* READDIR: adds an entry; false: it does not fit. entry NULL: no READDIRPLUS data for it. */
        bool (*dirent)(Op *op, const char *name, uint64_t ino, mode_t type, uint64_t offset, const VfsEntry *entry);
        void (*dir)(Op *op); /* sends what dirent() gathered; nothing gathered: end of directory */
        /*
         * The server may change from here on, by the changing RPC number step of this operation: the journal notes it,
         * with what tells a successor how far it came. For an exclusive CREATE: its mark (vfs/mark.c), or the handle and the
         * file id of what it made; for an open file that is hidden: its node id. NULL, 0: nothing new.
         */
        void (*executing)(Op *op, unsigned step, const NfsFh *object, uint64_t object_id);
        /* An appending WRITE found its place: whoever executes it again writes there, and does not append. */
        void (*placed)(Op *op, uint64_t offset);
        void (*lock)(Op *op, const VfsLock *lock); /* GETLK */
        /* It waits for others, maybe for ever: if a worker dies now, this request was not what killed it. */
        void (*waiting)(Op *op);
} OpReply;

struct Op {
        /* fuse/ */
        const OpReply *reply;
        VfsReactor *reactor;
        uid_t uid;
        gid_t gid;
        pid_t pid;                  /* thread id of the caller; 0: the kernel itself */
        bool replayed;              /* a worker died after executing() */
        bool recovered;             /* a worker died over it, before or after that */
        bool plus;                  /* READDIRPLUS */
        const NfsFh *object;        /* what executing() was given before the crash, or NULL */
        uint64_t object_id;         /* ... or 0 */
        unsigned replayed_step;     /* ... and the step */
        uint32_t replayed_xid;      /* under which that RPC went out; 0: it did not, or is sent again already */
        _Atomic uint32_t *xid_note; /* where the XID of the changing RPC is kept for a successor */
        uint64_t unique;            /* the request's number: makes verifiers and marks its own */

        /* vfs/ */
        NfsCred cred;
        NfsCall call;                    /* the RPC in flight, if any */
        uint32_t n_doubts;               /* Inode.n_doubts of inode before it was sent */
        void (*answered)(NfsCall *call); /* its done() */
        struct {                         /* its handle is stale: another is looked for (revive.c) */
                bool waiting;
                ReviveWait wait;
                unsigned which; /* of the call's handles */
                bool resent;    /* the call had been sent before, and not answered */
        } revive;
        bool call_pending;
        bool interrupted; /* answer EINTR as soon as the call is cancelled */
        bool any_signal;  /* any signal ends it, not only a deadly one */
        bool out_of_time; /* the bound of an operation that must answer fired */
        Timer bound;
        Task aborted;
        bool held;             /* a WRITE that may take long to be one that READs see (reread.c) */
        Inode *inode, *inode2; /* pinned until the reply */
        Inode *victim;         /* pinned: the open file that is being hidden (remove.c) */
        Open *open;
        struct DirStream *stream; /* referenced */
        union {
                struct {
                        char name[NFS_NAME_MAX + 1], to_name[NFS_NAME_MAX + 1];
                        NfsSetAttr attr;
                        mode_t type;
                        dev_t rdev;
                        int flags;
                        unsigned answer, step, n_stale;
                        uint64_t made_id;     /* the file id of what CREATE made; 0: not known */
                        uint64_t mark;        /* its access time (mark.c); 0: none */
                        bool in_doubt;        /* is what is there what op made? */
                        int refused;          /* a CREATE, and why: with a mark, then it is tried without; or another */
                        const char *asked;    /* LOOKUP: the name, in the request */
                        uint64_t dir_version; /* of the directory, before it was sent */
                        NfsFh fh;
                        /* RMDIR of what is not empty: .nfs names may be going (remove.c) */
                        uint64_t n_gone; /* when it was sent */
                        unsigned n_again, n_looks;
                        bool waited;
                        char *hidden;   /* owned: the .nfs name of what a rename goes over */
                        bool is_hidden; /* victim: it has that */
                } name;
                struct {
                        const uint8_t *data;
                        uint8_t *gathered; /* READ: when one RPC was not enough */
                        uint64_t offset;
                        uint64_t asked; /* WRITE: where the kernel thinks that it goes; UINT64_MAX: not known any more */
                        uint32_t size, done;
                        bool appends;
                        bool from_pages;               /* WRITE: VFS_WRITE_PAGES */
                        bool drops;                    /* WRITE: pages, before the answer (reread.c) */
                        bool waited;                   /* WRITE: for room */
                        unsigned n_rewritten, n_again; /* READ: reread.c */
                } io;
                struct {
                        uint64_t offset;
                        uint32_t n_tries, n_noents;
                } dir;
                struct {
                        NfsSetAttr attr;
                        int flags;
                } attr;
        };
        /* OPEN against unlink and rename (open.c) */
        VfsEntry entry;       /* LOOKUP and its like, while it waits */
        bool opening;         /* the inode is counted as open */
        uint64_t barrier;     /* the last removal that began before this OPEN did */
        uint64_t removal;     /* 0, or this one's number among them */
        uint64_t removing_in; /* the directory's node id */
        TAILQ_ENTRY(Op) removal_link;
        struct {
                uint32_t mask;
                bool has_attr; /* the attributes are as new as the answer */
                void (*then)(Op *op, int err);
        } access;
        struct {                                 /* for what was written (pending.c), or for room for what is to be (extent.c) */
                bool in_file, for_room;          /* which list it is in; the lock of that */
                _Atomic(struct Drop *) for_drop; /* the inode's lock (coherence.c) */
                bool stable;                     /* until it is on stable storage, not only on the server */
                Open *hearer;                    /* who is told of what was lost; NULL: nobody */
                uint64_t seq;                    /* everything up to here */
                int err;
                uint32_t heard; /* Inode.n_write_errors of which err tells; 0: of none */
                void (*done)(Op *op);
                Task wake;
                TAILQ_ENTRY(Op) wait_link;
        } wait;
        struct {
                struct LockRequest *request; /* Locks.mutex; NULL: nothing to wait for */
                enum LockKind kind;
                uint64_t owner, fh;
                VfsLock lock; /* wanted; of a GETLK: the answer */
                bool wait;
                int err;
                void (*done)(Op *op);
                Task wake;
        } lock;
};

#define OP_OF(c) container_of(c, Op, call)
