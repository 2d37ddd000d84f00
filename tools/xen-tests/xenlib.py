# SPDX-License-Identifier: GPL-2.0-only
"""What the tests on real Xen share: a testbed that is always taken down, TAP, and looks at guests, hosts and donors.

A test is a function that takes the Testbed and raises AssertionError with a sentence when something is not so. run() starts
the testbed once, runs the tests in order, prints TAP, and looks at the kernel logs of all guests at the end: a warning there
is a failure of its own. Of each test that fails it prints what is seen of the testbed (evidence.py); the whole of that goes to
NAME.evidence beside the suite's other results.

What runs in a guest may be slow, for everything is emulated, on machines that may be busy; but it may not stand still. So a
command has a generous deadline, and fails as soon as nothing moves for STALL_S.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import evidence  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TESTBED = os.path.join(TOP, "tools", "testbed", "memx-testbed")
BIN = os.environ.get("MEMX_BIN", os.path.join(TOP, "build", "bin"))

# What a guest's kernel may not say. The taint of an out-of-tree module is the one thing that it may.
BAD_LOG = re.compile(
    r"BUG:|WARNING:|Oops|Call Trace|general protection|hung_task|blocked for more than|soft lockup|rcu.*stall|"
    r"Kernel panic|Read-error on swap|Write error|bad page|leaked|memx.*(violation|corrupt|lost page)", re.I)

DECOYS = 32
DECOY = "sh -c 'echo 1000 >/proc/self/oom_score_adj && exec sleep 86400'"       # the OOM killer takes it first, and it dies at once
SET_RESERVE = "echo {} >/proc/sys/vm/min_free_kbytes && echo {} >/proc/sys/vm/watermark_boost_factor"


# A command in a guest stands still when it prints nothing and its guest neither moves pages nor takes page faults for STALL_S;
# or, if it tells its figures, when these stay as they are for JOB_STALL_S whatever moves besides.
STALL_S = 120
JOB_STALL_S = 300
LOOK_AFTER_S, LOOK_EVERY_S = 30, 15
LIMIT_S = 1800      # for a command that does move
HOST_LIMIT_S = 600  # for one in Dom0, of which nobody knows that
LOOK_S = 300        # for one that only looks
SO_FAR = re.compile(r"^so_far .*\n", re.M)


class Result:
    """One command's end: status, stdout and stderr as text."""

    def __init__(self, status, out, err):
        self.status = status
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")

    def __str__(self):
        said = SO_FAR.sub("", self.out)[-2000:] + "".join(SO_FAR.findall(self.out)[-1:]) + self.err[-2000:]
        return f"exit status {self.status}\n{said}"


class Standstill(AssertionError):
    """Nothing moves."""


class Job(threading.Thread):
    """A command that runs in a target while the test goes on. The thread reads what it prints; end() judges."""

    def __init__(self, testbed, target, argv, timeout, stall=STALL_S):
        super().__init__(daemon=True)
        self.testbed, self.target, self.argv, self.timeout = testbed, target, argv, timeout
        self.stall = stall if target.startswith("guest") else None
        self.result = None
        self.output = {1: bytearray(), 2: bytearray()}
        self.told = b""                     # its last line of figures, without the times in it
        self.began = self.spoke = time.monotonic()      # spoke: when it last printed something else than it had
        self.figures, self.moved, self.looked = None, 0.0, 0.0      # of the guest; when they changed; when they were looked at
        self.process = subprocess.Popen([TESTBED, "exec", "--name", testbed.name, target, "--", *argv], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        testbed.jobs.append(self)
        self.start()

    def run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ, 1)
            selector.register(self.process.stderr, selectors.EVENT_READ, 2)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, 1 << 16)
                    if data:
                        self.take(key.data, data)
                    else:
                        selector.unregister(key.fileobj)
        self.result = Result(self.process.wait(), *(bytes(self.output[stream]) for stream in (1, 2)))

    def take(self, stream, data):
        self.output[stream] += data
        lines = [line.partition(b" recent_us")[0] for line in self.output[stream][-4096:].splitlines() if line.startswith(b"so_far ")]
        if not lines or lines[-1] != self.told:
            self.told = lines[-1] if lines else self.told
            self.spoke = time.monotonic()

    def what(self):
        return f"{self.target}: {' '.join(self.argv)[:160]}"

    def end(self):
        """Waits for the command; its Result. Fails where it stands still, or does not end in spite of all that moves."""
        waiting = time.monotonic()
        while self.is_alive():
            self.join(1)
            now = time.monotonic()
            assert now < max(waiting, self.began) + self.timeout or not self.is_alive(), \
                f"{self.what()} did not end within {self.timeout} s, though it moves; {self.told.decode()}"
            if self.stall and self.is_alive():
                self.watch(now, max(self.spoke, waiting))
        if self in self.testbed.jobs:
            self.testbed.jobs.remove(self)
        return self.result

    def watch(self, now, since):
        if now < since + LOOK_AFTER_S or now < self.looked + LOOK_EVERY_S:
            return
        figures, _ = evidence.guest_figures(self.testbed, self.target)
        figures = {name: figures[name] for name in ("pswpin", "pswpout", "pgfault", "stores", "fetches") if name in figures}
        self.looked = now = time.monotonic()
        if not self.is_alive():
            return
        if figures and figures != self.figures:
            # The first look tells nothing about what moved before it.
            self.moved = now if self.figures is not None else self.moved
            self.figures = figures
        silent = "" if figures else "; the guest does not answer"
        if now > max(since, self.moved) + self.stall:
            raise Standstill(f"{self.what()}: nothing moves for {now - max(since, self.moved):.0f} s{silent}; {self.told.decode()}")
        if self.told and now > since + max(JOB_STALL_S, self.stall):
            raise Standstill(f"{self.what()}: it does not get on for {now - since:.0f} s, though its guest moves; {self.told.decode()}")

    def running(self):
        return self.result is None

    def kill(self):
        """Ends it; in the guest it has some seconds to follow."""
        if self.is_alive():
            self.process.kill()
            self.join(10)


class Testbed:
    """One testbed with a name of its own. Use as a context: down on the way out, whatever happens."""

    def __init__(self, name, **up):
        self.name = f"{name}-{os.getpid()}"
        self.jobs = []
        self.up_args = []
        for key, value in up.items():
            self.up_args += [f"--{key.replace('_', '-')}", str(value)]

    def run(self, verb, *args, timeout=600, stdin=None):
        argv = [TESTBED, verb, "--name", self.name, *args]
        done = subprocess.run(argv, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=timeout)
        return Result(done.returncode, done.stdout, done.stderr)

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

    def exec(self, target, *argv, timeout=None, stall=STALL_S):
        return self.start(target, *argv, timeout=timeout, stall=stall).end()

    def sh(self, target, script, timeout=None):
        """Runs a shell script there; its stdout. Fails when it fails."""
        r = self.exec(target, "sh", "-c", script, timeout=timeout)
        assert r.status == 0, f"{target}: {script!r}: {r}"
        return r.out

    def start(self, target, *argv, timeout=None, stall=STALL_S):
        return Job(self, target, argv, timeout or (LIMIT_S if target.startswith("guest") else HOST_LIMIT_S), stall)

    def kill_jobs(self):
        """What a test left running, so that the next one has the guest for itself."""
        for job in self.jobs:
            job.kill()
        self.jobs.clear()

    def push_program(self, target, name):
        self.must("push", target, os.path.join(BIN, name), f"/tmp/{name}")
        return f"/tmp/{name}"

    def wait(self, what, condition, timeout=240):
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
        lines = self.sh(guest, "cat /proc/swaps", timeout=LOOK_S).splitlines()[1:]
        return {f[0]: (int(f[2]), int(f[3])) for f in (line.split() for line in lines) if len(f) >= 4}

    def vmstat(self, guest):
        return {k: int(v) for k, v in (line.split() for line in self.sh(guest, "cat /proc/vmstat", timeout=LOOK_S).splitlines())}

    def memctl(self, host, *args):
        """memxctl's answer on a host, parsed."""
        return json.loads(self.sh(host, "memxctl --json " + " ".join(args), timeout=LOOK_S))

    def pages(self, guest, mib, *args):
        """Runs memx-pages in a guest and returns its figures; fails unless every page was right."""
        return self.pages_end(self.pages_start(guest, mib, *args))

    def pages_start(self, guest, mib, *args, every=5):
        """@every: seconds between the lines by which it is seen to get on; 0: none, and the program is not locked in memory."""
        prog = self.push_program(guest, "memx-pages")
        return self.start(guest, prog, "--mib", str(mib), "--every", str(every), *map(str, args))

    @staticmethod
    def pages_end(job):
        r = job.end()
        assert r.status == 0, f"{job.target}: memx-pages: {r}"
        m = re.search(r"pages_verified=(\d+) pages_written=(\d+) pages_wrong=(\d+) longest_touch_ms=(\d+)", r.out)
        assert m, f"{job.target}: memx-pages ended without its figures: {r}"
        verified, written, wrong, longest = map(int, m.groups())
        assert wrong == 0, r.out
        return {"verified": verified, "written": written, "longest_ms": longest}

    def pages_enough(self, job):
        """Tells memx-pages that it has touched enough: it verifies all pages once more. Its figures."""
        assert job.running(), f"{job.target}: memx-pages ended by itself: {job.result}"
        self.sh(job.target, "killall -USR1 memx-pages")
        return self.pages_end(job)

    @contextlib.contextmanager
    def expected_oom(self, guest, victim):
        """In here the kernel may kill @victim for lack of memory, and say so at length. Nothing else may be in the log."""
        before = self.log_complaints(guest)
        assert not before, "\n".join(before)
        # A victim may use up the kernel's reserve, page by page as they come in, and after two seconds the kernel looks for
        # another one. A smaller reserve shortens the wait, and decoys stand before everyone else in the line of victims: in
        # emulation, on a loaded machine, a killed swapoff may live for many times two seconds.
        reserve = ("min_free_kbytes", "watermark_boost_factor")
        old = [self.sh(guest, f"cat /proc/sys/vm/{name}").strip() for name in reserve]
        decoys = self.start(guest, "sh", "-c", f"for i in $(seq {DECOYS}); do {DECOY} & done; wait", stall=None)
        self.wait("the decoys to stand", lambda: self.sh(guest, "pidof sleep | wc -w").strip() == str(DECOYS))
        self.sh(guest, "dmesg -c >/dev/null; " + SET_RESERVE.format("1024", "0"))
        yield
        self.sh(guest, SET_RESERVE.format(*old))
        self.sh(guest, "killall -q sleep || true")
        decoys.end()
        killed = re.findall(r"Killed process \d+ \((.*?)\)", self.sh(guest, "dmesg"))
        assert set(killed) <= {victim, "sleep"}, f"the OOM killer of {guest} killed {killed}"
        # A page-out of the victim's own that waits for its turn ends with the victim (EINTR); the page stays in memory.
        odd = [line for line in self.log_complaints(guest) if "Call Trace" not in line and "Write error -4 on dio swapfile" not in line]
        assert not odd, "\n".join(odd)
        self.sh(guest, "dmesg -c >/dev/null")

    def log_complaints(self, guest):
        """Lines of a guest's kernel log that should not be there."""
        log = evidence.without_sysrq(self.sh(guest, "dmesg", timeout=LOOK_S).splitlines())
        return [line for line in log if BAD_LOG.search(line)]

    def answers(self, guest):
        """Does a program run there to its end, within a minute?"""
        return evidence.ask(self, "exec", guest, "--", "true", seconds=60) is not None


def keep(name, text):
    """The whole of the evidence, beside the suite's other results."""
    folder, suite = os.environ.get("MEMX_RESULTS"), os.environ.get("MEMX_SUITE")
    if folder and suite:
        with open(os.path.join(folder, f"{suite}.evidence"), "a", encoding="utf-8") as file:
            file.write(f"==== {name}\n{text}")
    else:
        print(text, file=sys.stderr)


def explain(testbed, name, began, guests=("guest0",)):
    """What there is to say of the exception that ended a test: the sentence, where, and what is seen of the testbed."""
    problem, trace = sys.exc_info()[1], traceback.extract_tb(sys.exc_info()[2])
    traceback.print_exc()
    where = [f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in trace if os.path.basename(f.filename) not in ("xenlib.py", "threading.py", "subprocess.py")]
    words = str(problem) if isinstance(problem, AssertionError) else "".join(traceback.format_exception_only(problem)).strip()
    if isinstance(problem, SystemExit):
        words = "the suite's time is up"
    first, *rest = (words or "AssertionError").splitlines()
    lines = [f"FAILED {name} after {time.monotonic() - began:.0f} s: {first}", *rest[:12], f"at {' < '.join(reversed(where[-3:]))}"]
    # The one that the test was about comes first; of others only the whole is kept.
    guests = sorted(guests, key=lambda g: g not in words)
    for guest in guests:
        try:
            seen, whole = evidence.take(testbed, guest)
        except Exception as e:  # noqa: BLE001 - evidence that cannot be had must not hide what it was to explain
            seen = [f"no evidence of {guest}: {type(e).__name__}: {e}"]
            whole = traceback.format_exc()
        keep(f"{name}: {guest}", whole)
        lines += seen if guest == guests[0] else []
    return "\n".join(line[:400] for line in lines)


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
    dead = ""       # a test behind which a guest does not answer any more: the others would only wait for it
    try:
        with testbed:
            report(True, f"testbed up {' '.join(testbed.up_args)}")
            for test in tests:
                if dead:
                    report(False, test.__name__, f"not tried: since {dead} a guest does not answer")
                    continue
                began = time.monotonic()
                try:
                    test(testbed)
                except (Exception, SystemExit) as problem:  # noqa: BLE001 - a test's failure is reported, the next one runs
                    signal.signal(signal.SIGTERM, signal.SIG_IGN if isinstance(problem, SystemExit) else signal.getsignal(signal.SIGTERM))
                    report(False, test.__name__, explain(testbed, test.__name__, began, guests))
                    testbed.kill_jobs()
                    if isinstance(problem, SystemExit):
                        raise
                    if not all(testbed.answers(guest) for guest in guests):
                        dead = test.__name__
                else:
                    print(f"# {test.__name__}: {time.monotonic() - began:.1f} s")
                    report(True, test.__name__)
                    testbed.kill_jobs()
            for guest in guests:
                name = f"the kernel log of {guest} has no complaint"
                if dead:
                    report(False, name, f"not looked at: since {dead} a guest does not answer")
                    continue
                try:
                    bad = testbed.log_complaints(guest)
                except Exception as problem:  # noqa: BLE001
                    bad = [f"{type(problem).__name__}: {problem}"]
                if bad and failed:
                    bad.insert(0, "(what a failed test left running was killed, and the kernel may have complained of that alone)")
                report(not bad, name, "\n".join([f"FAILED {bad[0]}", *bad[1:20]] if bad else []))
                if bad:
                    keep(name, (testbed.run("exec", guest, "--", "dmesg", timeout=60).out if not dead else "") + "\n")
            if failed:
                for target in ("relay0", "donor0", *guests):
                    r = testbed.run("log", target, timeout=90)
                    keep(f"log of {target}", r.out)
    except Exception as problem:  # noqa: BLE001
        traceback.print_exc()
        report(False, f"testbed up {' '.join(testbed.up_args)}", f"FAILED {type(problem).__name__}: {problem}")
    sys.exit(1 if failed else 0)
