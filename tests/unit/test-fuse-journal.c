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

#define ROUNDS     400
#define REFUSED    2
#define WRONG      3
#define SLOTS_USED 24

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

/* Each slot that is in use is a request, and each buffer that is taken has one in it, whatever the damage was. */
static bool journal_is_consistent(FuseVolume *volume, Memory *memory) {
        VerifyReport *report = &memory->verify;

        fuse_volume_verify(volume);
        for (uint32_t i = 0; i < MIN(report->n_faults, VERIFY_FAULTS_MAX); i++)
                if (report->faults[i].rule >= VERIFY_SLOT_STATE)
                        return false;
        return true;
}

/* Attaches, recovers, and turns a few times. An exit code. */
static int serve(int memory_fd) {
        Reactor *reactors[REACTORS_MAX];
        MountOptions options;
        char *why = NULL;
        VfsReactor *vr[REACTORS_MAX];
        FuseVolume *volume;
        FuseChannel *channel;
        Memory *memory;
        Vfs *vfs;

        if (memory_attach(memory_fd, &memory) < 0)
                return REFUSED;
        mount_options_init(&options);
        if (mount_options_parse(&options, memory->options, &why) < 0 || vfs_new(memory, &options.session, &vfs) < 0 ||
            fuse_volume_new(memory, vfs, finished, NULL, &volume) < 0)
                return REFUSED;
        for (unsigned i = 0; i < memory->n_reactors; i++)
                if (reactor_new(&reactors[i]) < 0 || vfs_reactor_new(vfs, i, reactors[i], &vr[i]) < 0 ||
                    fuse_channel_new(volume, i, reactors[i], vr[i], &channel) < 0)
                        return REFUSED;
        fuse_volume_recover(volume);
        vfs_recovered(vr[0]);
        for (int i = 0; i < 5; i++)
                for (unsigned k = 0; k < memory->n_reactors; k++)
                        if (reactor_turn(reactors[k], now_ns() + NSEC_PER_MSEC) < 0)
                                return REFUSED;
        return journal_is_consistent(volume, memory) ? 0 : WRONG;
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
        *header = (struct fuse_in_header){ .len = (uint32_t) (sizeof *header + 60 +
                                                              random_below(sizeof(struct fuse_setattr_in) - 60)),
                                           .opcode = opcodes[random_below(ELEMENTSOF(opcodes))],
                                           .unique = 2 * i + 2,
                                           .nodeid = random_below(8) };
        for (uint32_t k = 40; k < header->len - 4; k++)
                slot->request[k] = (uint8_t) (random_below(3) ? 'a' + random_below(26) : 0);
        slot->buffer = -1;
        slot->len = header->len;
        slot->unique = header->unique;
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
        for (unsigned i = 0; i < SLOTS_USED; i++)
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
                { offsetof(Memory, journal), SLOTS_USED * sizeof(Slot) },
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
        for (unsigned i = 0; i < SLOTS_USED; i++) { /* states and lengths are what a journal is made of */
                Slot *slot = &memory->journal[0].slots[random_below(SLOTS_USED)];
                uint32_t *words[] = { &slot->len, (uint32_t *) &slot->buffer, &slot->step, &slot->reply_len, &slot->object.len };

                if (random_below(4) == 0)
                        *words[random_below(ELEMENTSOF(words))] = (uint32_t) random_below(UINT32_MAX);
        }
}

/* ---- what a worker leaves ---- */

typedef struct Left {
        Memory *memory;
        int memory_fd, fds[2]; /* fds[1]: the kernel's end */
} Left;

static Left left_made(void) {
        Left left;

        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, left.fds), 0);
        left.memory = memory_made(&left.memory_fd, left.fds[0]);
        return left;
}

static void left_done(Left *left) {
        (void) munmap(left->memory, sizeof *left->memory);
        (void) close(left->memory_fd);
        (void) close(left->fds[0]);
        (void) close(left->fds[1]);
}

/* A whole request that waits for the server, alone in its slot. */
static Slot *left_lookup(Left *left, unsigned i) {
        Slot *slot = &left->memory->journal[0].slots[i];
        struct fuse_in_header *header = (void *) slot->request;

        *header = (struct fuse_in_header){ .len = sizeof *header + 2, .opcode = FUSE_LOOKUP, .unique = 2 * i + 2, .nodeid = 1 };
        memcpy(header + 1, "x", 2);
        slot->len = header->len;
        slot->seal = memory_seal(slot->len, header, slot->len);
        slot->recovered = slot->n_faults = 0;
        slot->reply_len = 0;
        atomic_store(&slot->state, SLOT_QUEUED);
        return slot;
}

/* Only what is made after this. */
static void left_clear(Left *left) {
        for (unsigned i = 0; i < SLOTS_USED; i++) {
                Slot *slot = &left->memory->journal[0].slots[i];

                atomic_store(&slot->state, SLOT_FREE);
                slot->unique = 0;
                ((struct fuse_in_header *) (void *) slot->request)->unique = 0;
        }
}

/* The same in a buffer, as read(2) leaves it. */
static void move_to_buffer(Left *left, Slot *slot, int32_t buffer) {
        memcpy(buffer_request(&left->memory->journal[0].buffers[buffer]), slot->request, slot->len);
        slot->buffer = buffer;
}

/* ---- what the kernel is told ---- */

typedef struct Answers {
        unsigned n[SLOTS_USED]; /* the kernel takes no second one, but it may be the wrong one */
        int err[SLOTS_USED];    /* of the last */
} Answers;

static Answers answers_of(Left *left) {
        Answers answers = { 0 };
        uint8_t message[4096];
        struct fuse_out_header *out = (void *) message;

        while (read(left->fds[1], message, sizeof message) >= (ssize_t) sizeof *out)
                if (out->unique >= 2 && out->unique < 2 * SLOTS_USED + 2 && out->unique % 2 == 0) {
                        answers.n[out->unique / 2 - 1]++;
                        answers.err[out->unique / 2 - 1] = -out->error;
                }
        return answers;
}

static Answers served(Left *left) {
        int status = serve_in_child(left->memory_fd);

        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned) status);
        return answers_of(left);
}

/* ---- recovery ---- */

Test(journal, what_is_whole_is_recovered) {
        Left left = left_made();
        uint32_t was[SLOTS_USED];
        uint64_t n = 0;
        Answers answers;

        for (unsigned i = 0; i < SLOTS_USED; i++)
                was[i] = atomic_load(&left.memory->journal[0].slots[i].state);
        answers = served(&left);
        for (unsigned i = 0; i < SLOTS_USED; i++) {
                n += was[i] >= SLOT_QUEUED;
                cr_assert_leq(answers.n[i], 1u, "request %u: %u answers", i, answers.n[i]);
                cr_assert(was[i] != SLOT_DONE || answers.n[i] == 1, "request %u had its answer", i);
        }
        for (int state = SLOT_QUEUED; state <= SLOT_DONE; state++)
                n -= atomic_load(&left.memory->stats[0].recovered[state]);
        cr_assert_eq(n, 0, "%d were not recovered", (int) n);
        left_done(&left);
}

Test(journal, a_number_that_is_anothers) {
        Left left = left_made();
        Answers answers;

        left_clear(&left);
        (void) left_lookup(&left, 0);
        left_lookup(&left, 1)->unique = left_lookup(&left, 2)->unique = 6; /* request 2's */
        atomic_store(&left.memory->journal[0].slots[1].state, 99);
        answers = served(&left);
        cr_assert_eq(answers.n[0], 0, "it waits for the server");
        cr_assert(answers.n[1] == 1 && answers.err[1] == EIO, "by the number in its words");
        cr_assert_eq(answers.n[2], 0, "it waits, too");
        left_done(&left);
}

Test(journal, a_request_that_was_just_read) {
        Left left = left_made();
        Answers answers;
        Slot *slot;

        left_clear(&left);
        slot = left_lookup(&left, 0);
        move_to_buffer(&left, slot, 3);
        atomic_store(&slot->state, SLOT_READING);
        answers = served(&left);
        cr_assert_eq(answers.n[0], 0, "it waits for the server");
        cr_assert_eq(atomic_load(&left.memory->stats[0].recovered[SLOT_READING]), 1);
        cr_assert_eq(atomic_load(&slot->state), SLOT_QUEUED);
        left_done(&left);
}

Test(journal, a_buffer_that_is_anothers) {
        Left left = left_made();
        Slot *reading, *queued;
        Answers answers;

        left_clear(&left);
        reading = left_lookup(&left, 0);
        queued = left_lookup(&left, 1);
        queued->unique = 4;
        move_to_buffer(&left, queued, 3);
        reading->buffer = 3;
        atomic_store(&reading->state, SLOT_READING);
        answers = served(&left);
        cr_assert_eq(answers.n[1], 0, "it waits for the server");
        cr_assert_eq(atomic_load(&queued->state), SLOT_QUEUED);
        cr_assert_eq(atomic_load(&left.memory->stats[0].recovered[SLOT_READING]), 0, "it is not executed twice");
        left_done(&left);
}

Test(journal, damage_is_survived, .timeout = 170) {
        unsigned refused = 0;

        for (seed = 1000; seed < 1000 + ROUNDS;) {
                uint64_t round = seed;
                Left left = left_made();
                int status;

                damage(left.memory);
                status = serve_in_child(left.memory_fd);
                cr_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == REFUSED),
                          "round %llu: status %x", (unsigned long long) round, (unsigned) status);
                refused += WEXITSTATUS(status) == REFUSED;
                (void) answers_of(&left); /* room for others */
                /* what survived is survived again */
                status = serve_in_child(left.memory_fd);
                cr_assert(WIFEXITED(status) && WEXITSTATUS(status) != WRONG, "round %llu, again", (unsigned long long) round);
                left_done(&left);
                seed = round + 1;
        }
        cr_assert(refused > 0 && refused < ROUNDS, "%u", refused);
}
