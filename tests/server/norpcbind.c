/*
 * For LD_PRELOAD into Debian's nfs-ganesha 4.3, so that it serves NFSv3, MOUNT3 and NLM on a machine (or in a
 * network namespace) without rpcbind and without rpc.statd.
 *
 * Its build registers with rpcbind and ends if that fails: rpcb_set() and rpcb_unset() here say that all went
 * well. Before it grants a client its first lock it asks the status monitor of this machine (program 100024) to watch
 * over that client: it gets a connection to a thread of this process, which says yes to everything.
 *
 * And one thing about the exports of the tests: on a tmpfs of Linux 6.18 the handle of a file that is just being removed gives
 * ENOMEM now and then, where every other file system says ESTALE; a request for which there is no memory the server drops.
 *
 * With G_CLOCK=SECONDS its clock is as much ahead of this machine's, as far as clients see it: in the times of files.
 * (Its plugins find our open_by_handle_at() only if they do not prefer the C library's: see dlopen().)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROG_STATUS 100024
enum { SM_MON = 2, SM_UNMON = 3, SM_UNMON_ALL = 4 };

/* libntirpc's */
struct netbuf {
        unsigned maxlen, len;
        void *buf;
};
#define CLNT_CREATE_FLAG_CLOSE 0x10

struct file_handle;
int open_by_handle_at(int mount_fd, struct file_handle *handle, int flags);
int rpcb_set(unsigned program, unsigned version, const void *config, const void *address);
int rpcb_unset(unsigned program, unsigned version, const void *config);
void *clnt_ncreate_timed(const char *host, uint32_t program, uint32_t version, const char *class, const void *timeout);

int rpcb_set(unsigned program, unsigned version, const void *config, const void *address) {
        (void) program;
        (void) version;
        (void) config;
        (void) address;
        return 1;
}

int rpcb_unset(unsigned program, unsigned version, const void *config) {
        (void) program;
        (void) version;
        (void) config;
        return 1;
}

static int read_all(int fd, void *buf, size_t size) {
        size_t done;
        ssize_t n;

        for (done = 0; done < size; done += (size_t) n)
                if ((n = read(fd, (char *) buf + done, size - done)) <= 0)
                        return -1;
        return 0;
}

/*
 * One connection. A reply: marker, XID, REPLY, accepted, no verifier, SUCCESS, results. When the last client is
 * unmonitored the server forgets the connection, without closing it.
 */
static void *status_monitor(void *arg) {
        int fd = (int) (intptr_t) arg;
        uint32_t marker, call[256], reply[9], n_clients = 0;
        bool last = false;

        while (!last && read_all(fd, &marker, sizeof marker) == 0) {
                uint32_t len = ntohl(marker) & 0x7fffffff, words = 7;

                if (len < 24 || len > sizeof call || read_all(fd, call, len) < 0)
                        break;
                memset(reply, 0, sizeof reply);
                reply[1] = call[0];
                reply[2] = htonl(1);
                switch (ntohl(call[5])) {
                case SM_MON: /* succeeded, state */
                        words = 9;
                        reply[8] = htonl(1);
                        n_clients++;
                        break;
                case SM_UNMON:
                case SM_UNMON_ALL: /* state */
                        last = ntohl(call[5]) == SM_UNMON_ALL || --n_clients == 0;
                        words = 8;
                        reply[7] = htonl(1);
                        break;
                }
                reply[0] = htonl(0x80000000u | (words - 1) * 4);
                if (write(fd, reply, words * 4) != (ssize_t) (words * 4))
                        break;
        }
        (void) close(fd);
        return NULL;
}

/* A connection of this process to itself: -1, or the client's end. */
static int connect_monitor(struct sockaddr_in *addr) {
        int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), server = -1;
        socklen_t len = sizeof *addr;
        pthread_t thread;

        if (bind(listen_fd, (struct sockaddr *) addr, sizeof *addr) == 0 &&
            getsockname(listen_fd, (struct sockaddr *) addr, &len) == 0 && listen(listen_fd, 1) == 0 &&
            connect(fd, (struct sockaddr *) addr, sizeof *addr) == 0)
                server = accept(listen_fd, NULL, NULL);
        (void) close(listen_fd);
        if (server < 0 || pthread_create(&thread, NULL, status_monitor, (void *) (intptr_t) server) != 0) {
                (void) close(fd);
                return -1;
        }
        (void) pthread_detach(thread);
        return fd;
}

void *clnt_ncreate_timed(const char *host, uint32_t program, uint32_t version, const char *class, const void *timeout) {
        void *(*create)(const char *, uint32_t, uint32_t, const char *, const void *);
        void *(*create_on)(int, const struct netbuf *, uint32_t, uint32_t, unsigned, unsigned, unsigned);
        struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct netbuf netbuf = { sizeof addr, sizeof addr, &addr };
        int fd;

        *(void **) &create = dlsym(RTLD_NEXT, "clnt_ncreate_timed");
        *(void **) &create_on = dlsym(RTLD_DEFAULT, "clnt_vc_ncreatef");
        if (program != PROG_STATUS || !create_on || (fd = connect_monitor(&addr)) < 0)
                return create(host, program, version, class, timeout);
        return create_on(fd, &netbuf, program, version, 0, 0, CLNT_CREATE_FLAG_CLOSE);
}

void *dlopen(const char *file, int mode) {
        void *(*open_library)(const char *, int);

        *(void **) &open_library = dlsym(RTLD_NEXT, "dlopen");
        return open_library(file, mode & ~RTLD_DEEPBIND);
}

int open_by_handle_at(int mount_fd, struct file_handle *handle, int flags) {
        int (*open_handle)(int, struct file_handle *, int), fd;

        *(void **) &open_handle = dlsym(RTLD_NEXT, "open_by_handle_at");
        fd = open_handle(mount_fd, handle, flags);
        if (fd < 0 && errno == ENOMEM)
                errno = ESTALE;
        return fd;
}

/* ---- its clock ---- */

static time_t ahead(void) {
        const char *seconds = getenv("G_CLOCK");

        return seconds ? atol(seconds) : 0;
}

static int seen(int r, struct stat64 *st) {
        time_t by = ahead();

        if (r == 0) {
                st->st_atim.tv_sec += by;
                st->st_mtim.tv_sec += by;
                st->st_ctim.tv_sec += by;
        }
        return r;
}

int fstat64(int fd, struct stat64 *st) {
        int (*next)(int, struct stat64 *);

        *(void **) &next = dlsym(RTLD_NEXT, "fstat64");
        return seen(next(fd, st), st);
}

int fstatat64(int fd, const char *restrict path, struct stat64 *restrict st, int flags) {
        int (*next)(int, const char *, struct stat64 *, int);

        *(void **) &next = dlsym(RTLD_NEXT, "fstatat64");
        return seen(next(fd, path, st, flags), st);
}

int stat64(const char *restrict path, struct stat64 *restrict st) {
        return fstatat64(AT_FDCWD, path, st, 0);
}

int lstat64(const char *restrict path, struct stat64 *restrict st) {
        return fstatat64(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

/* What is set to a value, and not to "now", is to be seen as that. */
static const struct timespec *set(const struct timespec times[2], struct timespec buf[2]) {
        if (!times)
                return NULL;
        for (int i = 0; i < 2; i++) {
                buf[i] = times[i];
                if (times[i].tv_nsec != UTIME_NOW && times[i].tv_nsec != UTIME_OMIT)
                        buf[i].tv_sec -= ahead();
        }
        return buf;
}

int futimens(int fd, const struct timespec times[2]) {
        int (*next)(int, const struct timespec[2]);
        struct timespec buf[2];

        *(void **) &next = dlsym(RTLD_NEXT, "futimens");
        return next(fd, set(times, buf));
}

int utimensat(int fd, const char *path, const struct timespec times[2], int flags) {
        int (*next)(int, const char *, const struct timespec[2], int);
        struct timespec buf[2];

        *(void **) &next = dlsym(RTLD_NEXT, "utimensat");
        return next(fd, path, set(times, buf), flags);
}
