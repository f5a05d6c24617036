/*
 * The fake server as a program: fakenfs PORT N_FILES [KEY ACTION ARG SKIP TIMES]...
 *
 * fakenfs --faults: the names of all actions.
 *
 * Serves until it is killed, or its stdin (a pipe) is closed. Prints "port N" when it is ready. A line of stdin adds one more
 * fault, "clear" takes all of them away, "seen KEY" prints "seen KEY N": how many such requests have been read, "acl ID MODE UID
 * ACCESS" is fakenfs_acl().
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fakenfs.h"

static const char *const actions[FAKE_N_ACTIONS] = {
        "none",       "delay",  "drop",          "close",   "close-after", "partial", "status",  "garbage", "bad-xid",
        "raw-length", "accept", "deny",          "length",  "fragment",    "loop",    "trickle", "count",   "name",
        "call",       "type",   "no-attributes", "cookies", "file-id",     "endless", "flood",   "late",
};

static int print_actions(void) {
        for (int i = FAKE_NONE + 1; i < FAKE_N_ACTIONS; i++)
                if (!actions[i] || puts(actions[i]) < 0)
                        return 1;
        return 0;
}

static enum FakeAction action_parse(const char *name) {
        for (int i = 0; i < FAKE_N_ACTIONS; i++)
                if (strcmp(actions[i], name) == 0)
                        return (enum FakeAction) i;
        (void) fprintf(stderr, "fakenfs: no such fault: %s\n", name);
        exit(2);
}

static void add_fault(FakeNfs *fake, char *const *word) {
        fakenfs_fault(fake, atoi(word[0]), action_parse(word[1]), (uint32_t) strtoul(word[2], NULL, 0), (uint32_t) atoi(word[3]),
                      (uint32_t) atoi(word[4]));
}

static void command(FakeNfs *fake, char *line) {
        char *word[5], *rest = line;
        int n = 0;

        while (n < 5 && (word[n] = strsep(&rest, " \n")))
                n++;
        if (strcmp(line, "clear") == 0)
                fakenfs_clear(fake);
        else if (n == 5 && strcmp(line, "acl") == 0)
                fakenfs_acl(fake, strtoull(word[1], NULL, 0), (uint32_t) strtoul(word[2], NULL, 0), (uint32_t) atoi(word[3]),
                            (uint32_t) strtoul(word[4], NULL, 0));
        else if (n == 5)
                add_fault(fake, word);
        else if (n >= 2 && strcmp(line, "seen") == 0)
                (void) printf("seen %s %lu\n", word[1], fakenfs_seen(fake, atoi(word[1])));
        else
                (void) fprintf(stderr, "fakenfs: what is \"%s\"?\n", line);
        (void) fflush(stdout);
}

int main(int argc, char **argv) {
        FakeNfsConfig config = {
                .port = (uint16_t) (argc > 1 ? atoi(argv[1]) : 0),
                .n_files = (uint32_t) (argc > 2 ? atoi(argv[2]) : 1000),
        };
        FakeNfs *fake;
        char *line = NULL;
        size_t size = 0;

        if (argc == 2 && strcmp(argv[1], "--faults") == 0)
                return print_actions();
        fake = fakenfs_start(&config);
        if (!fake) {
                perror("fakenfs");
                return 1;
        }
        for (int i = 3; i + 4 < argc; i += 5)
                add_fault(fake, argv + i);
        (void) printf("port %u\n", fakenfs_port(fake));
        (void) fflush(stdout);
        if (isatty(STDIN_FILENO))
                (void) pause();
        while (getline(&line, &size, stdin) > 0)
                command(fake, line);
        free(line);
        (void) fakenfs_stop(fake);
        return 0;
}
