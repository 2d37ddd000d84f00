#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The systemd units as "make install" lays them down: systemd understands every line, finds the programs, and judges the sandbox."""

import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))
DEST = os.path.join(os.environ["MEMX_TMP"], "dest")
UNITS = os.path.join(DEST, "usr/local/lib/systemd/system")
# Where systemd looks for the program of an ExecStart= without path, in its order.
SEARCHED = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin")
# The exposure that systemd-analyze computes, times ten, may not grow beyond this. The relay makes hypercalls, which need root.
EXPOSURE = {"memx-server.service": 13, "memx-dom0-relay.service": 25}


def run(*argv):
    done = subprocess.run(argv, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False)
    return done.returncode, done.stdout


def analyze(*argv):
    """systemd-analyze, which makes /run/systemd where no systemd has: a user who may not do that gets a /run of their own."""
    own = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs run /run && exec "$@"', "sh")
    there = os.geteuid() == 0 or os.path.isdir("/run/systemd")
    return run(*(() if there else own), "systemd-analyze", *argv)


def verify(name):
    """What systemd-analyze says of a unit whose programs lie below DEST."""
    with open(os.path.join(UNITS, name), encoding="utf-8") as file:
        text = file.read()
    missing = []

    def installed(found):
        for folder in SEARCHED:
            path = os.path.join(DEST, folder, found[2])
            if os.access(path, os.X_OK):
                return found[1] + path
        missing.append(f"{name}: {found[2]} is installed nowhere where systemd looks\n")
        return found[0]

    text = re.sub(r"^(Exec\w+=)(memx[\w-]*)", installed, text, flags=re.M)
    if "=" + DEST not in text:
        missing.append(f"{name}: starts no program of ours by its bare name\n")
    path = os.path.join(os.environ["MEMX_TMP"], name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    status, said = analyze("verify", "--man=no", path)
    return "".join(missing) + (said or (f"status {status}\n" if status else ""))


def exposure(name, limit):
    status, said = analyze("security", "--no-pager", "--offline=yes", f"--threshold={limit}",
                       os.path.join(UNITS, name))
    print("".join(f"# {line}\n" for line in said.splitlines() if "Overall" in line), end="")
    return said if status or "Overall exposure" not in said else ""


def guest_files():
    """What "make install-guest" lays down is what a guest needs, and nothing of the daemons."""
    dest = DEST + "-guest"
    status, said = run("make", "-s", "install-guest", f"DESTDIR={dest}")
    found = sorted(os.path.relpath(os.path.join(folder, name), dest) for folder, _, names in os.walk(dest) for name in names)
    want = ["usr/local/lib/systemd/system/memx-swap.service", "usr/local/lib/udev/rules.d/60-memx.rules", "usr/local/sbin/memx-swapon"]
    if status or said or found != want:
        return f"status {status}, there is {found}\n{said}"
    return "" if os.access(os.path.join(dest, want[2]), os.X_OK) else f"{want[2]} cannot be run\n"


def main():
    status, said = run("make", "-s", "install", f"DESTDIR={DEST}")
    names = sorted(name for name in (os.listdir(UNITS) if os.path.isdir(UNITS) else []) if name.endswith(".service"))
    tests = [("make install lays down three units", said if status or len(names) != 3 else "")]
    tests += [("make install-guest lays down a guest's part alone", guest_files())]
    tests += [(f"systemd has nothing to say of {name}", verify(name)) for name in names]
    tests += [(f"{name} is exposed no more than it has to be", exposure(name, limit)) for name, limit in EXPOSURE.items()]
    print(f"1..{len(tests)}")
    for number, (name, wrong) in enumerate(tests, 1):
        print("".join(f"# {line}\n" for line in wrong.splitlines()), end="")
        print(f"{'not ok' if wrong else 'ok'} {number} - {name}")
    return 1 if any(wrong for _, wrong in tests) else 0


sys.exit(main())
