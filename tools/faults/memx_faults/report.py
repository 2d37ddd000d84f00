# SPDX-License-Identifier: GPL-2.0-only
"""What a campaign has seen, and how it is told."""

import json


class Report:
    def __init__(self, seed, where, wanted):
        self.seed, self.where, self.wanted = seed, where, wanted
        self.kinds = {}             # name: list of rows
        self.problems = []          # (fault number, sentence)
        self.evidence = []          # lines: what was seen of a testbed on which there were any
        self.quiet = []             # rows without a fault
        self.reclaim = []           # seconds until a donor had its memory back
        self.long = self.late = 0   # faults at which a page waited too long, and that cannot be judged
        self.again = 0              # faults that were struck again, for the machine was too late to judge them by
        self.facts = {}

    def problem(self, number, sentence):
        self.problems.append((number, sentence))
        for line in f"fault {number}: {sentence}".splitlines():
            print(f"# {line}", flush=True)

    def row(self, name, row):
        self.kinds.setdefault(name, []).append(row)

    @staticmethod
    def most(rows, key):
        seen = [r[key] for r in rows if r.get(key) is not None]
        return max(seen) if seen else None

    @staticmethod
    def mean(rows, key):
        seen = [r[key] for r in rows if r.get(key) is not None]
        return sum(seen) / len(seen) if seen else None

    def worst(self, wanted, key="stall_ms"):
        """The longest of those kinds for which wanted(name) is true."""
        return max((self.most(rows, key) or 0 for name, rows in self.kinds.items() if wanted(name)), default=0)

    def average(self, key):
        return self.number(self.mean([row for rows in self.kinds.values() for row in rows], key))

    @staticmethod
    def number(value, unit=""):
        return "-" if value is None else f"{value:.0f}{unit}"

    def table(self):
        lines = [f"{'fault':<24}{'times':>6}{'stall':>9}{'fetch':>9}{'lag':>7}{'away':>7}{'before':>9}{'during':>9}{'after':>9}{'repair':>9}"
                 f"{'longest':>9}",
                 f"{'':<24}{'':>6}{'ms':>9}{'ms':>9}{'ms':>7}{'ms':>7}{'pages/s':>9}{'pages/s':>9}{'pages/s':>9}{'mean s':>9}{'s':>9}"]
        for name, rows in sorted(self.kinds.items()):
            repair, longest = self.mean(rows, "repair_s"), self.most(rows, "repair_s")
            lines.append(f"{name:<24}{len(rows):>6}{self.number(self.most(rows, 'stall_ms')):>9}"
                         f"{self.number(self.most(rows, 'fetch_ms')):>9}{self.number(self.most(rows, 'lag_ms')):>7}"
                         f"{self.number(self.most(rows, 'away_ms')):>7}"
                         f"{self.number(self.mean(rows, 'before')):>9}{self.number(self.mean(rows, 'during')):>9}"
                         f"{self.number(self.mean(rows, 'after')):>9}"
                         f"{'-' if repair is None else f'{repair:.2f}':>9}{'-' if longest is None else f'{longest:.2f}':>9}")
        if self.quiet:
            lines.append(f"{'no fault':<24}{len(self.quiet):>6}{self.number(self.most(self.quiet, 'stall_ms')):>9}"
                         f"{self.number(self.most(self.quiet, 'fetch_ms')):>9}{self.number(self.most(self.quiet, 'lag_ms')):>7}"
                         f"{'-':>7}{self.number(self.mean(self.quiet, 'rate')):>9}")
        return "\n".join(lines)

    def show(self):
        lines = ["", f"Fault campaign, {self.where}, FAULTS_SEED={self.seed}", "", *self.table().splitlines(), "",
                 "stall: the longest that one page's operation took, fetch: that a fetch took; lag: by how much this machine let a",
                 "waiting thread run too late meanwhile (a stall is that much uncertain); away: for how long the relay was away, or the",
                 "donors of a pair both had no use, so that pages had to wait; repair: until every page had all its copies.",
                 "SIGBUS: reads that failed for good, of which a kernel makes that signal; on real Xen, processes that were ended by it.",
                 "", *(f"{key:<40}{value}" for key, value in self.facts.items()),
                 *(f"FAILED at fault {number}: {sentence}" for number, sentence in self.problems)]
        print("\n".join(f"# {line}".rstrip() for line in lines), flush=True)

    def save(self, path):
        with open(path, "w") as file:
            json.dump({"seed": self.seed, "where": self.where, "facts": self.facts, "problems": self.problems,
                       "kinds": self.kinds, "quiet": self.quiet}, file, indent=1)
