/*
 * Marks: what makes an exclusive creation ours, in one RPC.
 *
 * A CREATE whose answer is lost is sent again, and may then meet its own effect: EEXIST, although nobody else was there.
 * RFC 1813 has EXCLUSIVE for that (section 3.3.8): its verifier, which servers keep in the new file's times, tells. But it
 * carries no attributes: a SETATTR has to give the file its mode and put the times right. A GUARDED one carries them all,
 * and among them an access time: one that nobody else has chosen tells just as well, and is not in anybody's way. It is up
 * to 17 ms before the creation, and not after it while clocks go on as they did: else reading the file once would not be
 * seen (relatime).
 *
 * Whether a server keeps times to the nanosecond it does not say reliably (FSINFO's time_delta is a second with servers
 * that do). So the first file of a file system is made with EXCLUSIVE, and the SETATTR after it tries a mark; what the
 * server then says of the access time decides what is done with the next ones. Each of those is a trial, too, for there
 * are servers that set times and do not make files with them: the first one that fails is the last.
 *
 * The mark is in the journal (Slot.object_id) before it is sent: a successor sends the same one.
 *
 * Thread: any.
 */
#include "volume.h"

#define MARK_BITS 24 /* 17 ms */
#define LATE_NS   (500 * NSEC_PER_MSEC)

/*
 * What the server's clock shows at least: it has shown ctime when it answered. An answer that was long on its way, or was
 * given before, would make marks as much too early.
 */
static void clock_learn(Vfs *vfs, const NfsAttr *attr, CallTime time) {
        bool is_late = time.sent == 0 || time.heard - time.sent > LATE_NS;

        if (is_late && atomic_load_explicit(&vfs->server_clock, memory_order_relaxed) != 0)
                return;
        atomic_store_explicit(&vfs->server_clock, attr_ctime_ns(attr) - (int64_t) time.heard, memory_order_relaxed);
}

/* Different for each request of each volume: these are as good as random. */
static uint64_t mark_before(const Op *op, int64_t ns) {
        uint64_t salt = (op->reactor->vfs->memory->connection_id ^ op->unique) * UINT64_C(0x9e3779b97f4a7c15);

        return ((uint64_t) ns - (salt >> (64 - MARK_BITS))) | 1; /* where it is rounded, that shows */
}

static uint64_t mark_now(const Op *op) {
        int64_t clock = atomic_load_explicit(&op->reactor->vfs->server_clock, memory_order_relaxed);
        int64_t now = clock + (int64_t) reactor_now(op->reactor->reactor);

        return clock != 0 && now > (int64_t) NSEC_PER_SEC ? mark_before(op, now) : 0;
}

struct timespec mark_time(uint64_t mark) {
        return (struct timespec){ .tv_sec = (time_t) (mark / NSEC_PER_SEC), .tv_nsec = (long) (mark % NSEC_PER_SEC) };
}

bool mark_is(uint64_t mark, const NfsAttr *attr) {
        struct timespec time = mark_time(mark);

        return attr->atime.tv_sec == time.tv_sec && attr->atime.tv_nsec == time.tv_nsec;
}

uint64_t mark_new(Op *op) {
        Vfs *vfs = op->reactor->vfs;
        uint64_t fsid = atomic_load_explicit(&vfs->marked_fsid, memory_order_relaxed);

        return !atomic_load(&vfs->marks_refused) && fsid != NO_FSID && fsid == cache_fsid(vfs, op->inode) ? mark_now(op) : 0;
}

uint64_t mark_to_try(Op *op, const NfsAttr *made, CallTime time) {
        clock_learn(op->reactor->vfs, made, time);
        return atomic_load(&op->reactor->vfs->marks_refused) ? 0 : mark_now(op);
}

void marks_give_up(Vfs *vfs) {
        atomic_store(&vfs->marks_refused, true);
}

void mark_made(Op *op, uint64_t mark, const NfsAttr *made, CallTime time) {
        if (mark_is(mark, made))
                clock_learn(op->reactor->vfs, made, time);
        else
                marks_give_up(op->reactor->vfs);
}

void mark_learn(Op *op, uint64_t mark, const NfsAttr *made, CallTime time) {
        Vfs *vfs = op->reactor->vfs;
        uint64_t fsid = made->fsid;

        if (mark_is(mark, made)) {
                clock_learn(vfs, made, time);
                atomic_store_explicit(&vfs->marked_fsid, fsid, memory_order_relaxed);
        } else {
                (void) atomic_compare_exchange_strong(&vfs->marked_fsid, &fsid, NO_FSID);
        }
}
