/*
 * A worker that is stuck is noticed and replaced.
 *
 * Stuck is not: waiting for the server. A reactor whose requests wait still turns when it is called. So, while there is
 * anything to do (a request in the journal, or one that nobody reads), each reactor is called by its eventfd, four times
 * in NFSVOL_WATCHDOG seconds; one that has not answered by the end of them does not turn. An idle volume wakes nobody
 * but us. Ticks are counted, not time: what stops us too (a suspended machine) makes nobody late.
 */
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/log.h"
#include "daemon.h"

#define BOUND_S    20 /* NFSVOL_WATCHDOG */
#define TICKS      4
#define STACK_USEC (300 * 1000) /* for the threads to write their stacks */

static int tick(sd_event_source *source, uint64_t usec, void *userdata);

static unsigned bound_s(void) {
        const char *text = secure_getenv("NFSVOL_WATCHDOG");

        return text ? (unsigned) MIN(strtoul(text, NULL, 10), 3600ul) : BOUND_S;
}

static int fire_in(sd_event_source *source, uint64_t usec) {
        uint64_t now;
        int r;

        r = sd_event_now(sd_event_source_get_event(source), CLOCK_MONOTONIC, &now);
        if (r >= 0)
                r = sd_event_source_set_time(source, now + usec);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void watchdog_reset(Keeper *keeper) {
        for (unsigned i = 0; i < REACTORS_MAX; i++)
                keeper->called[i] = 0;
        keeper->stuck = false;
}

static bool is_busy(const Keeper *keeper) {
        struct pollfd pfd = { .fd = keeper->record->fuse_fd, .events = POLLIN };

        if (poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLIN | POLLERR))) /* POLLERR: its end is to be seen to */
                return true;
        for (unsigned i = 0; i < keeper->record->n_reactors; i++)
                for (unsigned j = 0; j < journal_slots(&keeper->memory->journal[i]); j++)
                        if (atomic_load_explicit(&keeper->memory->journal[i].slots[j].state, memory_order_relaxed) != SLOT_FREE)
                                return true;
        return false;
}

/* Whether it is late for the last time. */
static bool reactor_is_stuck(Keeper *keeper, unsigned i, bool busy) {
        uint32_t pongs = atomic_load(&keeper->memory->pongs[i]);

        if (keeper->called[i] > 0 && pongs != keeper->pongs[i])
                keeper->called[i] = 0;
        if (keeper->called[i] == 0 && !busy)
                return false;
        if (keeper->called[i] == 0) {
                keeper->pongs[i] = pongs;
                (void) !write(keeper->record->ping_fd[i], &(uint64_t){ 1 }, sizeof(uint64_t));
        }
        return keeper->called[i]++ >= TICKS;
}

/* ---- its last words ---- */

/* A process that does not turn may be waiting in the kernel: where, and for what. */
static void log_thread(pid_t pid, const char *tid) {
        static const char *const files[] = { "comm", "wchan", "syscall" };
        char path[64], text[ELEMENTSOF(files)][160] = { "", "", "" }, stat[256] = "", *state;

        for (unsigned i = 0; i < ELEMENTSOF(files); i++) {
                (void) snprintf(path, sizeof path, "/proc/%d/task/%.16s/%s", (int) pid, tid, files[i]);
                (void) io_read_file(path, text[i], sizeof text[i]);
                text[i][strcspn(text[i], "\n")] = '\0';
        }
        (void) snprintf(path, sizeof path, "/proc/%d/task/%.16s/stat", (int) pid, tid);
        (void) io_read_file(path, stat, sizeof stat);
        state = strrchr(stat, ')');
        log_error("worker's thread %s (%s): state %.1s, waits in %s, system call %s", tid, text[0],
                  state && state[1] ? state + 2 : "?", *text[1] && strcmp(text[1], "0") != 0 ? text[1] : "nothing", text[2]);
}

static void log_threads(pid_t pid) {
        char path[64];
        struct dirent *entry;
        DIR *dir;

        (void) snprintf(path, sizeof path, "/proc/%d/task", (int) pid);
        dir = opendir(path);
        while (dir && (entry = readdir(dir)))
                if (*entry->d_name != '.') {
                        log_thread(pid, entry->d_name);
                        (void) syscall(SYS_tgkill, pid, (pid_t) strtol(entry->d_name, NULL, 10), SIGQUIT);
                }
        if (dir)
                (void) closedir(dir);
}

static int replace(Keeper *keeper, unsigned reactor) {
        log_error("the worker is stuck: reactor %u has not turned for %u s. Its threads:", reactor, bound_s());
        keeper->record->stuck++;
        keeper->stuck = true;
        log_threads(keeper->worker_pid);
        return fire_in(keeper->watchdog, STACK_USEC);
}

static int tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Keeper *keeper = userdata;
        bool busy;

        (void) usec;
        if (keeper->stuck)
                supervise_kill(keeper, "the worker was stuck and has been killed");
        else if (keeper->worker_fd >= 0 && !keeper->record->failing) {
                busy = is_busy(keeper);
                for (unsigned i = 0; i < keeper->record->n_reactors; i++)
                        if (reactor_is_stuck(keeper, i, busy))
                                return replace(keeper, i);
        }
        return fire_in(source, (uint64_t) bound_s() * 1000000 / TICKS);
}

int watchdog_watch(Keeper *keeper) {
        uint64_t now;
        int r;

        if (bound_s() == 0)
                return 0;
        r = sd_event_now(keeper->event, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return r;
        return sd_event_add_time(keeper->event, &keeper->watchdog, CLOCK_MONOTONIC, now + 1000000, 100000, tick, keeper);
}
