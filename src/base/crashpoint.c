/*
 * See include/base/crashpoint.h.
 */
#include "base/crashpoint.h"

#ifdef NFSVOL_CRASH_POINTS

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static const struct {
        const char *name;
        uint32_t every;
        const char *window;
} points[CRASH_N_POINTS] = {
#define CRASH_POINT_(id, name, every, window) { name, every, window },
        CRASH_POINTS(CRASH_POINT_)
#undef CRASH_POINT_
};

static uint32_t chosen[CRASH_N_POINTS]; /* EVERY; 0: not there */
static int signals[CRASH_N_POINTS];

/* ":NUMBER", up to the next colon or the end: *ret. text NULL: there is none. */
static int number(char *text, unsigned long max, unsigned long *ret, char **ret_rest) {
        char *end = text;

        if (!text)
                return 0;
        *ret = strtoul(text, &end, 10);
        *ret_rest = *end == ':' ? end + 1 : NULL;
        return end == text || (*end && *end != ':') || *ret == 0 || *ret > max ? -EINVAL : 0;
}

static int choose(char *word) {
        unsigned long every = 0, signal = SIGKILL;
        char *rest = word;

        (void) strsep(&rest, ":");
        if (number(rest, UINT32_MAX, &every, &rest) < 0 || number(rest, SIGRTMAX, &signal, &rest) < 0 || rest)
                return -EINVAL;
        for (unsigned i = 0; i < CRASH_N_POINTS; i++)
                if (strcmp(points[i].name, word) == 0) {
                        chosen[i] = every ? (uint32_t) every : points[i].every;
                        signals[i] = (int) signal;
                        return 0;
                }
        return -EINVAL;
}

int crash_points_load(void) {
        const char *text = secure_getenv("NFSVOL_CRASH_AT");
        char words[1024], *rest = words, *word;

        srandom((unsigned) getpid() ^ (unsigned) now_ns());
        if (!text)
                return 0;
        if (strcmp(text, "all") == 0) {
                for (unsigned i = 0; i < CRASH_N_POINTS; i++) {
                        chosen[i] = points[i].every;
                        signals[i] = SIGKILL;
                }
                return 0;
        }
        (void) snprintf(words, sizeof words, "%s", text);
        while ((word = strsep(&rest, ",")))
                if (choose(word) < 0) {
                        log_error("NFSVOL_CRASH_AT: no such point, or not NAME:EVERY:SIGNAL: %s", word);
                        return -EINVAL;
                }
        return 0;
}

void crash_points_list(void) {
        for (unsigned i = 0; i < CRASH_N_POINTS; i++)
                (void) printf("%s\t%u\t%s\n", points[i].name, points[i].every, points[i].window);
}

void crash_point_passed(enum CrashPoint point) {
        if (chosen[point] == 0 || random() % chosen[point] != 0)
                return;
        log_notice("crash point %s", points[point].name);
        (void) raise(signals[point]);
}

#endif
