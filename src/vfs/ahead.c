/*
 * Looking ahead: who asks for one name after the other in a directory, as find(1), tar(1) and build systems do, will ask for
 * more of them. After some LOOKUPs in a short time the directory is read with READDIRPLUS in the background, a few
 * hundred names in one RPC, and later LOOKUPs are answered from that.
 *
 * What is kept is believed as the kernel would believe it (cache.c): names while the directory is what it was
 * (cache_dir_is()), attributes while the file's would be, and only where everybody may search. A name is given once: then the
 * kernel has it.
 *
 * A name that was not read is asked for, even if the whole directory was: who has just been told by another machine that it
 * made a file there must find it.
 *
 * A stale handle says that somebody else has changed names: then nothing that was read is believed any more, for the kernel
 * looks the name up once more and wants to hear something else; and directories are left alone for a while. One that changes
 * before its names were asked for is, too, longer each time.
 *
 * How much is read is paid for by the LOOKUPs that were sent: a few in a huge directory do not fetch all of it.
 *
 * Thread: any; ahead_lock, a leaf. The READDIRPLUS runs on the reactor that began it.
 */
#include "volume.h"

#define MISSES_MIN     8u /* LOOKUPs before reading ahead */
#define WINDOW_NS      NSEC_PER_SEC
#define NAMES_FIRST    600u         /* what may be read for them */
#define NAMES_PER_MISS 16u          /* and for each one more: costs the server less than the LOOKUP did */
#define NAMES_MAX      65536u       /* of a volume */
#define QUIET_NS       NSEC_PER_SEC /* after it was in vain, doubling */
#define QUIET_SHIFT    6u
#define DOUBT_NS       (30 * NSEC_PER_SEC)
#define REPLY_MAX      (128u * 1024)

typedef struct AheadName {
        UT_hash_handle by_name;
        NfsFh fh;
        NfsAttr attr;
        CallTime time;
        char name[];
} AheadName;

typedef struct Fetch {
        Ahead *ahead;
        VfsReactor *reactor;
        NfsCall call;
        NfsCred cred;
} Fetch;

struct Ahead {
        Inode *dir; /* has a pointer to this; pinned while a fetch is in flight */
        TAILQ_ENTRY(Ahead) ahead_link;
        uint64_t born, window_began;        /* ns */
        uint32_t n_misses, n_read, n_given; /* names */
        uint32_t n_names;                   /* of those read, what is left */
        uint32_t n_vain;                    /* how often in a row it was read in vain */
        uint64_t quiet_until;               /* ns */
        AheadName *names;

        DirState then; /* when reading it was begun */
        uint64_t cookie;
        uint8_t verf[NFS_VERF_SIZE];
        bool complete; /* read to the end */
        bool useless;  /* reading it failed: not again in this window */
        Fetch *fetch;  /* in flight */
};

static void fetch_done(NfsCall *call);

static void ahead_lock(Vfs *vfs) {
        (void) pthread_mutex_lock(&vfs->ahead_lock);
}

static void ahead_unlock(Vfs *vfs) {
        (void) pthread_mutex_unlock(&vfs->ahead_lock);
}

/* ---- all of these under the lock ---- */

static void remove_name(Vfs *vfs, Ahead *ahead, AheadName *name) {
        HASH_DELETE(by_name, ahead->names, name);
        free(name);
        ahead->n_names--;
        vfs->n_ahead_names--;
}

/* What was read is not true any more. */
static void forget_names(Vfs *vfs, Ahead *ahead) {
        AheadName *name, *next;

        if (ahead->n_given >= MISSES_MIN)
                ahead->n_vain = 0;
        else if (ahead->n_read > 0)
                ahead->quiet_until = now_ns() + (QUIET_NS << MIN(ahead->n_vain++, QUIET_SHIFT));

        HASH_ITER(by_name, ahead->names, name, next)
        remove_name(vfs, ahead, name);
        ahead->n_read = ahead->n_given = 0;
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
                if (oldest != ahead && !oldest->fetch)
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
        ahead->born = now_ns();
        dir->ahead = ahead;
        TAILQ_INSERT_TAIL(&vfs->aheads, ahead, ahead_link);
        return ahead;
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
        ahead->n_read++;
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
        if (ahead && ahead->n_read > 0 && cache_dir_is(vfs, op->inode, &ahead->then, &dir, now)) {
                HASH_FIND(by_name, ahead->names, name, strlen(name), entry);
                found = entry && cache_is_fresh(vfs, &entry->attr, entry->time, now);
                if (found) {
                        *ret = (VfsFound){ .fh = entry->fh, .attr = entry->attr, .time = entry->time };
                        remove_name(vfs, ahead, entry);
                        ahead->n_given++;
                }
        } else if (ahead && ahead->n_read > 0 && !ahead->fetch) {
                forget_names(vfs, ahead);
        }
        ahead_unlock(vfs);
        return found;
}

/* Under the lock. Have so many names been asked for that more of them should be read, and may they? */
static bool is_worth_reading(const Vfs *vfs, const Ahead *ahead, uint64_t now) {
        uint64_t doubted_at = atomic_load_explicit(&vfs->doubted_at, memory_order_acquire);

        return ahead->n_misses >= MISSES_MIN && !ahead->fetch && !ahead->complete && !ahead->useless &&
               now >= ahead->quiet_until && (ahead->born > doubted_at || now >= doubted_at + DOUBT_NS) &&
               ahead->n_read < NAMES_FIRST / 2 + NAMES_PER_MISS * (ahead->n_misses - MISSES_MIN);
}

/* Under the lock. NULL: no memory, or no room for more names. */
static Fetch *fetch_new(VfsReactor *vr, Ahead *ahead, const NfsCred *cred, uint64_t now) {
        Vfs *vfs = vr->vfs;
        Fetch *fetch = NULL;

        make_room(vfs, ahead);
        if (vfs->n_ahead_names < NAMES_MAX)
                fetch = calloc(1, sizeof *fetch);
        if (!fetch)
                return NULL;
        fetch->ahead = ahead;
        fetch->reactor = vr;
        fetch->cred = *cred;
        fetch->call = (NfsCall){ .proc = NFS_READDIRPLUS, .cred = &fetch->cred, .done = fetch_done };
        fetch->call.args.fh = inode_fh(ahead->dir);
        fetch->call.args.readdir.cookie = ahead->cookie;
        fetch->call.args.readdir.count = REPLY_MAX;
        memcpy(fetch->call.args.readdir.verf, ahead->verf, NFS_VERF_SIZE);
        if (ahead->cookie == 0)
                ahead->then = (DirState){ .version = dir_version(ahead->dir), .sent = now };
        return fetch;
}

void ahead_missed(Op *op) {
        VfsReactor *vr = op->reactor;
        Vfs *vfs = vr->vfs;
        uint64_t now = reactor_now(vr->reactor);
        Fetch *fetch = NULL;
        Ahead *ahead;

        if (vfs->no_readdirplus || cache_entry_timeout(vfs, op->inode, true, now) == 0)
                return;
        ahead_lock(vfs);
        ahead = ahead_of(vfs, op->inode);
        if (ahead && now - ahead->window_began > WINDOW_NS) {
                if (ahead->n_read == 0)
                        ahead->n_misses = 0;
                ahead->useless = false;
                ahead->window_began = now;
        }
        if (ahead) {
                ahead->n_misses++;
                if (is_worth_reading(vfs, ahead, now))
                        ahead->fetch = fetch = fetch_new(vr, ahead, &op->cred, now);
        }
        ahead_unlock(vfs);
        if (fetch) {
                inode_repin(vfs, op->inode);
                dispensable_begin(vr);
                nfs_call_send(vr->conn, &fetch->call);
        }
}

/* ---- reading ---- */

/* Under the lock. */
static void take(Vfs *vfs, Ahead *ahead, NfsCall *call) {
        const struct timespec *ctime = &call->res.attr.ctime;
        void *iter = call->res.readdir.entries;
        uint32_t before = ahead->n_read;
        NfsDirent dirent;
        int r;

        if (ahead->cookie == 0)
                ahead->then.ctime = *ctime;
        if (call->err || !call->res.has_attr || !cache_dir_is(vfs, ahead->dir, &ahead->then, &call->res.attr, call->heard_at)) {
                forget_names(vfs, ahead);
                ahead->useless = call->err != 0;
                return;
        }
        while ((r = nfs_dirent_next(call, &iter, &dirent)) > 0) {
                if (!add_name(vfs, ahead, &dirent, call_time(call))) {
                        r = -ENOMEM;
                        break;
                }
                ahead->cookie = dirent.cookie;
        }
        memcpy(ahead->verf, call->res.readdir.verf, NFS_VERF_SIZE);
        ahead->complete = r == 0 && call->res.readdir.eof;
        ahead->useless = r < 0 || (!ahead->complete && ahead->n_read == before);
}

static void fetch_done(NfsCall *call) {
        Fetch *fetch = container_of(call, Fetch, call);
        VfsReactor *vr = fetch->reactor;
        Ahead *ahead = fetch->ahead;
        Inode *dir = ahead->dir;

        if (!call->err && call->res.has_attr)
                cache_update(vr->vfs, dir, &call->res.attr, call_time(call));
        ahead_lock(vr->vfs);
        take(vr->vfs, ahead, call);
        ahead->fetch = NULL;
        ahead_unlock(vr->vfs);
        free(fetch);
        inode_unpin(vr->vfs, dir);
        dispensable_end(vr);
}

void ahead_drop_all(Vfs *vfs) {
        ahead_lock(vfs);
        while (!TAILQ_EMPTY(&vfs->aheads))
                drop(vfs, TAILQ_FIRST(&vfs->aheads));
        ahead_unlock(vfs);
}

void ahead_drop(Vfs *vfs, Inode *dir) {
        ahead_lock(vfs);
        if (dir->ahead)
                drop(vfs, dir->ahead);
        ahead_unlock(vfs);
}
