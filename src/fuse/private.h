/*
 * fuse/'s own view of its channels. All of a FuseChannel belongs to its reactor's thread.
 */
#pragma once

#include <pthread.h>

#include "compat.h"
#include "fuse/channel.h"

#define DIR_BUFFER_SIZE (64u * 1024)

/* The private side of a journal slot. */
typedef struct FuseOp {
        Op op;
        FuseChannel *channel;
        Slot *slot;
        fuse_req_t req;
        bool active;
        bool watched;         /* look whether the caller is killed: no (other) INTERRUPT will say so */
        bool uninterrupted;   /* ... while the server is silent: no INTERRUPT ever comes for it */
        bool unheard;         /* the kernel did not take the reply: its caller was killed */
        bool parallel_writes; /* the OPEN that is answered: let direct writes run side by side */
        int open_flags;
        size_t dir_size, dir_len; /* READDIR: room and use in channel->dir_buffer */
        TAILQ_ENTRY(FuseOp) free_link;
} FuseOp;

TAILQ_HEAD(FuseOpList, FuseOp);

typedef struct Search Search;

struct FuseChannel {
        FuseVolume *volume;
        unsigned index;
        int fd;
        Reactor *reactor;
        VfsReactor *vr;
        Journal *journal;
        ReactorStats *stats;
        struct fuse_session *session;
        FdSource source;

        FuseOp *ops; /* SLOTS of them, untouched until used */
        struct FuseOpList free_ops;
        uint64_t taken[BUFFERS / 64];         /* bit set: a request stands in it, or will */
        uint64_t resident[BUFFERS / 64];      /* bit set: populated by this process */
        int read_buffer;                      /* the one the next request is read into; -1: none free */
        Timer rest_timer;                     /* gives free ones back: */
        uint64_t n_crowded, n_crowded_before; /* how often more than BUFFERS_LEFT were in use; when that was last looked at */

        FuseOp *current; /* whose reply libfuse is writing */
        bool swallow;    /* ... or nobody's: the answer to a replayed INIT */
        bool ready;      /* the session knows what was negotiated */
        bool finished;
        bool many;          /* read until there is nothing more */
        uint64_t last_read; /* ns */
        unsigned n_active;  /* requests not answered yet */
        bool leaving;       /* reads no more */
        void (*left)(void *userdata);
        void *left_userdata;
        Task left_task;
        Timer watch_timer;
        TAILQ_HEAD(, Search) searches; /* for what was interrupted: interrupt.c */
        Task start_task;
        VfsSync last_sync;
        Timer late_timer; /* while that takes long */
        uint8_t dir_buffer[DIR_BUFFER_SIZE];
};

struct FuseVolume {
        Memory *memory;
        Vfs *vfs;
        FuseChannel *channels[REACTORS_MAX];
        _Atomic unsigned n_reading; /* channels that are not finished */
        void (*finished)(void *userdata);
        void *userdata;
        struct Notifier *notifier;
        uint64_t was_doing[REACTORS_MAX]; /* the worker before: Memory.doing */
        bool poison_found;
};

/* ---- session.c ---- */
int session_new(FuseChannel *channel);
void session_init(void *userdata, struct fuse_conn_info *conn); /* the init of session_ops */
/* Feeds the kernel's saved INIT to a new session; the answer goes nowhere. */
void session_replay_init(FuseChannel *channel);

/* ---- channel.c ---- */
void channel_start(FuseChannel *channel);
/* The reply of op has been written (or cannot be): its slot is free again. */
void channel_release(FuseOp *fop);
/* Is the request in it the one that the kernel sent? */
bool slot_is_sane(const Slot *slot, const struct fuse_in_header *header);
static inline struct fuse_in_header *slot_header(FuseChannel *channel, Slot *slot) {
        if (slot->buffer >= 0)
                return buffer_request(&channel->journal->buffers[slot->buffer]);
        return (struct fuse_in_header *) (void *) slot->request;
}

/* A damaged node id must not name another file, nor a damaged name be without an end. */
static inline uint32_t slot_seal_of(const Slot *slot, const struct fuse_in_header *header) {
        /* where a WRITE goes may be decided here (WRITE_PLACED); its data are too much to look at */
        size_t size = header->opcode == FUSE_WRITE ? sizeof *header : MIN(slot->len, (uint32_t) SLOT_REQUEST_SIZE);

        return memory_seal(slot->len, header, size);
}

static inline void slot_seal(Slot *slot, const struct fuse_in_header *header) {
        slot->seal = slot_seal_of(slot, header);
}

/* The arguments of a WRITE. The kernel leaves the padding 0; in the journal it says that offset was found by us. */
#define WRITE_PLACED 1u
static inline struct fuse_write_in *slot_write(FuseOp *fop) {
        return (struct fuse_write_in *) (void *) (slot_header(fop->channel, fop->slot) + 1);
}

/* ---- ops.c, reply.c ---- */
extern const struct fuse_lowlevel_ops session_ops;
extern const OpReply fuse_op_reply;

/* ---- interrupt.c ---- */
void interrupt_request(FuseChannel *channel, uint64_t interrupt_unique, uint64_t target);
void interrupt_init(FuseChannel *channel);
void interrupt_stop(FuseChannel *channel);
/* The one INTERRUPT that there will be has been missed, or was not deadly: look whether the caller is killed. */
void interrupt_watch(FuseChannel *channel, FuseOp *fop);
/* There will be none, but only if the server does not answer does it matter. Before the request is executed. */
void interrupt_watch_silent(FuseChannel *channel, FuseOp *fop);

/* ---- notify.c ---- */
int notifier_new(FuseVolume *volume, struct Notifier **ret);
struct Notifier *notifier_free(struct Notifier *notifier);
/* Its answers come to this reactor, the first one. 0 or negative errno. */
int notifier_listen(struct Notifier *notifier, Reactor *reactor);
void notifier_unlisten(struct Notifier *notifier);
