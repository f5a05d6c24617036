/*
 * A session as canonical text, and the option table for humans.
 */
#include <string.h>
#include <sys/socket.h>

#include "table.h"

static void format_word(FILE *out, bool *first, const char *name) {
        (void) fprintf(out, "%s%s", *first ? "" : ",", name);
        *first = false;
}

static const char *word_name(const OptionDef *def, int value) {
        for (const OptionWord *word = def->words; word->name; word++)
                if (word->value == value)
                        return word->name;
        return NULL;
}

/* The session's only integers that are not plain numbers of the table. */
static void format_special(FILE *out, bool *first, const OptionDef *def, const SessionOptions *session) {
        const char *text = NULL;

        if (strcmp(def->name, "vers") == 0 && session->vers != 0)
                text = "vers=3";
        else if (strcmp(def->name, "scope") == 0 && session->scope != SCOPE_AUTO)
                text = session->scope == SCOPE_REQUIRED ? "scope=required" : "noscope";
        else if (strcmp(def->name, "proto") == 0 && session->family != AF_UNSPEC)
                text = session->family == AF_INET6 ? "proto=tcp6" : "proto=tcp";
        if (text)
                format_word(out, first, text);
}

static void format_option(FILE *out, bool *first, const OptionDef *def, const void *field, const SessionOptions *session) {
        switch (def->kind) {
        case OPTION_FLAG:
                if (def->on && *(const bool *) field)
                        format_word(out, first, def->name);
                break;
        case OPTION_UINT:
                if (*(const uint32_t *) field != def->def) {
                        format_word(out, first, def->name);
                        (void) fprintf(out, "=%u", *(const uint32_t *) field);
                }
                break;
        case OPTION_PORT:
                if (*(const uint16_t *) field != 0) {
                        format_word(out, first, def->name);
                        (void) fprintf(out, "=%u", (unsigned) *(const uint16_t *) field);
                }
                break;
        case OPTION_ENUM:
                if (*(const int *) field != (int) def->def && word_name(def, *(const int *) field)) {
                        format_word(out, first, def->name);
                        (void) fprintf(out, "=%s", word_name(def, *(const int *) field));
                }
                break;
        case OPTION_STRING:
                if (def->set == option_set_host || def->set == option_set_address || def->set == option_set_slice) {
                        if (*(char *const *) field) {
                                format_word(out, first, def->name);
                                (void) fprintf(out, "=%s", *(char *const *) field);
                        }
                } else
                        format_special(out, first, def, session);
                break;
        case OPTION_ANY:
                format_special(out, first, def, session);
                break;
        case OPTION_ATTR:
        case OPTION_WORD:
                break;
        }
}

char *session_options_format(const SessionOptions *session) {
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        bool first = true;
        bool failed;

        if (!out)
                return NULL;
        for (size_t i = 0; i < n_option_table; i++) {
                const OptionDef *def = &option_table[i];

                if (!def->name || def->use != OPTION_HONOURED || def->offset >= sizeof *session)
                        continue;
                /* The session stands first in MountOptions: the same offsets. */
                format_option(out, &first, def, (const char *) session + def->offset, session);
        }
        failed = ferror(out) != 0;
        if (fclose(out) != 0 || failed) {
                free(text);
                return NULL;
        }
        return text;
}

static void help_default(FILE *out, const OptionDef *def) {
        if (def->use != OPTION_HONOURED || def->offset >= sizeof(SessionOptions))
                return;
        if (def->kind == OPTION_UINT && def->def != 0)
                (void) fprintf(out, " [%u]", def->def);
        else if (def->kind == OPTION_ENUM)
                (void) fprintf(out, " [%s]", word_name(def, (int) def->def));
}

/* "refused: why", "no effect: why" */
static void help_note(FILE *out, const OptionDef *def) {
        const char *why = def->note;

        if (!why || strcmp(why, def->help) == 0)
                return;
        if (strncmp(why, "no effect, ", 11) == 0)
                why += 11;
        (void) fprintf(out, ": %s", why);
}

void mount_options_help(FILE *out) {
        for (size_t i = 0; i < n_option_table; i++) {
                const OptionDef *def = &option_table[i];
                char left[64];

                if (!def->name) {
                        (void) fprintf(out, "%s%s:\n", i > 0 ? "\n" : "", def->help);
                        continue;
                }
                (void) snprintf(left, sizeof left, "%s%s%s", def->name, def->arg ? "=" : "", def->arg ? def->arg : "");
                (void) fprintf(out, "  %-31s %s", left, def->help);
                help_note(out, def);
                help_default(out, def);
                if (def->aliases)
                        (void) fprintf(out, " (also: %s)", def->aliases);
                (void) fputc('\n', out);
        }
}
