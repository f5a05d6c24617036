/*
 * The locks of a volume: which of them are the server's, and what begins and ends with a worker. What a former one left is
 * taken up again: what was held is held, what was asked is settled (lock.c).
 */
#include <stdio.h>

#include "base/log.h"
#include "lock.h"

/* ---- which locks ---- */

unsigned vfs_network_locks(const SessionOptions *options, const NfsMountResult *mount) {
        if (options->nolock || !mount->nlmport)
                return 0;
        switch (options->local_lock) {
        case LOCAL_LOCK_ALL:
                return 0;
        case LOCAL_LOCK_FLOCK:
                return VFS_LOCKS_POSIX;
        case LOCAL_LOCK_POSIX:
                return VFS_LOCKS_FLOCK;
        default:
                return VFS_LOCKS_POSIX | VFS_LOCKS_FLOCK;
        }
}

unsigned vfs_lock_kinds(const Vfs *vfs) {
        return vfs_network_locks(vfs->options, &vfs->memory->mount);
}

const char *vfs_locks_text(const SessionOptions *options, const NfsMountResult *mount) {
        switch (vfs_network_locks(options, mount)) {
        case VFS_LOCKS_POSIX | VFS_LOCKS_FLOCK:
                return "network";
        case VFS_LOCKS_POSIX:
                return "fcntl: network, flock: local";
        case VFS_LOCKS_FLOCK:
                return "fcntl: local, flock: network";
        default:
                if (options->nolock || options->local_lock == LOCAL_LOCK_ALL)
                        return "local";
                return mount->nlm_silent ? "local: the server's lock manager did not answer"
                                         : "local: the server has no lock manager";
        }
}

/* ---- start ---- */

static int by_serial(const void *a, const void *b) {
        const LockRecord *const *x = a, *const *y = b;

        return (*x)->serial < (*y)->serial ? -1 : (*x)->serial > (*y)->serial;
}

static bool record_is_sane(const Locks *locks, const LockRecord *record, enum LockState state) {
        return state <= LOCK_HELD && lock_record_is_whole(&locks->records, record) && record->type <= LOCK_EXCLUSIVE &&
               record->kind <= LOCK_FLOCK && record->start <= record->end && record->end <= LOCK_END &&
               record->cred.n_groups <= NFS_GROUPS_MAX;
}

/* The server was to be asked for it, or was. */
static int load_asked(LockFile *file, LockRecord *record) {
        Locks *locks = file->locks;
        LockOwner *owner = lockset_load_owner(&file->set, record);
        LockRequest *request;
        int r;

        request = owner ? lock_request_new(file, owner, record->type == LOCK_NONE ? LOCK_DROP : LOCK_CONFIRM, LOCK_NONE,
                                           record->start, record->end)
                        : NULL;
        if (!request)
                return -ENOMEM;
        r = lock_room_load(&locks->records, &request->room, record);
        if (r < 0)
                return r;
        if (request->kind == LOCK_CONFIRM)
                lock_doubt_load(request);
        else
                request->unsure = true;
        return 0;
}

static int load_record(Locks *locks, LockRecord *record) {
        enum LockState state = atomic_load(&record->state);
        Inode *inode = record_is_sane(locks, record, state) ? inode_pin(locks->vfs, record->nodeid) : NULL;
        LockFile *file;
        int r = -ENOMEM;

        if (!inode) {
                log_warning("a lock of a former worker is not usable, dropped");
                lock_record_drop(&locks->records, record);
                return 0;
        }
        file = lock_file_get(locks, inode);
        if (file)
                r = state == LOCK_HELD ? lockset_load(&locks->records, &file->set, record) : load_asked(file, record);
        inode_unpin(locks->vfs, inode);
        return r;
}

static int load_records(Locks *locks) {
        uint32_t high = atomic_load(locks->records.high), n = 0;
        _cleanup_(freep) LockRecord **list = calloc(high ? high : 1, sizeof *list);
        LockFile *file;
        int r = 0;

        if (!list)
                return -ENOMEM;
        for (uint32_t i = 0; i < high; i++)
                if (atomic_load_explicit(&locks->records.records[i].state, memory_order_acquire) != LOCK_FREE)
                        list[n++] = &locks->records.records[i];
        qsort(list, n, sizeof *list, by_serial);
        for (uint32_t i = 0; r == 0 && i < n; i++)
                r = load_record(locks, list[i]);
        TAILQ_FOREACH(file, &locks->files, file_link)
                lock_doubt_loaded(file);
        return r;
}

int locks_new(Vfs *vfs) {
        Memory *memory = vfs->memory;
        Locks *locks;
        int r;

        if (!vfs_network_locks(vfs->options, &memory->mount))
                return 0;
        locks = calloc(1, sizeof *locks);
        if (!locks)
                return -ENOMEM;
        vfs->locks = locks;
        locks->vfs = vfs;
        (void) pthread_mutex_init(&locks->mutex, NULL);
        TAILQ_INIT(&locks->files);
        TAILQ_INIT(&locks->work);
        locks->work_task.run = lock_work_run;
        locks->reclaim_task.run = lock_reclaim_run;
        locks->suspect_task.run = lock_suspect_run;
        locks->rebind_task.run = lock_rebind_run;
        locks->end_timer.fired = lock_end_fired;
        locks->next_number = 1;
        if (atomic_load(&memory->lock_svid) == 0)
                atomic_store(&memory->lock_svid, (uint32_t) (memory->connection_id ^ memory->connection_id >> 32));
        (void) snprintf(locks->caller, sizeof locks->caller, "%.*s", NLM_NAME_MAX, memory->node);
        (void) snprintf(locks->name, sizeof locks->name, "%s (locks)", memory->source);
        atomic_store(&memory->n_lock_waiters, 0);
        r = lock_records_init(&locks->records, memory);
        return r < 0 ? r : load_records(locks);
}

void locks_free(Vfs *vfs) {
        Locks *locks = TAKE_PTR(vfs->locks);

        if (!locks)
                return;
        lock_records_done(&locks->records);
        (void) pthread_mutex_destroy(&locks->mutex);
        free(locks);
}

static void lock_connected(void *userdata) {
        Locks *locks = userdata;

        reactor_defer(locks->vr->reactor, &locks->reclaim_task);
}

static void lock_unreachable(void *userdata) {
        Locks *locks = userdata;

        reactor_defer(locks->vr->reactor, &locks->rebind_task);
}

int locks_start(VfsReactor *vr) {
        const SessionOptions *options = vr->vfs->options;
        const NfsMountResult *mount = &vr->vfs->memory->mount;
        Locks *locks = vr->vfs->locks;
        LockFile *file, *next;
        NfsConnConfig config = {
                .protocol = NFS_PROTOCOL_NLM4,
                .addrs = mount->addrs,
                .n_addrs = mount->n_addrs,
                .port = mount->nlmport,
                .resvport = !options->noresvport,
                .soft = options->soft || options->softerr,
                .softerr = options->softerr,
                .timeo_ms = options->timeo * 100,
                .retrans = options->retrans,
                .stats = &vr->vfs->memory->lock_stats,
                .connected = lock_connected,
                .unreachable = lock_unreachable,
                .userdata = locks,
        };
        int r;

        if (!locks)
                return 0;
        config.server = locks->name;
        config.stats->connected = config.stats->waiting_since = 0; /* a former worker's */
        locks->vr = vr;
        r = nfs_conn_new(vr->reactor, &config, &locks->conn);
        if (r < 0)
                return r;
        lock_mutex(locks);
        for (file = TAILQ_FIRST(&locks->files); file; file = next) {
                next = TAILQ_NEXT(file, file_link);
                lock_file_step(file);
        }
        unlock_mutex(locks);
        return 0;
}

/* What is left is the kernel's or the server's to forget; the records stay as they are, and the ops are gone. */
static void request_discard(LockRequest *request) {
        request->op = NULL;
        request->room.record = NULL;
        lock_request_end(request, 0);
}

static void file_discard(LockFile *file) {
        struct LockRequestList *lists[] = { &file->requests, &file->zapping };
        LockRequest *request;

        for (unsigned i = 0; i < ELEMENTSOF(lists); i++)
                while ((request = TAILQ_FIRST(lists[i]))) {
                        TAILQ_REMOVE(lists[i], request, request_link);
                        request->in = NULL;
                        request_discard(request);
                }
        if (file->current)
                request_discard(file->current);
        lockset_done(&file->set);
        lock_file_free(file);
}

void locks_stop(VfsReactor *vr) {
        Locks *locks = vr->vfs->locks;
        LockFile *file;

        if (!locks || vr != locks->vr)
                return;
        locks->stopping = true;
        locks->ending = false;
        locks->conn = nfs_conn_free(locks->conn);
        locks->portmap = nfs_conn_free(locks->portmap);
        timer_disarm(&locks->end_timer);
        reactor_undefer(vr->reactor, &locks->reclaim_task);
        reactor_undefer(vr->reactor, &locks->rebind_task);
        while ((file = TAILQ_FIRST(&locks->files)))
                file_discard(file);
}

void locks_suspect(Vfs *vfs) {
        Locks *locks = vfs->locks;

        if (locks && locks->vr)
                reactor_post(locks->vr->reactor, &locks->suspect_task);
}
