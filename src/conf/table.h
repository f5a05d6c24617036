/*
 * The option table: what each word of -o means. Private to conf/.
 *
 * An entry says where the value goes (offset, kind, range) and what is done with the option (use); what
 * cannot be said that way has a function, set, which then does all of it. Options that contradict each
 * other share a group.
 */
#pragma once

#include "conf/options.h"

enum OptionKind {
        OPTION_FLAG,   /* no value; a bool becomes `on` */
        OPTION_ATTR,   /* no value; MOUNT_ATTR_* bits */
        OPTION_WORD,   /* no value, and no field of its own (a function, or nothing) */
        OPTION_UINT,   /* decimal, min..max, into a uint32_t */
        OPTION_PORT,   /* decimal, min..max, into a uint16_t */
        OPTION_ENUM,   /* one of words, into an int */
        OPTION_STRING, /* anything not empty, into a char * if there is no function */
        OPTION_ANY,    /* with or without a value, which does not matter */
};

enum OptionUse {
        OPTION_HONOURED,
        OPTION_NOTED,   /* accepted, has no effect: note says why */
        OPTION_IGNORED, /* accepted, and nobody needs to hear about it */
        OPTION_REFUSED, /* note says why, and what to do */
};

typedef struct OptionWord {
        const char *name;
        int value;
} OptionWord;

typedef struct OptionDef OptionDef;

typedef struct OptionParser {
        MountOptions *options;
        char **ret_message;
} OptionParser;

struct OptionDef {
        const char *name;    /* NULL: a heading, in help */
        const char *aliases; /* more names, separated by spaces, or NULL */
        enum OptionKind kind;
        enum OptionUse use;
        const char *group;       /* NULL: contradicts only itself */
        size_t offset;           /* of the field, in MountOptions */
        bool on;                 /* FLAG: what the field becomes */
        uint32_t min, max, def;  /* UINT, PORT; ENUM: def */
        const OptionWord *words; /* ENUM */
        uint64_t attr_set, attr_clr;
        int (*set)(OptionParser *parser, const OptionDef *def, const char *value);
        const char *arg;  /* for humans: what follows the '=' */
        const char *note; /* NOTED, REFUSED */
        const char *help;
};

extern const OptionDef option_table[];
extern const size_t n_option_table;

/* The entry that name (an alias too) belongs to, or NULL. */
const OptionDef *option_find(const char *name);

/* The field that def describes. */
static inline void *option_field(const MountOptions *options, const OptionDef *def) {
        return (char *) (uintptr_t) options + def->offset;
}

/* Sets *ret_message; returns -EINVAL, or -ENOMEM. */
int option_refuse(OptionParser *parser, const char *fmt, ...) _printf_(2, 3);
/* Adds a line to the notes. 0 or -ENOMEM. */
int option_note(OptionParser *parser, const char *fmt, ...) _printf_(2, 3);
/* Digits only, min..max; complains otherwise. */
int option_number(OptionParser *parser, const OptionDef *def, const char *value, uint32_t *ret);

/* One of def->words. */
int option_enum(OptionParser *parser, const OptionDef *def, const char *value);

/* Setters (setters.c). */
int option_set_soft(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_ac(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_actimeo(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_address(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_atime(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_host(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_lock(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_mountproto(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_mountvers(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_proto(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_rdirplus(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_sec(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_scope(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_slice(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_size(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_subdir(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_timeo(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_vers(OptionParser *parser, const OptionDef *def, const char *value);
int option_set_xprtsec(OptionParser *parser, const OptionDef *def, const char *value);
