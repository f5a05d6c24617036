/*
 * The worker: serves. It may be killed at any instant; whatever must survive that is in the memory.
 *
 * One thread per reactor, each with its FUSE channel and its NFS connection; the main thread runs the first.
 * Signals that are meant to end the volume (SIGTERM to its scope) are the keeper's to act on: a worker that obeyed
 * them would take the mounts away from under their users. All it does at a SIGTERM is to commit what has been written, and
 * from then on each second: its users may have no more time than systemd gives the scope.
 * SIGUSR1 is the keeper's: it makes room for a worker of another version, at an instant at which nothing is in flight
 * if there is one soon, and else as if it had been killed.
 */
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "base/crashpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "daemon.h"
#include "fuse/channel.h"
#include "sys/cgroup.h"
#include "sys/rundir.h"
#include "sys/sandbox.h"
#include "worker.h"

#define LEAVE_BOUND_NS (100 * NSEC_PER_MSEC)
#define COMMIT_NS      NSEC_PER_SEC          /* between two, once the scope is being stopped */
#define BUSY_BOUND_NS  (200 * NSEC_PER_MSEC) /* for a former worker to be gone altogether */

typedef struct WorkerReactor {
        struct Worker *worker;
        unsigned index;
        Reactor *reactor;
        VfsReactor *vr;
        FuseChannel *channel;
        Task commit, leave, verify;
        FdSource ping;
        VfsSync sync;
        pthread_t thread;
        bool running;
        bool told; /* that it has committed */
} WorkerReactor;

typedef struct Worker {
        Memory *memory;
        MountOptions options;
        Vfs *vfs;
        FuseVolume *volume;
        WorkerReactor reactors[REACTORS_MAX];
        FdSource signals;
        Timer leave_timer, commit_timer;
        uint64_t memory_limit; /* bytes */
        _Atomic unsigned n_leaving;
        Task finish;
        bool finished, verifying; /* the first reactor's */
        pthread_barrier_t standstill;
} Worker;

/* Not while some of them wait for others to stand still. */
static void finish_run(Task *task) {
        Worker *worker = container_of(task, Worker, finish);

        if (worker->verifying)
                return reactor_post(worker->reactors[0].reactor, &worker->finish);
        worker->finished = true;
        for (unsigned i = 0; i < worker->memory->n_reactors; i++)
                reactor_stop(worker->reactors[i].reactor, 0);
}

static void worker_finished(void *userdata) {
        Worker *worker = userdata;

        reactor_post(worker->reactors[0].reactor, &worker->finish);
}

#define SHOW_MS 500

/*
 * Says to who finds the volume without a keeper that there is a worker: a lock of this process alone, on a file that others
 * can find (cmd/volume.c), until it is closed.
 */
static void worker_show(const Memory *memory) {
        const struct timespec step = { .tv_nsec = NSEC_PER_MSEC };
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        char path[PATH_MAX];
        int fd = -1, r = -1;

        if (rundir_path(memory->id, "key", path, sizeof path) == 0)
                fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        /* a former one is about to let go; or it is another daemon's by now, since this one's volume is being drained */
        for (unsigned ms = 0; fd >= 0 && ms < SHOW_MS && (r = fcntl(fd, F_SETLK, &lock)) < 0; ms++)
                (void) nanosleep(&step, NULL);
        if (r < 0)
                log_warning("cannot lock %s/%s/key: %s", rundir(), memory->id, strerror(errno));
}

/* Nothing that a server's reply or a request could make it do needs more. */
static void worker_confine(void) {
        int r = sandbox_drop_privileges();
        bool files = false;

        if (r < 0)
                log_warning("the worker keeps its capabilities: %s", strerror(-r));
        if (SANITIZED) /* it reads maps and starts threads in ways of its own */
                return;
        r = sandbox_enter(&files);
        if (r < 0)
                log_warning("the worker has no sandbox: %s", strerror(-r));
        else if (!files)
                log_info("this kernel has no Landlock: the worker can read files");
}

/* Who asks is looked up there: groups, signals. */
static void worker_look_around(void) {
        char text[64];

        if (io_read_file("/proc/1/stat", text, sizeof text) < 0)
                log_warning("/proc hides processes from us (hidepid): the server hears of no supplementary groups, and any "
                            "signal ends "
                            "a call that waits; mount it with gid=0");
}

/* If there is not enough memory the worker shall go first: the keeper lives on, and starts another. */
static void worker_offer(void) {
        char text[24] = "0";

        (void) io_read_file("/proc/self/oom_score_adj", text, sizeof text);
        (void) snprintf(text, sizeof text, "%ld", MIN(strtol(text, NULL, 10) + 50, 1000L));
        (void) io_write_file("/proc/self/oom_score_adj", text);
}

static void signals_set(sigset_t *set) {
        (void) sigemptyset(set);
        (void) sigaddset(set, SIGTERM);
        (void) sigaddset(set, WORKER_LEAVE);
}

static void worker_signals(void) {
        static const int ignored[] = { SIGINT, SIGHUP, SIGPIPE, SIGUSR2 };
        sigset_t set;

        for (unsigned i = 0; i < ELEMENTSOF(ignored); i++)
                (void) signal(ignored[i], SIG_IGN);
        signals_set(&set);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
}

static void committed(VfsSync *sync) {
        WorkerReactor *wr = container_of(sync, WorkerReactor, sync);

        if (!wr->told)
                log_info("reactor %u: everything written is on the server", wr->index);
        wr->told = true;
}

static void commit_run(Task *task) {
        WorkerReactor *wr = container_of(task, WorkerReactor, commit);

        wr->sync.done = committed;
        vfs_sync_all(wr->vr, &wr->sync);
}

static void commit_all(Worker *worker) {
        for (unsigned i = 0; i < worker->memory->n_reactors; i++)
                reactor_post(worker->reactors[i].reactor, &worker->reactors[i].commit);
        timer_arm(worker->reactors[0].reactor, &worker->commit_timer, now_ns() + COMMIT_NS);
}

static void commit_fired(Timer *timer) {
        commit_all(container_of(timer, Worker, commit_timer));
}

/* ---- making room ---- */

static _Noreturn void worker_left(Worker *worker) {
        atomic_store(&worker->memory->worker_state, WORKER_LEFT);
        _exit(0);
}

static void channel_left(void *userdata) {
        Worker *worker = userdata;

        if (atomic_fetch_sub(&worker->n_leaving, 1) == 1)
                worker_left(worker);
}

static void leave_run(Task *task) {
        WorkerReactor *wr = container_of(task, WorkerReactor, leave);

        fuse_channel_leave(wr->channel, channel_left, wr->worker);
}

static void leave_late(Timer *timer) {
        worker_left(container_of(timer, Worker, leave_timer));
}

static void worker_leave(Worker *worker) {
        Reactor *reactor = worker->reactors[0].reactor;

        if (atomic_load(&worker->n_leaving))
                return;
        atomic_store(&worker->n_leaving, worker->memory->n_reactors);
        worker->leave_timer.fired = leave_late;
        timer_arm(reactor, &worker->leave_timer, reactor_now(reactor) + LEAVE_BOUND_NS);
        for (unsigned i = 0; i < worker->memory->n_reactors; i++)
                reactor_post(worker->reactors[i].reactor, &worker->reactors[i].leave);
}

static void signals_ready(FdSource *source, uint32_t events) {
        Worker *worker = container_of(source, Worker, signals);
        struct signalfd_siginfo si;

        (void) events;
        if (read(source->fd, &si, sizeof si) != sizeof si)
                return;
        if (si.ssi_signo == WORKER_LEAVE)
                return worker_leave(worker);
        commit_all(worker);
}

static int watch_signals(Worker *worker) {
        sigset_t set;
        int fd;

        signals_set(&set);
        fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0)
                return -errno;
        worker->signals.ready = signals_ready;
        worker->commit_timer.fired = commit_fired;
        return fd_source_add(worker->reactors[0].reactor, &worker->signals, fd, EPOLLIN);
}

/* ---- what the keeper asks ---- */

/* Between two turns nothing is half done: all stand still until the first has looked at everything. */
static void verify_run(Task *task) {
        WorkerReactor *wr = container_of(task, WorkerReactor, verify);
        Worker *worker = wr->worker;

        (void) pthread_barrier_wait(&worker->standstill);
        if (wr->index == 0) {
                fuse_volume_verify(worker->volume);
                worker->verifying = false;
        }
        (void) pthread_barrier_wait(&worker->standstill);
}

static void verify_asked(Worker *worker) {
        const VerifyReport *report = &worker->memory->verify;

        if (worker->finished || worker->verifying || atomic_load(&report->asked) == atomic_load(&report->answered))
                return;
        worker->verifying = true;
        for (unsigned i = 0; i < worker->memory->n_reactors; i++)
                reactor_post(worker->reactors[i].reactor, &worker->reactors[i].verify);
}

/* Whether this reactor turns, and to the first one, whether there is something to verify. */
static void ping_ready(FdSource *source, uint32_t events) {
        WorkerReactor *wr = container_of(source, WorkerReactor, ping);

        (void) events;
        (void) !read(source->fd, &(uint64_t){ 0 }, sizeof(uint64_t));
        atomic_fetch_add(&wr->worker->memory->pongs[wr->index], 1);
        if (wr->index == 0)
                verify_asked(wr->worker);
}

static void *reactor_thread(void *arg) {
        WorkerReactor *wr = arg;
        char name[16];
        int r;

        (void) snprintf(name, sizeof name, "reactor%u", wr->index);
        (void) pthread_setname_np(pthread_self(), name);
        stack_of_thread();
        r = reactor_run(wr->reactor);
        if (r < 0) {
                log_error("reactor %u ended: %s", wr->index, strerror(-r));
                _exit(1); /* a volume with a deaf channel would hang: the keeper starts another worker */
        }
        return NULL;
}

static int worker_start(Worker *worker) {
        Memory *memory = worker->memory;
        char *why = NULL;
        int r;

        mount_options_init(&worker->options);
        r = mount_options_parse(&worker->options, memory->options, &why);
        if (r < 0) {
                log_error("options: %s", why ? why : strerror(-r));
                free(why);
                return r;
        }
        worker->finish.run = finish_run;
        r = vfs_new(memory, &worker->options.session, &worker->vfs);
        if (r < 0)
                return r;
        crash_point(MEMORY_LOADED);
        vfs_limit_memory(worker->vfs, worker->memory_limit);
        r = fuse_volume_new(memory, worker->vfs, worker_finished, worker, &worker->volume);
        if (r < 0)
                return r;
        r = -pthread_barrier_init(&worker->standstill, NULL, memory->n_reactors);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < memory->n_reactors; i++) {
                WorkerReactor *wr = &worker->reactors[i];

                wr->worker = worker;
                wr->commit.run = commit_run;
                wr->leave.run = leave_run;
                wr->verify.run = verify_run;
                wr->ping.ready = ping_ready;
                wr->index = i;
                r = reactor_new(&wr->reactor);
                if (r >= 0 && memory->ping_fd[i] >= 0)
                        r = fd_source_add(wr->reactor, &wr->ping, memory->ping_fd[i], EPOLLIN);
                if (r >= 0)
                        r = vfs_reactor_new(worker->vfs, i, wr->reactor, &wr->vr);
                if (r < 0)
                        return r;
        }
        for (unsigned i = 0; i < memory->n_reactors; i++) {
                WorkerReactor *wr = &worker->reactors[i];

                r = fuse_channel_new(worker->volume, i, wr->reactor, wr->vr, &wr->channel);
                if (r < 0)
                        return r;
        }
        fuse_volume_recover(worker->volume);
        vfs_recovered(worker->reactors[0].vr);
        r = watch_signals(worker);
        if (r < 0)
                return r;
        for (unsigned i = 1; i < memory->n_reactors; i++) {
                r = -pthread_create(&worker->reactors[i].thread, NULL, reactor_thread, &worker->reactors[i]);
                if (r < 0)
                        return r;
                worker->reactors[i].running = true;
        }
        return 0;
}

static void worker_stop(Worker *worker) {
        for (unsigned i = 0; i < worker->memory->n_reactors; i++) {
                WorkerReactor *wr = &worker->reactors[i];

                if (wr->running)
                        (void) pthread_join(wr->thread, NULL);
        }
        /* the mount was ended under them: nobody waits for their answers, and what they wait for cannot be taken apart */
        for (unsigned i = 0; i < worker->memory->n_reactors; i++)
                if (!fuse_channel_is_idle(worker->reactors[i].channel) || !vfs_reactor_is_idle(worker->reactors[i].vr))
                        _exit(0);
        timer_disarm(&worker->commit_timer);
        fd_source_remove(&worker->signals);
        for (unsigned i = 0; i < worker->memory->n_reactors; i++)
                fd_source_remove(&worker->reactors[i].ping);
        for (unsigned i = 0; i < worker->memory->n_reactors; i++)
                (void) fuse_channel_free(worker->reactors[i].channel);
        for (unsigned i = 0; i < worker->memory->n_reactors; i++) {
                (void) vfs_reactor_free(worker->reactors[i].vr);
                (void) reactor_free(worker->reactors[i].reactor);
        }
        (void) pthread_barrier_destroy(&worker->standstill);
        (void) fuse_volume_free(worker->volume);
        (void) vfs_free(worker->vfs);
        mount_options_done(&worker->options);
}

/* The memory, if nobody else works on it. 0, or an exit code. */
static int take_over(int memory_fd, Memory **ret) {
        uint64_t deadline = now_ns() + BUSY_BOUND_NS;
        int r;

        while ((r = role_take(memory_fd)) == -EBUSY && now_ns() < deadline)
                (void) nanosleep(&(struct timespec){ .tv_nsec = 1000 * 1000 }, NULL);
        if (r == -EBUSY)
                return WORKER_EXIT_BUSY;
        if (r >= 0)
                r = memory_attach(memory_fd, ret);
        if (r < 0) {
                log_open(LOG_TARGET_SYSTEM, "nfsvold", NULL);
                log_error("the recovery memory is not usable: %s", strerror(-r));
                return 1;
        }
        log_open(LOG_TARGET_SYSTEM, "nfsvold", (*ret)->source);
        atomic_store(&(*ret)->worker_pid, (uint32_t) getpid());
        return 0;
}

int worker_main(int memory_fd) {
        static Worker the_worker;
        Worker *worker = &the_worker;
        Memory *memory;
        int r;

        (void) prctl(PR_SET_NAME, "nfsvol-worker");
        worker_signals();
        r = take_over(memory_fd, &worker->memory);
        if (r != 0)
                return r;
        memory = worker->memory;
        worker_offer();
#ifdef NFSVOL_CRASH_POINTS
        r = crash_points_load();
        if (r < 0)
                return 1;
#endif
        worker_show(memory);
        stack_on_crash(memory->stack_fd);
        worker->memory_limit = cgroup_memory_limit();
        worker_confine();
        worker_look_around();
        /* requests and replies come and go in pieces of up to 1 MiB: from the heap, without mmap(2) */
        (void) mallopt(M_MMAP_THRESHOLD, 8 << 20);
        (void) mallopt(M_TRIM_THRESHOLD, (int) MIN(worker->memory_limit / 8, UINT64_C(96) << 20));
        (void) mallopt(M_ARENA_MAX, (int) memory->n_reactors);

        atomic_store(&memory->worker_state, WORKER_STARTING);
        r = worker_start(worker);
        if (r < 0) {
                log_error("the worker cannot start: %s", r == -EPROTO ? "the recovery memory is damaged" : strerror(-r));
                _exit(r == -EPROTO ? WORKER_EXIT_UNUSABLE : 1); /* what there is of it so far is not taken apart */
        }
        crash_point(SERVING_SOON);
        atomic_store(&memory->worker_state, WORKER_SERVING);
        (void) !write(memory->ready_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
        r = reactor_run(worker->reactors[0].reactor);
        if (r < 0) {
                log_error("reactor 0 ended: %s", strerror(-r));
                _exit(1);
        }
        atomic_store(&memory->worker_state, WORKER_FINISHED);
        worker_stop(worker);
        return 0;
}

/* Stands in for workers that do not live. It believes of the memory as little as it can. */
int refuser_main(int memory_fd) {
        Memory *memory;
        int r;

        (void) prctl(PR_SET_NAME, "nfsvol-refuser");
        (void) signal(SIGTERM, SIG_IGN);
        fuse_refuse_until(WORKER_LEAVE);
        r = take_over(memory_fd, &memory);
        if (r != 0)
                return r;
        stack_on_crash(memory->stack_fd);
        worker_confine();
        atomic_store(&memory->worker_state, WORKER_REFUSING);
        r = fuse_refuse(memory);
        if (r < 0) {
                log_error("cannot even refuse: %s", strerror(-r));
                return 1;
        }
        if (r > 0)
                return 0; /* asked to leave */
        atomic_store(&memory->worker_state, WORKER_FINISHED);
        return 0;
}
