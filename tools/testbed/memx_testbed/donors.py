# SPDX-License-Identifier: GPL-2.0-only
"""Donors: memx-server processes on the machine that runs the testbed.

Made and owned by the supervisor; every method runs in its one thread.
"""
import os
import signal
import socket
import time

from . import configs, procs, state
from .state import TestbedError

ACTIONS = ("kill", "stop", "cont", "start")
START_WAIT = 30


class Donor:
    """One memx-server; its directory keeps its id over restarts."""

    def __init__(self, spec, index, directory):
        self.spec = spec
        self.index = index
        self.name = f"donor{index}"
        self.dir = os.path.join(directory, self.name)
        self.log = os.path.join(directory, f"{self.name}.log")
        self.control = os.path.join(self.dir, "server.sock")
        self.config = os.path.join(self.dir, "server.conf")
        self.port, = state.free_ports(1)
        self.process = None
        self.stopped = False

    def describe(self):
        bins = configs.built("bin")
        running = self.process is not None and self.process.poll() is None
        return {
            "name": self.name, "port": self.port, "dir": self.dir, "log": self.log,
            "pid": state.identity(self.process.pid) if running else None,
            "state": "down" if not running else "stopped" if self.stopped else "up",
            "env": {"PATH": f"{bins}:{os.environ.get('PATH', '')}",
                    "MEMX_SERVER_CONFIG": self.config, "MEMX_SERVER_CONTROL": self.control,
                    "MEMX_CONTROL": self.control,       # memxctl looks there
                    "MEMX_SERVER_ADDRESS": f"127.0.0.1:{self.port}",
                    "MEMX_SERVER_PID": str(self.process.pid) if running else ""},
        }

    def start(self):
        os.makedirs(self.dir, exist_ok=True)
        with open(self.config, "w", encoding="ascii") as out:
            out.write(configs.server(self, self.spec))
        self.stopped = False
        self.process = procs.spawn([configs.built("bin", "memx-server"),
                                    "--config", self.config], self.log, cwd=self.dir)

    def check_alive(self):
        code = self.process.poll()
        if code is not None:
            raise TestbedError(f"{self.name} ended with status {code}:{self.tail()}")

    def tail(self):
        with open(self.log, "rb") as handle:
            rows = handle.read().decode(errors="replace").splitlines()
        return "".join(f"\n    {row}" for row in rows[-15:])

    def wait_up(self, deadline, check=lambda: None):
        """Until it listens."""
        while True:
            check()
            self.check_alive()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise TestbedError(f"{self.name} does not listen:{self.tail()}")
            time.sleep(0.05)

    def obey(self, action):
        """One of ACTIONS."""
        running = self.process.poll() is None
        if action == "start":
            if running:
                raise TestbedError(f"{self.name} runs already")
            self.start()
            self.wait_up(time.monotonic() + START_WAIT)
            return
        if not running:
            raise TestbedError(f"{self.name} is down; memx-testbed donor {self.index} start")
        if action == "kill":
            self.process.kill()
            self.process.wait()
        elif action == "stop":
            self.process.send_signal(signal.SIGSTOP)
            self._wait_stopped()
            self.stopped = True
        else:
            self.process.send_signal(signal.SIGCONT)
            self.stopped = False

    def _wait_stopped(self):
        """All threads stand still before the caller hears that they do."""
        try:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
        except ChildProcessError as error:
            raise TestbedError(f"{self.name} ended") from error
