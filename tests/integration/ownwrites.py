#!/usr/bin/env python3
"""ownwrites.py DIR SECONDS: who has written reads that back, though the kernel's pages of the file are dropped and read again
by others meanwhile.

Writers change their own pages of one file, some at a time, and read them at once; readers read all of it, so that any of them may be
who fills a page again; and one takes and gives back a lock, which drops all pages each time.
"""
import fcntl
import mmap
import os
import struct
import sys
import time

WRITERS, READERS, PAGES, PAGE = 3, 2, 8, 4096

path = sys.argv[1] + "/ownwrites"
end = time.monotonic() + float(sys.argv[2])


def look_again(offset, data):
    """Is it the kernel's page that is wrong, or what is behind it?"""
    buffer = mmap.mmap(-1, 2 * PAGE)
    direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
    os.preadv(direct, [buffer], offset // PAGE * PAGE)
    return "right" if buffer[offset % PAGE:offset % PAGE + len(data)] == data else "wrong"


def write(number):
    fd = os.open(path, os.O_RDWR)
    n = 0
    while time.monotonic() < end:
        n += 1
        offset = number * PAGES * PAGE + n * 2053 % (PAGES * PAGE - 128)
        data = struct.pack("Q", n) * 16
        os.pwrite(fd, data, offset)
        if os.pread(fd, len(data), offset) != data:
            sys.exit(f"writer {number}, round {n}, at {time.time():.3f}: not what it has written; with O_DIRECT it is "
                     + look_again(offset, data))
    print("writer", number, n, "rounds")


def read(number):
    fd = os.open(path, os.O_RDONLY)
    while time.monotonic() < end:
        os.pread(fd, WRITERS * PAGES * PAGE, 0)


def drop(number):
    fd = os.open(path, os.O_RDWR)
    n = 0
    while time.monotonic() < end:
        n += 1
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1 << 40)
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, 1 << 40)
    print(n, "locks")


with open(path, "wb") as f:
    f.write(bytes(WRITERS * PAGES * PAGE))
kids = []
for work, count in ((write, WRITERS), (read, READERS), (drop, 1)):
    for i in range(count):
        kids.append(os.fork())
        if kids[-1] == 0:
            work(i)
            sys.exit(0)
failed = [kid for kid in kids if os.waitpid(kid, 0)[1] != 0]
os.unlink(path)
sys.exit(1 if failed else 0)
