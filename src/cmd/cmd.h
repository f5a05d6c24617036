/*
 * What the commands share: exit codes, the one line that a failure prints, bounded calls, paths.
 *
 * Functions return 0, or an exit code with the failure filled in; those with a plain result follow the
 * rest of the project (negative errno). One thread, short-lived processes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/util.h"
#include "conf/options.h"
#include "conf/source.h"
#include "sys/daemonize.h"
#include "sys/mounts.h"

/* mount(8) */
enum ExitCode {
        EXIT_CODE_OK = 0,
        EXIT_CODE_USAGE = 1,       /* or permissions */
        EXIT_CODE_SYSTEM = 2,      /* out of memory, cannot fork... */
        EXIT_CODE_SOFTWARE = 4,    /* a bug of ours */
        EXIT_CODE_INTERRUPTED = 8, /* by a signal */
        EXIT_CODE_FAILED = 32,
};

/* Why something failed, for the user. */
typedef struct Failure {
        int exit;
        bool again; /* trying later may help: what retry= and bg wait for */
        char text[DAEMON_STATUS_MAX];
} Failure;

/* Fills in failure (control characters become '?') and returns exit. */
int failure_set(Failure *failure, int exit, const char *fmt, ...) _printf_(3, 4);
int failure_no_memory(Failure *failure);

/* Prints "program: subject: text"; subject may be NULL. */
void failure_print(const Failure *failure, const char *program, const char *subject);

/*
 * SIGTERM, SIGINT and SIGHUP are blocked in all our programs and looked for where we wait.
 */
void interrupt_init(void);
bool interrupted(void);
int interrupt_fd(void); /* readable once interrupted; not to be read */
/* For a child: the default dispositions and an empty mask. */
void signals_reset(void);

/* Sleeps until deadline, or less: whether it was interrupted. */
bool sleep_until(uint64_t deadline);

/* Makes 0, 1, 2 /dev/null: nobody who waits for the end of our output shall wait for this process. */
void stdio_detach(void);

/* Closes all others, but interrupt_fd(). */
void descriptors_close(void);

/* A process that does one call which may hang in the kernel, and can be left behind there. */
typedef struct BoundedResult {
        int result;
        char text[64];
} BoundedResult;

/*
 * Runs call(arg, &result) in a child, with none of our descriptors. 0, -ETIMEDOUT (killed; or it will
 * die before it returns to user space), -EINTR (interrupted; killed), -EIO (died) or another errno.
 */
int bounded_call(void (*call)(void *arg, BoundedResult *result), void *arg, uint64_t deadline, BoundedResult *ret);

/* Does somebody answer for what is mounted at path? Not to be asked of a server: a daemon answers this without one. */
enum MountLife {
        MOUNT_ALIVE,
        MOUNT_ENDED,  /* the connection has ended: ENOTCONN */
        MOUNT_SILENT, /* all is killed, but a process that waits in the kernel keeps the connection open, so others wait, too */
        MOUNT_UNKNOWN,
};
enum MountLife mount_life(const char *path);
/* waitpid() until deadline. 0 and *ret_status, or -ETIMEDOUT. */
int wait_child(pid_t pid, uint64_t deadline, int *ret_status);

/*
 * The canonical path of something that may be a mount point of a file system that hangs: everything but
 * the last component is resolved, that one is not touched. 0 or negative errno. Owned by the caller.
 */
int path_canonical_parent(const char *path, char **ret_path);

/* Joins two relative paths, either may be NULL or empty. NULL without memory. */
char *path_join(const char *a, const char *b);

/* <canonical rundir>/<id>/mnt, as the mount table shows it. 0 or negative errno. */
int volume_mountpoint(const char *id, char *buf, size_t size);

/* The control socket of a volume (control.c). */
typedef struct json_t json_t;

/* 0 and *ret_fd; -ECONNREFUSED or -ENOENT: no daemon; *ret_fd is -1 if it lives, but is very busy. */
int control_connect(const char *id, int *ret_fd);
bool control_is_alive(const char *id);
/* 0 and the daemon's object (owned by the caller); -ETIMEDOUT: it does not answer; -EBADMSG; -ECONNRESET: it ended... */
int control_call(const char *id, const char *request, uint64_t deadline, json_t **ret_answer);
int control_status(const char *id, uint64_t deadline, json_t **ret_status);

/* Starting a volume (volume.c). */
typedef struct StartRequest {
        const char *id, *source, *session, *target;
        uint64_t deadline; /* for the daemon's answer */
        int lock_fd;       /* the volume's lock: the daemon has it, too, until it answers */
        bool verbose;
        const char *program;
} StartRequest;

enum StartResult {
        START_RUNNING, /* there was a daemon */
        START_STARTED, /* there is one now */
        START_SUBDIR,  /* *ret_export: mount that instead */
};

/* Its daemon lives, and what it had mounted for it somebody has unmounted. The volume's lock is held. */
bool volume_is_lost(const char *id);
/* The volume's lock is held. 0 or an exit code. ret_export is owned by the caller. */
int volume_start(const StartRequest *request, enum StartResult *ret_result, char **ret_export, Failure *failure);
/*
 * Of the mounted volume with this device, without its lock. MOUNT_UNKNOWN: it is none of those in our run directory. SILENT,
 * ENDED: only if it surely has neither keeper nor worker.
 */
enum MountLife volume_life(const MountTable *table, dev_t dev);
/*
 * umount2(2) of what is at target, and had that device and life. What is still SILENT ends for everybody, so that nobody waits
 * any more. 0 or negative errno.
 */
int mount_end(const char *target, dev_t dev, enum MountLife life, int flags);
/* Removes what a dead daemon left behind. The volume's lock is held. */
void volume_clean(const char *id);

/* nfsvold: beside this program (a build, a scratch prefix), or where it was configured to be. 0 or negative errno. */
int daemon_find(char *buf, size_t size);

/* Running nfsvold (spawn.c). 0 and its status line without the newline, or an exit code; on an error it is
 * gone. */
int daemon_spawn(const StartRequest *request, pid_t *ret_pid, char ret_line[static DAEMON_STATUS_MAX], Failure *failure);
/* Waits a little for a daemon that said it goes, then makes it go. */
void daemon_reap(pid_t pid, bool kill_now);

/* All volumes that there are (volumes.c). */
typedef struct VolumeInfo {
        char id[VOLUME_ID_SIZE]; /* "": mounts without a daemon, whose directory is gone too */
        char *source;            /* "" if unknown */
        dev_t dev;               /* 0: not mounted */
        size_t users;
        json_t *status; /* what the daemon said, or NULL */
        const char *state;
        const char *problem; /* what is to be done about it, or NULL */
} VolumeInfo;

typedef struct VolumeList {
        MountTable table;
        VolumeInfo *items;
        size_t n;
} VolumeList;

/* ask: also ask the daemons. 0 or negative errno. */
int volume_list_read(VolumeList *ret, bool ask);
bool is_volume_id(const char *name);
void volume_list_done(VolumeList *list);
/* A mount that somebody has of it: not the one that all of them are binds of. */
bool volume_is_used_by(const VolumeInfo *info, const MountEntry *entry);

/* What a user calls a volume: a directory it is mounted on, a source, an id; NULL: all of them. */
typedef struct VolumeName {
        const char *text;
        dev_t dev;
        Source source;
} VolumeName;

void volume_name_init(VolumeName *name, const VolumeList *list, const char *text);
void volume_name_done(VolumeName *name);
bool volume_matches(const VolumeInfo *info, const VolumeName *name);

/* The verbs. argv[0] is the name to use in messages. They return exit codes. */
int cmd_mount(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_upgrade(int argc, char **argv);
