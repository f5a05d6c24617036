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
 * Some wait without an INTERRUPT ever: O_DIRECT reads and writes (the kernel makes them asynchronous, and waits for all), and
 * a process that exits, killed or not, for the FLUSH of each of its files. So these are looked after while the server has
 * not answered for a while. Nobody hears the answer to the FLUSH of a process that was killed, and what was written goes
 * out all the same: it need not wait. One that exits by itself may be waited for by whoever then looks from another node; but
 * it hears no signal any more, so it waits for long, and not for ever.
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
#define EXIT_NS   (15 * NSEC_PER_SEC)   /* less than kubelet's grace before it kills */
#define AGAIN_NS  NSEC_PER_SEC

#define PF_EXITING  0x4 /* the kernel's, in /proc/<tid>/stat: proc(5) */
#define PF_SIGNALED 0x400

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

/* By /proc/<tid>/status: a SIGKILL, or any signal that is not blocked. A thread that has gone needs no answer. */
static bool has_signal(pid_t pid, bool any) {
        char path[64], text[4096];
        uint64_t pending;

        if (pid == 0)
                return false;
        (void) snprintf(path, sizeof path, "/proc/%d/status", (int) pid);
        if (io_read_file(path, text, sizeof text) < 0)
                return true;
        pending = signals(text, "\nSigPnd:") | signals(text, "\nShdPnd:");
        if (any)
                return (pending & ~signals(text, "\nSigBlk:")) != 0;
        return (pending & (UINT64_C(1) << (SIGKILL - 1))) != 0;
}

static bool is_being_killed(pid_t pid) {
        return has_signal(pid, false);
}

static unsigned long kernel_flags(pid_t pid) {
        char path[64], text[1024];
        unsigned long flags = 0;
        const char *p;

        (void) snprintf(path, sizeof path, "/proc/%d/stat", (int) pid);
        if (pid == 0 || io_read_file(path, text, sizeof text) < 0)
                return 0;
        p = strrchr(text, ')'); /* the name may hold anything */
        return p && sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) == 1 ? flags : 0;
}

static pid_t process_of(pid_t thread) {
        char path[64], text[4096];
        const char *p;

        (void) snprintf(path, sizeof path, "/proc/%d/status", (int) thread);
        if (io_read_file(path, text, sizeof text) < 0)
                return 0;
        p = strstr(text, "\nTgid:");
        return p ? (pid_t) strtol(p + strlen("\nTgid:"), NULL, 10) : 0;
}

/* What exit_group(2) ends other threads with looks like a signal; it is the first one, as a rule, that calls it. */
static bool was_killed(pid_t pid) {
        return (kernel_flags(pid) & PF_SIGNALED) && (kernel_flags(process_of(pid)) & PF_SIGNALED);
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

static bool is_given_up(FuseChannel *channel, FuseOp *fop) {
        if (!fop->uninterrupted && has_signal(fop->op.pid, fop->op.any_signal))
                return true;
        if (!server_is_silent(channel->volume->memory, SILENT_NS))
                return false;
        if (is_being_killed(fop->op.pid))
                return true;
        if (slot_header(channel, fop->slot)->opcode != FUSE_FLUSH || !(kernel_flags(fop->op.pid) & PF_EXITING))
                return false;
        return was_killed(fop->op.pid) || server_is_silent(channel->volume->memory, EXIT_NS);
}

static void watch(FuseChannel *channel, FuseOp *fop, bool uninterrupted) {
        fop->watched = true;
        fop->uninterrupted = uninterrupted;
        if (!channel->watch_timer.due)
                timer_arm(channel->reactor, &channel->watch_timer, now_ns() + WATCH_NS);
}

void interrupt_watch(FuseChannel *channel, FuseOp *fop) {
        watch(channel, fop, false);
}

void interrupt_watch_silent(FuseChannel *channel, FuseOp *fop) {
        watch(channel, fop, true);
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
                        watch(channel, fop, fop->uninterrupted);
                }
        }
}

static bool interrupt_here(FuseChannel *channel, uint64_t target) {
        for (unsigned i = 0; i < journal_slots(channel->journal); i++) {
                FuseOp *fop = &channel->ops[i];

                if (!fop->active || fop->op.unique != target)
                        continue;
                if (fop->op.any_signal || is_being_killed(fop->op.pid))
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
