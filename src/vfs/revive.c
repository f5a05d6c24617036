/*
 * Handles that the server has replaced.
 *
 * A handle is stale (NFS3ERR_STALE) when its file is gone; but also when another server took over, or the same one exports the
 * file system under another number than before: then the file is still there, under another handle. The kernel looks up the
 * names of paths again, so new opens find it. Who has it open, works in the directory, or has it mounted (a pod's volume is a
 * bind mount of ours) would have a dead file for ever, as with the kernel's client. So it is looked for, where its name was
 * seen last:
 *
 *   GETATTR of the handle: is it really stale?
 *   READDIR of the directory: a name with the file's id; LOOKUP of that. The directory's handle may be stale too: the same
 *   for it first, and so on up to the root, whose handle MNT tells.
 *
 * Is it the same? It must have the id and the type that it had. But ids are used again: what is made where something was
 * removed often gets its id; and they are few, another disk has the same. If its ctime is what we knew, it is the same; else it
 * must also have its name (any, if we have removed the one that we knew), and not have been changed since: older is fine, for a
 * server that crashed may have lost the last of it. Newer may be a directory, in which others make files, and a file that we
 * may have changed ourselves, by a WRITE that was not answered, or by a RENAME, whose answer does not tell. The root is what is
 * exported under the path now, as after mounting again, if its id is what it was.
 *
 * To give up is to lose what was written to it and is still here. That names come and go in the directory meanwhile, its own .nfs
 * name among them, is no reason: it is read again. nfs-ganesha then fails a READDIR with ENOENT (see dir.c), of which the next
 * one is for fewer entries; and a LOOKUP with STALE.
 *
 * What was found is noted in the memory (inode_replace_fh()), and everything that has waited is sent again. All who wait for one
 * file wait for one Revival of it. If it was in vain, ESTALE is the answer, and nobody looks again for a moment.
 *
 * Thread: any; revive_lock, a leaf. A Revival runs on the reactor that began it.
 */
#include <stdio.h>

#include "base/log.h"
#include "nfs/mount.h"
#include "volume.h"

#define VAIN_NS      (2 * NSEC_PER_SEC) /* the first time, then twice as long */
#define VAIN_MAX     6u
#define TRIES_MAX    3u /* of one call */
#define READS_MAX    8u /* of a directory that changes meanwhile */
#define REPLY_MAX    (32u * 1024)
#define FAILS_MAX    5u /* of the server's own, a second apart; a hard mount's data is worth that */
#define NOENTS_MAX   64u
#define NOENTS_SHIFT 5u /* so often REPLY_MAX is halved: one entry with the longest name fits, whatever a server counts with it */
#define PAGES_MAX    4096u /* so large is no directory; its cookies go in a circle */
#define MNT_MS       10000u
#define MNT_NS       (60 * NSEC_PER_SEC) /* so long a hard mount waits for an answer: another service, which may be blocked */
#define REFUSED_NS   (5 * NSEC_PER_SEC)  /* so long a refusal may be one of a server that has not read its exports yet */
#define PAUSE_NS     NSEC_PER_SEC

typedef struct Revival Revival;

struct Revival {
        VfsReactor *reactor;
        Inode *inode, *parent; /* pinned; parent NULL: not known */
        const NfsFh *was;
        NfsCred cred;
        NfsCall call;
        uint64_t cookie;
        uint8_t verf[NFS_VERF_SIZE];
        unsigned n_tries, n_pages, n_noents, n_fails;
        char name[NAME_SPACE];

        ReviveWait for_parent;
        Revival *on; /* revive_lock: the parent's, which this one waits for */

        Task told; /* the root's thread is done */
        Timer again;
        uint64_t since, refused_since; /* ns: it is asked for; it was refused, each time; 0: no */
        bool asks_root, mounted, answered;
        bool pauses; /* no call is under way */
        NfsMountResult mount;

        TAILQ_HEAD(, ReviveWait) waits; /* revive_lock */
        TAILQ_ENTRY(Revival) revival_link;
};

static bool revive_for(Revival *who, Inode *inode, const NfsFh *was, const NfsCred *cred, ReviveWait *wait);
static void ask_alive(Revival *revival);
static void alive_done(NfsCall *call);
static void search(Revival *revival);
static void search_page(Revival *revival);
static void page_done(NfsCall *call);
static void parent_done(ReviveWait *wait);
static void found_done(NfsCall *call);
static void ask_root(Revival *revival);

static void revive_lock(Vfs *vfs) {
        (void) pthread_mutex_lock(&vfs->revive_lock);
}

static void revive_unlock(Vfs *vfs) {
        (void) pthread_mutex_unlock(&vfs->revive_lock);
}

/* ---- who waits ---- */

static void wait_run(Task *task) {
        ReviveWait *wait = container_of(task, ReviveWait, task);

        wait->done(wait);
}

static void wait_tell(ReviveWait *wait, bool revived) {
        wait->revival = NULL;
        wait->revived = revived;
        wait->task.run = wait_run;
        reactor_post(wait->reactor->reactor, &wait->task);
}

static void finish(Revival *revival, bool revived) {
        VfsReactor *vr = revival->reactor;
        Inode *inode = revival->inode;
        Vfs *vfs = vr->vfs;
        ReviveWait *wait;

        revive_lock(vfs);
        TAILQ_REMOVE(&vfs->revivals, revival, revival_link);
        while ((wait = TAILQ_FIRST(&revival->waits))) {
                TAILQ_REMOVE(&revival->waits, wait, wait_link);
                if (wait->done == parent_done)
                        container_of(wait, Revival, for_parent)->on = NULL;
                wait_tell(wait, revived);
        }
        revive_unlock(vfs);
        if (revival->parent)
                inode_unpin(vfs, revival->parent);
        inode_unpin(vfs, inode);
        free(revival);
        dispensable_end(vr);
}

static void finish_in_vain(Revival *revival) {
        Inode *inode = revival->inode;
        uint32_t n = atomic_fetch_add_explicit(&inode->n_vain, 1, memory_order_relaxed);

        atomic_store_explicit(&inode->revive_after, now_ns() + (VAIN_NS << MIN(n, VAIN_MAX)), memory_order_relaxed);
        finish(revival, false);
}

void revive_abandon(ReviveWait *wait) {
        Vfs *vfs = wait->reactor->vfs;

        revive_lock(vfs);
        if (wait->revival) {
                TAILQ_REMOVE(&wait->revival->waits, wait, wait_link);
                wait_tell(wait, false);
        }
        revive_unlock(vfs);
}

/* Under the lock: the one that is under way; with who, only if that does not wait for who itself. */
static bool revival_of(Vfs *vfs, const Inode *inode, const Revival *who, Revival **ret) {
        Revival *revival;

        TAILQ_FOREACH(revival, &vfs->revivals, revival_link)
                if (revival->inode == inode)
                        break;
        *ret = revival;
        for (; revival && who; revival = revival->on)
                if (revival == who)
                        return false; /* directories that are each other's parents: what the memory says is wrong */
        return true;
}

static void revival_send(Revival *revival, enum NfsProc proc, const NfsFh *fh, void (*done)(NfsCall *call)) {
        revival->call.proc = proc;
        revival->call.cred = &revival->cred;
        revival->call.done = done;
        revival->call.args.fh = fh;
        revival->call.xid = 0;
        nfs_call_send(revival->reactor->conn, &revival->call);
}

static bool revive_for(Revival *who, Inode *inode, const NfsFh *was, const NfsCred *cred, ReviveWait *wait) {
        VfsReactor *vr = wait->reactor;
        Vfs *vfs = vr->vfs;
        Revival *revival, *fresh;

        if (inode_fh(inode) != was) {
                wait_tell(wait, true);
                return true;
        }
        if (now_ns() < atomic_load_explicit(&inode->revive_after, memory_order_relaxed))
                return false;
        fresh = calloc(1, sizeof *fresh);
        if (!fresh)
                return false;
        revive_lock(vfs);
        if (!revival_of(vfs, inode, who, &revival)) {
                revive_unlock(vfs);
                free(fresh);
                return false;
        }
        if (!revival) {
                revival = fresh;
                revival->reactor = vr;
                revival->inode = inode;
                revival->was = was;
                revival->cred = *cred;
                TAILQ_INIT(&revival->waits);
                TAILQ_INSERT_TAIL(&vfs->revivals, revival, revival_link);
        }
        wait->revival = revival;
        TAILQ_INSERT_TAIL(&revival->waits, wait, wait_link);
        if (who)
                who->on = revival;
        revive_unlock(vfs);
        if (revival != fresh) {
                free(fresh);
                return true;
        }
        inode_repin(vfs, inode);
        dispensable_begin(vr);
        ask_alive(revival);
        return true;
}

bool revive(Inode *inode, const NfsFh *was, const NfsCred *cred, ReviveWait *wait) {
        return revive_for(NULL, inode, was, cred, wait);
}

bool revive_again(VfsReactor *vr, Inode *inode, const NfsCall *call, void (*done)(ReviveWait *wait), ReviveWait *wait) {
        if (wait->n++ >= TRIES_MAX)
                return false;
        wait->reactor = vr;
        wait->done = done;
        return revive(inode, call->args.fh, call->cred, wait);
}

/* ---- looking for it ---- */

/* A server that cannot now may be able to in a moment. false: it is not that, or it was often enough. */
static bool try_later(Revival *revival, int err, void (*fired)(Timer *timer)) {
        VfsReactor *vr = revival->reactor;

        if ((err != EIO && err != EREMOTEIO) || vr->vfs->options->soft || revival->n_fails++ >= FAILS_MAX)
                return false;
        revival->pauses = true;
        revival->again.fired = fired;
        timer_arm(vr->reactor, &revival->again, now_ns() + PAUSE_NS);
        return true;
}

static void ask_alive(Revival *revival) {
        revival->pauses = false;
        revival_send(revival, NFS_GETATTR, revival->was, alive_done);
}

static void alive_later(Timer *timer) {
        ask_alive(container_of(timer, Revival, again));
}

static void alive_done(NfsCall *call) {
        Revival *revival = container_of(call, Revival, call);

        if (call->err == ESTALE)
                return search(revival);
        if (try_later(revival, call->err, alive_later))
                return;
        finish(revival, false); /* then something else was stale; or nobody knows */
}

static void search(Revival *revival) {
        Vfs *vfs = revival->reactor->vfs;
        const InodeRecord *record = revival->inode->record;
        uint64_t parent = atomic_load_explicit(&record->silly_dir, memory_order_relaxed);

        if (inode_is_root(revival->inode))
                return ask_root(revival);
        if (!parent)
                parent = atomic_load_explicit(&record->parent, memory_order_relaxed);
        revival->parent = inode_pin(vfs, parent);
        if (!revival->parent || !S_ISDIR(revival->parent->record->type))
                return finish_in_vain(revival);
        search_page(revival);
}

static void search_page(Revival *revival) {
        NfsArgs *args = &revival->call.args;

        memset(args, 0, sizeof *args);
        args->readdir.cookie = revival->cookie;
        args->readdir.count = REPLY_MAX >> MIN(revival->n_noents, NOENTS_SHIFT);
        memcpy(args->readdir.verf, revival->verf, NFS_VERF_SIZE);
        revival_send(revival, NFS_READDIR, inode_fh(revival->parent), page_done);
}

static void search_on(Revival *revival) {
        if (++revival->n_pages == PAGES_MAX)
                return finish_in_vain(revival);
        search_page(revival);
}

static void search_again(Revival *revival) {
        if (++revival->n_tries >= READS_MAX)
                return finish_in_vain(revival);
        revival->cookie = 0;
        memset(revival->verf, 0, sizeof revival->verf);
        search_page(revival);
}

static void page_later(Timer *timer) {
        Revival *revival = container_of(timer, Revival, again);

        revival->pauses = false;
        search_again(revival);
}

static void page_failed(Revival *revival, const NfsFh *fh, int err) {
        switch (err) {
        case ESTALE:
                revival->for_parent = (ReviveWait){ .reactor = revival->reactor, .done = parent_done };
                if (revive_for(revival, revival->parent, fh, &revival->cred, &revival->for_parent))
                        return;
                break;
        case EACCES:
        case EPERM: /* not everybody who may use a file may read its directory */
                if (revival->cred.uid == 0)
                        break;
                revival->cred = (NfsCred){ .uid = 0 };
                return search_again(revival);
        case EINVAL: /* BAD_COOKIE: it has changed */
                return search_again(revival);
        case ENOENT: /* an entry went while the server looked at it */
                if (++revival->n_noents > NOENTS_MAX)
                        break;
                return search_page(revival);
        default:
                if (try_later(revival, err, page_later))
                        return;
        }
        finish_in_vain(revival);
}

static void parent_done(ReviveWait *wait) {
        Revival *revival = container_of(wait, Revival, for_parent);

        if (!wait->revived && now_ns() < atomic_load_explicit(&revival->parent->revive_after, memory_order_relaxed))
                return finish_in_vain(revival);
        search_again(revival); /* else it was not stale: an entry was */
}

/* What another file system is mounted over has an id of its own there. */
static bool may_be(const Inode *inode, const NfsDirent *dirent) {
        if (strcmp(dirent->name, ".") == 0 || strcmp(dirent->name, "..") == 0)
                return false;
        return dirent->fileid == inode->record->fileid ||
               (S_ISDIR(inode->record->type) && name_hash(dirent->name) == atomic_load(&inode->record->name_hash));
}

static void page_done(NfsCall *call) {
        Revival *revival = container_of(call, Revival, call);
        void *iter = call->res.readdir.entries;
        uint64_t cookie = revival->cookie;
        NfsDirent dirent;
        int r;

        if (call->err)
                return page_failed(revival, call->args.fh, call->err);
        while ((r = nfs_dirent_next(call, &iter, &dirent)) > 0) {
                revival->cookie = dirent.cookie;
                if (may_be(revival->inode, &dirent))
                        break;
        }
        memcpy(revival->verf, call->res.readdir.verf, NFS_VERF_SIZE);
        revival->n_noents -= revival->n_noents > 0;
        if (r > 0) {
                (void) snprintf(revival->name, sizeof revival->name, "%s", dirent.name);
                memset(&call->args, 0, sizeof call->args);
                call->args.name = revival->name;
                return revival_send(revival, NFS_LOOKUP, inode_fh(revival->parent), found_done);
        }
        if (r < 0 || call->res.readdir.eof || revival->cookie == cookie)
                return finish_in_vain(revival);
        search_on(revival);
}

static bool take(Revival *revival, const NfsFh *fh, const NfsAttr *attr, CallTime time) {
        Vfs *vfs = revival->reactor->vfs;
        Inode *inode = revival->inode;

        if (nfs_fh_equal(fh, revival->was))
                return false;
        if (inode_replace_fh(vfs, inode, revival->was, fh) < 0) {
                log_warning("the server has replaced more than %u handles: some files stay stale", HANDLES_MAX);
                return false;
        }
        atomic_store_explicit(&inode->n_vain, 0, memory_order_relaxed);
        cache_update(vfs, inode, attr, time);
        return true;
}

static void found_done(NfsCall *call) {
        Revival *revival = container_of(call, Revival, call);
        const Vfs *vfs = revival->reactor->vfs;
        const NfsRes *res = &call->res;

        if (call->err == ENOENT || call->err == ESTALE) /* renamed meanwhile; if the directory is stale READDIR will say so */
                return search_again(revival);
        if (call->err)
                return page_failed(revival, call->args.fh, call->err);
        if (!res->has_attr || !inode_is_same(vfs, revival->inode, &res->attr, revival->name))
                return search_on(revival); /* it may have another name, or that is another one */
        if (!take(revival, &res->fh, &res->attr, call_time(call)))
                return finish_in_vain(revival);
        finish(revival, true);
}

/* ---- the root ---- */

static void *root_thread(void *userdata) {
        static const NfsCred root = { .uid = 0 };
        Revival *revival = userdata;
        const Memory *memory = revival->reactor->vfs->memory;
        NfsMountConfig config = vfs_mount_config(revival->reactor->vfs->options);
        char address[NFS_ADDR_TEXT_MAX], message[1024] = "no address";

        revival->mounted = revival->answered = false;
        config.host = memory->source;
        config.path = memory->mount.export;
        config.cred = &root;
        config.timeout_ms = MNT_MS;
        for (uint32_t i = 0; i < memory->mount.n_addrs && !revival->answered; i++) {
                enum NfsMountError err;

                if (nfs_addr_format(&memory->mount.addrs[i], address, sizeof address) < 0)
                        continue;
                config.addr = address;
                err = nfs_export_mount(&config, &revival->mount, message, sizeof message);
                revival->mounted = err == NFS_MOUNT_OK;
                revival->answered = err == NFS_MOUNT_OK || err == NFS_MOUNT_NO_EXPORT || err == NFS_MOUNT_DENIED;
        }
        if (!revival->mounted)
                log_warning("the server does not know its handle of the export any more, and mounting again failed: %s", message);
        reactor_post(revival->reactor->reactor, &revival->told);
        return NULL;
}

static void again_fired(Timer *timer) {
        ask_root(container_of(timer, Revival, again));
}

/* A server that comes back may answer NFS sooner than MOUNT, and MOUNT sooner than it knows what it exports. */
static void root_not_mounted(Revival *revival) {
        VfsReactor *vr = revival->reactor;
        uint64_t now = now_ns();

        if (!revival->answered)
                revival->refused_since = 0;
        else if (!revival->refused_since)
                revival->refused_since = now;
        if (vr->vfs->options->soft || now - revival->since > MNT_NS ||
            (revival->answered && now - revival->refused_since > REFUSED_NS))
                return finish_in_vain(revival);
        revival->again.fired = again_fired;
        timer_arm(vr->reactor, &revival->again, now_ns() + PAUSE_NS);
}

static void root_told(Task *task) {
        Revival *revival = container_of(task, Revival, told);
        const NfsMountResult *mount = &revival->mount;
        const Memory *memory = revival->reactor->vfs->memory;

        if (!revival->mounted)
                return root_not_mounted(revival);
        if (strcmp(mount->export, memory->mount.export) != 0 || !S_ISDIR(mount->root_attr.mode) ||
            mount->root_attr.fileid != revival->inode->record->fileid) {
                log_error("the server exports another directory at %s than it did (file id %llu, not %llu): unmount and mount it "
                          "again",
                          memory->mount.export, (unsigned long long) mount->root_attr.fileid,
                          (unsigned long long) revival->inode->record->fileid);
                return finish_in_vain(revival);
        }
        if (!take(revival, &mount->root, &mount->root_attr, (CallTime){ 0 }))
                return finish_in_vain(revival);
        log_notice("the server has replaced its handles: found the export again by mounting it");
        finish(revival, true);
}

static void root_join(Vfs *vfs) {
        if (vfs->has_root_thread)
                (void) pthread_join(vfs->root_thread, NULL);
        vfs->has_root_thread = false;
}

/* There is one Revival of the root, so there is one thread. */
static void ask_root(Revival *revival) {
        Vfs *vfs = revival->reactor->vfs;

        root_join(vfs); /* the last one has told */
        revival->asks_root = true;
        if (!revival->since)
                revival->since = now_ns();
        revival->told.run = root_told;
        vfs->has_root_thread = pthread_create(&vfs->root_thread, NULL, root_thread, revival) == 0;
        if (!vfs->has_root_thread)
                finish_in_vain(revival);
}

void revive_stop(Vfs *vfs) {
        Revival *revival, *next;
        ReviveWait *wait;

        root_join(vfs);
        revive_lock(vfs);
        for (revival = TAILQ_FIRST(&vfs->revivals); revival; revival = next) {
                next = TAILQ_NEXT(revival, revival_link);
                while ((wait = TAILQ_FIRST(&revival->waits))) {
                        TAILQ_REMOVE(&revival->waits, wait, wait_link);
                        wait->revival = NULL;
                }
                if (!revival->asks_root && !revival->pauses)
                        continue; /* its call is aborted with the connection */
                timer_disarm(&revival->again);
                TAILQ_REMOVE(&vfs->revivals, revival, revival_link);
                free(revival);
        }
        revive_unlock(vfs);
}

/* ---- operations ---- */

static const NfsFh **handle_of(NfsCall *call, unsigned which) {
        if (which == 0)
                return &call->args.fh;
        if (which == 1 && call->proc == NFS_RENAME)
                return &call->args.rename.to_dir;
        if (which == 1 && call->proc == NFS_LINK)
                return &call->args.link.dir;
        return NULL;
}

/* Whose handle it is; NULL: none of op's. */
static Inode *inode_of(Op *op, const NfsFh *fh) {
        Inode *inodes[] = { op->inode, op->inode2, op->victim };

        for (size_t i = 0; i < ELEMENTSOF(inodes); i++)
                if (inodes[i] && inode_had_fh(op->reactor->vfs, inodes[i], fh))
                        return inodes[i];
        return NULL;
}

/* Of what nobody has open the kernel looks up the name again. */
static bool is_held(Vfs *vfs, Inode *inode) {
        return S_ISDIR(inode->record->type) || inode_is_open(vfs, inode);
}

static void op_revived(ReviveWait *wait);
static void op_send_revived(Op *op);

static bool op_revive(Op *op) {
        const NfsFh **fh;

        for (; (fh = handle_of(&op->call, op->revive.which)); op->revive.which++) {
                Inode *inode = inode_of(op, *fh);

                if (inode && op->call.proc == NFS_SETATTR && op_may_be_done(op))
                        atomic_store(&inode->unheard, true);
                op->revive.wait.reactor = op->reactor;
                op->revive.wait.done = op_revived;
                op->revive.waiting = inode && is_held(op->reactor->vfs, inode) && revive(inode, *fh, &op->cred, &op->revive.wait);
                if (op->revive.waiting)
                        return true;
        }
        return false;
}

static void op_revived(ReviveWait *wait) {
        op_goes_on(container_of(wait, Op, revive.wait), op_send_revived);
}

static void op_send_revived(Op *op) {
        const ReviveWait *wait = &op->revive.wait;
        NfsCall *call = &op->call;
        bool stopped = op->interrupted || op->out_of_time;
        const NfsFh **fh;

        op->revive.waiting = false;
        if (!wait->revived && !stopped) {
                op->revive.which++;
                if (op_revive(op))
                        return;
        }
        if (!wait->revived || stopped) {
                call->err = stopped ? EINTR : ESTALE;
                return op->answered(call);
        }
        for (unsigned i = 0; (fh = handle_of(call, i)); i++) {
                Inode *inode = inode_of(op, *fh);

                if (inode)
                        *fh = inode_fh(inode);
        }
        op->revive.resent |= call->n_sent > 1;
        *call = (NfsCall){
                .proc = call->proc, .cred = call->cred, .done = call->done, .args = call->args, .xid_note = call->xid_note
        };
        op->revive.which = 0;
        op_send(op);
}

bool revive_call(Op *op) {
        return !op->interrupted && !op->out_of_time && op->revive.wait.n++ < TRIES_MAX && op_revive(op);
}

bool revive_interrupt(Op *op) {
        if (!op->revive.waiting)
                return false;
        revive_abandon(&op->revive.wait);
        return true;
}
