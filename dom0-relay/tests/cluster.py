# SPDX-License-Identifier: GPL-2.0-only
"""Real daemons as processes for tests of the relay: servers, a relay, guests by hand over shared memory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/setup"))
import memx_tests                                           # noqa: E402
from memx_tests import Failed, check, equal, run            # noqa: E402,F401 - for those who import from here

BIN = os.environ.get("MEMX_BIN", "build/bin")
DEADLINE = float(os.environ.get("DEADLINE", 60))        # seconds for what takes milliseconds on an idle machine


def until(condition, what):
    return memx_tests.until(condition, what, DEADLINE)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Process:
    """A daemon with its log in a file."""

    def __init__(self, argv, log, env=None):
        self.log_path = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=DEADLINE):
        return self.process.wait(timeout)

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()

    def stop(self):
        """Ends in good order; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()


class Guest:
    """A guest by hand: memx-shm-probe."""

    def __init__(self, cluster, name, uuid):
        self.cluster, self.name, self.uuid = cluster, name, uuid
        self.process = subprocess.Popen([os.path.join(BIN, "memx-shm-probe")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def post(self, line):
        """Without waiting for the answer."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise Failed(f"guest {self.name} ended with {self.process.wait()}")
        return line

    def offer(self, lanes=2):
        return self.say(f"offer {self.cluster.shm} {self.name} {self.uuid} {lanes}")

    def attach(self, slots=0, replicas=0):
        """Offers and attaches, again and again until it is granted: relays and donors need a moment."""
        def once():
            if not self.offer().startswith("ok"):
                return None
            answer = self.say(f"attach {slots} {replicas}")
            return answer if answer.startswith("ok") else None
        answer = until(once, f"guest {self.name} attaches")
        return dict(pair.split("=") for pair in answer.split()[1:])

    def io(self, line, errors=0):
        """A store, fetch or discard that ends with exactly so many errors."""
        answer = self.say(line)
        check(answer.startswith("ok "), f"{line}: {answer}")
        equal(int(answer.split("errors=")[1].split()[0]), errors, line)
        return answer

    def end(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


class Cluster:
    """A folder with configurations, and what runs in it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="c", dir=os.environ.get("MEMX_TMP"))
        self.servers, self.ports, self.relay_process, self.guests = {}, {}, None, []
        self.shm = os.path.join(self.dir, "shm")
        self.control = os.path.join(self.dir, "ctl")
        self.conf = os.path.join(self.dir, "relay.conf")

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        for guest in self.guests:
            guest.end()
        processes = list(self.servers.values()) + ([self.relay_process] if self.relay_process else [])
        for process in processes:
            process.kill()
        if kind:
            for process in processes:
                sys.stderr.write(f"--- {process.log_path}\n{process.log()[-6000:]}\n")
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    # servers

    def server(self, name, memory="64M", domain=None):
        port = self.ports.setdefault(name, free_port())
        conf = self.path(name + ".conf")
        with open(conf, "w", encoding="ascii") as file:
            file.write(f"[server]\nlisten=127.0.0.1:{port}\nmemory={memory}\ndomain={domain or name}\n"
                       f"id_file={self.path(name + '.id')}\ncontrol={self.path(name + '.ctl')}\nlock=no\n")
        self.servers[name] = Process([os.path.join(BIN, "memx-server"), "--config", conf], self.path(name + ".log"))
        until(lambda: os.path.exists(self.path(name + ".ctl")), f"server {name} starts")
        return self.servers[name]

    def server_status(self, name):
        return self.ctl("status", socket_path=self.path(name + ".ctl"))

    # the relay

    def configure(self, guests=("g1",), donors=None, relay="", quota="32M"):
        donors = self.ports if donors is None else {name: self.ports[name] for name in donors}
        text = (f"[relay]\ncontrol={self.control}\nid_file={self.path('relay.id')}\nxenstore=no\nshm={self.shm}\n"
                f"connect_retry=50ms\n{relay}\n")
        for name, port in donors.items():
            text += f"[donor {name}]\naddress=127.0.0.1:{port}\n"
        for name in guests:
            text += f"[guest {name}]\nquota={quota}\n"
        with open(self.conf, "w", encoding="ascii") as file:
            file.write(text)

    def relay(self, wait=True):
        self.relay_process = Process([os.path.join(BIN, "memx-dom0-relay"), "--config", self.conf], self.path("relay.log"))
        if wait:
            def ready():
                check(self.relay_process.alive(), "the relay ended at its start:\n" + self.relay_process.log()[-2000:])
                return self.try_ctl("status")
            until(ready, "the relay starts")
        return self.relay_process

    def donors_up(self, count):
        until(lambda: sum(d["state"] == "usable" for d in self.ctl("donors")) == count, f"{count} donors are usable")

    # memxctl

    def memxctl(self, *words, socket_path=None):
        return subprocess.run([os.path.join(BIN, "memxctl"), "--socket", socket_path or self.control, *words],
                              capture_output=True, text=True, check=False, timeout=DEADLINE)

    def try_ctl(self, *words, socket_path=None):
        done = self.memxctl("--json", *words, socket_path=socket_path)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def ctl(self, *words, socket_path=None):
        done = self.memxctl("--json", *words, socket_path=socket_path)
        equal(done.returncode, 0, f"memxctl {' '.join(words)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def counter(self, name):
        return self.ctl("status")["counters"][name]

    # guests

    def guest(self, name="g1", uuid=None):
        guest = Guest(self, name, uuid or f"00000000-0000-4000-8000-{zlib.crc32(name.encode()):012d}")
        self.guests.append(guest)
        return guest
