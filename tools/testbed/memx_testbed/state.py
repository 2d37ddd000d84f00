# SPDX-License-Identifier: GPL-2.0-only
"""What a running testbed is made of, and where that is written down.

A testbed's directory belongs to its supervisor: it writes state.json, by
renaming, and everybody else only reads it.
"""
import dataclasses
import json
import os
import re
import socket

from . import store


class TestbedError(Exception):
    """What the person who runs the testbed has to know."""


@dataclasses.dataclass
class Spec:
    """What was asked of `up`. Sizes in MiB."""

    name: str = "default"
    hosts: int = 1
    guests: int = 1
    guest_type: str = "pv"
    guest_mem: int = 128
    guest_vcpus: int = 1
    guest_cmdline: str = ""
    guest_init: str = "small"
    swap: int = 0
    donors: int = 0
    donor_mem: int = 0
    replicas: int = 1
    kernel: str = "6.1"
    module: str = ""        # path
    module_args: str = ""
    timeout: int = 600

    def guest_names(self):
        return [f"guest{index}" for index in range(self.guests)]

    def guest_ip(self, index):
        return f"10.0.2.{100 + index}"

    def guest_mac(self, index):
        return f"00:16:3e:6d:78:{index:02x}"


def run_root():
    """Where testbeds live while they run.

    Not in $XDG_RUNTIME_DIR: a login shell has it, but sudo, cron or a service does not, and
    they have to find each other's testbeds. It is also too small for the images.
    """
    return os.path.join(store.cache_dir(), "testbed", "run")


def directory(name):
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise TestbedError(f"name '{name}': letters, digits, '.', '_' and '-' are accepted")
    return os.path.join(run_root(), name)


def process_start(pid):
    """When a process began, in clock ticks since boot; None where there is none.

    With the pid it names a process for good, whatever pids are used again.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as handle:
            fields = handle.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def identity(pid):
    return [pid, process_start(pid)]


def alive(who):
    """Whether the process of an identity still runs."""
    return bool(who) and who[1] is not None and process_start(who[0]) == who[1]


def free_ports(count):
    """Local ports that nobody listens on just now."""
    sockets = []
    try:
        for _ in range(count):
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            sockets.append(sock)
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def save(path, data):
    with open(path + ".new", "w", encoding="ascii") as handle:
        json.dump(data, handle, indent=1)
    os.rename(path + ".new", path)


def load(name):
    """The state of a testbed that was started, or None."""
    try:
        with open(os.path.join(directory(name), "state.json"), encoding="ascii") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return None


class View:
    """A running testbed as the verbs see it."""

    def __init__(self, name):
        self.name = name
        self.dir = directory(name)
        self.data = load(name)
        if self.data is None or not alive(self.data["supervisor"]):
            raise TestbedError(f"no testbed '{name}' is up; memx-testbed up --name {name} "
                               "starts one")
        self.spec = Spec(**self.data["spec"])

    def host_ports(self, index):
        return [self.data["hosts"][index]["port"]]

    def guest_ports(self, index):
        """Forwards to a guest: that of its own host first, it may have moved."""
        own = index % len(self.data["hosts"])
        hosts = self.data["hosts"]
        return [hosts[own]["guest_ports"][index]] + [
            host["guest_ports"][index] for at, host in enumerate(hosts) if at != own]

    def target(self, text):
        """("host"|"guest"|"donor"|"relay", index) of a target's name."""
        found = re.fullmatch(r"(host|guest|donor|relay)([0-9]+)", text)
        counts = {"host": self.spec.hosts, "relay": self.spec.hosts,
                  "guest": self.spec.guests, "donor": self.spec.donors}
        if not found or int(found.group(2)) >= counts[found.group(1)]:
            names = [f"{kind}0" + (f"..{kind}{counts[kind] - 1}" if counts[kind] > 1 else "")
                     for kind in ("host", "guest", "donor") if counts[kind]]
            raise TestbedError(f"target '{text}' is not here; there are {', '.join(names)}")
        return found.group(1), int(found.group(2))

    def ports(self, kind, index):
        return self.host_ports(index) if kind in ("host", "relay") else self.guest_ports(index)
