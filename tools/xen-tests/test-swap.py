#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Guests on real Xen swap to donors through the relay: test-swap.py [--replicas R] [--vcpus N] KERNEL pv|pvh [TEST...]

Starts one testbed with that kernel and the guests that the tests need, runs the tests (all by default), prints TAP.
"""

import argparse
import re
import sys

import xenlib

SWAP_MIB = 384
SWAP_FILE = "/run/memx/swap"


def memory(t, guest):
    """Free memory of a guest in MiB, as its kernel estimates it."""
    return int(re.search(r"MemAvailable:\s+(\d+)", t.sh(guest, "cat /proc/meminfo")).group(1)) // 1024


def swap_file(t, guest):
    areas = t.swaps(guest)
    assert len(areas) == 1, f"{guest} has these swap areas: {areas}"
    return next(iter(areas))


def size_is_true(t):
    """swapon shows what was granted, and it is what was asked for."""
    size, used = next(iter(t.swaps("guest0").values()))
    assert abs(size - SWAP_MIB * 1024) <= 8, f"/proc/swaps says {size} KiB, {SWAP_MIB} MiB were asked for"
    total = int(re.search(r"SwapTotal:\s+(\d+)", t.sh("guest0", "cat /proc/meminfo")).group(1))
    assert total == size, f"SwapTotal {total} KiB, /proc/swaps {size} KiB"
    shown = t.sh("guest0", "swapon --show=NAME,TYPE,SIZE,PRIO --bytes --noheadings --raw").split()
    assert shown == [SWAP_FILE, "file", str(size * 1024), "100"], f"swapon --show: {shown}"
    copies = [row["replicas"] for row in t.memctl("host0", "sessions")]
    assert copies == [t.replicas] * t.guests, f"copies of each page: {copies}, {t.replicas} were asked for"


def fill_and_verify(t):
    """Three times the free memory written, read back here and there and then in order, every word compared."""
    before = t.vmstat("guest0")
    mib = min(3 * memory(t, "guest0"), SWAP_MIB - 64)
    figures = t.pages("guest0", mib, "--touches", 3000)
    after = t.vmstat("guest0")
    out, back = after["pswpout"] - before["pswpout"], after["pswpin"] - before["pswpin"]
    print(f"# {mib} MiB: {figures}, {out} pages out, {back} in")
    assert figures["verified"] == mib * 256 + 3000, f"only {figures['verified']} pages verified"
    assert out > mib * 256 // 3 and back > mib * 256 // 3, f"hardly anything was swapped: {out} out, {back} in"


def freed_slots_are_discarded(t):
    """
    What a job leaves in swap is discarded at the donors when it has ended, without anything else that would wake the module; the
    pages of another one, which goes on, are not.
    """
    # A small one: a job that does not fit would take the freed slots again before anybody can look at them.
    stays = t.pages_start("guest0", memory(t, "guest0") // 4, "--seconds", 3600, "--seed", 21)
    guest, relay = t.counter("guest0", "discards"), t.memctl("host0", "status")["counters"]["discards"]
    t.pages("guest0", min(2 * memory(t, "guest0"), SWAP_MIB - 64), "--touches", 200, "--seed", 22)
    t.wait("freed slots to be discarded", lambda: t.counter("guest0", "discards") > guest + 2000)
    t.wait("the relay to have discarded them", lambda: t.memctl("host0", "status")["counters"]["discards"] > relay + 2000)
    print(f"# {t.pages_enough(stays)}, {t.counter('guest0', 'trimmed')} slots trimmed")
    assert t.counter("guest0", "absent") == 0 and t.counter("guest0", "fetch_errors") == 0


def shmem_and_processes(t):
    """Shared memory takes another way into swap; four processes at once press harder than one."""
    mib = min(2 * memory(t, "guest0"), SWAP_MIB - 96)
    t.sh("guest0", "mount -o remount,size=100% /dev/shm")
    print(f"# {t.pages('guest0', mib // 2, '--shmem', '--touches', 1000, '--seed', 5)}")
    print(f"# {t.pages('guest0', mib, '--procs', 4, '--touches', 500, '--seed', 6)}")


def sort_in_place(t):
    """The demo's job: four times the free memory, sorted by a program that knows nothing of swap, which verifies every byte."""
    mib = min(4 * memory(t, "guest0") + 8, SWAP_MIB - 32)
    before = t.vmstat("guest0")
    cluster = t.sh("guest0", "cat /proc/sys/vm/page-cluster").strip()
    t.sh("guest0", "echo 5 >/proc/sys/vm/page-cluster")
    try:
        said = t.start("guest0", t.push_program("guest0", "memx-sort"), str(mib), "7").end()
    finally:
        t.sh("guest0", f"echo {cluster} >/proc/sys/vm/page-cluster")
    after = t.vmstat("guest0")
    assert said.status == 0 and f"sorted and verified {mib << 14} records" in said.out, f"memx-sort: {said}"
    out, back = after["pswpout"] - before["pswpout"], after["pswpin"] - before["pswpin"]
    print(f"# {said.out.splitlines()[-1]}; {out} pages out, {back} in")
    assert out > mib * 128 and back > mib * 128, f"hardly anything was swapped: {out} out, {back} in"


def two_guests_at_once(t):
    jobs = [t.pages_start(g, min(2 * memory(t, g), SWAP_MIB - 64), "--touches", 1500, "--seed", i) for i, g in enumerate(("guest0", "guest1"))]
    for job in jobs:
        print(f"# {job.target}: {t.pages_end(job)}")


def relay_dies_under_load(t):
    """The relay is killed and started again three times while the guest pages: it waits, and nothing is lost."""
    mib = min(2 * memory(t, "guest0"), SWAP_MIB - 64)
    session = t.memctl("host0", "sessions")
    job = t.pages_start("guest0", mib, "--touches", 4000, "--seed", 77)
    for _ in range(3):
        before = t.donor_pages()
        t.wait("the job to store more", lambda: not job.running() or t.donor_pages() != before)
        t.must("relay", "host0", "kill")
        t.must("relay", "host0", "start")
    print(f"# {t.pages_end(job)}")
    after = t.memctl("host0", "sessions")
    assert t.session_ids(session) == t.session_ids(after), f"another session: {session} then {after}"


def off_and_on_again(t):
    """swapon right behind a swapoff waits for the session that follows, which has pages of its own."""
    swap = swap_file(t, "guest0")
    for _ in range(3):
        t.sh("guest0", f"swapoff {swap} && swapon -p 100 {swap}")
    size_is_true(t)
    print(f"# {t.pages('guest0', memory(t, 'guest0') + 16, '--touches', 300, '--seed', 12)}")


def swapoff_under_load(t):
    """Where the memory does not suffice swapoff fails and all stays as it was; where it does, the pages come home."""
    swap = swap_file(t, "guest0")
    # The jobs go on until they are told: how long a swapoff takes depends on the machine.
    job = t.pages_start("guest0", min(2 * memory(t, "guest0"), SWAP_MIB - 64), "--seconds", 3600, "--seed", 9)
    t.wait("the job to be swapped", lambda: next(iter(t.swaps("guest0").values()))[1] > 60 * 1024)
    # The glue foresees it, and does not ask the kernel.
    killed = "grep '^oom_kill ' /proc/vmstat"
    before = t.sh("guest0", killed)
    r = t.exec("guest0", "memx-swapon", "off")
    assert r.status == 1 and "stays on" in r.err, f"memx-swapon off of more than the memory holds: {r}"
    assert swap in t.swaps("guest0"), "memx-swapon off refused, and the swap area is gone"
    assert t.sh("guest0", killed) == before, "memx-swapon off called the OOM killer"
    # The kernel says ENOMEM where it can foresee it, and else makes the swapoff the first victim of its OOM killer.
    with t.expected_oom("guest0", "swapoff"):
        r = t.exec("guest0", "swapoff", swap)
        assert r.status == 137 or "memory" in r.err.lower(), f"swapoff of more than the memory holds: {r}"
        assert swap in t.swaps("guest0"), "the swap area is gone although swapoff failed"
        t.pages_enough(job)

    job = t.pages_start("guest0", memory(t, "guest0") // 4, "--seconds", 3600, "--seed", 10)
    t.pages("guest0", memory(t, "guest0"), "--touches", 1000, "--seed", 11)	# presses the first one out
    t.sh("guest0", f"swapoff {swap}")
    assert not t.swaps("guest0")
    t.pages_enough(job)


def leaves_nothing(t):
    """umount and rmmod after swapoff; XenStore, event channels and donors are as before."""
    domid = t.sh("host0", "xl domid guest0").strip()
    t.sh("guest0", "memx-swapon off; rmmod memx_swap")
    left = t.exec("host0", "xenstore-ls", f"/local/domain/{domid}/data")
    assert "memx" not in left.out, left.out
    t.wait("the session to be freed", lambda: len(t.session_ids(t.memctl("host0", "sessions"))) == t.guests - 1)
    used = t.memctl("host0", "donors")
    if t.guests == 1:
        assert all(d["pages_used"] == 0 for d in used), used
    t.ports = t.sh("host0", f"lsevtchn {domid}")


def load_loop(t):
    """Loads and unloads ten times, whatever the glue is doing meanwhile; memory and event channels do not leak away."""
    once = "modprobe memx_swap && until rmmod memx_swap 2>/dev/null; do memx-swapon off 2>/dev/null; done"
    t.sh("guest0", once, timeout=300)
    before = memory(t, "guest0")
    t.sh("guest0", f"for i in $(seq 10); do {once} || exit 1; done", timeout=900)
    after = memory(t, "guest0")
    assert before - after < 4, f"{before} MiB free before, {after} MiB after ten loads"
    domid = t.sh("host0", "xl domid guest0").strip()
    ports = t.sh("host0", f"lsevtchn {domid}")
    assert len(ports.splitlines()) <= len(t.ports.splitlines()), f"event channels before:\n{t.ports}\nafter:\n{ports}"


def comes_back(t):
    """After all that the module loads, swaps and verifies as on the first day, whichever swapon switches it on."""
    t.sh("guest0", "modprobe memx_swap")
    t.wait("swap to be on again", lambda: t.swaps("guest0") or None)
    tools = {"busybox": "/tmp/busybox:$PATH", "util-linux": "$PATH"}
    t.sh("guest0", "mkdir -p /tmp/busybox && for i in mount umount swapon swapoff; do ln -sf /bin/busybox /tmp/busybox/$i; done")
    for name, path in tools.items():
        t.sh("guest0", f"PATH={path} memx-swapon off")
        assert not t.swaps("guest0"), f"memx-swapon off with {name}"
        # What was on a moment ago is freed first, and asked for anew.
        t.wait(f"memx-swapon on with {name}", lambda p=path: t.exec("guest0", "sh", "-c", f"PATH={p} memx-swapon on").status == 0)
        assert list(t.swaps("guest0")) == [SWAP_FILE], f"memx-swapon on with {name}"
    fill_and_verify(t)


ALL = [size_is_true, fill_and_verify, freed_slots_are_discarded, shmem_and_processes, sort_in_place, two_guests_at_once,
       relay_dies_under_load, off_and_on_again, swapoff_under_load, leaves_nothing, load_loop, comes_back]


class SwapTestbed(xenlib.Testbed):
    guests, replicas = 1, 2
    ports = ""

    def donor_pages(self):
        """Pages that the relay stored so far."""
        return self.memctl("host0", "status")["counters"]["stores"]

    def counter(self, guest, name):
        return int(self.sh(guest, f"cat /sys/devices/platform/memx/statistics/{name}"))

    @staticmethod
    def session_ids(answer):
        rows = answer["sessions"] if isinstance(answer, dict) else answer
        return sorted(row["session"] for row in rows)


def main():
    p = argparse.ArgumentParser(description="Tests of swapping guests on real Xen; prints TAP.")
    p.add_argument("--replicas", type=int, default=2, choices=(1, 2, 3), help="copies of each page (%(default)s)")
    p.add_argument("--vcpus", type=int, default=1, help="CPUs of each guest; from four on it has two lanes for stores (%(default)s)")
    p.add_argument("kernel")
    p.add_argument("kind", choices=("pv", "pvh"))
    p.add_argument("tests", nargs="*", metavar="TEST", help=f"all, or some of: {', '.join(f.__name__ for f in ALL)}")
    args = p.parse_args()
    unknown = set(args.tests) - {f.__name__ for f in ALL}
    if unknown:
        sys.exit(f"test-swap.py: no such test: {', '.join(sorted(unknown))}; there are: {', '.join(f.__name__ for f in ALL)}")
    tests = [f for f in ALL if not args.tests or f.__name__ in args.tests]
    guests = 2 if two_guests_at_once in tests else 1
    t = SwapTestbed(f"swap-{args.kind}-{args.kernel}", kernel=args.kernel, guest_type=args.kind, guest_mem=128, swap=SWAP_MIB,
                    donors=3, donor_mem=1024, replicas=args.replicas, guests=guests, guest_vcpus=args.vcpus)
    t.guests, t.replicas = guests, args.replicas
    xenlib.run(t, tests, guests=[f"guest{i}" for i in range(t.guests)])


if __name__ == "__main__":
    main()
