# SPDX-License-Identifier: GPL-2.0-only
"""What the tests on real Xen share: a testbed that is always taken down, TAP, and looks at guests, hosts and donors.

A test is a function that takes the Testbed and raises AssertionError with a sentence when something is not so. run() starts
the testbed once, runs the tests in order, prints TAP, and looks at the kernel logs of all guests at the end: a warning there
is a failure of its own.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TESTBED = os.path.join(TOP, "tools", "testbed", "memx-testbed")
BIN = os.environ.get("MEMX_BIN", os.path.join(TOP, "build", "bin"))

# What a guest's kernel may not say. The taint of an out-of-tree module is the one thing that it may.
BAD_LOG = re.compile(
    r"BUG:|WARNING:|Oops|Call Trace|general protection|hung_task|blocked for more than|soft lockup|rcu.*stall|"
    r"Kernel panic|Read-error on swap|Write error|bad page|leaked|memx.*(violation|corrupt|lost page)", re.I)

SET_RESERVE = "echo {} >/proc/sys/vm/min_free_kbytes && echo {} >/proc/sys/vm/watermark_boost_factor"


class Result:
    """One command's end: status, stdout and stderr as text."""

    def __init__(self, proc):
        self.status = proc.returncode
        self.out = proc.stdout.decode(errors="replace")
        self.err = proc.stderr.decode(errors="replace")

    def __str__(self):
        return f"exit status {self.status}\n{self.out[-2000:]}\n{self.err[-2000:]}"


class Job(threading.Thread):
    """A command that runs in a guest while the test goes on."""

    def __init__(self, testbed, target, argv, timeout):
        super().__init__(daemon=True)
        self.testbed, self.target, self.argv, self.timeout = testbed, target, argv, timeout
        self.result = None
        self.error = None
        self.start()

    def run(self):
        try:
            self.result = self.testbed.exec(self.target, *self.argv, timeout=self.timeout)
        except Exception as e:  # noqa: BLE001 - handed to whoever waits
            self.error = e

    def end(self):
        """Waits for the command; its Result."""
        self.join(self.timeout + 30)
        if self.error:
            raise self.error
        assert self.result is not None, f"{self.target}: {' '.join(self.argv)} did not end within {self.timeout} s"
        return self.result

    def running(self):
        return self.result is None and self.error is None


class Testbed:
    """One testbed with a name of its own. Use as a context: down on the way out, whatever happens."""

    def __init__(self, name, **up):
        self.name = f"{name}-{os.getpid()}"
        self.up_args = []
        for key, value in up.items():
            self.up_args += [f"--{key.replace('_', '-')}", str(value)]

    def run(self, verb, *args, timeout=600, stdin=None):
        argv = [TESTBED, verb, "--name", self.name, *args]
        return Result(subprocess.run(argv, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=timeout))

    def must(self, verb, *args, timeout=600):
        r = self.run(verb, *args, timeout=timeout)
        assert r.status == 0, f"memx-testbed {verb} {' '.join(args)}: {r}"
        return r

    def __enter__(self):
        began = time.monotonic()
        try:
            r = self.run("up", *self.up_args, timeout=900)
            if r.status:
                raise AssertionError(f"memx-testbed up {' '.join(self.up_args)}: {r}")
        except BaseException:
            self.run("down")
            raise
        print(f"# testbed {self.name} up after {time.monotonic() - began:.0f} s", flush=True)
        return self

    def __exit__(self, *exc):
        self.run("down")

    # -- commands ---------------------------------------------------------------------------------------------------

    def exec(self, target, *argv, timeout=600):
        return self.run("exec", target, "--", *argv, timeout=timeout)

    def sh(self, target, script, timeout=600):
        """Runs a shell script there; its stdout. Fails when it fails."""
        r = self.exec(target, "sh", "-c", script, timeout=timeout)
        assert r.status == 0, f"{target}: {script!r}: {r}"
        return r.out

    def start(self, target, *argv, timeout=600):
        return Job(self, target, argv, timeout)

    def push_program(self, target, name):
        self.must("push", target, os.path.join(BIN, name), f"/tmp/{name}")
        return f"/tmp/{name}"

    def wait(self, what, condition, timeout=120):
        """Waits until condition() is true; what is said when it never is."""
        end = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < end, f"waited {timeout} s for: {what}"
            time.sleep(0.5)

    # -- looks --------------------------------------------------------------------------------------------------------

    def swaps(self, guest):
        """Swap areas of a guest: {file: (size KiB, used KiB)}."""
        lines = self.sh(guest, "cat /proc/swaps").splitlines()[1:]
        return {f[0]: (int(f[2]), int(f[3])) for f in (line.split() for line in lines) if len(f) >= 4}

    def vmstat(self, guest):
        return {k: int(v) for k, v in (line.split() for line in self.sh(guest, "cat /proc/vmstat").splitlines())}

    def memctl(self, host, *args):
        """memxctl's answer on a host, parsed."""
        return json.loads(self.sh(host, "memxctl --json " + " ".join(args)))

    def pages(self, guest, mib, *args, timeout=900):
        """Runs memx-pages in a guest and returns its figures; fails unless every page was right."""
        return self.pages_end(self.pages_start(guest, mib, *args, timeout=timeout))

    def pages_start(self, guest, mib, *args, timeout=900):
        prog = self.push_program(guest, "memx-pages")
        return self.start(guest, prog, "--mib", str(mib), *map(str, args), timeout=timeout)

    @staticmethod
    def pages_end(job):
        r = job.end()
        assert r.status == 0, f"{job.target}: memx-pages: {r}"
        m = re.search(r"pages_verified=(\d+) pages_written=(\d+) pages_wrong=(\d+) longest_touch_ms=(\d+)", r.out)
        assert m, f"{job.target}: memx-pages ended without its figures: {r}"
        verified, written, wrong, longest = map(int, m.groups())
        assert wrong == 0, r.out
        return {"verified": verified, "written": written, "longest_ms": longest}

    @contextlib.contextmanager
    def expected_oom(self, guest, victim):
        """In here the kernel may kill @victim for lack of memory, and say so at length. Nothing else may be in the log."""
        before = self.log_complaints(guest)
        assert not before, "\n".join(before)
        # A victim may use up the kernel's reserve, page by page as they come in, and after two seconds the kernel looks for
        # another one. In emulation a smaller reserve has to do, or a swapoff lives for longer than that.
        reserve = ("min_free_kbytes", "watermark_boost_factor")
        old = [self.sh(guest, f"cat /proc/sys/vm/{name}").strip() for name in reserve]
        self.sh(guest, "dmesg -c >/dev/null; " + SET_RESERVE.format("1024", "0"))
        yield
        self.sh(guest, SET_RESERVE.format(*old))
        killed = re.findall(r"Killed process \d+ \((.*?)\)", self.sh(guest, "dmesg"))
        assert set(killed) <= {victim}, f"the OOM killer of {guest} killed {killed}"
        odd = [line for line in self.log_complaints(guest) if "Call Trace" not in line]
        assert not odd, "\n".join(odd)
        self.sh(guest, "dmesg -c >/dev/null")

    def log_complaints(self, guest):
        """Lines of a guest's kernel log that should not be there."""
        return [line for line in self.sh(guest, "dmesg").splitlines() if BAD_LOG.search(line)]


def run(testbed, tests, guests=("guest0",)):
    """Runs the tests on the testbed; prints TAP; ends the process with its status."""
    failed = 0
    number = 0

    def report(ok, name, why=""):
        nonlocal failed, number
        number += 1
        failed += not ok
        for line in why.rstrip().splitlines():
            print(f"# {line}")
        print(f"{'ok' if ok else 'not ok'} {number} - {name}", flush=True)

    # A deadline ends this process by SIGTERM: the testbed goes down all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"1..{len(tests) + 1 + len(guests)}", flush=True)
    try:
        with testbed:
            report(True, f"testbed up {' '.join(testbed.up_args)}")
            for test in tests:
                began = time.monotonic()
                try:
                    test(testbed)
                except Exception:  # noqa: BLE001 - a test's failure is reported, the next one runs
                    report(False, test.__name__, traceback.format_exc())
                else:
                    print(f"# {test.__name__}: {time.monotonic() - began:.1f} s")
                    report(True, test.__name__)
            for guest in guests:
                try:
                    bad = testbed.log_complaints(guest)
                except Exception:  # noqa: BLE001
                    bad = [traceback.format_exc()]
                report(not bad, f"the kernel log of {guest} has no complaint", "\n".join(bad))
            if failed:
                for target in ("relay0", "donor0", *guests):
                    r = testbed.run("log", target)
                    print(f"# ---- log of {target}", *r.out.splitlines()[-60:], sep="\n# ", file=sys.stderr)
    except Exception:  # noqa: BLE001
        report(False, f"testbed up {' '.join(testbed.up_args)}", traceback.format_exc())
    sys.exit(1 if failed else 0)
