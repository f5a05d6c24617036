#!/bin/bash
# A server that crashes, hangs, and comes back; a cable that is cut; a clock that is another's. NFSVOL_SOAK=1: for a minute
# instead of seconds.
. "$(dirname "$0")/lib.bash"
away=$(if [ -n "${NFSVOL_SOAK:-}" ]; then echo 60; else echo 8; fi)

# Writes files with known contents, reads each back, for SECONDS; any error ends it.
load() { # DIR SECONDS
    python3 - "$1" "$2" <<'PY'
import os, sys, time, hashlib
d, end = sys.argv[1], time.time() + float(sys.argv[2])
n = 0
while time.time() < end:
    data = os.urandom(1000) * (1 + n % 300)
    p = f"{d}/f{n % 50}"
    with open(p, "wb") as f:
        f.write(data)
    with open(p, "rb") as f:
        assert f.read() == data, p
    os.rename(p, p + ".r")
    assert os.stat(p + ".r").st_size == len(data)
    os.unlink(p + ".r")
    os.mkdir(p + ".d"); os.rmdir(p + ".d")
    n += 1
print(n, "rounds")
PY
}

limit_crash_and_restart_hard=90
case_crash_and_restart_hard() {
    mount_at "$M"
    for i in 1 2 3; do mkdir "$M/w$i"; done
    load "$M/w1" 20 & a=$!
    load "$M/w2" 20 & b=$!
    load "$M/w3" 20 & c=$!
    for _ in 1 2 3 4; do
        sleep 3
        server kill
        sleep 1
        server restart
    done
    wait $a
    wait $b
    wait $c
    rm -r "$M"/w?
}

limit_hang_hard=$((away + 50))
case_hang_hard() {
    mount_at "$M" timeo=20
    mkdir "$M/w"
    load "$M/w" $((away + 7)) & a=$!
    sleep 3
    server pause
    sleep $away
    server cont
    wait $a
    rm -r "$M/w"
}

if [ -n "${NFSVOL_SOAK:-}" ]; then
    limit_gone_for_an_hour=4000
    case_gone_for_an_hour() {
        local gone_at
        mount_at "$M"
        mkdir "$M/w"
        echo x >"$M/x"
        exec 8<>"$M/x"
        flock -x 8
        load "$M/w" 3620 8<&- & a=$!
        sleep 3
        server kill
        gone_at=$SECONDS
        for _ in 1 2 3 4 5 6; do
            sleep 600
            kill -0 $a # waits, and has heard of no error
            echo "# gone for $((SECONDS - gone_at)) s: $(nfsvol status | grep '^  server '), resident $(awk '/^VmRSS/ { print $2 }' /proc/"$(worker_pid)"/status) KiB"
        done
        server restart 8<&- # it would hold the lock, too
        gone_at=$SECONDS
        cat "$M/x"
        echo "# back; answered after $((SECONDS - gone_at)) s"
        [ $((SECONDS - gone_at)) -le 10 ]
        wait $a
        not flock -n "$M/x" true
        exec 8<&-
        flock -w 5 "$M/x" true
        [ "$(status_of counters.locks_lost)" = 0 ]
        rm -r "$M/w" "$M/x"
    }
fi

others_go_on() { # VOLUME ANOTHER: as if no server were dead; the other one is unmounted
    within 1000 sh -c 'echo x >"$1/y" && grep -q x "$1/y" && rm "$1/y"' sh "$1"
    within 1000 ls "$1"
    within 1000 df "$1"
    within 1000 umount "$2"
}

# The server is in a network of its own, and the cable to it is cut: packets are lost, nobody says so.
limit_cable_cut=$((2 * away + 120))
case_cable_cut() {
    local far holder cut_at cut_for waiting
    mkdir -p "$T/far/export"
    unshare --net sleep infinity & holder=$!
    far="nsenter --net=/proc/$holder/ns/net"
    trap "server stop $T/far; kill $holder" EXIT
    wait_for 5 sh -c "[ \$(readlink /proc/$holder/ns/net) != \$(readlink /proc/self/ns/net) ]"
    ip link add cable type veth peer name cable netns $holder
    ip addr add 10.99.0.1/24 dev cable
    $far ip addr add 10.99.0.2/24 dev cable
    ip link set cable up
    $far ip link set lo up
    $far ip link set cable up
    NORPCBIND=$NORPCBIND $far "$here/../server/ganesha" start "$T/far" 20690
    mount_at "$M/far" port=20690,mountport=20691,nlmport=20692 10.99.0.2:/export
    mount_at "$M/near"
    mount_at "$M/near2" rsize=65536 # a volume of its own
    echo x >"$M/far/x"
    mkdir "$M/far/w"
    load "$M/far/w" $((away + 5)) & a=$!
    sleep 2
    cut_at=$SECONDS
    $far ip link set cable down
    dd if="$M/far/x" of=/dev/null iflag=direct 2>/dev/null & waiting=$!
    sleep 1
    within 1000 killed $waiting # whoever waits can be killed, others do not notice
    others_go_on "$M/near" "$M/near2"
    timeout 10 df "$M/far" || :
    while [ $((SECONDS - cut_at)) -lt $away ]; do sleep 0.1; done
    $far ip link set cable up
    cut_for=$((SECONDS - cut_at))
    cut_at=$SECONDS
    cat "$M/far/x"
    echo "# cut for $cut_for s; answered $((SECONDS - cut_at)) s after it was whole again"
    [ $((SECONDS - cut_at)) -le $((cut_for + 5)) ] # TCP sends again at doubling intervals
    wait $a
    rm -r "$M"/far/*
    umount "$M/near" "$M/far"
    wait_for 25 no_volumes
}

# What was renamed while it was open for writing has a ctime that nobody has told us.
case_handles_replaced_after_renames() {
    local writer
    trap 'server stop "$T/moved"' EXIT
    server start "$T/moved" 20600
    MOUNT_PORTS=port=20600,mountport=20601,nlmport=20602 mount_at "$M"
    mkdir "$M/d"
    # a process of its own: each one that inherits a file flushes it when it ends
    python3 - "$M" "$T" <<'PY' & writer=$!
import os, sys, time
m, t = sys.argv[1:]
names = {"f": "g", "there": "d/there"}
fds = [os.open(f"{m}/{name}", os.O_WRONLY | os.O_CREAT) for name in names]
for fd in fds:
    os.write(fd, b"one")
    os.fsync(fd)
for name, to_name in names.items():
    os.rename(f"{m}/{name}", f"{m}/{to_name}")
for fd in fds:
    os.write(fd, b"two")
open(t + "/written", "w").close()
while not os.path.exists(t + "/replaced"):
    time.sleep(0.02)
for fd in fds:
    os.fsync(fd)
PY
    wait_for 10 test -e "$T/written"
    server reexport "$T/moved" 80
    mkdir "$M/e" # connected: a WRITE that is in flight then could be why it was changed
    touch "$T/replaced"
    wait $writer
    [ "$(cat "$T/moved/export/g")" = onetwo ]
    [ "$(cat "$T/moved/export/d/there")" = onetwo ]
    rm -r "$M"/*
    umount "$M"
    wait_for 25 no_volumes
}

# So often has somebody emptied the machine's caches; other tests do.
caches_emptied() { grep '^drop_' /proc/vmstat; }

asked_across() { # HOURS
    server start "$T/clock" 20600
    MOUNT_PORTS=port=20600,mountport=20601,nlmport=20602
    mount_at "$M/a" acregmin=30,acdirmin=30,nordirplus # so that it does not depend on the load which names are read ahead
    mount_at "$M/b" actimeo=1
    python3 "$here/clocks.py" "$M/a" "$M/b" "$T/clock/export" $(($1 * 3600)) >"asked.$1" && diff asked.0 "asked.$1"
}

# The clock of the server is hours ahead of ours, or behind: nothing is cached for longer or shorter, seen earlier or later.
limit_clocks_hours_apart=180
case_clocks_hours_apart() {
    local hours emptied rc
    trap 'server stop "$T/clock"' EXIT
    for hours in 0 3 -3; do
        emptied=
        until [ "$emptied" = "$(caches_emptied)" ]; do
            emptied=$(caches_emptied)
            rc=0
            G_CLOCK=$((hours * 3600)) asked_across $hours || rc=1
            rm -r "$M/a"/*
            umount "$M/a" "$M/b"
            wait_for 25 no_volumes
            server stop "$T/clock"
        done
        [ $rc = 0 ]
    done
}

# Another server takes over, or the same one exports the file system under another number: all handles are stale.
limit_handles_replaced=90
case_handles_replaced() { # and a worker is killed right after the third time
    local load n
    trap 'server stop "$T/moved"' EXIT
    server start "$T/moved" 20600
    MOUNT_PORTS=port=20600,mountport=20601,nlmport=20602 mount_at "$M" nconnect=2
    python3 "$here/handles.py" "$M" "$T/stop" & load=$!
    for n in 77 78 79; do
        sleep 3
        server reexport "$T/moved" $n
        [ $n != 79 ] || kill -KILL "$(worker_pid)"
    done
    sleep 3
    touch "$T/stop"
    wait $load
    n=$(nfsvol status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["counters"]["handles_replaced"])')
    echo "$n handles replaced"
    [ "$n" -gt 20 ]
    rm -r "$M"/*
    [ -z "$(ls -A "$M")" ]
    umount "$M"
    wait_for 25 no_volumes
}

limit_dead_soft=60
case_dead_soft() { # EIO within timeo × retrans, with linear back-off
    local start rc=0
    mount_at "$M" soft,timeo=10,retrans=2
    echo data >"$M/f"
    server kill
    start=$SECONDS
    cat "$M/f" "$M/g" 2>err || rc=$?
    server restart
    [ $rc != 0 ]
    grep -q 'Input/output error' err
    [ $((SECONDS - start)) -lt 25 ]
    wait_for 20 test -e "$M/f"
    rm "$M/f"
}

limit_dead_softerr=60
case_dead_softerr() { # the same with ETIMEDOUT
    local rc=0
    mount_at "$M" softerr,timeo=10,retrans=1,actimeo=0
    server pause
    timeout 20 cat "$M/f" 2>err || rc=$?
    server cont
    [ $rc = 1 ]
    grep -q 'Connection timed out' err
}

limit_dead_others_unaffected=90
case_dead_others_unaffected() {
    mkdir -p "$T/server2" "$M/dead"
    server start "$T/server2" 20590
    mount_at "$M/live"
    mount_at "$M/live2" rsize=65536 # a volume of its own
    mount -t fuse.nfs -o port=20590,mountport=20591,linger=0 "$SRC" "$M/dead"
    ls "$M/dead"
    server kill "$T/server2"
    cat "$M/dead/none" 2>/dev/null & reader=$!
    sleep 1
    others_go_on "$M/live" "$M/live2"
    # the dead one: what kubelet asks is answered
    timeout 10 stat "$M/dead"
    timeout 10 df "$M/dead" || :
    within 1000 killed $reader
    timeout 10 nfsvol status "$M/dead"
    timeout 10 umount "$M/dead"
    within 1000 ls "$M/live"
}

limit_killed_in_time=60
case_killed_in_time() { # whoever waits for a dead server, for whatever, can be killed, and is gone within a second
    mount_at "$M" actimeo=60
    python3 - "$M" "$(server pid)" <<'PY'
import ctypes, fcntl, glob, mmap, os, platform, signal, struct, sys, time
m, server = sys.argv[1], int(sys.argv[2])
SETUP, SUBMIT, GETEVENTS = (206, 209, 208) if platform.machine() == "x86_64" else (0, 2, 4)
PREAD, PWRITE = 0, 1
def path(name): return f"{m}/{name}/f"
def fd_of(name): return os.open(path(name), os.O_RDWR | (os.O_DIRECT if name.startswith(("direct", "aio")) else 0))
def write_and(then, fd):
    os.pwrite(fd, b"x" * 5000, 0)
    then(fd)
def look_with_data_written(name): # which its exit finds, when it closes
    os.pwrite(fd_of_data, b"x" * 50000, 0)
    os.stat(path(name) + "none")
def store_and_sync(fd):
    pages = mmap.mmap(fd, 4096)
    pages[0] = 1
    pages.flush()
def aio(fd, call): # io_submit(2), for which the kernel waits when the process ends, and never interrupts it
    syscall, context = ctypes.CDLL(None, use_errno=True).syscall, ctypes.c_ulong(0)
    assert syscall(SETUP, 8, ctypes.byref(context)) == 0
    buffer = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    iocb = ctypes.create_string_buffer(struct.pack("QIiHhIQQqQII", 0, 0, 0, call, 0, fd, address, 4096, 4096, 0, 0, 0))
    assert syscall(SUBMIT, context, 1, ctypes.byref(ctypes.pointer(iocb))) == 1
    events = ctypes.create_string_buffer(32)
    syscall(GETEVENTS, context, 1, 1, events, None)
waits = {  # each in a directory of its own; with a file that was opened before
    "pread": lambda fd: os.pread(fd, 100, 1 << 20), "a page of a mapping": lambda fd: mmap.mmap(fd, 2 << 20)[1500000],
    "write and fsync": lambda fd: write_and(os.fsync, fd), "write and close": lambda fd: write_and(os.close, fd),
    "msync": store_and_sync, "lock": lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), "flock": lambda fd: fcntl.flock(fd, fcntl.LOCK_EX),
    "ftruncate": lambda fd: os.ftruncate(fd, 10),
    "direct pread": lambda fd: os.preadv(fd, [mmap.mmap(-1, 4096)], 0), "direct pwrite": lambda fd: os.pwrite(fd, mmap.mmap(-1, 4096), 0),
    "aio read": lambda fd: aio(fd, PREAD), "aio write": lambda fd: aio(fd, PWRITE),
    "lookup with data written": look_with_data_written,
    "lookup": lambda name: os.stat(path(name) + "none"), "open": lambda name: fd_of(name), "list": lambda name: os.listdir(f"{m}/{name}"),
    "create": lambda name: os.open(path(name) + "new", os.O_CREAT | os.O_EXCL), "mkdir": lambda name: os.mkdir(path(name) + "d"),
    "symlink": lambda name: os.symlink("x", path(name) + "l"), "link": lambda name: os.link(path(name), path(name) + "h"),
    "rename": lambda name: os.rename(path(name), path(name) + "r"), "unlink": lambda name: os.unlink(path(name)),
    "chmod": lambda name: os.chmod(path(name), 0o600), "utime": lambda name: os.utime(path(name)), "execve": lambda name: os.execv(path(name), ["f"]),
}
args = {}
for i, name in enumerate(waits):
    os.mkdir(f"{m}/{name}")
    with open(path(name), "wb") as f:
        f.truncate(2 << 20)
    os.chmod(path(name), 0o755)
    args[name] = fd_of(name) if i < 12 else name
fd_of_data = os.open(m + "/data", os.O_CREAT | os.O_WRONLY)
pids = {}
os.kill(server, signal.SIGSTOP)
def has_stopped(): # each thread: one that has not heard of it yet may still answer
    return all(open(stat).read().rsplit(") ", 1)[1][0] in "TZ" for stat in glob.glob(f"/proc/{server}/task/*/stat"))
try:
    while not has_stopped(): time.sleep(0.001)
    for name, call in waits.items():
        pids[name] = os.fork()
        if pids[name] == 0:
            call(args[name])
            os._exit(0)
    time.sleep(1)
    early = [name for name, pid in pids.items() if os.waitpid(pid, os.WNOHANG)[0]]
    began = time.monotonic()
    for name in pids.keys() - set(early):
        os.kill(pids[name], signal.SIGKILL)
    took = {}
    while len(took) < len(pids) - len(early) and time.monotonic() < began + 10:
        for name in pids.keys() - took.keys() - set(early):
            if os.waitpid(pids[name], os.WNOHANG)[0]:
                took[name] = time.monotonic() - began
        time.sleep(0.001)
    for name in pids.keys() - took.keys() - set(early):
        print(name, *(open(f"/proc/{pids[name]}/{what}").read() for what in ("status", "stack")), sep="\n")
finally:
    os.kill(server, signal.SIGCONT)
last = max(took, key=took.get)
print(f"# {len(took)} processes that waited were gone {1000 * took[last]:.0f} ms after they were killed; the last one: {last}")
assert not early, ("do not wait", early)
assert len(took) == len(pids), ("are still there", pids.keys() - took.keys())
assert took[last] < 3 # as a rule hundredths of a second; a machine may pause
PY
    rm -r "$M"/*
}

limit_proc_hides_processes=60
case_proc_hides_processes() { # hidepid: who cannot be looked at is not dead, and his read waits for the server
    local reader
    mount -o remount,hidepid=2,gid=5000 /proc
    trap 'mount -o remount,hidepid=0,gid=0 /proc' EXIT
    mount_at "$M" hard
    truncate -s 4096 "$T/server/export/f"
    touch "$T/not_yet"
    python3 - "$M/f" "$T/not_yet" >"$T/ready" <<'PY' & reader=$!
import ctypes, mmap, os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 4096)
os.setgroups([]), os.setresgid(1000, 1000, 1000), os.setresuid(1000, 1000, 1000)
address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
print("ready", flush=True)
while os.path.exists(sys.argv[2]): time.sleep(0.05)
read = ctypes.CDLL(None, use_errno=True).read # Python's own begins again after EINTR
n = read(fd, ctypes.c_void_p(address), ctypes.c_size_t(4096))
assert n == 4096, os.strerror(ctypes.get_errno())
PY
    wait_for 10 test -s "$T/ready"
    server pause
    rm "$T/not_yet"
    sleep 5
    server cont
    wait $reader
    logged '/proc hides processes'
}

limit_written_before_a_crash=60
case_written_before_a_crash() { # closed is on the server, whatever happens to us after
    mount_at "$M"
    head -c 20000000 /dev/urandom >"$T/data"
    cp "$T/data" "$M/copy"
    kill -KILL "$(worker_pid)"
    cmp "$T/data" "$T/server/export/copy"
    cmp "$T/data" "$M/copy"
    rm "$M/copy"
}

run_cases "$@"
