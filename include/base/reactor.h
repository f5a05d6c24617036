/*
 * A reactor: one thread, one epoll set, timers, and a mailbox for other threads.
 *
 * Everything but reactor_post() and reactor_stop() is called on the reactor's own thread (or before
 * its thread runs). Callers embed FdSource, Timer, Task and Hook in their own objects; the reactor
 * allocates nothing for them. A callback may remove or free any source, timer or task, its own too.
 *
 * One turn: wait; due timers; ready descriptors; posted and deferred tasks; hooks. Hooks run last, so that what a
 * turn queued goes out in one system call; if they post or defer tasks, these and the hooks have another round before
 * the next wait (a few at most).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <bsd/sys/tree.h>

#include "base/util.h"

typedef struct Reactor Reactor;
typedef struct FdSource FdSource;
typedef struct Timer Timer;
typedef struct Task Task;
typedef struct Hook Hook;

struct FdSource {
        void (*ready)(FdSource *source, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
        int fd;                                           /* not owned; -1: not registered */
        uint32_t events;
        Reactor *reactor;
        TAILQ_ENTRY(FdSource) ready_link; /* private */
        uint32_t ready_events;            /* private */
};

struct Timer {
        void (*fired)(Timer *timer);
        uint64_t due; /* ns, CLOCK_MONOTONIC; 0: not armed */
        Reactor *reactor;
        RB_ENTRY(Timer) by_due; /* private */
};

struct Task {
        void (*run)(Task *task);
        bool queued; /* private */
        TAILQ_ENTRY(Task) queue_link;
};

struct Hook {
        void (*run)(Hook *hook);
        TAILQ_ENTRY(Hook) hook_link;
};

int reactor_new(Reactor **ret);
Reactor *reactor_free(Reactor *reactor);
static inline void reactor_freep(Reactor **reactor) {
        *reactor = reactor_free(*reactor);
}

/* Runs turns until reactor_stop(). Returns what was passed there, or a negative errno of epoll. */
int reactor_run(Reactor *reactor);

/* One turn; waits at most until deadline (ns, monotonic; 0: do not wait). 0 or negative errno. */
int reactor_turn(Reactor *reactor, uint64_t deadline);

/* Any thread. */
void reactor_stop(Reactor *reactor, int result);

/* The time at which the current turn woke up: ns, CLOCK_MONOTONIC. */
uint64_t reactor_now(const Reactor *reactor);

/*
 * Level-triggered. source->ready is set by the caller. 0 or negative errno. EPOLLEXCLUSIVE: of several reactors that wait for
 * one descriptor's queue, one that is idle is woken (epoll_ctl(2)).
 */
int fd_source_add(Reactor *reactor, FdSource *source, int fd, uint32_t events);
int fd_source_modify(FdSource *source, uint32_t events);
/* Takes one that is not registered. Before the descriptor is closed. */
void fd_source_remove(FdSource *source);

/* timer->fired is set by the caller. Re-arms one that is armed. due: ns, CLOCK_MONOTONIC. */
void timer_arm(Reactor *reactor, Timer *timer, uint64_t due);
/* Takes one that is not armed. */
void timer_disarm(Timer *timer);

/* Runs task->run later in this turn or in the next, on the reactor's thread; nothing if already queued. */
void reactor_defer(Reactor *reactor, Task *task);
/* Removes a deferred task that has not run yet. Own thread; not for posted tasks. */
void reactor_undefer(Reactor *reactor, Task *task);
/* The same as reactor_defer() from any thread. A task is posted or deferred, never both. */
void reactor_post(Reactor *reactor, Task *task);

void reactor_add_hook(Reactor *reactor, Hook *hook);
void reactor_remove_hook(Reactor *reactor, Hook *hook);
