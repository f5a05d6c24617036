/*
 * NFS values without libnfs's types: what nfs/ and vfs/ talk to each other in.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#define NFS_FH_MAX     64 /* RFC 1813, NFS3_FHSIZE */
#define NFS_NAME_MAX   255
#define NFS_GROUPS_MAX 16 /* RFC 5531 appendix A: gids<16> */
#define NFS_VERF_SIZE  8
#define NLM_NAME_MAX   255
#define NLM_OWNER_MAX  255

/* Opaque to us; compared byte by byte. */
typedef struct NfsFh {
        uint32_t len; /* 1 .. NFS_FH_MAX; 0: none */
        uint8_t data[NFS_FH_MAX];
} NfsFh;

static inline bool nfs_fh_equal(const NfsFh *a, const NfsFh *b) {
        return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* RFC 1813 fattr3 in the shapes of struct stat. */
typedef struct NfsAttr {
        mode_t mode; /* S_IFMT bits and permissions */
        uint32_t nlink;
        uid_t uid;
        gid_t gid;
        uint64_t size;
        uint64_t used; /* bytes */
        dev_t rdev;
        uint64_t fsid;
        uint64_t fileid;
        struct timespec atime, mtime, ctime;
} NfsAttr;

/* Weak cache consistency data (RFC 1813 section 2.6): what the server says it was and is. */
typedef struct NfsWcc {
        bool has_before, has_after;
        uint64_t before_size;
        struct timespec before_mtime, before_ctime;
        NfsAttr after;
} NfsWcc;

/* AUTH_SYS: who asks. */
typedef struct NfsCred {
        uid_t uid;
        gid_t gid;
        uint32_t n_groups;
        gid_t groups[NFS_GROUPS_MAX];
} NfsCred;

/* SETATTR and the attributes of CREATE, MKDIR, SYMLINK, MKNOD (sattr3). */
enum NfsSetTime {
        NFS_TIME_OMIT,
        NFS_TIME_SERVER, /* "now" by the server's clock */
        NFS_TIME_CLIENT,
};

typedef struct NfsSetAttr {
        bool set_mode, set_uid, set_gid, set_size;
        enum NfsSetTime set_atime, set_mtime;
        mode_t mode; /* permission bits */
        uid_t uid;
        gid_t gid;
        uint64_t size;
        struct timespec atime, mtime;
} NfsSetAttr;

/* ACCESS bits (RFC 1813 section 3.3.4). */
enum {
        NFS_ACCESS_READ = 0x01,
        NFS_ACCESS_LOOKUP = 0x02,
        NFS_ACCESS_MODIFY = 0x04,
        NFS_ACCESS_EXTEND = 0x08,
        NFS_ACCESS_DELETE = 0x10,
        NFS_ACCESS_EXECUTE = 0x20,
        NFS_ACCESS_ALL = 0x3f,
};

enum NfsStable { NFS_UNSTABLE = 0, NFS_DATA_SYNC = 1, NFS_FILE_SYNC = 2 };
enum NfsCreateMode { NFS_CREATE_UNCHECKED = 0, NFS_CREATE_GUARDED = 1, NFS_CREATE_EXCLUSIVE = 2 };

/* FSSTAT. Bytes and files. */
typedef struct NfsFsStat {
        uint64_t total_bytes, free_bytes, avail_bytes;
        uint64_t total_files, free_files, avail_files;
} NfsFsStat;

/* FSINFO and PATHCONF, checked: sizes are never 0 and never above what libnfs can carry (1 MiB). */
typedef struct NfsFsInfo {
        uint32_t rtmax, rtpref, wtmax, wtpref, dtpref;
        uint64_t max_file_size;
        bool has_link, has_symlink, cansettime, homogeneous;
        uint32_t link_max, name_max;
        bool no_trunc, chown_restricted, case_insensitive, case_preserving;
} NfsFsInfo;

typedef struct NfsAddr {
        struct sockaddr_storage addr; /* the port in it is not used */
        socklen_t len;
} NfsAddr;

#define NFS_ADDRS_MAX 16

#define NFS_ADDR_TEXT_MAX 64 /* bytes: an IPv6 address and its scope */
/* Numeric, without port. 0 or -EINVAL. */
int nfs_addr_format(const NfsAddr *addr, char *buf, size_t size);
