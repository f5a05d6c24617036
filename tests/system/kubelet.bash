#!/bin/bash
# Under a real systemd: whoever ran mount(8) may be restarted, stopped, killed and removed; the volume stays.
NEED_SYSTEMD=1
. "$(dirname "$0")/standin.bash"

case_kubelet_restart() { kubelet_mounts; survives "kubelet_again systemctl restart kubelet"; finish; }
case_kubelet_kill_9() { kubelet_mounts; survives "kubelet_again systemctl kill -s KILL kubelet"; finish; }
case_kubelet_stop() { kubelet_mounts; survives "systemctl stop kubelet"; finish; }
case_kubelet_unit_removed() { kubelet_mounts; survives kubelet_gone; finish; }
case_daemon_reload() { kubelet_mounts; survives "systemctl daemon-reload"; finish; }
case_daemon_reexec() { kubelet_mounts; survives "systemctl daemon-reexec"; finish; }

ISOLATE="systemctl isolate box.target"
limit_isolate=60
case_isolate() {
    kubelet_mounts
    POD_OF_OURS=1
    survives "$ISOLATE"
    finish
}

# All of it, one after the other.
SYSTEMD_EVENTS=("systemctl daemon-reload" "systemctl daemon-reexec")
SERVICE_EVENTS=("kubelet_again systemctl restart kubelet" "kubelet_again systemctl kill -s KILL kubelet" "${SYSTEMD_EVENTS[@]}"
    "systemctl stop kubelet" kubelet_gone "$ISOLATE")

case_kubelet_before_1_20() { # its literal command line
    RUN="systemd-run '--description=Kubernetes transient mount for $M' --scope --"
    kubelet_mounts
    in_own_scope
    POD_OF_OURS=1
    survives "${SERVICE_EVENTS[@]}"
    finish
}

case_service_with_its_own_slice() {
    SERVICE=Slice=own.slice
    kubelet_mounts
    [ "$(systemctl show -p ControlGroup --value kubelet)" = /own.slice/kubelet.service ]
    POD_OF_OURS=1
    survives "systemctl stop own.slice" "kubelet_again systemctl start kubelet" "${SERVICE_EVENTS[@]}"
    finish
}

# In a container that shares the host's pid namespace, /dev, D-Bus and an rshared directory, the run directory with it.
case_kubelet_in_a_container() {
    mkdir -p "$T/shared"
    mount --bind "$T/shared" "$T/shared"
    mount --make-rshared "$T/shared"
    mkdir "$T/shared/run"
    export NFSVOL_RUNDIR=$T/shared/run
    M=$T/shared/pod
    RUNNER="/usr/bin/unshare --mount --propagation unchanged --cgroup --ipc --uts "
    SERVICE=Delegate=yes
    PREPARE="mount --make-slave / && mount -t tmpfs none /mnt"
    kubelet_mounts
    POD_OF_OURS=1
    survives "${SERVICE_EVENTS[@]}"
    finish
    wait_for 10 umount "$T/shared" # not before the volume has gone from it
}

# Callers that are no service: a session's, and one of systemd-run. When they have ended they are there again, as kubelet is.
caller_starts() {
    rm -f "$T/kubelet.ready"
    systemd-run -q --scope --unit=caller -p TimeoutStopSec=3 $CALLER "$T/kubelet" & caller=$!
    wait_for 30 test -e "$T/kubelet.ready"
}
caller_again() { # COMMAND...: what ends it
    "$@"
    wait_for 10 caller_ended
    caller_starts
}
caller_ended() { ! kill -0 "$caller" 2>/dev/null && ! systemctl is-active -q caller.scope; }
SCOPE_EVENTS=("caller_again systemctl stop caller.scope" "caller_again systemctl kill -s KILL caller.scope"
    "${SYSTEMD_EVENTS[@]}" "systemctl stop caller.scope" "$ISOLATE")
caller_mounts() { # EVENT...: with the options $CALLER of systemd-run
    kubelet_script
    caller_starts
    mountpoint -q "$M"
    POD_OF_OURS=1
    survives "$@" "${SCOPE_EVENTS[@]}"
    umount "$M"
}

case_users_shell() { CALLER="--slice=user-1000.slice"; caller_mounts "caller_again systemctl stop user-1000.slice"; }
case_systemd_run_scope() { CALLER=; caller_mounts; }

# That these tests can fail: without a scope the daemon dies with its caller.
case_noscope_dies() {
    kubelet_mounts noscope
    pid=$(worker_pid)
    [ -z "$(status_of scope)" ]
    nfsvol status | grep -q 'scope *none'
    systemctl stop kubelet
    wait_for 5 sh -c "! kill -0 $pid 2>/dev/null"
    finish || umount -l "$M" || : # the keeper may have unmounted it when it was told to end
}

# A container that shares the host's pid namespace, /dev, D-Bus and an rshared directory (hostPID: true).
case_container_with_the_hosts_pids() {
    mkdir -p "$T/shared"
    mount --bind "$T/shared" "$T/shared"
    mount --make-rshared "$T/shared"
    mkdir "$T/shared/pod"
    systemd-run -q --unit=container -p Delegate=yes unshare --mount --propagation unchanged --cgroup bash -c "
        mount --make-slave /
        mount -t tmpfs run /mnt && mkdir /mnt/run /mnt/dbus # and of the host's /run it has D-Bus alone
        mount --make-private /run && mount --bind /run/dbus /mnt/dbus && mount -t tmpfs none /run && mkdir /run/dbus && mount --bind /mnt/dbus /run/dbus
        NFSVOL_RUNDIR=/mnt/run mount -t nfs -o $OPTIONS $SRC $T/shared/pod && touch $T/container.ready
        exec sleep infinity"
    wait_for 20 test -e "$T/container.ready"
    in_own_scope
    rm "$T/container.ready"
    [ -n "$(daemon_pids)" ]
    before=$(daemon_pids)
    ls "$T/shared/pod"
    systemctl stop container
    [ "$before" = "$(daemon_pids)" ]
    echo works >"$T/shared/pod/x"
    rm "$T/shared/pod/x"
    umount "$T/shared/pod"
    wait_for 10 sh -c "! kill -0 ${before%%[[:space:]]*} 2>/dev/null"
    umount "$T/shared"
}

# One with a pid namespace of its own: it says what is wrong, and how to do it.
case_container_with_its_own_pids() {
    local rc hide
    busctl list >/dev/null # who asks the bus first has it started
    for hide in true "mount --bind /run/dbus /mnt && mount -t tmpfs none /run && mkdir /run/dbus && mount --bind /mnt /run/dbus"; do
        rc=0
        unshare --pid --fork --mount-proc --cgroup \
            bash -c "sleep 0.1; $hide; NFSVOL_RUNDIR=$T/shared.run mount.nfs $SRC $M -o $OPTIONS; exit \$?" 2>err || rc=$?
        cat err
        [ $rc = 32 ]
        grep -q hostPID err
        not mountpoint -q "$M"
    done
}

# Pods with a verified load, while everything happens to kubelet, and worker and keeper are killed and upgraded in between:
# the pods see no error. Seconds here, minutes in the soak suite.
through_seconds=$(if [ -n "${NFSVOL_SOAK:-}" ]; then echo 300; else echo 20; fi)
through_it_all() { # STOP: what happens, in turn, for that time or until the file STOP is there; $n is how much it was
    local end=$((SECONDS + through_seconds)) events=(
        "kubelet_again systemctl restart kubelet" "kubelet_again systemctl kill -s KILL kubelet"
        "systemctl stop kubelet" "kill_role worker_pid" kubelet_gone "kill_role keeper_pid" kubelet_starts
        "systemctl daemon-reload" "systemctl daemon-reexec" "$ISOLATE" "kill_role worker_pid" kubelet_starts "nfsvol upgrade --all")
    n=0
    while [ $SECONDS -lt $end ] && [ ! -e "$1" ]; do
        ${events[n % ${#events[@]}]}
        n=$((n + 1))
        sleep 0.5
    done
}
pod_runs() { # COMMAND: in a pod, with the volume at /tmp/pod
    mkdir -p /tmp/pod
    setsid unshare --mount bash -c "mount --bind $M /tmp/pod && cd $T || exit 1; $1" & # no unit, which isolate would stop
}

limit_fio_through_it_all=$((through_seconds + 120))
case_fio_through_it_all() {
    kubelet_mounts
    rm -f "$T"/fio.*
    fio_jobs /tmp/pod 24m >"$T/fio.job"
    pod_runs "
        until [ -e $T/fio.stop ]; do fio --output=$T/fio.out $T/fio.job || { touch $T/fio.failed; exit 1; }; echo >>$T/fio.rounds; done
        touch $T/fio.done"
    through_it_all "$T/fio.failed"
    touch "$T/fio.stop"
    wait_for 60 test -e "$T/fio.done" -o -e "$T/fio.failed"
    [ ! -e "$T/fio.failed" ] || { tail -n 40 "$T/fio.out"; return 1; }
    echo "# $n events, $(wc -l <"$T/fio.rounds") rounds of fio, $(status_of restarts) workers died"
    rm -f "$M"/{buffered,direct,mapped}.0.0
    finish
}

limit_checked_load_through_it_all=$((through_seconds + 120))
case_checked_load_through_it_all() { # what recovery.bash runs, some of it on the server's disk
    kubelet_mounts
    rm -f "$T"/load.*
    mkdir "$M/load"
    pod_runs "
        if $PROGRAMS/crashload /tmp/pod/load $through_seconds 8 $T/server/export/load >$T/load.out 2>&1
        then touch $T/load.done; else touch $T/load.failed; fi"
    through_it_all "$T/load.failed"
    wait_for 60 test -e "$T/load.done" -o -e "$T/load.failed"
    echo "# $n events, $(tail -n 1 "$T/load.out"), $(status_of restarts) workers died"
    [ ! -e "$T/load.failed" ] || { cat "$T/load.out"; return 1; }
    rm -f "$M/load/LOCK"
    rmdir "$M/load"
    finish
}

kill_role() { # worker_pid, keeper_pid
    local pid
    pid=$("$1")
    [ "$pid" -gt 1 ] || fail "not a process: $pid" || return 1 # 0 would be all of ours
    kill -KILL "$pid"
    wait_for 10 sh -c "! kill -0 $pid 2>/dev/null"
    wait_for 10 is_serving
}
is_serving() { [ "$(status_of state 2>/dev/null)" = serving ]; }

# The node of the README: what failed before we came works after.
case_before_and_after_installation() {
    local line=(mount -t nfs "$SRC" "$M" -o "rw,vers=3,hard,$OPTIONS") rc=0
    unshare --mount bash -c 'mount -t tmpfs none /usr/sbin && exec "$@"' - "${line[@]}" >out 2>&1 || rc=$?
    cat out
    [ $rc = 32 ]
    grep -q 'bad option\|wrong fs type\|unknown filesystem' out
    "${line[@]}"
    findmnt -no SOURCE,FSTYPE "$M" | grep -q "^$SRC *fuse.nfs"
    umount "$M"
}

# A newer package replaces the daemons under their users, and one that cannot go on with them leaves them alone.
case_package_upgrade() {
    mkdir -p "$T/root/usr/sbin"
    cp "$T"/bin/nfsvol{,d} "$T/root/usr/sbin"
    ln -s nfsvol "$T/root/usr/sbin/mount.fuse.nfs"
    "$top/contrib/package" --of "$T/root" 1 "$T"
    printf 2 >>"$T/root/usr/sbin/nfsvold" # another file of the same program
    "$top/contrib/package" --of "$T/root" 2 "$T"
    printf '#!/bin/sh\necho 9.9.9.9\n' >"$T/root/usr/sbin/nfsvold"
    "$top/contrib/package" --of "$T/root" 3 "$T"
    unshare --mount bash -eux -s "$T" "$M" "$SRC" "$OPTIONS" <<'EOF2'
umount /usr/sbin # our helpers; the package brings its own
dpkg -i "$1"/nfsvol_1_*.deb
mount -t fuse.nfs -o "$4" "$3" "$2"
exec 8>"$2/held"
echo one >&8
dpkg -i "$1"/nfsvol_2_*.deb 2>&1 | tee "$1/dpkg"
grep -q 'upgraded from .* a pause of .* ms' "$1/dpkg"
echo two >&8
cmp /usr/sbin/nfsvold "/proc/$(nfsvol status --json | sed -n 's/.*"worker_pid": \([0-9]*\).*/\1/p')/exe"
dpkg -i "$1"/nfsvol_3_*.deb 2>&1 | tee "$1/dpkg"
grep -q 'layout is 9.9.9.9' "$1/dpkg"
echo three >&8
exec 8>&-
[ "$(cat "$2/held")" = "$(printf 'one\ntwo\nthree')" ]
rm "$2/held"
umount "$2"
dpkg -r nfsvol
EOF2
}

# The server of some pods is dead: theirs can be deleted, others come and go, and kubelet itself never hangs.
limit_dead_server=150
case_dead_server() {
    local worst=0 start pid i watcher
    mkdir -p "$T/server2" "$M/dead" "$M/live"
    server start "$T/server2" 20590
    mount -t nfs -o port=20590,mountport=20591,nlmport=20592,linger=0 "$SRC" "$M/dead"
    ls "$M/dead" >/dev/null
    (exec 8>"$M/dead/held"; echo x >&8; exec sleep 300) & pid=$!
    wait_for 5 test -e "$M/dead/held"
    server kill "$T/server2"
    # the stand-in kubelet: what it does for a pod of the dead server, its processes watched for how long they are in D
    cat >"$T/standin" <<EOF2
cd /
echo \$\$ >$T/standin.pid
timed() { local s=\$SECONDS rc=0; "\$@" >/dev/null 2>&1 || rc=\$?; echo "\$((SECONDS - s)) s: \$*"; return \$rc; }
works() { timed "\$@" || echo "failed: \$*"; }
for i in 1 2 3; do timed stat $M/dead; timed df $M/dead; works mount -t nfs -o $OPTIONS,rsize=65536 $SRC $M/live; works ls $M/live; works umount $M/live; done
timed umount $M/dead || timed umount -f $M/dead
timed umount -f $M/dead
timed rmdir $M/dead
EOF2
    systemd-run -q --unit=standin bash -c "bash $T/standin >$T/standin.out 2>&1; touch $T/standin.done"
    rm -f "$T/standin.d"
    while [ ! -e "$T/standin.done" ]; do
        i=$(for p in $(cat "/sys/fs/cgroup$(systemctl show -p ControlGroup --value standin)/cgroup.procs" 2>/dev/null); do
            ps -o stat= -p "$p"; done | grep -c '^D' || :)
        if [ "$i" -gt 0 ]; then : "${since:=$SECONDS}"; [ $((SECONDS - since)) -le $worst ] || worst=$((SECONDS - since)); else unset since; fi
        sleep 0.1
    done
    cat "$T/standin.out"
    echo "longest in D: $worst s"
    [ $worst -le 5 ]
    not grep -vE '^[0-8] s: ' "$T/standin.out"
    [ ! -e "$M/dead" ]
    kill -KILL $pid
    wait $pid 2>/dev/null || :
    server restart "$T/server2"
    wait_for 60 no_volumes
    server stop "$T/server2"
}

run_cases "$@"
