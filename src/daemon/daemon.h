/*
 * nfsvold's faces: the keeper, its standby, the prober, the worker and the one that refuses. They share the recovery
 * memory and this.
 */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "sys/daemonize.h"
#include "vfs/memory.h"

typedef struct KeeperArgs {
        const char *id, *source, *options;
        const char *target; /* where the first mount will be, or NULL */
        int status_fd;      /* a socket; -1: nobody waits */
        int lock_fd;        /* the volume's lock, shared with who waits; -1: not */
        bool foreground, debug;
} KeeperArgs;

/* All return exit codes. */
int keeper_main(const KeeperArgs *args);
/* A keeper over what another one has made: the standby's, and the one that an upgrade starts in the old one's place. */
int keeper_resume(int record_fd);
int standby_main(int record_fd);
int prober_main(int memory_fd);
int worker_main(int memory_fd);
int refuser_main(int memory_fd);

#define RECORD_MAGIC   UINT64_C(0x7265636f72640a01)
#define RECORD_VERSION 1

/*
 * What a keeper's successor must know, in a memfd of its own. Only keepers have it: they act on these paths and numbers
 * with all their privileges, and a worker, which reads what servers send, can write to all of the recovery memory.
 */
typedef struct KeeperRecord {
        uint64_t magic;
        uint32_t version, size;
        int32_t memory_fd, control_fd, stack_fds[2], ready_fd, ping_fd[REACTORS_MAX];
        bool foreground, debug;
        char directory[512], mountpoint[512];
        uint64_t dev;
        uint64_t control_ino; /* of the socket: the directory is still ours */
        uint32_t read_size;   /* bytes of one READ */
        uint32_t n_reactors;
        int32_t fuse_fd; /* one of them: what the kernel says of the connection */

        bool mounted;  /* mountpoint is ours to take down */
        bool ending;   /* told to: unmount what becomes idle */
        bool draining; /* it is being or has been taken down: when the kernel lets go, all is over */
        bool over;     /* nothing is left to keep, or there is nothing yet */
        int32_t standby_pid;
        uint32_t keeper_restarts;

        /* the worker: what happened to it, and how long nobody served */
        uint64_t died_at; /* ns; 0: one serves */
        char death[128];
        uint64_t recovered_before[SLOT_DONE + 1];
        uint32_t worker_restarts, stuck, upgrades, stalls;
        uint64_t last_stall_us, worst_stall_us;
        uint32_t idle_deaths; /* workers in a row that died without an answer */
        bool failing;         /* after too many of them every request is answered with EIO */

        /* an upgrade that has come as far as the keeper */
        bool upgrading;
        int32_t upgrade_fd; /* who asked for it, or -1 */
        char upgrade_from[32];

        /* what keepers set in the recovery memory: set again before each worker, whatever the one before has done to it */
        uint8_t head[offsetof(Memory, worker_pid)] __attribute__((aligned(8)));
} KeeperRecord;

typedef struct Keeper Keeper;
typedef struct Upgrade Upgrade;

struct Keeper {
        const KeeperArgs *args;
        Memory *memory;
        KeeperRecord *record;
        int record_fd;

        sd_event *event;
        int worker_fd; /* pidfd; -1: none */
        pid_t worker_pid;
        sd_event_source *worker, *ready, *stack;
        uint64_t replies_at_start; /* of all workers, when this one was started */
        sd_event_source *restart_timer;
        bool condemned; /* we have killed it: */
        char condemned_for[128];
        bool retrying; /* failing, but a worker shall try */

        int standby_fd;         /* pidfd */
        uint64_t standby_since; /* ns */
        sd_event_source *standby, *standby_timer;

        Upgrade *upgrade; /* in progress */

        sd_event_source *watchdog;
        uint32_t pongs[REACTORS_MAX], called[REACTORS_MAX]; /* answers before, ticks since the call */
        bool stuck;                                         /* about to be killed */

        sd_event_source *control;

        int mountinfo_fd;
        sd_event_source *mountinfo, *linger_timer;
        size_t n_users;
        uint64_t idle_since; /* ns; 0: somebody uses it */
};

/* keeper.c: the line for the helper, once. -EPIPE: he has gone, and has not heard it. */
int keeper_tell(Keeper *keeper, const char *fmt, ...) _printf_(2, 3);
/* The end of the loop, and of the standby. */
int keeper_over(Keeper *keeper);

/* record.c */
int record_new(Keeper *keeper);
int record_attach(int fd, KeeperRecord **ret);
/* Keeps, or sets again, what keepers set in the recovery memory. */
void record_save_head(Keeper *keeper);
void record_restore_head(Keeper *keeper);
/* What must be the same for another program to go on with a volume, as nfsvold --layout prints it. */
void layout_format(char *buf, size_t size);

/*
 * lockmarks.c: the volume may have locks at the server from now on, and the locks of this machine's former life are free, as far as
 * that can be had until deadline (ns, monotonic). Negative errno: it must not ask for any; -ETIMEDOUT: not yet.
 */
int volume_marks_enter(const NfsMountConfig *config, const Memory *memory, uint64_t deadline);
/* It has none any more, if that is so. */
void volume_marks_leave(const Memory *memory);

/* scope.c: into a systemd scope, if there is to be one. Negative errno: the helper has been told. */
int keeper_enter_scope(Keeper *keeper);

/*
 * role.c. Starts a program (NULL: this one again) as role ("--prober", "--worker", ...) with fd as its value. keep_fd: a
 * descriptor that it inherits although it is close-on-exec, or -1. pid or negative errno.
 */
int spawn_role(const Keeper *keeper, const char *program, const char *role, int fd, int keep_fd, pid_t *ret);

/* One process at a time has a role: 0, or -EBUSY. role_wait() blocks. role_holder(): 0: nobody. */
int role_take(int fd);
int role_wait(int fd);
pid_t role_holder(int fd);

/* pidfds. */
int process_open(pid_t pid);
int process_signal(int pidfd, int sig);

/* device.c: /dev/fuse opened and mounted, a clone for each reactor. Fills in text on failure. */
int device_mount(Keeper *keeper, char *text, size_t size);
/* After INIT has been answered. */
void device_set_readahead(const Keeper *keeper);
/* The kernel has no mount of it left, and its device number may be another file system's by now; or it was told to abort. */
bool device_has_ended(const Keeper *keeper);

/* supervise.c: the worker is started, watched and started again. */
int supervise_prepare(Keeper *keeper);
/* A worker: the one that is there, or a new one. */
int supervise_start(Keeper *keeper);
/* A worker of another program, or of our own again. */
int supervise_spawn(Keeper *keeper, const char *program, const char *role);
/* Nobody serves from now on. */
void supervise_mark_end(Keeper *keeper, const char *why);
/* Kills the worker for a reason that has been logged; another is started when it has gone. */
void supervise_kill(Keeper *keeper, const char *why);
/* Seconds until a failing volume is tried again; -1: it is not failing. */
int supervise_retry_s(const Keeper *keeper);
void supervise_retry_now(Keeper *keeper);

/* standby.c: the process that becomes the keeper when this one dies. */
int standby_start(Keeper *keeper);
void standby_stop(Keeper *keeper);

/* watchdog.c: workers that do not turn are replaced. */
int watchdog_watch(Keeper *keeper);
/* A new worker: what the former one was asked does not count. */
void watchdog_reset(Keeper *keeper);

/* stack.c, in the keeper: logs what a worker wrote about its end. In the worker: makes it write that. */
void stack_log(Keeper *keeper);
void stack_on_crash(int fd);
/* Each thread of the worker has a stack for its handlers. */
void stack_of_thread(void);

/* upgrade.c: another program goes on with the volume. fd: who asked, for the answer; taken. */
void upgrade_start(Keeper *keeper, const char *program, int fd);
void upgrade_worker_ready(Keeper *keeper);
/* True: that was meant to happen. */
bool upgrade_worker_gone(Keeper *keeper, const char *death);
/* In the keeper that was started by an upgrade (taken_over false), or that comes after one that did not come up. */
void upgrade_finish(Keeper *keeper, bool taken_over);

/* users.c: who uses the volume, and its end. */
int users_watch(Keeper *keeper);
/* Takes the mountpoint, the socket and the directory away, under the volume's lock. force: also while there
 * are users. -EAGAIN: a helper is about to use it. */
int users_take_down(Keeper *keeper, bool force);
/* Finishes what a former keeper had begun. */
void users_resume(Keeper *keeper);
/* The end, whoever still uses it: takes it down, and unmounts each mount as soon as it is idle. */
int users_end(Keeper *keeper);

/* control.c: the control socket. */
int control_listen(Keeper *keeper);
int control_watch(Keeper *keeper);
/* Refuses connections from now on; the standby has the same socket. */
void control_close(Keeper *keeper);
/* Sends object as a line and closes. Takes both. */
void control_answer(int fd, json_t *object);

/* verify.c: do the worker's tables agree? fd: who asked, for the answer; taken. */
void verify_start(Keeper *keeper, int fd);

/* status.c: the whole state as one line of JSON, owned by the caller; NULL without memory. */
char *status_format(const Keeper *keeper);
