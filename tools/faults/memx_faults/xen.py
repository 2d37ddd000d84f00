# SPDX-License-Identifier: GPL-2.0-only
"""The same campaign on real Xen: the testbed's donors and relay are struck while memx-pages runs in a guest.

The guest's program says every second how long the longest touch of a page took since it last said so; a line is taken to be of
the time at which it arrives. Everything is emulated: the figures are for comparison with those of the run without faults, which
stand beside them. Between relay and donors stands memx-gate, as natively: the relay's configuration in Dom0 names its ports.
What cuts a donor off works on packets in Dom0.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time

from . import judge
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
RECLAIM_WAIT_MS = 2000  # so long donors wait for the relay before they help themselves
BUS = re.compile(rf"ended by signal {int(signal.SIGBUS)}\b")
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
        self.reclaim_wait_ms = RECLAIM_WAIT_MS
        self.work = None
        self.module = {}        # counters of the guest's module, at the end

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

    def donor(self, index):
        return native.control(self.controls[index], "status")

    def instance(self, index):
        return self.donor(index)["instance"]

    def settle(self, index):
        """What the testbed's configuration of a donor does not say, whenever it was started."""
        env = self.testbed.exec(f"donor{index}", "sh", "-c", f"echo reclaim_wait = {RECLAIM_WAIT_MS}ms >>$MEMX_SERVER_CONFIG && "
                                "echo pressure = 0 >>$MEMX_SERVER_CONFIG && kill -HUP $MEMX_SERVER_PID && echo $MEMX_SERVER_CONTROL")
        if env.status:
            raise Failed(f"donor{index} does not take its configuration: {env}")
        return env.out.strip()

    def unlike(self):
        status, donors, repair = self.ask("status"), self.ask("donors"), self.ask("repair")
        if not status or donors is None or not repair:
            return "the relay does not answer"
        if status["attached"] != 1:
            return "the guest is not attached"
        for index, donor in enumerate(sorted(donors, key=lambda d: d["name"])):
            own = self.donor(index)
            if donor["state"] != "usable" or donor["instance"] != own["instance"]:
                return f"{donor['name']} is {donor['state']}: {donor['reason']}"
            if donor["extents"] != own["extents"]:
                return f"{donor['name']} holds {own['extents']} extents, the relay knows of {donor['extents']}"
        if repair["remaining"] or repair["degraded_extents"] or repair["waiting_extents"]:
            return f"extents: {repair}"
        return None

    def figures(self):
        """What memx-pages said, and how it ended; what the guest's module counts."""
        work = self.work
        said = "\n".join(work.other) if work else ""
        last = LAST.search(said)
        verified, written, wrong = map(int, last.groups()[:3]) if last else (work.verified, work.written, work.wrong) if work else (0, 0, 0)
        failed = sum(self.module.get(key, 0) for key in ("store_errors", "nospace", "expired"))
        return {"fetches": verified, "stores": written, "wrong": wrong, "lost": self.module.get("fetch_errors", 0), "errors": failed,
                "unread": len(BUS.findall(said))}

    def look_module(self):
        self.module, _ = evidence.guest_figures(self.testbed, "guest0")
        if "fetch_errors" not in self.module:
            self.problem("the guest does not tell its module's counters")
        bad = {key: self.module[key] for key in ("store_errors", "fetch_errors", "nospace", "expired", "violations") if self.module.get(key)}
        if bad:
            self.problem(f"the guest's module counts {bad}")

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

        def back():
            t.must("donor", str(d), "start")
            self.settle(d)

        def gate(*words):
            return lambda: self.gate(d, *words)

        def cut(action):
            return lambda: t.sh("host0", f"/sbin/testbed-cut {action} {self.ports[d]}")

        if f.kind == "kill":
            if f.rebuilt:
                return [(at, donor("kill"))], [lambda: self.wait_rebuilt(d), back]
            return [(at, donor("kill")), (end, back)], []
        if f.kind == "stop":
            return [(at, donor("stop")), (end, donor("cont"))], []
        if f.kind == "cut":
            return [(at, cut("cut")), (end, cut("heal"))], []
        if f.kind == "reset":
            return [(at, gate("reset"))], []
        if f.kind in ("slow", "delay"):
            return [(at, gate("rate" if f.kind == "slow" else "delay", f.value)), (end, gate("calm"))], []
        if f.kind in ("tear", "pages", "stores"):
            return [(at, gate(f.kind, f.value)), (end + 3000, gate("calm"))], []
        if f.kind == "headers":
            return [(at, gate("headers", 1, f.value)), (end + 3000, gate("calm"))], []
        if f.kind == "limit":
            if f.rebuilt:
                return [(at, lambda: self.limit(d, f.value))], [lambda: self.wait_given_back(d), lambda: self.unlimit(d)]
            return [(at, lambda: self.limit(d, f.value)), (end, lambda: self.unlimit(d))], []
        if f.kind == "drain":
            return [(at, lambda: self.order("drain", d))], [lambda: self.wait_empty(d), lambda: self.order("undrain", d)]
        if f.kind == "relay-kill":
            return [(at, lambda: (self.keep_counters(), relay("kill")())), (end, relay("start"))], []
        if f.kind == "relay-term":
            return [(at, lambda: (self.keep_counters(), relay("restart")()))], []
        if f.kind == "relay-stop":
            return [(at, relay("stop")), (end, relay("cont"))], []
        raise ValueError(f.kind)

    def gate(self, index, *words):
        word, *arguments = words
        return self.sentinel.ask(" ".join(map(str, (word, f"donor{index}", *arguments))))

    def limit(self, index, percent):
        status = self.donor(index)
        used = status["pages_used"] * 4096
        limit = max(used * percent // 100, 1 << 20)
        if used - limit > 2 << 20:
            self.asked[f"donor{index}"] = self.helped_itself(status)
        native.control(self.controls[index], "limit", bytes=limit)

    def unlimit(self, index):
        native.control(self.controls[index], "limit", default=True)

    def wait_given_back(self, index):
        def given():
            status = self.donor(index)
            return status["pages_used"] <= status["pages_limit"]

        if not until(given, WAIT_S):
            raise Failed(f"donor{index} did not get its memory back within {WAIT_S} s: {self.donor(index)}")

    def reclaim_status(self):
        return {f"donor{i}": self.donor(i) for i in range(len(DOMAINS))}

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
        if not LAST.search("\n".join(self.work.other)) or self.work.process.returncode:
            self.problem(f"memx-pages ended with {self.work.process.returncode}: {self.work.other[-5:]}")
        self.look_module()
        self.keep_counters()
        for key in ("violations", "extents_lost") + (() if self.damaging else ("donor_violations", "bad_pages")):
            if self.sum[key]:
                self.problem(f"relay: {key} {self.sum[key]}")
        complaints = self.testbed.log_complaints("guest0")
        if complaints:
            self.problem("the guest's kernel log: " + "; ".join(complaints[:5]))

    def stand_between(self):
        """From now on the relay reaches the donors through gates."""
        edits = ""
        for index in range(len(DOMAINS)):
            port = int(self.testbed.exec(f"donor{index}", "sh", "-c", "echo ${MEMX_SERVER_ADDRESS##*:}").out)
            self.ports.append(self.sentinel.ask(f"add donor{index} {port}")["port"])
            edits += f" -e s/:{port}$/:{self.ports[index]}/"
        self.testbed.sh("host0", f"sed -i{edits} /etc/memx/relay.conf && kill -HUP $(pidof memx-dom0-relay)")

        def through():
            links = [self.gate(index, "stat")["links"] for index in range(len(DOMAINS))]
            return all(links) and self.unlike() is None

        if not until(through, WAIT_S):
            raise Failed(f"the relay does not take the gates' addresses: {self.unlike()}")

    def campaign(self):
        self.controls = [self.settle(i) for i in range(len(DOMAINS))]
        self.stand_between()
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
        self.seen, self.total, self.last, self.ports = {}, None, [], []
        begun = time.monotonic()
        self.sentinel = Gate(self.seed)
        try:
            with xenlib.Testbed("faults", guests=1, donors=len(DOMAINS), swap=SWAP_MIB, replicas=2) as self.testbed:
                try:
                    self.campaign()
                except Exception:
                    self.look_module()
                    raise
                finally:
                    if self.report.problems or sys.exc_info()[0]:
                        self.report.evidence, whole = evidence.take(self.testbed)
                        xenlib.keep("the campaign", whole)
                        for target in ("relay0", "guest0"):
                            print(f"# ---- log of {target}", *self.testbed.run("log", target).out.splitlines()[-40:], sep="\n# ")
        except (Failed, AssertionError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as problem:
            self.problem(f"{type(problem).__name__}: {problem}")
        damaged = [self.gate(index, "stat") for index in range(len(self.ports))]
        self.sentinel.stop()
        self.report.facts = {
            **self.facts(round(time.monotonic() - begun)),
            **{f"{what} damaged on the way": sum(s[key] for s in damaged)
               for what, key in (("pages", "pages"), ("stores", "stores"), ("headers", "headers"))},
            "streams torn": sum(s["torn"] for s in damaged),
            **{f"relay: {key}": self.sum[key] for key in self.sum},
        }
        return self.report
