/*
 * Reading requests, and the journal.
 *
 * Theory of operation. A request is read(2) straight into the recovery memory, so that no instant exists at
 * which it is only in this process. Before the read its slot is marked READING and the length word
 * of the buffer is cleared: a successor that finds READING and a length knows that the kernel had handed over
 * a whole request. It is read into a large buffer (1 MiB, for WRITE); a request that fits moves into its slot at once and
 * leaves the buffer to the next.
 *
 *   FREE ─► READING ─► QUEUED ─► EXEC ─► DONE ─► FREE       (SlotState, vfs/memory.h)
 *                         └───────────────────────► FREE    nothing was changed: may be done again
 *
 * FORGETs come once and have no reply: their slot is freed first, then they are applied; a crash between
 * loses some, and a lookup count that is too high harms nobody. Replies go out on the descriptor that
 * the request came in on.
 *
 * Memory that read(2) fills is made resident first (memory_populate): a SIGKILL during a page fault in the
 * kernel's copy would end the request with EIO.
 *
 * When slots run out the channel stops reading; the kernel keeps the rest. That must not happen only because a server is dead
 * and many wait for it: those who ask for a bounded answer, or were killed, would wait behind them. So there are many
 * slots, and a buffer for each, of which memory is used only as far as they were needed at the same time.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "private.h"

#define READS_PER_TURN 16
#define BUFFERS_KEPT   24 /* keep their memory while there are requests for it */
#define BUFFERS_LEFT   2  /* keep it always */
#define BUFFERS_NS     (10 * NSEC_PER_SEC)
#define FAULTS_MAX     6 /* a request with so many points is not executed again */
#define FAULT_DOING    2 /* of the one that a reactor was busy with; a worker that died over something else tells less */
#define FAULT_PRESENT  1
#define LATE_NS        (5 * NSEC_PER_SEC) /* after the last mount has gone: say what is waited for */
#define LATE_AGAIN_NS  (60 * NSEC_PER_SEC)
#define BUSY_NS        UINT64_C(20000) /* requests that come closer together than this are read in batches */

static void channel_ready(FdSource *source, uint32_t events);
static bool channel_read(FuseChannel *channel);
static void channel_accept(FuseChannel *channel, FuseOp *fop, size_t len);
static void channel_execute(FuseChannel *channel, FuseOp *fop);
static void channel_finish(FuseChannel *channel);

static void slot_set(Slot *slot, enum SlotState state) {
        atomic_store_explicit(&slot->state, state, memory_order_release);
}

/* ---- buffers ---- */

static bool bit_is_set(const uint64_t *words, int i) {
        return words[i / 64] >> (i % 64) & 1;
}

static void bit_set(uint64_t *words, int i, bool on) {
        uint64_t bit = UINT64_C(1) << (i % 64);

        words[i / 64] = on ? words[i / 64] | bit : words[i / 64] & ~bit;
}

static void buffers_rest_later(FuseChannel *channel, uint64_t now) {
        channel->n_crowded_before = channel->n_crowded;
        timer_arm(channel->reactor, &channel->rest_timer, now + BUFFERS_NS);
}

/* One beyond those that are always kept is in use, or was. */
static void buffers_crowded(FuseChannel *channel) {
        channel->n_crowded++;
        if (!channel->rest_timer.due)
                buffers_rest_later(channel, reactor_now(channel->reactor));
}

static void buffer_hold(FuseChannel *channel, int i) {
        bit_set(channel->taken, i, true);
}

/* The lowest that is free; -1: none, or no memory for it. */
static int buffer_take(FuseChannel *channel) {
        for (unsigned w = 0; w < ELEMENTSOF(channel->taken); w++) {
                int i;

                if (channel->taken[w] == UINT64_MAX)
                        continue;
                i = (int) (w * 64) + __builtin_ctzll(~channel->taken[w]);
                if (!bit_is_set(channel->resident, i) &&
                    memory_populate(buffer_request(&channel->journal->buffers[i]), BUFFER_REQUEST_SIZE) < 0)
                        return -1;
                bit_set(channel->resident, i, true);
                buffer_hold(channel, i);
                if (i >= BUFFERS_LEFT)
                        buffers_crowded(channel);
                return i;
        }
        return -1;
}

/* Those that only a crowd needs give their memory back: some soon after it, others at once. */
static void buffer_give(FuseChannel *channel, int i) {
        bit_set(channel->taken, i, false);
        if (i >= BUFFERS_LEFT)
                buffers_crowded(channel);
        if (i < BUFFERS_KEPT)
                return;
        bit_set(channel->resident, i, false);
        (void) madvise(&channel->journal->buffers[i], sizeof(Buffer), MADV_REMOVE);
}

/* Also what a former worker has left of them. */
static void buffers_rest(Timer *timer) {
        FuseChannel *channel = container_of(timer, FuseChannel, rest_timer);
        int first = BUFFERS_LEFT;

        if (channel->n_crowded != channel->n_crowded_before)
                return buffers_rest_later(channel, reactor_now(channel->reactor));
        if (channel->read_buffer >= BUFFERS_LEFT) { /* nobody is reading into it just now */
                bit_set(channel->taken, channel->read_buffer, false);
                channel->read_buffer = -1;
        }
        for (int i = BUFFERS_LEFT; i <= BUFFERS; i++) {
                if (i < BUFFERS && !bit_is_set(channel->taken, i)) {
                        bit_set(channel->resident, i, false);
                        continue;
                }
                if (first < i)
                        (void) madvise(&channel->journal->buffers[first], (size_t) (i - first) * sizeof(Buffer), MADV_REMOVE);
                first = i + 1;
        }
}

/* ---- slots ---- */

static FuseOp *op_init(FuseChannel *channel, uint32_t i) {
        FuseOp *fop = &channel->ops[i];

        fop->channel = channel;
        fop->slot = &channel->journal->slots[i];
        TAILQ_INSERT_TAIL(&channel->free_ops, fop, free_link);
        if (atomic_load(&fop->slot->state) == SLOT_FREE)
                fop->slot->buffer = -1;
        return fop;
}

/* The next free slot, which stays in the list; NULL: none, or no memory for it. */
static FuseOp *op_next(FuseChannel *channel) {
        FuseOp *fop = TAILQ_FIRST(&channel->free_ops);
        uint32_t high = journal_slots(channel->journal);

        if (fop || high == SLOTS)
                return fop;
        if (memory_populate(&channel->journal->slots[high], sizeof(Slot)) < 0)
                return NULL;
        journal_set_slots(channel->journal, high + 1);
        return op_init(channel, high);
}

/* ---- reading ---- */

/* All channels wait for one queue. A request wakes one that is idle, not each of them; the end wakes all. */
#define READ_EVENTS (EPOLLIN | EPOLLEXCLUSIVE)

static void channel_resume(FuseChannel *channel) {
        if (channel->ready && !channel->finished && !channel->leaving && channel->source.reactor)
                (void) fd_source_modify(&channel->source, READ_EVENTS);
}

static void channel_stall(FuseChannel *channel, _Atomic uint64_t *counter) {
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
        (void) fd_source_modify(&channel->source, 0);
}

/* A slot and the read buffer for one more request. NULL: there are none, and we do not listen until there are. */
static FuseOp *channel_room(FuseChannel *channel) {
        FuseOp *fop = op_next(channel);

        if (channel->read_buffer < 0)
                channel->read_buffer = buffer_take(channel);
        if (fop && channel->read_buffer >= 0)
                return fop;
        channel_stall(channel, fop ? &channel->stats->buffers_busy : &channel->stats->slots_busy);
        return NULL;
}

static void channel_ready(FdSource *source, uint32_t events) {
        FuseChannel *channel = container_of(source, FuseChannel, source);
        unsigned n = 0, limit = channel->many ? READS_PER_TURN : 1;

        if (channel->leaving)
                return;
        if (events & EPOLLERR) /* the connection was aborted; reported also while there is no room to read */
                return channel_finish(channel);
        while (n < limit && channel_read(channel))
                n++;
        /* a lone request costs no second read(2) to learn that it is alone; the next wait tells as well */
        channel->many = n == limit && (limit > 1 || reactor_now(channel->reactor) - channel->last_read < BUSY_NS);
        channel->last_read = reactor_now(channel->reactor);
        /* whoever waits without room would be woken in place of one that has it */
        if (channel->source.reactor && channel->source.events && channel->n_active > 0)
                (void) channel_room(channel);
}

/* One request. false: there is none, or no room for one. */
static bool channel_read(FuseChannel *channel) {
        FuseOp *fop = channel_room(channel);
        struct fuse_in_header *header;
        ssize_t n;

        if (!fop)
                return false;
        header = buffer_request(&channel->journal->buffers[channel->read_buffer]);
        header->len = 0;
        fop->slot->buffer = channel->read_buffer;
        slot_set(fop->slot, SLOT_READING);
        n = read(channel->fd, header, BUFFER_REQUEST_SIZE);
        if (n >= 0) {
                channel_accept(channel, fop, (size_t) n);
                return true;
        }
        fop->slot->buffer = -1;
        slot_set(fop->slot, SLOT_FREE);
        if (errno == ENOENT || errno == EINTR)
                return true; /* that request was interrupted before we had it */
        if (errno == ENODEV)
                channel_finish(channel);
        else if (errno != EAGAIN)
                log_error("reading /dev/fuse failed: %s", strerror(errno));
        return false;
}

static void accept_forget(FuseChannel *channel, const struct fuse_in_header *header, size_t len) {
        const struct fuse_batch_forget_in *batch = (const void *) (header + 1);
        const struct fuse_forget_one *one = (const void *) (batch + 1);
        const struct fuse_forget_in *forget = (const void *) (header + 1);
        Vfs *vfs = channel->volume->vfs;

        atomic_fetch_add_explicit(&channel->stats->forgets, 1, memory_order_relaxed);
        if (header->opcode == FUSE_FORGET) {
                if (len >= sizeof *header + sizeof *forget)
                        vfs_forget(vfs, header->nodeid, forget->nlookup);
                return;
        }
        if (len < sizeof *header + sizeof *batch || (len - sizeof *header - sizeof *batch) / sizeof *one < batch->count)
                return;
        for (uint32_t i = 0; i < batch->count; i++)
                vfs_forget(vfs, one[i].nodeid, one[i].nlookup);
}

/* A whole request of len bytes stands in the read buffer, its slot is READING. */
static void channel_accept(FuseChannel *channel, FuseOp *fop, size_t len) {
        Slot *slot = fop->slot;
        struct fuse_in_header *header = buffer_request(&channel->journal->buffers[slot->buffer]);

        crash_point(SLOT_READING);
        atomic_fetch_add_explicit(&channel->stats->requests, 1, memory_order_relaxed);
        if (len < sizeof *header || header->len != len) {
                log_error("a request of %zu bytes that says it has %u: dropped", len, header->len);
                slot->buffer = -1;
                return slot_set(slot, SLOT_FREE);
        }
        switch (header->opcode) {
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
                slot_set(slot, SLOT_FREE); /* at most once */
                slot->buffer = -1;
                crash_point(FORGET_FREED);
                return accept_forget(channel, header, len);
        case FUSE_INTERRUPT:
                slot_set(slot, SLOT_FREE);
                slot->buffer = -1;
                if (len >= sizeof *header + sizeof(struct fuse_interrupt_in))
                        interrupt_request(channel, header->unique, ((struct fuse_interrupt_in *) (void *) (header + 1))->unique);
                return;
        case FUSE_INIT:
                memory_keep_init(channel->volume->memory, header, len);
                break;
        }

        slot->len = (uint32_t) len;
        slot->unique = header->unique;
        slot->recovered = 0;
        slot->n_faults = 0;
        slot->reply_len = 0;
        slot->object.len = 0;
        slot->object_id = 0;
        slot->step = 0;
        atomic_store_explicit(&slot->xid, 0, memory_order_relaxed);
        slot_seal(slot, header);
        if (len > SLOT_REQUEST_SIZE)
                channel->read_buffer = -1;
        slot_set(slot, SLOT_QUEUED); /* with the buffer it stands in: a crash before the next lines finds it there */
        crash_point(SLOT_QUEUED);
        if (len <= SLOT_REQUEST_SIZE) {
                memcpy(slot->request, header, len);
                atomic_signal_fence(memory_order_seq_cst);
                slot->buffer = -1;
        }
        TAILQ_REMOVE(&channel->free_ops, fop, free_link);
        channel->n_active++;
        crash_point(SLOT_MOVED);
        channel_execute(channel, fop);
}

static void answer_error(FuseChannel *channel, uint64_t unique, int err) {
        struct fuse_out_header out = { .len = sizeof out, .error = -err, .unique = unique };

        (void) !write(channel->fd, &out, sizeof out);
}

static void reply_error(FuseChannel *channel, FuseOp *fop, int err) {
        answer_error(channel, slot_header(channel, fop->slot)->unique, err);
        channel_release(fop);
}

static void channel_execute(FuseChannel *channel, FuseOp *fop) {
        Slot *slot = fop->slot;
        bool executed = slot->recovered && atomic_load_explicit(&slot->state, memory_order_relaxed) == SLOT_EXEC &&
                        atomic_load_explicit(&slot->xid, memory_order_relaxed) != 0;
        struct fuse_in_header *header = slot_header(channel, slot);
        struct fuse_buf buf = { .mem = header, .size = slot->len };
        uint8_t setattr[sizeof *header + sizeof(struct fuse_setattr_in)] __attribute__((aligned(8)));

        /* libfuse writes into its arguments; a successor must find what the kernel sent */
        if (header->opcode == FUSE_SETATTR && slot->len <= sizeof setattr)
                buf.mem = memcpy(setattr, header, slot->len);
        fop->op = (Op){
                .reply = &fuse_op_reply,
                .reactor = channel->vr,
                .uid = header->uid,
                .gid = header->gid,
                .pid = (pid_t) header->pid,
                .unique = header->unique,
                .replayed = executed,
                .replayed_step = slot->step,
                .replayed_xid = executed ? atomic_load_explicit(&slot->xid, memory_order_relaxed) : 0,
                .xid_note = &slot->xid,
                .recovered = slot->recovered,
                .object = slot->object.len >= 1 && slot->object.len <= NFS_FH_MAX ? &slot->object : NULL,
                .object_id = slot->object_id,
        };
        fop->req = NULL;
        fop->active = true;
        fop->watched = fop->uninterrupted = false;
        fop->unheard = false;
        fop->parallel_writes = false;
        fop->dir_size = fop->dir_len = 0;
        channel->current = fop;
        vfs_doing(channel->vr, header->unique);
        fuse_session_process_buf(channel->session, &buf);
        vfs_doing(channel->vr, 0);
        /* answered by libfuse itself (ENOSYS, INIT): no handler of ours took it */
        if (channel->current == fop && fop->active && !fop->req)
                channel_release(fop);
        channel->current = NULL;
        if (header->opcode == FUSE_INIT)
                channel_start(channel);
}

void channel_release(FuseOp *fop) {
        FuseChannel *channel = fop->channel;
        Slot *slot = fop->slot;
        int buffer = slot->buffer;

        fop->active = false;
        slot_set(slot, SLOT_FREE);
        crash_point(SLOT_FREED);
        slot->buffer = -1;
        if (buffer >= 0)
                buffer_give(channel, buffer);
        TAILQ_INSERT_HEAD(&channel->free_ops, fop, free_link);
        channel->n_active--;
        channel_resume(channel);
        if (channel->leaving && channel->n_active == 0)
                reactor_defer(channel->reactor, &channel->left_task); /* when this turn's work is done */
}

/* ---- the end ---- */

static void channel_cleaned(VfsSync *sync) {
        FuseChannel *channel = container_of(sync, FuseChannel, last_sync);
        FuseVolume *volume = channel->volume;

        timer_disarm(&channel->late_timer);
        if (atomic_fetch_sub(&volume->n_reading, 1) == 1)
                volume->finished(volume->userdata);
}

static void channel_synced(VfsSync *sync) {
        FuseChannel *channel = container_of(sync, FuseChannel, last_sync);

        sync->done = channel_cleaned;
        vfs_opens_end(channel->vr);
        vfs_sync_all(channel->vr, sync);
}

static void end_is_late(Timer *timer) {
        FuseChannel *channel = container_of(timer, FuseChannel, late_timer);

        vfs_say_unfinished(channel->vr);
        timer_arm(channel->reactor, timer, reactor_now(channel->reactor) + LATE_AGAIN_NS);
}

/*
 * ENODEV: the last mount has gone, or somebody has aborted the connection. What was written is brought to stable storage, and
 * then the .nfs names are removed, before we go.
 */
static void channel_finish(FuseChannel *channel) {
        if (channel->finished)
                return;
        channel->finished = true;
        fd_source_remove(&channel->source);
        channel->last_sync.done = channel_synced;
        channel->late_timer.fired = end_is_late;
        timer_arm(channel->reactor, &channel->late_timer, reactor_now(channel->reactor) + LATE_NS);
        vfs_locks_end(channel->vr);
        vfs_sync_all(channel->vr, &channel->last_sync);
}

static void left_run(Task *task) {
        FuseChannel *channel = container_of(task, FuseChannel, left_task);

        if (channel->left)
                channel->left(channel->left_userdata);
        channel->left = NULL;
}

void fuse_channel_leave(FuseChannel *channel, void (*left)(void *userdata), void *userdata) {
        channel->leaving = true;
        channel->left = left;
        channel->left_userdata = userdata;
        if (channel->source.reactor)
                fd_source_remove(&channel->source);
        if (channel->n_active == 0)
                reactor_defer(channel->reactor, &channel->left_task);
}

bool fuse_channel_is_idle(const FuseChannel *channel) {
        return channel->n_active == 0;
}

/* ---- start and recovery ---- */

/* INIT has been negotiated, here or by another channel: begin to read. */
static void start_run(Task *task) {
        FuseChannel *channel = container_of(task, FuseChannel, start_task);

        if (channel->ready)
                return;
        session_replay_init(channel);
        channel_resume(channel);
}

void channel_start(FuseChannel *channel) {
        FuseVolume *volume = channel->volume;

        channel->ready = true;
        for (unsigned i = 0; i < volume->memory->n_reactors; i++) {
                FuseChannel *other = volume->channels[i];

                if (other && other != channel)
                        reactor_post(other->reactor, &other->start_task);
        }
}

bool slot_is_sane(const Slot *slot, const struct fuse_in_header *header) {
        uint32_t max = slot->buffer >= 0 ? BUFFER_REQUEST_SIZE : SLOT_REQUEST_SIZE;

        return slot->len >= sizeof *header && slot->len <= max && header->len == slot->len &&
               slot->reply_len <= SLOT_REPLY_SIZE && slot->seal == slot_seal_of(slot, header);
}

static bool reply_is_sane(const Slot *slot, const struct fuse_in_header *header) {
        const struct fuse_out_header *out = (const void *) slot->reply;

        return slot->reply_len >= sizeof *out && out->len == slot->reply_len && out->unique == header->unique &&
               slot->reply_seal == memory_seal(slot->reply_len, slot->reply, slot->reply_len);
}

/* Has another slot a request of that number, or one in that buffer? Then it is not this one's: it was damaged. */
static bool is_anothers(FuseChannel *channel, const Slot *slot, uint64_t unique, int32_t buffer) {
        for (unsigned i = 0; i < journal_slots(channel->journal); i++) {
                const Slot *other = &channel->journal->slots[i];

                if (other != slot && atomic_load(&other->state) != SLOT_FREE &&
                    ((unique != 0 && other->unique == unique) || (buffer >= 0 && other->buffer == buffer)))
                        return true;
        }
        return false;
}

/*
 * Whose state, place or words are damaged: nobody is to wait for it for ever. Of what was answered already, or never was, the
 * kernel knows nothing (ENOENT).
 */
static void answer_lost(FuseChannel *channel, Slot *slot) {
        bool has_buffer = slot->buffer >= 0 && slot->buffer < BUFFERS;
        uint64_t uniques[] = { slot->unique, has_buffer || slot->buffer == -1 ? slot_header(channel, slot)->unique : 0 };

        for (unsigned i = 0; i < ELEMENTSOF(uniques); i++)
                if (uniques[i] != 0 && (i == 0 || uniques[i] != uniques[0]) && !is_anothers(channel, slot, uniques[i], -1))
                        answer_error(channel, uniques[i], EIO);
        if (has_buffer && !is_anothers(channel, slot, 0, slot->buffer))
                buffer_give(channel, slot->buffer);
        slot->buffer = -1;
        slot_set(slot, SLOT_FREE);
}

static bool was_doing(const FuseVolume *volume, uint64_t unique) {
        for (unsigned i = 0; i < REACTORS_MAX; i++)
                if (volume->was_doing[i] == unique)
                        return true;
        return false;
}

/* Its INTERRUPT may have come, and died with the worker that read it. */
static void watch_recovered(FuseChannel *channel, FuseOp *fop) {
        if (fop->active)
                interrupt_watch(channel, fop);
}

static void recover_slot(FuseChannel *channel, FuseOp *fop) {
        Slot *slot = fop->slot;
        enum SlotState state = atomic_load_explicit(&slot->state, memory_order_acquire);
        struct fuse_in_header *header;

        if (slot->buffer >= BUFFERS || slot->buffer < -1 || state > SLOT_DONE) {
                log_error("the slot of a request of a former worker is damaged: answered with EIO");
                return answer_lost(channel, slot);
        }
        header = slot_header(channel, slot);
        if (state == SLOT_READING) {
                if (slot->buffer < 0 || header->len < sizeof *header || header->len > BUFFER_REQUEST_SIZE ||
                    is_anothers(channel, slot, header->unique, slot->buffer))
                        return answer_lost(channel, slot);
                atomic_fetch_add_explicit(&channel->stats->recovered[state], 1, memory_order_relaxed);
                channel->read_buffer = slot->buffer;
                buffer_hold(channel, slot->buffer);
                channel_accept(channel, fop, header->len);
                if (channel->read_buffer >= 0) {
                        buffer_give(channel, channel->read_buffer);
                        channel->read_buffer = -1;
                }
                return watch_recovered(channel, fop);
        }
        if (!slot_is_sane(slot, header)) {
                log_error("a request of a former worker is damaged: answered with EIO");
                return answer_lost(channel, slot);
        }
        atomic_fetch_add_explicit(&channel->stats->recovered[state], 1, memory_order_relaxed);
        if (slot->buffer >= 0)
                buffer_hold(channel, slot->buffer);
        TAILQ_REMOVE(&channel->free_ops, fop, free_link);
        channel->n_active++;
        if (state == SLOT_DONE) {
                /* ENOENT: it had been answered before the crash */
                if (reply_is_sane(slot, header))
                        (void) !write(channel->fd, slot->reply, slot->reply_len);
                else
                        answer_error(channel, header->unique, EIO);
                return channel_release(fop);
        }
        if (atomic_load(&channel->volume->memory->worker_faulted))
                slot->n_faults += was_doing(channel->volume, header->unique) ? FAULT_DOING : FAULT_PRESENT;
        slot->recovered = 1;
        if (slot->n_faults >= FAULTS_MAX) {
                log_error("workers die over a request (FUSE's number %u, of process %u): answered with EIO", header->opcode,
                          header->pid);
                atomic_fetch_add_explicit(&channel->stats->poisoned, 1, memory_order_relaxed);
                channel->volume->poison_found = true;
                return reply_error(channel, fop, EIO);
        }
        channel_execute(channel, fop);
        watch_recovered(channel, fop);
}

/* No request may be executed in a buffer that another one still holds. */
static void hold_buffers(FuseChannel *channel) {
        for (unsigned i = 0; i < journal_slots(channel->journal); i++) {
                Slot *slot = &channel->journal->slots[i];

                if (atomic_load(&slot->state) != SLOT_FREE && slot->buffer >= 0 && slot->buffer < BUFFERS)
                        buffer_hold(channel, slot->buffer);
        }
}

static void recover_slots(FuseChannel *channel) {
        uint32_t n = journal_slots(channel->journal);

        for (unsigned i = 0; i < n; i++) {
                if (atomic_load(&channel->journal->slots[i].state) == SLOT_FREE) {
                        answer_lost(channel, &channel->journal->slots[i]);
                        continue;
                }
                recover_slot(channel, &channel->ops[i]);
                crash_point(SLOT_REPLAYED);
        }
}

/* It was another's doing. */
static void forgive(FuseChannel *channel) {
        for (unsigned i = 0; i < journal_slots(channel->journal); i++)
                channel->journal->slots[i].n_faults = 0;
}

/* INIT is in a slot from the time it was read until it is answered. */
static bool init_is_waiting(const FuseVolume *volume) {
        for (unsigned i = 0; i < volume->memory->n_reactors; i++) {
                FuseChannel *channel = volume->channels[i];

                for (unsigned j = 0; j < journal_slots(channel->journal); j++) {
                        Slot *slot = &channel->journal->slots[j];

                        if (atomic_load(&slot->state) != SLOT_FREE && slot->buffer >= -1 && slot->buffer < BUFFERS &&
                            slot_header(channel, slot)->opcode == FUSE_INIT)
                                return true;
                }
        }
        return false;
}

void fuse_volume_recover(FuseVolume *volume) {
        uint32_t n = volume->memory->n_reactors;

        if (atomic_load(&volume->memory->init_len) && !init_is_waiting(volume))
                atomic_store(&volume->memory->init_replied, 1);

        for (unsigned i = 0; i < REACTORS_MAX; i++)
                volume->was_doing[i] = atomic_load(&volume->memory->doing[i]);
        for (unsigned i = 0; i < n; i++)
                hold_buffers(volume->channels[i]);
        for (unsigned i = 0; i < n && atomic_load(&volume->memory->init_replied); i++) {
                session_replay_init(volume->channels[i]);
                crash_point(INIT_REPLAYED);
        }
        for (unsigned i = 0; i < n; i++)
                recover_slots(volume->channels[i]);
        for (unsigned i = 0; i < n && volume->poison_found; i++)
                forgive(volume->channels[i]);
        for (unsigned i = 0; i < n; i++)
                channel_resume(volume->channels[i]);
}

int fuse_channel_new(FuseVolume *volume, unsigned index, Reactor *reactor, VfsReactor *vr, FuseChannel **ret) {
        Memory *memory = volume->memory;
        FuseChannel *channel = calloc(1, sizeof *channel);
        int r;

        if (!channel)
                return -ENOMEM;
        channel->volume = volume;
        channel->index = index;
        channel->fd = memory->fuse_fd[index];
        channel->reactor = reactor;
        channel->vr = vr;
        channel->journal = &memory->journal[index];
        channel->stats = &memory->stats[index];
        channel->source.ready = channel_ready;
        channel->start_task.run = start_run;
        channel->left_task.run = left_run;
        channel->read_buffer = -1;
        TAILQ_INIT(&channel->free_ops);
        interrupt_init(channel);
        r = -ENOMEM;
        channel->ops = calloc(SLOTS, sizeof *channel->ops);
        if (!channel->ops)
                goto fail;
        r = memory_populate(channel->journal->slots, journal_slots(channel->journal) * sizeof(Slot));
        if (r < 0)
                goto fail;
        for (uint32_t i = 0; i < journal_slots(channel->journal); i++)
                (void) op_init(channel, i);
        r = session_new(channel);
        if (r < 0)
                goto fail;
        /* without INIT only the first channel listens: it will bring it */
        r = fd_source_add(reactor, &channel->source, channel->fd, index == 0 ? READ_EVENTS : 0);
        if (r >= 0 && index == 0)
                r = notifier_listen(volume->notifier, reactor);
        if (r < 0)
                goto fail;
        channel->rest_timer.fired = buffers_rest;
        buffers_rest_later(channel, now_ns());
        volume->channels[index] = channel;
        atomic_fetch_add(&volume->n_reading, 1);
        *ret = channel;
        return 0;

fail:
        (void) fuse_channel_free(channel);
        return r;
}

FuseChannel *fuse_channel_free(FuseChannel *channel) {
        if (!channel)
                return NULL;
        fd_source_remove(&channel->source);
        if (channel->index == 0)
                notifier_unlisten(channel->volume->notifier);
        interrupt_stop(channel);
        timer_disarm(&channel->late_timer);
        timer_disarm(&channel->rest_timer);
        if (channel->session)
                fuse_session_destroy(channel->session);
        free(channel->ops);
        free(channel);
        return NULL;
}
