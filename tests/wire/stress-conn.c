/*
 * Several reactors with a connection each, thousands of calls, cancellations, and a server that closes all
 * connections at random: every call is done once, with the right answer. For ThreadSanitizer, so not
 * Criterion. Usage: stress-conn REACTORS CALLS
 */
#include <pthread.h>
#include <stdio.h>

#include "harness.h"

#define DEPTH 64

typedef struct Worker Worker;

typedef struct Slot {
        TestCall t;
        Worker *worker;
        int want_done; /* n_done when this one is over */
} Slot;

struct Worker {
        pthread_t thread;
        Harness h; /* fake is shared */
        Slot slots[DEPTH];
        uint32_t to_send, n_done, n_cancelled, n_running;
        unsigned int seed;
        uint8_t data[4096];
        bool failed;
};

static uint32_t n_calls;
static bool stop_kicking;

static void slot_send(Slot *slot);

static void check(Slot *slot, bool ok, const char *what) {
        if (ok)
                return;
        (void) fprintf(stderr, "stress-conn: %s: %s, err %d\n", nfs_proc_name(slot->t.call.proc), what, slot->t.call.err);
        slot->worker->failed = true;
}

static void slot_done(TestCall *t) {
        Slot *slot = container_of(t, Slot, t);
        Worker *w = slot->worker;
        uint64_t id;

        memcpy(&id, t->fh.data + 8, sizeof id);
        check(slot, t->n_done == 1, "done twice");
        w->n_done++;
        w->n_running--;
        if (t->call.err == EINTR) {
                w->n_cancelled++;
        } else {
                check(slot, t->call.err == 0, "failed");
                if (t->call.err == 0 && t->call.proc == NFS_GETATTR)
                        check(slot, t->call.res.attr.fileid == id, "another call's answer");
                if (t->call.err == 0 && t->call.proc == NFS_READ)
                        check(slot, *(const uint8_t *) t->call.res.read.data == fakenfs_byte(id, t->call.args.read.offset),
                              "another call's data");
        }
        slot_send(slot);
}

static void slot_send(Slot *slot) {
        static const enum NfsProc procs[] = { NFS_GETATTR, NFS_READ, NFS_WRITE };
        Worker *w = slot->worker;
        enum NfsProc proc = procs[(unsigned int) rand_r(&w->seed) % ELEMENTSOF(procs)];
        TestCall *t = &slot->t;

        if (w->to_send == 0)
                return;
        w->to_send--;
        w->n_running++;
        test_call_init(&w->h, t, proc, 2 + (unsigned int) rand_r(&w->seed) % 90);
        t->then = slot_done;
        if (proc == NFS_READ) {
                t->call.args.read.offset = (unsigned int) rand_r(&w->seed) % 100000;
                t->call.args.read.count = 4096;
        } else if (proc == NFS_WRITE) {
                t->call.args.write.data = w->data;
                t->call.args.write.count = sizeof w->data;
        }
        test_call_send(t);
}

static void *work(void *arg) {
        Worker *w = arg;
        uint64_t end = now_ns() + 120 * NSEC_PER_SEC;

        if (nfs_conn_new(w->h.reactor, &w->h.config, &w->h.conn) < 0)
                abort();
        for (int i = 0; i < DEPTH; i++) {
                w->slots[i].worker = w;
                slot_send(&w->slots[i]);
        }
        while (w->n_running > 0 && now_ns() < end) {
                if (reactor_turn(w->h.reactor, now_ns() + 10 * NSEC_PER_MSEC) < 0)
                        abort();
                if (rand_r(&w->seed) % 10 == 0)
                        nfs_call_cancel(&w->slots[(unsigned int) rand_r(&w->seed) % DEPTH].t.call);
        }
        if (w->n_running > 0 || nfs_conn_in_flight(w->h.conn) > 0) {
                (void) fprintf(stderr, "stress-conn: %u calls were never done\n", w->n_running);
                w->failed = true;
        }
        w->h.conn = nfs_conn_free(w->h.conn);
        return NULL;
}

static void *kick(void *arg) {
        FakeNfs *fake = arg;
        unsigned int seed = 42;

        while (!__atomic_load_n(&stop_kicking, __ATOMIC_RELAXED)) {
                (void) usleep(10000 + (unsigned int) rand_r(&seed) % 200000);
                fakenfs_kick(fake);
        }
        return NULL;
}

int main(int argc, char **argv) {
        int n = argc > 1 ? atoi(argv[1]) : 4;
        Worker *workers = calloc((size_t) n, sizeof *workers);
        FakeNfsConfig server = { .n_files = 100 };
        uint64_t start = now_ns(), connects = 0, done = 0, cancelled = 0;
        pthread_t kicker;
        FakeNfs *fake;
        bool failed = false;

        n_calls = (uint32_t) (argc > 2 ? atoi(argv[2]) : 3000);
        log_open(LOG_TARGET_STDERR, "stress-conn", NULL);
        log_set_max_level(LOG_WARNING);
        fake = fakenfs_start(&server);
        if (!fake || !workers)
                return 1;
        for (int i = 0; i < n; i++) {
                Worker *w = &workers[i];

                w->seed = (unsigned int) i + 1;
                w->to_send = n_calls;
                w->h.addrs[0] = test_addr("127.0.0.1");
                w->h.config = (NfsConnConfig){
                        .server = "fake",
                        .addrs = w->h.addrs,
                        .n_addrs = 1,
                        .port = fakenfs_port(fake),
                        .timeo_ms = 2000,
                        .retrans = 2,
                        .stats = &w->h.stats,
                };
                if (reactor_new(&w->h.reactor) < 0 || pthread_create(&w->thread, NULL, work, w) != 0)
                        abort();
        }
        if (pthread_create(&kicker, NULL, kick, fake) != 0)
                abort();
        for (int i = 0; i < n; i++) {
                (void) pthread_join(workers[i].thread, NULL);
                failed |= workers[i].failed;
                connects += workers[i].h.stats.connects;
                done += workers[i].n_done;
                cancelled += workers[i].n_cancelled;
                workers[i].h.reactor = reactor_free(workers[i].h.reactor);
        }
        __atomic_store_n(&stop_kicking, true, __ATOMIC_RELAXED);
        (void) pthread_join(kicker, NULL);
        (void) fakenfs_stop(fake);
        (void) printf("%lu calls done, %lu of them cancelled, %lu connects, %lu ms\n", done, cancelled, connects,
                      (now_ns() - start) / NSEC_PER_MSEC);
        free(workers);
        return failed || done != (uint64_t) n * n_calls;
}
