# Two clients of one export, as two nodes would be. Read by locks.bash and lockcrash.bash.
. "$(dirname "$0")/lib.bash"
export PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1

soak() { [ -n "${NFSVOL_SOAK:-}" ]; }
long=$(if soak; then echo 900; else echo 120; fi)

python() { python3 - "$@"; }

two_clients() { # [OPTIONS]: at $M/a and $M/b, each in a network of its own
    rm -rf "$T/server/export/"* # what a failed case left locked
    mount_on a "$M/a" "rsize=65536${1:+,$1}"
    mount_on b "$M/b" "rsize=131072${1:+,$1}"
    wait_for 5 keepers_are 2
}

# of_client LETTER KEY: from the status of the volume mounted there
of_client() {
    nfsvol status --json | python3 -c '
import json, sys
size = {"a": "rsize=65536", "b": "rsize=131072"}[sys.argv[1]]
d, = [v for v in json.load(sys.stdin) if size in v["options"].split(",")]
for k in sys.argv[2].split("."):
    d = d[k]
print(d)' "$1" "$2"
}

# The files and processes of each case are gone at its end, and so must the locks be: at the server too.
no_locks() {
    [ "$(of_client a counters.locks_held)" = 0 ] && [ "$(of_client b counters.locks_held)" = 0 ]
}

healthy() {
    [ "$(of_client a restarts)$(of_client b restarts)" = "${1:-00}" ]
    wait_for 10 no_locks
    [ "$(of_client a counters.locks_lost)$(of_client b counters.locks_lost)" = 00 ]
}

# N processes on each of two clients count in a file, under a lock; and write into each other's way only without one.
count_on_both() { # DIR_A DIR_B PROCESSES ROUNDS HOW
    python "$@" <<'PY'
from locks import *
from locks import _lock
a, b, n, rounds, how = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
INSIDE = 4096 # in the same file: nothing else is the same for both clients when the lock is taken
with open(a + "/counter", "wb") as f:
    f.write(b"0".ljust(INSIDE, b"\0") + b"nobody")
def count_of(f):
    return int(f.read(20).rstrip(b"\0"))
def take(fd):
    if how == "flock": fcntl.flock(fd, fcntl.LOCK_EX)
    else: _lock(fd, F_OFD_SETLKW if how == "ofd" else fcntl.F_SETLKW, WRITE, 0, 0)
def give(fd):
    if how == "flock": fcntl.flock(fd, fcntl.LOCK_UN)
    else: _lock(fd, F_OFD_SETLK if how == "ofd" else fcntl.F_SETLK, UNLOCK, 0, 0)
children = []
for i in range(2 * n):
    d = (a, b)[i % 2]
    pid = os.fork()
    if pid:
        children.append(pid)
        continue
    fd = os.open(d + "/counter", os.O_RDWR)
    me = f"{i:06d}"
    waited = 0
    for k in range(rounds):
        began = time.monotonic()
        take(fd)
        waited = max(waited, time.monotonic() - began)
        count = int(os.pread(fd, 20, 0).rstrip(b"\0"))
        if k % 10 == 0:
            was = os.pread(fd, 6, INSIDE)
            if was != b"nobody":
                print(f"process {i} round {k}: {was} is inside too", flush=True)
                os._exit(1)
            os.pwrite(fd, me.encode(), INSIDE)
            time.sleep(0.001)
            if os.pread(fd, 6, INSIDE) != me.encode():
                print(f"process {i} round {k}: somebody came in", flush=True)
                os._exit(1)
            os.pwrite(fd, b"nobody", INSIDE)
        os.pwrite(fd, b"%d" % (count + 1), 0)
        give(fd)
    print(f"process {i}: waited {waited:.2f} s at most", flush=True)
    os._exit(0)
for pid in children:
    equal(os.waitpid(pid, 0)[1], 0)
with open(a + "/counter", "rb") as f, open(b + "/counter", "rb") as g:
    equal((count_of(f), count_of(g)), (2 * n * rounds,) * 2)
PY
}

kill_worker() { # LETTER
    local old
    until old=$(of_client "$1" worker_pid) && [ "$old" -gt 1 ]; do sleep 0.05; done # 0: one is just being started
    kill -KILL "$old"
    wait_for 10 sh -c "! kill -0 $old 2>/dev/null"
}
