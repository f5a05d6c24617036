#!/bin/bash
# Servers that do what they should not: the fault-injecting one of the wire tests, mounted.
. "$(dirname "$0")/lib.bash"
: "${FAKENFS:?the fake server}"

GETATTR=1 SETATTR=2 LOOKUP=3 READ=6 WRITE=7 CREATE=8 READDIR=16 READDIRPLUS=17

# strange [KEY ACTION ARG SKIP TIMES]...: a server with faults, mounted at $M. It ends with the case.
n_files=20
fake_start() {
    mkfifo "$T/fake.in"
    "$FAKENFS" 20690 "$n_files" "$@" <"$T/fake.in" >"$T/fake.out" & fake=$!
    exec 9>"$T/fake.in"
    rm "$T/fake.in"
    trap 'exec 9>&-; wait $fake' EXIT
    wait_for 5 grep -q '^port' "$T/fake.out"
}
strange() {
    fake_start "$@"
    fake_mount
}
fake_mount() { mount -t fuse.nfs -o "port=20690,mountport=20690,linger=0${1:+,$1}" 127.0.0.1:/fake "$M"; }

entries() { ls "$M" | wc -l; }

case_all_is_well() {
    strange
    [ "$(entries)" = 20 ] || fail "$(entries) entries"
}

case_exits_with_a_slow_server() { # who waits for it to end and then looks from another node finds what it had written
    local began
    strange $WRITE delay 5000 0 1
    began=$(monotonic_ms)
    python3 -c 'import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY), b"x"); os._exit(0)' "$M/f1"
    [ $(($(monotonic_ms) - began)) -ge 5000 ]
}

# It may free the locks of this machine at any time: nothing is locked before it has said that it did. Not for ever.
case_server_does_not_say_that_it_frees() {
    local FREE_ALL=323
    mkdir -p "$NFSVOL_STATEDIR"
    echo '00000000-0000-4000-8000-000000000000 1 127.0.0.1 20690 127.0.0.1 0 node' >"$NFSVOL_STATEDIR/locks"
    rm -f "$NFSVOL_RUNDIR/.nlm" # as after a start of the machine
    fake_start $FREE_ALL drop 0 0 0
    for _ in 1 2 3; do
        not fake_mount nlmport=20690 2>err
        grep 'not yet: servers are just being told to free what this machine had locked' err
    done
    wait_for 5 logged '127.0.0.1 cannot be told that this machine (node) is up again (no answer)'
    fake_mount nlmport=20690
    [ "$(grep -c . "$NFSVOL_STATEDIR/locks")" = 1 ]
    flock -n "$M/f1" true
}

case_listing_noent_once() { # an entry went while the server read the directory
    strange $READDIRPLUS status 2 0 2
    [ "$(entries)" = 20 ] || fail "$(entries) entries"
}

case_listing_noent_with_attributes() {
    strange $READDIRPLUS status 2 0 0
    [ "$(entries)" = 20 ] || fail "$(entries) entries"
    [ "$(ls -l "$M" | wc -l)" = 21 ]
}

case_listing_without_readdirplus() { # the server has none (RFC 1813, section 3.3.17)
    strange $READDIRPLUS status 10004 0 0
    [ "$(entries)" = 20 ] || fail "$(entries) entries"
    [ "$(ls -l "$M" | wc -l)" = 21 ]
    [ "$(entries)" = 20 ]
}

case_listing_noent_always() { # half a directory must not look like a whole one
    strange $READDIRPLUS status 2 0 0 $READDIR status 2 0 0
    ls "$M" 2>err && fail "listed"
    grep -q 'Input/output error' err
}

# 3000 names come in several replies; in each: all of them once, in both ways to ask, and from the middle on.
listed() { # NAMES-EACH ["no seek"]
    python3 - "$M" "$@" <<'PY'
import ctypes, os, sys
m, each = sys.argv[1], int(sys.argv[2])
want = sorted([f"f{i}" for i in range(3000)] * each)
assert sorted(os.listdir(m)) == want, len(os.listdir(m))
for e in os.scandir(m):
    assert e.stat(follow_symlinks=False).st_size == 1 << 20
if len(sys.argv) > 3: sys.exit()
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir64.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
libc.readdir64.restype = ctypes.c_void_p
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.telldir.restype = ctypes.c_long
d = libc.opendir(m.encode())
def name():
    e = libc.readdir64(d)
    return ctypes.string_at(e + 19).decode() if e else None
for i in range(1500): name()
at, next_ = libc.telldir(d), name()
while name(): pass
libc.seekdir(d, at)
assert name() == next_, "seekdir"
libc.closedir(d)
PY
}

case_listing_huge_cookies() { # negative as a loff_t: lseek(2) refuses them, whichever file system it is
    n_files=3000 strange $READDIRPLUS cookies 0 0 0 $READDIR cookies 0 0 0
    listed 1 "no seek"
}

case_listing_descending_cookies() {
    n_files=3000 strange $READDIRPLUS cookies 1 0 0 $READDIR cookies 1 0 0
    listed 1
}

case_listing_names_twice() { # as the server says: that is not ours to decide
    n_files=3000 strange $READDIRPLUS cookies 2 0 0 $READDIR cookies 2 0 0
    listed 2
}

case_listing_bad_cookie() { # the directory was changed, or the server restarted: the verifier is another
    n_files=3000 strange $READDIRPLUS status 10003 1 1
    listed 1
}

case_file_ids_change() { # the handle is what counts
    strange -1 file-id 0 0 0
    [ "$(entries)" = 20 ] || fail "$(entries) entries"
    cmp "$M/f3" "$M/f3"
    ls -lR "$M" >/dev/null
    [ "$(stat -c %s "$M/f5")" = 1048576 ]
    echo x >>"$M/f5"
    exec 8<"$M/f3"
    cat <&8 >/dev/null
    exec 8<&-
}

case_lookup_stale_for_a_moment() { # what it found was removed before it had its attributes; the kernel asks again once
    strange $LOOKUP status 70 0 4
    [ "$(stat -c %s "$M/f3")" = 1048576 ]
}

case_create_stale_for_a_moment() {
    strange $CREATE status 70 0 3
    python3 -c 'import os, sys; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY)' "$M/new"
}

case_lookup_without_attributes_then_stale() { # ... and the reply shows it by having none
    strange $LOOKUP no-attributes 0 0 0
    [ "$(stat -c %s "$M/f3")" = 1048576 ]
    umount "$M"
    wait_for 10 no_volumes
    exec 9>&- && wait $fake
    strange $LOOKUP no-attributes 0 0 0 $GETATTR status 70 1 4 # the first one is mount's
    [ "$(stat -c %s "$M/f3")" = 1048576 ]
}

case_created_then_removed() { # by another client, before its attributes were set or asked for
    strange $SETATTR status 70 0 3
    python3 -c 'import os, sys; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY)' "$M/new"
}

case_lookup_stale() {
    strange $LOOKUP status 70 0 0
    stat "$M/f3" 2>err && fail "found"
    grep -q 'Stale file handle' err
}

case_write_errors_are_told() { # at fsync(2), at close(2), at a synchronous write(2); once to each who has it open
    local status
    for status in 5 27 28 30 69 70; do
        strange $WRITE status $status 0 0
        python3 - "$M" <<'PY'
import errno, os, sys
m = sys.argv[1]
def fails(what, call, *args):
    try: call(*args)
    except OSError as e: return e.errno
    sys.exit(f"{what} succeeds")
a, b = os.open(f"{m}/f1", os.O_WRONLY), os.open(f"{m}/f1", os.O_WRONLY)
os.write(a, b"x" * 1000)
e = {fails("fsync", os.fsync, a), fails("fsync of another", os.fsync, b)}
os.fsync(a)
os.close(a)
os.close(b)
a = os.open(f"{m}/f2", os.O_WRONLY)
os.write(a, b"x" * 1000)
e.add(fails("close", os.close, a))
a = os.open(f"{m}/f3", os.O_WRONLY | os.O_SYNC)
e.add(fails("write", os.write, a, b"x" * 1000))
os.close(a)
assert len(e) == 1, e
print("#", errno.errorcode[e.pop()])
PY
        umount "$M"
        wait_for 10 no_volumes
        exec 9>&-
        wait $fake
    done
}

# On its disk are ACLs that let some do more than mode bits do, and others less: what it says counts, for each user.
# (nfs-ganesha as Debian builds it knows no ACLs of its disk.)
case_acls() {
    strange
    umount "$M"
    wait_for 10 no_volumes
    mount -t fuse.nfs -o port=20690,mountport=20690,nlmport=1,linger=0 127.0.0.1:/fake "$M"
    python3 "$here/acls.py" "$M"
}

# LOCKs and UNLOCKs that the server carries out when their connection is long gone, and newer ones have been answered.
late() { # FUNCTION of latelocks.py, by two clients
    local client
    strange
    umount "$M"
    for client in a b; do
        mkdir -p "$M/$client"
        mount -t fuse.nfs -o "port=20690,mountport=20690,nlmport=20690,linger=0,timeo=$([ $client = a ] && echo 600 || echo 601)" \
            127.0.0.1:/fake "$M/$client"
    done
    PYTHONDONTWRITEBYTECODE=1 python3 "$here/latelocks.py" "$M" "$T/fake.out" "$1"
    umount "$M/a" "$M/b" # while the server is there
    wait_for 10 no_volumes
}
case_late_lock() { late lock; }
case_late_unlock() { late unlock; }
case_late_unlock_of_all() { late unlock_of_all; }
case_late_lock_that_was_denied() { late denied; }
case_late_reclaim() { late reclaim; }
case_late_confirmation() { late confirmation; }

case_write_error_is_told_before_the_next_open() { # which may be answered by another thread
    strange $WRITE status 27 0 0
    umount "$M"
    mount -t fuse.nfs -o port=20690,mountport=20690,linger=0,nconnect=4 127.0.0.1:/fake "$M"
    python3 - "$M" <<'PY'
import os, sys
name = f"{sys.argv[1]}/f{1 + sum((os.fork() == 0) << bit for bit in range(3))}" # eight at once
told = 0
for i in range(1000):
    fd = os.open(name, os.O_WRONLY)
    os.write(fd, b"x")
    try:
        os.fsync(fd)
        sys.exit("a lost write is not told")
    except OSError:
        pass
    os.close(fd)
    fd = os.open(name, os.O_WRONLY)
    try:
        os.close(fd)
    except OSError:
        told += 1
try:
    while True:
        told += os.waitstatus_to_exitcode(os.wait()[1])
except ChildProcessError:
    pass
if told:
    print(told, "were told twice", file=sys.stderr)
sys.exit(min(told, 200))
PY
}

# The process that drops pages waits for a READ that nobody will answer: killed, it stays, and the kernel's connection with it.
stuck_while_it_drops() { # sets reader
    local pid
    strange $READ drop 0 0 0
    umount "$M"
    wait_for 10 no_volumes
    mount_stuck
    head -c 1 "$M/f3" >"$T/read" 2>&1 & reader=$!
    wait_for 30 state_of_process_is $reader D
    python3 -c 'import fcntl, sys; fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX)' "$M/f3" >"$T/locked" 2>&1 & locker=$!
    wait_for 30 state_of_process_is "$(pgrep -x nfsvol-notifier)" D
    for pid in $(daemon_pids); do kill -STOP "$pid"; done
    for pid in $(daemon_pids); do kill -KILL "$pid"; done
    wait_for 5 state_is dead
    nfsvol status "$M" | grep -q 'stuck in the kernel'
    state_of_process_is $reader D
}
mount_stuck() { mount -t fuse.nfs -o port=20690,mountport=20690,nlmport=20690,linger=0 127.0.0.1:/fake "$M"; }
state_of_process_is() { grep -q "^State:.*$2" "/proc/$1/status"; }
state_is() { [ "$(status_of state)" = "$1" ]; }
ends_with_an_error() { # PID
    wait_for 5 not alive "$1"
    ! wait "$1"
}
alive() { kill -0 "$1" 2>/dev/null; }

limit_all_killed_while_one_is_stuck_then_umount=120
case_all_killed_while_one_is_stuck_then_umount() {
    stuck_while_it_drops
    nfsvol umount "$M" >out
    grep -q 'what waited for its files' out
    ends_with_an_error $reader
    ends_with_an_error $locker
    wait_for 5 not pgrep -x nfsvol-notifier
    mount_stuck
    [ "$(entries)" = 20 ]
}

limit_all_killed_while_one_is_stuck_then_mount=60
case_all_killed_while_one_is_stuck_then_mount() { # as kubelet does
    stuck_while_it_drops
    mount_stuck
    ends_with_an_error $reader
    ends_with_an_error $locker
    [ "$(entries)" = 20 ]
    [ "$(grep -c "$M" /proc/self/mountinfo)" = 1 ]
}

# RFC 5531, section 11: a record ends with the fragment that says so. It is not kept until there is no memory left.
peak_mib() { awk '$1 == "VmHWM:" { print int($2 / 1024) }' "/proc/$1/status"; }
case_records_without_an_end() {
    local before
    strange
    [ "$(entries)" = 20 ]
    worker=$(worker_pid)
    before=$(peak_mib $worker)
    echo "$READ endless 65536 0 3" >&9
    echo "seen $READ" >&9
    wait_for 5 grep -q "^seen $READ" "$T/fake.out" # so it knows
    cmp -s <(head -c 4096 "$M/f5") <(python3 -c 'import sys; sys.stdout.buffer.write(bytes((7 * 31 + o * 7 + (o >> 12)) & 255 for o in range(4096)))')
    [ "$(status_of counters.bad_replies)" -ge 1 ] # one each time it is connected, and there may be several READs
    wait_for 5 logged '^4 127.0.0.1:/fake: connection lost (it sends a record that is longer than any reply)'
    [ $(($(peak_mib $worker) - before)) -lt 64 ] || fail "$(peak_mib $worker) MiB, and $before before"
    [ "$(worker_pid)" = "$worker" ]
}

case_records_without_an_end_while_mounting() {
    SECONDS=0
    not strange 101 endless 65536 0 0 2>err
    grep -q 'sends a record that is longer than any answer' err
    [ $SECONDS -lt 8 ]
    wait_for 10 no_volumes
}

# Every fault in turn, of any procedure, under a load that knows what it must read: what can be retried is, what cannot is an
# error and not wrong data, nothing crashes, and after it all is well.
limit_every_fault=120
case_every_fault() {
    n_files=200 strange
    umount "$M"
    wait_for 10 no_volumes
    mount -t fuse.nfs -o port=20690,mountport=20690,nlmport=1,linger=0,hard,timeo=5,retrans=1,actimeo=1 127.0.0.1:/fake "$M"
    worker=$(worker_pid)
    python3 "$here/faults.py" "$M"
    [ "$(worker_pid)" = "$worker" ]
}

run_cases "$@"
