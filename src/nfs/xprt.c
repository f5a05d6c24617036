/*
 * See xprt.h.
 *
 * libnfs keeps two globals, the salt of rpc_init_context() and the next privileged port of
 * rpc_connect_async(), and asks getservbyport() for the latter: open_lock is around both.
 *
 * libnfs binds a port of its own choice below 1024 whenever it may; which one it gets is decided in sourceport.c.
 *
 * rpc_set_auth() frees the credential before, so changing it for every request would cost two
 * allocations each. A context gets one credential of the greatest size instead, whose body
 * (RFC 5531 appendix A: stamp, machine name, uid, gid, groups) is rewritten in place; libnfs copies it
 * into each request as that is made.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/utsname.h>

#include "base/crashpoint.h"
#include "src/nfs/sourceport.h"
#include "src/nfs/xprt.h"

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t local_port(int fd) {
        struct sockaddr_storage addr = { 0 };
        socklen_t len = sizeof addr;

        if (getsockname(fd, (struct sockaddr *) &addr, &len) < 0)
                return 0;
        return ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &addr)->sin6_port
                                                : ((struct sockaddr_in *) &addr)->sin_port);
}

int nfs_addr_format(const NfsAddr *addr, char *buf, size_t size) {
        if (getnameinfo((const struct sockaddr *) &addr->addr, addr->len, buf, (socklen_t) size, NULL, 0, NI_NUMERICHOST) != 0)
                return -EINVAL;
        return 0;
}

int xprt_open(const NfsAddr *addr, uint16_t port, bool resvport, _Atomic uint32_t *source_port, int program, int version,
              rpc_cb cb, void *userdata, struct rpc_context **ret) {
        char text[NI_MAXHOST];
        struct rpc_context *rpc;
        int r = nfs_addr_format(addr, text, sizeof text);

        if (r < 0)
                return r;
        (void) pthread_mutex_lock(&open_lock);
        rpc = compat_new();
        if (!rpc) {
                (void) pthread_mutex_unlock(&open_lock);
                return -ENOMEM;
        }
        source_port_begin(resvport, (uint16_t) atomic_load(source_port));
        errno = 0;
        r = compat_connect(rpc, text, port, program, version, cb, userdata);
        if (r != 0) /* connect() was the last thing it did, or nothing set errno */
                r = errno > 0 ? -errno : -ECONNABORTED;
        source_port_end();
        /* one that is in use elsewhere is not tried again */
        atomic_store(source_port, r == 0 ? local_port(rpc_get_fd(rpc)) : 0);
        crash_point(PORT_NOTED);
        if (r < 0)
                rpc_destroy_context(rpc);
        (void) pthread_mutex_unlock(&open_lock);
        if (r == 0)
                *ret = rpc;
        return r;
}

/* rpc_service() fails without an errno. The socket may still know it. */
static int service_error(struct rpc_context *rpc, const Record *record) {
        int fd = rpc_get_fd(rpc), error = 0;
        socklen_t len = sizeof error;

        if (record->too_long)
                return -EMSGSIZE;
        if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error > 0)
                return -error;
        return -ECONNRESET;
}

int xprt_service(struct rpc_context *rpc, Record *record, int events) {
        int r;

        record_begin(record, rpc_get_fd(rpc));
        r = rpc_service(rpc, events);
        record_end();
        return r < 0 ? service_error(rpc, record) : 0;
}

int xprt_auth_init(XprtAuth *auth, struct rpc_context *rpc) {
        uint32_t no_groups[NFS_GROUPS_MAX] = { 0 };
        struct utsname names;

        if (uname(&names) < 0)
                names.nodename[0] = '\0';
        auth->auth = libnfs_authunix_create(names.nodename, 0, 0, NFS_GROUPS_MAX, no_groups);
        if (!auth->auth)
                return -ENOMEM;
        auth->ids_offset = 4 + 4 + (((uint32_t) strlen(names.nodename) + 3) & ~3u);
        auth->valid = false;
        rpc_set_auth(rpc, auth->auth);
        return 0;
}

static bool cred_equal(const NfsCred *a, const NfsCred *b) {
        return a->uid == b->uid && a->gid == b->gid && a->n_groups == b->n_groups &&
               memcmp(a->groups, b->groups, MIN(a->n_groups, (uint32_t) NFS_GROUPS_MAX) * sizeof *a->groups) == 0;
}

void xprt_auth_set(XprtAuth *auth, const NfsCred *cred) {
        uint32_t n = MIN(cred->n_groups, (uint32_t) NFS_GROUPS_MAX);
        uint32_t ids[3 + NFS_GROUPS_MAX];

        if (auth->valid && cred_equal(&auth->cred, cred))
                return;
        ids[0] = htonl(cred->uid);
        ids[1] = htonl(cred->gid);
        ids[2] = htonl(n);
        for (uint32_t i = 0; i < n; i++)
                ids[3 + i] = htonl(cred->groups[i]);
        memcpy(auth->auth->ah_cred.oa_base + auth->ids_offset, ids, (3 + n) * sizeof *ids);
        auth->auth->ah_cred.oa_length = auth->ids_offset + (3 + n) * (uint32_t) sizeof *ids;
        auth->cred = *cred;
        auth->valid = true;
}
