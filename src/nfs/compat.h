/*
 * The one place where the versions of libnfs (4.0.0 to 7.0.0) differ for us.
 *
 *   < 6       int rpc_x_async(rpc, cb, args, pd): 0 is queued
 *   >= 6      struct rpc_pdu *rpc_x_task(...): non-NULL is queued; LIBNFS_API_V2 is defined
 *   >= 6      READ wants the destination buffer with the request
 *   >= 6      connecting is complete only after a NULL call: rpc_connect_async() alone is not enough
 *   >= 5.0.3  WRITE data is not copied when the request is made: it must live until the callback
 *   >= 5.0.3  the table of requests in flight has four buckets unless told otherwise
 *   >= 6      requests time out after a minute unless told otherwise
 *
 * rpc_set_hash_size() exists since 5.0.3, so a weak reference to it tells the library at run time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h> /* 6.0 forgets it */

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-zdr.h> /* before libnfs-raw.h, for some versions */
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <nfsc/libnfs-raw-nlm.h>
#include <nfsc/libnfs-raw-nsm.h>
#include <nfsc/libnfs-raw-portmap.h>

/* In every shared object, declared in some headers only. */
extern void rpc_set_timeout(struct rpc_context *rpc, int ms);
extern int rpc_set_hash_size(struct rpc_context *rpc, int hashes) __attribute__((weak));
extern void rpc_set_autoreconnect(struct rpc_context *rpc, int retries) __attribute__((weak));

/* Makes a request: 0 when it is queued, negative when there was no memory for it. */
#ifdef LIBNFS_API_V2
#define COMPAT_CALL(name, ...) (rpc_##name##_task(__VA_ARGS__) ? 0 : -1)
#else
#define COMPAT_CALL(name, ...) rpc_##name##_async(__VA_ARGS__)
#endif

static inline bool compat_write_is_copied(void) {
        return !rpc_set_hash_size;
}

static inline bool compat_read_needs_buffer(void) {
#ifdef LIBNFS_API_V2
        return true;
#else
        return false;
#endif
}

/* buffer: args->count bytes where compat_read_needs_buffer(), else NULL. */
static inline int compat_read3(struct rpc_context *rpc, rpc_cb cb, void *buffer, READ3args *args, void *userdata) {
#ifdef LIBNFS_API_V2
        return rpc_nfs3_read_task(rpc, cb, buffer, args->count, args, userdata) ? 0 : -1;
#else
        return rpc_nfs3_read_async(rpc, cb, args, userdata);
#endif
}

/* The data of a READ reply. No version bounds the length by what was asked for. */
static inline const void *compat_read3_data(const READ3resok *res, void *buffer, uint32_t *ret_len) {
#ifdef LIBNFS_API_V2
        *ret_len = res->count;
        return buffer;
#else
        *ret_len = res->data.data_len;
        return res->data.data_val;
#endif
}

static inline struct rpc_context *compat_new(void) {
        struct rpc_context *rpc = rpc_init_context();

        if (!rpc)
                return NULL;
        rpc_set_timeout(rpc, -1);
        if (rpc_set_hash_size)
                (void) rpc_set_hash_size(rpc, 1024);
        return rpc;
}

/* address is numeric: the library resolves names where it stands. */
static inline int compat_connect(struct rpc_context *rpc, const char *address, uint16_t port, int program, int version, rpc_cb cb,
                                 void *userdata) {
        int r;

#ifdef LIBNFS_API_V2
        r = rpc_connect_port_async(rpc, address, port, program, version, cb, userdata);
#else
        (void) program;
        (void) version;
        r = rpc_connect_async(rpc, address, port, cb, userdata);
#endif
        if (r == 0 && rpc_set_autoreconnect)
                rpc_set_autoreconnect(rpc, 0);
        return r;
}

/* Why libnfs ended a request with RPC_STATUS_ERROR. It says so in words only. */
enum CompatError {
        COMPAT_GARBAGE, /* a reply that makes no sense, or no reply at all */
        COMPAT_DENIED,  /* MSG_DENIED: the credential */
        COMPAT_NO_PROGRAM,
        COMPAT_NO_VERSION,
        COMPAT_NO_PROCEDURE,
        COMPAT_SYSTEM_ERROR,
};

static inline enum CompatError compat_error(const char *message) {
        static const struct {
                const char *text;
                enum CompatError error;
        } table[] = {
                { "not accepted", COMPAT_DENIED },         { "Program not available", COMPAT_NO_PROGRAM },
                { "version mismatch", COMPAT_NO_VERSION }, { "Procedure not available", COMPAT_NO_PROCEDURE },
                { "System Error", COMPAT_SYSTEM_ERROR },
        };

        for (size_t i = 0; message && i < sizeof table / sizeof *table; i++)
                if (strstr(message, table[i].text))
                        return table[i].error;
        return COMPAT_GARBAGE;
}
