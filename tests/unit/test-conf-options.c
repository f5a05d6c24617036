/*
 * Mount options: every kind, ranges, what is refused, and that canonical text says the same session.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "conf/options.h"
#include "src/conf/table.h"

#define KUBERNETES                                                                                                               \
        "rw,relatime,vers=3,rsize=524288,wsize=524288,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec="                        \
        "sys,"                                                                                                                   \
        "mountaddr=127.0.0.1,mountvers=3,mountport=20048,mountproto=tcp,local_lock=none,addr=127.0.0.1"

/* The canonical session, or "!message". Notes go to *ret_notes if that is wanted. */
static char *parse_to_text(const char *text, char **ret_notes) {
        MountOptions options;
        char *message = NULL, *result = NULL;
        int r;

        mount_options_init(&options);
        r = mount_options_parse(&options, text, &message);
        if (r < 0)
                cr_assert(asprintf(&result, "!%s", message) >= 0);
        else
                result = session_options_format(&options.session);
        cr_assert((r < 0) == (message != NULL), "%s: a message belongs to an error", text);
        if (ret_notes)
                *ret_notes = strdup(options.notes ? options.notes : "");
        free(message);
        mount_options_done(&options);
        return result;
}

Test(options, defaults) {
        MountOptions o;

        mount_options_init(&o);
        cr_assert_eq(o.session.timeo, 600);
        cr_assert_eq(o.session.retrans, 2);
        cr_assert_eq(o.session.acregmin, 3);
        cr_assert_eq(o.session.acregmax, 60);
        cr_assert_eq(o.session.acdirmin, 30);
        cr_assert_eq(o.session.acdirmax, 60);
        cr_assert_eq(o.session.nconnect, 1);
        cr_assert_eq(o.session.linger, 10);
        cr_assert_eq(o.session.vers, 0);
        cr_assert_eq(o.session.rsize, 0);
        cr_assert_eq(o.session.family, AF_UNSPEC);
        cr_assert_eq(o.session.lookupcache, LOOKUP_CACHE_ALL);
        cr_assert_eq(o.session.local_lock, LOCAL_LOCK_NONE);
        cr_assert_eq(o.retry, 0);
        cr_assert_eq(o.attr_set, 0);
        cr_assert_eq(o.attr_clr, 0);
        cr_assert(!o.session.soft && !o.session.noac && !o.session.sync && !o.bg && !o.remount);
        mount_options_done(&o);
}

/* Text to canonical text, "!..." the start of the message. */
Test(options, table) {
        static const struct {
                const char *text, *expected;
        } cases[] = {
                { NULL, "" },
                { "", "" },
                { ",", "" },
                { ",,nosuid,,_netdev,", "" },
                { "defaults,noauto,nofail,user,x-systemd.automount,comment=a b,X-foo=1", "" },
                { KUBERNETES, "vers=3,proto=tcp,mountport=20048,mountaddr=127.0.0.1,addr=127.0.0.1,rsize="
                              "524288,wsize=524288" },
                { "vers=3", "vers=3" },
                { "nfsvers=3", "vers=3" },
                { "v3", "vers=3" },
                { "vers=3.0", "vers=3" },
                { "vers=4", "!NFS version 4 is not supported yet; use vers=3 (or leave vers out)" },
                { "nfsvers=4.0", "!NFS version 4 is not supported yet" },
                { "vers=4.2", "!NFS version 4 is not supported yet" },
                { "v4", "!NFS version 4 is not supported yet" },
                { "v4.1", "!NFS version 4 is not supported yet" },
                { "nfs4", "!NFS version 4 is not supported yet" },
                { "vers=2", "!NFS version 2 is not supported" },
                { "v2", "!NFS version 2 is not supported" },
                { "vers=5", "!option vers=5: 3 is expected" },
                { "vers=", "!option vers needs a value" },
                { "vers", "!option vers needs a value" },
                { "minorversion=1", "!option minorversion=1 is not supported" },
                { "rsize=0", "" },
                { "rsize=1", "rsize=4096" },
                { "rsize=1023", "rsize=4096" },
                { "rsize=1024", "rsize=1024" },
                { "rsize=1500", "rsize=1024" },
                { "wsize=1048576", "wsize=1048576" },
                { "wsize=2097152", "wsize=1048576" },
                { "wsize=2147483647", "wsize=1048576" },
                { "wsize=2147483648", "!option wsize=2147483648" },
                { "rsize=99999999999999999999999", "!option rsize=99999999999999999999999" },
                { "rsize=4k", "!option rsize=4k: a number" },
                { "rsize=-1", "!option rsize=-1" },
                { "rsize=+1", "!option rsize=+1" },
                { "rsize= 1", "!option rsize= 1" },
                { "rsize=0x100", "!option rsize=0x100" },
                { "rsize", "!option rsize needs a value: rsize=BYTES" },
                { "timeo=0", "!option timeo=0" },
                { "timeo=1", "timeo=1" },
                { "timeo=600", "" },
                { "timeo=7000", "timeo=6000" },
                { "retrans=0", "retrans=0" },
                { "retrans=2", "" },
                { "nconnect=1", "" },
                { "nconnect=16", "nconnect=16" },
                { "nconnect=0", "!option nconnect=0: a number from 1 to 16" },
                { "nconnect=17", "!option nconnect=17: a number from 1 to 16" },
                { "port=65535", "port=65535" },
                { "port=0", "" },
                { "port=65536", "!option port=65536" },
                { "acregmin=0", "acregmin=0" },
                { "actimeo=7", "acregmin=7,acregmax=7,acdirmin=7,acdirmax=7" },
                { "actimeo=x", "!option actimeo=x" },
                { "acregmin=90", "acregmin=90,acregmax=90" },
                { "acregmin=90,acregmax=80", "!option acregmin=90 is above acregmax=80" },
                { "acdirmax=10", "acdirmin=10,acdirmax=10" },
                { "acregmax=1", "acregmin=1,acregmax=1" },
                { "acdirmin=31,acdirmax=10", "!option acdirmin=31 is above acdirmax=10" },
                { "noac", "acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,noac,sync" },
                { "noac,acregmax=50", "acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,noac,sync" },
                { "noac,ac", "" },
                { "nocto", "nocto" },
                { "nocto,cto", "" },
                { "soft", "soft" },
                { "softerr", "softerr" },
                { "soft,softerr", "softerr" },
                { "soft,hard", "" },
                { "hard,soft", "soft" },
                { "sync,async", "" },
                { "lookupcache=all", "" },
                { "lookupcache=pos", "lookupcache=positive" },
                { "lookupcache=none", "lookupcache=none" },
                { "lookupcache=some", "!option lookupcache=some: one of all, none, positive" },
                { "local_lock=all", "local_lock=all" },
                { "nolock", "nolock" },
                { "nolock,lock", "lock" },
                { "lock", "lock" },
                { "lock,nolock", "nolock" },
                { "nlmport=32803", "nlmport=32803" },
                { "nlmport=65536", "!option nlmport=65536" },
                { "local_lock=none", "" },
                { "local_lock=flock", "local_lock=flock" },
                { "noresvport", "noresvport" },
                { "noresvport,resvport", "" },
                { "nordirplus", "nordirplus" },
                { "rdirplus=none", "nordirplus" },
                { "nordirplus,rdirplus=force", "" },
                { "rdirplus=x", "!option rdirplus=x" },
                { "nosharecache", "nosharecache" },
                { "default_permissions", "default_permissions" },
                { "idmap", "idmap" },
                { "linger=0", "linger=0" },
                { "linger=86401", "!option linger=86401" },
                { "proto=tcp6", "proto=tcp6" },
                { "tcp", "" },
                { "proto=udp", "!option proto=udp is not supported" },
                { "proto=rdma", "!option proto=rdma is not supported" },
                { "proto=sctp", "!option proto=sctp: tcp or tcp6" },
                { "udp", "!option udp is not supported" },
                { "rdma", "!option rdma is not supported" },
                { "mountproto=udp", "!option mountproto=udp is not supported" },
                { "mountvers=1", "!option mountvers=1 is not supported" },
                { "mounthost=[x]", "!option mounthost=[x]" },
                { "mounthost=other.example", "mounthost=other.example" },
                { "addr=10.0.0.1", "addr=10.0.0.1" },
                { "addr=fe80::1%eth0", "addr=fe80::1%eth0" },
                { "addr=name", "!option addr=name: a numeric address" },
                { "addr=10.0.0.1%eth0", "!option addr=10.0.0.1%eth0: a numeric address" },
                { "sec=sys", "" },
                { "sec=krb5:sys", "" },
                { "sec=krb5p", "!option sec=krb5p is not supported" },
                { "sec=none", "!option sec=none is not supported" },
                { "xprtsec=none", "" },
                { "xprtsec=mtls", "!option xprtsec=mtls is not supported" },
                { "writeback", "!option writeback is not supported: not by this version" },
                { "bind", "!option bind is not supported" },
                { "hard=1", "!option hard takes no value" },
                { "ro=1", "!option ro takes no value" },
                { "frobnicate", "!unknown option frobnicate" },
                { "frobnicate=3", "!unknown option frobnicate" },
                { "=3", "!unknown option" },
                { "ROsize=3,sloppy", "" },
                { "sloppy,vers=4", "!NFS version 4" },
                { "sloppy,rsize=x", "!option rsize=x" },
                { "a b", "!unknown option a b" },
                { "soft hard", "!unknown option soft hard" },
                { "context=\"system_u:object_r:nfs_t:s0:c1,c2\",soft", "soft" },
                { "context=\"x,soft", "!the options contain a quotation mark" },
                { "soft\n", "!the options contain a control character (0x0a)" },
                { "user_id=0,group_id=0,allow_other,max_read=131072,blksize=4096", "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char *result = parse_to_text(cases[i].text, NULL);

                cr_assert_not_null(result);
                if (cases[i].expected[0] == '!')
                        cr_expect(strncmp(result, cases[i].expected, strlen(cases[i].expected)) == 0,
                                  "%s: got \"%s\", expected \"%s...\"", cases[i].text, result, cases[i].expected);
                else
                        cr_expect_str_eq(result, cases[i].expected, "%s: got \"%s\", expected \"%s\"", cases[i].text, result,
                                         cases[i].expected);
                free(result);
        }
}

Test(options, notes) {
        static const struct {
                const char *text, *note; /* NULL: none at all */
        } cases[] = {
                { "rw,hard,proto=tcp,timeo=600,retrans=2,vers=3,sec=sys,_netdev,nofail", NULL },
                { "soft,soft,vers=3,nfsvers=3", NULL },
                { "hard,soft", "soft overrides hard" },
                { "rsize=1024,rsize=2048", "rsize=2048 overrides rsize=1024" },
                { "namlen=255", "namlen: no effect" },
                { "intr", "intr: no effect" },
                { "fsc", "fsc: no effect" },
                { "fsc=tag", "fsc: no effect" },
                { "acl", "acl: no effect" },
                { "noacl,nofsc", NULL },
                { "lock", NULL },
                { "local_lock=none", NULL },
                { "local_lock=all", NULL },
                { "clientaddr=1.2.3.4", "clientaddr: no effect" },
                { "rsize=999999999", "rsize=999999999: 1048576 is used" },
                { "sloppy,frob", "option frob is unknown and ignored" },
                { "sec=krb5:sys", "only sec=sys is used" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char *notes, *result = parse_to_text(cases[i].text, &notes);

                cr_expect(result[0] != '!', "%s: %s", cases[i].text, result);
                if (cases[i].note)
                        cr_expect(strstr(notes, cases[i].note) != NULL, "%s: notes \"%s\"", cases[i].text, notes);
                else
                        cr_expect_str_eq(notes, "", "%s: notes \"%s\"", cases[i].text, notes);
                free(notes);
                free(result);
        }
}

Test(options, mount_flags) {
        static const struct {
                const char *text;
                uint64_t set, clr;
        } cases[] = {
                { "ro", MOUNT_ATTR_RDONLY, MOUNT_ATTR_RDONLY },
                { "rw", 0, MOUNT_ATTR_RDONLY },
                { "ro,rw", 0, MOUNT_ATTR_RDONLY },
                { "nosuid,nodev,noexec", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
                  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC },
                { "nosuid,suid", 0, MOUNT_ATTR_NOSUID },
                { "noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
                { "noatime,atime", 0, MOUNT_ATTR__ATIME },
                { "strictatime,atime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
                { "strictatime,nostrictatime", 0, MOUNT_ATTR__ATIME },
                { "noatime,relatime", 0, MOUNT_ATTR__ATIME },
                { "relatime", 0, MOUNT_ATTR__ATIME },
                { "nodiratime", MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NODIRATIME },
                { "nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char *message = NULL;
                MountOptions o;

                mount_options_init(&o);
                cr_assert_eq(mount_options_parse(&o, cases[i].text, &message), 0);
                cr_expect_eq(o.attr_set, cases[i].set, "%s: set %#lx", cases[i].text, (unsigned long) o.attr_set);
                cr_expect_eq(o.attr_clr, cases[i].clr, "%s: clr %#lx", cases[i].text, (unsigned long) o.attr_clr);
                mount_options_done(&o);
        }
}

Test(options, helper_words) {
        char *message = NULL;
        MountOptions o;

        mount_options_init(&o);
        cr_assert_eq(mount_options_parse(&o, "bg,subdir=/a//b/./c/,remount", &message), 0);
        cr_assert(o.bg && o.remount);
        cr_assert_eq(o.retry, 10000);
        cr_assert_str_eq(o.subdir, "a/b/c");
        /* More -o on top of that. */
        cr_assert_eq(mount_options_parse(&o, "retry=3,fg,subdir=/", &message), 0);
        cr_assert(!o.bg);
        cr_assert_eq(o.retry, 3);
        cr_assert_null(o.subdir);
        mount_options_done(&o);

        static const char *const bad[] = { "subdir=..", "subdir=a/..", "subdir=../a", "subdir=a/../b" };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                mount_options_init(&o);
                cr_expect_eq(mount_options_parse(&o, bad[i], &message), -EINVAL, "%s", bad[i]);
                free(message);
                message = NULL;
                mount_options_done(&o);
        }
        mount_options_init(&o);
        cr_assert_eq(mount_options_parse(&o, "subdir=..a/...", &message), 0);
        cr_assert_str_eq(o.subdir, "..a/...");
        mount_options_done(&o);
}

Test(options, too_long) {
        char *text = malloc(5001), *result;

        memset(text, ',', 5000);
        text[5000] = '\0';
        result = parse_to_text(text, NULL);
        cr_assert(strstr(result, "too long"));
        free(result);
        /* An unknown word is not repeated at full length. */
        memset(text, 'a', 4000);
        text[4000] = '\0';
        result = parse_to_text(text, NULL);
        cr_assert(result[0] == '!' && strlen(result) < 200);
        free(result);
        free(text);
}

/* One random option with a valid value, by the table. */
static void append_random(char *text, size_t size, unsigned *seed) {
        const OptionDef *def = &option_table[(size_t) rand_r(seed) % n_option_table];
        size_t len = strlen(text);
        char value[64] = "";

        if (!def->name || def->use == OPTION_REFUSED || strncmp(def->name, "ac", 2) == 0)
                return;
        if (def->kind == OPTION_UINT || def->kind == OPTION_PORT) {
                uint64_t range = (uint64_t) def->max - def->min + 1;

                (void) snprintf(value, sizeof value, "=%llu", (unsigned long long) (def->min + (uint64_t) rand_r(seed) % range));
        } else if (def->kind == OPTION_ENUM) {
                size_t n = 0;

                while (def->words[n].name)
                        n++;
                (void) snprintf(value, sizeof value, "=%s", def->words[(size_t) rand_r(seed) % n].name);
        } else if (def->set == option_set_host)
                (void) snprintf(value, sizeof value, "=host%d", rand_r(seed) % 100);
        else if (def->set == option_set_address)
                (void) snprintf(value, sizeof value, rand_r(seed) % 2 ? "=10.0.0.%d" : "=fe80::%d", rand_r(seed) % 100);
        else if (def->set == option_set_scope)
                (void) snprintf(value, sizeof value, "%s", def->kind == OPTION_ANY && rand_r(seed) % 2 ? "=required" : "");
        else if (def->set == option_set_slice)
                (void) snprintf(value, sizeof value, "=pods-%d.slice", rand_r(seed) % 100);
        else if (def->set == option_set_proto)
                (void) snprintf(value, sizeof value, "=%s", rand_r(seed) % 2 ? "tcp" : "tcp6");
        else if (def->kind == OPTION_STRING || (def->kind == OPTION_WORD && def->set))
                return;
        (void) snprintf(text + len, size - len, "%s%s%s", len ? "," : "", def->name, value);
}

static void append_random_ac(char *text, size_t size, unsigned *seed) {
        size_t len = strlen(text);
        int min = rand_r(seed) % 100;

        switch (rand_r(seed) % 4) {
        case 0:
                (void) snprintf(text + len, size - len, ",noac");
                break;
        case 1:
                (void) snprintf(text + len, size - len, ",actimeo=%d", min);
                break;
        case 2:
                (void) snprintf(text + len, size - len, ",acregmin=%d,acregmax=%d,acdirmin=%d,acdirmax=%d", min,
                                min + rand_r(seed) % 100, min, min + rand_r(seed) % 100);
                break;
        }
}

static bool same_text(const char *a, const char *b) {
        return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

Test(options, canonical_text_round_trip) {
        unsigned seed = 4711;

        for (int i = 0; i < 20000; i++) {
                char text[3000] = "", *message = NULL, *canonical, *again;
                MountOptions a, b;

                for (int n = rand_r(&seed) % 20; n > 0; n--)
                        append_random(text, sizeof text, &seed);
                append_random_ac(text, sizeof text, &seed);
                mount_options_init(&a);
                mount_options_init(&b);
                cr_assert_eq(mount_options_parse(&a, text, &message), 0, "%s: %s", text, message);
                canonical = session_options_format(&a.session);
                cr_assert_eq(mount_options_parse(&b, canonical, &message), 0, "%s: %s", canonical, message);
                again = session_options_format(&b.session);
                cr_assert_str_eq(canonical, again, "from %s", text);
                cr_assert(same_text(a.session.addr, b.session.addr) && same_text(a.session.mounthost, b.session.mounthost) &&
                          same_text(a.session.mountaddr, b.session.mountaddr) && same_text(a.session.slice, b.session.slice));
                /* The fields that the text does not name, too. */
                free(b.session.addr);
                free(b.session.mounthost);
                free(b.session.mountaddr);
                free(b.session.slice);
                b.session.slice = a.session.slice;
                b.session.addr = a.session.addr;
                b.session.mounthost = a.session.mounthost;
                b.session.mountaddr = a.session.mountaddr;
                cr_assert_eq(memcmp(&a.session, &b.session, sizeof a.session), 0, "%s -> %s", text, canonical);
                b.session.addr = b.session.mounthost = b.session.mountaddr = b.session.slice = NULL;
                mount_options_done(&a);
                mount_options_done(&b);
                free(canonical);
                free(again);
        }
}

/* Order, duplicates and empty options do not make another session. */
Test(options, same_session) {
        static const char *const same[] = {
                KUBERNETES,
                "addr=127.0.0.1,hard,local_lock=none,mountaddr=127.0.0.1,mountport=20048,mountproto=tcp,"
                "mountvers=3,"
                "namlen=255,proto=tcp,relatime,retrans=2,rsize=524288,rw,sec=sys,timeo=600,vers=3,wsize="
                "524288",
                ",," KUBERNETES ",,vers=3,nosuid,ro,_netdev,hard,",
        };
        char *first = parse_to_text(same[0], NULL);

        for (size_t i = 1; i < ELEMENTSOF(same); i++) {
                char *other = parse_to_text(same[i], NULL);

                cr_expect_str_eq(first, other);
                free(other);
        }
        free(first);
}

/* Random bytes: an answer, and never a message without an error. Under ASan: nothing else. */
Test(options, garbage) {
        static const char alphabet[] = "=,\"\"ro soft rsize vers 4 \\.:/%-\x01\xff";
        unsigned seed = 99;

        for (int i = 0; i < 50000; i++) {
                char text[64];
                size_t len = (size_t) rand_r(&seed) % (sizeof text - 1);

                for (size_t k = 0; k < len; k++)
                        text[k] = alphabet[(size_t) rand_r(&seed) % (sizeof alphabet - 1)];
                text[len] = '\0';
                free(parse_to_text(text, NULL));
        }
}

Test(options, table_is_sound) {
        for (size_t i = 0; i < n_option_table; i++) {
                const OptionDef *def = &option_table[i];

                cr_assert_not_null(def->help);
                if (!def->name)
                        continue;
                cr_expect_eq(option_find(def->name), def, "%s is in the table twice", def->name);
                cr_expect((def->use != OPTION_NOTED && def->use != OPTION_REFUSED) || def->note, "%s has no note", def->name);
                if (def->kind == OPTION_STRING || def->kind == OPTION_UINT || def->kind == OPTION_ENUM)
                        cr_expect(def->arg, "%s has no arg", def->name);
        }
        cr_assert_null(option_find(""));
        cr_assert_null(option_find("group nogroup"));
        cr_assert_not_null(option_find("nogroup"));
        cr_assert_not_null(option_find("noauto"));
}

/* The page names every option, so it cannot fall behind. */
Test(options, man_page_names_all) {
        static char page[256 * 1024];
        FILE *file = fopen(MAN_PAGE, "r");
        size_t n;

        cr_assert_not_null(file, "%s", MAN_PAGE);
        n = fread(page, 1, sizeof page - 1, file);
        page[n] = '\0';
        (void) fclose(file);
        for (size_t i = 0; i < n_option_table; i++) {
                char names[256], *save = NULL;

                if (!option_table[i].name)
                        continue;
                (void) snprintf(names, sizeof names, "%s %s", option_table[i].name,
                                option_table[i].aliases ? option_table[i].aliases : "");
                for (char *name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
                        char bold[80];
                        bool found = false;

                        /* \fBname\fR, or .B name at the end of a line */
                        (void) snprintf(bold, sizeof bold, "\\fB%s\\fR", name);
                        found = strstr(page, bold) != NULL;
                        (void) snprintf(bold, sizeof bold, "\\fB%s=", name);
                        found = found || strstr(page, bold) != NULL;
                        cr_expect(found, "%s does not name \\fB%s", MAN_PAGE, name);
                }
        }
}
