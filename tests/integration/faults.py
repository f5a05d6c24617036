"""Every fault of fakenfs in turn, of any procedure, under a load that knows what it must read: faults.py MOUNTPOINT.

Descriptor 9 leads to the server's standard input; $FAKENFS is its program, which says what faults there are."""
import errno, os, subprocess, sys, threading, time
m, quiet = sys.argv[1], set()
server = {errno.EIO, errno.ESTALE}
deny, named = server | {errno.EACCES}, server | {errno.ELOOP, errno.ENOENT}
# action, argument, what may be the answer; and which calls it happens to, if not to the 6th to 13th of any procedure
faults = [("delay", 50, quiet), ("drop", 0, quiet), ("close", 0, quiet), ("close-after", 0, quiet), ("partial", 6, quiet),
    ("partial", 60, quiet), ("status", 10008, quiet), ("status", 5, server), ("status", 13, deny), ("status", 70, server),
    ("status", 28, server | {errno.ENOSPC}), ("status", 9999, server), ("garbage", 0, server), ("bad-xid", 0, quiet),
    ("raw-length", 0xffffffff, quiet), ("raw-length", 8, server), ("raw-length", 0x7fffffff, quiet), ("endless", 1, quiet), ("endless", 1000, quiet),
    ("endless", 1 << 20, quiet), ("flood", 1000, quiet), ("accept", 1, server), ("accept", 2, server), ("accept", 4, server),
    ("accept", 5, server), ("deny", 1, deny), ("deny", 5, deny), ("length", 0xffffffff, server), ("length", 3 << 20, server),
    ("fragment", 7, quiet), ("loop", 0, server), ("trickle", 100, quiet), ("count", 1, quiet), ("count", 600000, server),
    ("name", 0, named), ("name", 1, named), ("name", 2, named), ("name", 3, named), ("call", 0, server), ("type", 0, named),
    ("type", 99, named), ("type", 2, named | {errno.EISDIR, errno.ENOTDIR}), ("no-attributes", 0, quiet),
    ("late", 50, quiet), ("file-id", 0, quiet, "-1 0 0"), *(("cookies", i, quiet, "16 0 0", "17 0 0") for i in range(3))]
kinds = subprocess.check_output([os.environ["FAKENFS"], "--faults"], text=True).split()
if {f[0] for f in faults} != set(kinds): sys.exit(f"not the faults that there are: {set(kinds) ^ {f[0] for f in faults}}")
def content(i, offset, n): return bytes(((i + 2) * 31 + o * 7 + (o >> 12)) & 255 for o in range(offset, offset + n))
names = {f"f{i}" for i in range(200)}
known = {(i, o): content(i, o, 4096) for i in range(4) for o in (0, 65536, 999424)}
state = {"errors": [], "wrong": [], "ops": 0, "stop": False}
def one(n):
    i, o = n % 4, (0, 65536, 999424)[n % 3]
    fd = os.open(f"{m}/f{i}", os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        got = os.pread(fd, 4096, o)
        if got != known[i, o]: state["wrong"].append((i, o, len(got)))
    finally: os.close(fd)
    listed = os.listdir(m)
    if not names <= set(listed): state["wrong"].append("a short listing")
    if len(listed) > 300: state["twice"] += 1
    if os.stat(f"{m}/f{i}").st_size != 1 << 20: state["wrong"].append("size")
    fd = os.open(f"{m}/f{10 + i}", os.O_WRONLY)
    try: os.pwrite(fd, b"x" * 1000, 0); os.fsync(fd)
    finally: os.close(fd)
    os.statvfs(m)
    fd = os.open(f"{m}/new{n}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(fd)
def load(t):
    n = t * 1000000
    while not state["stop"]:
        n += 1
        try: one(n)
        except OSError as e: state["errors"].append((e.errno, e.filename, sys.exc_info()[2].tb_next.tb_lineno))
        state["ops"] += 1
def tell(line): os.write(9, line.encode() + b"\n")
failed = 0
for action, argument, allowed, *calls in faults:
    state.update(errors=[], wrong=[], ops=0, twice=0, stop=False)
    for key, skip, times in (c.split() for c in calls or ["-1 5 8"]):
        tell(f"{key} {action} {argument} {skip} {times}")
    if calls: time.sleep(0.1)  # until it has been heard: a listing that has begun with other cookies would end early
    threads = [threading.Thread(target=load, args=(t,)) for t in range(4)]
    start = time.time()
    for t in threads: t.start()
    time.sleep(0.3)
    state["stop"] = True
    for t in threads: t.join(30)
    tell("clear")
    bad = {e for e in state["errors"] if e[0] not in allowed}
    alive = any(t.is_alive() for t in threads)
    during = state["wrong"]
    if (action, argument) == ("cookies", 2) and not state["twice"]: during.append("it did not happen")
    for attempt in range(30):  # until what was believed has expired
        time.sleep(0.1)
        state["wrong"] = []
        try:
            for n in range(12): one(int(start * 1000) + attempt * 100 + n)
            after = ""
            break
        except OSError as e: after = f"then {e}"
    print("#", action, argument, state["ops"], "rounds,", len(state["errors"]), "errors", sorted({errno.errorcode.get(e[0], e[0]) for e in state["errors"]}),
        f"{time.time() - start:.1f} s")
    if bad or during or state["wrong"] or after or alive:
        failed = 1
        print(action, argument, "NOT ALLOWED:", list(bad)[:3], "WRONG:", during[:3], state["wrong"], after, "hangs" if alive else "")
print(f"# {len(faults)} faults of {len(kinds)} kinds")
sys.exit(failed)
