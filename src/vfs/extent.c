/*
 * Room for what is written: the extents of the recovery memory.
 *
 * An extent holds one contiguous piece of a file. There are three sizes, so that a hundred bytes do not take a
 * megabyte and a stream makes WRITEs of full size. The number is fixed: a volume holds at most so much that is not on
 * stable storage. Who finds no room waits (for_room) until some is given back, while the oldest files are committed. One
 * extent that is given back wakes one; who has got his room wakes the next one, for several may have gone into one extent.
 *
 * What an extent says is published by its state, last: whoever attaches finds it whole or not at all. While it is
 * DIRTY it may grow, and be written over by who holds its request in the journal: a successor does that again.
 */
#include <malloc.h>
#include <sys/mman.h>

#include "base/crashpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "pending.h"

static const struct {
        uint32_t first, count, size;
} sizes[EXTENT_SIZES] = {
        { 0, EXTENTS_SMALL, EXTENT_SMALL },
        { EXTENTS_SMALL, EXTENTS_MEDIUM, EXTENT_MEDIUM },
        { EXTENTS_SMALL + EXTENTS_MEDIUM, EXTENTS_LARGE, IO_MAX },
};

#define BYTES_ALL                                                                                                                \
        ((uint64_t) EXTENTS_SMALL * EXTENT_SMALL + (uint64_t) EXTENTS_MEDIUM * EXTENT_MEDIUM + (uint64_t) EXTENTS_LARGE * IO_MAX)
#define BYTES_MIN  (UINT64_C(4) << 20)
#define OF_A_LIMIT 8 /* for each of the sizes, which keep what they once had, and as much again for what goes on */
#define MADE_SMALL (256u << 10)
#define HUGE_FROM  (32 * HUGE_PAGE) /* who may have less than this makes no huge pages */

static void room_lock(Vfs *vfs) {
        (void) pthread_mutex_lock(&vfs->room_lock);
}

static void room_unlock(Vfs *vfs) {
        (void) pthread_mutex_unlock(&vfs->room_lock);
}

static unsigned size_class(const Vfs *vfs, const Extent *extent) {
        uint32_t index = (uint32_t) (extent - vfs->extents);
        unsigned c = EXTENT_SIZES - 1;

        while (c > 0 && index < sizes[c].first)
                c--;
        return c;
}

static uint8_t *data_of(ExtentStore *store, unsigned c, uint32_t index) {
        uint32_t i = index - sizes[c].first;

        return c == 0 ? store->small[i] : c == 1 ? store->medium[i] : store->large[i];
}

uint32_t extent_limit(const Vfs *vfs) {
        return MAX(vfs->write_size, EXTENT_SMALL);
}

static uint32_t seal_of(const Vfs *vfs, const Extent *extent) {
        const ExtentRecord *record = extent->record;

        return memory_seal((uint32_t) (extent - vfs->extents), &record->nodeid,
                           offsetof(ExtentRecord, seal) - offsetof(ExtentRecord, nodeid));
}

/* ---- taking and giving ---- */

static Extent *extent_init(Vfs *vfs, unsigned c, uint32_t index) {
        Extent *extent = &vfs->extents[index];

        extent->record = &vfs->memory->extents.records[index];
        extent->data = data_of(&vfs->memory->extents, c, index);
        extent->capacity = sizes[c].size;
        return extent;
}

static Extent *take_from(Vfs *vfs, unsigned c) {
        Extent *extent = TAILQ_FIRST(&vfs->free_extents[c]);
        _Atomic uint32_t *high = &vfs->memory->extents.high[c];

        if (vfs->bytes_used > 0 && vfs->bytes_used + sizes[c].size > vfs->bytes_max)
                return NULL;
        if (extent) {
                TAILQ_REMOVE(&vfs->free_extents[c], extent, extent_link);
        } else if (atomic_load(high) < sizes[c].count) {
                extent = extent_init(vfs, c, sizes[c].first + atomic_load(high));
                atomic_fetch_add(high, 1);
        } else {
                return NULL;
        }
        vfs->bytes_used += sizes[c].size;
        return extent;
}

/*
 * A stream fills its extents at once, so they come in huge pages. What takes small ones comes and goes with the requests, and
 * to make a huge page can be a stall of milliseconds: the kernel asks all CPUs for pages that they keep in hand (lru_add_drain_all()).
 * A CPU that is reserved for somebody may not get to that at all.
 */
static bool in_huge_pages(const Vfs *vfs, unsigned c) {
        return c > 0 && vfs->huge_pages && vfs->bytes_max >= HUGE_FROM;
}

static bool cpus_are_reserved(void) {
        static const char *const lists[] = { "/sys/devices/system/cpu/isolated", "/sys/devices/system/cpu/nohz_full" };
        char text[256];

        for (unsigned i = 0; i < ELEMENTSOF(lists); i++)
                if (io_read_file(lists[i], text, sizeof text) > 0 && text[0] >= '0' && text[0] <= '9')
                        return true;
        return false;
}

static uint32_t made_max(const Vfs *vfs, unsigned c) {
        return MAX((in_huge_pages(vfs, c) ? HUGE_PAGE : MADE_SMALL) / sizes[c].size, 1u);
}

/*
 * How many extents, from this one on, are to have memory now; 0: it has. Made page by page as it is written to it would cost
 * more than the copy. The more there are, the more at a time: who writes little takes little. Under the lock.
 */
static uint32_t to_be_made(Vfs *vfs, const Extent *extent) {
        unsigned c = size_class(vfs, extent);
        uint32_t i = (uint32_t) (extent - vfs->extents) - sizes[c].first, max = made_max(vfs, c);
        uint32_t n = max - i % max, as_many = MAX(i, 1u);

        if (i < vfs->extents_made[c])
                return 0;
        if (sizes[c].size < MADE_SMALL && i < MADE_SMALL / sizes[c].size)
                n = MIN(n, as_many);
        n = MIN(n, sizes[c].count - i);
        vfs->extents_made[c] = i + n;
        return n;
}

static void make(const Vfs *vfs, Extent *extent, uint32_t n) {
        size_t size = (size_t) n * extent->capacity;
        uint8_t *end = extent->data + size;

        if (!in_huge_pages(vfs, size_class(vfs, extent)) || (uintptr_t) end % HUGE_PAGE != 0 ||
            memory_populate_huge(end - HUGE_PAGE) < 0)
                (void) memory_populate(extent->data, size);
        (void) memory_populate(extent->record, n * sizeof *extent->record);
        (void) memory_populate(extent, n * sizeof *extent);
}

Extent *extent_take(Vfs *vfs, uint32_t size, uint32_t hint) {
        Extent *extent = NULL;
        uint32_t n = 0;

        room_lock(vfs);
        for (unsigned c = 0; c < EXTENT_SIZES && !extent; c++)
                if (sizes[c].size >= MAX(size, hint))
                        extent = take_from(vfs, c);
        for (unsigned c = EXTENT_SIZES; c-- > 0 && !extent;) /* not so much room for more as it should have */
                if (sizes[c].size >= size)
                        extent = take_from(vfs, c);
        if (extent)
                n = to_be_made(vfs, extent);
        room_unlock(vfs);
        if (n > 0)
                make(vfs, extent, n);
        return extent;
}

void vfs_limit_memory(Vfs *vfs, uint64_t limit) {
        uint64_t share = MAX(limit / OF_A_LIMIT, BYTES_MIN);

        vfs->bytes_max = MIN(share, BYTES_ALL);
        if (vfs->bytes_max < BYTES_ALL)
                log_info("at most %llu MB of written data are kept, for the daemon may have %llu MB in all",
                         (unsigned long long) vfs->bytes_max >> 20, (unsigned long long) limit >> 20);
}

static _Atomic uint64_t *counter_of(Vfs *vfs, enum ExtentState state) {
        return state == EXTENT_UNSTABLE ? &vfs->memory->unstable_bytes : &vfs->memory->dirty_bytes;
}

static void count(Vfs *vfs, enum ExtentState state, uint32_t len, int sign) {
        if (state != EXTENT_FREE)
                atomic_fetch_add_explicit(counter_of(vfs, state), (uint64_t) ((int64_t) len * sign), memory_order_relaxed);
}

void extent_set_state(Vfs *vfs, Extent *extent, enum ExtentState state) {
        count(vfs, extent_state(extent), extent_len(extent), -1);
        count(vfs, state, extent_len(extent), 1);
        atomic_store_explicit(&extent->record->state, state, memory_order_release);
}

void extent_publish(Vfs *vfs, Extent *extent, enum ExtentState state) {
        extent->record->seal = seal_of(vfs, extent);
        count(vfs, state, extent_len(extent), 1);
        atomic_store_explicit(&extent->record->state, state, memory_order_release);
}

void extent_set_len(Vfs *vfs, Extent *extent, uint32_t len) {
        count(vfs, extent_state(extent), len - extent_len(extent), 1);
        atomic_store_explicit(&extent->record->len, len, memory_order_release);
}

/* Under the lock. */
static void wake_first(Vfs *vfs) {
        Op *op = TAILQ_FIRST(&vfs->for_room);

        if (!op)
                return;
        TAILQ_REMOVE(&vfs->for_room, op, wait.wait_link);
        op->wait.for_room = false;
        op_wake(op, 0);
}

void extent_pass_room(Vfs *vfs) {
        room_lock(vfs);
        wake_first(vfs);
        room_unlock(vfs);
}

void extent_give(Vfs *vfs, Extent *extent) {
        unsigned c = size_class(vfs, extent);

        extent_set_state(vfs, extent, EXTENT_FREE);
        crash_point(EXTENT_FREED);
        extent->inode = NULL;
        room_lock(vfs);
        vfs->bytes_used -= sizes[c].size;
        TAILQ_INSERT_HEAD(&vfs->free_extents[c], extent, extent_link);
        wake_first(vfs);
        room_unlock(vfs);
}

bool extent_has_memory(const Vfs *vfs) {
        for (unsigned c = 0; c < EXTENT_SIZES; c++)
                if (atomic_load_explicit(&vfs->memory->extents.high[c], memory_order_relaxed) > 0)
                        return true;
        return false;
}

void extent_give_back(Vfs *vfs) {
        ExtentStore *store = &vfs->memory->extents;

        room_lock(vfs);
        for (unsigned c = 0; c < EXTENT_SIZES && vfs->bytes_used == 0; c++) {
                uint32_t max = made_max(vfs, c), n = vfs->extents_made[c] + max; /* a former worker may have made as many more */

                if (vfs->extents_made[c] == 0)
                        continue;
                n = MIN((n + max - 1) / max * max, sizes[c].count); /* no piece of a huge page */
                (void) madvise(data_of(store, c, sizes[c].first), (size_t) n * sizes[c].size, MADV_REMOVE);
                vfs->extents_made[c] = 0;
                TAILQ_INIT(&vfs->free_extents[c]);
                atomic_store(&store->high[c], 0);
        }
        room_unlock(vfs);
        (void) malloc_trim(0);
}

bool extent_room_is_short(Vfs *vfs) {
        bool is_short;

        room_lock(vfs);
        is_short = vfs->bytes_used > vfs->bytes_max / 3;
        room_unlock(vfs);
        return is_short;
}

void extent_wait_room(Op *op, bool again, void (*done)(Op *op)) {
        Vfs *vfs = op->reactor->vfs;

        op->wait.done = done;
        if (op->interrupted) { /* since it was woken; it will not be once more */
                extent_pass_room(vfs);
                return op_wake(op, EINTR);
        }
        room_lock(vfs);
        op->wait.for_room = true;
        if (again) /* it was its turn: who needs much room must not wait behind everybody who needs little */
                TAILQ_INSERT_HEAD(&vfs->for_room, op, wait.wait_link);
        else
                TAILQ_INSERT_TAIL(&vfs->for_room, op, wait.wait_link);
        if (vfs->bytes_used == 0) /* all of it was given back in the meantime: nobody else would wake it */
                wake_first(vfs);
        room_unlock(vfs);
        writeback_relieve(op->reactor);
}

/* ---- recovery ---- */

bool extent_is_whole(const Vfs *vfs, const Extent *extent) {
        const ExtentRecord *record = extent->record;
        uint32_t len = atomic_load(&record->len);

        return record->seal == seal_of(vfs, extent) && len >= 1 && len <= extent->capacity && atomic_load(&record->done) < len &&
               record->offset <= (uint64_t) INT64_MAX - len && record->cred.n_groups <= NFS_GROUPS_MAX &&
               record->stable <= NFS_FILE_SYNC;
}

/* A former worker's. Data of a file that is not known any more, or that makes no sense, cannot be written. */
static int recover(Vfs *vfs, Extent *extent) {
        ExtentRecord *record = extent->record;
        uint32_t state = atomic_load_explicit(&record->state, memory_order_acquire);
        bool sane = state <= EXTENT_UNSTABLE && extent_is_whole(vfs, extent);
        Inode *inode = sane ? inode_pin(vfs, record->nodeid) : NULL;
        int r;

        if (!inode) {
                log_error("%u bytes that were written to node %llu are lost: %s", atomic_load(&record->len),
                          (unsigned long long) record->nodeid, sane ? "it is gone" : "the record is damaged");
                atomic_store(&record->state, EXTENT_FREE);
                return 0;
        }
        r = pending_adopt(vfs, inode, extent);
        inode_unpin(vfs, inode);
        return r < 0 ? r : 1;
}

static int load_size(Vfs *vfs, unsigned c) {
        uint32_t high = atomic_load(&vfs->memory->extents.high[c]);
        int r;

        if (high > sizes[c].count)
                return -EPROTO;
        vfs->extents_made[c] = high;
        for (uint32_t i = sizes[c].first; i < sizes[c].first + high; i++) {
                Extent *extent = extent_init(vfs, c, i);

                r = extent_state(extent) != EXTENT_FREE ? recover(vfs, extent) : 0;
                if (r < 0)
                        return r;
                if (r > 0)
                        vfs->bytes_used += sizes[c].size;
                else
                        TAILQ_INSERT_TAIL(&vfs->free_extents[c], extent, extent_link);
        }
        return 0;
}

Extent *extent_next(const Vfs *vfs, const Extent *extent) {
        uint32_t index = extent ? (uint32_t) (extent - vfs->extents) + 1 : 0;

        for (unsigned c = 0; c < EXTENT_SIZES; c++) {
                uint32_t end = sizes[c].first + atomic_load(&vfs->memory->extents.high[c]);

                index = MAX(index, sizes[c].first);
                if (index < end)
                        return &vfs->extents[index];
        }
        return NULL;
}

int extent_table_load(Vfs *vfs) {
        int r = 0;

        vfs->bytes_max = BYTES_ALL;
        vfs->huge_pages = !cpus_are_reserved();
        vfs->extents = mmap(NULL, EXTENTS_MAX * sizeof *vfs->extents, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (vfs->extents == MAP_FAILED) {
                vfs->extents = NULL;
                return -ENOMEM;
        }
        atomic_store(&vfs->memory->dirty_bytes, 0);
        atomic_store(&vfs->memory->unstable_bytes, 0);
        for (unsigned c = 0; c < EXTENT_SIZES; c++)
                TAILQ_INIT(&vfs->free_extents[c]);
        for (unsigned c = 0; c < EXTENT_SIZES && r >= 0; c++)
                r = load_size(vfs, c);
        return r;
}

void extent_table_free(Vfs *vfs) {
        Pending *pending;

        while ((pending = TAILQ_FIRST(&vfs->pending))) {
                TAILQ_REMOVE(&vfs->pending, pending, volume_link);
                free(pending);
        }
        if (vfs->extents)
                (void) munmap(vfs->extents, EXTENTS_MAX * sizeof *vfs->extents);
}
