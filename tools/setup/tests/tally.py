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


def main():
    print(f"1..{len(CASES)}")
    bad = 0
    for number, (name, (text, last, status)) in enumerate(CASES.items(), 1):
        with tempfile.TemporaryDirectory() as folder:
            if text is not None:
                with open(os.path.join(folder, "s.tap"), "w", encoding="utf-8") as file:
                    file.write(text)
            done = subprocess.run([TALLY, folder, "s"], stdout=subprocess.PIPE, text=True, check=False)
        lines = done.stdout.splitlines()
        good = lines and lines[-1] == last and done.returncode == status
        bad += not good
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
        if not good:
            print(f"# wanted: {last}, status {status}; got status {done.returncode} and")
            print("".join(f"#   {line}\n" for line in lines), end="")
    return 1 if bad else 0


sys.exit(main())
