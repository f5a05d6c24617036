#!/bin/bash
# Volumes that do not die: the worker, the keeper, both in turn killed under a load that checks every call; upgrades
# under it; upgrades that are refused and undone; all processes killed at once. NFSVOL_SOAK=1: minutes instead of seconds,
# and as many times as the figures need.
. "$(dirname "${BASH_SOURCE[0]}")/deaths.bash"

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
    [ "$(status_of upgrades)" -ge 1 ]
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
