/*
 * Status codes of NFSv3 and MOUNT3: numbers, names, errnos. The numbers are RFC 1813's.
 */
#pragma once

#include <stdint.h>

#include "nfs/call.h"

/* "NFS3ERR_STALE", "MNT3ERR_ACCES", or "unknown status". */
const char *nfs_status_name(uint32_t status);
const char *mount_status_name(uint32_t status);
