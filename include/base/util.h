/*
 * Small things every layer uses: ownership attributes, container_of, monotonic time.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define _cleanup_(f)       __attribute__((cleanup(f)))
#define _printf_(fmt, arg) __attribute__((format(printf, fmt, arg)))
#define _unused_           __attribute__((unused))

#define ELEMENTSOF(x) (sizeof(x) / sizeof((x)[0]))
#define MIN(a, b)                                                                                                                \
        ({                                                                                                                       \
                __typeof__(a) a_ = (a);                                                                                          \
                __typeof__(b) b_ = (b);                                                                                          \
                a_ < b_ ? a_ : b_;                                                                                               \
        })
#define MAX(a, b)                                                                                                                \
        ({                                                                                                                       \
                __typeof__(a) a_ = (a);                                                                                          \
                __typeof__(b) b_ = (b);                                                                                          \
                a_ > b_ ? a_ : b_;                                                                                               \
        })

#define container_of(ptr, type, member) ((type *) ((char *) (ptr) -offsetof(type, member)))

/* Hands a pointer (a descriptor) over: the variable that owned it is left empty. */
#define TAKE_PTR(p)                                                                                                              \
        ({                                                                                                                       \
                __typeof__(p) taken_ = (p);                                                                                      \
                (p) = NULL;                                                                                                      \
                taken_;                                                                                                          \
        })
#define TAKE_FD(fd)                                                                                                              \
        ({                                                                                                                       \
                int taken_ = (fd);                                                                                               \
                (fd) = -1;                                                                                                       \
                taken_;                                                                                                          \
        })

static inline void freep(void *p) {
        free(*(void **) p);
}

/* Was this built with a sanitizer that is a world of its own? */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Keeps errno, takes -1, returns -1: fd = fd_close(fd). */
static inline int fd_close(int fd) {
        int saved = errno;

        if (fd >= 0)
                (void) close(fd);
        errno = saved;
        return -1;
}

static inline void fd_closep(int *fd) {
        *fd = fd_close(*fd);
}

#define NSEC_PER_SEC  UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)

/* CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t now_ns(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * NSEC_PER_SEC + (uint64_t) ts.tv_nsec;
}
