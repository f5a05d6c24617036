/*
 * "host:/path", "[v6]:/path", and what a volume is called. Pure functions.
 */
#pragma once

#include "base/util.h"

typedef struct Source {
        char *host; /* without brackets */
        char *path; /* absolute, no "//", no trailing '/', "/" for the root; ".." is refused */
        char *text; /* canonical "host:/path", brackets where host has a ':' */
} Source;

/* 0, -EINVAL or -ENOMEM with *ret_message (owned by the caller). ret is untouched on failure. */
int source_parse(const char *text, Source *ret, char **ret_message);
void source_done(Source *source);

#define VOLUME_ID_SIZE 17

/*
 * The volume's id: 16 hex digits from (source, canonical session options, and for nosharecache a
 * number that makes it unique). The same on every run.
 */
void volume_id(const char *source, const char *session, uint64_t unique, char ret_id[static VOLUME_ID_SIZE]);
