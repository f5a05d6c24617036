/*
 * For wire tests: a fake server, a reactor and a connection between them.
 */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/log.h"
#include "fakenfs.h"
#include "nfs/conn.h"

typedef struct Harness {
        FakeNfs *fake;
        Reactor *reactor;
        NfsConn *conn;
        NfsStats stats;
        NfsConnConfig config;
        NfsAddr addrs[NFS_ADDRS_MAX];
        int n_up, n_down; /* what state_changed() said */
        uint32_t n_completed;
} Harness;

typedef struct TestCall {
        NfsCall call;
        NfsFh fh;
        int n_done;
        uint32_t order; /* of completion, from 1 */
        Harness *harness;
        void (*then)(struct TestCall *t);
} TestCall;

static const NfsCred test_cred = { .uid = 1000, .gid = 1001, .n_groups = 2, .groups = { 7, 8 } };

NfsFh test_fh(uint64_t id);
NfsAddr test_addr(const char *text);

/* Server and connection; change h->config in between if need be. Hard, retrans 2, timeo 5 s: a
 * machine that stalls for a moment is no time-out. Who tests those has a shorter one. */
void harness_prepare(Harness *h);
void harness_connect(Harness *h);
static inline void harness_init(Harness *h) {
        harness_prepare(h);
        harness_connect(h);
}
void harness_done(Harness *h);

/* A call of procedure proc on the file with this id; fill call.args and send. */
void test_call_init(Harness *h, TestCall *t, enum NfsProc proc, uint64_t id);
void test_call_send(TestCall *t);

/* Runs the reactor, one turn at least, until *counter >= want; false after timeout_ms. */
bool harness_wait(Harness *h, const int *counter, int want, uint32_t timeout_ms);
void harness_run(Harness *h, uint32_t ms);

/* Runs it until the expression is true, ten seconds at most; is it? */
#define harness_until(h, x)                                                                                                      \
        ({                                                                                                                       \
                uint64_t until_ = now_ns() + 10 * NSEC_PER_SEC;                                                                  \
                                                                                                                                 \
                while (!(x) && now_ns() < until_)                                                                                \
                        harness_run(h, 1);                                                                                       \
                (bool) (x);                                                                                                      \
        })

/* Sends and waits (10 s). Returns call.err; -1 if it was never done. */
int test_call_run(TestCall *t);

/* Init, send, wait. */
int test_getattr(Harness *h, uint64_t id);
