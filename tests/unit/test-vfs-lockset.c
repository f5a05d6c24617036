/*
 * The ranges of a file: splitting, merging, conflicts, against a model of one word per byte; and that a process may die
 * at any store to the records: what is then loaded is what was or what was to be.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "src/vfs/lockset.h"

#define BYTES  64 /* the model's file; the last one stands for all behind it */
#define OWNERS 3
#define NODEID 5

static Memory *memory;
static LockRecords records;
static LockSet set;
static uint8_t model[OWNERS][BYTES];

static void setup(void) {
        memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        cr_assert_neq(memory, MAP_FAILED);
        cr_assert_eq(lock_records_init(&records, memory), 0);
        lockset_init(&set);
        memset(model, 0, sizeof model);
}

static void teardown(void) {
        lockset_done(&set);
        lock_records_done(&records);
        (void) munmap(memory, sizeof *memory);
}

TestSuite(lockset, .init = setup, .fini = teardown, .timeout = 120);

static uint64_t end_of(unsigned byte) {
        return byte == BYTES - 1 ? LOCK_END : byte;
}

static LockOwner *get_owner(unsigned i) {
        enum LockKind kind = i == 2 ? LOCK_FLOCK : LOCK_POSIX;
        LockOwner *owner = lockset_find_owner(&set, kind, i + 100);

        owner = owner ? lock_owner_ref(owner) : lockset_new_owner(&set, kind, i + 100, i);
        cr_assert_not_null(owner);
        return owner;
}

static void model_set(unsigned owner, enum LockType type, unsigned first, unsigned last) {
        memset(&model[owner][first], (int) type, last - first + 1);
}

static void apply(unsigned i, enum LockType type, unsigned first, unsigned last) {
        LockOwner *owner = get_owner(i);
        LockRoom room;

        cr_assert_eq(lock_room_take(&records, &room), 0);
        lock_record_ask(&records, &room, NODEID, owner, type, first, end_of(last));
        lockset_apply(&records, &set, owner, type, first, end_of(last), NODEID, &room);
        lock_room_give(&records, &room);
        lock_owner_unref(&set, owner);
        model_set(i, type, first, last);
}

/* Byte by byte as the model has it, and in as few ranges as possible. */
static bool set_matches(LockSet *s, uint8_t want[OWNERS][BYTES]) {
        const LockRange *range, *next;

        for (unsigned i = 0; i < OWNERS; i++) {
                LockOwner *owner = lockset_find_owner(s, i == 2 ? LOCK_FLOCK : LOCK_POSIX, i + 100);

                for (unsigned byte = 0; byte < BYTES; byte++) {
                        uint64_t end;
                        enum LockType type = owner ? lockset_segment(s, owner, byte, byte, &end) : LOCK_NONE;

                        if (type != want[i][byte])
                                return false;
                }
        }
        TAILQ_FOREACH(range, &s->ranges, range_link) {
                if (range->start > range->end || range->record->start != range->start || range->record->end != range->end)
                        return false;
                for (next = TAILQ_NEXT(range, range_link); next; next = TAILQ_NEXT(next, range_link)) {
                        if (next->start < range->start)
                                return false;
                        if (next->owner == range->owner && next->type == range->type && range->end < LOCK_END &&
                            next->start <= range->end + 1)
                                return false;
                }
        }
        return true;
}

static int by_serial(const void *a, const void *b) {
        const LockRecord *const *x = a, *const *y = b;

        return (*x)->serial < (*y)->serial ? -1 : (*x)->serial > (*y)->serial;
}

/* What a successor makes of these records. */
static void load(Memory *m, LockRecords *r, LockSet *s) {
        LockRecord *list[256];
        unsigned n = 0;

        cr_assert_eq(lock_records_init(r, m), 0);
        lockset_init(s);
        for (uint32_t i = 0; i < atomic_load(&m->locks_high); i++)
                if (atomic_load(&m->locks[i].state) == LOCK_HELD)
                        list[n++] = &m->locks[i];
        qsort(list, n, sizeof *list, by_serial);
        for (unsigned i = 0; i < n; i++)
                cr_assert_eq(lockset_load(r, s, list[i]), 0);
}

static Memory *copy_memory(const LockRecord *from, uint32_t high) {
        Memory *copy;
        int fd;

        cr_assert_eq(memory_new(&copy, &fd), 0);
        (void) close(fd);
        memcpy(copy->locks, from, high * sizeof *from);
        atomic_store(&copy->locks_high, high);
        return copy;
}

static bool loads_as(const LockRecord *from, uint32_t high, uint8_t want[OWNERS][BYTES]) {
        Memory *copy = copy_memory(from, high);
        LockRecords r;
        LockSet s;
        bool same;

        load(copy, &r, &s);
        same = set_matches(&s, want);
        lockset_done(&s);
        lock_records_done(&r);
        /* and once more: loading changed the records too */
        load(copy, &r, &s);
        same = same && set_matches(&s, want);
        lockset_done(&s);
        lock_records_done(&r);
        (void) munmap(copy, sizeof *copy);
        return same;
}

Test(lockset, split_and_merge) {
        apply(0, LOCK_EXCLUSIVE, 10, 19);
        apply(0, LOCK_NONE, 14, 15);
        cr_assert(set_matches(&set, model));
        apply(0, LOCK_EXCLUSIVE, 14, 15);
        cr_assert(set_matches(&set, model));
        cr_assert_eq(atomic_load(&memory->n_locks), 1);
        apply(0, LOCK_SHARED, 12, 13);
        cr_assert(set_matches(&set, model));
        cr_assert_eq(atomic_load(&memory->n_locks), 3);
        apply(0, LOCK_SHARED, 0, BYTES - 1);
        cr_assert(set_matches(&set, model));
        cr_assert_eq(atomic_load(&memory->n_locks), 1);
        apply(0, LOCK_NONE, 0, BYTES - 1);
        cr_assert_eq(atomic_load(&memory->n_locks), 0);
        cr_assert(lockset_is_empty(&set), "no owner is left");
}

Test(lockset, conflicts) {
        LockOwner *a = get_owner(0), *b = get_owner(1);

        apply(0, LOCK_SHARED, 10, 19);
        cr_assert_null(lockset_conflict(&set, a, LOCK_EXCLUSIVE, 0, LOCK_END), "not with oneself");
        cr_assert_null(lockset_conflict(&set, b, LOCK_SHARED, 0, LOCK_END));
        cr_assert_not_null(lockset_conflict(&set, b, LOCK_EXCLUSIVE, 19, 19));
        cr_assert_null(lockset_conflict(&set, b, LOCK_EXCLUSIVE, 0, 9));
        cr_assert_null(lockset_conflict(&set, b, LOCK_EXCLUSIVE, 20, LOCK_END));
        apply(0, LOCK_EXCLUSIVE, 12, 12);
        cr_assert_eq(lockset_conflict(&set, b, LOCK_SHARED, 0, LOCK_END)->start, 12);
        cr_assert(lockset_covers(&set, a, LOCK_SHARED, 10, 19));
        cr_assert_not(lockset_covers(&set, a, LOCK_EXCLUSIVE, 12, 13));
        cr_assert_not(lockset_covers(&set, a, LOCK_SHARED, 9, 10));
        cr_assert(lockset_holds(&set, a, 19, 30));
        cr_assert_not(lockset_holds(&set, b, 0, LOCK_END));
        lock_owner_unref(&set, a);
        lock_owner_unref(&set, b);
}

static unsigned random_state = 1;
static unsigned pick(unsigned n) {
        random_state = random_state * 1103515245 + 12345;
        return (random_state >> 8) % n;
}

static void random_change(unsigned *owner, enum LockType *type, unsigned *first, unsigned *last) {
        *owner = pick(OWNERS);
        *type = (enum LockType) pick(3);
        *first = pick(BYTES);
        *last = *first + pick(BYTES - *first);
}

Test(lockset, random_changes) {
        for (int i = 0; i < 20000; i++) {
                enum LockType type;
                unsigned owner, first, last;

                random_change(&owner, &type, &first, &last);
                apply(owner, type, first, last);
                cr_assert(set_matches(&set, model), "change %d", i);
                if (i % 16 == 0)
                        cr_assert(loads_as(memory->locks, atomic_load(&memory->locks_high), model), "change %d", i);
        }
        for (unsigned owner = 0; owner < OWNERS; owner++)
                apply(owner, LOCK_NONE, 0, BYTES - 1);
        cr_assert(lockset_is_empty(&set));
        for (uint32_t i = 0; i < atomic_load(&memory->locks_high); i++)
                cr_assert_eq(atomic_load(&memory->locks[i].state), LOCK_FREE, "no record leaks");
        cr_assert_leq(atomic_load(&memory->locks_high), 256);
}

/* ---- a crash at every store ---- */

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)

#define SNAPSHOTS_MAX 256
#define WATCHED       128 /* records */
#define TRAP_FLAG     0x100

static LockRecord (*snapshots)[WATCHED];
static unsigned n_snapshots;
static size_t watched_size;

/* A store: what was there before it; then it is let through. */
static void on_store(int signal, siginfo_t *info, void *context) {
        ucontext_t *uc = context;

        (void) signal;
        (void) info;
        if (n_snapshots < SNAPSHOTS_MAX)
                memcpy(snapshots[n_snapshots++], memory->locks, sizeof *snapshots);
        (void) mprotect(memory->locks, watched_size, PROT_READ | PROT_WRITE);
        uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int signal, siginfo_t *info, void *context) {
        ucontext_t *uc = context;

        (void) signal;
        (void) info;
        (void) mprotect(memory->locks, watched_size, PROT_READ);
        uc->uc_mcontext.gregs[REG_EFL] &= ~(long long) TRAP_FLAG;
}

Test(lockset, a_crash_at_any_store) {
        struct sigaction store = { .sa_sigaction = on_store, .sa_flags = SA_SIGINFO };
        struct sigaction step = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
        unsigned n = 0;

        watched_size = (WATCHED * sizeof(LockRecord) + 4095) & ~(size_t) 4095;
        snapshots = calloc(SNAPSHOTS_MAX, sizeof *snapshots);
        cr_assert_not_null(snapshots);
        (void) sigaction(SIGSEGV, &store, NULL);
        (void) sigaction(SIGTRAP, &step, NULL);
        for (int i = 0; i < 600; i++) {
                uint8_t before[OWNERS][BYTES];
                enum LockType type;
                unsigned owner, first, last;
                bool happened = false;

                random_change(&owner, &type, &first, &last);
                memcpy(before, model, sizeof before);
                n_snapshots = 0;
                (void) mprotect(memory->locks, watched_size, PROT_READ);
                apply(owner, type, first, last);
                (void) mprotect(memory->locks, watched_size, PROT_READ | PROT_WRITE);
                cr_assert_leq(atomic_load(&memory->locks_high), WATCHED);
                cr_assert_lt(n_snapshots, SNAPSHOTS_MAX);
                for (unsigned k = 0; k < n_snapshots; k++) {
                        if (!happened && loads_as(snapshots[k], WATCHED, before))
                                continue;
                        happened = true;
                        cr_assert(loads_as(snapshots[k], WATCHED, model), "change %d, store %u of %u", i, k, n_snapshots);
                }
                n += n_snapshots;
        }
        cr_assert_gt(n, 6000, "%u stores seen", n);
        free(snapshots);
}

#endif

Test(lockset, no_record_is_free) {
        LockRoom *rooms = calloc(LOCKS_MAX / 2 + 1, sizeof *rooms);
        uint32_t n = 0;

        cr_assert_not_null(rooms);
        while (lock_room_take(&records, &rooms[n]) == 0)
                n++;
        cr_assert_eq(n, LOCKS_MAX / 2);
        cr_assert_eq(lock_room_take(&records, &rooms[n]), -ENOLCK);
        lock_room_give(&records, &rooms[0]);
        cr_assert_eq(lock_room_take(&records, &rooms[0]), 0);
        while (n > 0)
                lock_room_give(&records, &rooms[--n]);
        cr_assert_eq(records.n_free, LOCKS_MAX);
        free(rooms);
}
