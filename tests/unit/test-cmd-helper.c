/*
 * The mount helper.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "sys/mounts.h"
#include "test-cmd-harness.h"

TestSuite(helper, .init = helper_setup, .fini = helper_teardown, .timeout = 60);

Test(helper, mount_and_share) {
        struct statvfs st;
        Run r;

        r = run("mount.nfs", "host:/x", at("t"), "-o", "ro,nosuid,vers=3,hard,_netdev,,namlen=255");
        expect_success(&r, "first");
        cr_expect_str_empty(r.out);
        cr_expect(is_mounted("t", "/"));
        cr_assert_eq(statvfs(at("t"), &st), 0);
        cr_expect_eq(st.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV), ST_RDONLY | ST_NOSUID | ST_NODEV, "its own flags");

        r = run("mount.fuse.nfs", "host:/x/", at("t/"), "-o", "hard,vers=3");
        expect_success(&r, "already mounted");
        cr_expect_eq(count_mounts(), 2);

        r = run("mount.fuse.nfs", "host:/x", at("t2"), "-o", "vers=3");
        expect_success(&r, "the same volume elsewhere");
        cr_expect_eq(count_starts(), 1, "one daemon");
        cr_assert_eq(statvfs(at("t2"), &st), 0);
        cr_expect_eq(st.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV), ST_NODEV, "its own flags; devices are shut off");

        r = run("nfsvol", "host:/x", at("t3"), "-o", "vers=3,soft");
        expect_success(&r, "other options");
        cr_expect_eq(count_starts(), 2, "another daemon");
        cr_expect_eq(count_mounts(), 5);

        r = run("nfsvol", "mount", "host:/y", at("t"), "-o", "vers=3");
        expect_success(&r, "another source over it");
        cr_expect_eq(count_mounts(), 7);
}

Test(helper, verbose) {
        Run r = run("mount.nfs", "host:/x", at("t"), "-v", "-o", "namlen=255,hard,soft");

        expect_success(&r, "-v");
        cr_expect(strstr(r.out, "namlen: no effect"), "%s", r.out);
        cr_expect(strstr(r.out, "soft overrides hard"), "%s", r.out);
        cr_expect(strstr(r.out, "is ready"), "%s", r.out);
        r = run("mount.nfs", "host:/x", at("t"), "-v", "-o", "soft");
        cr_expect(strstr(r.out, "already mounted on"), "%s", r.out);
}

Test(helper, how_the_daemon_is_started) {
        char text[8192], path[300];
        _cleanup_(mount_table_done) MountTable table = { 0 };
        Run r;

        (void) umask(077);
        (void) signal(SIGUSR1, SIG_IGN);
        (void) setenv("SECRET", "x", 1);
        r = run("mount.nfs", "host:/x", at("t"), "-o", "vers=3,rsize=4096");
        expect_success(&r, "mount");
        cr_assert_eq(mount_table_read(&table), 0);
        for (size_t i = 0; i < table.n_entries; i++)
                if (strncmp(table.entries[i].target, at("run/"), strlen(at("run/"))) == 0)
                        (void) snprintf(path, sizeof path, "%.*s/spawned", (int) strlen(table.entries[i].target) - 4,
                                        table.entries[i].target);
        cr_assert_gt(io_read_file(path, text, sizeof text), 0, "%s", path);
        cr_expect(strstr(text, "\ncwd /\n"), "%s", text);
        cr_expect(strstr(text, "\numask 022\n"), "%s", text);
        cr_expect(strstr(text, "\noptions vers=3,rsize=4096\n"), "%s", text);
        cr_expect(strstr(text, "\nfd 0 /dev/null\nfd 1 /dev/null\nfd 2 /dev/null\nfd 3 socket:"), "%s", text);
        cr_expect(strstr(text, ".lock\n") && strstr(text, "\nfd 4 /"), "%s", text);
        for (const char *p = strstr(text, "\nfd 4 ") + 1; (p = strstr(p, "\nfd "));)
                cr_assert_fail("more descriptors: %s", text);
        cr_expect(strstr(text, "\nenv PATH="), "%s", text);
        cr_expect(strstr(text, "\nenv NFSVOL_RUNDIR="), "%s", text);
        cr_expect_null(strstr(text, "SECRET"), "%s", text);
        cr_expect_eq(atoi(strstr(text, "pid ") + 4), atoi(strstr(text, "sid ") + 4), "a session of its own");
}

Test(helper, what_the_daemon_says) {
        static const struct {
                const char *mode;
                int status;
                const char *text;
        } cases[] = {
                { "error", 32, "mount.nfs: host:/x: access denied by server (try this)\n" },
                { "odd", 77, "mount.nfs: host:/x: odd ?[1m text\n" },
                { "again", 32, "mount.nfs: host:/x: connection refused\n" },
                { "eof", 32, "nfsvold ended with exit code 5" },
                { "crash", 32, "nfsvold was killed by signal 9" },
                { "garbage", 4, "nfsvold said something unknown: what?" },
                { "long", 4, "cannot read what nfsvold says" },
                { "hang", 32, "timed out" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Run r;

                (void) setenv("NFSVOL_FAKE", cases[i].mode, 1);
                (void) setenv("NFSVOL_START_TIMEOUT", strcmp(cases[i].mode, "hang") == 0 ? "1" : "10", 1);
                r = run("mount.nfs", "host:/x", at("t"));
                expect_failure(&r, cases[i].status, cases[i].text, cases[i].mode);
                cr_expect_lt(r.seconds, 5, "%s: %g s", cases[i].mode, r.seconds);
                expect_nothing_left(cases[i].mode);
        }
        cr_expect_eq(count_starts(), ELEMENTSOF(cases));
}

/* "ok" from one whose mount is not to be seen here. */

Test(helper, no_mount) {
        Run r;

        (void) setenv("NFSVOL_FAKE", "nomount", 1);
        r = run("mount.nfs", "host:/x", at("t"));
        expect_failure(&r, 32, "in another mount namespace", "nomount");
        expect_nothing_left("nomount");
}

Test(helper, no_daemon_installed) {
        Run r;

        cr_assert_eq(unlink(at("nfsvold")), 0);
        if (access("/usr/local/sbin/nfsvold", X_OK) == 0 || access("/usr/sbin/nfsvold", X_OK) == 0)
                cr_skip_test("there is an installed one");
        r = run("mount.nfs", "host:/x", at("t"));
        expect_failure(&r, 2, "nfsvold: No such file or directory", "missing");
        expect_nothing_left("missing");
        cr_assert_eq(close(open(at("nfsvold"), O_CREAT | O_WRONLY, 0755)), 0);
        cr_assert_eq(truncate(at("nfsvold"), 0), 0);
        cr_assert_eq(unlink(at("nfsvold")), 0);
        cr_assert_eq(symlink("/dev/null", at("nfsvold")), 0);
        r = run("mount.nfs", "host:/x", at("t"));
        cr_expect_neq(r.status, 0);
        expect_nothing_left("no program");
}

Test(helper, subdirectories) {
        Run r;

        r = run("mount.nfs", "host:/x", at("t"), "-o", "subdir=a/b");
        expect_success(&r, "subdir=");
        cr_expect(is_mounted("t", "/a/b"));
        r = run("mount.nfs", "host:/x", at("t"), "-o", "subdir=/a//b/");
        expect_success(&r, "again");
        cr_expect_eq(count_mounts(), 2);
        r = run("mount.nfs", "host:/x", at("t2"), "-o", "subdir=a/none");
        expect_failure(&r, 32, "cannot mount the directory a/none of host:/x: No such file or directory", "missing");
        cr_expect_eq(count_mounts(), 2);
}

/* The server exports a parent of what is asked for. */

Test(helper, parent_is_exported) {
        Run r;

        (void) setenv("NFSVOL_FAKE_EXPORT", "/x", 1);
        r = run("mount.nfs", "host:/x/a", at("t"));
        expect_success(&r, "parent");
        cr_expect(is_mounted("t", "/a"));
        r = run("mount.nfs", "host:/x/a", at("t"));
        expect_success(&r, "again");
        cr_expect_eq(count_mounts(), 2, "already mounted");
        cr_expect_eq(count_starts(), 2);
        r = run("mount.nfs", "[::1]:/x/a/b", at("t2"), "-o", "subdir=dir");
        expect_success(&r, "and subdir=");
        cr_expect(is_mounted("t2", "/a/b/dir"));
        r = run("mount.nfs", "host:/x/none", at("t3"));
        expect_failure(&r, 32, "cannot mount the directory none of host:/x", "missing");
        r = run("mount.nfs", "host:/xa", at("t3"));
        expect_failure(&r, 4, "nfsvold wants the export /x for /xa", "not a parent");
        (void) setenv("NFSVOL_FAKE_EXPORT", "/", 1);
        r = run("mount.nfs", "root:/a", at("t3"));
        expect_success(&r, "the root is exported");
        cr_expect(is_mounted("t3", "/a"));
}

/* Binding a subdirectory asks the server, which never answers. */

Test(helper, hanging_server) {
        Run r;

        (void) setenv("NFSVOL_FAKE", "mute", 1);
        (void) setenv("NFSVOL_START_TIMEOUT", "3", 1);
        r = run("mount.nfs", "host:/x", at("t"), "-o", "subdir=a");
        expect_failure(&r, 32, "timed out while mounting on", "mute");
        cr_expect_lt(r.seconds, 15);
        cr_expect(!is_mounted("t", NULL));
        (void) setenv("NFSVOL_START_TIMEOUT", "10", 1);
        /* The lock is free again, the root needs no answer, nor does anything of the following. */
        r = run("mount.nfs", "host:/x", at("t"));
        expect_success(&r, "root");
        cr_expect(is_mounted("t", "/"));
        r = run("mount.nfs", "host:/x", at("t"));
        expect_success(&r, "already mounted");
        r = run("nfsvol", "list");
        expect_success(&r, "list");
        r = run("nfsvol", "status", at("t"));
        expect_success(&r, "status");
        r = run("mount.nfs", "host:/x", at("t"), "-o", "remount,ro");
        expect_success(&r, "remount");
        r = run("nfsvol", "umount", at("t"));
        expect_success(&r, "umount");
        cr_expect(!is_mounted("t", NULL));
}

Test(helper, refusals) {
        static const struct {
                const char *args[7];
                int status;
                const char *text;
        } cases[] = {
                { { "mount.nfs" }, 1, "HOST:/PATH and a directory are expected" },
                { { "mount.nfs", "host:/x" }, 1, "HOST:/PATH and a directory are expected" },
                { { "mount.nfs", "host:/x", "@t", "more" }, 1, "too many arguments" },
                { { "mount.nfs", "host:/x", "@t", "-Z" }, 1, "unknown command line option" },
                { { "mount.nfs", "host:/x", "@t", "-o" }, 1, "lacks its value" },
                { { "mount.nfs", "host:/x", "@t", "-N", "1" }, 1, "nsenter" },
                { { "mount.nfs", "hostx", "@t" }, 32, "mount.nfs: hostx: the source has no ':'" },
                { { "mount.nfs", "host:x", "@t" }, 32, "must start with '/'" },
                { { "mount.nfs", "host:/x", "@t", "-o", "vers=4.1" }, 32, "NFS version 4 is not supported yet; use vers=3" },
                { { "mount.nfs", "host:/x", "@t", "-o", "sec=krb5" }, 32, "option sec=krb5 is not supported" },
                { { "mount.nfs", "host:/x", "@t", "-o", "frob=1" }, 32, "unknown option frob" },
                { { "mount.nfs4", "host:/x", "@t" }, 32, "mount.nfs4: host:/x: NFS version 4 is not supported yet" },
                { { "mount.fuse.nfs", "host:/x", "@t", "-t", "nfs4" }, 32, "NFS version 4 is not supported yet" },
                { { "mount.nfs", "[::1]:/x", "@t", "-o", "proto=tcp" }, 32, "proto=tcp6" },
                { { "mount.nfs", "host:/x", "@none" }, 32, "none does not exist" },
                { { "mount.nfs", "host:/x", "@nfsvol" }, 32, "nfsvol is not a directory" },
                { { "mount.nfs", "host:/x", "@t", "-o", "remount,ro" }, 32, "no NFS volume is mounted there" },
                { { "nfsvol", "frob" }, 1, "unknown verb frob" },
                { { "nfsvol", "umount", "@t" }, 32, "no NFS volume is mounted there" },
                { { "nfsvol", "umount", "@none" }, 32, "No such file or directory" },
                { { "nfsvol", "status", "@t" }, 32, "no NFS volume is mounted there" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char *argv[8] = { 0 };
                Run r;

                for (size_t k = 0; k < 7 && cases[i].args[k]; k++)
                        argv[k] = (char *) (uintptr_t) (cases[i].args[k][0] == '@' ? at(cases[i].args[k] + 1) : cases[i].args[k]);
                r = finish(start_argv(argv[0], argv, 0));
                expect_failure(&r, cases[i].status, cases[i].text, cases[i].text);
                expect_nothing_left(cases[i].text);
        }
        cr_expect_eq(access(at("none"), F_OK), -1, "targets are not made");
        cr_expect_eq(count_starts(), 0);
}

Test(helper, accepted_forms) {
        Run r;

        r = run("mount.nfs4", "host:/x", at("t"), "-o", "vers=3");
        expect_success(&r, "mount.nfs4 with vers=3");
        r = run("mount.nfs", "-s", "-n", "host:/y", at("t"), "-o", "frob", "-o", "rw,dev,suid");
        expect_success(&r, "sloppy");
        r = run("nfsvol", "host:/z", at("t2"), "-o", "rw,dev,suid");
        expect_success(&r, "from mount.fuse");
        r = run("nfsvol", "mount", "-r", "nfsvol#host:/z", at("t3"), "-t", "fuse.nfs");
        expect_success(&r, "with the prefix");
        cr_expect_eq(access(at("t3"), W_OK), -1);
        r = run("mount.nfs", "-f", "host:/fake", at("t"));
        expect_success(&r, "fake");
        cr_expect_eq(count_starts(), 3);
        r = run("nfsvol", "help", "options");
        cr_expect(r.status == 0 && strstr(r.out, "acregmin="));
        r = run("mount.nfs", "--help");
        cr_expect(r.status == 0 && strstr(r.out, "Usage:"));
        r = run("mount.nfs", "--version");
        cr_expect(r.status == 0 && lines(r.out) == 1);
        r = run("nfsvol", "version");
        cr_expect(r.status == 0 && lines(r.out) == 1);
}

Test(helper, not_root) {
        char *argv[] = { (char *) (uintptr_t) "mount.nfs", (char *) (uintptr_t) "host:/x", (char *) (uintptr_t) at("t"), NULL };
        Run r = finish(start_argv("mount.nfs", argv, 65534));

        expect_failure(&r, 1, "only root can mount", "nobody");
        char *argv2[] = { (char *) (uintptr_t) "nfsvol", (char *) (uintptr_t) "umount", (char *) (uintptr_t) at("t"), NULL };
        r = finish(start_argv("nfsvol", argv2, 65534));
        expect_failure(&r, 1, "only root can unmount", "nobody");
}

Test(helper, remount) {
        struct statvfs st;
        Run r;

        r = run("mount.nfs", "host:/x", at("t"), "-o", "nosuid");
        expect_success(&r, "mount");
        r = run("mount.nfs", "host:/x", at("t2"));
        expect_success(&r, "another user");
        r = run("mount.nfs", "host:/x", at("t"), "-o", "remount,ro,relatime,user_id=0,group_id=0,allow_other");
        expect_success(&r, "remount");
        cr_assert_eq(statvfs(at("t"), &st), 0);
        cr_expect_eq(st.f_flag & (ST_RDONLY | ST_NOSUID), ST_RDONLY | ST_NOSUID);
        cr_assert_eq(statvfs(at("t2"), &st), 0);
        cr_expect_eq(st.f_flag & (ST_RDONLY | ST_NOSUID), 0);
        r = run("mount.nfs", "host:/x", at("t"), "-v", "-o", "remount,rw,soft");
        expect_success(&r, "back");
        cr_expect(strstr(r.out, "not soft"), "%s", r.out);
        cr_assert_eq(statvfs(at("t"), &st), 0);
        cr_expect_eq(st.f_flag & ST_RDONLY, 0);
        cr_expect_eq(count_mounts(), 3);
}

Test(helper, fifty_at_once, .timeout = 120) {
        enum { N = 50, VOLUMES = 5 };
        Process processes[N];
        char source[32], target[32];

        (void) setenv("NFSVOL_FAKE_DELAY", "50", 1);
        for (int i = 0; i < N; i++) {
                (void) snprintf(source, sizeof source, "host:/x%d", i % VOLUMES);
                (void) snprintf(target, sizeof target, "many%d", i);
                cr_assert_eq(mkdir(at(target), 0755), 0);
                processes[i] = start("mount.nfs", source, at(target), "-o", "vers=3", (char *) NULL);
        }
        for (int i = 0; i < N; i++) {
                Run r = finish(processes[i]);

                expect_success(&r, "one of fifty");
        }
        cr_expect_eq(count_starts(), VOLUMES);
        cr_expect_eq(count_mounts(), N + VOLUMES);
}

/* The same target, by many: one mount. */

Test(helper, many_on_one_target) {
        enum { N = 10 };
        Process processes[N];

        for (int i = 0; i < N; i++)
                processes[i] = start("mount.nfs", "host:/x", at("t"), (char *) NULL);
        for (int i = 0; i < N; i++) {
                Run r = finish(processes[i]);

                expect_success(&r, "one of ten");
        }
        cr_expect_eq(count_starts(), 1);
        cr_expect_eq(count_mounts(), 2, "%zu", count_mounts());
}

Test(helper, target_goes_away) {
        Process p;
        Run r;

        (void) setenv("NFSVOL_FAKE_DELAY", "2000", 1);
        p = start("mount.nfs", "host:/x", at("t"), (char *) NULL);
        for (int i = 0; i < 500 && count_starts() == 0; i++)
                (void) usleep(10000);
        cr_assert_eq(rmdir(at("t")), 0);
        r = finish(p);
        expect_failure(&r, 32, "went away", "removed");
        cr_expect_eq(access(at("t"), F_OK), -1);
}

Test(helper, interrupted) {
        static const int signals[] = { SIGTERM, SIGINT };

        (void) setenv("NFSVOL_FAKE", "hang", 1);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
                size_t starts = count_starts();
                Process p = start("mount.nfs", "host:/x", at("t"), (char *) NULL);
                Run r;

                for (int k = 0; k < 500 && count_starts() == starts; k++)
                        (void) usleep(10000);
                cr_assert_eq(kill(p.pid, signals[i]), 0);
                r = finish(p);
                expect_failure(&r, 8, "interrupted", "signal");
                cr_expect_lt(r.seconds, 5);
                expect_nothing_left("signal");
        }
}

Test(helper, retry) {
        Run r;

        (void) setenv("NFSVOL_FAKE", "again", 1);
        (void) setenv("NFSVOL_FAKE_TIMES", "1", 1);
        r = run("mount.nfs", "host:/x", at("t"), "-o", "retry=1");
        expect_success(&r, "retry");
        cr_expect(is_mounted("t", NULL));
        cr_expect_eq(count_starts(), 2);
        /* What waiting does not mend is not waited for. */
        (void) setenv("NFSVOL_FAKE", "error", 1);
        r = run("mount.nfs", "host:/y", at("t2"), "-o", "retry=1");
        expect_failure(&r, 32, "access denied", "permanent");
        cr_expect_lt(r.seconds, 4);
}

Test(helper, background) {
        Run r;

        (void) setenv("NFSVOL_FAKE", "again", 1);
        (void) setenv("NFSVOL_FAKE_TIMES", "3", 1); /* so it is mounted after seven seconds */
        r = run("mount.nfs", "host:/x", at("t"), "-o", "bg");
        cr_expect_eq(r.status, 0);
        cr_expect(strstr(r.err, "connection refused; trying again in the background"), "%s", r.err);
        cr_expect_lt(r.seconds, 6, "its output ends with the parent");
        cr_expect(!is_mounted("t", NULL));
        for (int i = 0; i < 2000 && !is_mounted("t", NULL); i++)
                (void) usleep(10000);
        cr_expect(is_mounted("t", NULL));
        cr_expect_eq(count_starts(), 4);
        /* A permanent failure is one, with bg too. */
        (void) setenv("NFSVOL_FAKE", "error", 1);
        r = run("mount.nfs", "host:/y", at("t2"), "-o", "bg");
        expect_failure(&r, 32, "access denied", "permanent");
}
