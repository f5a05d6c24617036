/* sys/scope.c: the names of units. (That they are made is for tests/system, under a real systemd.) */
#include <criterion/criterion.h>
#include <string.h>

#include "sys/scope.h"

Test(scope, names) {
        static const struct {
                const char *server, *export, *id;
                unsigned n;
                const char *name;
        } cases[] = {
                { "10.20.172.211", "/nfs", "0123", 0, "nfsvol-10.20.172.211-nfs-0123.scope" },
                { "host", "/", "0123", 0, "nfsvol-host--0123.scope" },
                { "host", "/a/b c", "0123", 2, "nfsvol-host-a-b\\x20c-0123-2.scope" },
                { "fe80::1", "/x-y", "0123", 0, "nfsvol-fe80::1-x\\x2dy-0123.scope" },
                { "host", "/.hidden", "0", 0, "nfsvol-host-\\x2ehidden-0.scope" },
                { "h\xc3\xb6st", "/x", "0", 0, "nfsvol-h\\xc3\\xb6st-x-0.scope" },
        };
        char name[SCOPE_NAME_MAX];

        for (unsigned i = 0; i < ELEMENTSOF(cases); i++) {
                ScopeConfig config = { .server = cases[i].server, .export = cases[i].export, .id = cases[i].id };

                scope_name(&config, cases[i].n, name);
                cr_assert_str_eq(name, cases[i].name);
        }
}

Test(scope, long_names_are_cut_between_characters) {
        char export[4096], name[SCOPE_NAME_MAX];
        ScopeConfig config = { .server = export, .export = export, .id = "0123456789abcdef" };

        memset(export, '-', sizeof export - 1);
        export[sizeof export - 1] = '\0';
        scope_name(&config, 15, name);
        cr_assert_leq(strlen(name), 255);
        cr_assert_not_null(strstr(name, "\\x2d-0123456789abcdef-15.scope"), "%s", name);
}

Test(scope, mount_units) {
        static const char *const cases[][2] = {
                { "/", "-.mount" },
                { "/mnt", "mnt.mount" },
                { "/var/lib/kubelet/pods/1-2/volumes/kubernetes.io~nfs/v",
                  "var-lib-kubelet-pods-1\\x2d2-volumes-kubernetes.io\\x7enfs-v.mount" },
                { "/.a", "\\x2ea.mount" },
        };
        char name[SCOPE_NAME_MAX], path[4096];

        for (unsigned i = 0; i < ELEMENTSOF(cases); i++) {
                cr_assert_eq(scope_mount_unit(cases[i][0], name), 0);
                cr_assert_str_eq(name, cases[i][1]);
        }
        memset(path, 'x', sizeof path - 1);
        path[0] = '/';
        path[sizeof path - 1] = '\0';
        cr_assert_eq(scope_mount_unit(path, name), -ENAMETOOLONG);
}
