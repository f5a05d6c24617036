/*
 * The prober: a process that lives for one mount. It resolves the server's name, speaks MOUNT3, and
 * leaves what it learnt (or why it failed) in the memory, and notes where there may be locks, so that the keeper never
 * reads a byte from the network and the worker never resolves a name.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/io.h"
#include "base/log.h"
#include "conf/options.h"
#include "conf/source.h"
#include "daemon.h"
#include "nfs/mount.h"
#include "sys/rundir.h"
#include "sys/sandbox.h"
#include "vfs/vfs.h"

#define PROBE_TIMEOUT_MS  10000
#define PROBER_TIMEOUT_MS 12500 /* all of it, the name server too */

static void fail(Memory *memory, const char *text) {
        memory->mount_error = NFS_MOUNT_INTERNAL;
        (void) snprintf(memory->mount_message, sizeof memory->mount_message, "%s", text);
}

/* With the option lock it must be there; by default it is used if it is. */
static enum NfsLockManager lock_manager(const SessionOptions *session) {
        if (session->nolock || session->local_lock == LOCAL_LOCK_ALL)
                return NFS_NLM_UNUSED;
        return session->lock ? NFS_NLM_REQUIRED : NFS_NLM_WANTED;
}

static void note_locks(Memory *memory, const NfsMountConfig *config, uint64_t deadline) {
        int r = volume_marks_enter(config, memory, deadline);

        if (r == 0)
                return;
        memory->mount_error = r == -ETIMEDOUT ? NFS_MOUNT_TIMEOUT : NFS_MOUNT_INTERNAL;
        if (r == -ETIMEDOUT)
                (void) snprintf(
                        memory->mount_message, sizeof memory->mount_message,
                        "not yet: servers are just being told to free what this machine had locked before it was started again");
        else
                (void) snprintf(memory->mount_message, sizeof memory->mount_message,
                                "cannot note in %s that the volume may have locks: %s (with nolock it need not)", rundir(),
                                strerror(-r));
}

int prober_main(int memory_fd) {
        uint64_t began = now_ns();
        NfsCred root = { .uid = 0, .gid = 0 };
        char message[sizeof((Memory *) 0)->mount_message];
        MountOptions options;
        Source source = { 0 };
        char *why = NULL;
        Memory *memory;
        int r;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL); /* without the keeper nobody wants to know */
        /* it reads what any server sends: if memory gets short by that, let it go first, before pods */
        (void) io_write_file("/proc/self/oom_score_adj", "1000");
        r = sandbox_drop_privileges(); /* no more: the resolver needs files, and may load more of itself */
        if (r >= 0)
                r = memory_attach(memory_fd, &memory);
        if (r < 0)
                return 1;
        log_open(LOG_TARGET_SYSTEM, "nfsvold", memory->source);
        mount_options_init(&options);
        if (mount_options_parse(&options, memory->options, &why) < 0 || source_parse(memory->source, &source, &why) < 0) {
                fail(memory, why ? why : "out of memory");
        } else {
                const SessionOptions *session = &options.session;
                NfsMountConfig config = vfs_mount_config(session);

                config.host = source.host;
                config.path = source.path;
                config.nlm = lock_manager(session);
                config.cred = &root;
                config.timeout_ms = PROBE_TIMEOUT_MS;
                memory->mount_error = nfs_export_mount(&config, &memory->mount, message, sizeof message);
                if (memory->mount_error)
                        (void) snprintf(memory->mount_message, sizeof memory->mount_message, "%s", message);
                (void) snprintf(memory->locks_text, sizeof memory->locks_text, "%s", vfs_locks_text(session, &memory->mount));
                if (!memory->mount_error && config.nlm == NFS_NLM_WANTED && !memory->mount.nlmport)
                        log_warning("%s (NLM): locks are local to this node; -o lock makes that a failure",
                                    memory->mount.nlm_silent ? "nothing answered where the server's lock manager should be"
                                                             : "the server has no lock manager");
                if (!memory->mount_error)
                        note_locks(memory, &config, began + PROBER_TIMEOUT_MS * NSEC_PER_MSEC);
        }
        free(why);
        source_done(&source);
        mount_options_done(&options);
        return 0;
}
