/*
 * Which port is a program on? Asks the portmapper: version 2 over IPv4, rpcbind's version 3 over IPv6.
 */
#pragma once

#include "nfs/conn.h"

#define PORTMAP_PORT NFS_PORTMAP_PORT

typedef struct PortmapQuery {
        uint32_t program, version;
        uint16_t port; /* out; 0: not registered */
} PortmapQuery;

/*
 * All of them over one connection. 0; -EREMOTEIO when the answer makes no sense; else a negative errno
 * of connecting or waiting. deadline: ns, monotonic.
 */
int portmap_query(const NfsAddr *addr, PortmapQuery *queries, uint32_t n, uint64_t deadline);
