/*
 * See volume.h.
 */
#include <sys/mman.h>

#include <signal.h>
#include <sys/wait.h>

#include "volume.h"

FakeNfs *fake;
Memory *memory;
SessionOptions options;
Reactor *reactor;
Vfs *vfs;
VfsReactor *vr;

/* ---- ops ---- */

static bool is_turning;

/* Whatever a turn does for an op is noted as that op's doing, and no longer than it does it. */
static void check_doing(uint64_t unique) {
        CHECK(atomic_load(&memory->doing[0]) == unique);
}

static void done(Op *op, int err) {
        TestOp *t = container_of(op, TestOp, op);

        if (is_turning)
                check_doing(op->unique);
        t->err = err;
        t->n_done++;
}

static void reply_entry(Op *op, const VfsEntry *entry) {
        container_of(op, TestOp, op)->nodeid = entry->nodeid;
        done(op, 0);
}

static void reply_attr(Op *op, uint64_t nodeid, const NfsAttr *attr, uint64_t timeout) {
        (void) nodeid;
        (void) attr;
        (void) timeout;
        done(op, 0);
}

static void reply_open(Op *op, uint64_t handle, unsigned flags) {
        (void) flags;
        container_of(op, TestOp, op)->fh = handle;
        done(op, 0);
}

static void reply_create(Op *op, const VfsEntry *entry, uint64_t fh, unsigned flags) {
        container_of(op, TestOp, op)->nodeid = entry->nodeid;
        reply_open(op, fh, flags);
}

static void reply_lock(Op *op, const VfsLock *lock) {
        container_of(op, TestOp, op)->lock = *lock;
        done(op, 0);
}

static void reply_size(Op *op, size_t size) {
        container_of(op, TestOp, op)->size = size;
        done(op, 0);
}

static void reply_data(Op *op, const void *data, size_t size) {
        (void) data;
        reply_size(op, size);
}

static bool reply_dirent(Op *op, const char *name, uint64_t ino, mode_t type, uint64_t offset, const VfsEntry *entry) {
        (void) name;
        (void) ino;
        (void) type;
        (void) offset;
        (void) entry;
        container_of(op, TestOp, op)->size++;
        return true;
}

static void reply_dir(Op *op) {
        done(op, 0);
}

static void placed(Op *op, uint64_t offset) {
        (void) op;
        (void) offset;
}

static void executing(Op *op, unsigned step, const NfsFh *object, uint64_t object_id) {
        TestOp *t = container_of(op, TestOp, op);

        if (op->xid_note)
                atomic_store(op->xid_note, 0);
        t->step = step;
        if (object)
                t->object = *object;
        if (object_id)
                t->object_id = object_id;
}

static void waiting(Op *op) {
        container_of(op, TestOp, op)->n_waits++;
}

static const OpReply reply = {
        .err = done,
        .entry = reply_entry,
        .attr = reply_attr,
        .open = reply_open,
        .create = reply_create,
        .lock = reply_lock,
        .data = reply_data,
        .written = reply_size,
        .dirent = reply_dirent,
        .dir = reply_dir,
        .placed = placed,
        .executing = executing,
        .waiting = waiting,
};

void init(TestOp *t) {
        static uint64_t unique = 1;

        *t = (TestOp){ .op = { .reply = &reply, .reactor = vr, .unique = unique++ } };
}

TestOp *shared_op(void) {
        TestOp *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        CHECK(t != MAP_FAILED);
        return t;
}

void init_again(TestOp *t, const TestOp *former) {
        init(t);
        t->op.unique = former->op.unique;
        t->op.replayed = t->op.recovered = true;
        t->op.replayed_step = former->step;
        t->op.object = former->object.len ? &former->object : NULL;
        t->op.object_id = former->object_id;
}

bool is_done(const TestOp *t, uint32_t timeout_ms) {
        uint64_t end = now_ns() + timeout_ms * NSEC_PER_MSEC;

        while (t->n_done == 0) {
                is_turning = true;
                CHECK(reactor_turn(reactor, end) >= 0);
                is_turning = false;
                check_doing(0);
                if (now_ns() >= end)
                        break;
        }
        CHECK(t->n_done <= 1);
        return t->n_done == 1;
}

void turn_for(uint32_t ms) {
        TestOp never = { 0 };

        (void) is_done(&never, ms);
}

int result(TestOp *t) {
        CHECK(is_done(t, 10000));
        return t->err;
}

/* ---- a worker ---- */

static void successor_start(void) {
        CHECK(reactor_new(&reactor) == 0);
        CHECK(vfs_new(memory, &options, &vfs) == 0);
        CHECK(vfs_reactor_new(vfs, 0, reactor, &vr) == 0);
}

void worker_start(void) {
        successor_start();
        vfs_recovered(vr);
}

void worker_end(void) {
        vr = vfs_reactor_free(vr);
        reactor = reactor_free(reactor);
        vfs = vfs_free(vfs);
}

void in_a_worker_that_dies(void (*f)(void)) {
        int status;
        pid_t pid;

        worker_end();
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
                worker_start();
                f();
                (void) kill(getpid(), SIGKILL);
        }
        (void) waitpid(pid, &status, 0);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        successor_start();
}

/* ---- the volume ---- */

uint32_t volume_files = 100;

void volume_prepare(enum NfsLockManager nlm) {
        FakeNfsConfig config = { .n_files = volume_files };
        NfsMountConfig mount = { .host = "127.0.0.1", .path = "/x", .cred = &test_cred, .timeout_ms = 5000 };
        char message[512];
        int fd;

        log_open(LOG_TARGET_STDERR, "test", NULL);
        log_set_max_level(LOG_CRIT);
        fake = fakenfs_start(&config);
        CHECK(fake);
        options = (SessionOptions){ .timeo = 50, .retrans = 1, .nconnect = 1, .noresvport = true };
        mount.port = mount.mountport = mount.nlmport = fakenfs_port(fake);
        mount.nlm = nlm;
        CHECK(memory_new(&memory, &fd) == 0);
        (void) close(fd);
        memory->n_reactors = 1;
        (void) snprintf(memory->source, sizeof memory->source, "127.0.0.1:/x");
        CHECK(nfs_export_mount(&mount, &memory->mount, message, sizeof message) == NFS_MOUNT_OK);
        options.port = options.mountport = mount.port;
        options.nlmport = memory->mount.nlmport;
}

void volume_done(void) {
        (void) munmap(memory, sizeof *memory);
        fake = fakenfs_stop(fake);
}

uint64_t file_find(const char *name) {
        TestOp t;

        init(&t);
        vfs_lookup(&t.op, 1, name);
        CHECK(result(&t) == 0);
        return t.nodeid;
}

uint64_t file_open(uint64_t nodeid, int flags) {
        TestOp t;

        init(&t);
        vfs_open(&t.op, nodeid, flags);
        CHECK(result(&t) == 0);
        return t.fh;
}
