#!/bin/bash
# What was written and is not on the server's stable storage yet: its order, its errors, and who waits for it.
EXPORT_EXT4=1
. "$(dirname "$0")/lib.bash"

E=$T/server/export

# proxied [OPTIONS]: mounted at $M through a wire on which replies are held back (proxy.py); its files are in $P
proxied() {
    P=$M.wire
    mkdir -p "$P"
    "$here/proxy.py" 20790 $PORT "$P" & proxy=$!
    trap 'kill $proxy' EXIT
    wait_for 5 test -e "$P/ready"
    mkdir -p "$M"
    mount -t fuse.nfs -o "port=20790,mountport=$((PORT + 1)),nolock,linger=0${1:+,$1}" "$SRC" "$M"
}

# A worker dies over appended data that the server does not have: what is appended next goes behind it.
case_append_after_crash() {
    mount_at "$M"
    for i in $(seq 20); do
        printf '1111\n' >"$E/a"
        python3 - "$M/a" "$T/server/ganesha.pid" "$(worker_pid)" <<'END'
import os, signal, sys, threading, time
path, pidfile, worker = sys.argv[1:]
server = int(open(pidfile).read())
fd = os.open(path, os.O_WRONLY | os.O_APPEND)
os.write(fd, b"2222\n")
os.kill(server, signal.SIGSTOP)
os.kill(int(worker), signal.SIGKILL)
t = threading.Thread(target=lambda: os.write(fd, b"3333\n"))
t.start()
time.sleep(0.4)
os.kill(server, signal.SIGCONT)
t.join()
os.close(fd)
END
        [ "$(cat "$E/a")" = $'1111\n2222\n3333' ] || { cat "$E/a"; fail "round $i"; }
    done
}
limit_append_after_crash=120

run_cases "$@"
