# SPDX-License-Identifier: GPL-2.0-only
"""The client's end of the agent (agent/agent.c has the frames).

A connection to a machine that is down looks open to the emulated network's
forwarder, so nothing counts before the agent's hello.
"""
import errno
import os
import selectors
import signal
import socket
import struct
import time

HEAD = struct.Struct("<IB3x")
PROTOCOL = 1
BLOCK = 16384


class AgentError(Exception):
    """The agent cannot be reached, or went away in the middle."""


class Unreachable(AgentError):
    """Nobody said hello."""


class RunError(Exception):
    """The command could not be started there; status as a shell would give it."""

    def __init__(self, number, name):
        super().__init__(f"{name}: {os.strerror(number)}")
        self.status = 127 if number == errno.ENOENT else 126


def _hello(sock, deadline):
    need = HEAD.size + 4
    got = b""
    while len(got) < need:
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        data = sock.recv(need - len(got))
        if not data:
            raise ConnectionResetError("closed")
        got += data
    length, kind = HEAD.unpack_from(got)
    version, = struct.unpack_from("<I", got, HEAD.size)
    if kind != ord("H") or length != 4 or version != PROTOCOL:
        raise AgentError("something that is not the agent answers there")


def connect(ports, wait=30.0, alive=None):
    """A socket to the agent behind one of the local ports.

    A machine may be behind any of several forwards, after a migration say:
    they are tried in turn for wait seconds. alive() may raise to end it early.
    """
    deadline = time.monotonic() + wait
    # Short at first: while a machine boots, a try soon after counts for more.
    patience = 0.5
    while True:
        for port in ports:
            left = deadline - time.monotonic()
            try:
                sock = socket.create_connection(("127.0.0.1", port), timeout=5)
            except OSError:
                continue
            try:
                _hello(sock, time.monotonic() + min(patience, max(0.5, left)))
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except (OSError, TimeoutError):
                sock.close()
        if alive:
            alive()
        if time.monotonic() >= deadline:
            raise Unreachable(f"no answer in {wait:.0f} s")
        patience = min(15.0, patience * 1.4)
        time.sleep(0.1)


class Command:
    """One command on a connection.

    on_output(stream, bytes) gets what arrives, stream 1 or 2; source gives
    standard input (a file descriptor, bytes, or None). With kind R argv are
    files that the agent itself reads, without a process.
    """

    def __init__(self, sock, argv, source=None, on_output=None, kind="X"):
        self.sock = sock
        self.argv = argv
        self.on_output = on_output or (lambda _stream, _data: None)
        self.fd = source if isinstance(source, int) else None
        self.pending = bytearray()
        payload = b"".join(os.fsencode(arg) + b"\0" for arg in argv)
        self._frame(kind, payload)
        if isinstance(source, (bytes, bytearray)):
            for at in range(0, len(source), BLOCK):
                self._frame("I", source[at:at + BLOCK])
        if self.fd is None:
            self._frame("I", b"")
        self.received = bytearray()
        self.status = None

    def _frame(self, kind, payload):
        self.pending += HEAD.pack(len(payload), ord(kind))
        self.pending += payload

    def signal(self, number):
        self._frame("S", struct.pack("<I", number))

    def _read_source(self):
        data = os.read(self.fd, BLOCK)
        self._frame("I", data)
        if not data:
            self.fd = None

    def _frames(self):
        while len(self.received) >= HEAD.size:
            length, kind = HEAD.unpack_from(self.received)
            if len(self.received) < HEAD.size + length:
                return
            payload = bytes(self.received[HEAD.size:HEAD.size + length])
            del self.received[:HEAD.size + length]
            yield chr(kind), payload

    def _handle(self, kind, payload):
        if kind in "OE":
            self.on_output(1 if kind == "O" else 2, payload)
        elif kind == "Q":
            how, number = struct.unpack("<II", payload)
            self.status = 128 + number if how else number
        elif kind == "F":
            raise RunError(struct.unpack("<I", payload)[0], self.argv[0])

    def run(self, timeout=None):
        """Until the command ended; its status, 128 + N when signal N ended it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self.sock.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ)
            pollable = self.fd is not None and self._watch(selector)
            while self.status is None:
                self._step(selector, pollable, deadline)
        self.sock.close()
        return self.status

    def _watch(self, selector):
        try:
            selector.register(self.fd, selectors.EVENT_READ)
            return True
        except PermissionError:     # an ordinary file is always readable
            return False

    def _step(self, selector, pollable, deadline):
        wants = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.pending else 0)
        selector.modify(self.sock, wants)
        feeding = self.fd is not None and not self.pending
        wait = 0 if feeding and not pollable else None
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                self.sock.close()
                raise AgentError(f"{self.argv[0]} took too long")
            wait = left if wait is None else wait
        events = selector.select(wait)
        if feeding and not pollable:
            self._read_source()
        for key, mask in events:
            if key.fileobj is not self.sock:
                self._source_ready(selector, key)
                continue
            if mask & selectors.EVENT_WRITE:
                sent = self.sock.send(memoryview(bytes(self.pending[:1 << 18])))
                del self.pending[:sent]
            if mask & selectors.EVENT_READ:
                self._receive()
        if pollable and self.fd is not None and not self.pending and \
           self.fd not in selector.get_map():
            selector.register(self.fd, selectors.EVENT_READ)

    def _source_ready(self, selector, key):
        fd = key.fd
        self._read_source()
        if self.fd is None or self.pending:
            selector.unregister(fd)

    def _receive(self):
        try:
            data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return
        if not data:
            raise AgentError("the connection was lost: the machine went down, or its agent did")
        self.received += data
        for kind, payload in self._frames():
            self._handle(kind, payload)


def capture(ports, argv, source=None, wait=30.0, timeout=60.0):
    """Run to the end and give (status, stdout, stderr)."""
    outputs = {1: bytearray(), 2: bytearray()}
    command = Command(connect(ports, wait), argv, source,
                      lambda stream, data: outputs[stream].extend(data))
    status = command.run(timeout)
    return status, bytes(outputs[1]), bytes(outputs[2])


def read(ports, paths, wait=30.0, timeout=30.0):
    """What files of a machine's kernel say, read by its agent: [text], an empty one where there is none."""
    output = bytearray()
    Command(connect(ports, wait), paths, None, lambda _stream, data: output.extend(data), "R").run(timeout)
    texts = output.decode(errors="replace").split("\0")[:-1]
    return texts + [""] * (len(paths) - len(texts))


def push(ports, local, remote, wait=30.0):
    """A local file to remote there, with its permission bits; (status, complaint)."""
    complaint = bytearray()
    fd = os.open(local, os.O_RDONLY)
    try:
        stat = os.fstat(fd)
        argv = ["/sbin/memx-agent", "--put", f"{stat.st_mode & 0o7777:o}", str(stat.st_size),
                os.path.basename(local), remote]
        command = Command(connect(ports, wait), argv, fd,
                          lambda _stream, data: complaint.extend(data))
        status = command.run()
    finally:
        os.close(fd)
    return status, bytes(complaint)


def pull(ports, remote, local, wait=30.0):
    """The file remote there to local, with its permission bits; (status, complaint)."""
    if os.path.isdir(local):
        local = os.path.join(local, os.path.basename(remote))
    part = f"{local}.part-{os.getpid()}"
    complaint = bytearray()
    head = bytearray()
    mode = []
    with open(part, "wb") as out:
        def take(stream, data):
            if stream == 2:
                complaint.extend(data)
            elif mode:
                out.write(data)
            else:
                head.extend(data)
                line, newline, rest = bytes(head).partition(b"\n")
                if newline:
                    mode.append(int(line.split()[0], 8))
                    out.write(rest)
        try:
            command = Command(connect(ports, wait), ["/sbin/memx-agent", "--get", remote],
                              None, take)
            status = command.run()
        except BaseException:
            os.unlink(part)
            raise
    if status or not mode:
        os.unlink(part)
        return status or 1, bytes(complaint)
    os.chmod(part, mode[0])
    os.rename(part, local)
    return 0, b""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
