/*
 * Telling the kernel that what it has cached is no longer true.
 *
 * Attributes alone (NOTIFY_INVAL_INODE with offset -1) and names take no page locks and are told at once, from the
 * reactor. Pages do: the notification waits for a READ of them that is in flight. A reactor that waited could never
 * answer that READ; and a worker that is killed while one of its threads waits cannot die, so that its successor, who
 * would answer, is not started. So pages are dropped by a process of its own, which may wait as long as it likes: it
 * reads what to drop from a pipe until the worker, the only writer, is gone.
 *
 * Who asked for it (vfs/coherence.c, or who takes a lock) is told through a second pipe, in the order of asking, that they are
 * gone; what did not fit into the pipe is told later. A worker whose notifier was killed cannot know which pages are still there:
 * it ends as well, and its successor begins with a notifier and without trust in any page.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "private.h"

struct Notifier {
        FuseVolume *volume;
        int pipe_fd;   /* struct fuse_notify_inval_inode_out go in here; non-blocking */
        int answer_fd; /* a byte comes back for each; non-blocking */

        /* the first reactor's */
        FdSource answers;
        Reactor *reactor;

        pthread_mutex_t lock;          /* of the rest; inval->done() is called without it */
        TAILQ_HEAD(, VfsInval) invals; /* oldest first; those that have been told before those that have not */
        Task dead_task;                /* the process is gone: nobody waits any longer */
        bool dead;
};

static int inval_inode(int fuse_fd, const struct fuse_notify_inval_inode_out *inval) {
        struct fuse_out_header out = {
                .len = sizeof out + sizeof *inval,
                .error = FUSE_NOTIFY_INVAL_INODE,
        };
        uint8_t message[sizeof out + sizeof *inval];

        memcpy(message, &out, sizeof out);
        memcpy(message + sizeof out, inval, sizeof *inval);
        /* ENOENT: the kernel does not know the node (any more) */
        return write(fuse_fd, message, sizeof message) < 0 ? -errno : 0;
}

static _Noreturn void notifier_run(int pipe_fd, int answer_fd, int fuse_fd) {
        struct fuse_notify_inval_inode_out message;

        (void) prctl(PR_SET_NAME, "nfsvol-notifier");
        for (;;) {
                ssize_t n = read(pipe_fd, &message, sizeof message);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n != sizeof message || inval_inode(fuse_fd, &message) == -ENODEV || write(answer_fd, "", 1) != 1)
                        _exit(0);
        }
}

static void notify_inval_attr(void *userdata, uint64_t nodeid) {
        struct fuse_notify_inval_inode_out message = { .ino = nodeid, .off = -1 };
        struct Notifier *notifier = userdata;

        (void) inval_inode(notifier->volume->memory->fuse_fd[0], &message);
}

/* Under the lock. */
static void invals_tell(struct Notifier *notifier) {
        VfsInval *inval;

        TAILQ_FOREACH(inval, &notifier->invals, inval_link) {
                struct fuse_notify_inval_inode_out message = {
                        .ino = inval->nodeid,
                        .off = (int64_t) inval->offset,
                        .len = (int64_t) inval->size,
                };

                if (inval->told)
                        continue;
                if (write(notifier->pipe_fd, &message, sizeof message) != sizeof message) {
                        if (errno != EAGAIN) {
                                notifier->dead = true;
                                reactor_post(notifier->reactor, &notifier->dead_task);
                        }
                        return;
                }
                inval->told = true;
        }
}

static void notify_inval_pages(void *userdata, VfsInval *inval) {
        struct Notifier *notifier = userdata;

        inval->told = false;
        (void) pthread_mutex_lock(&notifier->lock);
        TAILQ_INSERT_TAIL(&notifier->invals, inval, inval_link);
        if (notifier->dead)
                reactor_post(notifier->reactor, &notifier->dead_task);
        else
                invals_tell(notifier);
        (void) pthread_mutex_unlock(&notifier->lock);
}

/* The first one is done. false: there is none. */
static bool inval_first_done(struct Notifier *notifier) {
        VfsInval *inval;

        (void) pthread_mutex_lock(&notifier->lock);
        inval = TAILQ_FIRST(&notifier->invals);
        if (inval)
                TAILQ_REMOVE(&notifier->invals, inval, inval_link);
        (void) pthread_mutex_unlock(&notifier->lock);
        if (inval)
                inval->done(inval);
        return inval;
}

static void dead_run(Task *task) {
        struct Notifier *notifier = container_of(task, struct Notifier, dead_task);

        while (inval_first_done(notifier))
                continue;
}

/* Then it ends by itself. */
static bool connection_has_ended(const struct Notifier *notifier) {
        struct pollfd pfd = { .fd = notifier->volume->memory->fuse_fd[0] };

        return poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR);
}

static void answers_ready(FdSource *source, uint32_t events) {
        struct Notifier *notifier = container_of(source, struct Notifier, answers);
        char bytes[256];
        ssize_t n = read(source->fd, bytes, sizeof bytes);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
                if (!connection_has_ended(notifier)) {
                        log_error("the process that drops cached pages is gone: the worker ends, too");
                        (void) raise(SIGKILL);
                }
                fd_source_remove(source);
                (void) pthread_mutex_lock(&notifier->lock);
                notifier->dead = true;
                (void) pthread_mutex_unlock(&notifier->lock);
                return dead_run(&notifier->dead_task);
        }
        while (n-- > 0 && inval_first_done(notifier))
                continue;
        (void) pthread_mutex_lock(&notifier->lock);
        invals_tell(notifier);
        (void) pthread_mutex_unlock(&notifier->lock);
}

int notifier_listen(struct Notifier *notifier, Reactor *reactor) {
        notifier->reactor = reactor;
        notifier->answers.ready = answers_ready;
        return fd_source_add(reactor, &notifier->answers, notifier->answer_fd, EPOLLIN);
}

void notifier_unlisten(struct Notifier *notifier) {
        fd_source_remove(&notifier->answers);
}

/* One number in the kernel: every name it holds is asked for again at its next use. Since Linux 6.16. */
static void notify_inval_names(void *userdata) {
        struct Notifier *notifier = userdata;
        struct fuse_out_header out = { .len = sizeof out, .error = FUSE_NOTIFY_INC_EPOCH };

        (void) !write(notifier->volume->memory->fuse_fd[0], &out, sizeof out);
}

int notifier_new(FuseVolume *volume, struct Notifier **ret) {
        struct Notifier *notifier = calloc(1, sizeof *notifier);
        VfsNotify notify = {
                .inval_attr = notify_inval_attr,
                .inval_names = notify_inval_names,
                .inval_pages = notify_inval_pages,
                .userdata = notifier,
        };
        int fds[2], answers[2] = { -1, -1 }, r;
        pid_t pid;

        if (!notifier)
                return -ENOMEM;
        notifier->volume = volume;
        notifier->pipe_fd = notifier->answer_fd = notifier->answers.fd = -1;
        notifier->dead_task.run = dead_run;
        TAILQ_INIT(&notifier->invals);
        (void) pthread_mutex_init(&notifier->lock, NULL);
        if (pipe2(fds, O_CLOEXEC) < 0) {
                free(notifier);
                return -errno;
        }
        pid = pipe2(answers, O_CLOEXEC) < 0 ? -1 : fork();
        r = -errno;
        if (pid == 0) {
                (void) close(fds[1]);
                (void) close(answers[0]);
                notifier_run(fds[0], answers[1], volume->memory->fuse_fd[0]);
        }
        (void) close(fds[0]);
        (void) fd_close(answers[1]);
        notifier->pipe_fd = fds[1];
        notifier->answer_fd = answers[0];
        (void) fcntl(notifier->pipe_fd, F_SETFL, O_NONBLOCK);
        (void) fcntl(notifier->answer_fd, F_SETFL, O_NONBLOCK);
        if (pid < 0) {
                (void) notifier_free(notifier);
                return r;
        }
        vfs_set_notify(volume->vfs, &notify);
        *ret = notifier;
        return 0;
}

struct Notifier *notifier_free(struct Notifier *notifier) {
        if (!notifier)
                return NULL;
        (void) fd_close(notifier->pipe_fd);
        (void) fd_close(notifier->answer_fd);
        (void) pthread_mutex_destroy(&notifier->lock);
        free(notifier);
        return NULL;
}
