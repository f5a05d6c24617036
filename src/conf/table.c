/*
 * The option table: data, in the order in which people look for it, and in which the canonical text of a
 * session lists what differs from the default. Changing that order changes volume ids; nothing else.
 */
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "table.h"

#define FIELD(f)    offsetof(MountOptions, f)
#define SESSION(f)  offsetof(MountOptions, session.f)
#define SECONDS_MAX INT32_MAX

_Static_assert(offsetof(MountOptions, session) == 0, "format.c tells the session's fields by their offset");
_Static_assert(sizeof(enum LookupCache) == sizeof(int) && sizeof(enum LocalLock) == sizeof(int),
               "ENUM fields are written as int");

/* clang-format off */
#define HEADING(text)            { .name = NULL, .help = text }
#define FLAG(n, f, v, g, h)      { .name = n, .kind = OPTION_FLAG, .group = g, .offset = f, .on = v, .help = h }
#define UINT(n, f, lo, hi, d, a, h)                                                                          \
        { .name = n, .kind = OPTION_UINT, .offset = f, .min = lo, .max = hi, .def = d, .arg = a, .help = h }
#define PORT(n, f, h)                                                                                        \
        { .name = n, .kind = OPTION_PORT, .offset = f, .max = UINT16_MAX, .arg = "PORT", .help = h }
#define ATTR(n, s, c, g, h)                                                                                  \
        { .name = n, .kind = OPTION_ATTR, .group = g, .attr_set = s, .attr_clr = c, .help = h }
#define ATTR_PAIR(yes, no, bit, hy, hn) ATTR(yes, 0, bit, yes, hy), ATTR(no, bit, bit, yes, hn)
#define IGNORED(n, a, h)                                                                                     \
        { .name = n, .aliases = a, .kind = OPTION_ANY, .use = OPTION_IGNORED, .help = h }
#define NOTED(n, k, a, w, h)     { .name = n, .kind = k, .use = OPTION_NOTED, .arg = a, .note = w, .help = h }
#define REFUSED(n, al, w, h)                                                                                 \
        { .name = n, .aliases = al, .kind = OPTION_ANY, .use = OPTION_REFUSED, .note = w, .help = h }
/* clang-format on */

static const OptionWord lookupcache_words[] = {
        { "all", LOOKUP_CACHE_ALL },
        { "none", LOOKUP_CACHE_NONE },
        { "positive", LOOKUP_CACHE_POSITIVE },
        { "pos", LOOKUP_CACHE_POSITIVE },
        { NULL },
};

static const OptionWord local_lock_words[] = {
        { "none", LOCAL_LOCK_NONE },
        { "flock", LOCAL_LOCK_FLOCK },
        { "posix", LOCAL_LOCK_POSIX },
        { "all", LOCAL_LOCK_ALL },
        { NULL },
};

/* clang-format off */
const OptionDef option_table[] = {
        HEADING("Protocol and server"),
        { .name = "vers", .aliases = "nfsvers", .kind = OPTION_STRING, .offset = SESSION(vers),
          .set = option_set_vers, .arg = "3", .help = "NFS version; only 3 for now" },
        { .name = "v3", .kind = OPTION_WORD, .group = "vers", .set = option_set_vers, .help = "vers=3" },
        { .name = "v2", .kind = OPTION_WORD, .group = "vers", .set = option_set_vers, .help = "refused" },
        { .name = "v4", .kind = OPTION_WORD, .group = "vers", .set = option_set_vers, .help = "refused" },
        { .name = "v4.0", .kind = OPTION_WORD, .group = "vers", .set = option_set_vers, .help = "refused" },
        { .name = "v4.1", .kind = OPTION_WORD, .group = "vers", .set = option_set_vers, .help = "refused" },
        { .name = "v4.2", .kind = OPTION_WORD, .group = "vers", .set = option_set_vers, .help = "refused" },
        { .name = "nfs4", .kind = OPTION_WORD, .group = "vers", .set = option_set_vers, .help = "refused" },
        REFUSED("minorversion", NULL, "it belongs to NFS version 4; use vers=3", "NFSv4 only"),
        { .name = "proto", .kind = OPTION_STRING, .offset = SESSION(family), .set = option_set_proto,
          .arg = "tcp|tcp6", .help = "tcp: IPv4 only, tcp6: IPv6 only; all addresses are tried otherwise" },
        { .name = "tcp", .kind = OPTION_WORD, .help = "TCP, which is always used" },
        REFUSED("udp", NULL, "only TCP is; leave it out", "refused"),
        REFUSED("rdma", NULL, "only TCP is; leave it out", "refused"),
        PORT("port", SESSION(port), "the server's NFS port; 0: ask its portmapper"),
        PORT("mountport", SESSION(mountport), "the server's mountd port; 0: ask its portmapper"),
        { .name = "mountproto", .kind = OPTION_STRING, .set = option_set_mountproto, .arg = "tcp|tcp6",
          .help = "protocol for mountd, always TCP" },
        { .name = "mountvers", .kind = OPTION_STRING, .set = option_set_mountvers, .arg = "3",
          .help = "version of mountd's protocol, always 3" },
        { .name = "mounthost", .kind = OPTION_STRING, .offset = SESSION(mounthost), .set = option_set_host,
          .arg = "HOST", .help = "host that runs mountd, if not the server itself" },
        { .name = "mountaddr", .kind = OPTION_STRING, .offset = SESSION(mountaddr),
          .set = option_set_address, .arg = "ADDRESS",
          .help = "address of mounthost, instead of resolving it" },
        { .name = "addr", .kind = OPTION_STRING, .offset = SESSION(addr), .set = option_set_address,
          .arg = "ADDRESS", .help = "address of the server, instead of resolving its name" },
        FLAG("resvport", SESSION(noresvport), false, "resvport", "use a source port below 1024 (default)"),
        FLAG("noresvport", SESSION(noresvport), true, "resvport", "use any source port"),
        UINT("nconnect", SESSION(nconnect), 1, 16, 1, "N", "connections to the server"),
        NOTED("max_connect", OPTION_STRING, "N", "no effect, it belongs to NFS version 4.1", "no effect"),
        { .name = "sec", .kind = OPTION_STRING, .set = option_set_sec, .arg = "sys",
          .help = "security flavour; only sys (user and group numbers)" },
        { .name = "xprtsec", .kind = OPTION_STRING, .set = option_set_xprtsec, .arg = "none",
          .help = "transport security; only none" },
        NOTED("clientaddr", OPTION_STRING, "ADDRESS", "no effect, it belongs to NFS version 4", "no effect"),
        NOTED("migration", OPTION_WORD, NULL, "no effect, it belongs to NFS version 4", "no effect"),
        IGNORED("nomigration", NULL, "what is done anyway"),
        NOTED("trunkdiscovery", OPTION_WORD, NULL, "no effect, it belongs to NFS version 4.1", "no effect"),
        IGNORED("notrunkdiscovery", NULL, "what is done anyway"),

        HEADING("Time-outs and errors"),
        { .name = "hard", .kind = OPTION_FLAG, .group = "hard", .offset = SESSION(soft), .on = false,
          .set = option_set_soft, .help = "wait for the server as long as it takes (default)" },
        { .name = "soft", .kind = OPTION_FLAG, .group = "hard", .offset = SESSION(soft), .on = true,
          .set = option_set_soft, .help = "EIO to the application after retrans retries of timeo" },
        { .name = "softerr", .kind = OPTION_FLAG, .group = "hard", .offset = SESSION(softerr), .on = true,
          .set = option_set_soft, .help = "as soft, with ETIMEDOUT" },
        { .name = "timeo", .kind = OPTION_UINT, .offset = SESSION(timeo), .min = 1, .max = INT32_MAX,
          .def = 600, .set = option_set_timeo, .arg = "TENTHS",
          .help = "wait before a retry, in tenths of a second" },
        UINT("retrans", SESSION(retrans), 0, INT32_MAX, 2, "N", "retries before soft gives up"),
        NOTED("softreval", OPTION_WORD, NULL, "no effect", "no effect"),
        IGNORED("nosoftreval", NULL, "what is done anyway"),
        NOTED("fatal_neterrors", OPTION_STRING, "WORD", "no effect", "no effect"),
        NOTED("intr", OPTION_WORD, NULL,
              "no effect, as in Linux since 2.6.25: a killed process always gets out", "no effect"),
        NOTED("nointr", OPTION_WORD, NULL,
              "no effect, as in Linux since 2.6.25: a killed process always gets out", "no effect"),
        UINT("retry", FIELD(retry), 0, 10000000, 0, "MINUTES",
             "how long mount tries again when the server cannot be reached; default: once, with bg 10000"),
        FLAG("fg", FIELD(bg), false, "bg", "try in the foreground (default)"),
        FLAG("bg", FIELD(bg), true, "bg", "if the first attempt fails, go on trying in the background"),

        HEADING("Reading, writing, caching"),
        { .name = "rsize", .kind = OPTION_UINT, .offset = SESSION(rsize), .max = INT32_MAX,
          .set = option_set_size, .arg = "BYTES",
          .help = "most bytes in one READ; 0: the server's preference; at most 1048576" },
        { .name = "wsize", .kind = OPTION_UINT, .offset = SESSION(wsize), .max = INT32_MAX,
          .set = option_set_size, .arg = "BYTES",
          .help = "most bytes in one WRITE; 0: the server's preference; at most 1048576" },
        UINT("acregmin", SESSION(acregmin), 0, SECONDS_MAX, 3, "SECONDS",
             "attributes of files are cached at least so long"),
        UINT("acregmax", SESSION(acregmax), 0, SECONDS_MAX, 60, "SECONDS", "... and at most so long"),
        UINT("acdirmin", SESSION(acdirmin), 0, SECONDS_MAX, 30, "SECONDS",
             "attributes of directories are cached at least so long"),
        UINT("acdirmax", SESSION(acdirmax), 0, SECONDS_MAX, 60, "SECONDS", "... and at most so long"),
        { .name = "actimeo", .kind = OPTION_STRING, .max = SECONDS_MAX, .set = option_set_actimeo,
          .arg = "SECONDS", .help = "sets the four above" },
        { .name = "ac", .kind = OPTION_FLAG, .group = "ac", .offset = SESSION(noac), .on = false,
          .set = option_set_ac, .help = "cache attributes (default)" },
        FLAG("noac", SESSION(noac), true, "ac", "do not: actimeo=0 and sync"),
        FLAG("cto", SESSION(nocto), false, "cto", "close-to-open consistency (default)"),
        FLAG("nocto", SESSION(nocto), true, "cto", "do not ask for attributes at each open"),
        { .name = "lookupcache", .kind = OPTION_ENUM, .offset = SESSION(lookupcache),
          .def = LOOKUP_CACHE_ALL, .words = lookupcache_words, .arg = "all|none|positive",
          .help = "what is remembered of names" },
        { .name = "rdirplus", .kind = OPTION_ANY, .group = "rdirplus", .offset = SESSION(nordirplus),
          .set = option_set_rdirplus, .help = "read directories with READDIRPLUS where it helps (default)" },
        FLAG("nordirplus", SESSION(nordirplus), true, "rdirplus", "never use READDIRPLUS"),
        FLAG("sync", SESSION(sync), true, "sync", "write(2) returns when the server has the data on disk"),
        FLAG("async", SESSION(sync), false, "sync", "close(2) and fsync(2) do (default)"),
        FLAG("sharecache", SESSION(nosharecache), false, "sharecache",
             "mounts with the same options share a volume (default)"),
        FLAG("nosharecache", SESSION(nosharecache), true, "sharecache", "a volume of its own"),
        FLAG("default_permissions", SESSION(default_permissions), true, NULL,
             "the kernel checks mode bits, instead of the server"),
        FLAG("idmap", SESSION(idmap), true, NULL,
             "mounts of it may be idmapped: the kernel checks mode bits, and the server is asked as root (Linux 6.12)"),
        NOTED("fsc", OPTION_ANY, NULL, "no effect, there is no FS-Cache here", "no effect"),
        IGNORED("nofsc", NULL, "what is done anyway"),
        NOTED("acl", OPTION_WORD, NULL, "no effect, NFSACL is not supported by this version", "no effect"),
        IGNORED("noacl", NULL, "what is done anyway"),
        NOTED("write", OPTION_STRING, "lazy|eager|wait", "no effect", "no effect"),
        NOTED("namlen", OPTION_STRING, "N", "no effect, the server says how long names may be", "no effect"),
        NOTED("posix", OPTION_WORD, NULL, "no effect, the server is asked in any case", "no effect"),
        REFUSED("writeback", NULL, "not by this version", "refused"),

        HEADING("Locks"),
        { .name = "lock", .kind = OPTION_FLAG, .group = "lock", .offset = SESSION(lock), .on = true,
          .set = option_set_lock,
          .help = "locks are the server's (NLM), and without it there is no mount; default: the server's if it has NLM" },
        { .name = "nolock", .kind = OPTION_FLAG, .group = "lock", .offset = SESSION(nolock), .on = true,
          .set = option_set_lock, .help = "locks are local to this node" },
        { .name = "local_lock", .kind = OPTION_ENUM, .offset = SESSION(local_lock), .def = LOCAL_LOCK_NONE,
          .words = local_lock_words, .arg = "all|flock|posix|none",
          .help = "which locks are local to this node, of fcntl(2) (posix) and flock(2)" },
        PORT("nlmport", SESSION(nlmport), "the port of the server's lock manager (NLM); 0: ask its portmapper"),

        HEADING("This mount"),
        { .name = "subdir", .kind = OPTION_STRING, .set = option_set_subdir, .arg = "PATH",
          .help = "mount this directory of the export" },
        UINT("linger", SESSION(linger), 0, 86400, 10, "SECONDS",
             "how long a volume outlives its last mount"),
        { .name = "scope", .kind = OPTION_ANY, .group = "scope", .offset = SESSION(scope),
          .set = option_set_scope, .arg = "required",
          .help = "the daemon runs in a systemd scope of its own (default where systemd runs); required: or not at all" },
        { .name = "noscope", .kind = OPTION_WORD, .group = "scope", .set = option_set_scope,
          .help = "it stays in the caller's cgroup, and may be killed with it" },
        { .name = "slice", .kind = OPTION_STRING, .offset = SESSION(slice), .set = option_set_slice,
          .arg = "NAME.slice", .help = "the scope's slice" },
        ATTR_PAIR("rw", "ro", MOUNT_ATTR_RDONLY, "read and write (default)", "read only"),
        ATTR_PAIR("suid", "nosuid", MOUNT_ATTR_NOSUID, "honour set-user-ID bits (default)", "do not"),
        ATTR_PAIR("dev", "nodev", MOUNT_ATTR_NODEV, "device files work, for everybody who finds them", "they do not (default)"),
        ATTR_PAIR("exec", "noexec", MOUNT_ATTR_NOEXEC, "programs can be executed (default)", "they cannot"),
        { .name = "atime", .kind = OPTION_ATTR, .group = "atime", .attr_clr = MOUNT_ATTR_NOATIME,
          .set = option_set_atime, .help = "takes noatime back" },
        ATTR("noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, "atime",
             "access times: the server's business in any case"),
        ATTR("relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME, "atime", "the kernel's default"),
        IGNORED("norelatime", NULL, "no effect"),
        ATTR("strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, "atime", "as mount(8) says"),
        { .name = "nostrictatime", .kind = OPTION_ATTR, .group = "atime", .attr_clr = MOUNT_ATTR_STRICTATIME,
          .set = option_set_atime, .help = "takes strictatime back" },
        ATTR_PAIR("diratime", "nodiratime", MOUNT_ATTR_NODIRATIME, "takes nodiratime back",
                  "as noatime, for directories"),
        ATTR_PAIR("symfollow", "nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, "follow symbolic links (default)",
                  "do not"),
        FLAG("remount", FIELD(remount), true, NULL,
             "change the flags of a mount (ro, nosuid...); other options stay"),
        FLAG("sloppy", FIELD(sloppy), true, NULL, "ignore unknown options, as -s"),

        HEADING("Accepted for others, without effect here"),
        IGNORED("defaults", NULL, "the defaults"),
        IGNORED("auto", "noauto", "for fstab"),
        IGNORED("nofail", NULL, "for fstab"),
        IGNORED("user", "nouser users nousers", "for fstab"),
        IGNORED("owner", "noowner group nogroup", "for fstab"),
        IGNORED("_netdev", NULL, "for fstab and systemd"),
        IGNORED("comment", NULL, "a comment, as x-ANYTHING"),
        IGNORED("silent", "loud", "for the kernel's log"),
        IGNORED("dirsync", NULL, "directories are always changed synchronously"),
        IGNORED("nolazytime", NULL, "what is done anyway"),
        NOTED("lazytime", OPTION_WORD, NULL, "no effect, the server keeps the times", "no effect"),
        NOTED("iversion", OPTION_WORD, NULL, "no effect", "no effect"),
        IGNORED("noiversion", NULL, "what is done anyway"),
        NOTED("mand", OPTION_WORD, NULL, "no effect, Linux has no mandatory locks any more", "no effect"),
        IGNORED("nomand", NULL, "what is done anyway"),
        NOTED("context", OPTION_ANY, "LABEL", "no effect, SELinux labels are not supported by this version",
              "no effect"),
        NOTED("fscontext", OPTION_ANY, "LABEL",
              "no effect, SELinux labels are not supported by this version", "no effect"),
        NOTED("defcontext", OPTION_ANY, "LABEL",
              "no effect, SELinux labels are not supported by this version", "no effect"),
        NOTED("rootcontext", OPTION_ANY, "LABEL",
              "no effect, SELinux labels are not supported by this version", "no effect"),
        IGNORED("fsname", "subtype", "FUSE's, from mount -t fuse"),
        IGNORED("user_id", "group_id allow_other max_read blksize rootmode fd",
                "FUSE's, which come back in a remount"),
        REFUSED("bind", "rbind move",
                "that is between mount(8) and the kernel; leave the file system type out", "refused"),
};
/* clang-format on */

const size_t n_option_table = ELEMENTSOF(option_table);
