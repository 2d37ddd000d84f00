#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The real memx-server over sockets: service, hostile and slow peers, settings, signals, many sessions. Prints TAP."""

import ctypes
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

import wire
from wire import OK, Relay, Server, Session, frame

PAGE = wire.PAGE_SIZE
TESTS = []
LIBC = ctypes.CDLL(None, use_errno=True)
PR_CAPBSET_DROP, CAP_IPC_LOCK = 24, 14         # linux/prctl.h, linux/capability.h


CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000        # linux/sched.h
MS_RDONLY, MS_REC, MS_PRIVATE = 1, 1 << 14, 1 << 18     # linux/mount.h


class Skip(Exception):
    """This machine cannot show it."""


def test(function):
    TESTS.append(function)
    return function


def page(slot, version):
    """Content that names its slot and version."""
    return struct.pack("<QQ", slot, version) * (PAGE // 16)


def session(relay, name, slots=1024, order=6, epoch=1):
    s = Session(relay, name.encode().ljust(16, b"\0"), epoch=epoch, slots=slots, order=order)
    assert s.reply.status == OK, s.reply.status
    assert s.reserve(slots).status == OK
    return s


def sweep(server):
    """Frees what a test left behind, so that the next one has all of the memory."""
    for left in server.ctl("sessions")["data"]:
        assert server.ctl("session-free", vm=left["vm"], session=left["session"], force=True)["ok"]


def holds(s, extent, slot, version):
    reply, pages = s.fetch(extent, 1, [(slot, version)])
    return reply.status == OK and pages[slot][2] == page(slot, version)


class Bystander:
    """A client that must notice nothing of what is done to the others."""

    def __init__(self, server):
        self.s = session(Relay(server.port), "bystander")
        assert self.s.place(0, 1).status == OK
        assert self.s.store(0, 1, [(7, 1, page(7, 1))]).status == OK
        self.version = 1

    def unharmed(self):
        assert holds(self.s, 0, 7, self.version)
        self.version += 1
        assert self.s.store(0, 1, [(7, self.version, page(7, self.version))]).status == OK
        assert holds(self.s, 0, 7, self.version)


# ---- service -----------------------------------------------------------------------------------------------------------


@test
def pages_come_back_as_they_were_stored(server):
    s = session(Relay(server.port), "plain")
    for extent in range(16):
        assert s.place(extent, 1).status == OK
        for first in (0, 32):
            slots = [extent * 64 + first + i for i in range(32)]
            assert s.store(extent, 1, [(slot, slot + 1, page(slot, slot + 1)) for slot in slots]).status == OK
    for extent in range(16):
        slots = [extent * 64 + i for i in range(1, 64, 2)]
        reply, pages = s.fetch(extent, 1, [(slot, slot + 1) for slot in slots])
        assert reply.status == OK
        assert all(pages[slot][2] == page(slot, slot + 1) for slot in slots)
    assert s.detach().status == OK


@test
def requests_are_answered_in_order_however_they_arrive(server):
    s = session(Relay(server.port), "pipeline")
    assert s.place(0, 1).status == OK
    data, tags = b"", []
    for version in range(1, 300):
        body = s.store_frame(0, 1, [(version % 64, version, page(version % 64, version))])
        data += frame(wire.STORE, body, version, 1) + frame(wire.FETCH, s.want_frame(0, 1, [(version % 64, version)]), version, 1)
        tags += [(wire.STORE, version), (wire.FETCH, version)]
    rng, at = random.Random(5), 0
    s.relay.sock.setblocking(False)
    got = b""
    while at < len(data) or len(tags):
        try:
            at += s.relay.sock.send(data[at:at + rng.choice((1, 31, 4096, 70000))]) if at < len(data) else 0
        except BlockingIOError:
            pass
        try:
            got += s.relay.sock.recv(1 << 20)
        except BlockingIOError:
            wire.select.select([s.relay.sock], [], [], 10 if at >= len(data) else 0)
        while len(got) >= wire.HDR.size:
            head = wire.HDR.unpack_from(got)
            if len(got) < wire.HDR.size + head[3]:
                break
            op, tag = tags.pop(0)
            assert head[1] == op | wire.REPLY and head[5] == tag and head[4] == OK, head
            if op == wire.FETCH:
                # Each fetch sits between two stores of the batch and still sees its own version.
                reply = wire.Reply(head, got[wire.HDR.size:wire.HDR.size + head[3]])
                assert wire.fetched(reply)[tag % 64][2] == page(tag % 64, tag), tag
            got = got[wire.HDR.size + head[3]:]


@test
def a_frame_may_arrive_byte_by_byte(server):
    relay = Relay(server.port)
    s = session(relay, "bytes")
    assert s.place(0, 1).status == OK
    data = frame(wire.STORE, s.store_frame(0, 1, [(3, 1, page(3, 1))]), 9, 1)
    cuts = list(range(0, 120)) + list(range(120, len(data) - 9, 64)) + list(range(len(data) - 9, len(data) + 1))
    for start, end in zip(cuts, cuts[1:]):
        relay.send(data[start:end])
    assert relay.recv().status == OK
    assert holds(s, 0, 3, 1)


@test
def an_odd_unknown_frame_does_not_derail_what_follows(server):
    relay = Relay(server.port)
    s = session(relay, "odd")
    assert s.place(0, 1).status == OK
    data = b""
    for i in range(1, 40):
        data += frame(500 + i, b"x" * i, 1000 + i) + frame(wire.STORE, s.store_frame(0, 1, [(i, 1, page(i, 1))]), i, 1)
    relay.send(data)
    for i in range(1, 40):
        assert relay.recv().status == wire.OP
        assert relay.recv().status == OK
    assert all(holds(s, 0, i, 1) for i in range(1, 40))


@test
def many_sessions_on_many_connections(server):
    relays = [Relay(server.port) for _ in range(8)]
    sessions = []
    for i in range(400):
        s = Session(relays[i % 8], struct.pack("<Q8x", i), slots=64, order=6)
        assert s.reply.status == OK
        sessions.append(s)
    for i, s in enumerate(sessions[:100]):
        assert s.reserve(64).status == OK
        assert s.place(0, 1).status == OK
        assert s.store(0, 1, [(i % 64, i + 1, page(i, i + 1))]).status == OK
    for i, s in enumerate(sessions[:100]):
        reply, pages = s.fetch(0, 1, [(i % 64, i + 1)])
        assert reply.status == OK and pages[i % 64][2] == page(i, i + 1)
    for s in sessions:
        assert s.detach().status == OK
    for relay in relays:
        relay.close()


@test
def more_than_there_is_is_refused_and_survived(server):
    relay = Relay(server.port)
    total = relay.stat()[0]
    s = Session(relay, b"greedy".ljust(16), slots=2 * total, order=6)
    assert s.reserve(total + 64).status == wire.NOSPACE
    free = total - relay.stat()[2]
    assert s.reserve(free).status == OK
    for extent in range(free // 64):
        assert s.place(extent, 1).status == OK, extent
    assert s.place(free // 64, 1).status == wire.NOSPACE
    for extent in range(free // 64):
        first = extent * 64
        assert s.store(extent, 1, [(first + i, 1, page(first + i, 1)) for i in range(32)]).status == OK
        assert s.store(extent, 1, [(first + i, 1, page(first + i, 1)) for i in range(32, 64)]).status == OK
    assert all(holds(s, slot // 64, slot, 1) for slot in range(0, free, 61))
    assert s.detach().status == OK


# ---- hostile peers -----------------------------------------------------------------------------------------------------


@test
def garbage_ends_its_connection_and_no_other(server):
    bystander = Bystander(server)
    before = server.ctl("status")["data"]["counters"]["connections_malformed"]
    rng = random.Random(1)
    for i in range(50):
        evil = Relay(server.port, hello=i % 2 == 0)
        evil.send(b"\0" * 32 if i == 0 else rng.randbytes(rng.randrange(32, 5000)))
        assert evil.closed(), i
        bystander.unharmed()
    after = server.ctl("status")["data"]["counters"]["connections_malformed"]
    assert after - before == 50, (before, after)
    server.wait_log(r"peer-violation peer=127\.0\.0\.1:\d+ reason=\"not a frame of this protocol\"")


@test
def frames_that_break_the_protocol_end_their_connection(server):
    bystander = Bystander(server)
    broken = [
        frame(wire.PING, magic=0x12345678),
        frame(wire.STORE, length=wire.MAX_BODY + 1),
        frame(wire.STORE, length=0xFFFFFFFF),
        frame(wire.PING, flags=0x8000),
        frame(wire.PING, status=3),
        frame(wire.PING, b"12345678"),
        frame(wire.PING | wire.REPLY),
        frame(wire.HELLO_OP, wire.HELLO.pack(1, 1, 0, 2, 0, 0, 0, 1, bytes(16), 0, 0)),
        frame(wire.FETCH, b"short"),
        frame(wire.FETCH, wire.IO.pack(0, 0, 1, 33, 0, 0) + bytes(33 * 16)),
        frame(wire.STORE, wire.IO.pack(0, 0, 1, 1, 0, 0) + bytes(40)),
        frame(wire.RETAIN, struct.pack("<II", 0, 0xFFFFFFFF)),
    ]
    for data in broken:
        evil = Relay(server.port)
        evil.send(data)
        assert evil.closed(), data[:40]
    bystander.unharmed()


@test
def a_peer_without_hello_is_not_served(server):
    evil = Relay(server.port, hello=False)
    evil.send(frame(wire.STAT_OP))
    assert evil.closed()
    evil = Relay(server.port, hello=False)
    reply = evil.hello(low=2, high=9)
    assert reply.status == wire.PROTO and evil.closed()


@test
def half_a_store_changes_nothing(server):
    s = session(Relay(server.port), "half")
    assert s.place(0, 1).status == OK
    assert s.store(0, 1, [(3, 1, page(3, 1))]).status == OK
    data = frame(wire.STORE, s.store_frame(0, 1, [(3, 2, page(3, 2)), (4, 1, page(4, 1))]), 1, 1)
    for cut in (10, 32, 50, 100, 2000, len(data) - 1):
        other = Relay(server.port)
        session(other, "half")
        other.send(data[:cut])
        other.close()
    s = session(Relay(server.port), "half")
    assert holds(s, 0, 3, 1)
    assert s.fetch(0, 1, [(4, 1)])[1][4][0] == wire.ABSENT


@test
def half_a_frame_holds_nobody_up(server):
    bystander = Bystander(server)
    idle = [Relay(server.port) for _ in range(10)]
    for relay in idle:
        relay.send(frame(wire.STORE, length=wire.MAX_BODY)[:20])
    bystander.unharmed()
    for relay in idle:
        relay.send(frame(wire.STORE, length=wire.MAX_BODY)[20:] + b"x" * 100)
    bystander.unharmed()


@test
def a_slow_reader_waits_alone_and_gets_what_it_asked_for(server):
    bystander = Bystander(server)
    slow = Relay(server.port)
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s = session(slow, "slow")
    assert s.place(0, 1).status == OK
    assert s.store(0, 1, [(i, 1, page(i, 1)) for i in range(32)]).status == OK
    ask = frame(wire.FETCH, s.want_frame(0, 1, [(i, 1) for i in range(32)]), 7, 1)
    slow.sock.setblocking(False)
    sent, stuck = b"", 0
    while stuck < 3 and len(sent) < 64 << 20:       # the server stops reading long before 64 MiB of requests
        try:
            done = slow.sock.send((ask * 100)[len(sent) % len(ask):])
            sent += (ask * 101)[len(sent) % len(ask):][:done]
            stuck = 0
        except BlockingIOError:
            stuck += not wire.select.select([], [slow.sock], [], 0.3)[1]
    assert stuck == 3, "the server reads without end from a peer that takes nothing"
    queued = max(peer["queued_bytes"] for peer in server.ctl("peers")["data"])
    assert 1 << 20 <= queued <= 4 << 20, queued
    bystander.unharmed()
    # The session's next connection changes every page: what was asked for before stays what it was.
    other = session(Relay(server.port), "slow")
    assert other.store(0, 1, [(i, 2, page(i, 2)) for i in range(32)]).status == OK
    slow.sock.setblocking(True)
    slow.sock.settimeout(20)
    whole, good, late = len(sent) // len(ask), 0, 0
    for _ in range(whole):
        reply = slow.recv()
        if reply.status == OK:
            pages = wire.fetched(reply)
            assert not late and all(pages[i][2] == page(i, 1) for i in range(32))
            good += 1
        else:                                   # read when the next connection had the session
            assert reply.status == wire.FENCED_S
            late += 1
    assert good >= 8 and late, (good, late)


@test
def nobody_waits_for_all_that_one_may_ask(_):
    """Questions that are short and long to answer (are these pages good?), a bufferful of them: others get their turn between."""
    own = Server(memory="16M")
    asker, other = Relay(own.port, timeout=120.0), Relay(own.port)
    s = session(asker, "much", slots=512, order=9)
    assert s.place(0, 1).status == OK
    for first in range(0, 512, 32):
        assert s.store(0, 1, [(slot, 1, page(slot, 1)) for slot in range(first, first + 32)]).status == OK
    pin = struct.pack("<16s16sIIQ", s.vm, s.id, 0, 0, 1) + s.record(0, 1) + struct.pack("<Q", 1) * 512
    pins = 100
    for _ in range(30):
        before = own.ctl("status")["data"]["counters"]["pins"]
        asker.send(b"".join(frame(wire.PIN, pin, tag=1000 + i, epoch=1) for i in range(pins)))
        until(lambda: own.ctl("status")["data"]["counters"]["pins"] > before)
        other.stat()
        served = own.ctl("status")["data"]["counters"]["pins"] - before
        assert all(asker.recv().status == OK for _ in range(pins))
        if served < pins:
            break
    assert served < pins, "another connection was answered when all of them were"
    assert own.ctl("status")["data"]["counters"]["pins"] == before + pins
    asker.send(b"".join(frame(wire.PIN, pin, tag=1000 + i, epoch=1) for i in range(pins)))
    asker.sock.shutdown(socket.SHUT_WR)             # what was asked before the end is answered
    assert all(asker.recv().status == OK for _ in range(pins)) and asker.closed()
    assert own.stop() == 0


@test
def connections_beyond_the_limit_are_refused(_):
    own = Server("--lock", "no", config="[server]\nlisten = 127.0.0.1:0\nmemory = 8M\nmax_connections = 3\n")
    relays = [Relay(own.port) for _ in range(3)]
    refused = Relay(own.port, hello=False)
    assert refused.closed()
    own.wait_log(r"peer-refused .*max_connections = 3")
    relays.pop().close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            relays.append(Relay(own.port))
            break
        except wire.Closed:                     # the server has not seen yet that one went
            continue
    assert len(relays) == 3
    assert own.stop() == 0


@test
def without_descriptors_it_rests_and_goes_on(_):
    own = Server()
    pid, taken = own.proc.pid, {int(fd) for fd in os.listdir(f"/proc/{own.proc.pid}/fd")}
    free = min(set(range(len(taken) + 1)) - taken)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    began, waiting = time.monotonic(), Relay(own.port, hello=False)
    for _ in range(5):                              # it looks again after a tenth of a second, and not at once
        own.wait_log(r"accept-failed .*Too many open files")
    assert time.monotonic() - began > 0.35
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert session(Relay(own.port), "late").place(0, 1).status == OK
    waiting.close()
    assert own.stop() == 0


@test
def a_peer_that_says_nothing_is_cut_off(server):
    silent = Relay(server.port, hello=False)
    assert silent.closed()
    server.wait_log(r"peer-timeout .*sent no HELLO")


# ---- start and end -----------------------------------------------------------------------------------------------------


@test
def sigterm_answers_what_has_arrived_and_ends_with_0(_):
    own = Server()
    s = session(Relay(own.port), "drain")
    assert s.place(0, 1).status == OK
    stores = b"".join(frame(wire.STORE, s.store_frame(0, 1, [(i, 1, page(i, 1))]), i, 1) for i in range(64))
    own.signal(signal.SIGSTOP)                  # so that all of it is in hand when the signal comes
    s.relay.send(stores)
    own.signal(signal.SIGTERM)
    own.signal(signal.SIGCONT)
    for i in range(64):
        reply = s.relay.recv()
        assert reply.tag == i and reply.status == OK
    assert s.relay.closed()
    assert own.stop() == 0
    try:
        Relay(own.port)
        raise AssertionError("still listening")
    except (ConnectionRefusedError, ConnectionResetError, wire.Closed):
        pass


@test
def sigterm_does_not_wait_for_one_who_takes_nothing(_):
    own = Server()
    s = session(Relay(own.port), "stuck")
    assert s.place(0, 1).status == OK
    assert s.store(0, 1, [(i, 1, page(i, 1)) for i in range(32)]).status == OK
    s.relay.sock.setblocking(False)
    ask = frame(wire.FETCH, s.want_frame(0, 1, [(i, 1) for i in range(32)]), 7, 1)
    while wire.select.select([], [s.relay.sock], [], 0.3)[1]:
        s.relay.sock.send(ask)
    own.signal(signal.SIGTERM)
    assert own.proc.wait(30) == 0
    assert own.stop() == 0


@test
def sighup_changes_memory_and_domain(_):
    text = "[server]\nlisten = 127.0.0.1:0\nmemory = {}\ndomain = {}\nlock = no\n"
    own = Server(config=text.format("8M", "rack1"))
    relay = Relay(own.port)
    assert relay.stat()[0] == 31 * 64 and relay.stat()[6].rstrip(b"\0") == b"rack1"

    def reload(content, pattern):
        with open(own.config, "w", encoding="ascii") as file:
            file.write(content)
        own.signal(signal.SIGHUP)
        return own.wait_log(pattern)

    reload(text.format("16M", "rack2"), r"\breloaded\b")
    assert relay.stat()[0] == 63 * 64 and relay.stat()[6].rstrip(b"\0") == b"rack2"
    s = session(relay, "grown", slots=60 * 64)
    for extent in range(60):
        assert s.place(extent, 1).status == OK
        assert s.store(extent, 1, [(extent * 64, 1, page(extent, 1))]).status == OK
    reload(text.format("2M", "rack2"), r"\breloaded\b")
    assert relay.stat()[0] == 7 * 64
    reply, pages = s.fetch(59, 1, [(59 * 64, 1)])   # what is held stays
    assert reply.status == OK and pages[59 * 64][2] == page(59, 1)
    line = reload("[server]\nmemory = 1T\nmemroy = 2\n", r"reload-failed")
    assert "memroy: unknown key" in line, line
    assert relay.stat()[0] == 7 * 64
    assert own.stop() == 0


@test
def the_limit_is_set_at_run_time(_):
    text = "[server]\nlisten = 127.0.0.1:0\nmemory = {}\nlock = no\npressure = {}\n"
    own = Server(config=text.format("8M", 0))
    relay = Relay(own.port)
    s = session(relay, "limited", slots=16 * 64)
    for extent in range(8):
        assert s.place(extent, 1).status == OK
    assert relay.stat()[0] == 31 * 64 and relay.stat()[3] == 0
    limited = own.ctl("limit", bytes=1 << 20)["data"]
    assert (limited["pages_limit"], limited["pages_total"], limited["pages_asked"]) == (3 * 64, 3 * 64, 5 * 64), limited
    assert relay.stat()[0] == 3 * 64 and relay.stat()[3] == 5 * 64     # total, asked back
    assert s.place(8, 1).status == wire.NOSPACE
    assert holds_nothing_less(s, 8)
    assert relay.ask(wire.FREE, struct.pack("<IIIIQ", s.handle, 1, 0, 0, 1), 1).status == OK
    assert own.ctl("status")["data"]["pages_asked"] == 4 * 64
    assert not own.ctl("limit", bytes="much")["ok"] and not own.ctl("limit", bytes=-1)["ok"]
    assert not own.ctl("limit", bytes=1 << 60)["ok"]
    assert own.ctl("limit")["data"]["pages_limit"] == 3 * 64
    own.wait_log(r"limit limit_mib=1 by=command")
    # The file that is read again and says the same leaves it; another value in it takes its place.
    own.signal(signal.SIGHUP)
    own.wait_log(r"\breloaded\b")
    assert own.ctl("limit")["data"]["pages_limit"] == 3 * 64
    with open(own.config, "w", encoding="ascii") as file:
        file.write(text.format("4M", 0))
    own.signal(signal.SIGHUP)
    own.wait_log(r"\breloaded\b")
    assert own.ctl("limit")["data"]["pages_limit"] == 15 * 64
    own.ctl("limit", bytes=2 << 20)
    back = own.ctl("limit", default=True)["data"]
    assert back["pages_limit"] == back["pages_configured"] == 15 * 64, back
    assert own.stop() == 0


def holds_nothing_less(s, extents):
    return all(s.place(extent, 2).status == OK for extent in range(1, extents))


@test
def memory_goes_back_to_the_host_when_it_is_freed(_):
    own = Server(memory="32M")
    s = session(Relay(own.port), "shrinks", slots=64 * 64)
    for extent in range(64):
        assert s.place(extent, 1).status == OK
        for first in (0, 32):
            slots = [extent * 64 + first + i for i in range(32)]
            assert s.store(extent, 1, [(slot, 1, page(slot, 1)) for slot in slots]).status == OK
    assert own.memory_kib() >= 64 * 256, own.memory_kib()
    for extent in range(32):
        assert s.relay.ask(wire.FREE, struct.pack("<IIIIQ", s.handle, 1, extent, 0, 1), 1).status == OK
    until(lambda: own.memory_kib() <= 32 * 256, own.memory_kib)
    assert all(holds(s, extent, extent * 64 + 63, 1) for extent in range(32, 64))
    assert own.stop() == 0


def until(condition, tell=lambda: "", timeout=30):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, tell()
        time.sleep(0.02)


def available():
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(re.search(r"MemAvailable: +(\d+)", file.read()).group(1)) << 10


@test
def a_host_with_too_little_available_gets_memory_back(_):
    text = "[server]\nlisten = 127.0.0.1:0\nmemory = 32M\nlock = no\npressure = 0\nmin_available = {}\n"
    own = Server(config=text.format(0))
    relay = Relay(own.port)
    s = session(relay, "host", slots=64 * 64)
    for extent in range(64):
        assert s.place(extent, 1).status == OK

    def floor(size):
        with open(own.config, "w", encoding="ascii") as file:
            file.write(text.format(size))
        own.signal(signal.SIGHUP)
        own.wait_log(r"\breloaded\b")

    # More than the host has: all of it is wanted back.
    floor(available() + (4 << 30))
    own.wait_log(r"pressure cause=memory allowed_mib=0")
    status = own.ctl("status")["data"]
    assert status["pressed"] and status["pages_total"] == 0 and status["pages_asked"] == 64 * 64, status
    assert status["pages_limit"] == 126 * 64 and status["counters"]["pressed"] == 1, status
    assert s.place(0, 2).status == OK               # what is held stays
    floor(0)
    status = own.ctl("status")["data"]
    assert not status["pressed"] and status["pages_total"] == 126 * 64 and status["pages_asked"] == 0, status
    assert own.stop() == 0


@test
def stalls_of_the_host_are_watched(_):
    if os.access("/proc/pressure/memory", os.R_OK):
        own = Server("--pressure", "100ms")
        assert re.search(r"pressure-watched by=(trigger|reading) file=/proc/pressure/memory stall_us=100000", own.first_lines)
        assert own.stop() == 0
    own = Server("--pressure", "100ms", env={"MEMORY_PRESSURE_WATCH": "/nonexistent/pressure"})
    assert re.search(r"pressure-unwatched file=/nonexistent/pressure reason=.No such file", own.first_lines), own.first_lines
    assert holds_a_page(own) and own.stop() == 0


def holds_a_page(server):
    s = session(Relay(server.port), "one", slots=64)
    return s.place(0, 1).status == OK and s.store(0, 1, [(0, 1, page(0, 1))]).status == OK and holds(s, 0, 0, 1)


@test
def each_stall_takes_a_step_back(_):
    fifo = scratch("pressure")
    os.mkfifo(fifo)
    own = Server("--pressure", "100ms", memory="64M", env={"MEMORY_PRESSURE_WATCH": fifo})
    assert "pressure-watched by=fifo" in own.first_lines, own.first_lines
    relay = Relay(own.port)
    s = session(relay, "stalled", slots=128 * 64)
    for extent in range(128):
        assert s.place(extent, 1).status == OK
    with open(fifo, "wb", buffering=0) as sign:
        sign.write(b"x")
        own.wait_log(r"pressure cause=stalls allowed_mib=28 used_mib=32 limit_mib=64")
        assert relay.stat()[3] == 1024              # a step: 4 MiB
        sign.write(b"y")                            # too early for the next
        assert own.ctl("status")["data"]["pages_asked"] == 1024
        until(lambda: sign.write(b"z") and relay.stat()[3] > 1024)
    own.wait_log(r"pressure cause=stalls allowed_mib=24")
    assert own.ctl("status")["data"]["counters"]["pressed"] == 2
    assert own.stop() == 0


def poor():
    """In the child: as an ordinary user, who may not lock more memory than the limit says. It stays who it is: others may not
    even get at the program."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    if os.geteuid() == 0 and LIBC.prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "CAP_IPC_LOCK cannot be dropped")


@test
def memory_that_cannot_be_locked_is_said(_):
    folder = scratch("x")[:-2]
    own = Server("--lock", "try", before=poor)
    assert "LimitMEMLOCK" in own.first_lines, own.first_lines
    assert not own.ctl("status")["data"]["locked"] and holds_a_page(own)
    assert own.stop() == 0
    proc = subprocess.run([wire.program(), "--listen", "127.0.0.1:0", "--memory", "8M", "--lock", "yes", "--id-file", folder + "/id",
                           "--control", folder + "/c"], preexec_fn=poor, capture_output=True, text=True, timeout=60, check=False)
    assert proc.returncode == 1 and "store-failed" in proc.stderr and "ulimit -l" in proc.stderr, proc


@test
def huge_pages_that_are_not_there_are_said(_):
    folder = scratch("x")[:-2]
    with open("/proc/meminfo", encoding="ascii") as file:
        free = int(re.search(r"HugePages_Free: +(\d+)", file.read()).group(1))
    more = f"{2 * free + 8}M"                       # than is in the pool
    proc = run("--listen", "127.0.0.1:0", "--memory", more, "--huge", "yes", "--id-file", folder + "/id", "--control", folder + "/c")
    assert proc.returncode == 1 and "nr_hugepages" in proc.stderr, proc
    own = Server("--huge", "try", memory=more)
    assert not own.ctl("status")["data"]["huge"] and holds_a_page(own)
    assert own.stop() == 0


@test
def the_id_stays_and_the_instance_changes(_):
    own = Server()
    first = Relay(own.port)
    args = ("--id-file", own.dir + "/id")
    assert own.stop() == 0
    again = Server(*args)
    second = Relay(again.port)
    assert first.donor == second.donor != bytes(16)
    assert first.instance != second.instance and second.instance
    assert again.stop() == 0


@test
def a_port_in_use_is_said(server):
    proc = run("--listen", f"127.0.0.1:{server.port}", "--memory", "8M", "--id-file", scratch("id"), "--control", scratch("c"))
    assert proc.returncode == 1 and "listen-failed" in proc.stderr and "in use" in proc.stderr, proc.stderr


@test
def a_spoilt_id_file_is_said_and_kept(_):
    path = scratch("id")
    with open(path, "w", encoding="ascii") as file:
        file.write("not an id\n")
    proc = run("--listen", "127.0.0.1:0", "--memory", "8M", "--id-file", path, "--control", scratch("c"))
    assert proc.returncode == 1 and "id-file-failed" in proc.stderr, proc.stderr
    with open(path, encoding="ascii") as file:
        assert file.read() == "not an id\n"


SYSTEMS_ID = "0123456789abcdef" * 2


def fresh_machine(flags, stranger=False):
    """In the child: /var/lib and /run, mounted with @flags, and /mnt are empty. A stranger finds the system's id there, which
    everybody may read, and is not who may write it."""
    uid, gid = os.geteuid(), os.getegid()
    if LIBC.unshare(CLONE_NEWNS):
        if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "no namespaces")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{int(stranger)} {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    if LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "mounts cannot be made private")
    for place, how in ((b"/var/lib", flags), (b"/run", flags), (b"/mnt", 0)):
        if LIBC.mount(b"tmpfs", place, b"tmpfs", how, None):
            raise OSError(ctypes.get_errno(), f"{place} cannot be covered")
    if stranger:
        os.mkdir("/var/lib/memx-server")
        with open("/var/lib/memx-server/server.id", "w", encoding="ascii") as file:
            file.write(SYSTEMS_ID + "\n")
        os.chmod("/var/lib/memx-server/server.id", 0o444)
        os.chmod("/var/lib/memx-server", 0o555)
        if not os.geteuid():
            os.setresuid(65534, 65534, 65534)       # the rights go with it; in a namespace they go with the next exec()


class Bare:
    """memx-server as the manual's first line starts it, on a machine where it never ran."""

    def __init__(self, flags, stranger=False, **env):
        try:
            subprocess.run(["true"], preexec_fn=lambda: fresh_machine(flags, stranger), check=True)
        except subprocess.SubprocessError:
            raise Skip("neither root nor user namespaces here") from None
        env = {**{k: v for k, v in os.environ.items() if not k.startswith("XDG_") and k != "HOME"}, **env}
        fd = os.open(wire.program(), os.O_RDONLY)       # it may lie below what is covered
        self.proc = subprocess.Popen(["memx-server", "--memory", "8M", "--listen", "127.0.0.1:0"], executable=f"/proc/self/fd/{fd}",
                                     stderr=subprocess.PIPE, text=True, env=env, pass_fds=[fd],
                                     preexec_fn=lambda: fresh_machine(flags, stranger))
        os.close(fd)
        self.log = ""
        while " started " not in self.log:
            line = self.proc.stderr.readline()
            print(f"# server: {line}", end="", file=sys.stderr, flush=True)
            assert line, f"ended with {self.proc.wait()}"
            self.log += line
        self.id = re.search(r" id=([0-9a-f]{32})", self.log).group(1)

    def kept_id(self, path):
        with open(f"/proc/{self.proc.pid}/root{path}", encoding="ascii") as file:
            return file.read().strip()

    def controlled_at(self, path):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(f"/proc/{self.proc.pid}/root{path}")
            sock.sendall(b'{"cmd":"status"}\n')
            return json.loads(sock.makefile().readline())["data"]["id"] == self.id

    def stop(self):
        self.proc.terminate()
        self.proc.stderr.close()
        return self.proc.wait(30)


@test
def it_makes_its_folders_by_itself(_):
    own = Bare(0)
    assert own.kept_id("/var/lib/memx-server/server.id") == own.id and "id-not-kept" not in own.log, own.log
    assert own.controlled_at("/run/memx-server/server.sock")
    assert own.stop() == 0


@test
def where_it_may_not_write_it_uses_the_places_of_its_user(_):
    own = Bare(MS_RDONLY, XDG_STATE_HOME="/mnt/state", XDG_RUNTIME_DIR="/mnt")
    assert own.kept_id("/mnt/state/memx-server/server.id") == own.id, own.log
    assert own.controlled_at("/mnt/memx-server/server.sock")
    assert own.stop() == 0
    own = Bare(MS_RDONLY, HOME="/mnt")
    assert own.kept_id("/mnt/.local/state/memx-server/server.id") == own.id, own.log
    assert "control-failed" in own.log and own.stop() == 0, own.log


@test
def an_id_that_it_can_only_read_is_another_donors(_):
    own = Bare(0, stranger=True, XDG_STATE_HOME="/mnt/state")
    assert own.id != SYSTEMS_ID and own.kept_id("/mnt/state/memx-server/server.id") == own.id, own.log
    assert own.kept_id("/var/lib/memx-server/server.id") == SYSTEMS_ID
    assert own.stop() == 0


@test
def with_nowhere_to_write_it_serves_with_an_id_of_the_moment(_):
    first, second = Bare(MS_RDONLY), Bare(MS_RDONLY)
    assert "id-not-kept" in first.log and "--id-file" in first.log and first.id != second.id, first.log
    assert first.stop() == 0 and second.stop() == 0


@test
def the_service_manager_is_kept_informed(_):
    path = scratch("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(30)
        own = Server(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        ready = manager.recv(4096).decode()
        assert "READY=1" in ready and "STATUS=" in ready, ready
        beats = [manager.recv(4096).decode() for _ in range(3)]
        assert all("WATCHDOG=1" in beat for beat in beats), beats
        own.signal(signal.SIGTERM)
        while "STOPPING=1" not in manager.recv(4096).decode():
            pass
        assert own.stop() == 0


@test
def the_control_socket_answers(server):
    status = server.ctl("status")
    assert status["ok"] and status["data"]["role"] == "donor" and status["data"]["port"] == server.port
    relay = Relay(server.port)
    s = session(relay, "seen", slots=64)
    mine = [x for x in server.ctl("sessions")["data"] if bytes.fromhex(x["session"]) == s.id]
    assert len(mine) == 1 and mine[0]["pages_reserved"] == 64 and mine[0]["relays"] == 1, mine
    assert not server.ctl("nonsense")["ok"]
    assert not server.ctl("session-free", vm="x")["ok"]
    assert "force" in server.ctl("session-free", vm=mine[0]["vm"], session=mine[0]["session"])["error"]
    assert s.place(0, 1).status == OK
    freed = server.ctl("session-free", vm=mine[0]["vm"], session=mine[0]["session"], force=True)
    assert freed["ok"], freed
    assert s.place(0, 1).status == wire.UNKNOWN
    assert not server.ctl("session-free", vm=mine[0]["vm"], session=mine[0]["session"], force=True)["ok"]
    s = session(relay, "left", slots=64)
    relay.close()                                   # nobody has it open any more, once the server has seen that
    until(lambda: server.ctl("session-free", vm=mine[0]["vm"], session=s.id.hex())["ok"])


# ---- settings ----------------------------------------------------------------------------------------------------------


def scratch(name):
    return os.path.join(tempfile.mkdtemp(dir=os.environ.get("MEMX_TMP")), name)


def run(*args):
    return subprocess.run([wire.program(), *args], capture_output=True, text=True, timeout=60, check=False)


GOOD = "[server]\nlisten = 127.0.0.1:0\nmemory = 8M\n"
KEYS = "listen, memory, domain, id_file, control, session_quota, lock, huge, pressure, min_available, reclaim_wait, self_drop, max_connections, max_sessions, log_level"
MISTAKES = [
    (GOOD + "memroy = 4G\n", f"FILE:4: [server] memroy: unknown key; accepted: {KEYS}"),
    (GOOD + "memory = 4G\n", "FILE:4: [server] memory: given before, in line 3; accepted: once"),
    ("[server]\nmemory = lots\n",
     'FILE:2: [server] memory: "lots" is not understood or out of range; accepted: a size such as 512M or 4G, at least 1 MiB, '
     "at most 64 TiB"),
    (GOOD + "lock = maybe\n", 'FILE:4: [server] lock: "maybe" is not understood or out of range; accepted: no, yes, try'),
    (GOOD + "control = server.sock\n", "FILE:4: [server] control:"),
    (GOOD + "max_connections = 0\n", "FILE:4: [server] max_connections:"),
    ("[server]\nlisten = 127.0.0.1\n", "FILE:2: [server] listen:"),
    (GOOD + "domain = a b\n", 'FILE:4: [server] domain: "a b" is not a label; accepted: 1 to 31 letters, digits, - _ .'),
    (GOOD + "[guest a]\n", "FILE:4: [guest a]: unknown section; accepted: [server]"),
    ("[server]\nlisten = 127.0.0.1:0\n", "FILE:1: [server] memory: not given; accepted: a size such as 4G"),
    ("[server]\nmemory = 8M\n", "FILE:1: [server] listen: not given; accepted: ADDR:PORT"),
    ("# nothing\n", "FILE:1: [server] memory: not given"),
    ("# MemX\n[server]\nlisten = 127.0.0.1:0\n", "FILE:2: [server] memory: not given"),
    ("[server]\nlisten = 999.2.3.4:7700\nmemory = 8M\n", "FILE:2: [server] listen:"),
    ("[server]\nmemory = 8M\nlisten = -such..invalid:7700\n",
     'FILE:3: [server] listen: "-such..invalid": Name or service not known; accepted: ADDR:PORT of this host'),
    ("[server]\nlisten = 127.0.0.1:0\nmemory = 60T\n", "FILE:3: [server] memory: 60 TiB is more than this host has"),
]


@test
def mistakes_in_the_file_are_one_line_and_status_2(_):
    for content, expected in MISTAKES:
        path = scratch("server.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(content)
        for args in (("--config", path), ("--config", path, "--check")):
            proc = run(*args)
            line = expected.replace("FILE", path)
            assert proc.returncode == 2, (content, proc)
            assert proc.stderr.count("\n") == 1 and line in proc.stderr, (content, proc.stderr, line)


@test
def mistakes_on_the_command_line_have_status_2(_):
    for args, expected in (
            (("--memory", "x"), "command line: memory:"), (("--listen", "nowhere"), "command line: listen:"),
            (("--memory", "8M"), "memx-server: command line: [server] listen: not given"), (("--lock", "si"), "accepted: no, yes, try"),
            (("--frobnicate",), "--help"), (("extra",), "unexpected argument"), (("--config", "/nonexistent"), "cannot be read"),
            (("--config", "/etc"), "/etc: cannot be read: Is a directory"), (("--memory", "8M", "--listen", "-a..b:1"), "listen: "),
            (("--memory", "8M", "--listen", "-a..b:1", "--check"), "listen: ")):
        proc = run(*args)
        assert proc.returncode == 2 and expected in proc.stderr, (args, proc)


@test
def settings_can_be_checked_and_the_version_asked(_):
    path = scratch("server.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(GOOD + "domain = rack-7.b\nsession_quota = 1G\nlock = yes\nhuge = no\nlog_level = debug\n")
    assert run("--check", "--config", path).returncode == 0
    example = os.path.join(os.path.dirname(__file__), "..", "server.conf")
    proc = run("--check", "--config", example, "--memory", "8M")
    assert proc.returncode == 0, proc.stderr
    assert run("--version").stdout.startswith("memx-server ")
    assert "--memory" in run("--help").stdout


def main():
    print(f"1..{len(TESTS) + 1}")
    failed = 0
    server = Server(memory="32M")
    for number, function in enumerate(TESTS, 1):
        name = function.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            function(server)
            sweep(server)
            print(f"ok {number} - {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc()
            sweep(server)
            failed += 1
            print(f"not ok {number} - {name}", flush=True)
        print(f"# {time.monotonic() - started:.2f} s {name}", file=sys.stderr, flush=True)
    status = server.stop()
    failed += status != 0
    print(f"{'ok' if status == 0 else 'not ok'} {len(TESTS) + 1} - the server that went through all of it ends well")
    sys.exit(failed != 0)


main()
