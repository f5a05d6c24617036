/*
 * See include/sys/cgroup.h. /proc/self/cgroup has a line for each hierarchy, "0::/path" for version 2 and
 * "N:memory:/path" for version 1's; where their file systems are mounted is custom. What cannot be read is no limit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "sys/cgroup.h"

static uint64_t read_limit(const char *root, const char *path, const char *file) {
        char name[4096], text[32], *end;
        unsigned long long limit;

        if (snprintf(name, sizeof name, "%s%s/%s", root, path, file) >= (int) sizeof name ||
            io_read_file(name, text, sizeof text) < 0)
                return UINT64_MAX;
        limit = strtoull(text, &end, 10);
        return end == text || *end != '\n' ? UINT64_MAX : limit; /* "max" */
}

/* The least of path and all above it. */
static uint64_t least_limit(const char *root, char *path, const char *file) {
        uint64_t least = UINT64_MAX;
        char *slash;

        for (;;) {
                least = MIN(least, read_limit(root, path, file));
                slash = strrchr(path, '/');
                if (!slash)
                        return least;
                *slash = '\0';
        }
}

uint64_t cgroup_memory_limit(void) {
        uint64_t least = UINT64_MAX;
        char text[8192], *rest = text, *line;

        if (io_read_file("/proc/self/cgroup", text, sizeof text) < 0)
                return least;
        while ((line = strsep(&rest, "\n"))) {
                char *path = strchr(line, '/');

                if (!path)
                        continue;
                if (strncmp(line, "0::", 3) == 0)
                        least = MIN(least, least_limit("/sys/fs/cgroup", path, "memory.max"));
                else if (strstr(line, ":memory:"))
                        least = MIN(least, least_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
        }
        return least;
}
