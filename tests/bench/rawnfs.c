/*
 * The ceiling: NFSv3 through libnfs's raw API, one connection, nothing else of ours in between.
 *
 *   rawnfs HOST PORT MNTPORT EXPORT COMMAND...
 *     getattr N DEPTH                 of the root
 *     read FILE SIZE DEPTH            the whole file in order
 *     randread FILE BS DEPTH COUNT
 *     write FILE TOTAL BS DEPTH       UNSTABLE, then COMMIT
 *     randwrite FILE BS DEPTH COUNT   the same at random offsets
 *     create DIR N DEPTH              CREATE, WRITE of 100 bytes (FILE_SYNC)
 *     lookup DIR N DEPTH
 *     readfile DIR N DEPTH            LOOKUP, READ
 *     remove DIR N DEPTH
 *     readdirplus DIR
 *
 * FILE and DIR are paths below the root of the export ("." is the root). create to remove: N files in all,
 * chain i of DEPTH works in DIR/d<i>, on f0, f1, ..., one after the other. One line: what, how many per
 * second, MB/s, and our CPU time per operation.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/util.h"
#include "src/nfs/compat.h"

#define CHUNK_MAX  (1u << 20)
#define SMALL_SIZE 100
#define CHAINS_MAX 64

typedef struct Handle {
        uint32_t len;
        char data[NFS3_FHSIZE];
} Handle;

typedef struct Bench Bench;

/* Small files, one after the other: each step's completion sends the next. */
typedef struct Chain {
        Bench *bench;
        Handle dir, file;
        uint64_t next, end;
        char name[32];
} Chain;

/* One benchmark: send() makes request number i; done counts them. */
struct Bench {
        struct rpc_context *rpc;
        Handle handle;
        uint64_t n_total, n_sent, n_done;
        uint32_t depth, size;
        uint64_t file_size, bytes;
        void (*send)(struct Bench *bench, uint64_t i);
        uint64_t cookie; /* readdirplus */
        char verf[NFS3_COOKIEVERFSIZE];
        bool eof;
        void (*step)(Chain *chain); /* create, lookup, readfile, remove: the first of each file */
        Chain chains[CHAINS_MAX];
};

static bool answered; /* the one request of run_one() */
static Handle found;
static uint64_t found_size;
static char *data;

static void die(const char *fmt, ...) _printf_(1, 2);
static void die(const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        (void) fprintf(stderr, "rawnfs: ");
        (void) vfprintf(stderr, fmt, ap);
        (void) fprintf(stderr, "\n");
        va_end(ap);
        exit(1);
}

static void turn(struct rpc_context *rpc) {
        struct pollfd pfd = { .fd = rpc_get_fd(rpc), .events = (short) rpc_which_events(rpc) };

        if (poll(&pfd, 1, 30000) <= 0)
                die("no answer");
        if (rpc_service(rpc, pfd.revents) < 0)
                die("connection lost: %s", rpc_get_error(rpc));
}

static void run_one(struct rpc_context *rpc, int r) {
        if (r != 0)
                die("out of memory");
        answered = false;
        while (!answered)
                turn(rpc);
}

static nfs_fh3 fh3(Handle *handle) {
        return (nfs_fh3){ .data = { .data_len = handle->len, .data_val = handle->data } };
}

static void keep(Handle *to, const nfs_fh3 *from) {
        to->len = from->data.data_len;
        if (to->len > sizeof to->data)
                die("bad handle");
        memcpy(to->data, from->data.data_val, to->len);
}

static void expect(int status, const int *nfs_status, const char *what) {
        if (status != RPC_STATUS_SUCCESS)
                die("%s: RPC status %d", what, status);
        if (nfs_status && *nfs_status != 0)
                die("%s: NFS status %d", what, *nfs_status);
}

/* ---- setting up ---- */

static void connected(struct rpc_context *rpc, int status, void *result, void *userdata) {
        expect(status, NULL, "connect");
        answered = true;
}

static struct rpc_context *open_rpc(const char *host, int port, int program, int version) {
        struct rpc_context *rpc = compat_new();

        if (!rpc)
                die("out of memory");
        run_one(rpc, compat_connect(rpc, host, (uint16_t) port, program, version, connected, NULL));
        return rpc;
}

static void mounted(struct rpc_context *rpc, int status, void *result, void *userdata) {
        struct mountres3 *res = result;

        expect(status, NULL, "MNT");
        expect(status, (int *) &res->fhs_status, "MNT");
        found.len = res->mountres3_u.mountinfo.fhandle.fhandle3_len;
        memcpy(found.data, res->mountres3_u.mountinfo.fhandle.fhandle3_val, MIN(found.len, (uint32_t) NFS3_FHSIZE));
        answered = true;
}

static void looked_up(struct rpc_context *rpc, int status, void *result, void *userdata) {
        LOOKUP3res *res = result;
        LOOKUP3resok *ok = &res->LOOKUP3res_u.resok;

        expect(status, NULL, "LOOKUP");
        expect(status, (int *) &res->status, "LOOKUP");
        keep(&found, &ok->object);
        found_size = ok->obj_attributes.attributes_follow ? ok->obj_attributes.post_op_attr_u.attributes.size : 0;
        answered = true;
}

static void created(struct rpc_context *rpc, int status, void *result, void *userdata) {
        CREATE3res *res = result;

        expect(status, NULL, "CREATE");
        expect(status, (int *) &res->status, "CREATE");
        if (res->CREATE3res_u.resok.obj.handle_follows)
                keep(&found, &res->CREATE3res_u.resok.obj.post_op_fh3_u.handle);
        answered = true;
}

/* found: what path below dir leads to. */
static void walk(struct rpc_context *rpc, const Handle *dir, const char *path) {
        char copy[1024], *rest, *name;
        Handle at = *dir;

        (void) snprintf(copy, sizeof copy, "%s", path);
        for (name = strtok_r(copy, "/", &rest); name; name = strtok_r(NULL, "/", &rest)) {
                LOOKUP3args args = { .what = { .dir = fh3(&at), .name = name } };

                if (strcmp(name, ".") == 0)
                        continue;
                run_one(rpc, COMPAT_CALL(nfs3_lookup, rpc, looked_up, &args, NULL));
                at = found;
        }
        found = at;
}

static void create(struct rpc_context *rpc, const Handle *root, const char *path) {
        const char *slash = strrchr(path, '/');
        char parent[1024] = ".";
        CREATE3args args = { .where = { .name = (char *) (slash ? slash + 1 : path) }, .how = { .mode = UNCHECKED } };
        Handle dir;

        if (slash)
                (void) snprintf(parent, sizeof parent, "%.*s", (int) (slash - path), path);
        walk(rpc, root, parent);
        dir = found;
        args.where.dir = fh3(&dir);
        args.how.createhow3_u.obj_attributes.mode.set_it = 1;
        args.how.createhow3_u.obj_attributes.mode.set_mode3_u.mode = 0644;
        run_one(rpc, COMPAT_CALL(nfs3_create, rpc, created, &args, NULL));
}

/* ---- the benchmarks' requests ---- */

static void send_getattr(Bench *bench, uint64_t i);
static void send_read(Bench *bench, uint64_t i);
static void send_randread(Bench *bench, uint64_t i);
static void send_write(Bench *bench, uint64_t i);
static void send_randwrite(Bench *bench, uint64_t i);
static void send_readdirplus(Bench *bench, uint64_t i);

static void getattr_done(struct rpc_context *rpc, int status, void *result, void *userdata) {
        Bench *bench = userdata;

        expect(status, result, "GETATTR");
        bench->n_done++;
}

static void send_getattr(Bench *bench, uint64_t i) {
        GETATTR3args args = { .object = fh3(&bench->handle) };

        if (COMPAT_CALL(nfs3_getattr, bench->rpc, getattr_done, &args, bench) != 0)
                die("out of memory");
}

static void read_done(struct rpc_context *rpc, int status, void *result, void *userdata) {
        Bench *bench = userdata;
        READ3res *res = result;

        expect(status, result, "READ");
        bench->bytes += res->READ3res_u.resok.count;
        bench->n_done++;
}

static void read_at(Bench *bench, uint64_t offset) {
        READ3args args = { .file = fh3(&bench->handle), .offset = offset, .count = bench->size };

        if (compat_read3(bench->rpc, read_done, data, &args, bench) != 0)
                die("out of memory");
}

static void send_read(Bench *bench, uint64_t i) {
        read_at(bench, i * bench->size);
}

static void send_randread(Bench *bench, uint64_t i) {
        uint64_t blocks = MAX(bench->file_size / bench->size, (uint64_t) 1);

        read_at(bench, (uint64_t) random() % blocks * bench->size);
}

static void write_done(struct rpc_context *rpc, int status, void *result, void *userdata) {
        Bench *bench = userdata;
        WRITE3res *res = result;

        expect(status, result, "WRITE");
        bench->bytes += res->WRITE3res_u.resok.count;
        bench->n_done++;
}

static void write_at(Bench *bench, uint64_t offset) {
        WRITE3args args = {
                .file = fh3(&bench->handle),
                .offset = offset,
                .count = bench->size,
                .stable = UNSTABLE,
                .data = { .data_len = bench->size, .data_val = data },
        };

        if (COMPAT_CALL(nfs3_write, bench->rpc, write_done, &args, bench) != 0)
                die("out of memory");
}

static void send_write(Bench *bench, uint64_t i) {
        write_at(bench, i * bench->size);
}

static void send_randwrite(Bench *bench, uint64_t i) {
        uint64_t blocks = MAX(bench->file_size / bench->size, (uint64_t) 1);

        write_at(bench, (uint64_t) random() % blocks * bench->size);
}

/* ---- small files ---- */

static void chain_next(Chain *chain) {
        if (chain->next == chain->end)
                return;
        (void) snprintf(chain->name, sizeof chain->name, "f%lu", chain->next++);
        chain->bench->step(chain);
}

static void chain_sent(int r) {
        if (r != 0)
                die("out of memory");
}

static void chain_done(struct rpc_context *rpc, int status, void *result, void *userdata) {
        Chain *chain = userdata;

        expect(status, result, "the last step");
        chain->bench->n_done++;
        chain_next(chain);
}

static void step_write(struct rpc_context *rpc, int status, void *result, void *userdata) {
        Chain *chain = userdata;
        CREATE3res *res = result;
        WRITE3args args = { .count = SMALL_SIZE, .stable = FILE_SYNC, .data = { SMALL_SIZE, data } };

        expect(status, result, "CREATE");
        keep(&chain->file, &res->CREATE3res_u.resok.obj.post_op_fh3_u.handle);
        args.file = fh3(&chain->file);
        chain_sent(COMPAT_CALL(nfs3_write, rpc, chain_done, &args, chain));
}

static void step_create(Chain *chain) {
        CREATE3args args = { .where = { .dir = fh3(&chain->dir), .name = chain->name }, .how = { .mode = UNCHECKED } };

        args.how.createhow3_u.obj_attributes.mode.set_it = 1;
        args.how.createhow3_u.obj_attributes.mode.set_mode3_u.mode = 0644;
        chain_sent(COMPAT_CALL(nfs3_create, chain->bench->rpc, step_write, &args, chain));
}

static void send_lookup(Chain *chain, rpc_cb done) {
        LOOKUP3args args = { .what = { .dir = fh3(&chain->dir), .name = chain->name } };

        chain_sent(COMPAT_CALL(nfs3_lookup, chain->bench->rpc, done, &args, chain));
}

static void step_lookup(Chain *chain) {
        send_lookup(chain, chain_done);
}

static void step_read(struct rpc_context *rpc, int status, void *result, void *userdata) {
        Chain *chain = userdata;
        LOOKUP3res *res = result;
        READ3args args = { .count = 4096 };

        expect(status, result, "LOOKUP");
        keep(&chain->file, &res->LOOKUP3res_u.resok.object);
        args.file = fh3(&chain->file);
        chain_sent(compat_read3(rpc, chain_done, data, &args, chain));
}

static void step_readfile(Chain *chain) {
        send_lookup(chain, step_read);
}

static void step_remove(Chain *chain) {
        REMOVE3args args = { .object = { .dir = fh3(&chain->dir), .name = chain->name } };

        chain_sent(COMPAT_CALL(nfs3_remove, chain->bench->rpc, chain_done, &args, chain));
}

static void chains_set_up(Bench *bench, const char *dir) {
        if (bench->depth == 0 || bench->depth > CHAINS_MAX)
                die("at most %d at a time, at least one", CHAINS_MAX);
        for (uint32_t i = 0; i < bench->depth; i++) {
                char path[1024];

                (void) snprintf(path, sizeof path, "%s/d%u", dir, i);
                walk(bench->rpc, &bench->handle, path);
                bench->chains[i] = (Chain){ .bench = bench, .dir = found, .end = bench->n_total / bench->depth };
        }
        bench->n_total = bench->n_total / bench->depth * bench->depth;
}

/* ---- directories ---- */

static void readdirplus_done(struct rpc_context *rpc, int status, void *result, void *userdata) {
        Bench *bench = userdata;
        READDIRPLUS3res *res = result;
        READDIRPLUS3resok *ok = &res->READDIRPLUS3res_u.resok;

        expect(status, result, "READDIRPLUS");
        for (entryplus3 *entry = ok->reply.entries; entry; entry = entry->nextentry) {
                bench->cookie = entry->cookie;
                bench->n_done++;
        }
        memcpy(bench->verf, ok->cookieverf, sizeof bench->verf);
        bench->eof = ok->reply.eof;
        answered = true;
}

static void send_readdirplus(Bench *bench, uint64_t i) {
        READDIRPLUS3args args = {
                .dir = fh3(&bench->handle),
                .cookie = bench->cookie,
                .dircount = CHUNK_MAX,
                .maxcount = CHUNK_MAX,
        };

        memcpy(args.cookieverf, bench->verf, sizeof bench->verf);
        run_one(bench->rpc, COMPAT_CALL(nfs3_readdirplus, bench->rpc, readdirplus_done, &args, bench));
}

static void commit_done(struct rpc_context *rpc, int status, void *result, void *userdata) {
        expect(status, result, "COMMIT");
        answered = true;
}

static void commit(Bench *bench) {
        COMMIT3args args = { .file = fh3(&bench->handle) };

        run_one(bench->rpc, COMPAT_CALL(nfs3_commit, bench->rpc, commit_done, &args, NULL));
}

/* ---- measuring ---- */

static uint64_t cpu_us(void) {
        struct rusage usage;

        (void) getrusage(RUSAGE_SELF, &usage);
        return (uint64_t) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
               (uint64_t) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void run(Bench *bench, const char *what) {
        uint64_t start = now_ns(), cpu = cpu_us();
        double seconds, n;

        if (bench->send == send_readdirplus) {
                while (!bench->eof)
                        send_readdirplus(bench, 0);
        } else if (bench->step) {
                for (uint32_t i = 0; i < bench->depth; i++)
                        chain_next(&bench->chains[i]);
                while (bench->n_done < bench->n_total)
                        turn(bench->rpc);
        } else {
                while (bench->n_done < bench->n_total) {
                        while (bench->n_sent < bench->n_total && bench->n_sent - bench->n_done < bench->depth)
                                bench->send(bench, bench->n_sent++);
                        turn(bench->rpc);
                }
        }
        if (bench->send == send_write || bench->send == send_randwrite)
                commit(bench);
        seconds = (double) (now_ns() - start) / 1e9;
        n = (double) MAX(bench->n_done, (uint64_t) 1);
        (void) printf("%s: %.0f ops/s, %.1f MB/s, %.2f us CPU per op\n", what, n / seconds, (double) bench->bytes / 1e6 / seconds,
                      (double) (cpu_us() - cpu) / n);
}

static uint64_t number(char **argv, int argc, int i) {
        if (i >= argc)
                die("an argument is missing");
        return strtoull(argv[i], NULL, 0);
}

static void open_file(Bench *bench, const char *name) {
        walk(bench->rpc, &bench->handle, name);
        bench->handle = found;
        bench->file_size = found_size;
}

static const struct {
        const char *name;
        void (*send)(Bench *bench, uint64_t i);
        void (*step)(Chain *chain);
} commands[] = {
        { "getattr", send_getattr, NULL },     { "read", send_read, NULL },
        { "randread", send_randread, NULL },   { "write", send_write, NULL },
        { "randwrite", send_randwrite, NULL }, { "create", NULL, step_create },
        { "lookup", NULL, step_lookup },       { "readfile", NULL, step_readfile },
        { "remove", NULL, step_remove },       { "readdirplus", send_readdirplus, NULL },
};

static void find_command(Bench *bench, const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                if (strcmp(commands[i].name, name) == 0) {
                        bench->send = commands[i].send;
                        bench->step = commands[i].step;
                        return;
                }
        }
        die("no such command: %s", name);
}

/* argv: COMMAND and its arguments. */
static void set_up(Bench *bench, int argc, char **argv) {
        find_command(bench, argv[0]);
        (void) number(argv, argc, 1);
        if (bench->send == send_getattr) {
                bench->n_total = number(argv, argc, 1);
                bench->depth = (uint32_t) number(argv, argc, 2);
        } else if (bench->step) {
                bench->n_total = number(argv, argc, 2);
                bench->depth = (uint32_t) number(argv, argc, 3);
                chains_set_up(bench, argv[1]);
        } else if (bench->send == send_write) {
                create(bench->rpc, &bench->handle, argv[1]);
                bench->handle = found;
                bench->size = (uint32_t) number(argv, argc, 3);
                bench->n_total = number(argv, argc, 2) / MAX(bench->size, 1u);
                bench->depth = (uint32_t) number(argv, argc, 4);
        } else {
                open_file(bench, argv[1]);
                if (bench->send == send_readdirplus)
                        return;
                bench->size = (uint32_t) number(argv, argc, 2);
                bench->depth = (uint32_t) number(argv, argc, 3);
                bench->n_total = bench->send == send_read ? (bench->file_size + bench->size - 1) / MAX(bench->size, 1u)
                                                          : number(argv, argc, 4);
        }
}

int main(int argc, char **argv) {
        static Bench bench;
        struct rpc_context *mountd;

        if (argc < 6)
                die("usage: rawnfs HOST PORT MNTPORT EXPORT COMMAND...");
        data = calloc(1, CHUNK_MAX);
        if (!data)
                die("out of memory");
        mountd = open_rpc(argv[1], atoi(argv[3]), MOUNT_PROGRAM, MOUNT_V3);
        run_one(mountd, COMPAT_CALL(mount3_mnt, mountd, mounted, argv[4], NULL));
        rpc_destroy_context(mountd);
        bench.handle = found;
        bench.rpc = open_rpc(argv[1], atoi(argv[2]), NFS_PROGRAM, NFS_V3);
        set_up(&bench, argc - 5, argv + 5);
        if (bench.size > CHUNK_MAX || (bench.n_total > 0 && bench.depth == 0))
                die("at most %u bytes at a time, at least one in flight", CHUNK_MAX);
        run(&bench, argv[5]);
        rpc_destroy_context(bench.rpc);
        free(data);
        return 0;
}
