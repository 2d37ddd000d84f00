#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""memx-tally is what decides whether the tests passed: each way in which a result can be bad must count as failure."""

import os
import subprocess
import sys
import tempfile

TALLY = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../memx-tally")
END = "\n# run-suite: exit=0 seconds=1.0\n"

# what it shows: (result file or None, the last line, exit status)
CASES = {
    "plain TAP": ("1..2\nok 1 - a\nok 2 - b" + END, "2 passed, 0 failed", 0),
    "a failure": ("1..2\nok 1 - a\nnot ok 2 - b" + END, "1 passed, 1 failed", 1),
    "plan at the end": ("ok 1 - a\nok 2 - b\n1..2" + END, "2 passed, 0 failed", 0),
    "several plans": ("1..1\nok 1 a\n1..2\nok 1 b\nok 2 c" + END, "3 passed, 0 failed", 0),
    "no plan": ("ok 1 - a" + END, "1 passed, 1 failed", 1),
    "tests missing": ("1..3\nok 1 - a\nok 2 - b" + END, "2 passed, 1 failed", 1),
    "more tests than planned": ("1..1\nok 1 - a\nok 2 - b" + END, "2 passed, 1 failed", 1),
    "next plan too early": ("1..2\nok 1 - a\n1..1\nok 1 - b" + END, "2 passed, 1 failed", 1),
    "empty output": (END, "0 passed, 1 failed", 1),
    "no result": (None, "0 passed, 1 failed", 1),
    "interrupted": ("1..1\nok 1 - a\n", "1 passed, 1 failed", 1),
    "status without failed test": ("1..1\nok 1 a\n# run-suite: exit=3 seconds=1.0\n", "1 passed, 1 failed", 1),
    "status with failed test": ("1..1\nnot ok 1 a\n# run-suite: exit=1 seconds=1.0\n", "0 passed, 1 failed", 1),
    "killed after a failed test": ("1..1\nnot ok 1 a\n# run-suite: exit=-11 seconds=1.0\n", "0 passed, 2 failed", 1),
    "timeout": ("1..1\nok 1 a\n# run-suite: timeout=60 seconds=60.0\n", "1 passed, 1 failed", 1),
    "processes left": ("1..1\nok 1 a\n# run-suite: left-processes exit=0 seconds=60.0\n", "1 passed, 1 failed", 1),
    "skipped only": ("1..1\nok 1 a # SKIP no machine" + END, "0 passed, 0 failed", 1),
    "skipped among others": ("1..2\nok 1 a # SKIP no\nok 2 b" + END, "1 passed, 0 failed", 0),
    "bail out": ("1..2\nok 1 a\nBail out! gone" + END, "1 passed, 2 failed", 1),
    "todo is no excuse": ("1..1\nnot ok 1 a # TODO later" + END, "0 passed, 1 failed", 1),
    "KTAP counts leaves": ("KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..2\n    ok 1 a\n"
                           "    ok 2 b\nok 1 s" + END, "2 passed, 0 failed", 0),
    "KTAP failure counts once": ("KTAP version 1\n1..1\n    1..2\n    ok 1 a\n    not ok 2 b\nnot ok 1 s" + END,
                                 "1 passed, 1 failed", 1),
    "KTAP parameters": ("1..1\n    1..1\n        ok 1 p1\n        ok 2 p2\n        1..2\n    ok 1 case\nok 1 s" + END,
                        "2 passed, 0 failed", 0),
    "KUnit parameters": ("1..1\n    1..1\n        ok 1 p1\n        ok 2 p2\n    # case: pass:2 fail:0 skip:0 total:2\n"
                         "    ok 1 case\nok 1 s" + END, "2 passed, 0 failed", 0),
    "KUnit parameters missing": ("1..1\n    1..1\n        ok 1 p1\n    # case: pass:2 fail:0 skip:0 total:2\n"
                                 "    ok 1 case\nok 1 s" + END, "1 passed, 1 failed", 1),
    "KUnit parameters uncounted": ("1..1\n    1..1\n        ok 1 p1\n    ok 1 case\nok 1 s" + END,
                                   "1 passed, 1 failed", 1),
    "KTAP group fails alone": ("1..1\n    1..1\n    ok 1 a\nnot ok 1 s" + END, "1 passed, 1 failed", 1),
    "KTAP subtests missing": ("1..1\n    1..2\n    ok 1 a\nok 1 s" + END, "1 passed, 1 failed", 1),
    "KTAP two suites": ("1..1\n    1..1\n    ok 1 a\nok 1 s\n1..1\n    1..1\n    not ok 1 b\nnot ok 1 t" + END,
                        "1 passed, 1 failed", 1),
    "output cut in a line": ("1..2\nok 1 a\nok 2 b # no end of line" + END, "2 passed, 0 failed", 0),
}


# What is said of failures: (result file, log, lines that the output has in this order before its FAILED lines, what it has not)
SAID = {
    "comments from FAILED on are repeated": (
        "1..2\n# 3 pages\n# FAILED it: why\n# the guest moved\nnot ok 1 - it\n# of another\nok 2 - b\n", "",
        ["---- s: it", "  FAILED it: why", "  the guest moved"], ["3 pages", "of another"]),
    "comments behind the point, as cmocka has them": ("1..1\nnot ok 1 - it\n# 1 != 2\n", "", ["---- s: it", "  1 != 2"], []),
    "the log where nothing was said": ("1..1\nnot ok 1 - it\n", "one\ntwo\n", ["  one", "  two"], []),
    "what a sanitizer found": ("1..1\nok 1 - it\n# run-suite: exit=66 seconds=1.0\n",
                               "fine\nWARNING: ThreadSanitizer: data race\nwhere\n", ["  WARNING: ThreadSanitizer: data race", "  where"], ["fine"]),
    "much is cut, the end is in sight": ("1..1\n# FAILED x\n" + "# a\n" * 100 + "not ok 1 - it\n", "", ["---- s: it", "  FAILED x"], []),
}


def tally(text, log=""):
    """(its lines, its exit status)"""
    with tempfile.TemporaryDirectory() as folder:
        for name, words in (("s.tap", text), ("s.log", log)):
            if words is not None:
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(words)
        done = subprocess.run([TALLY, folder, "s"], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.splitlines(), done.returncode


def main():
    print(f"1..{len(CASES) + len(SAID) + 1}")
    results = []
    for name, (text, last, status) in CASES.items():
        lines, got = tally(text)
        results.append((name, bool(lines) and lines[-1] == last and got == status, lines))
    for name, (text, log, wanted, unwanted) in SAID.items():
        lines, got = tally(text if "run-suite" in text else text + END, log)
        at = [lines.index(line) if line in lines else -1 for line in wanted]
        good = -1 not in at and at == sorted(at) and max(at) < min(i for i, line in enumerate(lines) if line.startswith("FAILED s: "))
        results.append((name, good and not any(word in line for word in unwanted for line in lines) and len(lines) < 60 and got, lines))
    lines, _ = tally("1..1\nok 1 - a\n# run-suite: exit=0 seconds=12.3\n")
    results.append(("seconds of suites", lines[0] == "seconds: s 12", lines))
    for number, (name, good, lines) in enumerate(results, 1):
        print("" if good else "".join(f"# {line}\n" for line in lines), end="")
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
    return 0 if all(good for _, good, _ in results) else 1


sys.exit(main())
