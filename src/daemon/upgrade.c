/*
 * Another version goes on with the volume: the same descriptors, the same memory, the same scope.
 *
 *   ASKING        `PROGRAM --layout` says whether it can use our memory; if not, nothing has been touched
 *   LEAVING       the worker stops reading and finishes what it can finish at once; after LEAVE_BOUND it is killed
 *   STARTING      PROGRAM's worker recovers what is left, as after a crash
 *   (execve)      it serves: PROGRAM takes this process's place as the keeper, with what the record says
 *   ROLLING_BACK  it did not come up: a worker of our own program, which the kernel keeps for us at /proc/self/exe
 *
 * If the new keeper dies before it is up, the standby, which is still of the old version, takes over, and replaces the
 * worker as well.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/log.h"
#include "config.h"
#include "daemon.h"
#include "worker.h"

#define ASK_BOUND_MS   5000
#define LEAVE_BOUND_MS 1000
#define START_BOUND_MS 10000

enum UpgradeState { UPGRADE_ASKING, UPGRADE_LEAVING, UPGRADE_STARTING, UPGRADE_ROLLING_BACK };

struct Upgrade {
        Keeper *keeper;
        enum UpgradeState state;
        char *program;
        int client_fd; /* who asked */
        pid_t pid;     /* ASKING: PROGRAM --layout */
        int output_fd;
        char layout[128];
        size_t layout_len;
        char why[256]; /* ROLLING_BACK */
        sd_event_source *output, *timer;
};

static int asking_output(sd_event_source *source, int fd, uint32_t revents, void *userdata);
static void leave(Upgrade *upgrade);
static void start(Upgrade *upgrade);
static void replace_keeper(Upgrade *upgrade);
static void roll_back(Upgrade *upgrade, const char *why);

static void upgrade_free(Upgrade *upgrade) {
        if (upgrade->pid > 0) {
                (void) kill(upgrade->pid, SIGKILL);
                (void) waitpid(upgrade->pid, NULL, 0);
        }
        (void) sd_event_source_disable_unref(upgrade->output);
        (void) sd_event_source_disable_unref(upgrade->timer);
        (void) fd_close(upgrade->output_fd);
        (void) fd_close(upgrade->client_fd);
        upgrade->keeper->upgrade = NULL;
        free(upgrade->program);
        free(upgrade);
}

/* The end without a new version. */
static void give_up(Upgrade *upgrade, const char *why) {
        log_error("not upgraded: %s", why);
        control_answer(TAKE_FD(upgrade->client_fd), json_pack("{s:s}", "error", why));
        upgrade_free(upgrade);
}

static int timer_fired(sd_event_source *source, uint64_t usec, void *userdata) {
        Upgrade *upgrade = userdata;
        Keeper *keeper = upgrade->keeper;
        char why[512];

        (void) source;
        (void) usec;
        switch (upgrade->state) {
        case UPGRADE_ASKING:
                (void) snprintf(why, sizeof why, "%s --layout does not come to an end", upgrade->program);
                give_up(upgrade, why);
                break;
        case UPGRADE_LEAVING:
                supervise_kill(keeper, "the worker did not leave for an upgrade");
                break;
        case UPGRADE_STARTING:
                supervise_kill(keeper, "the new worker did not come up");
                break;
        case UPGRADE_ROLLING_BACK:
                give_up(upgrade, upgrade->why); /* supervision goes on trying */
                break;
        }
        return 0;
}

static void bound(Upgrade *upgrade, uint64_t ms) {
        uint64_t now;

        upgrade->timer = sd_event_source_disable_unref(upgrade->timer);
        if (sd_event_now(upgrade->keeper->event, CLOCK_MONOTONIC, &now) < 0 ||
            sd_event_add_time(upgrade->keeper->event, &upgrade->timer, CLOCK_MONOTONIC, now + ms * 1000, 0, timer_fired,
                              upgrade) < 0)
                log_warning("an upgrade without a bound: no memory");
}

/* ---- ASKING ---- */

static _Noreturn void layout_exec(const char *program, int output_fd) {
        char *argv[] = { (char *) "nfsvold", (char *) "--layout", NULL };
        int null = open("/dev/null", O_RDWR);
        sigset_t none;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) dup2(null, 0);
        (void) dup2(null, 2);
        (void) dup2(output_fd, 1);
        (void) syscall(SYS_close_range, 3U, ~0U, 0U);
        (void) execv(program, argv);
        _exit(127);
}

static int ask(Upgrade *upgrade) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        upgrade->output_fd = fds[0];
        upgrade->pid = fork();
        if (upgrade->pid == 0)
                layout_exec(upgrade->program, fds[1]);
        (void) close(fds[1]);
        if (upgrade->pid < 0)
                return -errno;
        bound(upgrade, ASK_BOUND_MS);
        return sd_event_add_io(upgrade->keeper->event, &upgrade->output, upgrade->output_fd, EPOLLIN, asking_output, upgrade);
}

void upgrade_start(Keeper *keeper, const char *program, int fd) {
        Upgrade *upgrade = keeper->upgrade ? NULL : calloc(1, sizeof *upgrade);
        char why[512];
        int r;

        if (!upgrade) {
                control_answer(fd, json_pack("{s:s}", "error", keeper->upgrade ? "an upgrade is in progress" : "out of memory"));
                return;
        }
        *upgrade = (Upgrade){ .keeper = keeper, .program = strdup(program), .client_fd = fd, .output_fd = -1 };
        keeper->upgrade = upgrade;
        r = !upgrade->program ? -ENOMEM : access(program, X_OK) < 0 ? -errno : ask(upgrade);
        if (r >= 0)
                return;
        (void) snprintf(why, sizeof why, "cannot run %s: %s", program, strerror(-r));
        give_up(upgrade, why);
}

static int asking_output(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Upgrade *upgrade = userdata;
        ssize_t n = read(fd, upgrade->layout + upgrade->layout_len, sizeof upgrade->layout - 1 - upgrade->layout_len);
        char ours[128], why[1024];

        (void) revents;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > 0) {
                upgrade->layout_len += (size_t) n;
                return 0;
        }
        upgrade->output = sd_event_source_disable_unref(source);
        upgrade->layout[strcspn(upgrade->layout, "\n")] = '\0';
        layout_format(ours, sizeof ours);
        if (strcmp(upgrade->layout, ours) == 0) {
                leave(upgrade);
                return 0;
        }
        (void) snprintf(why, sizeof why,
                        "%s cannot go on with this volume: its memory's layout is %s, ours is %s. Unmount the volume "
                        "everywhere and mount it again to use the new version; until then the present one serves",
                        upgrade->program, upgrade->layout_len ? upgrade->layout : "unknown (it has no --layout)", ours);
        give_up(upgrade, why);
        return 0;
}

/* ---- LEAVING, STARTING ---- */

static void leave(Upgrade *upgrade) {
        Keeper *keeper = upgrade->keeper;
        char what[128];

        (void) snprintf(what, sizeof what, "upgrade to %.100s", upgrade->program);
        log_notice("%s", what);
        keeper->restart_timer = sd_event_source_disable_unref(keeper->restart_timer);
        supervise_mark_end(keeper, what);
        if (keeper->worker_fd < 0)
                return start(upgrade);
        upgrade->state = UPGRADE_LEAVING;
        bound(upgrade, LEAVE_BOUND_MS);
        (void) process_signal(keeper->worker_fd, WORKER_LEAVE);
}

static void start(Upgrade *upgrade) {
        int r;

        upgrade->state = UPGRADE_STARTING;
        bound(upgrade, START_BOUND_MS);
        r = supervise_spawn(upgrade->keeper, upgrade->program, "--worker");
        if (r < 0)
                roll_back(upgrade, strerror(-r));
}

static void roll_back(Upgrade *upgrade, const char *why) {
        (void) snprintf(upgrade->why, sizeof upgrade->why, "%s did not come up, the present version goes on: %s",
                        upgrade->program, why);
        log_error("%s", upgrade->why);
        upgrade->state = UPGRADE_ROLLING_BACK;
        bound(upgrade, START_BOUND_MS);
        (void) supervise_start(upgrade->keeper);
}

bool upgrade_worker_gone(Keeper *keeper, const char *death) {
        Upgrade *upgrade = keeper->upgrade;

        if (!upgrade)
                return false;
        switch (upgrade->state) {
        case UPGRADE_ASKING:
                return false;
        case UPGRADE_LEAVING:
                start(upgrade);
                return true;
        case UPGRADE_STARTING:
                roll_back(upgrade, death);
                return true;
        case UPGRADE_ROLLING_BACK:
                give_up(upgrade, upgrade->why);
                return false;
        }
        return false;
}

void upgrade_worker_ready(Keeper *keeper) {
        Upgrade *upgrade = keeper->upgrade;

        if (upgrade && upgrade->state == UPGRADE_STARTING)
                replace_keeper(upgrade);
        else if (upgrade && upgrade->state == UPGRADE_ROLLING_BACK)
                give_up(upgrade, upgrade->why);
}

/* ---- the keeper itself ---- */

static void set_inherited(const KeeperRecord *record, int record_fd, bool inherited) {
        const int fds[] = { record_fd, record->control_fd, record->upgrade_fd };

        for (unsigned i = 0; i < ELEMENTSOF(fds); i++)
                if (fds[i] >= 0)
                        (void) fcntl(fds[i], F_SETFD, inherited ? 0 : FD_CLOEXEC);
}

static void replace_keeper(Upgrade *upgrade) {
        Keeper *keeper = upgrade->keeper;
        KeeperRecord *record = keeper->record;
        char fd[16], *argv[] = { (char *) "nfsvold", (char *) "--resume", fd, NULL };
        int r;

        (void) snprintf(fd, sizeof fd, "%d", keeper->record_fd);
        (void) snprintf(record->upgrade_from, sizeof record->upgrade_from, "%s", NFSVOL_VERSION);
        record->upgrade_fd = upgrade->client_fd;
        record->upgrading = true;
        set_inherited(record, keeper->record_fd, true);
        (void) execv(upgrade->program, argv);
        r = -errno;
        set_inherited(record, keeper->record_fd, false);
        record->upgrading = false;
        record->upgrade_fd = -1;
        log_error("cannot run %s: %s", upgrade->program, strerror(-r));
        supervise_kill(keeper, "its keeper cannot be run"); /* in STARTING: the old one's turn */
}

void upgrade_finish(Keeper *keeper, bool taken_over) {
        KeeperRecord *record = keeper->record;

        if (!record->upgrading)
                return;
        record->upgrading = false;
        if (taken_over) {
                log_error("the new keeper did not come up: version " NFSVOL_VERSION " goes on");
                supervise_mark_end(keeper, "an upgrade is undone");
                supervise_kill(keeper, "an upgrade is undone");
                return;
        }
        record->upgrades++;
        log_notice("upgraded from version %.31s to " NFSVOL_VERSION, record->upgrade_from);
        control_answer(record->upgrade_fd, json_pack("{s:s, s:s, s:s, s:I}", "result", "upgraded", "from", record->upgrade_from,
                                                     "version", NFSVOL_VERSION, "stall_us", (json_int_t) record->last_stall_us));
        record->upgrade_fd = -1;
}
