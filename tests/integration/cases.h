/*
 * What the programs of the integration tests share: checks that end a process with a message, children,
 * turns between processes, random numbers.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* One case of posix: run in a fresh directory, its cwd, by a child with umask 022. */
typedef struct Case {
        const char *name;
        void (*run)(void);
        void (*run_row)(const void *row); /* instead of run: many cases, one function */
        const void *row;
} Case;

#define CASE(name)                                                                                                               \
        { #name, case_##name }

/* A case that does not end on NFS as it does on a local directory (posix-differs.c). */
typedef struct Difference {
        const char *name, *whose, *why, *man;
        bool sometimes; /* not each time */
        int gives;      /* of a case of the group "errno": what the call gives instead; 0: it succeeds */
} Difference;

extern const Difference differences[];
extern const Case open_cases[], io_cases[], size_cases[], mmap_cases[], name_cases[], rename_cases[], meta_cases[], time_cases[],
        access_cases[], dir_cases[], special_cases[], lock_cases[];
const Case *errno_cases(void);

extern bool on_nfs; /* what holds on the mount is expected, not what holds on a local directory */

_Noreturn void case_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void case_skip(const char *why);
int case_ok(long r, const char *what, const char *file, int line);
void case_fails(long r, int want, const char *what, const char *file, int line);
void case_equal(long long a, long long b, const char *what, const char *file, int line);

#define FAIL(...)        case_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(x)         ((x) ? (void) 0 : FAIL("not so: %s", #x))
#define OK(call)         case_ok((call), #call, __FILE__, __LINE__)
#define FAILS(call, err) case_fails((call), err, #call, __FILE__, __LINE__)
#define EQ(a, b)         case_equal((long long) (a), (long long) (b), #a " == " #b, __FILE__, __LINE__)

/* Files. file_make() and file_is() need the whole content. */
int file_open(const char *path, int flags);
void file_make(const char *path, const void *data, size_t size);
void file_text(const char *path, const char *text);
void file_is(const char *path, const char *text);
void fd_is(int fd, const char *text); /* from offset 0 */
struct stat stat_of(const char *path);
struct stat lstat_of(const char *path);
unsigned mode_of(const char *path);
long long size_of(const char *path);
bool exists(const char *path);
void pattern_fill(uint8_t *p, size_t size, uint64_t seed);
void pattern_check(const uint8_t *p, size_t size, uint64_t seed, size_t from);

/* Children. child_start() is fork(2); the child ends with child_end(); child_wait() fails if it failed. */
pid_t child_start(void);
_Noreturn void child_end(void);
void child_wait(pid_t pid);
void become(uid_t uid, gid_t gid, gid_t group); /* group: the only supplementary one; (gid_t) -1: none */

/* Turns: turn_take() waits for turn_give(). */
int turn_new(void);
void turn_give(int turn);
void turn_take(int turn);

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state) {
        uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static inline uint64_t random_below(uint64_t *state, uint64_t n) {
        return random_next(state) % n;
}
