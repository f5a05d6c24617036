/*
 * One request to mount. Private to the mount helper.
 */
#pragma once

#include "cmd.h"

typedef struct MountJob {
        const char *program;
        const char *source_text, *target_text; /* as given */
        bool fake, verbose, nfs4;
        bool background; /* by now: nobody reads what we print */
        Source source;
        MountOptions options;
        char *target; /* canonical, owned */
} MountJob;

/* 0, or an exit code with failure filled in. May return in another process than it was called in (bg). */
int mount_run(MountJob *job, Failure *failure);

/* The one line, where it can be seen. */
void mount_complain(const MountJob *job, const Failure *failure);

/* With -v. */
void mount_say(const MountJob *job, const char *fmt, ...) _printf_(2, 3);

/*
 * Whether the same directory of the same server is mounted on the target already, and works: *ret_is.
 * One of a daemon that died is detached. 0 or an exit code.
 */
int mount_present(const MountJob *job, bool *ret_is, Failure *failure);
