# SPDX-License-Identifier: GPL-2.0-only
"""The same campaign on real Xen: the testbed's donors and relay are struck while memx-pages runs in a guest.

The guest's program says every second how long the longest touch of a page took since it last said so; a line is taken to be of
the time at which it arrives. Everything is emulated: the figures are for comparison with those of the run without faults, which
stand beside them.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time

from .campaign import Campaign
from .cluster import TOP, Gate, native, until
from .report import Report
from .schedule import Schedule
from native import Failed

sys.path.insert(0, os.path.join(TOP, "tools", "xen-tests"))

import evidence  # noqa: E402
import xenlib  # noqa: E402

DOMAINS = ["rack0", "rack1", "rack2"]
SWAP_MIB = 256
PAGES_MIB = 96          # in a guest of 128 MiB
WITHOUT_S = 20          # before the first fault, to compare with
QUIET_S = 2
DEAD_S = 15             # more than the relay's donor_dead
WAIT_S = 240            # for anything; emulation is slow, and machines are busy
LINE = re.compile(r"so_far verified=(\d+) written=(\d+) wrong=(\d+) recent_us=(\d+)")
LAST = re.compile(r"pages_verified=(\d+) pages_written=(\d+) pages_wrong=(\d+) longest_touch_ms=(\d+)")


class Workload(threading.Thread):
    """memx-pages in a guest, and what it says."""

    def __init__(self, testbed, guest, mib, seed):
        super().__init__(daemon=True)
        prog = testbed.push_program(guest, "memx-pages")
        self.process = subprocess.Popen(
            [xenlib.TESTBED, "exec", "--name", testbed.name, guest, "--", prog, "--mib", str(mib), "--seconds", "1000000",
             "--every", "1", "--seed", str(seed)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True)
        self.came = threading.Condition()
        self.lines, self.other = 0, []
        self.verified = self.written = self.wrong = self.recent_ms = 0
        self.start()

    def run(self):
        for line in self.process.stdout:
            m = LINE.search(line)
            with self.came:
                if m:
                    self.verified, self.written, self.wrong = (int(m[i]) for i in (1, 2, 3))
                    self.recent_ms = max(self.recent_ms, int(m[4]) / 1000)
                    self.lines += 1
                else:
                    self.other.append(line.rstrip())
                self.came.notify_all()

    def wait_lines(self, count):
        """Until so many more lines have come."""
        with self.came:
            want = self.lines + count
            if not self.came.wait_for(lambda: self.lines >= want or self.process.poll() is not None, WAIT_S) or self.lines < want:
                raise Failed(f"memx-pages says nothing for {WAIT_S} s, or has ended: {self.other[-5:]}")

    def take(self):
        with self.came:
            recent, self.recent_ms = self.recent_ms, 0
            return self.verified, recent


class XenCampaign(Campaign):
    def __init__(self, seed, count, only=(), tap=None):
        super().__init__(seed, count, only, tap=tap)
        self.schedule = Schedule(seed, count, DOMAINS, "xen", False, only)
        self.report = Report(seed, "real Xen in emulation", count)
        self.instances = {}

    # -- looks --------------------------------------------------------------------------------------------------------

    def stats(self):
        self.work.wait_lines(2)         # the second one began after this moment
        now = time.monotonic()
        verified, recent = self.work.take()
        if self.work.wrong != self.seen.get("wrong", 0):
            self.problem(f"memx-pages: {self.work.wrong} pages wrong: {self.work.other[-3:]}")
            self.seen["wrong"] = self.work.wrong
        row = {"stall_ms": recent, "fetch_ms": None, "lag_ms": self.sentinel.lag_ms(),
               "rate": (verified - self.total[0]) / (now - self.total[1]) if self.total else None}
        self.total = (verified, now)
        return row

    def ask(self, *args):
        """memxctl on the host; None while the relay is away."""
        try:
            return self.testbed.memctl("host0", *args)
        except (AssertionError, ValueError, subprocess.TimeoutExpired):
            return None

    def keep_counters(self):
        for key, value in ((self.ask("status") or {}).get("counters") or {}).items():
            if key in self.sum:
                self.sum[key] += value

    def instance(self, index):
        return native.control(self.controls[index], "status")["instance"]

    def unlike(self):
        status, donors, repair = self.ask("status"), self.ask("donors"), self.ask("repair")
        if not status or donors is None or not repair:
            return "the relay does not answer"
        if status["attached"] != 1:
            return "the guest is not attached"
        for index, donor in enumerate(sorted(donors, key=lambda d: d["name"])):
            if donor["state"] != "usable" or donor["instance"] != self.instance(index):
                return f"{donor['name']} is {donor['state']}: {donor['reason']}"
        if repair["remaining"] or repair["degraded_extents"] or repair["waiting_extents"]:
            return f"extents: {repair}"
        return None

    def whole(self, why):
        if not until(lambda: self.unlike() is None, WAIT_S):
            raise Failed(f"{why}: after {WAIT_S} s {self.unlike()}")

    def may_destroy(self, f):
        return True             # whole() was just awaited; the guest's records are the kernel's there

    def alive(self):
        if self.work.process.poll() is not None:
            raise Failed(f"memx-pages ended: {self.work.other[-5:]}")

    def noticed(self, f, instances):
        def seen():
            return all(d["state"] != "usable" or d["instance"] != instances[d["name"]]
                       for d in self.ask("donors") or [] if d["name"] in instances)

        if not until(seen, WAIT_S):
            raise Failed(f"the relay does not notice {f.text()}")

    # -- faults -------------------------------------------------------------------------------------------------------

    def names(self, f):
        return {f"donor{i}": self.instance(i) for i in f.donors}

    def events(self, f, at):
        t, end = self.testbed, at + f.ms
        d = f.donors[0] if f.donors else None

        def donor(action):
            return lambda: t.must("donor", str(d), action)

        def relay(action):
            return lambda: t.must("relay", "host0", action)

        if f.kind == "kill":
            if f.rebuilt:
                return [(at, donor("kill"))], [lambda: self.wait_rebuilt(d), donor("start")]
            return [(at, donor("kill")), (end, donor("start"))], []
        if f.kind == "stop":
            return [(at, donor("stop")), (end, donor("cont"))], []
        if f.kind == "cut":
            return [(at, donor("cut")), (end, donor("heal"))], []
        if f.kind == "drain":
            return [(at, lambda: self.order("drain", d))], [lambda: self.wait_empty(d), lambda: self.order("undrain", d)]
        if f.kind == "relay-kill":
            return [(at, lambda: (self.keep_counters(), relay("kill")())), (end, relay("start"))], []
        if f.kind == "relay-stop":
            return [(at, relay("stop")), (end, relay("cont"))], []
        raise ValueError(f.kind)

    def order(self, cmd, index):
        if not until(lambda: self.ask(cmd, f"donor{index}") is not None, WAIT_S):
            self.problem(f"the relay does not take {cmd} donor{index}")

    def extents_at(self, index):
        found = [d["extents"] for d in self.ask("donors") or [] if d["name"] == f"donor{index}"]
        return found[0] if found else None

    def wait_rebuilt(self, index):
        def rebuilt():
            # Copies at a donor that is away count as missing from the moment on in which it is taken to be dead.
            repair = time.monotonic() - self.begun > DEAD_S and self.ask("repair")
            return repair and not repair["remaining"] and not repair["degraded_extents"]

        if not until(rebuilt, WAIT_S):
            raise Failed(f"what donor{index} had was not rebuilt elsewhere within {WAIT_S} s: {self.ask('repair')}")
        self.rebuilt_s = time.monotonic() - self.begun

    def wait_empty(self, index):
        if not until(lambda: self.order("drain", index) or self.extents_at(index) == 0, WAIT_S):
            raise Failed(f"donor{index} was not emptied within {WAIT_S} s")

    # -- all of it ----------------------------------------------------------------------------------------------------

    def finish(self):
        """Every page once more, in order; what the guest's kernel has to say."""
        self.number = len(self.schedule.faults) + 1
        self.testbed.exec("guest0", "killall", "-USR1", "memx-pages", timeout=WAIT_S)
        try:
            self.work.process.wait(WAIT_S * 2)
        except subprocess.TimeoutExpired as late:
            raise Failed("the pages are not verified in order within the time") from late
        self.work.join(10)
        m = LAST.search("\n".join(self.work.other))
        if not m or self.work.process.returncode:
            raise Failed(f"memx-pages ended with {self.work.process.returncode}: {self.work.other[-5:]}")
        self.done = {"fetches": int(m[1]), "stores": int(m[2]), "wrong": int(m[3]), "lost": 0, "errors": 0}
        if self.done["wrong"]:
            self.problem(f"{self.done['wrong']} pages were wrong: {self.work.other[-5:]}")
        self.keep_counters()
        for key in ("violations", "extents_lost", "donor_violations", "bad_pages"):
            if self.sum[key]:
                self.problem(f"relay: {key} {self.sum[key]}")
        complaints = self.testbed.log_complaints("guest0")
        if complaints:
            self.problem("the guest's kernel log: " + "; ".join(complaints[:5]))

    def campaign(self):
        self.controls = [self.testbed.exec(f"donor{i}", "printenv", "MEMX_SERVER_CONTROL").out.strip() for i in range(len(DOMAINS))]
        self.work = Workload(self.testbed, "guest0", PAGES_MIB, self.seed)
        until(lambda: self.work.wait_lines(1) or self.work.verified > 500, WAIT_S)
        self.stats()
        begun = time.monotonic()
        while time.monotonic() - begun < WITHOUT_S:
            self.work.wait_lines(1)
        self.report.quiet.append(self.stats())
        self.strike_all(QUIET_S)
        self.finish()

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.done, self.seen, self.total, self.last = {}, {}, None, []
        begun = time.monotonic()
        self.sentinel = Gate(self.seed)
        try:
            with xenlib.Testbed("faults", guests=1, donors=len(DOMAINS), swap=SWAP_MIB, replicas=2) as self.testbed:
                try:
                    self.campaign()
                finally:
                    if self.report.problems or sys.exc_info()[0]:
                        self.report.evidence, whole = evidence.take(self.testbed)
                        xenlib.keep("the campaign", whole)
                        for target in ("relay0", "guest0"):
                            print(f"# ---- log of {target}", *self.testbed.run("log", target).out.splitlines()[-40:], sep="\n# ")
        except (Failed, AssertionError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as problem:
            self.problem(f"{type(problem).__name__}: {problem}")
        self.sentinel.stop()
        self.report.facts = {
            "faults": sum(len(rows) for rows in self.report.kinds.values()), "seconds": round(time.monotonic() - begun),
            "pages verified": self.done.get("fetches", 0), "pages written": self.done.get("stores", 0),
            "pages wrong": self.done.get("wrong", 0), "pages lost": self.done.get("lost", 0),
            "unexpected errors": len(self.report.problems),
            "longest stall without faults, ms": round(self.report.quiet[0]["stall_ms"]) if self.report.quiet else "-",
            "longest stall with faults, ms": round(self.report.worst(self.report.kinds)),
            "donors killed, each after repair": self.sequential, **{f"relay: {key}": self.sum[key] for key in self.sum},
        }
        return self.report

    def judge_stalls(self):
        """In emulation times are told, not judged."""
