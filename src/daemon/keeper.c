/*
 * The keeper owns what must outlive a crash: the /dev/fuse descriptors, the recovery memory, the
 * mountpoint, the control socket. It reads nothing from the network and no FUSE request.
 *
 * Its life: make the memory; have a prober ask the server; mount; start the worker; tell the helper; then wait
 * for one of these:
 *
 *   the worker ended       finished (the kernel has no mount left): so do we. Anything else: start another
 *   the mount table        users.c: no users for a while, take the volume down
 *   the control socket     control.c
 *   SIGTERM, SIGINT        take the mountpoint away now, unmount what nobody is using; serve those that are left
 *
 * On any failure before the helper was told, nothing is left behind.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/log.h"
#include "conf/options.h"
#include "conf/source.h"
#include "daemon.h"
#include "sys/rundir.h"

#define PROBE_BOUND_MS 14000 /* of a prober that does not come back although it bounds itself */

static int worker_spawn(Keeper *keeper);
static int worker_respawn(Keeper *keeper, unsigned delay_ms);

/* ---- telling the helper ---- */

void keeper_tell(Keeper *keeper, const char *fmt, ...) {
        char line[DAEMON_STATUS_MAX];
        int fd = keeper->args->status_fd;
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(line, sizeof line - 1, fmt, ap);
        va_end(ap);
        if (fd < 0 || n < 0)
                return;
        n = MIN(n, (int) sizeof line - 2);
        line[n] = '\n';
        (void) io_write_full(fd, line, (size_t) n + 1);
        (void) close(fd);
}

/* ---- surroundings ---- */

/* Whatever the helper was started with: it does not reach a process that lives on. */
static void settle(const KeeperArgs *args) {
        int null;

        (void) umask(022);
        (void) !chdir("/");
        (void) signal(SIGPIPE, SIG_IGN);
        (void) prctl(PR_SET_NAME, "nfsvol-keeper");
        (void) io_write_file("/proc/self/oom_score_adj", "-900");
        if (args->foreground)
                return;
        (void) setsid();
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; fd < 3 && null >= 0; fd++)
                (void) dup2(null, fd);
        if (null > 2)
                (void) close(null);
        if (args->status_fd > 3)
                (void) syscall(SYS_close_range, 3U, (unsigned) args->status_fd - 1, 0U);
        (void) syscall(SYS_close_range, (unsigned) MAX(args->status_fd + 1, 3), ~0U, 0U);
        if (args->status_fd >= 0)
                (void) fcntl(args->status_fd, F_SETFD, FD_CLOEXEC);
}

static int memory_fill(Keeper *keeper) {
        const KeeperArgs *args = keeper->args;
        MountOptions options;
        char *why = NULL;
        int r;

        r = memory_new(&keeper->memory, &keeper->memory_fd);
        if (r < 0)
                return r;
        mount_options_init(&options);
        r = mount_options_parse(&options, args->options, &why);
        if (r >= 0) {
                Memory *memory = keeper->memory;

                (void) snprintf(memory->id, sizeof memory->id, "%s", args->id);
                (void) snprintf(memory->source, sizeof memory->source, "%s", args->source);
                (void) snprintf(memory->options, sizeof memory->options, "%s", args->options);
                memory->n_reactors = MIN(options.session.nconnect, (uint32_t) REACTORS_MAX);
                memory->started_at = (uint64_t) time(NULL);
                atomic_store(&memory->keeper_pid, (uint32_t) getpid());
        } else {
                keeper_tell(keeper, "error 32 %s", why ? why : strerror(-r));
        }
        free(why);
        mount_options_done(&options);
        return r;
}

/* ---- the prober ---- */

static int wait_bounded(pid_t pid, int timeout_ms, int *ret_status) {
        _cleanup_(fd_closep) int fd = (int) syscall(SYS_pidfd_open, pid, 0);
        struct pollfd pfd = { .fd = fd, .events = POLLIN };

        if (fd >= 0 && poll(&pfd, 1, timeout_ms) == 0)
                (void) kill(pid, SIGKILL);
        while (waitpid(pid, ret_status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

/* Failures of the kind that retry= and bg wait out. */
static bool may_pass(uint32_t error) {
        return error == NFS_MOUNT_UNKNOWN_HOST || error == NFS_MOUNT_REFUSED || error == NFS_MOUNT_NO_ROUTE ||
               error == NFS_MOUNT_TIMEOUT || error == NFS_MOUNT_NO_PORTMAP || error == NFS_MOUNT_NO_PROGRAM;
}

/* 0: the memory says what the server is. Else the helper has been told. */
static int probe(Keeper *keeper) {
        Memory *memory = keeper->memory;
        Source source = { 0 };
        char *why = NULL;
        int status = 0, r;
        pid_t pid;

        memory->mount_error = NFS_MOUNT_INTERNAL;
        r = spawn_role(keeper, "--prober", &pid);
        if (r >= 0)
                r = wait_bounded(pid, PROBE_BOUND_MS, &status);
        if (r < 0) {
                keeper_tell(keeper, "error 2 cannot start a process: %s", strerror(-r));
                return r;
        }
        if (WIFSIGNALED(status))
                memory->mount_error = NFS_MOUNT_PROTOCOL;
        memory->mount_message[sizeof memory->mount_message - 1] = '\0';
        memory->mount.export[sizeof memory->mount.export - 1] = '\0';
        if (memory->mount_error) {
                if (WIFSIGNALED(status))
                        keeper_tell(keeper, "error 32 the server did not answer, or not in a way that could be understood (signal %d)",
                             WTERMSIG(status));
                else
                        keeper_tell(keeper, "%s %s", may_pass(memory->mount_error) ? "again" : "error 32",
                             *memory->mount_message ? memory->mount_message : "cannot ask the server");
                return -EIO;
        }
        r = source_parse(memory->source, &source, &why);
        free(why);
        if (r >= 0 && strcmp(source.path, memory->mount.export) != 0) {
                keeper_tell(keeper, "subdir %s", memory->mount.export);
                r = -EXDEV;
        }
        source_done(&source);
        return r;
}

/* ---- the worker ---- */

static int restart_fired(sd_event_source *source, uint64_t usec, void *userdata) {
        Keeper *keeper = userdata;

        (void) usec;
        keeper->restart_timer = sd_event_source_disable_unref(source);
        return worker_respawn(keeper, 0);
}

/* Another worker in delay_ms. One that cannot be started (no memory, no processes) is tried again in a second. */
static int worker_respawn(Keeper *keeper, unsigned delay_ms) {
        uint64_t now;
        int r;

        if (delay_ms == 0) {
                r = worker_spawn(keeper);
                if (r >= 0)
                        return 0;
                log_error("no worker can be started, trying again: %s", strerror(-r));
                delay_ms = 1000;
        }
        r = sd_event_now(keeper->event, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return r;
        return sd_event_add_time(keeper->event, &keeper->restart_timer, CLOCK_MONOTONIC,
                                 now + (uint64_t) delay_ms * 1000, 0, restart_fired, keeper);
}

static uint64_t count_replies(const Keeper *keeper) {
        uint64_t n = 0;

        for (unsigned i = 0; i < keeper->memory->n_reactors; i++)
                n += atomic_load(&keeper->memory->stats[i].replies);
        return n;
}

/* Restarts are immediate, unless workers die again and again without having answered anything: then after a
 * while, up to 5 s. */
static int worker_restart(Keeper *keeper) {
        unsigned shift;

        if (count_replies(keeper) != keeper->replies_at_start)
                keeper->idle_deaths = 0;
        if (++keeper->idle_deaths <= 3)
                return worker_respawn(keeper, 0);
        shift = MIN(keeper->idle_deaths - 4, 6u);
        return worker_respawn(keeper, MIN(100u << shift, 5000u));
}

/* What a program does to itself, and an exit that it had no reason for. */
static bool is_fault(const siginfo_t *si) {
        return si->si_code == CLD_EXITED ||
               (si->si_status != SIGKILL && si->si_status != SIGTERM && si->si_status != SIGINT);
}

static int worker_ended(sd_event_source *source, const siginfo_t *si, void *userdata) {
        Keeper *keeper = userdata;

        (void) sd_event_source_disable_unref(source);
        keeper->worker_pid = 0;
        atomic_store(&keeper->memory->worker_faulted, is_fault(si));
        if (si->si_code == CLD_EXITED && si->si_status == 0 &&
            atomic_load(&keeper->memory->worker_state) == WORKER_FINISHED)
                return sd_event_exit(keeper->event, 0);
        if (si->si_code == CLD_EXITED)
                log_error("the worker ended with status %d: starting another", si->si_status);
        else
                log_error("the worker was killed by signal %d (%s): starting another", si->si_status,
                          strsignal(si->si_status));
        return worker_restart(keeper);
}

static int worker_spawn(Keeper *keeper) {
        int r;

        r = spawn_role(keeper, "--worker", &keeper->worker_pid);
        if (r < 0)
                return r;
        keeper->replies_at_start = count_replies(keeper);
        atomic_fetch_add(&keeper->memory->worker_starts, 1);
        return sd_event_add_child(keeper->event, NULL, keeper->worker_pid, WEXITED, worker_ended, keeper);
}

/* ---- signals ---- */

static int terminate(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        Keeper *keeper = userdata;
        int r;

        (void) source;
        log_info("signal %u: taking the volume down, %zu users", si->ssi_signo, keeper->n_users);
        r = users_end(keeper);
        if (r < 0)
                log_error("cannot take the volume down: %s", strerror(-r));
        return 0;
}

static int signals_watch(Keeper *keeper) {
        static const int signals[] = { SIGTERM, SIGINT };
        int r = 0;

        for (unsigned i = 0; i < ELEMENTSOF(signals) && r >= 0; i++)
                r = sd_event_add_signal(keeper->event, NULL, signals[i], terminate, keeper);
        return r;
}

static void signals_block(void) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        (void) signal(SIGCHLD, SIG_DFL);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
}

/* ---- putting it up ---- */

/* <rundir>/<id>/{mnt,key}. The key is what the id was made from, for people. */
static int directory_make(Keeper *keeper) {
        _cleanup_(freep) char *real = NULL;
        char path[600], key[9000];
        _cleanup_(fd_closep) int fd = -1;
        int r;

        r = rundir_make();
        if (r < 0)
                return r;
        real = realpath(rundir(), NULL);
        if (!real)
                return -errno;
        if ((size_t) snprintf(keeper->directory, sizeof keeper->directory, "%s/%s", real, keeper->args->id) >=
                    sizeof keeper->directory - 8 ||
            (size_t) snprintf(keeper->mountpoint, sizeof keeper->mountpoint, "%s/mnt", keeper->directory) >=
                    sizeof keeper->mountpoint)
                return -ENAMETOOLONG;
        if (mkdir(keeper->directory, 0700) < 0 && errno != EEXIST)
                return -errno;
        if (mkdir(keeper->mountpoint, 0700) < 0 && errno != EEXIST)
                return -errno;
        (void) snprintf(path, sizeof path, "%s/key", keeper->directory);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        (void) snprintf(key, sizeof key, "%s\n%s\n", keeper->args->source, keeper->args->options);
        return io_write_full(fd, key, strlen(key));
}

static void directory_remove(Keeper *keeper) {
        char path[600];

        if (keeper->mounted)
                (void) umount2(keeper->mountpoint, MNT_DETACH);
        keeper->mounted = false;
        keeper->control_fd = fd_close(keeper->control_fd);
        (void) snprintf(path, sizeof path, "%s/control", keeper->directory);
        (void) unlink(path);
        (void) snprintf(path, sizeof path, "%s/key", keeper->directory);
        (void) unlink(path);
        (void) rmdir(keeper->mountpoint);
        (void) rmdir(keeper->directory);
}

/* Until the worker has answered the kernel's INIT, which takes a millisecond or so; bounded. */
static void wait_init(const Keeper *keeper) {
        const struct timespec step = { .tv_nsec = 500 * 1000 };
        uint64_t deadline = now_ns() + 5 * NSEC_PER_SEC;

        while (!atomic_load(&keeper->memory->init_replied) && now_ns() < deadline)
                (void) nanosleep(&step, NULL);
        if (!atomic_load(&keeper->memory->init_replied))
                log_warning("the worker has not answered the kernel yet");
}

/* Else the helper has been told. */
static int put_up(Keeper *keeper) {
        char text[512];
        int r;

        r = directory_make(keeper);
        if (r < 0) {
                keeper_tell(keeper, "error 2 cannot make %s/%s: %s", rundir(), keeper->args->id, strerror(-r));
                return r;
        }
        r = device_mount(keeper, text, sizeof text);
        if (r < 0) {
                keeper_tell(keeper, "error 32 %s", text);
                return r;
        }
        r = control_listen(keeper);
        if (r >= 0)
                r = sd_event_new(&keeper->event);
        if (r >= 0)
                r = control_watch(keeper);
        if (r >= 0)
                r = signals_watch(keeper);
        if (r >= 0)
                r = worker_spawn(keeper);
        if (r >= 0) {
                wait_init(keeper);
                device_set_readahead(keeper);
                r = users_watch(keeper);
        }
        if (r < 0)
                keeper_tell(keeper, "error 2 cannot start the volume: %s", strerror(-r));
        return r;
}

int keeper_main(const KeeperArgs *args) {
        static Keeper keeper;
        int r;

        keeper = (Keeper){ .args = args, .memory_fd = -1, .control_fd = -1, .mountinfo_fd = -1 };
        settle(args);
        signals_block();
        log_open(args->foreground ? LOG_TARGET_STDERR : LOG_TARGET_JOURNAL, "nfsvold", args->source);

        if (memory_fill(&keeper) < 0 || keeper_enter_scope(&keeper) < 0 || probe(&keeper) < 0)
                return 1;
        r = put_up(&keeper);
        if (r < 0) {
                if (keeper.worker_pid > 0)
                        (void) kill(keeper.worker_pid, SIGKILL);
                directory_remove(&keeper);
                return 1;
        }
        keeper_tell(&keeper, "ok");
        log_info("serving, options \"%s\"", args->options);

        r = sd_event_loop(keeper.event);
        if (r < 0)
                log_error("the keeper's event loop failed: %s", strerror(-r));
        if (keeper.mounted)
                directory_remove(&keeper); /* somebody else unmounted us or aborted the connection */
        log_info("gone");
        return r < 0 ? 1 : 0;
}
