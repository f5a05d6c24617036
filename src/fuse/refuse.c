/*
 * Refusing: what is done for a volume whose workers do not live. No libfuse, no NFS, no tables: requests are read and
 * answered with EIO, so that nobody who uses the volume hangs, and kubelet can clean up (it copes with EIO on the root).
 *
 * The journal is emptied the same way, and a worker that comes after finds nothing that could kill it once more. Kept for
 * that worker are INIT, without which there is no file system, and RELEASE, which nobody waits for and without which an
 * open file would never be closed. FORGETs are lost: a lookup count that is too high harms nobody.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "private.h"

static void answer(int fd, uint64_t unique, int err) {
        struct fuse_out_header out = { .len = sizeof out, .error = -err, .unique = unique };

        (void) !write(fd, &out, sizeof out); /* ENOENT: it has been answered */
}

static bool has_reply(uint32_t opcode) {
        return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

static bool is_for_a_worker(uint32_t opcode) {
        return opcode == FUSE_INIT || opcode == FUSE_RELEASE || opcode == FUSE_RELEASEDIR;
}

/* ---- what former workers left ---- */

static void refuse_slot(Journal *journal, Slot *slot, int fd) {
        enum SlotState state = atomic_load_explicit(&slot->state, memory_order_acquire);
        const struct fuse_in_header *header = (const void *) slot->request;

        if (slot->buffer >= 0 && slot->buffer < BUFFERS)
                header = buffer_request(&journal->buffers[slot->buffer]);
        if (state == SLOT_QUEUED && slot->buffer < 0 && is_for_a_worker(header->opcode))
                return;
        if (state == SLOT_FREE)
                ; /* it is said to be */
        else if (state == SLOT_DONE && slot->reply_len <= SLOT_REPLY_SIZE)
                (void) !write(fd, slot->reply, slot->reply_len);
        else if (state != SLOT_READING || header->len >= sizeof *header)
                if (has_reply(header->opcode))
                        answer(fd, header->unique, EIO);
        if (slot->unique != 0)
                answer(fd, slot->unique, EIO); /* damaged, and not answered by the above */
        slot->buffer = -1;
        atomic_store_explicit(&slot->state, SLOT_FREE, memory_order_release);
}

/* ---- what comes ---- */

/* False: there is no room in the journal. */
static bool leave_for_a_worker(Memory *memory, Journal *journal, const struct fuse_in_header *header) {
        for (unsigned i = 0; i < SLOTS && header->len <= SLOT_REQUEST_SIZE; i++) {
                Slot *slot = &journal->slots[i];

                if (atomic_load(&slot->state) != SLOT_FREE)
                        continue;
                if (header->opcode == FUSE_INIT)
                        memory_keep_init(memory, header, header->len);
                slot->len = header->len;
                slot->unique = header->unique;
                slot->recovered = slot->n_faults = 0;
                slot->reply_len = 0;
                slot->step = 0;
                atomic_store_explicit(&slot->xid, 0, memory_order_relaxed);
                slot->buffer = -1;
                slot->object.len = 0;
                slot->object_id = 0;
                memcpy(slot->request, header, header->len);
                slot_seal(slot, header);
                if (i >= journal_slots(journal))
                        journal_set_slots(journal, i + 1);
                atomic_store_explicit(&slot->state, SLOT_QUEUED, memory_order_release);
                return true;
        }
        return false;
}

/* 1: go on; 0: the last mount has gone. */
static int refuse_one(Memory *memory, Journal *journal, int fd) {
        static uint8_t request[BUFFER_REQUEST_SIZE] __attribute__((aligned(8)));
        const struct fuse_in_header *header = (const void *) request;
        ssize_t n = read(fd, request, sizeof request);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR || errno == ENOENT ? 1 : errno == ENODEV ? 0 : -errno;
        if ((size_t) n < sizeof *header || header->len != (size_t) n || !has_reply(header->opcode))
                return 1;
        if (!is_for_a_worker(header->opcode) || !leave_for_a_worker(memory, journal, header))
                answer(fd, header->unique, EIO);
        return 1;
}

static volatile sig_atomic_t is_to_leave;
static sigset_t waits_with; /* the signals that are blocked while it waits */

static void leave(int sig) {
        is_to_leave = 1;
}

void fuse_refuse_until(int sig) {
        const struct sigaction action = { .sa_handler = leave };
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, sig);
        (void) sigprocmask(SIG_BLOCK, &set, &waits_with);
        (void) sigdelset(&waits_with, sig);
        (void) sigaction(sig, &action, NULL);
}

int fuse_refuse(Memory *memory) {
        struct pollfd fds[REACTORS_MAX];
        int r = 1;

        for (unsigned i = 0; i < memory->n_reactors; i++) {
                fds[i] = (struct pollfd){ .fd = memory->fuse_fd[i], .events = POLLIN };
                for (unsigned j = 0; j < journal_slots(&memory->journal[i]); j++)
                        refuse_slot(&memory->journal[i], &memory->journal[i].slots[j], fds[i].fd);
        }
        while (r > 0 && !is_to_leave) {
                if (ppoll(fds, memory->n_reactors, NULL, &waits_with) < 0) {
                        if (errno != EINTR)
                                return -errno;
                        continue;
                }
                for (unsigned i = 0; i < memory->n_reactors && r > 0; i++)
                        if (fds[i].revents & (POLLIN | POLLERR))
                                r = refuse_one(memory, &memory->journal[i], fds[i].fd);
        }
        return r;
}
