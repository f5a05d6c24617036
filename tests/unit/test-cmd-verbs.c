/*
 * umount, list and status; and what they and the helper make of daemons that died or say nothing.
 */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>

#include "base/util.h"
#include "test-cmd-harness.h"

TestSuite(verbs, .init = helper_setup, .fini = helper_teardown, .timeout = 60);

Test(verbs, umount) {
        int fd;
        Run r;

        r = run("mount.nfs", "host:/x", at("t"));
        expect_success(&r, "one");
        r = run("mount.nfs", "host:/x", at("t2"));
        expect_success(&r, "two");
        fd = open(at("t"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        r = run("umount.fuse.nfs", at("t"));
        expect_failure(&r, 32, "it is busy", "busy");
        cr_expect(is_mounted("t", NULL));
        /* -f must not abort the connection of the others. */
        r = run("umount.fuse.nfs", at("t"), "-f", "-t", "fuse.nfs");
        expect_success(&r, "-f");
        cr_expect(!is_mounted("t", NULL));
        cr_expect_eq(access(at("t2/a"), F_OK), 0, "the other one lives: %s", strerror(errno));
        cr_expect_eq(faccessat(fd, "a", F_OK, 0), 0, "and so does the open one");
        (void) close(fd);
        cr_assert_eq(symlink("t2", at("link")), 0);
        r = run("nfsvol", "umount", "-v", at("link"));
        expect_success(&r, "through a link");
        cr_expect(strstr(r.out, "unmounted"), "%s", r.out);
        cr_expect(!is_mounted("t2", NULL));
        r = run("mount.nfs", "host:/x", at("t"));
        expect_success(&r, "three");
        cr_assert_eq(chdir(at("t")), 0);
        r = run("nfsvol", "umount", ".");
        expect_failure(&r, 32, "it is busy", "cwd");
        r = run("nfsvol", "umount", "-l", ".");
        expect_success(&r, "-l");
        cr_assert_eq(chdir("/"), 0);
        cr_expect(!is_mounted("t", NULL));
}

static pid_t daemon_pid(void) {
        Run r = run("nfsvol", "list", "--json");
        json_t *list = json_loads(r.out, 0, NULL);
        pid_t pid = (pid_t) json_integer_value(json_object_get(json_array_get(list, 0), "pid"));

        json_decref(list);
        return pid;
}

Test(verbs, dead_daemon) {
        pid_t pid;
        Run r;

        r = run("mount.nfs", "host:/x", at("t"));
        expect_success(&r, "mount");
        r = run("mount.nfs", "host:/x", at("t2"));
        expect_success(&r, "mount");
        pid = daemon_pid();
        cr_assert_gt(pid, 1);
        cr_assert_eq(kill(pid, SIGKILL), 0);
        for (int i = 0; i < 500 && (access(at("t/a"), F_OK) == 0 || errno != ENOTCONN); i++)
                (void) usleep(10000);
        cr_assert_eq(access(at("t/a"), F_OK), -1);
        cr_assert_eq(errno, ENOTCONN);
        r = run("nfsvol", "list");
        cr_expect(strstr(r.out, "dead"), "%s", r.out);
        /* "Already mounted" would be a lie. */
        r = run("mount.nfs", "host:/x", at("t"));
        expect_success(&r, "again");
        cr_expect_eq(access(at("t/a"), F_OK), 0, "%s", strerror(errno));
        cr_expect_eq(count_starts(), 2);
        cr_expect_eq(count_mounts(), 3);
        r = run("nfsvol", "list");
        cr_expect(strstr(r.out, "without a daemon"), "the other user's old mount: %s", r.out);
        r = run("nfsvol", "umount", at("t2"));
        expect_success(&r, "umount of a dead one");
}

Test(verbs, list_and_status) {
        json_t *json, *first;
        Run r;

        r = run("nfsvol", "list");
        expect_success(&r, "empty");
        cr_expect_str_empty(r.out);
        r = run("nfsvol", "list", "--json");
        cr_expect_str_eq(r.out, "[]\n");
        r = run("mount.nfs", "host:/x", at("t"), "-o", "vers=3");
        r = run("mount.nfs", "host:/x", at("t2"), "-o", "vers=3,subdir=a");
        r = run("mount.nfs", "host:/y", at("t3"));

        r = run("nfsvol", "list");
        expect_success(&r, "list");
        cr_expect_eq(lines(r.out), 3, "%s", r.out);
        r = run("nfsvol", "list", "--json");
        json = json_loads(r.out, 0, NULL);
        cr_assert_eq(json_array_size(json), 2);
        first = json_array_get(json, 0);
        cr_expect_str_eq(json_string_value(json_object_get(first, "source")), "host:/x");
        cr_expect_str_eq(json_string_value(json_object_get(first, "state")), "serving");
        cr_expect_eq(json_integer_value(json_object_get(first, "users")), 2);
        cr_expect_gt(json_integer_value(json_object_get(first, "pid")), 1);

        r = run("nfsvol", "status", json_string_value(json_object_get(first, "id")));
        expect_success(&r, "by id");
        cr_expect(strstr(r.out, "host:/x\n") && strstr(r.out, "GETATTR") && strstr(r.out, "1d 02:03:04") &&
                          strstr(r.out, " from /a "),
                  "%s", r.out);
        json_decref(json);
        r = run("nfsvol", "status", at("t3"), "--json");
        json = json_loads(r.out, 0, NULL);
        cr_expect_str_eq(json_string_value(json_object_get(json, "source")), "host:/y");
        cr_expect_not_null(json_object_get(json, "new_thing"), "what we do not know is passed on");
        json_decref(json);
        r = run("nfsvol", "status", "host://x/");
        expect_success(&r, "by source");
        r = run("nfsvol", "status");
        cr_expect(strstr(r.out, "host:/x\n") && strstr(r.out, "host:/y\n"), "%s", r.out);
        r = run("nfsvol", "status", "host:/nobody");
        expect_failure(&r, 32, "no NFS volume", "unknown");
}

Test(verbs, silent_daemon) {
        Run r;

        (void) setenv("NFSVOL_FAKE_CONTROL", "silent", 1);
        r = run("mount.nfs", "host:/x", at("t"));
        expect_success(&r, "mount");
        r = run("nfsvol", "list");
        expect_success(&r, "list");
        cr_expect(strstr(r.out, "daemon does not answer"), "%s", r.out);
        cr_expect_lt(r.seconds, 6);
        r = run("nfsvol", "status", "--json", at("t"));
        expect_success(&r, "status");
        cr_expect(strstr(r.out, "\"users\": 1"), "%s", r.out);
}

Test(verbs, upgrade) {
        Run r;

        r = run("nfsvol", "upgrade");
        cr_expect_eq(r.status, 1, "neither all nor one");
        r = run("nfsvol", "upgrade", "--all", "host:/x");
        cr_expect_eq(r.status, 1, "all and one");
        r = run("nfsvol", "upgrade", "--all");
        expect_success(&r, "all of none");
        r = run("nfsvol", "upgrade", "host:/x");
        expect_failure(&r, 32, "no NFS volume", "none of that name");
        r = run("nfsvol", "upgrade", "--program", "/nonexistent", "--all");
        expect_failure(&r, 32, "/nonexistent: No such file", "no program");
        r = run("mount.nfs", "host:/x", at("t"));
        expect_success(&r, "mount");
        r = run("nfsvol", "upgrade", at("t"));
        expect_failure(&r, 32, "makes no sense", "a daemon that does not know the verb");
}
