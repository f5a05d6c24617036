#!/bin/bash
# What was written and is not on the server's stable storage yet: its order, its errors, and who waits for it.
EXPORT_EXT4=1
. "$(dirname "$0")/lib.bash"

E=$T/server/export

# proxied [OPTIONS]: mounted at $M through a wire on which replies are held back (proxy.py); its files are in $P
proxied() {
    P=$M.wire
    mkdir -p "$P"
    "$here/proxy.py" 20790 $PORT "$P" & proxy=$!
    trap 'kill $proxy' EXIT
    wait_for 5 test -e "$P/ready"
    mkdir -p "$M"
    mount -t fuse.nfs -o "port=20790,mountport=$((PORT + 1)),nolock,linger=0${1:+,$1}" "$SRC" "$M"
}

# The server restarts and forgets what was written first, while what was written over it is on its way: the newer data win.
case_forgotten_under_newer() {
    proxied
    python3 - "$M/f" <<'END' & writer=$!
import os, sys, threading, time
M = sys.argv[1]
wire = M[:-2] + ".wire/"
fd = os.open(M, os.O_RDWR | os.O_CREAT)
def wait(proc, n):
    for _ in range(400):
        if sum(l.split()[0] == proc for l in open(wire + "log")) >= n:
            return
        time.sleep(0.01)
    raise SystemExit("no call " + proc)
os.pwrite(fd, b"a" * 4096, 0)
os.pwrite(fd, b"a" * 4096, 65536)       # two extents: they are sent UNSTABLE
os.stat(M)                              # wants them on the server
wait("7", 2)
time.sleep(0.2)
open(wire + "verifier", "w").close()
open(wire + "hold-7", "w").close()
open(wire + "hold-21", "w").close()
t = threading.Thread(target=lambda: os.close(os.dup(fd)))
t.start()
wait("21", 1)                           # the COMMIT of the first data is on its way
os.pwrite(fd, b"b" * 4096, 0)
t2 = threading.Thread(target=lambda: os.close(os.dup(fd)))
t2.start()
time.sleep(1)
os.unlink(wire + "hold-21")             # it has forgotten them
time.sleep(0.5)
os.unlink(wire + "hold-7")
t.join()
t2.join()
os.close(fd)
END
    wait $writer
    tail -n 20 "$P/log"
    [ "$(head -c 1 "$E/f")" = b ] || fail "the older data are on the server"
}

# sync: each write(2) returns when its data are on the server's disk, and no sooner; without it, before they are there.
case_sync() {
    local options
    for options in sync ""; do
        proxied $options
        python3 - "$M/sync" "$E/sync" "$P" ${options:-write_behind} <<'END'
import os, sys, threading
path, disk, wire, how = sys.argv[1:]
fd = os.open(path, os.O_RDWR | os.O_CREAT)
size = 0
def stable():  # how the server was asked to write what it has got, by bytes; 0: UNSTABLE
    calls = [line.split() for line in open(wire + "/log")]
    return {byte: int(c[3]) for c in calls if c[0] == "7" for byte in range(int(c[1]), int(c[1]) + int(c[2]))}
for n in 1, 10, 5000, 300000:
    os.pwrite(fd, b"x" * n, size)
    size += n
    if how == "sync":
        with open(disk, "rb") as f:
            assert f.read() == b"x" * size
        with open(wire + "/log") as log:
            assert set(stable().values()) <= {1, 2} or log.read().split("\n")[-2] == "21", "neither FILE_SYNC nor a COMMIT"
open(wire + "/hold-7", "w").close()
t = threading.Thread(target=os.pwrite, args=(fd, b"y", 0))
t.start()
t.join(0.5 if how == "sync" else 10)
assert t.is_alive() == (how == "sync"), "waited" if t.is_alive() else "returned before the server had answered"
os.unlink(wire + "/hold-7")
t.join()
os.close(fd)
END
        [ "$(head -c 1 "$E/sync")" = y ]
        rm "$M/sync"
        umount "$M"
        wait_for 10 no_volumes
        kill $proxy
        rm -r "$P"
    done
    trap - EXIT
}

# A worker dies over appended data that the server does not have: what is appended next goes behind it.
case_append_after_crash() {
    mount_at "$M"
    for i in $(seq 20); do
        printf '1111\n' >"$E/a"
        python3 - "$M/a" "$T/server/ganesha.pid" "$(worker_pid)" <<'END'
import os, signal, sys, threading, time
path, pidfile, worker = sys.argv[1:]
server = int(open(pidfile).read())
fd = os.open(path, os.O_WRONLY | os.O_APPEND)
os.write(fd, b"2222\n")
os.kill(server, signal.SIGSTOP)
os.kill(int(worker), signal.SIGKILL)
t = threading.Thread(target=lambda: os.write(fd, b"3333\n"))
t.start()
time.sleep(0.4)
os.kill(server, signal.SIGCONT)
t.join()
os.close(fd)
END
        [ "$(cat "$E/a")" = $'1111\n2222\n3333' ] || { cat "$E/a"; fail "round $i"; }
    done
}
limit_append_after_crash=120

# Data is lost: everybody who wrote hears of it, and whoever only cuts the file does not.
case_errors_for_all() {
    mount_at "$M"
    python3 - "$M" "$E" <<'END'
import errno, os, sys
M, E = sys.argv[1:]
fill = os.open(E + "/fill", os.O_WRONLY | os.O_CREAT)
a = os.open(M + "/f", os.O_RDWR | os.O_CREAT)
b = os.open(M + "/f", os.O_RDWR)
c = os.open(M + "/f", os.O_RDWR)
st = os.statvfs(E)
os.posix_fallocate(fill, 0, st.f_bavail * st.f_frsize)
os.lseek(fill, 0, os.SEEK_END)
for _ in range(4):  # what was reserved for blocks to come is free again
    try:
        while True:
            os.write(fill, b"x" * 4096)
    except OSError:
        os.sync()
def err(f, *args):
    try:
        f(*args)
        return 0
    except OSError as e:
        return errno.errorcode[e.errno]
for i in range(64):
    os.pwrite(a, b"a" * 4096, i * 8192 + (1 << 20))
got = [err(os.close, os.dup(b)), err(os.fsync, a), err(os.fsync, c), err(os.fsync, a)]
print(got)
assert got == ["ENOSPC", "ENOSPC", "ENOSPC", 0], got
for i in range(64):
    os.pwrite(a, b"a" * 4096, i * 8192 + (1 << 21))
got = [err(os.truncate, M + "/f", 0), err(os.fsync, a), err(os.fsync, os.open(M + "/f", os.O_RDWR))]
os.unlink(E + "/fill")
print(got)
assert got == [0, "ENOSPC", 0], got
END
}

# Times that were set stay, also if what was written before has to be written again.
case_times_after_restart() {
    proxied
    python3 - "$M/f" "$P" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"x" * 4096, 8192)
os.pwrite(fd, b"x" * 4096, 65536)
os.utime(fd, (1e9, 1e9))
open(sys.argv[2] + "/verifier", "w").close()
os.close(fd)
END
    [ "$(stat -c %Y "$E/f")" = 1000000000 ] || fail "mtime $(stat -c %Y "$E/f")"
}

# The server restarts between two parts of one extent.
case_parts_of_a_write() {
    proxied wsize=1024
    python3 - "$M/f" "$P" <<'END'
import os, sys, threading, time
path, wire = sys.argv[1:]
def wait(n):
    for _ in range(1000):
        if sum(l.startswith("7 ") for l in open(wire + "/log")) >= n:
            return
        time.sleep(0.01)
    raise SystemExit("no WRITE")
fd = os.open(path, os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"a" * 4096, 0)
os.pwrite(fd, b"a" * 4096, 65536)
open(wire + "/hold-7", "w").close()
t = threading.Thread(target=lambda: os.close(os.dup(fd)))
t.start()
wait(2)                                  # the first part of both
while open(wire + "/held").read() != "2": time.sleep(0.01)
open(wire + "/one-7", "w").close()       # has arrived
wait(4)
open(wire + "/verifier", "w").close()    # then the server restarts and has forgotten it
os.unlink(wire + "/hold-7")
t.join()
END
    [ "$(grep -c '^7 0 1024' "$P/log")" -ge 2 ] || { cat "$P/log"; fail "the first part was not written again"; }
}

dead() { ! grep -q '^State:.[^ZX]' "/proc/$1/status" 2>/dev/null; }

# No room for more and the server hangs: who waits can be killed, and who stays goes on when the server does.
case_no_room() {
    mount_at "$M"
    cat >writer.py <<'END'
import os, sys, time
path, size, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fd = os.open(path, os.O_RDWR | os.O_CREAT)
open(os.path.basename(path) + ".open", "w").close()
while not os.path.exists("hung"):
    time.sleep(0.01)
for i in range(n):
    os.pwrite(fd, bytes([i % 251]) * size, i * size)
os.fsync(fd)
for i in range(n):
    assert os.pread(fd, size, i * size) == bytes([i % 251]) * size, i
END
    for i in 1 2 3; do
        python3 writer.py "$M/big$i" 262144 400 & eval "big$i=$!"
        python3 writer.py "$M/small$i" 5000 3000 & eval "small$i=$!"
    done
    for i in 1 2 3; do
        wait_for 10 test -e big$i.open
        wait_for 10 test -e small$i.open
    done
    server pause
    touch hung
    sleep 3
    kill -KILL $big1 $small1
    wait_for 5 dead $big1
    wait_for 5 dead $small1
    kill -KILL "$(worker_pid)"
    sleep 1
    server cont
    wait $big2
    wait $big3
    wait $small2
    wait $small3
}

# The server restarts and has forgotten what was not committed: who reads, asks for the size, or appends does not see that.
memory_kib() { # what the recovery memory takes
    local keeper=$(keeper_pid)
    for fd in /proc/"$keeper"/fd/*; do
        case $(readlink "$fd") in "/memfd:nfsvol "*) echo $(($(stat -Lc %b "$fd") / 2)) && return ;; esac
    done
}
memory_is_small() { [ "$(memory_kib)" -lt 4000 ]; }
case_memory_goes_back() { # a while after the last of it is on the server
    local i writers=()
    mount_at "$M"
    wait_for 20 memory_is_small # what is at work when a worker begins comes to rest
    dd if=/dev/zero of="$M/big" bs=1M count=100 conv=fsync
    not memory_is_small
    for i in {1..16}; do # many requests at once, too
        dd if=/dev/zero of="$M/big" bs=1M count=10 seek=$((10 * i)) conv=notrunc oflag=direct 2>/dev/null &
        writers+=($!)
    done
    wait "${writers[@]}"
    truncate -s 100M "$M/big"
    wait_for 40 memory_is_small
    dd if=/dev/zero of="$M/big" bs=1M count=100 conv=fsync
    kill -KILL "$(worker_pid)"
    [ "$(stat -c %s "$M/big")" = 104857600 ]
    rm "$M/big"
}

# Nobody closes the file or asks for anything, and each WRITE is as large as it can be: committed all the same after a while.
case_committed_in_time() {
    local writer
    mount_at "$M"
    sleep 2
    python3 -c '
import mmap, os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
data = mmap.mmap(-1, 1 << 20)
for i in range(4):
    os.pwrite(fd, data, i << 20)
time.sleep(1000)' "$M/open" & writer=$!
    wait_for 30 bytes_are 4194304 counters.bytes_written
    wait_for 30 bytes_are 0 counters.unstable_bytes
    kill $writer
    rm "$M/open"
}
bytes_are() { [ "$(status_of "$2")" = "$1" ]; }

case_forgotten_and_read() {
    mount_at "$M"
    python3 - "$M" <<'END' & reader=$!
import os, sys, time
M = sys.argv[1]
fd = os.open(M + "/f", os.O_RDWR | os.O_CREAT)
log = os.open(M + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
direct = os.open(M + "/f", os.O_RDONLY | os.O_DIRECT)
for at in (0, 65536):
    os.pwrite(fd, b"a" * 4096, at)
for _ in range(40):
    os.write(log, b"old\n")
os.stat(M + "/f")                       # on the server, UNSTABLE
os.stat(M + "/log")
open("written", "w").close()
while not os.path.exists("restarted"):
    time.sleep(0.001)
import mmap
buf = mmap.mmap(-1, 4096)
n = os.preadv(direct, [buf], 65536)
os.write(log, b"new\n")
sizes = os.stat(M + "/f").st_size, os.stat(M + "/log").st_size
print(n, buf[:1], sizes)
assert n == 4096 and buf[:] == b"a" * 4096, n
assert sizes == (69632, 164), sizes
os.close(log)
END
    wait_for 10 test -e written
    server pause
    sleep 0.1
    server kill
    : >"$E/f"
    : >"$E/log"
    touch restarted
    sleep 0.5
    server restart
    wait $reader
    [ "$(cat "$E/log")" = "$(yes old | head -n 40; echo new)" ] || { cat "$E/log"; fail "appended elsewhere"; }
}

run_cases "$@"
