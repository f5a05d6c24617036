/* vfs/cache.c: how long what is believed. Time is what the tests say it is. */
#include <criterion/criterion.h>
#include <sys/mman.h>

#include "src/vfs/volume.h"

#define S NSEC_PER_SEC

static Memory *memory;
static int memory_fd;
static SessionOptions options;
static Vfs *vfs;
static Inode *inode, *dir;
static unsigned n_invalidated;

static VfsInval *inval;

static void invalidate(void *userdata, VfsInval *told) {
        (void) userdata;
        n_invalidated++;
        inval = told;
}

static CallTime at(uint64_t t) {
        return (CallTime){ t, t };
}

static NfsAttr attr_at(mode_t mode, long t, uint64_t size) {
        return (NfsAttr){
                .mode = mode,
                .nlink = 1,
                .fileid = 5,
                .size = size,
                .mtime = { t, 0 },
                .ctime = { t, 0 },
        };
}

static void setup(void) {
        VfsNotify notify = { .inval_pages = invalidate };
        NfsFh fh = { .len = 1, .data = { 1 } };
        NfsAttr attr = attr_at(S_IFREG | 0644, 1, 0);

        options = (SessionOptions){ .acregmin = 3, .acregmax = 60, .acdirmin = 30, .acdirmax = 60 };
        cr_assert_eq(memory_new(&memory, &memory_fd), 0);
        memory->n_reactors = 1;
        memory->mount.root = (NfsFh){ .len = 1, .data = { 9 } };
        memory->mount.root_attr = attr_at(S_IFDIR | 0755, 1, 4096);
        memory->mount.info.rtmax = memory->mount.info.wtmax = 1 << 20;
        cr_assert_eq(vfs_new(memory, &options, &vfs), 0);
        vfs_set_notify(vfs, &notify);
        n_invalidated = 0;
        inode = inode_lookup(vfs, &fh, &attr, 1, "name");
        dir = inode_pin(vfs, 1);
}

static void teardown(void) {
        vfs_free(vfs);
        (void) munmap(memory, sizeof *memory);
        (void) close(memory_fd);
}

TestSuite(cache, .init = setup, .fini = teardown);

static uint64_t left(Inode *i, uint64_t now) {
        uint64_t result;
        NfsAttr attr;

        return cache_attr(i, now, false, &attr, &result) ? result : 0;
}

Test(cache, attributes_are_believed_for_acregmin_then_longer) {
        NfsAttr attr = attr_at(S_IFREG | 0644, 1, 10);
        uint64_t t = 100 * S;

        cache_update(vfs, inode, &attr, at(t));
        cr_assert_eq(left(inode, t), 3 * S);
        cr_assert_eq(left(inode, t + 3 * S), 0);
        static const unsigned doubled[] = { 6, 12, 24, 48, 60, 60 };
        for (unsigned i = 0; i < ELEMENTSOF(doubled); i++) {
                t += 61 * S;
                cache_update(vfs, inode, &attr, at(t));
                cr_assert_eq(left(inode, t), doubled[i] * S, "%u", i);
        }
        attr.size = 11;
        t += 61 * S;
        cache_update(vfs, inode, &attr, at(t));
        cr_assert_eq(left(inode, t), 3 * S, "changed: from the beginning");
}

Test(cache, noac_believes_nothing) {
        NfsAttr attr = attr_at(S_IFREG | 0644, 1, 10);

        options.noac = true;
        cache_update(vfs, inode, &attr, at(100 * S));
        cr_assert_eq(left(inode, 100 * S), 0);
}

Test(cache, a_late_answer_is_dropped) {
        NfsAttr new = attr_at(S_IFREG | 0644, 20, 10), old = attr_at(S_IFREG | 0644, 10, 5), got;
        uint64_t unused;

        cache_update(vfs, inode, &new, at(101 * S));
        cache_update(vfs, inode, &old, at(100 * S)); /* asked before, answered after */
        cr_assert(cache_attr(inode, 101 * S, true, &got, &unused));
        cr_assert_eq(got.size, 10);
        cache_update(vfs, inode, &old, at(102 * S)); /* asked later: the server's clock went back */
        cr_assert(cache_attr(inode, 102 * S, true, &got, &unused));
        cr_assert_eq(got.size, 5);
}

Test(cache, pages_are_kept_while_nothing_changes) {
        NfsAttr attr = attr_at(S_IFREG | 0644, 1, 10);

        cache_update(vfs, inode, &attr, at(100 * S));
        cr_assert_not(cache_keep_pages(inode), "the first open finds nothing to keep");
        cr_assert(cache_keep_pages(inode));
        attr.mtime.tv_nsec = 1;
        cache_update(vfs, inode, &attr, at(101 * S));
        cr_assert_eq(n_invalidated, 0, "it is not open");
        cr_assert_not(cache_keep_pages(inode));
        cr_assert(cache_keep_pages(inode));
        inode->n_open = 1;
        attr.mtime.tv_nsec = 2;
        cache_update(vfs, inode, &attr, at(101 * S));
        cr_assert_eq(n_invalidated, 1);
        cr_assert_not(cache_keep_pages(inode), "they are still there");
        inval->done(inval);
        cr_assert(cache_keep_pages(inode), "the new ones");
        attr.ctime.tv_sec = 2; /* mtime and size put back by somebody: ctime tells */
        cache_update(vfs, inode, &attr, at(102 * S));
        cr_assert_eq(n_invalidated, 2);
        attr.ctime.tv_sec = 3; /* once more, before they are gone: what is read in between is old, too */
        cache_update(vfs, inode, &attr, at(103 * S));
        cr_assert_eq(n_invalidated, 2);
        inval->done(inval);
        cr_assert_eq(n_invalidated, 3);
        cr_assert_not(cache_keep_pages(inode));
        inval->done(inval);
        cr_assert(cache_keep_pages(inode));
}

static NfsWcc wcc(const NfsAttr *before, const NfsAttr *after) {
        return (NfsWcc){
                .has_before = true,
                .has_after = true,
                .before_size = before->size,
                .before_mtime = before->mtime,
                .before_ctime = before->ctime,
                .after = *after,
        };
}

Test(cache, own_writes_keep_own_pages) {
        NfsAttr a = attr_at(S_IFREG | 0644, 1, 10), b = attr_at(S_IFREG | 0644, 2, 20), c = attr_at(S_IFREG | 0644, 3, 30);
        NfsWcc w;

        cache_update(vfs, inode, &a, at(100 * S));
        (void) cache_keep_pages(inode);
        inode->n_writing = 1;
        w = wcc(&a, &b);
        cache_update_wcc(vfs, inode, &w, at(101 * S));
        inode->n_writing = 0;
        cr_assert(cache_keep_pages(inode));
        /* somebody else wrote between: what we write now does not make their data ours */
        inode->n_writing = 1;
        w = wcc(&c, &c);
        w.after.size = 40;
        w.after.ctime.tv_sec = 4;
        cache_update_wcc(vfs, inode, &w, at(102 * S));
        inode->n_writing = 0;
        cr_assert_not(cache_keep_pages(inode));
}

Test(cache, parallel_writes_answered_out_of_order) {
        NfsAttr a = attr_at(S_IFREG | 0644, 1, 10), b = attr_at(S_IFREG | 0644, 2, 20), c = attr_at(S_IFREG | 0644, 3, 30), got;
        uint64_t unused;
        NfsWcc w;

        cache_update(vfs, inode, &a, at(100 * S));
        (void) cache_keep_pages(inode);
        inode->n_writing = 2;
        w = wcc(&b, &c);
        cache_update_wcc(vfs, inode, &w, (CallTime){ 101 * S, 103 * S });
        inode->n_writing = 1;
        w = wcc(&a, &b);
        cache_update_wcc(vfs, inode, &w, (CallTime){ 101 * S + 1, 104 * S });
        inode->n_writing = 0;
        cr_assert(cache_attr(inode, 101 * S, true, &got, &unused));
        cr_assert_eq(got.size, 30);
        cr_assert(cache_keep_pages(inode));
}

/* Two answers whose times overlap, from a server whose clock ticks too slowly to tell which is newer. */
Test(cache, same_ctime_is_not_believed) {
        NfsAttr a = attr_at(S_IFREG | 0644, 1, 10), b = attr_at(S_IFREG | 0644, 1, 20), got;
        uint64_t left;

        cache_update(vfs, inode, &a, (CallTime){ 100 * S, 102 * S });
        cr_assert(cache_attr(inode, 102 * S, false, &got, &left));
        cache_update(vfs, inode, &b, (CallTime){ 101 * S, 103 * S });
        cr_assert_not(cache_attr(inode, 103 * S, false, &got, &left));
        cache_update(vfs, inode, &b, (CallTime){ 104 * S, 105 * S });
        cr_assert(cache_attr(inode, 105 * S, false, &got, &left));
        cr_assert_eq(got.size, 20);
}

/* What comes from a server's duplicate-request cache was true once. */
Test(cache, a_repeated_answer_is_not_believed) {
        NfsAttr a = attr_at(S_IFREG | 0644, 1, 10), got;
        NfsCall call = { .n_sent = 2, .sent_at = 100 * S, .heard_at = 101 * S };
        uint64_t left;

        cache_update(vfs, inode, &a, call_time(&call));
        cr_assert_not(cache_attr(inode, 101 * S, false, &got, &left));
}

Test(cache, names_are_believed_only_where_everybody_may_search) {
        static const struct {
                mode_t mode;
                enum LookupCache lookupcache;
                bool found, believed;
        } cases[] = {
                { 0755, LOOKUP_CACHE_ALL, true, true },      { 0755, LOOKUP_CACHE_ALL, false, true },
                { 0755, LOOKUP_CACHE_POSITIVE, true, true }, { 0755, LOOKUP_CACHE_POSITIVE, false, false },
                { 0755, LOOKUP_CACHE_NONE, true, false },    { 0755, LOOKUP_CACHE_NONE, false, false },
                { 0700, LOOKUP_CACHE_ALL, true, false },     { 0754, LOOKUP_CACHE_ALL, true, false },
                { 0711, LOOKUP_CACHE_ALL, false, true },     { 0705, LOOKUP_CACHE_ALL, true, false },
                { 0675, LOOKUP_CACHE_ALL, true, false },
        };

        for (unsigned i = 0; i < ELEMENTSOF(cases); i++) {
                NfsAttr attr = attr_at(S_IFDIR | cases[i].mode, 100 + i, 4096);
                uint64_t t = (1000 + i) * S, timeout;

                options.lookupcache = cases[i].lookupcache;
                cache_update(vfs, dir, &attr, at(t));
                timeout = cache_entry_timeout(vfs, dir, cases[i].found, t);
                cr_assert_eq(timeout, cases[i].believed ? 30 * S : 0, "case %u", i);
                cr_assert_eq(cache_entry_timeout(vfs, dir, cases[i].found, t + 31 * S), 0, "case %u", i);
        }
}

Test(cache, names_are_not_believed_where_somebody_was_refused) {
        NfsAttr attr = attr_at(S_IFDIR | 0755, 100, 4096);

        cache_update(vfs, dir, &attr, at(1000 * S));
        cr_assert_eq(cache_entry_timeout(vfs, dir, true, 1000 * S), 30 * S);
        cache_search_refused(vfs, dir);
        cr_assert_eq(cache_entry_timeout(vfs, dir, true, 1000 * S), 0);
        attr = attr_at(S_IFDIR | 0755, 101, 4096); /* an entry was made */
        cache_update(vfs, dir, &attr, at(1001 * S));
        cr_assert_eq(cache_entry_timeout(vfs, dir, true, 1001 * S), 0);
        attr = attr_at(S_IFDIR | 0775, 102, 4096); /* chmod(2), or another ACL, whose mask is the group's bits */
        cache_update(vfs, dir, &attr, at(1002 * S));
        cr_assert_eq(cache_entry_timeout(vfs, dir, true, 1002 * S), 30 * S);
}

Test(cache, access_is_per_credential_until_ctime_changes) {
        NfsCred one = { .uid = 1 }, two = { .uid = 1, .n_groups = 1, .groups = { 5 } };
        NfsAttr attr = attr_at(S_IFREG | 0644, 1, 10);
        uint32_t granted = 0;
        uint64_t t = 100 * S;

        cache_update(vfs, inode, &attr, at(t));
        cache_access_store(inode, &one, NFS_ACCESS_ALL, NFS_ACCESS_READ, t);
        cr_assert(cache_access(inode, &one, NFS_ACCESS_READ, t, &granted));
        cr_assert_eq(granted, NFS_ACCESS_READ);
        cr_assert_not(cache_access(inode, &two, NFS_ACCESS_READ, t, &granted));
        cr_assert_not(cache_access(inode, &one, NFS_ACCESS_READ, t + 4 * S, &granted), "older than the attributes");
        cache_access_store(inode, &one, NFS_ACCESS_READ, NFS_ACCESS_READ, t);
        cr_assert_not(cache_access(inode, &one, NFS_ACCESS_MODIFY, t, &granted), "not asked about");
        attr.ctime.tv_sec = 2; /* chmod by somebody */
        cache_update(vfs, inode, &attr, at(t + 1));
        cr_assert_not(cache_access(inode, &one, NFS_ACCESS_READ, t + 1, &granted));
}

Test(cache, more_credentials_than_there_is_room_for) {
        NfsAttr attr = attr_at(S_IFREG | 0644, 1, 10);
        uint32_t granted;

        cache_update(vfs, inode, &attr, at(100 * S));
        for (uid_t uid = 0; uid < 100; uid++) {
                NfsCred cred = { .uid = uid };

                cache_access_store(inode, &cred, NFS_ACCESS_ALL, uid & NFS_ACCESS_ALL, 100 * S);
                cr_assert(cache_access(inode, &cred, NFS_ACCESS_ALL, 100 * S, &granted));
                cr_assert_eq(granted, uid & NFS_ACCESS_ALL);
        }
}
