#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The module in a guest whose kernel looks for mistakes: test-debug.py [--short] pv|pvh [SECONDS [STEP]]

The kernel (tools/setup/debug-kernel) has lockdep, checks for sleeping in atomic context, kmemleak, UBSan, debug objects and
fault injection, as a PVH guest KASAN too. Swapping under load, a relay that dies, loading and unloading, and every error
path of loading and attaching, taken by letting allocations fail. What a detector says is a failure, and so is a detector
that has switched itself off. Last, a module makes mistakes, and each detector has to say so.

SECONDS (20) of load; every STEP-th (1) allocation of loading, of attaching and of making tables is made to fail. --short takes less
load, and of attaching the first, the fourth, the sixteenth ... allocation fails, of making tables none.
"""

import itertools
import re
import sys

import xenlib

SWAP_MIB = 256
FAULTS = "/sys/kernel/debug"
KMEMLEAK = "/sys/kernel/debug/kmemleak"
SESSION = "for p in /proc/[0-9]*; do read -r c <$p/comm && [ \"$c\" = memx/session ] && echo ${p#/proc/} && break; done 2>/dev/null"
MAKE = "/sys/module/memx_mistakes/parameters/make"
# What kunit/mistakes.c makes, and what has to be said of it. lockdep says one thing and no more, and nothing once KASAN has spoken.
MISTAKES = {"shift": r"UBSAN: shift-out-of-bounds", "sleep-in-atomic": r"BUG: sleeping function called from invalid context",
            "lock-order": r"WARNING: possible circular locking dependency", "overrun": r"BUG: KASAN: slab-out-of-bounds"}

# What the detectors say. Where allocations are made to fail, the traces of those refused are no complaint.
SPLAT = re.compile(
    r"BUG:|WARNING:|Oops|general protection|UBSAN:|ODEBUG:|DEBUG_LOCKS|INFO: (possible|task|lockdep|trying|rcu)|"
    r"inconsistent lock|possible recursive|sleeping function|suspicious RCU|soft lockup|Kernel panic|"
    r"list_(add|del) corruption|bad page|memx.*(violation|corrupt|lost page)", re.I)

# The kernel's own parts that warn where an allocation of theirs was made to fail: /proc/irq later misses what it could not make
# there, and the tracer says that it has no memory for the fields of an event.
OWN = re.compile(r"WARNING: .* at (fs/proc/generic\.c:\d+ remove_proc_entry|kernel/trace/trace_events\.c:\d+ event_define_fields)")
WARNED, OUT_OF_TREE, UNSIGNED = 1 << 9, 1 << 12, 1 << 13


def complaints(log):
    return [line for line in log.splitlines() if SPLAT.search(line) and not OWN.search(line)]


def detectors_are_on(t):
    """Nothing was said, and those that end with their first finding are still at work."""
    log, stats, tainted = t.sh("guest0", "dmesg; echo @@; cat /proc/lockdep_stats; echo @@; cat /proc/sys/kernel/tainted").split("@@\n")
    said = complaints(log)
    assert not said, "\n".join(said)
    assert re.search(r"debug_locks:\s+1$", stats, re.M), f"lockdep is off:\n{stats}"
    assert not int(tainted) & ~(WARNED | OUT_OF_TREE | UNSIGNED), f"the kernel is tainted: {tainted}"


def kernel_has_detectors(t):
    """Else the rest would prove nothing."""
    t.sh("guest0", f"test -e {KMEMLEAK} && test -e {FAULTS}/failslab && test -e {FAULTS}/fail_page_alloc && test -e /proc/self/fail-nth")
    if t.kind == "pvh":
        t.sh("guest0", "dmesg | grep -i 'KernelAddressSanitizer initialized'")
    t.must("push", "guest0", f"{xenlib.TOP}/build/module/debug-{t.kind}/memx_mistakes.ko", "/tmp/memx_mistakes.ko")
    # nothing_is_lost() scans.
    t.sh("guest0", f"echo scan=off >{KMEMLEAK}; insmod /tmp/memx_mistakes.ko && echo leak >{MAKE}")
    detectors_are_on(t)


def available(t):
    """MiB that programs of the guest can have, as its kernel estimates."""
    return int(re.search(r"MemAvailable:\s+(\d+)", t.sh("guest0", "cat /proc/meminfo")).group(1)) // 1024


def hogs(t):
    """Several processes press at once, one of them in a memory cgroup and one that forks; a donor dies meanwhile."""
    free = available(t)
    t.sh("guest0", "mount -o remount,size=100% /dev/shm && mount -t cgroup2 cgroup2 /sys/fs/cgroup && "
                   "echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir /sys/fs/cgroup/hogs && "
                   "echo 16M >/sys/fs/cgroup/hogs/memory.max")
    prog = t.push_program("guest0", "memx-hogs")
    load = [f"anon:{max(8, free // 3 if t.short else free * 2 // 3)}", f"anon:{20 if t.short else 28}:/sys/fs/cgroup/hogs",
            f"shmem:{max(4, free // 6)}", f"file:{max(4, free // 6)}", f"fork:{4 if t.short else 8}"]
    before, some = t.vmstat("guest0"), 1000 if t.short else 3000
    job = t.start("guest0", prog, "--seconds", str(t.seconds), *load, timeout=900)
    t.wait("the guest to swap", lambda: not job.running() or t.vmstat("guest0")["pswpout"] - before["pswpout"] > some, timeout=300)
    t.must("donor", "0", "kill")
    t.must("donor", "0", "start")
    r = job.end()
    assert r.status == 0, f"memx-hogs {' '.join(load)}: {r}"
    after = t.vmstat("guest0")
    print(f"# {free} MiB free: {' '.join(load)}: {r.out.splitlines()[-1]}")
    print(f"# {after['pswpout'] - before['pswpout']} pages out, {after['pswpin'] - before['pswpin']} in")
    assert after["pswpout"] - before["pswpout"] > some, "hardly a page was swapped"
    assert after["oom_kill"] == before["oom_kill"], "the OOM killer struck"
    detectors_are_on(t)


def relay_dies_under_load(t):
    """More memory than there is, and while its pages go and come the relay dies."""
    before = t.vmstat("guest0")
    job = t.pages_start("guest0", available(t) + (4 if t.short else 8), "--touches", 1000, "--seed", 3)
    t.wait("the guest to swap", lambda: not job.running() or t.vmstat("guest0")["pswpout"] - before["pswpout"] > 500, timeout=300)
    assert job.running(), f"memx-pages: {job.result}"
    t.must("relay", "host0", "kill")
    t.must("relay", "host0", "start")
    print(f"# {t.pages_end(job)}")
    after = t.vmstat("guest0")
    print(f"# {after['pswpout'] - before['pswpout']} pages out, {after['pswpin'] - before['pswpin']} in")
    detectors_are_on(t)


def load_loop(t):
    t.sh("guest0", "memx-swapon off; rmmod memx_swap")
    t.sh("guest0", f"for i in {'1' if t.short else '1 2 3'}; do modprobe memx_swap && "
                   "until rmmod memx_swap 2>/dev/null; do memx-swapon off 2>/dev/null; done || exit 1; done", timeout=400)
    detectors_are_on(t)


def inject(t):
    """Allocations of any size and kind may fail, by their number in a task."""
    script = ""
    for what in ("failslab", "fail_page_alloc"):
        for name, value in (("ignore-gfp-wait", "N"), ("verbose", 0), ("probability", 0)):
            script += f"echo {value} >{FAULTS}/{what}/{name} && "
    t.sh("guest0", script + f"echo 0 >{FAULTS}/fail_page_alloc/min-order")


def loading_fails_anywhere(t):
    """Each allocation of loading the module fails once. It refuses to load, cleanly, or loads and works without."""
    t.must("relay", "host0", "kill")
    prog = t.push_program("guest0", "memx-failnth")
    inject(t)
    module = f"/lib/modules/{t.sh('guest0', 'uname -r').strip()}/extra/memx_swap.ko"
    r = t.exec("guest0", prog, "--step", str(t.step), module, "memx_swap", "ring_order=19", timeout=2400, stall=None)
    t.must("relay", "host0", "start")
    print(f"# {r.out.strip()}")
    assert r.status == 0, f"memx-failnth: {r}"
    figures = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", r.out)}
    assert figures["refused"] * t.step > 200, f"hardly an allocation failed: {figures}"
    detectors_are_on(t)


def state(t):
    return t.sh("guest0", "cat /sys/devices/platform/memx/state").strip()


def attaches(t):
    """How often the module has attached."""
    return int(t.sh("guest0", "cat /sys/devices/platform/memx/statistics/attaches"))


def swap_comes_on(t):
    """By the event, or by hand: where allocations fail the event may have been lost, and its sender is not told."""
    try:
        t.wait("swap to be on", lambda: t.swaps("guest0"), timeout=60)
    except AssertionError:
        print("# swap is switched on by hand", flush=True)
        t.sh("guest0", "memx-swapon on")


def session(t):
    """The file by which the allocations of the module's thread that attaches are made to fail."""
    pid = t.sh("guest0", SESSION).strip()
    return f"/proc/{pid}/task/{pid}/fail-nth"


def walk(t, what, numbers, once):
    """once(number) for each number of an allocation, until there is none any more that could fail. It returns the file, session()'s,
    to which it wrote the number."""
    refused = 0
    for number in numbers:
        nth = once(number)
        left = t.sh("guest0", f"cat {nth}; echo 0 >{nth}").strip()
        detectors_are_on(t)
        if left != "0":
            break
        refused += 1
    print(f"# {what}: {number} allocations at most, {refused} failed", flush=True)
    assert refused > 1, f"{what}: hardly an allocation failed"


def attaching_fails_anywhere(t):
    """An allocation fails while the module hangs up and offers anew: it does so later. Then relay_dies_under_load() swaps."""
    t.sh("guest0", "modprobe memx_swap")
    swap_comes_on(t)
    inject(t)
    nth = session(t)

    def once(number):
        before = attaches(t)
        t.sh("guest0", f"echo {number} >{nth}")
        t.must("relay", "host0", "kill")
        t.must("relay", "host0", "start")
        t.wait("the module to be attached again", lambda: attaches(t) > before, timeout=90)
        return nth
    walk(t, "attaching again", (4 ** n for n in range(10)) if t.short else itertools.count(1, t.step), once)


def tables_fail_anywhere(t):
    """An allocation fails between the relay's coming and the first attach, where the tables are made: it asks again."""
    inject(t)

    def once(number):
        t.sh("guest0", "memx-swapon off; rmmod memx_swap 2>/dev/null; ! test -e /sys/module/memx_swap")
        t.must("relay", "host0", "kill")
        t.sh("guest0", "modprobe memx_swap")
        t.wait("the channel to be offered", lambda: state(t) == "offered")
        nth = session(t)
        t.sh("guest0", f"echo {number} >{nth}")
        t.must("relay", "host0", "start")
        swap_comes_on(t)
        return nth
    walk(t, "making tables", itertools.count(1, t.step), once)


def nothing_is_lost(t):
    """After the module has gone no memory is left that nobody knows of, but what is lost on purpose."""
    t.sh("guest0", "memx-swapon off && rmmod memx_swap")
    # The scanner takes what it sees twice, some seconds old.
    leaks = t.sh("guest0", f"echo scan >{KMEMLEAK}; sleep 6; echo scan >{KMEMLEAK}; cat {KMEMLEAK}")
    leaks = re.split(r"^(?=unreferenced object)", leaks, flags=re.M)[1:]
    planted = [leak for leak in leaks if "[memx_mistakes]" in leak]
    # What the kernel lost while it started is not the module's: of ACPI, which a PVH guest has not, for one.
    others = [leak for leak in leaks if leak not in planted and 'comm "swapper/' not in leak]
    print(f"# {len(leaks)} leaks, {len(planted)} of them made on purpose")
    assert not others, "".join(others)
    assert planted, "kmemleak sees nothing of what was lost on purpose"
    detectors_are_on(t)


def detectors_bite(t):
    """Each mistake is complained of, as the other tests read complaints; after the last one lockdep is off."""
    mistakes = dict(MISTAKES)
    if t.kind != "pvh":
        del mistakes["overrun"]
    for mistake, pattern in mistakes.items():
        said = complaints(t.sh("guest0", f"dmesg -c >/dev/null; echo {mistake} >{MAKE}; dmesg -c"))
        assert any(re.search(pattern, line) for line in said), f"{mistake}: nobody complains, but: {said}"
    try:
        detectors_are_on(t)
    except AssertionError as problem:
        assert "lockdep is off" in str(problem), problem
    else:
        raise AssertionError("lockdep has switched itself off, and this test does not see it")


class DebugTestbed(xenlib.Testbed):
    def __init__(self, kind, short, seconds=20, step=1):
        super().__init__(f"debug-{kind}", kernel="debug", guest_type=kind, guest_mem=160 if short else 256, swap=SWAP_MIB, donors=2,
                         donor_mem=2 * SWAP_MIB, replicas=2, timeout=900)
        self.kind, self.short, self.seconds, self.step = kind, short, seconds, step

    def log_complaints(self, guest):
        return complaints(self.sh("guest0", "dmesg"))


def main():
    args = sys.argv[1:]
    short = args[:1] == ["--short"]
    try:
        kind, *numbers = args[short:]
        t = DebugTestbed(kind, short, *[int(word) for word in numbers])
    except (TypeError, ValueError):
        kind = ""
    if kind not in ("pv", "pvh"):
        sys.exit("usage: test-debug.py [--short] pv|pvh [SECONDS [STEP]]")
    tables = [] if short else [tables_fail_anywhere]
    xenlib.run(t, [kernel_has_detectors, load_loop, loading_fails_anywhere, attaching_fails_anywhere, *tables,
                   relay_dies_under_load, hogs, nothing_is_lost, detectors_bite])


if __name__ == "__main__":
    main()
