# SPDX-License-Identifier: GPL-2.0-only
"""The process that owns all of a testbed's processes.

Started by `up` with the plan on standard input; tells how it goes on standard
output, a JSON object per line, until the testbed is up. When it ends, for
whatever reason, its children end. One thread; it owns the testbed's directory.
"""
import contextlib
import json
import os
import select
import selectors
import shutil
import signal
import socket
import sys
import time
import uuid

from . import configs, donors, host, procs, state, store, wire
from .state import TestbedError


class Ended(BaseException):
    """Asked to end, or nobody waits for the result any more."""


class Supervisor:
    """One testbed."""

    def __init__(self, plan):
        self.spec = state.Spec(**plan["spec"])
        self.images = plan["images"]
        self.uuids = [str(uuid.uuid4()) for _ in range(self.spec.guests)]
        self.dir = state.directory(self.spec.name)
        self.hosts = []
        self.donors = []
        self.wires = []
        self.up = False
        self.asked_to_end = False

    # -- coming up

    def tell(self, **fields):
        """A line to `up`; when it is gone there is no point in going on."""
        try:
            sys.stdout.write(json.dumps(fields) + "\n")
            sys.stdout.flush()
        except OSError as error:
            raise Ended() from error

    def check(self):
        """Called from every wait of the coming up: is it still wanted?"""
        poll = select.poll()
        poll.register(1, 0)
        if poll.poll(0):
            raise Ended()
        for donor in self.donors:
            donor.check_alive()

    def start(self):
        deadline = time.monotonic() + self.spec.timeout
        self.start_donors(deadline)
        self.wires = wire.open_all(self.spec.hosts, self.dir)
        overlay = configs.dom0_overlay(self.spec, self.uuids, self.donors,
                                       wire.DONORS if self.wires else wire.DONORS_BY_QEMU,
                                       self.images["dom0"])
        for guest in range(self.spec.guests):
            text = host.guest_config(self.spec, guest, self.uuids[guest])
            overlay[f"etc/xen/guest{guest}.cfg"] = (text.encode(), 0o644)
        overlays = overlay, configs.guest_overlay(self.spec, self.images["release"])
        for index in range(self.spec.hosts):
            self.hosts.append(host.Host(self.spec, index, self.dir, self.images, overlays,
                                        self.wires[index] if self.wires else None))
        for one in self.hosts:
            one.start()
        self.write_state()
        for one in self.hosts:
            one.wait_up(deadline, self.check)
            one.run("sh", "-c", "mkdir -p /etc/testbed; cat >/etc/testbed/hosts", source="".join(
                f"{other.name} 10.0.2.2 {other.port}\n" for other in self.hosts).encode())
            self.tell(progress=f"{one.name} is up")
            if self.spec.swap:
                one.run("/sbin/testbed-relay", "start")
            for index in one.own_guests():
                one.create_guest(index)
        for one in self.hosts:
            for index in one.own_guests():
                one.wait_guest(index, deadline, self.check)
                self.tell(progress=f"guest{index} is up")
        if self.spec.swap:
            for one in self.hosts:
                for index in one.own_guests():
                    size = one.wait_swap(index, deadline, self.check)
                    # One page of it is the header, so a whole grant is just below.
                    less = "" if size >= self.spec.swap - 1 else \
                        f", of the {self.spec.swap} asked for; the relay's log says why"
                    self.tell(progress=f"guest{index} has {size} MiB of swap on{less}")
        self.up = True
        self.write_state()

    def start_donors(self, deadline):
        for index in range(self.spec.donors):
            donor = donors.Donor(self.spec, index, self.dir)
            self.donors.append(donor)
            donor.start()
        for donor in self.donors:
            donor.wait_up(deadline, self.check)
        if self.donors:
            self.tell(progress=f"{len(self.donors)} donors are up")

    def write_state(self):
        state.save(os.path.join(self.dir, "state.json"), {
            "spec": vars(self.spec), "supervisor": state.identity(os.getpid()), "up": self.up,
            "hosts": [one.describe() for one in self.hosts if one.process],
            "guests": [{"name": name, "uuid": self.uuids[index]}
                       for index, name in enumerate(self.spec.guest_names())],
            "donors": [donor.describe() for donor in self.donors],
        })

    # -- while it is up

    def serve(self):
        """Answer requests until one asks for the end."""
        wake, wake_in = os.pipe()
        for fd in (wake, wake_in):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_in)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        path = os.path.join(self.dir, "control")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control, \
                selectors.DefaultSelector() as selector:
            bind_unix(control, path)
            control.listen(16)
            selector.register(control, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            self.tell(ready=True)
            detach()
            while not self.asked_to_end:
                for key, _ in selector.select():
                    if key.fileobj is control:
                        self.answer(control)
                    else:
                        os.read(wake, 4096)
                for one in self.hosts:
                    one.process.poll()
                for donor in self.donors:
                    donor.process.poll()

    def answer(self, control):
        connection, _ = control.accept()
        with connection:
            connection.settimeout(10)
            try:
                request = json.loads(connection.makefile().readline())
                reply = {"result": self.obey(request)}
            except TestbedError as error:
                reply = {"error": str(error)}
            except (OSError, ValueError) as error:
                reply = {"error": f"bad request: {error}"}
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(reply).encode() + b"\n")

    def obey(self, request):
        verb = request["verb"]
        if verb == "down":
            self.asked_to_end = True
            return None
        if verb == "donor":
            donor = self.donors[request["index"]]
            result = donor.obey(request["action"])
            self.write_state()
            return result
        raise TestbedError(f"unknown request {verb}")

    # -- the end

    def finish(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        procs.end([one.process for one in self.hosts] +
                  [donor.process for donor in self.donors] +
                  [one.process for one in self.wires], grace=3.0)


def bind_unix(sock, path):
    """Bind where the path may be longer than a socket's address can be."""
    fd = os.open(os.path.dirname(path), os.O_PATH)
    try:
        sock.bind(f"/proc/self/fd/{fd}/{os.path.basename(path)}")
    finally:
        os.close(fd)


def request(view, **fields):
    """Ask a testbed's supervisor; its result."""
    fd = os.open(view.dir, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(60)
            sock.connect(f"/proc/self/fd/{fd}/control")
            sock.sendall(json.dumps(fields).encode() + b"\n")
            reply = json.loads(sock.makefile().readline() or '{"error": "no answer"}')
    except OSError as error:
        raise TestbedError(f"the testbed's supervisor does not answer: {error}") from error
    finally:
        os.close(fd)
    if "error" in reply:
        raise TestbedError(reply["error"])
    return reply["result"]


def detach():
    """Nobody reads standard output any more."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def keep_logs(name, directory):
    """Where the logs of a failed start can be read afterwards."""
    kept = os.path.join(store.cache_dir(), "testbed", "failed", name)
    shutil.rmtree(kept, ignore_errors=True)
    os.makedirs(kept)
    for entry in os.listdir(directory):
        if entry.endswith((".log", ".console", ".json", ".ini", ".conf")):
            shutil.copy2(os.path.join(directory, entry), kept)
    return kept


def main():
    """The supervisor's life."""
    plan = json.load(sys.stdin)

    def stop(*_):
        raise Ended()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    keeper = Supervisor(plan)
    failure = None
    try:
        keeper.write_state()
        keeper.start()
        keeper.serve()
    except Ended:
        pass
    except (TestbedError, OSError) as error:
        failure = str(error)
    finally:
        keeper.finish()
        if failure:
            kept = keep_logs(keeper.spec.name, keeper.dir)
        shutil.rmtree(keeper.dir, ignore_errors=True)
        if failure:
            with contextlib.suppress(Ended):
                keeper.tell(failure=failure, logs=kept)
    return 1 if failure else 0
