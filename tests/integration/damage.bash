#!/bin/bash
# The recovery memory damaged: found while a worker lives, and survived by its successor. NFSVOL_SOAK=1: each field in each way.
AT_REST=1
. "$(dirname "$0")/lib.bash"

soak() { [ -n "${NFSVOL_SOAK:-}" ]; }

# What is damaged under a worker that lives is found, and named.
flip() { # PART BYTE: inverts it in the last table but PART that has any data: 0: inodes, 1: opens
    python3 - "$(keeper_pid)" "$1" "$2" <<'PY'
import glob, os, sys
memory = [p for p in glob.glob(f"/proc/{sys.argv[1]}/fd/*") if os.readlink(p).startswith("/memfd:nfsvol ")][0]
fd, tables, at = os.open(memory, os.O_RDWR), [], 0
while True:
    try: tables.append(os.lseek(fd, at, os.SEEK_DATA))
    except OSError: break
    at = os.lseek(fd, tables[-1], os.SEEK_HOLE)
at = tables[-1 - int(sys.argv[2])] + int(sys.argv[3])
os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ 255]), at)
PY
}
violated() { # WHAT...: these, and no others
    local rc=0 what
    nfsvol status --verify "$M" >out || rc=$?
    cat out
    [ $rc = 4 ] || fail "exit $rc" || return 1
    grep -q "^  tables  *$# violations$" out || return 1
    for what; do grep -q "^    $what: [0-9]* instead of [0-9]*$" out || fail "$what" || return 1; done
    rc=0
    nfsvol status --verify --json "$M" >out || rc=$?
    [ $rc = 4 ] && [ "$(python3 -c 'import json; print(len(json.load(open("out"))["verify"]["violations"]))')" = $# ]
}
case_damage_is_found() {
    mount_at "$M"
    echo x >"$M/x"
    exec 8<"$M/x"
    nfsvol status --verify "$M" | tee out
    grep -q '^  tables  *consistent$' out
    grep -q '^    opens  *1$' out
    flip 1 8 # of the first open, the node id
    violated 'open 0: not so: its record is as it was written' 'open 0: not so: its inode is in the table'
    flip 1 8
    flip 0 $((144 + 16)) # of the root, the file id
    violated 'node 1: not so: is in the table, and its record is as it was written'
    flip 0 $((144 + 16))
    nfsvol status --verify "$M" >/dev/null
    rm "$M/x"
}

# The recovery memory, damaged at random under a worker that then dies: what is read is right or is an error, and workers do
# not die for ever.
limit_memory_damaged=60
case_memory_damaged() {
    mount_at "$M"
    python3 - "$M" <<'PY'
import glob, json, mmap, os, random, signal, subprocess, sys
m, rounds = sys.argv[1], 10
random.seed(1)
def status():
    d = json.loads(subprocess.run(["nfsvol", "status", "--json"], stdout=subprocess.PIPE).stdout)
    return d[0] if isinstance(d, list) else d
def content(i): return bytes([65 + i % 26]) * 4096
fds, direct = {}, mmap.mmap(-1, 4096)
for i in range(40):
    with open(f"{m}/{i}", "wb") as f: f.write(content(i))
    fds[i] = os.open(f"{m}/{i}", os.O_RDONLY | os.O_DIRECT)
keeper = status()["keeper_pid"]
memory = [p for p in glob.glob(f"/proc/{keeper}/fd/*") if os.readlink(p).startswith("/memfd:nfsvol ")][0]
wrong, errors, right = 0, 0, 0
def check(fd, i):
    global wrong, errors, right
    try: n = os.preadv(fd, [direct], 0)
    except OSError: errors += 1; return
    if n == 4096 and direct[:] == content(i): right += 1
    else: wrong += 1; print("file", i, "is", direct[:8], n)
def damage():
    with open(memory, "r+b", buffering=0) as f:
        end, at, extents = os.fstat(f.fileno()).st_size, 0, []
        while at < end:
            try: a = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError: break
            at = os.lseek(f.fileno(), a, os.SEEK_HOLE)
            extents.append((a, at))
        for k in range(30):
            # the last extents are the tables: small, and what it is all about
            a, b = random.choice(extents[-2:] if k % 3 else extents)
            if k % 3: b = min(b, a + 41 * 150)
            f.seek(random.randrange(a, b)); f.write(bytes([random.randrange(256)]))
for r in range(rounds):
    worker = status()["worker_pid"]
    if worker: os.kill(worker, signal.SIGSTOP)
    damage()
    if worker: os.kill(worker, signal.SIGKILL)
    for i in range(40):
        check(fds[i], i)
        try: fd = os.open(f"{m}/{i}", os.O_RDONLY | os.O_DIRECT)
        except OSError: errors += 1; continue
        check(fd, i)
        os.close(fd)
s = status()
print("#", rounds, "times damaged:", right, "reads right,", errors, "errors,", wrong, "wrong;", s["restarts"], "restarts,", s["state"])
assert wrong == 0 and right > 0 and s["restarts"] <= rounds * 8
PY
    rm -f "$T"/server/export/[0-9]*
}

# Requests of which nothing is left: who waits for one can be killed, whichever reactor reads that. The server is away, too.
limit_forgotten_and_killed=120
case_forgotten_and_killed() {
    echo data >"$T/server/export/f"
    mount_at "$M" hard,nconnect=2
    python3 - "$M/f" "$(worker_pid)" "$(keeper_pid)" "$PROGRAMS/memfields" "$(cat "$T/server/ganesha.pid")" >readers <<'PY'
import glob, mmap, os, signal, struct, subprocess, sys, time
path, worker, keeper, server = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[5])
tables, fields = {}, {}
for line in subprocess.run([sys.argv[4]], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines():
    kind, table, *words = line.split()
    if kind == "table": tables[table] = list(map(int, words))
    else: fields[table, words[0]] = int(words[1])
slot_at, slot_size, _ = tables["Slot"]
journal_size = tables["Journal"][1]
memory = [p for p in glob.glob(f"/proc/{keeper}/fd/*") if os.readlink(p).startswith("/memfd:nfsvol ")][0]
fd, buffer = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 4096)
os.kill(server, signal.SIGSTOP)
readers = []
for i in range(8):
    pid = os.fork()
    if pid == 0:
        os.preadv(fd, [buffer], 0)
        os._exit(0)
    readers.append(pid)
slots = [slot_at + journal * journal_size + i * slot_size for journal in range(2) for i in range(64)]
with open(memory, "r+b", buffering=0) as f:
    def used():
        n = 0
        for at in slots:
            f.seek(at + fields["Slot", "state"])
            n += f.read(4) not in (bytes(4), struct.pack("i", 1)) # FREE, READING
        return n
    end = time.time() + 20
    while used() < 8 and time.time() < end: time.sleep(0.05)
    os.kill(worker, signal.SIGSTOP)
    # whoever the server answered while it was being stopped has gone
    while (gone := os.waitpid(-1, os.WNOHANG))[0]: readers.remove(gone[0])
    assert used() == len(readers) >= 4, (used(), readers)
    for at in slots:
        f.seek(at)
        f.write(bytes(slot_size))
        f.seek(at + fields["Slot", "buffer"])
        f.write(struct.pack("i", -1))
os.kill(worker, signal.SIGKILL)
time.sleep(0.5)
assert os.waitpid(-1, os.WNOHANG) == (0, 0)
print(len(readers))
for pid in readers: os.kill(pid, signal.SIGKILL)
end = time.time() + 20
while readers:
    pid, status = os.waitpid(-1, os.WNOHANG)
    if pid: readers.remove(pid); assert os.WTERMSIG(status) == signal.SIGKILL
    elif time.time() > end: sys.exit(f"{len(readers)} wait for ever")
    else: time.sleep(0.02)
os.kill(server, signal.SIGCONT)
PY
    wait_for 5 eval '[ "$(grep -c "a request that was interrupted is not known: answered with EINTR" "$LOG")" = "$(cat readers)" ]'
    [ "$(cat "$M/f")" = data ]
    rm "$M/f"
}

# Each field by itself, and known by name.
limit_each_field_damaged=$(if soak; then echo 1800; else echo 240; fi)
case_each_field_damaged() {
    mkdir -p "$M"
    NFSVOL_RUNDIR=$NFSVOL_RUNDIR python3 "$here/memdamage.py" "$M" "$T/server/export" "$PROGRAMS/memfields" "$(cat "$T/server/ganesha.pid")" \
        "$(if soak; then echo 5; else echo 1; fi)" mount -t fuse.nfs -o "$MOUNT_PORTS,linger=0,nconnect=2" "$SRC" "$M"
    rm -f "$T"/server/export/[0-9]* "$T"/server/export/new
}

run_cases "$@"
