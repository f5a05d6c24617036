/*
 * File-system semantics over NFS: what each request of the kernel means.
 *
 * A Vfs is one volume; a VfsReactor is what one reactor thread has of it (its connection). Every
 * vfs_*() below starts one operation for an Op that fuse/ has filled, and answers it exactly once
 * through op->reply, perhaps before it returns. The reactor's thread of op->reactor only. Strings and data
 * passed in stay valid until the reply. Node ids and fhs come from the kernel and are checked.
 */
#pragma once

#include "conf/options.h"
#include "vfs/memory.h"
#include "vfs/op.h"

/* Embedded by who waits until pages are gone. */
typedef struct VfsInval {
        void (*done)(struct VfsInval *inval);
        uint64_t nodeid;
        uint64_t offset, size; /* bytes; size 0: to the end */
        bool told;             /* private */
        TAILQ_ENTRY(VfsInval) inval_link;
} VfsInval;

/* Set by daemon/ between vfs_new() and the first operation. */
typedef struct VfsNotify {
        /* All of these may be called on any reactor, and must not block. Drops the cached attributes of a node. */
        void (*inval_attr)(void *userdata, uint64_t nodeid);
        /* Look up every name again before it is believed. */
        void (*inval_names)(void *userdata);
        /*
         * Drops the cached pages of the range and the node that inval names; inval->done() follows, later, on the first
         * reactor, once they are gone.
         */
        void (*inval_pages)(void *userdata, VfsInval *inval);
        void *userdata;
} VfsNotify;

/* What options say about mounting; the caller adds host, path, credentials, and the bound. */
NfsMountConfig vfs_mount_config(const SessionOptions *options);

/*
 * options must outlive the Vfs. Rebuilds its indexes from memory, where a worker may have died.
 * 0 or negative errno (-EPROTO: the memory contradicts itself beyond repair).
 */
int vfs_new(Memory *memory, const SessionOptions *options, Vfs **ret);
Vfs *vfs_free(Vfs *vfs);
void vfs_set_notify(Vfs *vfs, const VfsNotify *notify);

/*
 * The inode number of what the server calls fileid: that, unless it is on another file system than the root of the export.
 * Servers that show what is mounted below an export use the same numbers there, and two files with one number are
 * taken for one.
 */
uint64_t vfs_ino(const Vfs *vfs, uint64_t fsid, uint64_t fileid);

/* Before anything runs: what the daemon may have in all, in bytes. It bounds what is kept of written data. */
void vfs_limit_memory(Vfs *vfs, uint64_t limit);

/* The part of reactor number index (0 .. memory->n_reactors - 1): starts its connection. */
int vfs_reactor_new(Vfs *vfs, unsigned index, Reactor *reactor, VfsReactor **ret);
/* Its thread goes on with that request (0: with none): should the worker die of it, a successor can tell. */
void vfs_doing(VfsReactor *vr, uint64_t unique);
/* Nothing that was asked for nobody's sake is under way, which has no place to end once all is freed. */
bool vfs_reactor_is_idle(const VfsReactor *vr);
VfsReactor *vfs_reactor_free(VfsReactor *vr);

/*
 * All that a former worker left has been taken up, the journal too: inodes that nothing needs any more are let go, and .nfs
 * names that nobody needs are removed. vr: the first reactor's; its thread.
 */
void vfs_recovered(VfsReactor *vr);

/* The sizes of one READ and WRITE that options and the server agree on: bytes, never 0. */
void vfs_io_sizes(const SessionOptions *options, const NfsFsInfo *info, uint32_t *ret_read, uint32_t *ret_write);

/* Shall the kernel look at the attributes at each read, and drop pages itself when they have changed? */
bool vfs_checks_each_read(const Vfs *vfs);

/* Largest READ and WRITE that should reach vfs_read() and vfs_write(): page multiples. */
uint32_t vfs_read_size(const Vfs *vfs);
uint32_t vfs_write_size(const Vfs *vfs);
bool vfs_idmap(const Vfs *vfs); /* the mount option */

/*
 * The caller of op was killed: op is answered soon, with EINTR unless it completes first. Reactor of op.
 */
void vfs_interrupt(Op *op);

/* Embedded by who waits for vfs_sync_all(). */
typedef struct VfsSync {
        void (*done)(struct VfsSync *sync); /* on the reactor */
        bool waiting;                       /* private */
        TAILQ_ENTRY(VfsSync) sync_link;
} VfsSync;

/*
 * The kernel's connection has ended: all locks are given back, before vfs_sync_all() is done; within seconds, or not at
 * all. Nothing on other reactors than the first.
 */
void vfs_locks_end(VfsReactor *vr);

/*
 * The same of what is open: the kernel does not close what was open when its connection was aborted, nor always what was closed
 * right before the last unmount. The .nfs names are removed, before the next vfs_sync_all() is done. After a first one, so that
 * nothing that is written is of a file that has gone.
 */
void vfs_opens_end(VfsReactor *vr);

/*
 * COMMITs every file with uncommitted data, then sync->done(). If sync waits already: once more for those whose COMMIT is done by
 * then; what was written since a COMMIT was wanted has to wait for the next time.
 */
void vfs_sync_all(VfsReactor *vr, VfsSync *sync);
/* Logs what vfs_sync_all() still waits for. */
void vfs_say_unfinished(const VfsReactor *vr);

/* name.c */
void vfs_lookup(Op *op, uint64_t parent, const char *name);
void vfs_forget(Vfs *vfs, uint64_t nodeid, uint64_t n);
void vfs_mknod(Op *op, uint64_t parent, const char *name, mode_t mode, dev_t rdev);
void vfs_mkdir(Op *op, uint64_t parent, const char *name, mode_t mode);
void vfs_symlink(Op *op, uint64_t parent, const char *name, const char *target);
void vfs_link(Op *op, uint64_t nodeid, uint64_t parent, const char *name);
void vfs_unlink(Op *op, uint64_t parent, const char *name);
void vfs_rmdir(Op *op, uint64_t parent, const char *name);
void vfs_rename(Op *op, uint64_t parent, const char *name, uint64_t to_parent, const char *to_name, unsigned flags);
void vfs_create(Op *op, uint64_t parent, const char *name, mode_t mode, int flags);

/* attr.c */
void vfs_getattr(Op *op, uint64_t nodeid);
#define VFS_NO_FH   UINT64_MAX
#define VFS_GONE_FH (UINT64_MAX - 1) /* a lock owner's that was released */
/* fh: an open file's, or VFS_NO_FH; ftruncate(2) is allowed by the open, not by the mode. */
void vfs_setattr(Op *op, uint64_t nodeid, const NfsSetAttr *attr, uint64_t fh);
void vfs_access(Op *op, uint64_t nodeid, int mask);
void vfs_readlink(Op *op, uint64_t nodeid);
void vfs_statfs(Op *op, uint64_t nodeid);

/* file.c, io.c, unstable.c */
void vfs_open(Op *op, uint64_t nodeid, int flags);
/* With the flock(2) locks of flock_owner (if has_flock), and the open file description's. */
void vfs_release(Op *op, uint64_t nodeid, uint64_t fh, bool has_flock, uint64_t flock_owner);
/* The kernel did not take the answer to an OPEN, OPENDIR or CREATE: it will never release it. */
void vfs_open_unheard(VfsReactor *vr, uint64_t nodeid, uint64_t fh);
void vfs_read(Op *op, uint64_t nodeid, uint64_t fh, uint64_t offset, uint32_t size);
/* Whose idea offset is. */
enum VfsWriteKind {
        VFS_WRITE,        /* the caller's; O_APPEND: the kernel's guess */
        VFS_WRITE_PLACED, /* ours: OpReply.placed() of a former worker */
        VFS_WRITE_PAGES,  /* pages that were changed through mmap have their place, through whichever descriptor they come */
};
void vfs_write(Op *op, uint64_t nodeid, uint64_t fh, uint64_t offset, const void *data, uint32_t size, enum VfsWriteKind kind);
/* close(2): with all POSIX locks of owner. */
void vfs_flush(Op *op, uint64_t nodeid, uint64_t fh, uint64_t owner);
void vfs_fsync(Op *op, uint64_t nodeid, uint64_t fh);

/* lock.c */

/* Which locks are the server's, not the kernel's own: VFS_LOCKS_* bits. */
enum { VFS_LOCKS_POSIX = 1, VFS_LOCKS_FLOCK = 2 };
unsigned vfs_network_locks(const SessionOptions *options, const NfsMountResult *mount);
unsigned vfs_lock_kinds(const Vfs *vfs); /* of this volume */
/* The same in words, for `nfsvol status` and the log. */
const char *vfs_locks_text(const SessionOptions *options, const NfsMountResult *mount);

/* SETLK, SETLKW (wait): takes the lock, or, type NONE, gives back what is in the range. */
void vfs_setlk(Op *op, uint64_t nodeid, uint64_t fh, enum LockKind kind, uint64_t owner, const VfsLock *lock, bool wait);
/* GETLK: a lock that would be in the way, or type NONE. */
void vfs_getlk(Op *op, uint64_t nodeid, uint64_t fh, uint64_t owner, const VfsLock *lock);

/* dir.c */
void vfs_opendir(Op *op, uint64_t nodeid);
void vfs_readdir(Op *op, uint64_t nodeid, uint64_t fh, uint64_t offset);
void vfs_releasedir(Op *op, uint64_t nodeid, uint64_t fh);
void vfs_fsyncdir(Op *op, uint64_t nodeid);
