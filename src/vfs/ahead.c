/*
 * Looking ahead: who asks for one name after the other in a directory, as find(1), tar(1) and build systems do, will ask for
 * more of them. After some LOOKUPs in a short time the directory is read with READDIRPLUS in the background, a few
 * hundred names in one RPC, and later LOOKUPs are answered from that.
 *
 * What is kept is believed as the kernel would believe it (cache.c): names while the directory's attributes are, attributes
 * while the file's would be, and only where everybody may search. The directory must be as it was: any change of ours
 * (dir_version) or of others (ctime) throws all of it away. A ctime can be too coarse to tell two changes apart, and a server
 * may say one that is later than what it listed: so nothing is believed for longer than acdirmin. A name is given once: then
 * the kernel has it.
 *
 * A name that was not read is asked for, even if the whole directory was: who has just been told by another machine that it
 * made a file there must find it.
 *
 * A stale handle says that somebody else has changed names: then nothing that was read is believed any more, for the kernel
 * looks the name up once more and wants to hear something else. A directory that changes before its names were asked for
 * is left alone for a while, longer each time.
 *
 * How much is read is paid for by the LOOKUPs that were sent: a few in a huge directory do not fetch all of it.
 *
 * Thread: any; ahead_lock, a leaf. The READDIRPLUS runs on the reactor that began it.
 */
#include "volume.h"

#define MISSES_MIN     8u  /* LOOKUPs before reading ahead */
#define WINDOW_NS      NSEC_PER_SEC
#define NAMES_FIRST    600u /* what may be read for them */
#define NAMES_PER_MISS 16u  /* and for each one more: costs the server less than the LOOKUP did */
#define NAMES_MAX      65536u /* of a volume */
#define QUIET_NS       NSEC_PER_SEC /* after it was in vain, doubling */
#define QUIET_SHIFT    6u
#define DOUBT_NS       (30 * NSEC_PER_SEC)
#define REPLY_MAX      (128u * 1024)

typedef struct AheadName {
        UT_hash_handle by_name;
        bool given;
        NfsFh fh;
        NfsAttr attr;
        CallTime time;
        char name[];
} AheadName;

struct Ahead {
        Inode *dir; /* has a pointer to this; pinned while the call is in flight */
        TAILQ_ENTRY(Ahead) ahead_link;
        uint64_t window_began;
        uint32_t n_misses, n_names, n_given;
        uint32_t n_vain;      /* how often in a row it was read in vain */
        uint64_t quiet_until; /* ns */
        AheadName *names;

        _Atomic uint64_t dir_version; /* of what has been read */
        struct timespec ctime;
        uint64_t read_at; /* ns: when reading it was begun */
        uint64_t cookie;
        uint8_t verf[NFS_VERF_SIZE];
        bool complete; /* read to the end */
        bool useless;  /* reading it failed: not again in this window */

        bool in_flight;
        VfsReactor *reactor;
        NfsCall call;
        NfsCred cred;
};

static void fetch(VfsReactor *vr, Ahead *ahead);
static void fetch_done(NfsCall *call);

static void ahead_lock(Vfs *vfs) {
        (void) pthread_mutex_lock(&vfs->ahead_lock);
}

static void ahead_unlock(Vfs *vfs) {
        (void) pthread_mutex_unlock(&vfs->ahead_lock);
}

/* ---- all of these under the lock ---- */

/* What was read is not true any more. */
static void forget_names(Vfs *vfs, Ahead *ahead) {
        AheadName *name, *next;

        if (ahead->n_given >= MISSES_MIN)
                ahead->n_vain = 0;
        else if (ahead->n_names > 0)
                ahead->quiet_until = now_ns() + (QUIET_NS << MIN(ahead->n_vain++, QUIET_SHIFT));

        HASH_ITER(by_name, ahead->names, name, next) {
                HASH_DELETE(by_name, ahead->names, name);
                free(name);
        }
        vfs->n_ahead_names -= ahead->n_names;
        ahead->n_names = ahead->n_given = 0;
        ahead->n_misses = 0;
        ahead->cookie = 0;
        ahead->complete = ahead->useless = false;
        memset(ahead->verf, 0, sizeof ahead->verf);
}

static void drop(Vfs *vfs, Ahead *ahead) {
        forget_names(vfs, ahead);
        TAILQ_REMOVE(&vfs->aheads, ahead, ahead_link);
        ahead->dir->ahead = NULL;
        free(ahead);
}

/* Room for the names of ahead, at the expense of the directory that was begun first. */
static void make_room(Vfs *vfs, const Ahead *ahead) {
        Ahead *oldest, *next;

        for (oldest = TAILQ_FIRST(&vfs->aheads); oldest && vfs->n_ahead_names >= NAMES_MAX; oldest = next) {
                next = TAILQ_NEXT(oldest, ahead_link);
                if (oldest != ahead && !oldest->in_flight)
                        drop(vfs, oldest);
        }
}

static Ahead *ahead_of(Vfs *vfs, Inode *dir) {
        Ahead *ahead = dir->ahead;

        if (ahead)
                return ahead;
        ahead = calloc(1, sizeof *ahead);
        if (!ahead)
                return NULL;
        ahead->dir = dir;
        dir->ahead = ahead;
        TAILQ_INSERT_TAIL(&vfs->aheads, ahead, ahead_link);
        return ahead;
}

/* Whether what was read still holds: dir is its directory's attributes now. */
static bool is_current(const Vfs *vfs, const Ahead *ahead, const NfsAttr *dir, uint64_t now) {
        return ahead->n_names > 0 && now < ahead->read_at + vfs->options->acdirmin * NSEC_PER_SEC && ahead->dir_version == dir_version(ahead->dir) &&
               ahead->ctime.tv_sec == dir->ctime.tv_sec && ahead->ctime.tv_nsec == dir->ctime.tv_nsec;
}

/* false: no memory. */
static bool add_name(Vfs *vfs, Ahead *ahead, const NfsDirent *dirent, CallTime time) {
        size_t len = strlen(dirent->name);
        AheadName *name;

        if (!dirent->has_attr || !dirent->has_fh)
                return true;
        HASH_FIND(by_name, ahead->names, dirent->name, len, name);
        if (name)
                return true;
        name = calloc(1, sizeof *name + len + 1);
        if (!name)
                return false;
        memcpy(name->name, dirent->name, len + 1);
        name->time = time;
        name->fh = dirent->fh;
        name->attr = dirent->attr;
        HASH_ADD_KEYPTR(by_name, ahead->names, name->name, len, name);
        ahead->n_names++;
        vfs->n_ahead_names++;
        return true;
}

/* ---- asking ---- */

bool ahead_find(Op *op, const char *name, VfsFound *ret) {
        Vfs *vfs = op->reactor->vfs;
        uint64_t now = reactor_now(op->reactor->reactor), left;
        AheadName *entry;
        bool found = false;
        Ahead *ahead;
        NfsAttr dir;

        if (!op->inode->ahead || cache_entry_timeout(vfs, op->inode, true, now) == 0 ||
            !cache_attr(op->inode, now, false, &dir, &left))
                return false;
        ahead_lock(vfs);
        ahead = op->inode->ahead;
        if (ahead && is_current(vfs, ahead, &dir, now)) {
                HASH_FIND(by_name, ahead->names, name, strlen(name), entry);
                found = entry && !entry->given && cache_is_fresh(vfs, &entry->attr, entry->time, now);
                if (found) {
                        *ret = (VfsFound){ .fh = entry->fh, .attr = entry->attr, .time = entry->time };
                        entry->given = true;
                        ahead->n_given++;
                }
        } else if (ahead && ahead->n_names > 0 && !ahead->in_flight) {
                forget_names(vfs, ahead);
        }
        ahead_unlock(vfs);
        return found;
}

void ahead_missed(Op *op) {
        VfsReactor *vr = op->reactor;
        Vfs *vfs = vr->vfs;
        uint64_t now = reactor_now(vr->reactor);
        bool go = false;
        Ahead *ahead;

        if (vfs->no_readdirplus || cache_entry_timeout(vfs, op->inode, true, now) == 0)
                return;
        ahead_lock(vfs);
        ahead = ahead_of(vfs, op->inode);
        if (ahead && now - ahead->window_began > WINDOW_NS) {
                if (ahead->n_names == 0)
                        ahead->n_misses = 0;
                ahead->useless = false;
                ahead->window_began = now;
        }
        if (ahead && ++ahead->n_misses >= MISSES_MIN && !ahead->in_flight && !ahead->complete && !ahead->useless &&
            now >= ahead->quiet_until && ahead->n_names < NAMES_FIRST / 2 + NAMES_PER_MISS * (ahead->n_misses - MISSES_MIN)) {
                make_room(vfs, ahead);
                ahead->in_flight = go = true;
                ahead->reactor = vr;
                ahead->cred = op->cred;
        }
        ahead_unlock(vfs);
        if (go) {
                inode_repin(vfs, op->inode);
                fetch(vr, ahead);
        }
}

/* ---- reading ---- */

static void fetch(VfsReactor *vr, Ahead *ahead) {
        ahead->call = (NfsCall){ .proc = NFS_READDIRPLUS, .cred = &ahead->cred, .done = fetch_done };
        ahead->call.args.fh = inode_fh(ahead->dir);
        ahead->call.args.readdir.cookie = ahead->cookie;
        ahead->call.args.readdir.count = REPLY_MAX;
        memcpy(ahead->call.args.readdir.verf, ahead->verf, NFS_VERF_SIZE);
        if (ahead->cookie == 0) {
                ahead->dir_version = dir_version(ahead->dir);
                ahead->read_at = now_ns();
        }
        dispensable_begin(vr);
        nfs_call_send(vr->conn, &ahead->call);
}

/* Under the lock. */
static void take(Vfs *vfs, Ahead *ahead, NfsCall *call) {
        const struct timespec *ctime = &call->res.attr.ctime;
        void *iter = call->res.readdir.entries;
        uint32_t before = ahead->n_names;
        NfsDirent dirent;
        int r;

        if (call->err || !call->res.has_attr || ahead->dir_version != dir_version(ahead->dir) ||
            (ahead->cookie != 0 && (ctime->tv_sec != ahead->ctime.tv_sec || ctime->tv_nsec != ahead->ctime.tv_nsec))) {
                forget_names(vfs, ahead);
                ahead->useless = call->err != 0;
                return;
        }
        ahead->ctime = *ctime;
        while ((r = nfs_dirent_next(call, &iter, &dirent)) > 0) {
                if (!add_name(vfs, ahead, &dirent, call_time(call))) {
                        r = -ENOMEM;
                        break;
                }
                ahead->cookie = dirent.cookie;
        }
        memcpy(ahead->verf, call->res.readdir.verf, NFS_VERF_SIZE);
        ahead->complete = r == 0 && call->res.readdir.eof;
        ahead->useless = r < 0 || (!ahead->complete && ahead->n_names == before);
}

static void fetch_done(NfsCall *call) {
        Ahead *ahead = container_of(call, Ahead, call);
        VfsReactor *vr = ahead->reactor;
        Inode *dir = ahead->dir;

        if (!call->err && call->res.has_attr)
                cache_update(vr->vfs, dir, &call->res.attr, call_time(call));
        ahead_lock(vr->vfs);
        take(vr->vfs, ahead, call);
        ahead->in_flight = false;
        ahead_unlock(vr->vfs);
        inode_unpin(vr->vfs, dir);
        dispensable_end(vr);
}

void ahead_drop_all(Vfs *vfs) {
        ahead_lock(vfs);
        while (!TAILQ_EMPTY(&vfs->aheads))
                drop(vfs, TAILQ_FIRST(&vfs->aheads));
        ahead_unlock(vfs);
}

void ahead_doubt(Vfs *vfs) {
        Ahead *ahead;

        ahead_lock(vfs);
        TAILQ_FOREACH(ahead, &vfs->aheads, ahead_link) {
                ahead->dir_version = UINT64_MAX; /* what is on its way is not believed either */
                if (!ahead->in_flight)
                        forget_names(vfs, ahead);
                ahead->quiet_until = now_ns() + DOUBT_NS;
        }
        ahead_unlock(vfs);
}

void ahead_drop(Vfs *vfs, Inode *dir) {
        ahead_lock(vfs);
        if (dir->ahead)
                drop(vfs, dir->ahead);
        ahead_unlock(vfs);
}
