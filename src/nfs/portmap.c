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

static void got_addr3(RpcClient *client, void *data) {
        PortmapQuery *query = client->userdata;
        const char *addr = ((const struct pmap3_string_result *) data)->addr, *dot;
        unsigned int high, low;

        query->port = 0;
        if (!addr || !*addr)
                return;
        dot = strrchr(addr, '.');
        while (dot && dot > addr && dot[-1] != '.')
                dot--;
        if (!dot || sscanf(dot, "%u.%u", &high, &low) != 2 || high > 255 || low > 255)
                client->result = -EREMOTEIO;
        else
                query->port = (uint16_t) (high << 8 | low);
}

static int query_send(RpcClient *client, const NfsAddr *addr, const PortmapQuery *query) {
        struct pmap3_mapping map = {
                .prog = query->program,
                .vers = query->version,
                .netid = (char *) "tcp6",
                .addr = (char *) "",
                .owner = (char *) "",
        };

        if (addr->addr.ss_family == AF_INET6) {
                client->reply = got_addr3;
                return COMPAT_CALL(pmap3_getaddr, client->rpc, &map, client_callback, client);
        }
        client->reply = got_port2;
        return COMPAT_CALL(pmap2_getport, client->rpc, (int) query->program, (int) query->version,
                           IPPROTO_TCP, client_callback, client);
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
