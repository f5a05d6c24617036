/*
 * fuse/channel.c, vfs/memory.c: a memory that a worker left, damaged at random. Whoever attaches to it refuses or repairs;
 * it does not crash, and it does not hang.
 */
#include <criterion/criterion.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/log.h"
#include "fuse/channel.h"

#define ROUNDS  400
#define REFUSED 2

static uint64_t seed;

static uint64_t random_below(uint64_t n) {
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        return (z ^ (z >> 27)) % n;
}

/* ---- a worker's life in small ---- */

static void finished(void *userdata) {
        (void) userdata;
}

/* Attaches, recovers, and turns a few times. An exit code. */
static int serve(int memory_fd) {
        MountOptions options;
        char *why = NULL;
        VfsReactor *vr;
        FuseVolume *volume;
        FuseChannel *channel;
        Reactor *reactor;
        Memory *memory;
        Vfs *vfs;

        if (memory_attach(memory_fd, &memory) < 0)
                return REFUSED;
        mount_options_init(&options);
        if (mount_options_parse(&options, memory->options, &why) < 0 || vfs_new(memory, &options.session, &vfs) < 0 ||
            fuse_volume_new(memory, vfs, finished, NULL, &volume) < 0 || reactor_new(&reactor) < 0 ||
            vfs_reactor_new(vfs, 0, reactor, &vr) < 0 || fuse_channel_new(volume, 0, reactor, vr, &channel) < 0)
                return REFUSED;
        for (int i = 0; i < 5; i++)
                if (reactor_turn(reactor, now_ns() + NSEC_PER_MSEC) < 0)
                        return REFUSED;
        return 0;
}

static int serve_in_child(int memory_fd) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                (void) prctl(PR_SET_DUMPABLE, 0);
                (void) signal(SIGALRM, SIG_DFL);
                (void) signal(SIGSEGV, SIG_DFL);
                (void) signal(SIGABRT, SIG_DFL);
                (void) alarm(20);
                log_set_max_level(-1);
                _exit(serve(memory_fd));
        }
        (void) waitpid(pid, &status, 0);
        return status;
}

/* ---- what it finds ---- */

static void add_request(Memory *memory, unsigned i) {
        static const uint32_t opcodes[] = { FUSE_LOOKUP, FUSE_GETATTR, FUSE_SETATTR, FUSE_MKDIR,   FUSE_UNLINK,
                                            FUSE_RENAME, FUSE_LINK,    FUSE_OPEN,    FUSE_READ,    FUSE_WRITE,
                                            FUSE_STATFS, FUSE_RELEASE, FUSE_FLUSH,   FUSE_READDIR, FUSE_CREATE,
                                            FUSE_ACCESS, FUSE_SYMLINK, FUSE_OPENDIR, FUSE_FORGET,  FUSE_INTERRUPT };
        Slot *slot = &memory->journal[0].slots[i];
        struct fuse_in_header *header = (void *) slot->request;

        if (journal_slots(&memory->journal[0]) <= i)
                journal_set_slots(&memory->journal[0], i + 1);
        *header = (struct fuse_in_header){ .len = (uint32_t) (sizeof *header + 60 + random_below(40)),
                                           .opcode = opcodes[random_below(ELEMENTSOF(opcodes))],
                                           .unique = 2 * i + 2,
                                           .nodeid = random_below(8) };
        for (uint32_t k = 40; k < header->len - 4; k++)
                slot->request[k] = (uint8_t) (random_below(3) ? 'a' + random_below(26) : 0);
        slot->buffer = -1;
        slot->len = header->len;
        slot->seal = memory_seal(slot->len, header, header->opcode == FUSE_WRITE ? sizeof *header : slot->len);
        slot->recovered = (uint16_t) random_below(2);
        slot->n_faults = (uint16_t) random_below(3);
        slot->reply_len = 16;
        *(struct fuse_out_header *) (void *) slot->reply = (struct fuse_out_header){ .len = 16, .unique = header->unique };
        slot->reply_seal = memory_seal(16, slot->reply, 16);
        atomic_store(&slot->state, (uint32_t) random_below(SLOT_DONE + 1));
}

static Memory *memory_made(int *ret_fd, int fuse_fd) {
        const struct {
                struct fuse_in_header header;
                struct fuse_init_in in;
        } init = { { .len = sizeof init, .opcode = FUSE_INIT },
                   { .major = 7, .minor = 31, .max_readahead = 131072, .flags = 0x3fffff } };
        Memory *memory;

        cr_assert_eq(memory_new(&memory, ret_fd), 0);
        memory->n_reactors = 1;
        memory->fuse_fd[0] = fuse_fd;
        (void) snprintf(memory->source, sizeof memory->source, "127.0.0.1:/export");
        memory->mount.root = (NfsFh){ .len = 8, .data = "rootroot" };
        memory->mount.root_attr = (NfsAttr){ .mode = S_IFDIR | 0755, .nlink = 2, .fileid = 1 };
        memory->mount.info.rtmax = memory->mount.info.wtmax = 1 << 20;
        memory->mount.n_addrs = 1;
        memory->mount.addrs[0].addr.ss_family = AF_INET;
        memory->mount.port = 1;
        memory_keep_init(memory, &init, sizeof init);
        atomic_store(&memory->init_replied, 1);
        for (unsigned i = 0; i < 24; i++)
                add_request(memory, i);
        return memory;
}

static void damage(Memory *memory) {
        const struct {
                size_t offset, size;
        } parts[] = {
                { 0, offsetof(Memory, journal) },
                { 0, 64 },
                { offsetof(Memory, n_reactors), 256 },
                { offsetof(Memory, mount), sizeof memory->mount },
                { offsetof(Memory, worker_pid), offsetof(Memory, stats) - offsetof(Memory, worker_pid) },
                { offsetof(Memory, journal), 24 * sizeof(Slot) },
                { offsetof(Memory, opens), 8 * sizeof(OpenRecord) },
                { offsetof(Memory, inodes), 8 * sizeof(InodeRecord) },
        };
        unsigned part = (unsigned) random_below(ELEMENTSOF(parts)), n = 1 + (unsigned) random_below(16);

        for (unsigned i = 0; i < n; i++) {
                size_t at = parts[part].offset + random_below(parts[part].size);
                uint8_t *p = (uint8_t *) memory + at;
                int32_t fuse_fd = memory->fuse_fd[0];

                *p = random_below(2) ? (uint8_t) (*p ^ (1u << random_below(8))) : (uint8_t) random_below(256);
                memory->fuse_fd[0] = fuse_fd; /* the keeper's, set again before each worker: else it would be any file */
        }
        for (unsigned i = 0; i < 24; i++) { /* states and lengths are what a journal is made of */
                Slot *slot = &memory->journal[0].slots[random_below(24)];
                uint32_t *words[] = { &slot->len, (uint32_t *) &slot->buffer, &slot->step, &slot->reply_len, &slot->object.len };

                if (random_below(4) == 0)
                        *words[random_below(ELEMENTSOF(words))] = (uint32_t) random_below(UINT32_MAX);
        }
}

Test(journal, damage_is_survived, .timeout = 170) {
        unsigned refused = 0;

        for (seed = 1000; seed < 1000 + ROUNDS;) {
                uint64_t round = seed;
                int fds[2], memory_fd, status;
                Memory *memory;

                cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
                memory = memory_made(&memory_fd, fds[0]);
                if (round > 1000) /* the first as it is */
                        damage(memory);
                status = serve_in_child(memory_fd);
                cr_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == REFUSED),
                          "round %llu: status %x", (unsigned long long) round, (unsigned) status);
                cr_assert(round > 1000 || WEXITSTATUS(status) == 0, "an undamaged one is served");
                refused += WEXITSTATUS(status) == REFUSED;
                /* what survived is survived again */
                status = serve_in_child(memory_fd);
                cr_assert(WIFEXITED(status), "round %llu, again", (unsigned long long) round);
                (void) munmap(memory, sizeof *memory);
                (void) close(memory_fd);
                (void) close(fds[0]);
                (void) close(fds[1]);
                seed = round + 1;
        }
        cr_assert(refused > 0 && refused < ROUNDS, "%u", refused);
}
