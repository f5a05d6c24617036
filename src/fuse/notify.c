/*
 * Telling the kernel that what it has cached is no longer true.
 *
 * Attributes alone (NOTIFY_INVAL_INODE with offset -1) take no page locks and are told at once, from the
 * reactor. Pages do: the notification waits for a READ of them that is in flight, which a reactor that
 * waited could never answer. So pages are dropped by a thread of their own, from a queue; if the queue is full the
 * oldest entry is dropped at the next open instead, which checks anyway (vfs/cache.c).
 */
#include <sys/queue.h>

#include "base/log.h"
#include "private.h"

#define QUEUE_MAX 4096

typedef struct Inval {
        STAILQ_ENTRY(Inval) queue_link;
        uint64_t nodeid;
} Inval;

struct Notifier {
        FuseVolume *volume;
        pthread_t thread;
        pthread_mutex_t lock; /* the queue */
        pthread_cond_t more;
        STAILQ_HEAD(, Inval) queue;
        unsigned n_queued;
        bool stop;
};

static int inval_inode(FuseVolume *volume, uint64_t nodeid, int64_t offset) {
        struct fuse_notify_inval_inode_out inval = { .ino = nodeid, .off = offset, .len = 0 };
        struct fuse_out_header out = {
                .len = sizeof out + sizeof inval,
                .error = FUSE_NOTIFY_INVAL_INODE,
        };
        uint8_t message[sizeof out + sizeof inval];

        memcpy(message, &out, sizeof out);
        memcpy(message + sizeof out, &inval, sizeof inval);
        /* ENOENT: the kernel does not know the node (any more) */
        return write(volume->memory->fuse_fd[0], message, sizeof message) < 0 ? -errno : 0;
}

static void *notifier_run(void *arg) {
        struct Notifier *notifier = arg;
        Inval *inval;

        (void) pthread_setname_np(pthread_self(), "notifier");
        (void) pthread_mutex_lock(&notifier->lock);
        for (;;) {
                while (!notifier->stop && STAILQ_EMPTY(&notifier->queue))
                        (void) pthread_cond_wait(&notifier->more, &notifier->lock);
                if (notifier->stop)
                        break;
                inval = STAILQ_FIRST(&notifier->queue);
                STAILQ_REMOVE_HEAD(&notifier->queue, queue_link);
                notifier->n_queued--;
                (void) pthread_mutex_unlock(&notifier->lock);
                (void) inval_inode(notifier->volume, inval->nodeid, 0);
                free(inval);
                (void) pthread_mutex_lock(&notifier->lock);
        }
        (void) pthread_mutex_unlock(&notifier->lock);
        return NULL;
}

static void notify_inval(void *userdata, uint64_t nodeid, bool data) {
        struct Notifier *notifier = userdata;
        Inval *inval;

        if (!data) {
                (void) inval_inode(notifier->volume, nodeid, -1);
                return;
        }
        inval = calloc(1, sizeof *inval);
        if (!inval)
                return;
        inval->nodeid = nodeid;
        (void) pthread_mutex_lock(&notifier->lock);
        if (notifier->n_queued < QUEUE_MAX) {
                STAILQ_INSERT_TAIL(&notifier->queue, inval, queue_link);
                notifier->n_queued++;
                inval = NULL;
        }
        (void) pthread_cond_signal(&notifier->more);
        (void) pthread_mutex_unlock(&notifier->lock);
        free(inval);
}

/* One byte of state in the kernel: every name it holds is asked for again at its next use. Since Linux 6.16. */
static void notify_inval_names(void *userdata) {
        struct Notifier *notifier = userdata;
        struct fuse_out_header out = { .len = sizeof out, .error = FUSE_NOTIFY_INC_EPOCH };

        (void) !write(notifier->volume->memory->fuse_fd[0], &out, sizeof out);
}

int notifier_new(FuseVolume *volume, struct Notifier **ret) {
        struct Notifier *notifier = calloc(1, sizeof *notifier);
        VfsNotify notify = { .inval_inode = notify_inval, .inval_names = notify_inval_names, .userdata = notifier };
        int r;

        if (!notifier)
                return -ENOMEM;
        notifier->volume = volume;
        STAILQ_INIT(&notifier->queue);
        (void) pthread_mutex_init(&notifier->lock, NULL);
        (void) pthread_cond_init(&notifier->more, NULL);
        r = pthread_create(&notifier->thread, NULL, notifier_run, notifier);
        if (r != 0) {
                free(notifier);
                return -r;
        }
        vfs_set_notify(volume->vfs, &notify);
        *ret = notifier;
        return 0;
}

struct Notifier *notifier_free(struct Notifier *notifier) {
        Inval *inval;

        if (!notifier)
                return NULL;
        (void) pthread_mutex_lock(&notifier->lock);
        notifier->stop = true;
        (void) pthread_cond_signal(&notifier->more);
        (void) pthread_mutex_unlock(&notifier->lock);
        (void) pthread_join(notifier->thread, NULL);
        while ((inval = STAILQ_FIRST(&notifier->queue))) {
                STAILQ_REMOVE_HEAD(&notifier->queue, queue_link);
                free(inval);
        }
        (void) pthread_mutex_destroy(&notifier->lock);
        (void) pthread_cond_destroy(&notifier->more);
        free(notifier);
        return NULL;
}
