#!/bin/bash
# Under a real systemd: the daemon's scope. What it is like, how a daemon gets into one while systemd is slow or its name is
# taken, and what happens to the volume when it is stopped.
NEED_SYSTEMD=1
for n in 0 1 2 3 4; do # of pods that come and go
    G_EXPORTS+="EXPORT { Export_Id = 1$n; Path = /tmp/nfsvol-test.$$/server/pods$n; Pseudo = /pods$n;
        Attr_Expiration_Time = 0; FSAL { Name = VFS; } } "
done
export G_EXPORTS
. "$(dirname "$0")/standin.bash"

before_server() { mkdir -p "$T"/server/pods{0..4}; }

case_daemon_is_in_a_scope() {
    kubelet_mounts
    in_own_scope
    unit=$(status_of scope)
    systemctl is-active -q "$unit"
    systemctl status --no-pager "$unit" | tee status
    grep -q "NFS volume $SRC" status
    grep -q 'man:nfsvold(8)' status
    nfsvol status | grep -q "$unit"
    finish
    wait_for 10 sh -c "! systemctl is-active -q '$unit'"
    ! systemctl list-units --all --no-legend 'nfsvol-*.scope' | grep .
}

case_oom_scores() { # the kernel takes anybody else first; and of ours the worker, which is replaced
    local pid want ours=-900
    (echo -900 >/proc/self/oom_score_adj) 2>/dev/null || ours=500 # nobody may lower it here
    (echo 500 >/proc/self/oom_score_adj; mount_at "$M")
    for pid in $(daemon_pids); do
        want=$ours
        ! tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -e --worker || want=$((ours + 50))
        [ "$(cat "/proc/$pid/oom_score_adj")" = $want ] || fail "$(cat "/proc/$pid/oom_score_adj"): $(ps -o args= -p "$pid")"
    done
    umount "$M"
}

case_slice() {
    kubelet_mounts slice=pods-nfs.slice
    [ "$(cgroup_of "$(keeper_pid)")" != "${x:-}" ]
    case $(cgroup_of "$(worker_pid)") in */pods-nfs.slice/nfsvol-*) ;; *) fail "$(cgroup_of "$(worker_pid)")" ;; esac
    finish
}

case_limits_from_the_configuration() {
    export NFSVOL_CONFIG=$T/nfsvol.conf
    printf '[scope]\nSlice = nfs.slice\nMemoryMax = 512M\nMemoryHigh = 256M\nCPUWeight = 321\nIOWeight = 123\nTasksMax = 33\nTimeoutStopSec = 7\n' >"$NFSVOL_CONFIG"
    mount_at "$M"
    unit=$(status_of scope)
    for property in MemoryMax=$((512 << 20)) MemoryHigh=$((256 << 20)) CPUWeight=321 IOWeight=123 TasksMax=33 TimeoutStopUSec=7s; do
        systemctl show "$unit" | grep -qx "$property" || fail "no $property"
    done
    case $(cgroup_of "$(worker_pid)") in */nfs.slice/nfsvol-*) ;; *) fail "$(cgroup_of "$(worker_pid)")" ;; esac
    umount "$M"
    wait_for 10 no_volumes
    printf '[scope]\nTasksMax = 8\n' >"$NFSVOL_CONFIG" # less than its threads
    mount_at "$M" nconnect=16
    [ "$(systemctl show -p TasksMax --value "$(status_of scope)")" = 40 ]
    umount "$M"
    wait_for 10 no_volumes
    printf '[scope]\nTasksMax = 7\n' >"$NFSVOL_CONFIG"
    not mount_at "$M" 2>err
    grep -q 'TasksMax = 7: a number, at least 8' err
    printf '[scope]\nMemoryMx = 512M\n' >"$NFSVOL_CONFIG"
    not mount_at "$M" 2>err
    grep -q MemoryMx err
}

case_scope_refused_leaves_nothing() { # systemd says no: exit 32 with its reason
    local rc=0
    ln -s /dev/null /run/systemd/system/masked.slice
    systemctl daemon-reload
    mount.nfs "$SRC" "$M" -o "$OPTIONS,slice=masked.slice" 2>err || rc=$?
    rm /run/systemd/system/masked.slice
    systemctl daemon-reload
    cat err
    [ $rc = 32 ]
    grep -q 'masked' err
    not mountpoint -q "$M"
}

case_two_volumes_two_scopes() {
    mkdir -p "$M/a" "$M/b"
    mount_at "$M/a" rsize=65536
    mount_at "$M/b" rsize=131072
    mount_at "$M/a2" rsize=65536
    [ "$(systemctl list-units --no-legend 'nfsvol-*.scope' | wc -l)" = 2 ]
    in_own_scope
    umount "$M/a" "$M/b" "$M/a2"
}

limit_bus_is_stopped=90
case_bus_is_stopped() { # dbus-daemon hangs: systemd's own socket is used
    local bus
    systemctl start dbus
    bus=$(systemctl show -p MainPID --value dbus)
    [ "$bus" -gt 1 ]
    kill -STOP "$bus"
    rc=0
    mount_at "$M" || rc=$?
    kill -CONT "$bus"
    [ $rc = 0 ]
    in_own_scope
    umount "$M"
}

# Systemd stands still, or D-Bus as well. (Nobody in the box can stop its first process with a signal; its cgroup can be frozen.)
systemd_freezes() {
    echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze
    wait_for 5 grep -q 'frozen 1' /sys/fs/cgroup/init.scope/cgroup.events
}
systemd_thaws() { echo 0 >/sys/fs/cgroup/init.scope/cgroup.freeze; }
systemd_stops() {
    bus=$(systemctl show -p MainPID --value dbus)
    [ "$bus" -gt 1 ]
    kill -STOP "$bus"
    systemd_freezes
}
systemd_goes_on() {
    systemd_thaws
    kill -CONT "$bus"
}

case_systemd_is_slow() { # for seconds, with a bus that is not: the mount waits for it
    systemctl start dbus
    systemd_freezes
    trap systemd_thaws EXIT
    mount_at "$M" & mount=$!
    sleep 3
    kill -0 $mount
    not mountpoint -q "$M"
    systemd_thaws
    trap - EXIT
    wait $mount
    in_own_scope
    umount "$M"
}

case_systemd_cannot_be_reached() { # exit 32 with the reason, nothing is left
    local rc=0
    unshare --mount bash -c "mount -t tmpfs none /run/dbus && mount --bind /dev/null /run/systemd/private &&
        mount.nfs $SRC $M -o $OPTIONS" 2>err || rc=$?
    cat err
    [ $rc = 32 ]
    grep -q 'cannot reach systemd' err
    not mountpoint -q "$M"
    wait_for 5 no_volumes
}

case_systemd_does_not_answer() { # nor does the bus: the same within the bound, and nothing comes late
    local rc=0
    systemctl start dbus
    systemd_stops
    trap systemd_goes_on EXIT
    timeout 30 mount.nfs "$SRC" "$M" -o "$OPTIONS" 2>err || rc=$?
    cat err
    wait_for 5 no_volumes
    systemd_goes_on
    trap - EXIT
    [ $rc = 32 ]
    grep -q 'systemd does not answer' err
    not mountpoint -q "$M"
    wait_for 10 scopes_are 0
    mount_at "$M"
    in_own_scope
    umount "$M"
}

# Without systemd: on without a scope, which status says, unless one is required.
case_no_systemd() { # neither its directory nor a bus
    local rc=0
    unshare --mount bash -c "mount -t tmpfs none /run && mount.nfs $SRC $M -o $OPTIONS,scope=required" 2>err || rc=$?
    cat err
    [ $rc = 32 ]
    grep -q 'scope=required, but systemd does not run this system' err
    wait_for 5 no_volumes
    unshare --mount --propagation unchanged bash -c "mount --make-slave /run && mount -t tmpfs none /run && mount.nfs $SRC $M -o $OPTIONS"
    mountpoint -q "$M"
    [ -z "$(status_of scope)" ]
    nfsvol status | grep -q 'scope *none'
    umount "$M"
    wait_for 10 no_volumes
    mount_at "$M" scope=required
    in_own_scope
    umount "$M"
}

# Whatever comes: kubelet's pods come and go all the same, late.
files_are() { [ "$(find "$T/pods" -name "*.$1" | wc -l)" = "$2" ]; }
scopes_are() { [ "$(systemctl list-units --all --no-legend 'nfsvol-*.scope' | wc -l)" = "$1" ]; }

limit_pods_come_and_go=120
case_pods_come_and_go() { # 100 pods on 5 exports at once, mounted from within kubelet's cgroup
    local i
    mkdir -p "$T/pods"
    mkfifo "$T/never"
    systemctl start dbus
    cat >"$T/kubelet" <<EOF2
#!/bin/bash
touch $T/kubelet.ready
exec 9<>$T/never # of which nothing can be read
until_there_is() { until [ -e \$1 ]; do read -rt 0.1 -u 9; done; } # a hundred sleep(1) ten times a second are a load of their own
pod() { # NUMBER: it comes twice, and stays until it is told to go
    until_there_is $T/pods/come
    mkdir -p $M/\$1
    for round in 1 2; do
        env -i NFSVOL_RUNDIR=$NFSVOL_RUNDIR NFSVOL_STATEDIR=$NFSVOL_STATEDIR mount -t nfs -o $OPTIONS 127.0.0.1:/pods\$((\$1 % 5)) $M/\$1 </dev/null &&
            echo \$1 >$M/\$1/\$1 || { touch $T/pods/\$1.failed; return; }
        [ \$round = 2 ] || umount $M/\$1 || touch $T/pods/\$1.failed
    done
    touch $T/pods/\$1.there
    until_there_is $T/pods/go
    rm $M/\$1/\$1 && umount $M/\$1 && rmdir $M/\$1 && touch $T/pods/\$1.gone
}
for i in {1..100}; do pod \$i & done
wait
exec sleep infinity
EOF2
    chmod +x "$T/kubelet"
    kubelet_starts
    systemd_stops
    trap systemd_goes_on EXIT
    touch "$T/pods/come"
    sleep 3 # and no more: among a hundred that begin, this shell is not often its turn, and they do not wait for ever
    systemd_goes_on
    wait_for 100 files_are there 100
    files_are failed 0
    for i in {1..100}; do [ "$(cat "$T/server/pods$((i % 5))/$i")" = "$i" ]; done
    [ "$(grep -c " $M/.* fuse\.nfs " /proc/self/mountinfo)" = 100 ]
    [ "$(nfsvol list | grep -c " 20  serving ")" = 5 ]
    in_own_scope
    scopes_are 5
    systemd_stops
    touch "$T/pods/go"
    wait_for 100 files_are gone 100 # it is not needed for that
    sleep 1
    systemd_goes_on
    trap - EXIT
    wait_for 100 no_volumes
    wait_for 30 scopes_are 0
    kubelet_gone
}

# The name of the scope is taken. (It is made from the volume, so that it is known before.)
scope_of_the_volume() {
    mount_at "$M"
    status_of scope >unit
    umount "$M"
    wait_for 10 no_volumes
    wait_for 5 scopes_are 0
    unit=$(cat unit)
    second=${unit%.scope}-1.scope
}
no_names() { [ -z "$(ls "$NFSVOL_RUNDIR")" ]; }
mounts_in() { # SCOPE
    mount_at "$M"
    [ "$(status_of scope)" = "$1" ] || fail "it is in $(status_of scope)"
    case $(cgroup_of "$(worker_pid)") in */"$1") ;; *) fail "$(cgroup_of "$(worker_pid)")" ;; esac
}

case_name_is_taken_by_a_stranger() { # who goes on undisturbed
    local stranger
    scope_of_the_volume
    systemd-run -q --scope --unit="$unit" sleep 300 & stranger=$!
    wait_for 5 systemctl is-active -q "$unit"
    mounts_in "$second"
    umount "$M"
    wait_for 10 no_volumes
    [ "$(cat "/sys/fs/cgroup$(systemctl show -p ControlGroup --value "$unit")/cgroup.procs")" = $stranger ]
    systemctl stop "$unit"
    wait $stranger || :
}

case_name_is_taken_by_what_failed() { # one that could not be stopped in time, and that systemd keeps
    scope_of_the_volume
    systemd-run -q --scope --unit="$unit" -p TimeoutStopSec=1 bash -c 'trap "" TERM; touch ready; while :; do sleep 1; done' &
    wait_for 5 test -e ready
    systemctl stop "$unit"
    [ "$(systemctl show -p ActiveState --value "$unit")" = failed ]
    mounts_in "$unit"
    umount "$M"
}

case_name_is_taken_by_one_that_drains() { # for a pod that has the volume still
    scope_of_the_volume
    mount_at "$M"
    before=$(worker_pid)
    pod_start
    umount "$M"
    wait_for 10 no_names
    mounts_in "$second"
    [ "$(worker_pid)" != "$before" ]
    size=$(pod_size)
    wait_for 10 pod_wrote_on "$size"
    lock_held
    scopes_are 2
    pod_stop
    wait_for 10 scopes_are 1
    systemctl is-active -q "$second"
    umount "$M"
}

# A pod that writes and asks for nothing: what it has written is with the daemon only. $1.written is there when that is so; at
# $1.stop it checks all it has written, and $1.done says of how many lines, or which error ended it.
cat >/tmp/writer.py <<'END'
import errno, os, sys, time
path, me = sys.argv[1:]
def say(what, text=""):
    with open(me + ".new", "w") as f:
        f.write(str(text))
    os.rename(me + ".new", f"{me}.{what}")
n = 0
try:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    while not os.path.exists(me + ".stop"):
        os.write(fd, b"%08d\n" % n)
        n += 1
        if n == 1000:
            say("written")
        if n >= 1000:
            time.sleep(0.02)
            say("n", n)
    os.fsync(fd)
    assert os.pread(fd, 9 * n + 1, 0) == b"".join(b"%08d\n" % i for i in range(n))
    os.close(fd)
    say("done", n)
except OSError as e:
    say("done", errno.errorcode[e.errno])
END

E=$T/server/export
first_lines() { [ "$(head -c 9000 "$E/$1" | cksum)" = "$(seq -f %08.0f 0 999 | cksum)" ]; }
committed() { journalctl -b --no-pager _COMM=nfsvol-worker "_PID=$1" | grep -q 'everything written is on the server'; }
lines_now() { cat "$T/writer.n"; }
writes_on() { [ "$(lines_now)" -gt "$1" ]; }

# writer_and_stop SECONDS: a volume whose scope has that long to stop, with a pod that has written; the scope is told to stop.
# $stop is who waits for that.
writer_and_stop() {
    export NFSVOL_CONFIG=$T/nfsvol.conf
    printf '[scope]\nTimeoutStopSec = %s\n' "$1" >"$NFSVOL_CONFIG"
    rm -f "$T"/writer.*
    mount_at "$M"
    unit=$(status_of scope)
    worker=$(worker_pid)
    mkdir -p /tmp/pod
    systemd-run -q --unit=pod-writer -p PrivateMounts=yes bash -c "mount --bind $M /tmp/pod && exec python3 /tmp/writer.py /tmp/pod/lines $T/writer"
    wait_for 10 test -e "$T/writer.written"
    [ "$(stat -c %s "$E/lines")" = 0 ] || fail "nothing is left to be flushed"
    ${before_stop:-}
    began=$SECONDS
    systemctl stop "$unit" & stop=$!
}

ended() { # the pod with $1, nothing of the scope and its processes is left, and the volume can be mounted again
    wait_for 10 test -e "$T/writer.done"
    [[ $(cat "$T/writer.done") =~ ^($1)$ ]] || fail "the pod ended with $(cat "$T/writer.done")"
    echo "# the pod ended with $(cat "$T/writer.done")"
    wait_for 10 no_volumes
    wait_for 5 sh -c "! systemctl list-units --all --no-legend '$unit' | grep -q ."
    mount_at "$M"
    [ "$(status_of scope)" = "$unit" ]
    [ "$(head -n 1000 "$M/lines" | tail -n 1)" = 00000999 ]
    rm "$M/lines"
    umount "$M"
}

# The scope is stopped under a pod that writes: what it has written goes to the server at once, it goes on without an error for as
# long as it likes, also if the worker dies meanwhile, and the stop ends when it does.
case_stopped_scope_drains() {
    writer_and_stop 60
    wait_for 10 committed "$worker"
    first_lines lines || fail "not all of it is on the server"
    kill -KILL "$worker"
    n=$(lines_now)
    wait_for 10 writes_on $((n + 50))
    [ "$(systemctl show -p ActiveState --value "$unit")" = deactivating ]
    kill -0 $stop
    touch "$T/writer.stop"
    wait_for 10 test -e "$T/writer.done"
    n=$(lines_now)
    wait $stop
    [ $((SECONDS - began)) -lt 20 ]
    [ "$(stat -c %s "$E/lines")" = $((9 * n)) ]
    ended "$n"
}

# TimeoutStopSec is over and the pod is still there: until then it sees no error, then it sees one (ECONNABORTED if it was just
# asking), and nothing is left.
the_end='ENOTCONN|ECONNABORTED'
case_stopped_scope_is_killed_in_time() {
    writer_and_stop 3
    wait_for 10 committed "$worker"
    first_lines lines || fail "not all of it is on the server"
    wait $stop
    [ $((SECONDS - began)) -ge 2 ] || fail "it was killed early"
    [ $((SECONDS - began)) -lt 20 ]
    ended "$the_end"
}

# The same with a server that does not answer: what was written cannot be flushed, and nothing hangs for it.
case_stopped_scope_of_a_dead_server() {
    before_stop="server pause"
    writer_and_stop 3
    wait $stop
    [ $((SECONDS - began)) -lt 20 ]
    wait_for 10 test -e "$T/writer.done"
    [[ $(cat "$T/writer.done") =~ ^($the_end)$ ]] || fail "the pod ended with $(cat "$T/writer.done")"
    wait_for 10 no_volumes
    server cont
    rm "$E/lines"
}

run_cases "$@"
