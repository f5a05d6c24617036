/* open(2), creat(2), their flags and modes, descriptors. */
#include <sys/resource.h>
#include <time.h>

#include "cases.h"

static void case_open_create_mode(void) {
        OK(close(OK(open("a", O_CREAT | O_WRONLY, 0666))));
        EQ(mode_of("a"), 0644);
        (void) umask(077);
        OK(close(OK(open("b", O_CREAT | O_WRONLY, 0777))));
        EQ(mode_of("b"), 0700);
        (void) umask(0);
        OK(close(OK(open("c", O_CREAT | O_WRONLY, 0666))));
        EQ(mode_of("c"), 0666);
        EQ(stat_of("c").st_uid, 0);
        EQ(stat_of("c").st_size, 0);
        EQ(stat_of("c").st_nlink, 1);
}

static void case_open_create_special_modes(void) {
        OK(close(OK(open("s", O_CREAT | O_WRONLY, 04755))));
        EQ(mode_of("s"), 04755);
        OK(close(OK(open("t", O_CREAT | O_EXCL | O_WRONLY, 01644))));
        EQ(mode_of("t"), 01644);
        OK(close(OK(open("g", O_CREAT | O_EXCL | O_WRONLY, 02755))));
        EQ(mode_of("g"), 02755);
}

static void case_open_create_mode_0(void) {
        int fd = OK(open("a", O_CREAT | O_EXCL | O_RDWR, 0));

        EQ(write(fd, "x", 1), 1);
        fd_is(fd, "x");
        EQ(mode_of("a"), 0);
        OK(close(fd));
}

static void create_readonly(int flags) {
        int fd = OK(open("a", flags, 0444));

        EQ(write(fd, "data", 4), 4);
        EQ(pwrite(fd, "D", 1, 0), 1);
        OK(close(fd));
        file_is("a", "Data");
        EQ(mode_of("a"), 0444);
        FAILS(open("a", O_WRONLY), EACCES);
}

/* git writes its objects so: who created a file may write to it, whatever its mode */
static void case_open_create_readonly_as_user(void) {
        pid_t pid;

        OK(chmod(".", 0777));
        pid = child_start();
        if (pid == 0) {
                become(1000, 1000, (gid_t) -1);
                create_readonly(O_CREAT | O_RDWR);
                EQ(stat_of("a").st_uid, 1000);
                EQ(stat_of("a").st_gid, 1000);
                OK(unlink("a"));
                create_readonly(O_CREAT | O_EXCL | O_RDWR);
                child_end();
        }
        child_wait(pid);
}

static void case_open_excl_existing(void) {
        file_text("a", "x");
        FAILS(open("a", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
        OK(mkdir("d", 0755));
        FAILS(open("d", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
        OK(symlink("nowhere", "l"));
        FAILS(open("l", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
        CHECK(!exists("nowhere"));
        file_is("a", "x");
}

static void case_open_excl_mode_and_times(void) {
        struct timespec before, after;
        struct stat st;

        OK(clock_gettime(CLOCK_REALTIME, &before));
        OK(close(OK(open("a", O_CREAT | O_EXCL | O_RDWR, 0640))));
        OK(clock_gettime(CLOCK_REALTIME, &after));
        st = stat_of("a");
        EQ(st.st_mode & 07777, 0640);
        EQ(st.st_size, 0);
        /* NFS exclusive creates keep a verifier in the times, for a moment: not to be seen afterwards */
        CHECK(st.st_mtim.tv_sec >= before.tv_sec - 1 && st.st_mtim.tv_sec <= after.tv_sec + 1);
        CHECK(st.st_atim.tv_sec >= before.tv_sec - 1 && st.st_atim.tv_sec <= after.tv_sec + 1);
}

static void case_open_excl_as_user_owner(void) {
        pid_t pid;

        OK(chmod(".", 0777));
        pid = child_start();
        if (pid == 0) {
                become(1000, 1001, 1002);
                OK(close(OK(open("a", O_CREAT | O_EXCL | O_RDWR, 0600))));
                EQ(stat_of("a").st_uid, 1000);
                EQ(stat_of("a").st_gid, 1001);
                EQ(mode_of("a"), 0600);
                child_end();
        }
        child_wait(pid);
}

static void case_open_excl_race(void) {
        enum { N = 8, ROUNDS = 20 };
        int won[2];
        char c;

        OK(pipe2(won, O_NONBLOCK));
        for (int round = 0; round < ROUNDS; round++) {
                int turn = turn_new(), n = 0;
                pid_t pids[N];
                char name[16];

                (void) snprintf(name, sizeof name, "f%d", round);
                for (int i = 0; i < N; i++) {
                        pids[i] = child_start();
                        if (pids[i] == 0) {
                                int fd;

                                turn_take(turn);
                                fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
                                if (fd >= 0)
                                        EQ(write(won[1], "w", 1), 1);
                                else
                                        EQ(errno, EEXIST);
                                child_end();
                        }
                }
                for (int i = 0; i < N; i++)
                        turn_give(turn);
                for (int i = 0; i < N; i++)
                        child_wait(pids[i]);
                while (read(won[0], &c, 1) == 1)
                        n++;
                EQ(n, 1);
                OK(close(turn));
        }
}

static void case_open_trunc(void) {
        int old, fd;

        file_text("a", "something long");
        old = file_open("a", O_RDONLY);
        fd_is(old, "something long");
        fd = file_open("a", O_WRONLY | O_TRUNC);
        EQ(size_of("a"), 0);
        fd_is(old, "");
        EQ(write(fd, "new", 3), 3);
        fd_is(old, "new");
        OK(close(fd));
        OK(close(file_open("a", O_RDWR | O_CREAT | O_TRUNC)));
        fd_is(old, "");
        OK(close(old));
}

static void case_open_trunc_keeps_mode(void) {
        file_text("a", "x");
        OK(chmod("a", 0751));
        OK(close(OK(open("a", O_WRONLY | O_CREAT | O_TRUNC, 0600))));
        EQ(mode_of("a"), 0751);
        EQ(size_of("a"), 0);
}

static void case_open_append(void) {
        int fd;

        file_text("a", "12");
        fd = file_open("a", O_WRONLY | O_APPEND);
        EQ(lseek(fd, 0, SEEK_SET), 0);
        EQ(write(fd, "34", 2), 2);
        EQ(lseek(fd, 0, SEEK_CUR), 4);
        EQ(pwrite(fd, "56", 2, 0), 2); /* Linux appends all the same */
        OK(close(fd));
        file_is("a", "123456");
}

static void case_open_append_two_fds(void) {
        int a, b, reader;

        file_text("a", "");
        a = file_open("a", O_WRONLY | O_APPEND);
        b = file_open("a", O_WRONLY | O_APPEND);
        reader = file_open("a", O_RDONLY);
        EQ(write(a, "one ", 4), 4);
        EQ(write(b, "two ", 4), 4);
        fd_is(reader, "one two ");
        EQ(write(a, "three ", 6), 6);
        EQ(write(b, "four", 4), 4);
        fd_is(reader, "one two three four");
        OK(ftruncate(a, 4));
        EQ(write(b, "end", 3), 3);
        file_is("a", "one end");
        EQ(size_of("a"), 7);
        OK(close(a));
        OK(close(b));
        OK(close(reader));
}

/* On one node, each append is whole and none is lost. */
static void case_open_append_processes(void) {
        enum { N = 4, RECORDS = 100, SIZE = 37 };
        static char all[N * RECORDS * SIZE];
        int seen[N] = { 0 }, fd;
        pid_t pids[N];

        file_text("log", "");
        for (int i = 0; i < N; i++) {
                pids[i] = child_start();
                if (pids[i] == 0) {
                        char record[SIZE];

                        fd = file_open("log", O_WRONLY | O_APPEND);
                        for (int k = 0; k < RECORDS; k++) {
                                memset(record, 'a' + i, SIZE);
                                record[0] = (char) k;
                                EQ(write(fd, record, SIZE), SIZE);
                        }
                        OK(close(fd));
                        child_end();
                }
        }
        for (int i = 0; i < N; i++)
                child_wait(pids[i]);
        EQ(size_of("log"), sizeof all);
        fd = file_open("log", O_RDONLY);
        EQ(read(fd, all, sizeof all), sizeof all);
        for (int r = 0; r < N * RECORDS; r++) {
                const char *record = all + r * SIZE;
                int who = record[1] - 'a';

                CHECK(who >= 0 && who < N);
                EQ(record[0], seen[who]++);
                for (int k = 2; k < SIZE; k++)
                        EQ(record[k], 'a' + who);
        }
        OK(close(fd));
}

static void case_open_setfl_append(void) {
        int fd, other;

        file_text("a", "1234");
        fd = file_open("a", O_RDWR);
        OK(fcntl(fd, F_SETFL, O_APPEND));
        CHECK(OK(fcntl(fd, F_GETFL)) & O_APPEND);
        EQ(write(fd, "56", 2), 2);
        other = file_open("a", O_WRONLY | O_APPEND);
        EQ(write(other, "78", 2), 2);
        EQ(write(fd, "9", 1), 1);
        OK(fcntl(fd, F_SETFL, 0));
        EQ(pwrite(fd, "0", 1, 0), 1);
        OK(close(fd));
        OK(close(other));
        file_is("a", "023456789");
}

static void case_open_directory(void) {
        int fd;

        file_text("a", "x");
        OK(mkdir("d", 0755));
        FAILS(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
        fd = OK(open("d", O_RDONLY | O_DIRECTORY));
        FAILS(read(fd, (char[4]){ 0 }, 4), EISDIR);
        OK(fsync(fd));
        OK(close(fd));
        FAILS(open("d", O_WRONLY), EISDIR);
        FAILS(open("d", O_RDWR), EISDIR);
        FAILS(open("d", O_RDONLY | O_CREAT, 0644), EISDIR);
        FAILS(open("d", O_WRONLY | O_TRUNC), EISDIR);
}

static void case_open_nofollow(void) {
        int fd;
        struct stat st;

        file_text("a", "x");
        OK(symlink("a", "l"));
        FAILS(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
        fd = OK(open("l", O_PATH | O_NOFOLLOW));
        OK(fstat(fd, &st));
        CHECK(S_ISLNK(st.st_mode));
        OK(close(fd));
        fd = OK(open("a", O_RDONLY | O_NOFOLLOW));
        fd_is(fd, "x");
        OK(close(fd));
}

static void case_open_tmpfile(void) {
        int fd = open(".", O_TMPFILE | O_RDWR, 0600);

        if (on_nfs) {
                FAILS(fd, EOPNOTSUPP);
                return;
        }
        if (fd < 0)
                case_skip("O_TMPFILE is not supported here");
        EQ(write(fd, "x", 1), 1);
        OK(close(fd));
}

static void case_open_wrong_paths(void) {
        file_text("a", "x");
        OK(mkdir("d", 0755));
        FAILS(open("none", O_RDONLY), ENOENT);
        FAILS(open("none/x", O_CREAT | O_RDWR, 0644), ENOENT);
        FAILS(open("a/x", O_RDONLY), ENOTDIR);
        FAILS(open("a/x", O_CREAT | O_RDWR, 0644), ENOTDIR);
        FAILS(open("a/", O_RDONLY), ENOTDIR);
        FAILS(open("none/", O_CREAT | O_RDWR, 0644), EISDIR);
        FAILS(open("", O_RDONLY), ENOENT);
        OK(close(OK(open("d/../a", O_RDONLY))));
        FAILS(open("none/../a", O_RDONLY), ENOENT);
        OK(close(OK(open("d//.//..///a", O_RDONLY))));
}

static void case_open_creates_through_symlink(void) {
        OK(mkdir("d", 0755));
        OK(symlink("d/target", "l"));
        OK(close(OK(open("l", O_CREAT | O_WRONLY, 0644))));
        CHECK(exists("d/target"));
        CHECK(S_ISLNK(lstat_of("l").st_mode));
        file_text("l", "through");
        file_is("d/target", "through");
}

static void case_open_symlink_loop(void) {
        OK(symlink("b", "a"));
        OK(symlink("a", "b"));
        FAILS(open("a", O_RDONLY), ELOOP);
        FAILS(open("a", O_CREAT | O_WRONLY, 0644), ELOOP);
        OK(symlink(".", "here"));
        OK(close(OK(open("here/here/here/here", O_RDONLY | O_DIRECTORY))));
}

static void case_open_many(void) {
        enum { N = 2000 };
        static int fds[N];
        struct rlimit limit = { N + 100, N + 100 };
        char name[32], c[8];

        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                case_skip("the limit of open files cannot be raised");
        for (int i = 0; i < N; i++) {
                (void) snprintf(name, sizeof name, "f%d", i);
                fds[i] = file_open(name, O_CREAT | O_RDWR);
                EQ(pwrite(fds[i], name, strlen(name), 0), strlen(name));
        }
        for (int i = N - 1; i >= 0; i--) {
                int len = snprintf(name, sizeof name, "f%d", i);

                EQ(pread(fds[i], c, sizeof c, 0), len);
                CHECK(memcmp(c, name, (size_t) len) == 0);
                OK(close(fds[i]));
                OK(unlink(name));
        }
}

static void case_open_o_path(void) {
        char link[64], target[4096];
        struct stat st;
        ssize_t n;
        int path, fd;

        file_text("a", "contents");
        path = OK(open("a", O_PATH));
        FAILS(read(path, target, 1), EBADF);
        OK(fstat(path, &st));
        EQ(st.st_size, 8);
        (void) snprintf(link, sizeof link, "/proc/self/fd/%d", path);
        fd = OK(open(link, O_RDWR));
        fd_is(fd, "contents");
        EQ(pwrite(fd, "C", 1, 0), 1);
        OK(close(fd));
        n = OK(readlink(link, target, sizeof target - 1));
        target[n] = '\0';
        CHECK(strcmp(strrchr(target, '/'), "/a") == 0);
        OK(chmod(link, 0600));
        EQ(mode_of("a"), 0600);
        OK(close(path));
        file_is("a", "Contents");
}

static void case_open_proc_fd_of_unlinked(void) {
        char link[64];
        int fd, again;

        file_text("a", "still here");
        fd = file_open("a", O_RDWR);
        OK(unlink("a"));
        (void) snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        again = OK(open(link, O_RDWR));
        fd_is(again, "still here");
        EQ(pwrite(again, "S", 1, 0), 1);
        fd_is(fd, "Still here");
        OK(close(again));
        fd_is(fd, "Still here");
        OK(close(fd));
}

static void case_open_at(void) {
        int dir, fd;
        struct stat st;

        OK(mkdir("d", 0755));
        dir = OK(open("d", O_RDONLY | O_DIRECTORY));
        fd = OK(openat(dir, "f", O_CREAT | O_RDWR, 0644));
        EQ(write(fd, "x", 1), 1);
        OK(rename("d", "e")); /* a directory's descriptor does not care for its name */
        OK(fstatat(dir, "f", &st, 0));
        EQ(st.st_size, 1);
        OK(mkdirat(dir, "sub", 0755));
        OK(symlinkat("f", dir, "l"));
        OK(linkat(dir, "f", dir, "g", 0));
        OK(renameat(dir, "g", AT_FDCWD, "h"));
        OK(unlinkat(dir, "sub", AT_REMOVEDIR));
        FAILS(openat(fd, "x", O_RDONLY), ENOTDIR);
        file_is("e/l", "x");
        file_is("h", "x");
        OK(close(fd));
        OK(close(dir));
}

static void case_open_wrong_direction(void) {
        char c;
        int fd;

        file_text("a", "x");
        fd = file_open("a", O_WRONLY);
        FAILS(read(fd, &c, 1), EBADF);
        OK(close(fd));
        fd = file_open("a", O_RDONLY);
        FAILS(write(fd, "y", 1), EBADF);
        FAILS(ftruncate(fd, 0), EINVAL);
        OK(close(fd));
}

static void case_dup_and_fork_share_offset(void) {
        char c[2];
        int fd, copy;
        pid_t pid;

        file_text("a", "0123456789");
        fd = file_open("a", O_RDWR);
        copy = OK(dup(fd));
        EQ(read(fd, c, 2), 2);
        EQ(read(copy, c, 1), 1);
        EQ(c[0], '2');
        OK(close(fd));
        pid = child_start();
        if (pid == 0) {
                EQ(read(copy, c, 1), 1);
                EQ(c[0], '3');
                EQ(write(copy, "X", 1), 1);
                child_end();
        }
        child_wait(pid);
        EQ(read(copy, c, 1), 1);
        EQ(c[0], '5');
        fd_is(copy, "0123X56789");
        OK(close(copy));
}

/* Whoever got the descriptor may use it, whatever his credentials */
static void case_fd_outlives_credentials(void) {
        int fd = OK(open("a", O_CREAT | O_RDWR, 0600));
        char c;
        pid_t pid = child_start();

        if (pid == 0) {
                become(1000, 1000, (gid_t) -1);
                EQ(write(fd, "x", 1), 1);
                EQ(pread(fd, &c, 1, 0), 1);
                OK(fsync(fd));
                FAILS(open("a", O_RDONLY), EACCES);
                child_end();
        }
        child_wait(pid);
        file_is("a", "x");
        OK(close(fd));
}

static void case_fd_outlives_chmod(void) {
        pid_t pid;

        OK(chmod(".", 0777));
        pid = child_start();
        if (pid == 0) {
                int fd;

                become(1000, 1000, (gid_t) -1);
                fd = OK(open("a", O_CREAT | O_RDWR, 0600));
                OK(fchmod(fd, 0));
                EQ(write(fd, "abc", 3), 3);
                fd_is(fd, "abc");
                FAILS(open("a", O_RDONLY), EACCES);
                OK(close(fd));
                child_end();
        }
        child_wait(pid);
        file_is("a", "abc");
}

const Case open_cases[] = {
        CASE(open_create_mode),
        CASE(open_create_special_modes),
        CASE(open_create_mode_0),
        CASE(open_create_readonly_as_user),
        CASE(open_excl_existing),
        CASE(open_excl_mode_and_times),
        CASE(open_excl_as_user_owner),
        CASE(open_excl_race),
        CASE(open_trunc),
        CASE(open_trunc_keeps_mode),
        CASE(open_append),
        CASE(open_append_two_fds),
        CASE(open_append_processes),
        CASE(open_setfl_append),
        CASE(open_directory),
        CASE(open_nofollow),
        CASE(open_tmpfile),
        CASE(open_wrong_paths),
        CASE(open_creates_through_symlink),
        CASE(open_symlink_loop),
        CASE(open_many),
        CASE(open_o_path),
        CASE(open_proc_fd_of_unlinked),
        CASE(open_at),
        CASE(open_wrong_direction),
        CASE(dup_and_fork_share_offset),
        CASE(fd_outlives_credentials),
        CASE(fd_outlives_chmod),
        { 0 },
};
