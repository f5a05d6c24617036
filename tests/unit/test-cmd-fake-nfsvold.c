/*
 * A stand-in for nfsvold, for the tests of the mount helper: mounts a real FUSE file system with a few
 * directories and no NFS, listens on the control socket, and says on the status socket what NFSVOL_FAKE asks
 * for. Ends by itself after a minute.
 *
 *   NFSVOL_FAKE          ok, mute (mounted, but never answers a request), nomount (says ok all the same),
 *                        error, again, eof, crash, hang, garbage, long, odd
 *   NFSVOL_FAKE_EXPORT   what is exported; other paths get "subdir"
 *   NFSVOL_FAKE_COUNT    a file: each start adds a byte
 *   NFSVOL_FAKE_TIMES    "again" only for so many starts, then ok
 *   NFSVOL_FAKE_CONTROL  "silent": accepts, and says nothing
 *   NFSVOL_FAKE_DELAY    milliseconds before the status line
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "base/io.h"
#include "base/util.h"
#include "sys/rundir.h"

static const char *id, *source, *options, *mode;
static int status_fd = -1, lock_fd = -1;

static const char *setting(const char *name, const char *otherwise) {
        const char *value = getenv(name);

        return value ? value : otherwise;
}

static void say(const char *line) {
        (void) fd_close(lock_fd);
        (void) io_write_full(status_fd, line, strlen(line));
        (void) close(status_fd);
}

static size_t count_start(void) {
        const char *path = getenv("NFSVOL_FAKE_COUNT");
        struct stat st = { 0 };
        int fd;

        if (!path)
                return 1;
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        (void) !write(fd, "x", 1);
        (void) fstat(fd, &st);
        (void) close(fd);
        return (size_t) st.st_size;
}

/* What it was started with, for the test to look at. */
static void describe(const char *path) {
        FILE *out = fopen(path, "we");
        char cwd[256] = "", link[64], target[256];
        mode_t mask = umask(0);

        (void) umask(mask);
        (void) fprintf(out, "pid %d\nsid %d\ncwd %s\numask %03o\noptions %s\n", (int) getpid(), (int) getsid(0),
                       getcwd(cwd, sizeof cwd) ? cwd : "?", (unsigned) mask, options);
        for (int fd = 0; fd < 256; fd++) {
                ssize_t n;

                (void) snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
                n = readlink(link, target, sizeof target - 1);
                if (n > 0 && fd != fileno(out))
                        (void) fprintf(out, "fd %d %.*s\n", fd, (int) n, target);
        }
        for (char **e = environ; *e; e++)
                (void) fprintf(out, "env %s\n", *e);
        (void) fclose(out);
}

static int listen_on(const char *path) {
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (strlen(path) >= sizeof addr.sun_path)
                exit(3);
        memcpy(addr.sun_path, path, strlen(path));
        if (bind(fd, (struct sockaddr *) &addr, sizeof addr) < 0 || listen(fd, 64) < 0)
                exit(3);
        return fd;
}

static int fuse_mount(const char *path) {
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        char text[128];

        (void) snprintf(text, sizeof text, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", fd);
        if (mount(source, path, "fuse.nfs", MS_NOSUID | MS_NODEV, text) < 0) {
                (void) dprintf(status_fd, "error 2 fake: mount on %s: %s\n", path, strerror(errno));
                exit(3);
        }
        return fd;
}

/* Every directory has the same ones: a, b, dir. */
static void fuse_answer(int fd) {
        static char buf[FUSE_MIN_READ_BUFFER + (1 << 20)];
        const struct fuse_in_header *in = (const void *) buf;
        struct fuse_out_header out = { .len = sizeof out };
        struct fuse_init_out init = { .major = 7, .minor = 31, .max_readahead = 65536, .max_write = 131072 };
        struct fuse_attr_out attr = { .attr = { .ino = 1, .mode = S_IFDIR | 0755, .nlink = 2 } };
        struct fuse_entry_out entry = { .nodeid = 2, .attr = { .ino = 2, .mode = S_IFDIR | 0755, .nlink = 2 } };
        struct fuse_statfs_out statfs = { .st = { .bsize = 4096, .namelen = 255 } };
        struct fuse_open_out opened = { .fh = 1 };
        struct iovec iov[2] = { { &out, sizeof out }, { NULL, 0 } };
        const char *name = buf + sizeof *in;

        if (read(fd, buf, sizeof buf) < (ssize_t) sizeof *in)
                return;
        out.unique = in->unique;
        switch (in->opcode) {
        case FUSE_INIT:
                iov[1] = (struct iovec){ &init, sizeof init };
                break;
        case FUSE_GETATTR:
                attr.attr.ino = in->nodeid;
                iov[1] = (struct iovec){ &attr, sizeof attr };
                break;
        case FUSE_LOOKUP:
                entry.nodeid = entry.attr.ino = strcmp(name, "a") == 0 ? 2 : strcmp(name, "b") == 0 ? 3 : 4;
                if (entry.nodeid == 4 && strcmp(name, "dir") != 0)
                        out.error = -ENOENT;
                else
                        iov[1] = (struct iovec){ &entry, sizeof entry };
                break;
        case FUSE_STATFS:
                iov[1] = (struct iovec){ &statfs, sizeof statfs };
                break;
        case FUSE_OPENDIR:
                iov[1] = (struct iovec){ &opened, sizeof opened };
                break;
        case FUSE_READDIR:
        case FUSE_RELEASEDIR:
                break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
                return;
        default:
                out.error = -ENOSYS;
        }
        out.len += (uint32_t) iov[1].iov_len;
        (void) !writev(fd, iov, 2);
}

static void control_answer(int listen_fd) {
        static int silent[64];
        static size_t n_silent;
        char line[4096];
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
                return;
        if (strcmp(setting("NFSVOL_FAKE_CONTROL", ""), "silent") == 0 && n_silent < ELEMENTSOF(silent)) {
                silent[n_silent++] = fd;
                return;
        }
        if (read(fd, line, sizeof line) > 0)
                (void) dprintf(fd,
                               "{\"version\":\"0.1.0\",\"id\":\"%s\",\"source\":\"%s\",\"options\":\"%s\",\"state\":"
                               "\"serving\","
                               "\"keeper_pid\":%d,\"worker_pid\":%d,\"users\":1,\"uptime_s\":93784,\"restarts\":0,"
                               "\"server\":{\"host\":\"fake\",\"address\":\"127.0.0.1\",\"port\":2049,\"export\":\"/"
                               "x\",\"up\":true,"
                               "\"connections\":1},\"requests\":{\"in_flight\":0,\"total\":42},"
                               "\"rpcs\":{\"GETATTR\":{\"calls\":7,\"resent\":1,\"errors\":0,\"rtt_us\":123.4}},"
                               "\"counters\":{\"reconnects\":2},\"locks\":\"local\",\"new_thing\":[1]}\n",
                               id, source, options, (int) getpid(), (int) getpid());
        (void) close(fd);
}

static void serve(int fuse_fd, int listen_fd) {
        bool mute = strcmp(mode, "mute") == 0;

        for (;;) {
                struct pollfd pfds[2] = { { .fd = listen_fd, .events = POLLIN },
                                          { .fd = mute ? -1 : fuse_fd, .events = POLLIN } };

                (void) poll(pfds, 2, -1);
                if (pfds[1].revents & POLLERR)
                        exit(0); /* the last mount has gone */
                if (pfds[1].revents)
                        fuse_answer(fuse_fd);
                if (pfds[0].revents)
                        control_answer(listen_fd);
        }
}

static void run_ok(void) {
        char dir[256], path[300];
        int fuse_fd = -1, listen_fd;

        (void) rundir_path(id, NULL, dir, sizeof dir);
        (void) mkdir(dir, 0755);
        (void) snprintf(path, sizeof path, "%s/spawned", dir);
        describe(path);
        (void) snprintf(path, sizeof path, "%s/mnt", dir);
        (void) mkdir(path, 0755);
        if (strcmp(mode, "nomount") != 0)
                fuse_fd = fuse_mount(path);
        (void) snprintf(path, sizeof path, "%s/control", dir);
        listen_fd = listen_on(path);
        say("ok\n");
        serve(fuse_fd, listen_fd);
}

/* "subdir" if not the export itself is asked for. Returns if it is. */
static void check_export(void) {
        const char *export = getenv("NFSVOL_FAKE_EXPORT"), *path = strchr(source, '/');

        if (!export || strcmp(path, export) == 0)
                return;
        (void) dprintf(status_fd, "subdir %s\n", export);
        exit(0);
}

int main(int argc, char **argv) {
        size_t starts = count_start();

        for (int i = 1; i + 1 < argc; i += 2) {
                if (strcmp(argv[i], "--id") == 0)
                        id = argv[i + 1];
                else if (strcmp(argv[i], "--source") == 0)
                        source = argv[i + 1];
                else if (strcmp(argv[i], "--options") == 0)
                        options = argv[i + 1];
                else if (strcmp(argv[i], "--target") == 0)
                        continue;
                else if (strcmp(argv[i], "--status-fd") == 0)
                        status_fd = atoi(argv[i + 1]);
                else if (strcmp(argv[i], "--lock-fd") == 0)
                        lock_fd = atoi(argv[i + 1]);
                else
                        return 9;
        }
        if (!id || !source || !options || status_fd < 0)
                return 9;
        (void) alarm(60);
        mode = setting("NFSVOL_FAKE", "ok");
        if (strcmp(mode, "again") == 0 && starts > (size_t) atoi(setting("NFSVOL_FAKE_TIMES", "1000000")))
                mode = "ok";
        (void) usleep((unsigned) atoi(setting("NFSVOL_FAKE_DELAY", "0")) * 1000);
        check_export();
        if (strcmp(mode, "ok") == 0 || strcmp(mode, "mute") == 0 || strcmp(mode, "nomount") == 0)
                run_ok();
        else if (strcmp(mode, "error") == 0)
                say("error 32 access denied by server (try this)\n");
        else if (strcmp(mode, "odd") == 0)
                say("error 77 odd \x1b[1m text\n");
        else if (strcmp(mode, "again") == 0)
                say("again connection refused\n");
        else if (strcmp(mode, "garbage") == 0)
                say("what?\n");
        else if (strcmp(mode, "eof") == 0)
                return 5;
        else if (strcmp(mode, "crash") == 0)
                (void) raise(SIGKILL);
        else if (strcmp(mode, "hang") == 0)
                (void) pause();
        else if (strcmp(mode, "long") == 0)
                for (;;)
                        if (write(status_fd, "xxxxxxxxxxxxxxxx", 16) < 0)
                                return 0;
        return 0;
}
