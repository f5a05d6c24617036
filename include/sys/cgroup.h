/*
 * This process's control group: cgroups(7), version 2 or 1.
 *
 * Thread: any. Nothing is kept between calls.
 */
#pragma once

#include "base/util.h"

/* The memory that it may have, or one of those around it, if that is less; bytes. UINT64_MAX: as much as there is. */
uint64_t cgroup_memory_limit(void);
