#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""memx-lint on small trees: it finds what is wrong whoever owns the tree, and fails where it has nothing to look at."""

import os
import shutil
import subprocess
import sys

LINT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
TREE = os.path.join(os.environ["MEMX_TMP"], "tree")
NOBODY = 65534


def run(*argv):
    # No git tree around this one is to be found.
    env = dict(os.environ, GIT_CEILING_DIRECTORIES=os.environ["MEMX_TMP"])
    done = subprocess.run(argv, cwd=TREE, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    return done.returncode, done.stdout


def lint(*steps):
    return run(os.path.join(TREE, "tools/lint/memx-lint"), *steps)


def write(name, text):
    with open(os.path.join(TREE, name), "w", encoding="ascii") as file:
        file.write(text)


def fails_without_git():
    """a tree that git does not know fails, and git's reason is told"""
    for step in ("house", "scripts", "checkpatch"):
        status, said = lint(step)
        assert status == 1 and "not a git repository" in said, (step, said)


def passes():
    """a tree with nothing wrong passes"""
    status, said = run("git", "init", "-q", ".")
    assert not status, said
    status, said = lint("house", "scripts")
    assert not status and said.count("\nok ") == 2, said


def finds():
    """what is wrong is found"""
    write("wrong.py", "# SPDX-License-Identifier: GPL-2.0-only\nif \n")
    status, said = lint("house", "scripts")
    assert status == 1 and said.count("not ok") == 2 and said.count("wrong.py:2") == 2, said


def finds_in_the_tree_of_another():
    """what is wrong is found where root looks at a tree that somebody else owns"""
    if os.geteuid():
        return "SKIP only root may give a tree away"
    os.chown(TREE, NOBODY, NOBODY)
    for folder, folders, files in os.walk(TREE):
        for name in folders + files:
            os.chown(os.path.join(folder, name), NOBODY, NOBODY, follow_symlinks=False)
    status, said = run("git", "status")
    assert status and "dubious ownership" in said, f"git minds no more: {said}"
    return finds()


def fails_without_sources():
    """steps that read sources fail where there are none"""
    for step in ("sparse", "clang-tidy", "cppcheck", "checkpatch", "module"):
        status, said = lint(step)
        assert status == 1, (step, said)
    write("Makefile", "generated lint-sources:\n\t@:\n")
    for step in ("sparse", "clang-tidy", "cppcheck"):
        status, said = lint(step)
        assert status == 1 and "no sources" in said, (step, said)


def main():
    shutil.copytree(LINT, os.path.join(TREE, "tools/lint"))
    tests = [fails_without_git, passes, finds, finds_in_the_tree_of_another, fails_without_sources]
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for number, test in enumerate(tests, 1):
        why, note = "", ""
        try:
            note = test() or ""
        except (AssertionError, OSError) as error:
            why = str(error) or type(error).__name__
        failed += bool(why)
        sys.stdout.write("".join(f"# {line}\n" for line in why.splitlines()))
        print(f"{'not ok' if why else 'ok'} {number} - {test.__doc__}{f' # {note}' if note else ''}", flush=True)
    return 1 if failed else 0


sys.exit(main())
