#!/bin/bash
# Mounting and unmounting: every way in, every way out, and what is left behind.
. "$(dirname "$0")/lib.bash"

works() { # DIR
    echo hello >"$1/works.$$"
    [ "$(cat "$1/works.$$")" = hello ]
    rm "$1/works.$$"
}

case_mount_fuse_nfs() {
    mount_at "$M"
    works "$M"
    findmnt -n -o FSTYPE,SOURCE "$M" | grep -q "^fuse.nfs *$SRC"
    df -hT "$M" | grep -q fuse.nfs
    umount "$M"
}

case_names_and_addresses() { # of a name with two addresses the one that answers; an IPv6 address
    local host
    printf '192.0.2.1 two-addresses\n127.0.0.1 two-addresses\n' >"$T/hosts"
    mount --bind "$T/hosts" /etc/hosts
    trap 'umount /etc/hosts' EXIT
    for host in two-addresses '[::1]'; do
        mount_at "$M" "" "$host:/export"
        [ "$(findmnt -no SOURCE "$M")" = "$host:/export" ]
        works "$M"
        umount "$M"
        wait_for 10 no_volumes
    done
}

case_mount_t_nfs() {
    mount -t nfs -o "$MOUNT_PORTS,linger=0" "$SRC" "$M"
    works "$M"
    umount "$M"
}

case_mount_t_nfs4_is_refused() {
    local rc=0
    mount -t nfs4 -o "$MOUNT_PORTS,linger=0" "$SRC" "$M" 2>err || rc=$?
    [ $rc = 32 ]
    grep -qi 'version 4' err
}

case_vers_4_is_refused_by_name() {
    local rc=0 v
    for v in vers=4 vers=4.1 nfsvers=4.2; do
        rc=0
        mount -t fuse.nfs -o "$MOUNT_PORTS,$v" "$SRC" "$M" 2>err || rc=$?
        [ $rc = 32 ]
        [ "$(wc -l <err)" = 1 ]
    done
}

case_mount_t_fuse_nfsvol_hash() {
    command -v mount.fuse >/dev/null || { echo "no mount.fuse"; exit 77; }
    mount -t fuse -o "$MOUNT_PORTS,linger=0" "nfsvol#$SRC" "$M"
    works "$M"
    umount "$M"
}

case_fstab() {
    cp /etc/fstab "$T/fstab" 2>/dev/null || :
    echo "$SRC $M fuse.nfs $MOUNT_PORTS,linger=0,_netdev,nofail,noauto,x-systemd.automount 0 0" >"$T/fstab"
    mount -T "$T/fstab" "$M"
    works "$M"
    umount "$M"
}

case_options_of_a_kubernetes_node() {
    mount -t nfs -o "rw,relatime,vers=3,rsize=524288,wsize=524288,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,mountaddr=127.0.0.1,mountvers=3,mountport=$((PORT + 1)),mountproto=tcp,local_lock=none,addr=127.0.0.1,port=$PORT,linger=0" \
        "$SRC" "$M"
    works "$M"
}

case_sorted_and_empty_options() {
    mount -t nfs -o "hard,,linger=0,$MOUNT_PORTS,nosuid,,_netdev" "$SRC" "$M"
    findmnt -n -o OPTIONS "$M" | grep -q nosuid
}

case_per_mount_flags() {
    mount_at "$M/a" ro,nosuid,nodev,noexec,noatime
    mount_at "$M/b" rw
    mkdir "$M/c"
    mount.fuse.nfs "$SRC" "$M/c" -o "$MOUNT_PORTS,linger=0,dev" # which mount(8) would keep for itself
    findmnt -n -o OPTIONS "$M/a" | grep -q '^ro,nosuid,nodev,noexec,noatime'
    findmnt -n -o OPTIONS "$M/b" | grep -q '^rw,nodev,relatime'
    findmnt -n -o OPTIONS "$M/c" | grep -q '^rw,relatime'
    not touch "$M/a/x" 2>/dev/null
    touch "$M/b/x"
    rm "$M/b/x"
    wait_for 5 keepers_are 1 # one volume, two views of it
}

case_remount() {
    mount_at "$M"
    touch "$M/x"
    mount -o remount,ro "$M"
    not touch "$M/x" 2>/dev/null
    mount -o remount,rw "$M"
    rm "$M/x"
}

case_other_options_are_another_volume() {
    mount_at "$M/a" rsize=65536
    mount_at "$M/b" rsize=131072
    wait_for 5 keepers_are 2
}

case_subdirectory_of_the_export() {
    mkdir -p "$T/server/export/sub/dir"
    echo below >"$T/server/export/sub/dir/file"
    mount_at "$M" "" "$SRC/sub/dir"
    [ "$(cat "$M/file")" = below ]
    umount "$M"
    mount_at "$M" subdir=sub/dir
    [ "$(cat "$M/file")" = below ]
    umount "$M"
    rm -r "$T/server/export/sub"
}

case_twice_is_once() {
    mount_at "$M"
    mount_at "$M"
    [ "$(grep -c " $M " /proc/self/mountinfo)" = 1 ]
}

case_fake_and_verbose() {
    mount -f -t fuse.nfs -o "$MOUNT_PORTS" "$SRC" "$M"
    not grep -q " $M " /proc/self/mountinfo
    mount.fuse.nfs "$SRC" "$M" -v -o "$MOUNT_PORTS,linger=0,namlen=255" | grep -qi namlen
    umount "$M"
}

case_umount_l_with_a_user_inside() {
    mount_at "$M"
    exec 9>"$M/open"
    umount -l "$M"
    echo still >&9
    exec 9>&-
    wait_for 10 grep -q still "$T/server/export/open"
    rm "$T/server/export/open"
}

case_umount_f_spares_the_others() {
    mount_at "$M/a"
    mount_at "$M/b"
    exec 9>"$M/b/open"
    umount -f "$M/a"
    not grep -q " $M/a " /proc/self/mountinfo
    echo alive >&9
    exec 9>&-
    [ "$(cat "$M/b/open")" = alive ]
    rm "$M/b/open"
}

case_nfsvol_umount() {
    mount_at "$M"
    nfsvol umount "$M"
    not grep -q " $M " /proc/self/mountinfo
}

case_busy_umount_says_so() {
    local rc=0
    mount_at "$M"
    exec 9>"$M/open"
    nfsvol umount "$M" 2>err || rc=$?
    exec 9>&-
    [ $rc = 32 ]
    grep -qi busy err
    rm "$M/open"
}

# Nobody who waits for the end of our output may wait for the daemon (kubelet does).
case_output_is_let_go() {
    local start=$SECONDS out
    out=$(mount.nfs "$SRC" "$M" -o "$MOUNT_PORTS,linger=3" 2>&1)
    [ -z "$out" ]
    [ $((SECONDS - start)) -lt 5 ]
    for fd in 0 1 2; do
        [ "$(readlink "/proc/$(keeper_pid)/fd/$fd")" = /dev/null ]
        [ "$(readlink "/proc/$(worker_pid)/fd/$fd")" = /dev/null ]
    done
}

case_without_path_and_home() {
    env -i NFSVOL_RUNDIR="$NFSVOL_RUNDIR" NFSVOL_STATEDIR="$NFSVOL_STATEDIR" mount -t nfs -o "$MOUNT_PORTS,linger=0" "$SRC" "$M"
    works "$M"
    [ "$(readlink "/proc/$(worker_pid)/cwd")" = / ]
}

case_linger() {
    mount_at "$M" linger=6
    pid=$(keeper_pid)
    umount "$M"
    mount_at "$M" linger=6
    [ "$(keeper_pid)" = "$pid" ]
    umount "$M"
    sleep 1
    kill -0 "$pid"
    wait_for 20 no_volumes
}

limit_helpers_at_once=120
case_helpers_at_once() { # 50 helpers: the same export and others
    local i pids=() rc=0
    for i in $(seq 50); do
        mount_at "$M/$i" "rsize=$((65536 + (i % 5) * 4096))" &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || rc=1; done
    [ $rc = 0 ]
    wait_for 5 keepers_are 5
    for i in $(seq 50); do works "$M/$i"; done
    for i in $(seq 50); do umount "$M/$i" & done
    wait
    wait_for 20 no_volumes
}

limit_many_volumes_and_binds=180
case_many_volumes_and_binds() { # 20 volumes, 200 binds
    local v b
    for v in $(seq 20); do
        (for b in $(seq 10); do mount_at "$M/$v.$b" "rsize=$((65536 + v * 4096))"; done) &
    done
    wait
    wait_for 5 keepers_are 20
    [ "$(grep -c " $M/.* fuse.nfs " /proc/self/mountinfo)" = 200 ]
    nfsvol list --json | python3 -c '
import json, sys
d = json.load(sys.stdin)
assert len(d) == 20, d
assert all(v["users"] == 10 for v in d), d'
    for v in $(seq 20); do for b in $(seq 10); do works "$M/$v.$b"; done; done
    for v in $(seq 20); do (for b in $(seq 10); do umount "$M/$v.$b"; done) & done
    wait
    wait_for 20 no_volumes
}

case_restarted_worker_goes_on() {
    mount_at "$M"
    exec 9>"$M/open"
    echo one >&9
    kill -KILL "$(worker_pid)"
    echo two >&9
    exec 9>&-
    [ "$(cat "$M/open")" = "one
two" ]
    rm "$M/open"
}

# ---- what goes wrong is said: one line, exit 32 or 1, nothing left ----

refused() { # EXIT PATTERN COMMAND...
    local want=$1 pattern=$2 rc=0
    shift 2
    "$@" 2>"$T/err" || rc=$?
    cat "$T/err"
    [ $rc = "$want" ] || fail "exit $rc, not $want" || return 1
    [ "$(wc -l <"$T/err")" = 1 ] || fail "not one line" || return 1
    grep -qi -- "$pattern" "$T/err" || fail "no '$pattern'" || return 1
    not grep -q " $M " /proc/self/mountinfo
}

helper() { mount.fuse.nfs "$@"; }

case_says_unknown_host() { refused 32 'unknown\|resolve\|name' helper no-such-host.invalid:/x "$M" -o "$MOUNT_PORTS"; }
case_says_refused() { refused 32 refused helper "$SRC" "$M" -o port=1,mountport=2; }
case_says_no_route() { refused 32 'route\|unreachable' helper 192.0.2.1:/x "$M" -o "$MOUNT_PORTS"; }
case_says_no_portmapper() { refused 32 'port 111\|portmap' helper "$SRC" "$M" -o "port=$PORT"; }
case_says_no_export() { refused 32 'export\|denied' helper 127.0.0.1:/none "$M" -o "$MOUNT_PORTS"; }
case_says_bad_option() { refused 32 frobnicate helper "$SRC" "$M" -o "$MOUNT_PORTS,frobnicate"; }
case_says_bad_value() { refused 32 timeo helper "$SRC" "$M" -o "$MOUNT_PORTS,timeo=soon"; }
case_says_no_target() { refused 32 'no such\|not exist' helper "$SRC" "$M/none" -o "$MOUNT_PORTS"; }
case_says_not_a_directory() {
    touch "$M/file"
    refused 32 'not a directory' helper "$SRC" "$M/file" -o "$MOUNT_PORTS"
}
case_says_not_root() {
    chmod 755 "$T" "$T/bin"
    refused 1 root setpriv --reuid=65534 --regid=65534 --clear-groups mount.fuse.nfs "$SRC" "$M" -o "$MOUNT_PORTS"
}
case_says_no_dev_fuse() {
    local rc=0
    mkdir -p "$T/dev"
    mount -t tmpfs dev "$T/dev"
    cp -a /dev/null "$T/dev/null"
    mount --move "$T/dev" /dev
    refused 32 '/dev/fuse' helper "$SRC" "$M" -o "$MOUNT_PORTS" || rc=$?
    umount -l /dev # a process that is about to end may have /dev/null open
    return $rc
}
limit_says_timeout=40
case_says_timeout() {
    local rc=0 start=$SECONDS
    server pause
    refused 32 'time\|answer' helper "$SRC" "$M" -o "$MOUNT_PORTS" || rc=$?
    server cont
    [ $((SECONDS - start)) -lt 25 ]
    return $rc
}

run_cases "$@"
