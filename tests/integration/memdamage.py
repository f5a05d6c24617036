"""Every field of the recovery memory, damaged under a worker that then dies: memdamage.py MOUNTPOINT EXPORT FIELDS SERVER-PID ROUNDS MOUNT-COMMAND...

ROUNDS: of each field, each with another kind of damage. While the worker is stopped the server is, too: there are requests on their
way. After it, whatever is read is the file's own or an error; what was written is in its file or its writer was told; workers do
not die for ever; and, if need be mounted anew, all is as it was.
"""
import errno, fcntl, glob, itertools, json, mmap, os, random, signal, subprocess, sys, threading, time

m, export, program, server, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
mount = sys.argv[6:]
random.seed(os.environ.get("SEED", "1"))
N, SIZE = 8, 4096
tables, fields = {}, []
for line in subprocess.run([program], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines():
    kind, *words = line.split()
    if kind == "table": tables[words[0]] = tuple(map(int, words[1:]))
    else: fields.append((words[0], words[1], int(words[2]), int(words[3])))

def content(i, version): return (b"%d.%d " % (i, version) * SIZE)[:SIZE]
def allowed(i, data): # some version of file i, or none yet
    return data == b"" or data.strip(b"\0") == b"" or any(data == content(i, v) for v in versions[i])
def status():
    out = subprocess.run(["nfsvol", "status", "--json", m], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    try: d = json.loads(out)
    except ValueError: return {}
    return d[0] if isinstance(d, list) else d

wrong, counts = [], dict(right=0, errors=0, mounts=0, restarts=0, failing=0)
versions = {i: {0} for i in range(N)}
buffers = threading.local()
def check(fd, i, where):
    if not hasattr(buffers, "direct"): buffers.direct = mmap.mmap(-1, SIZE)
    try: n = os.preadv(fd, [buffers.direct], 0)
    except OSError: counts["errors"] += 1; return False
    if not allowed(i, buffers.direct[:n]): wrong.append((where, i, bytes(buffers.direct[:12]), n))
    counts["right"] += 1
    return True

class Volume:
    def __enter__(self):
        counts["mounts"] += 1
        subprocess.run(mount, check=True, timeout=60)
        s = status()
        self.keeper = s["keeper_pid"]
        self.memory = [p for p in glob.glob(f"/proc/{self.keeper}/fd/*") if os.readlink(p).startswith("/memfd:nfsvol ")][0]
        self.stop, self.fds, self.busy = False, {}, []
        for i in range(N): self.fds[i] = os.open(f"{m}/{i}", os.O_RDWR | os.O_DIRECT)
        for i in range(2, 4):
            try: fcntl.lockf(self.fds[i], fcntl.LOCK_EX | fcntl.LOCK_NB, 10, i)
            except OSError: pass
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.reads, self.reads, self.makes)]
        for t in self.threads: t.start()
        return self
    def reads(self): # requests in flight, each in its own slot
        i = random.randrange(N // 2)
        while not self.stop:
            if not check(self.fds[i], i, "in flight"): time.sleep(0.01)
    def makes(self):
        for n in itertools.count():
            if self.stop: return
            try:
                fd = os.open(f"{m}/new", os.O_CREAT | os.O_EXCL | os.O_RDWR)
                try:
                    if os.pread(fd, SIZE, 0): wrong.append(("a new file has data", n))
                finally: os.close(fd)
                os.unlink(f"{m}/new")
            except OSError as e:
                if e.errno == errno.EEXIST: # of one that ended with an error
                    try: os.unlink(f"{m}/new")
                    except OSError: pass
                time.sleep(0.01)
    def __exit__(self, *_):
        self.stop = True
        for t in self.threads: t.join(20)
        for t in self.threads:
            if t.is_alive(): wrong.append(("a caller waits for ever", open(f"/proc/self/task/{t.native_id}/wchan").read()))
        for fd in self.fds.values():
            try: os.close(fd)
            except OSError: counts["errors"] += 1
        if subprocess.run(["umount", m], timeout=30).returncode != 0:
            wrong.append(("cannot be unmounted",))
            subprocess.run(["umount", "-l", m], check=True, timeout=30)
        deadline = time.time() + 20
        while [n for n in os.listdir(os.environ["NFSVOL_RUNDIR"]) if n[0] != "."]: # a drained volume has no keeper
            if time.time() > deadline:
                for pid in subprocess.run(["pgrep", "-f", "^nfsvold"], stdout=subprocess.PIPE, text=True).stdout.split():
                    try: os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError: pass
                wrong.append(("it does not go",))
                break
            time.sleep(0.02)

    def used(self, fd, table):
        at, size, count = tables[table]
        if count == 1: return [at]
        heads = [(at + k * size, os.pread(fd, 4, at + k * size)) for k in range(min(count, 64))]
        return [a for a, head in heads if head != b"\0\0\0\0"] or [at]
    def damage(self, field, kind):
        table, _, offset, size = field
        fd = os.open(self.memory, os.O_RDWR)
        try:
            places = self.used(fd, table)
            old = {a: os.pread(fd, size, a + offset) for a in places}
            for a in places if random.randrange(2) else random.sample(places, 1):
                if kind == "zeros": new = bytes(size)
                elif kind == "ones": new = b"\xff" * size
                elif kind == "another's": new = old[random.choice(places)]
                elif kind == "next": new = ((int.from_bytes(old[a], "little") + 1) % (1 << 8 * size)).to_bytes(size, "little")
                else:
                    new = bytearray(old[a])
                    for _ in range(1 + size // 16): new[random.randrange(size)] = random.randrange(256)
                os.pwrite(fd, bytes(new), a + offset)
        finally: os.close(fd)

    # Is it as good as new?
    def round(self, field, kind, r):
        data = {}
        for i in range(N // 2, N): # written, and here still
            versions[i].add(r)
            try:
                fd = os.open(f"{m}/{i}", os.O_WRONLY)
                data[i] = fd
                os.pwrite(fd, content(i, r), 0)
            except OSError: counts["errors"] += 1
        s = status()
        worker, restarts = s.get("worker_pid"), s.get("restarts", 0)
        if not worker: return False
        os.kill(server, signal.SIGSTOP)
        try:
            time.sleep(0.01)
            os.kill(worker, signal.SIGSTOP)
            self.damage(field, kind)
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError: pass
        finally: os.kill(server, signal.SIGCONT)
        for i, fd in data.items():
            kept = True
            try: os.fsync(fd)
            except OSError: kept = False; counts["errors"] += 1
            try: os.close(fd)
            except OSError: kept = False
            with open(f"{export}/{i}", "rb") as f: there = f.read()
            if not allowed(i, there) or (kept and there != content(i, r)):
                wrong.append((*field[:2], kind, "on the server", i, there[:12], len(there), "written" if kept else "not written"))
        sound = all([check(fd, i, (*field[:2], kind, "open")) for i, fd in self.fds.items()])
        for i in range(N):
            try: fd = os.open(f"{m}/{i}", os.O_RDONLY | os.O_DIRECT)
            except OSError: counts["errors"] += 1; sound = False; continue
            sound = check(fd, i, (*field[:2], kind, "by name")) and sound
            os.close(fd)
        s = status()
        counts["restarts"] += s.get("restarts", 0) - restarts
        counts["failing"] += s.get("state") == "failing"
        if s.get("restarts", 0) - restarts > 16: wrong.append((*field[:2], kind, "workers die for ever", s.get("restarts", 0) - restarts))
        return sound and s.get("state") == "serving"

for i in range(N):
    with open(f"{export}/{i}", "wb") as f: f.write(content(i, 0))
kinds = ["another's", "next", "zeros", "ones", "some bytes"]
if "ONLY" in os.environ: fields = [f for f in fields if " ".join(f[:2]) == os.environ["ONLY"]]
work = [(f, kinds[(k + j) % len(kinds)]) for j in range(rounds) for k, f in enumerate(fields)]
r, start = 0, time.time()
while work:
    with Volume() as volume:
        while work:
            r += 1
            what = work.pop(0)
            t0 = time.time()
            ok = volume.round(*what, r)
            if os.environ.get('TRACE'): print(r, *what[0][:2], what[1], f'{time.time() - t0:.2f}', ok, file=open(os.environ['TRACE'], 'a'))
            if not ok: break
    if len(wrong) > 20: break
print("#", len(fields), "fields,", r, "times damaged in", f"{time.time() - start:.0f} s:", ", ".join(f"{n} {what}" for what, n in counts.items()))
for w in wrong: print("WRONG:", *w)
sys.exit(bool(wrong))
