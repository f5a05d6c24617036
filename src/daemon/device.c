/*
 * /dev/fuse: opened, mounted, cloned. The descriptors have no close-on-exec, so that each worker inherits them;
 * their numbers are in the memory. The last close of one ends its requests, so the keeper keeps them all, and its standby.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <linux/fuse.h>

#include "base/io.h"
#include "base/log.h"
#include "daemon.h"
#include "sys/mounts.h"
#include "vfs/vfs.h"

#define AHEAD_MAX (16u << 20) /* a fault in a mapping may read as much */

/*
 * Read-ahead is 128 KiB whatever INIT says, and the kernel sets it when INIT is answered: so after that. Enough to keep
 * several READs of the largest size on the wire, more to a server that is far away. The kernel has up to twice as much in flight.
 */
void device_set_readahead(const Keeper *keeper) {
        uint64_t bytes = nfs_bytes_in_flight(&keeper->memory->mount, 0, 2 * AHEAD_MAX) / 2;
        char path[128], value[32];
        int r;

        (void) snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(keeper->record->dev),
                        minor(keeper->record->dev));
        bytes = MAX(bytes, keeper->record->read_size * UINT64_C(4));
        bytes = MAX(bytes, UINT64_C(512) << 10);
        (void) snprintf(value, sizeof value, "%llu", (unsigned long long) bytes / 1024);
        r = io_write_file(path, value);
        if (r < 0)
                log_notice("read-ahead stays as it is: %s: %s", path, strerror(-r));
}

bool device_has_ended(const Keeper *keeper) {
        struct pollfd pfd = { .fd = keeper->record->fuse_fd };

        return poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR);
}

static int find_device(Keeper *keeper) {
        const MountEntry *entry;
        MountTable table;
        int r;

        r = mount_table_read(&table);
        if (r < 0)
                return r;
        entry = mount_table_find(&table, keeper->record->mountpoint);
        if (entry)
                keeper->record->dev = entry->dev;
        mount_table_done(&table);
        return entry ? 0 : -ENOENT;
}

static int clone_device(Keeper *keeper, unsigned index) {
        int fd = open("/dev/fuse", O_RDWR | O_NONBLOCK);
        uint32_t source = (uint32_t) keeper->memory->fuse_fd[0];

        if (fd < 0)
                return -errno;
        keeper->memory->fuse_fd[index] = fd;
        return ioctl(fd, FUSE_DEV_IOC_CLONE, &source) < 0 ? -errno : 0;
}

/* It says so also in INIT, to the worker; that is too late for a refusal. */
static bool kernel_has_idmap(char *text, size_t size) {
        struct utsname names;
        int major = 0, minor = 0;

        if (uname(&names) == 0 && sscanf(names.release, "%d.%d", &major, &minor) == 2 &&
            (major > 6 || (major == 6 && minor >= 12)))
                return true;
        (void) snprintf(text, size, "idmap: needs Linux 6.12 or later, and this is %d.%d: mount without it", major, minor);
        return false;
}

/* What waits for longer ends the connection: each of them does that for volumes, whatever their server does. */
static void check_request_timeout(void) {
        static const char *const names[] = { "default_request_timeout", "max_request_timeout" };

        for (unsigned i = 0; i < ELEMENTSOF(names); i++) {
                char path[64], text[32];

                (void) snprintf(path, sizeof path, "/proc/sys/fs/fuse/%s", names[i]);
                if (io_read_file(path, text, sizeof text) > 0 && strtol(text, NULL, 10) > 0)
                        log_warning(
                                "fs.fuse.%s is %ld, not 0: if the server is away for so many seconds the kernel ends the volume",
                                names[i], strtol(text, NULL, 10));
        }
}

int device_mount(Keeper *keeper, char *text, size_t size) {
        Memory *memory = keeper->memory;
        uint32_t read_size, write_size;
        MountOptions options;
        char data[256], *why = NULL;
        int r;

        mount_options_init(&options);
        r = mount_options_parse(&options, memory->options, &why);
        if (r < 0) {
                (void) snprintf(text, size, "%s", why ? why : strerror(-r));
                free(why);
                return r;
        }
        vfs_io_sizes(&options.session, &memory->mount.info, &read_size, &write_size);
        if (options.session.idmap && !kernel_has_idmap(text, size)) {
                r = -EOPNOTSUPP;
                goto finish;
        }

        memory->fuse_fd[0] = open("/dev/fuse", O_RDWR | O_NONBLOCK);
        if (memory->fuse_fd[0] < 0) {
                r = -errno;
                (void) snprintf(text, size, "cannot open /dev/fuse: %s (is the kernel's fuse module loaded?)", strerror(-r));
                goto finish;
        }
        (void) snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,max_read=%u%s",
                        memory->fuse_fd[0], MAX(read_size, 4096u),
                        options.session.default_permissions || options.session.idmap ? ",default_permissions" : "");
        if (mount(memory->source, keeper->record->mountpoint, "fuse.nfs", 0, data) < 0) {
                r = -errno;
                (void) snprintf(text, size, "cannot mount at %s: %s", keeper->record->mountpoint, strerror(-r));
                goto finish;
        }
        keeper->record->mounted = true;
        check_request_timeout();
        for (unsigned i = 1; i < memory->n_reactors && r >= 0; i++)
                r = clone_device(keeper, i);
        if (r < 0) {
                (void) snprintf(text, size, "cannot clone /dev/fuse: %s", strerror(-r));
                goto finish;
        }
        r = find_device(keeper);
        if (r < 0) {
                (void) snprintf(text, size, "%s is not in the mount table: %s", keeper->record->mountpoint, strerror(-r));
                goto finish;
        }
        keeper->record->read_size = MAX(read_size, 4096u);

finish:
        mount_options_done(&options);
        return r;
}
