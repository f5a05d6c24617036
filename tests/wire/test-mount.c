/*
 * nfs_export_mount(): what it finds, and that each failure is told by its name.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "harness.h"
#include "nfs/mount.h"

static FakeNfsConfig server;
static FakeNfs *fake;
static NfsMountConfig config;
static NfsMountResult result;
static char message[512];

static void start(void) {
        fake = fakenfs_start(&server);
        cr_assert(fake);
        config.port = config.mountport = fakenfs_port(fake);
}

static void setup(void) {
        server = (FakeNfsConfig){ .n_files = 10 };
        config = (NfsMountConfig){
                .host = "127.0.0.1",
                .path = "/export",
                .cred = &test_cred,
                .timeout_ms = 3000,
        };
}

static void teardown(void) {
        fake = fakenfs_stop(fake);
}

TestSuite(mount, .init = setup, .fini = teardown, .timeout = 60);

static enum NfsMountError try(void) {
        enum NfsMountError error;

        memset(&result, 0x55, sizeof result);
        message[0] = '\0';
        error = nfs_export_mount(&config, &result, message, sizeof message);
        if (error == NFS_MOUNT_OK)
                return error;
        cr_assert_eq(result.n_addrs, 0x55555555, "the result is untouched");
        cr_assert(message[0] && !strchr(message, '\n'));
        return error;
}

Test(mount, tells_what_the_server_can_do) {
        NfsFh root = test_fh(1);

        start();
        cr_assert_eq(try(), NFS_MOUNT_OK, "%s", message);
        cr_assert(nfs_fh_equal(&result.root, &root));
        cr_assert_str_eq(result.export, "/export");
        cr_assert_eq(result.n_addrs, 1);
        cr_assert_eq(result.port, fakenfs_port(fake));
        cr_assert_eq(result.info.rtmax, 1 << 20);
        cr_assert_eq(result.info.dtpref, 65536);
        cr_assert_eq(result.info.max_file_size, UINT64_C(1) << 60);
        cr_assert(result.info.has_link && result.info.has_symlink && result.info.cansettime);
        cr_assert_eq(result.info.link_max, 1000);
        cr_assert_eq(result.info.name_max, 255);
        cr_assert(result.info.case_preserving && !result.info.case_insensitive);
        cr_assert_eq(result.root_attr.fileid, 1);
}

Test(mount, sizes_are_made_sane) {
        static const struct {
                uint32_t said, want;
        } cases[] = { { 0, 4096 }, { 512, 512 }, { 1 << 20, 1 << 20 }, { 1 << 24, 1 << 20 }, { UINT32_MAX, 1 << 20 } };

        start();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                fakenfs_clear(fake);
                fakenfs_fault(fake, NFS_FSINFO, FAKE_COUNT, cases[i].said, 0, 1);
                cr_assert_eq(try(), NFS_MOUNT_OK);
                cr_assert_eq(result.info.rtmax, cases[i].want);
                cr_assert_eq(result.info.rtpref, cases[i].want);
                cr_assert_eq(result.info.wtmax, cases[i].want);
                cr_assert_eq(result.info.dtpref, cases[i].want);
        }
}

Test(mount, pathconf_is_optional) {
        start();
        fakenfs_fault(fake, NFS_PATHCONF, FAKE_STATUS, 10004, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_OK);
        cr_assert_eq(result.info.name_max, 255);
}

Test(mount, denials) {
        start();
        fakenfs_fault(fake, FAKE_MNT, FAKE_STATUS, 13, 0, 0);
        cr_assert_eq(try(), NFS_MOUNT_DENIED_PORT);
        cr_assert(strstr(message, "resvport"), "%s", message);
        if (geteuid() != 0)
                return;
        config.resvport = true;
        cr_assert_eq(try(), NFS_MOUNT_DENIED);
        cr_assert_null(strstr(message, "1024"), "%s", message);
}

Test(mount, a_server_that_wants_a_reserved_port) {
        server.require_resvport = true;
        start();
        cr_assert_eq(try(), NFS_MOUNT_DENIED_PORT);
        config.resvport = true;
        cr_assert_eq(try(), geteuid() == 0 ? NFS_MOUNT_OK : NFS_MOUNT_DENIED_PORT);
}

Test(mount, no_such_export) {
        static const uint32_t statuses[] = { 2, 20 };

        start();
        for (size_t i = 0; i < ELEMENTSOF(statuses); i++) {
                fakenfs_clear(fake);
                fakenfs_fault(fake, FAKE_MNT, FAKE_STATUS, statuses[i], 0, 0);
                cr_assert_eq(try(), NFS_MOUNT_NO_EXPORT);
                cr_assert(strstr(message, "/export"), "%s", message);
        }
}

Test(mount, a_directory_below_an_export) {
        static const uint32_t refusals[] = { 2, 13, 20 };

        for (size_t i = 0; i < ELEMENTSOF(refusals); i++) {
                server.export = "/a/b";
                server.refuse = refusals[i];
                start();
                config.path = "/a/b/d1/d2/";
                cr_assert_eq(try(), NFS_MOUNT_OK, "%s", message);
                cr_assert_str_eq(result.export, "/a/b");
                cr_assert_eq(result.root_attr.fileid, 1, "the export's");

                config.path = "/a/b/d1/f1"; /* a file */
                cr_assert_neq(try(), NFS_MOUNT_OK);
                cr_assert(strstr(message, "/a/b/d1/f1"), "about what was asked for: %s", message);
                config.path = "/a/b/nothing";
                cr_assert_neq(try(), NFS_MOUNT_OK);
                config.path = "/a/b/../b";
                cr_assert_neq(try(), NFS_MOUNT_OK);
                config.path = "/c";
                cr_assert_neq(try(), NFS_MOUNT_OK);
                fake = fakenfs_stop(fake);
        }
}

Test(mount, the_root_may_be_the_export) {
        server.export = "/";
        start();
        config.path = "/d3";
        cr_assert_eq(try(), NFS_MOUNT_OK);
        cr_assert_str_eq(result.export, "/");
        config.path = "///";
        cr_assert_eq(try(), NFS_MOUNT_OK);
        cr_assert_str_eq(result.export, "/");
}

Test(mount, other_security_only) {
        server.flavor = 390003; /* krb5 */
        start();
        cr_assert_eq(try(), NFS_MOUNT_SECURITY);
}

Test(mount, versions_and_programs) {
        start();
        fakenfs_fault(fake, FAKE_MNT, FAKE_ACCEPT, 2, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_VERSION);
        fakenfs_clear(fake);
        fakenfs_fault(fake, NFS_FSINFO, FAKE_ACCEPT, 2, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_VERSION);
        fakenfs_clear(fake);
        fakenfs_fault(fake, FAKE_MNT, FAKE_ACCEPT, 1, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_NO_PROGRAM);
}

Test(mount, nonsense) {
        start();
        fakenfs_fault(fake, FAKE_MNT, FAKE_GARBAGE, 0, 0, 1);
        (void) try();
        fakenfs_clear(fake);
        fakenfs_fault(fake, FAKE_MNT, FAKE_CLOSE, 0, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_PROTOCOL);
        fakenfs_clear(fake);
        fakenfs_fault(fake, NFS_FSINFO, FAKE_PARTIAL, 40, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_PROTOCOL);
        fakenfs_clear(fake);
        fakenfs_fault(fake, FAKE_MNT, FAKE_ENDLESS, 1000, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_PROTOCOL);
        cr_assert(strstr(message, "longer than any answer"), "%s", message);
        fakenfs_clear(fake);
        fakenfs_fault(fake, NFS_FSINFO, FAKE_ENDLESS, 1 << 20, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_PROTOCOL);
        fakenfs_clear(fake);
        config.timeout_ms = 500;
        fakenfs_fault(fake, FAKE_MNT, FAKE_FLOOD, 1000, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_TIMEOUT, "always more, but not what was asked for");
        config.timeout_ms = 3000;
        fakenfs_clear(fake);
        fakenfs_fault(fake, NFS_GETATTR, FAKE_TYPE, 0, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_PROTOCOL);
        fakenfs_clear(fake);
        fakenfs_fault(fake, NFS_GETATTR, FAKE_TYPE, 1, 0, 1);
        cr_assert_eq(try(), NFS_MOUNT_NO_EXPORT, "a file");
}

Test(mount, nobody_there) {
        start();
        fakenfs_listen(fake, false);
        cr_assert_eq(try(), NFS_MOUNT_REFUSED);
        cr_assert(strstr(message, "refused"), "%s", message);
        config.host = "nosuch.invalid";
        cr_assert_eq(try(), NFS_MOUNT_UNKNOWN_HOST);
        config.host = "not used";
        config.addr = "127.0.0.1";
        fakenfs_listen(fake, true);
        cr_assert_eq(try(), NFS_MOUNT_OK);
        config.addr = "localhost";
        cr_assert_eq(try(), NFS_MOUNT_UNKNOWN_HOST, "addr= is numeric");
}

Test(mount, a_hung_server) {
        uint64_t begin = now_ns();

        start();
        config.timeout_ms = 500;
        fakenfs_pause(fake, true);
        cr_assert_eq(try(), NFS_MOUNT_TIMEOUT);
        cr_assert_lt(now_ns() - begin, 5 * NSEC_PER_SEC);
}

Test(mount, every_address_is_tried) {
        start();
        config.host = "localhost"; /* ::1 first, as a rule, where nobody listens */
        cr_assert_eq(try(), NFS_MOUNT_OK, "%s", message);
        cr_assert_eq(result.addrs[0].addr.ss_family, AF_INET);
        config.family = AF_INET6;
        cr_assert_neq(try(), NFS_MOUNT_OK);
}

Test(mount, mountd_elsewhere) {
        start();
        config.mounthost = "127.0.0.9";
        cr_assert_eq(try(), NFS_MOUNT_REFUSED);
        config.mountaddr = "127.0.0.1";
        cr_assert_eq(try(), NFS_MOUNT_OK);
}

Test(mount, no_portmapper) {
        start();
        config.mountport = 0;
        cr_assert_eq(try(), NFS_MOUNT_NO_PORTMAP);
        cr_assert(strstr(message, "mountport="), "%s", message);
}

/* Needs port 111 of an address of the loopback net. */
Test(mount, the_portmapper_is_asked) {
        FakeNfsConfig portmap = { .address = "127.0.0.7", .port = 111 };
        FakeNfs *mapper;

        server.address = "127.0.0.7";
        start();
        portmap.mountd_port = portmap.nfsd_port = fakenfs_port(fake);
        mapper = fakenfs_start(&portmap);
        if (!mapper)
                cr_skip_test("cannot bind port 111");
        config.host = "127.0.0.7";
        config.port = config.mountport = 0;
        cr_assert_eq(try(), NFS_MOUNT_OK, "%s", message);
        cr_assert_eq(result.port, fakenfs_port(fake));
        cr_assert_eq(result.mountport, fakenfs_port(fake));
        cr_assert_eq(fakenfs_seen(mapper, FAKE_GETPORT), 2);
        fakenfs_fault(mapper, FAKE_GETPORT, FAKE_GARBAGE, 0, 0, 1);
        (void) try();
        mapper = fakenfs_stop(mapper);

        portmap.mountd_port = 1;
        mapper = fakenfs_start(&portmap);
        cr_assert(mapper);
        cr_assert_eq(try(), NFS_MOUNT_NO_PROGRAM);
        mapper = fakenfs_stop(mapper);
}

Test(mount, umount_tells_mountd) {
        start();
        nfs_export_umount(&config, 1000);
        cr_assert_eq(fakenfs_seen(fake, FAKE_UMNT), 1);
        fakenfs_pause(fake, true);
        uint64_t begin = now_ns();
        nfs_export_umount(&config, 200);
        cr_assert_lt(now_ns() - begin, 4 * NSEC_PER_SEC);
}

Test(mount, paths_that_cannot_be) {
        static char path[2000];

        start();
        config.path = "relative";
        cr_assert_neq(try(), NFS_MOUNT_OK);
        memset(path, '/', 1);
        memset(path + 1, 'a', sizeof path - 2);
        config.path = path;
        cr_assert_neq(try(), NFS_MOUNT_OK);
}
