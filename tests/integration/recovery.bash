#!/bin/bash
# Volumes that do not die: the worker, the keeper, both in turn killed under a load that checks every call; upgrades
# under it; upgrades that are refused and undone; workers that crash, are stuck, or do not live; all processes killed at
# once. NFSVOL_SOAK=1: minutes instead of seconds, and as many times as the figures need.
export G_EXPORTS=
AT_REST=1
. "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

soak() { [ -n "${NFSVOL_SOAK:-}" ]; }
seconds() { if soak; then echo $(($1 * 20)); else echo "$1"; fi; }
long=$(if soak; then echo 2400; else echo 60; fi)
sanitized() { grep -q -e __asan_init -e __tsan_init "$NFSVOLD"; }

# As in lib.bash, but soon: what is killed in between is to be killed often.
status_of() { nfsvol status --json | sed -n "/^ *\"$1\":/{s/^[^:]*: \"\{0,1\}\([^\",]*\).*/\1/p;q}"; }
standby_pid() { status_of standby_pid; }
alive() { kill -0 "$1" 2>/dev/null; }
gone() { ! alive "$1"; }
state_is() { [ "$(status_of state)" = "$1" ]; }
serves() { state_is serving && worker_pid >/dev/null; }
standby_is_not() { [ "$(standby_pid)" != "$1" ] && [ "$(standby_pid)" != 0 ] && [ "$(cat "/proc/$(standby_pid)/comm")" = nfsvol-standby ]; }
killed() { # PID...: kill -9, and wait until they are gone
    local pid
    for pid; do [ "$pid" -gt 1 ] || fail "not a process: $*" || return 1; done # 0 would be all of ours
    [ $# = 1 ] || kill -STOP "${@:2}" || return 1 # all at once: nobody sees the first one die
    kill -KILL "$@" || return 1
    for pid; do wait_for 10 gone "$pid" || return 1; done
}

kill_worker() {
    wait_for 10 serves || return 1
    killed "$(worker_pid)"
}
keeper_is_not() { [ "$(keeper_pid)" != "$1" ]; }
kill_keeper() { # not while its standby is not there yet: that would be both
    wait_for 10 standby_is_not 0 || return 1
    local keeper
    keeper=$(keeper_pid) || return 1
    killed "$keeper" || return 1
    wait_for 10 keeper_is_not "$keeper"
}
kill_standby() {
    wait_for 10 standby_is_not 0 || return 1
    killed "$(standby_pid)"
}
upgrade() { nfsvol upgrade "$M" >>"$T/upgrades"; }

load_start() { # SECONDS
    rm -rf "$T/server/export/load" # of a case that failed
    mkdir "$M/load"
    : >"$LOG"
    "$PROGRAMS/crashload" "$M/load" "$1" 8 "$T/server/export/load" >"$T/summary" &
    load=$!
}

load_end() { # TIMES WHAT: it must not have noticed
    local rc=0 least=1 # a slow machine is no reason to fail
    ! soak || least=${soak_times:-3}
    wait "$load" || rc=1
    wait_for 10 serves || rc=1
    echo "# $1 times: $2; $(cat "$T/summary")"
    recovered
    [ "$1" -ge "$least" ] || fail "only $1 times, not $least" || return 1
    rm -rf "$M/load/LOCK"
    rmdir "$M/load" || rc=1
    return $rc
}

# under_load SECONDS PAUSE ACTION...: the actions in turn, while the load runs. A soak is for numbers: its pauses are shorter, and
# it takes as long as $soak_times take.
under_load() {
    local pause=$2 rc=0 n=0 times=
    ! soak || pause=0.05 times=${soak_times:-}
    load_start "$(if [ -n "$times" ]; then echo $long; else seconds "$1"; fi)"
    shift 2
    while alive "$load" && { [ -z "$times" ] || [ $n -lt "$times" ] || ! kill "$load" 2>/dev/null; }; do
        sleep "$pause" # between two there must be work
        alive "$load" || break
        "${@:$((n % $# + 1)):1}" || { fail "${*:$((n % $# + 1)):1}" || rc=1; break; }
        n=$((n + 1))
    done
    load_end $n "$*" || rc=1
    return $rc
}

recovered() { # counts of what was in which state, stalls
    python3 - "$LOG" <<'PY'
import re, sys
stalls, states = [], [0, 0, 0, 0]
for line in open(sys.argv[1]):
    m = re.search(r"serving again after ([\d.]+) ms; of the requests in flight (\d+) .*?, (\d+) .*?, (\d+) .*?, (\d+) ", line)
    if m:
        stalls.append(float(m[1]))
        states = [a + int(b) for a, b in zip(states, m.groups()[1:])]
stalls.sort()
if stalls:
    print("#", len(stalls), "stalls, ms: p50 %.1f p99 %.1f max %.1f;" % (stalls[len(stalls) // 2], stalls[len(stalls) * 99 // 100], stalls[-1]),
          "recovered: %d just read, %d not begun, %d perhaps executed, %d to be answered" % tuple(states))
PY
}

limit_worker_killed=$long
case_worker_killed() {
    local soak_times=1000
    mount_at "$M"
    under_load 9 0.2 kill_worker
    [ "$(status_of restarts)" -ge 1 ]
    logged 'killed by signal 9 .*: serving again after [0-9.]* ms'
}

limit_worker_killed_nconnect_4=$long
case_worker_killed_nconnect_4() {
    mount_at "$M" nconnect=4
    under_load 5 0.2 kill_worker
}

# What others have written to check file systems with, beside it: fio(1), buffered, direct and mapped, and dd(1).
fio_rounds() {
    fio_jobs "$M" 8m >"$T/fio.job"
    while [ -e "$T/go" ]; do
        fio --output="$T/fio.out" "$T/fio.job" >/dev/null || { tail -n 40 "$T/fio.out"; return 1; }
        echo >>"$T/fio.rounds"
    done
}
dd_rounds() {
    local sum
    sum=$(sha256sum <"$T/data")
    while [ -e "$T/go" ]; do
        dd if="$T/data" of="$M/copy" bs=64k conv=fsync status=none || return 1
        [ "$(dd if="$M/copy" bs=256k iflag=direct status=none | sha256sum)" = "$sum" ] || fail 'another checksum, of what the server has' || return 1
        [ "$(dd if="$M/copy" bs=4k status=none | sha256sum)" = "$sum" ] || fail 'another checksum' || return 1
        echo >>"$T/dd.rounds"
    done
}
limit_worker_killed_fio_and_dd=$long
case_worker_killed_fio_and_dd() {
    local fio dd
    command -v fio >/dev/null || { echo 'fio is not installed'; exit 77; }
    mount_at "$M"
    head -c 8M /dev/urandom >"$T/data"
    touch "$T/go"
    fio_rounds & fio=$!
    dd_rounds & dd=$!
    under_load 8 0.2 kill_worker
    rm "$T/go"
    wait $fio
    wait $dd
    echo "# fio: $(wc -l <"$T/fio.rounds") rounds, dd: $(wc -l <"$T/dd.rounds")"
    rm "$M"/{buffered,direct,mapped}.0.0 "$M/copy" "$T/data"
}

segv_worker() {
    wait_for 10 serves || return 1
    local worker
    worker=$(worker_pid)
    kill -SEGV "$worker" && wait_for 10 gone "$worker"
}
limit_worker_segv=$long
case_worker_segv() {
    ! sanitized || { echo "the sanitizer has handlers of its own"; exit 77; }
    mount_at "$M"
    under_load 3 0.2 segv_worker
    logged 'stack: signal 11, thread .* nfsvol-worker'
    [ "$(status_of poisoned)" = 0 ]
}

limit_keeper_killed=$long
case_keeper_killed() {
    mount_at "$M"
    old=$(worker_pid)
    under_load 6 0.2 kill_keeper
    [ "$(status_of restarts)" = 0 ]
    [ "$(worker_pid)" = "$old" ]
    [ "$(status_of keeper_restarts)" -ge 1 ]
    logged 'its standby goes on as the keeper'
}

limit_keeper_and_worker_killed=$long
case_keeper_and_worker_killed() {
    local soak_times=250 # four of five are a keeper or a worker
    mount_at "$M"
    under_load 8 0.2 kill_keeper kill_worker kill_standby kill_worker kill_keeper
}

users_are() { [ "$(status_of users)" = "$1" ]; } # mounts are counted a moment later

# What a keeper does is done by its successor as well.
case_new_keeper_is_a_whole_one() {
    mount_at "$M" linger=1
    kill_keeper
    wait_for 5 keepers_are 1
    mount_at "$M.b" linger=1
    wait_for 5 keepers_are 1 # the helper found it
    kill_worker
    echo hello >"$M.b/x"
    [ "$(cat "$M/x")" = hello ]
    rm "$M/x"
    wait_for 5 users_are 2
    umount "$M.b" "$M"
    wait_for 10 no_volumes
}

case_keeper_killed_while_helpers_come() {
    local i pids=() rc=0
    mount_at "$M/0" linger=5
    for i in $(seq 20); do
        mount_at "$M/$i" linger=5 & pids+=($!)
        [ $((i % 5)) != 0 ] || kill_keeper
    done
    for i in "${pids[@]}"; do wait "$i" || rc=1; done
    [ $rc = 0 ]
    wait_for 5 keepers_are 1
    wait_for 5 users_are 21 # counted a little later
}

case_told_to_end_then_killed() { # the successor of a keeper that was taking the volume down
    mount_at "$M"
    exec 9>"$M/open"
    keeper=$(keeper_pid)
    wait_for 5 standby_is_not 0
    kill -TERM "$keeper"
    wait_for 5 test ! -e "$NFSVOL_RUNDIR"/*/control
    killed "$keeper"
    echo still >&9
    exec 9>&-
    wait_for 10 no_volumes
    [ "$(cat "$T/server/export/open")" = still ]
    rm "$T/server/export/open"
}

# Whoever uses it may have no more time than systemd gives the scope: what is written then goes out within a second, not five.
# So it does from a worker that was started since.
case_told_to_end_commits() {
    local worker writer
    mount_at "$M"
    worker=$(worker_pid)
    mkfifo "$T/line"
    # no process closes the file meanwhile: that would send it
    python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(fd, sys.stdin.readline().encode())
sys.stdin.readline()' "$M/open" <"$T/line" & writer=$!
    exec 9>"$T/line"
    wait_for 5 test -e "$T/server/export/open"
    kill -TERM "$(keeper_pid)" "$worker"
    wait_for 5 logged 'everything written is on the server'
    : >"$LOG"
    kill -KILL "$worker"
    wait_for 5 logged 'everything written is on the server'
    echo data >&9
    wait_for 3 grep -q data "$T/server/export/open"
    exec 9>&-
    wait $writer
    rm "$T/server/export/open"
}

# Whoever waits for a server that is away waits on, whichever of us dies meanwhile.
away=$(if soak; then echo 60; else echo 6; fi)
limit_killed_while_the_server_is_away=$((away + 60))
case_killed_while_the_server_is_away() {
    local end stopping n=0
    mount_at "$M" hard
    load_start $((away + 5))
    sleep 2
    # not killed: ganesha makes a file and then notes who made it exclusively; between the two, nobody would ever know
    server stop & stopping=$!
    end=$((SECONDS + away))
    kill_worker # over what was sent and not answered
    while [ $SECONDS -lt $end ]; do
        if [ $((n % 4)) = 3 ]; then kill_keeper; else kill_worker; fi
        n=$((n + 1))
        sleep 0.5
    done
    wait $stopping
    server restart
    load_end $n "killed, $away s without a server"
}

# Who exits while the server is away waits in close(2), and hears no signal any more; a new worker lets him go, too.
case_exits_while_the_server_is_away() {
    local writer
    mount_at "$M" hard
    python3 -c 'import os, sys; os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b"x"); open(sys.argv[2], "w"); sys.stdin.readline()' \
        "$M/f" "$T/written" < <(wait_for 10 test -e "$T/paused") & writer=$!
    wait_for 5 test -e "$T/written"
    server pause
    touch "$T/paused"
    wait_for 5 eval '[ "$(status_of in_flight)" = 1 ]'
    kill_worker
    wait_for 10 gone "$writer"
    server cont
    wait "$writer" || :
    wait_for 10 test -s "$T/server/export/f"
    rm "$M/f" "$T/written" "$T/paused"
}

# A memory cgroup of its own, of whichever version this machine has, for all of our processes. $group, and its files.
memory_group() {
    local pid
    root=$T/cgroup
    mkdir -p "$root"
    if grep -q '^memory[[:space:]]*0[[:space:]]' /proc/cgroups; then
        mount -t cgroup2 none "$root"
        echo +memory >"$root/cgroup.subtree_control"
        limit_file=memory.max usage_file=memory.current events_file=memory.events
    else
        mountpoint -q /sys/fs/cgroup/memory || root=/sys/fs/cgroup/memory # where the worker looks
        mkdir -p "$root"
        mount -t cgroup -o memory none "$root"
        limit_file=memory.limit_in_bytes usage_file=memory.usage_in_bytes events_file=memory.oom_control
    fi
    group=$root/nfsvol-test.$$
    mkdir "$group"
    trap 'for pid in $(cat "$group/cgroup.procs"); do echo "$pid" >"$root/cgroup.procs"; done; rmdir "$group"; umount "$root"; rmdir "$root"' EXIT
    for pid in $(daemon_pids); do echo "$pid" >"$group/cgroup.procs"; done
}
run_out_of_memory() { # another process takes what is left, until the kernel has killed the worker; it may be the next one
    local worker
    wait_for 10 serves || return 1
    wait_for 10 standby_is_not 0 || return 1
    worker=$(worker_pid)
    echo 1000 >"/proc/$worker/oom_score_adj" || return 1
    until echo $(($(cat "$group/$usage_file") + (4 << 20))) >"$group/$limit_file"; do # EBUSY: it has just grown by more
        sleep 0.05
    done 2>/dev/null
    bash -c 'echo $$ >"$1/cgroup.procs"; echo 900 >/proc/self/oom_score_adj; x=$(head -c 64M /dev/zero | tr "\0" x)' - "$group" || :
    echo -1 >"$group/$limit_file" 2>/dev/null || echo max >"$group/$limit_file"
    wait_for 5 gone "$worker"
}

limit_oom_killed=$long
case_oom_killed() {
    mount_at "$M"
    memory_group
    under_load "$(if sanitized; then echo 15; else echo 5; fi)" 0.2 run_out_of_memory
    [ "$(status_of restarts)" -ge 1 ]
    [ "$(sed -n 's/^oom_kill //p' "$group/$events_file")" -ge "$(status_of restarts)" ]
    logged 'killed by signal 9 .*: serving again'
}

case_little_memory() { # a stream of writes does not run into the limit of the scope
    ! sanitized || { echo "a sanitizer takes more"; exit 77; }
    head -c 200M /dev/urandom >"$T/data"
    mount_at "$M"
    memory_group
    echo $((64 << 20)) >"$group/$limit_file"
    kill_worker # its successor knows the limit
    wait_for 10 serves
    timeout 40 cp "$T/data" "$M/copy"
    cmp "$T/data" "$T/server/export/copy"
    cmp "$T/data" "$M/copy"
    cat "$group/$usage_file" "$group/$events_file"
    [ "$(status_of restarts)" = 1 ]
    rm "$T/data" "$M/copy"
}

limit_upgraded=$long
case_upgraded() {
    local soak_times=200
    mount_at "$M"
    keeper=$(keeper_pid)
    under_load 6 0.3 upgrade
    [ "$(keeper_pid)" = "$keeper" ] # the same process, another program
    [ "$(status_of upgrades)" -ge 3 ]
    [ "$(status_of restarts)" = 0 ]
    nfsvol upgrade --all | tee out
    grep -q "^$SRC: upgraded from .* to .*, a pause of .* ms$" out
    nfsvol upgrade "$SRC" "$(ls "$NFSVOL_RUNDIR" | grep -v lock)"
    kill_keeper
    kill_worker
    echo x >"$M/x"
    rm "$M/x"
}

program_is() { # a nfsvold that is a script
    printf '#!/bin/sh\n%s\n' "$1" >"$T/bin/nfsvold.new"
    chmod +x "$T/bin/nfsvold.new"
}
not_upgraded() { # PATTERN: refused for it, and all goes on
    local rc=0
    echo 1 >"$M/x"
    nfsvol upgrade --program "$T/bin/nfsvold.new" "$M" 2>err || rc=$?
    cat err
    [ $rc = 32 ] && grep -q -- "$1" err || fail "exit $rc" || return 1
    wait_for 5 serves
    [ "$(cat "$M/x")" = 1 ]
    rm "$M/x"
}

case_upgrade_refused_for_another_layout() {
    mount_at "$M"
    old="$(keeper_pid) $(worker_pid)"
    program_is 'echo 9.9.9.9'
    not_upgraded "layout is 9.9.9.9"
    program_is 'exit 1'
    not_upgraded "layout is unknown"
    rm "$T/bin/nfsvold.new"
    not_upgraded "No such file"
    [ "$(keeper_pid) $(worker_pid)" = "$old" ]
}

# The same of a real one, under load, and after crashes; then it takes over in the only way there is: unmounted and mounted again.
other_refused() {
    local rc=0
    nfsvol upgrade --program "$PROGRAMS/nfsvold-other" "$M" 2>err || rc=$?
    [ $rc = 32 ] && grep -q 'layout is 1000[.].*, ours is .*[.] Unmount the volume' err || fail "exit $rc: $(cat err)" || return 1
    [ "$(status_of state)" = serving ]
}
limit_upgrade_to_another_layout=$long
case_upgrade_to_another_layout() {
    local sound=$T/bin/nfsvold.sound
    mount_at "$M"
    under_load 5 0.2 other_refused kill_worker
    [ "$(status_of upgrades)" = 0 ]
    echo data >"$M/x"
    cp "$T/bin/nfsvold" "$sound"
    cp "$PROGRAMS/nfsvold-other" "$T/bin/nfsvold.new"
    mv "$T/bin/nfsvold.new" "$T/bin/nfsvold" # as a package does it
    not nfsvol upgrade --all
    kill_worker
    kill_keeper
    kill_worker
    [ "$(cat "$M/x")" = data ]
    umount "$M"
    wait_for 10 no_volumes
    mount_at "$M"
    [ "$(cat "$M/x")" = data ]
    cp "$sound" "$T/bin/nfsvold.new" && mv "$T/bin/nfsvold.new" "$T/bin/nfsvold"
    not nfsvol upgrade --all
    rm "$M/x"
}

# A program that says it can, and then cannot: its worker, its keeper, and one that hangs.
limit_upgrade_undone=90
case_upgrade_undone() {
    local layout="case \$1 in --layout) exec $T/bin/nfsvold --layout ;;" rc=0
    mount_at "$M"
    program_is "$layout --worker) exit 3 ;; esac"
    not_upgraded 'ended with status 3'
    program_is "$layout --worker) kill -SEGV \$\$ ;; esac"
    not_upgraded 'signal 11'
    program_is "$layout --worker) sleep 100 ;; esac"
    not_upgraded 'did not come up'
    program_is "$layout --worker) exec $T/bin/nfsvold \"\$@\" ;; --resume) exit 1 ;; esac"
    echo 2 >"$M/x"
    nfsvol upgrade --program "$T/bin/nfsvold.new" "$M" 2>err || rc=$?
    cat err
    [ $rc = 32 ]
    wait_for 5 logged 'the new keeper did not come up'
    wait_for 5 serves
    wait_for 5 standby_is_not "$(keeper_pid)"
    [ "$(cat "$M/x")" = 2 ]
    rm "$M/x"
    wait_for 5 keepers_are 1
    kill_keeper
    nfsvol upgrade "$M"
}

case_upgrade_with_the_server_down() {
    mount_at "$M" hard
    echo one >"$M/x"
    server pause
    cat "$M/x" >/dev/null &
    dd if="$M/x" iflag=direct of=/dev/null 2>/dev/null & reader=$!
    sleep 0.3
    nfsvol upgrade "$M"
    alive $reader || { wait $reader; fail "the reader ended: $?"; }
    server cont
    wait $reader
    rm "$M/x"
}

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
    cat "$LOG"
    logged 'the worker is stuck: reactor 0 has not turned for 4 s'
    logged "worker's thread $old (nfsvol-worker): state T"
    wait_for 5 logged 'was stuck and has been killed: serving again'
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
    cat "$LOG"
    logged 'the worker is stuck: reactor 0 has not turned for 4 s'
    logged "worker's thread $old (nfsvol-worker): state R"
    logged "worker's stack: .*libc.*epoll_wait"
    logged "worker's stack: nfsvold("
    wait_for 5 logged 'was stuck and has been killed: serving again'
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
    sleep 1
    for i in 1 2 3 4; do [ -s "$T/log/stat$i" ]; done
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

# All at once: the kernel ends the volume. It is said to be dead, and what to do; another volume does not notice; and a
# new mount of the same works.
case_all_killed() {
    mount_at "$M/other" rsize=65536
    other=$(worker_pid)
    mount_at "$M/a"
    mount_at "$M/b"
    id=$(nfsvol status --json "$M/a" | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
    pids=()
    for pid in $(daemon_pids); do
        ! volume_of "$pid" "$id" || pids+=("$pid")
    done
    [ ${#pids[@]} -ge 3 ]
    kill -STOP "${pids[@]}" # so that none of them sees another one's end
    killed "${pids[@]}"
    not ls "$M/a" 2>err
    grep -qi 'not connected\|aborted' err
    nfsvol list | tee out
    grep -q "^$id .* dead " out
    nfsvol status "$id" | tee out
    grep -q 'problem .*umount' out
    mount -f -t fuse.nfs -o "$MOUNT_PORTS" "$SRC" "$M/a"
    grep -q " $M/a " /proc/self/mountinfo # only checked: what is dead is still there
    echo x >"$M/other/x"
    [ "$(cat "/proc/$other/comm")" = nfsvol-worker ]
    mount_at "$M/c"
    [ "$(cat "$M/c/x")" = x ]
    rm "$M/c/x"
    umount "$M/a" "$M/b"
    mount_at "$M/a"
    ls "$M/a" >/dev/null
}
# The keepers' and the worker's connection is the one of the mount at ID/mnt: who holds a descriptor of it.
volume_of() { # PID ID
    local dir="$NFSVOL_RUNDIR/$2" socket
    case $(cat "/proc/$1/comm") in
    nfsvol-keeper | nfsvol-standby)
        socket=$(grep " $dir/control$" /proc/net/unix | awk '{print $7}')
        local fd
        for fd in /proc/"$1"/fd/*; do [ "$(readlink "$fd")" != "socket:[$socket]" ] || return 0; done
        return 1 ;;
    *) [ "$1" = "$(nfsvol status --json "$2" | python3 -c 'import json, sys; print(json.load(sys.stdin)["worker_pid"])')" ] ;;
    esac
}

# Nobody left to start another worker, but one that serves: users do not notice, and it is said.
case_keeper_and_standby_killed() {
    mount_at "$M"
    worker=$(worker_pid)
    wait_for 5 standby_is_not 0
    killed "$(keeper_pid)" "$(standby_pid)"
    echo x >"$M/x"
    nfsvol list | tee out
    grep -q unattended out
    rc=0
    nfsvol upgrade --all 2>err || rc=$?
    [ $rc = 32 ]
    grep -q "^nfsvol.*: $SRC: not upgraded, it is unattended$" err
    rm "$M/x"
    umount "$M"
    mount_at "$M"
    [ "$(worker_pid)" != "$worker" ]
    echo x >"$M/x"
    rm "$M/x"
    wait_for 10 gone "$worker"
}

# A worker without a keeper that does not answer for a while, stopped here, is not taken for dead: others use the volume.
case_unattended_and_silent() {
    local worker
    mount_at "$M/a"
    mount_at "$M/b"
    worker=$(worker_pid)
    echo x >"$M/a/x"
    kill -STOP "$worker"
    killed "$(keeper_pid)" "$(standby_pid)"
    nfsvol umount "$M/a"
    mount_at "$M/a" # another daemon
    kill -CONT "$worker"
    [ "$(cat "$M/b/x" "$M/a/x" | tr '\n' ' ')" = "x x " ]
    umount "$M/b"
    wait_for 10 gone "$worker"
    rm "$M/a/x"
}

# A volume that is drained, for another mount namespace still has it, and the same one mounted anew: each has a worker of its own.
limit_drained_beside_a_new_one=60
case_drained_beside_a_new_one() {
    local old other
    mount_at "$M/a"
    echo data >"$M/a/x"
    old=$(worker_pid)
    unshare --mount --propagation private sleep 600 & other=$!
    # shellcheck disable=SC2064
    trap "kill $other" EXIT
    wait_for 5 sh -c "[ \$(readlink /proc/$other/ns/mnt) != \$(readlink /proc/$$/ns/mnt) ]"
    umount "$M/a"
    wait_for 10 sh -c "[ -z \"\$(ls \"$NFSVOL_RUNDIR\")\" ]"
    mount_at "$M/a"
    kill -KILL "$old"
    timeout -k 1 10 nsenter -t $other -m cat "$M/a/x"
    timeout 30 nfsvol upgrade "$M/a"
    timeout -k 1 5 cat "$M/a/x"
    timeout -k 1 5 nsenter -t $other -m cat "$M/a/x"
}

# umount -a takes the volume's own mountpoint as well: those who use it keep it, and the next mount succeeds.
limit_mountpoint_unmounted=60
case_mountpoint_unmounted() {
    local reader
    mkdir "$M/b"
    mount_at "$M/a"
    echo data >"$M/a/x"
    exec {reader}<"$M/a/x"
    umount -l "$(findmnt -rno TARGET -t fuse.nfs | grep "^$NFSVOL_RUNDIR/")"
    mount_at "$M/b"
    timeout -k 1 5 cat "$M/a/x" "$M/b/x" >both
    [ "$(cat both)" = $'data\ndata' ]
    echo more >"$M/a/y"
    kill -KILL "$(nfsvol status --json "$M/b" | python3 -c 'import json, sys; print(json.load(sys.stdin)["worker_pid"])')"
    timeout -k 1 5 grep more "$M/b/y"
    [ "$(cat <&"$reader")" = data ]
    exec {reader}<&-
    umount "$M/a"
    umount "$M/b"
    wait_for 20 no_volumes
    # nor does it wait until nobody has used it for long enough
    mount_at "$M/a" linger=3600
    umount -l "$M/a"
    umount -l "$(findmnt -rno TARGET -t fuse.nfs)"
    mount_at "$M/b" linger=3600
    cat "$M/b/x"
    umount "$M/b"
    kill "$(keeper_pid)"
    wait_for 20 no_volumes
}

# Who reads what a server or a process sends can do little else: the worker, whoever refuses, and after an upgrade and a crash.
limit_confined=60
confined() { # PID: no privileges but a port below 1024, and a filter
    local status=/proc/$1/status
    [ "$(awk '$1 == "CapEff:" || $1 == "CapPrm:" { print $2 }' "$status" | sort -u)" = 0000000000000400 ]
    grep -qx $'NoNewPrivs:\t1' "$status"
    sanitized || grep -qx $'Seccomp:\t2' "$status"
}
case_confined() {
    mount_at "$M" nconnect=2
    confined "$(worker_pid)"
    for pid in $(pgrep -P "$(worker_pid)"); do confined "$pid"; done
    kill -KILL "$(worker_pid)"
    ls "$M" >/dev/null
    confined "$(worker_pid)"
    nfsvol upgrade "$M"
    confined "$(worker_pid)"
    echo data >"$M/x"
    umount "$M"
    wait_for 10 no_volumes
}

run_cases "$@"
