/*
 * What `nfsvol status` shows, from the memory alone: it is as true while the server hangs, or while there is no
 * worker, as it is otherwise.
 */
#include <jansson.h>
#include <stdio.h>

#include "config.h"
#include "daemon.h"

#define WAITING_S 5.0 /* an answer that takes longer is worth telling */

static uint64_t load(const _Atomic uint64_t *p) {
        return atomic_load_explicit((_Atomic uint64_t *) p, memory_order_relaxed);
}

/* What the connections are doing right now. */
typedef struct ServerState {
        unsigned connected, not_responding;
        double waiting_s; /* how long the request that waits longest has waited */
} ServerState;

static ServerState server_state(const Memory *memory) {
        ServerState state = { 0 };
        uint64_t now = now_ns();

        for (unsigned i = 0; i < memory->n_reactors; i++) {
                const NfsStats *stats = &memory->stats[i].nfs;
                uint64_t since = __atomic_load_n(&stats->waiting_since, __ATOMIC_RELAXED);

                state.connected += __atomic_load_n(&stats->connected, __ATOMIC_RELAXED) != 0;
                state.not_responding +=
                        atomic_load_explicit((_Atomic uint32_t *) &memory->server_up[i], memory_order_relaxed) == 2;
                if (since && since < now)
                        state.waiting_s = MAX(state.waiting_s, (double) (now - since) / (double) NSEC_PER_SEC);
        }
        return state;
}

static const char *state_name(const Keeper *keeper, const ServerState *server) {
        if (keeper->record->draining)
                return "draining";
        if (keeper->record->failing)
                return "failing";
        if (keeper->worker_pid <= 0 || atomic_load(&keeper->memory->worker_state) != WORKER_SERVING)
                return "starting";
        if (server->not_responding > 0)
                return "not responding";
        return server->waiting_s >= WAITING_S ? "waiting for the server" : "serving";
}

static json_t *server_object(const Keeper *keeper, const ServerState *state) {
        const NfsMountResult *mount = &keeper->memory->mount;
        char address[NFS_ADDR_TEXT_MAX], host[sizeof keeper->memory->source];

        /* "host:/path", "[v6]:/path" */
        (void) snprintf(host, sizeof host, "%s", keeper->memory->source);
        if (strstr(host, ":/"))
                *strstr(host, ":/") = '\0';
        if (nfs_addr_format(&mount->addrs[0], address, sizeof address) < 0)
                address[0] = '\0';
        return json_pack("{s:s, s:s, s:i, s:s, s:b, s:i, s:i, s:f, s:i}", "host", host, "address", address, "port",
                         (int) mount->port, "export", mount->export, "up",
                         state->not_responding == 0 && state->connected > 0 && state->waiting_s < WAITING_S, "connections",
                         (int) state->connected, "mountport", (int) mount->mountport, "waiting_s", state->waiting_s, "nlmport",
                         (int) mount->nlmport);
}

static json_t *rpcs_object(const Memory *memory) {
        json_t *rpcs = json_object();

        for (int p = 0; p < NFS_N_PROCS; p++) {
                uint64_t calls = 0, resent = 0, errors = 0, rtt = 0;

                for (unsigned i = 0; i < memory->n_reactors; i++) {
                        const NfsStats *stats = &memory->stats[i].nfs;

                        calls += stats->calls[p];
                        resent += stats->resent[p];
                        errors += stats->errors[p];
                        rtt += stats->rtt_ns_sum[p];
                }
                calls += memory->lock_stats.calls[p];
                resent += memory->lock_stats.resent[p];
                errors += memory->lock_stats.errors[p];
                rtt += memory->lock_stats.rtt_ns_sum[p];
                if (calls + resent > 0)
                        (void) json_object_set_new(rpcs, nfs_proc_name((enum NfsProc) p),
                                                   json_pack("{s:I, s:I, s:I, s:I}", "calls", (json_int_t) calls, "resent",
                                                             (json_int_t) resent, "errors", (json_int_t) errors, "rtt_us",
                                                             (json_int_t) (calls ? rtt / calls / 1000 : 0)));
        }
        return rpcs;
}

typedef struct Sums {
        uint64_t requests, replies, forgets, interrupts, reply_errors, poisoned, slots_busy, buffers_busy;
        uint64_t bytes_read, bytes_written, connects, connect_failures, timeouts, jukebox, bad_replies, cancels;
        uint64_t recovered[SLOT_DONE + 1];
        uint64_t in_flight;
} Sums;

static void sum_reactors(const Memory *memory, Sums *sums) {
        for (unsigned i = 0; i < memory->n_reactors; i++) {
                const ReactorStats *s = &memory->stats[i];

                sums->requests += load(&s->requests);
                sums->replies += load(&s->replies);
                sums->forgets += load(&s->forgets);
                sums->interrupts += load(&s->interrupts);
                sums->reply_errors += load(&s->reply_errors);
                sums->poisoned += load(&s->poisoned);
                sums->slots_busy += load(&s->slots_busy);
                sums->buffers_busy += load(&s->buffers_busy);
                sums->bytes_read += s->nfs.bytes_read;
                sums->bytes_written += s->nfs.bytes_written;
                sums->connects += s->nfs.connects;
                sums->connect_failures += s->nfs.connect_failures;
                sums->timeouts += s->nfs.timeouts;
                sums->jukebox += s->nfs.jukebox;
                sums->bad_replies += s->nfs.bad_replies;
                sums->cancels += s->nfs.cancels;
                for (int state = 0; state <= SLOT_DONE; state++)
                        sums->recovered[state] += load(&s->recovered[state]);
                for (unsigned j = 0; j < journal_slots(&memory->journal[i]); j++)
                        sums->in_flight += atomic_load_explicit((_Atomic uint32_t *) &memory->journal[i].slots[j].state,
                                                                memory_order_relaxed) != SLOT_FREE;
        }
}

static json_t *counters_object(const Memory *memory, const Sums *s) {
        const struct {
                const char *name;
                uint64_t value;
        } counters[] = {
                { "bytes_read", s->bytes_read },
                { "bytes_written", s->bytes_written },
                { "dirty_bytes", load(&memory->dirty_bytes) },
                { "unstable_bytes", load(&memory->unstable_bytes) },
                { "inodes", load(&memory->n_inodes) },
                { "opens", load(&memory->n_opens) },
                { "forgets", s->forgets },
                { "interrupts", s->interrupts },
                { "replies", s->replies },
                { "reply_errors", s->reply_errors },
                { "slots_busy", s->slots_busy },
                { "buffers_busy", s->buffers_busy },
                { "connects", s->connects },
                { "connect_failures", s->connect_failures },
                { "timeouts", s->timeouts },
                { "jukebox", s->jukebox },
                { "bad_replies", s->bad_replies },
                { "cancels", s->cancels },
                { "recovered_reading", s->recovered[SLOT_READING] },
                { "recovered_queued", s->recovered[SLOT_QUEUED] },
                { "recovered_exec", s->recovered[SLOT_EXEC] },
                { "recovered_done", s->recovered[SLOT_DONE] },
                { "poisoned", s->poisoned },
                { "locks_held", load(&memory->n_locks) },
                { "lock_waiters", load(&memory->n_lock_waiters) },
                { "locks_lost", load(&memory->n_locks_lost) },
                { "handles_replaced", load(&memory->handles_replaced) },
        };
        json_t *object = json_object();

        for (unsigned i = 0; i < ELEMENTSOF(counters); i++)
                (void) json_object_set_new(object, counters[i].name, json_integer((json_int_t) counters[i].value));
        return object;
}

/* Processes that came and went. */
static void add_lives(const Keeper *keeper, json_t *object) {
        const KeeperRecord *record = keeper->record;
        json_t *lives = json_pack("{s:i, s:i, s:i, s:i, s:s, s:{s:i, s:f, s:f}}", "standby_pid",
                                  keeper->standby_fd >= 0 ? (int) record->standby_pid : 0, "keeper_restarts",
                                  (int) record->keeper_restarts, "upgrades", (int) record->upgrades, "stuck", (int) record->stuck,
                                  "last_end", record->death, "stall", "count", (int) record->stalls, "last_ms",
                                  (double) record->last_stall_us / 1000, "worst_ms", (double) record->worst_stall_us / 1000);
        char problem[512];

        (void) json_object_update(object, lives);
        json_decref(lives);
        if (!record->failing)
                return;
        (void) snprintf(problem, sizeof problem,
                        "every request is answered with EIO, because workers end without having answered anything (%u in a row), "
                        "the last so: %s. The next one is tried in %d s, or now by `nfsvol upgrade %s`",
                        record->idle_deaths, record->death, supervise_retry_s(keeper), keeper->memory->id);
        (void) json_object_set_new(object, "problem", json_string(problem));
}

char *status_format(const Keeper *keeper) {
        const Memory *memory = keeper->memory;
        const KeeperRecord *record = keeper->record;
        char *text, *line = NULL;
        ServerState server = server_state(memory);
        Sums sums = { 0 };
        json_t *object;

        sum_reactors(memory, &sums);
        object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:i, s:s, s:s, s:o, s:{s:I, s:I}, s:o, s:o}", "version",
                           NFSVOL_VERSION, "id", memory->id, "source", memory->source, "options", memory->options, "state",
                           state_name(keeper, &server), "keeper_pid", (int) getpid(), "worker_pid", (int) keeper->worker_pid,
                           "users", (json_int_t) keeper->n_users, "uptime_s",
                           (json_int_t) ((uint64_t) time(NULL) - memory->started_at), "restarts", (int) record->worker_restarts,
                           "locks", memory->locks_text, "scope", memory->scope, "server", server_object(keeper, &server),
                           "requests", "in_flight", (json_int_t) sums.in_flight, "total", (json_int_t) sums.requests, "rpcs",
                           rpcs_object(memory), "counters", counters_object(memory, &sums));
        if (!object)
                return NULL;
        add_lives(keeper, object);
        text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
        json_decref(object);
        if (text && asprintf(&line, "%s\n", text) < 0)
                line = NULL;
        free(text);
        return line;
}
