/* See harness.h. */
#include <assert.h>
#include <string.h>

#include "harness.h"

NfsFh test_fh(uint64_t id) {
        NfsFh fh = { .len = 16 };

        fakenfs_handle(id, fh.data);
        return fh;
}

NfsAddr test_addr(const char *text) {
        struct sockaddr_in sin = { .sin_family = AF_INET };
        NfsAddr addr = { .len = sizeof sin };

        (void) inet_pton(AF_INET, text, &sin.sin_addr);
        memcpy(&addr.addr, &sin, sizeof sin);
        return addr;
}

static void state_changed(void *userdata, bool up) {
        Harness *h = userdata;

        if (up)
                h->n_up++;
        else
                h->n_down++;
}

void harness_prepare(Harness *h) {
        static const FakeNfsConfig fake = { .n_files = 100 };

        memset(h, 0, sizeof *h);
        log_open(LOG_TARGET_STDERR, "test", NULL);
        log_set_max_level(LOG_WARNING);
        h->fake = fakenfs_start(&fake);
        assert(h->fake);
        if (reactor_new(&h->reactor) < 0)
                assert(false);
        h->addrs[0] = test_addr("127.0.0.1");
        h->config = (NfsConnConfig){
                .server = "fake",
                .addrs = h->addrs,
                .n_addrs = 1,
                .port = fakenfs_port(h->fake),
                .timeo_ms = 5000,
                .retrans = 2,
                .stats = &h->stats,
                .state_changed = state_changed,
                .userdata = h,
        };
}

void harness_connect(Harness *h) {
        if (nfs_conn_new(h->reactor, &h->config, &h->conn) < 0)
                assert(false);
}

void harness_done(Harness *h) {
        h->conn = nfs_conn_free(h->conn);
        h->reactor = reactor_free(h->reactor);
        h->fake = fakenfs_stop(h->fake);
}

static void test_call_done(NfsCall *call) {
        TestCall *t = container_of(call, TestCall, call);

        t->n_done++;
        t->order = ++t->harness->n_completed;
        if (t->then)
                t->then(t);
}

void test_call_init(Harness *h, TestCall *t, enum NfsProc proc, uint64_t id) {
        *t = (TestCall){ .fh = test_fh(id), .harness = h };
        t->call.proc = proc;
        t->call.cred = &test_cred;
        t->call.args.fh = &t->fh;
        t->call.done = test_call_done;
}

void test_call_send(TestCall *t) {
        nfs_call_send(t->harness->conn, &t->call);
}

bool harness_wait(Harness *h, const int *counter, int want, uint32_t timeout_ms) {
        uint64_t end = now_ns() + timeout_ms * NSEC_PER_MSEC;

        while (*counter < want) {
                if (reactor_turn(h->reactor, end) < 0)
                        assert(false);
                if (now_ns() >= end)
                        break;
        }
        return *counter >= want;
}

void harness_run(Harness *h, uint32_t ms) {
        int never = 0;

        (void) harness_wait(h, &never, 1, ms);
}

int test_call_run(TestCall *t) {
        test_call_send(t);
        return harness_wait(t->harness, &t->n_done, 1, 10000) ? t->call.err : -1;
}

int test_getattr(Harness *h, uint64_t id) {
        TestCall t;

        test_call_init(h, &t, NFS_GETATTR, id);
        return test_call_run(&t);
}
