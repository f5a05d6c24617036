#!/bin/bash
# What two nodes, and the server's disk, may see of each other: small random histories against a model of close-to-open
# consistency (histories.c), with the options that change what is promised; and the patterns that people rely on, one by
# one. NFSVOL_SOAK=1: minutes instead of seconds, and other seeds.
export G_EXPORTS=
EXPORT_EXT4=1
AT_REST=1
. "$(dirname "$0")/lib.bash"
: "${PROGRAMS:=$(dirname "$NFSVOL")/../../tests/integration}"

soak() { [ -n "${NFSVOL_SOAK:-}" ]; }
rounds=$(if soak; then echo 10; else echo 1; fi) # each fills a part of the export's inodes
seed() { if soak; then date +%s; else echo "${SEED:-1}"; fi; }
long=$(if soak; then echo 900; else echo 60; fi)

two_clients() { # OPTIONS: at $M/a and $M/b
    rm -rf "$T/server/export/"*
    mkdir "$T/server/export/h"
    mount_at "$M/a" "rsize=65536${1:+,$1}"
    mount_at "$M/b" "rsize=131072${1:+,$1}"
    wait_for 5 keepers_are 2
}

histories() { # MOUNT-OPTIONS HISTORIES-OPTIONS...
    local round
    for round in $(seq "$rounds"); do
        [ "$round" = 1 ] || { umount "$M/a" "$M/b"; wait_for 25 no_volumes; }
        two_clients "$1"
        "$PROGRAMS/histories" "$M/a/h" "$M/b/h" "$T/server/export/h" --seconds "$(if soak; then echo 5; else echo 0.8; fi)" \
            --seed "$(seed)" "${@:2}"
    done
}

limit_default=$long
case_default() { histories ""; }
limit_nconnect_4=$long
case_nconnect_4() { histories nconnect=4; }
limit_noac=$long
case_noac() { histories noac --data-s 0 --names-s 0 --sync; }
limit_actimeo_0=$long
case_actimeo_0() { histories actimeo=0 --data-s 0 --names-s 0; }
limit_actimeo_1=$long
case_actimeo_1() { histories actimeo=1 --data-s 1 --names-s 1 --jobs 24; }
limit_nocto=$long
case_nocto() { histories nocto --nocto; }
limit_lookupcache_none=$long
case_lookupcache_none() { histories lookupcache=none --names-s 0; }
limit_lookupcache_pos=$long
case_lookupcache_pos() { histories lookupcache=pos --positive; }

# What default mounts do not promise is found, made short, and said with its seed.
case_violations_are_found() {
    not histories "" --names-s 0 --data-s 0 2>err
    cat err
    grep -q '^histories: seed [0-9]*, step [0-9]*' err
    grep -A 3 'shorter, step' err | grep -q '^   *[0-9] [ABS] '
}

# One writes and closes, tells the other the name and the sum, who opens and reads: always the new bytes.
limit_closed_then_opened=$(if soak; then echo 300; else echo 120; fi)
case_closed_then_opened() {
    two_clients ""
    python3 - "$M/a" "$M/b" "$(if soak; then echo 40000; else echo 10000; fi)" <<'PY'
import os, random, socket, sys, time, zlib
nodes, rounds = sys.argv[1:3], int(sys.argv[3])
mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
me = 0 if os.fork() else 1
link, node, rng = (mine, theirs)[me], nodes[me], random.Random(me)
block = rng.randbytes(300 * 1024)
def write(i):
    name = f"{node}/f{i % 7}"
    try: old = os.stat(name).st_size
    except FileNotFoundError: old = 0
    size = rng.choice((1, 1, 10, 100, 1000, 4095, 4096, 4097, 20000, old or 1, old or 1) + ((300 * 1024,) if i % 40 == 0 else ()))
    data = (b"%08d" % i + block)[:size] if size > 8 else bytes([rng.randrange(256)]) * size
    way = rng.randrange(4)
    path = f"{node}/new{me}" if way == 0 else name
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if way == 1 or size != old else 0), 0o644)
    if way == 2 and size > 1: # in two pieces
        os.pwrite(fd, data[size // 2:], size // 2)
        os.pwrite(fd, data[:size // 2], 0)
    else:
        os.pwrite(fd, data, 0)
    os.close(fd)
    if way == 0: os.rename(path, name)
    return b"%d %d %d %d" % (i, size, zlib.crc32(data), way)
def read(told):
    i, size, crc, way = map(int, told.split())
    with open(f"{node}/f{i % 7}", "rb", buffering=0) as f:
        st = os.fstat(f.fileno()).st_size
        data = f.read(1 << 20)
    if st != size or len(data) != size or zlib.crc32(data) != crc:
        print(f"round {i}, written way {way} through {nodes[1 - me]}: {size} bytes, read {len(data)}, fstat said {st}, "
              f"begins {data[:10]}", flush=True)
        os._exit(1)
begun = time.time()
for i in range(rounds):
    if i % 2 == me: link.send(write(i))
    else:
        told = link.recv(100)
        if not told: os._exit(1)
        read(told)
if me: os._exit(0)
assert os.wait()[1] == 0
print(f"# {rounds} rounds in {time.time() - begun:.1f} s")
PY
}

# Who has a file open sees what another node appends, and what it writes over, when his attributes are old: all of it, in
# order, and nothing else; and when fstat(2) has said so, at once.
readers_that_stay() { # SECONDS-OF-CACHE ROUNDS
    python3 - "$M/a" "$M/b" "$1" "$2" <<'PY'
import mmap, os, sys, time
a, b, cache, rounds = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
late = cache + 1
log = os.open(a + "/log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
text = b"".join(b"line %06d\n" % i for i in range(rounds * 3))
at = 12 * 3
os.write(log, text[:at])
os.fsync(log)
tail, got = os.open(b + "/log", os.O_RDONLY), b""
for i in range(1, rounds):
    end = at + 12 * 3
    os.write(log, text[at:end - 5])
    if i % 2: os.fsync(log)
    os.write(log, text[end - 5:end])
    os.fsync(log)
    at = end
    until = time.time() + (late + 3 if i % 20 == 0 or cache == 0 else 0)
    while True:
        got += os.pread(tail, 1 << 16, len(got))
        assert got == text[:len(got)], (i, got[-60:], "instead of", text[:len(got)][-60:])
        if len(got) == at or time.time() >= until: break
    if until > 1: assert len(got) == at or i % 20 and cache, (i, len(got), at)
os.close(log)
time.sleep(late)
got += os.pread(tail, 1 << 16, len(got))
assert got == text[:at], (len(got), at)
# in place, the same size, and longer
cfg = os.open(a + "/cfg", os.O_CREAT | os.O_RDWR)
os.pwrite(cfg, b"0" * 10, 0)
os.fsync(cfg)
reader = os.open(b + "/cfg", os.O_RDONLY)
page = mmap.mmap(reader, 10, prot=mmap.PROT_READ)
assert page[:] == b"0" * 10 and os.pread(reader, 100, 0) == b"0" * 10
for i in range(1, 4):
    os.pwrite(cfg, b"%d" % i * 10, 0)
    os.fsync(cfg)
    until = time.time() + late + 3
    while (now := os.pread(reader, 100, 0)) != b"%d" % i * 10:
        assert time.time() < until and now == b"%d" % (i - 1) * 10, (i, now)
    assert page[:] == now
# what fstat(2) has shown is read
size, n, end = 10, 0, time.time() + 4
while n < rounds and time.time() < end:
    n += 1
    size += n % 3
    want = (b"%010d" % n + b"x" * size)[:size]
    os.pwrite(cfg, want, 0)
    os.fsync(cfg)
    new = os.stat(a + "/cfg").st_mtime_ns
    until = time.time() + late + 3  # a machine may pause
    while (st := os.fstat(reader)).st_mtime_ns != new: assert time.time() < until, n
    now = os.pread(reader, 1 << 16, 0)
    assert st.st_size == size and now == want, (n, size, now[:60], want[:60])
print("# all seen, the last", n, "changes at once after fstat(2)")
PY
}

# What a client appends to a file that another has made longer, or shorter, it finds there at once.
case_appended_behind_another() {
    local options
    for options in "" nocto; do
        two_clients "$options"
        python3 - "$M/a" "$T/server/export" <<'PY'
import itertools, os, sys
node, server = sys.argv[1:]
def write(fd, data):
    os.write(fd, data)
    os.close(fd)
for i, (old, other, own) in enumerate(itertools.product((0, 1, 10, 5000), (10, 4096, 5000), (1, 100, 5000))):
    path = f"{node}/{i}"
    write(os.open(path, os.O_WRONLY | os.O_CREAT), b"a" * old)
    reader = os.open(path, os.O_RDONLY)
    write(os.open(f"{server}/{i}", os.O_WRONLY | os.O_TRUNC), b"s" * other)
    write(os.open(path, os.O_WRONLY | os.O_APPEND), b"x" * own)
    got = os.pread(reader, 15000, 0)
    assert got == b"s" * other + b"x" * own, (old, other, own, len(got))
    with open(f"{server}/{i}", "ab") as f: f.write(b"s" * other)
    both = os.open(path, os.O_RDWR | os.O_APPEND)
    os.write(both, b"y" * own)
    got = os.pread(both, 25000, other + own + other)
    assert got == b"y" * own, (old, other, own, len(got))
    os.close(both)
    os.close(reader)
PY
        umount "$M/a" "$M/b"
        wait_for 25 no_volumes
    done
}

limit_readers_that_stay=$long
case_readers_that_stay() {
    two_clients actimeo=1
    readers_that_stay 1 60
}
case_readers_that_stay_noac() {
    two_clients noac
    readers_that_stay 0 200
}

# What another one has cut off is not read as zeros by who has the file open and thinks that it is longer.
case_cut_by_another() {
    two_clients ""
    python3 - "$M/a" "$T/server/export" <<'PY'
import fcntl, os, sys
a, server = sys.argv[1:]
for i in range(60):
    f = os.open(f"{a}/cut{i}", os.O_CREAT | os.O_RDWR)
    g = os.open(f"{a}/cut{i}", os.O_RDWR)
    fcntl.lockf(g, fcntl.LOCK_EX)
    assert os.pread(g, 40000, 0) == b""
    os.pwrite(g, b"x" * 10, 4096)
    fcntl.lockf(g, fcntl.LOCK_UN)
    os.close(g)
    os.truncate(f"{server}/cut{i}", 4096)
    assert (got := os.pread(f, 4096, 4096)) == b"", (i, got)
    os.close(f)
PY
}

run_cases "$@"
