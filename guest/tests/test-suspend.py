#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A guest that is paging is checkpointed, saved and restored on real Xen: test-suspend.py KERNEL pv|pvh

The relay and the donors are the real ones and stay up. Prints TAP.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "xen-tests"))
import xenlib  # noqa: E402

STATISTICS = "/sys/devices/platform/memx/statistics"
MIB = 88
IMAGE = "/tmp/guest0.save"


def counter(t, name):
    return int(t.sh("guest0", f"cat {STATISTICS}/{name}"))


def session(t):
    return t.sh("guest0", "cat /sys/devices/platform/memx/session").strip()


def begin(t, seed):
    """A job that pages until it is told to stop, and has begun to."""
    job = t.pages_start("guest0", MIB, "--touches", 1500, "--seed", seed)
    before = counter(t, "stores")
    t.wait("the job to be swapped out", lambda: counter(t, "stores") > before + 500)
    return job


def checkpoint(t):
    """Suspended, and nothing came of it: the same channel goes on, no page is asked for twice."""
    job = begin(t, 1)
    attaches, who = counter(t, "attaches"), session(t)
    t.sh("host0", f"xl save -c guest0 {IMAGE} && rm {IMAGE}")
    assert job.running(), "the job was over too early to say anything"
    print(f"# {t.pages_end(job)}")
    assert session(t) == who
    assert counter(t, "attaches") == attaches, "attached anew although nothing had happened"


def save_and_restore(t):
    """Another domain: grants, port and XenStore are new, the session and its pages are the same."""
    job = begin(t, 2)
    attaches, who = counter(t, "attaches"), session(t)
    t.sh("host0", f"xl save guest0 {IMAGE}")
    t.sh("host0", f"xl restore {IMAGE} && rm {IMAGE}")
    t.wait("the guest to answer", lambda: t.exec("guest0", "true", timeout=60).status == 0)
    t.wait("the session to attach again", lambda: counter(t, "attaches") > attaches)
    assert session(t) == who
    print(f"# {t.pages_end(job)}")
    assert counter(t, "fetch_errors") == 0 and counter(t, "corrupt") == 0


def relay_is_away(t):
    """Saved without a relay, restored without one: the pages wait, and come when there is one again."""
    job = begin(t, 3)
    attaches = counter(t, "attaches")
    t.sh("host0", f"xl save guest0 {IMAGE}")
    t.must("relay", "host0", "kill")
    t.sh("host0", f"xl restore {IMAGE} && rm {IMAGE}")
    t.wait("the guest to run", lambda: "-b-" in t.sh("host0", "xl list guest0") or "r--" in t.sh("host0", "xl list guest0"))
    t.must("relay", "host0", "start")
    t.wait("the session to attach again", lambda: counter(t, "attaches") > attaches)
    print(f"# {t.pages_end(job)}")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    kernel, kind = sys.argv[1:3]
    testbed = xenlib.Testbed(f"suspend-{kernel}-{kind}", kernel=kernel, guest_type=kind, guests=1, swap=192, donors=2, replicas=2)
    xenlib.run(testbed, [checkpoint, save_and_restore, relay_is_away])


main()
