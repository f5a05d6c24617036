/*
 * recv(2) and readv(2) as libnfs sees them, which calls them through its PLT and finds these, as with bind(2)
 * (sourceport.c). Outside of record_begin() and _end(), and for other descriptors and threads, they are the
 * system calls.
 *
 * What libnfs lets a server do:
 *
 * A record is a stream of fragments, of which one says that it is the last (RFC 5531, section 11). Each is
 * bounded, their sum is not: 4 and 5 keep them until memory is gone, in a list that they walk from its head
 * to add one. (6 takes no fragments; 7 has a bound, but the same list.) So the markers are followed here, and
 * what they announce is counted.
 *
 * While it waits for a reply it receives as long as there is something, even if that is not what comes: who
 * always sends more has the thread, and no time-out comes true. Hence the end of each turn; epoll(7) and
 * poll(2) say that there is more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "src/nfs/record.h"

#define LAST_FRAGMENT  0x80000000u
#define TURN_MAX       (8 * RECORD_MAX)    /* more than is in a socket's buffer as a rule */
#define TURN_FRAGMENTS (2 * FRAGMENTS_MAX) /* each costs two system calls, and libnfs a walk along those before it */

static _Thread_local struct {
        Record *record; /* NULL: none */
        int fd;
        size_t n, n_fragments; /* received in this turn */
} turn;

void record_begin(Record *record, int fd) {
        turn.record = record;
        turn.fd = fd;
        turn.n = turn.n_fragments = 0;
}

void record_end(void) {
        turn.record = NULL;
}

/* A marker is complete. */
static bool fragment_begin(Record *record) {
        uint32_t marker = ntohl(record->marker), n = marker & ~LAST_FRAGMENT;

        record->n_marker = 0;
        if (n > RECORD_MAX - record->n || record->n_fragments >= FRAGMENTS_MAX)
                return false;
        record->left = n;
        record->n += n;
        record->n_fragments++;
        turn.n_fragments++;
        if (marker & LAST_FRAGMENT) /* what is left of it is still skipped */
                record->n = record->n_fragments = 0;
        return true;
}

static bool record_follow(Record *record, const char *data, size_t n) {
        size_t part;

        for (; n > 0; data += part, n -= part) {
                if (record->left > 0) {
                        part = n < record->left ? n : record->left;
                        record->left -= (uint32_t) part;
                        continue;
                }
                part = sizeof record->marker - record->n_marker;
                part = n < part ? n : part;
                memcpy((char *) &record->marker + record->n_marker, data, part);
                record->n_marker += (uint32_t) part;
                if (record->n_marker == sizeof record->marker && !fragment_begin(record))
                        return false;
        }
        return true;
}

static bool is_turn(int fd) {
        return turn.record && turn.fd == fd;
}

static bool turn_over(void) {
        if (turn.n < TURN_MAX && turn.n_fragments < TURN_FRAGMENTS)
                return false;
        errno = EAGAIN;
        return true;
}

/* n: what the system call returned. What it is to return. */
static ssize_t received(const struct iovec *iov, ssize_t n) {
        size_t left = n > 0 ? (size_t) n : 0, part;

        turn.n += left;
        for (; left > 0; left -= part, iov++) {
                part = left < iov->iov_len ? left : iov->iov_len;
                if (!record_follow(turn.record, iov->iov_base, part)) {
                        turn.record->too_long = true;
                        errno = EMSGSIZE;
                        return -1;
                }
        }
        return n;
}

ssize_t recv(int fd, void *buf, size_t len, int flags) {
        struct iovec iov = { .iov_base = buf, .iov_len = len };

        if (!is_turn(fd))
                return recvfrom(fd, buf, len, flags, NULL, NULL);
        return turn_over() ? -1 : received(&iov, recvfrom(fd, buf, len, flags, NULL, NULL));
}

ssize_t readv(int fd, const struct iovec *iov, int n) {
        if (!is_turn(fd))
                return syscall(SYS_readv, fd, iov, n);
        return turn_over() ? -1 : received(iov, syscall(SYS_readv, fd, iov, n));
}
