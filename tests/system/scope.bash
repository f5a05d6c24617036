#!/bin/bash
# Under a real systemd: the daemon's scope. What it is like, how a daemon gets into one while systemd is slow or its name is
# taken, and what happens to the volume when it is stopped.
NEED_SYSTEMD=1
. "$(dirname "$0")/standin.bash"

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

case_slice() {
    kubelet_mounts slice=pods-nfs.slice
    [ "$(cgroup_of "$(keeper_pid)")" != "${x:-}" ]
    case $(cgroup_of "$(worker_pid)") in */pods-nfs.slice/nfsvol-*) ;; *) fail "$(cgroup_of "$(worker_pid)")" ;; esac
    finish
}

case_limits_from_the_configuration() {
    export NFSVOL_CONFIG=$T/nfsvol.conf
    printf '[scope]\nSlice = nfs.slice\nMemoryMax = 512M\nTasksMax = 33\nTimeoutStopSec = 7\n' >"$NFSVOL_CONFIG"
    mount_at "$M"
    unit=$(status_of scope)
    [ "$(systemctl show -p MemoryMax --value "$unit")" = $((512 << 20)) ]
    [ "$(systemctl show -p TasksMax --value "$unit")" = 33 ]
    [ "$(systemctl show -p TimeoutStopUSec --value "$unit")" = 7s ]
    case $(cgroup_of "$(worker_pid)") in */nfs.slice/nfsvol-*) ;; *) fail "$(cgroup_of "$(worker_pid)")" ;; esac
    umount "$M"
    wait_for 10 no_volumes
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

limit_systemd_is_slow=60
case_systemd_is_slow() { # SIGSTOP of the bus for seconds: the mount waits for it
    local bus
    systemctl start dbus
    bus=$(systemctl show -p MainPID --value dbus)
    kill -STOP "$bus"
    (sleep 3; kill -CONT "$bus") &
    mount_at "$M"
    wait
    in_own_scope
    umount "$M"
}

limit_pods_come_and_go=120
case_pods_come_and_go() { # 100 pods on 5 exports at once
    local i pids=() rc=0
    for i in $(seq 100); do
        (mount_at "$M/$i" "rsize=$((65536 + i % 5 * 4096))" && ls "$M/$i" >/dev/null && umount "$M/$i") &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || rc=1; done
    [ $rc = 0 ]
    wait_for 30 no_volumes
    wait_for 10 sh -c "! systemctl list-units --all --no-legend 'nfsvol-*.scope' | grep -q ."
}

case_stopped_scope_drains() { # systemctl stop of the scope: what is written is on the server, nothing hangs
    local start=$SECONDS
    mount_at "$M"
    head -c 5000000 /dev/urandom >"$T/data"
    cp "$T/data" "$M/data"
    unit=$(status_of scope)
    umount "$M"
    systemctl stop "$unit" 2>/dev/null || : # it may have gone by itself
    [ $((SECONDS - start)) -lt 30 ]
    cmp "$T/data" "$T/server/export/data"
    rm "$T/server/export/data"
}

run_cases "$@"
