/*
 * The handles of inodes: the one that it was made with, and those that the server gave instead of it (revive.c).
 *
 * A handle that replaces another is a record of the memory, which the inode refers to with one store. What inode_fh() returned
 * before stays as it is for the calls that point to it, as long as the inode is there.
 *
 * The server replaces the handles of a file system all at once. So when that of a directory is replaced, an epoch begins; and the
 * directories, and files that are open, with a handle of an earlier one are remembered by their file id: who looks up the name
 * of one finds a handle that nobody knows, and it must not become a second inode, which would know nothing of what is written,
 * locked, and open here.
 *
 * Thread: any; table_lock.
 */
#include "base/crashpoint.h"
#include "volume.h"

typedef struct Former {
        uint64_t fileid, nodeid;
        UT_hash_handle by_fileid;
} Former;

static void table_lock(Vfs *vfs) {
        (void) pthread_mutex_lock(&vfs->table_lock);
}

static void table_unlock(Vfs *vfs) {
        (void) pthread_mutex_unlock(&vfs->table_lock);
}

/* ---- records ---- */

static uint32_t handle_seal(const HandleRecord *handle, uint32_t h) {
        uint32_t seal = memory_seal(h, &handle->nodeid, sizeof handle->nodeid);

        return memory_seal(seal, handle->fh.data, MIN(handle->fh.len, (uint32_t) NFS_FH_MAX));
}

static uint32_t handles_high(const Vfs *vfs) {
        uint32_t high = atomic_load(&vfs->memory->handles_high);

        return MIN(high, HANDLES_MAX);
}

/* The inode's own of these, or NULL. */
static HandleRecord *handle_of(const Vfs *vfs, const Inode *inode) {
        uint32_t h = atomic_load_explicit(&inode->record->handle, memory_order_acquire);
        HandleRecord *handle;

        if (h == 0 || h >= handles_high(vfs))
                return NULL;
        handle = &vfs->memory->handles[h];
        if (atomic_load_explicit(&handle->used, memory_order_acquire) != 1 || handle->nodeid != inode->nodeid ||
            handle->fh.len < 1 || handle->fh.len > NFS_FH_MAX || handle->seal != handle_seal(handle, h))
                return NULL;
        return handle;
}

/* 0: there is none. */
static uint32_t handle_take(Vfs *vfs) {
        _Atomic uint32_t *high = &vfs->memory->handles_high;

        for (uint32_t n = 0; n < HANDLES_MAX; n++) {
                uint32_t h = (vfs->next_handle + n) % HANDLES_MAX;

                if (h == 0 || (h < atomic_load(high) && atomic_load(&vfs->memory->handles[h].used) != 0))
                        continue;
                vfs->next_handle = h + 1;
                if (h >= atomic_load(high))
                        atomic_store(high, h + 1);
                return h;
        }
        return 0;
}

void handles_give(Vfs *vfs, uint32_t h) {
        while (h > 0 && h < HANDLES_MAX) {
                HandleRecord *handle = &vfs->memory->handles[h];

                h = handle->former;
                atomic_store_explicit(&handle->used, 0, memory_order_release);
        }
}

const NfsFh *handle_load(Vfs *vfs, Inode *inode) {
        const HandleRecord *handle = handle_of(vfs, inode);

        if (!handle) /* a damaged one may be another's */
                atomic_store(&inode->record->handle, 0);
        return handle ? &handle->fh : &inode->record->fh;
}

bool inode_had_fh(Vfs *vfs, const Inode *inode, const NfsFh *fh) {
        const HandleRecord *handle;
        bool had = fh == &inode->record->fh;

        table_lock(vfs);
        for (handle = handle_of(vfs, inode); handle && !had; handle = &vfs->memory->handles[handle->former]) {
                had = fh == &handle->fh;
                if (handle->former == 0)
                        break;
        }
        table_unlock(vfs);
        return had;
}

/* What was taken, and not published before a worker died. */
void handles_load(Vfs *vfs) {
        uint32_t high = handles_high(vfs);

        for (uint32_t h = 1; h < high; h++) {
                HandleRecord *handle = &vfs->memory->handles[h];
                uint32_t index = (uint32_t) handle->nodeid;

                if (atomic_load_explicit(&handle->used, memory_order_relaxed) == 0)
                        continue;
                handle->former = 0;
                if (index >= INODES_MAX || !vfs->inodes[index].record || handle_of(vfs, &vfs->inodes[index]) != handle)
                        atomic_store(&handle->used, 0);
        }
}

/* ---- what has a handle of an earlier epoch ---- */

static uint32_t epoch_of(const Vfs *vfs, const Inode *inode) {
        const HandleRecord *handle = handle_of(vfs, inode);

        return handle ? handle->epoch : inode->record->epoch;
}

static void former_drop_all(Vfs *vfs) {
        Former *former, *next;

        HASH_ITER(by_fileid, vfs->formers, former, next) {
                HASH_DELETE(by_fileid, vfs->formers, former);
                free(former);
        }
}

/* Under table_lock. */
static void former_add(Vfs *vfs, const Inode *inode) {
        Former *former;

        HASH_FIND(by_fileid, vfs->formers, &inode->record->fileid, sizeof inode->record->fileid, former);
        if (!former)
                former = calloc(1, sizeof *former);
        if (!former)
                return;
        if (former->nodeid) {
                former->nodeid = inode->nodeid;
                return;
        }
        former->fileid = inode->record->fileid;
        former->nodeid = inode->nodeid;
        HASH_ADD(by_fileid, vfs->formers, fileid, sizeof former->fileid, former);
}

void handles_opened(Vfs *vfs) {
        uint32_t high = atomic_load(&vfs->memory->inodes_high), epoch = atomic_load(&vfs->memory->handle_epoch);

        former_drop_all(vfs);
        for (uint32_t i = 1; i < high && epoch > 0; i++) {
                const Inode *inode = &vfs->inodes[i];

                if (vfs->inode_chunks[i / INODE_CHUNK_SIZE].n_used == 0)
                        i |= INODE_CHUNK_SIZE - 1; /* and it shall not be touched */
                else if (inode->record && atomic_load(&inode->record->used) == 1 && epoch_of(vfs, inode) != epoch &&
                         (S_ISDIR(inode->record->type) || inode->n_open > 0))
                        former_add(vfs, inode);
        }
}

void handle_opened(Vfs *vfs, const Inode *inode) {
        if (S_ISREG(inode->record->type) && epoch_of(vfs, inode) != atomic_load(&vfs->memory->handle_epoch))
                former_add(vfs, inode);
}

void handles_free(Vfs *vfs) {
        former_drop_all(vfs);
}

/* ---- replacing ---- */

/* Under table_lock. inode gets another handle: so will others, if that of a directory was thought to be new. */
static bool epoch_begin(Vfs *vfs, const Inode *inode) {
        _Atomic uint32_t *epoch = &vfs->memory->handle_epoch;
        bool begins = S_ISDIR(inode->record->type) && epoch_of(vfs, inode) == atomic_load(epoch);

        if (begins)
                atomic_fetch_add(epoch, 1);
        return begins;
}

/* Under table_lock. */
static int replace_fh(Vfs *vfs, Inode *inode, const NfsFh *fh) {
        uint32_t h = handle_take(vfs);
        HandleRecord *handle = &vfs->memory->handles[h];
        bool begins;

        if (!h)
                return -ENOSPC;
        begins = epoch_begin(vfs, inode); /* before: a worker may die in between */
        handle->former = handle_of(vfs, inode) ? atomic_load(&inode->record->handle) : 0;
        handle->epoch = atomic_load(&vfs->memory->handle_epoch);
        handle->nodeid = inode->nodeid;
        handle->fh = *fh;
        handle->seal = handle_seal(handle, h);
        atomic_store_explicit(&handle->used, 1, memory_order_release);
        crash_point(HANDLE_TAKEN);
        atomic_store_explicit(&inode->record->handle, h, memory_order_release);
        crash_point(HANDLE_REPLACED);
        HASH_DELETE(by_fh, vfs->by_fh, inode);
        atomic_store_explicit(&inode->fh, &handle->fh, memory_order_release);
        HASH_ADD_KEYPTR(by_fh, vfs->by_fh, handle->fh.data, handle->fh.len, inode);
        if (!inode->record)
                abort(); /* no memory; it is all written down, and a successor may have some */
        if (begins)
                handles_opened(vfs);
        atomic_fetch_add_explicit(&vfs->memory->handles_replaced, 1, memory_order_relaxed);
        return 0;
}

int inode_replace_fh(Vfs *vfs, Inode *inode, const NfsFh *was, const NfsFh *fh) {
        int r;

        table_lock(vfs);
        r = inode_fh(inode) == was ? replace_fh(vfs, inode, fh) : 0;
        table_unlock(vfs);
        return r;
}

static bool has_name(const Inode *inode, const char *name) {
        uint32_t hash = atomic_load_explicit(&inode->record->name_hash, memory_order_relaxed);

        return hash == NAME_LOST || hash == name_hash(name);
}

bool inode_is_same(const Vfs *vfs, const Inode *inode, const NfsAttr *attr, const char *name) {
        const InodeRecord *record = inode->record;
        int64_t known = atomic_load_explicit(&record->changed_at, memory_order_relaxed), ctime = attr_ctime_ns(attr);
        bool hidden = atomic_load_explicit(&record->silly_dir, memory_order_relaxed) != 0;

        if (attr->fileid != record->fileid || (attr->mode & S_IFMT) != record->type)
                return false;
        if (ctime == known || (hidden && is_silly_name(vfs, inode, name)))
                return true;
        /* hidden: it has both names for a moment, and whatever gave it the second was a change */
        return has_name(inode, name) && (ctime < known || S_ISDIR(record->type) || atomic_load(&inode->unheard) || hidden);
}

Inode *handle_find_replaced(Vfs *vfs, const NfsFh *fh, const NfsAttr *attr, uint64_t parent, const char *name) {
        Former *former;
        Inode *inode;

        HASH_FIND(by_fileid, vfs->formers, &attr->fileid, sizeof attr->fileid, former);
        inode = former ? &vfs->inodes[(uint32_t) former->nodeid] : NULL;
        if (!inode || !inode->record || inode->nodeid != former->nodeid || atomic_load(&inode->record->used) != 1 ||
            (S_ISREG(attr->mode) && inode->n_open == 0) ||
            atomic_load_explicit(&inode->record->parent, memory_order_relaxed) != parent ||
            !(has_name(inode, name) || is_silly_name(vfs, inode, name)) || !inode_is_same(vfs, inode, attr, name))
                return NULL;
        HASH_DELETE(by_fileid, vfs->formers, former);
        free(former);
        return replace_fh(vfs, inode, fh) == 0 ? inode : NULL;
}
