/*
 * Locks that outlive this machine, see sys/lockmark.h: the prober notes where the volume may come to have some, and the first one of
 * a boot has all servers free those of before, at once, each asked by a process of its own; the keeper takes the note back when
 * the volume has none left.
 *
 * A server frees what it has for this node, whoever on it that was. So nobody is told where somebody else has NFS mounted, whose
 * locks are not noted here: the kernel's own client, or volumes of another run directory.
 */
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/log.h"
#include "daemon.h"
#include "sys/lockmark.h"
#include "sys/mounts.h"
#include "sys/rundir.h"

#define WAIT_NS  (5 * NSEC_PER_SEC) /* for the prober of another volume, which may have to tell servers */
#define TELL_MS  3000
#define TELL_MAX 64 /* servers */

/* How a process that tells a server ends. */
enum { TOLD, NOT_UNDERSTOOD, NO_ANSWER };

static bool addr_parse(const char *text, NfsAddr *ret) {
        struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *list;

        if (getaddrinfo(text, NULL, &hints, &list) != 0)
                return false;
        *ret = (NfsAddr){ .len = list->ai_addrlen };
        memcpy(&ret->addr, list->ai_addr, list->ai_addrlen);
        freeaddrinfo(list);
        return true;
}

/* From where a server is asked. Nothing is sent. "": no way leads there. */
static void local_address(const NfsAddr *addr, char ret[LOCK_MARK_ADDRESS]) {
        _cleanup_(fd_closep) int fd = socket(addr->addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        NfsAddr to = *addr, local = { .len = sizeof local.addr };

        /* both families have it in the same place */
        ((struct sockaddr_in *) &to.addr)->sin_port = htons(1);
        if (fd < 0 || connect(fd, (struct sockaddr *) &to.addr, to.len) < 0 ||
            getsockname(fd, (struct sockaddr *) &local.addr, &local.len) < 0 ||
            nfs_addr_format(&local, ret, LOCK_MARK_ADDRESS) < 0)
                ret[0] = '\0';
}

/* ---- telling ---- */

static bool kernel_client_is_in_use(void) {
        char text[4096] = "";

        return io_read_file("/proc/fs/nfsfs/servers", text, sizeof text) > 0 && (strstr(text, "\nv3 ") || strstr(text, "\nv2 "));
}

/* Is a volume mounted of which this run directory knows nothing? */
static bool others_have_volumes(void) {
        _cleanup_(mount_table_done) MountTable table = { 0 };
        _cleanup_(freep) char *dir = realpath(rundir(), NULL);
        size_t len = dir ? strlen(dir) : 0;

        if (!dir || mount_table_read(&table) < 0)
                return true;
        for (size_t i = 0; i < table.n_entries; i++) {
                bool ours = false;

                for (size_t j = 0; j < table.n_entries && !ours; j++)
                        ours = table.entries[j].dev == table.entries[i].dev && strncmp(table.entries[j].target, dir, len) == 0 &&
                               table.entries[j].target[len] == '/';
                if (!ours)
                        return true;
        }
        return false;
}

static int tell(const NfsMountConfig *config, const LockMark *mark, uint32_t timeout_ms) {
        NfsAddr addr;
        int r = addr_parse(mark->address, &addr) ? nfs_locks_free(config, &addr, mark->port, mark->node, timeout_ms) : -EINVAL;

        return r == 0 ? TOLD : r == -EREMOTEIO ? NOT_UNDERSTOOD : NO_ANSWER;
}

static pid_t tell_begin(const NfsMountConfig *config, const LockMark *mark, uint32_t timeout_ms) {
        pid_t parent = getpid(), pid = fork();

        if (pid != 0)
                return pid;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(getppid() == parent ? tell(config, mark, timeout_ms) : NO_ANSWER);
}

static bool tell_end(pid_t pid, const LockMark *mark) {
        char local[LOCK_MARK_ADDRESS] = "";
        int status = 0;
        NfsAddr addr;

        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (pid <= 0 || !WIFEXITED(status) || WEXITSTATUS(status) != TOLD) {
                log_warning("%s cannot be told that this machine (%s) is up again (%s): what it has locked for it from before "
                            "stays until it is told after another restart, or drops it by itself",
                            mark->address, mark->node,
                            pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == NOT_UNDERSTOOD ? "it knows no NLM_FREE_ALL"
                                                                                                  : "no answer");
                return false;
        }
        if (addr_parse(mark->address, &addr))
                local_address(&addr, local);
        if (strcmp(local, mark->local) == 0)
                log_notice("%s has been told that this machine (%s) is up again: it frees what it had locked for it before",
                           mark->address, mark->node);
        else
                log_warning("%s has been told that this machine (%s) is up again, but from another address (%s, not %s): if it "
                            "knows machines by address, what it had locked for it stays",
                            mark->address, mark->node, local, mark->local);
        return true;
}

static bool is_same(const LockMark *a, const LockMark *b) {
        return strcmp(a->address, b->address) == 0 && strcmp(a->node, b->node) == 0 && strcmp(a->local, b->local) == 0;
}

static void drop_former(LockMarks *marks, const LockMark *told) {
        for (size_t i = marks->n_marks; i-- > 0;)
                if (lock_mark_is_former(marks, &marks->marks[i]) && is_same(&marks->marks[i], told))
                        lock_marks_drop(marks, i);
}

/* Each server once. */
static void tell_all(LockMarks *marks, const NfsMountConfig *config, uint32_t timeout_ms) {
        LockMark *tellings = calloc(TELL_MAX, sizeof *tellings);
        pid_t pids[TELL_MAX];
        size_t n = 0;

        for (size_t i = 0; tellings && i < marks->n_marks && n < TELL_MAX; i++) {
                size_t j = 0;

                while (j < n && !is_same(&tellings[j], &marks->marks[i]))
                        j++;
                if (j == n && lock_mark_is_former(marks, &marks->marks[i]))
                        tellings[n++] = marks->marks[i];
        }
        for (size_t i = 0; i < n; i++)
                pids[i] = tell_begin(config, &tellings[i], timeout_ms);
        for (size_t i = 0; i < n; i++)
                if (tell_end(pids[i], &tellings[i]))
                        drop_former(marks, &tellings[i]);
        free(tellings);
}

static void end_former_lives(LockMarks *marks, const NfsMountConfig *config, uint64_t deadline) {
        bool is_there = false;
        uint64_t now = now_ns();

        for (size_t i = 0; i < marks->n_marks && !is_there; i++)
                is_there = lock_mark_is_former(marks, &marks->marks[i]);
        if (!is_there || !marks->is_first)
                return;
        if (kernel_client_is_in_use() || others_have_volumes())
                log_notice("servers that may hold locks of this machine from before it was started again are not told: the "
                           "kernel's own NFS client, or volumes of another run directory, are in use and would lose theirs");
        else if (now < deadline)
                tell_all(marks, config, MIN((uint32_t) ((deadline - now) / NSEC_PER_MSEC), (uint32_t) TELL_MS));
}

/* ---- of one volume ---- */

int volume_marks_enter(const NfsMountConfig *config, const Memory *memory, uint64_t deadline) {
        const NfsMountResult *mount = &memory->mount;
        char address[LOCK_MARK_ADDRESS], local[LOCK_MARK_ADDRESS];
        LockMarks marks;
        int r;

        if (!mount->nlmport)
                return 0;
        r = lock_marks_open(&marks, MIN(deadline, now_ns() + WAIT_NS));
        if (r < 0)
                return r;
        end_former_lives(&marks, config, deadline);
        for (uint32_t i = 0; i < mount->n_addrs && r == 0; i++) {
                if (nfs_addr_format(&mount->addrs[i], address, sizeof address) < 0)
                        continue;
                local_address(&mount->addrs[i], local);
                r = lock_marks_add(&marks, memory->connection_id, address, mount->nlmport, local, memory->node);
        }
        if (r == 0)
                r = lock_marks_enter(&marks, memory->connection_id);
        if (r == 0) {
                int saved = lock_marks_save(&marks);

                if (saved < 0)
                        log_notice("cannot note in %s that the server may hold locks for this machine (%s): if it dies, they "
                                   "stay",
                                   lock_marks_directory(), strerror(-saved));
        }
        lock_marks_close(&marks);
        return r;
}

/* Where there are records, the server may hold something. */
static bool may_hold_locks(const Memory *memory) {
        uint32_t n = MIN(atomic_load(&memory->locks_high), (uint32_t) LOCKS_MAX);

        for (uint32_t i = 0; i < n; i++)
                if (atomic_load(&memory->locks[i].state) != LOCK_FREE)
                        return true;
        return false;
}

void volume_marks_leave(const Memory *memory) {
        LockMarks marks;

        if (!memory->mount.nlmport || may_hold_locks(memory) || lock_marks_open(&marks, now_ns() + WAIT_NS) < 0)
                return;
        lock_marks_leave(&marks, memory->connection_id);
        (void) lock_marks_save(&marks); /* what stays is told in vain after the next start */
        lock_marks_close(&marks);
}
