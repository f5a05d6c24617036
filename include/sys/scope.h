/*
 * A systemd scope of our own: how the daemon leaves the cgroup of whoever started it, so that stopping
 * that one (kubelet, a session, a service) cannot stop us.
 *
 * org.freedesktop.systemd1(5), StartTransientUnit; systemd.scope(5).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

/* A resource-control property of type t: systemd.resource-control(5). */
typedef struct ScopeLimit {
        const char *name;
        uint64_t value; /* UINT64_MAX: infinity */
} ScopeLimit;

typedef struct ScopeConfig {
        const char *server, *export, *id; /* make the unit's name */
        const char *description;
        const char *slice;       /* "x.slice", or NULL: systemd's default */
        const char *mount_unit;  /* stop after this .mount unit has been stopped; or NULL */
        uint32_t stop_timeout_s; /* TimeoutStopSec= */
        const ScopeLimit *limits;
        size_t n_limits;
} ScopeConfig;

#define SCOPE_NAME_MAX 256

/*
 * Moves the calling process (and what it forks from then on) into a new scope, and waits until it is there.
 *
 *   1           done; ret_unit is the scope's name
 *   0           systemd is not what runs this system: nothing was done
 *   negative    systemd refused or did not answer within a bound (-ETIMEDOUT); message says what and why
 *
 * The system bus is tried first, then systemd's private socket (root). Blocks for at most about 30 s.
 */
int scope_enter(const ScopeConfig *config, char ret_unit[static SCOPE_NAME_MAX], char *message, size_t size);

/*
 * nfsvol-<server>-<export>-<id>[-<n>].scope, other characters escaped as systemd-escape(1) does, cut to fit.
 * n 0: no suffix.
 */
void scope_name(const ScopeConfig *config, unsigned n, char ret[static SCOPE_NAME_MAX]);

/* The .mount unit of a mount point (absolute, canonical): systemd-escape --path --suffix=mount. 0 or -ENAMETOOLONG. */
int scope_mount_unit(const char *target, char ret[static SCOPE_NAME_MAX]);
