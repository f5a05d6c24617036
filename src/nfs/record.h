/*
 * How much a server may send at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define XFER_MAX      (1u << 20)        /* libnfs's limit for a record's data: READ and WRITE */
#define RECORD_MAX    (XFER_MAX + 4096) /* bytes of a record: no reply is longer */
#define FRAGMENTS_MAX 2048u             /* of a record: the longest reply in pieces of some 500 bytes */

/* The record that a connection is receiving. All zero at first. */
typedef struct Record {
        uint32_t marker; /* as much of it as has come: n_marker bytes */
        uint32_t n_marker;
        uint32_t left;           /* bytes of the fragment that are to come */
        uint32_t n, n_fragments; /* of the record, as announced */
        bool too_long;           /* it is: the connection is good for nothing any more */
} Record;

/*
 * Until record_end(), what this thread receives from fd belongs to record. One that is too long ends the
 * connection for libnfs; and once a good deal has been received there is nothing more for now, whatever is
 * still sent.
 */
void record_begin(Record *record, int fd);
void record_end(void);
