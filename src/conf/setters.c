/*
 * The options whose meaning does not fit into a table entry.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "conf/config.h"
#include "table.h"

#define IO_SIZE_DEFAULT 4096      /* what the kernel's client makes of sizes below 1024 */
#define IO_SIZE_MAX     (1 << 20) /* libnfs's receive buffer */
#define TIMEO_MAX       6000      /* tenths: the kernel's NFS_MAX_TCP_TIMEOUT */
#define HOST_MAX        255
#define VERSION_4_TEXT  "NFS version 4 is not supported yet; use vers=3 (or leave vers out)"

static int set_string(OptionParser *parser, const OptionDef *def, const char *value) {
        char **field = option_field(parser->options, def);
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*field);
        *field = copy;
        return 0;
}

/* scope, scope=required, noscope */
int option_set_scope(OptionParser *parser, const OptionDef *def, const char *value) {
        SessionOptions *session = &parser->options->session;

        if (strcmp(def->name, "noscope") == 0)
                session->scope = SCOPE_NONE;
        else if (!value || !*value)
                session->scope = SCOPE_AUTO;
        else if (strcmp(value, "required") == 0)
                session->scope = SCOPE_REQUIRED;
        else
                return option_refuse(parser, "option scope=%.64s: only scope, scope=required and noscope are known", value);
        return 0;
}

/* systemd.slice(5): the name says where it is in the tree, so there is no '/' in it. */
int option_set_slice(OptionParser *parser, const OptionDef *def, const char *value) {
        if (!config_slice_is_valid(value))
                return option_refuse(parser, "option slice=%.64s: the name of a slice is expected, such as system.slice", value);
        return set_string(parser, def, value);
}

/* hard, soft, softerr */
int option_set_soft(OptionParser *parser, const OptionDef *def, const char *value) {
        SessionOptions *session = &parser->options->session;

        session->soft = strcmp(def->name, "soft") == 0;
        session->softerr = strcmp(def->name, "softerr") == 0;
        return 0;
}

/* Takes an earlier noac back, also one that an earlier -o had settled (acXmin=0...). */
int option_set_ac(OptionParser *parser, const OptionDef *def, const char *value) {
        SessionOptions *session = &parser->options->session;

        if (session->noac && session->acregmax == 0 && session->acdirmax == 0) {
                session->acregmin = option_find("acregmin")->def;
                session->acregmax = option_find("acregmax")->def;
                session->acdirmin = option_find("acdirmin")->def;
                session->acdirmax = option_find("acdirmax")->def;
        }
        session->noac = false;
        return 0;
}

int option_set_actimeo(OptionParser *parser, const OptionDef *def, const char *value) {
        SessionOptions *session = &parser->options->session;
        uint32_t number;
        int r;

        r = option_number(parser, def, value, &number);
        if (r < 0)
                return r;
        session->acregmin = session->acregmax = session->acdirmin = session->acdirmax = number;
        return 0;
}

/* A numeric address; for IPv6 possibly with %interface. */
int option_set_address(OptionParser *parser, const OptionDef *def, const char *value) {
        char address[INET6_ADDRSTRLEN];
        size_t len = strcspn(value, "%");
        struct in6_addr binary;

        if (len < sizeof address && strlen(value) < sizeof address + 16) {
                memcpy(address, value, len);
                address[len] = '\0';
                if (inet_pton(AF_INET6, address, &binary) == 1 ||
                    (value[len] == '\0' && inet_pton(AF_INET, address, &binary) == 1))
                        return set_string(parser, def, value);
        }
        return option_refuse(parser, "option %s=%.64s: a numeric address is expected", def->name, value);
}

int option_set_atime(OptionParser *parser, const OptionDef *def, const char *value) {
        MountOptions *options = parser->options;

        /* atime and nostrictatime only take back their opposite, as in mount(8). */
        if ((options->attr_set & MOUNT_ATTR__ATIME) == def->attr_clr || !(options->attr_clr & MOUNT_ATTR__ATIME)) {
                options->attr_set &= ~(uint64_t) MOUNT_ATTR__ATIME;
                options->attr_clr |= MOUNT_ATTR__ATIME;
        }
        return 0;
}

int option_set_host(OptionParser *parser, const OptionDef *def, const char *value) {
        if (strlen(value) > HOST_MAX || strpbrk(value, "/ \"[]"))
                return option_refuse(parser, "option %s=%.64s: a host name or an address is expected", def->name, value);
        return set_string(parser, def, value);
}

/* lock, nolock */
int option_set_lock(OptionParser *parser, const OptionDef *def, const char *value) {
        SessionOptions *session = &parser->options->session;

        session->lock = strcmp(def->name, "lock") == 0;
        session->nolock = !session->lock;
        return 0;
}

static int set_netid(OptionParser *parser, const OptionDef *def, const char *value, int *ret_family) {
        if (strcmp(value, "tcp") == 0)
                *ret_family = AF_INET;
        else if (strcmp(value, "tcp6") == 0)
                *ret_family = AF_INET6;
        else if (strncmp(value, "udp", 3) == 0 || strncmp(value, "rdma", 4) == 0)
                return option_refuse(parser, "option %s=%.64s is not supported: only TCP is; use %s=tcp or leave it out",
                                     def->name, value, def->name);
        else
                return option_refuse(parser, "option %s=%.64s: tcp or tcp6 is expected", def->name, value);
        return 0;
}

/* nfs(5): the netid tcp means IPv4, tcp6 IPv6. The word tcp alone leaves the family open. */
int option_set_proto(OptionParser *parser, const OptionDef *def, const char *value) {
        return set_netid(parser, def, value, &parser->options->session.family);
}

int option_set_mountproto(OptionParser *parser, const OptionDef *def, const char *value) {
        int family;

        return set_netid(parser, def, value, &family);
}

int option_set_mountvers(OptionParser *parser, const OptionDef *def, const char *value) {
        if (strcmp(value, "3") != 0)
                return option_refuse(parser, "option mountvers=%.64s is not supported: NFS version 3 goes with mountvers=3",
                                     value);
        return 0;
}

/* rdirplus, rdirplus=none, rdirplus=force */
int option_set_rdirplus(OptionParser *parser, const OptionDef *def, const char *value) {
        bool none = value && strcmp(value, "none") == 0;

        if (value && !none && strcmp(value, "force") != 0)
                return option_refuse(parser, "option rdirplus=%.64s: none or force is expected, or no value", value);
        parser->options->session.nordirplus = none;
        return 0;
}

/* A colon-separated list, of which we can only do sys. */
int option_set_sec(OptionParser *parser, const OptionDef *def, const char *value) {
        if (strcmp(value, "sys") == 0)
                return 0;
        for (const char *p = value; p; p = strchr(p, ':')) {
                p += *p == ':';
                if (strncmp(p, "sys", 3) == 0 && (p[3] == '\0' || p[3] == ':'))
                        return option_note(parser, "sec=%.64s: only sec=sys is used", value);
        }
        return option_refuse(parser, "option sec=%.64s is not supported: only sec=sys is%s", value,
                             strncmp(value, "krb5", 4) == 0 ? " (there is no Kerberos in this version)" : "");
}

/* As the kernel's client: multiples of 1024; too small is 4096; too big is the most we can. */
int option_set_size(OptionParser *parser, const OptionDef *def, const char *value) {
        uint32_t *field = option_field(parser->options, def);
        uint32_t number, size;
        int r;

        r = option_number(parser, def, value, &number);
        if (r < 0)
                return r;
        if (number == 0)
                size = 0; /* not specified: the server's preference */
        else if (number < 1024)
                size = IO_SIZE_DEFAULT;
        else
                size = MIN(number & ~UINT32_C(1023), (uint32_t) IO_SIZE_MAX);
        *field = size;
        return size == number ? 0 : option_note(parser, "%s=%u: %u is used", def->name, number, size);
}

int option_set_subdir(OptionParser *parser, const OptionDef *def, const char *value) {
        char **field = &parser->options->subdir;
        _cleanup_(freep) char *path = malloc(strlen(value) + 1);
        size_t len = 0;

        if (!path)
                return -ENOMEM;
        for (const char *p = value; *p;) {
                size_t n;

                p += strspn(p, "/");
                n = strcspn(p, "/");
                if (n == 2 && memcmp(p, "..", 2) == 0)
                        return option_refuse(parser, "option subdir=%.64s: \"..\" is not allowed in it", value);
                if (n > 0 && !(n == 1 && *p == '.')) {
                        if (len > 0)
                                path[len++] = '/';
                        memcpy(path + len, p, n);
                        len += n;
                }
                p += n;
        }
        path[len] = '\0';
        free(*field);
        *field = len > 0 ? TAKE_PTR(path) : NULL;
        return 0;
}

int option_set_timeo(OptionParser *parser, const OptionDef *def, const char *value) {
        uint32_t *field = option_field(parser->options, def);
        uint32_t number;
        int r;

        r = option_number(parser, def, value, &number);
        if (r < 0)
                return r;
        *field = MIN(number, (uint32_t) TIMEO_MAX);
        return *field == number ? 0 : option_note(parser, "timeo=%u: %u is used, ten minutes", number, *field);
}

int option_set_vers(OptionParser *parser, const OptionDef *def, const char *value) {
        const char *shown = value ? value : def->name;

        if (value)
                value += *value == 'v';
        else if (def->name[0] == 'v' && def->name[1])
                value = def->name + 1; /* v3, v4.1 */
        else
                value = "4"; /* nfs4 */
        if (strcmp(value, "3") == 0 || strcmp(value, "3.0") == 0) {
                parser->options->session.vers = 3;
                return 0;
        }
        if (value[0] == '4' && (value[1] == '\0' || value[1] == '.'))
                return option_refuse(parser, VERSION_4_TEXT);
        if (strcmp(value, "2") == 0)
                return option_refuse(parser, "NFS version 2 is not supported; use vers=3 (or leave vers out)");
        return option_refuse(parser, "option %s=%.64s: 3 is expected", def->name, shown);
}

int option_set_xprtsec(OptionParser *parser, const OptionDef *def, const char *value) {
        if (strcmp(value, "none") == 0)
                return 0;
        return option_refuse(parser, "option xprtsec=%.64s is not supported: there is no TLS in this version", value);
}
