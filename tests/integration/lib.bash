# What the integration tests share. A test sources this as its first act:
#
#   . "$(dirname "$0")/lib.bash"
#   case_something() { ... }          # a failing command fails the case
#   run_cases
#
# The whole file then runs in mount, pid and network namespaces of its own (with NEED_SYSTEMD=1 set before: under a
# systemd of its own), so ports are free, mounts are seen
# by nobody, and every process is gone when it ends. In them: $T (a tmpfs) is scratch space, mount(8) finds
# our helpers in /sbin, and a server exports $T/server/export as 127.0.0.1:/export.
#
# EXPORT_EXT4=1 set before: the export is an ext4 of its own instead of a directory of the tmpfs, whose directories cannot be
# read on from an entry that has been removed meanwhile.
#
# Output is TAP. Each case has a time-out (limit_<case>=SECONDS, default 60: of a machine of one's own; it gets three times
# that) and an empty directory $M to mount at; what it mounted is unmounted after it. Leftover processes or mounts
# fail the case.
set -u
: "${NFSVOL:?the nfsvol to test}" "${NFSVOLD:?the nfsvold to test}" "${NORPCBIND:?the shim for ganesha}"
: "${PROGRAMS:=$(dirname "$NFSVOL")/../../tests/integration}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)

if [ -z "${IN_BOX:-}" ]; then
    [ "$(id -u)" = 0 ] || { echo "1..0 # SKIP needs root"; exit 0; }
    [ -c /dev/fuse ] || { echo "1..0 # SKIP needs /dev/fuse"; exit 0; }
    command -v ganesha.nfsd >/dev/null || { echo "1..0 # SKIP needs nfs-ganesha"; exit 0; }
    export IN_BOX=1
    if [ -n "${NEED_SYSTEMD:-}" ]; then
        variables=()
        for name in IN_BOX NFSVOL NFSVOLD NORPCBIND PROGRAMS NFSVOL_SOAK; do variables+=(-e "$name"); done
        exec "$top/tests/system/box" -t "${BOX_LIMIT:-1800}" -b "$top" -b "$(dirname "$NFSVOL")" \
            -b "$(dirname "$NFSVOLD")" -b "$(dirname "$NORPCBIND")" -b "$PROGRAMS" "${variables[@]}" -- bash "$(realpath "$0")" "$@"
    fi
    exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc --net bash "$0" "$@"
fi

T=/tmp/nfsvol-test.$$
PORT=20490
MOUNT_PORTS=port=$PORT,mountport=$((PORT + 1)),nlmport=$((PORT + 2))
SRC=127.0.0.1:/export
export NFSVOL_RUNDIR=$T/run NFSVOL_STATEDIR=$T/state
cases=0 failed=0

box_make() {
    local target
    ip link set lo up
    # what the machine itself has mounted: it stays there, this is a private copy
    grep ' fuse\.nfs ' /proc/self/mountinfo | cut -d' ' -f5 | tac |
        while read -r target; do umount -i -l "$(printf %b "$target")"; done
    mkdir -p "$T"
    mount -t tmpfs -o size=6g tmpfs "$T"
    mkdir -p "$T/bin" "$T/sbin" "$T/m" "$T/server/export" "$T/log"
    if [ -n "${EXPORT_EXT4:-}" ]; then
        truncate -s 3G "$T/export.img"
        mkfs.ext4 -q -O ^has_journal "$T/export.img"
        mount -o loop "$T/export.img" "$T/server/export"
        rmdir "$T/server/export/lost+found"
    fi
    cp "$NFSVOL" "$T/bin/nfsvol"
    cp "$NFSVOLD" "$T/bin/nfsvold"
    for name in mount.fuse.nfs umount.fuse.nfs mount.nfs mount.nfs4 nfsvol; do
        ln -s "$T/bin/nfsvol" "$T/sbin/$name"
    done
    mount -t overlay -o "lowerdir=$T/sbin:/usr/sbin" overlay /usr/sbin
}

server_crashes() { cat "$T/server/ganesha.crashes" 2>/dev/null | wc -l; } # by its own fault

server() { # VERB [DIR] [PORT]: of the server, or of another one in DIR
    NORPCBIND=$NORPCBIND "$here/../server/ganesha" "$1" "${2:-$T/server}" "${3:-$PORT}"
}

# mount_at DIR [OPTIONS [SOURCE]]
fio_jobs() { # DIR SIZE: buffered, direct and mapped; each reads back what it wrote, and knows it
    cat <<FIO
[global]
directory=$1
size=$2
rw=randrw
bsrange=4k-128k
verify=crc32c
verify_fatal=1
do_verify=1
[buffered]
ioengine=psync
fsync=50
[direct]
ioengine=libaio
iodepth=16
direct=1
[mapped]
ioengine=mmap
FIO
}

mount_at() {
    mkdir -p "$1"
    mount -t fuse.nfs -o "$MOUNT_PORTS,linger=0${2:+,$2}" "${3:-$SRC}" "$1"
}

# mount_on NODE DIR [OPTIONS]: as a machine of its own, a letter, would: in a network namespace from which the server is at 10.x.0.1
mount_on() {
    local net
    net=10.$(printf %d "'$1").0
    [ -e "$T/node.$1" ] || node_make "$1" "$net" || return 1
    mkdir -p "$2"
    nsenter --net="$T/node.$1" mount -t fuse.nfs -o "$MOUNT_PORTS,linger=0${3:+,$3}" "$net.1:/export" "$2"
}
node_make() { # NODE NET
    touch "$T/node.$1" &&
        unshare --net="$T/node.$1" ip link set lo up &&
        nsenter --net="$T/node.$1" ip link add cable type veth peer name "to_$1" netns $$ &&
        ip addr add "$2.1/24" dev "to_$1" &&
        ip link set "to_$1" up &&
        nsenter --net="$T/node.$1" ip addr add "$2.2/24" dev cable &&
        nsenter --net="$T/node.$1" ip link set cable up
}

status_of() { # JQ-LESS: status_of KEY: a top-level key of the only volume's status
    nfsvol status --json | python3 -c '
import json, sys
d = json.load(sys.stdin)
d = d[0] if isinstance(d, list) else d
for k in sys.argv[1].split("."):
    d = d[k]
print(d)' "$1"
}

fail() { echo "$*" >&2; return 1; }
not() { ! "$@"; } # a plain "! command" fails no case: errexit lets it pass

# wait_for SECONDS COMMAND...: until it succeeds, for that long at least
wait_for() {
    local seconds=$1 end
    shift
    ((seconds <= 3 || seconds >= 20)) || seconds=$((3 * seconds)) # a slow machine takes seconds to start a program
    end=$((SECONDS + seconds + 1))
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited in vain for: $*" || return 1
        sleep 0.05
    done
}

abort_connection() { # DIR: of the mount there
    local minor
    minor=$(mountpoint -d "$1")
    minor=${minor#*:}
    mkdir -p /sys/fs/fuse/connections
    [ -e "/sys/fs/fuse/connections/$minor/abort" ] || mount -t fusectl fusectl /sys/fs/fuse/connections
    echo 1 >"/sys/fs/fuse/connections/$minor/abort"
}

monotonic_ms() { # of a clock that nobody sets
    local up
    read -r up _ </proc/uptime
    echo "${up/./}0"
}

# within MS COMMAND...: it succeeds, and takes no longer than that. Says how long it took.
within() {
    local began took last=${*: -1} rc=0
    began=$(monotonic_ms)
    "${@:2}" || rc=$?
    took=$(($(monotonic_ms) - began))
    echo "# $2 ${last#"$T/m/"}: $took ms"
    [ $rc = 0 ] || fail "${*:2}: exit $rc" || return 1
    [ $took -le $((3 * $1)) ] || fail "${*:2}: $took ms instead of $1" # a machine may pause
}

killed() { # PID...: SIGKILL, until all of them are gone
    local pid
    kill -KILL "$@" || return 1
    for pid; do
        while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done # bounded by the case's time-out
    done
}

daemon_pids() { # every process that runs our nfsvold
    local exe
    for exe in /proc/[0-9]*/exe; do
        [ "$(readlink "$exe" 2>/dev/null)" != "$T/bin/nfsvold" ] || basename "${exe%/exe}"
    done
}

keepers_are() { [ "$(pgrep -xc nfsvol-keeper)" = "$1" ]; } # one that starts another process counts twice for a moment
keeper_pid() { status_of keeper_pid; }
worker_pid() { status_of worker_pid; }

no_volumes() {
    [ -z "$(daemon_pids)" ] &&
        ! grep -q ' fuse\.nfs ' /proc/self/mountinfo && [ -z "$(ls "$NFSVOL_RUNDIR" 2>/dev/null)" ]
}

# After each case: every volume is served, and its tables agree with each other.
verified() {
    local rc=0
    nfsvol status --verify >"$T/verify" 2>&1 || rc=$?
    [ $rc != 32 ] || { rc=4; ! wait_for 15 nfsvol status --verify >"$T/verify" 2>&1 || rc=0; }
    [ $rc != 4 ] || { grep -A 20 '^  tables\|cannot be' "$T/verify"; return 1; }
}

# With AT_REST=1 set, also: when all files are closed and the kernel has dropped what it can, it has told us to forget all
# but the root. (A worker that was killed may have been told and not have lived to do it.)
at_rest() {
    local rc=0
    nfsvol status --verify --json | python3 -c '
import json, sys
for v in json.load(sys.stdin):
    c = v.get("verify", {}).get("counts")
    if c and v["restarts"] + v["upgrades"] == 0:
        want = dict(dict.fromkeys(c, 0), inodes=1, lookups=1)
        assert c == want, (v["source"], v["options"], {k: c[k] for k in c if c[k] != want[k]})' 2>"$T/rest" || rc=1
    return $rc
}
forgotten_at_rest() {
    echo 2 >/proc/sys/vm/drop_caches # what was used lately may survive one
    at_rest
}
forgotten() {
    [ -n "${AT_REST:-}" ] || return 0
    wait_for 30 forgotten_at_rest || { tail -n 1 "$T/rest"; return 1; }
}

unmount_all() {
    local target
    grep ' fuse\.nfs ' /proc/self/mountinfo | cut -d' ' -f5 | grep -v "^$NFSVOL_RUNDIR" | tac |
        while read -r target; do umount -l "$(printf %b "$target")"; done
}

# What the daemons log goes to the journal's socket: that is ours, unless there is a systemd of our own. $LOG: one line a message.
LOG=$T/journal
journal_start() {
    if [ -n "${NEED_SYSTEMD:-}" ]; then
        journalctl -b -f -n 0 -o cat >>"$LOG" &
        journal_pid=$!
        return
    fi
    mkdir -p /run/systemd
    mount -t tmpfs tmpfs /run/systemd
    mkdir /run/systemd/journal
    echo 512 >/proc/sys/net/unix/max_dgram_qlen # of this network namespace; what systemd sets
    python3 - "$LOG" <<'PY' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind("/run/systemd/journal/socket")
with open(sys.argv[1], "a", buffering=1) as log:
    while True:
        fields = dict(f.split("=", 1) for f in s.recv(65536).decode(errors="replace").split("\n") if "=" in f)
        log.write(fields.get("PRIORITY", "?") + " " + fields.get("MESSAGE", "?") + "\n")
PY
    journal_pid=$!
    wait_for 5 test -S /run/systemd/journal/socket
}
logged() { grep -q -- "$1" "$LOG"; }

# What a case was about when its time was over: PGID.
stuck() {
    local pid
    for pid in $(pgrep -g "$1"); do
        ps -o pid,stat,args -p "$pid" | tail -n 1
        ! grep -q '^[^/]*fuse' "/proc/$pid/stack" || cat "/proc/$pid/stack"
    done
    timeout 10 nfsvol status
    tail -n 5 "$LOG"
    echo "the server, and what there is of connections:"
    pid=$(cat "$T/server/ganesha.pid" 2>/dev/null)
    grep -H -e '^State' -e '^Threads' "/proc/$pid/status"
    cat "/proc/$pid"/task/*/wchan | tr '\0' '\n' | sort | uniq -c
    tail -n 5 "$T/server/ganesha.log"
    ss -Htanop | grep -v TIME-WAIT
}

# What there still is, and what it waits for.
left_behind() {
    local pid
    echo "left behind:"
    grep fuse /proc/self/mountinfo
    ls -R "$NFSVOL_RUNDIR"
    ss -Htnp | grep -v TIME-WAIT
    for pid in $(daemon_pids); do
        ps -o pid,ppid,stat,time,args -p "$pid" | tail -n 1
        ! command -v gdb >/dev/null || ! grep -q worker "/proc/$pid/cmdline" ||
            timeout 20 gdb -p "$pid" -batch -ex 'thread apply all bt' 2>&1 | grep '^#'
        cat "/proc/$pid/stack"
    done
    tail -n 5 "$LOG" 2>/dev/null
}

say_failed() { echo "$1: failed: ${2%%$'\n'*}" >&2; } # a command that is a script would be all of it

# Each case: in a process of its own, with errexit, bounded; then nothing may be left.
run_case() {
    local skip= name=$1 limit_var=limit_$1 log=$T/log/$1 rc=0 limit left begin=${EPOCHREALTIME/./} crashes
    crashes=$(server_crashes)
    limit=$((3 * ${!limit_var:-60}))
    M=$T/m/$name
    rm -rf --one-file-system "$M" # of a case that is named twice
    mkdir -p "$M"
    local before=$'\n'$(ls -A "$T/server/export" 2>/dev/null)$'\n'
    : >"$log"
    set -m # a process group of its own: what it started ends with it
    (
        set +m -eE
        trap 'say_failed "$BASH_SOURCE:$LINENO" "$BASH_COMMAND"' ERR
        cd "$T"
        "case_$name"
    ) </dev/null >>"$log" 2>&1 &
    local pid=$!
    set +m
    (sleep "$limit"; { echo "time-out after $limit s"; stuck "$pid"; } >>"$log" 2>&1 & sleep 10; kill -KILL -- "-$pid") 2>/dev/null &
    local watchdog=$!
    wait "$pid" 2>/dev/null || rc=$?
    kill "$watchdog" 2>/dev/null
    kill -KILL -- "-$pid" 2>/dev/null
    [ $rc != 77 ] || skip=$(tail -n 1 "$log")
    server cont 2>/dev/null || server restart # whatever the case did to it
    { verified && forgotten; } >>"$log" 2>&1 || rc=1
    unmount_all
    if ! wait_for "${leave_bound:-25}" no_volumes >>"$log" 2>&1; then
        rc=1
        left_behind >>"$log" 2>&1
        # stopped first, so that none of them replaces another; then the next case finds nothing
        for pid in $(daemon_pids); do kill -STOP "$pid"; done
        for pid in $(daemon_pids); do kill -KILL "$pid"; done
        for pid in $(grep ' fuse\.nfs ' /proc/self/mountinfo | cut -d' ' -f5 | tac); do umount -l "$pid"; done
        rm -rf "${NFSVOL_RUNDIR:?}"/*
    fi
    cases=$((cases + 1))
    echo "# $name: $(((${EPOCHREALTIME/./} - begin) / 1000)) ms"
    [ "$(server_crashes)" = "$crashes" ] || echo "# nfs-ganesha crashed by itself and was started again: $(tail -n 1 "$T/server/ganesha.crashes")"
    if [ $rc = 77 ]; then
        echo "ok $cases - $name # SKIP $skip"
    elif [ $rc = 0 ]; then
        echo "ok $cases - $name"
        grep '^# ' "$log" # what is worth knowing also if all went well
    else
        failed=$((failed + 1))
        while read -r left; do # what it left there must not fail those that come after it
            [[ $before == *$'\n'"$left"$'\n'* ]] || rm -rf "$T/server/export/${left:?}"
        done < <(ls -A "$T/server/export" 2>/dev/null)
        echo "not ok $cases - $name"
        tail -n 100 "$log" | sed 's/^/# /'
    fi
}

run_cases() { # [CASE...]: by name, or all
    local name
    box_make
    journal_start
    ! declare -F before_server >/dev/null || before_server
    server start >"$T/log/server" 2>&1 || { echo "Bail out! $(tail -n 3 "$T/log/server")"; exit 1; }
    if [ $# = 0 ]; then
        set -- $(declare -F | sed -n 's/^declare -f case_//p')
    fi
    for name; do
        run_case "$name"
    done
    server stop
    kill "${journal_pid:-}" 2>/dev/null
    echo "1..$cases"
    [ $failed = 0 ]
}
