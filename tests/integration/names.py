#!/usr/bin/env python3
"""names.py CASE DIR SERVER: which names are looked up on the server, and what is believed of the others.

DIR is on the only mount there is, SERVER the same directory on the server itself.
"""
import json
import os
import random
import stat
import subprocess
import sys
import time


def calls(procedure):
    out = subprocess.run(["nfsvol", "status", "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)[0]["rpcs"].get(procedure, {"calls": 0})["calls"]


def touch(path):
    with open(path, "w"):
        pass


def wait_until_read():
    n = 0
    end = time.monotonic() + 5
    while n != (n := calls("READDIRPLUS")) or n == 0:
        assert n > 0 or time.monotonic() < end, "it was not read ahead"
        time.sleep(1.5)  # what was asked for is still being read
    return n


def read_ahead(d, server):
    """Names asked for in any order come with a few READDIRPLUS, and what is not true any more never."""
    random.seed(1)
    order = list(range(1, 2001))
    random.shuffle(order)

    def lookups_for(numbers):
        before = calls("LOOKUP")
        for n in numbers:
            assert os.stat(f"{d}/f{n}").st_ino == os.stat(f"{server}/f{n}").st_ino, n
        return calls("LOOKUP") - before

    first = lookups_for(order[:500])
    n = wait_until_read()
    then = lookups_for(order[500:1000])
    print(f"# {first} LOOKUPs for 500 names, then {then}; {n} READDIRPLUS")
    assert then < 200, then  # they hold for acdirmin: on a busy machine some are too old
    # what we change ourselves is known at once
    removed, renamed, written = (f"{d}/f{n}" for n in order[1997:])
    os.unlink(removed)
    os.rename(renamed, f"{d}/renamed")
    with open(written, "w") as f:
        f.write("x" * 100)
    assert not os.path.exists(removed) and not os.path.exists(renamed)
    assert os.stat(f"{d}/renamed").st_size == 0 and os.stat(written).st_size == 100
    touch(removed)
    touch(renamed)
    # what was read in vain is left alone for a while, longer each time, and for half a minute where a handle was stale
    began = time.monotonic()
    for at in range(1000, 1980, 20):
        if lookups_for(order[at:at + 20]) <= 2:
            break
        time.sleep(0.8)
    else:
        assert False, "it is not read ahead any more"
    print(f"read ahead again after {time.monotonic() - began:.1f} s")
    lookups_for(order[at + 20:])
    assert not os.path.exists(f"{d}/none")


def made_elsewhere(d, server):
    """What was read ahead says nothing of names that are not in it; and names that are not there are no reason to read."""
    assert not any(os.path.exists(f"{d}/none{i}") for i in range(50))
    assert calls("READDIRPLUS") == 0
    assert all(os.path.exists(f"{d}/f{i + 1}") for i in range(9))
    wait_until_read()
    assert os.path.exists(f"{d}/f20")
    for i in range(20):
        touch(f"{server}/new{i}")
        assert os.path.exists(f"{d}/new{i}"), i


def waited_for(d, server):
    """Asking again costs the server nothing, until the directory has changed, or for acdirmin (5 s)."""
    fd = os.open(d, os.O_RDONLY)  # so that the way to it is not looked up
    names = [f"late{i}" for i in range(100)]
    start = time.monotonic()

    def is_there(name):
        try:
            os.stat(name, dir_fd=fd)
            return True
        except FileNotFoundError:
            return False

    def lookups():
        before = calls("LOOKUP")
        assert not any(map(is_there, names))
        return calls("LOOKUP") - before

    assert lookups() == len(names)
    for _ in range(3):
        time.sleep(1.1)  # then the kernel asks
        if lookups() > 0:  # a slow machine
            assert time.monotonic() > start + 5
            start = time.monotonic()
    time.sleep(max(0.0, start + 5.5 - time.monotonic()))
    assert lookups() == len(names)
    for name in names:
        touch(f"{server}/{name}")
    assert set(names) <= set(os.listdir(d))
    time.sleep(1.1)
    assert all(map(is_there, names))
    # what is made here is there at once, and what else is not there still is not
    assert not is_there("mine") and not is_there("other")
    touch(f"{d}/mine")
    assert is_there("mine") and not is_there("other")
    os.rename(f"{d}/mine", f"{d}/other")
    assert not is_there("mine") and is_there("other")


def replaced(d, server):
    """A name is the file that replaced another at once, also if somebody on the server keeps that one open."""
    held = []
    for i in range(50):
        with open(f"{server}/new", "w") as f:
            f.write(f"{i}\n")
        os.rename(f"{server}/new", f"{server}/x")
        held.append(open(f"{server}/x"))
        for _ in range(2):
            with open(f"{d}/x") as f:
                got = f.read()
            assert got == f"{i}\n", (i, got)
    os.unlink(f"{server}/x")
    try:
        open(f"{d}/x").close()
        assert False, "opened by a name that is gone"
    except FileNotFoundError:
        pass


def links(d, server):
    """What was read ahead does not say how many names a file has, once another of them was removed."""
    os.mkdir(f"{server}/others")
    for i in range(10, 21):
        os.link(f"{server}/f{i}", f"{server}/others/f{i}")
    assert all(os.path.exists(f"{d}/f{i}") for i in range(1, 10))
    wait_until_read()
    for i in range(10, 21):
        os.unlink(f"{d}/others/f{i}")
        assert os.stat(f"{d}/f{i}").st_nlink == 1, i


def listed(d, server):
    """A listing that takes long does not bring back what names meant when it began."""
    names = [f"f{n}" for n in range(1, 401)]
    listing = os.scandir(d)
    next(listing)  # the server's answer holds all names, the kernel takes some of them
    os.mkdir(f"{server}/old")
    for name in names:
        os.rename(f"{server}/{name}", f"{server}/old/{name}")
        with open(f"{server}/{name}", "w") as f:
            f.write("new")
    time.sleep(2.5)  # actimeo=1
    assert set(os.listdir(d)) == {*names, "old"}

    def is_new(name):
        with open(f"{d}/{name}") as f:
            return f.read() == "new"

    assert all(map(is_new, names))
    rest = [entry.name for entry in listing if entry.name != "old"]
    assert len(rest) > 100, len(rest)
    old = [name for name in rest if not is_new(name)]
    assert not old, (len(old), old[:3])


def forgotten(d, server):
    """What was read ahead is not believed of a file that was changed here since, and forgotten by the kernel."""
    held = os.open(d, os.O_RDONLY)  # the directory is not
    assert all(os.path.exists(f"{d}/f{i}") for i in range(1, 10))
    wait_until_read()
    with open(f"{d}/f1", "w") as f:
        f.write("x" * 100)
    os.chmod(f"{d}/f2", 0o600)
    for _ in range(3):
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")
    time.sleep(0.2)
    assert os.stat(f"{d}/f1").st_size == 100
    assert os.stat(f"{d}/f2").st_mode & 0o777 == 0o600
    os.close(held)


def kinds(d, server):
    """open(2) with O_CREAT of a name that was not there, and that something else than a file has by now."""
    with open(f"{server}/target", "w") as f:
        f.write("hello")
    makers = (
        lambda path: os.symlink("target", path),
        lambda path: os.link(f"{server}/target", path),
        os.mkfifo,
        os.mkdir,
    )
    for i, make in enumerate(makers):
        assert not os.path.exists(f"{d}/k{i}")
        make(f"{server}/k{i}")
        try:
            fd = os.open(f"{d}/k{i}", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
            got = os.fstat(fd).st_mode
            os.close(fd)
        except IsADirectoryError:
            got = stat.S_IFDIR
        assert stat.S_IFMT(got) == (stat.S_IFREG, stat.S_IFREG, stat.S_IFIFO, stat.S_IFDIR)[i], (i, oct(got))
        assert (os.stat(f"{d}/k{i}").st_ino, i) == (os.stat(f"{server}/k{i}").st_ino, i)


def renamed(d, server):
    """rename(2) changes the file's ctime, here as there."""
    touch(f"{d}/a")
    os.stat(f"{d}/a")
    for old, new in ("ab", "bc"):
        time.sleep(0.05)
        os.rename(f"{d}/{old}", f"{d}/{new}")
        assert os.stat(f"{d}/{new}").st_ctime_ns == os.stat(f"{server}/{new}").st_ctime_ns


CASES = {
    f.__name__: f
    for f in (read_ahead, made_elsewhere, waited_for, replaced, links, listed, forgotten, kinds, renamed)
}
CASES[sys.argv[1]](*sys.argv[2:])
