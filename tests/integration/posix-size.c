/* truncate(2), fallocate(2), lseek(2): the size of a file and what is between its bytes. */
#include "cases.h"

static void zeros(int fd, off_t from, size_t size) {
        uint8_t buf[65536];

        CHECK(size <= sizeof buf);
        EQ(pread(fd, buf, size, from), size);
        for (size_t i = 0; i < size; i++)
                if (buf[i] != 0)
                        FAIL("byte %lld is %#x, not 0", (long long) from + (long long) i, buf[i]);
}

static void case_truncate_up(void) {
        int fd;

        file_text("a", "abc");
        OK(truncate("a", 10000));
        EQ(size_of("a"), 10000);
        fd = file_open("a", O_RDWR);
        zeros(fd, 3, 9997);
        OK(ftruncate(fd, 20000));
        zeros(fd, 3, 19997);
        OK(close(fd));
}

static void case_truncate_down_and_up(void) { /* what was cut off does not come back */
        static uint8_t p[50000];
        int fd = file_open("a", O_CREAT | O_RDWR);

        memset(p, 'x', sizeof p);
        EQ(pwrite(fd, p, sizeof p, 0), sizeof p);
        OK(ftruncate(fd, 100));
        EQ(size_of("a"), 100);
        OK(ftruncate(fd, 50000));
        EQ(pread(fd, p, 100, 0), 100);
        EQ(p[99], 'x');
        zeros(fd, 100, 49900);
        /* the same, with a write that extends instead */
        memset(p, 'x', sizeof p);
        EQ(pwrite(fd, p, sizeof p, 0), sizeof p);
        OK(ftruncate(fd, 5001));
        EQ(pwrite(fd, "end", 3, 30000), 3);
        zeros(fd, 5001, 30000 - 5001);
        EQ(size_of("a"), 30003);
        OK(close(fd));
}

static void case_truncate_to_0(void) {
        int fd;

        file_text("a", "abc");
        fd = file_open("a", O_RDWR);
        OK(truncate("a", 0));
        fd_is(fd, "");
        EQ(lseek(fd, 2, SEEK_SET), 2);
        EQ(write(fd, "x", 1), 1);
        EQ(size_of("a"), 3);
        zeros(fd, 0, 2);
        OK(close(fd));
}

static void case_truncate_errors(void) {
        int fd;

        OK(mkdir("d", 0755));
        FAILS(truncate("d", 0), EISDIR);
        FAILS(truncate("none", 0), ENOENT);
        file_text("a", "abc");
        FAILS(truncate("a", -1), EINVAL);
        FAILS(truncate("a/b", 0), ENOTDIR);
        fd = file_open("a", O_RDONLY);
        FAILS(ftruncate(fd, 0), EINVAL);
        OK(close(fd));
        fd = OK(open("d", O_RDONLY));
        FAILS(ftruncate(fd, 0), EINVAL);
        OK(close(fd));
        file_is("a", "abc");
}

static void case_truncate_follows_symlink(void) {
        file_text("a", "abc");
        OK(symlink("a", "l"));
        OK(truncate("l", 1));
        file_is("a", "a");
}

static void case_truncate_seen_by_other_fd(void) {
        static uint8_t p[20000];
        int a, b;

        memset(p, 'x', sizeof p);
        file_make("a", p, sizeof p);
        a = file_open("a", O_RDWR);
        b = file_open("a", O_RDWR);
        EQ(pread(b, p, sizeof p, 0), sizeof p);
        OK(ftruncate(a, 7000));
        EQ(pread(b, p, sizeof p, 0), 7000);
        OK(truncate("a", 9000));
        zeros(b, 7000, 2000);
        OK(close(a));
        OK(close(b));
}

/* The owner may truncate through a descriptor that was opened for writing, even if the mode is 0444. */
static void case_ftruncate_readonly_mode(void) {
        pid_t pid;

        OK(chmod(".", 0777));
        pid = child_start();
        if (pid == 0) {
                int fd;

                become(1000, 1000, (gid_t) -1);
                fd = OK(open("a", O_CREAT | O_RDWR, 0444));
                EQ(write(fd, "abcdef", 6), 6);
                OK(ftruncate(fd, 3));
                fd_is(fd, "abc");
                OK(close(fd));
                FAILS(truncate("a", 0), EACCES);
                child_end();
        }
        child_wait(pid);
        file_is("a", "abc");
}

static void case_truncate_many_times(void) {
        uint64_t rng = 42;
        static uint8_t model[100000], buf[100000];
        size_t size = 0;
        int fd = file_open("a", O_CREAT | O_RDWR);

        for (int i = 0; i < 200; i++) {
                size_t to = random_below(&rng, sizeof model);

                if (to > size)
                        memset(model + size, 0, to - size);
                size = to;
                OK(ftruncate(fd, (off_t) size));
                EQ(size_of("a"), size);
                if (size > 0) {
                        size_t at = random_below(&rng, size), n = size - at < 300 ? size - at : 300;

                        memset(model + at, i, n);
                        EQ(pwrite(fd, model + at, n, (off_t) at), n);
                }
                EQ(pread(fd, buf, sizeof buf, 0), size);
                CHECK(memcmp(buf, model, size) == 0);
        }
        OK(close(fd));
}

static void case_fallocate(void) {
        int fd = file_open("a", O_CREAT | O_RDWR);

        EQ(write(fd, "abc", 3), 3);
        if (on_nfs) {
                FAILS(fallocate(fd, 0, 0, 10000), EOPNOTSUPP);
                FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2), EOPNOTSUPP);
                EQ(size_of("a"), 3);
        } else {
                OK(fallocate(fd, 0, 0, 10000));
                EQ(size_of("a"), 10000);
        }
        OK(close(fd));
}

static void case_posix_fallocate(void) { /* the C library does it with writes where the system call cannot */
        char buf[4];
        int fd = file_open("a", O_CREAT | O_RDWR);

        EQ(write(fd, "abc", 3), 3);
        EQ(posix_fallocate(fd, 0, 100000), 0);
        EQ(size_of("a"), 100000);
        EQ(pread(fd, buf, 4, 0), 4);
        CHECK(memcmp(buf, "abc", 4) == 0);
        OK(close(fd));
}

static void case_lseek(void) {
        int fd;

        file_text("a", "0123456789");
        fd = file_open("a", O_RDWR);
        EQ(lseek(fd, 3, SEEK_SET), 3);
        EQ(lseek(fd, 3, SEEK_CUR), 6);
        EQ(lseek(fd, -1, SEEK_END), 9);
        EQ(lseek(fd, 100, SEEK_END), 110);
        FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
        FAILS(lseek(fd, -11, SEEK_END), EINVAL);
        FAILS(lseek(fd, 0, 77), EINVAL);
        EQ(lseek(fd, 0, SEEK_CUR), 110);
        EQ(read(fd, (char[1]){ 0 }, 1), 0);
        EQ(pwrite(fd, "x", 1, 5000), 1);
        EQ(lseek(fd, 0, SEEK_END), 5001);
        OK(close(fd));
}

/* Somebody else's append is seen by SEEK_END. */
static void case_lseek_end_after_other_fd(void) {
        int a, b;

        file_text("a", "123");
        a = file_open("a", O_RDONLY);
        EQ(lseek(a, 0, SEEK_END), 3);
        b = file_open("a", O_WRONLY | O_APPEND);
        EQ(write(b, "456", 3), 3);
        EQ(lseek(a, 0, SEEK_END), 6);
        OK(truncate("a", 1));
        EQ(lseek(a, 0, SEEK_END), 1);
        OK(close(a));
        OK(close(b));
}

static void case_seek_data_and_hole(void) {
        off_t hole;
        int fd;

        file_text("a", "0123456789");
        fd = file_open("a", O_RDWR);
        EQ(lseek(fd, 0, SEEK_DATA), 0);
        EQ(lseek(fd, 5, SEEK_DATA), 5);
        EQ(lseek(fd, 0, SEEK_HOLE), 10);
        FAILS(lseek(fd, 10, SEEK_DATA), ENXIO);
        FAILS(lseek(fd, 10, SEEK_HOLE), ENXIO);
        OK(ftruncate(fd, 1 << 20));
        EQ(pwrite(fd, "x", 1, 1 << 20), 1);
        hole = OK(lseek(fd, 0, SEEK_HOLE));
        CHECK(hole > 0 && hole <= (1 << 20) + 1); /* that all is data is a right answer too */
        EQ(lseek(fd, 1 << 20, SEEK_DATA), 1 << 20);
        EQ(lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 1);
        OK(close(fd));
}

/* What is too far is refused, at once or at the next fsync(2): never taken and not kept. */
static void case_sizes_near_the_limit(void) {
        static const off_t ends[] = { (off_t) 1 << 43, (off_t) 1 << 44, (off_t) 1 << 62, INT64_MAX - 4096, INT64_MAX - 1 };
        int fd;
        char c;

        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
                fd = file_open("a", O_CREAT | O_TRUNC | O_RDWR);
                if (pwrite(fd, "x", 1, ends[i] - 1) == 1 && fsync(fd) == 0) {
                        EQ(size_of("a"), ends[i]);
                        EQ(pread(fd, &c, 1, ends[i] - 1), 1);
                        EQ(c, 'x');
                } else {
                        CHECK(errno == EFBIG || errno == EINVAL);
                        EQ(size_of("a"), 0);
                }
                OK(close(fd));
        }
        fd = file_open("a", O_RDWR | O_TRUNC);
        FAILS(pwrite(fd, "xy", 2, INT64_MAX - 1), EINVAL);
        FAILS(ftruncate(fd, -1), EINVAL);
        EQ(size_of("a"), 0);
        OK(close(fd));
}

static void case_blocks_of_sparse_file(void) {
        static char data[1 << 20];
        int fd = file_open("a", O_CREAT | O_RDWR);

        OK(ftruncate(fd, 1 << 30));
        CHECK(stat_of("a").st_blocks < 2048);
        memset(data, 'x', sizeof data);
        EQ(pwrite(fd, data, sizeof data, 1 << 20), sizeof data);
        OK(fsync(fd));
        EQ(size_of("a"), 1 << 30);
        CHECK(stat_of("a").st_blocks >= 2048 && stat_of("a").st_blocks < 8192);
        OK(close(fd));
}

const Case size_cases[] = {
        CASE(truncate_up),
        CASE(truncate_down_and_up),
        CASE(truncate_to_0),
        CASE(truncate_errors),
        CASE(truncate_follows_symlink),
        CASE(truncate_seen_by_other_fd),
        CASE(ftruncate_readonly_mode),
        CASE(truncate_many_times),
        CASE(fallocate),
        CASE(posix_fallocate),
        CASE(lseek),
        CASE(lseek_end_after_other_fd),
        CASE(seek_data_and_hole),
        CASE(sizes_near_the_limit),
        CASE(blocks_of_sparse_file),
        { 0 },
};
