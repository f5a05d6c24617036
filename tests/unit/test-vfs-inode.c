/* vfs/inode.c, vfs/open.c, vfs/memory.c: the tables that outlive a worker. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "src/vfs/volume.h"

static Memory *memory;
static int memory_fd;
static SessionOptions options = { .acregmin = 3, .acregmax = 60, .acdirmin = 30, .acdirmax = 60 };
static Vfs *vfs;

static NfsFh handle(uint32_t n) {
        NfsFh fh = { .len = 8 };

        memcpy(fh.data, "file", 4);
        memcpy(fh.data + 4, &n, 4);
        return fh;
}

static NfsAttr file_attr(uint64_t fileid) {
        return (NfsAttr){ .mode = S_IFREG | 0644, .nlink = 1, .fileid = fileid };
}

static void load(void) {
        cr_assert_eq(vfs_new(memory, &options, &vfs), 0);
}

static void setup(void) {
        cr_assert_eq(memory_new(&memory, &memory_fd), 0);
        memory->n_reactors = 1;
        memory->mount.root = handle(0);
        memory->mount.root_attr = (NfsAttr){ .mode = S_IFDIR | 0755, .nlink = 2, .fileid = 1 };
        memory->mount.info.rtmax = memory->mount.info.wtmax = 1 << 20;
        load();
}

static void teardown(void) {
        vfs_free(vfs);
        (void) munmap(memory, sizeof *memory);
        (void) close(memory_fd);
}

TestSuite(inode, .init = setup, .fini = teardown);

/* As a worker that is killed and its successor. */
static void crash(void) {
        Memory *again;

        vfs_free(vfs);
        (void) munmap(memory, sizeof *memory);
        cr_assert_eq(memory_attach(memory_fd, &again), 0);
        memory = again;
        load();
}

static Inode *look(uint32_t n) {
        NfsFh fh = handle(n);
        NfsAttr attr = file_attr(n);

        return inode_lookup(vfs, &fh, &attr, 1, "name");
}

Test(inode, the_root_is_node_1) {
        Inode *root = inode_pin(vfs, 1);

        cr_assert_not_null(root);
        cr_assert_eq(root->nodeid, 1);
        inode_unpin(vfs, root);
        inode_forget(vfs, 1, 1000); /* the root is never forgotten */
        cr_assert_not_null(inode_pin(vfs, 1));
}

static void replace(Inode *inode, uint32_t n) {
        NfsFh fh = handle(n);

        cr_assert_eq(inode_replace_fh(vfs, inode, inode_fh(inode), &fh), 0);
}

Test(inode, a_handle_that_is_replaced) {
        Inode *a = look(1), *b = look(2);
        const NfsFh *first = inode_fh(a);
        uint64_t nodeid = a->nodeid;
        NfsFh third = handle(3), fourth = handle(4);

        replace(a, 3);
        cr_assert(nfs_fh_equal(inode_fh(a), &third));
        cr_assert(inode_had_fh(vfs, a, first));
        cr_assert(inode_had_fh(vfs, a, inode_fh(a)));
        cr_assert_not(inode_had_fh(vfs, a, inode_fh(b)));
        cr_assert_eq(look(3), a);
        cr_assert_neq(look(1), a, "that is somebody else's by now");
        cr_assert_eq(inode_replace_fh(vfs, a, first, &fourth), 0);
        cr_assert(nfs_fh_equal(inode_fh(a), &third), "somebody was faster");
        replace(a, 4);
        cr_assert(inode_had_fh(vfs, a, first));

        crash();
        a = inode_pin(vfs, nodeid);
        cr_assert(nfs_fh_equal(inode_fh(a), &fourth));
        cr_assert_eq(look(4), a);
}

Test(inode, of_replaced_handles_no_more_are_kept_than_needed) {
        Inode *a = look(1);
        unsigned used = 0;

        for (uint32_t i = 0; i < 100; i++)
                replace(a, 100 + i);
        inode_forget(vfs, a->nodeid, 1);
        for (uint32_t h = 1; h < memory->handles_high; h++)
                used += memory->handles[h].used;
        cr_assert_eq(used, 0);

        a = look(1);
        replace(a, 2);
        replace(a, 3);
        crash(); /* calls may have pointed to the first, and do no more */
        for (uint32_t h = 1; h < memory->handles_high; h++)
                used += memory->handles[h].used;
        cr_assert_eq(used, 1);
}

/* The handle that it had at first is stale, too, but it is no other file's. */
Test(inode, a_damaged_replacement) {
        Inode *a = look(1);
        uint64_t nodeid = a->nodeid;
        NfsFh first = handle(1);

        replace(a, 2);
        memory->handles[a->record->handle].fh.data[0] ^= 1;
        crash();
        a = inode_pin(vfs, nodeid);
        cr_assert(nfs_fh_equal(inode_fh(a), &first));
        memory->inodes[(uint32_t) nodeid].handle = 0xffffffff;
        crash();
        cr_assert(nfs_fh_equal(inode_fh(inode_pin(vfs, nodeid)), &first));
}

Test(inode, one_handle_one_node) {
        Inode *a = look(1), *b = look(1), *c = look(2);

        cr_assert_eq(a, b);
        cr_assert_neq(a->nodeid, c->nodeid);
        cr_assert_eq(a->record->n_lookup, 2);
}

Test(inode, forgotten_ids_name_nothing) {
        uint64_t old = look(1)->nodeid, new;

        inode_forget(vfs, old, 1);
        cr_assert_null(inode_pin(vfs, old));
        new = look(2)->nodeid;
        cr_assert_eq((uint32_t) new, (uint32_t) old, "the index is used again");
        cr_assert_neq(new, old);
        cr_assert_null(inode_pin(vfs, old));
        cr_assert_not_null(inode_pin(vfs, new));
}

Test(inode, ids_that_never_were) {
        static const uint64_t ids[] = { 0, 2, 1 | UINT64_C(1) << 32, UINT32_MAX, UINT64_MAX, INODES_MAX };

        for (unsigned i = 0; i < ELEMENTSOF(ids); i++)
                cr_assert_null(inode_pin(vfs, ids[i]), "%llu", (unsigned long long) ids[i]);
        inode_forget(vfs, UINT64_MAX, 1);
}

Test(inode, a_pin_outlives_a_forget) {
        Inode *inode = look(1);
        uint64_t nodeid = inode->nodeid;

        cr_assert_eq(inode_pin(vfs, nodeid), inode);
        inode_forget(vfs, nodeid, 99);
        cr_assert_eq(inode->record->used, 1);
        inode_unpin(vfs, inode);
        cr_assert_null(inode_pin(vfs, nodeid));
}

Test(inode, a_successor_knows_the_same) {
        uint64_t ids[1000];
        NfsFh fh = handle(500);
        Inode *inode;

        for (uint32_t i = 0; i < 1000; i++)
                ids[i] = look(i + 1)->nodeid;
        for (uint32_t i = 0; i < 1000; i += 3)
                inode_forget(vfs, ids[i], 1);
        crash();
        for (uint32_t i = 0; i < 1000; i++) {
                inode = inode_pin(vfs, ids[i]);
                cr_assert_eq(inode == NULL, i % 3 == 0, "%u", i);
                if (inode)
                        inode_unpin(vfs, inode);
        }
        cr_assert_eq(look(500)->nodeid, ids[499]);
        cr_assert(nfs_fh_equal(inode_fh(look(500)), &fh));
        /* what was freed is used again, with another generation */
        cr_assert_neq(look(5000)->nodeid, ids[0]);
}

static uint64_t blocks(void) {
        struct stat st;

        cr_assert_eq(fstat(memory_fd, &st), 0);
        return (uint64_t) st.st_blocks;
}

/* A walk over many files: what it took goes back when they are forgotten, and no node id ever comes again. */
Test(inode, memory_goes_back) {
        enum { N = 100000 };
        uint64_t *ids = calloc(N, sizeof *ids), before = blocks();

        for (uint32_t i = 0; i < N; i++)
                ids[i] = look(i + 1)->nodeid;
        cr_assert_gt(blocks(), before + N / 8);
        for (uint32_t i = 0; i < N; i++)
                if (i != 50000)
                        inode_forget(vfs, ids[i], 1);
        cr_assert_lt(blocks(), before + N / 8);
        cr_assert_eq(memory->n_inodes, 2);
        cr_assert_gt(memory->inodes_high, 50000, "one of them is in use");
        crash();
        cr_assert_lt(blocks(), before + N / 8, "a successor looks at all of it");
        cr_assert_eq(memory->n_inodes, 2);
        cr_assert_eq(look(50001)->nodeid, ids[50000]);
        for (uint32_t i = 0; i < N; i++) {
                Inode *inode = look(N + i);

                cr_assert_neq(inode, NULL);
                cr_assert_neq(inode->nodeid, ids[i]);
                cr_assert_eq(inode_pin(vfs, ids[i]) == NULL, i != 50000);
        }
        free(ids);
}

Test(inode, a_memory_that_contradicts_itself_is_refused) {
        vfs_free(vfs);
        memory->inodes_high = INODES_MAX + 1;
        cr_assert_eq(vfs_new(memory, &options, &vfs), -EPROTO);
        memory->inodes_high = 3;
        memory->opens_high = OPENS_MAX + 1;
        cr_assert_eq(vfs_new(memory, &options, &vfs), -EPROTO);
        memory->opens_high = 0;
        load();
}

/* Each byte of what says which file an inode is, and of what an open is: the one that it is in is lost, no other. */
Test(inode, damaged_records_are_dropped) {
        static const struct {
                size_t offset, size;
        } inode_parts[] = {
                { offsetof(InodeRecord, used), 4 },   { offsetof(InodeRecord, generation), 4 },
                { offsetof(InodeRecord, fileid), 8 }, { offsetof(InodeRecord, type), 4 },
                { offsetof(InodeRecord, fh), 12 },    { offsetof(InodeRecord, seal), 4 },
        };
        uint64_t ids[4];
        NfsFh fh = handle(3);

        for (uint32_t n = 1; n <= 3; n++)
                ids[n] = look(n)->nodeid;
        for (unsigned i = 0; i < ELEMENTSOF(inode_parts); i++)
                for (size_t byte = 0; byte < inode_parts[i].size; byte++) {
                        InodeRecord *record = &memory->inodes[(uint32_t) ids[2]], saved = *record;
                        Inode *inode;

                        ((uint8_t *) record)[inode_parts[i].offset + byte] ^= 0x10;
                        crash();
                        cr_assert_null(inode_pin(vfs, ids[2]), "part %u, byte %zu", i, byte);
                        inode = inode_pin(vfs, ids[3]);
                        cr_assert(inode && nfs_fh_equal(inode_fh(inode), &fh));
                        cr_assert_neq((uint32_t) look(100)->nodeid, (uint32_t) ids[2], "its index is not used again");
                        record = &memory->inodes[(uint32_t) ids[2]];
                        *record = saved;
                        crash();
                        cr_assert_not_null(inode_pin(vfs, ids[2]));
                }
}

Test(inode, a_damaged_root_is_made_again) {
        for (size_t byte = 0; byte < sizeof(InodeRecord); byte++) {
                Inode *root;

                ((uint8_t *) &memory->inodes[1])[byte] ^= 0xff;
                crash();
                root = inode_pin(vfs, 1);
                cr_assert_not_null(root);
                cr_assert(nfs_fh_equal(inode_fh(root), &memory->mount.root));
                memory->inodes[1].silly_dir = 0;
        }
}

Test(inode, another_layout_is_refused) {
        Memory *again;

        memory->version++;
        cr_assert_eq(memory_attach(memory_fd, &again), -EPROTO);
        memory->version--;
        memory->size_check ^= 1;
        cr_assert_eq(memory_attach(memory_fd, &again), -EPROTO);
        memory->size_check ^= 1;
        memory->n_reactors = REACTORS_MAX + 1;
        cr_assert_eq(memory_attach(memory_fd, &again), -EPROTO);
        memory->n_reactors = 1;
}

Test(inode, damaged_opens_are_dropped) {
        VfsReactor vr = { .vfs = vfs };
        Op op = { .reactor = &vr, .unique = 1, .cred = { .uid = 7, .gid = 8, .n_groups = 1, .groups = { 9 } } };
        Inode *inode = look(1);
        uint64_t nodeid = inode->nodeid, fh;
        Open *open;

        look(2); /* what a damaged node id could name */
        cr_assert_eq(open_add(&op, inode, O_RDWR, &open, &fh), 0);
        for (size_t byte = 0; byte < sizeof(OpenRecord); byte++) {
                OpenRecord saved = memory->opens[0];

                ((uint8_t *) &memory->opens[0])[byte] ^= 0x01;
                crash();
                cr_assert(!open_get(vfs, fh, nodeid) || memcmp(&saved, &memory->opens[0], sizeof saved) != 0);
                open = open_get(vfs, fh, nodeid);
                if (open) /* padding */
                        cr_assert(open->record->nodeid == nodeid && open->record->cred.uid == 7 &&
                                  open->record->flags == O_RDWR && open->record->cred.groups[0] == 9);
                cr_assert_null(open_get(vfs, fh, nodeid ^ 1));
                memory->opens[0] = saved;
                crash();
                cr_assert_not_null(open_get(vfs, fh, nodeid));
        }
}

Test(inode, opens_survive) {
        VfsReactor vr = { .vfs = vfs };
        Op op = { .reactor = &vr, .unique = 1, .cred = { .uid = 7, .gid = 8, .n_groups = 1, .groups = { 9 } } };
        Inode *inode = look(1);
        uint64_t nodeid = inode->nodeid, fh, stale;
        Open *open, *again;

        cr_assert_eq(open_add(&op, inode, 2, &open, &stale), 0);
        open_remove(vfs, open);
        cr_assert_eq(open_add(&op, inode, O_CLOEXEC, &open, &fh), 0);
        cr_assert_neq(fh, stale);
        inode_forget(vfs, nodeid, 1);
        crash();
        cr_assert_null(open_get(vfs, stale, nodeid));
        cr_assert_null(open_get(vfs, fh, nodeid + 1));
        cr_assert_null(open_get(vfs, fh + 1, nodeid));
        open = open_get(vfs, fh, nodeid);
        cr_assert_not_null(open);
        cr_assert_eq(open->record->cred.uid, 7);
        cr_assert_eq(open->record->flags, O_CLOEXEC);
        /* the request that made it is executed again: the same open, not a second one */
        vr.vfs = vfs;
        op.recovered = true;
        cr_assert_eq(open_add(&op, open->inode, O_CLOEXEC, &again, &stale), 0);
        cr_assert_eq(again, open);
        cr_assert_eq(stale, fh);
        open_remove(vfs, open);
        cr_assert_null(inode_pin(vfs, nodeid), "forgotten before, closed now: gone");
}
