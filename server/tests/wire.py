# SPDX-License-Identifier: GPL-2.0-only
"""The donor hop from a relay's side, for tests: frames made and taken apart, a blocking client, a server to talk to."""

import ctypes
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile

MAGIC = 0x584D454D
HDR = struct.Struct("<IHHIIQQ")
HELLO = struct.Struct("<HHHBBQQQ16sBB14x")
IO = struct.Struct("<IIQHHI")
WANT = struct.Struct("<IIQ")
PAGE = struct.Struct("<IIQQQII")
FENCE = struct.Struct("<16s16s4QIBBH")
FENCED = struct.Struct("<IIQQQ")
REPLICA = struct.Struct("<16sQB7x")
STAT = struct.Struct("<QQQQII32s")
PAGE_SIZE = 4096
MAX_BODY = IO.size + 32 * (PAGE.size + PAGE_SIZE)

REPLY = 0x8000
HELLO_OP, PING, STORE, FETCH, DISCARD, DETACH = 1, 2, 3, 4, 5, 19
FENCE_OP, RESERVE, PLACE, FREE, RETAIN, LIST, SCAN, STAT_OP, PIN = 32, 33, 34, 35, 36, 37, 38, 39, 40
LAST, FIRST, REPAIR = 1, 2, 4
LIVE, SYNCING, STALE = 1, 2, 3
(OK, AGAIN, PARTIAL, NOSPACE, ABSENT, VERSION, OLD, GENERATION, FENCED_S, NOFENCE, SUPERSEDED, DENIED, UNKNOWN, CORRUPT,
 OP, INVALID, LIMIT, DRAINING, IO_S, PROTO, NODONOR, MISMATCH) = range(22)


XXH64 = ctypes.CDLL("libxxhash.so.0").XXH64
XXH64.restype, XXH64.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]


def check(session, slot, version, data):
    """The check of a page, see docs/PROTOCOL.md."""
    where = XXH64(struct.pack("<QQ", slot, version), 16, XXH64(session, len(session), 0))
    return XXH64(data, len(data), where)


class Closed(Exception):
    """The server ended the connection."""


def frame(op, body=b"", tag=0, epoch=0, flags=0, status=0, magic=MAGIC, length=None):
    return HDR.pack(magic, op, flags, len(body) if length is None else length, status, tag, epoch) + body


class Reply:
    def __init__(self, head, body):
        self.magic, self.op, self.flags, self.len, self.status, self.tag, self.epoch = head
        self.body = body


class Relay:
    """One connection to a donor."""

    def __init__(self, port, timeout=20.0, hello=True, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tag = 0
        if hello:
            reply = self.hello()
            assert reply.status == OK, reply.status

    def hello(self, low=1, high=1, role=2):
        reply = self.ask(HELLO_OP, HELLO.pack(low, high, 0, role, 0, 0, 0, 77, bytes(16), 0, 0))
        fields = HELLO.unpack(reply.body)
        self.instance, self.donor = fields[7], fields[8]
        return reply

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                more = self.sock.recv(size - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed()
            data += more
        return data

    def recv(self):
        head = HDR.unpack(self._exactly(HDR.size))
        assert head[0] == MAGIC and head[1] & REPLY, head
        return Reply(head, self._exactly(head[3]))

    def post(self, op, body=b"", epoch=0, flags=0):
        self.tag += 1
        try:
            self.send(frame(op, body, self.tag, epoch, flags))
        except (BrokenPipeError, ConnectionResetError):
            raise Closed() from None
        return self.tag

    def ask(self, op, body=b"", epoch=0, flags=0):
        tag = self.post(op, body, epoch, flags)
        reply = self.recv()
        assert reply.tag == tag and reply.op == op | REPLY, (reply.tag, tag, reply.op, op)
        return reply

    def closed(self):
        """Waits until the server has closed the connection; False if something else came."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def stat(self):
        return STAT.unpack(self.ask(STAT_OP).body)


class Session:
    """A guest's session, seen through one connection."""

    def __init__(self, relay, session, epoch=1, slots=4096, order=10, lineage=(1, 0, 0, 0), vm=bytes(16), create=True):
        self.relay, self.id, self.vm, self.epoch, self.order, self.slots = relay, session, vm, epoch, order, slots
        self.lineage = lineage
        self.reply = relay.ask(FENCE_OP, FENCE.pack(vm, session, *lineage, slots, order, 1 if create else 0, 0), epoch)
        self.handle = FENCED.unpack(self.reply.body)[0] if self.reply.body else 0

    def reserve(self, pages):
        return self.relay.ask(RESERVE, struct.pack("<IIQ", self.handle, 0, pages), self.epoch)

    def record(self, extent, generation, state=LIVE):
        replicas = REPLICA.pack(self.relay.donor, self.relay.instance, state) + REPLICA.pack(b"another donor id", 5, LIVE)
        return struct.pack("<IB3xQ", extent, 2, generation) + replicas + bytes(2 * REPLICA.size)

    def place(self, extent, generation, create=True, state=LIVE):
        body = struct.pack("<II", self.handle, int(create)) + self.record(extent, generation, state)
        return self.relay.ask(PLACE, body, self.epoch)

    def store_frame(self, extent, generation, pages, checks=None):
        """pages: (slot, version, bytes); with the checks that they must have, where @checks has no other for a slot."""
        checks = {slot: check(self.id, slot, version, data) for slot, version, data in pages} | (checks or {})
        body = IO.pack(self.handle, extent, generation, len(pages), 0, 0)
        body += b"".join(PAGE.pack(slot, 0, version, checks[slot], 0, 0, 0) for slot, version, _ in pages)
        return body + b"".join(data for _, _, data in pages)

    def store(self, extent, generation, pages, flags=0, checks=None):
        return self.relay.ask(STORE, self.store_frame(extent, generation, pages, checks), self.epoch, flags)

    def want_frame(self, extent, generation, wants):
        body = IO.pack(self.handle, extent, generation, len(wants), 0, 0)
        return body + b"".join(WANT.pack(slot, 0, version) for slot, version in wants)

    def fetch(self, extent, generation, wants):
        reply = self.relay.ask(FETCH, self.want_frame(extent, generation, wants), self.epoch)
        return reply, fetched(reply)

    def discard(self, extent, generation, wants):
        return self.relay.ask(DISCARD, self.want_frame(extent, generation, wants), self.epoch)

    def detach(self):
        return self.relay.ask(DETACH, struct.pack("<II", self.handle, 0), self.epoch)


def fetched(reply):
    """The pages of a FETCH reply: slot -> (status, version, bytes or None)."""
    pages = {}
    if reply.status not in (OK, PARTIAL):
        return pages
    count = IO.unpack_from(reply.body)[3]
    at = IO.size + count * PAGE.size
    for i in range(count):
        slot, status, version = PAGE.unpack_from(reply.body, IO.size + i * PAGE.size)[:3]
        data = None
        if status == OK:
            data = reply.body[at:at + PAGE_SIZE]
            at += PAGE_SIZE
        pages[slot] = (status, version, data)
    assert at == len(reply.body)
    return pages


class Server:
    """A memx-server of its own, on a port that the kernel chooses."""

    def __init__(self, *args, memory="8M", config=None, env=None, before=None):
        self.dir = tempfile.mkdtemp(dir=os.environ.get("MEMX_TMP"))
        os.chmod(self.dir, 0o777)
        self.control = self.dir + "/ctl"
        command = [program(), "--id-file", self.dir + "/id", "--control", self.control, *args]
        if config is None:
            command += ["--listen", "127.0.0.1:0", "--memory", memory]
            if "--pressure" not in args:            # what others do to this machine is no part of most tests
                command += ["--pressure", "0"]
            if "--min-available" not in args:
                command += ["--min-available", "0"]
        else:
            self.config = self.dir + "/server.conf"
            with open(self.config, "w", encoding="ascii") as file:
                file.write(config)
            command += ["--config", self.config]
        self.lines = []
        self.proc = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, **(env or {})}, preexec_fn=before)
        self._rest = b""
        self.first_lines = ""                       # up to the one that says that it started
        line = self.wait_log(r"\bstarted\b")
        self.port = int(re.search(r"port=(\d+)", line).group(1))

    def memory_kib(self):
        """Memory of this process that its page store has, from the kernel."""
        total, ours = 0, False
        with open(f"/proc/{self.proc.pid}/smaps", encoding="ascii") as smaps:
            for line in smaps:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    ours = "memx-pages" in line
                elif ours and line.startswith("Rss:"):
                    total += int(line.split()[1])
        return total

    def wait_log(self, pattern, timeout=30.0):
        """Waits for a log line that matches and was not returned before."""
        while True:
            while self.lines:
                line = self.lines.pop(0)
                if not hasattr(self, "port"):
                    self.first_lines += line + "\n"
                if re.search(pattern, line):
                    return line
            ready, _, _ = select.select([self.proc.stderr], [], [], timeout)
            data = os.read(self.proc.stderr.fileno(), 65536) if ready else b""
            if not data:
                raise AssertionError(f"no log line like {pattern!r}" + ("" if ready else f" in {timeout} s"))
            self._rest += data
            *whole, self._rest = self._rest.split(b"\n")
            for line in whole:
                text = line.decode(errors="replace")
                os.write(2, f"# server: {text}\n".encode())
                self.lines.append(text)

    def ctl(self, cmd, **more):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(self.control)
            sock.sendall(json.dumps({"cmd": cmd, **more}).encode() + b"\n")
            return json.loads(sock.makefile().readline())

    def signal(self, number):
        self.proc.send_signal(number)

    def stop(self):
        """SIGTERM; the exit status."""
        if self.proc.poll() is None:
            self.signal(signal.SIGTERM)
        data = self.proc.stderr.read()
        os.write(2, b"".join(b"# server: " + line + b"\n" for line in (self._rest + data).splitlines()))
        status = self.proc.wait(30)
        self.proc.stderr.close()
        return status


def program():
    return os.path.join(os.environ["MEMX_BIN"], "memx-server")
