#!/bin/bash
# What kubelet relies on without saying so, point by point (k8s.io/mount-utils, pkg/volume). What has to do with its
# service and its cgroup is in tests/system/.
. "$(dirname "$0")/lib.bash"

limit_target_removed_under_the_helper=60
case_target_removed_under_the_helper() { # the pod was deleted meanwhile: fail, make nothing
    local rc=0 helper
    server pause
    mount.nfs "$SRC" "$M" -o "$MOUNT_PORTS,linger=0" 2>err &
    helper=$!
    sleep 1
    rmdir "$M"
    server cont
    wait $helper || rc=$?
    cat err
    [ $rc = 32 ]
    [ ! -e "$M" ]
    mkdir "$M"
}

case_idempotent() {
    mount.nfs "$SRC" "$M" -o "$MOUNT_PORTS,linger=0"
    [ -z "$(mount.nfs "$SRC" "$M" -o "$MOUNT_PORTS,linger=0" 2>&1)" ]
    [ "$(grep -c " $M " /proc/self/mountinfo)" = 1 ]
}

case_subpath_through_a_descriptor() { # --no-canonicalize -o bind /proc/PID/fd/N
    mount_at "$M/v"
    mkdir -p "$M/v/sub/path" "$M/target"
    echo here >"$M/v/sub/path/file"
    exec 8<"$M/v/sub/path"
    mount --no-canonicalize -o bind "/proc/$BASHPID/fd/8" "$M/target"
    exec 8<&-
    [ "$(cat "$M/target/file")" = here ]
    mount -o bind,remount,ro "$M/target"
    not touch "$M/target/new" 2>/dev/null
    touch "$M/v/sub/path/new"
    umount "$M/v"
    [ "$(cat "$M/target/file")" = here ] # the volume lives as long as this one
    umount "$M/target"
    rm -r "$T/server/export/sub"
}

case_subpath_of_a_file() {
    mount_at "$M/v"
    echo configuration >"$M/v/file"
    touch "$M/target"
    mount -o bind "$M/v/file" "$M/target"
    [ "$(cat "$M/target")" = configuration ]
    umount "$M/target" "$M/v"
    rm "$T/server/export/file"
}

limit_dead_server_root_is_answered=90
case_dead_server_root_is_answered() { # hard mount, nothing cached: stat and statfs of the root end
    local start
    mount_at "$M" actimeo=0
    mkdir "$M/dir"
    server pause
    for what in "stat $M" "stat -f $M" "df $M" "mountpoint $M" "stat $M" "umount $M"; do
        start=$SECONDS
        timeout -s KILL 20 $what
        [ $((SECONDS - start)) -lt 8 ] || fail "$what took $((SECONDS - start)) s"
    done
    server cont
    rmdir "$T/server/export/dir"
}

# The same from a worker that never heard of the server: its memory has the root's attributes, but nothing for STATFS. That ends with
# an error, in time, and one from which kubelet concludes that the mount is dead (mount-utils, IsCorruptedMnt): with another one the
# pod could not be deleted.
limit_dead_server_root_is_an_error=120
case_dead_server_root_is_an_error() {
    local how options
    while read -r how options; do
        mount_at "$M" "actimeo=0,$options"
        server $how
        kill -KILL "$(worker_pid)"
        timeout -s KILL 60 python3 - "$M" <<'PY'
import errno, os, sys, time
CORRUPTED = {"ENOTCONN", "ESTALE", "EIO", "EACCES", "EHOSTDOWN"}
for ask in os.stat, os.statvfs, os.stat, os.statvfs:
    start = time.monotonic()
    try:
        ask(sys.argv[1])
        got = "no error"
    except OSError as e:
        got = errno.errorcode[e.errno]
    took = time.monotonic() - start
    print(f"# {ask.__name__}: {got} after {took:.1f} s")
    assert took < 8 and (got in CORRUPTED or ask is os.stat and got == "no error"), (ask.__name__, got, took)
PY
        timeout -s KILL 20 umount "$M"
        [ $how = kill ] || server cont
        [ $how = pause ] || server restart
        wait_for 20 no_volumes
    done <<END
pause hard
kill hard
pause softerr,timeo=10,retrans=1
END
}

limit_deleted_while_the_server_is_dead=90
case_deleted_while_the_server_is_dead() { # stat, umount, umount -f, rmdir, with a process stuck inside
    mount_at "$M/v"
    head -c 100000 /dev/urandom >"$M/v/file"
    echo 3 >/proc/sys/vm/drop_caches
    server pause
    cat "$M/v/file" >/dev/null 2>&1 &
    local reader=$!
    wait_for 10 grep -q fuse "/proc/$reader/stack"
    timeout -s KILL 20 stat "$M/v" >/dev/null
    not timeout -s KILL 20 umount "$M/v" 2>/dev/null # busy
    timeout -s KILL 20 umount -f "$M/v"
    rmdir "$M/v"
    kill -KILL $reader
    wait_for 5 sh -c "! kill -0 $reader 2>/dev/null"
    server cont
    rm "$T/server/export/file"
}

case_ends_while_the_server_is_dead() { # what a worker asks for nobody's sake (one that takes over: FSSTAT) keeps nothing
    mount_at "$M"
    local worker=$(status_of worker_pid)
    server pause
    kill -KILL "$worker"
    wait_for 5 sh -c "! kill -0 $worker 2>/dev/null"
    umount "$M"
    wait_for 15 no_volumes
    server cont
}

case_ends_when_all_is_on_the_server() { # and says meanwhile what it waits for
    mount_at "$M"
    (
        exec 7>"$M/file"
        server pause
        touch "$T/paused"
        echo data >&7 # and a close(2), which waits
    ) &
    local writer=$!
    wait_for 10 test -e "$T/paused"
    wait_for 10 grep -q fuse "/proc/$writer/stack"
    kill -KILL $writer
    wait_for 5 sh -c "! kill -0 $writer 2>/dev/null"
    umount "$M"
    wait_for 20 logged 'waiting for the server, which has not answered [1-9]'
    server cont
    wait_for 10 no_volumes
    [ "$(cat "$T/server/export/file")" = data ]
    rm "$T/server/export/file"
}

limit_signals=90
case_signals() { # a signal that does not kill breaks nothing; one that kills is noticed, also after another
    mount_at "$M"
    head -c 4000000 /dev/urandom >"$M/file"
    echo 3 >/proc/sys/vm/drop_caches
    cat >"$T/reader.py" <<'PY'
import os, signal, sys
n = 0
def count(*a):
    global n
    n += 1
signal.signal(signal.SIGALRM, count)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
fd = os.open(sys.argv[1], os.O_RDONLY)
open(sys.argv[2], "w")
total = 0
while True:
    data = os.read(fd, 1 << 20)
    if not data:
        break
    total += len(data)
signal.setitimer(signal.ITIMER_REAL, 0)
assert total == 4000000, total
assert n > 0, n
PY
    (sleep 3; server cont) &
    server pause
    # the open waits for the server with signals raining on it, and goes on
    python3 "$T/reader.py" "$M/file" "$T/opened"
    wait
    # and one that is killed while it waits, after such signals
    echo 3 >/proc/sys/vm/drop_caches
    rm "$T/opened"
    server pause
    python3 "$T/reader.py" "$M/file" "$T/opened" &
    local reader=$!
    sleep 1
    kill -KILL $reader
    wait_for 3 sh -c "! kill -0 $reader 2>/dev/null"
    server cont
    rm "$M/file"
}

case_service_account_style_tree() { # fsGroup: chown and chmod of everything, as kubelet does it
    mount_at "$M"
    mkdir -p "$M/a/b"
    echo x >"$M/a/b/c"
    chown -R :2000 "$M/a"
    chmod -R g+rwXs "$M/a"
    [ "$(stat -c %g "$M/a/b/c")" = 2000 ]
    [ "$(stat -c %a "$M/a/b")" = 2775 ]
    rm -r "$M/a"
}

# However many wait for a dead server, and with whatever: what kubelet asks is answered, and who waits can be killed.
# More wait than one reactor has room for (include/vfs/memory.h): the next one is read by another, and not when one more comes.
case_one_reactor_is_full() {
    mount_at "$M" nconnect=2
    server pause
    python3 - "$M" <<'PY'
import json, os, subprocess, sys, threading, time
def in_flight():
    out = subprocess.run(["nfsvol", "status", "--json"], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out)[0]["requests"]["in_flight"]
threading.stack_size(65536)
for i in range(1100):
    threading.Thread(target=os.path.exists, args=(f"{sys.argv[1]}/none{i}",), daemon=True).start()
    if i < 1000:
        time.sleep(0.001) # one at a time: they go to the first reactor that is idle
        continue
    end = time.time() + 10
    while (n := in_flight()) != i + 1:
        assert time.time() < end, (n, i + 1)
os._exit(0) # as if killed: they are interrupted
PY
    server cont
}

limit_many_wait_for_a_dead_server=120
case_many_wait_for_a_dead_server() {
    local rc=0 start
    mount_at "$M"
    python3 - "$M" "$T/server.paused" "$T/waiting" "$T/pids" <<'PY' & python=$!
import mmap, os, sys, time
d, paused, waiting, pids = sys.argv[1:]
block = mmap.mmap(-1, 65536)
kids = []
for i in range(340):
    pid = os.fork()
    if pid == 0:
        fd = os.open(f"{d}/w{i}", os.O_CREAT | os.O_WRONLY | os.O_DIRECT) if i < 40 else -1
        open(f"{waiting}.{i}", "w").close()
        while not os.path.exists(paused): time.sleep(0.05)
        try:
            if i < 40: os.pwrite(fd, block, 0)
            else: os.path.exists(f"{d}/none{i}")
        except OSError: pass
        os._exit(0)
    kids.append(pid)
open(pids, "w").write(" ".join(map(str, kids)))
for pid in kids: os.waitpid(pid, 0)
PY
    wait_for 30 test -s "$T/pids"
    wait_for 30 sh -c "[ \$(ls '$T'/waiting.* | wc -l) = 340 ]"
    server pause
    touch "$T/server.paused"
    wait_for 30 sh -c "[ \$(ps -o stat= -p \$(tr ' ' , <'$T/pids') | grep -c '^[DS]') = 340 ]" ||
        { ps -o pid=,stat=,wchan=,args= -p "$(tr ' ' , <"$T/pids")" | grep -v ' [DS]'; nfsvol status --json "$M"; return 1; }
    sleep 2
    start=$SECONDS
    timeout 10 stat -f "$M" || rc=1
    timeout 10 stat "$M" || rc=1
    echo "answered after $((SECONDS - start)) s"
    kill -KILL $(cat "$T/pids")
    wait_for 10 sh -c "! kill -0 $python 2>/dev/null" || rc=1
    server cont
    wait $python 2>/dev/null || :
    rm -f "$T"/waiting.* "$T/pids" "$T/server.paused" "$M"/w*
    [ $rc = 0 ]
}

# A pod with a user namespace: its root is 100000 here, and its bind of the volume is idmapped so that its ids are the server's.
idmapped() { # FROM TO PID: whose user namespace
    python3 - "$@" <<'PY'
import ctypes, os, struct, sys
libc, (source, target, pid) = ctypes.CDLL(None, use_errno=True), sys.argv[1:]
def call(*args):
    r = libc.syscall(*args)
    if r < 0: sys.exit(f"system call {args[0]}: {os.strerror(ctypes.get_errno())}")
    return r
tree = call(428, -100, source.encode(), 1 | os.O_CLOEXEC)  # open_tree, OPEN_TREE_CLONE
attr = struct.pack("4Q", 0x100000, 0, 0, os.open(f"/proc/{pid}/ns/user", os.O_RDONLY))  # MOUNT_ATTR_IDMAP
call(442, tree, b"", 0x1000, attr, ctypes.c_size_t(len(attr)))  # mount_setattr
call(429, tree, b"", -100, target.encode(), 4)  # move_mount
PY
}
case_idmapped_pod() {
    local pid pod
    printf '%s\n' 6.12 "$(uname -r)" | sort -VC || { echo "needs Linux 6.12"; exit 77; }
    mkdir -p "$M.pod"
    mount_at "$M" idmap
    unshare --user sleep infinity & pid=$!
    trap "kill $pid; umount -l $M.pod 2>/dev/null || :" EXIT
    wait_for 5 sh -c "[ \$(readlink /proc/$pid/ns/user) != \$(readlink /proc/self/ns/user) ]"
    echo "0 100000 65536" >"/proc/$pid/uid_map"
    echo "0 100000 65536" >"/proc/$pid/gid_map"
    idmapped "$M" "$M.pod" "$pid"
    pod="nsenter --user=/proc/$pid/ns/user --setuid 0 --setgid 0"
    cd "$M.pod"
    $pod sh -c 'echo x >root; mkdir dir; ln -s a link; mkfifo fifo; chown 33:33 dir; echo y >theirs; chown 33:33 theirs; chmod 600 theirs'
    [ "$(cd "$T/server/export" && stat -c %u:%g root dir link fifo theirs | tr '\n' ' ')" = "0:0 33:33 0:0 0:0 33:33 " ]
    [ "$($pod stat -c %u:%g root dir | tr '\n' ' ')" = "0:0 33:33 " ]
    [ "$(stat -c %u:%g root dir | tr '\n' ' ')" = "100000:100000 100033:100033 " ]
    $pod setpriv --reuid 33 --regid 33 --clear-groups sh -c 'cat theirs; echo more >>theirs; echo z >dir/own'
    not $pod setpriv --reuid 34 --regid 34 --clear-groups cat theirs
    not $pod setpriv --reuid 34 --regid 34 --clear-groups touch dir/x
    [ "$(cat "$T/server/export/theirs")" = "$(printf 'y\nmore')" ]
    # by a group that only the kernel knows of (a pod's fsGroup), and one that the directory hands on
    $pod sh -c 'mkdir shared; chown 0:2000 shared; chmod 2770 shared'
    $pod setpriv --reuid 33 --regid 33 --groups 2000 python3 -c 'import os
for flags in os.O_EXCL, 0: os.close(os.open(f"shared/f{flags}", os.O_CREAT | os.O_WRONLY | flags, 0o640))
os.mkdir("shared/d"); os.symlink("t", "shared/l"); os.mkfifo("shared/p")'
    [ "$(cd "$T/server/export/shared" && stat -c %u:%g:%a f0 d p | tr '\n' ' ')" = "33:2000:640 33:2000:2755 33:2000:644 " ]
    [ "$(stat -c %u:%g:%a "$T"/server/export/shared/f[1-9]*)" = 33:2000:640 ]
    # a name that is not there, and then is somebody else's: not to be opened because it could not be made
    mkdir "$T/server/export/open" && chmod 777 "$T/server/export/open"
    not $pod setpriv --reuid 33 --regid 33 --clear-groups stat open/secret # the kernel remembers that
    (umask 077 && echo secret >"$T/server/export/open/secret")
    $pod setpriv --reuid 33 --regid 33 --clear-groups python3 -c 'import os
for flags in os.O_TRUNC, 0:
    try: os.open("open/secret", os.O_CREAT | os.O_RDWR | flags, 0o666)
    except PermissionError: pass
    else: raise SystemExit("opened")'
    [ "$(cat "$T/server/export/open/secret")" = secret ]
    not stat open/mine
    echo there >"$T/server/export/open/mine" && chown 33:33 "$T/server/export/open/mine"
    $pod setpriv --reuid 33 --regid 33 --clear-groups sh -c 'echo more >>open/mine'
    [ "$(cat "$T/server/export/open/mine")" = "$(printf 'there\nmore')" ]
    cp /bin/true "$T/server/export/open/setuid"
    chmod 4777 "$T/server/export/open/setuid"
    $pod setpriv --reuid 33 --regid 33 --clear-groups sh -c 'echo x >>open/setuid' # past the kernel's pages
    [ "$(stat -c %a "$T/server/export/open/setuid")" = 777 ]
    chmod 4777 "$T/server/export/open/setuid"
    echo 3 >/proc/sys/vm/drop_caches
    $pod setpriv --reuid 33 --regid 33 --clear-groups sh -c 'echo x 1<>open/setuid' # in them
    [ "$(stat -c %a "$T/server/export/open/setuid")" = 777 ]
    # what is not idmapped goes on as before
    echo w >"$M/plain"
    [ "$(stat -c %u:%g "$T/server/export/plain")" = 0:0 ]
    cd "$T"
    umount "$M.pod"
    rm -r "$M"/*
}
case_idmap_refused() { # by the kernel, for a volume that was not mounted with it
    mount_at "$M"
    mkdir -p "$M.pod"
    unshare --user sleep infinity & pid=$!
    trap "kill $pid" EXIT
    wait_for 5 sh -c "[ \$(readlink /proc/$pid/ns/user) != \$(readlink /proc/self/ns/user) ]"
    echo "0 100000 65536" >"/proc/$pid/uid_map"
    not idmapped "$M" "$M.pod" "$pid"
}

# kubelet's helper is killed while the server is slow, and kubelet tries again: one daemon, and nothing of the other.
limit_helper_killed=60
case_helper_killed() {
    local helper rc=0
    server pause
    mount.fuse.nfs "$SRC" "$M" -o "$MOUNT_PORTS,linger=0" & helper=$!
    sleep 1.5
    kill -KILL $helper
    wait $helper || :
    wait_for 3 keepers_are 0 # it does not wait for the server
    mount.fuse.nfs "$SRC" "$M" -o "$MOUNT_PORTS,linger=0" & helper=$!
    sleep 1
    server cont
    wait $helper || rc=$?
    [ $rc = 0 ]
    timeout -k 1 5 ls "$M"
    [ "$(grep -c ' fuse\.nfs ' /proc/self/mountinfo)" = 2 ] # the volume's own, and this one
    umount "$M"
    wait_for 20 no_volumes
}

# It is told to end in the moment in which its daemon says that it is ready, and has not read that.
limit_helper_interrupted_too_late=60
case_helper_interrupted_too_late() {
    local helper rc=0
    : >"$LOG"
    server pause
    mount.fuse.nfs "$SRC" "$M" -o "$MOUNT_PORTS,linger=1" & helper=$!
    wait_for 5 keepers_are 1
    kill -STOP $helper
    server cont
    wait_for 10 logged 'serving, options'
    kill -TERM $helper
    kill -CONT $helper
    wait $helper || rc=$?
    [ $rc = 8 ] || [ $rc = 0 ] # it may have come as far as that
    mount.fuse.nfs "$SRC" "$M" -o "$MOUNT_PORTS,linger=1" # kubelet, again
    sleep 4
    ls "$M"
    [ "$(status_of keeper_restarts)" = 0 ]
    not logged "the keeper was killed"
    umount "$M"
    wait_for 20 no_volumes
}

# The daemon's processes were in the cgroup that systemd told to end, and the helper was not.
limit_daemon_interrupted=60
case_daemon_interrupted() {
    local helper who rc
    for who in keeper all; do
        rc=0
        server pause
        mount.fuse.nfs "$SRC" "$M" -o "$MOUNT_PORTS" 2>"$T/err" & helper=$!
        wait_for 5 prober_waits
        if [ $who = all ]; then
            kill -TERM $(daemon_pids)
        else
            kill -TERM "$(pgrep -xo nfsvol-keeper)"
        fi
        wait $helper || rc=$? # at once: the server is silent
        [ $rc = 8 ]
        grep 'interrupted by a signal' "$T/err"
        wait_for 5 no_volumes
        server cont
    done
}
prober_waits() { pgrep -f 'nfsvold --prober' >/dev/null; }

# A volume that is being taken down has ended, and another one has got its device number: that is none of its business.
limit_device_number_used_again=120
case_device_number_used_again() {
    local try n dev lock lock_file
    for try in 1 2 3 4 5 6; do
        : >"$LOG"
        mount_at "$M"
        dev=$(mountpoint -d "$M")
        lock_file=$(echo "$NFSVOL_RUNDIR"/*.lock)
        exec {lock}>"$lock_file"
        flock $lock # as another helper: it waits for that, for a while
        kill -TERM "$(keeper_pid)"
        sleep 0.2
        umount "$M"
        umount "$NFSVOL_RUNDIR"/*/mnt
        for ((n = 0; n < 8; n++)); do
            mount_at "$T/other.$n" "rsize=$((65536 * (n + 1)))"
            [ "$(mountpoint -d "$T/other.$n")" != "$dev" ] || break
        done
        exec {lock}>&-
        wait_for 10 logged ' gone$'
        rm -f "$lock_file" # on a slow machine it has waited long enough, and has left that to us
        sleep 0.5
        if [ $n -lt 8 ]; then
            ls "$T/other.$n"
            mountpoint "$T/other.$n"
            not logged 'unmounted '
            umount "$T"/other.*
            wait_for 20 no_volumes
            return
        fi
        umount "$T"/other.* # somebody else on this machine was faster
        rmdir "$T"/other.*
        wait_for 20 no_volumes
    done
    return 1
}

# Where systemd does not run, the log goes to syslogd, also to one that was started anew; where that does not, to the kernel's.
limit_log_without_a_journal=90
has_kmsg=true
case_log_without_a_journal() {
    skip="this machine has a syslogd"
    [ ! -e /dev/log ] || return 77
    trap 'rm -f /dev/log; mv /run/systemd/away /run/systemd/journal; umount -q /dev/kmsg; $has_kmsg || rm /dev/kmsg' EXIT
    [ -e /dev/kmsg ] || has_kmsg=false
    mv /run/systemd/journal /run/systemd/away

    syslogd "$T/syslog.1"
    mount_at "$M"
    kill -KILL "$(worker_pid)"
    wait_for 10 grep "^<29>nfsvold\[[0-9]*\]: $SRC: .*: serving again after" "$T/syslog.1"
    kill $syslogd_pid
    rm /dev/log
    syslogd "$T/syslog.2"
    server restart
    ls "$M" >/dev/null
    wait_for 10 grep "^<29>nfsvold\[[0-9]*\]: $SRC: .*: connected" "$T/syslog.2" # said by a worker that is confined
    umount "$M"
    wait_for 20 no_volumes
    wait_for 10 grep ': gone$' "$T/syslog.2"

    kill $syslogd_pid
    rm /dev/log
    mkfifo "$T/kmsg"
    exec {kmsg}<>"$T/kmsg"
    $has_kmsg || touch /dev/kmsg
    mount --bind "$T/kmsg" /dev/kmsg
    mount_at "$M"
    umount "$M"
    wait_for 20 no_volumes
    timeout 5 cat <&$kmsg >"$T/kernel" || true
    cat "$T/kernel"
    grep -a "<30>nfsvold: $SRC: gone" "$T/kernel"
}
syslogd() { # FILE: one line a message
    python3 - "$1" <<'PY' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/dev/log")
with open(sys.argv[1], "a", buffering=1) as log:
    while True:
        log.write(s.recv(65536).decode() + "\n")
PY
    syslogd_pid=$!
    wait_for 5 test -S /dev/log
}

run_cases "$@"
