/*
 * A volume put together: tables, sizes, connections. See include/vfs/vfs.h.
 */
#include "base/log.h"
#include "volume.h"

/* nfs(5): rsize= and wsize= are wishes; the server's maximum and what one RPC can carry bound them. */
static uint32_t io_size(uint32_t asked, uint32_t max) {
        uint32_t limit = MIN(max, IO_MAX);
        uint32_t size = asked ? MIN(asked, limit) : limit;

        return size >= 4096 ? size & ~4095u : size;
}

#define SENT_BYTES_MIN                                                                                                           \
        (UINT64_C(8) << 20) /* twice that was half as fast: a server whose threads wait for each other, colder caches */
#define SENT_BYTES_MAX (UINT64_C(48) << 20) /* of what one file may have in write-behind */

void vfs_io_sizes(const SessionOptions *options, const NfsFsInfo *info, uint32_t *ret_read, uint32_t *ret_write) {
        *ret_read = MAX(io_size(options->rsize, info->rtmax), 1u);
        *ret_write = MAX(io_size(options->wsize, info->wtmax), 1u);
}

NfsMountConfig vfs_mount_config(const SessionOptions *options) {
        return (NfsMountConfig){
                .addr = options->addr,
                .mounthost = options->mounthost,
                .mountaddr = options->mountaddr,
                .port = options->port,
                .mountport = options->mountport,
                .nlmport = options->nlmport,
                .family = options->family,
                .resvport = !options->noresvport,
        };
}

int vfs_new(Memory *memory, const SessionOptions *options, Vfs **ret) {
        Vfs *vfs = calloc(1, sizeof *vfs);
        int r;

        if (!vfs)
                return -ENOMEM;
        vfs->memory = memory;
        vfs->options = options;
        vfs_io_sizes(options, &memory->mount.info, &vfs->read_size, &vfs->write_size);
        vfs->sent_max = nfs_bytes_in_flight(&memory->mount, SENT_BYTES_MIN, SENT_BYTES_MAX);
        vfs->no_readdirplus = options->nordirplus;
        vfs->marked_fsid = NO_FSID;
        (void) pthread_mutex_init(&vfs->table_lock, NULL);
        (void) pthread_mutex_init(&vfs->statfs_lock, NULL);
        (void) pthread_mutex_init(&vfs->pending_lock, NULL);
        (void) pthread_mutex_init(&vfs->room_lock, NULL);
        (void) pthread_mutex_init(&vfs->ahead_lock, NULL);
        (void) pthread_mutex_init(&vfs->absent_lock, NULL);
        (void) pthread_mutex_init(&vfs->revive_lock, NULL);
        TAILQ_INIT(&vfs->revivals);
        TAILQ_INIT(&vfs->pending);
        TAILQ_INIT(&vfs->aheads);
        TAILQ_INIT(&vfs->absents);
        TAILQ_INIT(&vfs->for_room);
        TAILQ_INIT(&vfs->removals);
        TAILQ_INIT(&vfs->silly_removals);
        r = inode_table_load(vfs);
        if (r >= 0)
                r = open_table_load(vfs);
        if (r >= 0)
                r = extent_table_load(vfs);
        if (r >= 0)
                r = locks_new(vfs);
        if (atomic_load(&memory->init_replied))
                vfs->unsure_until = now_ns() + REREAD_UNSURE_NS;
        if (r < 0) {
                (void) vfs_free(vfs);
                return r;
        }
        /* the root's attributes are always known: GETATTR of it never has to wait for a server */
        cache_update(vfs, &vfs->inodes[1], &memory->mount.root_attr, (CallTime){ 1, 1 });
        *ret = vfs;
        return 0;
}

Vfs *vfs_free(Vfs *vfs) {
        if (!vfs)
                return NULL;
        locks_free(vfs);
        ahead_drop_all(vfs);
        absent_free(vfs);
        extent_table_free(vfs);
        open_table_free(vfs);
        inode_table_free(vfs);
        (void) pthread_mutex_destroy(&vfs->table_lock);
        (void) pthread_mutex_destroy(&vfs->statfs_lock);
        (void) pthread_mutex_destroy(&vfs->pending_lock);
        (void) pthread_mutex_destroy(&vfs->room_lock);
        (void) pthread_mutex_destroy(&vfs->ahead_lock);
        (void) pthread_mutex_destroy(&vfs->absent_lock);
        (void) pthread_mutex_destroy(&vfs->revive_lock);
        free(vfs);
        return NULL;
}

void vfs_set_notify(Vfs *vfs, const VfsNotify *notify) {
        vfs->notify = *notify;
}

uint32_t vfs_read_size(const Vfs *vfs) {
        return MAX(vfs->read_size, 4096u);
}

bool vfs_idmap(const Vfs *vfs) {
        return vfs->options->idmap;
}

uint32_t vfs_write_size(const Vfs *vfs) {
        return MAX(vfs->write_size, 4096u);
}

static void connection_changed(void *userdata, bool up) {
        VfsReactor *vr = userdata;

        atomic_store(&vr->vfs->memory->server_up[vr->index], up ? 1 : 2);
}

static void connection_made(void *userdata) {
        VfsReactor *vr = userdata;

        locks_suspect(vr->vfs);
        writeback_doubt(vr);
}

int vfs_reactor_new(Vfs *vfs, unsigned index, Reactor *reactor, VfsReactor **ret) {
        const SessionOptions *options = vfs->options;
        const NfsMountResult *mount = &vfs->memory->mount;
        VfsReactor *vr = calloc(1, sizeof *vr);
        NfsConnConfig config = {
                .server = vfs->memory->source,
                .addrs = mount->addrs,
                .n_addrs = mount->n_addrs,
                .port = mount->port,
                .resvport = !options->noresvport,
                .soft = options->soft || options->softerr,
                .softerr = options->softerr,
                .timeo_ms = options->timeo * 100,
                .retrans = options->retrans,
                .stats = &vfs->memory->stats[index].nfs,
                .next_xid = &vfs->memory->next_xid[index],
                .source_port = &vfs->memory->source_port[index],
                .state_changed = connection_changed,
                .connected = connection_made,
                .userdata = vr,
        };
        int r;

        if (!vr)
                return -ENOMEM;
        atomic_store(&vfs->memory->server_up[index], 1);
        config.stats->connected = config.stats->waiting_since = 0; /* a former worker's */
        vr->vfs = vfs;
        vr->index = index;
        vr->reactor = reactor;
        TAILQ_INIT(&vr->syncs);
        r = nfs_conn_new(reactor, &config, &vr->conn);
        if (r >= 0 && index == 0)
                r = locks_start(vr);
        if (r < 0) {
                (void) nfs_conn_free(vr->conn);
                free(vr);
                return r;
        }
        if (index == 0) {
                statfs_prime(vr);
                coherence_start(vr);
        }
        writeback_start(vr);
        *ret = vr;
        return 0;
}

VfsReactor *vfs_reactor_free(VfsReactor *vr) {
        if (!vr)
                return NULL;
        revive_stop(vr->vfs);
        locks_stop(vr);
        timer_disarm(&vr->writeback);
        timer_disarm(&vr->coherence);
        (void) nfs_conn_free(vr->conn);
        free(vr);
        return NULL;
}

bool vfs_reactor_is_idle(const VfsReactor *vr) {
        return vr->n_background == 0 && vr->n_dispensable == 0;
}

void vfs_say_unfinished(const VfsReactor *vr) {
        const Memory *memory = vr->vfs->memory;

        log_warning("mounted nowhere any more, but waiting for the server, which has not answered %u requests that are to be "
                    "executed "
                    "before the end, and has not yet %llu bytes that were written",
                    vr->n_background,
                    (unsigned long long) (atomic_load(&memory->dirty_bytes) + atomic_load(&memory->unstable_bytes)));
}

void dispensable_begin(VfsReactor *vr) {
        vr->n_dispensable++;
}

void dispensable_end(VfsReactor *vr) {
        vr->n_dispensable--;
}

void background_begin(VfsReactor *vr) {
        vr->n_background++;
}

void background_end(VfsReactor *vr) {
        VfsSync *sync;

        if (--vr->n_background > 0)
                return;
        while (vr->n_background == 0 && (sync = TAILQ_FIRST(&vr->syncs))) { /* one that is done may begin something */
                TAILQ_REMOVE(&vr->syncs, sync, sync_link);
                sync->waiting = false;
                sync->done(sync);
        }
}
