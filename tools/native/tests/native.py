# SPDX-License-Identifier: GPL-2.0-only
"""Servers, a relay and native guests as real processes, and TAP output, for the process-level tests.

Programs come from $MEMX_BIN (build/bin otherwise), scratch is $MEMX_TMP. Everything that is started ends with the test: children get
SIGKILL when it dies. Readiness is the service manager's notification; everything else that is waited for is asked for with a deadline.
"""

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
BIN = os.environ.get("MEMX_BIN", os.path.join(TOP, "build", "bin"))
SLOW = 4 if os.environ.get("MEMX_VARIANT", "opt") != "opt" else 1
PATIENCE = 60 * SLOW

sys.path.insert(0, os.path.join(TOP, "tools", "setup"))
import memx_tests                                           # noqa: E402
from memx_tests import Failed, check, equal                 # noqa: E402,F401 - for those who import from here

PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
CAPS = {"CAP_IPC_LOCK": 14}
_libc = ctypes.CDLL(None, use_errno=True)


def until(ask, what, seconds=None):
    return memx_tests.until(ask, what, seconds or PATIENCE)


# ---- processes ----


def _child():
    os.setpgid(0, 0)        # an interrupt at the terminal is for us to act upon
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def unprivileged(cap):
    """In the child of one who may do anything: what it starts may not do this."""
    if os.geteuid() == 0 and _libc.prctl(PR_CAPBSET_DROP, CAPS[cap], 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"{cap} cannot be dropped")


def control(path, cmd, **arguments):
    """Asks a daemon over its control socket and returns the data of the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(path)
        sock.sendall(json.dumps({"cmd": cmd, **arguments}).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            part = sock.recv(65536)
            if not part:
                break
            data += part
    reply = json.loads(data)
    if not reply.get("ok"):
        raise Failed(f"{path}: {cmd}: {reply.get('error')}")
    return reply["data"]


class Daemon:
    """A program that says when it is ready."""

    def __init__(self, folder, name, argv):
        self.folder, self.name, self.argv = folder, name, argv
        self.log_path = os.path.join(folder, name + ".log")
        self.process = None

    def child(self):
        _child()

    def start(self):
        notify = os.path.join(self.folder, self.name + ".notify")
        if os.path.exists(notify):
            os.unlink(notify)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, open(self.log_path, "ab") as log:
            sock.bind(notify)
            sock.settimeout(0.1)
            environment = dict(os.environ, NOTIFY_SOCKET=notify)
            environment.pop("JOURNAL_STREAM", None)
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment, preexec_fn=self.child)
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    if b"READY=1" in sock.recv(4096):
                        return self
                except socket.timeout:
                    pass
                check(self.process.poll() is None, f"{self.name} ended with {self.process.returncode}: {self.tail()}")
                check(time.monotonic() < end, f"{self.name} is not ready: {self.tail()}")

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self, sig=signal.SIGKILL):
        if self.running:
            self.process.send_signal(sig)
            if sig not in (signal.SIGSTOP, signal.SIGCONT, signal.SIGHUP):
                self.process.wait(PATIENCE)

    def stop(self):
        """Ends it in good order; a sanitiser's report or a crash is an error."""
        if not self.process:
            return
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self.name} did not end on SIGTERM: {self.tail()}")
        self.process = None
        check(status in (0, -signal.SIGKILL), f"{self.name} ended with {status}: {self.tail()}")

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def tail(self, lines=12):
        return "\n".join(self.log().splitlines()[-lines:])


class Server(Daemon):
    def __init__(self, folder, name, memory="256M", domain=None, extra=()):
        self.port = 0
        self.control = os.path.join(folder, name + ".sock")
        self.options = ["--memory", memory, "--domain", domain or name, "--id-file", os.path.join(folder, name + ".id"),
                        "--control", self.control, "--lock", "no", "--pressure", "0", "--min-available", "0", *extra]
        super().__init__(folder, name, None)

    def start(self):
        self.argv = [os.path.join(BIN, "memx-server"), "--listen", f"127.0.0.1:{self.port}", *self.options]
        super().start()
        self.port = self.status()["port"]
        return self

    def status(self):
        return control(self.control, "status")

    def sessions(self):
        return control(self.control, "sessions")


class Relay(Daemon):
    def __init__(self, folder, servers, guests, name="relay", **settings):
        self.control = os.path.join(folder, name + ".sock")
        self.shm = os.path.join(folder, name + "-shm.sock")
        self.conf = os.path.join(folder, name + ".conf")
        self.settings = {"control": self.control, "xenstore": "no", "shm": self.shm,
                         "id_file": os.path.join(folder, name + ".id"), **settings}
        self.servers, self.guests = servers, guests
        super().__init__(folder, name, [os.path.join(BIN, "memx-dom0-relay"), "--config", self.conf])

    def write(self):
        """Its configuration, from what it is to know now."""
        lines = ["[relay]"] + [f"{key} = {value}" for key, value in self.settings.items()]
        for server in self.servers:
            lines += [f"[donor {server.name}]", f"address = 127.0.0.1:{server.port}"]
        for name, keys in self.guests.items():
            lines += [f"[guest {name}]"] + [f"{key} = {value}" for key, value in keys.items()]
        with open(self.conf, "w") as file:
            file.write("\n".join(lines) + "\n")

    def start(self):
        self.write()
        return super().start()

    def ask(self, cmd, **arguments):
        return control(self.control, cmd, **arguments)

    def counters(self):
        return self.ask("status")["counters"]


class Guest:
    """memx-guest, told what to do line by line."""

    def __init__(self, relay, name, *options, program="memx-guest"):
        self.name = name
        self.errors = open(os.path.join(relay.folder, f"guest-{name}.log"), "ab")
        self.process = subprocess.Popen([os.path.join(BIN, program), "--socket", relay.shm, "--name", name, "--verbose",
                                         *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, preexec_fn=_child)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"guest {self.name} ended with {self.process.wait()}: {self.tail()}")
        return line.strip()

    def ask(self, line):
        """Sends a command; returns its answer's values, or raises with its error."""
        self.say(line)
        answer = self.hear()
        check(answer.startswith("ok"), f"guest {self.name}: {line}: {answer}")
        return dict(pair.split("=", 1) for pair in answer.split()[1:] if "=" in pair)

    def ask_raw(self, line):
        self.say(line)
        return self.hear()

    def attach(self, seconds=None):
        """Until it is attached. Whom a relay refuses, for its donors may not be there yet, asks again by itself."""
        end = time.monotonic() + (seconds or PATIENCE)
        while True:
            answer = self.ask_raw(f"wait {max(1, int((end - time.monotonic()) * 1000))}")
            if answer.startswith("ok"):
                return dict(pair.split("=", 1) for pair in answer.split()[1:] if "=" in pair)
            check("refused" in answer and time.monotonic() < end, f"guest {self.name} is not attached: {answer}")
            time.sleep(0.05)

    def stat(self, command="stat"):
        return {key: int(value) for key, value in self.ask(command).items()}

    def end(self, how="shutdown"):
        if self.process.poll() is None:
            try:
                self.say(f"end {how}")
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        status = self.process.wait(PATIENCE)
        self.errors.close()
        check(status == 0, f"guest {self.name} ended with {status}: {self.tail()}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def tail(self, lines=15):
        with open(self.errors.name, errors="replace") as file:
            return "\n".join(file.read().splitlines()[-lines:])


class World:
    """Servers, a relay and guests of one test. As a context it ends them, and looks whether all ended well."""

    def __init__(self, donors=2, memory="256M", guests=None, relay=Relay, **settings):
        self.folder = tempfile.mkdtemp(prefix="t-", dir=os.environ.get("MEMX_TMP"))
        self.servers = [Server(self.folder, f"d{i}", memory).start() for i in range(donors)]
        self.relay = relay(self.folder, self.servers, guests or {"g0": {"quota": "64M"}}, **settings).start()
        self.guests = []
        # A relay serves before it has found its donors; what it grants then, if anything, depends on who was quicker.
        until(lambda: all(donor["state"] == "usable" for donor in self.relay.ask("donors")), "the relay has its donors")

    def guest(self, name="g0", *options, attach=True):
        guest = Guest(self.relay, name, *options)
        self.guests.append(guest)
        if attach:
            guest.attach()
        return guest

    def pages_used(self):
        return [server.status()["pages_used"] if server.running else None for server in self.servers]

    def sessions(self):
        return [len(server.sessions()) for server in self.servers if server.running]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        problems = []
        for guest in self.guests:
            if guest.process.poll() is None:
                try:
                    guest.end() if not kind else guest.kill()
                except (Failed, subprocess.TimeoutExpired) as problem:
                    guest.process.kill()
                    problems.append(str(problem))
        for daemon in [self.relay, *self.servers]:
            try:
                daemon.stop()
            except Failed as problem:
                problems.append(str(problem))
        if kind and issubclass(kind, Failed):
            for daemon in [self.relay, *self.servers]:
                if os.path.exists(daemon.log_path):
                    print(f"--- {daemon.name}\n{daemon.tail(25)}", file=sys.stderr)
            for guest in self.guests:
                print(f"--- guest {guest.name}\n{guest.tail(25)}", file=sys.stderr)
        if problems and not kind:
            raise Failed("; ".join(problems))
        return False


# ---- TAP ----


TESTS = []


def test(function):
    """Marks a test; its docstring's first line is its name."""
    TESTS.append(function)
    return function


def main():
    return memx_tests.run(TESTS)


def seed():
    value = int(os.environ.get("MEMX_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
    print(f"# MEMX_SEED={value}", flush=True)
    return value
