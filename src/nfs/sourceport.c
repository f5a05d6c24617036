/*
 * bind(2) as libnfs sees it. libnfs has no way to say which local port a connection is to come from; but it calls bind(2)
 * through its table of dynamic symbols, as it does its XDR primitives (hardening.c), and finds this one. Outside of
 * source_port_begin() and _end(), and for other threads, it is the system call.
 *
 * libnfs tries one port after the other until bind(2) succeeds, or says EACCES: so one call decides. Of the address that it
 * names only the family matters.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/nfs/sourceport.h"

/* As the kernel's client (min_resvport, max_resvport): above the ports of well-known services. */
#define RESERVED_MIN 665u
#define RESERVED_MAX 1023u
#define RESERVED_N   (RESERVED_MAX - RESERVED_MIN + 1)

static _Thread_local struct {
        bool active, reserved;
        uint16_t port;
} wish;

void source_port_begin(bool reserved, uint16_t port) {
        wish.active = true;
        wish.reserved = reserved;
        wish.port = port;
}

void source_port_end(void) {
        wish.active = false;
}

static int bind_port(int fd, sa_family_t family, unsigned port) {
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t) port) };
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t) port) };

        if (family == AF_INET6)
                return (int) syscall(SYS_bind, fd, &in6, sizeof in6);
        return (int) syscall(SYS_bind, fd, &in, sizeof in);
}

static int bind_reserved(int fd, sa_family_t family) {
        unsigned start = 0;

        (void) !getrandom(&start, sizeof start, GRND_NONBLOCK);
        for (unsigned i = 0; i < RESERVED_N; i++) {
                int r = bind_port(fd, family, RESERVED_MIN + (start + i) % RESERVED_N);

                if (r == 0 || errno != EADDRINUSE)
                        return r;
        }
        errno = EACCES; /* libnfs would go round for ever: the kernel shall choose */
        return -1;
}

int bind(int fd, const struct sockaddr *addr, socklen_t len) {
        if (!wish.active)
                return (int) syscall(SYS_bind, fd, addr, len);
        if (wish.port && (wish.port <= RESERVED_MAX) == wish.reserved && bind_port(fd, addr->sa_family, wish.port) == 0)
                return 0;
        if (!wish.reserved)
                return bind_port(fd, addr->sa_family, 0);
        if (bind_reserved(fd, addr->sa_family) == 0)
                return 0;
        if (errno == EACCES && wish.port) { /* not for us: then the one that the kernel chose before */
                if (bind_port(fd, addr->sa_family, wish.port) == 0)
                        return 0;
                errno = EACCES;
        }
        return -1;
}
