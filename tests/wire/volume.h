/*
 * For tests of vfs/ over the wire: a volume of the fake server, one reactor, and operations as the kernel would ask for them.
 * What fails aborts, so that it can be used in a child of a test, too.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "harness.h"
#include "vfs/vfs.h"

#define CHECK(x)                                                                                                                 \
        do {                                                                                                                     \
                if (!(x)) {                                                                                                      \
                        (void) fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                           \
                        abort();                                                                                                 \
                }                                                                                                                \
        } while (0)

typedef struct TestOp {
        Op op;
        int n_done;
        int err;
        /* what a successor would know of it */
        unsigned step;
        NfsFh object;
        uint64_t object_id;
        /* what was answered */
        uint64_t nodeid, fh;
        VfsLock lock;
        size_t size;
        unsigned n_waits;
} TestOp;

extern FakeNfs *fake;
extern Memory *memory;
extern SessionOptions options;
extern Reactor *reactor;
extern Vfs *vfs;
extern VfsReactor *vr;

/* f0, f1, ... on the server that is prepared next. */
extern uint32_t volume_files;

/* The server, and the mounted export. options.timeo: 5 s, so that a machine that stalls for a moment is no time-out. */
void volume_prepare(enum NfsLockManager nlm);
void volume_done(void);

/* What one process of a worker has; the memory stays. */
void worker_start(void);
void worker_end(void);
/*
 * What f does is done by a worker that dies then, and has a successor; the records are what it leaves. vfs_recovered() is the
 * test's.
 */
void in_a_worker_that_dies(void (*f)(void));

void init(TestOp *t);
/* One that a worker that dies can make, and its successor look at. */
TestOp *shared_op(void);
/* init() of the same in a successor, over which former's worker died. */
void init_again(TestOp *t, const TestOp *former);
/* After one turn at least, if it is not. */
bool is_done(const TestOp *t, uint32_t timeout_ms);
void turn_for(uint32_t ms);
/* Turns until the expression is true, ten seconds at most; is it? */
#define turn_until(x)                                                                                                            \
        ({                                                                                                                       \
                uint64_t until_ = now_ns() + 10 * NSEC_PER_SEC;                                                                  \
                                                                                                                                 \
                while (!(x) && now_ns() < until_)                                                                                \
                        turn_for(1);                                                                                             \
                (bool) (x);                                                                                                      \
        })
/* errno, within ten seconds. */
int result(TestOp *t);

uint64_t file_find(const char *name);
uint64_t file_open(uint64_t nodeid, int flags);
