/*
 * A fault-injecting server: MOUNT3, NFSv3, NLM version 4 and portmapper version 2 on one TCP port, in a thread of its own.
 *
 * There is no libnfs in it: every byte is written by hand, so that every byte can be made wrong. The file
 * system is a fiction: the root holds f0 .. f<n_files-1> of 1 MiB, whose bytes fakenfs_byte() tells,
 * directories d0 .. d9 (the same again below each), and a symlink l0; what is created gets a handle, and the next
 * f<n>, until something else is. File handles are 16 bytes: "fakenfs", NUL, and the id.
 *
 * Everything here may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct FakeNfs FakeNfs;

enum FakeAction {
        FAKE_NONE,
        FAKE_DELAY,       /* reply after arg ms; others overtake it */
        FAKE_DROP,        /* never reply */
        FAKE_CLOSE,       /* do not execute, close the connection */
        FAKE_CLOSE_AFTER, /* execute, then close without a reply */
        FAKE_PARTIAL,     /* the first arg bytes of the reply, then close */
        FAKE_STATUS,      /* nfsstat3 (mountstat3, nlm4_stats) = arg, not executed */
        FAKE_GARBAGE,     /* a well-framed record, random behind the XID */
        FAKE_BAD_XID,     /* the reply under an XID nobody asked with; the right one never comes */
        FAKE_RAW_LENGTH,  /* the record marker announces arg bytes */
        FAKE_ACCEPT,      /* accept_stat = arg: 1 PROG_UNAVAIL .. 5 SYSTEM_ERR */
        FAKE_DENY,        /* MSG_DENIED, AUTH_ERROR, auth_stat = arg */
        FAKE_LENGTH,      /* a forged length: READ data, READLINK, READDIR* name, MNT flavours; READDIRPLUS:
                             entries; NLM: the cookie, TEST: the holder's owner */
        FAKE_FRAGMENT,    /* the reply in record fragments of arg bytes */
        FAKE_LOOP,        /* READDIRPLUS: a handle length of -40 that leads the decoder back to the entry */
        FAKE_TRICKLE,     /* the first arg bytes of the reply one by one, a millisecond apart */
        FAKE_COUNT,       /* READ, WRITE: transfers arg bytes, whatever was asked */
        FAKE_NAME,        /* READDIR*: the first name: 0 empty, 1 "a/b", 2 256 bytes, 3 a NUL inside; NLM: another cookie */
        FAKE_CALL,        /* a CALL message instead of a reply */
        FAKE_TYPE,        /* attributes: file type = arg */
        FAKE_NO_ATTR,     /* replies without the attributes that are optional */
        FAKE_COOKIES,     /* READDIR*: 0: from 2^63 on, 1: of 32 bits and descending, 2: every name twice. Small replies */
        FAKE_FILE_ID,     /* attributes: another file id in each reply */
        FAKE_ENDLESS,     /* record fragments of arg bytes, none of them the last, as long as they are read */
        FAKE_FLOOD,       /* records of arg bytes under an XID nobody asked with, as long as they are read */
        FAKE_LATE,        /* executes it after arg ms, whatever has become of the connection; no reply */
        FAKE_N_ACTIONS,
};

/* Keys of procedures: NFS 0..21, MOUNT 100.., portmapper 200.., lock manager 300... */
#define FAKE_ANY       (-1)
#define FAKE_MNT       101
#define FAKE_UMNT      103
#define FAKE_GETPORT   203
#define FAKE_NLM(proc) (300 + (proc)) /* 0 NULL, 1 TEST, 2 LOCK, 3 CANCEL, 4 UNLOCK, 23 FREE_ALL */

typedef struct FakeNfsConfig {
        const char *address; /* NULL: 127.0.0.1 */
        uint16_t port;       /* 0: any */
        uint32_t n_files;
        const char *export;                        /* the one path that MNT knows; NULL: every path */
        uint32_t refuse;                           /* MNT status for other paths; 0: NOENT */
        bool require_resvport;                     /* MNT: ACCES from ports >= 1024 */
        uint32_t flavor;                           /* the one security flavour; 0: AUTH_SYS */
        uint16_t mountd_port, nfsd_port, nlm_port; /* what GETPORT says; 0: this one. 1: not registered */
} FakeNfsConfig;

/* NULL with errno. */
FakeNfs *fakenfs_start(const FakeNfsConfig *config);
FakeNfs *fakenfs_stop(FakeNfs *fake);

uint16_t fakenfs_port(const FakeNfs *fake);

/*
 * The fault happens to calls number skip + 1 .. skip + times of a procedure (times 0: to all of them),
 * counted from now. Of several faults that apply the first one added does.
 */
void fakenfs_fault(FakeNfs *fake, int key, enum FakeAction action, uint32_t arg, uint32_t skip, uint32_t times);
void fakenfs_clear(FakeNfs *fake);

/*
 * The lock manager grants what no other owner (svid and owner bytes) holds. In its grace period only what is reclaimed;
 * what is reclaimed without one is refused. Forgetting the locks: as after a reboot.
 */
void fakenfs_set_grace(FakeNfs *fake, bool grace);
void fakenfs_forget_locks(FakeNfs *fake);
/* A lock of another client. length 0: to the end. */
void fakenfs_hold_lock(FakeNfs *fake, uint64_t id, uint32_t svid, bool exclusive, uint64_t offset, uint64_t length);
/* All locks on id, of anybody; at most max. end is inclusive. */
typedef struct FakeLock {
        uint64_t id, start, end;
        uint32_t svid;
        bool exclusive;
        uint8_t owner_len;
        uint8_t owner[64];
        char caller[64];
} FakeLock;
uint32_t fakenfs_locks(FakeNfs *fake, uint64_t id, FakeLock *ret, uint32_t max);

/* The write verifier is another one: as after a reboot. */
void fakenfs_set_verifier(FakeNfs *fake, uint64_t verifier);

/* Handles that were given out are stale: as when another server takes over. */
void fakenfs_replace_handles(FakeNfs *fake);
/* CREATE takes the mode, and no times. */
void fakenfs_ignore_create_times(FakeNfs *fake);
/* Times that are set are rounded down to multiples of ns. */
void fakenfs_set_time_grain(FakeNfs *fake, uint32_t ns);
/* The ctime of id, and of no other, is later: it was changed, or its id was used again. */
void fakenfs_touch(FakeNfs *fake, uint64_t id);

/* The file has two names, as its attributes tell. 0: none has. */
void fakenfs_link(FakeNfs *fake, uint64_t id);

/*
 * An ACL: the mode bits of id say one thing, and the server lets uid have what ACCESS says (RFC 1813: 1 READ, 2 LOOKUP, 4 MODIFY,
 * 8 EXTEND, 16 DELETE, 32 EXECUTE), which READ, WRITE, LOOKUP and READDIR* go by. Who is not named is allowed everything.
 */
void fakenfs_acl(FakeNfs *fake, uint64_t id, uint32_t mode, uint32_t uid, uint32_t access);

/* Closes all connections. This and the next two return when it is done. */
void fakenfs_kick(FakeNfs *fake);

/* Hung: accepts by the kernel only, reads nothing. */
void fakenfs_pause(FakeNfs *fake, bool paused);

/* Off: the listening socket is closed and all connections, so that connecting is refused. On: back again. */
void fakenfs_listen(FakeNfs *fake, bool on);

uint64_t fakenfs_seen(FakeNfs *fake, int key);     /* requests read */
uint64_t fakenfs_executed(FakeNfs *fake, int key); /* of these, executed */
uint64_t fakenfs_accepted(FakeNfs *fake);          /* connections */

/* The requests read, oldest first: key, XID, and the id in the first file handle. At most FAKE_HISTORY. */
#define FAKE_HISTORY 4096
typedef struct FakeRequest {
        int key;
        uint32_t xid;
        uint64_t id;
        uint32_t uid, gid, n_groups;
        uint16_t source_port;
} FakeRequest;
uint32_t fakenfs_history(FakeNfs *fake, FakeRequest *ret, uint32_t max);

/* The file handle of id; 1 is the root, i + 2 is f<i>. 16 bytes. */
void fakenfs_handle(uint64_t id, uint8_t ret[16]);
uint8_t fakenfs_byte(uint64_t id, uint64_t offset);
