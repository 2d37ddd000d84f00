# SPDX-License-Identifier: GPL-2.0-only
"""What test programs in Python share: expectations, waiting with a deadline, and a runner that prints TAP."""

import sys
import time
import traceback


class Failed(Exception):
    """A test's expectation did not hold."""


def check(condition, what):
    if not condition:
        raise Failed(what)


def equal(got, want, what):
    if got != want:
        raise Failed(f"{what}: got {got!r}, want {want!r}")


def until(condition, what, seconds):
    """Waits for something that comes without an event that a test could wait on: until condition() is true; returns that."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def title(test):
    """A test's name: the first line of its docstring, or its own name in words."""
    return (test.__doc__ or test.__name__.replace("_", " ")).strip().splitlines()[0].rstrip(".")


def run(tests):
    """Runs functions as tests: all, or those with one of the program's arguments in their names. The exit status."""
    chosen = [test for test in tests if not sys.argv[1:] or any(word in test.__name__ for word in sys.argv[1:])]
    print(f"1..{len(chosen)}", flush=True)
    bad = 0
    for number, test in enumerate(chosen, 1):
        begun = time.monotonic()
        try:
            test()
        except Exception as problem:  # a test that breaks in any way has failed, the others go on
            bad += 1
            if not isinstance(problem, Failed):
                traceback.print_exc()
            print("".join(f"# {line}\n" for line in f"{type(problem).__name__}: {problem}".splitlines()), end="")
            print(f"not ok {number} - {title(test)}", flush=True)
        else:
            print(f"ok {number} - {title(test)}", flush=True)
        print(f"{title(test)}: {time.monotonic() - begun:.1f} s", file=sys.stderr)
    return 1 if bad or not chosen else 0
