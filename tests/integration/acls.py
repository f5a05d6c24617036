"""Users of whom ACLs on the server's disk say something else than mode bits do: acls.py MOUNTPOINT, as root.

Descriptor 9 leads to the standard input of a fakenfs, which is told who may what; each user must get that and no more, by
access(2), open(2), read, write, execve(2), chdir(2), readdir, and on the way through a directory."""
import errno, os, sys

m = sys.argv[1]
READ, LOOKUP, MODIFY, EXTEND, EXECUTE = 1, 2, 4, 8, 32
WRITE = MODIFY | EXTEND
ALL = 0x3f
FILES = {  # mode bits, and who may what: more than these, less than these, and the same
    "f1": (0o600, {1000: READ, 1001: READ | WRITE, 1002: 0}),
    "f2": (0o777, {1000: 0, 1001: READ, 1002: ALL}),
    "f3": (0o610, {1000: EXECUTE, 1001: READ | EXECUTE, 1002: WRITE}),
    "f4": (0o644, {1000: WRITE, 1001: READ, 1002: READ | WRITE | EXECUTE}),
}
DIRS = {
    "d1": (0o700, {1000: LOOKUP, 1001: READ, 1002: 0}),
    "d2": (0o755, {1000: READ, 1001: LOOKUP, 1002: 0}),
    "d3": (0o711, {1000: READ | LOOKUP, 1001: 0, 1002: LOOKUP}),
}
ids = {f"f{i}": i + 2 for i in range(20)} | {f"d{i}": (1 << 40) + i for i in range(10)}


def result(call, *args):
    """errno's name, or what it returns."""
    try:
        return call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]


def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return len(os.pread(fd, 100, 0)) == 100
    finally:
        os.close(fd)


def write(path):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, b"x", 500000)
        os.fsync(fd)
        return True
    finally:
        os.close(fd)


def execute(path):
    pid = os.fork()
    if pid == 0:
        os._exit(errno.ENOEXEC if result(os.execv, path, [path]) == "ENOEXEC" else errno.EACCES)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.ENOEXEC or "EACCES"


def chdir(path):
    os.chdir(path)
    os.chdir("/")
    return True


def of_file(path, mode, may):
    executable = bool(may & EXECUTE) and mode & 0o111 != 0  # the kernel wants to see some x, as of the NFS client's files
    yield "access R", os.access(path, os.R_OK), bool(may & READ)
    yield "access W", os.access(path, os.W_OK), may & WRITE == WRITE
    yield "access X", os.access(path, os.X_OK), bool(may & EXECUTE)
    yield "read", result(read, path), bool(may & READ) or "EACCES"
    yield "write", result(write, path), may & WRITE == WRITE or "EACCES"
    yield "execute", execute(path), executable or "EACCES"


def of_dir(path, may):
    yield "list", type(result(os.listdir, path)), list if may & READ else str
    yield "access X", os.access(path, os.X_OK), bool(may & LOOKUP)
    yield "chdir", result(chdir, path), bool(may & LOOKUP) or "EACCES"
    yield "read below", result(read, path + "/f7"), bool(may & LOOKUP) or "EACCES"
    yield "access below", os.access(path + "/f7", os.R_OK), bool(may & LOOKUP)
    yield "stat below", result(lambda p: os.stat(p).st_size, path + "/f8"), 1 << 20 if may & LOOKUP else "EACCES"


def as_user(uid):
    """In a process of its own: what is not as it should be."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        wrong = [(uid, f, *w) for f, (mode, who) in FILES.items() for w in of_file(f"{m}/{f}", mode, who[uid]) if w[1] != w[2]]
        wrong += [(uid, d, *w) for d, (_, who) in DIRS.items() for w in of_dir(f"{m}/{d}", who[uid]) if w[1] != w[2]]
        for w in wrong:
            print("user %d, %s: %s: %s instead of %s" % w, flush=True)
        os._exit(bool(wrong))
    return os.waitpid(pid, 0)[1] != 0


for name, (mode, who) in (FILES | DIRS).items():
    for uid, may in who.items():
        os.write(9, b"acl %d %d %d %d\n" % (ids[name], mode, uid, may))
failed = False
for uid in (1000, 1001, 1002, 1002, 1001, 1000, 1001):  # each finds what the others have left in the caches
    failed |= as_user(uid)
sys.exit(failed)
