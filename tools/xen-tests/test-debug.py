#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The module in a guest whose kernel looks for mistakes: test-debug.py pv|pvh [SECONDS [STEP]]

The kernel (tools/setup/debug-kernel) has lockdep, checks for sleeping in atomic context, kmemleak, UBSan, debug objects and
fault injection, as a PVH guest KASAN too. Swapping under load, a relay that dies, loading and unloading, and every error
path of loading and attaching, taken by letting allocations fail. What a detector says is a failure, and so is a detector
that has switched itself off.

SECONDS (20) of load; every STEP-th (1) allocation of loading, of attaching and of making tables is made to fail. A STEP of more than
SHORT is for a short run: of attaching the first, the fourth, the sixteenth ... fails, and of making tables none.
"""

import re
import sys

import xenlib

SWAP_MIB = 256
SHORT = 20
FAULTS = "/sys/kernel/debug"
KMEMLEAK = "/sys/kernel/debug/kmemleak"
# $p is the folder in /proc of the module's thread that attaches.
SESSION = "for p in /proc/[0-9]*; do read -r c <$p/comm && [ \"$c\" = memx/session ] && break; done 2>/dev/null; "

# What the detectors say. Where allocations are made to fail, the traces of those refused are no complaint.
SPLAT = re.compile(
    r"BUG:|WARNING:|Oops|general protection|UBSAN:|ODEBUG:|DEBUG_LOCKS|INFO: (possible|task|lockdep|trying|rcu)|"
    r"inconsistent lock|possible recursive|sleeping function|suspicious RCU|soft lockup|kmemleak: .*suspected|Kernel panic|"
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
    detectors_are_on(t)
    # What the kernel lost while it started is not the module's: of ACPI, which a PVH guest has not, for one. It is told of when two
    # scans have seen it.
    t.sh("guest0", f"echo scan=off >{KMEMLEAK}; echo scan >{KMEMLEAK}; echo scan >{KMEMLEAK}; echo clear >{KMEMLEAK}; dmesg -c >/dev/null")


def hogs(t):
    """Several processes press at once, one of them in a memory cgroup and one that forks; a donor dies meanwhile."""
    free = int(re.search(r"MemAvailable:\s+(\d+)", t.sh("guest0", "cat /proc/meminfo")).group(1)) // 1024
    t.sh("guest0", "mount -o remount,size=100% /dev/shm && mount -t cgroup2 cgroup2 /sys/fs/cgroup && "
                   "echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir /sys/fs/cgroup/hogs && "
                   "echo 16M >/sys/fs/cgroup/hogs/memory.max")
    prog = t.push_program("guest0", "memx-hogs")
    load = [f"anon:{max(8, free * 2 // 3)}", "anon:28:/sys/fs/cgroup/hogs", f"shmem:{max(4, free // 6)}",
            f"file:{max(4, free // 6)}", "fork:8"]
    before = t.vmstat("guest0")
    job = t.start("guest0", prog, "--seconds", str(t.seconds), *load, timeout=900)
    t.wait("the guest to swap", lambda: not job.running() or t.vmstat("guest0")["pswpout"] - before["pswpout"] > 3000, timeout=300)
    t.must("donor", "0", "kill")
    t.must("donor", "0", "start")
    r = job.end()
    assert r.status == 0, f"memx-hogs {' '.join(load)}: {r}"
    after = t.vmstat("guest0")
    print(f"# {free} MiB free: {' '.join(load)}: {r.out.splitlines()[-1]}")
    print(f"# {after['pswpout'] - before['pswpout']} pages out, {after['pswpin'] - before['pswpin']} in")
    assert after["oom_kill"] == before["oom_kill"], "the OOM killer struck"
    detectors_are_on(t)


def relay_dies_under_load(t):
    job = t.pages_start("guest0", 48, "--touches", 1000, "--seed", 3)
    t.must("relay", "host0", "kill")
    t.must("relay", "host0", "start")
    print(f"# {t.pages_end(job)}")
    detectors_are_on(t)


def load_loop(t):
    t.sh("guest0", "memx-swapon off; rmmod memx_swap")
    t.sh("guest0", "for i in 1 2 3; do modprobe memx_swap && "
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
    r = t.exec("guest0", prog, "--step", str(t.step), f"/lib/modules/{t.sh('guest0', 'uname -r').strip()}/extra/memx_swap.ko", "memx_swap", "ring_order=19", timeout=2400,
               stall=None)
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


def fail_next(t, number):
    """The module's thread that attaches meets a failure at its so manieth allocation from now on."""
    t.sh("guest0", SESSION + f"echo {number} >$p/task/${{p#/proc/}}/fail-nth")


def failed(t):
    """Did it meet it?"""
    return t.sh("guest0", SESSION + "cat $p/task/${p#/proc/}/fail-nth").strip() == "0"


def walk(t, what, once):
    """once(number) for each number, or some of them, until there is no allocation any more that could fail."""
    number, refused = 1, 0
    while True:
        once(number)
        met = failed(t)
        fail_next(t, 0)
        detectors_are_on(t)
        if not met:
            break
        refused += 1
        number = number + t.step if t.step <= SHORT else number * 4
    print(f"# {what}: {number - 1} allocations at most, {refused} failed", flush=True)
    assert refused > 1, f"{what}: hardly an allocation failed"


def attaching_fails_anywhere(t):
    """An allocation fails while the module hangs up and offers anew: it does so later, and all pages are there."""
    t.sh("guest0", "modprobe memx_swap")
    t.wait("swap to be on", lambda: t.swaps("guest0"), timeout=120)
    inject(t)

    def once(number):
        before = attaches(t)
        fail_next(t, number)
        t.must("relay", "host0", "kill")
        t.must("relay", "host0", "start")
        t.wait("the module to be attached again", lambda: attaches(t) > before, timeout=90)
    walk(t, "attaching again", once)
    print(f"# {t.pages('guest0', 32, '--touches', 500)}")


def tables_fail_anywhere(t):
    """An allocation fails between the relay's coming and the first attach, where the tables are made: it asks again."""
    def once(number):
        t.sh("guest0", "memx-swapon off; rmmod memx_swap")
        t.must("relay", "host0", "kill")
        t.sh("guest0", "modprobe memx_swap")
        t.wait("the channel to be offered", lambda: state(t) == "offered")
        fail_next(t, number)
        t.must("relay", "host0", "start")
        t.wait("swap to be on", lambda: t.swaps("guest0"), timeout=120)
    walk(t, "making tables", once)
    print(f"# {t.pages('guest0', 32, '--touches', 500)}")


def nothing_is_lost(t):
    """After the module has gone no memory is left that nobody knows of."""
    t.sh("guest0", "memx-swapon off; rmmod memx_swap")
    # The scanner takes what it sees twice, some seconds old.
    leaks = t.sh("guest0", f"echo scan >{KMEMLEAK}; sleep 6; echo scan >{KMEMLEAK}; cat {KMEMLEAK}")
    assert not leaks.strip(), leaks
    detectors_are_on(t)
    t.sh("guest0", "modprobe memx_swap")
    t.wait("swap to be on again", lambda: t.swaps("guest0"))


class DebugTestbed(xenlib.Testbed):
    seconds = 20
    step = 1

    def __init__(self, kind):
        super().__init__(f"debug-{kind}", kernel="debug", guest_type=kind, guest_mem=256, swap=SWAP_MIB, donors=2,
                         donor_mem=2 * SWAP_MIB, replicas=2, timeout=900)
        self.kind = kind

    def log_complaints(self, guest):
        return complaints(self.sh("guest0", "dmesg"))


def main():
    args = sys.argv[1:]
    if not args or args[0] not in ("pv", "pvh") or len(args) > 3:
        sys.exit("usage: test-debug.py pv|pvh [SECONDS [STEP]]")
    t = DebugTestbed(args[0])
    t.seconds, t.step = [int(word) for word in args[1:]] + [20, 1][len(args) - 1:]
    tables = [tables_fail_anywhere] if t.step <= SHORT else []
    xenlib.run(t, [kernel_has_detectors, load_loop, loading_fails_anywhere, attaching_fails_anywhere, *tables,
                   relay_dies_under_load, hogs, nothing_is_lost])


if __name__ == "__main__":
    main()
