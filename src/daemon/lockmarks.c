/*
 * Locks that outlive this machine, see sys/lockmark.h: the prober notes where the volume may come to have some, and has the server
 * free those of before; the keeper takes that back when the volume has none left.
 */
#include <string.h>

#include "base/log.h"
#include "daemon.h"
#include "sys/lockmark.h"
#include "sys/mounts.h"

#define WAIT_NS      (3 * NSEC_PER_SEC) /* for the prober of another volume of the same server */
#define FREE_MS      2000
#define ADDRESS_SIZE 80

typedef struct Freeing {
        const NfsMountConfig *config;
        const NfsAddr *addr;
        const char *address;
        uint16_t nlmport;
} Freeing;

static int free_all(void *userdata, const char *node) {
        const Freeing *freeing = userdata;
        int r;

        if (mount_table_has_kernel_nfs(freeing->address)) {
                log_notice("%s is not told that this machine has died, though it may hold locks of before: the kernel's own "
                           "client has mounts of it, and would lose those that it has now",
                           freeing->address);
                return -EBUSY;
        }
        r = nfs_locks_free(freeing->config, freeing->addr, freeing->nlmport, node, FREE_MS);
        if (r < 0)
                log_warning("%s cannot be told that this machine has died (%s): locks that it held as %s stay until the server "
                            "is told to drop them, or restarts",
                            freeing->address, r == -EREMOTEIO ? "it knows no NLM_FREE_ALL" : strerror(-r), node);
        else
                log_notice("%s has been told that this machine has died: what it had locked as %s is free", freeing->address,
                           node);
        return r;
}

static bool may_hold_locks(const Memory *memory) {
        uint32_t n = MIN(atomic_load(&memory->locks_high), (uint32_t) LOCKS_MAX);

        for (uint32_t i = 0; i < n; i++)
                if (atomic_load(&memory->locks[i].state) != LOCK_FREE)
                        return true;
        return false;
}

void lock_marks_enter(const NfsMountConfig *config, const Memory *memory) {
        const NfsMountResult *mount = &memory->mount;
        char address[ADDRESS_SIZE];
        int r;

        if (!mount->nlmport)
                return;
        for (uint32_t i = 0; i < mount->n_addrs; i++) {
                Freeing freeing = { .config = config, .addr = &mount->addrs[i], .address = address, .nlmport = mount->nlmport };

                if (nfs_addr_format(&mount->addrs[i], address, sizeof address) < 0)
                        continue;
                r = lock_mark_enter(address, memory->connection_id, memory->node, now_ns() + WAIT_NS, free_all, &freeing);
                if (r < 0) {
                        log_notice("cannot note in %s that %s may hold locks for this machine (%s): if it dies, they stay",
                                   lock_mark_statedir(), address, strerror(-r));
                        return;
                }
        }
}

void lock_marks_leave(const Memory *memory) {
        const NfsMountResult *mount = &memory->mount;
        uint32_t n = MIN(mount->n_addrs, (uint32_t) NFS_ADDRS_MAX);
        char address[ADDRESS_SIZE];

        if (!mount->nlmport || may_hold_locks(memory))
                return;
        for (uint32_t i = 0; i < n; i++)
                if (nfs_addr_format(&mount->addrs[i], address, sizeof address) >= 0)
                        (void) lock_mark_leave(address, memory->connection_id, now_ns() + WAIT_NS);
}
