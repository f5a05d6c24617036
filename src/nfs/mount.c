/*
 * Mounting: from a name to a file handle. See include/nfs/mount.h.
 *
 * For every address of the server in turn: the ports (from the options, or from the portmapper), MNT, and
 * FSINFO, PATHCONF and GETATTR of the root. What the server itself decides (no such export, denied)
 * ends the search; when an address does not work, the next is tried, and the message is about the failure
 * that tells most: "no such program" says more than "refused", and that more than "timed out".
 *
 * Everything blocks, on this thread, until config->timeout_ms. Only getaddrinfo() has bounds of its own.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "nfs/mount.h"
#include "src/nfs/client.h"
#include "src/nfs/portmap.h"
#include "src/nfs/status.h"

#define NFS_PORT    2049
#define PORT_WAIT_S 5 /* for the portmapper, of which there may be none behind a firewall */
#define NLM_WAIT_S  5 /* the same: TCP asks after one second, and after three */

typedef struct Mount {
        const NfsMountConfig *config;
        NfsMountResult result;
        uint64_t deadline; /* of the address that is being tried */
        char address[INET6_ADDRSTRLEN + 20];

        enum NfsMountError error; /* the most telling so far */
        char message[512];
} Mount;

/* What MNT says. */
typedef struct MntReply {
        uint32_t status;
        NfsFh root;
        bool has_sys; /* the export takes AUTH_SYS */
        bool sane;
} MntReply;

static int resolve(Mount *m, const char *host, const char *addr, NfsAddr *ret, uint32_t *ret_n);
static int try_address(Mount *m, const NfsAddr *addr, const NfsAddr *mountd);
static int find_ports(Mount *m, const NfsAddr *addr, const NfsAddr *mountd);
static int mnt(Mount *m, const NfsAddr *mountd, const char *path, NfsFh *ret_root, uint32_t *ret_status);
static int mnt_parent(Mount *m, const NfsAddr *addr, const NfsAddr *mountd, const char *path);
static int root_info(Mount *m, const NfsAddr *addr);
static int find_nlm(Mount *m, const NfsAddr *addr);

/* ---- failures ---- */

static int error_rank(enum NfsMountError error) {
        static const uint8_t ranks[] = {
                [NFS_MOUNT_OK] = 0,          [NFS_MOUNT_INTERNAL] = 1, [NFS_MOUNT_UNKNOWN_HOST] = 1, [NFS_MOUNT_NO_ROUTE] = 2,
                [NFS_MOUNT_TIMEOUT] = 3,     [NFS_MOUNT_REFUSED] = 4,  [NFS_MOUNT_NO_PORTMAP] = 5,   [NFS_MOUNT_NO_PROGRAM] = 6,
                [NFS_MOUNT_PROTOCOL] = 7,    [NFS_MOUNT_VERSION] = 8,  [NFS_MOUNT_NO_EXPORT] = 9,    [NFS_MOUNT_DENIED] = 9,
                [NFS_MOUNT_DENIED_PORT] = 9, [NFS_MOUNT_SECURITY] = 9, [NFS_MOUNT_NO_LOCKS] = 9,
        };

        return ranks[error];
}

/* The server has decided: another address would say the same. */
static bool error_is_final(enum NfsMountError error) {
        return error_rank(error) >= 9;
}

static int fail(Mount *m, enum NfsMountError error, const char *fmt, ...) _printf_(3, 4);
static int fail(Mount *m, enum NfsMountError error, const char *fmt, ...) {
        va_list ap;

        if (error_rank(error) > error_rank(m->error)) {
                m->error = error;
                va_start(ap, fmt);
                (void) vsnprintf(m->message, sizeof m->message, fmt, ap);
                va_end(ap);
        }
        return -EREMOTEIO;
}

/* A negative errno of client_open(), client_wait() or portmap_query(). what: "mountd", "the NFS server".. */
static int fail_rpc(Mount *m, int r, const RpcClient *client, const char *what, uint16_t port) {
        switch (-r) {
        case ECONNREFUSED:
                return fail(m, NFS_MOUNT_REFUSED, "connection to %s at %s port %u refused: is it running?", what, m->address,
                            port);
        case EHOSTUNREACH:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EACCES:
        case EPERM:
                return fail(m, NFS_MOUNT_NO_ROUTE, "no route to %s: %s", m->address, strerror(-r));
        case ETIMEDOUT:
                return fail(m, NFS_MOUNT_TIMEOUT, "no answer from %s at %s port %u: server down, or a firewall between", what,
                            m->address, port);
        case ENOMEM:
        case EMFILE:
        case ENFILE:
                return fail(m, NFS_MOUNT_INTERNAL, "cannot ask %s: %s", what, strerror(-r));
        case EREMOTEIO:
                break;
        case EMSGSIZE:
                return fail(m, NFS_MOUNT_PROTOCOL, "%s at %s port %u sends a record that is longer than any answer", what,
                            m->address, port);
        default:
                return fail(m, NFS_MOUNT_PROTOCOL, "connection to %s at %s port %u broke: %s", what, m->address, port,
                            strerror(-r));
        }
        switch (client ? client->error : COMPAT_GARBAGE) {
        case COMPAT_NO_PROGRAM:
                return fail(m, NFS_MOUNT_NO_PROGRAM, "%s is not at %s port %u", what, m->address, port);
        case COMPAT_NO_VERSION:
                return fail(m, NFS_MOUNT_VERSION, "%s at %s port %u does not offer version 3, and nfsvol speaks no other", what,
                            m->address, port);
        case COMPAT_DENIED:
                return fail(m, NFS_MOUNT_SECURITY, "%s at %s does not accept sec=sys credentials", what, m->address);
        default:
                return fail(m, NFS_MOUNT_PROTOCOL, "%s at %s port %u gave an answer that makes no sense", what, m->address, port);
        }
}

static int fail_denied(Mount *m, uint16_t local_port, const char *path, const char *status) {
        if (local_port < 1024)
                return fail(m, NFS_MOUNT_DENIED, "access denied by server (%s for %s): does it export %s to us?", status, path,
                            path);
        if (m->config->resvport)
                return fail(m, NFS_MOUNT_DENIED_PORT,
                            "access denied by server (%s for %s): it may require a source port below 1024, "
                            "for which we have no privilege",
                            status, path);
        return fail(m, NFS_MOUNT_DENIED_PORT,
                    "access denied by server (%s for %s; it may require a source port below 1024: -o resvport)", status, path);
}

/* ---- addresses and ports ---- */

static int resolve(Mount *m, const char *host, const char *addr, NfsAddr *ret, uint32_t *ret_n) {
        struct addrinfo hints = { .ai_family = m->config->family, .ai_socktype = SOCK_STREAM }, *list, *ai;
        uint32_t n = 0;
        int r;

        if (addr)
                hints.ai_flags = AI_NUMERICHOST;
        r = getaddrinfo(addr ? addr : host, NULL, &hints, &list);
        if (r != 0)
                return fail(m, NFS_MOUNT_UNKNOWN_HOST, "cannot resolve %s: %s", addr ? addr : host,
                            r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
        for (ai = list; ai && n < NFS_ADDRS_MAX; ai = ai->ai_next) {
                if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
                        continue;
                ret[n] = (NfsAddr){ .len = ai->ai_addrlen };
                memcpy(&ret[n].addr, ai->ai_addr, ai->ai_addrlen);
                n++;
        }
        freeaddrinfo(list);
        if (n == 0)
                return fail(m, NFS_MOUNT_UNKNOWN_HOST, "%s has no address of this family", addr ? addr : host);
        *ret_n = n;
        return 0;
}

static void set_address(Mount *m, const NfsAddr *addr) {
        if (nfs_addr_format(addr, m->address, sizeof m->address) < 0)
                (void) snprintf(m->address, sizeof m->address, "?");
}

/* Is there an NFS server at all? Asked only when the portmapper did not answer. */
static int probe_nfs(Mount *m, const NfsAddr *addr, uint16_t port) {
        RpcClient client;
        int r = client_open(&client, addr, port, false, NFS_PROGRAM, NFS_V3, m->deadline);

        client_close(&client);
        return r;
}

static int fail_portmap(Mount *m, int r, const NfsAddr *addr) {
        uint16_t port = m->config->port ? m->config->port : NFS_PORT;
        int probe;

        if (r != -ECONNREFUSED && r != -ETIMEDOUT && r != -ECONNRESET)
                return fail_rpc(m, r, NULL, "the portmapper", PORTMAP_PORT);
        probe = probe_nfs(m, addr, port);
        if (probe < 0)
                return fail_rpc(m, probe, NULL, "the NFS server", port);
        return fail(m, NFS_MOUNT_NO_PORTMAP,
                    "no portmapper at %s port %u: %s (with -o mountport=, the port of mountd, it is not needed)", m->address,
                    PORTMAP_PORT, strerror(-r));
}

/* result.port and result.mountport. */
static int find_ports(Mount *m, const NfsAddr *addr, const NfsAddr *mountd) {
        PortmapQuery queries[] = {
                { .program = MOUNT_PROGRAM, .version = MOUNT_V3 },
                { .program = NFS_PROGRAM, .version = NFS_V3 },
        };
        uint64_t deadline = MIN(m->deadline, now_ns() + PORT_WAIT_S * NSEC_PER_SEC);
        bool same = mountd == addr;
        int r;

        m->result.port = m->config->port ? m->config->port : NFS_PORT;
        m->result.mountport = m->config->mountport;
        if (m->config->mountport)
                return 0;
        set_address(m, mountd);
        r = portmap_query(mountd, queries, same && !m->config->port ? 2 : 1, deadline);
        if (r < 0)
                return fail_portmap(m, r, mountd);
        if (queries[0].port == 0)
                return fail(m, NFS_MOUNT_NO_PROGRAM,
                            "the portmapper at %s knows no mountd (version 3 over TCP): does it serve NFS version 4 only?",
                            m->address);
        m->result.mountport = queries[0].port;
        if (queries[1].port != 0)
                m->result.port = queries[1].port;
        return 0;
}

/* ---- MNT ---- */

static void mnt_replied(RpcClient *client, void *data) {
        const struct mountres3 *res = data;
        const struct mountres3_ok *ok = &res->mountres3_u.mountinfo;
        MntReply *reply = client->userdata;

        *reply = (MntReply){ .status = (uint32_t) res->fhs_status };
        if (reply->status != MNT3_OK) {
                reply->sane = true;
                return;
        }
        if (ok->fhandle.fhandle3_len == 0 || ok->fhandle.fhandle3_len > NFS_FH_MAX)
                return;
        reply->sane = true;
        reply->root.len = ok->fhandle.fhandle3_len;
        memcpy(reply->root.data, ok->fhandle.fhandle3_val, reply->root.len);
        /* No list at all is from before there were others. AUTH_NONE: anything goes. */
        reply->has_sys = ok->auth_flavors.auth_flavors_len == 0;
        for (uint32_t i = 0; i < ok->auth_flavors.auth_flavors_len; i++)
                if (ok->auth_flavors.auth_flavors_val[i] == AUTH_UNIX || ok->auth_flavors.auth_flavors_val[i] == AUTH_NONE)
                        reply->has_sys = true;
}

static int mnt_judge(Mount *m, const MntReply *reply, const char *path, uint16_t local_port) {
        if (!reply->sane)
                return fail(m, NFS_MOUNT_PROTOCOL, "mountd at %s gave a file handle that cannot be", m->address);
        switch (reply->status) {
        case MNT3_OK:
                if (!reply->has_sys)
                        return fail(m, NFS_MOUNT_SECURITY, "the server exports %s only with other security than sec=sys", path);
                return 0;
        case MNT3ERR_PERM:
        case MNT3ERR_ACCES:
                return fail_denied(m, local_port, path, mount_status_name(reply->status));
        case MNT3ERR_NOENT:
        case MNT3ERR_NOTDIR:
        case MNT3ERR_NAMETOOLONG:
                return fail(m, NFS_MOUNT_NO_EXPORT, "the server has no export %s (%s)", path, mount_status_name(reply->status));
        default:
                return fail(m, NFS_MOUNT_PROTOCOL, "mountd at %s cannot mount %s: %s (%u)", m->address, path,
                            mount_status_name(reply->status), reply->status);
        }
}

/* 0; or fails, with ret_status set if mountd answered. */
static int mnt(Mount *m, const NfsAddr *mountd, const char *path, NfsFh *ret_root, uint32_t *ret_status) {
        MntReply reply = { 0 };
        RpcClient client;
        uint16_t local_port;
        int r;

        set_address(m, mountd);
        r = client_open(&client, mountd, m->result.mountport, m->config->resvport, MOUNT_PROGRAM, MOUNT_V3, m->deadline);
        if (r == 0) {
                xprt_auth_set(&client.auth, m->config->cred);
                client.reply = mnt_replied;
                client.userdata = &reply;
                r = COMPAT_CALL(mount3_mnt, client.rpc, client_callback, (char *) path, &client) < 0
                            ? -ENOMEM
                            : client_wait(&client, m->deadline);
        }
        local_port = client.local_port;
        client_close(&client);
        if (r < 0)
                return fail_rpc(m, r, &client, "mountd", m->result.mountport);
        *ret_status = reply.status;
        r = mnt_judge(m, &reply, path, local_port);
        if (r == 0)
                *ret_root = reply.root;
        return r;
}

/* ---- NFS ---- */

/* Looks up the components of path, which must all be directories. */
static int lookup_path(Mount *m, RpcClient *client, const NfsFh *root, const char *path) {
        NfsFh dir = *root;
        NfsCall call = { .proc = NFS_LOOKUP, .cred = m->config->cred };
        char name[NFS_NAME_MAX + 1];
        size_t len;

        for (; *path; path += len) {
                path += strspn(path, "/");
                len = strcspn(path, "/");
                if (len == 0 || (len == 1 && *path == '.'))
                        continue;
                if (len > NFS_NAME_MAX || (len == 2 && path[0] == '.' && path[1] == '.'))
                        return -ENOENT;
                memcpy(name, path, len);
                name[len] = '\0';
                call.args = (NfsArgs){ .fh = &dir, .name = name };
                if (client_nfs_call(client, &call, m->deadline) < 0 || call.err)
                        return -ENOENT;
                if (call.res.has_attr && !S_ISDIR(call.res.attr.mode))
                        return -ENOTDIR;
                dir = call.res.fh;
        }
        call.proc = NFS_GETATTR;
        call.args = (NfsArgs){ .fh = &dir };
        if (client_nfs_call(client, &call, m->deadline) < 0 || call.err || !S_ISDIR(call.res.attr.mode))
                return -ENOTDIR;
        return 0;
}

/* Is path below this export a directory? Failing is no news: the answer about path itself is reported. */
static bool below_is_directory(Mount *m, const NfsAddr *addr, const NfsFh *root, const char *below) {
        RpcClient client;
        int r = client_open(&client, addr, m->result.port, m->config->resvport, NFS_PROGRAM, NFS_V3, m->deadline);

        if (r == 0)
                r = lookup_path(m, &client, root, below);
        client_close(&client);
        return r == 0;
}

/* path is not exported itself: is one of its parents? */
static int mnt_parent(Mount *m, const NfsAddr *addr, const NfsAddr *mountd, const char *path) {
        enum NfsMountError error = m->error;
        char parent[sizeof m->result.export], message[sizeof m->message];
        size_t len = strlen(path);
        uint32_t status;
        NfsFh root;

        memcpy(message, m->message, sizeof message);
        memcpy(parent, path, len + 1);
        while (len > 1) {
                while (len > 1 && parent[len - 1] != '/')
                        len--;
                while (len > 1 && parent[len - 1] == '/')
                        len--;
                parent[len] = '\0';
                if (mnt(m, mountd, parent, &root, &status) == 0 && below_is_directory(m, addr, &root, path + len)) {
                        m->result.root = root;
                        memcpy(m->result.export, parent, len + 1);
                        return 0;
                }
        }
        m->error = error;
        memcpy(m->message, message, sizeof message);
        return -EREMOTEIO;
}

static int nfs_call(Mount *m, RpcClient *client, NfsCall *call) {
        uint64_t began = now_ns();
        int r = client_nfs_call(client, call, m->deadline);

        m->result.rtt_ns = MIN(m->result.rtt_ns, now_ns() - began);
        if (r < 0)
                return fail_rpc(m, r, client, "the NFS server", m->result.port);
        if (call->err == EACCES || call->err == EPERM)
                return fail_denied(m, client->local_port, m->result.export, nfs_status_name(call->status));
        if (call->err)
                return fail(m, NFS_MOUNT_PROTOCOL, "%s of the root of %s failed: %s", nfs_proc_name(call->proc), m->result.export,
                            nfs_status_name(call->status));
        return 0;
}

/* root_attr and info, over a connection to the NFS port. */
static int root_query(Mount *m, RpcClient *client) {
        NfsCall call = { .proc = NFS_FSINFO, .cred = m->config->cred, .args.fh = &m->result.root };
        NfsFsInfo *info = &m->result.info, part;
        int r;

        m->result.rtt_ns = UINT64_MAX;
        r = nfs_call(m, client, &call);
        if (r < 0)
                return r;
        *info = call.res.fsinfo;

        call.proc = NFS_PATHCONF;
        part = (NfsFsInfo){ .link_max = 1, .name_max = NFS_NAME_MAX, .no_trunc = true, .case_preserving = true };
        if (client_nfs_call(client, &call, m->deadline) == 0 && call.err == 0)
                part = call.res.fsinfo;
        else if (!client->rpc)
                return fail_rpc(m, -ECONNRESET, client, "the NFS server", m->result.port);
        info->link_max = part.link_max;
        info->name_max = part.name_max;
        info->no_trunc = part.no_trunc;
        info->chown_restricted = part.chown_restricted;
        info->case_insensitive = part.case_insensitive;
        info->case_preserving = part.case_preserving;

        call.proc = NFS_GETATTR;
        r = nfs_call(m, client, &call);
        if (r < 0)
                return r;
        m->result.root_attr = call.res.attr;
        if (!S_ISDIR(call.res.attr.mode))
                return fail(m, NFS_MOUNT_NO_EXPORT, "%s is not a directory", m->result.export);
        return 0;
}

static int root_info(Mount *m, const NfsAddr *addr) {
        RpcClient client;
        int r;

        set_address(m, addr);
        r = client_open(&client, addr, m->result.port, m->config->resvport, NFS_PROGRAM, NFS_V3, m->deadline);
        if (r < 0)
                return fail_rpc(m, r, &client, "the NFS server", m->result.port);
        r = root_query(m, &client);
        client_close(&client);
        return r;
}

/* ---- the lock manager ---- */

/* Its port, where it answered; else a negative errno, and why in text. */
static int ask_nlm(Mount *m, const NfsAddr *addr, uint64_t deadline, char *text, size_t size) {
        PortmapQuery query = { .program = NLM_PROGRAM, .version = NLM_V4, .port = m->config->nlmport };
        NfsCall call = { .proc = NLM_NULL, .cred = m->config->cred };
        RpcClient client;
        int r;

        if (query.port == 0) {
                r = portmap_query(addr, &query, 1, deadline);
                if (r < 0) {
                        (void) snprintf(text, size, "its portmapper cannot be asked (%s)", strerror(-r));
                        return r;
                }
                if (query.port == 0) {
                        (void) snprintf(text, size, "its portmapper knows none (version 4 over TCP)");
                        return -ENOENT;
                }
        }
        r = client_open(&client, addr, query.port, m->config->resvport, NLM_PROGRAM, NLM_V4, deadline);
        if (r == 0)
                r = client_nfs_call(&client, &call, deadline);
        client_close(&client);
        if (r < 0)
                (void) snprintf(text, size, "no answer at port %u (%s)", query.port,
                                r == -EREMOTEIO ? "something else is there" : strerror(-r));
        return r < 0 ? r : query.port;
}

static int find_nlm(Mount *m, const NfsAddr *addr) {
        bool required = m->config->nlm == NFS_NLM_REQUIRED;
        uint64_t wait = (required ? PORT_WAIT_S : NLM_WAIT_S) * NSEC_PER_SEC;
        char text[160];
        int r;

        m->result.nlmport = 0;
        m->result.nlm_silent = false;
        if (m->config->nlm == NFS_NLM_UNUSED)
                return 0;
        set_address(m, addr);
        r = ask_nlm(m, addr, MIN(m->deadline, now_ns() + wait), text, sizeof text);
        if (r > 0)
                m->result.nlmport = (uint16_t) r;
        else if (required)
                return fail(m, NFS_MOUNT_NO_LOCKS,
                            "option lock: no lock manager (NLM version 4) at %s: %s; without the option lock, or with "
                            "nolock, locks are local to this node",
                            m->address, text);
        else
                m->result.nlm_silent = r != -ENOENT && r != -ECONNREFUSED;
        return 0;
}

static int locks_free(const NfsMountConfig *config, const NfsAddr *addr, uint16_t port, const char *caller, uint64_t deadline,
                      bool *ret_sent) {
        NfsCall call = { .proc = NLM_FREE_ALL, .cred = config->cred, .args.lock.caller = caller };
        struct linger none = { .l_onoff = 1 };
        RpcClient client;
        int r;

        r = client_open(&client, addr, port, config->resvport, NLM_PROGRAM, NLM_V4, deadline);
        if (r < 0)
                return r;
        /* what has not arrived when we end, or are ended, must not do so later, when it would free other locks than these */
        (void) setsockopt(rpc_get_fd(client.rpc), SOL_SOCKET, SO_LINGER, &none, sizeof none);
        *ret_sent = true;
        r = client_nfs_call(&client, &call, deadline);
        client_close(&client);
        return r;
}

int nfs_locks_free(const NfsMountConfig *config, const NfsAddr *addr, uint16_t nlmport, const char *caller, uint32_t timeout_ms,
                   bool *ret_sent) {
        PortmapQuery query = { .program = NLM_PROGRAM, .version = NLM_V4 };
        uint64_t deadline = now_ns() + timeout_ms * NSEC_PER_MSEC;
        int r, p;

        *ret_sent = false;
        r = locks_free(config, addr, nlmport, caller, deadline, ret_sent);
        if (r != -ECONNREFUSED && r != -EREMOTEIO)
                return r;
        p = portmap_query(addr, &query, 1, deadline); /* it may have another port now */
        if (p < 0 || query.port == 0 || query.port == nlmport)
                return r;
        return locks_free(config, addr, query.port, caller, deadline, ret_sent);
}

/* ---- all of it ---- */

static int try_address(Mount *m, const NfsAddr *addr, const NfsAddr *mountd) {
        const char *path = m->config->path;
        size_t len = strlen(path);
        uint32_t status = MNT3_OK;
        int r;

        while (len > 1 && path[len - 1] == '/')
                len--;
        memcpy(m->result.export, path, len);
        m->result.export[len] = '\0';

        r = find_ports(m, addr, mountd);
        if (r < 0)
                return r;
        r = mnt(m, mountd, m->result.export, &m->result.root, &status);
        if (r < 0 && (status == MNT3ERR_NOENT || status == MNT3ERR_NOTDIR || status == MNT3ERR_ACCES)) {
                char whole[sizeof m->result.export];

                memcpy(whole, m->result.export, len + 1);
                r = mnt_parent(m, addr, mountd, whole);
        }
        if (r < 0)
                return r;
        r = root_info(m, addr);
        return r < 0 ? r : find_nlm(m, addr);
}

/* The one that worked first, the others behind it in their order. */
static void addrs_rotate(NfsAddr *addrs, uint32_t i) {
        NfsAddr best = addrs[i];

        memmove(addrs + 1, addrs, i * sizeof *addrs);
        addrs[0] = best;
}

enum NfsMountError nfs_export_mount(const NfsMountConfig *config, NfsMountResult *ret, char *message, size_t size) {
        _cleanup_(freep) Mount *m = calloc(1, sizeof *m);
        uint64_t end = now_ns() + config->timeout_ms * NSEC_PER_MSEC, now;
        NfsAddr mountd[NFS_ADDRS_MAX];
        uint32_t n_mountd = 0, n;
        int r;

        if (!m) {
                (void) snprintf(message, size, "out of memory");
                return NFS_MOUNT_INTERNAL;
        }
        m->config = config;
        if (config->path[0] != '/' || strlen(config->path) > MNTPATHLEN) {
                (void) snprintf(message, size, "the path must be absolute and at most %d bytes", MNTPATHLEN);
                return NFS_MOUNT_NO_EXPORT;
        }
        r = resolve(m, config->host, config->addr, m->result.addrs, &m->result.n_addrs);
        if (r == 0 && (config->mounthost || config->mountaddr))
                r = resolve(m, config->mounthost, config->mountaddr, mountd, &n_mountd);
        n = r == 0 ? m->result.n_addrs : 0;
        r = -EREMOTEIO;
        for (uint32_t i = 0; i < n; i++) {
                const NfsAddr *addr = &m->result.addrs[i];

                now = now_ns();
                m->deadline = now < end ? now + (end - now) / (n - i) : now;
                r = try_address(m, addr, n_mountd > 0 ? &mountd[i % n_mountd] : addr);
                if (r == 0) {
                        addrs_rotate(m->result.addrs, i);
                        break;
                }
                if (error_is_final(m->error))
                        break;
        }
        if (r == 0) {
                *ret = m->result;
                return NFS_MOUNT_OK;
        }
        (void) snprintf(message, size, "%s", m->message);
        return m->error;
}

void nfs_export_umount(const NfsMountConfig *config, uint32_t timeout_ms) {
        _cleanup_(freep) Mount *m = calloc(1, sizeof *m);
        const char *host = config->mounthost ? config->mounthost : config->host;
        const char *addr = config->mounthost || config->mountaddr ? config->mountaddr : config->addr;
        NfsAddr addrs[NFS_ADDRS_MAX];
        RpcClient client;
        uint32_t n;

        if (!m)
                return;
        m->config = config;
        m->deadline = now_ns() + timeout_ms * NSEC_PER_MSEC;
        if (resolve(m, host, addr, addrs, &n) < 0 || find_ports(m, &addrs[0], &addrs[0]) < 0)
                return;
        if (client_open(&client, &addrs[0], m->result.mountport, config->resvport, MOUNT_PROGRAM, MOUNT_V3, m->deadline) < 0)
                return;
        xprt_auth_set(&client.auth, config->cred);
        if (COMPAT_CALL(mount3_umnt, client.rpc, client_callback, (char *) config->path, &client) == 0)
                (void) client_wait(&client, m->deadline);
        client_close(&client);
}
