"""latelocks.py DIR OUTPUT CASE: two clients, DIR/a and DIR/b, of a fake server that carries locks out late; its faults are
written to descriptor 9, and OUTPUT is the file that it prints to. Whatever happens, a lock that nobody holds is free for the other client in the end, and one that is held is not."""
import fcntl, json, os, signal, subprocess, sys, threading, time
m, output = sys.argv[1:3]
LOCK, UNLOCK = 302, 304
a, b, other = os.open(f"{m}/a/f1", os.O_RDWR), os.open(f"{m}/b/f1", os.O_RDWR), os.open(f"{m}/a/f2", os.O_RDWR)

def printed():
    with open(output) as f: return [line.split() for line in f if line.startswith("seen") and line.endswith("\n")]
def tell(*words):
    with open(9, "w", closefd=False) as fake: fake.write(" ".join(map(str, words)) + "\n")
def seen(key):
    """So many such requests the server has read."""
    n = len(printed())
    tell("seen", key)
    while len(lines := printed()) == n: time.sleep(0.005)
    return int(lines[-1][2])
def fault(key, *words):
    tell(key, *words)
    seen(key) # it goes through what it is told in order
def worker(): return json.loads(subprocess.check_output(["nfsvol", "status", "--json", f"{m}/a"]))["worker_pid"]
def kill():
    old = worker()
    assert old > 1, old # 0 would be all of ours
    os.kill(old, signal.SIGKILL)
    while worker() in (old, None, 0): time.sleep(0.02)
def lock(fd, n=10, at=0): fcntl.lockf(fd, fcntl.LOCK_EX, n, at)
def unlock(fd, n=10, at=0): fcntl.lockf(fd, fcntl.LOCK_UN, n, at)
def try_lock(fd, n=10, at=0):
    try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, n, at)
    except BlockingIOError: return False
    return True
def is_free(fd):
    if not try_lock(fd): return False
    unlock(fd)
    return True
def until_free(fd, seconds):
    end = time.time() + seconds
    while not is_free(fd):
        assert time.time() < end, "held for nobody"
        time.sleep(0.1)
def then_killed(key, call, *args):
    """The server has read what call asks for; then the worker dies."""
    n = seen(key)
    thread = threading.Thread(target=call, args=args)
    thread.start()
    while seen(key) == n: time.sleep(0.01)
    kill()
    thread.join()

def case_lock():
    fault(LOCK, "late", 1500, 0, 1)
    start = time.time()
    then_killed(LOCK, lock, a)
    unlock(a)
    assert is_free(a)
    if time.time() > start + 1.4: return print("# too slow to tell")
    time.sleep(start + 1.7 - time.time())
    assert is_free(a), "held for nobody" # at once: whoever is refused makes us look
    assert is_free(b)

def unlock_late(seconds):
    """Unlocked, late, and locked again; is it then still locked?"""
    lock(a)
    fault(UNLOCK, "late", 1500, 0, 1)
    start = time.time()
    then_killed(UNLOCK, unlock, a)
    lock(a)
    if time.time() > start + 1.4: return print("# too slow to tell")
    time.sleep(start + seconds - time.time())
    assert not is_free(b), "lost"

def case_unlock():
    lock(a, 10, 100)
    unlock_late(4)

def case_unlock_of_all(): unlock_late(1.75) # it is another owner for the server after that

def case_denied():
    assert is_free(other) # there is a connection
    lock(b)
    fault(LOCK, "late", 2000, 0, 1)
    answers, n = [], seen(LOCK)
    thread = threading.Thread(target=lambda: answers.append(try_lock(a)))
    thread.start()
    while seen(LOCK) == n: time.sleep(0.01)
    fault(LOCK, "close", 0, 0, 1)
    assert try_lock(other)
    thread.join()
    assert answers == [False]
    unlock(b)
    time.sleep(2.5)
    until_free(b, 12)

def case_reclaim():
    lock(a)
    fault(LOCK, "late", 3000, 1, 1) # the one after that with reclaim
    kill()
    time.sleep(0.7)
    kill()
    time.sleep(0.7)
    unlock(a)
    time.sleep(3)
    until_free(b, 12)

def case_confirmation():
    lock(a, 10, 100)
    fault(LOCK, "late", 500, 0, 1)
    start = time.time()
    then_killed(LOCK, lock, a)
    time.sleep(5)
    fault(LOCK, "late", 6000, 0, 1) # the last of those that confirm it
    time.sleep(start + 11.5 - time.time())
    kill()
    time.sleep(0.8)
    unlock(a)
    time.sleep(6)
    until_free(b, 12)

globals()[f"case_{sys.argv[3]}"]()
