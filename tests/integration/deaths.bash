# For tests in which processes of a volume die: sourced.
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
