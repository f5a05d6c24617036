/*
 * Mount options: text to values.
 *
 * The grammar is nfs(5)'s and mount(8)'s and lives in one table (table.c). This file splits the text,
 * finds each word in the table and puts its value where the table says. An option is honoured, or
 * accepted and said to have no effect (a note), or refused by name: it is never dropped silently, but
 * for those that are addressed to somebody else (fstab's words, mount(8)'s, the kernel's own that come
 * back in a remount).
 *
 * Of two options that contradict each other the later one counts, as nfs(5) says. kubelet sorts what it
 * is given, though, so there the order means nothing: hence a note.
 *
 * Pure: no files, no network, no globals but constants. Any thread.
 */
#include <libmount.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "conf/options.h"
#include "table.h"

#define OPTIONS_TEXT_MAX 4096 /* a page, as for mount(2) */
#define SHOWN_MAX        64   /* of a word that somebody else wrote, in a message */
#define BG_RETRY         10000
#define N_SAID           64

/* What has been said so far about a group, to see contradictions. Points into the text being parsed. */
typedef struct Said {
        const char *group;
        const OptionDef *def;
        const char *name, *value;
} Said;

typedef struct SaidList {
        Said items[N_SAID];
        size_t n;
} SaidList;

int option_refuse(OptionParser *parser, const char *fmt, ...) {
        char *message;
        va_list ap;
        int r;

        va_start(ap, fmt);
        r = vasprintf(&message, fmt, ap);
        va_end(ap);
        if (r < 0)
                return -ENOMEM;
        free(*parser->ret_message);
        *parser->ret_message = message;
        return -EINVAL;
}

int option_note(OptionParser *parser, const char *fmt, ...) {
        char **notes = &parser->options->notes;
        _cleanup_(freep) char *line = NULL;
        char *all;
        va_list ap;
        int r;

        va_start(ap, fmt);
        r = vasprintf(&line, fmt, ap);
        va_end(ap);
        if (r < 0) {
                line = NULL;
                return -ENOMEM;
        }
        if (!*notes) {
                *notes = TAKE_PTR(line);
                return 0;
        }
        if (strstr(*notes, line))
                return 0;
        if (asprintf(&all, "%s\n%s", *notes, line) < 0)
                return -ENOMEM;
        free(*notes);
        *notes = all;
        return 0;
}

int option_number(OptionParser *parser, const OptionDef *def, const char *value, uint32_t *ret) {
        uint64_t number = 0;
        const char *p = value;

        for (; *p >= '0' && *p <= '9' && number <= UINT32_MAX; p++)
                number = number * 10 + (uint64_t) (*p - '0');
        if (p == value || *p || number < def->min || number > def->max)
                return option_refuse(parser, "option %s=%.*s: a number from %u to %u is expected", def->name, SHOWN_MAX, value,
                                     def->min, def->max);
        *ret = (uint32_t) number;
        return 0;
}

static bool name_in(const char *list, const char *name) {
        size_t len = strlen(name);

        for (const char *p = list; p; p = strchr(p, ' ')) {
                p += strspn(p, " ");
                if (strncmp(p, name, len) == 0 && (p[len] == '\0' || p[len] == ' '))
                        return true;
        }
        return false;
}

const OptionDef *option_find(const char *name) {
        if (*name == '\0' || strchr(name, ' '))
                return NULL;
        for (size_t i = 0; i < n_option_table; i++) {
                const OptionDef *def = &option_table[i];

                if (def->name && (strcmp(def->name, name) == 0 || name_in(def->aliases, name)))
                        return def;
        }
        return NULL;
}

static int option_set_string(const OptionDef *def, MountOptions *options, const char *value) {
        char **field = option_field(options, def);
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*field);
        *field = copy;
        return 0;
}

int option_enum(OptionParser *parser, const OptionDef *def, const char *value) {
        char allowed[128] = "";

        for (const OptionWord *word = def->words; word->name; word++) {
                size_t len = strlen(allowed);

                if (strcmp(word->name, value) == 0) {
                        *(int *) option_field(parser->options, def) = word->value;
                        return 0;
                }
                (void) snprintf(allowed + len, sizeof allowed - len, "%s%s", len ? ", " : "", word->name);
        }
        return option_refuse(parser, "option %s=%.*s: one of %s is expected", def->name, SHOWN_MAX, value, allowed);
}

static bool option_takes_value(const OptionDef *def) {
        return def->kind == OPTION_UINT || def->kind == OPTION_PORT || def->kind == OPTION_ENUM || def->kind == OPTION_STRING;
}

/* Puts the value where the table says. value is NULL where the kind takes none. */
static int option_apply(OptionParser *parser, const OptionDef *def, const char *value) {
        MountOptions *options = parser->options;
        uint32_t number;
        int r;

        if (def->set)
                return def->set(parser, def, value);
        if (def->use != OPTION_HONOURED)
                return 0;
        switch (def->kind) {
        case OPTION_FLAG:
                *(bool *) option_field(options, def) = def->on;
                return 0;
        case OPTION_ATTR:
                options->attr_clr |= def->attr_clr;
                options->attr_set = (options->attr_set & ~def->attr_clr) | def->attr_set;
                return 0;
        case OPTION_UINT:
                return option_number(parser, def, value, option_field(options, def));
        case OPTION_PORT:
                r = option_number(parser, def, value, &number);
                if (r >= 0)
                        *(uint16_t *) option_field(options, def) = (uint16_t) number;
                return r;
        case OPTION_ENUM:
                return option_enum(parser, def, value);
        case OPTION_STRING:
                return option_set_string(def, options, value);
        case OPTION_WORD:
        case OPTION_ANY:
                return 0;
        }
        return 0;
}

/* A later option of the same group overrides an earlier one: say so if they differ. */
static int said_check(SaidList *list, OptionParser *parser, const OptionDef *def, const char *name, const char *value) {
        const char *group = def->group ? def->group : def->name;
        const Said now = { .group = group, .def = def, .name = name, .value = value };

        if (def->use == OPTION_IGNORED)
                return 0;
        for (size_t i = 0; i < list->n; i++) {
                Said *said = &list->items[i];
                Said before = *said;

                if (strcmp(said->group, group) != 0)
                        continue;
                *said = now;
                if (before.def == def && strcmp(before.value ? before.value : "", value ? value : "") == 0)
                        return 0;
                return option_note(parser, "%s%s%.*s overrides %s%s%.*s: the later of two options counts", name, value ? "=" : "",
                                   SHOWN_MAX, value ? value : "", before.name, before.value ? "=" : "", SHOWN_MAX,
                                   before.value ? before.value : "");
        }
        if (list->n < N_SAID)
                list->items[list->n++] = now;
        return 0;
}

static int option_unknown(OptionParser *parser, const char *name) {
        /* Comments for others: systemd's x-systemd.*, x-mount.*, kubelet's and anybody's. */
        if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0)
                return 0;
        if (parser->options->sloppy)
                return option_note(parser, "option %.*s is unknown and ignored (sloppy)", SHOWN_MAX, name);
        return option_refuse(parser, "unknown option %.*s (-s or -o sloppy ignores unknown options)", SHOWN_MAX, name);
}

/* One "name" or "name=value". */
static int option_parse(OptionParser *parser, SaidList *said, const char *name, const char *value) {
        const OptionDef *def = option_find(name);
        int r;

        if (!def)
                return option_unknown(parser, name);
        if (def->use == OPTION_REFUSED)
                return option_refuse(parser, "option %s%s%.*s is not supported: %s", name, value ? "=" : "", SHOWN_MAX,
                                     value ? value : "", def->note);
        if (option_takes_value(def) && (!value || !*value))
                return option_refuse(parser, "option %s needs a value: %s=%s", name, name, def->arg);
        if (!option_takes_value(def) && def->kind != OPTION_ANY && value)
                return option_refuse(parser, "option %s takes no value, but has %.*s", name, SHOWN_MAX, value);
        r = option_apply(parser, def, value);
        if (r < 0)
                return r;
        r = said_check(said, parser, def, name, value);
        if (r < 0)
                return r;
        return def->use == OPTION_NOTED ? option_note(parser, "%s: %s", name, def->note) : 0;
}

/* Splits off the next option. 1: done; the strings are NUL-terminated in place, quotes around a value gone.
 */
static int options_next(char **text, char **ret_name, char **ret_value) {
        size_t name_len, value_len;
        char *name, *value;
        int r;

        *text += strspn(*text, ",");
        r = mnt_optstr_next_option(text, &name, &name_len, &value, &value_len);
        if (r != 0)
                return r;
        name[name_len] = '\0';
        if (value) {
                if (value_len >= 2 && value[0] == '"' && value[value_len - 1] == '"') {
                        value++;
                        value_len -= 2;
                }
                value[value_len] = '\0';
        }
        *ret_name = name;
        *ret_value = value;
        return 0;
}

/* What no later option can repair, checked before anything is taken from the text. */
static int options_check_text(OptionParser *parser, const char *text) {
        bool quoted = false;

        if (strlen(text) >= OPTIONS_TEXT_MAX)
                return option_refuse(parser, "the options are too long: %zu bytes, at most %d are allowed", strlen(text),
                                     OPTIONS_TEXT_MAX - 1);
        for (const char *p = text; *p; p++) {
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        return option_refuse(parser, "the options contain a control character (0x%02x)",
                                             (unsigned) (unsigned char) *p);
                quoted ^= *p == '"';
        }
        if (quoted)
                return option_refuse(parser, "the options contain a quotation mark (\") without its partner");
        return 0;
}

/* min above max: one that has its default gives way to the other. */
static int options_settle_range(OptionParser *parser, uint32_t *min, const char *min_name, uint32_t *max, const char *max_name) {
        if (*min <= *max)
                return 0;
        if (*max == option_find(max_name)->def) {
                *max = *min;
                return option_note(parser, "%s: raised to %u, the value of %s", max_name, *min, min_name);
        }
        if (*min != option_find(min_name)->def)
                return option_refuse(parser, "option %s=%u is above %s=%u", min_name, *min, max_name, *max);
        *min = *max;
        return option_note(parser, "%s: lowered to %u, the value of %s", min_name, *max, max_name);
}

/* What follows from several options together. May run more than once on the same options. */
static int options_settle(OptionParser *parser) {
        MountOptions *options = parser->options;
        SessionOptions *session = &options->session;
        int r;

        if (session->noac) {
                /* nfs(5): noac is actimeo=0 and sync together. */
                session->acregmin = session->acregmax = session->acdirmin = session->acdirmax = 0;
                session->sync = true;
        }
        r = options_settle_range(parser, &session->acregmin, "acregmin", &session->acregmax, "acregmax");
        if (r < 0)
                return r;
        r = options_settle_range(parser, &session->acdirmin, "acdirmin", &session->acdirmax, "acdirmax");
        if (r < 0)
                return r;
        if (options->bg && options->retry == 0)
                options->retry = BG_RETRY;
        return 0;
}

/* sloppy counts wherever it stands. */
static bool options_has_sloppy(const char *text) {
        for (const char *p = text; *p; p += strcspn(p, ",")) {
                p += strspn(p, ",");
                if (strncmp(p, "sloppy", 6) == 0 && (p[6] == ',' || p[6] == '\0'))
                        return true;
        }
        return false;
}

int mount_options_parse(MountOptions *options, const char *text, char **ret_message) {
        char *message = NULL;
        OptionParser parser = { .options = options, .ret_message = &message };
        _cleanup_(freep) char *copy = NULL;
        SaidList said = { .n = 0 };
        char *p, *name, *value;
        int r;

        r = options_check_text(&parser, text ? text : "");
        if (r < 0)
                goto out;
        copy = strdup(text ? text : "");
        if (!copy)
                return -ENOMEM;
        if (options_has_sloppy(copy))
                options->sloppy = true;
        for (p = copy; (r = options_next(&p, &name, &value)) == 0;) {
                r = option_parse(&parser, &said, name, value);
                if (r < 0)
                        goto out;
        }
        if (r < 0)
                r = option_refuse(&parser, "the options cannot be split at %.*s", SHOWN_MAX, p);
        else
                r = options_settle(&parser);
out:
        if (r < 0)
                *ret_message = message; /* NULL without memory */
        else
                free(message);
        return r;
}

void mount_options_init(MountOptions *options) {
        *options = (MountOptions){ .session = { .family = AF_UNSPEC } };
        for (size_t i = 0; i < n_option_table; i++) {
                const OptionDef *def = &option_table[i];

                if (def->use != OPTION_HONOURED)
                        continue;
                if (def->kind == OPTION_UINT)
                        *(uint32_t *) option_field(options, def) = def->def;
                if (def->kind == OPTION_ENUM)
                        *(int *) option_field(options, def) = (int) def->def;
        }
}

void mount_options_done(MountOptions *options) {
        free(options->session.addr);
        free(options->session.mounthost);
        free(options->session.mountaddr);
        free(options->session.slice);
        free(options->subdir);
        free(options->notes);
        *options = (MountOptions){ .session = { .family = AF_UNSPEC } };
}
