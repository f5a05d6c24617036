/*
 * Telling the kernel that what it has cached is no longer true.
 *
 * Attributes alone (NOTIFY_INVAL_INODE with offset -1) and names take no page locks and are told at once, from the
 * reactor. Pages do: the notification waits for a READ of them that is in flight. A reactor that waited could never
 * answer that READ; and a worker that is killed while one of its threads waits cannot die, so that its successor, who
 * would answer, is not started. So pages are dropped by a process of its own, which may wait as long as it likes: it
 * reads node ids from a pipe until the worker, the only writer, is gone.
 *
 * If the pipe is full or the process gone, a file's pages are dropped at its next open instead, which checks anyway
 * (vfs/cache.c).
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "private.h"

struct Notifier {
        FuseVolume *volume;
        int pipe_fd; /* node ids go in here; non-blocking */
};

static int inval_inode(int fuse_fd, uint64_t nodeid, int64_t offset) {
        struct fuse_notify_inval_inode_out inval = { .ino = nodeid, .off = offset, .len = 0 };
        struct fuse_out_header out = {
                .len = sizeof out + sizeof inval,
                .error = FUSE_NOTIFY_INVAL_INODE,
        };
        uint8_t message[sizeof out + sizeof inval];

        memcpy(message, &out, sizeof out);
        memcpy(message + sizeof out, &inval, sizeof inval);
        /* ENOENT: the kernel does not know the node (any more) */
        return write(fuse_fd, message, sizeof message) < 0 ? -errno : 0;
}

static _Noreturn void notifier_run(int pipe_fd, int fuse_fd) {
        uint64_t nodeid;

        (void) prctl(PR_SET_NAME, "nfsvol-notifier");
        for (;;) {
                ssize_t n = read(pipe_fd, &nodeid, sizeof nodeid);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n != sizeof nodeid || inval_inode(fuse_fd, nodeid, 0) == -ENODEV)
                        _exit(0);
        }
}

static void notify_inval(void *userdata, uint64_t nodeid, bool data) {
        struct Notifier *notifier = userdata;

        if (data) /* eight bytes: all or nothing (PIPE_BUF) */
                (void) !write(notifier->pipe_fd, &nodeid, sizeof nodeid);
        else
                (void) inval_inode(notifier->volume->memory->fuse_fd[0], nodeid, -1);
}

/* One number in the kernel: every name it holds is asked for again at its next use. Since Linux 6.16. */
static void notify_inval_names(void *userdata) {
        struct Notifier *notifier = userdata;
        struct fuse_out_header out = { .len = sizeof out, .error = FUSE_NOTIFY_INC_EPOCH };

        (void) !write(notifier->volume->memory->fuse_fd[0], &out, sizeof out);
}

int notifier_new(FuseVolume *volume, struct Notifier **ret) {
        struct Notifier *notifier = calloc(1, sizeof *notifier);
        VfsNotify notify = { .inval_inode = notify_inval, .inval_names = notify_inval_names, .userdata = notifier };
        int fds[2];
        pid_t pid;

        if (!notifier)
                return -ENOMEM;
        notifier->volume = volume;
        if (pipe2(fds, O_CLOEXEC) < 0) {
                free(notifier);
                return -errno;
        }
        pid = fork();
        if (pid == 0) {
                (void) close(fds[1]);
                notifier_run(fds[0], volume->memory->fuse_fd[0]);
        }
        (void) close(fds[0]);
        notifier->pipe_fd = fds[1];
        (void) fcntl(notifier->pipe_fd, F_SETFL, O_NONBLOCK);
        if (pid < 0) {
                (void) notifier_free(notifier);
                return -errno;
        }
        vfs_set_notify(volume->vfs, &notify);
        *ret = notifier;
        return 0;
}

struct Notifier *notifier_free(struct Notifier *notifier) {
        if (!notifier)
                return NULL;
        (void) close(notifier->pipe_fd);
        free(notifier);
        return NULL;
}
