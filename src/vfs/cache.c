/*
 * How long what is believed: the whole of the attribute, name, page and access caching is decided here.
 *
 * Attributes (nfs(5), "Data and metadata coherence"). Every reply that carries them updates them. They
 * are believed for attr_timeout: acregmin (acdirmin) after a change, doubled up to acregmax (acdirmax)
 * each time they are fetched again and nothing has changed. noac: never. An answer that was overtaken by the one we hold is
 * dropped (answer_order). A removed name changes the
 * links and the ctime of a file that has others, without our knowing which file that is: after it no file with
 * several names is believed until it was asked for again.
 *
 * Attributes that came with other names of a directory wait there (ahead.c, dir.c) until somebody asks for the file. If it
 * was changed here since, they are not believed: the file itself may be forgotten by now, and what was known of it
 * (own_changes).
 *
 * Names. The kernel may keep a found name as long as the directory's own attributes are believed, and
 * only if everybody may search the directory: for other directories each LOOKUP goes to the server, which
 * decides for its caller. Everybody: its owner, its group and the others by the mode bits, and nobody was refused in spite of
 * them (an ACL; that there is one is not known before). Names not found: the same, unless lookupcache=pos|none; see absent.c. A
 * directory that is closed to somebody has names in the kernel's cache from before: then the kernel is told to look up
 * everything again (Linux 6.16; on older ones they are found until they would have been asked for again). Names that were read
 * with others hold while the directory is what it was: any change of ours (dir_version) or of others (ctime) ends that. A ctime
 * can be too coarse to tell two changes apart, and a server may say one that is later than what it listed: so they hold for
 * acdirmin at most (cache_dir_is()).
 *
 * Pages. The kernel keeps a file's pages over close and open while size, mtime and ctime are what they
 * were when it began to fill them (pages). A change of our own (weak cache consistency data proves it,
 * RFC 1813 section 2.6, or own WRITEs are in flight) moves pages along; a change of somebody else drops them: at
 * the next open, and at once where a file is open (coherence.c).
 *
 * Access. What the server granted (ACCESS) to a credential, as long as the attributes are believed,
 * dropped when ctime changes.
 *
 * Thread: any; Inode.lock.
 */
#include "volume.h"

static int time_compare(const struct timespec *a, const struct timespec *b) {
        if (a->tv_sec != b->tv_sec)
                return a->tv_sec < b->tv_sec ? -1 : 1;
        return a->tv_nsec < b->tv_nsec ? -1 : a->tv_nsec > b->tv_nsec;
}

static bool version_equal(const DataVersion *v, uint64_t size, const struct timespec *mtime, const struct timespec *ctime) {
        return v->known && v->size == size && time_compare(&v->mtime, mtime) == 0 && time_compare(&v->ctime, ctime) == 0;
}

static void version_set(DataVersion *v, const NfsAttr *attr) {
        *v = (DataVersion){ .known = true, .size = attr->size, .mtime = attr->mtime, .ctime = attr->ctime };
}

static bool attr_unchanged(const NfsAttr *a, const NfsAttr *b) {
        return a->size == b->size && time_compare(&a->mtime, &b->mtime) == 0 && time_compare(&a->ctime, &b->ctime) == 0;
}

static uint64_t timeout_min(const SessionOptions *options, const NfsAttr *attr) {
        return (S_ISDIR(attr->mode) ? options->acdirmin : options->acregmin) * NSEC_PER_SEC;
}

static uint64_t timeout_max(const SessionOptions *options, const NfsAttr *attr) {
        return (S_ISDIR(attr->mode) ? options->acdirmax : options->acregmax) * NSEC_PER_SEC;
}

/*
 * Under the lock. Of two answers whose times overlap the one with the later ctime is newer. Servers' clocks have a coarse
 * grain: with the same ctime nobody knows, and neither is believed for long.
 */
enum Order { ORDER_OLDER, ORDER_UNKNOWN, ORDER_NEWER };

static enum Order answer_order(const Inode *inode, const NfsAttr *attr, CallTime time) {
        int c;

        if (!inode->has_attr || time.sent >= inode->attr_at.heard)
                return ORDER_NEWER;
        c = time_compare(&attr->ctime, &inode->attr.ctime);
        return c < 0 ? ORDER_OLDER : c > 0 || attr_unchanged(attr, &inode->attr) ? ORDER_NEWER : ORDER_UNKNOWN;
}

/* May everybody search the directory, as far as its mode bits say? What the others may does not hold for its owner and group. */
static bool mode_is_open(mode_t mode) {
        return (mode & 0111) == 0111;
}

/* Returns whether names that the kernel holds must be looked up again. */
static bool attr_store(Vfs *vfs, Inode *inode, const NfsAttr *attr, CallTime time, enum Order order, bool changed) {
        const SessionOptions *options = vfs->options;
        bool closed = inode->has_attr && S_ISDIR(attr->mode) && mode_is_open(inode->attr.mode) && !mode_is_open(attr->mode);

        if (changed)
                inode->attr_timeout = timeout_min(options, attr);
        else if (time.sent >= inode->attr_valid) /* asked again because it was no longer believed */
                inode->attr_timeout = MIN(inode->attr_timeout * 2, timeout_max(options, attr));
        if (changed && time_compare(&inode->attr.ctime, &attr->ctime) != 0)
                memset(inode->access, 0, sizeof inode->access);
        if (inode->has_attr && inode->attr.mode != attr->mode)
                inode->refuses = false;
        inode->has_attr = true;
        if (inode_is_root(inode))
                atomic_store_explicit(&vfs->root_fsid, attr->fsid, memory_order_relaxed);
        inode->attr = *attr;
        atomic_store_explicit(&inode->record->changed_at, attr_ctime_ns(attr), memory_order_relaxed);
        if (inode->n_writing == 0)
                atomic_store(&inode->unheard, false);
        inode->attr_at = time;
        inode->attr_valid = options->noac || order == ORDER_UNKNOWN || !time.sent ? 0 : time.sent + inode->attr_timeout;
        return closed;
}

static void tell_closed(Vfs *vfs) {
        if (vfs->notify.inval_names)
                vfs->notify.inval_names(vfs->notify.userdata);
}

/*
 * Under the lock: somebody else has changed the file, or may have. Whether pages must be dropped now. If it is not open, that is
 * done at its next open.
 */
static bool pages_are_old(Inode *inode, const NfsAttr *attr) {
        bool old = !inode->pages.none;

        if (atomic_load_explicit(&inode->n_open, memory_order_relaxed) == 0) {
                inode->pages = (DataVersion){ 0 };
                return false;
        }
        version_set(&inode->pages, attr); /* what is read from now on is not older */
        return old;
}

/* Returns whether pages must be dropped. */
static bool update(Vfs *vfs, Inode *inode, const NfsAttr *attr, CallTime time) {
        bool changed, closed, drop_pages = false;
        enum Order order;

        inode_lock(inode);
        order = answer_order(inode, attr, time);
        if (order != ORDER_NEWER) {
                if (order == ORDER_UNKNOWN)
                        inode->attr_valid = 0;
                inode_unlock(inode);
                return false;
        }
        changed = !inode->has_attr || !attr_unchanged(&inode->attr, attr);
        if (S_ISREG(attr->mode) && !version_equal(&inode->pages, attr->size, &attr->mtime, &attr->ctime)) {
                if (inode->n_writing == 0)
                        drop_pages = pages_are_old(inode, attr);
                else if (inode->pages.known)
                        version_set(&inode->pages, attr);
        }
        closed = attr_store(vfs, inode, attr, time, order, changed);
        inode_unlock(inode);

        if (closed)
                tell_closed(vfs);
        return drop_pages;
}

void cache_update(Vfs *vfs, Inode *inode, const NfsAttr *attr, CallTime time) {
        if (update(vfs, inode, attr, time))
                pages_drop(vfs, inode);
}

void cache_update_read(Vfs *vfs, Inode *inode, const NfsAttr *attr, CallTime time) {
        if (update(vfs, inode, attr, time))
                pages_drop_later(vfs, inode);
}

static _Atomic uint64_t *own_change(Vfs *vfs, uint64_t fileid) {
        return &vfs->own_changes[(fileid * UINT64_C(0x9e3779b97f4a7c15) >> 32) % OWN_CHANGES];
}

void cache_update_wcc(Vfs *vfs, Inode *inode, const NfsWcc *wcc, CallTime time) {
        bool ours, closed = false, drop_pages = false;
        enum Order order;

        atomic_store_explicit(own_change(vfs, inode->record->fileid), time.heard, memory_order_release);
        inode_lock(inode);
        if (!wcc->has_after) {
                inode->attr_valid = 0;
                atomic_store(&inode->unheard, true);
                inode_unlock(inode);
                return;
        }
        /* parallel WRITEs answer out of order: an older one is then already part of what we hold */
        order = answer_order(inode, &wcc->after, time);
        if (order != ORDER_OLDER) {
                ours = (inode->n_writing > 1 && (inode->pages.known || inode->pages.none)) ||
                       (wcc->has_before &&
                        version_equal(&inode->pages, wcc->before_size, &wcc->before_mtime, &wcc->before_ctime)) ||
                       version_equal(&inode->pages, wcc->after.size, &wcc->after.mtime, &wcc->after.ctime);
                if (ours)
                        version_set(&inode->pages, &wcc->after);
                else if (inode->pages.known && wcc->has_before)
                        drop_pages = pages_are_old(inode, &wcc->after);
                else
                        inode->pages.known = false;
                closed = attr_store(vfs, inode, &wcc->after, time, order, true);
                /* whose doing it is, is not known: the kernel must not hear the size before its pages are gone */
                if (S_ISREG(wcc->after.mode) && !inode->pages.known && !inode->pages.none &&
                    atomic_load_explicit(&inode->n_open, memory_order_relaxed) > 0)
                        inode->attr_valid = 0;
        }
        inode_unlock(inode);
        if (closed)
                tell_closed(vfs);
        if (drop_pages)
                pages_drop(vfs, inode);
}

void cache_dir_changed(Vfs *vfs, Inode *dir, const NfsWcc *wcc, CallTime time) {
        atomic_fetch_add_explicit(&dir->dir_version, 1, memory_order_acq_rel);
        cache_update_wcc(vfs, dir, wcc, time);
}

void cache_expire(Inode *inode) {
        inode_lock(inode);
        inode->attr_valid = 0;
        memset(inode->access, 0, sizeof inode->access);
        inode_unlock(inode);
}

void cache_zap(Inode *inode) {
        inode_lock(inode);
        inode->attr_valid = 0;
        memset(inode->access, 0, sizeof inode->access);
        inode->pages = (DataVersion){ .none = true };
        inode_unlock(inode);
}

void cache_name_gone(Vfs *vfs) {
        atomic_store_explicit(&vfs->name_gone_at, now_ns(), memory_order_release);
}

bool cache_links_known(Vfs *vfs, Inode *inode) {
        bool known;

        inode_lock(inode);
        known = inode->attr.nlink <= 1 || S_ISDIR(inode->attr.mode) ||
                inode->attr_at.sent > atomic_load_explicit(&vfs->name_gone_at, memory_order_acquire);
        inode_unlock(inode);
        return known;
}

void cache_renamed(Vfs *vfs) {
        atomic_store_explicit(&vfs->renamed_at, now_ns(), memory_order_release);
}

bool cache_ctime_known(Vfs *vfs, Inode *inode) {
        bool known;

        inode_lock(inode);
        known = inode->attr_at.sent > atomic_load_explicit(&vfs->renamed_at, memory_order_acquire);
        inode_unlock(inode);
        return known;
}

void cache_doubt_names(Vfs *vfs) {
        atomic_store_explicit(&vfs->doubted_at, now_ns(), memory_order_release);
}

bool cache_dir_is(Vfs *vfs, Inode *dir, const DirState *then, const NfsAttr *dir_attr, uint64_t now) {
        return then->sent > atomic_load_explicit(&vfs->doubted_at, memory_order_acquire) &&
               now < then->sent + vfs->options->acdirmin * NSEC_PER_SEC && then->version == dir_version(dir) &&
               time_compare(&then->ctime, &dir_attr->ctime) == 0;
}

uint64_t vfs_ino(const Vfs *vfs, uint64_t fsid, uint64_t fileid) {
        if (fsid == atomic_load_explicit(&((Vfs *) (uintptr_t) vfs)->root_fsid, memory_order_relaxed))
                return fileid;
        return fileid ^ (fsid * UINT64_C(0x9e3779b97f4a7c15) | UINT64_C(1) << 63);
}

uint64_t cache_fsid(Vfs *vfs, Inode *inode) {
        uint64_t fsid;

        inode_lock(inode);
        fsid = inode->has_attr ? inode->attr.fsid : atomic_load_explicit(&vfs->root_fsid, memory_order_relaxed);
        inode_unlock(inode);
        return fsid;
}

bool cache_attr(Inode *inode, uint64_t now, bool stale, NfsAttr *ret, uint64_t *ret_left) {
        bool found;

        inode_lock(inode);
        found = inode->has_attr && (stale || inode->attr_valid > now);
        if (found) {
                uint64_t end = pending_end(inode);

                *ret = inode->attr;
                *ret_left = inode->attr_valid > now ? inode->attr_valid - now : 0;
                if (pending_unwritten(inode))
                        *ret_left = 0;
                ret->size = MAX(ret->size, end);
        }
        inode_unlock(inode);
        return found;
}

static bool refuses(Inode *dir) {
        bool does;

        inode_lock(dir);
        does = dir->refuses;
        inode_unlock(dir);
        return does;
}

void cache_search_refused(Vfs *vfs, Inode *dir) {
        bool closed;

        inode_lock(dir);
        closed = dir->has_attr && mode_is_open(dir->attr.mode) && !dir->refuses;
        if (closed)
                dir->refuses = true;
        inode_unlock(dir);
        if (closed)
                tell_closed(vfs);
}

uint64_t cache_entry_timeout(Vfs *vfs, Inode *dir, bool found, uint64_t now) {
        enum LookupCache mode = vfs->options->lookupcache;
        NfsAttr attr;
        uint64_t left;

        if (mode == LOOKUP_CACHE_NONE || (mode == LOOKUP_CACHE_POSITIVE && !found))
                return 0;
        if (!cache_attr(dir, now, false, &attr, &left) || !mode_is_open(attr.mode) || refuses(dir))
                return 0;
        return left;
}

bool cache_is_fresh(Vfs *vfs, const NfsAttr *attr, CallTime time, uint64_t now) {
        return !vfs->options->noac && time.sent && time.sent + timeout_min(vfs->options, attr) > now &&
               time.sent > atomic_load_explicit(own_change(vfs, attr->fileid), memory_order_acquire);
}

bool cache_keep_pages(Inode *inode) {
        bool keep;

        inode_lock(inode);
        keep = inode->has_attr && !inode->drop.vfs && !inode->drop_due &&
               version_equal(&inode->pages, inode->attr.size, &inode->attr.mtime, &inode->attr.ctime);
        if (inode->has_attr)
                version_set(&inode->pages, &inode->attr);
        inode_unlock(inode);
        return keep;
}

/* ---- access ---- */

/* FNV-1a. Only a shorthand for a credential within one inode's four entries. */
static uint64_t cred_hash(const NfsCred *cred) {
        const uint8_t *p = (const uint8_t *) cred;
        size_t size = offsetof(NfsCred, groups) + cred->n_groups * sizeof cred->groups[0];
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < size; i++)
                hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
        return hash;
}

bool cache_access(Inode *inode, const NfsCred *cred, uint32_t mask, uint64_t now, uint32_t *ret_granted) {
        uint64_t hash = cred_hash(cred);
        bool found = false;

        inode_lock(inode);
        for (unsigned i = 0; i < ACCESS_CACHE_SIZE && !found; i++) {
                const AccessEntry *entry = &inode->access[i];

                if (entry->cred_hash == hash && entry->expires > now && (entry->asked & mask) == mask) {
                        *ret_granted = entry->granted;
                        found = true;
                }
        }
        inode_unlock(inode);
        return found;
}

void cache_access_store(Inode *inode, const NfsCred *cred, uint32_t asked, uint32_t granted, uint64_t now) {
        uint64_t hash = cred_hash(cred);
        AccessEntry *entry = NULL;

        inode_lock(inode);
        if (inode->attr_valid > now) {
                for (unsigned i = 0; i < ACCESS_CACHE_SIZE && !entry; i++)
                        if (inode->access[i].cred_hash == hash)
                                entry = &inode->access[i];
                if (!entry)
                        entry = &inode->access[inode->access_next++ % ACCESS_CACHE_SIZE];
                *entry = (AccessEntry){ hash, inode->attr_valid, asked, granted };
        }
        inode_unlock(inode);
}
