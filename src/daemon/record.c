/*
 * The keepers' record: see daemon.h. A keeper can die between any two instructions that write to it, and its successor
 * believes it, because nobody else has it; but for the identity, which may be that of another version.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon.h"

static int record_map(int fd, KeeperRecord **ret) {
        void *p = mmap(NULL, sizeof(KeeperRecord), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (p == MAP_FAILED)
                return -errno;
        *ret = p;
        return 0;
}

int record_new(Keeper *keeper) {
        _cleanup_(fd_closep) int fd = memfd_create("nfsvol-keeper", MFD_CLOEXEC);
        KeeperRecord *record = NULL;
        int r;

        if (fd < 0)
                return -errno;
        if (ftruncate(fd, sizeof *record) < 0)
                return -errno;
        r = record_map(fd, &record);
        if (r < 0)
                return r;
        record->magic = RECORD_MAGIC;
        record->version = RECORD_VERSION;
        record->size = sizeof *record;
        record->memory_fd = record->control_fd = record->stack_fds[0] = record->stack_fds[1] = -1;
        record->ready_fd = record->upgrade_fd = -1;
        for (unsigned i = 0; i < REACTORS_MAX; i++)
                record->ping_fd[i] = -1;
        record->over = true; /* until the volume is served: who kills us before that leaves no keeper behind */
        record->foreground = keeper->args->foreground;
        record->debug = keeper->args->debug;
        keeper->record = record;
        keeper->record_fd = TAKE_FD(fd);
        return 0;
}

int record_attach(int fd, KeeperRecord **ret) {
        KeeperRecord *record = NULL;
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if ((uint64_t) st.st_size != sizeof *record)
                return -EPROTO;
        r = record_map(fd, &record);
        if (r < 0)
                return r;
        if (record->magic != RECORD_MAGIC || record->version != RECORD_VERSION || record->size != sizeof *record) {
                (void) munmap(record, sizeof *record);
                return -EPROTO;
        }
        (void) fcntl(fd, F_SETFD, FD_CLOEXEC);
        *ret = record;
        return 0;
}

void record_save_head(Keeper *keeper) {
        memcpy(keeper->record->head, keeper->memory, sizeof keeper->record->head);
        keeper->record->n_reactors = keeper->memory->n_reactors;
        keeper->record->fuse_fd = keeper->memory->fuse_fd[0];
}

void record_restore_head(Keeper *keeper) {
        memcpy(keeper->memory, keeper->record->head, sizeof keeper->record->head);
}

void layout_format(char *buf, size_t size) {
        (void) snprintf(buf, size, "%u.%u.%zu.%016llx", MEMORY_VERSION, RECORD_VERSION, sizeof(KeeperRecord),
                        (unsigned long long) memory_layout());
}
