/*
 * See client.h. A client that failed is good for client_close() only: libnfs may still know the request.
 */
#include <netinet/in.h>
#include <poll.h>

#include "src/nfs/client.h"

static void client_connected(struct rpc_context *rpc, int status, void *data, void *userdata) {
        RpcClient *client = userdata;

        if (status == RPC_STATUS_SUCCESS)
                client->connected = true;
        else if (status == RPC_STATUS_ERROR)
                client->error = compat_error(data);
}

void client_callback(struct rpc_context *rpc, int status, void *data, void *userdata) {
        RpcClient *client = userdata;

        if (status == RPC_STATUS_SUCCESS) {
                client->replied = true;
                client->error = COMPAT_GARBAGE;
                if (client->reply)
                        client->reply(client, data);
        } else if (status == RPC_STATUS_ERROR) {
                client->replied = true;
                client->result = -EREMOTEIO;
                client->error = compat_error(data);
        }
}

static int socket_error(int fd) {
        int error = 0;
        socklen_t len = sizeof error;

        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
                return -errno;
        return -error;
}

/* One poll() and one xprt_service(). */
static int client_turn(RpcClient *client, uint64_t deadline) {
        struct pollfd pfd = { .fd = rpc_get_fd(client->rpc), .events = (short) rpc_which_events(client->rpc) };
        uint64_t now = now_ns();
        int r;

        if (now >= deadline)
                return -ETIMEDOUT;
        r = poll(&pfd, 1, (int) MIN((deadline - now) / NSEC_PER_MSEC + 1, (uint64_t) 1000));
        if (r < 0)
                return errno == EINTR ? 0 : -errno;
        if (r == 0)
                return 0;
        if (!client->connected) {
                r = socket_error(pfd.fd);
                if (r < 0)
                        return r;
        } else if (pfd.revents & (POLLERR | POLLHUP)) {
                pfd.revents |= POLLIN; /* recv() says what it is */
        }
        return xprt_service(client->rpc, &client->record, pfd.revents & (POLLIN | POLLOUT));
}

int client_open(RpcClient *client, const NfsAddr *addr, uint16_t port, bool resvport, int program, int version,
                uint64_t deadline) {
        _Atomic uint32_t source_port = 0;
        int r;

        *client = (RpcClient){ .ops = program == NLM_PROGRAM ? &nlm4_ops : &nfs_v3_ops };
        r = xprt_open(addr, port, resvport, &source_port, program, version, client_connected, client, &client->rpc);
        if (r < 0)
                return r;
        r = xprt_auth_init(&client->auth, client->rpc);
        while (r == 0 && !client->connected)
                r = client_turn(client, deadline);
        if (r < 0) {
                client_close(client);
                return r;
        }
        client->local_port = (uint16_t) atomic_load(&source_port);
        return 0;
}

void client_close(RpcClient *client) {
        struct rpc_context *rpc = TAKE_PTR(client->rpc);

        client->reply = NULL;
        if (rpc)
                rpc_destroy_context(rpc);
}

int client_wait(RpcClient *client, uint64_t deadline) {
        int r;

        client->replied = false;
        client->result = 0;
        do {
                r = client_turn(client, deadline);
                /* A connection that breaks also ends the request: r tells the two apart. */
                if (r < 0)
                        return r;
        } while (!client->replied);
        return client->result;
}

typedef struct NfsReply {
        NfsCall *call;
        void *buffer;
} NfsReply;

static void nfs_replied(RpcClient *client, void *data) {
        NfsReply *reply = client->userdata;
        NfsCall *call = reply->call;

        if (client->ops->procs[call->proc].decode(call, data, reply->buffer) < 0) {
                client->result = -EREMOTEIO;
                return;
        }
        call->err = client->ops->status_errno(call->status);
}

int client_nfs_call(RpcClient *client, NfsCall *call, uint64_t deadline) {
        NfsReply reply = { .call = call };
        int r;

        xprt_auth_set(&client->auth, call->cred);
        client->reply = nfs_replied;
        client->userdata = &reply;
        if (client->ops->procs[call->proc].encode(client->rpc, call, client_callback, client, &reply.buffer) < 0)
                return -ENOMEM;
        r = client_wait(client, deadline);
        client->reply = NULL;
        free(reply.buffer);
        return r;
}
