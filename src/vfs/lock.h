/*
 * Locks from inside: lock.c has the essay and what is asked for, lockwire.c what the server is asked, lockvol.c begins and
 * ends it.
 */
#pragma once

#include "lockset.h"
#include "volume.h"

enum LockRequestKind {
        LOCK_TAKE,
        LOCK_DROP,
        LOCK_TEST,
        LOCK_CONFIRM, /* make the server's idea of a range what ours is */
};

typedef struct LockFile LockFile;
typedef struct Locks Locks;

TAILQ_HEAD(LockRequestList, LockRequest);

typedef struct LockRequest {
        enum LockRequestKind kind;
        uint64_t number; /* older ones have lower */
        LockFile *file;
        struct LockRequestList *in; /* NULL: none, it is file->current */
        LockOwner *owner;           /* referenced */
        Op *op;                     /* NULL: nobody waits, or not any more */
        enum LockType type;
        uint64_t start, end;
        bool wait;         /* TAKE: as long as it takes */
        bool counted;      /* in n_lock_waiters */
        bool unsure;       /* it was asked on a connection that is gone, too: that may yet be carried out */
        bool had_some;     /* TAKE: owner held part of it before */
        bool asked_twice;  /* TAKE that does not wait, TEST: denied before */
        uint64_t after;    /* DROP: not before what was written up to this is on the server's stable storage */
        uint64_t due;      /* ns: not before; LOCK_NOT_DUE: when a range of this node goes, or for that */
        uint32_t delay_ms; /* the last pause */
        uint64_t blocker;  /* TAKE that waits for somebody of this node: whose number; 0: none */
        LockRoom room;
        /* CONFIRM */
        bool reclaim;         /* after a restart of the server: only what is held, as it was held */
        bool restart;         /* from the beginning */
        bool plain;           /* this segment is asked for without reclaim */
        bool doubt;           /* again some times after it was settled (lockdoubt.c) */
        uint64_t doubt_since; /* ns: when it was; 0: not yet */
        uint64_t hurried_at;  /* ns: somebody else was denied it */
        uint64_t at, segment_end;
        enum LockType segment_type;

        VfsInval inval;
        TAILQ_ENTRY(LockRequest) request_link;
} LockRequest;

#define LOCK_NOT_DUE UINT64_MAX

/* A file that has locks, or requests for some. */
struct LockFile {
        Locks *locks;
        Inode *inode; /* pinned */
        LockSet set;
        struct LockRequestList requests; /* waiting, oldest first */
        struct LockRequestList zapping;  /* granted; the kernel's pages are being dropped */
        LockRequest *current;            /* on the wire, on no list */
        NfsCall call;
        char owner_text[NLM_OWNER_MAX + 1]; /* of the call */
        bool cancelling;                    /* the call is a CANCEL before current goes on */
        ReviveWait revive;                  /* of the call */
        Timer timer;                        /* the earliest due */
        bool stepping;                      /* in Locks.work */
        TAILQ_ENTRY(LockFile) file_link;
        TAILQ_ENTRY(LockFile) work_link;
};

TAILQ_HEAD(LockFileList, LockFile);

struct Locks {
        Vfs *vfs;
        VfsReactor *vr; /* the first one: the wire is its */
        NfsConn *conn;

        pthread_mutex_t mutex; /* all below */
        LockRecords records;
        struct LockFileList files;
        struct LockFileList work; /* to be looked at by the first reactor */
        Task work_task, reclaim_task, suspect_task, rebind_task;
        NfsConn *portmap; /* being asked for the lock manager's port; NULL: not */
        NfsCall getport;
        bool getport_done;
        uint64_t getport_at;
        NfsCall ping;
        bool pinging;
        uint64_t next_number;
        bool ending;   /* background_end() when no file is left */
        bool stopping; /* answers mean nothing any more */
        Timer end_timer;
        char caller[NLM_NAME_MAX + 1];
        char name[sizeof((Memory *) 0)->source + 16]; /* for messages */
};

static inline void lock_mutex(Locks *locks) {
        (void) pthread_mutex_lock(&locks->mutex);
}

static inline void unlock_mutex(Locks *locks) {
        (void) pthread_mutex_unlock(&locks->mutex);
}

/* ---- lock.c ---- */

/* Under the mutex: the file's, made if there is none; NULL: no memory. */
LockFile *lock_file_get(Locks *locks, Inode *inode);
void lock_file_free(LockFile *file);
/* Under the mutex: a request, in the file's list. NULL: no memory. */
LockRequest *lock_request_new(LockFile *file, LockOwner *owner, enum LockRequestKind kind, enum LockType type, uint64_t start,
                              uint64_t end);
/* Steps the files in Locks.work. Posted. */
void lock_work_run(Task *task);
/* The server had its time to take the locks back. */
void lock_end_fired(Timer *timer);

/* The first reactor, under the mutex: whatever can be done for the file now. It may be gone after it. */
void lock_file_step(LockFile *file);
/* Under the mutex: the request is over. err: for the op, if one waits. */
void lock_request_end(LockRequest *request, int err);
/* Under the mutex: for request->op. The request goes on without it. */
void lock_request_answer(LockRequest *request, int err);
/* Under the mutex: from the wire back into the list, to its place; due: ns, 0: at once. */
void lock_request_again(LockRequest *request, uint64_t due);
/* Under the mutex: a CONFIRM of all that owner holds, after a restart of the server. */
void lock_file_reclaim(LockFile *file, LockOwner *owner);
/* Under the mutex: requests that waited for a range of this node may try now; released: those that wait for others too. */
void lock_file_wake(LockFile *file, uint64_t start, uint64_t end, bool released);

/* ---- lockdoubt.c ---- */

/* Under the mutex: a CONFIRM that a former worker left, in its record. */
void lock_doubt_load(LockRequest *request);
/* All records of the file are loaded. */
void lock_doubt_loaded(LockFile *file);
/* Under the mutex: has the owner nothing but doubts, and n_own_refs references of the caller? Then it is not found again. */
void lock_doubt_retire(LockFile *file, LockOwner *owner, unsigned n_own_refs);
/* Under the mutex: a CONFIRM was settled. true: it is one of those that are settled again later. */
bool lock_doubt_again(LockRequest *request);
/* Under the mutex: of this range something may yet be carried out that was asked before its last answer. */
void lock_doubt_new(LockFile *file, LockOwner *owner, uint64_t start, uint64_t end);
/* Under the mutex: the server denied this; true: what may be the reason is being settled. */
bool lock_doubt_hurry(const LockRequest *denied);
/* Under the mutex, Locks.ending: once more, now. */
void lock_doubt_end(LockFile *file);

/* ---- lockwire.c ---- */

/* Under the mutex, the first reactor: file->current goes to the server. */
void lock_wire_send(LockFile *file);
/* Every held lock is claimed again. Deferred by whoever sees a new connection. */
void lock_reclaim_run(Task *task);
void lock_suspect_run(Task *task);
/* It is not where it was. Deferred. */
void lock_rebind_run(Task *task);
