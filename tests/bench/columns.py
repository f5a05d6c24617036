"""The columns: who serves the directory that a workload runs in.

Each has a name, `dir` (where the workloads see it; None: it runs commands of its own), and tells how much
CPU time its daemon has used and how many RPCs it has sent.
"""
import json
import os
import subprocess
import time


def wait_for(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.01)


class Column:
    slow = False    # less of the same work; see Sizes in workloads.py
    daemon = False  # there is a process whose CPU time counts
    pid = None

    def __init__(self, box, name):
        self.box, self.name = box, name
        self.dir = None

    def start(self):
        pass

    def stop(self):
        pass

    def settle(self):
        """Returns when nothing of the last workload is going on any more (RELEASE, FORGET)."""
        last = None
        while (now := self.cpu_us()) != last:
            last = now
            time.sleep(0.02)

    def cpu_us(self):
        """Of the daemon, all threads, since it started."""
        if not self.pid:
            return 0
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        return total / 1000

    def rpcs(self):
        return {}


class Local(Column):
    def start(self):
        self.dir = self.box.export


class Raw(Column):
    """Not a mount: rawnfs does its own version of each workload, and says what it cost itself."""


class Mounted(Column):
    daemon = True

    def start(self):
        self.dir = f"{self.box.top}/mnt/{self.name}"
        os.makedirs(self.dir)
        self.mount()
        wait_for(f"{self.name} to be mounted", lambda: os.path.ismount(self.dir))

    def stop(self):
        subprocess.run(["umount", self.dir])


class Nfsvol(Mounted):
    def __init__(self, box, name, build):
        super().__init__(box, name)
        self.bin = f"{box.top}/bin-{name}"
        self.env = dict(os.environ, NFSVOL_RUNDIR=f"{box.top}/run-{name}", NFSVOL_STATEDIR=f"{box.top}/state-{name}")
        os.makedirs(self.bin)
        for source, program in ("src/cmd/nfsvol", "nfsvol"), ("src/daemon/nfsvold", "nfsvold"):
            subprocess.run(["cp", f"{build}/{source}", f"{self.bin}/{program}"], check=True)

    def mount(self):
        options = f"port={self.box.nfs_port},mountport={self.box.port + 1},linger=0"
        if self.box.options:
            options += "," + self.box.options
        subprocess.run([f"{self.bin}/nfsvol", "mount", "127.0.0.1:/export", self.dir, "-o", options],
                       env=self.env, check=True)
        self.pid = self.status()["worker_pid"]

    def memory(self):
        """Bytes of memory that the worker uses, what survives it included."""
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))

    def status(self):
        out = subprocess.run([f"{self.bin}/nfsvol", "status", "--json", self.dir], env=self.env, check=True,
                             stdout=subprocess.PIPE).stdout
        status = json.loads(out)
        return status[0] if isinstance(status, list) else status

    def settle(self):
        last = None
        while True:
            status = self.status()
            now = (status["requests"]["total"], status["counters"]["forgets"], status["counters"]["inodes"],
                   self.rpcs(status))
            if status["requests"]["in_flight"] == 0 and now == last:
                return
            last = now
            time.sleep(0.02)

    def rpcs(self, status=None):
        return {name: rpc["calls"] + rpc["resent"] for name, rpc in (status or self.status())["rpcs"].items()}


class Daemon(Mounted):
    """A program of this directory that serves a mount point in the foreground."""

    def command(self):
        raise NotImplementedError

    def mount(self):
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.pid = self.process.pid

    def stop(self):
        super().stop()
        self.process.wait(10)


class Passthrough(Daemon):
    def command(self):
        return [f"{self.box.tools}/passthrough", self.box.export, self.dir, *(["0"] if self.box.uncached else [])]

class Pathwalk(Daemon):
    slow = True

    def command(self):
        port = self.box.port
        url = f"nfs://127.0.0.1/export?nfsport={port}&mountport={port + 1}"
        return [f"{self.box.tools}/pathwalk", url, self.dir]
