#!/bin/bash
# Workers that are not killed by others: they crash, and leave a stack and a core; are stuck, or turn in circles; cannot live
# at all. And one that has lost its notifier.
. "$(dirname "$0")/deaths.bash"

case_segv_leaves_a_stack() {
    mount_at "$M"
    ! sanitized || { echo "the sanitizer has handlers of its own"; exit 77; }
    : >"$LOG"
    kill -SEGV "$(worker_pid)"
    wait_for 5 logged 'serving again'
    cat "$LOG"
    logged 'stack: signal 11, thread .* nfsvol-worker'
    logged 'stack: .*nfsvold(reactor_turn'
    logged 'killed by signal 11 (Segmentation fault)'
    echo x >"$M/x"
    rm "$M/x"
}

case_notifier_killed() { # old pages must not be taken for new ones because nobody drops them any more
    local pid
    mount_at "$M" actimeo=1
    echo old >"$M/f"
    exec 8<"$M/f"
    cat <&8
    pid=$(pgrep -x nfsvol-notifie -P "$(worker_pid)" || pgrep -P "$(worker_pid)")
    kill -KILL "$pid"
    echo "new and longer" >"$T/server/export/f"
    sleep 1.2
    [ "$(stat -c %s "$M/f")" = 15 ]
    [ "$(cat "$M/f")" = "new and longer" ]
    wait_for 5 sh -c "[ \"\$(python3 -c 'import os; print(os.pread(8, 100, 0))')\" = \"b'new and longer\\n'\" ]"
    logged 'the process that drops cached pages is gone'
    [ "$(status_of restarts)" = 1 ]
    exec 8<&-
    rm "$M/f"
}

# Where the system keeps cores, there is one of a worker that crashed (without the recovery memory, which is users' data).
case_segv_leaves_a_core() {
    mount_at "$M"
    ! sanitized || { echo "the sanitizer has handlers of its own"; exit 77; }
    pattern=$(cat /proc/sys/kernel/core_pattern)
    trap "echo '$pattern' >/proc/sys/kernel/core_pattern" EXIT
    echo "$T/core" >/proc/sys/kernel/core_pattern # the machine's: for a second
    kill_worker # the next one sees it
    wait_for 10 serves
    echo x >"$M/x"
    : >"$LOG"
    kill -SEGV "$(worker_pid)"
    wait_for 10 logged 'core dumped: serving again'
    python3 - "$T/core" "$T/bin/nfsvold" <<'PY'
import mmap, struct, sys
f = open(sys.argv[1], "rb")
core = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
assert core[:4] == b"\x7fELF" and struct.unpack_from("<H", core, 16)[0] == 4
assert core.find(sys.argv[2].encode()) > 0 # NT_FILE: what gdb(1) needs to find the program
PY
    rm "$M/x"
}

limit_stuck_worker=40
case_stuck_worker() {
    export NFSVOL_WATCHDOG=4
    mount_at "$M"
    : >"$LOG"
    old=$(worker_pid)
    kill -STOP "$old"
    start=$SECONDS
    echo x >"$M/x" # waits
    [ $((SECONDS - start)) -ge 2 ]
    [ $((SECONDS - start)) -le 25 ]
    gone "$old"
    wait_for 5 logged 'was stuck and has been killed: serving again'
    cat "$LOG"
    logged 'the worker is stuck: reactor 0 has not turned for 4 s'
    logged "worker's thread $old (nfsvol-worker): state T"
    [ "$(status_of stuck)" = 1 ]
    rm "$M/x"
}

limit_spinning_worker=60
case_spinning_worker() { # it says where it turns
    export NFSVOL_WATCHDOG=4
    mount_at "$M"
    : >"$LOG"
    old=$(worker_pid)
    python3 - "$old" <<'PY'
import platform, sys, time
pid = sys.argv[1]
jump_to_itself = {"x86_64": b"\xeb\xfe", "aarch64": b"\x00\x00\x00\x14"}[platform.machine()]
while "running" in (call := open(f"/proc/{pid}/syscall").read()): time.sleep(0.01)
with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory: # where its system call returns to
    memory.seek(int(call.split()[-1], 16))
    memory.write(jump_to_itself)
PY
    echo x >"$M/x" # waits
    gone "$old"
    wait_for 5 logged 'was stuck and has been killed: serving again'
    cat "$LOG"
    logged 'the worker is stuck: reactor 0 has not turned for 4 s'
    logged "worker's thread $old (nfsvol-worker): state R"
    logged "worker's stack: .*libc.*epoll_wait"
    logged "worker's stack: nfsvold("
    [ "$(status_of stuck)" = 1 ]
    rm "$M/x"
}

# Waiting for the server is not being stuck, nor is having nothing to do.
case_waiting_is_not_stuck() {
    export NFSVOL_WATCHDOG=2
    mount_at "$M" hard
    echo x >"$M/x"
    old=$(worker_pid)
    server pause
    dd if="$M/x" iflag=direct of=/dev/null 2>/dev/null & reader=$!
    sleep 5
    server cont
    wait $reader
    sleep 3
    [ "$(worker_pid)" = "$old" ]
    rm "$M/x"
}

make_failing() {
    local pid
    # nobody asks for anything, so each of them dies without having answered; the first ones may have a RELEASE left
    for _ in $(seq 16); do
        ! state_is failing || break
        pid=$(worker_pid)
        kill -ABRT "$pid"
        wait_for 10 eval "[ \"\$(worker_pid)\" != $pid ] && [ \"\$(worker_pid)\" != 0 ]"
    done
    wait_for 5 state_is failing
}

# Who refuses leaves between two requests: one that it has read would never be answered.
limit_refuser_leaves=60
case_refuser_leaves() {
    local clients=() i pid
    mount_at "$M"
    make_failing
    for i in 1 2 3 4; do
        python3 -c 'import itertools, os, sys
for n in itertools.count():
    os.path.exists(sys.argv[1])
    if n % 1000 == 0:
        with open(sys.argv[2], "a") as f:
            f.write("1000\n")' "$M/f$i" "$T/log/stat$i" & clients+=($!)
    done
    for _ in $(seq 4); do
        sleep 0.3
        pid=$(worker_pid)
        kill -USR1 "$pid"
        wait_for 5 eval "[ \"\$(worker_pid)\" != $pid ] && [ \"\$(worker_pid)\" != 0 ]"
    done
    for i in 1 2 3 4; do : >"$T/log/stat$i"; done
    for i in 1 2 3 4; do wait_for 10 test -s "$T/log/stat$i"; done
    kill "${clients[@]}"
    nfsvol upgrade "$M"
    serves
}

# A worker that cannot live: requests are answered, the mount stays, everyone is told, and it ends when the cause does.
limit_failing=60
case_failing() {
    mount_at "$M"
    exec 8<"$M/."
    : >"$LOG"
    echo data >"$M/x"
    cp "$T/bin/nfsvold" "$T/bin/nfsvold.sound"
    make_failing
    not cat "$M/x" 2>err
    grep -q 'Input/output error' err
    not ls "$M" 2>/dev/null
    [ "$(cat "/proc/$(worker_pid)/comm")" = nfsvol-refuser ]
    cat "$LOG"
    wait_for 10 logged 'anything (12 in a row), .* answered with EIO' # journalctl may lag
    nfsvol status "$M" | tee out
    grep -q 'problem .*EIO.*killed by signal 6.*upgrade' out
    kill_keeper # what state it is in, the next one knows
    state_is failing
    nfsvol upgrade "$M"
    serves
    [ "$(cat "$M/x")" = data ]
    [ "$(cat /proc/self/fd/8/x)" = data ]
    exec 8<&-
    rm "$M/x"
}

run_cases "$@"
