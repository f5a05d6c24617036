/*
 * "host:/path": what a mount's source means.
 *
 * As nfs-utils: an IPv6 address stands in brackets, the first colon otherwise ends the host. What comes
 * from a pod's author reaches a command line, messages and a hash, so control characters are refused,
 * and so is "..", which a server would refuse, or worse, follow. Pure.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "conf/source.h"

#define SOURCE_MAX 4096
#define HOST_MAX   255
#define FORM       "HOST:/PATH is expected"

static int refuse(char **ret_message, const char *fmt, ...) _printf_(2, 3);
static int refuse(char **ret_message, const char *fmt, ...) {
        char *message;
        va_list ap;
        int r;

        va_start(ap, fmt);
        r = vasprintf(&message, fmt, ap);
        va_end(ap);
        if (r < 0)
                return -ENOMEM;
        *ret_message = message;
        return -EINVAL;
}

/* An IPv6 address, possibly with %interface. */
static bool host_is_v6(const char *host) {
        char address[INET6_ADDRSTRLEN];
        size_t len = strcspn(host, "%");
        struct in6_addr binary;

        if (len >= sizeof address || (host[len] == '%' && !host[len + 1]))
                return false;
        memcpy(address, host, len);
        address[len] = '\0';
        if (inet_pton(AF_INET6, address, &binary) != 1)
                return false;
        for (const char *p = host + len; *p; p++)
                if (!isalnum((unsigned char) *p) && !strchr("%._-", *p))
                        return false;
        return true;
}

static bool host_is_name(const char *host) {
        for (const char *p = host; *p; p++)
                if (!isalnum((unsigned char) *p) && !strchr(".-_", *p) && (unsigned char) *p < 0x80)
                        return false;
        return *host != '\0' && *host != '-' && *host != '.';
}

/* Splits into host and the text behind the colon. */
static int source_split(const char *text, char **ret_host, const char **ret_path, char **ret_message) {
        const char *end;
        char *host;

        if (*text == '[') {
                end = strchr(text, ']');
                if (!end)
                        return refuse(ret_message, "the '[' in the source has no ']'; [ADDRESS]:/PATH is expected");
                if (end[1] != ':')
                        return refuse(ret_message, "after the ']' of the source a ':' is missing; [ADDRESS]:/PATH is expected");
                host = strndup(text + 1, (size_t) (end - text - 1));
                if (!host)
                        return -ENOMEM;
                if (!host_is_v6(host)) {
                        free(host);
                        return refuse(ret_message, "there is no IPv6 address in the brackets of the source");
                }
                *ret_host = host;
                *ret_path = end + 2;
                return 0;
        }
        end = strchr(text, ':');
        if (!end)
                return refuse(ret_message, "the source has no ':'; " FORM);
        if (end == text)
                return refuse(ret_message, "the source has no host before the ':'; " FORM);
        if (end - text > HOST_MAX)
                return refuse(ret_message, "the host in the source is too long");
        if (end[1] != '/' && strstr(end, ":/") && strchr(text, '/') > end &&
            strspn(text, "0123456789abcdefABCDEF:.%") > (size_t) (end - text + 1))
                return refuse(ret_message, "an IPv6 address in the source needs brackets: [ADDRESS]:/PATH");
        host = strndup(text, (size_t) (end - text));
        if (!host)
                return -ENOMEM;
        if (!host_is_name(host)) {
                free(host);
                return refuse(ret_message, "the source does not start with a host name or address; " FORM);
        }
        *ret_host = host;
        *ret_path = end + 1;
        return 0;
}

/* Drops empty and "." components. path is absolute and free of "..". */
static void path_simplify(const char *path, char *out) {
        size_t len = 0;

        while (*path) {
                size_t n;

                path += strspn(path, "/");
                n = strcspn(path, "/");
                if (n > 0 && !(n == 1 && *path == '.')) {
                        out[len++] = '/';
                        memcpy(out + len, path, n);
                        len += n;
                }
                path += n;
        }
        if (len == 0)
                out[len++] = '/';
        out[len] = '\0';
}

static bool path_has_dotdot(const char *path) {
        for (; *path; path += strcspn(path, "/")) {
                path += strspn(path, "/");
                if (strncmp(path, "..", 2) == 0 && (path[2] == '/' || path[2] == '\0'))
                        return true;
        }
        return false;
}

int source_parse(const char *text, Source *ret, char **ret_message) {
        Source source = { 0 };
        const char *path = NULL;
        int r;

        if (!text || !*text)
                return refuse(ret_message, "the source is empty; " FORM);
        if (strlen(text) > SOURCE_MAX)
                return refuse(ret_message, "the source is too long: %zu bytes, at most %d are allowed", strlen(text), SOURCE_MAX);
        for (const char *p = text; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        return refuse(ret_message, "the source contains a control character (0x%02x)",
                                      (unsigned) (unsigned char) *p);
        r = source_split(text, &source.host, &path, ret_message);
        if (r < 0)
                return r;
        if (*path != '/')
                r = refuse(ret_message, "the path in the source must start with '/': %s:/%.64s", source.host, path);
        else if (path_has_dotdot(path))
                r = refuse(ret_message, "the path in the source contains \"..\"");
        if (r < 0)
                goto fail;
        r = -ENOMEM;
        source.path = malloc(strlen(path) + 2);
        if (!source.path)
                goto fail;
        path_simplify(path, source.path);
        if (asprintf(&source.text, strchr(source.host, ':') ? "[%s]:%s" : "%s:%s", source.host, source.path) < 0) {
                source.text = NULL;
                goto fail;
        }
        *ret = source;
        return 0;
fail:
        source_done(&source);
        return r;
}

void source_done(Source *source) {
        free(source->host);
        free(source->path);
        free(source->text);
        *source = (Source){ 0 };
}
