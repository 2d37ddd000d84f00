# SPDX-License-Identifier: GPL-2.0-only
"""Reads what test programs print: TAP, and KTAP with its nested groups. The rules are in memx-tally."""

import os
import re

PLAN = re.compile(r"^1\.\.(\d+)\b")
POINT = re.compile(r"^(not ok|ok)\b(?:\s+(\d+))?(?:\s+-)?\s*(.*?)\s*$")
ENDING = re.compile(r"^# run-suite: (.+) seconds=([\d.]+)$")
SKIP = re.compile(r"#\s*skip\b", re.IGNORECASE)
TOTALS = re.compile(r"^# \S+: pass:\d+ fail:\d+ skip:\d+ total:(\d+)$")
BAIL = re.compile(r"^Bail out!\s*(.*)$")


class Group:
    """Test points of one plan; in KTAP and in subtests they are indented below the point that sums them up."""

    def __init__(self, indent):
        self.indent = indent
        self.planned = None
        self.points = 0
        self.failed = 0         # counted below and in this group


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.complaints = []

    def fail(self, text):
        self.failed += 1
        self.complaints.append(text)

    def close(self, group):
        if group.planned is None:
            if group.points:
                self.fail("no plan: the tests may be incomplete")
                group.failed += 1
        elif group.points != group.planned:
            self.fail(f"{group.planned} tests planned, {group.points} seen")
            group.failed += 1

    def read(self, lines):
        """Gives how the suite ended, or None where run-suite's line is missing."""
        stack = [Group(0)]
        below = None            # the group that the next point of its parent sums up
        ending = None
        for raw in lines:
            line = raw.rstrip()
            text = line.lstrip(" ")
            indent = len(line) - len(text)
            found = ENDING.match(line)
            if found:
                ending = found[1]
                continue
            totals = TOTALS.match(text)
            if totals and indent < stack[-1].indent and stack[-1].planned is None:
                # KUnit gives the cases of a test with parameters no plan, but counts them afterwards.
                stack[-1].planned = int(totals[1])
            plan, point, bail = PLAN.match(text), POINT.match(text), BAIL.match(text)
            if bail:
                self.fail(f"bailed out: {bail[1]}")
            if not plan and not point:
                continue
            while indent < stack[-1].indent:
                below = stack.pop()
                self.close(below)
            if indent > stack[-1].indent:
                stack.append(Group(indent))
                below = None
            group = stack[-1]
            if plan:
                if group.planned is not None:
                    # One program may print several plans, one after the other.
                    self.close(group)
                    stack[-1] = group = Group(indent)
                group.planned = int(plan[1])
                continue
            group.points += 1
            self.point(group, below, point)
            below = None
        while stack:
            self.close(stack.pop())
        return ending

    def point(self, group, below, point):
        name = point[3] or f"test {point[2]}"
        if below is not None and below.points:
            if point[1] == "not ok" and not below.failed:
                self.fail(f"{name} failed, but none of its tests")
                below.failed += 1
            group.failed += below.failed
        elif SKIP.search(point[3]):
            self.skipped += 1
        elif point[1] == "ok":
            self.passed += 1
        else:
            group.failed += 1
            self.fail(name)


def judge(results, suite):
    tally = Tally()
    try:
        with open(os.path.join(results, f"{suite}.tap"), encoding="utf-8", errors="replace") as file:
            ending = tally.read(file)
    except FileNotFoundError:
        tally.fail("did not run (could it be built?)")
        return tally
    if ending is None:
        tally.fail("interrupted")
    elif ending != "exit=0" and (not tally.failed or not ending.startswith("exit=")):
        tally.fail(f"ended with {ending}")
    elif ending.startswith("exit=-"):
        tally.fail(f"killed by signal {ending[6:]}")
    if not tally.passed and not tally.failed and not tally.skipped:
        tally.fail("printed no test result")
    return tally
