#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A guest's memory exhausted from all sides while donors fail: no hang, no panic, no wrong byte, and nobody killed.

    test-hogs.py KERNEL GUEST_MIB [SECONDS [SEED]]      SECONDS (30) of load, SEED (1) chooses load and faults
    test-hogs.py --control KERNEL                       the same with the protection of page-out switched off: the guest
                                                        must hang, and this test must see it

Several processes fill anonymous memory, shared memory, files in the page cache, a memory cgroup with a small limit, and a
process that forks all the time, together far more than the guest has and less than memory and swap. Each verifies what it
reads. The kernel panics on whatever it does not like: a hung task, an oops, a warning, a lockup.

A task may hang for HUNG_S, and so may the whole guest. The longest wait seen here for a page, with a donor stopped on a busy machine that emulates the
guest, is some seconds, most of it the emulation's; a wait of 60 s is none of a kind that ends. Faults of the relay are not
among those tried here: waits for a relay that is away last as long as it is.
"""

import json
import random
import re
import sys
import time

import xenlib

HUNG_S = 60
CONTROL_HUNG_S = 20	# the control hangs for good, and need not be waited for that long
LOOK_S = 3
CGROUP = "/sys/fs/cgroup/hogs"
PANICS = {"kernel/hung_task_panic": 1, "kernel/panic_on_oops": 1, "kernel/panic_on_warn": 1, "kernel/softlockup_panic": 1,
          "kernel/hung_task_warnings": 10, "kernel/watchdog_thresh": 30,
          "kernel/sysrq": 1, "kernel/printk": 7}

# Shares of the memory that the guest has for programs, for a short run; a long one takes LONG times as much. The forking one
# has its share twice while a child lives.
HOGS = (("anon", 0.5, False), ("anon", 0.4, True), ("shmem", 0.25, False), ("file", 0.25, False), ("fork", 0.2, False))
LONG, LONG_S = 1.5, 120
CGROUP_LIMIT = 0.2
FAULTS = (("kill", "start"), ("stop", "cont"), ("cut", "heal"))


def memory(t):
    """MiB that programs of the guest can have, as its kernel estimates."""
    return int(re.search(r"MemAvailable:\s+(\d+)", t.sh("guest0", "cat /proc/meminfo")).group(1)) // 1024


def prepare(t, mib, hung):
    sysctls = dict(PANICS, **{"kernel/hung_task_timeout_secs": hung})
    script = "".join(f"echo {value} >/proc/sys/{name} && " for name, value in sysctls.items())
    script += "mount -o remount,size=100% /dev/shm && mount -t cgroup2 cgroup2 /sys/fs/cgroup && "
    script += f"echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir {CGROUP} && "
    script += f"echo {max(12, int(mib * CGROUP_LIMIT))}M >{CGROUP}/memory.max"
    t.sh("guest0", script)


def words(mib, seconds):
    """The hogs for a guest with so much memory, as memx-hogs takes them; and their MiB."""
    scale = mib * (LONG if seconds >= LONG_S else 1)
    sizes = [max(4, int(scale * share)) for _, share, _ in HOGS]
    return [f"{kind}:{size}" + (f":{CGROUP}" if limited else "")
            for (kind, _, limited), size in zip(HOGS, sizes)], sum(sizes)


def look(t):
    """(the guest's state as Xen sees it, pages that it stored and fetched so far, the end of its console)"""
    text = t.sh("host0", "xl list guest0 | tail -n 1; echo @@; memxctl --json status; echo @@; "
                         "tail -n 1000 /var/log/xen/console/guest-guest0.log")
    row, status, log = text.split("@@\n", 2)
    counters = json.loads(status)["counters"]
    return row.split()[4], counters["stores"] + counters["fetches"], log


def blocked_tasks(t):
    """What the guest's tasks wait for. Its kernel is asked through Xen: no program in the guest has to run for it."""
    t.sh("host0", "xl sysrq guest0 w")
    seen = ["", ""]

    def said():
        seen.append(look(t)[2])
        return "Show Blocked State" in seen[-1] and seen[-1] == seen[-2]
    t.wait("the guest's kernel to name its blocked tasks", said, timeout=60)
    return seen[-1]


def trouble(t):
    """(what became of the guest, its console's end) where it died or hangs, else None.

    The kernel's detector passes over tasks that a signal could end, which is how a page that leaves is waited for. So a
    guest hangs as well when it should swap, and no page has moved for as long.
    """
    # Each look costs the machine that emulates all this more than it costs the guest.
    if time.monotonic() < t.looked + LOOK_S:
        return None
    state, moved, log = look(t)
    t.looked = time.monotonic()
    if moved != t.moved:
        t.moved, t.moved_at = moved, t.looked
    if "Kernel panic" in log or "c" in state or "s" in state:
        return "died", log
    if t.looked > t.moved_at + t.hung:
        return "hangs", blocked_tasks(t)
    return None


def at_work(t, job):
    """The job runs, and so does the guest."""
    bad = trouble(t)
    assert bad is None, f"the guest {bad[0]}:\n{bad[1]}"
    return job.running()


def one_fault(t, job, rng):
    """A donor fails for a while and comes back. Then all that has copies on it has two again, for the next one's sake."""
    donor, (begin, end) = rng.randrange(t.donors), rng.choice(FAULTS)
    lasts = rng.uniform(0.5, 6)
    t.must("donor", str(donor), begin)
    print(f"# donor {donor}: {begin}, {end} after {lasts:.1f} s", flush=True)
    until = time.monotonic() + lasts
    while time.monotonic() < until and at_work(t, job):
        time.sleep(0.2)
    t.must("donor", str(donor), end)

    def whole():
        repair = t.memctl("host0", "repair")
        time.sleep(0.5)
        return not at_work(t, job) or not (repair["remaining"] or repair["degraded_extents"] or repair["dead_donors"])
    t.wait(f"all pages to have two copies again: {t.memctl('host0', 'repair')}", whole, timeout=300)


def hogs(t):
    rng = random.Random(t.seed)
    mib = memory(t)
    prepare(t, mib, HUNG_S)
    load, total = words(mib, t.seconds)
    before = t.vmstat("guest0")
    prog = t.push_program("guest0", "memx-hogs")
    t.moved_at = time.monotonic()
    job = t.start("guest0", prog, "--seconds", str(t.seconds), "--seed", str(t.seed), *load, timeout=t.seconds + 900)
    print(f"# {mib} MiB free: memx-hogs {' '.join(load)}", flush=True)
    swapped = total * 256 // 4
    t.wait("the guest to swap", lambda: not at_work(t, job) or t.swap_used() * 4 > swapped, timeout=300)
    count = 0
    while at_work(t, job):
        one_fault(t, job, rng)
        count += 1
    r = job.end()
    print("".join(f"# {line}\n" for line in r.out.splitlines()[-8:]), end="")
    assert r.status == 0, f"memx-hogs: {r}"
    figures = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", r.out)}
    after = t.vmstat("guest0")
    out, back = after["pswpout"] - before["pswpout"], after["pswpin"] - before["pswpin"]
    print(f"# {count} faults, {out} pages out, {back} in", flush=True)
    assert figures["pages_wrong"] == 0 and figures["pages_verified"] >= total * 256, figures
    assert figures["forks"] and figures["pages_given_back"], f"nobody forked, or gave anything back: {figures}"
    assert out > total * 256 // 2 and back > total * 256 // 4, f"hardly anything was swapped: {out} out, {back} in"
    assert count >= 1, "no donor failed while the job ran"
    assert after["oom_kill"] == before["oom_kill"], "the OOM killer struck although memory and swap sufficed"
    events = t.sh("guest0", f"cat {CGROUP}/memory.events")
    assert re.search(r"^oom_kill 0$", events, re.M), f"the cgroup's OOM killer struck: {events}"
    assert re.search(r"^max [1-9]", events, re.M), f"the cgroup never met its limit: {events}"


def comes_to_rest(t):
    """Afterwards memory and swap are free again, and a new program finds all as it should be."""
    t.wait("the swap to be empty", lambda: t.swap_used() < 2048, timeout=60)
    print(f"# {t.pages('guest0', memory(t) // 2, '--touches', 200)}")


def control(t):
    """With reclaim allowed to enter what it waits for the guest must hang, and in the module's own threads."""
    mib = memory(t)
    prepare(t, mib, CONTROL_HUNG_S)
    load, _ = words(mib, t.seconds)
    prog = t.push_program("guest0", "memx-hogs")
    t.hung, t.moved_at = CONTROL_HUNG_S, time.monotonic()
    job = t.start("guest0", prog, "--seconds", str(t.seconds), "--seed", str(t.seed), *load, timeout=t.seconds + 600)
    until = time.monotonic() + 300
    bad = None
    while not bad and job.running() and time.monotonic() < until:
        time.sleep(1)
        bad = trouble(t)
    assert bad, "the guest lives, without the protection: " + (str(job.end()) if not job.running() else "the hogs run")
    what, log = bad
    tasks = re.findall(r"task:(\S+)\s+state:D", log)
    print(f"# the guest {what} after {t.moved} pages; blocked: {', '.join(tasks)}")
    assert any(task.startswith("memx/lane") for task in tasks) or "memx/lane" in log, f"no thread of the module is among those that hang:\n{log}"
    assert re.search(r"try_to_free|shrink_\w+|memx_lane_thread", log), f"none of them is in reclaim:\n{log}"


class HogTestbed(xenlib.Testbed):
    donors = 3
    looked = 0.0	# when the guest was looked at
    moved, moved_at = -1, 0.0	# pages stored and fetched then; when that number last changed
    hung = HUNG_S
    seconds = 30
    seed = 1

    def swap_used(self):
        """KiB"""
        return sum(used for _, used in self.swaps("guest0").values())


def testbed(name, kernel, mib, **more):
    # Swap for three times the memory, and each of three donors could hold all of it: a lost one can be made up for.
    t = HogTestbed(name, kernel=kernel, guest_mem=mib, swap=3 * mib, donors=HogTestbed.donors, donor_mem=6 * mib, replicas=2, **more)
    return t


def main():
    args = sys.argv[1:]
    try:
        if args[:1] == ["--control"]:
            kernel, = args[1:]
            module = f"{xenlib.TOP}/build/module/{kernel}-unsafe-reclaim/memx_swap_unsafe_reclaim.ko"
            xenlib.run(testbed(f"hogs-control-{kernel}", kernel, 128, module=module), [control], guests=())
        kernel, mib, *rest = args
        t = testbed(f"hogs-{mib}-{kernel}", kernel, int(mib))
        t.seconds, t.seed = [int(word) for word in rest] + [30, 1][len(rest):]
    except ValueError:
        sys.exit("usage: test-hogs.py KERNEL GUEST_MIB [SECONDS [SEED]] | --control KERNEL")
    xenlib.run(t, [hogs, comes_to_rest])


if __name__ == "__main__":
    main()
