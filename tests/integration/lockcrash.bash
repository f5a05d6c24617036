#!/bin/bash
# Locks over the network, of clients whose worker dies, or whose server does, hangs, or has been somebody else's meanwhile.
. "$(dirname "$0")/twoclients.bash"

case_worker_killed() {
    two_clients
    mkfifo "$T/to" "$T/from"
    python3 /dev/stdin "$M" "$T/to" "$T/from" <<'PY' &
from locks import *
m = sys.argv[1]
answers, asked = open(sys.argv[2]), open(sys.argv[3], "w")
def kill_worker(letter):
    print(letter, file=asked, flush=True)
    equal(answers.readline(), "done\n")
(a, fa), (c, fc), (d, fd), (b, fb), (e, fe) = opened(m + "/a/f", 3) + opened(m + "/b/f", 2)
equal(a.do("lock", fa, WRITE, 0, 10), None)
equal(a.do("lock", fa, UNLOCK, 4, 1), None)
equal(a.do("ofd", fa, READ, 100, 10), None)
c.start("wait_lock", fc, WRITE, 0, 10)  # for somebody of its node
b.start("wait_lock", fb, WRITE, 9, 1)   # for another node
assert c.waiting(0.3) and b.waiting(0)
for i in range(5):                      # more often than a request may kill a worker
    kill_worker("a")
    kill_worker("b")
    assert c.waiting(0.3) and b.waiting(0), i
    equal(d.do("lock", fd, WRITE, 9, 1), "EAGAIN")
    equal(e.do("lock", fe, WRITE, 100, 1), "EAGAIN")
    equal(e.do("test", fe, WRITE, 0, 100), (WRITE, 0, 4, 0))
    equal(d.do("test", fd, WRITE, 0, 100), (WRITE, 0, 4, a.pid))
    equal(d.do("lock", fd, WRITE, 4, 1), None)
    equal(d.do("lock", fd, UNLOCK, 4, 1), None)
# the interrupted one leaves though the INTERRUPT went to a worker that is no more
equal(d.do("handle", signal.SIGUSR1), None)
d.start("wait_lock", fd, WRITE, 0, 1)
assert d.waiting(0.2)
kill_worker("a")
d.kill(signal.SIGUSR1)
equal(d.result(5), "EINTR")
equal(a.do("lock", fa, UNLOCK), None)
first = [p for p in (b, c) if not p.waiting(2)]
assert first
for p, f in ((b, fb), (c, fc)) if first[0] is b else ((c, fc), (b, fb)):
    equal(p.result(4), None)
    equal(p.do("lock", f, UNLOCK), None)
equal(e.do("lock", fe, WRITE, 100, 1), "EAGAIN")
a.kill()                                # the open file description's lock goes with it, after all that
a.reap()
eventually(5, lambda: e.do("lock", fe, WRITE, 100, 1) is None)
print("end", file=asked, flush=True)
PY
    local script=$! letter rc=0
    exec 7>"$T/to" 8<"$T/from"
    while read -r letter <&8 && [ "$letter" != end ]; do
        kill_worker "$letter"
        echo done >&7
    done
    wait $script || rc=$?
    [ $rc = 0 ]
    wait_for 10 no_locks
}

# kill -9 of both workers, again and again, while all count.
limit_killed_under_contention=$long
case_killed_under_contention() {
    local load rc=0 n=0
    two_clients
    count_on_both "$M/a" "$M/b" 3 200 fcntl & load=$!
    while kill -0 $load 2>/dev/null; do
        sleep 0.4
        kill_worker a || break
        kill_worker b || break
        n=$((n + 2))
    done
    wait $load || rc=$?
    echo "$n kills, restarts $(of_client a restarts) $(of_client b restarts)"
    [ $n -gt 3 ]
    [ $rc = 0 ]
    wait_for 10 no_locks
    [ "$(of_client a counters.locks_lost)$(of_client b counters.locks_lost)" = 00 ]
}

# A server of its own, with a grace period.
with_grace() { # SECONDS
    G_GRACE=$1 server start "$T/graced" 20600
    MOUNT_PORTS=port=20600,mountport=20601,nlmport=20602
}

limit_server_restarted=90
case_server_restarted() {
    trap 'server stop "$T/graced"' EXIT
    with_grace 8
    two_clients
    mkfifo "$T/to2" "$T/from2"
    python3 /dev/stdin "$M" "$T/to2" "$T/from2" <<'PY' &
from locks import *
m = sys.argv[1]
answers, asked = open(sys.argv[2]), open(sys.argv[3], "w")
def ask(what):
    print(what, file=asked, flush=True)
    equal(answers.readline(), "done\n")
(a, fa), (c, fc), (b, fb) = opened(m + "/a/f", 2) + opened(m + "/b/f")
# the grace period of the first start is waited out
began = time.monotonic()
equal(a.do("lock", fa, WRITE, 0, 10), None)
print(f"the first lock came after {time.monotonic() - began:.1f} s")
equal(a.do("lock", fa, UNLOCK, 5, 1), None)
equal(a.do("ofd", fa, READ, 20, 10), None)
b.start("wait_lock", fb, WRITE, 0, 1)
assert b.waiting(0.3)
for how in ("kill", "stop"):
    ask(how)
    equal(a.do("pwrite", fa, b"x", 0), 1)  # it is back
    began = time.monotonic()
    equal(c.do("lock", fc, WRITE, 0, 1), "EAGAIN")  # known here
    assert b.waiting(10)
    # what was not locked is free, once the grace period is over; what was is still
    equal(c.do("lock", fc, WRITE, 5, 1), None)
    equal(c.do("lock", fc, UNLOCK, 5, 1), None)
equal(a.do("lock", fa, UNLOCK), None)
equal(b.result(5), None)
equal(b.do("lock", fb, WRITE, 20, 1), "EAGAIN")
print("end", file=asked, flush=True)
PY
    local script=$! how rc=0
    exec 7>"$T/to2" 8<"$T/from2"
    while read -r how <&8 && [ "$how" != end ]; do
        server "$how" "$T/graced"
        server restart "$T/graced"
        echo done >&7
    done
    wait $script || rc=$?
    [ $rc = 0 ]
    healthy
}

# The server crashes while all count; in its grace period only those who had locks get them.
limit_server_killed_under_contention=$long
case_server_killed_under_contention() {
    local load n=0 rc=0
    trap 'server stop "$T/graced"' EXIT
    with_grace 4
    two_clients timeo=20
    count_on_both "$M/a" "$M/b" 2 300 fcntl & load=$!
    while kill -0 $load 2>/dev/null; do
        sleep 1.5
        if [ $n -lt 3 ] && kill -0 $load 2>/dev/null && [ "$(head -c 20 "$T/graced/export/counter" | tr -d '\0')" -gt $((n * 200 + 50)) ]; then
            server kill "$T/graced"
            server restart "$T/graced"
            n=$((n + 1))
        fi
    done
    wait $load || rc=$?
    echo "$n restarts"
    [ $n -gt 0 ]
    [ $rc = 0 ]
    healthy
}

# A server without a grace period: another client may be faster.
limit_lock_lost=60
case_lock_lost() {
    two_clients
    mkfifo "$T/to3" "$T/from3"
    python3 /dev/stdin "$M" "$T/to3" "$T/from3" <<'PY' &
from locks import *
m = sys.argv[1]
answers, asked = open(sys.argv[2]), open(sys.argv[3], "w")
def ask(what):
    print(what, file=asked, flush=True)
    equal(answers.readline(), "done\n")
(a, fa), (b, fb) = opened(m + "/a/f") + opened(m + "/b/f")
equal(a.do("lock", fa, WRITE, 0, 10), None)
equal(a.do("lock", fa, WRITE, 20, 10), None)
ask("restart")
eventually(5, lambda: b.do("lock", fb, WRITE, 0, 1) is None)
ask("go_on")
eventually(5, lambda: a.do("test", fa, WRITE, 0, 1)[0] == WRITE)
eventually(5, lambda: b.do("test", fb, WRITE, 20, 1)[0] == WRITE)  # the other one is held again
equal(a.do("lock", fa, UNLOCK), None)
equal(b.do("lock", fb, WRITE, 20, 1), None)
equal(b.do("lock", fb, WRITE, 0, 1), None)
print("end", file=asked, flush=True)
PY
    local script=$! what rc=0
    exec 7>"$T/to3" 8<"$T/from3"
    while read -r what <&8 && [ "$what" != end ]; do
        case $what in
            restart)
                kill -STOP "$(of_client a worker_pid)"
                server kill
                server restart
                ;;
            go_on) kill -CONT "$(of_client a worker_pid)" ;;
        esac
        echo done >&7
    done
    wait $script || rc=$?
    [ $rc = 0 ]
    [ "$(of_client a counters.locks_lost)" = 1 ]
    [ "$(of_client b counters.locks_lost)" = 0 ]
    wait_for 10 no_locks
}

# A waiter while the server hangs can be killed, and what it may have been granted is not kept.
case_server_hangs() {
    two_clients
    mkfifo "$T/to4" "$T/from4"
    python3 /dev/stdin "$M" "$T/to4" "$T/from4" <<'PY' &
from locks import *
m = sys.argv[1]
answers, asked = open(sys.argv[2]), open(sys.argv[3], "w")
def ask(what):
    print(what, file=asked, flush=True)
    equal(answers.readline(), "done\n")
(a, fa), (b, fb) = opened(m + "/a/f") + opened(m + "/b/f")
ask("pause")
a.start("wait_lock", fa)
assert a.waiting(0.5)
a.kill()
a.reap()
ask("cont")
eventually(10, lambda: b.do("lock", fb) is None)
print("end", file=asked, flush=True)
PY
    local script=$! what rc=0
    exec 7>"$T/to4" 8<"$T/from4"
    while read -r what <&8 && [ "$what" != end ]; do
        server "$what"
        echo done >&7
    done
    wait $script || rc=$?
    [ $rc = 0 ]
    healthy
}

# The end of a volume with locks held: its connection is aborted under the holder.
case_aborted() {
    two_clients
    python "$M" <<'PY'
from locks import *
m = sys.argv[1]
(a, fa), (b, fb) = opened(m + "/a/f") + opened(m + "/b/f")
equal(a.do("lock", fa), None)
equal(b.do("lock", fb), "EAGAIN")
minor = os.minor(os.stat(m + "/a").st_dev)
with open("/proc/self/mountinfo") as f:
    assert f" 0:{minor} " in f.read()
os.makedirs("/sys/fs/fuse/connections", exist_ok=True)
if not os.path.exists(f"/sys/fs/fuse/connections/{minor}/abort"):
    os.system("mount -t fusectl fusectl /sys/fs/fuse/connections")
with open(f"/sys/fs/fuse/connections/{minor}/abort", "w") as f:
    f.write("1")
eventually(5, lambda: b.do("lock", fb) is None)
PY
    unmount_all
    wait_for 10 sh -c '! pgrep -x nfsvol-keeper >/dev/null'
    rm -f "$NFSVOL_RUNDIR"/*.lock # an aborted volume leaves it behind
}

run_cases "$@"
