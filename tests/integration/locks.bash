#!/bin/bash
# Locks over the network: two clients of one export exclude each other by fcntl(2), open file descriptions and flock(2);
# waiting, signals, death of a process. NFSVOL_SOAK=1: more rounds.
. "$(dirname "$0")/twoclients.bash"

case_kinds_in_force() {
    local options want
    while IFS='|' read -r options want; do
        mount_at "$M" "$options"
        [ "$(status_of locks)" = "$want" ] || fail "$options: $(status_of locks)"
        "$PROGRAMS/posix" "$M" flock ofd_lock fcntl_lock_ranges >"$T/posix.tap" || { cat "$T/posix.tap"; return 1; }
        echo "$options: $(status_of rpcs | tr -d '\n')"
        case $want in
            local*) if status_of rpcs | grep NLM_; then fail "$options: over the network"; fi ;;
            *) status_of rpcs | grep NLM_LOCK ;;
        esac
        umount "$M"
        wait_for 10 no_volumes
    done <<END
|network
lock|network
local_lock=none|network
nolock|local
local_lock=all|local
local_lock=flock|fcntl: network, flock: local
local_lock=posix|fcntl: local, flock: network
nlmport=1|local: the server has no lock manager
nlmport=1,nolock|local
END
}

# It may have one: that is said, and not that it has none.
case_silent_lock_manager() {
    python3 -c 'import socket, time
s = socket.create_server(("127.0.0.1", 1011))
time.sleep(60)' & listener=$!
    trap 'kill $listener' EXIT
    wait_for 5 eval 'ss -ltn | grep -q :1011'
    mount_at "$M" nlmport=1011
    [ "$(status_of locks)" = "local: the server's lock manager did not answer" ]
    wait_for 5 logged "nothing answered where the server's lock manager should be (NLM): locks are local to this node"
}

case_no_lock_manager() {
    local rc=0
    mount_at "$M" lock,nlmport=1 2>err || rc=$?
    [ $rc = 32 ]
    grep -q 'no lock manager (NLM version 4) at 127.0.0.1: no answer at port 1 (Connection refused)' err
    grep -q nolock err
    no_volumes
    # nor by its portmapper, as there is none
    rc=0
    mount -t fuse.nfs -o "port=$PORT,mountport=$((PORT + 1)),linger=0,lock" "$SRC" "$M" 2>err || rc=$?
    [ $rc = 32 ]
    grep -q 'its portmapper cannot be asked (Connection refused)' err
    mount -t fuse.nfs -o "port=$PORT,mountport=$((PORT + 1)),linger=0,lock,local_lock=all" "$SRC" "$M"
    [ "$(status_of locks)" = local ]
}

case_two_clients_exclude_each_other() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
(a, fa), (b, fb) = opened(m + "/a/f") + opened(m + "/b/f")
for take in ("lock", "ofd"):
    equal(a.do(take, fa), None)
    equal(b.do("lock", fb), "EAGAIN", take)
    equal(b.do("ofd", fb), "EAGAIN", take)
    equal(b.do("flock", fb, fcntl.LOCK_EX | fcntl.LOCK_NB), "EAGAIN", take)
    equal(b.do("flock", fb, fcntl.LOCK_SH | fcntl.LOCK_NB), "EAGAIN", take)
    equal(a.do(take, fa, READ), None)
    equal(b.do("ofd", fb, READ), None)
    equal(a.do(take, fa, WRITE), "EAGAIN")
    equal(b.do("ofd", fb, UNLOCK), None)
    equal(a.do(take, fa, WRITE), None)
    equal(a.do(take, fa, UNLOCK), None)
    equal(b.do("lock", fb), None)
    equal(a.do(take, fa), "EAGAIN")
    equal(b.do("lock", fb, UNLOCK), None)
equal(a.do("flock", fa, fcntl.LOCK_SH), None)
equal(b.do("flock", fb, fcntl.LOCK_SH | fcntl.LOCK_NB), None)
equal(b.do("flock", fb, fcntl.LOCK_EX | fcntl.LOCK_NB), "EAGAIN")
equal(a.do("flock", fa, fcntl.LOCK_UN), None)
equal(b.do("flock", fb, fcntl.LOCK_EX | fcntl.LOCK_NB), None)
equal(a.do("flock", fa, fcntl.LOCK_SH | fcntl.LOCK_NB), "EAGAIN")
# what the close of a descriptor takes with it: its open file description's, nobody else's
equal(b.do("close", fb), None)
eventually(5, lambda: a.do("flock", fa, fcntl.LOCK_SH | fcntl.LOCK_NB) is None)
equal(a.do("flock", fa, fcntl.LOCK_UN), None)
fb, other = b.do("open", m + "/b/f"), b.do("open", m + "/b/f")
equal(b.do("ofd", fb, WRITE, 0, 10), None)
equal(b.do("lock", fb, WRITE, 20, 10), None)
equal(b.do("close", other), None)  # POSIX: all of the process' own
equal(a.do("lock", fa, WRITE, 20, 10), None)
equal(a.do("lock", fa, WRITE, 0, 10), "EAGAIN")
equal(b.do("close", fb), None)
eventually(5, lambda: a.do("lock", fa, WRITE, 0, 10) is None)
PY
    healthy
}

case_ranges_between_clients() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
(a, fa), (c, fc), (b, fb) = opened(m + "/a/f", 2) + opened(m + "/b/f")
equal(a.do("lock", fa, WRITE, 10, 10), None)
equal(a.do("lock", fa, READ, 100, 10), None)
equal(a.do("lock", fa, UNLOCK, 14, 2), None)  # splits it
for p, f in ((b, fb), (c, fc)):
    equal(p.do("lock", f, WRITE, 14, 2), None)
    for start in (13, 16, 19):
        equal(p.do("lock", f, WRITE, start, 1), "EAGAIN", start)
    equal(p.do("lock", f, READ, 100, 10), None)
    equal(p.do("lock", f, WRITE, 105, 1), "EAGAIN")
    equal(p.do("lock", f, UNLOCK), None)
# who: of this node by its process, of another one as 0, which is all that FUSE can tell
equal(c.do("test", fc, WRITE, 0, 12), (WRITE, 10, 4, a.pid))
equal(b.do("test", fb, WRITE, 0, 12), (WRITE, 10, 4, 0))
equal(b.do("test", fb, WRITE, 100, 1), (READ, 100, 10, 0))
equal(b.do("test", fb, READ, 100, 1)[0], UNLOCK)
equal(b.do("test", fb, WRITE, 14, 2)[0], UNLOCK)
equal(a.do("lock", fa, WRITE, 14, 2), None)  # one again
equal(b.do("test", fb, WRITE, 0, 12), (WRITE, 10, 10, 0))
equal(a.do("lock", fa, WRITE, 110, 0), None)
equal(b.do("test", fb, WRITE, 1 << 40, 1), (WRITE, 110, 0, 0))
equal(a.do("lock", fa, WRITE, (1 << 63) - 2, 1), None)
PY
    healthy
}

case_waiters_are_handed_the_lock() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
(a, fa), (c, fc), (b, fb) = opened(m + "/a/f", 2) + opened(m + "/b/f")
for take, wait, give in (("lock", "wait_lock", ("lock", UNLOCK)), ("ofd", "wait_ofd", ("ofd", UNLOCK)),
                         ("flock", "flock", ("flock", fcntl.LOCK_UN))):
    how = (fcntl.LOCK_EX,) if take == "flock" else ()
    for (p, fp), (q, fq), bound in (((a, fa), (b, fb), 4), ((b, fb), (a, fa), 4), ((a, fa), (c, fc), 3)):
        equal(p.do(take, fp, *how), None)
        q.start(wait, fq, *how)
        assert q.waiting(0.5), (take, "did not wait")
        equal(p.do("pwrite", fp, take.encode(), 0), len(take))
        equal(p.do(give[0], fp, give[1]), None)
        began = time.monotonic()
        equal(q.result(10), None)
        assert time.monotonic() - began < bound, (take, time.monotonic() - began)
        equal(q.do("pread", fq, 10, 0)[:len(take)], take.encode())  # what was written under the lock
        equal(q.do(give[0], fq, give[1]), None)
PY
    healthy
}

case_killed_waiter() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
(a, fa), (b, fb), (c, fc) = opened(m + "/a/f") + opened(m + "/b/f", 2)
equal(a.do("lock", fa), None)
for p, f in ((b, fb), (c, fc)):
    p.start("wait_lock", f)
    assert p.waiting(0.3)
b.kill()
b.reap()
assert c.waiting(0.3)
equal(a.do("lock", fa, UNLOCK), None)
equal(c.result(10), None)
equal(a.do("lock", fa), "EAGAIN")
# a waiter behind a holder of its own node
d, fd = opened(m + "/b/f")[0]
d.start("wait_lock", fd)
assert d.waiting(0.3)
d.kill()
d.reap()
equal(c.do("lock", fc, UNLOCK), None)
equal(a.do("lock", fa), None)
PY
    healthy
}

case_interrupted_waiter() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
(a, fa), (b, fb), (c, fc) = opened(m + "/a/f") + opened(m + "/b/f", 2)
equal(a.do("lock", fa), None)
for wait, args in (("wait_lock", ()), ("wait_ofd", ()), ("flock", (fcntl.LOCK_EX,))):
    equal(b.do("handle", signal.SIGUSR1), None)
    b.start(wait, fb, *args)
    assert b.waiting(0.3)
    b.kill(signal.SIGUSR1)
    equal(b.result(5), "EINTR", wait)
    # a handler with SA_RESTART: it goes on waiting, and gets the lock
    equal(b.do("handle", signal.SIGUSR1, True), None)
    b.start(wait, fb, *args)
    for _ in range(3):
        assert b.waiting(0.2)
        b.kill(signal.SIGUSR1)
    assert b.waiting(0.3)
    equal(a.do("lock", fa, UNLOCK), None)
    equal(b.result(10), None)
    equal(a.do("lock", fa), "EAGAIN")
    equal(b.do("flock", fb, fcntl.LOCK_UN) if wait == "flock" else b.do(wait[5:], fb, UNLOCK), None)
    equal(a.do("lock", fa), None)
PY
    healthy
}

# Within a node, as the kernel does it for local files.
case_deadlock() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
(a, fa), (b, fb), (c, fc) = opened(m + "/a/f", 3)
for i, (p, f) in enumerate(((a, fa), (b, fb), (c, fc))):
    equal(p.do("lock", f, WRITE, i, 1), None)
a.start("wait_lock", fa, WRITE, 1, 1)
b.start("wait_lock", fb, WRITE, 2, 1)
assert a.waiting(0.3) and b.waiting(0.1)
equal(c.do("wait_lock", fc, WRITE, 0, 1), "EDEADLK")
equal(c.do("lock", fc, UNLOCK, 2, 1), None)
equal(b.result(5), None)
equal(b.do("lock", fb, UNLOCK), None)
equal(a.result(5), None)
PY
    healthy
}

case_killed_holder() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
for take, args in (("lock", ()), ("ofd", ()), ("flock", (fcntl.LOCK_EX,))):
    (a, fa), (b, fb), (c, fc) = opened(m + "/a/f") + opened(m + "/b/f") + opened(m + "/a/f")
    equal(a.do(take, fa, *args), None)
    for holder, (next_, f) in ((a, (b, fb)), (b, (c, fc))):  # for another node; and for this one
        equal(next_.do("lock", f), "EAGAIN")
        holder.kill()
        began = time.monotonic()
        eventually(10, lambda: next_.do("lock", f) is None)
        took = time.monotonic() - began
        print(f"# {take}: free {1000 * took:.0f} ms after its holder was killed")
        assert took < 4, took  # as a rule tens of milliseconds; a machine may pause
        holder.reap()
    c.kill()
    c.reap()
PY
    healthy
}

# A machine that dies holds its locks until it is up again, and mounts: then its servers are told. Not before, and not of those that
# others hold.
as_if_rebooted() { # all that is noted is another boot's
    sed -i 's/^[0-9a-f-]*/00000000-0000-4000-8000-000000000000/' "$NFSVOL_STATEDIR/locks"
    rm -f "$NFSVOL_RUNDIR/.nlm"
}
marks_are() { [ "$(wc -l <"$NFSVOL_STATEDIR/locks")" = "$1" ]; }
case_machine_dies() {
    local pid net
    two_clients
    net=$(readlink "/proc/$(nfsvol status --json "$M/a" | python3 -c 'import json, sys; print(json.load(sys.stdin)["worker_pid"])')/ns/net")
    marks_are 2
    python3 - "$M" <<'PY' & holder=$!
import fcntl, sys, time
m = sys.argv[1]
held = [open(m + "/a/f", "w"), open(m + "/b/g", "w")]
for f in held:
    fcntl.lockf(f, fcntl.LOCK_EX)
open(m + "/b/held", "w").close()
time.sleep(600)
PY
    wait_for 10 test -e "$M/b/held"
    pids=()
    for pid in $(daemon_pids); do [ "$(readlink "/proc/$pid/ns/net")" != "$net" ] || pids+=("$pid"); done
    [ ${#pids[@]} -ge 3 ]
    kill -STOP "${pids[@]}"
    kill -KILL "${pids[@]}"
    wait_for 10 not kill -0 "${pids[0]}"
    umount -l "$M/a"
    not flock -n "$M/b/f" true

    # still up: others may hold locks there, also if the server has something of a former life
    sed -n '/ 10.97.0.1 /{s/^[0-9a-f-]*/00000000-0000-4000-8000-000000000000/;p}' "$NFSVOL_STATEDIR/locks" >former
    cat former >>"$NFSVOL_STATEDIR/locks"
    mount_on a "$M/c" rsize=65536
    not flock -n "$M/b/f" true
    marks_are 4
    umount "$M/c"
    wait_for 10 marks_are 3

    as_if_rebooted
    mount_on a "$M/a" rsize=65536
    wait_for 5 logged '10.97.0.1 has been told that this machine (.*) is up again: it frees what it had locked for it before'
    wait_for 5 logged '10.98.0.1 cannot be told that this machine (.*) is up again (it is not reached)' # from this node no way leads there
    flock -n "$M/b/f" true
    not flock -n "$M/a/g" true
    marks_are 2
    kill -KILL "$holder"
    umount "$M/a"
    wait_for 10 marks_are 1
}

# Not where others have NFS mounted whose locks are not noted here: their servers would free those, too.
case_others_would_lose_theirs() {
    : >"$LOG"
    NFSVOL_RUNDIR=$T/other NFSVOL_STATEDIR=$T/others mount_at "$M/b" rsize=65536
    mount_at "$M/a"
    as_if_rebooted
    mount_at "$M/c" rsize=131072
    wait_for 5 logged 'are not told: .* volumes of another run directory, are in use'
    not logged 'is up again'
    umount "$M/c" "$M/a" "$M/b"
}

# Where nothing can be noted, a volume is mounted all the same, and it is said what that means.
case_nothing_can_be_noted() {
    mkdir -p "$NFSVOL_STATEDIR"
    mount -t tmpfs -o size=4k,nr_inodes=1,mode=755 tmpfs "$NFSVOL_STATEDIR"
    trap 'umount "$NFSVOL_STATEDIR"' EXIT
    mount_at "$M"
    wait_for 5 logged "cannot note in $NFSVOL_STATEDIR that the server may hold locks for this machine (No space left on device): if it dies, they stay"
    flock -n "$M/f" true
    rm "$M/f"
    umount "$M"
}

# What a process wrote under a lock is on the server before anybody else gets that, also if it was killed; and never after.
limit_killed_writer=60
case_killed_writer() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
n, size = 2000, 4096
for take in ("lockf", "flock"):
    path = m + "/%s/written"
    open(path % "a", "w").close()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(path % "a", os.O_RDWR)
        getattr(fcntl, take)(fd, fcntl.LOCK_EX)
        for i in range(n):
            os.pwrite(fd, b"A" * size, i * 2 * size)
        os.write(writer, b"x")
        time.sleep(100)
    os.read(reader, 1)
    fd = os.open(path % "b", os.O_RDWR)
    os.kill(pid, signal.SIGKILL)
    getattr(fcntl, take)(fd, fcntl.LOCK_EX)
    equal(os.pread(fd, n * 2 * size, 0).count(b"A"), n * size)
    os.pwrite(fd, b"B" * (n * 2 * size), 0)
    os.close(fd)
    os.waitpid(pid, 0)
    time.sleep(0.5)
    with open(path % "b", "rb") as f:
        equal(f.read().count(b"A"), 0)
    os.unlink(path % "a")
PY
    healthy
}

# What was stored through a shared mapping is there for who takes the lock next, on another node; and for who shares it when
# it is downgraded.
limit_mapped=60
case_mapped() {
    two_clients
    python "$M" "$T/server/export" <<'PY'
import mmap
from locks import *
m, disk = sys.argv[1:]
n, size = 300, 5 * mmap.PAGESIZE
for take in ("lockf", "flock"):
    path = m + f"/%s/counted_{take}"
    with open(path % "a", "wb") as f:
        f.truncate(size)
    children = []
    turns = {"a": os.pipe(), "b": os.pipe()}
    for node, other in ("ab", "ba"):
        pid = os.fork()
        if pid == 0:
            fd = os.open(path % node, os.O_RDWR)
            with mmap.mmap(fd, size) as counters:
                for i in range(n):
                    if i > 0 or node == "b":
                        os.read(turns[node][0], 1)
                    getattr(fcntl, take)(fd, fcntl.LOCK_EX)
                    for at in range(0, size, mmap.PAGESIZE):
                        value = int.from_bytes(counters[at:at + 8], "little") + 1
                        counters[at:at + 8] = value.to_bytes(8, "little")
                    getattr(fcntl, take)(fd, fcntl.LOCK_UN)
                    os.write(turns[other][1], b"x")
                os._exit(0)
        children.append(pid)
    for pid in children:
        equal(os.waitpid(pid, 0)[1], 0)
    fd = os.open(path % "b", os.O_RDWR)
    with open(disk + f"/counted_{take}", "rb") as on_disk, mmap.mmap(fd, size) as counters:
        data = on_disk.read()
        equal([int.from_bytes(data[at:at + 8], "little") for at in range(0, size, mmap.PAGESIZE)], [2 * n] * 5)
        getattr(fcntl, take)(fd, fcntl.LOCK_EX)
        counters[8:14] = b"shared"
        getattr(fcntl, take)(fd, fcntl.LOCK_SH)
        equal(os.pread(on_disk.fileno(), 6, 8), b"shared")
        equal(counters[8:14], b"shared")
    os.close(fd)
    os.unlink(path % "a")
PY
    healthy
}

# An open file description whose owner's number was another's just before, as the kernel gives them out, and whose lock the
# server has not yet taken back: it has a lock of its own, which goes with it.
limit_owners_number_again=60
case_owners_number_again() {
    local wire=$M.wire
    mkdir -p "$wire" "$M/a"
    "$here/proxy.py" 20791 $((PORT + 2)) "$wire" & proxy=$!
    trap 'kill $proxy' EXIT
    wait_for 5 test -e "$wire/ready"
    mount -t fuse.nfs -o "port=$PORT,mountport=$((PORT + 1)),nlmport=20791,linger=0" "$SRC" "$M/a"
    mount_at "$M/b" rsize=131072
    python "$M" "$wire" <<'PY'
import threading
from locks import *
m, wire = sys.argv[1:]
a = Actions()
for i in range(12):
    path = m + f"/%s/number{i}"
    os.close(os.open(path % "a", os.O_RDWR | os.O_CREAT))
    fd = os.open(path % "a", os.O_RDWR)
    a.ofd(fd)
    open(wire + "/hold--1", "w").close()
    os.close(fd)
    fd = os.open(path % "a", os.O_RDWR)
    waiter = threading.Thread(target=a.wait_ofd, args=(fd,))
    waiter.start()
    time.sleep(0.2)
    os.unlink(wire + "/hold--1")
    waiter.join()
    os.close(fd)
    fd = os.open(path % "b", os.O_RDWR)

    def is_free():
        try:
            return a.ofd(fd) is None
        except OSError:
            return False

    eventually(3, is_free)
    os.close(fd)
    os.unlink(path % "b")
PY
    umount "$M/a" "$M/b" # not through the proxy, which goes
}

# An inherited open file description, and a process that has none of it any more.
case_inherited() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
b, fb = opened(m + "/b/f")[0]
fd = os.open(m + "/a/f", os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX)
end, w = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(w)
    os.read(end, 1)
    os._exit(0)
os.close(fd)
equal(b.do("lock", fb), "EAGAIN")  # the child has it still
os.close(w)
os.waitpid(pid, 0)
eventually(5, lambda: b.do("lock", fb) is None)
equal(b.do("lock", fb, UNLOCK), None)
# POSIX locks are not inherited
fd = os.open(m + "/a/f", os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX)
pid = os.fork()
if pid == 0:
    os.close(fd)
    os._exit(0)
os.waitpid(pid, 0)
equal(b.do("lock", fb), "EAGAIN")
os.close(fd)
equal(b.do("lock", fb), None)
PY
    healthy
}

limit_two_counters=$long
case_two_counters() {
    two_clients
    SECONDS=0
    count_on_both "$M/a" "$M/b" 1 1000 fcntl
    echo "2 x 1000 in $SECONDS s"
    healthy
}

limit_contention=$long
case_contention() {
    local how
    two_clients
    for how in fcntl ofd flock; do
        SECONDS=0
        count_on_both "$M/a" "$M/b" 4 "$(if soak; then echo 1000; else echo 100; fi)" $how
        echo "$how: $SECONDS s"
    done
    healthy
}

limit_contention_nconnect_4=$long
case_contention_nconnect_4() {
    two_clients nconnect=4
    count_on_both "$M/a" "$M/b" 4 100 fcntl
    count_on_both "$M/a" "$M/b" 4 100 flock
    mkdir "$M/a/posix"
    "$PROGRAMS/posix" "$M/a/posix" $(grep -o 'CASE([a-z_]*lock[a-z_]*)' "$here/posix-lock.c" | sed 's/CASE(\(.*\))/\1/') \
        >"$T/posix.tap" || { cat "$T/posix.tap"; return 1; }
    healthy
}

# Both append to one log, whose end each sees as the other left it.
limit_two_appenders=$long
case_two_appenders() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
open(m + "/a/log", "w").close()
children = []
for i in range(2):
    pid = os.fork()
    if pid:
        children.append(pid)
        continue
    fd = os.open(m + ("/a", "/b")[i] + "/log", os.O_RDWR)
    for k in range(500):
        fcntl.lockf(fd, fcntl.LOCK_EX)
        os.pwrite(fd, b"%d %06d\n" % (i, k), os.fstat(fd).st_size)
        fcntl.lockf(fd, fcntl.LOCK_UN)
    os._exit(0)
for pid in children:
    equal(os.waitpid(pid, 0)[1], 0)
for d in ("/a", "/b"):
    with open(m + d + "/log") as f:
        lines = f.read().splitlines()
    equal(sorted(lines), [f"{i} {k:06d}" for i in range(2) for k in range(500)])
PY
    healthy
}

# As many waiters as there may be; the others are told ENOLCK, and all goes on.
limit_many_waiters=60
case_many_waiters() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
(a, fa), (b, fb) = opened(m + "/a/f") + opened(m + "/b/f")
equal(b.do("lock", fb), None)
waiters = opened(m + "/a/f", 288)
for p, f in waiters:
    p.start("wait_lock", f)
eventually(30, lambda: sum(not p.waiting(0) for p, _ in waiters) == 288 - 256)
refused = [p for p, _ in waiters if not p.waiting(0)]
for p in refused:
    equal(p.result(), "ENOLCK")
equal(a.do("lock", fa, WRITE), "EAGAIN")
equal(os.listdir(m + "/a"), ["f"])
equal(b.do("lock", fb, UNLOCK), None)
for p, f in waiters:
    if p not in refused:
        p.start("lock", f, UNLOCK)  # behind the wait
for p, _ in waiters:
    if p not in refused:
        equal(p.result(40), None)
        equal(p.result(40), None)
PY
    healthy
}

run_cases "$@"
