#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "vfs/memory.h"

#define LAYOUT_CHECK ((uint32_t) (sizeof(Memory) ^ (sizeof(Slot) << 8) ^ (sizeof(InodeRecord) << 16)))

static int memory_map(int fd, Memory **ret) {
        void *p = mmap(NULL, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

        if (p == MAP_FAILED)
                return -errno;
        (void) madvise(p, sizeof(Memory), MADV_DONTDUMP);
        *ret = p;
        return 0;
}

int memory_new(Memory **ret, int *ret_fd) {
        _cleanup_(fd_closep) int fd = memfd_create("nfsvol", 0);
        Memory *memory;
        int r;

        if (fd < 0)
                return -errno;
        if (ftruncate(fd, sizeof(Memory)) < 0)
                return -errno;
        r = memory_map(fd, &memory);
        if (r < 0)
                return r;
        memory->magic = MEMORY_MAGIC;
        memory->version = MEMORY_VERSION;
        memory->size_check = LAYOUT_CHECK;
        if (getrandom(&memory->connection_id, sizeof memory->connection_id, 0) < 0)
                memory->connection_id = now_ns();
        *ret = memory;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int memory_attach(int fd, Memory **ret) {
        struct stat st;
        Memory *memory;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if ((uint64_t) st.st_size != sizeof(Memory))
                return -EPROTO;
        r = memory_map(fd, &memory);
        if (r < 0)
                return r;
        if (memory->magic != MEMORY_MAGIC || memory->version != MEMORY_VERSION ||
            memory->size_check != LAYOUT_CHECK || memory->n_reactors < 1 || memory->n_reactors > REACTORS_MAX) {
                (void) munmap(memory, sizeof *memory);
                return -EPROTO;
        }
        /* strings came from the keeper, but their ends are ours to make sure of */
        memory->source[sizeof memory->source - 1] = '\0';
        memory->options[sizeof memory->options - 1] = '\0';
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
