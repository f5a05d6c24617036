/* Times: utimensat(2), and which operations change which. */
#include <sys/time.h>
#include <time.h>

#include "cases.h"

static int compare(struct timespec a, struct timespec b) {
        if (a.tv_sec != b.tv_sec)
                return a.tv_sec < b.tv_sec ? -1 : 1;
        return a.tv_nsec < b.tv_nsec ? -1 : a.tv_nsec > b.tv_nsec;
}

static struct timespec now(void) {
        struct timespec ts;

        OK(clock_gettime(CLOCK_REALTIME, &ts));
        return ts;
}

/* A file system's clock may be as coarse as the kernel's tick, 10 ms. */
static void tick(void) {
        OK(usleep(12000));
}

static void set_times(const char *path, struct timespec atime, struct timespec mtime) {
        struct timespec times[2] = { atime, mtime };

        OK(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW));
}

static const struct timespec OMIT = { 0, UTIME_OMIT }, NOW = { 0, UTIME_NOW };

static void case_utimens_explicit(void) {
        static const struct timespec a = { 1000000000, 123456789 }, m = { 1500000000, 987654321 };
        struct stat st;

        file_text("a", "x");
        OK(mkdir("d", 0755));
        OK(symlink("x", "l"));
        for (const char *const *name = (const char *const[]){ "a", "d", "l", NULL }; *name; name++) {
                set_times(*name, a, m);
                if (on_nfs && **name == 'l')
                        continue;
                st = lstat_of(*name);
                EQ(compare(st.st_atim, a), 0);
                EQ(compare(st.st_mtim, m), 0);
                CHECK(llabs((long long) (st.st_ctim.tv_sec - now().tv_sec)) < 5);
        }
}

static void case_utimens_extremes(void) {
        static const struct timespec times[] = { { 0, 0 }, { 0, 1 }, { 1, 999999999 }, { INT32_MAX, 999999999 } };

        file_text("a", "x");
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
                set_times("a", times[i], times[i]);
                EQ(compare(stat_of("a").st_mtim, times[i]), 0);
                EQ(compare(stat_of("a").st_atim, times[i]), 0);
        }
}

/* NFSv3 has 32 bits for seconds, without a sign: until 2106. */
static void case_utimens_after_2038(void) {
        static const struct timespec times[] = { { 1u << 31, 0 }, { 3000000000, 123456789 }, { UINT32_MAX, 999999999 } };

        file_text("a", "x");
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
                set_times("a", times[i], times[i]);
                EQ(compare(stat_of("a").st_mtim, times[i]), 0);
                EQ(compare(stat_of("a").st_atim, times[i]), 0);
        }
}

static void case_utimens_beyond_32_bits(void) {
        static const struct timespec times[] = { { -1, 0 }, { -100000, 5 }, { INT32_MIN + 1, 999999999 }, { 1ll << 32, 1 } };

        file_text("a", "x");
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
                struct timespec want = times[i];

                if (on_nfs) /* the nearest that there is */
                        want = want.tv_sec < 0 ? (struct timespec){ 0, 0 } : (struct timespec){ UINT32_MAX, 0 };
                set_times("a", times[i], times[i]);
                EQ(compare(stat_of("a").st_mtim, want), 0);
                EQ(compare(stat_of("a").st_atim, want), 0);
        }
}

static void case_utimens_omit(void) {
        static const struct timespec a = { 1000, 1 }, m = { 2000, 2 }, n = { 3000, 3 };
        struct stat st, before;

        file_text("a", "x");
        set_times("a", a, m);
        set_times("a", OMIT, n);
        EQ(compare(stat_of("a").st_atim, a), 0);
        EQ(compare(stat_of("a").st_mtim, n), 0);
        set_times("a", m, OMIT);
        EQ(compare(stat_of("a").st_atim, m), 0);
        EQ(compare(stat_of("a").st_mtim, n), 0);
        before = stat_of("a");
        tick();
        set_times("a", OMIT, OMIT);
        st = stat_of("a");
        EQ(compare(st.st_ctim, before.st_ctim), 0);
}

static void case_utimens_now(void) {
        static const struct timespec a = { 1000, 1 };
        struct timespec before = now();
        struct stat st;

        file_text("a", "x");
        set_times("a", a, a);
        set_times("a", OMIT, NOW);
        st = stat_of("a");
        EQ(compare(st.st_atim, a), 0);
        CHECK(llabs((long long) (st.st_mtim.tv_sec - before.tv_sec)) < 5);
        set_times("a", a, a);
        OK(utimensat(AT_FDCWD, "a", NULL, 0));
        st = stat_of("a");
        CHECK(llabs((long long) (st.st_atim.tv_sec - before.tv_sec)) < 5);
        CHECK(llabs((long long) (st.st_mtim.tv_sec - before.tv_sec)) < 5);
        set_times("a", NOW, a);
        st = stat_of("a");
        CHECK(llabs((long long) (st.st_atim.tv_sec - before.tv_sec)) < 5);
        EQ(compare(st.st_mtim, a), 0);
}

static void case_utimens_by_others(void) {
        pid_t pid;

        file_text("a", "x");
        file_text("writable", "x");
        OK(chmod("writable", 0666));
        pid = child_start();
        if (pid == 0) {
                struct timespec t[2] = { { 1, 0 }, { 1, 0 } };

                become(1000, 1000, (gid_t) -1);
                FAILS(utimensat(AT_FDCWD, "a", t, 0), EPERM);
                FAILS(utimensat(AT_FDCWD, "a", NULL, 0), EACCES);
                FAILS(utimensat(AT_FDCWD, "writable", t, 0), EPERM);
                OK(utimensat(AT_FDCWD, "writable", NULL, 0));
                child_end();
        }
        child_wait(pid);
}

/* Which of a file's and its directory's times an operation moves. */
#define M 2
#define C 4

static int moved(const struct stat *a, const struct stat *b) {
        return (compare(b->st_mtim, a->st_mtim) > 0 ? M : 0) | (compare(b->st_ctim, a->st_ctim) > 0 ? C : 0);
}

static void expect(const char *what, const char *file, int want_file, int want_dir, int (*operation)(void)) {
        struct stat f = lstat_of(file), d = lstat_of("."), f2, d2;

        tick();
        if (operation() < 0)
                FAIL("%s: %s", what, strerror(errno));
        f2 = lstat_of(file);
        d2 = lstat_of(".");
        if (moved(&f, &f2) != want_file)
                FAIL("%s moves times %d of the file, not %d (mtime %d, ctime %d)", what, moved(&f, &f2), want_file, M, C);
        if (moved(&d, &d2) != want_dir)
                FAIL("%s moves times %d of the directory, not %d", what, moved(&d, &d2), want_dir);
}

static int fd;

static int do_write(void) {
        return (int) pwrite(fd, "y", 1, 0);
}
static int do_chmod(void) {
        return chmod("a", 0600);
}
static int do_link(void) {
        return link("a", "link");
}
static int do_unlink(void) {
        return unlink("link");
}
static int do_truncate(void) {
        return truncate("a", 100);
}
static int do_ftruncate(void) {
        return ftruncate(fd, 0);
}
static int do_mkdir(void) {
        return mkdir("d", 0755);
}
static int do_rmdir(void) {
        return rmdir("d");
}
static int do_create(void) {
        return close(open("new", O_CREAT | O_WRONLY, 0644));
}
static int do_symlink(void) {
        return symlink("x", "l");
}
static int do_rename(void) {
        return rename("new", "newer");
}
static int do_open_trunc(void) {
        return close(open("a", O_WRONLY | O_TRUNC));
}
static int do_stat(void) {
        struct stat st;

        return stat("a", &st);
}
static int do_read(void) {
        char c;

        return (int) pread(fd, &c, 1, 0);
}

static void case_times_moved_by_operations(void) {
        file_text("a", "x");
        fd = file_open("a", O_RDWR);
        expect("write", "a", M | C, 0, do_write);
        expect("chmod", "a", C, 0, do_chmod);
        expect("link", "a", C, M | C, do_link);
        expect("unlink", "a", C, M | C, do_unlink);
        expect("truncate", "a", M | C, 0, do_truncate);
        expect("ftruncate", "a", M | C, 0, do_ftruncate);
        expect("mkdir", "a", 0, M | C, do_mkdir);
        expect("rmdir", "a", 0, M | C, do_rmdir);
        expect("create", "a", 0, M | C, do_create);
        expect("symlink", "a", 0, M | C, do_symlink);
        expect("rename", "a", 0, M | C, do_rename);
        expect("write", "a", M | C, 0, do_write);
        expect("stat", "a", 0, 0, do_stat);
        expect("read", "a", 0, 0, do_read);
        expect("open with O_TRUNC", "a", M | C, 0, do_open_trunc);
        OK(close(fd));
}

/* A set time stays, although data written before it may still be on its way. */
static void case_utimens_after_write(void) {
        static const struct timespec t = { 1234567890, 123456789 };
        struct timespec times[2] = { t, t };
        static char data[300000];
        int out = file_open("a", O_CREAT | O_WRONLY);

        EQ(write(out, data, sizeof data), sizeof data);
        OK(futimens(out, times));
        EQ(compare(stat_of("a").st_mtim, t), 0);
        OK(close(out));
        EQ(compare(stat_of("a").st_mtim, t), 0);
        out = file_open("a", O_RDONLY);
        EQ(compare(stat_of("a").st_mtim, t), 0);
        OK(close(out));
        OK(chmod("a", 0600));
        OK(chown("a", 5, 5));
        OK(rename("a", "b"));
        OK(link("b", "c"));
        EQ(compare(stat_of("b").st_mtim, t), 0);
}

static void case_fstat_and_stat_agree(void) {
        int f = file_open("a", O_CREAT | O_RDWR);
        struct stat a, b;

        for (int i = 0; i < 50; i++) {
                EQ(write(f, "x", 1), 1);
                OK(fstat(f, &a));
                b = stat_of("a");
                EQ(a.st_size, i + 1);
                EQ(a.st_size, b.st_size);
                EQ(compare(a.st_mtim, b.st_mtim), 0);
                EQ(a.st_ino, b.st_ino);
        }
        OK(close(f));
}

const Case time_cases[] = {
        CASE(utimens_explicit),
        CASE(utimens_extremes),
        CASE(utimens_after_2038),
        CASE(utimens_beyond_32_bits),
        CASE(utimens_omit),
        CASE(utimens_now),
        CASE(utimens_by_others),
        CASE(times_moved_by_operations),
        CASE(utimens_after_write),
        CASE(fstat_and_stat_agree),
        { 0 },
};
