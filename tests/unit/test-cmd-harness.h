/*
 * Running the programs as kubelet and people do, against a fake daemon.
 *
 * Each test has a mount namespace of its own with a tmpfs, in which copies of nfsvol and of the fake
 * nfsvold lie side by side.
 */
#pragma once

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct Run {
        int status; /* exit code, or -signal */
        double seconds;
        char out[16384], err[4096];
} Run;

typedef struct Process {
        pid_t pid;
        int out, err;
        uint64_t start;
} Process;

void helper_setup(void);
void helper_teardown(void);

/* The path of something in the scratch directory; good for the next dozen calls. */
const char *at(const char *leaf);
/* As another user if uid is not 0. */
Process start_argv(const char *program, char **argv, uid_t uid);
/* To the end of both outputs, as kubelet does: a daemon that keeps them open shows here. */
Run finish(Process p);
Process start(const char *program, ...);
size_t lines(const char *text);
/* Whether one of ours is topmost there; root NULL: any directory of it. */
bool is_mounted(const char *leaf, const char *root);
/* Beneath the scratch directory. */
size_t count_mounts(void);
/* Of the daemon. */
size_t count_starts(void);
/* No mount, no directory, no lock. */
void expect_nothing_left(const char *what);
/* That exit code, and one line that contains text. */
void expect_failure(const Run *r, int status, const char *text, const char *what);
void expect_success(const Run *r, const char *what);

#define run(...) finish(start(__VA_ARGS__, (char *) NULL))
