#!/bin/bash
# Workers that die exactly between any two changes of what their successors go by (include/base/crashpoint.h), under a load
# that checks every call. NFSVOL_SOAK=1: each point by itself, too.
export EXPORT_EXT4=1 # for the listings
. "$(dirname "$0")/lib.bash"

points() { "$NFSVOLD" --crash-points | cut -f1; }
hits() { grep -c "crash point $1\$" "$LOG" || :; }

# loads WHERE SECONDS [OPTIONS]: both loads, on a volume whose workers die there. $LOG has what they said.
loads() {
    local load rc=0
    : >"$LOG"
    NFSVOL_CRASH_AT=$1 mount_at "$M" "${3:-}"
    mkdir "$M/load" "$M/work"
    "$PROGRAMS/crashload" "$M/load" "$2" 8 "$T/server/export/load" >"$T/summary" & load=$!
    python3 "$here/crashwork.py" "$M/work" "$2" || rc=1
    wait $load || rc=1
    echo "# $(cat "$T/summary")"
    rm -rf "$M/load/LOCK"
    ls -A "$M/load" "$M/work"
    wait_for 10 rmdir "$M/load" "$M/work" || rc=1 # the last .nfs names go after the close
    return $rc
}

missed() { # as NFSVOL_CRASH_AT wants it: those that were not hit, much more often than usual
    local name every
    "$NFSVOLD" --crash-points | while read -r name every _; do
        case $name in handle-*) continue ;; esac # handles_replaced
        grep -q "crash point $name\$" "$T/all" || echo -n "$name:$((every / 8 + 2)),"
    done
}

rounds() { # OPTIONS: until each point was hit
    local i at=all
    : >"$T/all"
    for i in $(seq 12); do
        loads "$at" 8 "$1"
        cat "$LOG" >>"$T/all"
        umount "$M"
        wait_for 25 no_volumes
        at=$(missed)
        [ -n "$at" ] || break
        at=${at}slot-queued:500 # for there to be recoveries
        [ $i -ge 2 ] || at=all
    done
    cp "$T/all" "$LOG"
    echo "# hits: $(for name in $(points); do echo -n "$name $(hits "$name"), "; done)"
    echo "# $(grep -c 'serving again' "$LOG") deaths in $i rounds"
    [ -z "$at" ] || fail "never hit: $at"
}

# A worker dies when it has noted that a lock was granted, and before the kernel has dropped the file's pages: who is given the
# lock by its successor does not read what was there before.
limit_lock_held=60
case_lock_held() {
    : >"$LOG"
    mount_at "$M/b" rsize=131072
    NFSVOL_CRASH_AT=lock-held:6 mount_at "$M/a" acregmin=30,acregmax=60
    python3 - "$M" <<'PY'
import fcntl, os, sys
stale = 0
for i in range(40):
    path = f"{sys.argv[1]}/%s/f{i}"
    with open(path % "b", "w") as f:
        f.write("old!")
    a = os.open(path % "a", os.O_RDWR)
    assert os.pread(a, 4, 0) == b"old!"
    b = os.open(path % "b", os.O_RDWR)
    fcntl.lockf(b, fcntl.LOCK_EX)
    os.pwrite(b, b"new!", 0)
    fcntl.lockf(b, fcntl.LOCK_UN)
    fcntl.lockf(a, fcntl.LOCK_EX)
    stale += os.pread(a, 4, 0) != b"new!"
    os.close(a)
    os.close(b)
    os.unlink(path % "b")
sys.exit(f"stale: {stale}" if stale else 0)
PY
    [ "$(hits lock-held)" -gt 3 ]
}

# Workers that die over what is noted of handles that the server has replaced, each fourth time.
limit_handles_replaced=120
case_handles_replaced() {
    local load n=100
    : >"$LOG"
    trap 'server stop "$T/moved"' EXIT
    server start "$T/moved" 20600
    NFSVOL_CRASH_AT=handle-taken:4,handle-replaced:4 MOUNT_PORTS=port=20600,mountport=20601,nlmport=20602 mount_at "$M" nconnect=2
    python3 "$here/handles.py" "$M" "$T/stop" & load=$!
    sleep 2
    while [ $n -lt 104 ] || [ "$(hits handle-taken)" = 0 ] || [ "$(hits handle-replaced)" = 0 ]; do
        [ $n -lt 120 ]
        n=$((n + 1))
        server reexport "$T/moved" $n
        sleep 2
    done
    touch "$T/stop"
    wait $load || { grep ' is lost: ' "$LOG"; grep -v "crash point" "$LOG" | tail -n 40; false; }
    echo "# hits: $(hits handle-taken) and $(hits handle-replaced)"
    rm -r "$M"/*
    umount "$M"
    wait_for 25 no_volumes
}

# A worker dies while a piece is there twice, waiting for an older one that is on its way; the WRITE that it was made larger
# for goes over part of it, and must not be undone by the other copy.
limit_one_of_two_copies=120
case_one_of_two_copies() {
    : >"$LOG"
    NFSVOL_CRASH_AT=extent-enlarged:2 mount_at "$M"
    python3 - "$M" "$T/server/export" "$(cat "$T/server/ganesha.pid")" <<'PY'
import os, signal, sys, threading, time
m, export, server = sys.argv[1], sys.argv[2], int(sys.argv[3])
want, wrong = b"b" * 1000 + b"c" * 4096, 0
for i in range(60):
    fd = os.open(f"{m}/{i}", os.O_RDWR | os.O_CREAT, 0o600)
    direct = os.open(f"{m}/{i}", os.O_WRONLY | os.O_DIRECT)
    os.pwrite(fd, b"a" * 3500, 0)
    os.kill(server, signal.SIGSTOP)
    sync = threading.Thread(target=lambda: os.close(os.dup(fd))) # fsync(2) would keep writers out
    sync.start()
    time.sleep(0.05) # the first one is on its way
    os.pwrite(fd, b"b" * 3000, 0)
    over = threading.Thread(target=os.pwrite, args=(direct, b"c" * 4096, 1000)) # the kernel splits others at pages
    over.start()
    time.sleep(0.15)
    os.kill(server, signal.SIGCONT)
    over.join()
    sync.join()
    os.fsync(fd)
    os.close(fd)
    os.close(direct)
    got = open(f"{export}/{i}", "rb").read()
    if got != want:
        wrong += 1
        at = next((k for k in range(min(len(got), len(want))) if got[k] != want[k]), -1)
        print("round", i, len(got), "bytes, the first wrong one at", at, got[at:at + 4])
    os.unlink(f"{m}/{i}")
print("#", wrong, "wrong of 60")
sys.exit(wrong > 0)
PY
    [ "$(hits extent-enlarged)" -ge 10 ]
}

limit_every_point=180
case_every_point() { rounds ""; }

limit_every_point_nconnect_4=120
case_every_point_nconnect_4() { loads all 5 nconnect=4; }

# Two workers die over one request: the second one while it was about to send the RPC of the first again.
limit_two_over_one_request=120
case_two_over_one_request() {
    : >"$LOG"
    NFSVOL_CRASH_AT=reply-arrived:5,executing:5 mount_at "$M"
    python3 - "$M" <<'PY'
import os, sys
wrong = 0
def does(call, *paths):
    global wrong
    try:
        call(*(f"{sys.argv[1]}/{p}" for p in paths))
    except OSError as err:
        wrong += 1
        print(call.__name__, *paths, err)
os.close(os.open(f"{sys.argv[1]}/file", os.O_CREAT | os.O_RDWR))
for i in range(8):
    does(os.mkdir, "d")
    does(os.link, "file", "d/a")
    does(os.rename, "d/a", "d/b")
    does(os.unlink, "d/b")
    does(os.symlink, "x", "d/c")
    does(os.unlink, "d/c")
    for name in ("d/x", "d/y"):
        fd = os.open(f"{sys.argv[1]}/{name}", os.O_CREAT | os.O_EXCL | os.O_RDWR)
        does(os.link, name, "d/l")
        does(os.rename, "d/l", name) # of one file: nothing to do
        does(os.unlink, "d/l")
        does(os.rename, "file", name) if name == "d/x" else does(os.unlink, name) # open: hidden
        os.close(fd)
    does(os.rename, "d/x", "file")
    does(os.rmdir, "d")
sys.exit(wrong > 0)
PY
    echo "# $(hits executing) deaths before an RPC, $(hits reply-arrived) after one"
    [ "$(hits executing)" -ge 8 ] && [ "$(hits reply-arrived)" -ge 8 ]
}

# A request that kills whoever executes it is answered with EIO; who waits beside it is not, and the volume goes on.
limit_request_that_kills=120
case_request_that_kills() {
    local reader
    echo data | tee "$T/server/export/f" >"$T/server/export/g"
    NFSVOL_CRASH_AT=extent-filled:1:6 mount_at "$M" hard,nconnect=2,actimeo=600 # the shell's fstat(2) is not to wait
    exec 8<"$M/f" 9<>"$M/g"
    server pause
    dd iflag=direct bs=4096 <&8 >"$T/read" 2>/dev/null & reader=$!
    wait_for 5 eval '[ "$(status_of requests.in_flight)" = 1 ]'
    : >"$LOG"
    not bash -c 'echo more >&9' 2>err
    grep -q 'Input/output error' err
    wait_for 5 logged "workers die over a request (FUSE's number 16, of process [0-9]*): answered with EIO"
    wait_for 5 eval '[ "$(grep -c "starting another" "$LOG")" = 3 ]'
    [ "$(status_of counters.poisoned)" = 1 ]
    server cont
    wait "$reader"
    [ "$(cat "$T/read")" = data ]
    exec 8<&- 9<&-
    rm -f "$M/f" "$M/g"
}

case_names_that_are_not_points() {
    NFSVOL_CRASH_AT=slot-queued:0 timeout 20 mount -t fuse.nfs -o "$MOUNT_PORTS,linger=0" "$SRC" "$M" || :
    wait_for 5 logged 'NFSVOL_CRASH_AT: no such point, or not NAME:EVERY:SIGNAL: slot-queued'
    unmount_all
    wait_for 25 no_volumes
}

if [ -n "${NFSVOL_SOAK:-}" ]; then
    for point in $("$NFSVOLD" --crash-points | cut -f1); do
        eval "limit_only_${point//-/_}=120; case_only_${point//-/_}() {
            loads $point 20
            echo \"# \$(hits $point) times\"
            [ \$(hits $point) -gt 0 ]
        }"
    done
fi

run_cases "$@"
