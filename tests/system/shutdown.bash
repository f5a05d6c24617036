#!/bin/bash
# Shutdown of a machine with writers active: they stop, then what they had mounted goes, then the volume's scope stops,
# while the server and the network are still there; and every file that was closed before is on the server.
#
# The box is shut down for real, so this is not one of lib.bash's cases. TAP, one case.
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
: "${NFSVOL:?}" "${NFSVOLD:?}" "${NORPCBIND:?}"

inside() { # DIR: shared with the machine outside
    T=$1
    set -e
    ip link set lo up
    mkdir -p "$T/bin" "$T/server/export" "$T/acknowledged" /mnt/volume
    cp "$NFSVOL" "$T/bin/nfsvol"
    cp "$NFSVOLD" "$T/bin/nfsvold"
    for name in mount.nfs mount.fuse.nfs umount.fuse.nfs nfsvol; do ln -sf "$T/bin/nfsvol" "/usr/sbin/$name"; done
    # stands for the rest of the network: there before network.target, and so gone after it
    cat >/run/systemd/system/server.service <<EOF
[Unit]
DefaultDependencies=no
Before=network.target
Wants=network.target
[Service]
Type=forking
Environment=NORPCBIND=$NORPCBIND
ExecStart=$top/tests/server/ganesha start $T/server 20490
EOF
    cat >/run/systemd/system/writer@.service <<EOF
[Unit]
Description=writer %i
[Service]
ExecStart=/usr/bin/python3 $T/writer.py /mnt/volume %i $T/acknowledged
EOF
    cat >"$T/writer.py" <<'EOF'
import os, sys
d, me, acknowledged = sys.argv[1:]
n = 0
while True:
    name = f"{me}.{n}"
    with open(f"{d}/{name}", "wb") as f:
        f.write(name.encode() * 1000)
    with open(f"{acknowledged}/{name}", "wb") as f:
        pass
    n += 1
EOF
    # the journal itself goes with the box: let us see it
    mkdir -p /run/systemd/journald.conf.d
    printf '[Journal]\nForwardToConsole=yes\n' >/run/systemd/journald.conf.d/console.conf
    systemctl restart systemd-journald
    systemctl daemon-reload
    systemctl start server.service
    mount -t nfs -o port=20490,mountport=20491 127.0.0.1:/export /mnt/volume
    nfsvol status | grep -q nfsvol-127.0.0.1-export
    for i in 1 2 3; do systemctl start "writer@$i"; done
    sleep 3
    echo "shutting down" >&2
    systemctl --no-block poweroff
    sleep 60
}

if [ "${1:-}" = inside ]; then
    inside "$2"
    exit
fi
[ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && command -v ganesha.nfsd >/dev/null ||
    { echo "1..0 # SKIP needs root, /dev/fuse and nfs-ganesha"; exit 0; }

scratch=$(mktemp -d /var/tmp/nfsvol-shutdown.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
start=$SECONDS
"$here/box" -v -t 100 -b "$top" -b "$(dirname "$NFSVOL")" -b "$(dirname "$NFSVOLD")" -b "$(dirname "$NORPCBIND")" \
    -b "$scratch" -e NFSVOL -e NFSVOLD -e NORPCBIND -- bash "$0" inside "$scratch" >"$scratch.log" 2>&1
log=$(sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g; s/\r//g' "$scratch.log" | sed -n '/shutting down/,$p')
full=$(cat "$scratch.log")
rm -f "$scratch.log"

line_of() { printf '%s\n' "$log" | grep -n -- "$1" | head -n 1 | cut -d: -f1 | grep .; }
not() { ! "$@"; }
logged() { line_of "$1" >/dev/null; }
problem=
check() { [ -n "$problem" ] || "$@" || problem=${problem:-failed: $*}; }
in_order() { # each of the patterns stands in the log, one after the other
    local last=0 n pattern
    for pattern; do
        n=$(line_of "$pattern")
        [ -n "$n" ] || { problem="no '$pattern' in the log"; return 1; }
        [ "$n" -gt "$last" ] || { problem="'$pattern' is too early"; return 1; }
        last=$n
    done
}
all_there() {
    local name n=0
    for name in $(ls "$scratch/acknowledged"); do
        n=$((n + 1))
        [ "$(head -c "${#name}" "$scratch/server/export/$name" 2>/dev/null)" = "$name" ] &&
            [ "$(stat -c %s "$scratch/server/export/$name")" = $((${#name} * 1000)) ] ||
            { problem="$name is not on the server as it was written"; return 1; }
    done
    [ $n -gt 20 ] || problem="only $n files were written"
    echo "# $n files, $((SECONDS - start)) s"
}

# The writers are not ordered after the mount, as pods are not: systemd may find it busy and leave it to us. The daemon is gone
# when nothing is mounted any more. Of what has ended within a few milliseconds systemd may speak in another order.
for writer in 1 2 3; do
    check in_order "Stopping.*writer@$writer" 'nfsvold\[.*\]: gone' 'Stopped target network.target'
    check in_order "Stopped.*writer@$writer" 'Stopped target network.target'
done
check in_order 'Stopped.*NFS volume 127.0.0.1:/export' 'Stopped target network.target'
check logged 'Unmounted mnt-volume.mount\|unmounted /mnt/volume'
check not logged 'writer@.*exited, code=exited\|Traceback' # of an error of what it wrote to: they are killed
check test $((SECONDS - start)) -lt 60
check all_there
if [ -z "$problem" ]; then
    echo "ok 1 - shutdown_with_writers"
else
    echo "not ok 1 - shutdown_with_writers"
    echo "# $problem"
    printf '%s\n' "$full" | tail -n "${LOG_LINES:-60}" | grep -v "Job nfsvol" | sed 's/^/# /'
fi
echo 1..1
[ -z "$problem" ]
