/*
 * Sources and volume ids.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "conf/source.h"

Test(source, table) {
        static const struct {
                const char *text;
                const char *host, *path; /* host NULL: refused, path is in the message */
        } cases[] = {
                { "10.20.172.211:/nfs", "10.20.172.211", "/nfs" },
                { "host:/", "host", "/" },
                { "host://", "host", "/" },
                { "host:/.", "host", "/" },
                { "host://a//b/./c///", "host", "/a/b/c" },
                { "host:/a b/c:d", "host", "/a b/c:d" },
                { "host:/...", "host", "/..." },
                { "host:/..a/b..", "host", "/..a/b.." },
                { "host:/\xc3\xa4", "host", "/\xc3\xa4" },
                { "my_host-1.example.:/x", "my_host-1.example.", "/x" },
                { "[::1]:/x", "::1", "/x" },
                { "[fe80::1%eth0]:/x", "fe80::1%eth0", "/x" },
                { "[::ffff:1.2.3.4]:/x/", "::ffff:1.2.3.4", "/x" },
                { NULL, NULL, "is empty" },
                { "", NULL, "is empty" },
                { "host", NULL, "has no ':'" },
                { "/dev/sda1", NULL, "has no ':'" },
                { ":/x", NULL, "no host" },
                { "host:", NULL, "must start with '/'" },
                { "host:export", NULL, "must start with '/': host:/export" },
                { "host:/a/../b", NULL, "\"..\"" },
                { "host:/..", NULL, "\"..\"" },
                { "host:/../x", NULL, "\"..\"" },
                { "host:/a/..", NULL, "\"..\"" },
                { "host:/a\nb", NULL, "control character (0x0a)" },
                { "host:/a\x7f", NULL, "control character (0x7f)" },
                { "ho\tst:/a", NULL, "control character" },
                { "ho st:/a", NULL, "does not start with a host" },
                { "-o:/a", NULL, "does not start with a host" },
                { "../x:/a", NULL, "does not start with a host" },
                { "a,b:/x", NULL, "does not start with a host" },
                { "[::1:/x", NULL, "has no ']'" },
                { "[::1]/x", NULL, "a ':' is missing" },
                { "[::1]", NULL, "a ':' is missing" },
                { "[]:/x", NULL, "no IPv6 address" },
                { "[host]:/x", NULL, "no IPv6 address" },
                { "[1.2.3.4]:/x", NULL, "no IPv6 address" },
                { "[fe80::1%]:/x", NULL, "no IPv6 address" },
                { "[fe80::1%a/b]:/x", NULL, "no IPv6 address" },
                { "fe80::1:/x", NULL, "needs brackets" },
                { "::1:/x", NULL, "no host" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Source source = { .host = (char *) 1 };
                char *message = NULL;
                int r = source_parse(cases[i].text, &source, &message);

                if (!cases[i].host) {
                        cr_expect_eq(r, -EINVAL, "%s", cases[i].text);
                        cr_expect(message && strstr(message, cases[i].path), "%s: %s", cases[i].text, message);
                        cr_expect_eq(source.host, (char *) 1, "touched on failure");
                        free(message);
                        continue;
                }
                cr_assert_eq(r, 0, "%s: %s", cases[i].text, message);
                cr_expect_str_eq(source.host, cases[i].host);
                cr_expect_str_eq(source.path, cases[i].path);
                source_done(&source);
        }
}

/* The canonical text means itself. */
Test(source, canonical) {
        static const char *const texts[] = { "host://a//b/", "[::1]:/x/./y", "host:/", "1.2.3.4:/a b" };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                Source a, b;
                char *message = NULL;

                cr_assert_eq(source_parse(texts[i], &a, &message), 0);
                cr_assert_eq(source_parse(a.text, &b, &message), 0);
                cr_expect_str_eq(a.text, b.text);
                cr_expect_str_eq(a.path, b.path);
                source_done(&a);
                source_done(&b);
        }
}

Test(source, long_ones) {
        char *text = malloc(6000), *message = NULL;
        Source source;

        memset(text, 'a', 6000);
        memcpy(text, "h:/", 3);
        text[4096] = '\0';
        cr_expect_eq(source_parse(text, &source, &message), 0);
        source_done(&source);
        text[4096] = 'a';
        text[4097] = '\0';
        cr_expect_eq(source_parse(text, &source, &message), -EINVAL);
        cr_expect(strstr(message, "too long"));
        free(message);
        message = NULL;
        memset(text, 'h', 300);
        memcpy(text + 300, ":/x", 4);
        cr_expect_eq(source_parse(text, &source, &message), -EINVAL);
        cr_expect(strstr(message, "too long"));
        free(message);
        free(text);
}

Test(volume, id) {
        char a[VOLUME_ID_SIZE], b[VOLUME_ID_SIZE];

        /* Fixed for ever: running volumes are found by it. printf 'host:/x\0vers=3\0000\0' | sha256sum */
        volume_id("host:/x", "vers=3", 0, a);
        cr_expect_str_eq(a, "f8291647d4c76ef1");
        cr_expect_eq(strspn(a, "0123456789abcdef"), 16);

        static const struct {
                const char *source, *session;
                uint64_t unique;
        } others[] = {
                { "host:/y", "vers=3", 0 }, { "host:/x", "", 0 },       { "host:/x", "vers=3", 1 },
                { "host:/xvers=3", "", 0 }, { "host:/", "xvers=3", 0 }, { "host:/x", "vers=30", 0 },
        };
        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                volume_id(others[i].source, others[i].session, others[i].unique, b);
                cr_expect_str_neq(a, b, "case %zu", i);
        }
}
