#!/usr/bin/env python3
"""handles.py DIR STOP: what holds files and directories open goes on while the server replaces its handles.

Some write, read, lock, list and make files below a working directory, and check all of it, until STOP exists.
"""
import fcntl
import os
import sys
import time

top, stop = sys.argv[1], sys.argv[2]


def rounds():
    n = 0
    while not os.path.exists(stop):
        n += 1
        yield n
        time.sleep(0.002)


def writer(d):
    fd = os.open(d + "/written", os.O_RDWR | os.O_CREAT)
    for n in rounds():
        data = b"%15d\n" % n
        os.pwrite(fd, data, n * 16)
        if n % 10 == 0:
            os.fsync(fd)
        if n % 7 == 0:
            os.ftruncate(fd, (n + 1) * 16)
        assert os.pread(fd, 16, n * 16) == data
    assert os.pread(fd, (n + 1) * 16, 16) == b"".join(b"%15d\n" % i for i in range(1, n + 1))


def appender(d):
    fd = os.open(d + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for n in rounds():
        assert os.write(fd, b"%15d\n" % n) == 16
    os.close(fd)
    assert open(d + "/log", "rb").read() == b"".join(b"%15d\n" % i for i in range(1, n + 1))


def reader(d):
    data = os.urandom(1 << 20)
    with open(d + "/read", "wb") as f:
        f.write(data)
    fd = os.open(d + "/read", os.O_RDONLY | os.O_DIRECT)
    import mmap
    page = mmap.mmap(-1, 4096)
    for n in rounds():
        at = n * 7919 % 256 * 4096
        assert os.preadv(fd, [page], at) == 4096 and page[:] == data[at:at + 4096]
        assert os.fstat(fd).st_size == 1 << 20


def worker_below(d):
    os.mkdir(d + "/a")
    os.mkdir(d + "/a/b")
    os.chdir(d + "/a/b")
    for n in rounds():
        name = f"f{n}"
        with open(name, "x") as f:
            f.write(name)
        os.rename(name, "g")
        assert open("g").read() == name and os.listdir(".") == ["g"]
        os.unlink("g")


def lister(d):
    os.mkdir(d + "/list")
    for i in range(500):
        open(f"{d}/list/{i}", "w").close()
    fd = os.open(d + "/list", os.O_RDONLY)
    for n in rounds():
        assert len(os.listdir(fd)) == 500


def hidden(d):
    fd = os.open(d + "/unlinked", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"unlinked")
    os.unlink(d + "/unlinked")
    for n in rounds():
        assert os.pread(fd, 8, 0) == b"unlinked"
        os.pwrite(fd, b"u", 0)


def unlinked_later(d):
    held = []
    for n in rounds():
        if n % 100 == 1:
            held.append((os.open(f"{d}/{n}", os.O_RDWR | os.O_CREAT | os.O_EXCL), n))
            os.write(held[-1][0], b"%d" % n)
        if len(held) > 8: # opened before the change, by now
            fd, born = held.pop(0)
            os.unlink(f"{d}/{born}")
            got = os.pread(fd, 10, 0)
            assert got == b"%d" % born, (got, born, os.fstat(fd))
            os.pwrite(fd, b"x", 0)
            os.fsync(fd)
            os.close(fd)


def locker(d):
    fd = os.open(d + "/locked", os.O_RDWR | os.O_CREAT)
    for n in rounds():
        fcntl.lockf(fd, fcntl.LOCK_EX)
        fcntl.lockf(fd, fcntl.LOCK_UN)


kids = {}
for i, work in enumerate((writer, appender, reader, worker_below, lister, hidden, unlinked_later, locker)):
    d = f"{top}/{work.__name__}"
    os.mkdir(d)
    pid = os.fork()
    if pid == 0:
        work(d)
        sys.exit(0)
    kids[pid] = work.__name__
failed = 0
while kids:
    pid, status = os.wait()
    name = kids.pop(pid)
    if status:
        print(name, "failed")
        failed = 1
sys.exit(failed)
