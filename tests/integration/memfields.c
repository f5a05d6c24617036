/*
 * Every field of the recovery memory, for a test that damages each of them: "table NAME AT SIZE COUNT" for arrays of records,
 * "field TABLE NAME OFFSET SIZE" (bytes). Fails if a field is missing here.
 */
#include <stdio.h>

#include "vfs/memory.h"

typedef struct Field {
        const char *table, *name;
        size_t offset, size, whole;
} Field;

#define F(type, field)                                                                                                           \
        { #type, #field, offsetof(type, field), sizeof(((type *) NULL)->field), sizeof(type) }

static const Field fields[] = {
        F(Slot, state),
        F(Slot, len),
        F(Slot, buffer),
        F(Slot, recovered),
        F(Slot, n_faults),
        F(Slot, reply_len),
        F(Slot, step),
        F(Slot, xid),
        F(Slot, seal),
        F(Slot, reply_seal),
        F(Slot, unique),
        F(Slot, object),
        F(Slot, object_id),
        F(Slot, reply),
        F(Slot, request),

        F(InodeRecord, used),
        F(InodeRecord, generation),
        F(InodeRecord, n_lookup),
        F(InodeRecord, fileid),
        F(InodeRecord, type),
        F(InodeRecord, fh),
        F(InodeRecord, write_error),
        F(InodeRecord, seal),
        F(InodeRecord, silly_dir),
        F(InodeRecord, handle),
        F(InodeRecord, parent),
        F(InodeRecord, changed_at),
        F(InodeRecord, name_hash),
        F(InodeRecord, epoch),

        F(HandleRecord, used),
        F(HandleRecord, former),
        F(HandleRecord, epoch),
        F(HandleRecord, nodeid),
        F(HandleRecord, fh),
        F(HandleRecord, seal),

        F(OpenRecord, used),
        F(OpenRecord, generation),
        F(OpenRecord, nodeid),
        F(OpenRecord, unique),
        F(OpenRecord, flags),
        F(OpenRecord, cred),
        F(OpenRecord, seal),

        F(LockRecord, state),
        F(LockRecord, type),
        F(LockRecord, start),
        F(LockRecord, end),
        F(LockRecord, serial),
        F(LockRecord, nodeid),
        F(LockRecord, owner),
        F(LockRecord, fh),
        F(LockRecord, kind),
        F(LockRecord, svid),
        F(LockRecord, pid),
        F(LockRecord, cred),
        F(LockRecord, seal),
        F(LockRecord, doubt_since),

        F(ExtentRecord, state),
        F(ExtentRecord, len),
        F(ExtentRecord, nodeid),
        F(ExtentRecord, offset),
        F(ExtentRecord, cred),
        F(ExtentRecord, seal),
        F(ExtentRecord, seq),
        F(ExtentRecord, done),
        F(ExtentRecord, xid),
        F(ExtentRecord, reactor),
        F(ExtentRecord, stable),
        F(ExtentRecord, verf),

        F(Memory, magic),
        F(Memory, version),
        F(Memory, size_check),
        F(Memory, id),
        F(Memory, source),
        F(Memory, options),
        F(Memory, n_reactors),
        F(Memory, fuse_fd),
        F(Memory, connection_id),
        F(Memory, node),
        F(Memory, keeper_pid),
        F(Memory, started_at),
        F(Memory, scope),
        F(Memory, ready_fd),
        F(Memory, stack_fd),
        F(Memory, ping_fd),
        F(Memory, mount_error),
        F(Memory, mount_message),
        F(Memory, mount),
        F(Memory, locks_text),
        F(Memory, worker_pid),
        F(Memory, worker_state),
        F(Memory, worker_starts),
        F(Memory, worker_faulted),
        F(Memory, doing),
        F(Memory, pongs),
        F(Memory, server_up),
        F(Memory, dirty_bytes),
        F(Memory, unstable_bytes),
        F(Memory, next_xid),
        F(Memory, source_port),
        F(Memory, n_inodes),
        F(Memory, n_opens),
        F(Memory, inodes_high),
        F(Memory, opens_high),
        F(Memory, inode_generation),
        F(Memory, write_errors_lost),
        F(Memory, locks_high),
        F(Memory, lock_svid),
        F(Memory, n_locks),
        F(Memory, n_lock_waiters),
        F(Memory, n_locks_lost),
        F(Memory, lock_stats),
        F(Memory, handles_replaced),
        F(Memory, handles_high),
        F(Memory, handle_epoch),
        F(Memory, verify),
        F(Memory, init_len),
        F(Memory, init_seal),
        F(Memory, init_request),
        F(Memory, init_replied),
        F(Memory, stats),
};

/* The next field of the same structure begins right after this one, but for alignment. */
static bool is_followed(size_t i) {
        const Field *field = &fields[i], *next = i + 1 < ELEMENTSOF(fields) ? &fields[i + 1] : NULL;
        size_t end = field->offset + field->size, to = field->whole;

        if (next && next->whole == field->whole && next->offset > 0)
                to = next->offset;
        else if (field->whole == sizeof(Memory))
                to = offsetof(Memory, journal);
        return to >= end && to - end < (field->whole == sizeof(Memory) && to == offsetof(Memory, journal) ? 4096 : 8);
}

static void table(const char *name, size_t at, size_t size, size_t count) {
        (void) printf("table %s %zu %zu %zu\n", name, at, size, count);
}

int main(void) {
        int rc = 0;

        table("Slot", offsetof(Memory, journal) + offsetof(Journal, slots), sizeof(Slot), 64);
        table("InodeRecord", offsetof(Memory, inodes), sizeof(InodeRecord), 256);
        table("HandleRecord", offsetof(Memory, handles), sizeof(HandleRecord), 256);
        table("OpenRecord", offsetof(Memory, opens), sizeof(OpenRecord), 256);
        table("LockRecord", offsetof(Memory, locks), sizeof(LockRecord), 256);
        table("ExtentRecord", offsetof(Memory, extents) + offsetof(ExtentStore, records), sizeof(ExtentRecord), EXTENTS_SMALL);
        table("Memory", 0, sizeof(Memory), 1);
        table("Journal", offsetof(Memory, journal), sizeof(Journal), 1);
        table("ExtentStore", offsetof(Memory, extents), sizeof(ExtentStore), 1);
        (void) printf("field Journal slots_high %zu 4\n", offsetof(Journal, slots_high));
        (void) printf("field ExtentStore high %zu %zu\n", offsetof(ExtentStore, high), sizeof(((ExtentStore *) NULL)->high));
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                const Field *field = &fields[i];

                (void) printf("field %s %s %zu %zu\n", field->table, field->name, field->offset, field->size);
                if (!is_followed(i)) {
                        (void) fprintf(stderr, "%s: a field is missing after %s\n", field->table, field->name);
                        rc = 1;
                }
        }
        return rc;
}
