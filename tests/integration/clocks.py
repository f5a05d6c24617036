"""Two clients of a server whose clock is another: clocks.py MOUNTPOINT OF-ANOTHER SERVER'S-DIR SECONDS-AHEAD. The first has
acregmin=30,acdirmin=30, the second actimeo=1.

Prints what the first asked the server, which is to be the same whatever the clocks say."""
import json, os, subprocess, sys, time

a, b, disk, ahead = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
N = 20


def calls():
    volumes = json.loads(subprocess.check_output(["nfsvol", "status", "--json"]))
    first, = [v for v in volumes if "acregmin=30" in v["options"]]
    return {proc: r["calls"] for proc, r in first["rpcs"].items()}


def asked(what, function, *args):
    before = calls()
    function(*args)
    after = calls()
    diff = {p: n - before.get(p, 0) for p, n in sorted(after.items()) if n != before.get(p, 0)}
    print(f"{what}:", *(f"{p} {n}" for p, n in diff.items()))
    return diff


def content(path):
    with open(path, "rb") as f:
        return f.read()


def rewrite(path, data):
    with open(path, "r+b") as f:  # its size stays
        f.write(data)


def make_exclusively():
    for i in range(N):
        fd = os.open(f"{a}/d/f{i}", os.O_CREAT | os.O_EXCL | os.O_RDWR)
        os.write(fd, b"%06d" % i)
        os.close(fd)
        try:
            os.close(os.open(f"{a}/d/f{i}", os.O_CREAT | os.O_EXCL | os.O_RDWR))
            sys.exit("made twice")
        except FileExistsError:
            pass
        st = os.stat(f"{a}/d/f{i}")
        for t in (st.st_atime, st.st_mtime, st.st_ctime):
            assert abs(t - time.time() - ahead) < 20, (t, time.time(), ahead)


def stat_all():
    for i in range(N):
        for _ in range(3):
            assert os.stat(f"{a}/d/f{i}").st_size == 6


def read_all(data):
    for i in range(N):
        assert content(f"{a}/d/f{i}") == data, (i, content(f"{a}/d/f{i}"), data)


def build():  # as make(1) sees it
    with open(a + "/d/Makefile", "w") as f:
        f.write("out: in\n\tcp in out\n")
    with open(a + "/d/in", "w") as f:
        f.write("one")

    def make():
        return subprocess.run(["make", "-C", a + "/d"], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout

    assert b"cp in out" in make()
    for _ in range(3):
        assert b"is up to date" in make()
    while os.stat(a + "/d/in").st_mtime_ns <= os.stat(a + "/d/out").st_mtime_ns:  # a tick later
        os.utime(a + "/d/in")
    assert b"cp in out" in make()
    assert b"is up to date" in make()


def times_go_on():
    last = 0
    for i in range(N):
        where = (a, b, disk)[i % 3]
        with open(f"{where}/d/log", "a") as f:
            f.write("x")
        with open(a + "/d/log") as f:
            st = os.fstat(f.fileno())
        assert st.st_mtime_ns >= last and st.st_size == i + 1, (i, where, st)
        last = st.st_mtime_ns
    os.utime(a + "/d/log", ns=(10**18 + 5, 10**18 + 7))
    for where in (a, b):
        with open(where + "/d/log") as f:
            assert os.fstat(f.fileno()).st_mtime_ns == 10**18 + 7
    rewrite(b + "/d/log", b"y")
    with open(a + "/d/log") as f:
        assert os.fstat(f.fileno()).st_mtime_ns >= last and f.read(2) == "yx"


os.mkdir(a + "/d")
asked("made", make_exclusively)
assert not asked("believed", stat_all).get("GETATTR")
for i in range(N):
    rewrite(f"{b}/d/f{i}", b"second")
assert asked("of another client", read_all, b"second")["READ"] >= N
assert "READ" not in asked("again", read_all, b"second")  # its pages are kept
for i in range(N):
    rewrite(f"{disk}/d/f{i}", b"third!")
assert asked("of the server itself", read_all, b"third!")["READ"] >= N
build()
times_go_on()
os.stat(b + "/d/f0")
os.truncate(disk + "/d/f0", 3)
end = time.monotonic() + 10
while os.stat(b + "/d/f0").st_size != 3:  # actimeo=1
    assert time.monotonic() < end
    time.sleep(0.05)
