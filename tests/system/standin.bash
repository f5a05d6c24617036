# What the tests under a real systemd share: a stand-in for kubelet, and its pods. In place of lib.bash.
#
# The stand-in is a service with the default KillMode that runs kubelet's own command lines. Pods are services of their
# own, with a mount namespace of their own.
. "$(dirname "${BASH_SOURCE[0]}")/../integration/lib.bash"

OPTIONS=$MOUNT_PORTS,linger=0

# kubelet_mounts [OPTIONS]: starts the stand-in; it mounts at $M as kubelet since 1.20 does, and lives on
kubelet_mounts() {
    kubelet_script "$@"
    kubelet_starts
    mountpoint -q "$M"
}

kubelet_script() { # PREPARE: what it does first. RUN: what it has its mount run by
    mkdir -p "$M"
    cat >"$T/kubelet" <<EOF2
#!/bin/bash
cd /
${PREPARE:-}
mountpoint -q $M || env -i NFSVOL_RUNDIR=$NFSVOL_RUNDIR NFSVOL_STATEDIR=$NFSVOL_STATEDIR ${RUN:+PATH=$PATH $RUN} mount -t nfs -o $OPTIONS${1:+,$1} $SRC $M </dev/null
touch $T/kubelet.ready
exec sleep infinity
EOF2
    chmod +x "$T/kubelet"
}

kubelet_starts() { # $T/kubelet, until it is ready. RUNNER, SERVICE: what it is run by; more lines of its unit
    rm -f "$T/kubelet.ready"
    cat >/run/systemd/system/kubelet.service <<EOF2
[Service]
ExecStart=${RUNNER:-}$T/kubelet
${SERVICE:-}
Restart=always
TimeoutStopSec=3
EOF2
    systemctl daemon-reload
    systemctl reset-failed kubelet 2>/dev/null || :
    systemctl restart kubelet # a case that failed may have left it
    wait_for 30 test -e "$T/kubelet.ready"
}

kubelet_again() { # COMMAND...: what is done to it; then it is up again
    rm -f "$T/kubelet.ready"
    "$@"
    wait_for 30 test -e "$T/kubelet.ready"
}

kubelet_gone() {
    [ ! -e /run/systemd/system/kubelet.service ] || systemctl stop kubelet
    rm -f /run/systemd/system/kubelet.service
    systemctl daemon-reload
}

# A pod: its own mount namespace with a bind of the volume, an open file, a mapping, a lock. It writes a line twenty
# times a second through the descriptor and checks file and mapping; the first error ends it.
cat >/tmp/pod.py <<'EOF2'
import fcntl, mmap, os, sys, time
d = sys.argv[1]
name = d + "/pod.log"
fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.write(fd, b"x" * 4096)
lock = os.open(d + "/pod.lock", os.O_RDWR | os.O_CREAT) # closing any other descriptor of a file gives its locks back
fcntl.lockf(lock, fcntl.LOCK_EX)
os.chdir(d)
m = mmap.mmap(fd, 4096)
n = 0
while not os.path.exists(sys.argv[2]):
    line = b"%08d\n" % n
    os.pwrite(fd, line, 4096 + 9 * n)
    m[0:8] = line[:8]
    m.flush()
    assert os.pread(fd, 9, 4096 + 9 * n) == line
    assert os.fstat(fd).st_size == 4096 + 9 * (n + 1)
    assert open("pod.log", "rb").read(8) == line[:8]
    n += 1
    time.sleep(0.05)
os.close(fd)
open(sys.argv[2] + ".done", "w").write(str(n))
EOF2

pod_start() {
    rm -f "$T/pod.stop" "$T/pod.stop.done"
    mkdir -p /tmp/pod
    local runner="systemd-run -q --unit=pod -p PrivateMounts=yes"
    [ -z "${POD_OF_OURS:-}" ] || runner="setsid unshare --mount" # not a unit that could be stopped
    $runner bash -c "
        mount --bind $M /tmp/pod && exec python3 /tmp/pod.py /tmp/pod $T/pod.stop" &
    wait_for 10 test -s "$M/pod.log"
}

pod_size() { stat -c %s "$T/server/export/pod.log"; } # it grows with every line
pod_wrote_on() { [ "$(pod_size)" -gt $(($1 + 27)) ]; }
lock_held() { # the server's own process has it on its disk, where another client's would be refused
    python3 - "$T/server/export/pod.lock" <<'EOF2'
import fcntl, struct, sys
lock = fcntl.fcntl(open(sys.argv[1]), fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
sys.exit(struct.unpack("hhqqi4x", lock)[0] == fcntl.F_UNLCK)
EOF2
}
lock_free() { ! lock_held; }

pod_stop() { # it has seen no error
    touch "$T/pod.stop"
    wait_for 10 test -e "$T/pod.stop.done" || { journalctl -u pod --no-pager | tail -20; return 1; }
    [ "$(cat "$T/pod.stop.done")" -gt 3 ]
    wait_for 5 lock_free
    rm -f "$M/pod.log" "$M/pod.lock"
}

pods_gone() { ! systemctl is-active -q pod; }

cgroup_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }

in_own_scope() { # every process of ours
    local pid
    for pid in $(daemon_pids); do
        case $(cgroup_of "$pid") in
        */nfsvol-*.scope) ;;
        *) fail "$pid is in $(cgroup_of "$pid")" ;;
        esac
    done
}

pids_now() { echo "keeper $(keeper_pid), worker $(worker_pid)"; }

survives() { # EVENT...: the same daemon, the same worker, a pod that goes on without an error and has its lock
    local before size event
    pod_start
    before=$(pids_now)
    wait_for 5 lock_held
    for event; do
        $event
        size=$(pod_size)
        wait_for 10 pod_wrote_on "$size" || fail "the pod does not go on after $event" || return 1
        [ "$(pids_now)" = "$before" ] || fail "$before; after $event: $(pids_now)" || return 1
        lock_held || fail "the pod's lock is lost after $event" || return 1
        in_own_scope
    done
    pod_stop
    mountpoint -q "$M"
    echo works >"$M/after"
    rm "$M/after"
}

finish() {
    kubelet_gone
    wait_for 10 pods_gone
    umount "$M"
}
