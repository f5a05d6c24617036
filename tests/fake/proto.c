/*
 * See proto.h. RFC 1813 (NFS, MOUNT), RFC 5531 (RPC), RFC 1833 (portmapper), written out by hand; the lock manager: nlm.c.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xdr.h"

#define PROG_PORTMAP 100000
#define PROG_NFS     100003
#define PROG_MOUNT   100005
#define PROG_NLM     100021
#define NLM_FREE_ALL 23
#define FILE_SIZE    (1u << 20)
#define ROOT_ID      1
#define DIR_ID       (UINT64_C(1) << 40) /* d0 */
#define LINK_ID      (UINT64_C(1) << 41) /* l0 */

enum { MODE_REG = 1, MODE_DIR = 2, MODE_LNK = 5 };
enum { ERR_NOENT = 2, ERR_ACCES = 13, ERR_EXIST = 17, ERR_STALE = 70, ERR_BADHANDLE = 10001 };

/* ---- handles and attributes ---- */

void fakenfs_handle(uint64_t id, uint8_t ret[16]) {
        memcpy(ret, "fakenfs", 8);
        memcpy(ret + 8, &id, 8);
}

uint8_t fakenfs_byte(uint64_t id, uint64_t offset) {
        return (uint8_t) (id * 31 + offset * 7 + (offset >> 12));
}

static void put_handle(Writer *w, uint64_t id) {
        uint8_t handle[16];

        fakenfs_handle(id, handle);
        handle[7] = w->state->epoch;
        put_opaque(w, handle, sizeof handle);
}

static uint32_t type_of(uint64_t id) {
        if (id == ROOT_ID || (id >= DIR_ID && id < DIR_ID + 10))
                return MODE_DIR;
        return id == LINK_ID ? MODE_LNK : MODE_REG;
}

static uint32_t mode_of(const ProtoState *state, uint64_t id) {
        uint32_t mode = type_of(id) == MODE_DIR ? 0755 : 0644;

        for (uint32_t i = 0; i < state->n_acls; i++)
                if (state->acls[i].id == id)
                        mode = state->acls[i].mode;
        return mode;
}

/* The ACCESS bits. */
static uint32_t access_of(const ProtoState *state, uint64_t id, uint32_t uid) {
        for (uint32_t i = 0; i < state->n_acls; i++)
                if (state->acls[i].id == id && state->acls[i].uid == uid)
                        return state->acls[i].access;
        return 0x3f;
}

static void put_attr(Writer *w, uint64_t id) {
        uint32_t type = type_of(id);
        uint64_t size = type == MODE_DIR ? 4096 : FILE_SIZE;

        put32(w, faulty(w, FAKE_TYPE) ? w->fault->arg : type);
        put32(w, mode_of(w->state, id));
        put32(w, type == MODE_DIR || id == w->state->linked ? 2 : 1);
        put32(w, 0); /* uid, gid */
        put32(w, 0);
        put64(w, size);
        put64(w, size);
        put64(w, 0);  /* rdev */
        put64(w, 99); /* fsid */
        put64(w, faulty(w, FAKE_FILE_ID) ? id + 1000000 * ++w->state->n_file_ids : id);
        for (int i = 0; i < 3; i++) {
                if (i == 0 && id == w->state->made.id && w->state->made.atime[0]) {
                        put32(w, w->state->made.atime[0]);
                        put32(w, w->state->made.atime[1]);
                        continue;
                }
                put32(w, 3000000000u); /* beyond 2038 */
                put32(w, i == 2 && id == w->state->touched ? 6 : 5);
        }
}

static void put_post_attr(Writer *w, uint64_t id) {
        if (faulty(w, FAKE_NO_ATTR)) {
                put32(w, 0);
                return;
        }
        put32(w, 1);
        put_attr(w, id);
}

static void put_wcc(Writer *w, uint64_t id) {
        put32(w, 1);
        put64(w, 4095);
        put64(w, UINT64_C(1700000000) << 32);
        put64(w, UINT64_C(1700000001) << 32);
        put_post_attr(w, id);
}

/* ---- NFS ---- */

static uint64_t lookup(const ProtoState *state, const char *name) {
        char *end;
        uint64_t n = strtoull(name[0] ? name + 1 : name, &end, 10);

        if (!name[0] || end == name + 1 || *end)
                return 0;
        if (name[0] == 'f' && n + 2 < state->next_id) /* those that are made go on with these names */
                return n + 2;
        if (name[0] == 'd' && n < 10)
                return DIR_ID + n;
        return name[0] == 'l' && n == 0 ? LINK_ID : 0;
}

static void put_failure(Writer *w, uint32_t proc) {
        /* How many "nothing follows" the failure arm has: attributes 1, wcc 2. */
        static const uint8_t words[22] = { 0, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 4, 3, 1, 1, 1, 1, 1, 2 };

        for (uint32_t i = 0; i < words[proc]; i++)
                put32(w, 0);
}

static void put_read(Writer *w, Reader *r, uint64_t id) {
        uint64_t offset = get64(r);
        uint32_t count = get32(r);

        if (offset >= FILE_SIZE)
                count = 0;
        else if (offset + count > FILE_SIZE)
                count = (uint32_t) (FILE_SIZE - offset);
        if (faulty(w, FAKE_COUNT))
                count = w->fault->arg;
        put_post_attr(w, id);
        put32(w, count);
        put32(w, offset + count >= FILE_SIZE);
        put32(w, faulty(w, FAKE_LENGTH) ? w->fault->arg : count);
        for (uint32_t i = 0; i < count; i++)
                w->at[i] = fakenfs_byte(id, offset + i);
        memset(w->at + count, 0, 4);
        w->at += (count + 3) & ~3u;
}

static void put_write(Writer *w, Reader *r, uint64_t id) {
        uint32_t count, stable;

        (void) get64(r);
        count = get32(r);
        stable = get32(r);
        put_wcc(w, id);
        put32(w, faulty(w, FAKE_COUNT) ? w->fault->arg : count);
        put32(w, stable);
        put64(w, w->state->verifier);
}

static void put_entry_name(Writer *w, uint64_t i) {
        char name[300];

        (void) snprintf(name, sizeof name, "f%u", (unsigned int) i);
        if (i > 0 || !faulty(w, FAKE_NAME)) {
                put32(w, faulty(w, FAKE_LENGTH) ? w->fault->arg : (uint32_t) strlen(name));
                put_bytes(w, name, (uint32_t) strlen(name));
                return;
        }
        memset(name, 'n', sizeof name);
        switch (w->fault->arg) {
        case 0:
                put_opaque(w, "", 0);
                break;
        case 1:
                put_opaque(w, "a/b", 3);
                break;
        case 2:
                put_opaque(w, name, 256);
                break;
        default:
                put_opaque(w, "a\0b", 3);
                break;
        }
}

/* arg empty entries, however many were asked for. */
static void put_many_entries(Writer *w, bool plus) {
        for (uint32_t i = 0; i < w->fault->arg && w->at - w->start < (long) PROTO_REPLY_MAX - 4096; i++) {
                put32(w, 1);
                put64(w, i);
                put_opaque(w, "x", 1);
                put64(w, i + 1);
                if (plus)
                        put64(w, 0);
        }
        put32(w, 0);
        put32(w, 1);
}

static void put_loop(Writer *w) {
        put32(w, 1);
        put64(w, 9);
        put_opaque(w, "f0", 2);
        put64(w, 1);
        put32(w, 0);
        put32(w, 1);
        put32(w, (uint32_t) -40);
        put32(w, 0);
        put32(w, 1);
}

enum { COOKIES_HUGE, COOKIES_DESCENDING, COOKIES_TWICE };

/* The cookie after entry number i, from 1; and back. */
static uint64_t cookie_of(const Writer *w, uint64_t i) {
        if (faulty(w, FAKE_COOKIES) && w->fault->arg == COOKIES_HUGE)
                return UINT64_C(1) << 63 | i * 1000003;
        if (faulty(w, FAKE_COOKIES) && w->fault->arg == COOKIES_DESCENDING)
                return UINT32_MAX - i;
        return i;
}

static uint64_t entry_of(const Writer *w, uint64_t cookie) {
        if (faulty(w, FAKE_COOKIES) && w->fault->arg == COOKIES_HUGE &&
            cookie != 0) /* without its highest bit it is none of them */
                return cookie >> 63 ? (cookie & ~(UINT64_C(1) << 63)) / 1000003 : UINT64_MAX;
        if (faulty(w, FAKE_COOKIES) && w->fault->arg == COOKIES_DESCENDING && cookie != 0)
                return UINT32_MAX - cookie;
        return cookie;
}

static void put_readdir(Writer *w, Reader *r, bool plus) {
        uint64_t at = entry_of(w, get64(r)), n = w->state->config->n_files, file;
        bool twice = faulty(w, FAKE_COOKIES) && w->fault->arg == COOKIES_TWICE;
        const uint8_t *start = w->at;
        uint32_t limit;

        (void) get64(r); /* verifier */
        limit = get32(r);
        if (plus)
                limit = get32(r);
        limit = limit > 400 ? limit - 400 : 0;
        if (faulty(w, FAKE_COOKIES) && limit > 8192) /* so that they are used */
                limit = 8192;
        put_post_attr(w, w->dir);
        put64(w, 1);
        if (plus && faulty(w, FAKE_LOOP)) {
                put_loop(w);
                return;
        }
        if (plus && faulty(w, FAKE_LENGTH)) {
                put_many_entries(w, plus);
                return;
        }
        if (twice)
                n *= 2;
        for (; at < n && w->at - start < (long) limit; at++) {
                file = twice ? at / 2 : at;
                put32(w, 1);
                put64(w, file + 2);
                put_entry_name(w, file);
                put64(w, cookie_of(w, at + 1));
                if (plus) {
                        put_post_attr(w, file + 2);
                        put32(w, 1);
                        put_handle(w, file + 2);
                }
        }
        put32(w, 0);
        put32(w, at >= n);
}

static void put_fsinfo(Writer *w) {
        static const uint32_t sizes[] = { 1 << 20, 1 << 20, 4096, 1 << 20, 1 << 20, 4096, 65536 };

        put_post_attr(w, ROOT_ID);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                put32(w, faulty(w, FAKE_COUNT) ? w->fault->arg : sizes[i]);
        put64(w, UINT64_C(1) << 60);
        put32(w, 0); /* time delta */
        put32(w, 1);
        put32(w, 0x1b);
}

static void put_pathconf(Writer *w) {
        static const uint32_t values[] = { 1000, 255, 1, 1, 0, 1 };

        put_post_attr(w, ROOT_ID);
        for (size_t i = 0; i < sizeof values / sizeof *values; i++)
                put32(w, values[i]);
}

/* Of sattr3 all but the access time is skipped: mode, uid, gid, size. */
static void set_attr(Writer *w, Reader *r, uint64_t id) {
        uint32_t grain = w->state->time_grain ? w->state->time_grain : 1;

        for (int i = 0; i < 3; i++) {
                if (get32(r))
                        (void) get32(r);
        }
        if (get32(r))
                (void) get64(r);
        if (id != w->state->made.id || get32(r) != 2)
                return;
        w->state->made.atime[0] = get32(r);
        w->state->made.atime[1] = get32(r) / grain * grain;
}

enum { CREATE_UNCHECKED, CREATE_GUARDED, CREATE_EXCLUSIVE };

/* The status; *ret_id: what is there, whether it was or not. */
static uint32_t create(Writer *w, Reader *r, uint64_t *ret_id) {
        ProtoState *state = w->state;
        uint8_t verf[8] = { 0 };
        char name[300];
        uint32_t how;
        uint64_t id;

        get_name(r, name, sizeof name);
        how = get32(r);
        if (how == CREATE_EXCLUSIVE && r->left >= sizeof verf)
                memcpy(verf, r->at, sizeof verf);
        *ret_id = id = lookup(state, name);
        if (id && how == CREATE_EXCLUSIVE)
                return id == state->made.id && memcmp(verf, state->made.verf, sizeof verf) == 0 ? 0 : ERR_EXIST;
        if (id)
                return how == CREATE_GUARDED ? ERR_EXIST : 0;
        *ret_id = state->made.id = state->next_id++;
        memcpy(state->made.verf, verf, sizeof verf);
        memset(state->made.atime, 0, sizeof state->made.atime);
        if (how != CREATE_EXCLUSIVE && !state->no_create_time)
                set_attr(w, r, *ret_id);
        return 0;
}

static void put_created(Writer *w, uint64_t id) {
        put32(w, 1);
        put_handle(w, id);
        put_post_attr(w, id);
        put_wcc(w, ROOT_ID);
}

static void put_readlink(Writer *w, uint64_t id) {
        put_post_attr(w, id);
        if (faulty(w, FAKE_NAME)) {
                put_opaque(w, "a\0b", 3);
                return;
        }
        put32(w, faulty(w, FAKE_LENGTH) ? w->fault->arg : 2);
        put_bytes(w, "f0", 2);
}

static void put_results(Writer *w, Reader *r, uint32_t proc, uint64_t id) {
        switch (proc) {
        case 1:
                put_attr(w, id);
                break;
        case 2:
                set_attr(w, r, id);
                put_wcc(w, id);
                break;
        case 3:
                put_handle(w, id);
                put_post_attr(w, id);
                put_post_attr(w, w->dir);
                break;
        case 4:
                put_post_attr(w, id);
                put32(w, get32(r) & access_of(w->state, id, w->uid));
                break;
        case 5:
                put_readlink(w, id);
                break;
        case 6:
                put_read(w, r, id);
                break;
        case 7:
                put_write(w, r, id);
                break;
        case 8:
                put_created(w, id);
                break;
        case 9 ... 11:
                put_created(w, w->state->next_id++);
                break;
        case 12:
        case 13:
                put_wcc(w, ROOT_ID);
                break;
        case 14:
                put_wcc(w, ROOT_ID);
                put_wcc(w, ROOT_ID);
                break;
        case 15:
                put_post_attr(w, id);
                put_wcc(w, ROOT_ID);
                break;
        case 16:
        case 17:
                put_readdir(w, r, proc == 17);
                break;
        case 18:
                put_post_attr(w, ROOT_ID);
                for (uint64_t i = 0; i < 6; i++)
                        put64(w, (UINT64_C(1) << 30) + i);
                put32(w, 0);
                break;
        case 19:
                put_fsinfo(w);
                break;
        case 20:
                put_pathconf(w);
                break;
        case 21:
                put_wcc(w, id);
                put64(w, w->state->verifier);
                break;
        }
}

/* Whoever may execute a file may read it, as far as the protocol can tell (RFC 1813, section 4.4). */
static bool may(const ProtoState *state, uint32_t proc, uint64_t id, uint32_t uid) {
        static const uint32_t needs[22] = { [3] = 2, [6] = 1 | 32, [7] = 4 | 8, [16] = 1, [17] = 1 };

        return needs[proc] == 0 || (access_of(state, id, uid) & needs[proc]);
}

static void reply_nfs(Writer *w, const ProtoRequest *request) {
        Reader r = { request->args, request->len, false };
        uint32_t status = faulty(w, FAKE_STATUS) ? w->fault->arg : 0;
        char name[300];
        uint8_t epoch;
        uint64_t id;

        if (request->proc == 0)
                return;
        id = get_handle(&r, &epoch);
        if (status == 0 && id == 0)
                status = ERR_BADHANDLE;
        else if (status == 0 && epoch != w->state->epoch)
                status = ERR_STALE;
        w->dir = id;
        w->uid = request->uid;
        if (status == 0 && !may(w->state, request->proc, id, request->uid)) {
                put32(w, ERR_ACCES);
                if (request->proc == 3) /* as servers do */
                        put_post_attr(w, id);
                else
                        put_failure(w, request->proc);
                return;
        }
        if (request->proc == 3) {
                get_name(&r, name, sizeof name);
                id = lookup(w->state, name);
                if (status == 0 && id == 0)
                        status = ERR_NOENT;
        }
        if (request->proc == 8 && status == 0)
                status = create(w, &r, &id);
        put32(w, status);
        if (status)
                put_failure(w, request->proc);
        else
                put_results(w, &r, request->proc, id);
}

/* ---- MOUNT and the portmapper ---- */

static uint32_t mnt_status(const Writer *w, const ProtoRequest *request, const char *path) {
        const FakeNfsConfig *config = w->state->config;

        if (faulty(w, FAKE_STATUS))
                return w->fault->arg;
        if (config->require_resvport && request->source_port >= 1024)
                return ERR_ACCES;
        if (config->export && strcmp(config->export, path) != 0)
                return config->refuse ? config->refuse : ERR_NOENT;
        return 0;
}

static void reply_mount(Writer *w, const ProtoRequest *request) {
        Reader r = { request->args, request->len, false };
        bool forged = faulty(w, FAKE_LENGTH);
        char path[1100];
        uint32_t status;

        if (request->proc != 1) {
                if (request->proc == 2 || request->proc == 5)
                        put32(w, 0); /* DUMP, EXPORT: nothing */
                return;
        }
        get_name(&r, path, sizeof path);
        status = mnt_status(w, request, path);
        put32(w, status);
        if (status)
                return;
        put_handle(w, ROOT_ID);
        put32(w, forged ? w->fault->arg : 1);
        for (uint32_t i = 0; i < (forged ? 4096u : 1u); i++)
                put32(w, forged ? 0x41414141 : w->state->config->flavor ? w->state->config->flavor : 1);
}

static void reply_portmap(Writer *w, const ProtoRequest *request) {
        Reader r = { request->args, request->len, false };
        uint32_t prog = get32(&r);
        uint16_t port = 1;

        if (request->proc != 3)
                return;
        if (prog == PROG_MOUNT)
                port = w->state->config->mountd_port;
        else if (prog == PROG_NFS)
                port = w->state->config->nfsd_port;
        else if (prog == PROG_NLM)
                port = w->state->config->nlm_port;
        put32(w, port == 0 ? w->state->port : port == 1 ? 0 : port);
}

/* ---- RPC ---- */

int proto_parse(const uint8_t *record, size_t len, ProtoRequest *ret) {
        Reader r = { record, len, false }, cred;
        const uint8_t *body;
        uint32_t n, base;

        *ret = (ProtoRequest){ .xid = get32(&r) };
        if (get32(&r) != 0 || get32(&r) != 2)
                return -1;
        ret->prog = get32(&r);
        ret->vers = get32(&r);
        ret->proc = get32(&r) & 31;
        (void) get32(&r); /* flavour */
        body = get_opaque(&r, &n);
        cred = (Reader){ body, n, false };
        (void) get32(&cred); /* stamp */
        (void) get_opaque(&cred, &n);
        ret->uid = get32(&cred);
        ret->gid = get32(&cred);
        ret->n_groups = get32(&cred);
        (void) get32(&r); /* verifier */
        (void) get_opaque(&r, &n);
        base = ret->prog == PROG_MOUNT ? 100 : ret->prog == PROG_PORTMAP ? 200 : ret->prog == PROG_NLM ? 300 : 0;
        ret->key = (int) (base + ret->proc);
        ret->args = r.at;
        ret->len = r.left;
        return r.bad || ret->proc > (ret->prog == PROG_NLM ? NLM_FREE_ALL : 21) ? -1 : 0;
}

uint64_t proto_id(const ProtoRequest *request) {
        Reader r = { request->args, request->len, false };
        uint8_t epoch;

        return request->prog == PROG_NFS && request->proc != 0 ? get_handle(&r, &epoch) : 0;
}

/* What makes a decoder that trusts it follow a pointer: a credential and a verifier of some length. */
static void put_call(Writer *w) {
        put32(w, 0); /* CALL */
        put32(w, 0);
        put32(w, PROG_NFS);
        put32(w, 3);
        put32(w, 0);
        for (int i = 0; i < 2; i++) {
                put32(w, 1);
                put_opaque(w, "AAAAAAAAAAAAAAAA", 16);
        }
}

size_t proto_reply(ProtoState *state, const ProtoRequest *request, const FakeFault *fault, uint8_t *buf) {
        Writer w = { .start = buf, .at = buf, .state = state, .fault = fault };

        put32(&w, faulty(&w, FAKE_BAD_XID) ? request->xid ^ 0x5a5a5a5a : request->xid);
        if (faulty(&w, FAKE_CALL)) {
                put_call(&w);
                return (size_t) (w.at - buf);
        }
        put32(&w, 1); /* REPLY */
        if (faulty(&w, FAKE_DENY)) {
                put32(&w, 1);
                put32(&w, 1);
                put32(&w, fault->arg);
                return (size_t) (w.at - buf);
        }
        put32(&w, 0); /* accepted, no verifier */
        put64(&w, 0);
        put32(&w, faulty(&w, FAKE_ACCEPT) ? fault->arg : 0);
        if (faulty(&w, FAKE_ACCEPT)) {
                if (fault->arg == 2)
                        put64(&w, UINT64_C(4) << 32 | 4); /* versions 4 to 4 */
        } else if (request->prog == PROG_NFS) {
                reply_nfs(&w, request);
        } else if (request->prog == PROG_MOUNT) {
                reply_mount(&w, request);
        } else if (request->prog == PROG_PORTMAP) {
                reply_portmap(&w, request);
        } else if (request->prog == PROG_NLM) {
                reply_nlm(&w, request);
        }
        if (faulty(&w, FAKE_GARBAGE))
                for (uint8_t *p = buf + 4; p < w.at; p++)
                        *p = (uint8_t) rand();
        return (size_t) (w.at - buf);
}
