# SPDX-License-Identifier: GPL-2.0-only
"""What is left of a client's throughput while one donor of three is dead, and while its copies are rebuilt.

Every donor's connection is limited to a stated rate each way (memx-gate). The client has a bounded number of pages under way, half
of its operations are stores, and it verifies what it fetches. Phases: all well; one donor killed and its copies being rebuilt on
the other two; rebuilt, and still dead; back again.

Two clients, one after the other. The first has a bounded rate and leaves the processors room, which is measured and told: what it
loses is judged. The second has none: it asks for the next page as soon as one has come, takes all that processors and donors give,
and is told beside the first. Of that one third of the donors' rate goes with the donor, whatever the relay does, and repair
takes its part of the processors.
"""

import os
import time

from .cluster import Cluster, until
from native import Failed

DOMAINS = ["rack0", "rack1", "rack2"]
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0
    return (int(fields[11]) + int(fields[12])) / TICKS


def machine_busy():
    with open("/proc/stat") as file:
        fields = [int(x) for x in file.readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


class Throughput:
    def __init__(self, seed, mib, rate, client, depth, seconds, repair_rate, judged=True):
        self.judged = judged
        self.seed, self.rate, self.depth, self.seconds, self.repair_rate = seed, rate, depth, seconds, repair_rate
        self.client = client
        # One donor of three holds two thirds of the area; up to a quarter of the slots is empty or needs no page.
        self.area = mib * 3 // 2 * 4 // 3
        self.mib = mib
        self.rows = []

    def sample(self):
        guest = self.cluster.guests[0]
        stat = guest.stat("stat 1")
        if stat["wrong"] or stat["errors"]:
            raise Failed(f"wrong {stat['wrong']}, errors {stat['errors']}, reads that failed for good {stat['unread']}")
        pids = [d.process.pid for d in (self.cluster.relay, *self.cluster.donors, guest, self.cluster.gate) if d.process]
        return {"at": time.monotonic(), "ops": stat["stores"] + stat["fetches"] + stat["discards"],
                "longest_ms": stat["longest_us"] / 1000, "cpu": {pid: cpu_seconds(pid) for pid in pids}, "busy": machine_busy()}

    def phase(self, name, over):
        """Samples until over() is true; the row."""
        first = last = self.sample()
        slowest, longest = None, 0
        while True:
            time.sleep(0.25)
            ended = over()
            now = self.sample()
            longest = max(longest, now["longest_ms"])
            if now["at"] - last["at"] >= 1:
                rate = (now["ops"] - last["ops"]) / (now["at"] - last["at"])
                slowest = rate if slowest is None else min(slowest, rate)
                last = now
            if ended:
                break
        span = now["at"] - first["at"]
        busy = (now["busy"][0] - first["busy"][0]) / max(1, now["busy"][1] - first["busy"][1])
        ours = sum(now["cpu"].get(pid, 0) - first["cpu"].get(pid, 0) for pid in now["cpu"]) / span / os.cpu_count()
        row = {"phase": name, "seconds": span, "rate": (now["ops"] - first["ops"]) / span, "slowest": slowest,
               "longest_ms": longest, "cpu": ours, "machine": busy}
        self.rows.append(row)
        healthy = self.rows[0]["rate"]
        print(f"# {name:<26}{row['rate']:>9.0f} pages/s {100 * (1 - row['rate'] / healthy):>6.1f} % less  slowest second "
              f"{row['slowest'] or 0:>7.0f}  longest {longest:>6.0f} ms  {span:>5.1f} s  our CPUs {100 * ours:.0f} %, "
              f"the machine's {100 * busy:.0f} %", flush=True)
        return row

    def for_seconds(self):
        end = time.monotonic() + self.seconds
        return lambda: time.monotonic() >= end

    def repaired(self, victim):
        repair = self.cluster.relay.ask("repair")
        return not repair["remaining"] and not repair["degraded_extents"] and not any(
            victim.id == d for copies in self.cluster.records().values() for d, _ in copies)

    def measure(self):
        c = self.cluster
        for donor in c.donors:
            donor.gate("rate", self.rate)
        guest = c.guests[0]
        slots = self.area * 256
        guest.ask(f"churn {self.seed} 0 {slots} {self.depth} 50 8 {self.client} 1")
        if not until(lambda: guest.stat()["stores"] >= slots, 300):
            raise Failed("the area is not filled within 300 s")
        time.sleep(1)
        self.phase("all donors", self.for_seconds())
        victim = max(c.donors, key=lambda d: d.status()["pages_used"])
        held = victim.status()["pages_used"] * 4096
        before = c.relay.ask("repair")["repair_pages"]
        victim.kill()
        self.phase("one dead, being rebuilt", lambda: self.repaired(victim))
        self.rebuilt = (c.relay.ask("repair")["repair_pages"] - before) * 4096
        self.phase("one dead, rebuilt", self.for_seconds())
        victim.start()
        self.phase("back again", self.for_seconds())
        guest.ask("stop")
        answer = guest.check(slots)
        if answer != "ok":
            raise Failed(f"every page at the end: {answer}")
        return held

    def run(self):
        """Sentences about what is not as promised."""
        print(f"# {len(DOMAINS)} donors, each limited to {self.rate / 1e6:.0f} MB/s each way; at most {self.depth} pages under way "
              f"and {self.client or 'any number of'} per second, half of them stores; two copies; area {self.area} MiB; repair at {self.repair_rate >> 20} MiB/s", flush=True)
        self.cluster = Cluster(self.seed, DOMAINS, 1, self.area, f"{self.area + self.area // 8}M", spare=False,
                               repair_rate=self.repair_rate)
        problems = []
        try:
            held = self.measure()
        except (Failed, OSError) as problem:
            problems = [str(problem)]
        problems += self.cluster.end(bool(problems))
        if problems:
            return problems
        healthy, repairing, dead = (row["rate"] for row in self.rows[:3])
        loss = {"while rebuilding": (1 - repairing / healthy, 0.35), "with one donor of three dead": (1 - dead / healthy, 0.25)}
        allowed = 4 * held / self.repair_rate + 15
        print(f"# rebuilt {self.rebuilt / 2**20:.0f} MiB (the donor held {held / 2**20:.0f}) in {self.rows[1]['seconds']:.1f} s of the "
              f"{allowed:.0f} s that are allowed, {self.rebuilt / 2**20 / self.rows[1]['seconds']:.0f} MiB/s")
        for name, (share, most) in loss.items():
            print(f"# {name}: {100 * share:.1f} % less than with all of them {f'(at most {100 * most:.0f} %)' if self.judged else '(told, not judged)'}")
            if share >= most and self.judged:
                problems.append(f"{name}: {100 * share:.1f} % of the throughput was lost, {100 * most:.0f} % are allowed")
        if self.rows[1]["seconds"] > allowed and self.judged:
            problems.append(f"rebuilding took {self.rows[1]['seconds']:.0f} s, {allowed:.0f} s are allowed")
        if self.rebuilt < self.mib << 20:
            problems.append(f"only {self.rebuilt >> 20} MiB were rebuilt, {self.mib} MiB were wanted")
        if max(row["machine"] for row in self.rows) > 0.9:
            print("# the processors were saturated: what they gave is in these figures too")
        return problems
