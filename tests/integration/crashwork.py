"""What crashload does not do, checked, for SECONDS in DIR, by one process each: appends, small pieces in any order, files that
are removed and renamed over while open, locks of two on one file."""
import fcntl, mmap, os, random, sys, time
d, end = sys.argv[1], time.time() + float(sys.argv[2])
random.seed(os.getpid())

def appends():
    name, lines, fds = f"{d}/log", [], [os.open(f"{d}/log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600) for _ in range(2)]
    while time.time() < end:
        line = b"%08d %s\n" % (len(lines), b"x" * random.randrange(60))
        assert os.write(fds[len(lines) % 2], line) == len(line)
        lines.append(line)
        if len(lines) % 100 == 0:
            os.fsync(fds[0])
            assert open(name, "rb").read() == b"".join(lines), "the log"
            if len(lines) > 2000:
                os.ftruncate(fds[0], 0)
                lines = []
    assert open(name, "rb").read() == b"".join(lines), "the log, in the end"
    for fd in fds: os.close(fd)
    os.unlink(name)

def pieces():
    size, name = 1 << 20, f"{d}/pieces"
    while time.time() < end:
        model, fd = bytearray(size), os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(fd, size)
        m = mmap.mmap(fd, size)
        for n in range(random.randrange(50, 400)):
            at = random.randrange(256) * 4096 if n % 3 else random.randrange(size - 9000)
            data = os.urandom(4096 if n % 3 else random.randrange(1, 9000))
            if n % 7 == 0: m[at:at + len(data)] = data
            else: assert os.pwrite(fd, data, at) == len(data)
            model[at:at + len(data)] = data
            if n % 50 == 0: os.fsync(fd)
        m.flush()
        m.close()
        os.close(fd)
        assert open(name, "rb").read() == model, "the pieces"
    os.unlink(name)

def hidden():
    n = 0
    while time.time() < end:
        n += 1
        name, data = f"{d}/open", os.urandom(5000)
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, data[:2000])
        if n % 2: os.unlink(name)
        else:
            os.close(os.open(f"{d}/other", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            os.rename(f"{d}/other", name)
            os.unlink(name)
        os.write(fd, data[2000:])
        assert os.pread(fd, 6000, 0) == data, "what is hidden"
        assert not os.path.exists(name), "its name is there"
        os.close(fd)

def locks():
    name = f"{d}/counter"
    fd, mine, done = os.open(name, os.O_RDWR | os.O_CREAT, 0o600), 0, os.fork()
    fd = os.open(name, os.O_RDWR)
    while time.time() < end:
        fcntl.lockf(fd, fcntl.LOCK_EX, 8, 0)
        n = int.from_bytes(os.pread(fd, 8, 0), "little")
        os.pwrite(fd, (n + 1).to_bytes(8, "little"), 0)
        mine += 1
        fcntl.lockf(fd, fcntl.LOCK_EX, 30, 100 if done else 200)
        fcntl.lockf(fd, fcntl.LOCK_UN, 10, 110 if done else 210)
        fcntl.lockf(fd, fcntl.LOCK_UN, 0, 100 if done else 200)
        fcntl.lockf(fd, fcntl.LOCK_UN, 8, 0)
    open(f"{name}.{bool(done)}", "w").write(str(mine))
    if not done: os._exit(0)
    assert os.waitpid(done, 0)[1] == 0
    counts = [int(open(f"{name}.{who}").read()) for who in (True, False)]
    assert int.from_bytes(os.pread(fd, 8, 0), "little") == sum(counts), f"the counter, {counts}"
    os.close(fd)
    for x in "", ".True", ".False": os.unlink(name + x)

children = {}
for work in appends, pieces, hidden, locks:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    children[pid] = work.__name__
failed = [name for pid, name in children.items() if os.waitpid(pid, 0)[1] != 0]
if failed: sys.exit(f"failed: {failed}")
