/*
 * One NFS remote procedure call.
 *
 * The caller embeds an NfsCall in its own operation, fills proc, cred, args and done, and sends it on
 * a connection. done() runs exactly once, on the reactor of that connection, never inside
 * nfs_call_send() or nfs_call_cancel(). Until then everything args and cred point to stays the
 * caller's but must not change: a call is encoded again, under the same XID, whenever a connection
 * breaks before its reply came. Pointers in res (read data, names, a symlink's target) are valid only
 * inside done().
 *
 * What happens to a call that gets no answer is the connection's business (NfsConnConfig): hard calls
 * wait for ever, soft ones end with EIO (or ETIMEDOUT, softerr). NFS3ERR_JUKEBOX is waited out and
 * sent again by the connection; the caller never sees it.
 */
#pragma once

#include <stdatomic.h>
#include <sys/queue.h>

#include "base/util.h"
#include "nfs/types.h"

/*
 * NFSv3's procedures have the numbers of RFC 1813; behind them those of the lock manager (NLM version 4, X/Open XNFS
 * chapter 14; RFC 1813 appendix II) and the portmapper's, which go over connections of their own
 * (NfsConnConfig.protocol).
 */
enum NfsProc {
        NFS_NULL,
        NFS_GETATTR,
        NFS_SETATTR,
        NFS_LOOKUP,
        NFS_ACCESS,
        NFS_READLINK,
        NFS_READ,
        NFS_WRITE,
        NFS_CREATE,
        NFS_MKDIR,
        NFS_SYMLINK,
        NFS_MKNOD,
        NFS_REMOVE,
        NFS_RMDIR,
        NFS_RENAME,
        NFS_LINK,
        NFS_READDIR,
        NFS_READDIRPLUS,
        NFS_FSSTAT,
        NFS_FSINFO,
        NFS_PATHCONF,
        NFS_COMMIT,
        NLM_NULL,
        NLM_TEST,
        NLM_LOCK,
        NLM_CANCEL,
        NLM_UNLOCK,
        NLM_FREE_ALL,
        PORTMAP_GETPORT,
        NFS_N_PROCS,
};

#define NFS3_N_PROCS (NFS_COMMIT + 1)

/* nlm4_stats. */
enum NlmStatus {
        NLM_GRANTED = 0,
        NLM_DENIED = 1,
        NLM_DENIED_NOLOCKS = 2,
        NLM_BLOCKED = 3,
        NLM_DENIED_GRACE = 4, /* the server is in its grace period; for a reclaim: it is not */
        NLM_DEADLOCK = 5,
        NLM_ROFS = 6,
        NLM_STALE_FH = 7,
        NLM_FBIG = 8,
        NLM_FAILED = 9,
};

/* One entry of READDIR or READDIRPLUS; the latter may carry attributes and a handle. */
typedef struct NfsDirent {
        uint64_t fileid;
        uint64_t cookie;
        const char *name; /* NUL-terminated, checked: 1..255 bytes, no '/' */
        bool has_attr, has_fh;
        NfsAttr attr;
        NfsFh fh;
} NfsDirent;

/* Names are NUL-terminated and at most NFS_NAME_MAX bytes. fh is the object or the directory. */
typedef struct NfsArgs {
        const NfsFh *fh;
        const char *name; /* LOOKUP CREATE MKDIR SYMLINK MKNOD REMOVE RMDIR; RENAME: from; LINK: new name */
        union {
                struct {
                        NfsSetAttr attr;
                        bool guard; /* only if the server's ctime is still guard_ctime */
                        struct timespec guard_ctime;
                } setattr;
                struct {
                        uint32_t mask;
                } access;
                struct {
                        uint64_t offset;
                        uint32_t count; /* at most NfsFsInfo.rtmax */
                } read;
                struct {
                        uint64_t offset;
                        uint32_t count;
                        enum NfsStable stable;
                        const void *data;
                } write;
                struct {
                        enum NfsCreateMode mode;
                        NfsSetAttr attr;             /* UNCHECKED and GUARDED */
                        uint8_t verf[NFS_VERF_SIZE]; /* EXCLUSIVE */
                } create;
                struct {
                        NfsSetAttr attr;
                } mkdir;
                struct {
                        NfsSetAttr attr;
                        const char *target; /* at most PATH_MAX - 1 bytes */
                } symlink;
                struct {
                        NfsSetAttr attr;
                        mode_t type; /* S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK */
                        dev_t rdev;
                } mknod;
                struct {
                        const NfsFh *to_dir;
                        const char *to_name;
                } rename;
                struct {
                        const NfsFh *dir; /* fh is the file */
                } link;
                struct {
                        uint64_t cookie;
                        uint8_t verf[NFS_VERF_SIZE];
                        uint32_t count; /* READDIRPLUS: maxcount, bytes of the whole reply */
                } readdir;
                struct {
                        uint64_t offset; /* COMMIT; count 0 = to the end */
                        uint32_t count;
                } commit;
                struct {
                        const char *caller; /* the node's name, at most NLM_NAME_MAX bytes */
                        const char *owner;  /* with svid: whose lock; at most NLM_OWNER_MAX bytes */
                        uint32_t svid;
                        uint64_t offset;
                        uint64_t length; /* 0: to the end */
                        bool exclusive;
                        bool block, reclaim; /* LOCK; CANCEL: block */
                } lock;
                struct {
                        uint32_t program, version; /* over TCP */
                } getport;
        };
} NfsArgs;

/*
 * Results. Attributes of the object itself (the child, for LOOKUP and the creating procedures) are in
 * attr, those of the directory that was searched or changed in dir (and of RENAME's target directory
 * in dir2); each only if its has_ flag is set. They may be there also when err is set.
 */
typedef struct NfsRes {
        bool has_attr; /* GETATTR LOOKUP ACCESS READLINK READ CREATE.. LINK FSSTAT FSINFO; READDIR: the directory */
        NfsAttr attr;
        NfsWcc wcc;  /* SETATTR WRITE COMMIT: the object; CREATE.. REMOVE RENAME LINK: the directory */
        NfsWcc wcc2; /* RENAME: the target directory */
        bool has_dir_attr;
        NfsAttr dir_attr; /* LOOKUP */
        bool has_fh;
        NfsFh fh; /* LOOKUP; the creating procedures, if the server gave one */
        union {
                struct {
                        uint32_t mask;
                } access;
                struct {
                        const char *target; /* not NUL-terminated; no NUL inside (checked) */
                        uint32_t len;
                } readlink;
                struct {
                        const void *data;
                        uint32_t count; /* checked: <= args.read.count */
                        bool eof;
                } read;
                struct {
                        uint32_t count; /* checked: 1 .. args.write.count */
                        enum NfsStable committed;
                        uint8_t verf[NFS_VERF_SIZE];
                } write; /* COMMIT: verf only */
                struct {
                        uint8_t verf[NFS_VERF_SIZE];
                        bool eof;
                        void *entries; /* walk with nfs_dirent_next() */
                } readdir;
                NfsFsStat fsstat;
                NfsFsInfo fsinfo; /* FSINFO fills its half, PATHCONF the other */
                struct {
                        bool exclusive;
                        uint32_t svid;
                        uint64_t offset;
                        uint64_t length; /* 0: to the end */
                } holder;                /* NLM_TEST that is denied: a lock in the way */
                uint16_t port;           /* PORTMAP_GETPORT; 0: not registered */
        };
} NfsRes;

typedef struct NfsConn NfsConn;
typedef struct NfsCall NfsCall;

struct NfsCall {
        /* the caller's */
        enum NfsProc proc;
        const NfsCred *cred;
        void (*done)(NfsCall *call);
        NfsArgs args;
        /*
         * 0, or the XID under which a former process sent the same call (n_sent then counts from 1). A server that still
         * has its answer gives that again, if the call comes from the same port (NfsConnConfig.source_port).
         */
        uint32_t xid;
        _Atomic uint32_t *xid_note; /* where to put the XID before the call goes out, and whenever it changes; or NULL */

        /*
         * 0, or the positive errno the application should see: the server's status through the one table
         * (nfs_status_errno()), EIO for a reply that made no sense, EIO/ETIMEDOUT for a soft call that
         * ran out of time, EINTR after nfs_call_cancel(), ENOMEM.
         */
        int err;
        uint32_t status; /* nfsstat3 (nlm4_stats) of the reply, 0 when none */
        NfsRes res;

        /* nfs/'s own */
        NfsConn *conn;
        bool xid_given;  /* it was not 0 then */
        uint32_t n_sent; /* > 1: the answer may be of an earlier execution, out of the server's cache of answers */
        uint32_t n_timeouts;
        uint32_t n_delays; /* NFS3ERR_JUKEBOX answers so far */
        uint32_t n_repeats;
        uint64_t repeat_due;                  /* ns; 0: it is not repeated */
        uint64_t ask_due;                     /* ns; 0: it is not asked again */
        uint64_t sent_at, heard_at, deadline; /* ns, monotonic */
        struct NfsFlight *flight;
        int state;
        TAILQ_ENTRY(NfsCall) conn_link;
};

/*
 * Puts the call on the wire, or in the queue of a connection that is not up. Never fails: what goes
 * wrong is told by done(). The reactor's thread. A call that was done may be filled and sent again
 * (set xid to 0 for a new operation; leave it to have the server's duplicate-request cache see the same one).
 */
void nfs_call_send(NfsConn *conn, NfsCall *call);

/* Gives up waiting: done() follows with EINTR, in this turn or the next. Not twice; not after done(). */
void nfs_call_cancel(NfsCall *call);

/*
 * The next entry of a READDIR or READDIRPLUS reply, in ret. Start with *iter = call->res.readdir.entries.
 * 1: ret is filled; 0: no more; -EBADMSG: an entry that cannot be (an empty or too long name, a '/' or
 * NUL in it), the rest must not be used. "." and ".." are passed on as they come. Only inside done().
 */
int nfs_dirent_next(const NfsCall *call, void **iter, NfsDirent *ret);

const char *nfs_proc_name(enum NfsProc proc);

/* The one table: nfsstat3 (RFC 1813 section 2.6) to errno. Unknown ones are EIO. */
int nfs_status_errno(uint32_t status);
/* The same for nlm4_stats, as the kernel's client has it (fs/lockd/clntproc.c). Unknown ones are ENOLCK. */
int nlm_status_errno(uint32_t status);
