# SPDX-License-Identifier: GPL-2.0-only
"""Reads what test programs print: TAP, and KTAP with its nested groups. The rules are in memx-tally.

A suite can say why a test failed: comments before the point, of which those from the last "# FAILED" on count, the most
telling first; or after it, as cmocka does.
"""

import os
import re

PLAN = re.compile(r"^1\.\.(\d+)\b")
POINT = re.compile(r"^(not ok|ok)\b(?:\s+(\d+))?(?:\s+-)?\s*(.*?)\s*$")
ENDING = re.compile(r"^# run-suite: (.+) seconds=([\d.]+)$")
SKIP = re.compile(r"#\s*skip\b", re.IGNORECASE)
TOTALS = re.compile(r"^# \S+: pass:\d+ fail:\d+ skip:\d+ total:(\d+)$")
COMMENT = re.compile(r"^#+(?! ?(?:Subtest|run-suite): ) ?(.*)$")
SANITIZER = re.compile(r"(WARNING|ERROR): \w+Sanitizer|runtime error: ")
WORDS = 8           # lines of a failure that has no "# FAILED"
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


def lines_of(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def seconds(results, suite):
    """How long a suite ran; None where it did not come to its end."""
    ends = [found for found in map(ENDING.match, lines_of(os.path.join(results, f"{suite}.tap"))) if found]
    return float(ends[-1][2]) if ends else None


def last_first(lines):
    """The end of a traceback says what happened, the rest where."""
    return lines[-1:] + lines[:-1]


def reasons(results, suite):
    """[(failed test, [what the suite said of it])]; where it said nothing, the end of its log, or what a sanitizer found."""
    found, comments, current = [], [], None
    for line in lines_of(os.path.join(results, f"{suite}.tap")):
        point, comment = POINT.match(line.strip()), COMMENT.match(line.strip())
        if point:
            current = None
            if point[1] == "not ok" and not SKIP.search(point[3]):
                marks = [at for at, text in enumerate(comments) if text.startswith("FAILED")]
                found.append((point[3] or f"test {point[2]}", comments[marks[-1]:] if marks else last_first(comments[-WORDS:])))
                current = found[-1][1] if not comments else None
            comments = []
        elif comment and comment[1]:
            comments.append(comment[1])
            if current is not None and len(current) < WORDS:
                current.append(comment[1])
    log = [line for line in lines_of(os.path.join(results, f"{suite}.log")) if line.strip()]
    for name, words in found:
        at = [i for i, line in enumerate(log) if line.lstrip().startswith("not ok") and line.endswith(name)]
        if not words and at:
            words += last_first([line for line in log[max(0, at[0] - WORDS // 2):at[0]] if not POINT.match(line.strip())])
    if not any(words for _, words in found):
        marks = [at for at, line in enumerate(log) if SANITIZER.search(line)]
        found.append(("the end of its log" if not marks else "a sanitizer", log[marks[0]:][:3 * WORDS] if marks else log[-WORDS:]))
    return [(name, words) for name, words in found if words]


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
