/*
 * See portmap.h. Over IPv6 the answer is a universal address, "::.8.1" (RFC 5665): port 2049.
 */
#include <netinet/in.h>
#include <stdio.h>

#include "src/nfs/client.h"
#include "src/nfs/portmap.h"

#define PROGRAM_PORTMAP 100000

static void got_port2(RpcClient *client, void *data) {
        PortmapQuery *query = client->userdata;
        uint32_t port = *(const uint32_t *) data;

        if (port > UINT16_MAX)
                client->result = -EREMOTEIO;
        else
                query->port = (uint16_t) port;
}

/* A universal address. 0: not registered; -EBADMSG: it is none. */
static int addr3_port(const char *addr, uint16_t *ret) {
        const char *dot;
        unsigned int high, low;

        *ret = 0;
        if (!addr || !*addr)
                return 0;
        dot = strrchr(addr, '.');
        while (dot && dot > addr && dot[-1] != '.')
                dot--;
        if (!dot || sscanf(dot, "%u.%u", &high, &low) != 2 || high > 255 || low > 255)
                return -EBADMSG;
        *ret = (uint16_t) (high << 8 | low);
        return 0;
}

static void got_addr3(RpcClient *client, void *data) {
        PortmapQuery *query = client->userdata;

        if (addr3_port(((const struct pmap3_string_result *) data)->addr, &query->port) < 0)
                client->result = -EREMOTEIO;
}

static struct pmap3_mapping mapping3(uint32_t program, uint32_t version) {
        return (struct pmap3_mapping){
                .prog = program,
                .vers = version,
                .netid = (char *) "tcp6",
                .addr = (char *) "",
                .owner = (char *) "",
        };
}

static int query_send(RpcClient *client, const NfsAddr *addr, const PortmapQuery *query) {
        struct pmap3_mapping map = mapping3(query->program, query->version);

        if (addr->addr.ss_family == AF_INET6) {
                client->reply = got_addr3;
                return COMPAT_CALL(pmap3_getaddr, client->rpc, &map, client_callback, client);
        }
        client->reply = got_port2;
        return COMPAT_CALL(pmap2_getport, client->rpc, (int) query->program, (int) query->version, IPPROTO_TCP, client_callback,
                           client);
}

int portmap_query(const NfsAddr *addr, PortmapQuery *queries, uint32_t n, uint64_t deadline) {
        int version = addr->addr.ss_family == AF_INET6 ? 3 : 2, r;
        RpcClient client;

        r = client_open(&client, addr, PORTMAP_PORT, false, PROGRAM_PORTMAP, version, deadline);
        for (uint32_t i = 0; r == 0 && i < n; i++) {
                client.userdata = &queries[i];
                r = query_send(&client, addr, &queries[i]) < 0 ? -ENOMEM : client_wait(&client, deadline);
        }
        client_close(&client);
        return r;
}

/* ---- as a protocol of NfsConn ---- */

static int encode_getport2(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        (void) buffer;
        return COMPAT_CALL(pmap2_getport, rpc, (int) call->args.getport.program, (int) call->args.getport.version, IPPROTO_TCP,
                           cb, userdata);
}

static int decode_getport2(NfsCall *call, void *reply, void *buffer) {
        uint32_t port = *(const uint32_t *) reply;

        (void) buffer;
        if (port > UINT16_MAX)
                return -EBADMSG;
        call->res.port = (uint16_t) port;
        return 0;
}

static int encode_getport3(struct rpc_context *rpc, const NfsCall *call, rpc_cb cb, void *userdata, void **buffer) {
        struct pmap3_mapping map = mapping3(call->args.getport.program, call->args.getport.version);

        (void) buffer;
        return COMPAT_CALL(pmap3_getaddr, rpc, &map, cb, userdata);
}

static int decode_getport3(NfsCall *call, void *reply, void *buffer) {
        (void) buffer;
        return addr3_port(((const struct pmap3_string_result *) reply)->addr, &call->res.port);
}

const NfsOps portmap2_ops = {
        .program = PROGRAM_PORTMAP,
        .version = 2,
        .status_errno = nfs_status_errno,
        .procs = { [PORTMAP_GETPORT] = { encode_getport2, decode_getport2 } },
};

const NfsOps portmap3_ops = {
        .program = PROGRAM_PORTMAP,
        .version = 3,
        .status_errno = nfs_status_errno,
        .procs = { [PORTMAP_GETPORT] = { encode_getport3, decode_getport3 } },
};
