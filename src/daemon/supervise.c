/*
 * The worker is started, watched, and started again.
 *
 * Whoever is the keeper need not be the parent of the worker (after a keeper's death it is not), so it is watched by
 * pidfd; how it ended is then not known, only whether it had finished (WORKER_FINISHED, and the kernel says so too). A
 * worker that is there is adopted, one that is not is started; which of the two it is, its role (role.c) tells.
 *
 * Restarts are immediate, unless workers die again and again without having answered anything: then after a while. After
 * IDLE_DEATHS_MAX of them, if it is their own doing, the volume is failing: a process that needs nothing of what may be
 * broken answers every request with EIO (fuse/refuse.c), so that nobody hangs, and every RETRY_S another worker is tried.
 * Workers that are killed while they wait for a dead server have answered nothing either; whoever waits there waits on.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "base/log.h"
#include "daemon.h"
#include "worker.h"

#define IDLE_DEATHS_MAX 12 /* with the pauses about eight seconds */
#define PAUSE_MIN_MS    100u
#define PAUSE_MAX_MS    1600u
#define RETRY_S         30
#define LEAVE_MS        1000u

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static int worker_gone(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static uint64_t count_replies(const Keeper *keeper) {
        uint64_t n = 0;

        for (unsigned i = 0; i < keeper->record->n_reactors; i++)
                n += atomic_load(&keeper->memory->stats[i].replies);
        return n;
}

static uint64_t count_recovered(const Keeper *keeper, enum SlotState state) {
        uint64_t n = 0;

        for (unsigned i = 0; i < keeper->record->n_reactors; i++)
                n += atomic_load(&keeper->memory->stats[i].recovered[state]);
        return n;
}

/* ---- starting ---- */

static int worker_watch(Keeper *keeper, pid_t pid, int pidfd) {
        int r;

        r = sd_event_add_io(keeper->event, &keeper->worker, pidfd, EPOLLIN, worker_gone, keeper);
        if (r < 0) {
                (void) fd_close(pidfd);
                return r;
        }
        keeper->worker_fd = pidfd;
        keeper->worker_pid = pid;
        keeper->condemned = false;
        keeper->replies_at_start = count_replies(keeper);
        watchdog_reset(keeper);
        return 0;
}

int supervise_spawn(Keeper *keeper, const char *program, const char *role) {
        Memory *memory = keeper->memory;
        pid_t pid;
        int r;

        record_restore_head(keeper);
        atomic_store(&memory->worker_state, WORKER_STARTING);
        r = spawn_role(keeper, program, role, keeper->record->memory_fd, -1, &pid);
        if (r < 0)
                return r;
        atomic_fetch_add(&memory->worker_starts, 1);
        r = process_open(pid); /* our child, and not waited for: it is that one */
        if (r < 0) {
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
                return r;
        }
        return worker_watch(keeper, pid, r);
}

/* 0: there is none. */
static int worker_adopt(Keeper *keeper) {
        pid_t holder = role_holder(keeper->record->memory_fd);
        int fd, r;

        if (holder == 0)
                return 0;
        fd = process_open(holder);
        if (fd < 0)
                return 0;
        if (role_holder(keeper->record->memory_fd) != holder) {
                (void) fd_close(fd);
                return 0;
        }
        r = worker_watch(keeper, holder, fd);
        return r < 0 ? r : 1;
}

static int retry_fired(sd_event_source *source, uint64_t usec, void *userdata);

static int restart_in(Keeper *keeper, uint64_t delay_ms, sd_event_time_handler_t fired) {
        uint64_t now;
        int r;

        r = sd_event_now(keeper->event, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return r;
        keeper->restart_timer = sd_event_source_disable_unref(keeper->restart_timer);
        return sd_event_add_time(keeper->event, &keeper->restart_timer, CLOCK_MONOTONIC, now + delay_ms * 1000, 0, fired, keeper);
}

static int restart_fired(sd_event_source *source, uint64_t usec, void *userdata) {
        Keeper *keeper = userdata;

        (void) usec;
        keeper->restart_timer = sd_event_source_disable_unref(source);
        return supervise_start(keeper);
}

/* One that cannot be started (no memory, no processes) is tried again in a second. */
int supervise_start(Keeper *keeper) {
        bool refuse = keeper->record->failing && !keeper->retrying;
        int r;

        r = worker_adopt(keeper);
        if (r == 0)
                r = supervise_spawn(keeper, NULL, refuse ? "--refuser" : "--worker");
        if (r >= 0 && refuse)
                return restart_in(keeper, RETRY_S * 1000, retry_fired);
        if (r >= 0)
                return 0;
        log_error("no worker can be started, trying again: %s", strerror(-r));
        return restart_in(keeper, 1000, restart_fired);
}

/* ---- the end of one ---- */

static bool is_exit(const siginfo_t *si, bool known, int status) {
        return known && si->si_code == CLD_EXITED && si->si_status == status;
}

static void describe_end(const Keeper *keeper, const siginfo_t *si, bool known, char *buf, size_t size) {
        if (keeper->condemned)
                (void) snprintf(buf, size, "%s", keeper->condemned_for);
        else if (!known)
                (void) snprintf(buf, size, "the worker ended, under a former keeper");
        else if (is_exit(si, known, WORKER_EXIT_UNUSABLE))
                (void) snprintf(
                        buf, size,
                        "the recovery memory is damaged, and none can go on with it: unmount the volume and mount it again");
        else if (si->si_code == CLD_EXITED)
                (void) snprintf(buf, size, "the worker ended with status %d", si->si_status);
        else
                (void) snprintf(buf, size, "the worker was killed by signal %d (%s)%s", si->si_status, strsignal(si->si_status),
                                si->si_code == CLD_DUMPED ? ", core dumped" : "");
}

void supervise_mark_end(Keeper *keeper, const char *why) {
        KeeperRecord *record = keeper->record;

        if (record->died_at)
                return; /* its successor did not come to serve: the stall goes on */
        (void) snprintf(record->death, sizeof record->death, "%s", why);
        for (int state = 0; state <= SLOT_DONE; state++)
                record->recovered_before[state] = count_recovered(keeper, (enum SlotState) state);
        record->died_at = now_ns();
}

/* hopeless: the next one would end in the same way. */
static int worker_restart(Keeper *keeper, bool hopeless) {
        KeeperRecord *record = keeper->record;
        bool served = atomic_load(&keeper->memory->worker_state) == WORKER_SERVING;

        if (count_replies(keeper) != keeper->replies_at_start)
                record->idle_deaths = 0;
        if (record->idle_deaths < IDLE_DEATHS_MAX - 1 || !served || atomic_load(&keeper->memory->worker_faulted))
                record->idle_deaths++;
        if (hopeless || record->idle_deaths >= IDLE_DEATHS_MAX) {
                if (!record->failing)
                        log_error("workers end without having answered anything (%u in a row), the last so: %s. Every "
                                  "request is answered with EIO from now on; another worker is tried every %d s, and "
                                  "by `nfsvol upgrade %s`",
                                  record->idle_deaths, record->death, RETRY_S, keeper->args->id);
                record->failing = true;
                return supervise_start(keeper);
        }
        if (record->idle_deaths <= 3)
                return supervise_start(keeper);
        return restart_in(keeper, MIN(PAUSE_MIN_MS << (record->idle_deaths - 4), PAUSE_MAX_MS), restart_fired);
}

/* The refusing one has been told to make room, or has ended by itself. */
static int refuser_gone(Keeper *keeper, const char *end) {
        if (!keeper->retrying) {
                log_error("who answers with EIO has ended as well: %s", end);
                return restart_in(keeper, 1000, restart_fired);
        }
        keeper->record->idle_deaths = IDLE_DEATHS_MAX - 1;
        return supervise_start(keeper);
}

/* Did it end by its own doing? Then one of its requests may have been the cause (fuse/channel.c). */
static bool is_fault(const Keeper *keeper, const siginfo_t *si, bool known) {
        if (keeper->condemned || !known)
                return keeper->condemned && keeper->stuck;
        return si->si_code == CLD_EXITED || (si->si_status != SIGKILL && si->si_status != SIGTERM && si->si_status != SIGINT);
}

static int worker_gone(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Keeper *keeper = userdata;
        KeeperRecord *record = keeper->record;
        bool refuser = record->failing && (!keeper->retrying || atomic_load(&keeper->memory->worker_state) == WORKER_REFUSING);
        siginfo_t si = { 0 };
        char end[128];
        bool known;

        (void) revents;
        known = waitid((idtype_t) P_PIDFD, (id_t) fd, &si, WEXITED | WNOHANG) == 0 && si.si_pid != 0;
        describe_end(keeper, &si, known, end, sizeof end);
        atomic_store(&keeper->memory->worker_faulted, is_fault(keeper, &si, known));
        keeper->worker = sd_event_source_disable_unref(source);
        keeper->worker_fd = fd_close(keeper->worker_fd);
        keeper->worker_pid = 0;
        stack_log(keeper);
        if (atomic_load(&keeper->memory->worker_state) == WORKER_FINISHED && device_has_ended(keeper))
                return keeper_over(keeper); /* what the worker says of that is not enough: we would unmount */
        if (upgrade_worker_gone(keeper, end))
                return 0;
        if (refuser)
                return refuser_gone(keeper, end);
        if (is_exit(&si, known, WORKER_EXIT_BUSY))
                return supervise_start(keeper); /* there is one already */
        supervise_mark_end(keeper, end);
        keeper->retrying = false;
        record->worker_restarts++;
        log_error("%s: starting another", end);
        return worker_restart(keeper, is_exit(&si, known, WORKER_EXIT_UNUSABLE));
}

void supervise_kill(Keeper *keeper, const char *why) {
        if (keeper->worker_fd < 0)
                return;
        (void) snprintf(keeper->condemned_for, sizeof keeper->condemned_for, "%s", why);
        keeper->condemned = true;
        (void) process_signal(keeper->worker_fd, SIGKILL);
}

/* ---- failing ---- */

static int retry_fired(sd_event_source *source, uint64_t usec, void *userdata) {
        Keeper *keeper = userdata;

        (void) source;
        (void) usec;
        supervise_retry_now(keeper);
        return 0;
}

static int leave_fired(sd_event_source *source, uint64_t usec, void *userdata) {
        Keeper *keeper = userdata;

        (void) source;
        (void) usec;
        if (keeper->worker_fd >= 0 && atomic_load(&keeper->memory->worker_state) == WORKER_REFUSING)
                supervise_kill(keeper, "it did not make room for a worker");
        return 0;
}

/* To leave: killed, it could have read a request, and nobody would answer that. */
static void refuser_ask(Keeper *keeper) {
        (void) snprintf(keeper->condemned_for, sizeof keeper->condemned_for, "to make room for a worker");
        keeper->condemned = true;
        (void) process_signal(keeper->worker_fd, WORKER_LEAVE);
        (void) restart_in(keeper, LEAVE_MS, leave_fired);
}

void supervise_retry_now(Keeper *keeper) {
        keeper->restart_timer = sd_event_source_disable_unref(keeper->restart_timer);
        keeper->retrying = true;
        if (keeper->worker_fd < 0)
                (void) supervise_start(keeper);
        else if (atomic_load(&keeper->memory->worker_state) != WORKER_REFUSING)
                supervise_kill(keeper, "to make room for another");
        else
                refuser_ask(keeper);
}

int supervise_retry_s(const Keeper *keeper) {
        uint64_t due, now = now_ns() / 1000;

        if (!keeper->record->failing)
                return -1;
        if (!keeper->restart_timer || sd_event_source_get_time(keeper->restart_timer, &due) < 0 || due < now)
                return 0;
        return (int) ((due - now) / 1000000);
}

/* ---- serving again ---- */

static void log_stall(Keeper *keeper) {
        KeeperRecord *record = keeper->record;
        uint64_t us = (now_ns() - record->died_at) / 1000, n[SLOT_DONE + 1];

        for (int state = 0; state <= SLOT_DONE; state++)
                n[state] = count_recovered(keeper, (enum SlotState) state) - record->recovered_before[state];
        record->last_stall_us = us;
        record->worst_stall_us = MAX(record->worst_stall_us, us);
        record->stalls++;
        record->died_at = 0;
        log_notice("%s: serving again after %llu.%03llu ms; of the requests in flight %llu had just been read, %llu were "
                   "not begun, %llu perhaps executed, %llu to be answered",
                   record->death, (unsigned long long) us / 1000, (unsigned long long) us % 1000,
                   (unsigned long long) n[SLOT_READING], (unsigned long long) n[SLOT_QUEUED], (unsigned long long) n[SLOT_EXEC],
                   (unsigned long long) n[SLOT_DONE]);
}

static int worker_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Keeper *keeper = userdata;
        KeeperRecord *record = keeper->record;
        uint64_t n;

        (void) source;
        (void) revents;
        if (read(fd, &n, sizeof n) != sizeof n)
                return 0;
        if (keeper->worker_fd < 0 || atomic_load(&keeper->memory->worker_state) != WORKER_SERVING)
                return 0; /* it was, and has died in the meantime */
        if (record->died_at)
                log_stall(keeper);
        if (record->failing)
                log_notice("the volume is served again");
        record->failing = keeper->retrying = false;
        keeper->restart_timer = sd_event_source_disable_unref(keeper->restart_timer); /* a retry under a former keeper */
        if (record->ending)
                (void) process_signal(keeper->worker_fd, SIGTERM); /* the scope's came before its time */
        upgrade_worker_ready(keeper);
        return 0;
}

static int stack_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        (void) source;
        (void) fd;
        (void) revents;
        stack_log(userdata);
        return 0;
}

/* What worker and keeper call each other by. Workers inherit it, and standbys, so that it outlives both. */
static int channels_make(Keeper *keeper) {
        KeeperRecord *record = keeper->record;
        Memory *memory = keeper->memory;

        record->ready_fd = memory->ready_fd = eventfd(0, EFD_NONBLOCK);
        if (record->ready_fd < 0 || pipe2(record->stack_fds, O_NONBLOCK) < 0)
                return -errno;
        memory->stack_fd = record->stack_fds[1];
        for (unsigned i = 0; i < memory->n_reactors; i++) {
                record->ping_fd[i] = memory->ping_fd[i] = eventfd(0, EFD_NONBLOCK);
                if (record->ping_fd[i] < 0)
                        return -errno;
        }
        return 0;
}

int supervise_prepare(Keeper *keeper) {
        KeeperRecord *record = keeper->record;
        int r = 0;

        if (record->ready_fd < 0)
                r = channels_make(keeper);
        if (r >= 0)
                r = sd_event_add_io(keeper->event, &keeper->ready, record->ready_fd, EPOLLIN, worker_ready, keeper);
        if (r >= 0)
                r = sd_event_add_io(keeper->event, &keeper->stack, record->stack_fds[0], EPOLLIN, stack_ready, keeper);
        return r;
}
