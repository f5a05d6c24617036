"""The rows: what is done in each column's directory.

A workload's `run(column, round)` gives (operations, seconds, bytes, CPU µs per operation or None). `prepare` and
`clean` are not measured. `cold`: the kernel's caches (and with them what FUSE daemons remember) are emptied before.
"""
import os
import random
import subprocess
import time

from columns import Nfsvol

MIB = 1 << 20
GIVEN_BACK_S = 15


class Sizes:
    """How much: [everybody else, slow columns], whole or quick."""

    def __init__(self, quick):
        self.stream_write = [256 * MIB, 128 * MIB] if quick else [1024 * MIB, 256 * MIB]
        self.stream_read = [256 * MIB, 128 * MIB] if quick else [1024 * MIB, 256 * MIB]
        self.randread_1 = [2000, 1000] if quick else [6000, 3000]
        self.randread_10 = [20000, 6000]
        self.randread_10000 = [200000, 20000]
        self.randread_16 = [8000, 2000] if quick else [24000, 6000]
        self.randwrite = [4000, 2000] if quick else [20000, 4000]
        self.files_1 = [600, 200] if quick else [2000, 400]
        self.files_8 = [1600, 400] if quick else [4800, 800]
        self.files_64 = [12800, 1600]


class Workload:
    cold = False
    unit = "/s"     # or MB/s, or s: how long all of it takes
    slow_once = False  # slow columns run it in the first round only

    def __init__(self, box, name):
        self.box, self.name = box, name

    def size(self, column, which):
        return getattr(self.box.sizes, which)[column.slow]

    def prepare(self, column, round_):
        pass

    def clean(self, column, round_):
        pass

    def has(self, column):
        return True

    def load(self, *args):
        out = self.box.output([f"{self.box.tools}/load", *map(str, args)])
        n, seconds, size = out.split()
        return int(n), float(seconds), int(size), None

    def raw(self, *args):
        """'what: N ops/s, N MB/s, N us CPU per op' → as load()."""
        out = self.box.output([f"{self.box.tools}/rawnfs", "127.0.0.1", str(self.box.nfs_port), str(self.box.port + 1), "/export",
                               *map(str, args)])
        rate, mbs, cpu = (float(part.split()[0]) for part in out.split(": ")[1].split(", "))
        return rate, 1.0, int(mbs * 1e6), cpu


# ---- one large file ----

class StreamWrite(Workload):
    unit = "MB/s"

    def run(self, column, round_):
        total = self.size(column, "stream_write")
        if column.dir is None:
            return self.raw("write", f"{column.name}/stream", total, MIB, self.box.stream_depth)
        return self.load("write", f"{column.dir}/{column.name}/stream", total, MIB)

    def clean(self, column, round_):
        os.unlink(f"{column.dir or self.box.export}/{column.name}/stream")


class StreamRead(Workload):
    unit = "MB/s"
    cold = True

    def run(self, column, round_):
        name = f"shared/big{self.size(column, 'stream_read') // MIB}"
        if column.dir is None:
            return self.raw("read", name, MIB, self.box.stream_depth)
        return self.load("read", f"{column.dir}/{name}", MIB)


class RandRead(Workload):
    verb = "randread"

    def __init__(self, box, name, depth):
        super().__init__(box, name)
        self.depth = depth

    def run(self, column, round_):
        n = self.size(column, f"randread_{self.depth}")
        if column.dir is None:
            return self.raw("randread", "shared/random", 4096, self.depth, n)
        return self.load(self.verb, f"{column.dir}/shared/random", 4096, n, self.depth)


class BufferedRandRead(RandRead):
    """Through the page cache, which is empty at first and has room for all of it."""
    verb = "bufread"
    cold = True


class RandReadBesideWriter(RandRead):
    """Is a small request served while somebody streams?"""

    def has(self, column):
        return column.dir is not None

    def run(self, column, round_):
        stream = f"{column.dir}/{column.name}/beside"
        with subprocess.Popen([f"{self.box.tools}/load", "write", stream, str(64 << 30), str(MIB)]) as writer:
            time.sleep(0.5)
            result = super().run(column, round_)
            writer.kill()
        os.unlink(stream)
        return result


class RandWrite(Workload):
    def __init__(self, box, name, verb, depth, size):
        super().__init__(box, name)
        self.verb, self.depth, self.which = verb, depth, size

    def run(self, column, round_):
        n = self.size(column, self.which)
        if column.dir is None: # buffered: as many at a time as a write-behind has
            return self.raw("randwrite", f"{column.name}/random", 4096, self.depth if self.verb == "randwrite" else 8, n)
        return self.load(self.verb, f"{column.dir}/{column.name}/random", 4096, n, self.depth)


class Getattr(Workload):
    def run(self, column, round_):
        n = self.size(column, "randread_1")
        if column.dir is None:
            return self.raw("getattr", n, 1)
        return self.load("getattr", f"{column.dir}/shared/random", n)


# ---- small files ----

class Files(Workload):
    """create, stat, readfile, unlink: of the same files, in this order; what is not there is made first."""
    there = set()

    def __init__(self, box, name, verb, raw_verb, procs):
        super().__init__(box, name)
        self.verb, self.raw_verb, self.procs = verb, raw_verb, procs
        self.cold = verb in ("stat", "readfile")

    def do(self, column, verb, raw_verb):
        n = self.size(column, f"files_{self.procs}")
        if column.dir is None:
            return self.raw(raw_verb, f"{column.name}/files{self.procs}", n, self.procs)
        return self.load(verb, f"{column.dir}/{column.name}/files{self.procs}", n, self.procs)

    def prepare(self, column, round_):
        key = (column.name, self.procs)
        if self.verb == "create" and key in self.there:
            self.do(column, "unlink", "remove")
            self.there.discard(key)
        elif self.verb != "create" and key not in self.there:
            self.do(column, "create", "create")
            self.there.add(key)
        if self.verb == "unlink":  # of names that the kernel knows
            self.do(column, "stat", "lookup")

    def run(self, column, round_):
        key = (column.name, self.procs)
        result = self.do(column, self.verb, self.raw_verb)
        if self.verb == "create":
            self.there.add(key)
        elif self.verb == "unlink":
            self.there.discard(key)
        return result


# ---- programs ----

class Program(Workload):
    """A command in a fresh directory; n: of how many files the figures per operation are."""
    unit = "s"

    def __init__(self, box, name, n, command, cold=False, slow_once=False, raw=None):
        super().__init__(box, name)
        self.n, self.command, self.cold, self.slow_once, self.raw_args = n, command, cold, slow_once, raw

    def has(self, column):
        return column.dir is not None or self.raw_args is not None

    def place(self, column, round_):
        return f"{column.dir}/{column.name}/{self.name.split()[0]}{round_}"

    def prepare(self, column, round_):
        if column.dir is not None:
            os.mkdir(self.place(column, round_))

    def run(self, column, round_):
        if column.dir is None:
            rate, _, _, cpu = self.raw(*self.raw_args)
            return self.n, self.n / rate, 0, cpu
        command = [word.format(dir=column.dir, place=self.place(column, round_), top=self.box.top)
                   for word in self.command]
        start = time.monotonic()
        self.box.output(command)
        return self.n, time.monotonic() - start, 0, None


class Walk(Program):
    """Of more files than anything else here; what does it cost in memory, and for how long?"""

    def run(self, column, round_):
        if not isinstance(column, Nfsvol):
            return super().run(column, round_)
        before = column.memory()
        result = super().run(column, round_)
        column.settle()
        known, held = column.status()["counters"]["inodes"], column.memory()
        self.box.drop_caches()
        column.settle()
        time.sleep(GIVEN_BACK_S)
        left, after = column.status()["counters"]["inodes"], column.memory()
        self.box.notes.append(f"{self.name}, {column.name}: {before >> 20} MiB before; {known} inodes, {held >> 20} MiB: "
                              f"{(held - before) / known:.0f} bytes each; forgotten, {GIVEN_BACK_S} s later: {left} inodes, "
                              f"{after >> 20} MiB")
        return result


# ---- what they work on ----

def write_files(directory, count, sizes, per_dir=None):
    pattern = random.Random(1)
    data = pattern.randbytes(64 * 1024)
    for i in range(count):
        where = f"{directory}/dir{i // per_dir:03}" if per_dir else directory
        os.makedirs(where, exist_ok=True)
        start = pattern.randrange(32 * 1024)
        with open(f"{where}/file{i:05}", "wb") as f:
            f.write(data[start:start + pattern.choice(sizes)])


def write_large(path, size):
    data = random.Random(2).randbytes(MIB)
    with open(path, "wb") as f:
        for _ in range(size // MIB):
            f.write(data)


def make_empty_files(directory, count, per_dir):
    for i in range(count):
        if i % per_dir == 0:
            where = f"{directory}/dir{i // per_dir:04}"
            os.makedirs(where)
        os.mknod(f"{where}/file{i % per_dir:04}")


def make_content(box, columns):
    """Straight into the server's file system, before anything is mounted."""
    shared, sizes = f"{box.export}/shared", box.sizes
    os.makedirs(shared)
    for size in set(sizes.stream_read):
        write_large(f"{shared}/big{size // MIB}", size)
    write_large(f"{shared}/random", 256 * MIB)
    write_files(f"{shared}/list", box.n_list, [100])
    write_files(f"{shared}/tree", box.n_tree, [100], per_dir=100)
    for column in columns:
        for procs in 1, 8, 64:
            for p in range(procs):
                os.makedirs(f"{box.export}/{column.name}/files{procs}/d{p}")
        write_large(f"{box.export}/{column.name}/random", 64 * MIB)
    if box.scale:
        make_empty_files(f"{shared}/walk", box.n_walk, 1000)
    tree = f"{box.top}/tar"
    write_files(tree, box.n_tar, list(range(1024, 20 * 1024)), per_dir=100)
    subprocess.run(["tar", "cf", f"{box.top}/files.tar", "-C", tree, "."], check=True)
    repo = f"{box.top}/repo"
    write_files(repo, box.n_git, list(range(200, 8 * 1024)), per_dir=50)
    for args in ["init", "-q"], ["add", "."], ["commit", "-qm", "all"], ["gc", "-q"]:
        subprocess.run(["git", "-C", repo, *args], check=True, stdout=subprocess.DEVNULL)


def all_workloads(box):
    rows = [
        StreamWrite(box, "streaming write, fsync"),
        StreamRead(box, "streaming read, cold"),
        RandRead(box, "random 4K read, depth 1", 1),
        RandRead(box, "random 4K read, depth 16", 16),
        BufferedRandRead(box, "random 4K read, buffered, depth 1", 1),
        BufferedRandRead(box, "random 4K read, buffered, depth 16", 16),
        RandWrite(box, "random 4K write, depth 1", "randwrite", 1, "randread_1"),
        RandWrite(box, "random 4K write, depth 16", "randwrite", 16, "randread_16"),
        RandWrite(box, "random 4K write, buffered", "bufwrite", 1, "randwrite"),
        RandWrite(box, "random 4K write, buffered, depth 16", "bufwrite", 16, "randwrite"),
    ]
    for procs in 1, 8:
        for name, verb, raw in (("create+write+close", "create", "create"), ("stat, cold", "stat", "lookup"),
                                ("open+read+close, cold", "readfile", "readfile"),
                                ("unlink, warm", "unlink", "remove")):
            rows.append(Files(box, f"{name}, {procs} proc", verb, raw, procs))
    rows += [
        Program(box, f"ls -l of {box.n_list}, cold", box.n_list, ["ls", "-l", "{dir}/shared/list"], cold=True,
                raw=["readdirplus", "shared/list"]),
        Program(box, f"find -size, {box.n_tree}, cold", box.n_tree, ["find", "{dir}/shared/tree", "-size", "+9"],
                cold=True),
        Program(box, f"tar x of {box.n_tar}", box.n_tar, ["tar", "xf", "{top}/files.tar", "-C", "{place}"],
                slow_once=True),
        Program(box, f"git clone, {box.n_git} files", box.n_git,
                ["git", "clone", "-q", "file://{top}/repo", "{place}/clone"], slow_once=True),
    ]
    return rows


def uncached_workloads(box):
    """--uncached: one FUSE request, one RPC, each of a kind that the caches of the other rows answer."""
    return [
        Getattr(box, "GETATTR, depth 1"),
        Files(box, "LOOKUP, depth 1", "lookup", "lookup", 1),
    ]


def scale_workloads(box):
    """--scale: what a busy node does. 16 connections."""
    return [
        RandRead(box, "random 4K read, 10 in flight", 10),
        RandRead(box, "random 4K read, 10000 in flight", 10000),
        RandReadBesideWriter(box, "random 4K read, depth 1, beside a writer", 1),
        Files(box, "create+write+close, 64 proc", "create", "create", 64),
        Files(box, "stat, cold, 64 proc", "stat", "lookup", 64),
        Walk(box, f"find -size, {box.n_walk}, cold", box.n_walk, ["find", "{dir}/shared/walk", "-size", "+9"], cold=True),
    ]
