/*
 * The daemon's scope: its name, order and limits, from the volume's options and /etc/nfsvol.conf.
 *
 * Entered before the server is contacted and before anything is forked: from then on nothing of ours is in the
 * cgroup of whoever ran mount(8).
 */
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "conf/config.h"
#include "conf/options.h"
#include "conf/source.h"
#include "config.h"
#include "daemon.h"
#include "sys/scope.h"

#define CONFIG_MAX 65536

/* 0, also without a file; else *ret_message (owned) says what is wrong with it. */
static int read_config(Config *config, char **ret_message) {
        _cleanup_(freep) char *text = malloc(CONFIG_MAX), *why = NULL;
        const char *path = getenv("NFSVOL_CONFIG");
        ssize_t n;
        int r;

        if (!path)
                path = NFSVOL_CONFIG;
        n = text ? io_read_file(path, text, CONFIG_MAX) : -ENOMEM;
        if (n == -ENOENT)
                return 0;
        r = n < 0 ? (int) n : config_parse(config, text, &why);
        if (r < 0 && asprintf(ret_message, "%s: %s", path, why ? why : strerror(-r)) < 0)
                *ret_message = NULL;
        return r;
}

/* Settings without a scope have no effect. */
static void say_no_limits(const Config *config, const SessionOptions *session, const char *why) {
        if (config->n_properties > 0 || config->slice || session->slice)
                log_warning("%s: the slice and the limits in %s are not applied", why, NFSVOL_CONFIG);
        else
                log_info("%s", why);
}

/* Keeper, standby, notifier and what is started for a moment; and the worker's threads, twice while one follows another. */
static uint64_t tasks_needed(const SessionOptions *session) {
        return 8 + 2 * (uint64_t) session->nconnect;
}

static int enter(Keeper *keeper, const SessionOptions *session, const Source *source, const Config *config, char **ret_message) {
        char description[512], unit[SCOPE_NAME_MAX], message[512] = "";
        ScopeLimit limits[CONFIG_PROPERTIES_MAX];
        ScopeConfig scope = {
                .server = source->host,
                .export = source->path,
                .id = keeper->args->id,
                .description = description,
                .slice = session->slice ? session->slice : config->slice,
                .stop_timeout_s = config->stop_timeout_s,
                .limits = limits,
                .n_limits = config->n_properties,
        };
        int r;

        (void) snprintf(description, sizeof description, "NFS volume %s", source->text);
        for (size_t i = 0; i < config->n_properties; i++) {
                limits[i] = (ScopeLimit){ config->properties[i].name, config->properties[i].value };
                if (strcmp(limits[i].name, "TasksMax") == 0 && limits[i].value < tasks_needed(session)) {
                        limits[i].value = tasks_needed(session);
                        log_warning("TasksMax is less than nconnect=%u needs: %llu", (unsigned) session->nconnect,
                                    (unsigned long long) limits[i].value);
                }
        }
        if (keeper->args->target && scope_mount_unit(keeper->args->target, unit) == 0)
                scope.mount_unit = unit;
        r = scope_enter(&scope, keeper->memory->scope, message, sizeof message);
        if (r == 0 && session->scope == SCOPE_REQUIRED) {
                (void) snprintf(message, sizeof message, "scope=required, but systemd does not run this system");
                r = -EOPNOTSUPP;
        }
        if (r == 0)
                say_no_limits(config, session, "systemd does not run this system: no scope");
        if (r < 0 && asprintf(ret_message, "no scope: %s (-o noscope does without)", message) < 0)
                *ret_message = NULL;
        return r;
}

int keeper_enter_scope(Keeper *keeper) {
        _cleanup_(freep) char *why = NULL;
        Source source = { 0 };
        MountOptions options;
        Config config;
        int r;

        config_init(&config);
        mount_options_init(&options);
        r = mount_options_parse(&options, keeper->args->options, &why);
        if (r >= 0)
                r = source_parse(keeper->args->source, &source, &why);
        if (r >= 0)
                r = read_config(&config, &why);
        if (r >= 0 && options.session.scope != SCOPE_NONE)
                r = enter(keeper, &options.session, &source, &config, &why);
        else if (r >= 0)
                say_no_limits(&config, &options.session, "noscope: the daemon stays where mount(8) was run");
        if (r < 0)
                keeper_tell(keeper, "error 32 %s", why ? why : strerror(-r));
        source_done(&source);
        mount_options_done(&options);
        config_done(&config);
        return r < 0 ? r : 0;
}
