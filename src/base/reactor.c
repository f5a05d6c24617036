/*
 * See include/base/reactor.h.
 *
 * Thread: everything below runs on the reactor's thread, but for the mailbox: posted tasks and the
 * stop request, which mailbox_lock protects and mailbox_fd announces; but not to who is awake, and looks before he sleeps.
 * Timers are a tree by due time; the wait's time-out is the first one's.
 *
 * A callback may remove any source. epoll_wait() has then perhaps reported that source already, so the
 * events of one wait are first copied into the sources (ready_link), and removing takes it off that list.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/reactor.h"

#define EVENTS_PER_WAIT 32
#define ROUNDS_PER_TURN 4

TAILQ_HEAD(SourceList, FdSource);
TAILQ_HEAD(TaskList, Task);
TAILQ_HEAD(HookList, Hook);
RB_HEAD(TimerTree, Timer);

struct Reactor {
        int epoll_fd;
        int mailbox_fd;
        uint64_t now;
        struct SourceList ready;
        struct TaskList deferred;
        struct HookList hooks;
        struct TimerTree timers;

        pthread_mutex_t mailbox_lock;
        struct TaskList mailbox;
        bool awake;
        bool stopped;
        int result;
};

static int timer_compare(const Timer *a, const Timer *b) {
        if (a->due != b->due)
                return a->due < b->due ? -1 : 1;
        return (uintptr_t) a < (uintptr_t) b ? -1 : a != b;
}

RB_GENERATE_INTERNAL(TimerTree, Timer, by_due, timer_compare, _unused_ static)

int reactor_new(Reactor **ret) {
        _cleanup_(reactor_freep) Reactor *reactor = calloc(1, sizeof *reactor);
        struct epoll_event event = { .events = EPOLLIN };

        if (!reactor)
                return -ENOMEM;
        reactor->epoll_fd = -1;
        reactor->mailbox_fd = -1;
        TAILQ_INIT(&reactor->ready);
        TAILQ_INIT(&reactor->deferred);
        TAILQ_INIT(&reactor->hooks);
        TAILQ_INIT(&reactor->mailbox);
        RB_INIT(&reactor->timers);
        (void) pthread_mutex_init(&reactor->mailbox_lock, NULL);
        reactor->now = now_ns();

        reactor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (reactor->epoll_fd < 0)
                return -errno;
        reactor->mailbox_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (reactor->mailbox_fd < 0)
                return -errno;
        if (epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, reactor->mailbox_fd, &event) < 0)
                return -errno; /* data.ptr NULL: the mailbox */

        *ret = TAKE_PTR(reactor);
        return 0;
}

Reactor *reactor_free(Reactor *reactor) {
        if (!reactor)
                return NULL;
        (void) fd_close(reactor->epoll_fd);
        (void) fd_close(reactor->mailbox_fd);
        (void) pthread_mutex_destroy(&reactor->mailbox_lock);
        free(reactor);
        return NULL;
}

uint64_t reactor_now(const Reactor *reactor) {
        return reactor->now;
}

/* ---- descriptors ---- */

int fd_source_add(Reactor *reactor, FdSource *source, int fd, uint32_t events) {
        struct epoll_event event = { .events = events, .data.ptr = source };

        if (epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
                return -errno;
        source->fd = fd;
        source->events = events;
        source->reactor = reactor;
        source->ready_events = 0;
        return 0;
}

int fd_source_modify(FdSource *source, uint32_t events) {
        struct epoll_event event = { .events = events, .data.ptr = source };
        int epoll_fd = source->reactor->epoll_fd, op = EPOLL_CTL_MOD;

        if (events == source->events)
                return 0;
        if ((events | source->events) & EPOLLEXCLUSIVE) { /* this cannot be modified (epoll_ctl(2)) */
                (void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
                op = EPOLL_CTL_ADD;
        }
        if (epoll_ctl(epoll_fd, op, source->fd, &event) < 0) {
                if (op == EPOLL_CTL_ADD)
                        source->events = 0;
                return -errno;
        }
        source->events = events;
        return 0;
}

void fd_source_remove(FdSource *source) {
        if (!source->reactor)
                return;
        if (source->ready_events) {
                TAILQ_REMOVE(&source->reactor->ready, source, ready_link);
                source->ready_events = 0;
        }
        (void) epoll_ctl(source->reactor->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        source->reactor = NULL;
        source->fd = -1;
}

/* ---- timers ---- */

void timer_arm(Reactor *reactor, Timer *timer, uint64_t due) {
        timer_disarm(timer);
        timer->reactor = reactor;
        timer->due = due ? due : 1;
        RB_INSERT(TimerTree, &reactor->timers, timer);
}

void timer_disarm(Timer *timer) {
        if (!timer->due)
                return;
        RB_REMOVE(TimerTree, &timer->reactor->timers, timer);
        timer->due = 0;
}

static void run_timers(Reactor *reactor) {
        Timer *timer;

        while ((timer = RB_MIN(TimerTree, &reactor->timers)) && timer->due <= reactor->now) {
                timer_disarm(timer);
                timer->fired(timer);
        }
}

/* ---- tasks and hooks ---- */

void reactor_defer(Reactor *reactor, Task *task) {
        if (task->queued)
                return;
        task->queued = true;
        TAILQ_INSERT_TAIL(&reactor->deferred, task, queue_link);
}

void reactor_undefer(Reactor *reactor, Task *task) {
        if (!task->queued)
                return;
        task->queued = false;
        TAILQ_REMOVE(&reactor->deferred, task, queue_link);
}

static void mailbox_ring(Reactor *reactor) {
        (void) !write(reactor->mailbox_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

void reactor_post(Reactor *reactor, Task *task) {
        bool ring = false;

        (void) pthread_mutex_lock(&reactor->mailbox_lock);
        if (!task->queued) {
                task->queued = true;
                ring = !reactor->awake && TAILQ_EMPTY(&reactor->mailbox);
                TAILQ_INSERT_TAIL(&reactor->mailbox, task, queue_link);
        }
        (void) pthread_mutex_unlock(&reactor->mailbox_lock);
        if (ring)
                mailbox_ring(reactor);
}

void reactor_stop(Reactor *reactor, int result) {
        (void) pthread_mutex_lock(&reactor->mailbox_lock);
        reactor->stopped = true;
        reactor->result = result;
        (void) pthread_mutex_unlock(&reactor->mailbox_lock);
        mailbox_ring(reactor);
}

/* false: there is mail. */
static bool mailbox_sleep(Reactor *reactor) {
        (void) pthread_mutex_lock(&reactor->mailbox_lock);
        reactor->awake = !TAILQ_EMPTY(&reactor->mailbox);
        (void) pthread_mutex_unlock(&reactor->mailbox_lock);
        return !reactor->awake;
}

static void mailbox_wake(Reactor *reactor, bool rung) {
        (void) pthread_mutex_lock(&reactor->mailbox_lock);
        reactor->awake = true;
        (void) pthread_mutex_unlock(&reactor->mailbox_lock);
        if (rung)
                (void) !read(reactor->mailbox_fd, &(uint64_t){ 0 }, sizeof(uint64_t));
}

static bool run_mailbox(Reactor *reactor) {
        bool any = false;
        Task *task;

        for (;; any = true) {
                (void) pthread_mutex_lock(&reactor->mailbox_lock);
                task = TAILQ_FIRST(&reactor->mailbox);
                if (task) {
                        TAILQ_REMOVE(&reactor->mailbox, task, queue_link);
                        task->queued = false;
                }
                (void) pthread_mutex_unlock(&reactor->mailbox_lock);
                if (!task)
                        return any;
                task->run(task);
        }
}

static bool run_deferred(Reactor *reactor) {
        bool any = false;
        Task *task;

        for (; (task = TAILQ_FIRST(&reactor->deferred)); any = true) {
                TAILQ_REMOVE(&reactor->deferred, task, queue_link);
                task->queued = false;
                task->run(task);
        }
        return any;
}

/* Also what the tasks post and defer themselves: all of it belongs to this turn. false: there was none. */
static bool run_tasks(Reactor *reactor) {
        bool any = false, more;

        do {
                more = run_mailbox(reactor);
                more |= run_deferred(reactor);
                any |= more;
        } while (more);
        return any;
}

static void run_hooks(Reactor *reactor) {
        Hook *hook, *next;

        for (hook = TAILQ_FIRST(&reactor->hooks); hook; hook = next) {
                next = TAILQ_NEXT(hook, hook_link);
                hook->run(hook);
        }
}

void reactor_add_hook(Reactor *reactor, Hook *hook) {
        TAILQ_INSERT_TAIL(&reactor->hooks, hook, hook_link);
}

void reactor_remove_hook(Reactor *reactor, Hook *hook) {
        TAILQ_REMOVE(&reactor->hooks, hook, hook_link);
}

/* ---- turns ---- */

/* Milliseconds to wait, rounded up so that a timer is due when the wait ends. -1: for ever. */
static int wait_ms(Reactor *reactor, uint64_t deadline) {
        Timer *timer = RB_MIN(TimerTree, &reactor->timers);
        uint64_t now, left;

        if (!TAILQ_EMPTY(&reactor->deferred))
                return 0;
        if (timer && timer->due < deadline)
                deadline = timer->due;
        if (deadline == UINT64_MAX)
                return -1;
        if (deadline == 0)
                return 0;
        now = now_ns();
        left = deadline > now ? (deadline - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC : 0;
        return (int) MIN(left, (uint64_t) 60 * 1000);
}

int reactor_turn(Reactor *reactor, uint64_t deadline) {
        struct epoll_event events[EVENTS_PER_WAIT];
        bool rung = false;
        unsigned rounds = 0;
        FdSource *source;
        int n;

        n = epoll_wait(reactor->epoll_fd, events, EVENTS_PER_WAIT, mailbox_sleep(reactor) ? wait_ms(reactor, deadline) : 0);
        if (n < 0 && errno != EINTR)
                return -errno;
        reactor->now = now_ns();

        for (int i = 0; i < n; i++) {
                source = events[i].data.ptr;
                if (!source) {
                        rung = true;
                        continue;
                }
                source->ready_events = events[i].events;
                TAILQ_INSERT_TAIL(&reactor->ready, source, ready_link);
        }

        mailbox_wake(reactor, rung);
        run_timers(reactor);
        while ((source = TAILQ_FIRST(&reactor->ready))) {
                uint32_t ready = source->ready_events;

                TAILQ_REMOVE(&reactor->ready, source, ready_link);
                source->ready_events = 0;
                source->ready(source, ready);
        }
        (void) run_tasks(reactor);
        do
                run_hooks(reactor);
        while (++rounds < ROUNDS_PER_TURN && run_tasks(reactor));
        return 0;
}

int reactor_run(Reactor *reactor) {
        for (;;) {
                int r = reactor_turn(reactor, UINT64_MAX);
                bool stopped;

                if (r < 0)
                        return r;
                (void) pthread_mutex_lock(&reactor->mailbox_lock);
                stopped = reactor->stopped;
                (void) pthread_mutex_unlock(&reactor->mailbox_lock);
                if (stopped)
                        return reactor->result;
        }
}
