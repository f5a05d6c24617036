/*
 * INTERRUPT: the caller of a request got a signal.
 *
 * As with the kernel's NFS client only a deadly signal ends a request; others wait for it ("nointr"). A
 * killed process stays until its request is answered, so a dead server must not be waited for: the request is
 * answered EINTR. Whether the signal is deadly is seen in /proc/<tid>/status: the kernel makes every deadly
 * signal a pending SIGKILL of each thread. It sends one INTERRUPT per request, ever, so after one that was not
 * deadly the caller is watched.
 *
 * Who waits for a lock (fcntl(2) F_SETLKW, flock(2)) is interrupted by any signal. A successor of a worker that had read the
 * INTERRUPT looks whether one is pending that is not blocked (those that are ignored are never pending).
 *
 * Some wait without an INTERRUPT ever: O_DIRECT reads and writes (the kernel makes them asynchronous, and waits for all),
 * io_submit(2), and a process that exits, killed or not, for the FLUSH of each of its files. So these are looked after while the
 * server has not answered for a while. Of who was killed by kill(2) the SIGKILL stays pending; nobody hears the answer, and what
 * was written goes out all the same. Who exits by himself, or by another signal, cannot be told apart; he may be waited for by
 * somebody who then looks from another node, but hears no signal any more: so he waits for long, and not for ever.
 *
 * An INTERRUPT may be read by another channel than its request was. It is shown to each channel in turn. A request that
 * nobody has was just answered; or it was lost (the recovery memory was damaged), and the kernel still waits for it after a
 * second: then it is answered EINTR.
 */
#include <signal.h>
#include <stdio.h>

#include "base/io.h"
#include "base/log.h"
#include "private.h"

#define WATCH_NS  (250 * NSEC_PER_MSEC)
#define SILENT_NS (500 * NSEC_PER_MSEC) /* with WATCH_NS: who is killed is gone within a second */
#define SOON_NS   (20 * NSEC_PER_MSEC)
#define EXIT_NS   (15 * NSEC_PER_SEC) /* less than kubelet's grace before it kills */
#define AGAIN_NS  NSEC_PER_SEC

#define PF_EXITING 0x4 /* the kernel's, in /proc/<tid>/stat: proc(5) */

struct Search {
        Task task;
        Timer again;
        FuseChannel *home; /* where it was read */
        unsigned channel;  /* whose turn it is */
        unsigned left;
        uint64_t target;
        bool is_last;
        TAILQ_ENTRY(Search) search_link;
};

static uint64_t signals(const char *text, const char *field) {
        const char *p = strstr(text, field);

        return p ? strtoull(p + strlen(field), NULL, 16) : 0;
}

/* What becomes of who asked. GONE: there is no such thread any more. UNKNOWN: /proc hides it (proc(5), hidepid). */
enum Fate { FATE_LIVES, FATE_SIGNALED, FATE_KILLED, FATE_EXITS, FATE_GONE, FATE_UNKNOWN };

static enum Fate fate_without_file(ssize_t err) {
        char text[64];

        return (err == -ENOENT || err == -ESRCH) && io_read_file("/proc/1/stat", text, sizeof text) >= 0 ? FATE_GONE
                                                                                                         : FATE_UNKNOWN;
}

/* SIGNALED: a signal is pending that it does not block. */
static enum Fate fate_by_signals(pid_t pid) {
        char path[64], text[4096];
        uint64_t pending;
        ssize_t n;

        (void) snprintf(path, sizeof path, "/proc/%d/status", (int) pid);
        n = io_read_file(path, text, sizeof text);
        if (n < 0)
                return fate_without_file(n);
        pending = signals(text, "\nSigPnd:") | signals(text, "\nShdPnd:");
        if (pending & (UINT64_C(1) << (SIGKILL - 1)))
                return FATE_KILLED;
        return pending & ~signals(text, "\nSigBlk:") ? FATE_SIGNALED : FATE_LIVES;
}

static bool is_exiting(pid_t pid) {
        char path[64], text[1024];
        unsigned long flags = 0;
        const char *p;

        (void) snprintf(path, sizeof path, "/proc/%d/stat", (int) pid);
        if (io_read_file(path, text, sizeof text) < 0)
                return false;
        p = strrchr(text, ')'); /* the name may hold anything */
        return p && sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) == 1 && (flags & PF_EXITING);
}

/* For whom an INTERRUPT came: it comes once, so what is not known counts as deadly. A thread that has gone needs no answer. */
static bool is_deadly(const FuseOp *fop) {
        enum Fate fate = fop->op.pid ? fate_by_signals(fop->op.pid) : FATE_LIVES;

        return fate >= FATE_KILLED || (fate == FATE_SIGNALED && fop->op.any_signal);
}

static bool server_is_silent(const Memory *memory, uint64_t for_ns) {
        uint64_t now = now_ns();

        for (unsigned i = 0; i < memory->n_reactors; i++) {
                uint64_t since = __atomic_load_n(&memory->stats[i].nfs.waiting_since, __ATOMIC_RELAXED);

                if (since && now - since > for_ns)
                        return true;
        }
        return false;
}

/* Pages that were changed through mmap are not only those of who happens to write them back. */
static bool is_of_its_caller(FuseChannel *channel, FuseOp *fop) {
        switch (slot_header(channel, fop->slot)->opcode) {
        case FUSE_FLUSH:
        case FUSE_READ:
                return true;
        case FUSE_WRITE:
                return !(slot_write(fop)->write_flags & FUSE_WRITE_CACHE);
        default:
                return false;
        }
}

/* Who waits without an INTERRUPT, for a server that does not answer. */
static bool is_given_up_silently(FuseChannel *channel, FuseOp *fop) {
        const Memory *memory = channel->volume->memory;
        enum Fate fate;

        if (fop->op.pid == 0 || !server_is_silent(memory, SILENT_NS))
                return false;
        fate = fate_by_signals(fop->op.pid);
        if (fate < FATE_KILLED && is_exiting(fop->op.pid))
                fate = FATE_EXITS;
        switch (fate) {
        case FATE_KILLED:
                return true;
        case FATE_EXITS:
        case FATE_GONE:
                return is_of_its_caller(channel, fop) && server_is_silent(memory, EXIT_NS);
        default:
                return false;
        }
}

static bool is_given_up(FuseChannel *channel, FuseOp *fop) {
        return (!fop->uninterrupted && is_deadly(fop)) || is_given_up_silently(channel, fop);
}

static void watch(FuseChannel *channel, FuseOp *fop, bool uninterrupted, uint64_t ns) {
        uint64_t due = now_ns() + ns;

        fop->watched = true;
        fop->uninterrupted = uninterrupted;
        if (!channel->watch_timer.due || channel->watch_timer.due > due)
                timer_arm(channel->reactor, &channel->watch_timer, due);
}

void interrupt_watch(FuseChannel *channel, FuseOp *fop) {
        watch(channel, fop, false, WATCH_NS);
}

/* An exiting process closes one file after the other: with a server that is silent already, none is to take long. */
void interrupt_watch_silent(FuseChannel *channel, FuseOp *fop) {
        bool soon = slot_header(channel, fop->slot)->opcode == FUSE_FLUSH && server_is_silent(channel->volume->memory, SILENT_NS);

        watch(channel, fop, true, soon ? SOON_NS : WATCH_NS);
}

static void watch_fired(Timer *timer) {
        FuseChannel *channel = container_of(timer, FuseChannel, watch_timer);

        for (unsigned i = 0; i < journal_slots(channel->journal); i++) {
                FuseOp *fop = &channel->ops[i];

                if (!fop->active || !fop->watched)
                        continue;
                if (is_given_up(channel, fop)) {
                        fop->watched = false;
                        vfs_interrupt(&fop->op);
                } else {
                        watch(channel, fop, fop->uninterrupted, WATCH_NS);
                }
        }
}

static bool interrupt_here(FuseChannel *channel, uint64_t target) {
        for (unsigned i = 0; i < journal_slots(channel->journal); i++) {
                FuseOp *fop = &channel->ops[i];

                if (!fop->active || fop->op.unique != target)
                        continue;
                if (fop->op.any_signal || is_deadly(fop))
                        vfs_interrupt(&fop->op);
                else
                        interrupt_watch(channel, fop);
                return true;
        }
        return false;
}

static void answer_lost(const Search *search) {
        const Memory *memory = search->home->volume->memory;
        struct fuse_out_header out = { .len = sizeof out, .error = -EINTR, .unique = search->target };

        /* the kernel knows it at the descriptor from which it was read; ENOENT at all of them: it was answered meanwhile */
        for (unsigned i = 0; i < memory->n_reactors; i++)
                if (write(memory->fuse_fd[i], &out, sizeof out) >= 0) {
                        log_error("a request that was interrupted is not known: answered with EINTR");
                        break;
                }
}

static void search_next(Search *search) {
        FuseChannel *home = search->home;

        if (search->left-- > 0) {
                search->channel = (search->channel + 1) % home->volume->memory->n_reactors;
                return reactor_post(home->volume->channels[search->channel]->reactor, &search->task);
        }
        /* it has come back home */
        if (search->is_last) {
                answer_lost(search);
                return free(search);
        }
        search->is_last = true;
        timer_arm(home->reactor, &search->again, now_ns() + AGAIN_NS);
        TAILQ_INSERT_TAIL(&home->searches, search, search_link);
}

static void search_run(Task *task) {
        Search *search = container_of(task, Search, task);

        if (interrupt_here(search->home->volume->channels[search->channel], search->target))
                return free(search);
        search_next(search);
}

static void search_begin(Search *search) {
        search->channel = search->home->index;
        search->left = search->home->volume->memory->n_reactors;
        search_next(search);
}

static void search_again(Timer *timer) {
        Search *search = container_of(timer, Search, again);

        TAILQ_REMOVE(&search->home->searches, search, search_link);
        search_begin(search);
}

void interrupt_request(FuseChannel *channel, uint64_t interrupt_unique, uint64_t target) {
        struct fuse_out_header again = { .len = sizeof again, .error = -EAGAIN, .unique = interrupt_unique };
        Search *search;

        atomic_fetch_add_explicit(&channel->stats->interrupts, 1, memory_order_relaxed);
        if (interrupt_here(channel, target))
                return;
        search = calloc(1, sizeof *search);
        if (!search) {
                (void) !write(channel->fd, &again, sizeof again); /* the kernel sends it again */
                return;
        }
        search->task.run = search_run;
        search->again.fired = search_again;
        search->home = channel;
        search->target = target;
        search_begin(search);
}

void interrupt_init(FuseChannel *channel) {
        channel->watch_timer.fired = watch_fired;
        TAILQ_INIT(&channel->searches);
}

void interrupt_stop(FuseChannel *channel) {
        Search *search;

        timer_disarm(&channel->watch_timer);
        while ((search = TAILQ_FIRST(&channel->searches))) {
                TAILQ_REMOVE(&channel->searches, search, search_link);
                timer_disarm(&search->again);
                free(search);
        }
}
