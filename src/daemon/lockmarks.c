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

#define WAIT_NS  (5 * NSEC_PER_SEC) /* for the probers of other volumes, which may have to tell servers */
#define TELL_MS  3000
#define TELL_MAX 64 /* servers */
#define IN_VAIN  3  /* times, and then a server is not told any more */

/* How a process that tells a server ends. */
enum { TOLD, NOT_UNDERSTOOD, NOT_REACHED, NOT_ANSWERED };

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
        size_t size = 1 << 20;
        _cleanup_(freep) char *text = malloc(size);

        if (!text)
                return true;
        return io_read_file("/proc/fs/nfsfs/servers", text, size) > 0 && (strstr(text, "\nv3 ") || strstr(text, "\nv2 "));
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

static int tell(const NfsMountConfig *config, const LockMark *mark) {
        NfsAddr addr;
        bool sent = false;
        int r = addr_parse(mark->address, &addr) ? nfs_locks_free(config, &addr, mark->port, mark->node, TELL_MS, &sent)
                                                 : -EINVAL;

        return r == 0 ? TOLD : r == -EREMOTEIO ? NOT_UNDERSTOOD : sent ? NOT_ANSWERED : NOT_REACHED;
}

static pid_t tell_begin(const NfsMountConfig *config, const LockMark *mark) {
        pid_t parent = getpid(), pid = fork();

        if (pid != 0)
                return pid;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(getppid() == parent ? tell(config, mark) : NOT_REACHED);
}

static int tell_end(pid_t pid) {
        int status = 0;

        if (pid <= 0)
                return NOT_REACHED;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return NOT_ANSWERED;
        return WIFEXITED(status) ? WEXITSTATUS(status) : NOT_ANSWERED;
}

/* Is the server told, as far as can be known? */
static bool is_told(const LockMark *mark, int how) {
        static const char *const reasons[] = {
                [NOT_UNDERSTOOD] = "it knows no NLM_FREE_ALL", [NOT_REACHED] = "it is not reached", [NOT_ANSWERED] = "no answer"
        };
        char local[LOCK_MARK_ADDRESS] = "";
        NfsAddr addr;

        if (how != TOLD) {
                log_warning(
                        "%s cannot be told that this machine (%s) is up again (%s): what it has locked for it from before may "
                        "stay until it drops that by itself%s",
                        mark->address, mark->node, how > 0 && how < (int) ELEMENTSOF(reasons) ? reasons[how] : "error",
                        mark->tries + 1 < IN_VAIN ? ", or until it is told, when this machine has been started once more" : "");
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
        return strcmp(local, mark->local) == 0;
}

static bool is_address_of(const NfsMountResult *mount, const LockMark *mark) {
        char address[LOCK_MARK_ADDRESS];

        for (uint32_t i = 0; i < mount->n_addrs; i++)
                if (nfs_addr_format(&mount->addrs[i], address, sizeof address) >= 0 && strcmp(address, mark->address) == 0)
                        return true;
        return false;
}

/*
 * -ETIMEDOUT: the server of this volume has not answered, and may free what it holds for this machine at any time: it must not hold
 * anything yet.
 */
static int tell_all(LockMarks *marks, const NfsMountConfig *config, const NfsMountResult *mount) {
        pid_t pids[TELL_MAX];
        size_t which[TELL_MAX], n = 0;
        int r = 0;

        for (size_t i = marks->n_marks; i-- > 0 && n < TELL_MAX;)
                if (lock_mark_is_former(marks, &marks->marks[i])) {
                        which[n] = i;
                        pids[n++] = tell_begin(config, &marks->marks[i]);
                }
        for (size_t i = 0; i < n; i++) { /* from the last mark on: those that are dropped leave the others where they are */
                LockMark *mark = &marks->marks[which[i]];
                int how = tell_end(pids[i]);

                if (how == NOT_ANSWERED && is_address_of(mount, mark))
                        r = -ETIMEDOUT;
                if (is_told(mark, how) || ++mark->tries >= IN_VAIN)
                        lock_marks_drop(marks, which[i]);
        }
        return r;
}

static int end_former_lives(LockMarks *marks, const NfsMountConfig *config, const NfsMountResult *mount, uint64_t deadline) {
        bool is_there = false;

        for (size_t i = 0; i < marks->n_marks && !is_there; i++)
                is_there = lock_mark_is_former(marks, &marks->marks[i]);
        if (!is_there || !marks->is_first)
                return 0;
        if (kernel_client_is_in_use() || others_have_volumes()) {
                log_notice("servers that may hold locks of this machine from before it was started again are not told: the "
                           "kernel's own NFS client, or volumes of another run directory, are in use and would lose theirs");
                return 0;
        }
        return now_ns() + TELL_MS * NSEC_PER_MSEC < deadline ? tell_all(marks, config, mount) : -ETIMEDOUT;
}

/* ---- of one volume ---- */

int volume_marks_enter(const NfsMountConfig *config, const Memory *memory, uint64_t deadline) {
        const NfsMountResult *mount = &memory->mount;
        char address[LOCK_MARK_ADDRESS], local[LOCK_MARK_ADDRESS];
        LockMarks marks;
        int r;

        if (!mount->nlmport)
                return 0;
        r = lock_marks_open(&marks, deadline);
        if (r < 0)
                return r;
        r = end_former_lives(&marks, config, mount, deadline);
        for (uint32_t i = 0; i < mount->n_addrs && r == 0; i++) {
                local_address(&mount->addrs[i], local);
                if (*local && nfs_addr_format(&mount->addrs[i], address, sizeof address) >= 0)
                        r = lock_marks_add(&marks, memory->connection_id, address, mount->nlmport, local, memory->node);
        }
        if (r == -ETIMEDOUT)
                (void) lock_marks_save(&marks); /* each try counts */
        if (r == 0)
                r = lock_marks_enter(&marks);
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
        if (lock_marks_leave(&marks, memory->connection_id))
                (void) lock_marks_save(&marks); /* what stays there has the server told in vain, after the next start */
        lock_marks_close(&marks);
}
