/*
 * The keeper owns what must outlive a crash: the /dev/fuse descriptors, the recovery memory, the
 * mountpoint, the control socket. It reads nothing from the network and no FUSE request.
 *
 * Its life: make the memory; have a prober ask the server; mount; start the worker; tell the helper; then wait
 * for one of these:
 *
 *   the worker             supervise.c: it ended; watchdog.c: it is stuck
 *   the standby            standby.c: who comes after us
 *   the mount table        users.c: no users for a while, take the volume down
 *   the control socket     control.c; upgrade.c
 *   SIGTERM, SIGINT        take the mountpoint away now, unmount what nobody is using; serve those that are left
 *
 * On any failure before the helper was told, nothing is left behind. A keeper that comes after another one
 * (keeper_resume()) finds all that in the record, and the worker at work.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
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
#define INIT_BOUND_NS  (5 * NSEC_PER_SEC)

/* ---- telling the helper ---- */

int keeper_tell(Keeper *keeper, const char *fmt, ...) {
        char line[DAEMON_STATUS_MAX];
        int fd = keeper->args->status_fd;
        va_list ap;
        int n, r;

        va_start(ap, fmt);
        n = vsnprintf(line, sizeof line - 1, fmt, ap);
        va_end(ap);
        if (fd < 0 || n < 0)
                return 0;
        n = MIN(n, (int) sizeof line - 2);
        line[n] = '\n';
        r = io_write_full(fd, line, (size_t) n + 1);
        (void) close(fd);
        return r;
}

/* ---- surroundings ---- */

/* Each of the two may be -1. */
static void close_others(int a, int b) {
        int low = MIN(a, b), high = MAX(a, b);

        low = MAX(low, 2);
        high = MAX(high, 2);
        if (low > 3)
                (void) syscall(SYS_close_range, 3U, (unsigned) low - 1, 0U);
        if (high > low + 1)
                (void) syscall(SYS_close_range, (unsigned) low + 1, (unsigned) high - 1, 0U);
        (void) syscall(SYS_close_range, (unsigned) high + 1, ~0U, 0U);
        (void) syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* Whatever the helper was started with: it does not reach a process that lives on. */
static void settle(const KeeperArgs *args) {
        int null;

        (void) umask(022);
        (void) !chdir("/");
        (void) signal(SIGPIPE, SIG_IGN);
        (void) prctl(PR_SET_NAME, "nfsvol-keeper");
        (void) io_write_file("/proc/self/oom_score_adj", "-900");
        if (args->lock_fd >= 0)
                (void) fcntl(args->lock_fd, F_SETFD, FD_CLOEXEC);
        if (args->foreground)
                return;
        (void) setsid();
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; fd < 3 && null >= 0; fd++)
                (void) dup2(null, fd);
        if (null > 2)
                (void) close(null);
        close_others(args->status_fd, args->lock_fd);
}

static int memory_fill(Keeper *keeper) {
        const KeeperArgs *args = keeper->args;
        MountOptions options;
        char *why = NULL;
        int r;

        r = record_new(keeper);
        if (r >= 0)
                r = role_take(keeper->record_fd);
        if (r >= 0)
                r = memory_new(&keeper->memory, &keeper->record->memory_fd);
        if (r < 0) {
                keeper_tell(keeper, "error 2 cannot make the recovery memory: %s", strerror(-r));
                return r;
        }
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

static void ending_signals(sigset_t *ret) {
        (void) sigemptyset(ret);
        (void) sigaddset(ret, SIGTERM);
        (void) sigaddset(ret, SIGINT);
}

/*
 * The helper was killed, or waits no longer (its lock on the volume is ours as well, so that no other daemon is started for
 * it in the meantime), or we are told to end: with all that was in the cgroup of who ran mount(8), perhaps.
 */
static bool is_unwanted(const Keeper *keeper) {
        struct pollfd fd = { .fd = keeper->args->status_fd };
        sigset_t pending, ending;

        ending_signals(&ending);
        if (sigpending(&pending) == 0 && sigandset(&pending, &pending, &ending) == 0 && !sigisemptyset(&pending))
                return true;
        return fd.fd >= 0 && poll(&fd, 1, 0) > 0 && (fd.revents & (POLLERR | POLLHUP));
}

/* -EINTR: the helper, if there is one, has been told. */
static int give_up(Keeper *keeper) {
        log_notice("nobody wants the volume mounted any more");
        (void) keeper_tell(keeper, "error 8 interrupted by a signal");
        return -EINTR;
}

static int check_wanted(Keeper *keeper) {
        return is_unwanted(keeper) ? give_up(keeper) : 0;
}

/* The signal is for all of us, and has not reached us yet. */
static bool was_told_to_end(int status) {
        return WIFSIGNALED(status) && (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGINT);
}

/* 1: it took too long, and was killed. As it is when nobody wants to know any more. */
static int wait_bounded(const Keeper *keeper, pid_t pid, int timeout_ms, int *ret_status) {
        _cleanup_(fd_closep) int fd = process_open(pid), signal_fd = -1;
        struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = keeper->args->status_fd }, { .events = POLLIN } };
        sigset_t ending;
        int n;

        ending_signals(&ending);
        fds[2].fd = signal_fd = signalfd(-1, &ending, SFD_CLOEXEC);
        n = fd >= 0 ? poll(fds, ELEMENTSOF(fds), timeout_ms) : -1;
        if (n == 0 || (n > 0 && !fds[0].revents))
                (void) kill(pid, SIGKILL);
        while (waitpid(pid, ret_status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return n == 0;
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

        if (check_wanted(keeper) < 0)
                return -EINTR;
        memory->mount_error = NFS_MOUNT_INTERNAL;
        r = spawn_role(keeper, NULL, "--prober", keeper->record->memory_fd, -1, &pid);
        if (r >= 0)
                r = wait_bounded(keeper, pid, PROBE_BOUND_MS, &status);
        if (r < 0) {
                keeper_tell(keeper, "error 2 cannot start a process: %s", strerror(-r));
                return r;
        }
        if (was_told_to_end(status) || is_unwanted(keeper))
                return give_up(keeper);
        if (r > 0) {
                keeper_tell(keeper, "again neither the server nor, for its name, a name server has answered in %d s",
                            PROBE_BOUND_MS / 1000);
                return -ETIMEDOUT;
        }
        if (WIFSIGNALED(status))
                memory->mount_error = NFS_MOUNT_PROTOCOL;
        memory->mount_message[sizeof memory->mount_message - 1] = '\0';
        memory->mount.export[sizeof memory->mount.export - 1] = '\0';
        if (memory->mount_error) {
                if (WIFSIGNALED(status))
                        keeper_tell(keeper,
                                    "error 32 the server did not answer, or not in a way that could be understood (signal %d)",
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

        ending_signals(&set);
        (void) sigaddset(&set, SIGCHLD);
        for (unsigned i = 0; i < 3; i++)
                (void) signal((const int[]){ SIGCHLD, SIGTERM, SIGINT }[i], SIG_DFL);
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
        if ((size_t) snprintf(keeper->record->directory, sizeof keeper->record->directory, "%s/%s", real, keeper->args->id) >=
                    sizeof keeper->record->directory - 8 ||
            (size_t) snprintf(keeper->record->mountpoint, sizeof keeper->record->mountpoint, "%s/mnt",
                              keeper->record->directory) >= sizeof keeper->record->mountpoint)
                return -ENAMETOOLONG;
        if (mkdir(keeper->record->directory, 0700) < 0 && errno != EEXIST)
                return -errno;
        if (mkdir(keeper->record->mountpoint, 0700) < 0 && errno != EEXIST)
                return -errno;
        (void) snprintf(path, sizeof path, "%s/key", keeper->record->directory);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        (void) snprintf(key, sizeof key, "%s\n%s\n", keeper->args->source, keeper->args->options);
        return io_write_full(fd, key, strlen(key));
}

static void directory_remove(Keeper *keeper) {
        char path[600];

        if (!keeper->record->directory[0]) /* never made: the paths would be the root's */
                return;
        if (keeper->record->mounted)
                (void) umount2(keeper->record->mountpoint, MNT_DETACH);
        keeper->record->mounted = false;
        control_close(keeper);
        (void) snprintf(path, sizeof path, "%s/control", keeper->record->directory);
        (void) unlink(path);
        (void) snprintf(path, sizeof path, "%s/key", keeper->record->directory);
        (void) unlink(path);
        (void) rmdir(keeper->record->mountpoint);
        (void) rmdir(keeper->record->directory);
}

/* Until the worker has answered the kernel's INIT, which takes a millisecond or so. */
static void wait_init(const Keeper *keeper) {
        const struct timespec step = { .tv_nsec = 500 * 1000 };
        uint64_t deadline = now_ns() + INIT_BOUND_NS;

        while (!atomic_load(&keeper->memory->init_replied) && now_ns() < deadline && !is_unwanted(keeper))
                (void) nanosleep(&step, NULL);
        if (!atomic_load(&keeper->memory->init_replied)) /* workers that die and are started again may yet */
                log_warning("the worker has not answered the kernel yet");
}

/* What a keeper waits for. */
static int watch(Keeper *keeper) {
        int r;

        r = sd_event_new(&keeper->event);
        if (r >= 0)
                r = control_watch(keeper);
        if (r >= 0)
                r = signals_watch(keeper);
        if (r >= 0)
                r = supervise_prepare(keeper);
        if (r >= 0)
                r = watchdog_watch(keeper);
        return r;
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
                r = watch(keeper);
        if (r >= 0) {
                record_save_head(keeper);
                r = supervise_spawn(keeper, NULL, "--worker");
        }
        if (r >= 0) {
                wait_init(keeper);
                device_set_readahead(keeper);
                r = users_watch(keeper);
        }
        if (r >= 0)
                r = standby_start(keeper);
        if (r < 0)
                keeper_tell(keeper, "error 2 cannot start the volume: %s", strerror(-r));
        return r;
}

/* From here on the volume lives by itself; unless the helper does not hear of it. */
static int say_ready(Keeper *keeper) {
        int r = check_wanted(keeper);

        if (r < 0)
                return r;
        keeper->record->over = false;
        r = keeper_tell(keeper, "ok");
        if (r < 0)
                log_notice("nobody wants the volume mounted any more");
        return r;
}

/* ---- the loop ---- */

int keeper_over(Keeper *keeper) {
        keeper->record->over = true; /* for a standby that takes over in this very moment */
        return sd_event_exit(keeper->event, 0);
}

static int keeper_run(Keeper *keeper) {
        int r;

        r = sd_event_loop(keeper->event);
        if (r < 0) {
                log_error("the keeper's event loop failed, the standby takes over: %s", strerror(-r));
                return 1;
        }
        standby_stop(keeper);
        (void) users_take_down(keeper, true); /* if somebody else unmounted us or aborted the connection */
        record_restore_head(keeper);          /* a worker could have written there whose marks they are */
        volume_marks_leave(keeper->memory);
        log_info("gone");
        return 0;
}

static Keeper *keeper_new(const KeeperArgs *args) {
        static Keeper keeper;

        keeper = (Keeper){ .args = args, .record_fd = -1, .worker_fd = -1, .standby_fd = -1, .mountinfo_fd = -1 };
        return &keeper;
}

int keeper_main(const KeeperArgs *args) {
        Keeper *keeper = keeper_new(args);
        int r;

        signals_block(); /* first: a signal before the volume is served takes back what there is of it */
        settle(args);
        log_open(args->foreground ? LOG_TARGET_STDERR : LOG_TARGET_SYSTEM, "nfsvold", args->source);

        if (memory_fill(keeper) < 0 || keeper_enter_scope(keeper) < 0)
                return 1;
        if (probe(keeper) < 0) {
                if (!keeper->memory->mount_error)
                        volume_marks_leave(keeper->memory);
                return 1;
        }
        r = put_up(keeper);
        if (r >= 0)
                r = say_ready(keeper);
        if (r < 0) {
                keeper->record->over = true;
                standby_stop(keeper);
                if (keeper->worker_fd >= 0)
                        (void) process_signal(keeper->worker_fd, SIGKILL);
                directory_remove(keeper);
                volume_marks_leave(keeper->memory);
                return 1;
        }
        (void) fd_close(args->lock_fd);
        log_info("serving, options \"%s\"", args->options);
        return keeper_run(keeper);
}

/* ---- a keeper after a keeper ---- */

static int resume(Keeper *keeper, KeeperArgs *args) {
        KeeperRecord *record = keeper->record;
        int r;

        /* the worker may have broken what is checked */
        if (pwrite(record->memory_fd, record->head, sizeof record->head, 0) != (ssize_t) sizeof record->head)
                return -EIO;
        r = memory_attach(record->memory_fd, &keeper->memory);
        if (r < 0)
                return r;
        *args = (KeeperArgs){ .id = keeper->memory->id,
                              .source = keeper->memory->source,
                              .options = keeper->memory->options,
                              .status_fd = -1,
                              .lock_fd = -1,
                              .foreground = record->foreground,
                              .debug = record->debug };
        if (args->debug)
                log_set_max_level(LOG_DEBUG);
        log_open(args->foreground ? LOG_TARGET_STDERR : LOG_TARGET_SYSTEM, "nfsvold", args->source);
        atomic_store(&keeper->memory->keeper_pid, (uint32_t) getpid());
        record_save_head(keeper);
        /* nobody else's, so that who waits for their end sees it */
        if (record->control_fd >= 0)
                (void) fcntl(record->control_fd, F_SETFD, FD_CLOEXEC);
        if (record->upgrading && record->upgrade_fd >= 0)
                (void) fcntl(record->upgrade_fd, F_SETFD, FD_CLOEXEC);
        return 0;
}

/* The standby of the keeper before this one, if that was this process. */
static void end_standby(pid_t pid) {
        if (pid <= 0 || pid == getpid() || waitpid(pid, NULL, WNOHANG) != 0)
                return; /* ourselves, or not our child */
        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, NULL, 0);
}

int keeper_resume(int record_fd) {
        static KeeperArgs args;
        Keeper *keeper = keeper_new(&args);
        bool taken_over;
        pid_t former;
        int r;

        keeper->record_fd = record_fd;
        signals_block();
        (void) signal(SIGPIPE, SIG_IGN);
        (void) prctl(PR_SET_NAME, "nfsvol-keeper");
        r = record_attach(record_fd, &keeper->record);
        if (r >= 0)
                r = role_take(record_fd);
        if (r >= 0)
                r = resume(keeper, &args);
        if (r < 0) {
                log_error("cannot go on as the keeper: %s", strerror(-r));
                return 1;
        }
        former = keeper->record->standby_pid;
        taken_over = former == getpid();
        r = watch(keeper);
        if (r >= 0)
                r = standby_start(keeper);
        if (r >= 0)
                r = supervise_start(keeper);
        if (r < 0) {
                log_error("cannot go on as the keeper: %s", strerror(-r));
                return 1;
        }
        end_standby(former);
        if (taken_over) {
                keeper->record->keeper_restarts++;
                log_warning("the keeper was killed: its standby goes on as the keeper");
        }
        upgrade_finish(keeper, taken_over);
        users_resume(keeper);
        r = users_watch(keeper);
        if (r < 0)
                log_error("who uses the volume cannot be watched: %s", strerror(-r));
        if (keeper->record->ending)
                (void) users_end(keeper);
        return keeper_run(keeper);
}
