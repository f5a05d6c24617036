/*
 * Binding a volume on a target, and changing a mount's flags.
 *
 * The bind is made detached (open_tree), gets its flags and its propagation while nobody can see it
 * (mount_setattr), and then appears at the target in one step (move_mount): there is no instant at which
 * a pod sees a writable mount that should be read-only. source and target are held by descriptor, so
 * that a target that is removed or replaced meanwhile makes move_mount fail instead of mounting
 * elsewhere; nothing is ever created at the target.
 *
 * Resolving a subdirectory asks the volume's daemon, and so may take as long as its server: a caller who
 * must not hang does it in a process that he can leave behind.
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "sys/mounts.h"

static int openat2_(int dir_fd, const char *path, const struct open_how *how) {
        return (int) syscall(SYS_openat2, dir_fd, path, how, sizeof *how);
}

static int subdir_open(int dir_fd, const char *subdir) {
        const struct open_how how = {
                .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
        };
        int fd;

        /* -EAGAIN: something was renamed while ".." of a symbolic link was followed. */
        do
                fd = openat2_(dir_fd, subdir, &how);
        while (fd < 0 && (errno == EAGAIN || errno == EINTR));
        return fd < 0 ? -errno : fd;
}

int mount_bind(const char *dir, const char *subdir, const char *target, uint64_t attr_set, uint64_t attr_clr,
               const char **ret_step) {
        /*
         * Private: in the shared volume's peer group, what a user mounts inside of his bind would appear
         * in everybody else's. Where the target is shared, move_mount makes a group of its own for it.
         */
        struct mount_attr attr = { .attr_set = attr_set, .attr_clr = attr_clr, .propagation = MS_PRIVATE };
        _cleanup_(fd_closep) int target_fd = -1, dir_fd = -1, tree_fd = -1;

        *ret_step = "open the target";
        target_fd = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (target_fd < 0)
                return -errno;
        *ret_step = "open the volume";
        dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return -errno;
        if (subdir && *subdir) {
                int fd;

                *ret_step = "open the subdirectory";
                fd = subdir_open(dir_fd, subdir);
                if (fd < 0)
                        return fd;
                (void) fd_close(dir_fd);
                dir_fd = fd;
        }
        *ret_step = "open_tree";
        tree_fd = open_tree(dir_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
        if (tree_fd < 0)
                return -errno;
        *ret_step = "mount_setattr";
        if (mount_setattr(tree_fd, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
                return -errno;
        *ret_step = "move_mount";
        if (move_mount(tree_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
                return -errno;
        return 0;
}

int mount_change(const char *target, uint64_t attr_set, uint64_t attr_clr) {
        struct mount_attr attr = { .attr_set = attr_set, .attr_clr = attr_clr };

        if (attr_set == 0 && attr_clr == 0)
                return 0;
        return mount_setattr(AT_FDCWD, target, AT_SYMLINK_NOFOLLOW, &attr, sizeof attr) < 0 ? -errno : 0;
}
