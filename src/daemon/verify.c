/*
 * `nfsvol status --verify`: the worker is asked to check its tables (include/vfs/verify.h), and its numbers are put into words.
 *
 * The asking is a number in the memory and a call on the first reactor's eventfd. A successor of a worker that dies over it
 * answers, too. Answers are looked for by a timer: no client, and no worker, can hold the keeper up.
 */
#include <assert.h>
#include <stdio.h>

#include "daemon.h"

#define LOOK_USEC  2000
#define BOUND_USEC (8 * 1000 * 1000)

typedef struct Verification {
        Keeper *keeper;
        int client_fd;
        uint32_t number; /* of the question */
        uint64_t until;  /* usec */
        sd_event_source *timer;
} Verification;

static const char *const count_names[] = {
        [VERIFY_INODES] = "inodes",         [VERIFY_LOOKUPS] = "lookups",         [VERIFY_PINS] = "pins",
        [VERIFY_OPENS] = "opens",           [VERIFY_OPEN_DIRS] = "open_dirs",     [VERIFY_REQUESTS] = "requests",
        [VERIFY_DIRTY] = "extents_dirty",   [VERIFY_SENT] = "extents_sent",       [VERIFY_UNSTABLE] = "extents_unstable",
        [VERIFY_LOCKS_HELD] = "locks_held", [VERIFY_LOCKS_ASKED] = "locks_asked", [VERIFY_BACKGROUND] = "background",
        [VERIFY_DAMAGED] = "damaged",
};
static_assert(ELEMENTSOF(count_names) == VERIFY_N_COUNTS, "each count has a name");

/* What is numbered, and what should be so. */
static const struct {
        const char *what, *rule;
} rules[] = {
        [VERIFY_INODE_RECORD] = { "node", "is in the table, and its record is as it was written" },
        [VERIFY_INODE_INDEX] = { "node", "is what its file handle leads to (0: as many handles as nodes)" },
        [VERIFY_INODE_UNUSED] = { "node", "is known to the kernel or needed by us" },
        [VERIFY_INODE_PINS] = { "node", "is pinned as often as somebody needs it" },
        [VERIFY_INODE_OPENS] = { "node", "is open as often as there are opens of it" },
        [VERIFY_INODE_CHILDREN] = { "node", "counts the open files in this directory" },
        [VERIFY_INODE_WRITING] = { "node", "counts its WRITEs in flight" },
        [VERIFY_INODE_COUNT] = { "inodes", "as many are counted as there are" },
        [VERIFY_INODE_FREE] = { "inodes", "as many are free as are not used" },
        [VERIFY_UNPLACED] = { "opens", "open files of which no directory is known are counted" },
        [VERIFY_OPEN_RECORD] = { "open", "its record is as it was written" },
        [VERIFY_OPEN_INODE] = { "open", "its inode is in the table" },
        [VERIFY_OPEN_COUNT] = { "opens", "as many are counted as there are" },
        [VERIFY_OPEN_FREE] = { "opens", "as many are free as are not used" },
        [VERIFY_EXTENT_RECORD] = { "extent", "its record is as it was written" },
        [VERIFY_EXTENT_INODE] = { "extent", "its inode is in the table, and knows that data is on its way" },
        [VERIFY_EXTENT_FILE] = { "extent", "is in the right list of its file, at its place" },
        [VERIFY_EXTENT_FREE] = { "extent", "is nobody's if it is free" },
        [VERIFY_EXTENT_ROOM] = { "extents", "the room that they take is counted" },
        [VERIFY_EXTENT_BYTES] = { "extents", "their bytes are counted (1: dirty and sent, 3: unstable)" },
        [VERIFY_PENDING_EXTENTS] = { "node", "counts its extents" },
        [VERIFY_PENDING_SENT] = { "node", "counts what it has sent" },
        [VERIFY_PENDING_WAITER] = { "node", "who waits for its data has something to wait for" },
        [VERIFY_PENDING_EMPTY] = { "node", "has data on its way if it says so" },
        [VERIFY_ROOM_WAITER] = { "extents", "nobody waits for room when all is free" },
        [VERIFY_LOCK_RECORD] = { "lock", "its record is as it was written" },
        [VERIFY_LOCK_FILE] = { "node", "has locks if it says so (0: each record is somebody's)" },
        [VERIFY_LOCK_COUNT] = { "locks", "as many are counted as there are" },
        [VERIFY_LOCK_FREE] = { "locks", "as many are free as are not used" },
        [VERIFY_SLOT_STATE] = { "slot", "is in use if a request is in it, and only then" },
        [VERIFY_SLOT_REQUEST] = { "slot", "holds the request that the kernel sent" },
        [VERIFY_SLOT_COUNT] = { "channel", "counts its requests" },
        [VERIFY_BUFFERS] = { "channel", "its buffers are taken by who is in them" },
};
static_assert(ELEMENTSOF(rules) == VERIFY_N_RULES, "each rule has its words");

static void verification_free(Verification *verification) {
        (void) sd_event_source_disable_unref(verification->timer);
        (void) fd_close(verification->client_fd);
        free(verification);
}

static json_t *fault_string(const VerifyFault *fault) {
        uint32_t rule = fault->rule;
        char text[256];

        if (rule >= VERIFY_N_RULES)
                return json_string("a violation that this version does not know");
        (void) snprintf(text, sizeof text, "%s %llu: not so: %s: %llu instead of %llu", rules[rule].what,
                        (unsigned long long) fault->what, rules[rule].rule, (unsigned long long) fault->found,
                        (unsigned long long) fault->expected);
        return json_string(text);
}

static json_t *report_object(const VerifyReport *report) {
        json_t *counts = json_object(), *faults = json_array();

        for (unsigned i = 0; i < VERIFY_N_COUNTS; i++)
                (void) json_object_set_new(counts, count_names[i], json_integer((json_int_t) report->counts[i]));
        for (uint32_t i = 0; i < MIN(report->n_faults, (uint32_t) VERIFY_FAULTS_MAX); i++)
                (void) json_array_append_new(faults, fault_string(&report->faults[i]));
        return json_pack("{s:{s:b, s:o, s:I, s:o}}", "verify", "consistent", report->n_faults == 0, "counts", counts,
                         "n_violations", (json_int_t) report->n_faults, "violations", faults);
}

/* Whole, and not older than the question. */
static bool is_answered(const Verification *verification, VerifyReport *ret) {
        VerifyReport *report = &verification->keeper->memory->verify;
        uint32_t answered = atomic_load(&report->answered);

        if ((int32_t) (answered - verification->number) < 0)
                return false;
        *ret = *report;
        /* nothing of that is read after this, which is there for its order only: thread sanitizers know no fences */
        (void) atomic_fetch_add(&report->answered, 0);
        return atomic_load(&report->begun) == answered && atomic_load(&report->answered) == answered;
}

static int look(sd_event_source *source, uint64_t usec, void *userdata) {
        Verification *verification = userdata;
        VerifyReport report;

        if (is_answered(verification, &report))
                control_answer(TAKE_FD(verification->client_fd), report_object(&report));
        else if (usec > verification->until)
                control_answer(TAKE_FD(verification->client_fd), json_pack("{s:s}", "error", "there is no worker that answers"));
        else
                return sd_event_source_set_time(source, usec + LOOK_USEC) < 0 ||
                                       sd_event_source_set_enabled(source, SD_EVENT_ONESHOT) < 0
                               ? -EIO
                               : 0;
        verification_free(verification);
        return 0;
}

void verify_start(Keeper *keeper, int fd) {
        Verification *verification = calloc(1, sizeof *verification);
        uint64_t now;

        if (!verification)
                return control_answer(fd, NULL);
        verification->keeper = keeper;
        verification->client_fd = fd;
        if (sd_event_now(keeper->event, CLOCK_MONOTONIC, &now) < 0 ||
            sd_event_add_time(keeper->event, &verification->timer, CLOCK_MONOTONIC, now + LOOK_USEC / 4, LOOK_USEC / 4, look,
                              verification) < 0)
                return verification_free(verification);
        verification->until = now + BOUND_USEC;
        verification->number = atomic_fetch_add(&keeper->memory->verify.asked, 1) + 1;
        (void) !write(keeper->record->ping_fd[0], &(uint64_t){ 1 }, sizeof(uint64_t));
}
