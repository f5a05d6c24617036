/*
 * The table of opens: what the kernel's fh means. It is memory->opens, so that an open outlives a worker;
 * the private side holds the pinned inode and, for a directory, the page of entries being read.
 *
 * Thread: any; table_lock protects it. The contents of one Open are used by the kernel's operations on it,
 * which the kernel does not run against its RELEASE.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "volume.h"

static void count_open(Vfs *vfs, Inode *inode, int delta, bool linked);
static void count_kind(Inode *inode, uint32_t flags, int delta);

static uint64_t fh_of(uint32_t index, uint32_t generation) {
        return index | (uint64_t) generation << 32;
}

static uint32_t open_seal(const OpenRecord *record, uint32_t index) {
        uint32_t seal = memory_seal(index, &record->generation, sizeof record->generation);

        seal = memory_seal(seal, &record->nodeid, sizeof record->nodeid);
        seal = memory_seal(seal, &record->unique, sizeof record->unique);
        seal = memory_seal(seal, &record->flags, sizeof record->flags);
        return memory_seal(seal, &record->cred, sizeof record->cred); /* whole words, without padding */
}

int open_table_load(Vfs *vfs) {
        Memory *memory = vfs->memory;
        size_t size = sizeof(Open) * (size_t) OPENS_MAX;
        uint32_t high = atomic_load(&memory->opens_high), n = 0, n_lost = 0;
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
                return -ENOMEM;
        vfs->opens = p;
        if (high > OPENS_MAX)
                return -EPROTO;
        for (uint32_t i = 0; i < high; i++) {
                OpenRecord *record = &memory->opens[i];
                Open *open = &vfs->opens[i];
                uint32_t used = atomic_load_explicit(&record->used, memory_order_acquire);

                if (used == 0) {
                        open->next_free = vfs->free_opens;
                        vfs->free_opens = open;
                        continue;
                }
                if (used == 1 && record->seal == open_seal(record, i))
                        open->inode = inode_pin(vfs, record->nodeid);
                if (!open->inode) {
                        atomic_store(&record->used, RECORD_LOST);
                        n_lost += used != RECORD_LOST;
                        continue;
                }
                open->record = record;
                count_open(vfs, open->inode, 1, false);
                count_kind(open->inode, record->flags, 1);
                n++;
        }
        atomic_store(&memory->n_opens, n);
        if (n_lost > 0)
                log_error("%u of %u opens in the recovery memory are damaged, or what they open is: dropped", n_lost, n + n_lost);
        handles_opened(vfs);
        return 0;
}

void open_table_free(Vfs *vfs) {
        uint32_t high = MIN(atomic_load(&vfs->memory->opens_high), OPENS_MAX);

        if (!vfs->opens)
                return;
        for (uint32_t i = 0; i < high; i++)
                (void) dir_stream_unref(vfs->opens[i].dir);
        (void) munmap(vfs->opens, sizeof(Open) * (size_t) OPENS_MAX);
}

/* Under table_lock, as the next one. */
static void count_open_child(Vfs *vfs, Inode *inode, int delta) {
        uint32_t index = (uint32_t) inode->parent;
        Inode *parent = index && index < INODES_MAX ? &vfs->inodes[index] : NULL;

        /* the directory may be another one by now: then it was removed, and with it its children's names */
        if (parent && parent->nodeid == inode->parent && (delta > 0 || parent->n_open_children >= (uint32_t) -delta))
                parent->n_open_children += (uint32_t) delta;
}

/*
 * An unlink must know whether what it removes is open. Files are counted in the directory in which they were
 * last seen, if that is certain: they have one name, and nothing went from one directory to another since.
 */
static void count_open(Vfs *vfs, Inode *inode, int delta, bool linked) {
        if (inode->n_open == 0 && delta > 0) {
                inode->unplaced = linked || !inode->parent || inode->placed_at != vfs->n_moves;
                handle_opened(vfs, inode);
        }
        inode->n_open += (uint32_t) delta;
        if (!S_ISREG(inode->record->type))
                return;
        if (inode->unplaced)
                vfs->n_open_unplaced += (uint32_t) delta;
        else
                count_open_child(vfs, inode, delta);
}

static void count_kind(Inode *inode, uint32_t flags, int delta) {
        if ((flags & O_ACCMODE) != O_RDONLY)
                atomic_fetch_add_explicit(&inode->n_writers, (uint32_t) delta, memory_order_relaxed);
        if ((flags & O_ACCMODE) != O_WRONLY)
                atomic_fetch_add_explicit(&inode->n_readers, (uint32_t) delta, memory_order_relaxed);
}

uint32_t name_hash(const char *name) {
        uint32_t hash = memory_seal(0, name, strlen(name));

        return hash > NAME_LOST ? hash : NAME_LOST + 1;
}

void inode_note_place(Inode *inode, uint64_t parent, const char *name) {
        atomic_store_explicit(&inode->record->parent, parent, memory_order_relaxed);
        atomic_store_explicit(&inode->record->name_hash, name_hash(name), memory_order_relaxed);
}

void inode_note_unlinked(Inode *inode, const Inode *dir, const char *name) {
        InodeRecord *record = inode->record;

        atomic_store_explicit(&record->changed_at, INT64_MAX, memory_order_relaxed);
        if (atomic_load_explicit(&record->parent, memory_order_relaxed) == dir->nodeid &&
            atomic_load_explicit(&record->name_hash, memory_order_relaxed) == name_hash(name))
                atomic_store_explicit(&record->name_hash, NAME_LOST, memory_order_relaxed);
}

/* By us: as above, and its name is known. */
static void note_renamed(Inode *inode, uint64_t parent, const char *name) {
        atomic_store_explicit(&inode->record->changed_at, INT64_MAX, memory_order_relaxed);
        inode_note_place(inode, parent, name);
}

void inode_seen_in(Vfs *vfs, Inode *inode, uint64_t parent, const char *name) {
        inode_note_place(inode, parent, name);
        if (inode->n_open == 0) {
                inode->parent = parent;
                inode->placed_at = vfs->n_moves;
        } else if (inode->parent != parent && !inode->unplaced && S_ISREG(inode->record->type)) {
                /* it has a second name, or somebody else renamed it */
                count_open_child(vfs, inode, -(int) inode->n_open);
                inode->unplaced = true;
                vfs->n_open_unplaced += inode->n_open;
        }
}

void inodes_moved(Vfs *vfs) {
        (void) pthread_mutex_lock(&vfs->table_lock);
        vfs->n_moves++;
        (void) pthread_mutex_unlock(&vfs->table_lock);
}

uint32_t open_children(Vfs *vfs, Inode *dir) {
        uint32_t n;

        (void) pthread_mutex_lock(&vfs->table_lock);
        n = dir->n_open_children + vfs->n_open_unplaced;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return n;
}

bool inode_is_open(Vfs *vfs, Inode *inode) {
        bool is_open;

        (void) pthread_mutex_lock(&vfs->table_lock);
        is_open = inode->n_open > 0;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return is_open;
}

/* Under table_lock. */
static void note_silly_dir(Vfs *vfs, Inode *inode, uint64_t dir) {
        uint64_t was = atomic_exchange(&inode->record->silly_dir, dir);

        if (!was && dir)
                atomic_fetch_add(&vfs->n_hidden, 1);
        if (was && !dir)
                atomic_fetch_sub(&vfs->n_hidden, 1);
}

/* Under table_lock. */
static bool give_up(const Vfs *vfs, Inode *inode) {
        bool is_open = inode->n_open > 0 && !vfs->ended;

        if (!vfs->recovered || !inode->record->silly_dir || is_open || inode->n_hiding > 0 || inode->gone)
                return false;
        inode->gone = true;
        return true;
}

bool inode_give_up(Vfs *vfs, Inode *inode) {
        bool given_up;

        if (!inode->record->silly_dir)
                return false;
        (void) pthread_mutex_lock(&vfs->table_lock);
        given_up = give_up(vfs, inode);
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return given_up;
}

Inode *inode_give_up_pinned(Vfs *vfs, uint32_t index) {
        Inode *inode = &vfs->inodes[index];
        bool given_up;

        (void) pthread_mutex_lock(&vfs->table_lock);
        given_up = inode->record && atomic_load(&inode->record->used) == 1 && give_up(vfs, inode);
        if (given_up)
                inode->n_busy++;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return given_up ? inode : NULL;
}

bool inode_hide_begin(Vfs *vfs, Inode *inode, uint64_t dir, bool again) {
        bool begun;

        (void) pthread_mutex_lock(&vfs->table_lock);
        begun = inode->n_open > 0 || again;
        if (begun) {
                if (inode->n_hiding++ == 0)
                        inode->hidden = inode->record->silly_dir;
                note_silly_dir(vfs, inode, dir);
        }
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return begun;
}

bool inode_hide_end(Vfs *vfs, Inode *inode, uint64_t dir, bool hidden) {
        bool given_up;

        (void) pthread_mutex_lock(&vfs->table_lock);
        inode->n_hiding--;
        inode->hidden |= hidden;
        if (hidden)
                note_silly_dir(vfs, inode, dir);
        else if (inode->n_hiding == 0 && !inode->hidden)
                note_silly_dir(vfs, inode, 0);
        given_up = give_up(vfs, inode);
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return given_up;
}

void inode_keep(Vfs *vfs, Inode *inode) {
        (void) pthread_mutex_lock(&vfs->table_lock);
        inode->gone = false;
        (void) pthread_mutex_unlock(&vfs->table_lock);
}

void inode_given_up(Vfs *vfs, Inode *inode) {
        (void) pthread_mutex_lock(&vfs->table_lock);
        note_silly_dir(vfs, inode, 0); /* not before: a successor would not know that there is something to remove */
        inode->gone = false;
        (void) pthread_mutex_unlock(&vfs->table_lock);
}

void inode_moved(Vfs *vfs, Inode *inode, uint64_t to_parent, const char *name) {
        (void) pthread_mutex_lock(&vfs->table_lock);
        note_renamed(inode, to_parent, name);
        if (inode->unplaced || !S_ISREG(inode->record->type)) {
                inode->parent = to_parent;
        } else {
                count_open_child(vfs, inode, -(int) inode->n_open);
                inode->parent = to_parent;
                count_open_child(vfs, inode, (int) inode->n_open);
        }
        (void) pthread_mutex_unlock(&vfs->table_lock);
}

static Open *open_take(Vfs *vfs) {
        Open *open = vfs->free_opens;
        uint32_t high;

        if (open) {
                vfs->free_opens = open->next_free;
                return open;
        }
        high = atomic_load(&vfs->memory->opens_high);
        if (high >= OPENS_MAX)
                return NULL;
        atomic_store(&vfs->memory->opens_high, high + 1);
        return &vfs->opens[high];
}

static bool inode_is_linked(Inode *inode) {
        bool linked;

        (void) pthread_mutex_lock(&inode->lock);
        linked = !inode->has_attr || inode->attr.nlink > 1;
        (void) pthread_mutex_unlock(&inode->lock);
        return linked;
}

/*
 * OPEN against unlink and rename. Both enter themselves first and look at the other after that, under one lock: an OPEN
 * finds every removal that did not see it, and waits for those by asking the server again (file.c).
 */
bool opening_begin(Op *op) {
        Vfs *vfs = op->reactor->vfs;
        bool linked = inode_is_linked(op->inode);

        (void) pthread_mutex_lock(&vfs->table_lock);
        if (!op->inode->gone) {
                count_open(vfs, op->inode, 1, linked);
                op->opening = true;
                op->barrier = vfs->n_removals;
        }
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return op->opening;
}

bool opening_is_safe(Op *op) {
        Vfs *vfs = op->reactor->vfs;
        bool safe = true;
        Op *removal;

        (void) pthread_mutex_lock(&vfs->table_lock);
        TAILQ_FOREACH(removal, &vfs->removals, removal_link) {
                if (removal->removal > op->barrier)
                        break;
                if (op->inode->unplaced || removal->removing_in == op->inode->parent)
                        safe = false;
        }
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return safe;
}

void opening_end(Op *op) {
        Vfs *vfs = op->reactor->vfs;

        (void) pthread_mutex_lock(&vfs->table_lock);
        count_open(vfs, op->inode, -1, false);
        op->opening = false;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        if (inode_give_up(vfs, op->inode))
                remove_silly(op->reactor, op->inode, &op->cred); /* hidden for us, and then not opened */
}

void removal_begin(Op *op, Inode *dir) {
        Vfs *vfs = op->reactor->vfs;

        (void) pthread_mutex_lock(&vfs->table_lock);
        op->removal = ++vfs->n_removals;
        op->removing_in = dir->nodeid;
        TAILQ_INSERT_TAIL(&vfs->removals, op, removal_link);
        (void) pthread_mutex_unlock(&vfs->table_lock);
}

void removal_end(Op *op) {
        Vfs *vfs = op->reactor->vfs;

        (void) pthread_mutex_lock(&vfs->table_lock);
        TAILQ_REMOVE(&vfs->removals, op, removal_link);
        op->removal = 0;
        (void) pthread_mutex_unlock(&vfs->table_lock);
}

/* What a former worker made for this request, which it did not live to answer. */
static Open *open_find_again(const Op *op, const Inode *inode) {
        Vfs *vfs = op->reactor->vfs;
        uint32_t high = atomic_load(&vfs->memory->opens_high);

        for (uint32_t i = 0; i < high; i++) {
                const OpenRecord *record = &vfs->memory->opens[i];

                if (atomic_load_explicit(&record->used, memory_order_acquire) && record->unique == op->unique &&
                    record->nodeid == inode->nodeid && vfs->opens[i].inode)
                        return &vfs->opens[i];
        }
        return NULL;
}

int open_add(Op *op, Inode *inode, int flags, Open **ret, uint64_t *ret_fh) {
        Vfs *vfs = op->reactor->vfs;
        OpenRecord *record;
        uint32_t index;
        bool linked = inode_is_linked(inode);
        Open *open;

        open = op->recovered ? open_find_again(op, inode) : NULL;
        if (open) {
                *ret = open;
                *ret_fh = fh_of((uint32_t) (open - vfs->opens), open->record->generation);
                return 0;
        }
        (void) pthread_mutex_lock(&vfs->table_lock);
        open = open_take(vfs);
        if (open) {
                inode->n_busy++;
                count_open(vfs, inode, 1, linked);
                count_kind(inode, (uint32_t) flags, 1);
        }
        (void) pthread_mutex_unlock(&vfs->table_lock);
        if (!open)
                return -ENFILE;

        index = (uint32_t) (open - vfs->opens);
        record = &vfs->memory->opens[index];
        record->generation++;
        record->nodeid = inode->nodeid;
        record->unique = op->unique;
        record->flags = (uint32_t) flags;
        record->cred = op->cred;
        record->seal = open_seal(record, index);
        open->record = record;
        open->inode = inode;
        open->dir = NULL;
        pending_error_begin(inode, open);
        atomic_store_explicit(&record->used, 1, memory_order_release);
        crash_point(OPEN_ADDED);
        atomic_fetch_add_explicit(&vfs->memory->n_opens, 1, memory_order_relaxed);
        *ret = open;
        *ret_fh = fh_of(index, record->generation);
        return 0;
}

Open *open_get(Vfs *vfs, uint64_t fh, uint64_t nodeid) {
        uint32_t index = (uint32_t) fh;
        Open *open;

        if (index >= atomic_load_explicit(&vfs->memory->opens_high, memory_order_relaxed))
                return NULL;
        open = &vfs->opens[index];
        if (!atomic_load_explicit(&vfs->memory->opens[index].used, memory_order_acquire) || !open->record ||
            fh_of(index, open->record->generation) != fh || open->record->nodeid != nodeid)
                return NULL;
        (void) atomic_load_explicit(&open->n_done, memory_order_acquire);
        return open;
}

bool open_dir(Vfs *vfs, Open *open, Op *op) {
        (void) pthread_mutex_lock(&vfs->table_lock);
        if (!open->dir)
                open->dir = dir_stream_new();
        op->stream = open->dir ? dir_stream_use(open->dir) : NULL;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return op->stream;
}

bool open_is_whole(const Vfs *vfs, const Open *open) {
        uint32_t index = (uint32_t) (open - vfs->opens);

        return open->record == &vfs->memory->opens[index] && open->record->seal == open_seal(open->record, index);
}

void open_remove(Vfs *vfs, Open *open) {
        Inode *inode = open->inode;

        atomic_store_explicit(&open->record->used, 0, memory_order_release);
        open->record->seal = 0;
        atomic_fetch_sub_explicit(&vfs->memory->n_opens, 1, memory_order_relaxed);
        (void) pthread_mutex_lock(&vfs->table_lock);
        open->inode = NULL; /* coherence.c looks at it */
        open->dir = dir_stream_unref(open->dir);
        count_open(vfs, inode, -1, false);
        count_kind(inode, open->record->flags, -1);
        open->next_free = vfs->free_opens;
        vfs->free_opens = open;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        inode_unpin(vfs, inode);
}

/* Under table_lock. NULL: there is no such open. */
static Inode *open_inode(Vfs *vfs, uint32_t i) {
        return atomic_load_explicit(&vfs->memory->opens[i].used, memory_order_acquire) == 1 ? vfs->opens[i].inode : NULL;
}

bool opens_hidden(Vfs *vfs, uint64_t dir) {
        uint32_t high = atomic_load(&vfs->memory->opens_high);
        bool found = false;

        (void) pthread_mutex_lock(&vfs->table_lock);
        for (uint32_t i = 0; i < high && !found; i++) {
                const Inode *inode = open_inode(vfs, i);

                found = inode && atomic_load(&inode->record->silly_dir) == dir;
        }
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return found;
}

void opens_renamed(Vfs *vfs, Inode *dir, const char *name, const char *to_name) {
        uint32_t high = atomic_load(&vfs->memory->opens_high), hash = name_hash(name);

        if (open_children(vfs, dir) == 0)
                return;
        (void) pthread_mutex_lock(&vfs->table_lock);
        for (uint32_t i = 0; i < high; i++) {
                Inode *inode = open_inode(vfs, i);

                if (inode && atomic_load(&inode->record->parent) == dir->nodeid && atomic_load(&inode->record->name_hash) == hash)
                        note_renamed(inode, dir->nodeid, to_name);
        }
        (void) pthread_mutex_unlock(&vfs->table_lock);
}
