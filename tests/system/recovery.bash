#!/bin/bash
# Under a real systemd: volumes that do not die (integration/recovery.bash), mounted by a kubelet that is restarted and killed
# all the time. What it was just mounting then, it mounts again.
NEED_SYSTEMD=1

kubelet_starts() {
    printf '[Service]\nExecStart=sleep infinity\nRestart=always\nRestartSec=100ms\nStartLimitIntervalSec=0\nTimeoutStopSec=3\n' \
        >/run/systemd/system/kubelet.service
    systemctl daemon-reload
    systemctl start kubelet
}

kubelet_ends() { # again and again
    local how
    while :; do
        for how in "restart kubelet" "kill -s KILL kubelet" "restart kubelet" daemon-reload; do
            sleep 0.4
            systemctl $how && echo "$how" >>"$T/kubelet.ended"
        done
    done
}

in_kubelet() { # COMMAND...: as a process of its service
    bash -c 'echo 0 >"/sys/fs/cgroup${0:?kubelet is not running}/cgroup.procs" && exec "$@"' \
        "$(systemctl show -P ControlGroup kubelet)" "$@" 2>"$T/mount.err"
}

mount() {
    local end=$((SECONDS + 30))
    [ "$1 $2" = "-t fuse.nfs" ] || { command mount "$@"; return; }
    until in_kubelet mount "$@"; do
        [ $SECONDS -lt $end ] || { cat "$T/mount.err" >&2; return 1; }
        echo "$*" >>"$T/mounted.again"
        sleep 0.1
    done
}

before_server() {
    kubelet_starts
    kubelet_ends &
}

. "$(dirname "${BASH_SOURCE[0]}")/../integration/recovery.bash" # not in a condition: errexit would not hold in the cases
rc=$?
times=$(grep -c kubelet "$T/kubelet.ended")
[ "$times" -ge 10 ] || rc=1
echo "# kubelet: $times times restarted or killed, $(cat "$T/mounted.again" 2>/dev/null | wc -l) mounts tried again"
exit $rc
