/*
 * What is not as on a local directory, each with its reason: whose doing it is, and the words in mount.fuse.nfs(8), "DIFFERENCES
 * FROM A LOCAL FILE SYSTEM", that tell of it. Those of FUSE are ours: the kernel's own NFS client does not have them.
 */
#include "cases.h"

#define PROTOCOL "protocol"
#define SERVER   "server"
#define OURS     "ours"

const Difference differences[] = {
        { "access_twenty_groups", PROTOCOL, "AUTH_SYS carries sixteen groups", "more than sixteen supplementary groups" },
        { "errno_connect_EACCES_socket_of_other", OURS, "FUSE asks nobody who may connect", "a socket", .gives = ECONNREFUSED },
        { "errno_epoll_ctl_EPERM_file", OURS, "FUSE has a poll operation for files", "takes files" },
        { "errno_getxattr_ENODATA_absent", PROTOCOL, "EOPNOTSUPP: NFSv3 has none", "extended attributes", .gives = EOPNOTSUPP },
        { "errno_inotify_add_watch_EACCES_directory_of_other", OURS, "FUSE asks nobody who may watch", "may watch" },
        { "errno_inotify_add_watch_EACCES_file_of_other", OURS, "FUSE asks nobody who may watch", "may watch" },
        { "errno_open_EACCES_read_fifo_of_other", OURS, "FUSE asks nobody who may open a fifo", "name of a fifo" },
        { "errno_open_EACCES_write_fifo_of_other", OURS, "FUSE asks nobody who may open a fifo", "name of a fifo" },
        { "errno_open_tmpfile_EACCES_directory_of_other", PROTOCOL, "EOPNOTSUPP: NFSv3 has no files without a name", "O_TMPFILE",
          .gives = EOPNOTSUPP },
        { "errno_removexattr_ENODATA_absent", PROTOCOL, "EOPNOTSUPP: NFSv3 has none", "extended attributes",
          .gives = EOPNOTSUPP },
        { "errno_setxattr_ENODATA_replaces_absent", PROTOCOL, "EOPNOTSUPP: NFSv3 has none", "extended attributes",
          .gives = EOPNOTSUPP },
        { "fallocate", PROTOCOL, "EOPNOTSUPP: NFSv3 has no such call", "fallocate" },
        { "open_tmpfile", PROTOCOL, "EOPNOTSUPP: NFSv3 has no files without a name", "O_TMPFILE" },
        { "rename_exchange", PROTOCOL, "EINVAL: NFSv3 has no such call", "RENAME_EXCHANGE" },
        { "rename_over_is_atomic", PROTOCOL, "ESTALE if the name is renamed over again and again", "may give ESTALE",
          .sometimes = true },
        { "setid_bits_go_at_once", SERVER, "who may write and is not the owner cuts a file: ganesha leaves them", "set-user-ID" },
        { "unlinked_goes_at_close", PROTOCOL, "until then the directory holds a .nfs name and is not empty",
          "until the last close" },
        { "unlinked_stays_usable", PROTOCOL, "its nlink is 1, not 0: it has become a .nfs name", "its link count stays 1" },
        { "utimens_beyond_32_bits", PROTOCOL, "NFSv3 has 1970 to 2106; others become the nearest", "1970 to 2106" },
        { "utimens_explicit", SERVER, "ganesha accepts the times of a symlink and does not keep them",
          "times of a symbolic link" },
        { "write_takes_setuid_away", SERVER, "who may write and is not the owner cuts a file: ganesha leaves them",
          "set-user-ID" },
        { "xattr", PROTOCOL, "EOPNOTSUPP: NFSv3 has none", "extended attributes" },
        { 0 },
};
