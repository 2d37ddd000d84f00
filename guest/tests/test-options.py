#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What the module does where its admin asked for more than the defaults, on real Xen: test-options.py KERNEL pv|pvh

Two lanes of each kind on two CPUs, more swap than Dom0 allows, and a deadline for pages that wait. The relay and the donors are the real ones. Prints TAP.
"""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "xen-tests"))
import xenlib  # noqa: E402

STATISTICS = "/sys/devices/platform/memx/statistics"
MIB = 88
DEADLINE_S = 4
SWAP_MIB, WANTED_MIB = 192, 300
OPTIONS = f"size_mb={WANTED_MIB} store_lanes=2 fetch_lanes=2 deadline_ms={DEADLINE_S * 1000}"
BUS_ERROR = 128 + 7


def counter(t, name):
    return int(t.sh("guest0", f"cat {STATISTICS}/{name}"))


def less_than_asked_for(t):
    """The guest gets what the quota has, and its log says that it is less, and of what."""
    size, _ = next(iter(t.swaps("guest0").values()))
    assert abs(size - SWAP_MIB * 1024) <= 8, f"/proc/swaps says {size} KiB, {SWAP_MIB} MiB are allowed"
    said = f"{WANTED_MIB} MiB of swap were asked for, {SWAP_MIB} are granted: the quota"
    assert said in t.sh("guest0", "dmesg"), f"dmesg does not say: {said}"


def lanes_share_the_work(t):
    """Pages of four processes over two lanes of each kind, each of which is used, from both CPUs."""
    print(f"# {t.pages('guest0', MIB, '--procs', 4, '--touches', 400)}")
    lanes = [line.split()[:5] for line in t.sh("guest0", "cat /sys/kernel/debug/memx/lanes").splitlines()]
    print(f"# lanes (number, kind, events received, spurious, sent): {lanes}")
    assert [lane[1] for lane in lanes] == ["store", "store", "fetch", "fetch"], lanes
    for number, kind, received, _, sent in lanes:
        assert int(received) > 20 and int(sent) > 20, f"{kind} lane {number} was hardly used: {lanes}"
    assert counter(t, "violations") == 0 and counter(t, "corrupt") == 0 and counter(t, "expired") == 0


def deadline_ends_what_waits(t):
    """The relay hangs: who needs a page gets a bus error after the deadline, not before and not much later; then all goes on."""
    job = t.pages_start("guest0", MIB, "--seconds", 600, "--seed", 2, every=0)
    before = counter(t, "fetches")
    t.wait("the job to page", lambda: counter(t, "fetches") > before + 100)
    t.must("relay", "host0", "stop")
    began = time.monotonic()
    end = job.end()
    took = time.monotonic() - began
    expired = counter(t, "expired")
    print(f"# the job ended with {end.status} after {took:.1f} s, {expired} pages expired")
    # Where writes fail as well the memory may be used up first, and the job is then what the kernel ends. Where its stack cannot
    # be read either the kernel cannot deliver the bus error, and ends it by a segmentation fault.
    assert end.status in (BUS_ERROR, 128 + 9, 128 + 11), f"the job ended otherwise: {end}"
    assert "wrong" not in end.out or re.search(r"pages_wrong=0\b", end.out), end.out
    assert DEADLINE_S - 1 < took < DEADLINE_S + 40, f"it took {took:.0f} s"
    assert expired > 0
    t.must("relay", "host0", "cont")
    # The kernel says at length what became of the job.
    t.sh("guest0", "dmesg -c >/dev/null")
    print(f"# {t.pages('guest0', MIB, '--touches', 500, '--seed', 3)}")
    assert counter(t, "violations") == 0, "an answer to a page that had expired was not taken for one"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    kernel, kind = sys.argv[1:3]
    testbed = xenlib.Testbed(f"options-{kernel}-{kind}", kernel=kernel, guest_type=kind, guests=1, guest_vcpus=2, swap=SWAP_MIB, donors=2,
                             replicas=2, module_args=OPTIONS)
    xenlib.run(testbed, [less_than_asked_for, lanes_share_the_work, deadline_ends_what_waits])


main()
