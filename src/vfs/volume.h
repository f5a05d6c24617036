/*
 * vfs/'s own view of a volume: what its files share.
 *
 * Locks, none held across an RPC or a reply, none taken while another is held but where it says so:
 *   Vfs.table_lock   the inode index, lookup counts, pins, open entries
 *   pending_lock     the list of files with data on its way (table_lock may be taken inside)
 *   Inode.lock       what is known of one file: attributes, versions, data on its way (room_lock may be taken inside)
 *   room_lock        free extents, and who waits for one
 *   revive_lock      who looks for handles that were replaced, and who waits for that
 *   ahead_lock       names read ahead (taken also inside table_lock)
 *   absent_lock      names that are not there
 *   Locks.mutex      byte-range locks, all of them (the others may be taken inside; calls are sent inside)
 */
#pragma once

#include <pthread.h>
#include <uthash.h>

#include "vfs/vfs.h"

#define CRED_CACHE_SIZE   256
#define ACCESS_CACHE_SIZE 4
#define NAME_SPACE        (NFS_NAME_MAX + 1)
#define OWN_CHANGES       1024

/*
 * A caller waits for at most so long where nothing may ever hang (statfs, a directory's attributes): BOUND_NS, or,
 * once somebody has waited that long and the server has still not answered anything, BOUND_LATE_NS.
 */
#define BOUND_NS      (3 * NSEC_PER_SEC)
#define BOUND_LATE_NS (200 * NSEC_PER_MSEC)

/*
 * When an answer was true: at some time between these two (ns). An answer from a server's duplicate-request cache was true
 * at another time, nobody knows when: then sent is 0.
 */
typedef struct CallTime {
        uint64_t sent, heard;
} CallTime;

static inline CallTime call_time(const NfsCall *call) {
        return (CallTime){ call->n_sent > 1 ? 0 : call->sent_at, call->heard_at };
}

/* A directory when the server was asked for names in it. */
typedef struct DirState {
        uint64_t version;      /* dir_version(), before */
        uint64_t sent;         /* ns; 0: not known */
        struct timespec ctime; /* as the server said */
} DirState;

/* What decides whether cached data is still the server's. */
typedef struct DataVersion {
        bool known;
        bool none; /* not known, but nothing older than the next answer */
        uint64_t size;
        struct timespec mtime, ctime;
} DataVersion;

typedef struct AccessEntry {
        uint64_t cred_hash;
        uint64_t expires; /* ns; 0: empty */
        uint32_t asked, granted;
} AccessEntry;

TAILQ_HEAD(OpList, Op);

typedef struct Pending Pending;
typedef struct Ahead Ahead;
struct Extent;
typedef struct DirStream DirStream;

/* What the kernel is told to drop of the pages of an inode, one thing after the other (coherence.c); Inode.lock. */
typedef struct Drop {
        Inode *inode;
        Vfs *vfs;          /* it is told, and has not yet: the inode is pinned; NULL: it is not */
        bool again;        /* something more, which it has not been told */
        uint64_t from, to; /* that; to UINT64_MAX: to the end */
        uint64_t n;        /* so many times it was told */
        VfsInval inval;
        struct OpList waiting;
} Drop;

/* The private side of memory->inodes[index]; zero when the inode is first used. */
struct Inode {
        InodeRecord *record;
        const NfsFh *_Atomic fh; /* written under table_lock; what it pointed to stays as it was */
        uint64_t nodeid;

        /* table_lock */
        UT_hash_handle by_fh;
        uint32_t n_busy; /* operations, opens and pending data that need it */
        Inode *next_free;

        pthread_mutex_t lock;
        bool has_attr;
        NfsAttr attr;
        CallTime attr_at;      /* when that was true */
        uint64_t attr_valid;   /* ns until which it is believed; 0: must be asked again */
        uint64_t attr_timeout; /* ns; grows while nothing changes */
        DataVersion pages;     /* what the kernel's page cache was filled from */
        uint32_t n_writing;    /* own WRITEs in flight */
        AccessEntry access[ACCESS_CACHE_SIZE];
        unsigned access_next;
        bool refuses;            /* a directory: somebody may not search it whom its mode bits let; until they are changed */
        bool lock_waits;         /* for its pending data: pending_step() tells it (locks_data_settled()) */
        struct LockFile *locks;  /* Locks.mutex */
        uint32_t n_write_errors; /* so many times data was lost; those who have it open hear of it, each once */
        int write_error;         /* the last time */
        bool write_error_heard;  /* by somebody, whose answer may still be on its way; until then the record has it */
        Drop drop;               /* since others have changed it */
        uint64_t drop_due;       /* ns: when it is to be told so; 0: not */
        bool asking;             /* coherence.c: a GETATTR is on its way */
        uint64_t ask_after;      /* ns: not asked for by ourselves before */
        _Atomic(struct Reread *) reread; /* reread.c; NULL: nothing to be noted so far. Freed with the inode */
        Pending *pending;                /* written here, and not yet on the server's stable storage; NULL: nothing */

        /* for what is unlinked while open (remove.c); table_lock */
        uint64_t parent;         /* node id of the directory it was last seen in; 0: not known */
        uint64_t placed_at;      /* Vfs.n_moves when it was seen there */
        _Atomic uint32_t n_open; /* written under table_lock */
        bool gone;               /* its .nfs name, the last one, is being removed: not to be opened again */
        uint32_t n_hiding;       /* unlinks and renames that give it its .nfs name, which is not removed before they are done */
        bool hidden;             /* ... and it has it, perhaps, whatever becomes of these */
        bool unplaced;           /* open, and counted in Vfs.n_open_unplaced instead of its directory */
        _Atomic uint32_t n_readers; /* opens for reading, and for writing; written under table_lock */
        _Atomic uint32_t n_writers;
        uint32_t n_open_children; /* open files that have their only name in this directory */

        _Atomic uint64_t revive_after; /* ns: its handle is stale, and not looked for before */
        _Atomic uint32_t n_vain;       /* so often it was, in vain */
        _Atomic bool unheard;          /* it may have been changed by a call of ours that was not answered */
        _Atomic uint32_t n_doubts;     /* so often the server may have forgotten what was UNSTABLE (pending.c) */

        _Atomic uint64_t dir_version; /* grows with each change of ours to this directory */
        Ahead *ahead;                 /* ahead_lock */
};

/* So many indexes of inodes, whose memory comes and goes together (inode.c). */
#define INODE_CHUNK_SIZE 4096u
typedef struct InodeChunk {
        uint32_t n_used;
        uint32_t n_touched; /* indexes at or above are as new */
        Inode *free;        /* of those below */
} InodeChunk;

static inline void inode_lock(Inode *inode) {
        (void) pthread_mutex_lock(&inode->lock);
}

static inline void inode_unlock(Inode *inode) {
        (void) pthread_mutex_unlock(&inode->lock);
}

static inline uint64_t dir_version(Inode *dir) {
        return atomic_load_explicit(&dir->dir_version, memory_order_acquire);
}

struct Open {
        OpenRecord *record;
        Inode *inode;
        DirStream *dir;          /* opendir(3) */
        uint32_t errors_heard;   /* of Inode.n_write_errors; Inode.lock */
        _Atomic uint32_t n_done; /* operations; the kernel sends the next one after it has heard of the last */
        Open *next_free;
};

typedef struct CredEntry {
        pid_t pid;
        uint64_t expires;
        NfsCred cred;
} CredEntry;

TAILQ_HEAD(PendingList, Pending);

struct Vfs {
        Memory *memory;
        const SessionOptions *options;
        VfsNotify notify;
        uint32_t read_size, write_size; /* of one RPC */
        uint64_t sent_max;              /* bytes of one file in WRITEs that are not answered */
        _Atomic uint64_t root_fsid;     /* of the export, as the server says now */
        _Atomic uint64_t marked_fsid;   /* the file system that keeps marks (mark.c); NO_FSID: none is known to */
        _Atomic bool marks_refused;     /* it does not, when it makes a file */
        _Atomic int64_t server_clock;   /* ns: what is to be added to ours; rather less. 0: not known */
        bool no_readdirplus;            /* the server has none (relaxed) */
        uint64_t unsure_until;          /* ns: what a former worker has read may be older than what it has kept (reread.c) */

        pthread_mutex_t table_lock;
        bool recovered;       /* what a former worker was doing is being done again; before, nothing that has a .nfs name goes */
        uint32_t next_handle; /* where a free one is looked for */
        struct Former *formers; /* open files with a handle of an earlier epoch (handles.c) */
        Inode *inodes;          /* INODES_MAX of them, untouched until used */
        Inode *by_fh;
        InodeChunk *inode_chunks;
        uint32_t first_chunk;    /* no chunk below has room */
        unsigned n_empty_chunks; /* that keep their memory */
        unsigned n_chunks_dropped;
        bool trim; /* the heap, when the lock is free */
        Open *opens;
        Open *free_opens;
        uint64_t n_moves;         /* renames from one directory to another, by us */
        uint64_t n_removals;      /* unlinks and renames so far */
        struct OpList removals;   /* those that are under way, oldest first */
        uint32_t n_open_unplaced; /* open files that may have a name in any directory */

        pthread_mutex_t pending_lock;
        struct PendingList pending; /* files with data on its way, oldest first */

        pthread_mutex_t room_lock;
        struct Extent *extents; /* EXTENTS_MAX of them */
        TAILQ_HEAD(, Extent) free_extents[EXTENT_SIZES];
        uint32_t extents_made[EXTENT_SIZES]; /* those of a size above have no memory yet */
        uint64_t bytes_used;                 /* capacity of those that are not free */
        bool huge_pages;                     /* for large extents: no CPU is reserved for others */
        uint64_t bytes_max;                  /* ... and no more than this, but for one */
        _Atomic uint64_t quiet_since;        /* ns: nothing of any file is pending; 0: not known to be so */
        struct OpList for_room;              /* WRITEs that wait */

        TAILQ_HEAD(, Removal) silly_removals; /* table_lock: .nfs names that are being removed (remove.c) */
        _Atomic uint64_t n_silly_gone;        /* so many were */
        _Atomic uint32_t n_hidden;            /* inodes with a .nfs name */
        bool ended;                           /* the kernel will close nothing any more; table_lock */

        _Atomic uint64_t name_gone_at;             /* when a name was last removed or renamed over by us: ns */
        _Atomic uint64_t renamed_at;               /* and when one was last renamed */
        _Atomic uint64_t doubted_at;               /* and when somebody else had last replaced a name that was believed */
        _Atomic uint64_t own_changes[OWN_CHANGES]; /* of files, by a hash of the file id: when the last was answered: ns */

        _Atomic bool late; /* a bound ran out, and no answer has come since */

        pthread_mutex_t ahead_lock;
        TAILQ_HEAD(, Ahead) aheads; /* directories that are, or may be, read ahead; oldest first */
        uint32_t n_ahead_names;

        pthread_mutex_t absent_lock;
        TAILQ_HEAD(, Absent) absents; /* oldest first */
        struct Absent *absents_by_key;
        uint32_t n_absents;

        pthread_mutex_t statfs_lock;
        bool has_fsstat;
        NfsFsStat fsstat;

        struct Locks *locks; /* NULL: they are local */

        pthread_mutex_t revive_lock;
        TAILQ_HEAD(, Revival) revivals;
        pthread_t root_thread;
        bool has_root_thread;
};

struct VfsReactor {
        Vfs *vfs;
        unsigned index;
        Reactor *reactor;
        NfsConn *conn;
        CredEntry creds[CRED_CACHE_SIZE];
        unsigned n_lock_waiters; /* Locks.mutex */
        unsigned n_background;   /* RPCs that no op waits for, and the end does: removals, WRITEs, COMMITs, locks given back */
        unsigned n_dispensable; /* those that nobody misses: what is read ahead, revivals (who waits for one counts for itself) */
        Timer writeback;
        Timer coherence;    /* the first reactor's */
        unsigned n_asked;   /* by it, and not yet answered */
        uint32_t next_open; /* to be looked at by it */
        TAILQ_HEAD(, VfsSync) syncs;
};

/* ---- inode.c ---- */

/* Rebuilds the index from memory. 0, -ENOMEM, -EPROTO. */
int inode_table_load(Vfs *vfs);
void inode_table_free(Vfs *vfs);

/*
 * Finds or makes the inode of a handle, which is name in the directory parent, and counts one lookup. NULL: ENOMEM or the table
 * is full. Pins nothing.
 */
Inode *inode_lookup(Vfs *vfs, const NfsFh *fh, const NfsAttr *attr, uint64_t parent, const char *name);

/* The inode of a node id from the kernel, pinned; NULL if there is none (ESTALE). */
Inode *inode_pin(Vfs *vfs, uint64_t nodeid);
/* The inode of a handle if it is known, pinned; else NULL. */
Inode *inode_pin_fh(Vfs *vfs, const NfsFh *fh);
/* The same of what was found as name in parent; attr NULL: not known. */
Inode *inode_pin_found(Vfs *vfs, const NfsFh *fh, const NfsAttr *attr, uint64_t parent, const char *name);
void inode_repin(Vfs *vfs, Inode *inode);
void inode_unpin(Vfs *vfs, Inode *inode);
void inode_forget(Vfs *vfs, uint64_t nodeid, uint64_t n);

/* handles.c, under table_lock: what inode.c and open.c need of it */
const NfsFh *handle_load(Vfs *vfs, Inode *inode); /* the one in force of what a former worker left */
void handles_load(Vfs *vfs);                      /* what nobody refers to is free; after all inodes */
void handles_opened(Vfs *vfs);                    /* after all opens */
void handle_opened(Vfs *vfs, const Inode *inode); /* for the first time */
void handles_give(Vfs *vfs, uint32_t h);
void handles_free(Vfs *vfs);
Inode *handle_find_replaced(Vfs *vfs, const NfsFh *fh, const NfsAttr *attr, uint64_t parent, const char *name);

/* verify.c: is its record as it was written, and is it what its handle leads to? */
bool inode_is_whole(const Vfs *vfs, const Inode *inode);
bool inode_is_indexed(Vfs *vfs, const Inode *inode);

/* Valid, and unchanged, while the inode is pinned; the next time it may be another one. */
static inline const NfsFh *inode_fh(const Inode *inode) {
        return atomic_load_explicit(&((Inode *) (uintptr_t) inode)->fh, memory_order_acquire);
}
/* Did inode_fh() return this, now or before? */
bool inode_had_fh(Vfs *vfs, const Inode *inode, const NfsFh *fh);
/* From now on it is fh instead of was. Nothing if it is not was any more. 0, or -ENOSPC: too many handles. */
int inode_replace_fh(Vfs *vfs, Inode *inode, const NfsFh *was, const NfsFh *fh);
/*
 * Is what has these attributes, and this name in the directory in which inode was seen last, the same file? See revive.c.
 */
bool inode_is_same(const Vfs *vfs, const Inode *inode, const NfsAttr *attr, const char *name);
static inline bool inode_is_root(const Inode *inode) {
        return inode->nodeid == 1;
}

/* ---- open.c: the table of opens ---- */

int open_table_load(Vfs *vfs);
void open_table_free(Vfs *vfs);
/*
 * An open of inode (which it pins) for op; *ret_fh for the kernel. What a former worker made for the same request is
 * used again. 0 or -ENFILE.
 */
int open_add(Op *op, Inode *inode, int flags, Open **ret, uint64_t *ret_fh);
/* What the kernel names; NULL: not ours. */
Open *open_get(Vfs *vfs, uint64_t fh, uint64_t nodeid);
/* Is its record as it was written? */
bool open_is_whole(const Vfs *vfs, const Open *open);
/* Unpins the inode. */
void open_remove(Vfs *vfs, Open *open);
/* The stream of an open directory, made if need be: of op, until it ends. false: no memory. */
bool open_dir(Vfs *vfs, Open *open, Op *op);
/* dir.c */
DirStream *dir_stream_new(void);
/* For one READDIR: this, or another one if this is in use. NULL: no memory. */
DirStream *dir_stream_use(DirStream *stream);
DirStream *dir_stream_unref(DirStream *stream);

/*
 * An OPEN begins: the file counts as open, so that removals look first. opening_is_safe(): no removal that began before
 * it, and may be of its file, is still under way; else what the server said may already be wrong.
 */
bool opening_begin(Op *op); /* false: the file is gone (ESTALE: the kernel looks its name up again) */
bool opening_is_safe(Op *op);
void opening_end(Op *op);
/* An unlink, or a rename over a name, in dir begins; before it looks whether files are open. op_finish() ends it. */
void removal_begin(Op *op, Inode *dir);
void removal_end(Op *op);

/* Open files that may have a name in dir. */
uint32_t open_children(Vfs *vfs, Inode *dir);
/* inode was found in the directory parent, as name. Under table_lock. */
void inode_seen_in(Vfs *vfs, Inode *inode, uint64_t parent, const char *name);
/* Something went from one directory to another: where files are that are not open now is not sure any more. */
void inodes_moved(Vfs *vfs);
/* Does somebody have it open? */
bool inode_is_open(Vfs *vfs, Inode *inode);
/* It has a .nfs name, nobody has it open (or will ever close it: Vfs.ended), and from now on nobody can: remove_silly(). */
bool inode_give_up(Vfs *vfs, Inode *inode);
/* The same of the inode at that place of the table, if there is one. It is pinned; NULL: no. */
Inode *inode_give_up_pinned(Vfs *vfs, uint32_t index);
/*
 * It is about to get its .nfs name, in dir. false: nobody has it open any more, so that it needs none. again: that does not
 * matter, a former worker has begun with it.
 */
bool inode_hide_begin(Vfs *vfs, Inode *inode, uint64_t dir, bool again);
/* hidden: it has got it, or may have. As inode_give_up(). */
bool inode_hide_end(Vfs *vfs, Inode *inode, uint64_t dir, bool hidden);
/* inode_give_up() was early: it can be opened until that is tried again. */
void inode_keep(Vfs *vfs, Inode *inode);
/* Its .nfs name has been removed. From now on it can be opened: whether it has another name, the server says then. */
void inode_given_up(Vfs *vfs, Inode *inode);
/* A rename took it to another directory. */
void inode_moved(Vfs *vfs, Inode *inode, uint64_t to_parent, const char *name);
/* We remove one of its names. That changes its ctime, and nobody tells us what it is then; nor what others it has. */
void inode_note_unlinked(Inode *inode, const Inode *dir, const char *name);
/* Where it is to be looked for when its handle is stale. */
void inode_note_place(Inode *inode, uint64_t parent, const char *name);
/* Is an open file hidden (unlinked) in dir? Slow. */
bool opens_hidden(Vfs *vfs, uint64_t dir);
/* inode_note_place() of open files, after a rename within dir. */
void opens_renamed(Vfs *vfs, Inode *dir, const char *name, const char *to_name);
/* As InodeRecord.name_hash. */
uint32_t name_hash(const char *name);

/* ---- remove.c ---- */

/* Is name the one under which inode is hidden, once it is unlinked while open? Nothing else has that. */
bool is_silly_name(const Vfs *vfs, const Inode *inode, const char *name);
/* The last close of a file that was unlinked while open: removes its .nfs name, in the background. */
void remove_silly(VfsReactor *vr, Inode *inode, const NfsCred *cred);
/*
 * The same for all whose last close a former worker did not live to act on, once what it was doing is being done again; and
 * for all, once the kernel closes nothing any more.
 */
void remove_left_over(VfsReactor *vr);

/* ---- vfs.c ---- */

void background_begin(VfsReactor *vr);
void background_end(VfsReactor *vr);
void dispensable_begin(VfsReactor *vr);
void dispensable_end(VfsReactor *vr);

/* ---- revive.c: handles that the server has replaced ---- */

/*
 * was, a handle of inode, is stale: is the file still there, under another one? wait->reactor's thread; that, done and unheard
 * are set. true: done() follows. false: nothing can be done about it.
 */
bool revive(Inode *inode, const NfsFh *was, const NfsCred *cred, ReviveWait *wait);
/* The same for a call on inode that no op waits for, some times; whoever has dealt with its answer sets wait->n to 0. */
bool revive_again(VfsReactor *vr, Inode *inode, const NfsCall *call, void (*done)(ReviveWait *wait), ReviveWait *wait);
/* Waits no more: done() follows at once, with revived false. */
void revive_abandon(ReviveWait *wait);
/* The call of op was answered with ESTALE. true: it is sent again, or answered, later. */
bool revive_call(Op *op);
/* op was interrupted, or is out of time. false: it does not wait so. */
bool revive_interrupt(Op *op);
/* Nobody is told any more. Before the first reactor is freed, when none runs. */
void revive_stop(Vfs *vfs);

/* ---- cache.c: how long what is believed ---- */

/* As InodeRecord.changed_at. */
static inline int64_t attr_ctime_ns(const NfsAttr *attr) {
        return (int64_t) attr->ctime.tv_sec * (int64_t) NSEC_PER_SEC + attr->ctime.tv_nsec;
}
/* An answer that is not the result of our own change. */
void cache_update(Vfs *vfs, Inode *inode, const NfsAttr *attr, CallTime time);
/* The same for what came with the data of a READ that was just answered. */
void cache_update_read(Vfs *vfs, Inode *inode, const NfsAttr *attr, CallTime time);
/* After an own change (SETATTR, WRITE, COMMIT). */
void cache_update_wcc(Vfs *vfs, Inode *inode, const NfsWcc *wcc, CallTime time);
/* After a name in dir was made or removed by us, or may have been. */
void cache_dir_changed(Vfs *vfs, Inode *dir, const NfsWcc *wcc, CallTime time);
/* A name was removed or renamed over by us: files that have several have one less, we do not know which. */
void cache_name_gone(Vfs *vfs);
/* Is the cached number of links not older than that? */
bool cache_links_known(Vfs *vfs, Inode *inode);
/* A name was renamed by us: that changes the ctime of its file, we do not know which. */
void cache_renamed(Vfs *vfs);
/* Is the cached ctime not older than that? */
bool cache_ctime_known(Vfs *vfs, Inode *inode);
/* A name that was believed turned out to be another's by now: of what was read before nothing is. */
void cache_doubt_names(Vfs *vfs);
/* Does what was read of dir then still hold? dir_attr: its attributes, if they are believed. */
bool cache_dir_is(Vfs *vfs, Inode *dir, const DirState *then, const NfsAttr *dir_attr, uint64_t now);
/* Ask the server next time. */
void cache_expire(Inode *inode);
/* Nothing that is cached of it is to be believed any more; what the kernel read of it is being dropped. */
void cache_zap(Inode *inode);
/* The cached attributes if they are believed at now: 1 and *ret, *ret_left (ns). With stale, any age. */
uint64_t cache_fsid(Vfs *vfs, Inode *inode); /* the file system that it is on, as far as known */
bool cache_attr(Inode *inode, uint64_t now, bool stale, NfsAttr *ret, uint64_t *ret_left);
/* How long names found (found: or not found) in dir may be believed without asking: ns. */
uint64_t cache_entry_timeout(Vfs *vfs, Inode *dir, bool found, uint64_t now);
/*
 * The server did not let somebody search dir. If its mode bits do, no name in it is believed any more: they are not for
 * everybody.
 */
void cache_search_refused(Vfs *vfs, Inode *dir);
/* Would attributes that were true then be believed now? */
bool cache_is_fresh(Vfs *vfs, const NfsAttr *attr, CallTime time, uint64_t now);
/* May the kernel keep its pages of this file at an open? Notes that it will fill them from now on. */
bool cache_keep_pages(Inode *inode);
/* Cached ACCESS bits of a credential: true if all of mask is known. */
bool cache_access(Inode *inode, const NfsCred *cred, uint32_t mask, uint64_t now, uint32_t *ret_granted);
void cache_access_store(Inode *inode, const NfsCred *cred, uint32_t asked, uint32_t granted, uint64_t now);

/* ---- coherence.c: pages that others have made old ---- */

/* The kernel's pages of inode are not true any more: tells it. Not under Inode.lock. */
void pages_drop(Vfs *vfs, Inode *inode);
/* The kernel is to write what was stored in them through mmap, for which they must go as well; pages_wait() until it has. */
void pages_write(Vfs *vfs, Inode *inode);
/* In a moment, or before the kernel is given attributes of inode. */
void pages_drop_later(Vfs *vfs, Inode *inode);
/*
 * Before the kernel is given attributes of inode, or a lock on it goes: done(op) on op's reactor when it has dropped what it
 * was told to; op->wait.err EINTR: op was interrupted. false: there is nothing to wait for.
 */
bool pages_wait(Op *op, Inode *inode, void (*done)(Op *op));
/* Is the kernel being told, so that it must not be given attributes? */
bool pages_are_dropped(Vfs *vfs, uint64_t nodeid);
/* op was interrupted. Nothing if it does not wait so. */
void pages_interrupt(Op *op);
/* From now on open files are looked after. The first reactor. */
void coherence_start(VfsReactor *vr);
/* The kernel is told to drop a range, soon. Not under the lock. */
void drop_init(Drop *drop, Inode *inode);
void drop_range(Vfs *vfs, Drop *drop, uint64_t from, uint64_t to);
/*
 * done(op) on op's reactor when all that was to be dropped is, or after ns; op->wait.err EINTR: op was interrupted.
 * false: there is nothing to wait for.
 */
bool drop_wait(Op *op, Drop *drop, uint64_t ns, void (*done)(Op *op));

/* ---- reread.c: pages that are read again while they are written ---- */

/* From the drop of a page until a WRITE of it, copied before, must have come. */
#define REREAD_UNSURE_NS (100 * NSEC_PER_MSEC)

/* Pages of inode are being dropped, or were. Not under Inode.lock. */
void reread_unsure(Inode *inode);
/* A READ begins. */
void reread_begin(Op *op);
/* It has its data: must it be done once more? */
bool reread_again(Op *op);
/* A WRITE may take long to become one that READs see; reread_release() when it ends. */
void reread_hold(Op *op);
void reread_release(Op *op);
/* It is kept, and READs see it from now on. */
void reread_written(Op *op);
/*
 * It is about to be answered. What was read of its range before it was kept is dropped: done(op) when it is, whatever
 * op->wait.err says. false: there is nothing to wait for.
 */
bool reread_drop(Op *op, void (*done)(Op *op));
void reread_free(Inode *inode);
/* Of the inode's pins: 1 while pages are dropped. */
unsigned reread_pins(const Inode *inode);

/* ---- cred.c ---- */

/* The caller's identity: uid and gid of the request, supplementary groups from /proc, for one second. */
void cred_of(VfsReactor *vr, Op *op);

/* ---- op.c: what all operations do ---- */

/* Credentials, and op->inode from nodeid. false: answered with ESTALE. */
bool op_begin(Op *op, uint64_t nodeid);
/* The same for a second inode. */
bool op_begin2(Op *op, uint64_t nodeid);
/* Fills a call of proc on fh in op and clears its results; the caller adds arguments, then op_send(). */
NfsArgs *op_call(Op *op, enum NfsProc proc, const NfsFh *fh, void (*done)(NfsCall *call));
void op_send(Op *op);
/* step(op), as op's doing (vfs_doing()): whatever goes on with an op that has waited. */
void op_goes_on(Op *op, void (*step)(Op *op));
/*
 * The same for a call that changes something on the server: the journal knows, before it goes out, which one of op's
 * changing calls it is (step) and under which XID. A successor that comes to the same step sends it under the same.
 * object, object_id: see OpReply.executing.
 */
void op_send_changing(Op *op, unsigned step, const NfsFh *object, uint64_t object_id);
/* First thing in each done(). */
Op *op_done(NfsCall *call);
/* The answer may be from a server that had forgotten what was written before, whether it has it again by now or not. */
static inline bool op_is_in_doubt(const Op *op) {
        return op->n_doubts != atomic_load_explicit(&op->inode->n_doubts, memory_order_acquire);
}
/* An error may be the effect of an earlier execution of the same call, by us. */
static inline bool op_may_be_done(const Op *op) {
        return op->replayed || op->revive.resent || op->call.n_sent > 1;
}
/* Unpins, then answers. Each ends the op. */
void op_finish(Op *op);
void op_reply_err(Op *op, int err);
/* The same where a successor must not do it again once it was answered. */
void op_reply_err_once(Op *op, int err);
void op_reply_entry(Op *op, const VfsEntry *entry);
void op_reply_attr(Op *op, const NfsAttr *attr);
/* Even if the kernel has old pages of the file. */
void op_reply_attr_now(Op *op, const NfsAttr *attr);
/* Counts a lookup and fills entry for a child of dir. 0 or ENOMEM, ESTALE. */
int op_make_entry(Op *op, Inode *dir, const char *name, const NfsFh *fh, const NfsAttr *attr, CallTime time, VfsEntry *ret);
/* Answers within BOUND_NS: cancels the call then, and op->out_of_time tells its done(). */
void op_bound(Op *op);

/* ---- attr.c ---- */

/* Asks for the file system's size once, so that a STATFS finds an answer also when the server has died since. */
void statfs_prime(VfsReactor *vr);

/* ---- access.c ---- */

/*
 * Then then(op, 0), EACCES, or what went wrong. ask: the server is asked, whatever is cached; op->access.has_attr
 * says whether it told the attributes too.
 */
void op_access(Op *op, uint32_t mask, bool ask, void (*then)(Op *op, int err));

/* ---- ahead.c: names that will be asked for ---- */

typedef struct VfsFound {
        NfsFh fh;
        NfsAttr attr;
        CallTime time;
        bool is_old; /* the directory has changed since */
} VfsFound;

/* Is a name of op->inode known already? */
bool ahead_find(Op *op, const char *name, VfsFound *ret);
/* It was not, but the server knows it: perhaps more of them should be. */
void ahead_missed(Op *op);
/* The directory is forgotten. */
void ahead_drop(Vfs *vfs, Inode *dir);
void ahead_drop_all(Vfs *vfs);

/* ---- absent.c: names that are not there ---- */

/* How long the kernel may believe that a name is not in op->inode: ns. */
uint64_t absent_timeout(Op *op);
/* Is it known that name is not there? */
bool absent_find(Op *op, const char *name);
/* The server has said so, with the attributes dir of op->inode; version: dir_version() before it was asked. */
void absent_add(Op *op, const char *name, uint64_t version, const NfsAttr *dir, CallTime time);
void absent_free(Vfs *vfs);

/* ---- mark.c: an exclusive creation in one RPC ---- */

#define NO_FSID UINT64_MAX

/* What an exclusive CREATE in op->inode is to set the access time to; 0: the server may not keep it. */
uint64_t mark_new(Op *op);
/* The same for trying whether it does, on a file that op has just made; time: when the server told its attributes. */
uint64_t mark_to_try(Op *op, const NfsAttr *made, CallTime time);
/* The server was given the mark by a SETATTR, and says this. */
void mark_learn(Op *op, uint64_t mark, const NfsAttr *made, CallTime time);
/* The same by a CREATE. */
void mark_made(Op *op, uint64_t mark, const NfsAttr *made, CallTime time);
/* No more of them. */
void marks_give_up(Vfs *vfs);
struct timespec mark_time(uint64_t mark);
/* Is what has these attributes the file that was made with this mark? */
bool mark_is(uint64_t mark, const NfsAttr *attr);

/* ---- extent.c: room for what is written ---- */

/* Takes over what a former worker left: after the inodes have been loaded. 0 or -ENOMEM. */
int extent_table_load(Vfs *vfs);
void extent_table_free(Vfs *vfs);
/* done(op), on op's reactor, when there may be room; op->wait.err EINTR: it was interrupted. again: there was none then. */
void extent_wait_room(Op *op, bool again, void (*done)(Op *op));
/* Who was woken for room has not taken all of it, perhaps: the next one may look. */
void extent_pass_room(Vfs *vfs);

/* ---- pending.c: what was written to a file, until it is on the server's stable storage ---- */

/*
 * Keeps a copy of data, which then is on its way. stable: what it is to be sent with. *ret_seq for pending_wait_for().
 * 0, or -ENOSPC: no room, extent_wait_room().
 */
int pending_add(VfsReactor *vr, Inode *inode, const NfsCred *cred, uint64_t offset, const void *data, uint32_t size,
                enum NfsStable stable, uint64_t *ret_seq);
/* Is there anything that the server does not have; or with stable: has not on stable storage? */
bool pending_any(Inode *inode, bool stable);
/* A mark of what is on its way to stable storage; 0: nothing. */
uint64_t pending_committing(Inode *inode);
/* Is any of that still? Then locks_data_settled() will be called when that may have changed. */
bool pending_holds_back(Inode *inode, uint64_t committing);
/* Can the server not yet tell what is in this range of the file? */
bool pending_conflicts(Inode *inode, uint64_t offset, uint64_t size);
/* Under Inode.lock: is there anything that the server does not have? Then size and times will change. */
bool pending_unwritten(const Inode *inode);
/* Under Inode.lock: where such data ends that makes the file longer than the server knows; 0: there is none. */
uint64_t pending_end(const Inode *inode);
/* The same if the file ends there, for who appends; else 0. */
uint64_t pending_append_offset(Inode *inode);
/*
 * Sends everything there is, with stable commits it, then done(op) on op's reactor. op->wait.err: EINTR if op was
 * interrupted; else what hearer (if any) is to hear, see pending_error(). false: there is nothing to wait for.
 */
bool pending_wait(Op *op, bool stable, Open *hearer, void (*done)(Op *op));
/* The same until what pending_add() called seq is on the server; op->open hears. */
bool pending_wait_for(Op *op, uint64_t seq, void (*done)(Op *op));
/* Everything is to be on stable storage, sooner or later; nobody waits. */
void pending_commit(VfsReactor *vr, Inode *inode);
/* The same, but for a COMMIT that is wanted already: what has come since is not to hold that up. */
void pending_commit_next(VfsReactor *vr, Inode *inode);
/* op waits for a file's data or for room, and was interrupted. Nothing if it does not wait. */
void pending_interrupt(Op *op);
/*
 * What was lost of op->inode since open heard of it last, or 0. As the kernel's (errseq_t): everybody who has the file open
 * hears of it.
 */
int pending_error(Op *op, Open *open);
/* open is new: it hears of what nobody has heard of yet. */
void pending_error_begin(Inode *inode, Open *open);
/*
 * Answers err, which may come from pending_error(). It stays in the memory until a successor would find the answer there:
 * after a crash rather two hear of it than nobody.
 */
void pending_error_reply(Op *op, int err);
/* Wakes an op that is on no waiting list any more. */
void op_wake(Op *op, int err);

/* ---- writeback.c: the volume's pending data ---- */

/* What a former worker left goes out, under the XIDs it had. */
void writeback_start(VfsReactor *vr);
/* There is a new connection: has the server kept what it was given? Until that is known it is not believed about it. */
void writeback_doubt(VfsReactor *vr);
/* Starts to commit the file that has held its data for longest. */
void writeback_relieve(VfsReactor *vr);

/* ---- lock.c: byte-range locks ---- */

/* Reads what a former worker left. 0 or -ENOMEM. Nothing if all locks are local. */
int locks_new(Vfs *vfs);
void locks_free(Vfs *vfs);
/* On the first reactor: connects to the lock manager. 0 or negative errno. */
int locks_start(VfsReactor *vr);
void locks_stop(VfsReactor *vr);
/* Has the file locks of anybody? A hint: may be wrong about what another thread is just doing. */
bool locks_known(const Inode *inode);
/* Gives back owner's locks on op->inode; done(op) follows, with op->lock.err. done NULL: in the background. */
void locks_drop_owner(Op *op, enum LockKind kind, uint64_t owner, void (*done)(Op *op));
/* The same for what goes with an open file, in the background. */
void locks_drop_open(VfsReactor *vr, Inode *inode, uint64_t fh, bool has_flock, uint64_t flock_owner);
/* See pending_holds_back(). Not under Inode.lock. */
void locks_data_settled(VfsReactor *vr, Inode *inode);
/* op waits for a lock and was interrupted: answered with EINTR. Nothing if it does not. */
void locks_interrupt(Op *op);
/* The server may have restarted: ask its lock manager. Any thread. */
void locks_suspect(Vfs *vfs);
