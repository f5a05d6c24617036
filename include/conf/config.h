/*
 * /etc/nfsvol.conf: what an administrator sets for every volume of a node. Text to values; no files.
 *
 *   [scope]
 *   Slice = nfs.slice
 *   MemoryMax = 512M          bytes, K, M, G, T, or infinity
 *   MemoryHigh = 256M
 *   CPUWeight = 100           1..10000
 *   IOWeight = 100            1..10000
 *   TasksMax = 64             or infinity
 *   TimeoutStopSec = 60       1..3600
 *
 * The names and meanings of systemd.resource-control(5).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

/* Properties of a unit that are numbers, as systemd takes them over D-Bus (type t). */
typedef struct ConfigProperty {
        const char *name; /* "MemoryMax" */
        uint64_t value;   /* UINT64_MAX: infinity */
} ConfigProperty;

#define CONFIG_PROPERTIES_MAX 8

typedef struct Config {
        char *slice; /* owned, or NULL */
        ConfigProperty properties[CONFIG_PROPERTIES_MAX];
        size_t n_properties;
        uint32_t stop_timeout_s; /* 60 */
} Config;

void config_init(Config *config); /* the defaults */
void config_done(Config *config);

/*
 * 0; -EINVAL with *ret_message (owned by the caller) naming the line and what is wrong; -ENOMEM. Sections
 * and keys that are not known are errors: a limit that is misspelt must not be thought to be in force. config is then
 * only good for config_done().
 */
int config_parse(Config *config, const char *text, char **ret_message);

/* The name of a slice, by systemd.slice(5)'s rules as far as they matter. */
bool config_slice_is_valid(const char *name);
