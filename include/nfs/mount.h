/*
 * What happens once, before a volume exists: resolve the name, find the ports, MOUNT3 MNT, and ask the
 * server for what it can do. Blocking, with bounds; for a short-lived process or thread of its own,
 * never for a reactor that serves.
 */
#pragma once

#include "base/util.h"
#include "nfs/types.h"

/* Is the server's lock manager (NLM version 4) looked for, and is it an error if there is none? */
enum NfsLockManager { NFS_NLM_UNUSED, NFS_NLM_WANTED, NFS_NLM_REQUIRED };

typedef struct NfsMountConfig {
        const char *host;      /* name or address as the user gave it, without brackets */
        const char *path;      /* absolute */
        const char *addr;      /* option addr=: use this address and do not resolve host; or NULL */
        const char *mounthost; /* options mounthost=, mountaddr=: where mountd is; or NULL */
        const char *mountaddr;
        uint16_t port;      /* of nfsd; 0: 2049 unless the portmapper says otherwise (nfs(5) port=) */
        uint16_t mountport; /* of mountd; 0: ask the portmapper */
        enum NfsLockManager nlm;
        uint16_t nlmport; /* of the lock manager; 0: ask the portmapper */
        int family;       /* AF_UNSPEC, AF_INET (proto=tcp), AF_INET6 (proto=tcp6) */
        bool resvport;
        const NfsCred *cred; /* for GETATTR of the root */
        uint32_t timeout_ms; /* for all of it: every address, every step */
} NfsMountConfig;

/* Why it failed, in the classes a user can act on. The numbers are used between processes only. */
enum NfsMountError {
        NFS_MOUNT_OK,
        NFS_MOUNT_UNKNOWN_HOST,
        NFS_MOUNT_REFUSED,  /* connection refused */
        NFS_MOUNT_NO_ROUTE, /* host or network unreachable */
        NFS_MOUNT_TIMEOUT,
        NFS_MOUNT_NO_PORTMAP,  /* nothing answers at port 111: mountport=/port= would do without */
        NFS_MOUNT_NO_PROGRAM,  /* the portmapper knows no mountd or nfsd (for v3 over TCP) */
        NFS_MOUNT_VERSION,     /* program there, version 3 not */
        NFS_MOUNT_NO_EXPORT,   /* MNT3ERR_NOENT, NOTDIR */
        NFS_MOUNT_DENIED,      /* MNT3ERR_ACCES, PERM; source port was fine or did not matter */
        NFS_MOUNT_DENIED_PORT, /* the same from a source port >= 1024 */
        NFS_MOUNT_SECURITY,    /* the export offers no AUTH_SYS */
        NFS_MOUNT_PROTOCOL,    /* the server's answers make no sense */
        NFS_MOUNT_NO_LOCKS,    /* required, and not there */
        NFS_MOUNT_INTERNAL,
};

typedef struct NfsMountResult {
        NfsAddr addrs[NFS_ADDRS_MAX]; /* every address of host; the one that worked is first */
        uint32_t n_addrs;
        uint16_t port, mountport;
        uint16_t nlmport; /* where the lock manager answered; 0: not looked for, or none */
        bool nlm_silent;  /* it may have one: nothing answered */
        NfsFh root;
        NfsAttr root_attr;
        NfsFsInfo info;
        uint64_t rtt_ns; /* the fastest answer it gave */
        /*
         * The export that MNT accepted: path itself or, when the server refused path with NOENT, NOTDIR
         * or ACCES, the nearest of its parents that it does export and below which path can be looked up.
         * root and root_attr are then the parent's, and path + strlen(export) is what is to be bound.
         */
        char export[4096];
} NfsMountResult;

/* To keep in flight to a server that is so far away: 256 MB/s, within these bounds. */
static inline uint64_t nfs_bytes_in_flight(const NfsMountResult *mount, uint64_t min, uint64_t max) {
        uint64_t bytes = MIN(mount->rtt_ns / 1000 * 256, max);

        return MAX(min, bytes);
}

/*
 * NFS_MOUNT_OK: ret is filled. Else ret is untouched and message (size bytes) holds one line: what
 * failed, where, and what to do about it; without "host:/path: " in front.
 */
enum NfsMountError nfs_export_mount(const NfsMountConfig *config, NfsMountResult *ret, char *message,
                                    size_t size); /* nfs_mount() is libnfs's */

/*
 * Tells the lock manager at addr that this node, which it knows as caller, has been restarted: it frees all that it holds for it
 * (NLM_FREE_ALL, XNFS chapter 14). nlmport: where it was; if it is not there, the portmapper is asked. 0 or negative errno:
 * -EREMOTEIO: it does not know how to; others: if *ret_sent, it may have done it, or do it yet.
 */
int nfs_locks_free(const NfsMountConfig *config, const NfsAddr *addr, uint16_t nlmport, const char *caller, uint32_t timeout_ms,
                   bool *ret_sent);

/* MOUNT3 UMNT, best effort (RFC 1813: advisory), at most timeout_ms. */
void nfs_export_umount(const NfsMountConfig *config, uint32_t timeout_ms);
