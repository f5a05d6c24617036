/*
 * Log lines for humans. A log call never waits for who reads: the sink is a non-blocking socket (of the journal, or else of
 * syslogd), or else the kernel's log, or stderr. A line that does not fit at once is dropped and counted; the kernel
 * drops without a word, and may print to a console of the machine before it returns.
 *
 * Any thread. Each line carries the volume that log_open() named, and goes out with one send.
 */
#pragma once

#include <stdint.h>
#include <syslog.h>

#include "base/util.h"

enum LogTarget {
        LOG_TARGET_STDERR, /* commands, and a daemon run in the foreground */
        LOG_TARGET_SYSTEM, /* /run/systemd/journal/socket, /dev/log or /dev/kmsg, the first that is there; stderr if none is */
};

/* ident: SYSLOG_IDENTIFIER (string must live on); volume: "host:/export" or NULL (copied). */
void log_open(enum LogTarget target, const char *ident, const char *volume);

/* Lines above this level (LOG_INFO by default) are not written. */
void log_set_max_level(int level);

/* level: LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG. No newline at the end. errno is kept. */
void log_write(int level, const char *fmt, ...) _printf_(2, 3);

#define log_error(...)   log_write(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)  log_write(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_DEBUG, __VA_ARGS__)

/* Lines lost so far because the sink was full. */
uint64_t log_dropped(void);
