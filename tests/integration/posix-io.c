/* read(2), write(2) and their kin, what they promise about data. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "cases.h"

#define MIB (1024u * 1024)

static void *buffer(size_t size) {
        void *p = aligned_alloc(4096, (size + 4095) & ~(size_t) 4095);

        CHECK(p);
        return p;
}

static void case_read_edges(void) {
        char buf[16];
        int fd;

        file_text("a", "0123456789");
        fd = file_open("a", O_RDONLY);
        EQ(read(fd, buf, 0), 0);
        EQ(read(fd, buf, 16), 10);
        EQ(read(fd, buf, 16), 0);
        EQ(pread(fd, buf, 16, 8), 2);
        CHECK(memcmp(buf, "89", 2) == 0);
        EQ(pread(fd, buf, 16, 10), 0);
        EQ(pread(fd, buf, 16, 1000000), 0);
        EQ(pread(fd, buf, 16, (off_t) 1 << 40), 0);
        FAILS(pread(fd, buf, 16, -1), EINVAL);
        OK(close(fd));
        FAILS(read(fd, buf, 1), EBADF);
}

static void case_write_edges(void) {
        int fd = file_open("a", O_CREAT | O_RDWR);

        EQ(write(fd, "", 0), 0);
        EQ(size_of("a"), 0);
        EQ(pwrite(fd, "", 0, 1000), 0);
        EQ(size_of("a"), 0);
        FAILS(pwrite(fd, "x", 1, -1), EINVAL);
        FAILS(write(fd, mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 10), EFAULT);
        EQ(size_of("a"), 0);
        OK(close(fd));
}

static void case_write_hole(void) {
        uint8_t buf[20000];
        int fd = file_open("a", O_CREAT | O_RDWR);

        EQ(pwrite(fd, "end", 3, 10000), 3);
        EQ(size_of("a"), 10003);
        EQ(pwrite(fd, "start", 5, 0), 5);
        EQ(pwrite(fd, "mid", 3, 5000), 3);
        EQ(pread(fd, buf, sizeof buf, 0), 10003);
        for (int i = 5; i < 10000; i++)
                if (i < 5000 || i >= 5003)
                        EQ(buf[i], 0);
        CHECK(memcmp(buf, "start", 5) == 0 && memcmp(buf + 5000, "mid", 3) == 0 && memcmp(buf + 10000, "end", 3) == 0);
        OK(close(fd));
}

static void large(size_t size, off_t offset) {
        uint8_t *p = buffer(size), *q = buffer(size);
        int fd = file_open("a", O_CREAT | O_RDWR | O_TRUNC);

        pattern_fill(p, size, size);
        EQ(pwrite(fd, p, size, offset), size);
        EQ(size_of("a"), (off_t) size + offset);
        EQ(pread(fd, q, size, offset), size);
        CHECK(memcmp(p, q, size) == 0);
        OK(close(fd));
        fd = file_open("a", O_RDONLY);
        (void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        EQ(pread(fd, q, size, offset), size);
        CHECK(memcmp(p, q, size) == 0);
        OK(close(fd));
        free(p);
        free(q);
}

static void case_write_large(void) {
        large(MIB, 0);
        large(5 * MIB + 3, 4097);
        large(3 * MIB + 4095, 1);
}

static void case_write_far(void) {
        char buf[4];
        int fd = file_open("a", O_CREAT | O_RDWR);
        off_t far = ((off_t) 4 << 30) + 123;

        EQ(pwrite(fd, "far", 3, far), 3);
        EQ(pwrite(fd, "new", 3, far * 100), 3);
        EQ(size_of("a"), far * 100 + 3);
        EQ(pread(fd, buf, 4, far), 4);
        CHECK(memcmp(buf, "far", 4) == 0);
        EQ(pread(fd, buf, 4, far * 100), 3);
        CHECK(memcmp(buf, "new", 3) == 0);
        CHECK(stat_of("a").st_blocks * 512 < far);
        OK(close(fd));
}

static void case_write_in_small_pieces(void) {
        uint8_t p[30000], q[30000];
        int fd = file_open("a", O_CREAT | O_RDWR);

        pattern_fill(p, sizeof p, 1);
        for (size_t i = 0; i < sizeof p; i += 13)
                EQ(write(fd, p + i, sizeof p - i < 13 ? sizeof p - i : 13), sizeof p - i < 13 ? sizeof p - i : 13);
        EQ(lseek(fd, 0, SEEK_SET), 0);
        for (size_t i = 0; i < sizeof q; i += 7)
                EQ(read(fd, q + i, sizeof q - i < 7 ? sizeof q - i : 7), sizeof q - i < 7 ? sizeof q - i : 7);
        CHECK(memcmp(p, q, sizeof p) == 0);
        OK(close(fd));
}

static void case_readv_writev(void) {
        struct iovec out[3] = { { (void *) "ab", 2 }, { (void *) "", 0 }, { (void *) "cdef", 4 } };
        char x[3], y[10];
        struct iovec in[2] = { { x, 3 }, { y, 10 } };
        int fd = file_open("a", O_CREAT | O_RDWR);

        EQ(writev(fd, out, 3), 6);
        EQ(pwritev(fd, out, 3, 6), 6);
        EQ(preadv(fd, in, 2, 0), 12);
        CHECK(memcmp(x, "abc", 3) == 0 && memcmp(y, "defabcdef", 9) == 0);
        OK(close(fd));
}

static void case_two_fds_agree(void) {
        int a = file_open("a", O_CREAT | O_RDWR), b = file_open("a", O_RDWR);

        for (int i = 0; i < 100; i++) {
                char text[32];

                (void) snprintf(text, sizeof text, "round %d", i);
                EQ(pwrite(a, text, strlen(text), 0), strlen(text));
                fd_is(b, text);
                EQ(size_of("a"), strlen(text));
        }
        OK(close(a));
        OK(close(b));
}

static void case_processes_agree(void) {
        int ping = turn_new(), pong = turn_new();
        pid_t pid;
        int fd;

        file_text("a", "");
        pid = child_start();
        if (pid == 0) {
                fd = file_open("a", O_RDWR);
                for (int i = 0; i < 100; i++) {
                        char text[32];

                        turn_take(ping);
                        (void) snprintf(text, sizeof text, "round %d", i);
                        fd_is(fd, text);
                        file_is("a", text);
                        OK(ftruncate(fd, 2));
                        turn_give(pong);
                }
                child_end();
        }
        fd = file_open("a", O_RDWR);
        for (int i = 0; i < 100; i++) {
                char text[32];

                (void) snprintf(text, sizeof text, "round %d", i);
                EQ(pwrite(fd, text, strlen(text), 0), strlen(text));
                turn_give(ping);
                turn_take(pong);
                EQ(size_of("a"), 2);
                fd_is(fd, "ro");
        }
        child_wait(pid);
        OK(close(fd));
}

static int open_direct(const char *name) {
        int fd = open(name, O_CREAT | O_RDWR | O_DIRECT, 0644);

        if (fd < 0 && errno == EINVAL && !on_nfs)
                case_skip("O_DIRECT is not supported here");
        return OK(fd);
}

static void case_direct_io(void) {
        size_t size = 3 * MIB;
        uint8_t *p = buffer(size), *q = buffer(size);
        int direct = open_direct("a"), plain = file_open("a", O_RDWR);

        pattern_fill(p, size, 7);
        EQ(pwrite(direct, p, size, 0), size);
        EQ(pread(plain, q, size, 0), size);
        CHECK(memcmp(p, q, size) == 0);
        EQ(pread(direct, q, size, MIB), 2 * MIB);
        CHECK(memcmp(p + MIB, q, 2 * MIB) == 0);
        /* through the cache, and read past it */
        EQ(pwrite(plain, "cached", 6, 5000), 6);
        memcpy(p + 5000, "cached", 6);
        EQ(pread(direct, q, 8192, 4096), 8192);
        CHECK(memcmp(p + 4096, q, 8192) == 0);
        /* past the cache, over what it holds */
        memset(p + 4096, 'd', 4096);
        EQ(pwrite(direct, p + 4096, 4096, 4096), 4096);
        EQ(pread(plain, q, 12288, 0), 12288);
        CHECK(memcmp(p, q, 12288) == 0);
        EQ(pread(direct, q, 4096, (off_t) size), 0);
        OK(close(direct));
        OK(close(plain));
}

static void case_direct_io_unaligned(void) {
        int fd = open_direct("a");
        char *p = buffer(4096);
        ssize_t n;

        memset(p, 'x', 4096);
        n = pwrite(fd, p + 1, 1000, 3);
        if (n < 0 && errno == EINVAL && !on_nfs)
                return;
        EQ(n, 1000);
        EQ(size_of("a"), 1003);
        EQ(pread(fd, p + 7, 2000, 1), 1002);
        EQ(p[7], 0);
        EQ(p[9], 'x');
        OK(close(fd));
}

static void case_direct_io_extends(void) {
        int fd = open_direct("a");
        char *p = buffer(4096);

        for (int i = 0; i < 10; i++) {
                memset(p, 'a' + i, 4096);
                EQ(pwrite(fd, p, 4096, i * 4096), 4096);
                EQ(size_of("a"), (i + 1) * 4096);
        }
        OK(ftruncate(fd, 4096));
        EQ(pread(fd, p, 4096, 4096), 0);
        EQ(pread(fd, p, 4096, 0), 4096);
        EQ(p[0], 'a');
        OK(close(fd));
}

/* A process that goes past the cache, and one that does not, in turn in one file. */
static void case_direct_io_beside_buffered(void) {
        int to_child = turn_new(), to_parent = turn_new(), fd;
        uint8_t *p = buffer(16384);
        pid_t pid;

        file_make("a", p, 16384);
        pid = child_start();
        if (pid == 0) {
                fd = open_direct("a");
                for (int i = 0; i < 50; i++) {
                        turn_take(to_child);
                        EQ(pread(fd, p, 16384, 0), 16384);
                        EQ(p[4095], i);
                        EQ(p[12288], i);
                        memset(p + 4096, 'a' + i % 20, 8192);
                        EQ(pwrite(fd, p + 4096, 8192, 4096), 8192);
                        turn_give(to_parent);
                }
                child_end();
        }
        fd = file_open("a", O_RDWR);
        for (int i = 0; i < 50; i++) {
                uint8_t number = (uint8_t) i, *got = p;

                EQ(pwrite(fd, &number, 1, 4095), 1);
                EQ(pwrite(fd, &number, 1, 12288), 1);
                turn_give(to_child);
                turn_take(to_parent);
                EQ(pread(fd, got, 16384, 0), 16384);
                EQ(got[4095], i);
                EQ(got[12288], i);
                for (int k = 4096; k < 12288; k++)
                        EQ(got[k], 'a' + i % 20);
        }
        child_wait(pid);
        OK(close(fd));
}

static void case_sync_flags(void) {
        static const int flags[] = { O_SYNC, O_DSYNC, O_RSYNC | O_SYNC, O_APPEND | O_SYNC };
        char name[8];

        for (int i = 0; i < 4; i++) {
                int fd;

                (void) snprintf(name, sizeof name, "f%d", i);
                fd = file_open(name, O_CREAT | O_RDWR | flags[i]);
                EQ(write(fd, "abc", 3), 3);
                EQ(write(fd, "def", 3), 3);
                fd_is(fd, "abcdef");
                OK(close(fd));
                file_is(name, "abcdef");
        }
}

static void case_fsync(void) {
        int fd = file_open("a", O_CREAT | O_RDWR), reader = file_open("a", O_RDONLY), dir;

        EQ(write(fd, "abc", 3), 3);
        OK(fdatasync(fd));
        EQ(write(fd, "def", 3), 3);
        OK(fsync(fd));
        OK(fsync(fd));
        OK(fsync(reader));
        OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
        dir = OK(open(".", O_RDONLY));
        OK(fsync(dir));
        OK(syncfs(dir));
        OK(close(dir));
        OK(close(fd));
        OK(close(reader));
        file_is("a", "abcdef");
}

static void case_unlinked_stays_usable(void) {
        uint8_t *p = buffer(2 * MIB), *q = buffer(2 * MIB);
        int fd = file_open("a", O_CREAT | O_RDWR);
        struct stat st;

        pattern_fill(p, 2 * MIB, 3);
        EQ(write(fd, p, MIB), MIB);
        OK(unlink("a"));
        CHECK(!exists("a"));
        EQ(write(fd, p + MIB, MIB), MIB);
        EQ(pread(fd, q, 2 * MIB, 0), 2 * MIB);
        CHECK(memcmp(p, q, 2 * MIB) == 0);
        OK(ftruncate(fd, 10));
        OK(fchmod(fd, 0600));
        OK(fsync(fd));
        OK(fstat(fd, &st));
        EQ(st.st_size, 10);
        EQ(st.st_mode & 07777, 0600);
        EQ(st.st_nlink, on_nfs ? 1 : 0);
        file_text("a", "another");
        EQ(pread(fd, q, 100, 0), 10);
        CHECK(memcmp(p, q, 10) == 0);
        OK(close(fd));
        file_is("a", "another");
}

/* After the last close nothing of it is left, and the directory can go. */
static void case_unlinked_goes_at_close(void) {
        int fd;

        OK(mkdir("d", 0755));
        fd = file_open("d/a", O_CREAT | O_RDWR);
        OK(unlink("d/a"));
        FAILS(open("d/a", O_RDONLY), ENOENT);
        if (!on_nfs) {
                OK(rmdir("d"));
                OK(close(fd));
                return;
        }
        FAILS(rmdir("d"), ENOTEMPTY);
        OK(close(fd));
        for (int i = 0; rmdir("d") < 0; i++) { /* RELEASE comes after close(2) */
                EQ(errno, ENOTEMPTY);
                CHECK(i < 500);
                OK(usleep(10000));
        }
}

static void case_unlinked_by_another_process(void) {
        int ready = turn_new(), go = turn_new();
        pid_t pid;

        file_text("a", "data");
        pid = child_start();
        if (pid == 0) {
                int fd = file_open("a", O_RDWR);

                turn_give(ready);
                turn_take(go);
                fd_is(fd, "data");
                EQ(pwrite(fd, "D", 1, 0), 1);
                fd_is(fd, "Data");
                child_end();
        }
        turn_take(ready);
        OK(unlink("a"));
        CHECK(!exists("a"));
        turn_give(go);
        child_wait(pid);
}

static void case_unlinked_has_other_names(void) {
        int fd = file_open("a", O_CREAT | O_RDWR);

        EQ(write(fd, "data", 4), 4);
        OK(link("a", "b"));
        OK(unlink("a"));
        fd_is(fd, "data");
        EQ(pwrite(fd, "D", 1, 0), 1);
        file_is("b", "Data");
        OK(unlink("b"));
        fd_is(fd, "Data");
        OK(close(fd));
        CHECK(!exists("a"));
        CHECK(!exists("b"));
}

static void case_unlinked_opened_twice(void) {
        int a, b;

        file_text("a", "data");
        a = file_open("a", O_RDONLY);
        b = file_open("a", O_RDWR);
        OK(unlink("a"));
        OK(close(a));
        fd_is(b, "data");
        EQ(pwrite(b, "D", 1, 0), 1);
        OK(fsync(b));
        fd_is(b, "Data");
        OK(close(b));
}

static void case_sendfile(void) {
        size_t size = 300000, done = 0;
        uint8_t *p = buffer(size);
        int in, out, pair[2];
        off_t offset = 0;
        pid_t pid;

        pattern_fill(p, size, 5);
        file_make("in", p, size);
        in = file_open("in", O_RDONLY);
        out = file_open("out", O_CREAT | O_WRONLY);
        while (done < size)
                done += (size_t) OK(sendfile(out, in, NULL, size - done));
        OK(close(out));
        EQ(size_of("out"), size);

        OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        pid = child_start();
        if (pid == 0) {
                uint8_t buf[4096];
                size_t got = 0;
                ssize_t n;

                OK(close(pair[0]));
                while ((n = read(pair[1], buf, sizeof buf)) > 0) {
                        pattern_check(buf, (size_t) n, 5, got);
                        got += (size_t) n;
                }
                EQ(got, size);
                child_end();
        }
        OK(close(pair[1]));
        out = file_open("out", O_RDONLY);
        while ((size_t) offset < size)
                OK(sendfile(pair[0], out, &offset, size - (size_t) offset));
        OK(close(pair[0]));
        child_wait(pid);
        OK(close(in));
        OK(close(out));
}

static void case_splice(void) {
        size_t size = 200000, moved = 0;
        uint8_t *p = buffer(size), *q = buffer(size);
        int in, out, pipes[2];

        pattern_fill(p, size, 6);
        file_make("in", p, size);
        in = file_open("in", O_RDONLY);
        out = file_open("out", O_CREAT | O_RDWR);
        OK(pipe(pipes));
        while (moved < size) {
                int n = OK(splice(in, NULL, pipes[1], NULL, 65536, 0));

                CHECK(n > 0);
                for (int left = n; left > 0;)
                        left -= OK(splice(pipes[0], NULL, out, NULL, (size_t) left, 0));
                moved += (size_t) n;
        }
        EQ(pread(out, q, size, 0), size);
        CHECK(memcmp(p, q, size) == 0);
}

static void case_copy_file_range(void) {
        size_t size = 3 * MIB + 7, done = 0;
        uint8_t *p = buffer(size), *q = buffer(size);
        int in, out;

        pattern_fill(p, size, 8);
        file_make("in", p, size);
        in = file_open("in", O_RDONLY);
        out = file_open("out", O_CREAT | O_RDWR);
        while (done < size) {
                int n = OK(copy_file_range(in, NULL, out, NULL, size - done, 0));

                CHECK(n > 0);
                done += (size_t) n;
        }
        EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 0);
        EQ(pread(out, q, size, 0), size);
        CHECK(memcmp(p, q, size) == 0);
}

static void case_file_size_limit(void) {
        struct rlimit limit = { 10000, 10000 };
        char buf[8192] = { 0 };
        int fd = file_open("a", O_CREAT | O_RDWR);

        (void) signal(SIGXFSZ, SIG_IGN);
        OK(setrlimit(RLIMIT_FSIZE, &limit));
        EQ(write(fd, buf, sizeof buf), 8192);
        EQ(write(fd, buf, sizeof buf), 10000 - 8192);
        FAILS(write(fd, buf, sizeof buf), EFBIG);
        FAILS(ftruncate(fd, 20000), EFBIG);
        EQ(size_of("a"), 10000);
        OK(close(fd));
}

static void case_parallel_writers(void) { /* of one file, apart from each other, and not at page borders */
        enum { N = 6, PIECE = 10007, ROUNDS = 20 };
        static uint8_t p[PIECE];
        pid_t pids[N];
        int fd;

        file_text("a", "");
        for (int i = 0; i < N; i++) {
                pids[i] = child_start();
                if (pids[i] == 0) {
                        fd = file_open("a", O_RDWR);
                        pattern_fill(p, PIECE, (uint64_t) i);
                        for (int k = 0; k < ROUNDS; k++)
                                EQ(pwrite(fd, p, PIECE, (off_t) (k * N + i) * PIECE), PIECE);
                        OK(close(fd));
                        child_end();
                }
        }
        for (int i = 0; i < N; i++)
                child_wait(pids[i]);
        EQ(size_of("a"), N * ROUNDS * PIECE);
        fd = file_open("a", O_RDONLY);
        for (int k = 0; k < ROUNDS * N; k++) {
                EQ(read(fd, p, PIECE), PIECE);
                pattern_check(p, PIECE, (uint64_t) (k % N), 0);
        }
        OK(close(fd));
}

static void case_reader_sees_no_torn_size(void) { /* a growing file never shows bytes that were not written */
        int fd, done = turn_new();
        pid_t pid;

        file_text("a", "");
        pid = child_start();
        if (pid == 0) {
                char piece[1000];

                memset(piece, 'x', sizeof piece);
                fd = file_open("a", O_WRONLY);
                for (int i = 0; i < 300; i++)
                        EQ(write(fd, piece, sizeof piece), sizeof piece);
                OK(close(fd));
                turn_give(done);
                child_end();
        }
        fd = file_open("a", O_RDONLY);
        for (bool last = false;; last = true) {
                char buf[4096];
                ssize_t n;

                while ((n = read(fd, buf, sizeof buf)) > 0)
                        for (ssize_t i = 0; i < n; i++)
                                EQ(buf[i], 'x');
                EQ(n, 0);
                if (last)
                        break;
                turn_take(done);
        }
        EQ(lseek(fd, 0, SEEK_CUR), 300000);
        child_wait(pid);
        OK(close(fd));
}

const Case io_cases[] = {
        CASE(read_edges),
        CASE(write_edges),
        CASE(write_hole),
        CASE(write_large),
        CASE(write_far),
        CASE(write_in_small_pieces),
        CASE(readv_writev),
        CASE(two_fds_agree),
        CASE(processes_agree),
        CASE(direct_io),
        CASE(direct_io_unaligned),
        CASE(direct_io_extends),
        CASE(direct_io_beside_buffered),
        CASE(sync_flags),
        CASE(fsync),
        CASE(unlinked_stays_usable),
        CASE(unlinked_goes_at_close),
        CASE(unlinked_by_another_process),
        CASE(unlinked_has_other_names),
        CASE(unlinked_opened_twice),
        CASE(sendfile),
        CASE(splice),
        CASE(copy_file_range),
        CASE(file_size_limit),
        CASE(parallel_writers),
        CASE(reader_sees_no_torn_size),
        { 0 },
};
