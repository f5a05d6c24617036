#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "vfs/memory.h"

/* FNV-1a, four bytes at a time, and then mixed, so that each bit counts in each. */
uint32_t memory_seal(uint32_t seed, const void *data, size_t size) {
        const uint8_t *p = data;
        uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ seed;

        for (; size >= 4; p += 4, size -= 4) {
                uint32_t word;

                memcpy(&word, p, 4);
                hash = (hash ^ word) * UINT64_C(0x100000001b3);
        }
        for (; size > 0; p++, size--)
                hash = (hash ^ *p) * UINT64_C(0x100000001b3);
        hash = (hash ^ hash >> 32) * UINT64_C(0x9e3779b97f4a7c15);
        return (uint32_t) (hash >> 32);
}

/* FNV-1a over what moves when somebody changes a structure. A change of meaning alone is a new MEMORY_VERSION. */
uint64_t memory_layout(void) {
        static const uint64_t parts[] = {
                MEMORY_VERSION,
                sizeof(Memory),
                sizeof(Slot),
                sizeof(Buffer),
                sizeof(InodeRecord),
                sizeof(HandleRecord),
                sizeof(OpenRecord),
                sizeof(ExtentRecord),
                sizeof(ExtentStore),
                sizeof(LockRecord),
                sizeof(ReactorStats),
                sizeof(NfsStats),
                sizeof(VerifyReport),
                VERIFY_N_RULES,
                VERIFY_N_COUNTS,
                sizeof(NfsMountResult),
                REACTORS_MAX,
                SLOTS,
                BUFFERS,
                INODES_MAX,
                OPENS_MAX,
                HANDLES_MAX,
                offsetof(Memory, options),
                offsetof(Memory, fuse_fd),
                offsetof(Memory, mount),
                offsetof(Memory, worker_pid),
                offsetof(Memory, doing),
                offsetof(Memory, inodes_high),
                offsetof(Memory, inode_generation),
                offsetof(Memory, verify),
                offsetof(Memory, init_seal),
                offsetof(Memory, init_request),
                offsetof(Memory, stats),
                offsetof(Memory, journal),
                offsetof(Memory, opens),
                offsetof(Memory, inodes),
                offsetof(Slot, unique),
                offsetof(Slot, object),
                offsetof(Slot, object_id),
                offsetof(Slot, reply),
                offsetof(Slot, request),
                offsetof(InodeRecord, generation),
                offsetof(InodeRecord, n_lookup),
                offsetof(InodeRecord, fileid),
                offsetof(InodeRecord, type),
                offsetof(InodeRecord, fh),
                offsetof(InodeRecord, write_error),
                offsetof(InodeRecord, seal),
                offsetof(InodeRecord, silly_dir),
                offsetof(InodeRecord, handle),
                offsetof(InodeRecord, parent),
                offsetof(InodeRecord, changed_at),
                offsetof(InodeRecord, name_hash),
                offsetof(InodeRecord, epoch),
                offsetof(OpenRecord, generation),
                offsetof(OpenRecord, nodeid),
                offsetof(OpenRecord, unique),
                offsetof(OpenRecord, flags),
                offsetof(OpenRecord, cred),
                offsetof(OpenRecord, seal),
                offsetof(HandleRecord, former),
                offsetof(HandleRecord, epoch),
                offsetof(HandleRecord, nodeid),
                offsetof(HandleRecord, fh),
                offsetof(HandleRecord, seal),
                offsetof(LockRecord, type),
                offsetof(LockRecord, start),
                offsetof(LockRecord, end),
                offsetof(LockRecord, serial),
                offsetof(LockRecord, nodeid),
                offsetof(LockRecord, owner),
                offsetof(LockRecord, fh),
                offsetof(LockRecord, kind),
                offsetof(LockRecord, svid),
                offsetof(LockRecord, pid),
                offsetof(LockRecord, cred),
                offsetof(LockRecord, seal),
                offsetof(LockRecord, doubt_since),
                offsetof(ExtentRecord, len),
                offsetof(ExtentRecord, nodeid),
                offsetof(ExtentRecord, offset),
                offsetof(ExtentRecord, cred),
                offsetof(ExtentRecord, seal),
                offsetof(ExtentRecord, seq),
                offsetof(ExtentRecord, done),
                offsetof(ExtentRecord, xid),
                offsetof(ExtentRecord, reactor),
                offsetof(ExtentRecord, stable),
                offsetof(ExtentRecord, verf),
                offsetof(NfsMountResult, root),
                offsetof(NfsMountResult, info),
        };
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (unsigned i = 0; i < ELEMENTSOF(parts); i++)
                for (unsigned byte = 0; byte < 8; byte++)
                        hash = (hash ^ ((parts[i] >> 8 * byte) & 0xff)) * UINT64_C(0x100000001b3);
        return hash;
}

/* At an address that is as aligned as the offset in the file: huge pages must be so. */
static int memory_map(int fd, Memory **ret) {
        size_t size = sizeof(Memory) + HUGE_PAGE, before;
        uint8_t *room = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        void *p;

        if (room == MAP_FAILED)
                return -errno;
        before = -(uintptr_t) room % HUGE_PAGE;
        p = mmap(room + before, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
        if (p == MAP_FAILED) {
                int r = -errno;

                (void) munmap(room, size);
                return r;
        }
        if (before > 0)
                (void) munmap(room, before);
        (void) munmap(room + before + sizeof(Memory), HUGE_PAGE - before);
        (void) madvise(p, sizeof(Memory), MADV_DONTDUMP);
        *ret = p;
        return 0;
}

int memory_new(Memory **ret, int *ret_fd) {
        _cleanup_(fd_closep) int fd = memfd_create("nfsvol", MFD_ALLOW_SEALING);
        struct utsname names;
        Memory *memory = NULL;
        int r;

        if (fd < 0)
                return -errno;
        if (ftruncate(fd, sizeof(Memory)) < 0)
                return -errno;
        (void) fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); /* a worker must not pull it away */
        r = memory_map(fd, &memory);
        if (r < 0)
                return r;
        memory->magic = MEMORY_MAGIC;
        memory->version = MEMORY_VERSION;
        memory->size_check = (uint32_t) memory_layout();
        memory->ready_fd = memory->stack_fd = -1;
        for (unsigned i = 0; i < REACTORS_MAX; i++)
                memory->fuse_fd[i] = memory->ping_fd[i] = -1;
        for (unsigned i = 0; i < REACTORS_MAX; i++)
                journal_set_slots(&memory->journal[i], 0);
        (void) snprintf(memory->node, sizeof memory->node, "%s",
                        uname(&names) == 0 && names.nodename[0] ? names.nodename : "nfsvol");
        if (getrandom(&memory->connection_id, sizeof memory->connection_id, 0) < 0)
                memory->connection_id = now_ns();
        *ret = memory;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

void memory_keep_init(Memory *memory, const void *request, size_t len) {
        if (atomic_load(&memory->init_len) || len > sizeof memory->init_request)
                return;
        memcpy(memory->init_request, request, len);
        memory->init_seal = memory_seal((uint32_t) len, request, len);
        atomic_store_explicit(&memory->init_len, (uint32_t) len, memory_order_release);
}

bool memory_init_is_sane(const Memory *memory) {
        uint32_t len = atomic_load(&memory->init_len);

        if (len == 0)
                return !atomic_load(&memory->init_replied);
        return len <= sizeof memory->init_request && memory->init_seal == memory_seal(len, memory->init_request, len);
}

static bool memory_is_sane(const Memory *memory) {
        return memory->magic == MEMORY_MAGIC && memory->version == MEMORY_VERSION &&
               memory->size_check == (uint32_t) memory_layout() && memory->n_reactors >= 1 &&
               memory->n_reactors <= REACTORS_MAX && memory->mount.n_addrs <= NFS_ADDRS_MAX &&
               memory->mount.root.len <= NFS_FH_MAX;
}

int memory_attach(int fd, Memory **ret) {
        struct stat st;
        Memory *memory = NULL;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if ((uint64_t) st.st_size != sizeof(Memory))
                return -EPROTO;
        r = memory_map(fd, &memory);
        if (r < 0)
                return r;
        if (!memory_is_sane(memory)) {
                (void) munmap(memory, sizeof *memory);
                return -EPROTO;
        }
        /* strings came from the keeper, but their ends are ours to make sure of */
        memory->id[sizeof memory->id - 1] = '\0';
        memory->source[sizeof memory->source - 1] = '\0';
        memory->options[sizeof memory->options - 1] = '\0';
        memory->scope[sizeof memory->scope - 1] = '\0';
        memory->mount_message[sizeof memory->mount_message - 1] = '\0';
        memory->mount.export[sizeof memory->mount.export - 1] = '\0';
        *ret = memory;
        return 0;
}

int memory_populate(void *start, size_t size) {
        uintptr_t first = (uintptr_t) start & ~UINT64_C(4095);
        uintptr_t last = ((uintptr_t) start + size + 4095) & ~UINT64_C(4095);

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
        if (madvise((void *) first, last - first, MADV_POPULATE_WRITE) == 0)
                return 0;
        if (errno != EINVAL)
                return -errno;
        /* before Linux 5.14: touch each page without changing it */
        for (uintptr_t p = first; p < last; p += 4096)
                (void) atomic_fetch_or_explicit((_Atomic uint8_t *) p, 0, memory_order_relaxed);
        return 0;
}

int memory_populate_huge(void *start) {
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
        int r = memory_populate(start, 1); /* what is wholly a hole is left alone */

        if (r < 0)
                return r;
        return madvise(start, HUGE_PAGE, MADV_COLLAPSE) < 0 ? -errno : 0;
}
