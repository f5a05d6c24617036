/*
 * The standby: becomes the keeper when the keeper dies.
 *
 * It is started by the keeper, by the same program, and does nothing but wait for the keeper's role (role.c), which the
 * kernel gives it in the moment in which the keeper has gone, however. All this time it holds what must not be closed: the
 * FUSE descriptors, both memories, and the control socket, which therefore never refuses a helper that asks whether
 * the volume is alive. It has the keeper's privileges from the beginning, which nobody could give it later: the worker has
 * none to give. Its first act as the keeper is to start another standby.
 *
 * Killed itself, it is started again by the keeper. Both at once leave a worker without either: it serves, but nobody
 * will start another; `nfsvol status` says that. All at once end the volume.
 */
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/log.h"
#include "daemon.h"

#define AGAIN_USEC (1000 * 1000) /* one that dies sooner than that is not started again at once */

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static int standby_again(sd_event_source *source, uint64_t usec, void *userdata) {
        Keeper *keeper = userdata;
        int r;

        (void) source;
        (void) usec;
        r = standby_start(keeper);
        if (r < 0)
                log_error("no standby can be started: %s", strerror(-r));
        return 0;
}

static int start_later(Keeper *keeper, uint64_t usec) {
        uint64_t now;
        int r;

        r = sd_event_now(keeper->event, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return r;
        keeper->standby_timer = sd_event_source_disable_unref(keeper->standby_timer);
        return sd_event_add_time(keeper->event, &keeper->standby_timer, CLOCK_MONOTONIC, now + usec, 0, standby_again, keeper);
}

static int standby_gone(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Keeper *keeper = userdata;
        siginfo_t si;

        (void) revents;
        (void) waitid((idtype_t) P_PIDFD, (id_t) fd, &si, WEXITED | WNOHANG);
        keeper->standby = sd_event_source_disable_unref(source);
        keeper->standby_fd = fd_close(keeper->standby_fd);
        log_warning("the standby keeper has ended: starting another");
        return start_later(keeper, now_ns() - keeper->standby_since < AGAIN_USEC * 1000 ? AGAIN_USEC : 0);
}

int standby_start(Keeper *keeper) {
        KeeperRecord *record = keeper->record;
        pid_t pid;
        int r;

        r = spawn_role(keeper, NULL, "--standby", keeper->record_fd, record->control_fd, &pid);
        if (r >= 0)
                r = process_open(pid);
        if (r < 0)
                return start_later(keeper, AGAIN_USEC);
        keeper->standby_fd = r;
        keeper->standby_since = now_ns();
        record->standby_pid = pid;
        return sd_event_add_io(keeper->event, &keeper->standby, keeper->standby_fd, EPOLLIN, standby_gone, keeper);
}

void standby_stop(Keeper *keeper) {
        siginfo_t si;

        keeper->standby = sd_event_source_disable_unref(keeper->standby);
        keeper->standby_timer = sd_event_source_disable_unref(keeper->standby_timer);
        if (keeper->standby_fd < 0)
                return;
        (void) process_signal(keeper->standby_fd, SIGKILL);
        (void) waitid((idtype_t) P_PIDFD, (id_t) keeper->standby_fd, &si, WEXITED);
        keeper->standby_fd = fd_close(keeper->standby_fd);
}

int standby_main(int record_fd) {
        static const int ignored[] = { SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2 };
        KeeperRecord *record;
        int r;

        (void) prctl(PR_SET_NAME, "nfsvol-standby");
        for (unsigned i = 0; i < ELEMENTSOF(ignored); i++)
                (void) signal(ignored[i], SIG_IGN); /* what keepers are told is in the record */
        r = record_attach(record_fd, &record);
        if (r >= 0)
                r = role_wait(record_fd);
        if (r < 0)
                return 1;
        return record->over ? 0 : keeper_resume(record_fd);
}
