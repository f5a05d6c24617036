/* mmap(2): shared and private, and together with read(2), write(2), truncate(2) and unlink(2). */
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "cases.h"

static uint8_t *map(int fd, size_t size, int prot, int flags) {
        void *p = mmap(NULL, size, prot, flags, fd, 0);

        if (p == MAP_FAILED)
                FAIL("mmap: %s", strerror(errno));
        return p;
}

static void pattern_file(const char *name, size_t size, uint64_t seed) {
        uint8_t *p = malloc(size);

        CHECK(p);
        pattern_fill(p, size, seed);
        file_make(name, p, size);
        free(p);
}

static void case_mmap_read(void) {
        size_t size = 3000001;
        uint8_t *p;
        int fd;

        pattern_file("a", size, 1);
        fd = file_open("a", O_RDONLY);
        p = map(fd, size, PROT_READ, MAP_SHARED);
        OK(close(fd));
        pattern_check(p, size, 1, 0);
        for (size_t i = size; i % 4096; i++) /* the rest of the last page */
                EQ(p[i], 0);
        OK(munmap(p, size));
}

static void case_mmap_private_write(void) {
        uint8_t *p;
        int fd;

        file_text("a", "original");
        fd = file_open("a", O_RDONLY);
        p = map(fd, 8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        memcpy(p, "PRIVATE!", 8);
        OK(munmap(p, 8));
        fd_is(fd, "original");
        OK(close(fd));
}

static void case_mmap_shared_write(void) {
        size_t size = 200000;
        uint8_t *p;
        int fd = file_open("a", O_CREAT | O_RDWR);

        OK(ftruncate(fd, (off_t) size));
        p = map(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED);
        pattern_fill(p, size, 2);
        OK(msync(p, size, MS_SYNC));
        OK(munmap(p, size));
        OK(close(fd));
        fd = file_open("a", O_RDONLY);
        (void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        p = map(fd, size, PROT_READ, MAP_SHARED);
        pattern_check(p, size, 2, 0);
        EQ(size_of("a"), size);
        OK(munmap(p, size));
        OK(close(fd));
}

static void case_mmap_and_read_agree(void) {
        uint8_t *p, buf[8192];
        int fd = file_open("a", O_CREAT | O_RDWR);

        OK(ftruncate(fd, 8192));
        p = map(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
        memset(p, 'm', 100);
        EQ(pread(fd, buf, 8192, 0), 8192);
        EQ(buf[99], 'm');
        EQ(buf[100], 0);
        EQ(pwrite(fd, "write", 5, 4000), 5);
        CHECK(memcmp(p + 4000, "write", 5) == 0);
        EQ(p[99], 'm');
        OK(fsync(fd));
        EQ(pwrite(fd, "again", 5, 50), 5);
        CHECK(memcmp(p + 50, "again", 5) == 0);
        OK(munmap(p, 8192));
        OK(close(fd));
}

/* Written through a mapping that outlives its descriptor. */
static void case_mmap_write_after_close(void) {
        uint8_t *p, buf[4096];
        int fd = file_open("a", O_CREAT | O_RDWR);

        OK(ftruncate(fd, 4096));
        p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
        OK(close(fd));
        memset(p, 'z', 4096);
        OK(munmap(p, 4096));
        fd = file_open("a", O_RDONLY);
        EQ(read(fd, buf, 4096), 4096);
        for (int i = 0; i < 4096; i++)
                EQ(buf[i], 'z');
        OK(close(fd));
}

static void case_mmap_between_processes(void) {
        int ping = turn_new(), pong = turn_new(), fd = file_open("a", O_CREAT | O_RDWR);
        uint8_t *p;
        pid_t pid;

        OK(ftruncate(fd, 4096));
        pid = child_start();
        if (pid == 0) {
                p = map(file_open("a", O_RDWR), 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
                for (int i = 1; i < 100; i++) {
                        turn_take(ping);
                        EQ(p[0], i);
                        p[1] = (uint8_t) i;
                        turn_give(pong);
                }
                child_end();
        }
        p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
        for (int i = 1; i < 100; i++) {
                p[0] = (uint8_t) i;
                turn_give(ping);
                turn_take(pong);
                EQ(p[1], i);
        }
        child_wait(pid);
        OK(close(fd));
}

static sigjmp_buf bus_error;

static void on_bus_error(int signo) {
        (void) signo;
        siglongjmp(bus_error, 1);
}

static bool faults(volatile uint8_t *p) {
        if (sigsetjmp(bus_error, 1))
                return true;
        (void) *p;
        return false;
}

static void case_mmap_beyond_the_end(void) {
        uint8_t *p;
        int fd = file_open("a", O_CREAT | O_RDWR);

        (void) signal(SIGBUS, on_bus_error);
        OK(ftruncate(fd, 100));
        p = map(fd, 16384, PROT_READ | PROT_WRITE, MAP_SHARED);
        CHECK(!faults(p + 4095));
        CHECK(faults(p + 4096));
        OK(ftruncate(fd, 5000));
        CHECK(!faults(p + 4096));
        OK(ftruncate(fd, 100));
        CHECK(faults(p + 4096));
        OK(close(fd));
}

static void case_mmap_and_truncate(void) {
        uint8_t *p;
        int fd = file_open("a", O_CREAT | O_RDWR);

        OK(ftruncate(fd, 12288));
        p = map(fd, 12288, PROT_READ | PROT_WRITE, MAP_SHARED);
        memset(p, 'x', 12288);
        OK(ftruncate(fd, 5000));
        OK(ftruncate(fd, 12288));
        EQ(p[4999], 'x');
        for (int i = 5000; i < 12288; i++)
                EQ(p[i], 0);
        OK(munmap(p, 12288));
        OK(close(fd));
}

/* One writes through its mapping while another cuts the file and lets it grow: what was cut off does not come back. */
static void case_mmap_writer_and_truncate(void) {
        uint8_t *p, q[12288];
        int fd = file_open("a", O_CREAT | O_RDWR);
        pid_t pid;

        OK(ftruncate(fd, 12288));
        p = map(fd, 12288, PROT_READ | PROT_WRITE, MAP_SHARED);
        pid = child_start();
        if (pid == 0) {
                (void) signal(SIGBUS, on_bus_error);
                (void) sigsetjmp(bus_error, 1);
                for (;;)
                        for (volatile uint8_t *byte = p; byte < p + 12288; byte += 100)
                                *byte = 'x';
        }
        for (int i = 0; i < 100; i++) {
                OK(ftruncate(fd, 5000));
                EQ(size_of("a"), 5000);
                OK(ftruncate(fd, 12288));
                EQ(size_of("a"), 12288);
        }
        OK(kill(pid, SIGKILL));
        OK(waitpid(pid, NULL, 0));
        OK(ftruncate(fd, 5000));
        OK(ftruncate(fd, 12288));
        EQ(pread(fd, q, sizeof q, 0), sizeof q);
        for (int i = 0; i < 12288; i++) {
                EQ(p[i], q[i]);
                CHECK(i < 5000 ? q[i] == 'x' || q[i] == 0 : q[i] == 0);
        }
        OK(munmap(p, 12288));
        OK(close(fd));
        fd = file_open("a", O_RDONLY);
        EQ(pread(fd, q, sizeof q, 0), sizeof q);
        for (int i = 5000; i < 12288; i++)
                EQ(q[i], 0);
        OK(close(fd));
}

/* A reader's mapping follows what others write, cut and write again. */
static void case_mmap_reader_and_truncate(void) {
        volatile uint8_t *p;
        int fd;

        pattern_file("a", 8192, 1);
        fd = file_open("a", O_RDONLY);
        p = map(fd, 8192, PROT_READ, MAP_SHARED);
        for (int i = 0; i < 20; i++) {
                pid_t pid = child_start();

                if (pid == 0) {
                        int w = file_open("a", O_WRONLY | (i % 2 ? O_TRUNC : 0));
                        uint8_t data[8192];

                        memset(data, 'A' + i, sizeof data);
                        EQ(pwrite(w, data, i % 3 ? 8192 : 6000, 0), i % 3 ? 8192 : 6000);
                        OK(close(w));
                        child_end();
                }
                child_wait(pid);
                EQ(p[0], 'A' + i);
                EQ(p[5999], 'A' + i);
        }
        OK(munmap((void *) (uintptr_t) p, 8192));
        OK(close(fd));
}

static void case_mmap_of_unlinked(void) {
        uint8_t *p;
        int fd;

        pattern_file("a", 100000, 9);
        fd = file_open("a", O_RDWR);
        p = map(fd, 100000, PROT_READ | PROT_WRITE, MAP_SHARED);
        OK(close(fd));
        OK(unlink("a"));
        pattern_check(p, 100000, 9, 0);
        p[50000] = 'x';
        OK(msync(p, 100000, MS_SYNC));
        EQ(p[50000], 'x');
        OK(munmap(p, 100000));
}

static void case_mmap_write_of_read_only_fd(void) {
        int fd;

        file_text("a", "abc");
        fd = file_open("a", O_RDONLY);
        CHECK(mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
        EQ(errno, EACCES);
        OK(close(fd));
}

/* The source of a write(2) lies in the file itself, and is not in memory yet. */
static void case_write_from_own_mapping(void) {
        size_t size = 300000;
        uint8_t *p, *q = malloc(size);
        int fd;

        pattern_file("a", size, 4);
        fd = file_open("a", O_RDWR);
        (void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        p = map(fd, size, PROT_READ, MAP_SHARED);
        EQ(pwrite(fd, p, size, (off_t) size), size);
        EQ(pread(fd, q, size, (off_t) size), size);
        pattern_check(q, size, 4, 0);
        OK(munmap(p, size));
        OK(close(fd));
}

static void case_read_into_own_mapping(void) {
        size_t size = 100000;
        uint8_t *p;
        int fd;

        pattern_file("a", size, 4);
        OK(truncate("a", 2 * (off_t) size));
        fd = file_open("a", O_RDWR);
        p = map(fd, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED);
        EQ(pread(fd, p + size, size, 0), size);
        pattern_check(p + size, size, 4, 0);
        OK(munmap(p, 2 * size));
        OK(close(fd));
}

/* append and O_DIRECT descriptors bypass the cache in FUSE: a mapping through them must work all the same */
static void case_mmap_of_append_and_direct(void) {
        static const int flags[] = { O_APPEND, O_DIRECT };

        for (int i = 0; i < 2; i++) {
                uint8_t *p;
                int fd;

                file_text("a", "0123456789");
                fd = open("a", O_RDWR | flags[i]);
                if (fd < 0 && errno == EINVAL && !on_nfs)
                        continue;
                OK(fd);
                p = map(fd, 10, PROT_READ, MAP_SHARED);
                CHECK(memcmp(p, "0123456789", 10) == 0);
                OK(munmap(p, 10));
                p = map(fd, 10, PROT_READ | PROT_WRITE, MAP_SHARED);
                p[3] = 'x';
                OK(msync(p, 10, MS_SYNC));
                OK(munmap(p, 10));
                OK(close(fd));
                file_is("a", "012x456789");
        }
}

/* O_APPEND writes pass by the cache; what is mapped must follow. */
static void case_mmap_sees_appends(void) {
        uint8_t *p;
        int fd, append;

        file_text("a", "0123456789");
        fd = file_open("a", O_RDWR);
        append = file_open("a", O_WRONLY | O_APPEND);
        p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
        EQ(p[9], '9');
        EQ(p[10], 0);
        for (int i = 0; i < 20; i++) {
                p[i] = (uint8_t) ('A' + i);
                EQ(write(append, "z", 1), 1);
                EQ(p[i], 'A' + i);
                EQ(p[10 + i], 'z');
        }
        EQ(size_of("a"), 30);
        OK(munmap(p, 4096));
        file_is("a", "ABCDEFGHIJKLMNOPQRSTzzzzzzzzzz");
        OK(close(fd));
        OK(close(append));
}

const Case mmap_cases[] = {
        CASE(mmap_read),
        CASE(mmap_private_write),
        CASE(mmap_shared_write),
        CASE(mmap_and_read_agree),
        CASE(mmap_write_after_close),
        CASE(mmap_between_processes),
        CASE(mmap_beyond_the_end),
        CASE(mmap_and_truncate),
        CASE(mmap_writer_and_truncate),
        CASE(mmap_reader_and_truncate),
        CASE(mmap_of_unlinked),
        CASE(mmap_write_of_read_only_fd),
        CASE(write_from_own_mapping),
        CASE(read_into_own_mapping),
        CASE(mmap_of_append_and_direct),
        CASE(mmap_sees_appends),
        { 0 },
};
