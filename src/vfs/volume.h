/*
 * vfs/'s own view of a volume: what its files share.
 *
 * Locks, none held across an RPC or a reply, none taken while another is held:
 *   Vfs.table_lock   the inode index, lookup counts, pins, open entries
 *   unstable_lock    the list of files with uncommitted data (table_lock may be taken inside)
 *   Inode.lock       what is known of one file: attributes, versions, uncommitted data
 *   Locks.mutex      byte-range locks, all of them (the other two may be taken inside; calls are sent inside)
 */
#pragma once

#include <pthread.h>
#include <uthash.h>

#include "vfs/vfs.h"

#define CRED_CACHE_SIZE   256
#define ACCESS_CACHE_SIZE 4
#define NAME_SPACE        (NFS_NAME_MAX + 1)

/*
 * A caller waits for at most so long where nothing may ever hang (statfs, a directory's attributes): BOUND_NS, or,
 * once somebody has waited that long and the server has still not answered anything, BOUND_LATE_NS.
 */
#define BOUND_NS      (3 * NSEC_PER_SEC)
#define BOUND_LATE_NS (200 * NSEC_PER_MSEC)

/* What decides whether cached data is still the server's. */
typedef struct DataVersion {
        bool known;
        uint64_t size;
        struct timespec mtime, ctime;
} DataVersion;

typedef struct AccessEntry {
        uint64_t cred_hash;
        uint64_t expires; /* ns; 0: empty */
        uint32_t asked, granted;
} AccessEntry;

typedef struct Unstable Unstable;
typedef struct DirStream DirStream;

/* The private side of memory->inodes[index]; zero when the inode is first used. */
struct Inode {
        InodeRecord *record;
        uint64_t nodeid;

        /* table_lock */
        UT_hash_handle by_fh;
        uint32_t n_busy; /* operations, opens and uncommitted data that need it */
        Inode *next_free;

        pthread_mutex_t lock;
        bool has_attr;
        NfsAttr attr;
        uint64_t attr_at;      /* when that was true (the call was sent): ns */
        uint64_t attr_valid;   /* ns until which it is believed; 0: must be asked again */
        uint64_t attr_timeout; /* ns; grows while nothing changes */
        DataVersion pages;     /* what the kernel's page cache was filled from */
        uint32_t n_writing;    /* own WRITEs in flight */
        AccessEntry access[ACCESS_CACHE_SIZE];
        unsigned access_next;
        struct LockFile *locks; /* Locks.mutex */
        Unstable *unstable;
        int write_error; /* errno latched for the next flush or fsync */

        /* for what is unlinked while open (remove.c); table_lock */
        uint64_t parent;    /* node id of the directory it was last seen in; 0: not known */
        uint64_t placed_at; /* Vfs.n_moves when it was seen there */
        uint32_t n_open;
        bool gone;                /* its .nfs name, the last one, is being removed: not to be opened again */
        bool unplaced;            /* open, and counted in Vfs.n_open_unplaced instead of its directory */
        uint32_t n_open_children; /* open files that have their only name in this directory */

        _Atomic uint64_t dir_version; /* grows with each change of ours to this directory */
};

struct Open {
        OpenRecord *record;
        Inode *inode;
        DirStream *dir; /* opendir(3) */
        Open *next_free;
};

typedef struct CredEntry {
        pid_t pid;
        uint64_t expires;
        NfsCred cred;
} CredEntry;

TAILQ_HEAD(OpList, Op);
TAILQ_HEAD(UnstableList, Unstable);

struct Vfs {
        Memory *memory;
        const SessionOptions *options;
        VfsNotify notify;
        uint32_t read_size, write_size; /* of one RPC */
        bool no_readdirplus; /* the server has none (relaxed) */

        pthread_mutex_t table_lock;
        Inode *inodes; /* INODES_MAX of them, untouched until used */
        Inode *by_fh;
        Inode *free_inodes;
        Open *opens;
        Open *free_opens;
        uint64_t n_moves;         /* renames from one directory to another, by us */
        uint64_t n_removals;      /* unlinks and renames so far */
        struct OpList removals;   /* those that are under way, oldest first */
        uint32_t n_open_unplaced; /* open files that may have a name in any directory */

        pthread_mutex_t unstable_lock;
        struct UnstableList unstable; /* files with uncommitted data, oldest first */

        _Atomic uint64_t name_gone_at; /* when a name was last removed or renamed over by us: ns */

        _Atomic bool late; /* a bound ran out, and no answer has come since */

        pthread_mutex_t statfs_lock;
        bool has_fsstat;
        NfsFsStat fsstat;

        struct Locks *locks; /* NULL: they are local */
};

struct VfsReactor {
        Vfs *vfs;
        unsigned index;
        Reactor *reactor;
        NfsConn *conn;
        CredEntry creds[CRED_CACHE_SIZE];
        unsigned n_lock_waiters; /* Locks.mutex */
        unsigned n_background; /* RPCs that no op waits for: removals, commits */
        TAILQ_HEAD(, VfsSync) syncs;
};

/* ---- inode.c ---- */

/* Rebuilds the index from memory. 0, -ENOMEM, -EPROTO. */
int inode_table_load(Vfs *vfs);
void inode_table_free(Vfs *vfs);

/* Finds or makes the inode of a handle, counts one lookup. NULL: ENOMEM or the table is full. Pins nothing. */
Inode *inode_lookup(Vfs *vfs, const NfsFh *fh, const NfsAttr *attr, uint64_t parent);

/* The inode of a node id from the kernel, pinned; NULL if there is none (ESTALE). */
Inode *inode_pin(Vfs *vfs, uint64_t nodeid);
/* The inode of a handle if it is known, pinned; else NULL. */
Inode *inode_pin_fh(Vfs *vfs, const NfsFh *fh);
void inode_repin(Vfs *vfs, Inode *inode);
void inode_unpin(Vfs *vfs, Inode *inode);
void inode_forget(Vfs *vfs, uint64_t nodeid, uint64_t n);

static inline const NfsFh *inode_fh(const Inode *inode) {
        return &inode->record->fh;
}
static inline bool inode_is_root(const Inode *inode) {
        return inode->nodeid == 1;
}

/* ---- open.c: the table of opens ---- */

int open_table_load(Vfs *vfs);
/*
 * An open of inode (which it pins) for op; *ret_fh for the kernel. What a former worker made for the same request is
 * used again. 0 or -ENFILE.
 */
int open_add(Op *op, Inode *inode, int flags, Open **ret, uint64_t *ret_fh);
/* What the kernel names; NULL: not ours. */
Open *open_get(Vfs *vfs, uint64_t fh, uint64_t nodeid);
/* Unpins the inode. */
void open_remove(Vfs *vfs, Open *open);
DirStream *dir_stream_free(DirStream *stream);

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
/* A name of inode was found in the directory parent. Under table_lock. */
void inode_seen_in(Vfs *vfs, Inode *inode, uint64_t parent);
/* Something went from one directory to another: where files are that are not open now is not sure any more. */
void inodes_moved(Vfs *vfs);
/* Does somebody have it open? */
bool inode_is_open(Vfs *vfs, Inode *inode);
/* Nobody has it open, and from now on nobody can. false: somebody has. */
bool inode_give_up(Vfs *vfs, Inode *inode);
/* Its .nfs name has been removed. Whether it has another name after all, the server says at an open. */
void inode_given_up(Vfs *vfs, Inode *inode);
/* A rename took it to another directory. */
void inode_moved(Vfs *vfs, Inode *inode, uint64_t to_parent);

/* ---- remove.c ---- */

/* The last close of a file that was unlinked while open: removes its .nfs name, in the background. */
void remove_silly(VfsReactor *vr, Inode *inode, const NfsCred *cred);
/* The same for all whose last close a former worker did not live to act on. */
void remove_left_over(VfsReactor *vr);

/* ---- vfs.c ---- */

void background_begin(VfsReactor *vr);
void background_end(VfsReactor *vr);

/* ---- cache.c: how long what is believed ---- */

/* An answer that is not the result of our own change. sent_at: when it was asked for. */
void cache_update(Vfs *vfs, Inode *inode, const NfsAttr *attr, uint64_t sent_at);
/* After an own change (SETATTR, WRITE, COMMIT). */
void cache_update_wcc(Vfs *vfs, Inode *inode, const NfsWcc *wcc, uint64_t sent_at);
/* After a name in dir was made or removed by us, or may have been. */
void cache_dir_changed(Vfs *vfs, Inode *dir, const NfsWcc *wcc, uint64_t sent_at);
/* A name was removed or renamed over by us: files that have several have one less, we do not know which. */
void cache_name_gone(Vfs *vfs);
/* Is the cached number of links not older than that? */
bool cache_links_known(Vfs *vfs, Inode *inode);
/* Ask the server next time. */
void cache_expire(Inode *inode);
/* Nothing that is cached of it is to be believed any more, nor what the kernel read of it. */
void cache_zap(Inode *inode);
/* The cached attributes if they are believed at now: 1 and *ret, *ret_left (ns). With stale, any age. */
bool cache_attr(Inode *inode, uint64_t now, bool stale, NfsAttr *ret, uint64_t *ret_left);
/* How long names found (found: or not found) in dir may be believed without asking: ns. */
uint64_t cache_entry_timeout(Vfs *vfs, Inode *dir, bool found, uint64_t now);
/* May the kernel keep its pages of this file at an open? Notes that it will fill them from now on. */
bool cache_keep_pages(Inode *inode);
/* Cached ACCESS bits of a credential: true if all of mask is known. */
bool cache_access(Inode *inode, const NfsCred *cred, uint32_t mask, uint64_t now, uint32_t *ret_granted);
void cache_access_store(Inode *inode, const NfsCred *cred, uint32_t asked, uint32_t granted, uint64_t now);

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
/* First thing in each done(): clears call_pending. */
Op *op_done(NfsCall *call);
/* Unpins, then answers. Each ends the op. */
void op_finish(Op *op);
void op_reply_err(Op *op, int err);
void op_reply_entry(Op *op, const VfsEntry *entry);
void op_reply_attr(Op *op, const NfsAttr *attr);
/* Counts a lookup and fills entry for a child of dir. 0 or ENOMEM, ESTALE. */
int op_make_entry(Op *op, Inode *dir, const NfsFh *fh, const NfsAttr *attr, uint64_t sent_at, VfsEntry *ret);
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

/* ---- unstable.c: written, not yet committed ---- */

enum UnstablePressure {
        UNSTABLE_LOW,
        UNSTABLE_HIGH, /* begin to commit */
        UNSTABLE_FULL, /* wait for the commit */
};

/*
 * Keeps a copy of what a WRITE carried. -ENOMEM: then write it FILE_SYNC instead.
 */
int unstable_add(Vfs *vfs, Inode *inode, const NfsCred *cred, uint64_t offset, const void *data, uint32_t size,
                 const uint8_t verf[static NFS_VERF_SIZE]);
/* A former worker may have written to it what was not committed: the next flush commits. 0 or -ENOMEM. */
int unstable_mark(Vfs *vfs, Inode *inode, const NfsCred *cred);
/* Is anything of this file not yet known to be on stable storage? */
bool unstable_pending(Inode *inode);
/*
 * Commits what inode has, and what is being committed already; then done(op), on op's reactor, with the
 * error in op->commit.err (a latched one is taken). op NULL: in the background, an error is latched.
 */
void unstable_commit(VfsReactor *vr, Inode *inode, Op *op, void (*done)(Op *op));
/* op is waiting for a commit and was interrupted: done(op) with EINTR. Nothing if it is not waiting. */
void unstable_interrupt(Op *op);
/* Whether the volume holds too much; starts to commit the file that has held its data for longest. */
enum UnstablePressure unstable_pressure(VfsReactor *vr, Inode *inode);
/* The latched error, once. */
int unstable_take_error(Inode *inode);

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
/* The same for what goes with an open file, of op->inode, in the background. */
void locks_drop_open(Op *op, uint64_t fh, bool has_flock, uint64_t flock_owner);
/* op waits for a lock and was interrupted: answered with EINTR. Nothing if it does not. */
void locks_interrupt(Op *op);
/* The server may have restarted: ask its lock manager. Any thread. */
void locks_suspect(Vfs *vfs);
