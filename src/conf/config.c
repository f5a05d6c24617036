/*
 * See include/conf/config.h. inih finds the lines; the keys are one table.
 */
#include <ctype.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "conf/config.h"

enum ValueKind { VALUE_BYTES, VALUE_COUNT, VALUE_NUMBER };

static const char memory_expected[] = "bytes (or with K, M, G or T), at least 16M, or infinity, are expected";

static const struct {
        const char *name;
        enum ValueKind kind;
        uint64_t min, max;
        const char *expected;
} property_table[] = {
        { "MemoryMax", VALUE_BYTES, 16 << 20, UINT64_MAX, memory_expected },
        { "MemoryHigh", VALUE_BYTES, 16 << 20, UINT64_MAX, memory_expected },
        { "CPUWeight", VALUE_NUMBER, 1, 10000, "1 to 10000 is expected" },
        { "IOWeight", VALUE_NUMBER, 1, 10000, "1 to 10000 is expected" },
        { "TasksMax", VALUE_COUNT, 8, UINT64_MAX, "a number, at least 8, or infinity, is expected" },
};

_Static_assert(ELEMENTSOF(property_table) <= CONFIG_PROPERTIES_MAX, "room for each property");

typedef struct Parser {
        Config *config;
        char *message; /* owned */
        int error;
} Parser;

void config_init(Config *config) {
        *config = (Config){ .stop_timeout_s = 60 };
}

void config_done(Config *config) {
        free(config->slice);
        *config = (Config){ 0 };
}

bool config_slice_is_valid(const char *name) {
        static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:\\@";
        static const char suffix[] = ".slice";
        size_t len = strlen(name);

        return len >= sizeof suffix && len <= 200 && strcmp(name + len - strlen(suffix), suffix) == 0 &&
               strspn(name, plain) == len;
}

/* Digits, then K, M, G or T for bytes; "infinity" where that is a value. */
static bool parse_value(enum ValueKind kind, const char *text, uint64_t *ret) {
        static const char suffixes[] = "KMGT";
        unsigned shift = 0;
        const char *found;
        uint64_t value;
        char *end;

        if (kind != VALUE_NUMBER && strcmp(text, "infinity") == 0) {
                *ret = UINT64_MAX;
                return true;
        }
        if (!isdigit((unsigned char) *text))
                return false;
        errno = 0;
        value = strtoull(text, &end, 10);
        if (errno)
                return false;
        if (kind == VALUE_BYTES && *end && (found = strchr(suffixes, *end)) && !end[1]) {
                shift = 10 * (unsigned) (found - suffixes + 1);
                end++;
        }
        if (*end || value > UINT64_MAX >> shift)
                return false;
        *ret = value << shift;
        return true;
}

static int complain(Parser *parser, const char *section, const char *name, const char *value, const char *why) {
        parser->error = -EINVAL;
        if (asprintf(&parser->message, "[%.32s] %.64s = %.64s: %s", section, name, value, why) < 0) {
                parser->message = NULL;
                parser->error = -ENOMEM;
        }
        return 0; /* inih stops */
}

static int set_property(Parser *parser, const char *section, const char *name, const char *value) {
        Config *config = parser->config;
        ConfigProperty *property = NULL;
        uint64_t number;

        for (size_t i = 0; i < ELEMENTSOF(property_table); i++) {
                if (strcmp(name, property_table[i].name) != 0)
                        continue;
                if (!parse_value(property_table[i].kind, value, &number) || number < property_table[i].min ||
                    number > property_table[i].max)
                        return complain(parser, section, name, value, property_table[i].expected);
                for (size_t j = 0; j < config->n_properties; j++)
                        if (config->properties[j].name == property_table[i].name)
                                property = &config->properties[j];
                if (!property)
                        property = &config->properties[config->n_properties++];
                *property = (ConfigProperty){ property_table[i].name, number };
                return 1;
        }
        return complain(parser, section, name, value, "no such setting");
}

static int handle(void *user, const char *section, const char *name, const char *value) {
        Parser *parser = user;
        uint64_t number;

        if (parser->error)
                return 0;
        if (strcmp(section, "scope") != 0)
                return complain(parser, section, name, value, "no such section");
        if (strcmp(name, "Slice") == 0) {
                if (!config_slice_is_valid(value))
                        return complain(parser, section, name, value, "not the name of a slice");
                free(parser->config->slice);
                parser->config->slice = strdup(value);
                parser->error = parser->config->slice ? 0 : -ENOMEM;
                return !parser->error;
        }
        if (strcmp(name, "TimeoutStopSec") == 0) {
                if (!parse_value(VALUE_NUMBER, value, &number) || number < 1 || number > 3600)
                        return complain(parser, section, name, value, "seconds, 1 to 3600, are expected");
                parser->config->stop_timeout_s = (uint32_t) number;
                return 1;
        }
        return set_property(parser, section, name, value);
}

int config_parse(Config *config, const char *text, char **ret_message) {
        Parser parser = { .config = config };
        int line = ini_parse_string(text, handle, &parser);

        if (line == 0 && !parser.error)
                return 0;
        if (!parser.error && asprintf(&parser.message, "line %d is neither [section] nor name = value", line) >= 0)
                parser.error = -EINVAL;
        if (!parser.message)
                return -ENOMEM;
        *ret_message = parser.message;
        return parser.error;
}
