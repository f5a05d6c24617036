/*
 * XDR (RFC 4506), by hand: what the fake server reads of calls and writes of replies.
 */
#pragma once

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "proto.h"

typedef struct Writer {
        uint8_t *start, *at;
        ProtoState *state;
        const FakeFault *fault; /* or NULL */
        uint64_t dir;           /* LOOKUP's and READDIR*'s */
        uint32_t uid;
} Writer;

typedef struct Reader {
        const uint8_t *at;
        size_t left;
        bool bad;
} Reader;

static inline bool faulty(const Writer *w, enum FakeAction action) {
        return w->fault && w->fault->action == action;
}

static inline void put32(Writer *w, uint32_t v) {
        v = htonl(v);
        memcpy(w->at, &v, 4);
        w->at += 4;
}

static inline void put64(Writer *w, uint64_t v) {
        put32(w, (uint32_t) (v >> 32));
        put32(w, (uint32_t) v);
}

static inline void put_bytes(Writer *w, const void *data, uint32_t len) {
        memset(w->at + (len & ~3u), 0, 4);
        memcpy(w->at, data, len);
        w->at += (len + 3) & ~3u;
}

static inline void put_opaque(Writer *w, const void *data, uint32_t len) {
        put32(w, len);
        put_bytes(w, data, len);
}

static inline uint32_t get32(Reader *r) {
        uint32_t v = 0;

        if (r->left < 4) {
                r->bad = true;
                return 0;
        }
        memcpy(&v, r->at, 4);
        r->at += 4;
        r->left -= 4;
        return ntohl(v);
}

static inline uint64_t get64(Reader *r) {
        uint64_t high = get32(r);

        return high << 32 | get32(r);
}

/* Where it is; its length in ret_len. */
static inline const uint8_t *get_opaque(Reader *r, uint32_t *ret_len) {
        uint32_t len = get32(r), padded = (len + 3) & ~3u;
        const uint8_t *at = r->at;

        if (padded < len || padded > r->left) {
                r->bad = true;
                *ret_len = 0;
                return at;
        }
        r->at += padded;
        r->left -= padded;
        *ret_len = len;
        return at;
}

static inline void get_name(Reader *r, char *buf, size_t size) {
        uint32_t len;
        const uint8_t *name = get_opaque(r, &len);

        (void) snprintf(buf, size, "%.*s", (int) len, (const char *) name);
}

/* ret_epoch: ProtoState.epoch when it was given out. */
static inline uint64_t get_handle(Reader *r, uint8_t *ret_epoch) {
        uint32_t len;
        const uint8_t *handle = get_opaque(r, &len);
        uint64_t id;

        *ret_epoch = 0;
        if (len != 16 || memcmp(handle, "fakenfs", 7) != 0)
                return 0;
        *ret_epoch = handle[7];
        memcpy(&id, handle + 8, 8);
        return id;
}

/* nlm.c: the results of a call to the lock manager. */
void reply_nlm(Writer *w, const ProtoRequest *request);
