/*
 * nfsvold's three faces: the keeper, the prober and the worker. They share the recovery memory and this.
 */
#pragma once

#include <systemd/sd-event.h>

#include "sys/daemonize.h"
#include "vfs/memory.h"

typedef struct KeeperArgs {
        const char *id, *source, *options;
        const char *target; /* where the first mount will be, or NULL */
        int status_fd; /* -1: nobody waits */
        bool foreground, debug;
} KeeperArgs;

int keeper_main(const KeeperArgs *args);
/* Both get the memory's descriptor. They return exit codes. */
int prober_main(int memory_fd);
int worker_main(int memory_fd);

typedef struct Keeper Keeper;

struct Keeper {
        const KeeperArgs *args;
        Memory *memory;
        int memory_fd;
        char directory[512], mountpoint[512];
        dev_t dev;
        uint32_t read_size; /* bytes of one READ */
        bool mounted;  /* mountpoint is ours to take down */
        bool ending;   /* told to: unmount what becomes idle */
        bool draining; /* it has been taken down: when the kernel lets go, all is over */

        sd_event *event;
        pid_t worker_pid;
        uint64_t replies_at_start; /* of all workers, when this one was started */
        unsigned idle_deaths;      /* workers in a row that died without an answer */
        sd_event_source *restart_timer;

        int control_fd;
        sd_event_source *control;

        int mountinfo_fd;
        sd_event_source *mountinfo, *linger_timer;
        size_t n_users;
        uint64_t idle_since; /* ns; 0: somebody uses it */
};

/* keeper.c: the line for the helper, once. */
void keeper_tell(Keeper *keeper, const char *fmt, ...) _printf_(2, 3);

/* scope.c: into a systemd scope, if there is to be one. Negative errno: the helper has been told. */
int keeper_enter_scope(Keeper *keeper);

/* spawn.c: starts this program again as role ("--prober", "--worker") over the memory. pid or negative errno. */
int spawn_role(const Keeper *keeper, const char *role, pid_t *ret);

/* device.c: /dev/fuse opened and mounted, a clone for each reactor. Fills in text on failure. */
int device_mount(Keeper *keeper, char *text, size_t size);
/* After INIT has been answered. */
void device_set_readahead(const Keeper *keeper);

/* users.c: who uses the volume, and its end. */
int users_watch(Keeper *keeper);
/* Takes the mountpoint, the socket and the directory away, under the volume's lock. force: also while there
 * are users. -EAGAIN: a helper is about to use it. */
int users_take_down(Keeper *keeper, bool force);
/* The end, whoever still uses it: takes it down, and unmounts each mount as soon as it is idle. */
int users_end(Keeper *keeper);

/* control.c: the control socket. */
int control_listen(Keeper *keeper);
int control_watch(Keeper *keeper);

/* status.c: the whole state as one line of JSON, owned by the caller; NULL without memory. */
char *status_format(const Keeper *keeper);
