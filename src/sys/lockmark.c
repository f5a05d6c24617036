/*
 * See sys/lockmark.h.
 *
 * The file is replaced, not written over, so that whoever reads it after a power cut finds the old text or the new one. A line that
 * is none (nobody but us writes there, so the disk has lost it) is taken for one of a former boot, of this node.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "config.h"
#include "sys/lockmark.h"
#include "sys/pathlock.h"
#include "sys/rundir.h"

#define BOOT_SIZE 37
#define TEXT_MAX  (256u << 10) /* more than a thousand volumes of one server */

typedef struct Line {
        char boot[BOOT_SIZE];
        uint64_t volume;
        char node[LOCK_MARK_NODE_MAX + 1];
        bool freed;
} Line;

typedef struct LockMark {
        char dir[256], path[320];
        char boot[BOOT_SIZE];
        int fd;
        Line *lines;
        size_t n_lines;
} LockMark;

static void mark_done(LockMark *mark) {
        mark->fd = fd_close(mark->fd);
        free(TAKE_PTR(mark->lines));
}

const char *lock_mark_statedir(void) {
        const char *dir = secure_getenv("NFSVOL_STATEDIR");

        return dir && *dir == '/' ? dir : NFSVOL_STATEDIR;
}

static int mark_paths(LockMark *mark, const char *address) {
        const char *state = lock_mark_statedir();
        int r;

        if ((size_t) snprintf(mark->dir, sizeof mark->dir, "%s/locks", state) >= sizeof mark->dir ||
            (size_t) snprintf(mark->path, sizeof mark->path, "%s/%s", mark->dir, address) >= sizeof mark->path - 4)
                return -ENAMETOOLONG;
        if (strchr(address, '/') || *address == '.' || !*address)
                return -EINVAL;
        r = owned_directory_make(state, 0755);
        return r < 0 ? r : owned_directory_make(mark->dir, 0700);
}

static int boot_id(char ret[BOOT_SIZE]) {
        char text[64];
        ssize_t n = io_read_file("/proc/sys/kernel/random/boot_id", text, sizeof text);

        if (n < 0)
                return (int) n;
        if (n < BOOT_SIZE - 1)
                return -EIO;
        memcpy(ret, text, BOOT_SIZE - 1);
        ret[BOOT_SIZE - 1] = '\0';
        return 0;
}

static void line_parse(const char *text, const char *node, Line *ret) {
        unsigned long long volume;
        int end = 0;

        *ret = (Line){ 0 };
        if (sscanf(text, "%36[0-9a-f-] %16llx %n", ret->boot, &volume, &end) == 2 && end > 0 && text[end] &&
            strlen(ret->boot) == BOOT_SIZE - 1 && strlen(text + end) <= LOCK_MARK_NODE_MAX) {
                ret->volume = volume;
                (void) snprintf(ret->node, sizeof ret->node, "%s", text + end);
        } else {
                ret->boot[0] = '\0';
                (void) snprintf(ret->node, sizeof ret->node, "%s", node);
        }
}

/* Its lines; there is room for one more behind them. node: whose a line is that is none. */
static int mark_read(LockMark *mark, const char *node) {
        _cleanup_(freep) char *text = malloc(TEXT_MAX + 1);
        char *line, *rest;
        size_t n = 1;
        ssize_t len;

        if (!text)
                return -ENOMEM;
        len = io_read_full(mark->fd, text, TEXT_MAX + 1);
        if (len < 0)
                return (int) len;
        if (len > (ssize_t) TEXT_MAX)
                return -EFBIG;
        text[len] = '\0';
        for (ssize_t i = 0; i < len; i++) {
                if (text[i] == '\0')
                        text[i] = '?';
                n += text[i] == '\n';
        }
        mark->lines = calloc(n + 1, sizeof *mark->lines);
        if (!mark->lines)
                return -ENOMEM;
        for (rest = text; (line = strsep(&rest, "\n"));)
                if (*line)
                        line_parse(line, node, &mark->lines[mark->n_lines++]);
        return 0;
}

static int mark_open(LockMark *mark, const char *address, const char *node, uint64_t deadline) {
        int r;

        *mark = (LockMark){ .fd = -1 };
        r = mark_paths(mark, address);
        if (r >= 0)
                r = boot_id(mark->boot);
        if (r >= 0)
                r = path_lock(mark->path, deadline, &mark->fd);
        if (r >= 0)
                r = mark_read(mark, node);
        return r;
}

static int sync_directory(const char *dir) {
        _cleanup_(fd_closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int lines_write(const LockMark *mark, const char *path) {
        _cleanup_(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        char text[BOOT_SIZE + LOCK_MARK_NODE_MAX + 32];
        int r = fd < 0 ? -errno : 0;

        for (size_t i = 0; i < mark->n_lines && r == 0; i++) {
                const Line *line = &mark->lines[i];
                int n = snprintf(text, sizeof text, "%s %016llx %s\n", line->boot[0] ? line->boot : "?",
                                 (unsigned long long) line->volume, line->node);

                if (!line->freed)
                        r = io_write_full(fd, text, (size_t) n);
        }
        return r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
}

static int mark_save(const LockMark *mark) {
        char path[sizeof mark->path + 8];
        int r;

        (void) snprintf(path, sizeof path, "%s.new", mark->path);
        r = lines_write(mark, path);
        if (r == 0 && rename(path, mark->path) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlink(path);
                return r;
        }
        return sync_directory(mark->dir);
}

static bool is_of_this_boot(const LockMark *mark, const Line *line) {
        return strcmp(line->boot, mark->boot) == 0;
}

/* Number of names. */
static int free_former(LockMark *mark, LockMarkFree *free_all, void *userdata) {
        int n = 0;

        for (size_t i = 0; i < mark->n_lines; i++)
                if (is_of_this_boot(mark, &mark->lines[i]))
                        return 0; /* what this volume holds would be freed as well */
        for (size_t i = 0; i < mark->n_lines; i++) {
                const char *node = mark->lines[i].node;

                if (mark->lines[i].freed || free_all(userdata, node) < 0)
                        continue;
                for (size_t j = i; j < mark->n_lines; j++)
                        mark->lines[j].freed |= strcmp(mark->lines[j].node, node) == 0;
                n++;
        }
        return n;
}

int lock_mark_enter(const char *address, uint64_t volume, const char *node, uint64_t deadline, LockMarkFree *free_all,
                    void *userdata) {
        _cleanup_(mark_done) LockMark mark;
        Line *line;
        int n, r;

        r = mark_open(&mark, address, node, deadline);
        if (r < 0)
                return r;
        n = free_former(&mark, free_all, userdata);
        line = &mark.lines[mark.n_lines++];
        line->volume = volume;
        memcpy(line->boot, mark.boot, sizeof line->boot);
        (void) snprintf(line->node, sizeof line->node, "%s", node);
        r = mark_save(&mark);
        if (r == 0)
                return n;
        /* whoever comes next must not have the server free what this one holds, of which there is no line */
        (void) unlink(mark.path);
        return r;
}

int lock_mark_leave(const char *address, uint64_t volume, uint64_t deadline) {
        _cleanup_(mark_done) LockMark mark;
        size_t left = 0;
        int r;

        r = mark_open(&mark, address, "?", deadline);
        if (r < 0)
                return r;
        for (size_t i = 0; i < mark.n_lines; i++) {
                Line *line = &mark.lines[i];

                line->freed = is_of_this_boot(&mark, line) && line->volume == volume;
                left += !line->freed;
        }
        if (left > 0)
                return left < mark.n_lines ? mark_save(&mark) : 0;
        return unlink(mark.path) < 0 ? -errno : 0;
}
