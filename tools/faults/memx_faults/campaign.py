# SPDX-License-Identifier: GPL-2.0-only
"""The campaign over native processes: strikes by the schedule, waits, looks, and writes it down."""

import signal
import time

from .cluster import PATIENCE, Cluster, until
from .report import Report
from .schedule import BOUNDED, RELAY, Schedule
import native
from native import SLOW, Failed

DOMAINS = ["rack0", "rack0", "rack1", "rack1", "rack2", "rack3"]       # the last one comes and goes
GUESTS = 2
MIB = 32                # of each guest
DEPTH = 64              # pages of it in its memory at once
RATE = 12000            # operations per second and guest
QUIET_S = 0.12          # between two faults
REPAIR_S = 60           # until all copies are there again
SETTINGS = {"extent": "256K", "repair_rate": "512M", "connect_retry": "50ms", "donor_dead": "2s"}
SUMMED = ("extents_lost", "violations", "donor_violations", "bad_pages", "replicas_dropped", "replicas_repaired", "hedges",
          "donor_losses", "no_repair_room", "resends")


class Campaign:
    def __init__(self, seed, count, only=(), rate=RATE, mib=MIB, tap=None):
        self.schedule = Schedule(seed, count, DOMAINS, "native", True, only)
        self.report = Report(seed, "native", count)
        self.seed, self.rate, self.mib = seed, rate, mib
        self.sum = dict.fromkeys(SUMMED, 0)
        self.number = 0
        self.damaging = False
        self.interrupted = False
        self.sequential = 0     # donors killed one after the other, each after repair
        self.before = None
        self.tell = tap or (lambda text: None)

    def problem(self, sentence):
        self.report.problem(self.number, sentence)

    # -- looks --------------------------------------------------------------------------------------------------------

    def stats(self):
        """Of all guests together since the last time: operations, longest stalls; and what is wrong so far."""
        now, total, stall, fetch = time.monotonic(), 0, 0, 0
        for guest in self.cluster.guests:
            stat = guest.stat("stat 1")
            total += stat["stores"] + stat["fetches"] + stat["discards"]
            stall = max(stall, stat["longest_us"] / 1000)
            fetch = max(fetch, stat["longest_fetch_us"] / 1000)
            bad = {key: stat[key] for key in ("wrong", "lost", "errors") if stat[key] != self.seen.get((guest.name, key), 0)}
            if bad:
                self.problem(f"guest {guest.name}: " + ", ".join(f"{key} {value}" for key, value in bad.items()))
                self.seen.update({(guest.name, key): stat[key] for key in bad})
        row = {"stall_ms": stall, "fetch_ms": fetch, "lag_ms": self.cluster.gate.lag_ms(),
               "rate": (total - self.total[0]) / (now - self.total[1]) if self.total else None}
        self.total = (total, now)
        return row

    def keep_counters(self):
        """Of a relay that is about to go."""
        for key, value in self.cluster.counters().items():
            if key in self.sum:
                self.sum[key] += value

    # -- faults -------------------------------------------------------------------------------------------------------

    def events(self, f, at):
        """[(when in ms, what to do)]; and what has to be waited for behind all of these."""
        c, donors = self.cluster, [self.cluster.donors[i] for i in f.donors]
        end = at + f.ms
        d = donors[0] if donors else None

        def each(act):
            return lambda: [act(donor) for donor in donors]

        if f.kind in ("kill", "kill-domain"):
            begin = [(at, each(lambda donor: donor.kill()))]
            if f.rebuilt:
                return begin, [lambda: self.wait_rebuilt(d), lambda: d.start()]
            return begin + [(end, each(lambda donor: donor.start()))], []
        if f.kind == "stop":
            return [(at, lambda: d.kill(signal.SIGSTOP)), (end, lambda: d.kill(signal.SIGCONT))], []
        if f.kind == "cut":
            return [(at, lambda: d.gate("cut", 1)), (end, lambda: d.gate("cut", 0))], []
        if f.kind == "reset":
            return [(at, lambda: d.gate("reset"))], []
        if f.kind in ("slow", "delay"):
            word = {"slow": "rate", "delay": "delay"}[f.kind]
            return [(at, lambda: d.gate(word, f.value)), (end, lambda: d.gate("calm"))], []
        if f.kind in ("tear", "pages", "stores"):
            return [(at, lambda: d.gate(f.kind, f.value)), (end + 400, lambda: d.gate("calm"))], []
        if f.kind == "headers":
            return [(at, lambda: d.gate("headers", 1, f.value)), (end, lambda: d.gate("calm"))], []
        if f.kind == "drain":
            return [(at, lambda: self.order("drain", d, True))], [lambda: self.wait_empty(d), lambda: self.order("drain", d, False)]
        if f.kind == "limit":
            if f.rebuilt:
                return [(at, lambda: self.limit(d, f.value))], [lambda: self.wait_given_back(d), lambda: d.limit(d.memory)]
            return [(at, lambda: self.limit(d, f.value)), (end, lambda: d.running and d.limit(d.memory))], []
        if f.kind == "relay-stop":
            return [(at, lambda: c.relay.kill(signal.SIGSTOP)), (end, lambda: c.relay.kill(signal.SIGCONT))], []
        if f.kind == "relay-kill":
            return [(at, lambda: self.end_relay(signal.SIGKILL)), (end, c.relay.start)], []
        if f.kind == "relay-term":
            return [(at, lambda: self.end_relay(signal.SIGTERM)), (end, c.relay.start)], []
        if f.kind in ("add", "remove"):
            return [(at, lambda: self.list_donor(d, f.kind == "add"))], []
        if f.kind == "resume":
            return [(at, lambda: [guest.ask("resume") for guest in c.guests])], []
        raise ValueError(f.kind)

    def end_relay(self, sig):
        self.keep_counters()
        self.cluster.relay.kill(sig)

    def order(self, cmd, donor, on):
        """To the relay; again where it is just away."""
        def ask():
            try:
                return self.cluster.relay.ask(cmd, donor=donor.name, on=on)
            except (OSError, Failed, ValueError):
                return None

        if not until(ask, PATIENCE):
            self.problem(f"the relay does not take {cmd} {donor.name}")

    def limit(self, donor, percent):
        if donor.running:
            used = donor.status()["pages_used"] * 4096
            donor.limit(max(used * percent // 100, 1 << 20))

    def list_donor(self, donor, on):
        relay = self.cluster.relay
        relay.donors = [d for d in relay.donors if d is not donor] + ([donor] if on else [])
        relay.reload()

    def wait_rebuilt(self, donor):
        """All copies are there although this one stays away."""
        def rebuilt():
            repair = self.cluster.relay.try_ask("repair")
            return (repair and not repair["remaining"] and not repair["degraded_extents"] and
                    not any(donor.id in (d for d, _ in copies) for copies in self.cluster.records().values()))

        if not until(rebuilt, REPAIR_S * SLOW):
            raise Failed(f"what {donor.name} had was not rebuilt elsewhere within {REPAIR_S * SLOW} s: "
                         f"{self.cluster.relay.try_ask('repair')}")
        self.rebuilt_s = time.monotonic() - self.begun

    def wait_empty(self, donor):
        # A relay that was restarted has forgotten the order.
        if not until(lambda: self.order("drain", donor, True) or not self.cluster.extents_at(donor), REPAIR_S * SLOW):
            raise Failed(f"{donor.name} was not emptied within {REPAIR_S * SLOW} s: {self.cluster.extents_at(donor)} extents left")

    def wait_given_back(self, donor):
        """The relay has moved away what the donor may not hold any more."""
        def given():
            status = donor.status()
            return status["pages_used"] <= status["pages_limit"]

        if not until(given, REPAIR_S * SLOW):
            raise Failed(f"{donor.name} did not get its memory back within {REPAIR_S * SLOW} s: {donor.status()}")
        self.report.reclaim.append(time.monotonic() - self.begun)

    def whole(self, why):
        """Waits until all is well again, and what waited has ended."""
        struck = time.monotonic()

        def ended():
            since = (time.monotonic() - struck) * 1e6
            return all(guest.stat()["oldest_us"] < since for guest in self.cluster.guests)

        if until(lambda: self.cluster.unlike() is None, REPAIR_S * SLOW) and until(ended, PATIENCE):
            return
        raise Failed(f"{why}: after {REPAIR_S * SLOW} s {self.cluster.unlike()}")

    def alive(self):
        c = self.cluster
        for daemon in [c.relay, *c.donors]:
            if not daemon.running:
                raise Failed(f"{daemon.name} ended by itself with {daemon.process.poll()}: {daemon.tail()}")

    def may_destroy(self, f):
        """By what the guests hold: does every extent have a live copy elsewhere?"""
        donors = [self.cluster.donors[i] for i in f.donors]
        only = self.cluster.only_at(donors)
        if not only:
            return True
        names = "+".join(donor.name for donor in donors)
        self.problem(f"{len(only)} extents have no live copy outside {names}, although repair is through: {only[:4]}")
        return False

    def run_one(self, f):
        if f.destroys and not self.may_destroy(f):
            return
        self.damaging |= any(x and x.kind in ("headers", "tear", "pages", "stores") for x in (f, f.beside))
        quiet = self.stats()
        self.report.quiet.append(quiet)
        for name in self.last:
            self.report.kinds[name][-1]["after"] = quiet["rate"]
        self.rebuilt_s = None
        events, behind = self.events(f, 0)
        if f.beside:
            more, later = self.events(f.beside, f.offset_ms)
            if f.destroys and f.beside.kind in ("stop", "cut", "slow", "delay", "reset"):
                instances = self.names(f)
                more.insert(0, (f.offset_ms, lambda: self.noticed(f, instances)))
            events, behind = events + more, later + behind
        begun = self.begun = time.monotonic()
        for when, act in sorted(events, key=lambda event: event[0]):
            time.sleep(max(0, begun + when / 1000 - time.monotonic()))
            act()
        for act in behind:
            act()
        self.whole(f.text())
        self.alive()
        seconds = time.monotonic() - begun
        row = self.stats()
        row["during"] = row.pop("rate")
        row["before"] = quiet["rate"]
        row["seconds"] = seconds
        if f.destroys:
            row["repair_s"] = self.rebuilt_s or seconds
            self.sequential += 1
        self.report.row(f.name, row)
        self.last = [f.name]

    def names(self, f):
        """Of a fault's donors: {name: instance}."""
        return {d.name: d.instance for d in (self.cluster.donors[i] for i in f.donors)}

    def noticed(self, f, instances):
        if not until(lambda: self.cluster.noticed(instances), PATIENCE):
            raise Failed(f"the relay does not notice {f.text()}")

    # -- all of it ----------------------------------------------------------------------------------------------------

    def load(self):
        slots = self.mib * 256
        for number, guest in enumerate(self.cluster.guests):
            guest.ask(f"churn {self.seed * 10 + number} 0 {slots} {DEPTH} 50 32 {self.rate} 1")
        for guest in self.cluster.guests:       # most of the area holds something before the first fault
            native.until(lambda: guest.stat()["stores"] > slots, "load")  # noqa: B023

    def strike_all(self, quiet):
        """The schedule. An interrupt ends it early, and what was done so far is reported."""
        signal.signal(signal.SIGINT, lambda *_: setattr(self, "interrupted", True))
        for f in self.schedule.faults:
            time.sleep(quiet)
            if self.interrupted:
                print(f"# interrupted before fault {f.number}", flush=True)
                break
            self.number = f.number
            self.tell(f"{f.number} {f.text()}")
            self.run_one(f)

    def finish(self):
        """Every page once more; then everything is given back."""
        c = self.cluster
        self.number = len(self.schedule.faults) + 1
        for guest in c.guests:
            stat = guest.stat("stop")
            for key in ("stores", "fetches", "wrong", "lost", "errors"):
                self.done[key] = self.done.get(key, 0) + stat[key]
            answer = guest.ask_raw("check")
            if answer != "ok":
                self.done["wrong"] += 1
                self.problem(f"guest {guest.name}, every page at the end: {answer}")
            self.done["fetches"] += self.mib * 256
            counters = guest.ask("counters")
            # Where the only copy within reach was damaged on its way, the relay says so, and the page is asked for again.
            odd = {key: counters[key] for key in ("violations", "corrupt", "store_errors", "fetch_errors", "refusals")
                   if int(counters[key]) and not (key == "corrupt" and self.damaging)}
            if odd:
                self.problem(f"guest {guest.name} counts {odd}")
        self.keep_counters()
        if self.sum["violations"] or self.sum["extents_lost"]:
            self.problem(f"relay: violations {self.sum['violations']}, extents_lost {self.sum['extents_lost']}")
        if not self.damaging and (self.sum["donor_violations"] or self.sum["bad_pages"]):
            self.problem(f"relay: donor_violations {self.sum['donor_violations']}, bad_pages {self.sum['bad_pages']}, and nothing "
                         "was damaged")
        for guest in c.guests:
            guest.ask(f"detach {PATIENCE * 1000}")

        def left():
            return {d.name: (d.status()["pages_used"], len(d.sessions())) for d in c.donors if d.running}

        # A guest that has detached attaches anew, with an empty session.
        if not until(lambda: all(used == 0 for used, _ in left().values()), PATIENCE):
            self.problem(f"after every guest has detached, donors still hold (pages, sessions) {left()}")

    def run(self):
        self.done, self.seen, self.total, self.last = {}, {}, None, []
        begun = time.monotonic()
        self.cluster = Cluster(self.seed, DOMAINS, GUESTS, self.mib, f"{self.mib * GUESTS * 2}M", **SETTINGS)
        try:
            self.load()
            self.stats()
            self.strike_all(QUIET_S)
            self.finish()
        except (Failed, OSError, ValueError, KeyError) as problem:
            self.problem(f"{type(problem).__name__}: {problem}")
        finally:
            damaged = [donor.gate("stat") for donor in self.cluster.donors]
            for sentence in self.cluster.end(bool(self.report.problems)):
                self.problem(sentence)
        faults = sum(len(rows) for rows in self.report.kinds.values())
        self.report.facts = {
            "faults": faults, "seconds": round(time.monotonic() - begun), "pages verified": self.done.get("fetches", 0),
            "pages written": self.done.get("stores", 0), "pages wrong": self.done.get("wrong", 0),
            "pages lost": self.done.get("lost", 0), "unexpected errors": self.done.get("errors", 0) + len(self.report.problems),
            "donors killed, each after repair": self.sequential,
            "memory given back, longest s": f"{len(self.report.reclaim)} times, {max(self.report.reclaim, default=0):.2f}",
            "pages damaged on the way": sum(s["pages"] for s in damaged), "of these found by the relay": self.sum["bad_pages"],
            "stores damaged on the way": sum(s["stores"] for s in damaged),
            "headers damaged, streams torn": f"{sum(s['headers'] for s in damaged)}, {sum(s['torn'] for s in damaged)}",
            **{f"relay: {key}": self.sum[key] for key in SUMMED if key != "bad_pages"},
        }
        return self.report

    def judge_stalls(self):
        """Against what is promised: less than a second where another copy is within reach."""
        for name, rows in self.report.kinds.items():
            key = "fetch_ms" if name in ("slow", "delay") else "stall_ms"
            for row in rows if name in BOUNDED - RELAY else ():
                if row[key] - row["lag_ms"] >= 1000:
                    self.problem(f"{name}: a page waited {row[key]:.0f} ms (the machine was {row['lag_ms']:.0f} ms late)")
