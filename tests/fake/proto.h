/*
 * The fake server's protocols: one request's bytes in, one reply's bytes out.
 */
#pragma once

#include <stddef.h>

#include "fakenfs.h"

#define PROTO_REPLY_MAX (4u << 20)

typedef struct FakeFault {
        int key;
        enum FakeAction action;
        uint32_t arg, skip, times;
        bool forever;
} FakeFault;

typedef struct ProtoRequest {
        uint32_t xid, prog, vers, proc;
        int key;
        const uint8_t *args;
        size_t len;
        uint32_t uid, gid, n_groups;
        uint16_t source_port;
} ProtoRequest;

#define LOCKS_MAX 512

typedef struct FakeAcl {
        uint64_t id;
        uint32_t mode, uid, access;
} FakeAcl;

#define ACLS_MAX 64

/* State the procedures use. */
typedef struct ProtoState {
        const FakeNfsConfig *config;
        uint16_t port;
        uint64_t verifier, next_id;
        bool grace;
        FakeLock locks[LOCKS_MAX];
        uint32_t n_locks;
        uint64_t n_file_ids; /* FAKE_FILE_ID */
        uint8_t epoch;       /* of the handles that are not stale */
        uint64_t touched;    /* whose ctime is later */
        uint64_t linked;     /* which has two names */
        struct {             /* by the last CREATE */
                uint64_t id;
                uint8_t verf[8];
                uint32_t atime[2]; /* s, ns */
        } made;
        uint32_t time_grain; /* ns */
        bool no_create_time; /* CREATE takes no times */
        FakeAcl acls[ACLS_MAX];
        uint32_t n_acls;
} ProtoState;

/* The owner's locks in the range go; then, if hold, this one is there. */
void proto_set_lock(ProtoState *state, const FakeLock *lock, bool hold);

/* -1: not a call, or cut short. */
int proto_parse(const uint8_t *record, size_t len, ProtoRequest *ret);

/* The id in the file handle that args begins with; 0 if it is not one of ours. */
uint64_t proto_id(const ProtoRequest *request);

/* Executes and writes the whole reply record but for its marker. Number of bytes. */
size_t proto_reply(ProtoState *state, const ProtoRequest *request, const FakeFault *fault, uint8_t *buf);
