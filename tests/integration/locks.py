"""Processes that lock what they are told to, for locks.bash."""
import atexit, errno, fcntl, os, pickle, select, signal, struct, sys, time

F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
READ, WRITE, UNLOCK = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
FLOCK = struct.Struct("hhqqi4x")


class Interrupted(Exception):
    pass


def _lock(fd, command, kind, start, length):
    return FLOCK.unpack(fcntl.fcntl(fd, command, FLOCK.pack(kind, os.SEEK_SET, start, length, 0)))


class Actions:
    """What a process can be told to do. Results are values or errno names."""

    def __init__(self):
        self.fds = {}

    def open(self, path, flags=os.O_RDWR):
        fd = os.open(path, flags | os.O_CREAT, 0o644)
        self.fds[fd] = path
        return fd

    def close(self, fd):
        os.close(fd)

    def lock(self, fd, kind=WRITE, start=0, length=0):
        _lock(fd, fcntl.F_SETLK, kind, start, length)

    def wait_lock(self, fd, kind=WRITE, start=0, length=0):
        _lock(fd, fcntl.F_SETLKW, kind, start, length)

    def ofd(self, fd, kind=WRITE, start=0, length=0):
        _lock(fd, F_OFD_SETLK, kind, start, length)

    def wait_ofd(self, fd, kind=WRITE, start=0, length=0):
        _lock(fd, F_OFD_SETLKW, kind, start, length)

    def test(self, fd, kind=WRITE, start=0, length=0):
        """(type, start, length, pid) of what is in the way; type UNLOCK: nothing."""
        kind, _, start, length, pid = _lock(fd, fcntl.F_GETLK, kind, start, length)
        return kind, start, length, pid

    def flock(self, fd, how):
        fcntl.flock(fd, how)

    def handle(self, number, restart=False):
        """A handler that interrupts what is going on (restart: and lets the system call be restarted)."""
        def interrupt(*_):
            if not restart:
                raise Interrupted
        signal.signal(number, interrupt)
        signal.siginterrupt(number, not restart)

    def pread(self, fd, size, offset):
        return os.pread(fd, size, offset)

    def pwrite(self, fd, data, offset):
        return os.pwrite(fd, data, offset)


class Process:
    all = []

    def __init__(self):
        to_child, to_parent = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(to_child[1])
            os.close(to_parent[0])
            self._serve(os.fdopen(to_child[0], "rb"), os.fdopen(to_parent[1], "wb"))
        Process.all.append(self)
        os.close(to_child[0])
        os.close(to_parent[1])
        self.out, self.answers = os.fdopen(to_child[1], "wb"), os.fdopen(to_parent[0], "rb", 0)

    @staticmethod
    def _serve(requests, answers):
        actions = Actions()
        while True:
            try:
                name, args = pickle.load(requests)
            except EOFError:
                os._exit(0)
            try:
                result = getattr(actions, name)(*args)
            except Interrupted:
                result = "EINTR"
            except OSError as e:
                result = "EDEADLK" if e.errno == errno.EDEADLK else errno.errorcode[e.errno]
            pickle.dump(result, answers)
            answers.flush()

    def start(self, name, *args):
        pickle.dump((name, args), self.out)
        self.out.flush()

    def waiting(self, seconds):
        """Is there no answer within this time?"""
        return not select.select([self.answers], [], [], seconds)[0]

    def result(self, seconds=20):
        assert not self.waiting(seconds), f"process {self.pid}: no answer in {seconds} s"
        return pickle.load(self.answers)

    def do(self, name, *args):
        self.start(name, *args)
        return self.result()

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def reap(self, seconds=5):
        end = time.monotonic() + seconds
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            assert time.monotonic() < end, f"process {self.pid} is still there after {seconds} s"
            time.sleep(0.01)
        Process.all.remove(self)

    @staticmethod
    @atexit.register
    def kill_all():
        for p in Process.all:
            os.kill(p.pid, signal.SIGKILL)


def eventually(seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def equal(got, want, *what):
    assert got == want, (got, want, *what)


def opened(path, n=1, flags=os.O_RDWR):
    """n processes with path open, as (process, fd)."""
    found = []
    for _ in range(n):
        p = Process()
        found.append((p, p.do("open", path, flags)))
    return found
