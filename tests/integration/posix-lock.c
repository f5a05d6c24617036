/* Locks between processes of one node: fcntl(2), open file descriptions, flock(2). */
#include <signal.h>
#include <sys/file.h>

#include "cases.h"

static int lock_with(int fd, int command, short type, off_t start, off_t len) {
        struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

        return fcntl(fd, command, &lock);
}

static int lock(int fd, short type, off_t start, off_t len) {
        return lock_with(fd, F_SETLK, type, start, len);
}

/* The type of the lock that stands in the way of writing. */
static short lock_in_the_way(int fd, off_t start, off_t len, pid_t *ret_pid) {
        struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

        OK(fcntl(fd, F_GETLK, &l));
        *ret_pid = l.l_pid;
        return l.l_type;
}

static void case_fcntl_lock_conflict(void) {
        int fd = file_open("a", O_CREAT | O_RDWR);
        pid_t pid, parent = getpid();

        OK(lock(fd, F_WRLCK, 0, 0));
        pid = child_start();
        if (pid == 0) {
                int mine = file_open("a", O_RDWR);
                pid_t holder;

                CHECK(lock(mine, F_WRLCK, 0, 0) < 0 && (errno == EAGAIN || errno == EACCES));
                CHECK(lock(mine, F_RDLCK, 5, 1) < 0);
                EQ(lock_in_the_way(mine, 0, 0, &holder), F_WRLCK);
                EQ(holder, parent);
                child_end();
        }
        child_wait(pid);
        OK(lock(fd, F_UNLCK, 0, 0));
        pid = child_start();
        if (pid == 0) {
                OK(lock(file_open("a", O_RDWR), F_WRLCK, 0, 0));
                child_end();
        }
        child_wait(pid);
        OK(close(fd));
}

static void case_fcntl_lock_ranges(void) {
        int fd = file_open("a", O_CREAT | O_RDWR);
        pid_t pid;

        OK(lock(fd, F_WRLCK, 10, 10));
        OK(lock(fd, F_RDLCK, 100, 10));
        OK(lock(fd, F_UNLCK, 14, 2)); /* splits it */
        pid = child_start();
        if (pid == 0) {
                int mine = file_open("a", O_RDWR);
                pid_t holder;

                OK(lock(mine, F_WRLCK, 0, 10));
                OK(lock(mine, F_WRLCK, 14, 2));
                CHECK(lock(mine, F_WRLCK, 13, 1) < 0);
                CHECK(lock(mine, F_WRLCK, 16, 1) < 0);
                CHECK(lock(mine, F_WRLCK, 19, 5) < 0);
                OK(lock(mine, F_WRLCK, 20, 80));
                OK(lock(mine, F_RDLCK, 100, 10));
                CHECK(lock(mine, F_WRLCK, 105, 1) < 0);
                EQ(lock_in_the_way(mine, 100, 0, &holder), F_RDLCK);
                OK(lock(mine, F_WRLCK, 110, 0));
                child_end();
        }
        child_wait(pid);
        OK(close(fd));
}

static void case_fcntl_lock_goes_with_process(void) {
        int fd = file_open("a", O_CREAT | O_RDWR), ready = turn_new();
        pid_t pid = child_start();

        if (pid == 0) {
                OK(lock(file_open("a", O_RDWR), F_WRLCK, 0, 0));
                turn_give(ready);
                for (;;)
                        (void) pause();
        }
        turn_take(ready);
        CHECK(lock(fd, F_WRLCK, 0, 0) < 0);
        OK(kill(pid, SIGKILL));
        OK(waitpid(pid, NULL, 0));
        OK(lock(fd, F_WRLCK, 0, 0));
        OK(close(fd));
}

/* POSIX: closing any descriptor of the file lets all of the process' locks on it go. */
static void case_fcntl_lock_goes_with_any_close(void) {
        int fd = file_open("a", O_CREAT | O_RDWR);
        pid_t pid;

        OK(lock(fd, F_WRLCK, 0, 0));
        OK(close(file_open("a", O_RDONLY)));
        pid = child_start();
        if (pid == 0) {
                OK(lock(file_open("a", O_RDWR), F_WRLCK, 0, 0));
                child_end();
        }
        child_wait(pid);
        OK(close(fd));
}

static void case_fcntl_lock_waits(void) {
        int fd = file_open("a", O_CREAT | O_RDWR), ready = turn_new();
        char text[2] = "";
        pid_t pid;

        OK(lock(fd, F_WRLCK, 0, 0));
        pid = child_start();
        if (pid == 0) {
                int mine = file_open("a", O_RDWR);

                turn_give(ready);
                OK(lock_with(mine, F_SETLKW, F_WRLCK, 0, 0));
                EQ(pread(mine, text, 1, 0), 1); /* what was written under the lock */
                EQ(text[0], 'x');
                child_end();
        }
        turn_take(ready);
        EQ(pwrite(fd, "x", 1, 0), 1);
        OK(lock(fd, F_UNLCK, 0, 0));
        child_wait(pid);
        OK(close(fd));
}

static void case_fcntl_lock_wrong_mode(void) {
        int fd;

        file_text("a", "x");
        fd = file_open("a", O_RDONLY);
        FAILS(lock(fd, F_WRLCK, 0, 0), EBADF);
        OK(lock(fd, F_RDLCK, 0, 0));
        OK(close(fd));
}

static void case_ofd_lock(void) {
        int a = file_open("a", O_CREAT | O_RDWR), b = file_open("a", O_RDWR);

        OK(lock_with(a, F_OFD_SETLK, F_WRLCK, 0, 10));
        CHECK(lock_with(b, F_OFD_SETLK, F_WRLCK, 5, 1) < 0);
        EQ(errno, EAGAIN);
        OK(lock_with(b, F_OFD_SETLK, F_WRLCK, 10, 1));
        OK(close(a));
        OK(lock_with(b, F_OFD_SETLK, F_WRLCK, 0, 10));
        OK(close(b));
}

static void case_flock(void) {
        int a = file_open("a", O_CREAT | O_RDWR), b = file_open("a", O_RDWR), copy;
        pid_t pid;

        OK(flock(a, LOCK_EX));
        FAILS(flock(b, LOCK_EX | LOCK_NB), EAGAIN);
        FAILS(flock(b, LOCK_SH | LOCK_NB), EAGAIN);
        OK(flock(a, LOCK_SH));
        OK(flock(b, LOCK_SH | LOCK_NB));
        FAILS(flock(b, LOCK_EX | LOCK_NB), EAGAIN);
        OK(flock(a, LOCK_UN));
        OK(flock(b, LOCK_EX | LOCK_NB));
        pid = child_start();
        if (pid == 0) {
                FAILS(flock(a, LOCK_EX | LOCK_NB), EAGAIN);
                OK(flock(b, LOCK_EX | LOCK_NB)); /* inherited */
                child_end();
        }
        child_wait(pid);
        copy = OK(dup(b));
        OK(close(b));
        FAILS(flock(a, LOCK_EX | LOCK_NB), EAGAIN); /* a copy still holds it */
        OK(close(copy));
        OK(flock(a, LOCK_EX | LOCK_NB));
        OK(close(a));
}

static void case_flock_of_directory(void) {
        int a, b;

        OK(mkdir("d", 0755));
        a = OK(open("d", O_RDONLY));
        b = OK(open("d", O_RDONLY));
        OK(flock(a, LOCK_EX | LOCK_NB));
        FAILS(flock(b, LOCK_EX | LOCK_NB), EAGAIN);
        OK(close(a));
        OK(flock(b, LOCK_EX | LOCK_NB));
        OK(close(b));
}

/* Processes that count in a file under a lock lose nothing. */
static void count_under_lock(void (*take)(int fd), void (*give)(int fd)) {
        enum { N = 4, ROUNDS = 100 };
        pid_t pids[N];

        file_text("a", "0");
        for (int i = 0; i < N; i++) {
                pids[i] = child_start();
                if (pids[i] == 0) {
                        char text[16];
                        int fd = file_open("a", O_RDWR), len;

                        for (int k = 0; k < ROUNDS; k++) {
                                take(fd);
                                len = OK(pread(fd, text, sizeof text - 1, 0));
                                text[len] = '\0';
                                len = snprintf(text, sizeof text, "%d", atoi(text) + 1);
                                EQ(pwrite(fd, text, (size_t) len, 0), len);
                                give(fd);
                        }
                        child_end();
                }
        }
        for (int i = 0; i < N; i++)
                child_wait(pids[i]);
        file_is("a", "400");
}

static void fcntl_take(int fd) {
        OK(lock_with(fd, F_SETLKW, F_WRLCK, 0, 0));
}
static void fcntl_give(int fd) {
        OK(lock(fd, F_UNLCK, 0, 0));
}
static void flock_take(int fd) {
        OK(flock(fd, LOCK_EX));
}
static void flock_give(int fd) {
        OK(flock(fd, LOCK_UN));
}

static void case_count_under_fcntl_lock(void) {
        count_under_lock(fcntl_take, fcntl_give);
}

static void case_count_under_flock(void) {
        count_under_lock(flock_take, flock_give);
}

const Case lock_cases[] = {
        CASE(fcntl_lock_conflict),
        CASE(fcntl_lock_ranges),
        CASE(fcntl_lock_goes_with_process),
        CASE(fcntl_lock_goes_with_any_close),
        CASE(fcntl_lock_waits),
        CASE(fcntl_lock_wrong_mode),
        CASE(ofd_lock),
        CASE(flock),
        CASE(flock_of_directory),
        CASE(count_under_fcntl_lock),
        CASE(count_under_flock),
        { 0 },
};
