# SPDX-License-Identifier: GPL-2.0-only
"""The campaign over native processes: strikes by the schedule, waits, looks, and writes it down."""

import re
import signal
import time

from . import judge
from .cluster import PATIENCE, RECLAIM_WAIT_MS, Cluster, until
from .report import Report
from .schedule import RELAY, Schedule
import native
from native import SLOW, Failed

DOMAINS = ["rack0", "rack0", "rack1", "rack1", "rack2", "rack3"]       # the last one comes and goes
GUESTS = 2
MIB = 32                # of each guest
DEPTH = 64              # pages of it in its memory at once
RATE = 12000            # operations per second and guest
WITHOUT_S = 10          # before the first fault, to compare with
QUIET_S = 0.12          # between two faults
REPAIR_S = 60           # until all copies are there again
SETTINGS = {"extent": "256K", "repair_rate": "512M", "connect_retry": "50ms", "donor_dead": "2s"}
STRIKES = 3             # of one fault, where the machine is too late to judge it by
SUMMED = ("extents_lost", "violations", "donor_violations", "bad_pages", "replicas_dropped", "replicas_repaired", "hedges",
          "donor_losses", "no_repair_room", "resends", "reclaimed", "given_up")


class Campaign:
    def __init__(self, seed, count, only=(), rate=RATE, mib=MIB, tap=None, judged=False):
        self.schedule = Schedule(seed, count, DOMAINS, "native", True, only)
        self.report = Report(seed, "native", count)
        self.seed, self.rate, self.mib = seed, rate, mib
        self.sum = dict.fromkeys(SUMMED, 0)
        self.number = 0
        self.damaging = False
        self.interrupted = False
        self.judged = judged    # whether a page may wait only so long
        self.sequential = 0     # donors killed one after the other, each after repair
        self.reclaim_wait_ms = RECLAIM_WAIT_MS
        self.checked = self.check_wrong = 0     # pages, at the end
        self.latest = {}        # of each guest, what it said last
        self.waited_ms = 0      # the longest that a donor which wanted memory back waited for the relay
        self.asked = {}         # donor: how often it had helped itself when memory was wanted back from it
        self.helped = {}        # (donor, instance): the same, seen last
        self.before = None
        self.tell = tap or (lambda text: None)

    def problem(self, sentence):
        self.report.problem(self.number, sentence)

    # -- looks --------------------------------------------------------------------------------------------------------

    def stats(self):
        """Of all guests together since the last time: operations, longest stalls; and what is wrong so far."""
        now, total, stall, fetch = time.monotonic(), 0, 0, 0
        for guest in self.cluster.guests:
            stat = self.latest[guest.name] = guest.stat("stat 1")
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
            status = donor.status()
            used = status["pages_used"] * 4096
            limit = max(used * percent // 100, 1 << 20)
            if used - limit > 2 << 20:
                self.asked[donor.name] = self.helped_itself(status)
            donor.limit(limit)

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

    def reclaim_status(self):
        """name: status, of every donor."""
        return {d.name: d.status() for d in self.cluster.donors if d.running}

    @staticmethod
    def helped_itself(status):
        """How often a donor dropped a copy by itself, and how often it said why it could not."""
        return status["counters"]["extents_dropped"], status["counters"]["reclaims_refused"]

    def wait_helped(self):
        """The relay stands still: who was asked for memory has dropped something, or said why not, before it goes on."""
        def waiting():
            return [name for name, status in self.reclaim_status().items() if name in self.asked and status["pages_asked"] and
                    self.helped_itself(status) == self.asked[name]]

        if not until(lambda: not waiting(), PATIENCE):
            self.problem(f"the relay stands still, and {waiting()} neither dropped a copy nor said why not within {PATIENCE} s")

    def look_reclaim(self):
        """How long donors waited that wanted memory back, and what they dropped."""
        bound = judge.reclaim_bound(self.reclaim_wait_ms)
        for name, status in self.reclaim_status().items():
            waited = status["reclaim_waited_ms"]
            self.waited_ms = max(self.waited_ms, waited)
            if waited > bound:
                self.problem(f"{name} waited {waited} ms for the relay before it helped itself, its bound is {bound} ms")
            self.helped[name, status["instance"]] = self.helped_itself(status)
            if name in self.asked:
                self.report.reclaim.append(status["reclaim_took_ms"] / 1000)

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

    def plan(self, f):
        """[(when in ms, the fault of a pair whose it is, what to do)] in order, and what is waited for behind all of these."""
        events, behind = self.events(f, 0)
        events = [(when, f, act) for when, act in events]
        if f.beside:
            more, later = self.events(f.beside, f.offset_ms)
            if f.destroys and f.beside.kind in ("stop", "cut", "slow", "delay", "reset"):
                instances = self.names(f)
                more.insert(0, (f.offset_ms, lambda: self.noticed(f, instances)))
            if f.kind == "relay-stop" and f.beside.kind == "limit":
                events.insert(1, (f.ms, f, self.wait_helped))
            events, behind = events + [(when, f.beside, act) for when, act in more], later + behind
        return sorted(events, key=lambda event: event[0]), behind

    def run_one(self, f):
        """The row of figures; None where it may not strike."""
        if f.destroys and not self.may_destroy(f):
            return None
        self.damaging |= any(x and x.kind in ("headers", "tear", "pages", "stores") for x in (f, f.beside))
        quiet = self.stats()
        self.report.quiet.append(quiet)
        for name in self.last:
            self.report.kinds[name][-1]["after"] = quiet["rate"]
        self.rebuilt_s, self.asked = None, {}
        events, behind = self.plan(f)
        begun = self.begun = time.monotonic()
        windows = {}            # of each of a pair: its kind, when it began, when it ended
        for when, part, act in events:
            time.sleep(max(0, begun + when / 1000 - time.monotonic()))
            now = time.monotonic()
            act()
            kind, start, _ = windows.get(id(part), (part.kind, now, None))
            windows[id(part)] = (kind, start, time.monotonic())
        for act in behind:
            act()
        self.whole(f.text())
        self.alive()
        seconds = time.monotonic() - begun
        row = self.stats()
        row["during"] = row.pop("rate")
        row["before"] = quiet["rate"]
        row["seconds"] = seconds
        row["away_ms"] = judge.excused([(kind, start * 1000, end * 1000) for kind, start, end in windows.values()])
        row["verdict"] = judge.of_row(row)
        if f.destroys:
            row["repair_s"] = self.rebuilt_s or seconds
            self.sequential += 1
        if "limit" in (f.kind, f.beside and f.beside.kind):
            self.look_reclaim()
        self.report.row(f.name, row)
        self.last = [f.name]
        return row

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
            row = self.run_one(f)
            for _ in range(STRIKES - 1):
                if not self.judged or not row or row["verdict"] != "late" or f.kind in ("add", "remove"):
                    break
                self.report.again += 1
                self.tell(f"{f.number} again, for the machine was {row['lag_ms']:.0f} ms late")
                time.sleep(quiet)
                row["verdict"] = "repeated"
                row = self.run_one(f)
            if row and self.judged:
                self.judge(f, row)

    def judge(self, f, row):
        if row["verdict"] == "long":
            self.report.long += 1
            self.problem(f"{f.name}: a page waited {row['stall_ms']:.0f} ms, a fetch {row['fetch_ms']:.0f} ms; the relay or both donors were away for "
                         f"{row['away_ms']:.0f} ms, the machine was {row['lag_ms']:.0f} ms late")
        elif row["verdict"] == "late":
            self.report.late += 1
            self.problem(f"{f.name}: cannot be judged: a page waited {row['stall_ms']:.0f} ms, and the machine was {row['lag_ms']:.0f} ms late")

    def finish(self):
        """Every page once more; then everything is given back."""
        c = self.cluster
        self.number = len(self.schedule.faults) + 1
        for guest in c.guests:
            self.latest[guest.name] = guest.stat("stop")
            answer = guest.check(self.mib * 256)
            if answer != "ok":
                self.check_wrong += int(re.match(r"error (\d+) slots|", answer)[1] or 1)
                self.problem(f"guest {guest.name}, every page at the end: {answer}")
            self.checked += self.mib * 256
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
        self.seen, self.total, self.last = {}, None, []
        begun = time.monotonic()
        self.cluster = Cluster(self.seed, DOMAINS, GUESTS, self.mib, f"{self.mib * GUESTS * 2}M", **SETTINGS)
        try:
            self.load()
            self.stats()
            if self.judged:
                time.sleep(WITHOUT_S)
                self.report.quiet.append(self.stats())
            self.strike_all(QUIET_S)
            self.finish()
        except (Failed, OSError, ValueError, KeyError) as problem:
            self.problem(f"{type(problem).__name__}: {problem}")
        finally:
            damaged = [donor.gate("stat") for donor in self.cluster.donors]
            for sentence in self.cluster.end(bool(self.report.problems)):
                self.problem(sentence)
        self.report.facts = {
            **self.facts(round(time.monotonic() - begun)),
            "pages damaged on the way": sum(s["pages"] for s in damaged), "of these found by the relay": self.sum["bad_pages"],
            "stores damaged on the way": sum(s["stores"] for s in damaged),
            "headers damaged, streams torn": f"{sum(s['headers'] for s in damaged)}, {sum(s['torn'] for s in damaged)}",
            **{f"relay: {key}": self.sum[key] for key in SUMMED if key != "bad_pages"},
        }
        return self.report

    def figures(self):
        """What the guests said last."""
        return {key: sum(stat[key] for stat in self.latest.values()) for key in ("stores", "fetches", "wrong", "lost", "errors", "unread")}

    def facts(self, seconds):
        r, done = self.report, self.figures()
        reclaim = f"{len(r.reclaim)} times, longest {max(r.reclaim, default=0):.2f} s"
        return {
            "faults": sum(len(rows) for rows in r.kinds.values()) - r.again, "seconds": seconds,
            "pages verified": done["fetches"] + self.checked, "pages written": done["stores"],
            "pages wrong": done["wrong"] + self.check_wrong, "pages lost": done["lost"],
            "SIGBUS": done["unread"],
            "unexpected errors": done["errors"] + len(r.problems) - r.long - r.late,
            "pages that waited too long, faults": r.long, "cannot be judged, faults": r.late,
            "longest stall without faults, ms": r.number(r.most(r.quiet, "stall_ms")),
            "longest stall, a donor's faults, ms": r.number(r.worst(lambda name: "+" not in name and name not in RELAY)),
            "longest stall, pairs of these, ms": r.number(r.worst(lambda name: "+" in name and not set(name.split("+")) & RELAY)),
            "longest stall, the relay's faults, ms": r.number(r.worst(lambda name: set(name.split("+")) & RELAY)),
            "struck again, the machine was late": r.again,
            "pages/s before, during, after": f"{r.average('before')}, {r.average('during')}, {r.average('after')}",
            "donors killed, each after repair": self.sequential,
            "memory given back": reclaim,
            "donors waited for the relay, at most": f"{self.waited_ms} ms, bound {judge.reclaim_bound(self.reclaim_wait_ms)} ms",
            "copies that donors dropped themselves": sum(dropped for dropped, _ in self.helped.values()),
            "times that they said why not": sum(refused for _, refused in self.helped.values()),
        }
