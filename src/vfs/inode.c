/*
 * Node ids, file handles and lookup counts.
 *
 * The table itself is memory->inodes: it survives a worker. What is known about an inode, and the
 * index by file handle, are private and rebuilt. An index is used again only when the kernel has
 * forgotten its node id (lookup count 0) and nothing of ours needs it (n_busy 0); its generation is then
 * another one, so that an old node id can never name a new file.
 *
 * Who has walked a million files needs some hundred megabytes for them until the kernel forgets them, and not after. So
 * indexes are given out by chunks, the lowest first, and what is no longer used of the tables goes back to the system.
 *
 * Thread: any; table_lock protects all of it.
 */
#include <malloc.h>
#include <sys/mman.h>

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->record = NULL)
#include "base/crashpoint.h"
#include "base/log.h"
#include "volume.h"

#define ROOT_INDEX   1u
#define CHUNK_SIZE   INODE_CHUNK_SIZE
#define N_CHUNKS     (INODES_MAX / CHUNK_SIZE)
#define EMPTY_CHUNKS 4 /* keep their memory, for those who come and go */
#define TRIM_CHUNKS  16

static uint64_t nodeid_of(uint32_t index, uint32_t generation) {
        return index | (uint64_t) generation << 32;
}

static void table_lock(Vfs *vfs) {
        (void) pthread_mutex_lock(&vfs->table_lock);
}

static void table_unlock(Vfs *vfs) {
        bool trim = vfs->trim;

        vfs->trim = false;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        if (trim)
                (void) malloc_trim(0);
}

static uint32_t index_of(const Vfs *vfs, const Inode *inode) {
        return (uint32_t) (inode - vfs->inodes);
}

/* ---- indexes ---- */

/* Nothing in it is used: its memory goes back, its indexes are as new. */
static void chunk_drop(Vfs *vfs, uint32_t c) {
        vfs->inode_chunks[c] = (InodeChunk){ 0 };
        (void) madvise(&vfs->inodes[c * CHUNK_SIZE], CHUNK_SIZE * sizeof(Inode), MADV_DONTNEED);
        (void) madvise(&vfs->memory->inodes[c * CHUNK_SIZE], CHUNK_SIZE * sizeof(InodeRecord), MADV_REMOVE);
        if (++vfs->n_chunks_dropped % TRIM_CHUNKS == 0)
                vfs->trim = true; /* what was known of their names */
        for (c = (atomic_load(&vfs->memory->inodes_high) - 1) / CHUNK_SIZE; vfs->inode_chunks[c].n_touched == 0; c--)
                atomic_store(&vfs->memory->inodes_high, c * CHUNK_SIZE);
}

/* A free index, never the root's; 0: the table is full. */
static uint32_t index_take(Vfs *vfs) {
        uint32_t c = vfs->first_chunk, index;
        InodeChunk *chunk;
        Inode *inode;

        while (c < N_CHUNKS && vfs->inode_chunks[c].n_used == CHUNK_SIZE)
                c++;
        vfs->first_chunk = c;
        if (c == N_CHUNKS)
                return 0;
        chunk = &vfs->inode_chunks[c];
        if (chunk->n_used++ == 0 && chunk->n_touched > 0)
                vfs->n_empty_chunks--;
        inode = chunk->free;
        if (inode) {
                chunk->free = inode->next_free;
                return index_of(vfs, inode);
        }
        index = c * CHUNK_SIZE + chunk->n_touched++;
        if (index >= atomic_load(&vfs->memory->inodes_high))
                atomic_store(&vfs->memory->inodes_high, index + 1);
        return index;
}

static void index_give(Vfs *vfs, Inode *inode) {
        uint32_t c = index_of(vfs, inode) / CHUNK_SIZE;
        InodeChunk *chunk = &vfs->inode_chunks[c];

        inode->next_free = chunk->free;
        chunk->free = inode;
        vfs->first_chunk = MIN(vfs->first_chunk, c);
        if (--chunk->n_used > 0)
                return;
        if (vfs->n_empty_chunks < EMPTY_CHUNKS)
                vfs->n_empty_chunks++;
        else
                chunk_drop(vfs, c);
}

/* ---- inodes ---- */

/* Makes the private side of a record and enters it in the index. */
static int inode_attach(Vfs *vfs, uint32_t index) {
        Inode *inode = &vfs->inodes[index];
        InodeRecord *record = &vfs->memory->inodes[index];
        const NfsFh *fh;

        memset(inode, 0, sizeof *inode);
        (void) pthread_mutex_init(&inode->lock, NULL);
        drop_init(&inode->drop, inode);
        inode->record = record;
        inode->nodeid = nodeid_of(index, record->generation);
        fh = handle_load(vfs, inode);
        atomic_store_explicit(&inode->fh, fh, memory_order_release);
        HASH_ADD_KEYPTR(by_fh, vfs->by_fh, fh->data, fh->len, inode);
        if (!inode->record)
                return -ENOMEM;
        return 0;
}

static void inode_release(Vfs *vfs, Inode *inode) {
        HASH_DELETE(by_fh, vfs->by_fh, inode);
        if (inode->ahead)
                ahead_drop(vfs, inode);
        atomic_store_explicit(&inode->record->used, 0, memory_order_release);
        crash_point(INODE_RELEASED);
        handles_give(vfs, atomic_exchange(&inode->record->handle, 0));
        inode->record->seal = 0;
        atomic_fetch_sub_explicit(&vfs->memory->n_inodes, 1, memory_order_relaxed);
        reread_free(inode);
        (void) pthread_mutex_destroy(&inode->lock);
        index_give(vfs, inode);
}

static void release_if_unused(Vfs *vfs, Inode *inode) {
        if (inode->n_busy == 0 && !inode_is_root(inode) && (vfs->recovered || !inode->record->silly_dir) &&
            atomic_load_explicit(&inode->record->n_lookup, memory_order_relaxed) == 0)
                inode_release(vfs, inode);
}

static void *map_private(size_t size) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return p == MAP_FAILED ? NULL : p;
}

static uint32_t record_seal(const InodeRecord *record, uint32_t index) {
        uint32_t seal = memory_seal(index, &record->generation, sizeof record->generation);

        seal = memory_seal(seal, &record->fileid, sizeof record->fileid);
        seal = memory_seal(seal, &record->type, sizeof record->type);
        return memory_seal(seal, record->fh.data, MIN(record->fh.len, (uint32_t) NFS_FH_MAX));
}

static bool record_is_sane(const InodeRecord *record, uint32_t index) {
        return record->fh.len >= 1 && record->fh.len <= NFS_FH_MAX && record->seal == record_seal(record, index);
}

static void add_root(Vfs *vfs) {
        InodeRecord *record = &vfs->memory->inodes[ROOT_INDEX];

        record->generation = 0;
        record->fileid = vfs->memory->mount.root_attr.fileid;
        record->type = S_IFDIR;
        record->fh = vfs->memory->mount.root;
        atomic_store_explicit(&record->handle, 0, memory_order_relaxed);
        record->seal = record_seal(record, ROOT_INDEX);
        atomic_store_explicit(&record->n_lookup, 1, memory_order_relaxed);
        atomic_store_explicit(&record->used, 1, memory_order_release);
        if (atomic_load(&vfs->memory->inodes_high) <= ROOT_INDEX)
                atomic_store(&vfs->memory->inodes_high, ROOT_INDEX + 1);
}

static bool root_is_sane(const Memory *memory) {
        const InodeRecord *record = &memory->inodes[ROOT_INDEX];

        return atomic_load(&((Memory *) (uintptr_t) memory)->inodes[ROOT_INDEX].used) == 1 && record->generation == 0 &&
               record_is_sane(record, ROOT_INDEX) && nfs_fh_equal(&record->fh, &memory->mount.root);
}

/* What is free of the chunks below high, whose used ones have been counted. */
static void load_free(Vfs *vfs, uint32_t high) {
        uint32_t last = (high - 1) / CHUNK_SIZE;

        vfs->inode_chunks[0].n_used++; /* index 0 is nobody's */
        for (uint32_t c = 0; c <= last; c++)
                vfs->inode_chunks[c].n_touched = MIN(high - c * CHUNK_SIZE, CHUNK_SIZE);
        for (uint32_t c = 0; c <= last; c++) {
                InodeChunk *chunk = &vfs->inode_chunks[c];

                if (chunk->n_used == 0) { /* looking at it has touched it */
                        chunk_drop(vfs, c);
                        continue;
                }
                for (uint32_t i = c * CHUNK_SIZE + chunk->n_touched; i-- > MAX(c * CHUNK_SIZE, ROOT_INDEX);)
                        if (atomic_load(&vfs->memory->inodes[i].used) == 0) {
                                vfs->inodes[i].next_free = chunk->free;
                                chunk->free = &vfs->inodes[i];
                        }
        }
}

/*
 * What is damaged is dropped: its users get ESTALE. Believing it could show them another file.
 */
int inode_table_load(Vfs *vfs) {
        Memory *memory = vfs->memory;
        uint32_t high, n = 0, n_lost = 0;

        vfs->inodes = map_private(sizeof(Inode) * (size_t) INODES_MAX);
        vfs->inode_chunks = calloc(N_CHUNKS, sizeof *vfs->inode_chunks);
        if (!vfs->inodes || !vfs->inode_chunks)
                return -ENOMEM;
        if (!root_is_sane(memory))
                add_root(vfs);
        high = atomic_load(&memory->inodes_high);
        if (high <= ROOT_INDEX || high > INODES_MAX)
                return -EPROTO;

        for (uint32_t i = ROOT_INDEX; i < high; i++) {
                InodeRecord *record = &memory->inodes[i];
                uint32_t used = atomic_load_explicit(&record->used, memory_order_acquire);
                int r;

                if (used == 0)
                        continue;
                vfs->inode_chunks[i / CHUNK_SIZE].n_used++;
                if (used != 1 || !record_is_sane(record, i)) {
                        atomic_store(&record->used, RECORD_LOST);
                        n_lost += used != RECORD_LOST;
                        continue;
                }
                r = inode_attach(vfs, i);
                if (r < 0)
                        return r;
                if (record->silly_dir)
                        atomic_fetch_add(&vfs->n_hidden, 1);
                n++;
        }
        handles_load(vfs);
        load_free(vfs, high);
        atomic_store(&memory->n_inodes, n);
        if (n_lost > 0)
                log_error("%u of %u inodes in the recovery memory are damaged: dropped", n_lost, n + n_lost);
        return 0;
}

void vfs_recovered(VfsReactor *vr) {
        Vfs *vfs = vr->vfs;
        uint32_t high = atomic_load(&vfs->memory->inodes_high);

        table_lock(vfs);
        vfs->recovered = true;
        table_unlock(vfs);
        remove_left_over(vr);
        table_lock(vfs);
        for (uint32_t i = ROOT_INDEX; i < high; i++) {
                Inode *inode = &vfs->inodes[i];

                if (inode->record && atomic_load(&inode->record->used) == 1)
                        release_if_unused(vfs, inode);
        }
        table_unlock(vfs);
}

void inode_table_free(Vfs *vfs) {
        Inode *inode, *next;

        free(vfs->inode_chunks);
        if (!vfs->inodes)
                return;
        HASH_ITER(by_fh, vfs->by_fh, inode, next)
        reread_free(inode);
        HASH_CLEAR(by_fh, vfs->by_fh);
        handles_free(vfs);
        (void) munmap(vfs->inodes, sizeof(Inode) * (size_t) INODES_MAX);
}

static Inode *inode_add(Vfs *vfs, const NfsFh *fh, const NfsAttr *attr) {
        uint32_t index = index_take(vfs);
        InodeRecord *record;

        if (!index)
                return NULL;
        record = &vfs->memory->inodes[index];
        record->generation = atomic_fetch_add(&vfs->memory->inode_generation, 1) + 1;
        record->fileid = attr->fileid;
        record->type = attr->mode & S_IFMT;
        record->fh = *fh;
        record->silly_dir = 0;
        atomic_store_explicit(&record->handle, 0, memory_order_relaxed);
        atomic_store_explicit(&record->parent, 0, memory_order_relaxed);
        atomic_store_explicit(&record->changed_at, 0, memory_order_relaxed);
        atomic_store_explicit(&record->name_hash, 0, memory_order_relaxed);
        atomic_store_explicit(&record->epoch, atomic_load(&vfs->memory->handle_epoch), memory_order_relaxed);
        atomic_store_explicit(&record->write_error, 0, memory_order_relaxed);
        record->seal = record_seal(record, index);
        atomic_store_explicit(&record->n_lookup, 1, memory_order_relaxed);
        if (inode_attach(vfs, index) < 0) {
                index_give(vfs, &vfs->inodes[index]);
                return NULL;
        }
        atomic_store_explicit(&record->used, 1, memory_order_release);
        atomic_fetch_add_explicit(&vfs->memory->n_inodes, 1, memory_order_relaxed);
        return &vfs->inodes[index];
}

Inode *inode_lookup(Vfs *vfs, const NfsFh *fh, const NfsAttr *attr, uint64_t parent, const char *name) {
        Inode *inode;

        table_lock(vfs);
        HASH_FIND(by_fh, vfs->by_fh, fh->data, fh->len, inode);
        if (!inode)
                inode = handle_find_replaced(vfs, fh, attr, parent, name);
        if (inode)
                atomic_fetch_add_explicit(&inode->record->n_lookup, 1, memory_order_relaxed);
        else
                inode = inode_add(vfs, fh, attr);
        if (inode)
                inode_seen_in(vfs, inode, parent, name);
        table_unlock(vfs);
        crash_point(INODE_COUNTED);
        return inode;
}

/* nodeid comes from the kernel, or from memory that another process wrote. */
static Inode *inode_find(Vfs *vfs, uint64_t nodeid) {
        uint32_t index = (uint32_t) nodeid;
        Inode *inode;

        if (index < ROOT_INDEX || index >= atomic_load_explicit(&vfs->memory->inodes_high, memory_order_relaxed))
                return NULL;
        inode = &vfs->inodes[index];
        if (!inode->record || inode->nodeid != nodeid || !atomic_load_explicit(&inode->record->used, memory_order_relaxed))
                return NULL;
        return inode;
}

bool inode_is_whole(const Vfs *vfs, const Inode *inode) {
        uint32_t index = index_of(vfs, inode);

        return inode->record == &vfs->memory->inodes[index] && record_is_sane(inode->record, index) &&
               inode->nodeid == nodeid_of(index, inode->record->generation);
}

bool inode_is_indexed(Vfs *vfs, const Inode *inode) {
        const NfsFh *fh = inode_fh(inode);
        Inode *found;

        HASH_FIND(by_fh, vfs->by_fh, fh->data, fh->len, found);
        /* two with one handle: the kernel looked up the name of a file before its open one was found again */
        return found && nfs_fh_equal(inode_fh(found), fh);
}

Inode *inode_pin(Vfs *vfs, uint64_t nodeid) {
        Inode *inode;

        table_lock(vfs);
        inode = inode_find(vfs, nodeid);
        if (inode)
                inode->n_busy++;
        table_unlock(vfs);
        return inode;
}

Inode *inode_pin_found(Vfs *vfs, const NfsFh *fh, const NfsAttr *attr, uint64_t parent, const char *name) {
        Inode *inode;

        table_lock(vfs);
        HASH_FIND(by_fh, vfs->by_fh, fh->data, fh->len, inode);
        if (!inode && attr)
                inode = handle_find_replaced(vfs, fh, attr, parent, name);
        if (inode)
                inode->n_busy++;
        table_unlock(vfs);
        return inode;
}

Inode *inode_pin_fh(Vfs *vfs, const NfsFh *fh) {
        return inode_pin_found(vfs, fh, NULL, 0, NULL);
}

void inode_repin(Vfs *vfs, Inode *inode) {
        table_lock(vfs);
        inode->n_busy++;
        table_unlock(vfs);
}

void inode_unpin(Vfs *vfs, Inode *inode) {
        table_lock(vfs);
        inode->n_busy--;
        release_if_unused(vfs, inode);
        table_unlock(vfs);
}

void inode_forget(Vfs *vfs, uint64_t nodeid, uint64_t n) {
        Inode *inode;
        uint64_t have;

        table_lock(vfs);
        inode = inode_find(vfs, nodeid);
        if (inode && !inode_is_root(inode)) {
                have = atomic_load_explicit(&inode->record->n_lookup, memory_order_relaxed);
                atomic_store_explicit(&inode->record->n_lookup, have > n ? have - n : 0, memory_order_relaxed);
                release_if_unused(vfs, inode);
        }
        table_unlock(vfs);
}
