#!/usr/bin/env python3
"""A wire between client and server on which replies can be held back and write verifiers changed.

proxy.py LISTEN_PORT SERVER_PORT DIR

Files in DIR say what is done; they are looked at for each message:
  hold-PROC    replies to this NFSv3 procedure wait until the file is gone
  one-PROC     all that are held now go on, those that come after are held again
  verifier     WRITE and COMMIT show another write verifier: as if the server had restarted
DIR/held: how many replies are held back.
DIR/log: a line for each call: procedure, and of a WRITE offset, count and how stable.
"""
import os, select, socket, struct, sys

listen_port, server_port, where = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
WRITE, COMMIT = 7, 21
log = open(os.path.join(where, "log"), "a", buffering=1)


def there(name):
    return os.path.exists(os.path.join(where, name))


def records(buf):
    """Whole records at the beginning of buf, which loses them."""
    found = []
    while len(buf) >= 4:
        size = struct.unpack(">I", buf[:4])[0] & 0x7FFFFFFF
        if len(buf) < 4 + size:
            break
        found.append(bytes(buf[: 4 + size]))
        del buf[: 4 + size]
    return found


class Wire:
    def __init__(self, client):
        self.client, self.server = client, socket.create_connection(("127.0.0.1", server_port))
        self.inbuf = {client: bytearray(), self.server: bytearray()}
        self.procs, self.held = {}, []

    def call(self, record):
        xid, _, _, prog, _, proc = struct.unpack(">6I", record[4:28])
        self.procs[xid] = proc if prog == 100003 else -1
        text = ""
        if prog == 100003 and proc == WRITE:
            at = 28
            for _ in range(2):  # credential, verifier
                at += 8 + (struct.unpack(">I", record[at + 4 : at + 8])[0] + 3 & ~3)
            at += 4 + (struct.unpack(">I", record[at : at + 4])[0] + 3 & ~3)
            text = " %d %d %d" % struct.unpack(">QII", record[at : at + 16])
        log.write("%d%s\n" % (proc, text))
        self.server.sendall(record)

    def reply(self, record):
        proc = self.procs.get(struct.unpack(">I", record[4:8])[0], -1)
        self.held.append((proc, record))

    def release(self):
        rest = []
        once = {proc for proc, _ in self.held if there("one-%d" % proc)}
        for proc in once:
            os.unlink(os.path.join(where, "one-%d" % proc))
        for proc, record in self.held:
            if there("hold-%d" % proc) and proc not in once:
                rest.append((proc, record))
            else:
                if proc in (WRITE, COMMIT) and there("verifier"):
                    record = record[:-8] + b"restartd"
                self.client.sendall(record)
        if len(rest) != len(self.held) or rest:
            with open(os.path.join(where, "held"), "w") as f:
                f.write("%d" % len(rest))
        self.held = rest

    def ready(self, sock):
        data = sock.recv(1 << 20)
        if not data:
            raise ConnectionError
        self.inbuf[sock] += data
        for record in records(self.inbuf[sock]):
            (self.call if sock is self.client else self.reply)(record)


listener = socket.create_server(("127.0.0.1", listen_port))
open(os.path.join(where, "ready"), "w").close()
wires = []
while True:
    socks = {s: w for w in wires for s in (w.client, w.server)}
    for sock in select.select([listener, *socks], [], [], 0.02)[0]:
        try:
            if sock is listener:
                wires.append(Wire(listener.accept()[0]))
            elif socks[sock] in wires:
                socks[sock].ready(sock)
        except OSError:
            wire = socks.get(sock)
            if wire in wires:
                wires.remove(wire)
                wire.client.close()
                wire.server.close()
    for wire in wires:
        wire.release()
