/*
 * libfuse's part: a session for each channel, with our own I/O under it.
 *
 * libfuse decodes requests and encodes replies. Reading is ours (channel.c); every reply comes back to
 * session_writev(), which puts a changing operation's reply into the journal before it goes to the kernel,
 * and frees the slot after.
 *
 * The kernel sends INIT once, to whoever reads it. The request is kept in the memory; every other
 * channel's session, and every session of a later worker, is fed the copy and so negotiates the same.
 */
#include <stdio.h>
#include <sys/uio.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "private.h"

void session_init(void *userdata, struct fuse_conn_info *conn) {
        FuseChannel *channel = userdata;
        Vfs *vfs = channel->volume->vfs;

        conn->max_write = vfs_write_size(vfs);
        conn->max_read = vfs_read_size(vfs);
        conn->max_background = 64;
        conn->congestion_threshold = 64;
        /* O_TRUNC comes as a SETATTR; pages are dropped when we say so (vfs/coherence.c), as a rule, not at each new mtime */
        conn->want &=
                ~(uint32_t) (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_HANDLE_KILLPRIV);
        /* else the kernel keeps them itself, for this node */
        if (!(vfs_lock_kinds(vfs) & VFS_LOCKS_POSIX))
                conn->want &= ~(uint32_t) FUSE_CAP_POSIX_LOCKS;
        if (!(vfs_lock_kinds(vfs) & VFS_LOCKS_FLOCK))
                conn->want &= ~(uint32_t) FUSE_CAP_FLOCK_LOCKS;
        if (vfs_checks_each_read(vfs))
                return;
        conn->want &= ~(uint32_t) FUSE_CAP_AUTO_INVAL_DATA;
        if (conn->capable & FUSE_CAP_EXPLICIT_INVAL_DATA)
                conn->want |= FUSE_CAP_EXPLICIT_INVAL_DATA;
}

static ssize_t session_read(int fd, void *buf, size_t len, void *userdata) {
        (void) userdata;
        return read(fd, buf, len);
}

static size_t iov_size(const struct iovec *iov, int count) {
        size_t size = 0;

        for (int i = 0; i < count; i++)
                size += iov[i].iov_len;
        return size;
}

/* A changing operation's whole reply stands in its slot before the kernel may see any of it. */
static void keep_reply(Slot *slot, const struct iovec *iov, int count) {
        size_t size = iov_size(iov, count);
        uint8_t *p = slot->reply;

        if (atomic_load_explicit(&slot->state, memory_order_relaxed) != SLOT_EXEC || size > SLOT_REPLY_SIZE)
                return;
        for (int i = 0; i < count; i++) {
                memcpy(p, iov[i].iov_base, iov[i].iov_len);
                p += iov[i].iov_len;
        }
        slot->reply_len = (uint32_t) size;
        slot->reply_seal = memory_seal(slot->reply_len, slot->reply, size);
        atomic_store_explicit(&slot->state, SLOT_DONE, memory_order_release);
}

/* libfuse 3.14 has no name for this flag. The reply's last part is, or ends with, the fuse_open_out. */
static void patch_open(struct iovec *iov, int count) {
        struct iovec *last = &iov[count - 1];
        struct fuse_open_out *out;

        if (last->iov_len < sizeof *out)
                return;
        out = (struct fuse_open_out *) (void *) ((char *) last->iov_base + last->iov_len - sizeof *out);
        out->open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
}

static void patch_init(FuseChannel *channel, struct iovec *iov, int count) {
        Memory *memory = channel->volume->memory;

        if (count == 2 && iov[1].iov_len == sizeof(struct fuse_init_out))
                compat_patch_init(
                        (const struct fuse_init_in *) (const void *) (memory->init_request + sizeof(struct fuse_in_header)),
                        iov[1].iov_base, vfs_idmap(channel->volume->vfs));
}

static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata) {
        FuseChannel *channel = userdata;
        FuseOp *fop = channel->current;
        uint32_t opcode;
        ssize_t n;

        if (channel->swallow)
                return (ssize_t) iov_size(iov, count);
        if (!fop)
                return writev(fd, iov, count);

        opcode = slot_header(channel, fop->slot)->opcode;
        if (opcode == FUSE_INIT)
                patch_init(channel, iov, count);
        if (fop->parallel_writes && count > 1)
                patch_open(iov, count);
        keep_reply(fop->slot, iov, count);
        crash_point(REPLY_KEPT);
        n = writev(fd, iov, count);
        crash_point(REPLY_WRITTEN);
        if (n < 0) {
                /* ENOENT: the kernel has given up on this request; ENODEV: on all of them */
                atomic_fetch_add_explicit(&channel->stats->reply_errors, 1, memory_order_relaxed);
                fop->unheard = true;
                if (errno != ENODEV && errno != ENOENT)
                        log_warning("answering request %u failed: %s", opcode, strerror(errno));
                n = (ssize_t) iov_size(iov, count); /* libfuse would print to stderr */
        }
        if (opcode == FUSE_INIT)
                atomic_store(&channel->volume->memory->init_replied, 1);
        atomic_fetch_add_explicit(&channel->stats->replies, 1, memory_order_relaxed);
        return n;
}

int session_new(FuseChannel *channel) {
        static const struct fuse_custom_io io = { .writev = session_writev, .read = session_read };
        char max_read[32];
        char *argv[] = { (char *) "nfsvold", (char *) "-o", max_read, NULL };
        struct fuse_args args = FUSE_ARGS_INIT(3, argv);

        (void) snprintf(max_read, sizeof max_read, "max_read=%u", vfs_read_size(channel->volume->vfs));
        channel->session = fuse_session_new(&args, &session_ops, sizeof session_ops, channel);
        fuse_opt_free_args(&args);
        if (!channel->session)
                return -ENOMEM;
        return fuse_session_custom_io(channel->session, &io, channel->fd);
}

void session_replay_init(FuseChannel *channel) {
        Memory *memory = channel->volume->memory;
        struct fuse_buf buf = { .mem = memory->init_request, .size = atomic_load(&memory->init_len) };

        channel->swallow = true;
        fuse_session_process_buf(channel->session, &buf);
        channel->swallow = false;
        channel->ready = true;
}
