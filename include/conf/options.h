/*
 * Mount options: the grammar of nfs(5), text to values. Pure functions, no files, no network.
 *
 * Every option is in one table (src/conf/options.c): name, aliases, kind, range, default, help, and
 * what is done with it: honoured, accepted with a note (it has no effect here, and why), or refused.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/util.h"

enum LocalLock { LOCAL_LOCK_NONE, LOCAL_LOCK_FLOCK, LOCAL_LOCK_POSIX, LOCAL_LOCK_ALL };
enum ScopeMode { SCOPE_AUTO, SCOPE_REQUIRED, SCOPE_NONE };
enum LookupCache { LOOKUP_CACHE_ALL, LOOKUP_CACHE_POSITIVE, LOOKUP_CACHE_NONE };

/* What the shared session does. Two mounts that differ here are two volumes. */
typedef struct SessionOptions {
        uint32_t vers;         /* 3; 0: none asked for */
        uint32_t rsize, wsize; /* bytes; 0: the server's preference, up to 1 MiB */
        bool soft, softerr;    /* neither: hard */
        uint32_t timeo;        /* tenths of a second, nfs(5) */
        uint32_t retrans;
        uint32_t acregmin, acregmax, acdirmin, acdirmax; /* seconds */
        bool noac, nocto, sync;
        enum LookupCache lookupcache;
        enum LocalLock local_lock;
        bool nolock, lock; /* lock: network locks, or no mount; neither: where the server has them */
        bool noresvport;
        uint32_t nconnect; /* 1..16 */
        int family;        /* from proto=: AF_UNSPEC, AF_INET, AF_INET6 */
        uint16_t port, mountport, nlmport;
        char *addr, *mounthost, *mountaddr; /* owned, or NULL */
        bool default_permissions;
        bool idmap; /* and default_permissions with it */
        bool nordirplus;
        bool nosharecache;    /* a volume of its own, not shared with equal ones */
        uint32_t linger;      /* seconds that a volume without users lives on */
        enum ScopeMode scope; /* a systemd scope: where there is systemd, always, never */
        char *slice;          /* owned, or NULL: the scope's slice */
} SessionOptions;

/* What one bind mount does: MOUNT_ATTR_* bits (mount_setattr(2)) and the helper's own business. */
typedef struct MountOptions {
        SessionOptions session;
        uint64_t attr_set, attr_clr; /* ro,nosuid,nodev,noexec,noatime,nodiratime,relatime,strictatime... */
        bool remount, bg, sloppy;
        uint32_t retry; /* minutes; 0: try once */
        char *subdir;   /* owned, or NULL: bind this directory of the export; checked: relative, no ".." */
        char *notes;    /* owned, or NULL: one line for each option that has no effect, for -v and the log */
} MountOptions;

void mount_options_init(MountOptions *options); /* the defaults */
void mount_options_done(MountOptions *options);

/*
 * Parses "a,b=c,,d" on top of what options hold; may be called again for further -o. NULL and "" are
 * fine. On an error returns -EINVAL (-ENOMEM) and *ret_message (owned by the caller) names the option,
 * what is wrong with it, and what is allowed; options are then only good for mount_options_done().
 */
int mount_options_parse(MountOptions *options, const char *text, char **ret_message);

/*
 * The session's part as canonical text: every option that differs from its default, in the table's
 * order; parsing it yields the same session. Equal text = equal session: it is part of the volume's
 * key. Owned by the caller; NULL without memory.
 */
char *session_options_format(const SessionOptions *session);

/* The table for humans: --help and the man page's list. */
void mount_options_help(FILE *out);
