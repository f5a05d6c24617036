/* Files that are not files: fifos, sockets, devices; and programs. */
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "cases.h"

static void case_mknod_kinds(void) {
        (void) umask(0);
        OK(mknod("reg", S_IFREG | 0640, 0));
        CHECK(S_ISREG(stat_of("reg").st_mode));
        EQ(mode_of("reg"), 0640);
        OK(mknod("fifo", S_IFIFO | 0622, 0));
        CHECK(S_ISFIFO(stat_of("fifo").st_mode));
        EQ(mode_of("fifo"), 0622);
        OK(mknod("sock", S_IFSOCK | 0600, 0));
        CHECK(S_ISSOCK(stat_of("sock").st_mode));
        FAILS(mknod("fifo", S_IFIFO | 0600, 0), EEXIST);
        FAILS(mknod("none/fifo", S_IFIFO | 0600, 0), ENOENT);
        file_text("reg", "x");
        file_is("reg", "x");
}

static void case_mknod_devices(void) {
        struct stat st;

        if (mknod("null", S_IFCHR | 0666, makedev(1, 3)) < 0 && errno == EPERM && !on_nfs)
                case_skip("devices cannot be made here");
        st = stat_of("null");
        CHECK(S_ISCHR(st.st_mode));
        EQ(major(st.st_rdev), 1);
        EQ(minor(st.st_rdev), 3);
        OK(mknod("block", S_IFBLK | 0600, makedev(259, 70000)));
        st = stat_of("block");
        CHECK(S_ISBLK(st.st_mode));
        EQ(major(st.st_rdev), 259);
        EQ(minor(st.st_rdev), 70000);
}

static void case_mknod_device_by_user(void) {
        pid_t pid;

        OK(chmod(".", 0777));
        pid = child_start();
        if (pid == 0) {
                become(1000, 1000, (gid_t) -1);
                FAILS(mknod("null", S_IFCHR | 0666, makedev(1, 3)), EPERM);
                OK(mkfifo("fifo", 0600));
                child_end();
        }
        child_wait(pid);
}

static void case_fifo_between_processes(void) {
        char buf[16];
        pid_t pid;
        int fd;

        OK(mkfifo("fifo", 0600));
        pid = child_start();
        if (pid == 0) {
                fd = OK(open("fifo", O_WRONLY));
                EQ(write(fd, "through", 7), 7);
                OK(close(fd));
                child_end();
        }
        fd = OK(open("fifo", O_RDONLY));
        EQ(read(fd, buf, sizeof buf), 7);
        CHECK(memcmp(buf, "through", 7) == 0);
        EQ(read(fd, buf, sizeof buf), 0);
        OK(close(fd));
        child_wait(pid);
        FAILS(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
        EQ(size_of("fifo"), 0);
}

static void case_socket(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "sock" };
        int server = OK(socket(AF_UNIX, SOCK_STREAM, 0)), client = OK(socket(AF_UNIX, SOCK_STREAM, 0)), peer;
        char buf[4];

        OK(bind(server, (struct sockaddr *) &address, sizeof address));
        OK(listen(server, 1));
        CHECK(S_ISSOCK(stat_of("sock").st_mode));
        OK(connect(client, (struct sockaddr *) &address, sizeof address));
        peer = OK(accept(server, NULL, NULL));
        EQ(write(client, "x", 1), 1);
        EQ(read(peer, buf, 4), 1);
        OK(close(peer));
        OK(close(client));
        OK(close(server));
        client = OK(socket(AF_UNIX, SOCK_STREAM, 0));
        FAILS(connect(client, (struct sockaddr *) &address, sizeof address), ECONNREFUSED);
        FAILS(open("sock", O_RDONLY), ENXIO);
        OK(unlink("sock"));
}

static void copy(const char *from, const char *to, mode_t mode) {
        static char buf[1 << 16];
        int in = OK(open(from, O_RDONLY)), out = OK(open(to, O_CREAT | O_WRONLY, mode));
        ssize_t n;

        while ((n = read(in, buf, sizeof buf)) > 0)
                EQ(write(out, buf, (size_t) n), n);
        EQ(n, 0);
        OK(close(in));
        OK(close(out));
}

static int run(const char *path, char *const argv[]) {
        int status;
        pid_t pid = child_start();

        if (pid == 0) {
                (void) execv(path, argv);
                _exit(200 + errno);
        }
        OK(waitpid(pid, &status, 0));
        CHECK(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void case_exec(void) {
        char *const script[] = { (char *) "script", NULL }, *const sh[] = { (char *) "sh", (char *) "-c", (char *) "exit 7",
                                                                            NULL };
        int fd;

        copy("/bin/sh", "sh", 0755);
        EQ(run("./sh", sh), 7);
        file_text("script", "#!/bin/sh\nexit 9\n");
        EQ(run("./script", script), 200 + EACCES);
        OK(chmod("script", 0755));
        EQ(run("./script", script), 9);
        OK(mkdir("dir", 0755));
        EQ(run("./dir", script), 200 + EACCES);
        fd = file_open("script", O_RDONLY);
        OK(close(fd));
        OK(unlink("sh"));
}

/* For execute permission alone (0111, another's file) it must be possible to run it, and not to read it. */
static void case_exec_not_readable(void) {
        char *const sh[] = { (char *) "sh", (char *) "-c", (char *) "exit 7", NULL };
        pid_t pid;

        copy("/bin/sh", "sh", 0755);
        OK(chmod("sh", 0711));
        pid = child_start();
        if (pid == 0) {
                become(1000, 1000, (gid_t) -1);
                FAILS(open("sh", O_RDONLY), EACCES);
                EQ(run("./sh", sh), 7);
                child_end();
        }
        child_wait(pid);
        OK(chmod("sh", 0644));
        pid = child_start();
        if (pid == 0) {
                become(1000, 1000, (gid_t) -1);
                EQ(run("./sh", sh), 200 + EACCES);
                child_end();
        }
        child_wait(pid);
}

static void case_exec_replaced_while_running(void) {
        char *const sh[] = { (char *) "sh", (char *) "-c", (char *) "read x <go; exit 3", NULL };
        int status, go;
        pid_t pid;

        copy("/bin/sh", "sh", 0755);
        OK(mkfifo("go", 0600));
        pid = child_start();
        if (pid == 0) {
                (void) execv("./sh", sh);
                _exit(200);
        }
        go = OK(open("go", O_WRONLY)); /* it runs */
        copy("/bin/cat", "new", 0755);
        OK(rename("new", "sh"));
        EQ(write(go, "x\n", 2), 2);
        OK(close(go));
        OK(waitpid(pid, &status, 0));
        CHECK(WIFEXITED(status));
        EQ(WEXITSTATUS(status), 3);
}

const Case special_cases[] = {
        CASE(mknod_kinds),
        CASE(mknod_devices),
        CASE(mknod_device_by_user),
        CASE(fifo_between_processes),
        CASE(socket),
        CASE(exec),
        CASE(exec_not_readable),
        CASE(exec_replaced_while_running),
        { 0 },
};
