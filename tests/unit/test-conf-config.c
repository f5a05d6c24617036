/* conf/config.c: /etc/nfsvol.conf. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "conf/config.h"

static uint64_t property(const Config *config, const char *name) {
        for (size_t i = 0; i < config->n_properties; i++)
                if (strcmp(config->properties[i].name, name) == 0)
                        return config->properties[i].value;
        return 0;
}

Test(config, everything) {
        static const char text[] = "# a comment\n[scope]\nSlice = nfs.slice\nMemoryMax=512M\nMemoryHigh = 1G ; more\n"
                                   "CPUWeight = 200\nIOWeight = 50\nTasksMax = infinity\nTimeoutStopSec = 30\n";
        char *message = NULL;
        Config config;

        config_init(&config);
        cr_assert_eq(config.stop_timeout_s, 60);
        cr_assert_eq(config_parse(&config, text, &message), 0, "%s", message);
        cr_assert_str_eq(config.slice, "nfs.slice");
        cr_assert_eq(property(&config, "MemoryMax"), UINT64_C(512) << 20);
        cr_assert_eq(property(&config, "MemoryHigh"), UINT64_C(1) << 30);
        cr_assert_eq(property(&config, "CPUWeight"), 200);
        cr_assert_eq(property(&config, "IOWeight"), 50);
        cr_assert_eq(property(&config, "TasksMax"), UINT64_MAX);
        cr_assert_eq(config.stop_timeout_s, 30);
        config_done(&config);
}

Test(config, empty_and_twice) {
        char *message = NULL;
        Config config;

        config_init(&config);
        cr_assert_eq(config_parse(&config, "", &message), 0);
        cr_assert_eq(config_parse(&config, "\n\n[scope]\n", &message), 0);
        cr_assert_eq(config_parse(&config, "[scope]\nCPUWeight=1\nCPUWeight=2\n", &message), 0);
        cr_assert_eq(config.n_properties, 1);
        cr_assert_eq(property(&config, "CPUWeight"), 2, "the last one counts");
        config_done(&config);
}

Test(config, bad_text_is_named) {
        static const char *const cases[][2] = {
                { "[scope]\nMemoryMx = 1G\n", "MemoryMx" },
                { "[scoop]\nMemoryMax = 1G\n", "scoop" },
                { "MemoryMax = 1G\n", "MemoryMax" },
                { "[scope]\nMemoryMax = much\n", "much" },
                { "[scope]\nMemoryMax = 1X\n", "1X" },
                { "[scope]\nMemoryMax = -1\n", "-1" },
                { "[scope]\nMemoryMax = 4096\n", "4096" }, /* nothing could run in it */
                { "[scope]\nMemoryMax = 99999999999999T\n", "99999999999999T" },
                { "[scope]\nCPUWeight = 0\n", "CPUWeight" },
                { "[scope]\nCPUWeight = 10001\n", "CPUWeight" },
                { "[scope]\nCPUWeight = infinity\n", "CPUWeight" },
                { "[scope]\nTimeoutStopSec = 0\n", "TimeoutStopSec" },
                { "[scope]\nSlice = nfs\n", "nfs" },
                { "[scope]\nSlice = a/b.slice\n", "a/b.slice" },
                { "[scope]\nthis is not a setting\n", "line 2" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char *message = NULL;
                Config config;

                config_init(&config);
                cr_assert_eq(config_parse(&config, cases[i][0], &message), -EINVAL, "%s", cases[i][0]);
                cr_assert_not_null(strstr(message, cases[i][1]), "%s -> %s", cases[i][0], message);
                free(message);
                config_done(&config);
        }
}
