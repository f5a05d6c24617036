#!/bin/bash
# What is read is what was written, and what is listed is what is there: posix, fsx and churn on a local directory,
# which shows a wrong test, and on mounts of several kinds; two clients of one export; a huge directory; a
# worker that is killed again and again. NFSVOL_SOAK=1: minutes instead of seconds.
#
# ganesha's own cache of directories is off: over tmpfs, whose cookies go down, it repeats the entries of a
# directory for ever once the oldest one has been removed.
export G_EXPORTS='MDCACHE { Dir_Chunk = 0; }'
EXPORT_EXT4=1
AT_REST=1
. "$(dirname "$0")/lib.bash"
began=$(date +%s)

soak() { [ -n "${NFSVOL_SOAK:-}" ]; }
seconds() { if soak; then echo $(($1 * ${SOAK_FACTOR:-30})); else echo "$1"; fi; }
seed() { if soak; then date +%s; else echo 1; fi; }

posix() { # DIR. The many calls that fail are differences': each is a process
    local without="--without errno"
    ! soak || without=
    rm -rf "$1/posix" && mkdir "$1/posix"
    if ! "$PROGRAMS/posix" $without "$1/posix" >"$T/posix.tap"; then
        grep -A 8 '^not ok' "$T/posix.tap" | grep -v '^ok' || tail -n 3 "$T/posix.tap"
        return 1
    fi
    rmdir "$1/posix"
}

fsx() { # DIR SECONDS NPROC
    rm -rf "$1/fsx" && mkdir "$1/fsx"
    "$PROGRAMS/fsx" "$1/fsx" "$2" "$(seed)" "$3" || return 1
    rm -r "$1/fsx"
}

churn() { # DIR SECONDS NPROC [SAME DIR ELSEWHERE]
    rm -rf "$1/churn" && mkdir "$1/churn"
    "$PROGRAMS/churn" "$1/churn" "$2" "$3" --seed "$(seed)" ${4:+--check "$4/churn"} || return 1
    rm -r "$1/churn"
}

# The worker did not crash, and no sanitizer had anything to say.
healthy() {
    local report
    [ "$(status_of restarts)" = 0 ] || fail "the worker was restarted $(status_of restarts) times" || return 1
    for report in /tmp/nfsvol-sanitizer.*; do
        [ -e "$report" ] && [ "$(stat -c %Y "$report")" -ge "$began" ] || continue
        head -n 40 "$report"
        fail "$report" || return 1
    done
}

all_on_mount() { # OPTIONS ["no posix"]: one that fails does not keep the others from being run
    local rc=0 waits
    mount_at "$M" "$1"
    if [ $# = 1 ] || soak; then posix "$M"; fi & waits=$! # much of it is waiting
    fsx "$M" "$(seconds 2)" 1 || rc=1
    fsx "$M" "$(seconds 3)" 4 || rc=1
    churn "$M" "$(seconds 4)" 8 "$T/server/export" || rc=1
    wait $waits || rc=1
    healthy || rc=1
    [ $rc = 1 ] || [ -z "$(ls -A "$T/server/export")" ]
    return $rc
}

long=$(if soak; then echo 900; else echo 120; fi)

limit_local=$long
case_local() {
    mkdir "$T/local"
    posix "$T/local"
    fsx "$T/local" "$(seconds 1)" 1
    fsx "$T/local" "$(seconds 1)" 4
    churn "$T/local" "$(seconds 1)" 8 "$T/local"
    rmdir "$T/local"
}

limit_plain=$long
case_plain() { all_on_mount ""; }

limit_nconnect_4=$long
case_nconnect_4() {
    local rc=0
    mount_at "$M" nconnect=4
    ! soak || posix "$M" || rc=1
    fsx "$M" "$(seconds 3)" 4 || rc=1
    churn "$M" "$(seconds 4)" 8 "$T/server/export" || rc=1
    healthy || rc=1
    return $rc
}

limit_small_io=$long
case_small_io() { all_on_mount rsize=4096,wsize=4096 'no posix'; }

limit_noac=$long
case_noac() { all_on_mount noac; }

limit_nordirplus=$long
case_nordirplus() { all_on_mount nordirplus 'no posix'; }

# Each difference from a local directory, with its reason: the cases are run on a mount with the rules of a local directory,
# and what fails then must be in the list (posix-differs.c), all of that must fail, and mount.fuse.nfs(8) must say it. What is the
# protocol's or the server's doing, the kernel's client has too. The table is shown by contrib/test (summary.py).
limit_differences=$((2 * long))
case_differences() {
    local on_disk
    mkdir "$T/differences"
    mount_at "$M"
    "$PROGRAMS/posix" "$T/differences" >"$T/local.tap" & on_disk=$!
    mkdir "$M/posix"
    "$PROGRAMS/posix" --local-rules "$M/posix" >"$T/strict.tap" || [ $? = 1 ]
    wait $on_disk || { grep -A 8 "^not ok" "$T/local.tap"; return 1; }
    rm -rf "$M/posix"
    "$PROGRAMS/posix" --differences >"$T/differences.list"
    python3 - "$T/local.tap" "$T/strict.tap" "$T/differences.list" "$top/contrib/man/mount.fuse.nfs.8" <<'PY'
import collections, re, sys
def results(path):
    found = re.findall(r"^(ok|not ok) \d+ - (\w+) \[(\w+)\]( # SKIP)?", open(path).read(), re.M)
    return {name: (group, "skipped" if skip else ok) for ok, name, group, skip in found}
local, mount = results(sys.argv[1]), results(sys.argv[2])
reasons = dict((l.split("\t")[0], l.rstrip("\n").split("\t")[1:]) for l in open(sys.argv[3]))
page = open(sys.argv[4]).read().split(".SH DIFFERENCES FROM A LOCAL FILE SYSTEM")[1].split("\n.SH")[0]
page = " ".join(re.sub(r"\\f.|\\", "", re.sub(r"^\.[A-Z]+ ", "", page, flags=re.M)).replace('"', "").split())
differ = [n for n in mount if mount[n][1] != local[n][1]]
groups = collections.OrderedDict()
for name, (group, _) in local.items(): groups.setdefault(group, []).append(name)
def show(*words): print("# |", *words)
show(f"{'cases':9} {'local':>6} {'nfsvol':>6}  POSIX on a local directory and on a mount by nfsvol (NFSv3): what differs")
for group, names in groups.items():
    show(f"{group:9} {sum(local[n][1] == 'ok' for n in names):6} {sum(mount[n][1] == 'ok' for n in names):6} ",
          " ".join(n for n in names if n in differ))
show(f"{'all':9} {sum(r == 'ok' for _, r in local.values()):6} {sum(r == 'ok' for _, r in mount.values()):6}  {len(differ)}")
for name, (whose, why, man, _) in reasons.items():
    show(f"{name}: {whose}: {why}" + ("" if name in differ else " (not this time)"))
ours = [n for n in differ if reasons.get(n, [""])[0] not in ("protocol", "server")]
show(f"of the {len(differ)}, {len(ours)} that the kernel's NFS client would not have", *ours)
wrong = [f"{n}: no reason given" for n in differ if n not in reasons]
wrong += [f"{n}: has a reason, and is the same" for n, r in reasons.items() if n not in differ and r[3] == "always"]
wrong += [f"{n}: the man page does not say \"{r[2]}\"" for n, r in reasons.items() if r[2] not in page]
sys.exit("\n".join(wrong) if wrong or local.keys() != mount.keys() else 0)
PY
}

# The tests of tests: what is wrong is reported.
case_failures_are_reported() {
    local rc=0
    mkdir "$T/local2"
    mkdir "$T/local2/mkdir"
    "$PROGRAMS/posix" "$T/local2" mkdir link >out || rc=$?
    [ $rc = 1 ]
    grep -q '^not ok 2 - mkdir' out
    grep -q '^ok 1 - link' out
    rc=0
    "$PROGRAMS/posix" "$T/local2" no_such_case >out || rc=$?
    [ $rc = 2 ]
    # bytes changed behind the back of fsx
    rc=0
    "$PROGRAMS/fsx" "$T/local2" 20 1 2 2>err & local fsx=$!
    while kill -0 $fsx 2>/dev/null; do
        printf 'wrong' | dd of="$T/local2/shared" bs=1 seek=5000 conv=notrunc 2>/dev/null
    done
    wait $fsx || rc=$?
    [ $rc = 1 ]
    grep -q 'shared: .* bytes are wrong' err
    grep -q 'seed 1' err
    # a name put into the tree of churn, and one taken away
    mkdir "$T/local2/churn" "$T/local2/other"
    rc=0
    "$PROGRAMS/churn" "$T/local2/churn" 1 2 --check "$T/local2/other" 2>err || rc=$?
    [ $rc = 1 ]
    grep -q 'other: expected d0 mode=40755' err
    rm -r "$T/local2"
}

# The tables agree at any instant, and all of them with nconnect=4, locks and unlinked files.
limit_tables_agree_under_load=60
case_tables_agree_under_load() {
    local i n=0 loads=() rc=0
    mount_at "$M" nconnect=4
    mkdir "$M/fsx" "$M/churn"
    "$PROGRAMS/fsx" "$M/fsx" 2 1 4 & loads+=($!)
    "$PROGRAMS/churn" "$M/churn" 2 8 & loads+=($!)
    while kill -0 "${loads[0]}" 2>/dev/null || kill -0 "${loads[1]}" 2>/dev/null; do
        verified || { rc=1; break; }
        n=$((n + 1))
    done
    for i in "${loads[@]}"; do wait "$i" || rc=1; done
    echo "# verified $n times"
    [ $n -gt 2 ] || rc=1
    rm -rf "$M/fsx" "$M/churn"
    return $rc
}

# 100 000 entries, read while others come and go: what nobody touches comes once.
limit_huge_directory=90
case_huge_directory() {
    mkdir "$T/server/export/huge"
    (cd "$T/server/export/huge" && seq -f 'keep%.0f' 100000 | xargs touch)
    mount_at "$M"
    python3 - "$M/huge" <<'PY'
import os, sys, threading
d, stop, n_changes = sys.argv[1], threading.Event(), 0
def change():
    global n_changes
    while not stop.is_set():
        p = f"{d}/other{n_changes % 500}"
        open(p, "w").close()
        if n_changes % 3 == 0: os.rename(p, p + ".renamed")
        elif n_changes % 3 == 1: os.unlink(p)
        n_changes += 1
t = threading.Thread(target=change)
t.start()
try:
    for how in ("names", "stat"):
        seen = {}
        with os.scandir(d) as it:
            for e in it:
                if e.name.startswith("keep"):
                    seen[e.name] = seen.get(e.name, 0) + 1
                    if how == "stat" and len(seen) % 10 == 0: e.stat()
        missing = [i for i in range(1, 100001) if f"keep{i}" not in seen]
        twice = [n for n, c in seen.items() if c > 1]
        assert not missing and not twice and len(seen) == 100000, (how, missing[:5], len(missing), twice[:5], len(twice))
finally:
    stop.set()
    t.join()
print(n_changes, "changes while it was read")
assert n_changes > 100
PY
    [ "$(find "$M/huge" -name 'keep*' | wc -l)" = 100000 ]
    rm -r "$T/server/export/huge"
}

names() { # CASE (names.py) N_FILES [OPTIONS]
    mkdir "$T/server/export/d"
    (cd "$T/server/export/d" && seq -f 'f%.0f' "$2" | xargs -r touch)
    mount_at "$M" "${3:-}"
    python3 "$here/names.py" "$1" "$M/d" "$T/server/export/d"
    rm -r "$T/server/export/d"
}

# Who asks for one name after the other gets most of them from a few READDIRPLUS, and never what is not true any more.
limit_names_read_ahead=60
case_names_read_ahead() { names read_ahead 2000 acregmin=30,acdirmin=30; }

# What was read ahead says nothing of names that are not in it: who was told of a new file by the machine that made it finds
# it, however long the directory is believed. And names that are not there are no reason to read it.
case_names_made_elsewhere() { names made_elsewhere 20 actimeo=60; }

# Who looks for a name that is not there again and again costs the server nothing; and finds it soon after anybody has seen
# the directory changed, for instance by listing it.
case_names_waited_for() { names waited_for 500 acdirmin=5,acdirmax=60; }
case_links_of_names_read_ahead() { names links 20; }
case_replaced_elsewhere() { names replaced 0; }
case_listed_while_names_are_replaced() { names listed 400 actimeo=1; }
case_changed_after_it_was_read_ahead() { names forgotten 20 actimeo=60; }
case_made_elsewhere_and_no_file() { names kinds 0; }
case_renamed_here() { names renamed 0; }

# The kernel closes nothing when its connection is aborted, and not always what was closed right before the last unmount.
limit_removed_and_aborted=90
case_removed_and_aborted() { # also while the server is away, and the worker that noticed is dead
    local how
    for how in true "server kill" kill_both; do
        mount_at "$M"
        exec 9>"$M/aborted"
        echo x >&9
        rm "$M/aborted"
        ls -A "$T/server/export" | grep '^\.nfs'
        $how
        abort_connection "$M"
        exec 9>&- || :
        umount "$M"
        [ "$how" = true ] || { sleep 1; server start; }
        wait_for 20 keepers_are 0
        not grep '^\.nfs' <(ls -A "$T/server/export")
        rm -f "$NFSVOL_RUNDIR"/*.lock # an aborted volume leaves it behind
    done
}
kill_both() {
    server kill
    kill -KILL "$(worker_pid)"
}

# Two clients of one export, each in a network of its own, which know nothing of each other: what one has closed the other sees when it opens,
# whichever way it was written; so with what is changed on the server itself.
limit_close_to_open=$long
case_close_to_open() {
    mount_on a "$M/a"
    mount_on b "$M/b"
    wait_for 5 keepers_are 2
    python3 - "$M/a" "$M/b" "$T/server/export" "$(if soak; then echo 10000; else echo 500; fi)" <<'PY'
import os, random, sys
a, b, server, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
random.seed(1)
name, want = "/shared", b""
def replace(p, data):
    with open(p + ".new", "wb") as f: f.write(data)
    os.rename(p + ".new", p)
    return data
def rewrite(p, data):
    with open(p, "wb") as f: f.write(data)
    return data
def same_size(p, data):
    data = os.urandom(len(want))
    with open(p, "r+b" if want else "wb") as f: f.write(data)
    return data
def append(p, data):
    data = data[:1000]
    with open(p, "ab") as f: f.write(data)
    return want + data
def middle(p, data):
    at = random.randrange(len(want) + 1)
    with open(p, "r+b") as f:
        f.seek(at)
        f.write(data[:100])
    return want[:at] + data[:100] + want[at + len(data[:100]):]
def cut(p, data):
    n = random.randrange(len(want) + 1)
    os.truncate(p, n)
    return want[:n]
ways = [rewrite, replace, same_size, append, middle, cut]
want = rewrite(a + name, b"first")
for i in range(rounds):
    where = random.choice([a, b, server])
    # a name that means another file is a matter of the directory's attributes, which may be older; when a client
    # replaces a file, the other's handle is stale, and it looks again
    way = random.choice([w for w in ways if w is not replace or where != server])
    want = way(where + name, os.urandom(random.choice([1, 100, 5000, 70000])))
    for reader in (a, b, server):
        with open(reader + name, "rb") as f:
            got = f.read()
        assert got == want, (i, way.__name__, "written through", where, "read through", reader, len(got), len(want),
                             next((k for k in range(min(len(got), len(want))) if got[k] != want[k]), None))
        with open(reader + name, "rb") as f:
            assert os.fstat(f.fileno()).st_size == len(want), (i, way.__name__, where, reader)
os.unlink(a + name)
PY
}

# tail -f of a log that grows on another node, with the options that one has without asking: all of it, nothing else, and soon.
limit_tail_of_a_growing_log=$long
case_tail_of_a_growing_log() {
    local follower
    mount_on a "$M/a"
    mount_on b "$M/b"
    echo "line 0" >"$M/a/log"
    tail -c +1 -f "$M/b/log" >"$T/tail.out" & follower=$!
    trap "kill $follower" EXIT
    python3 - "$M/a/log" "$(seconds 20)" "$T/tail.out" <<'PY'
import sys, time
path, n, followed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
whole = b"line 0\n"
for i in range(1, n):
    with open(path, "ab") as f:
        f.write(b"line %d\n" % i)
    written = time.monotonic()
    whole += b"line %d\n" % i
    time.sleep(0.1)
end = time.monotonic() + 20
while True:
    with open(followed, "rb") as f:
        got = f.read()
    assert whole.startswith(got), (len(got), got[-50:])
    if got == whole:
        break
    assert time.monotonic() < end, f"{len(whole) - len(got)} bytes are not there after 20 s"
    time.sleep(0.05)
took = time.monotonic() - written
print(f"# the last of {n} lines was there {took:.1f} s after it was written")
assert took < 12 # acregmin, and the second for which tail(1) sleeps
PY
    rm "$M/a/log"
}

# Names that the other one makes and removes are seen once the directory's attributes are old (acdirmax), or at once
# with noac and lookupcache=none.
limit_names_of_the_other=60
case_names_of_the_other() {
    mount_at "$M/a" rsize=65536
    mount_at "$M/b" noac,lookupcache=none
    python3 - "$M/a" "$M/b" <<'PY'
import os, sys
a, b = sys.argv[1:]
for i in range(200):
    p = f"/n{i % 7}"
    assert not os.path.lexists(b + p)
    if i % 3 == 0: os.mkdir(a + p)
    else: open(a + p, "w").close()
    assert os.path.lexists(b + p), i
    assert os.path.isdir(b + p) == (i % 3 == 0), i
    assert p[1:] in os.listdir(b), i
    os.rename(a + p, a + "/moved")
    assert not os.path.lexists(b + p) and os.path.lexists(b + "/moved"), i
    (os.rmdir if i % 3 == 0 else os.unlink)(a + "/moved")
PY
}

# kill -9 of the worker, again and again, while PROGRAM runs: it must not notice.
killed_under() { # COMMAND...
    local load rc=0 old n=0
    "$@" & load=$!
    while kill -0 "$load" 2>/dev/null; do
        sleep 0.4 # between two kills there must be work
        old=$(worker_pid 2>/dev/null) && [ "$old" -gt 1 ] || continue # 0 would be all of ours
        kill -KILL "$old" 2>/dev/null || continue
        echo "killed at $EPOCHREALTIME"
        n=$((n + 1))
        wait_for 10 sh -c "! kill -0 $old 2>/dev/null" || break
    done
    wait "$load" || rc=$?
    echo "$n kills, $(status_of restarts) restarts"
    [ $n -ge 1 ] || fail "never killed" || return 1
    return $rc
}

limit_killed_under_fsx=$long
case_killed_under_fsx() {
    mount_at "$M"
    killed_under fsx "$M" "$(seconds 8)" 4
}

limit_killed_under_fsx_nconnect_4=$long
case_killed_under_fsx_nconnect_4() {
    mount_at "$M" nconnect=4
    killed_under fsx "$M" "$(seconds 8)" 4
}

limit_killed_under_churn=$long
case_killed_under_churn() {
    mount_at "$M"
    killed_under churn "$M" "$(seconds 8)" 8 "$T/server/export"
}

# What was unlinked while open is on the server until its close has been heard of, and is the last thing in its directory.
case_removed_right_after_the_last_close() {
    mount_at "$M" nconnect=4
    python3 - "$M" <<'PY'
import errno, os, sys, threading
wrong = 0

def runs(k):
    global wrong
    for i in range(100):
        d = f"{sys.argv[1]}/d{k}.{i}"
        os.mkdir(d)
        fds = [os.open(f"{d}/{n}", os.O_CREAT | os.O_RDWR) for n in range(3)]
        for n in range(3):
            os.unlink(f"{d}/{n}")
        for fd in fds:
            os.close(fd)
        try:
            os.rmdir(d)
        except OSError as err:
            wrong += 1
            print(err)

threads = [threading.Thread(target=runs, args=(k,)) for k in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
d = f"{sys.argv[1]}/held"
os.mkdir(d)
fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR)
os.unlink(f"{d}/f")
try:
    os.rmdir(d)
    wrong += 1
except OSError as err:
    wrong += err.errno != errno.ENOTEMPTY
os.close(fd)
os.rmdir(d)
sys.exit(wrong > 0)
PY
}

# A .nfs name goes at the last close even if who closes may not remove it; and nobody removes it before, as rm -r would.
case_removed_by_somebody_else() {
    local d=$M/d holder e=$T/server/export/d
    mount_at "$M"
    mkdir "$d"
    chown 1000:1000 "$d"
    setpriv --reuid 1000 --regid 1000 --clear-groups sh -c "echo hello >$d/f; echo one >$d/conf"
    mkfifo "$T/fifo"
    chmod 777 "$T/log"
    # shellcheck disable=SC2016
    setpriv --reuid 2000 --regid 2000 --clear-groups sh -c 'exec 3<"$1/f" 4<"$1/conf"; touch "$2"; read -r _' sh \
        "$d" "$T/log/opened" <"$T/fifo" & holder=$!
    exec 7>"$T/fifo"
    wait_for 5 test -e "$T/log/opened"
    setpriv --reuid 1000 --regid 1000 --clear-groups sh -c "rm $d/f; echo two >$d/new; mv $d/new $d/conf"
    [ "$(find "$e" -name '.nfs*' | wc -l)" = 2 ]
    exec 7>&-
    wait $holder || :
    wait_for 5 sh -c "! find $e -name '.nfs*' | grep ."
    rm -r "$d"
}

case_removed_twice() {
    local i
    mount_at "$M"
    mkdir "$M/d"
    echo precious >"$M/d/f"
    exec 7<>"$M/d/f"
    for i in 1 2; do
        if rm -rf "$M/d" 2>err; then fail "it was removed"; fi
    done
    grep -q 'Device or resource busy' err
    echo more >&7
    sync "/proc/self/fd/7"
    grep -q more "$(find "$T/server/export/d" -name '.nfs*')"
    exec 7>&-
    wait_for 5 rmdir "$M/d"
}

limit_own_writes=$long
case_own_writes() {
    mount_at "$M" nconnect=4
    python3 "$here/ownwrites.py" "$M" "$(seconds 6)"
}

limit_own_writes_one_connection=$long
case_own_writes_one_connection() { # the kernel alone can be late
    mount_at "$M"
    python3 "$here/ownwrites.py" "$M" "$(seconds 6)"
}

limit_killed_under_own_writes=$long
case_killed_under_own_writes() { # requests of several reactors are executed again, in what order?
    mount_at "$M" nconnect=4
    killed_under python3 "$here/ownwrites.py" "$M" "$(seconds 10)"
}

run_cases "$@"
