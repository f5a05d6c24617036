/*
 * See include/sys/scope.h.
 *
 * StartTransientUnit returns when the job is queued, before the process has moved: so JobRemoved is subscribed to
 * first, and awaited. PIDs=[0] means the sender of the message, whatever pid namespace it lives in.
 *
 * A taken name: our own failed remnant is reset (CollectMode= makes systemd do that by itself, but not a systemd
 * that an administrator has configured otherwise); one that is alive belongs to a daemon that no longer has the
 * volume's name but still has users (it drains): then the name gets a number.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

#include "base/io.h"
#include "base/log.h"
#include "sys/scope.h"

#define MANAGER       "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
#define PRIVATE_BUS   "unix:path=/run/systemd/private"
#define READY_TIMEOUT (4 * UINT64_C(1000000)) /* usec; of a bus */
#define OWNER_NS      NSEC_PER_SEC
#define CALL_TIMEOUT  (6 * UINT64_C(1000000)) /* of a call, and of the job */
#define COMM_SIZE     32
#define NAMES_MAX     16
#define PART_MAX      80 /* of server and export in the name, escaped */

typedef struct Job {
        char *path;
        char *result; /* "done", "failed", "canceled", ... */
        sd_bus_slot *slot;
        struct Removed {
                char path[128], result[32];
        } removed[32]; /* jobs that ended before we knew ours */
        unsigned n_removed;
} Job;

/* ---- names ---- */

static bool is_plain(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':' || c == '.';
}

/* unit_name_escape() of systemd: '/' is '-', the rest \xNN. Cut at a character's end. */
static void escape(const char *text, char *buf, size_t size) {
        size_t n = 0;

        for (const char *p = text; *p; p++) {
                char one[8];
                size_t len;

                if (*p == '/')
                        (void) snprintf(one, sizeof one, "-");
                else if (is_plain(*p) && !(*p == '.' && n == 0))
                        (void) snprintf(one, sizeof one, "%c", *p);
                else
                        (void) snprintf(one, sizeof one, "\\x%02x", (unsigned char) *p);
                len = strlen(one);
                if (n + len + 1 > size)
                        break;
                memcpy(buf + n, one, len);
                n += len;
        }
        buf[n] = '\0';
}

void scope_name(const ScopeConfig *config, unsigned n, char ret[static SCOPE_NAME_MAX]) {
        char server[PART_MAX], export[PART_MAX], number[16] = "";

        escape(config->server, server, sizeof server);
        escape(*config->export == '/' ? config->export + 1 : config->export, export, sizeof export);
        if (n > 0)
                (void) snprintf(number, sizeof number, "-%u", n);
        (void) snprintf(ret, SCOPE_NAME_MAX, "nfsvol-%s-%s-%.32s%s.scope", server, export, config->id, number);
}

int scope_mount_unit(const char *target, char ret[static SCOPE_NAME_MAX]) {
        size_t room = SCOPE_NAME_MAX - sizeof ".mount";
        char *escaped;

        while (*target == '/')
                target++;
        escape(*target ? target : "/", ret, room + 1);
        escaped = ret + strlen(ret);
        if ((size_t) (escaped - ret) + 4 > room)
                return -ENAMETOOLONG; /* systemd hashes such names: not ours to guess */
        (void) strcpy(escaped, ".mount");
        return 0;
}

/* ---- the bus ---- */

static int open_private(sd_bus **ret) {
        sd_bus *bus = NULL;
        int r;

        r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, PRIVATE_BUS);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0) {
                sd_bus_close_unref(bus);
                return r;
        }
        *ret = bus;
        return 0;
}

/* Connecting and Hello. sd-bus would wait for them as long as it likes in the first call. */
static int wait_ready(sd_bus *bus) {
        uint64_t deadline = now_ns() / 1000 + READY_TIMEOUT;

        for (;;) {
                uint64_t now = now_ns() / 1000;
                int r;

                r = sd_bus_is_ready(bus);
                if (r != 0)
                        return r < 0 ? r : 0;
                r = sd_bus_process(bus, NULL);
                if (r < 0)
                        return r;
                if (r > 0)
                        continue;
                if (now >= deadline)
                        return -ETIMEDOUT;
                r = sd_bus_wait(bus, deadline - now);
                if (r < 0 && r != -EINTR)
                        return r;
        }
}

static int job_removed(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *path, *unit, *result;
        Job *job = userdata;
        uint32_t id;

        (void) error;
        if (sd_bus_message_read(message, "uoss", &id, &path, &unit, &result) < 0)
                return 0;
        if (job->path && strcmp(job->path, path) == 0 && !job->result) {
                job->result = strdup(result);
        } else if (!job->path && strncmp(unit, "nfsvol-", 7) == 0) {
                struct Removed *removed = &job->removed[job->n_removed++ % ELEMENTSOF(job->removed)];

                (void) snprintf(removed->path, sizeof removed->path, "%s", path);
                (void) snprintf(removed->result, sizeof removed->result, "%s", result);
        }
        return 0;
}

static int append_properties(sd_bus_message *m, const ScopeConfig *config, bool oom_policy) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "PIDs", "au", 1, 0);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "Description", "s", config->description);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "Documentation", "as", 1, "man:nfsvold(8)");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "CollectMode", "s", "inactive-or-failed");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "TimeoutStopUSec", "t", (uint64_t) config->stop_timeout_s * 1000000);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "KillMode", "s", "control-group");
        if (r >= 0 && oom_policy)
                r = sd_bus_message_append(m, "(sv)", "OOMPolicy", "s", "continue");
        /* stopped before the network is, and after what is mounted of us */
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "After", "as", 2, "network.target", "network-online.target");
        if (r >= 0)
                r = config->mount_unit
                            ? sd_bus_message_append(m, "(sv)", "Before", "as", 2, "remote-fs-pre.target", config->mount_unit)
                            : sd_bus_message_append(m, "(sv)", "Before", "as", 1, "remote-fs-pre.target");
        if (r >= 0 && config->slice)
                r = sd_bus_message_append(m, "(sv)", "Slice", "s", config->slice);
        for (size_t i = 0; i < config->n_limits && r >= 0; i++)
                r = sd_bus_message_append(m, "(sv)", config->limits[i].name, "t", config->limits[i].value);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r;
}

static int start_unit(sd_bus *bus, const ScopeConfig *config, const char *name, bool oom_policy, sd_bus_error *error,
                      char **ret_job) {
        sd_bus_message *m = NULL, *reply = NULL;
        const char *path;
        int r;

        r = sd_bus_message_new_method_call(bus, &m, MANAGER, "StartTransientUnit");
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", name, "fail");
        if (r >= 0)
                r = append_properties(m, config, oom_policy);
        if (r >= 0)
                r = sd_bus_message_append(m, "a(sa(sv))", 0);
        if (r >= 0)
                r = sd_bus_call(bus, m, CALL_TIMEOUT, error, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0) {
                *ret_job = strdup(path);
                r = *ret_job ? 0 : -ENOMEM;
        }
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        return r;
}

static int wait_job(sd_bus *bus, Job *job, uint64_t deadline) {
        for (unsigned i = 0; i < MIN(job->n_removed, (unsigned) ELEMENTSOF(job->removed)); i++)
                if (strcmp(job->removed[i].path, job->path) == 0)
                        job->result = strdup(job->removed[i].result);
        while (!job->result) {
                uint64_t now = now_ns() / 1000;
                int r;

                r = sd_bus_process(bus, NULL);
                if (r < 0)
                        return r;
                if (r > 0)
                        continue;
                if (now >= deadline)
                        return -ETIMEDOUT;
                r = sd_bus_wait(bus, deadline - now);
                if (r < 0 && r != -EINTR)
                        return r;
        }
        return strcmp(job->result, "done") == 0 ? 0 : -ECANCELED;
}

/*
 * Tries names until one is free. A worker that the OOM killer took is replaced: systemd must not stop the scope for it, as it
 * does by default where scopes have a policy for that (since 253; before, the property is refused).
 */
static int start_any(sd_bus *bus, const ScopeConfig *config, Job *job, char name[static SCOPE_NAME_MAX], char *message,
                     size_t size) {
        bool reset = false, oom_policy = true;
        int r = -EEXIST;

        for (unsigned n = 0; n < NAMES_MAX;) {
                sd_bus_error error = SD_BUS_ERROR_NULL;
                bool exists, unknown;

                scope_name(config, n, name);
                r = start_unit(bus, config, name, oom_policy, &error, &job->path);
                unknown = r < 0 && sd_bus_error_has_name(&error, SD_BUS_ERROR_PROPERTY_READ_ONLY);
                exists = r < 0 && sd_bus_error_has_name(&error, "org.freedesktop.systemd1.UnitExists");
                if (r < 0)
                        (void) snprintf(message, size, "systemd refuses %s: %s", name,
                                        error.message ? error.message : strerror(-r));
                sd_bus_error_free(&error);
                if (unknown && oom_policy) {
                        oom_policy = false;
                        continue;
                }
                if (!exists)
                        return r;
                if (!reset) {
                        (void) sd_bus_call_method(bus, MANAGER, "ResetFailedUnit", NULL, NULL, "s", name);
                        reset = true;
                        continue;
                }
                reset = false;
                n++;
        }
        return r;
}

static int enter_over(sd_bus *bus, const ScopeConfig *config, char ret_unit[static SCOPE_NAME_MAX], char *message, size_t size) {
        char name[SCOPE_NAME_MAX];
        Job job = { 0 };
        int r;

        (void) sd_bus_set_method_call_timeout(bus, CALL_TIMEOUT);
        r = wait_ready(bus);
        if (r >= 0)
                r = sd_bus_match_signal(bus, &job.slot, MANAGER, "JobRemoved", job_removed, &job);
        if (r >= 0)
                r = sd_bus_call_method(bus, MANAGER, "Subscribe", NULL, NULL, "");
        if (r < 0)
                (void) snprintf(message, size, "systemd does not answer: %s", strerror(-r));
        if (r >= 0)
                r = start_any(bus, config, &job, name, message, size);
        if (r >= 0) {
                r = wait_job(bus, &job, now_ns() / 1000 + CALL_TIMEOUT);
                if (r < 0)
                        (void) snprintf(message, size, "systemd did not start %s: %s", name,
                                        job.result ? job.result : strerror(-r));
        }
        if (r >= 0)
                memcpy(ret_unit, name, SCOPE_NAME_MAX);
        sd_bus_slot_unref(job.slot);
        free(job.path);
        free(job.result);
        return r;
}

/* Did it not get through, so that another way is worth trying? A refusal is an answer. */
static bool is_transport_error(int r) {
        return r == -ETIMEDOUT || r == -ECONNREFUSED || r == -ENOENT || r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE ||
               r == -EHOSTUNREACH || r == -ENOTSUP;
}

/* Its name, or "": not known. */
static const char *first_process(char comm[static COMM_SIZE]) {
        if (io_read_file("/proc/1/comm", comm, COMM_SIZE) < 0)
                comm[0] = '\0';
        comm[strcspn(comm, "\n")] = '\0';
        return comm;
}

/*
 * A pid namespace ends with its first process, and everything in it is killed, whatever cgroup it is in. So a
 * daemon can outlive its caller only in the namespace whose first process is systemd.
 */
static bool in_systemds_pid_namespace(void) {
        char comm[COMM_SIZE];

        return *first_process(comm) == '\0' || strcmp(comm, "systemd") == 0 || strcmp(comm, "init") == 0;
}

static int has_owner(sd_bus *bus, const char *name) {
        sd_bus_message *reply = NULL;
        int owned = 0, r;

        r = sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", NULL,
                               &reply, "s", name);
        if (r >= 0)
                r = sd_bus_message_read(reply, "b", &owned);
        sd_bus_message_unref(reply);
        return r < 0 ? r : owned;
}

/*
 * Does systemd run this system? In a container that has the host's D-Bus socket it does, although nothing else in it says so. One
 * that sees systemd as its first process waits for the bus, which knows systemd only a moment after it was started by our
 * connection, and takes no answer for an error; without that, whoever does not answer is not systemd's.
 */
static int is_systemds(void) {
        char comm[COMM_SIZE];
        bool expected = strcmp(first_process(comm), "systemd") == 0;
        uint64_t deadline = now_ns() + (expected ? OWNER_NS : 0);
        sd_bus *bus = NULL;
        int r;

        if (sd_booted() > 0)
                return 1;
        r = sd_bus_open_system(&bus);
        if (r == -ENOENT || r == -ECONNREFUSED)
                return 0;
        if (r >= 0) {
                (void) sd_bus_set_method_call_timeout(bus, CALL_TIMEOUT);
                r = wait_ready(bus);
        }
        while (r >= 0 && (r = has_owner(bus, "org.freedesktop.systemd1")) == 0 && now_ns() < deadline)
                (void) usleep(20 * 1000);
        sd_bus_close_unref(bus);
        return r < 0 && !expected ? 0 : r;
}

int scope_enter(const ScopeConfig *config, char ret_unit[static SCOPE_NAME_MAX], char *message, size_t size) {
        sd_bus *bus = NULL;
        int r;

        r = is_systemds();
        if (r < 0)
                (void) snprintf(message, size, "the system bus does not answer: %s", strerror(-r));
        if (r <= 0)
                return r;
        if (!in_systemds_pid_namespace()) {
                (void) snprintf(message, size,
                                "this is a container with a pid namespace of its own, and the daemon would be killed "
                                "with it: run it with the host's (hostPID: true), or mount with nsenter --target 1 "
                                "--pid --mount");
                return -ESRCH;
        }
        r = sd_bus_open_system(&bus);
        if (r < 0)
                (void) snprintf(message, size, "cannot reach the system bus: %s", strerror(-r));
        else
                r = enter_over(bus, config, ret_unit, message, size);
        bus = sd_bus_close_unref(bus);
        if (r < 0 && is_transport_error(r) && geteuid() == 0) {
                log_notice("%s; trying systemd's own socket", message);
                r = open_private(&bus);
                if (r < 0)
                        (void) snprintf(message, size, "cannot reach systemd: %s", strerror(-r));
                else
                        r = enter_over(bus, config, ret_unit, message, size);
                sd_bus_close_unref(bus);
        }
        return r < 0 ? r : 1;
}
