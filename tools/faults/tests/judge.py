#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The campaign's own judgement: what it lets pass, what it does not, and that its report says what the guests said."""

import contextlib
import io
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path[:0] = [os.path.join(TOP, "tools", "faults"), os.path.join(TOP, "tools", "native", "tests")]
sys.dont_write_bytecode = True

import memx_faults.campaign  # noqa: E402
from memx_faults import judge  # noqa: E402
from memx_faults.campaign import DOMAINS, Campaign  # noqa: E402
from memx_faults.schedule import NATIVE, NATIVE_PAIRS, XEN, XEN_PAIRS, Schedule  # noqa: E402
from memx_faults.xen import XenCampaign  # noqa: E402
from native import check, equal, main, test  # noqa: E402


@test
def stalls():
    """A page may wait a second; a late machine excuses half a second at most, beyond that nothing can be judged."""
    equal(judge.verdict(999, 0, 1000), "", "999 ms")
    equal(judge.verdict(1000, 0, 1000), "long", "1000 ms")
    equal(judge.verdict(1400, 450, 1000), "", "1400 ms, the machine 450 ms late")
    equal(judge.verdict(1500, 450, 1000), "long", "1500 ms, the machine 450 ms late")
    equal(judge.verdict(5000, 4900, 1000), "late", "5000 ms, the machine 4900 ms late")
    equal(judge.verdict(900, 4900, 1000), "", "900 ms on a late machine")
    row = {"stall_ms": 1500, "fetch_ms": 20, "away_ms": 0, "lag_ms": 0}
    equal(judge.of_row(row), "long", "a store, the fetches were quick")
    equal(judge.of_row({**row, "away_ms": 600}), "", "a store, nobody was there for 600 ms of it")
    equal(judge.of_row({**row, "away_ms": 500}), "long", "a store, nobody was there for 500 ms of it")


@test
def excuses():
    """Only what was out of reach altogether is waited for: the relay, or both donors of a pair at once."""
    equal(judge.excused([("stop", 0, 800)]), 0, "one donor")
    equal(judge.excused([("stop", 0, 800), ("cut", 300, 1500)]), 500, "two, for as long as both were silent")
    equal(judge.excused([("kill", 0, 10), ("cut", 300, 1500)]), 1200, "what was killed does not come back")
    equal(judge.excused([("kill", 0, 10), ("drain", 300, 1500)]), 0, "one that is drained is there")
    equal(judge.excused([("pages", 0, 400), ("relay-kill", 20, 300)]), 280, "the relay")


@test
def report_of_guests():
    """What guests count is in the report: wrong, lost, unread, errors; also where the end was not reached."""
    campaign = Campaign(1, 1)
    campaign.latest = {"g0": {"stores": 7, "fetches": 5, "wrong": 2, "lost": 1, "errors": 4, "unread": 3},
                       "g1": {"stores": 1, "fetches": 1, "wrong": 0, "lost": 1, "errors": 0, "unread": 1}}
    facts = campaign.facts(0)
    equal([facts[key] for key in ("pages wrong", "pages lost", "SIGBUS", "unexpected errors", "pages verified")], [2, 2, 4, 4, 6], "facts")


class Said:
    """A memx-pages that has said these lines."""

    def __init__(self, *lines):
        self.other, self.verified, self.written, self.wrong = list(lines), 11, 12, 13


@test
def report_of_xen():
    """On Xen: the processes that a SIGBUS ended, what the module counts, what memx-pages said at its end or last."""
    campaign = XenCampaign(1, 1)
    campaign.module = {"fetch_errors": 2, "store_errors": 3, "nospace": 1, "expired": 0}
    campaign.work = Said("a process was ended by signal 7 (Bus error)", "a process was ended by signal 9 (Killed)",
                         "pages_verified=4 pages_written=5 pages_wrong=1 longest_touch_ms=3 seconds=1.0")
    facts = campaign.facts(0)
    equal([facts[key] for key in ("pages wrong", "pages lost", "SIGBUS", "unexpected errors", "pages verified")], [1, 2, 1, 4, 4], "facts")
    campaign.work = Said()
    equal(campaign.facts(0)["pages wrong"], 13, "wrong, before the end")


class Asked(Campaign):
    """Two donors, one of which was asked for memory when it had helped itself @before; they say @statuses one after the other."""

    def __init__(self, before, *statuses):
        super().__init__(1, 1)
        self.asked, self.statuses = {"d0": before}, list(statuses)

    def reclaim_status(self):
        return {"d0": self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0], "d1": donor(0, 0)}


def donor(waited, dropped, refused=0, asked=5):
    return {"reclaim_waited_ms": waited, "reclaim_took_ms": 700, "instance": "1", "pages_asked": asked,
            "counters": {"extents_dropped": dropped, "reclaims_refused": refused}}


@test
def reclaim():
    """A donor that waited for the relay longer than its bound is a problem, and one that does nothing while the relay stands still."""
    def problems(look, *args):
        campaign = Asked(*args)
        with contextlib.redirect_stdout(io.StringIO()):
            look(campaign)
        return len(campaign.report.problems)

    bound = judge.reclaim_bound(Campaign(1, 1).reclaim_wait_ms)
    equal(problems(Campaign.look_reclaim, (0, 0), donor(bound, 1)), 0, "within the bound")
    equal(problems(Campaign.look_reclaim, (0, 0), donor(bound + 1, 1)), 1, "later")
    memx_faults.campaign.PATIENCE = 0.1
    equal(problems(Campaign.wait_helped, (4, 0), donor(0, 4), donor(0, 5)), 0, "dropped")
    equal(problems(Campaign.wait_helped, (4, 0), donor(0, 4), donor(0, 4, 1)), 0, "refused")
    equal(problems(Campaign.wait_helped, (4, 0), donor(0, 4, asked=0)), 0, "nothing more was wanted")
    equal(problems(Campaign.wait_helped, (4, 0), donor(0, 4)), 1, "nothing")


@test
def schedules():
    """Every kind and every pair is in a long schedule; and one seed makes one schedule."""
    for where, kinds, pairs, domains in (("native", NATIVE, NATIVE_PAIRS, DOMAINS), ("xen", XEN, XEN_PAIRS, ["a", "b", "c"])):
        faults = Schedule(5, 3000, domains, where, where == "native").faults
        names = {f.name for f in faults}
        want = {kind for kind in kinds if kind not in ("pair", "spare")} | {"+".join(pair) for pair in pairs}
        check(want <= names, f"{where}: never struck: {want - names}")
        equal([f.text() for f in faults], [f.text() for f in Schedule(5, 3000, domains, where, where == "native").faults], "twice")
        for f in faults:
            check(not (f.beside and f.beside.destroys and not f.destroys), f"{f.text()}: silent first, and another one killed")


if __name__ == "__main__":
    sys.exit(main())
