#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The relay as a process: its configuration, signals and control socket, and memxctl beside it. Prints TAP."""

import contextlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BIN, Cluster, Process, check, equal, run, until     # noqa: E402

RELAY = os.path.join(BIN, "memx-dom0-relay")


def refused(text, want):
    """The configuration @text ends the relay with status 2 and one line on stderr."""
    with Cluster() as c:
        with open(c.conf, "w", encoding="ascii") as file:
            file.write(text)
        for extra in ([], ["--check"]):
            done = subprocess.run([RELAY, "--config", c.conf, *extra], capture_output=True, text=True, check=False, timeout=60)
            equal(done.returncode, 2, f"exit status for {text!r}")
            equal(done.stderr, f"{c.conf}{want}\n", f"message for {text!r}")


def configuration_mistakes_are_one_line():
    refused("[relay]\n[donor d0]\nadress=x:1\n", ":3: [donor d0] adress: unknown key; accepted: address, drain")
    refused("[donor d0]\n", ":1: [donor d0] address: missing; accepted: HOST:PORT, for example 192.0.2.1:7700 or [2001:db8::1]:7700")
    refused("[donor a]\naddress=*:7700\n", ':2: [donor a] address: "*:7700" is nothing to connect to; accepted: HOST:PORT')
    refused("[donor a]\naddress=h:1\n[donor b]\naddress=H:1\n",
            ":4: [donor b] address: the same as that of [donor a]; accepted: one section per donor")
    refused("[guest g]\n", ":1: [guest g] quota: missing; accepted: a size such as 512M or 4G, at least 1 MiB, at most 16 TiB")
    refused("[guest g]\nquota=12X\n",
            ':2: [guest g] quota: "12X" is not understood or out of range; accepted: a size such as 512M or 4G, at least 1 MiB, at most 16 TiB')
    refused("[guest g]\nquota=1G\nreplicas=9\n",
            ':3: [guest g] replicas: "9" is not understood or out of range; accepted: a number from 1 to 3')
    refused("[guest a]\nname=x\nquota=1G\n[guest x]\nquota=1G\n",
            ":4: [guest x] name: the same as that of [guest a]; accepted: one section per guest")
    refused("[guest a]\nname=x\nuuid=00000000-0000-0000-0000-000000000001\nquota=1G\n",
            ":2: [guest a] name: given beside uuid; accepted: one of them")
    refused("[guest a]\nuuid=00000000-0000-0000-0000-000000000000\nquota=1G\n",
            ':2: [guest a] uuid: "00000000-0000-0000-0000-000000000000" is not understood or out of range; '
            "accepted: a UUID of the form 01234567-89ab-cdef-0123-456789abcdef, not all zeros")
    refused("[relay]\nextent=3M\n", ":2: [relay] extent: not a power of two; accepted: 256K, 512K, 1M, 2M, 4M ... 64M")
    refused("[relay]\nheartbeat=1s\ndonor_timeout=1s\n",
            ":3: [relay] donor_timeout: shorter than two heartbeats; accepted: at least 2000ms")
    refused("[relay]\nlog=info\nheartbeat=1s\n",
            ":3: [relay] heartbeat: longer than half of donor_timeout; accepted: at most 300ms, or a longer donor_timeout")
    refused("[donor a]\naddress=999.2.3.4:7700\n", ':2: [donor a] address: "999.2.3.4:7700" is not understood or out of range; '
            "accepted: HOST:PORT, for example 192.0.2.1:7700 or [2001:db8::1]:7700")
    refused("[relay]\nxenstore=perhaps\n", ':2: [relay] xenstore: "perhaps" is not understood or out of range; accepted: yes or no')
    refused("[relais]\n", ":1: [relais]: unknown section; accepted: [relay], [donor NAME], [guest NAME]")


def configuration_example_is_good():
    example = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "relay.conf")
    done = subprocess.run([RELAY, "--config", example, "--check"], capture_output=True, text=True, check=False, timeout=60)
    equal((done.returncode, done.stderr), (0, ""), "--check of the example")
    check("2 donors, 1 guests" in done.stdout, done.stdout)


def configuration_file_missing():
    done = subprocess.run([RELAY, "--config", "/nonexistent/relay.conf"], capture_output=True, text=True, check=False, timeout=60)
    equal((done.returncode, done.stderr), (2, "/nonexistent/relay.conf: cannot be read: No such file or directory\n"), "a missing file")
    done = subprocess.run([RELAY, "--config", "/etc"], capture_output=True, text=True, check=False, timeout=60)
    equal((done.returncode, done.stderr), (2, "/etc: cannot be read: Is a directory\n"), "a folder")


def options():
    for words, status in ((["--help"], 0), (["--version"], 0), (["--nonsense"], 2), (["word"], 2)):
        done = subprocess.run([RELAY, *words], capture_output=True, text=True, check=False, timeout=60)
        equal(done.returncode, status, f"exit status of {words}")


def no_xenstore_says_so():
    with Cluster() as c:
        if os.path.exists("/proc/xen/capabilities"):
            return
        with open(c.conf, "w", encoding="ascii") as file:
            file.write(f"[relay]\ncontrol={c.control}\nid_file={c.path('id')}\n")
        relay = Process([RELAY, "--config", c.conf], c.path("log"))
        equal(relay.wait(), 1, "exit status without XenStore")
        check("is this a Xen Dom0" in relay.log() and "xenstore=no" in relay.log(), relay.log())


def sigterm_ends_in_good_order():
    with Cluster() as c:
        c.configure()
        relay = c.relay()
        mode = os.stat(c.control).st_mode
        check(stat.S_ISSOCK(mode) and mode & 0o777 == 0o660, f"mode of the control socket: {mode:o}")
        equal(relay.stop(), 0, "exit status after SIGTERM")
        check(not os.path.exists(c.control) and not os.path.exists(c.shm), "a socket was left behind")
        equal(relay.log().count(" stopped "), 1, "the line that it stopped")


def notifies_the_service_manager():
    with Cluster() as c:
        path = c.path("notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(path)
            sock.settimeout(60)
            c.configure()
            env = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC="300000")
            relay = c.relay_process = Process([RELAY, "--config", c.conf], c.path("relay.log"), env)
            seen = ""
            while seen.count("WATCHDOG=1") < 4:
                seen += sock.recv(4096).decode() + "\n"
            check("READY=1" in seen and "STATUS=0 guests attached" in seen, seen)
            relay.signal(signal.SIGTERM)
            while "STOPPING=1" not in seen:
                seen += sock.recv(4096).decode() + "\n"
            equal(relay.wait(), 0, "exit status")


def id_is_kept():
    with Cluster() as c:
        c.configure()
        c.relay()
        first = c.ctl("status")["id"]
        c.relay_process.stop()
        c.relay()
        equal(c.ctl("status")["id"], first, "the relay's id after a restart")


def one_relay_per_socket():
    with Cluster() as c:
        c.configure()
        c.relay()
        other = Process([RELAY, "--config", c.conf], c.path("other.log"))
        equal(other.wait(), 1, "exit status of the second relay")
        check("another relay listens there" in other.log(), other.log())
        check(c.try_ctl("status"), "the first one still answers")


def killed_relay_leaves_nothing_in_the_way():
    with Cluster() as c:
        c.configure()
        c.relay().kill()
        check(os.path.exists(c.control), "the killed relay's socket")
        c.relay()
        check(c.try_ctl("status"), "the new one answers")


def reload_adds_and_refuses():
    with Cluster() as c:
        c.server("d0")
        c.configure(donors=[])
        relay = c.relay()
        equal(c.ctl("donors"), [], "donors at first")
        c.configure()
        relay.signal(signal.SIGHUP)
        c.donors_up(1)
        with open(c.conf, "a", encoding="ascii") as file:
            file.write("nonsense\n")
        relay.signal(signal.SIGHUP)
        until(lambda: "reload-refused" in relay.log(), "the bad configuration is refused")
        check("effect=" in relay.log(), relay.log())
        equal(len(c.ctl("donors")), 1, "donors after a bad configuration")
        c.configure(donors=[], relay="staging=8M")
        relay.signal(signal.SIGHUP)
        until(lambda: c.ctl("donors") == [], "the donor is gone from the list")
        check("reload-later" in relay.log() and "reload-partial" not in relay.log(), relay.log())
        c.configure(donors=[], relay="staging=8M\nlog=info")
        with open(c.conf, encoding="ascii") as file:
            text = file.read().replace("xenstore=no", "xenstore=yes")
        with open(c.conf, "w", encoding="ascii") as file:
            file.write(text)
        relay.signal(signal.SIGHUP)
        until(lambda: "reload-partial" in relay.log(), "what needs a restart is said")
        equal(relay.stop(), 0, "exit status")


def donor_by_name():
    with Cluster() as c:
        c.server("d0")
        c.configure()
        with open(c.conf, encoding="ascii") as file:
            text = file.read().replace("127.0.0.1", "localhost")
        with open(c.conf, "w", encoding="ascii") as file:
            file.write(text + "[donor ghost]\naddress=no-such-host.invalid:1\n")
        c.relay()
        c.donors_up(1)
        until(lambda: "resolved" in next(d for d in c.ctl("donors") if d["name"] == "ghost")["reason"], "the reason is shown")


@contextlib.contextmanager
def played_donor():
    """A relay, and the listening socket of its only donor."""
    with Cluster() as c, socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.settimeout(60)
        c.ports["d0"] = sock.getsockname()[1]
        c.configure()
        c.relay()
        yield c, sock


def donor_that_is_none():
    """Something else listens at a donor's address."""
    with played_donor() as (c, sock):
        conn, _ = sock.accept()
        with conn:
            conn.sendall(b"220 mail.example ESMTP ready, and more than thirty-two bytes\r\n")
            until(lambda: c.counter("donor_violations") == 1, "the violation is counted")
        state = c.ctl("donors")[0]
        check(state["state"] in ("connecting", "hello"), state["state"])
        check("magic" in state["reason"] or "header" in state["reason"], state["reason"])


def donor_that_hangs_up():
    """It says who it is and hangs up, each time: it is asked less and less often, however soon it accepts."""
    with played_donor() as (c, sock):
        hello = struct.pack("<HHHBBQQQ16sBB14s", 1, 1, 1, 3, 0, 0, 0, 77, b"d" * 16, 0, 0, bytes(14))
        for _ in range(6):
            conn, _ = sock.accept()
            with conn:
                began = time.monotonic()
                asked = conn.recv(96, socket.MSG_WAITALL)
                head = struct.pack("<4sHHIIQQ", b"MEMX", 0x8001, 0, len(hello), 0, struct.unpack_from("<Q", asked, 16)[0], 0)
                conn.sendall(head + hello)
                conn.recv(32, socket.MSG_WAITALL)
        with sock.accept()[0]:
            check(time.monotonic() - began > 0.25, "eight times connect_retry, less a random quarter")
        equal(c.counter("donor_violations"), 0, "it keeps the protocol")


def memxctl_for_people():
    with Cluster() as c:
        c.server("d0")
        c.configure()
        c.relay()
        c.donors_up(1)
        for words, want in ((["status"], "donors up          1"), (["donors"], "usable"), (["guests"], "no guests"),
                            (["sessions"], "no sessions")):
            done = c.memxctl(*words)
            equal((done.returncode, done.stderr), (0, ""), f"memxctl {words}")
            check(want in done.stdout, done.stdout)
        done = c.memxctl("status", socket_path=c.path("d0.ctl"))
        check(done.returncode == 0 and "role               donor" in done.stdout, done.stdout + done.stderr)
        told = subprocess.run([os.path.join(BIN, "memxctl"), "status"], env=dict(os.environ, MEMX_CONTROL=c.path("d0.ctl")),
                              capture_output=True, text=True, check=False)
        check(told.returncode == 0 and "role               donor" in told.stdout, told.stdout + told.stderr)
        version = next(line for line in c.memxctl("status").stdout.splitlines() if line.startswith("version "))
        check(version in done.stdout, done.stdout)
        done = c.memxctl("limit", "32M", socket_path=c.path("d0.ctl"))
        check(done.returncode == 0 and done.stdout.startswith("memory limit "), done.stdout + done.stderr)
        check("configured " in done.stdout and "role" not in done.stdout and "counters" not in done.stdout, done.stdout)


def memxctl_mistakes():
    with Cluster() as c:
        done = c.memxctl("status")
        equal(done.returncode, 3, "exit status without a daemon")
        check("is the daemon running?" in done.stderr, done.stderr)
        for words in ([], ["nonsense"], ["status", "more"], ["session", "free"], ["--nonsense"]):
            equal(c.memxctl(*words).returncode, 2, f"exit status of {words}")
        equal(c.memxctl("--help").returncode, 0, "exit status of --help")
        c.configure()
        c.relay()
        done = c.memxctl("peers")
        equal(done.returncode, 1, "a command that the relay does not know")
        check("known: status, guests, donors, sessions" in done.stderr, done.stderr)
        done = c.memxctl("session", "free", "00000000-0000-0000-0000-000000000001", "0" * 32)
        equal((done.returncode, done.stderr), (1, "memxctl: no such session here\n"), "a session that is not there")


def memxctl_stopped_relay():
    with Cluster() as c:
        c.configure()
        relay = c.relay()
        relay.signal(signal.SIGSTOP)
        done = c.memxctl("status")
        equal(done.returncode, 3, "exit status")
        check("no answer" in done.stderr, done.stderr)
        relay.signal(signal.SIGCONT)
        until(lambda: c.try_ctl("status"), "the relay answers again")


def control_socket_survives_nonsense():
    with Cluster() as c:
        c.configure()
        c.relay()
        for line in (b"nonsense\n", b"{}\n", b"[]\n", b'{"cmd":7}\n', b"\xff\xfe\n", b'{"cmd":"' + b"x" * 4000 + b'"}\n'):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(60)
                sock.connect(c.control)
                sock.sendall(line)
                answer = json.loads(sock.makefile("rb").readline())
                equal(answer["ok"], False, f"answer to {line[:20]}")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(c.control)
            sock.sendall(b"x" * 65536)
            equal(sock.recv(1), b"", "a line without end")
        check(c.try_ctl("status"), "the relay still answers")


sys.exit(run([
    configuration_mistakes_are_one_line, configuration_example_is_good, configuration_file_missing, options, no_xenstore_says_so,
    sigterm_ends_in_good_order, notifies_the_service_manager, id_is_kept, one_relay_per_socket,
    killed_relay_leaves_nothing_in_the_way, reload_adds_and_refuses, donor_by_name, donor_that_is_none, donor_that_hangs_up,
    memxctl_for_people,
    memxctl_mistakes, memxctl_stopped_relay, control_socket_survives_nonsense,
]))
