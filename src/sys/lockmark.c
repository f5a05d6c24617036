/*
 * See sys/lockmark.h.
 *
 * NFSVOL_STATEDIR/locks is replaced, not written over, so that whoever reads it after a power cut finds the old text or the new one.
 * A line that is none is dropped: nobody knows any more which server it was about.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "config.h"
#include "sys/lockmark.h"
#include "sys/pathlock.h"
#include "sys/rundir.h"

#define TEXT_MAX   (1u << 20)
#define FORMER_MAX 256 /* servers */

const char *lock_marks_directory(void) {
        const char *dir = secure_getenv("NFSVOL_STATEDIR");

        return dir && *dir == '/' ? dir : NFSVOL_STATEDIR;
}

static int boot_id(char ret[LOCK_MARK_BOOT]) {
        char text[64];
        ssize_t n = io_read_file("/proc/sys/kernel/random/boot_id", text, sizeof text);

        if (n < 0)
                return (int) n;
        if (n < LOCK_MARK_BOOT - 1)
                return -EIO;
        memcpy(ret, text, LOCK_MARK_BOOT - 1);
        ret[LOCK_MARK_BOOT - 1] = '\0';
        return 0;
}

/* ---- names, as they stand in a line: never empty, and without white space ---- */

static void escape(const char *name, char *ret, size_t size) {
        size_t n = 0;

        for (; *name && n + 4 < size; name++)
                if (isalnum((unsigned char) *name) || strchr("._-:", *name))
                        ret[n++] = *name;
                else
                        n += (size_t) snprintf(ret + n, size - n, "%%%02x", (unsigned char) *name);
        if (n == 0)
                ret[n++] = '%';
        ret[n] = '\0';
}

static bool unescape(const char *text, char *ret, size_t size) {
        size_t n = 0;

        if (strcmp(text, "%") == 0)
                text = "";
        while (*text && n + 1 < size) {
                unsigned byte = (unsigned char) *text;

                if (byte == '%' && sscanf(text + 1, "%2x", &byte) == 1 && byte != 0 && text[2])
                        text += 2;
                else if (byte == '%')
                        return false;
                text++;
                ret[n++] = (char) byte;
        }
        ret[n] = '\0';
        return !*text;
}

/* ---- <rundir>/.nlm: the boot's id ---- */

static int was_entered(const LockMarks *marks, bool *ret) {
        char text[LOCK_MARK_BOOT] = "";
        ssize_t n = pread(marks->lock_fd, text, sizeof text - 1, 0);

        *ret = strcmp(text, marks->boot) == 0;
        return n < 0 ? -errno : 0;
}

int lock_marks_enter(LockMarks *marks) {
        ssize_t n = pwrite(marks->lock_fd, marks->boot, strlen(marks->boot), 0);

        return n < 0 ? -errno : n < (ssize_t) strlen(marks->boot) ? -ENOSPC : 0;
}

/* ---- NFSVOL_STATEDIR/locks ---- */

/* NUL-terminated, owned. */
static int read_text(int fd, char **ret) {
        char *text = malloc(TEXT_MAX + 1);
        ssize_t n;

        if (!text)
                return -ENOMEM;
        n = io_read_full(fd, text, TEXT_MAX + 1);
        if (n < 0 || n > (ssize_t) TEXT_MAX) {
                free(text);
                return n < 0 ? (int) n : -EFBIG;
        }
        text[n] = '\0';
        *ret = text;
        return 0;
}

static size_t count_lines(const char *text) {
        size_t n = 1;

        for (; *text; text++)
                n += *text == '\n';
        return n;
}

bool lock_mark_is_former(const LockMarks *marks, const LockMark *mark) {
        return strcmp(mark->boot, marks->boot) != 0;
}

static bool mark_parse(const char *line, LockMark *ret) {
        char node[3 * LOCK_MARK_NODE + 1];
        unsigned long long volume;
        unsigned port;

        *ret = (LockMark){ 0 };
        if (sscanf(line, "%36[0-9a-f-] %16llx %79s %5u %79s %9u %768s", ret->boot, &volume, ret->address, &port, ret->local,
                   &ret->tries, node) != 7 ||
            strlen(ret->boot) != LOCK_MARK_BOOT - 1 || port == 0 || port > UINT16_MAX)
                return false;
        ret->volume = volume;
        ret->port = (uint16_t) port;
        return unescape(node, ret->node, sizeof ret->node);
}

static int marks_read(LockMarks *marks) {
        _cleanup_(fd_closep) int fd = open(marks->state_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        _cleanup_(freep) char *text = NULL;
        char *rest, *line;
        int r;

        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        r = read_text(fd, &text);
        if (r < 0)
                return r;
        marks->marks = calloc(count_lines(text), sizeof *marks->marks);
        if (!marks->marks)
                return -ENOMEM;
        for (rest = text; (line = strsep(&rest, "\n")) && rest;) /* one without an end is half a line */
                marks->n_marks += mark_parse(line, &marks->marks[marks->n_marks]);
        return 0;
}

void lock_marks_drop(LockMarks *marks, size_t i) {
        marks->n_marks--;
        memmove(marks->marks + i, marks->marks + i + 1, (marks->n_marks - i) * sizeof *marks->marks);
}

int lock_marks_add(LockMarks *marks, uint64_t volume, const char *address, uint16_t port, const char *local, const char *node) {
        LockMark *grown = reallocarray(marks->marks, marks->n_marks + 1, sizeof *grown), *mark;

        if (!grown)
                return -ENOMEM;
        marks->marks = grown;
        mark = &grown[marks->n_marks++];
        *mark = (LockMark){ .volume = volume, .port = port };
        memcpy(mark->boot, marks->boot, sizeof mark->boot);
        (void) snprintf(mark->address, sizeof mark->address, "%s", address);
        (void) snprintf(mark->local, sizeof mark->local, "%s", *local ? local : "?");
        (void) snprintf(mark->node, sizeof mark->node, "%s", node);
        return 0;
}

bool lock_marks_leave(LockMarks *marks, uint64_t volume) {
        bool any = false;

        for (size_t i = marks->n_marks; i-- > 0;)
                if (marks->marks[i].volume == volume && !lock_mark_is_former(marks, &marks->marks[i])) {
                        lock_marks_drop(marks, i);
                        any = true;
                }
        return any;
}

static int sync_directory(const char *path) {
        _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int marks_write(const LockMarks *marks, const char *path) {
        _cleanup_(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        char node[3 * LOCK_MARK_NODE + 1], text[sizeof(LockMark) + sizeof node];
        int r = fd < 0 ? -errno : 0;

        for (size_t i = 0; i < marks->n_marks && r == 0; i++) {
                const LockMark *mark = &marks->marks[i];
                int n;

                escape(mark->node, node, sizeof node);
                n = snprintf(text, sizeof text, "%s %016llx %s %u %s %u %s\n", mark->boot, (unsigned long long) mark->volume,
                             mark->address, mark->port, mark->local, mark->tries, node);
                r = io_write_full(fd, text, (size_t) n);
        }
        return r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
}

int lock_marks_save(LockMarks *marks) {
        char path[sizeof marks->state_path + 8];
        int r = marks->state_error;

        if (r < 0)
                return r;
        if (marks->n_marks == 0)
                return unlink(marks->state_path) < 0 && errno != ENOENT ? -errno : 0;
        (void) snprintf(path, sizeof path, "%s.new", marks->state_path);
        r = marks_write(marks, path);
        if (r == 0 && rename(path, marks->state_path) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlink(path);
                return r;
        }
        return sync_directory(lock_marks_directory());
}

/* ---- both ---- */

static bool is_same_server(const LockMark *a, const LockMark *b) {
        return strcmp(a->address, b->address) == 0 && a->port == b->port && strcmp(a->local, b->local) == 0 &&
               strcmp(a->node, b->node) == 0;
}

/* Of those of former boots one for each server, the newest FORMER_MAX. */
static void former_reduce(LockMarks *marks) {
        size_t n = 0;

        for (size_t i = marks->n_marks; i-- > 0;) {
                LockMark *mark = &marks->marks[i];
                bool is_there = false;

                if (!lock_mark_is_former(marks, mark))
                        continue;
                for (size_t j = i + 1; j < marks->n_marks && !is_there; j++)
                        is_there = lock_mark_is_former(marks, &marks->marks[j]) && is_same_server(&marks->marks[j], mark);
                if (is_there || ++n > FORMER_MAX)
                        lock_marks_drop(marks, i);
        }
}

/* A state that cannot be read is left as it is: nothing is known of it. */
static void state_open(LockMarks *marks) {
        int r = owned_directory_make(lock_marks_directory(), 0700);

        if (r >= 0)
                r = marks_read(marks);
        marks->state_error = r;
        for (size_t i = 0; i < marks->n_marks; i++)
                if (!lock_mark_is_former(marks, &marks->marks[i]))
                        marks->is_first = false; /* of another run directory, perhaps */
        former_reduce(marks);
}

int lock_marks_open(LockMarks *marks, uint64_t deadline) {
        bool entered;
        int r;

        *marks = (LockMarks){ .lock_fd = -1 };
        if ((size_t) snprintf(marks->rundir_path, sizeof marks->rundir_path, "%s/.nlm", rundir()) >= sizeof marks->rundir_path ||
            (size_t) snprintf(marks->state_path, sizeof marks->state_path, "%s/locks", lock_marks_directory()) >=
                    sizeof marks->state_path)
                return -ENAMETOOLONG;
        r = boot_id(marks->boot);
        if (r >= 0)
                r = rundir_make();
        if (r >= 0)
                r = path_lock(marks->rundir_path, deadline, &marks->lock_fd);
        if (r >= 0)
                r = was_entered(marks, &entered);
        if (r < 0) {
                lock_marks_close(marks);
                return r;
        }
        marks->is_first = !entered;
        state_open(marks);
        return 0;
}

void lock_marks_close(LockMarks *marks) {
        marks->lock_fd = fd_close(marks->lock_fd);
        free(TAKE_PTR(marks->marks));
        marks->n_marks = 0;
}
