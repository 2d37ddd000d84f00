#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The module on real Xen against an unmodified libxenvchan client, honest and not: test-vchan.py KERNEL pv|pvh [TEST...]

No relay and no donor: vchan-client in Dom0 is both, keeps the guest's pages in its own memory, and can lie. Starts one
testbed with a bare guest, runs the tests (all by default), prints TAP.
"""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "xen-tests"))
import xenlib  # noqa: E402

DEVICE = "/sys/devices/platform/memx"
MODULE = "/memx_swap.ko"
CLIENT_LOG = "/var/log/memx/relay.log"     # where evidence is looked for
LOADS = 100

# Tricks of the relay that are played in one run, one after the other, each with the opportunity of which it is given the
# number, and what the module is expected to count of each.
TRICKS = [
    [("bad-magic", 20, "violations"), ("huge", 60, "violations"), ("unknown-tag", 100, "violations"),
     ("wrong-epoch", 140, "violations"), ("second-hello", 6, "violations"), ("wrong-nonce", 10, "violations"),
     ("grant-nonsense", 2, "violations")],
    [("twice", 20, "violations"), ("index-far", 60, "violations"), ("index-back", 100, "violations"),
     ("cons-far", 140, "violations"), ("other-slot", 30, "violations"), ("truncated", 60, "violations")],
    [("corrupt", 5, "corrupt"), ("absent", 20, "retries"), ("leave", 60, "lost")],
]


class Guest:
    """The guest, and the client in Dom0 that serves it."""

    def __init__(self, testbed, kernel):
        self.t = testbed
        self.kernel = kernel
        self.ready = False

    def prepare(self):
        if self.ready:
            return
        t = self.t
        t.must("push", "guest0", os.path.join(xenlib.TOP, "build", "module", self.kernel, "memx_swap.ko"), MODULE)
        t.must("push", "guest0", os.path.join(xenlib.TOP, "guest", "udev", "memx-swapon"), "/memx-swapon")
        t.must("push", "guest0", os.path.join(xenlib.BIN, "memx-pages"), "/memx-pages")
        t.must("push", "host0", os.path.join(xenlib.BIN, "vchan-client"), "/root/vchan-client")
        t.sh("guest0", "chmod 755 /memx-swapon /memx-pages")
        t.sh("host0", "chmod 755 /root/vchan-client")
        self.domid = int(t.sh("host0", "xl domid guest0"))
        self.ready = True

    def load(self, *params):
        self.prepare()
        if not self.loaded():
            self.t.sh("guest0", f"insmod {MODULE} {' '.join(params)}")

    def loaded(self):
        return "memx_swap" in self.t.sh("guest0", "cat /proc/modules")

    def swapoff(self):
        """Before the client ends: with it the pages are gone."""
        if self.loaded() and self.read("swap") == "1":
            self.t.sh("guest0", "/memx-swapon off")
            self.t.wait("the session to be freed", lambda: "detach" in self.client())

    def unload(self):
        self.swapoff()
        if self.loaded():
            self.t.sh("guest0", "rmmod memx_swap")
        self.stop()

    def serve(self, *args):
        self.swapoff()
        self.stop()
        self.t.sh("host0", f"mkdir -p /var/log/memx; /root/vchan-client {' '.join(map(str, args))} {self.domid} >{CLIENT_LOG} 2>&1 & echo $! >/tmp/client.pid")

    def stop(self):
        """Kills the client, which may have ended by itself."""
        self.t.sh("host0", "if [ -e /tmp/client.pid ]; then p=$(cat /tmp/client.pid) && { [ ! -d /proc/$p ] || kill -9 $p; } && "
                           "rm /tmp/client.pid; fi")

    def client(self):
        return self.t.sh("host0", f"cat {CLIENT_LOG}")

    def read(self, name):
        return self.t.sh("guest0", f"cat {DEVICE}/{name}").strip()

    def counter(self, name):
        return int(self.read(f"statistics/{name}"))

    def attached(self):
        self.t.wait("the module to attach", lambda: self.read("state") == "attached")

    def swapon(self):
        self.attached()
        self.t.sh("guest0", "/memx-swapon on")

    def page(self, touches=200, seed=1):
        """Pages somewhat more than there is memory, and verifies; the client must be content as well."""
        mib = int(re.search(r"MemAvailable:\s+(\d+)", self.t.sh("guest0", "cat /proc/meminfo")).group(1)) // 1024 + 8
        r = self.t.exec("guest0", "/memx-pages", "--mib", str(mib), "--touches", str(touches), "--seed", str(seed))
        assert r.status == 0, f"memx-pages: {r}\n{self.client()}"
        assert "pages_wrong=0" in r.out, r.out
        assert "is wrong" not in self.client(), self.client()
        print(f"# {r.out.strip()}")

    def grants(self):
        """Active and shared entries of the guest's grant table, as the hypervisor sees them."""
        self.t.sh("host0", "xl dmesg -c >/dev/null; xl debug-keys g")
        dump = self.t.sh("host0", "xl dmesg")
        own = re.search(rf"grant-table for remote d{self.domid}\b.*?(?=grant-table for remote|gnttab_usage_print_all \] done)",
                        dump, re.S)
        assert own, dump
        return len(re.findall(r"\[0x[0-9a-f]+\]", own.group(0)))

    def ports(self):
        return len(self.t.sh("host0", f"lsevtchn {self.domid}").splitlines())

    def nodes(self):
        return self.t.sh("host0", f"xenstore-ls /local/domain/{self.domid}/data").strip()

    def free(self):
        return int(re.search(r"MemFree:\s+(\d+)", self.t.sh("guest0", "sync; echo 3 >/proc/sys/vm/drop_caches; cat /proc/meminfo")).group(1))

    def held(self):
        return {"grants": self.grants(), "ports": self.ports(), "nodes": self.nodes()}


guest = None


def dom0_refuses(t):
    """Where the module has no business it says so and is not loaded."""
    guest.prepare()
    if guest.kernel != "6.1":
        return
    t.must("push", "host0", os.path.join(xenlib.TOP, "build", "module", "6.1", "memx_swap.ko"), MODULE)
    r = t.exec("host0", "insmod", MODULE)
    assert r.status != 0, "insmod in Dom0 succeeded"
    log = t.sh("host0", "dmesg | grep memx_swap | tail -1")
    assert "Dom0" in log, log


def bad_parameter(t):
    guest.prepare()
    r = t.exec("guest0", "insmod", MODULE, "ring_order=7")
    assert r.status != 0, "ring_order=7 was taken"
    log = t.sh("guest0", "dmesg | grep memx_swap | tail -1")
    assert "ring_order=7" in log and "19 or 20" in log, log


def waits_without_relay(t):
    """Loading waits for nobody; mount and swapon say that it is too early."""
    waiting = "dmesg | grep -c 'memx_swap: .*waiting for a relay' || true"
    said = int(t.sh("guest0", waiting))
    began = time.monotonic()
    guest.load()
    assert time.monotonic() - began < 60
    t.wait("the offer", lambda: guest.read("state") == "offered")
    nodes = guest.nodes()
    for node in ("version", "offer", "lanes", "ring-ref", "event-channel", 'state = "offered"'):
        assert node in nodes, nodes
    r = t.exec("guest0", "/memx-swapon", "on")
    assert r.status != 0 and "read swap header failed" in r.err, f"swapon before the first attach: {r}"
    r = t.exec("guest0", "sh", "-c", "mkdir -p /run/memx && mount -t memx memx /run/memx && "
               "{ busybox swapon /run/memx/swap; status=$?; umount /run/memx; exit $status; }")
    assert r.status != 0 and "temporarily unavailable" in r.err, f"swapon before the first attach: {r}"
    assert "no relay has attached" in t.sh("guest0", "dmesg | tail -3")
    assert guest.read("size") == "0"
    assert int(t.sh("guest0", waiting)) == said + 1, "that it waits is to be said once"


def refused_says_why(t):
    """A status of the relay's, and a node of the toolstack's: both end in the log."""
    guest.load()
    guest.serve("--refuse", "3:1")
    t.wait("the refusal in the log", lambda: "no room for a swap of this size" in t.sh("guest0", "dmesg | tail -5"))
    guest.attached()
    guest.stop()
    t.wait("the next offer", lambda: guest.read("state") == "offered")
    t.sh("host0", f"xenstore-write /local/domain/{guest.domid}/data/memx/refused 'not in the configuration of host0'")
    t.wait("the reason in the log", lambda: "not in the configuration of host0" in t.sh("guest0", "dmesg | tail -5"))


def pages_through_libxenvchan(t):
    """An unmodified client: rings, hello, attach, and every byte of what is paged."""
    guest.load()
    guest.serve()
    guest.swapon()
    orders = re.search(r"connected orders (\d+) (\d+)", guest.client())
    assert orders and orders.groups() == ("14", "19"), guest.client()
    guest.page(touches=1000)
    assert guest.counter("stores") > 1000 and guest.counter("fetches") > 500
    assert guest.counter("violations") == 0 and guest.counter("corrupt") == 0
    assert int(guest.read("size")) == 64 << 20


def sysfs_as_written_down(t):
    """Every file of the ABI text is there, and every file that is there is in the text."""
    guest.load()
    with open(os.path.join(xenlib.TOP, "docs", "ABI", "sysfs-memx"), encoding="utf-8") as f:
        said = set(re.findall(rf"^What:\s+{DEVICE}/(\S+)", f.read(), re.M))
    there = set(t.sh("guest0", f"cd {DEVICE} && find . -type f | grep -v -e /power/ -e ./uevent -e ./modalias -e ./driver_override "
                               "| sed 's,^\\./,,'").split())
    assert said == there, f"only said: {said - there}, only there: {there - said}"
    t.sh("guest0", f"echo 5000 >{DEVICE}/deadline_ms && grep -qx 5000 {DEVICE}/deadline_ms && echo 0 >{DEVICE}/deadline_ms")
    r = t.exec("guest0", "sh", "-c", f"echo nonsense >{DEVICE}/trim_pages")
    assert r.status != 0, "trim_pages took nonsense"


def histogram(t, name):
    """Pages counted by one of the latency files of debugfs."""
    rows = [line.split() for line in t.sh("guest0", f"cat /sys/kernel/debug/memx/{name}").splitlines()]
    assert all(len(r) == 2 and int(r[1]) > 0 and int(r[0]) & (int(r[0]) - 1) == 0 for r in rows), rows
    return sum(int(r[1]) for r in rows)


def seen_by_tracers(t):
    """Tracepoints tell of stores, fetches and each change of the attachment, latency histograms of every page."""
    guest.load()
    trace = "/sys/kernel/tracing"
    guest.swapoff()
    guest.stop()
    t.wait("the offer", lambda: guest.read("state") == "offered")
    t.sh("guest0", f"echo >{trace}/trace; echo 1 >{trace}/events/memx/enable")
    guest.serve()
    guest.attached()
    kinds = {"store_latency": ("stores", "same_stored"), "fetch_latency": ("fetches", "same_fetched")}
    before = {c: guest.counter(c) for counters in kinds.values() for c in counters}
    t.sh("guest0", "echo >/sys/kernel/debug/memx/store_latency")
    guest.swapon()
    guest.page(touches=100, seed=3)
    for name, counters in kinds.items():
        t.wait(f"{name} to have each page", lambda name=name, counters=counters: histogram(t, name) ==
               sum(guest.counter(c) - before[c] for c in counters) > 0)
    lines = t.sh("guest0", f"grep -E 'memx_(submit|complete)' {trace}/trace | tail -2000")
    for what in (r"memx_submit: store slot=\d+ pages=\d+", r"memx_submit: fetch slot=", r"memx_complete: store .* err=0 ns=\d+",
                 r"memx_complete: fetch .* err=0 ns=\d+"):
        assert re.search(what, lines), f"{what} not in {lines[-1500:]}"
    due = ["attaching", "attached", "detaching", "down"]
    told = []

    def states_told():
        told[:] = re.findall(r"memx_state: (\w+) epoch=(\d+)", t.sh("guest0", f"grep memx_state {trace}/trace || true"))
        while told and told[0][0] != due[0]:    # of the client before
            told.pop(0)
        return len(told) >= len(due)

    guest.swapoff()
    t.wait("the states to be traced", states_told)
    t.sh("guest0", f"echo 0 >{trace}/events/memx/enable")
    epochs = [int(epoch) for _, epoch in told[:4]]
    assert [state for state, _ in told[:4]] == due and epochs[0] > 0 and epochs[1:] == [epochs[0], epochs[0], 0], told


def lies_are_found(t):
    """Each trick under load: the module counts it, offers itself anew where that is due, and no page is wrong."""
    guest.load()
    for tricks in TRICKS:
        before = {counter: guest.counter(counter) for _, _, counter in tricks}
        guest.serve(*[word for name, count, _ in tricks for word in ("--trick", f"{name}:{count}")])
        guest.swapon()
        guest.page(touches=400, seed=7)
        log = guest.client()
        for name, _, _ in tricks:
            assert f"trick {name}" in log, f"{name} was never played: {log}"
        for counter, value in before.items():
            due = sum(c == counter for _, _, c in tricks)
            now = guest.counter(counter)
            assert now >= value + due, f"{[n for n, _, _ in tricks]}: {counter} went from {value} to {now} and not up by {due}"
            print(f"# {' '.join(n for n, _, c in tricks if c == counter)}: {counter} {value} -> {now}")
        guest.attached()


def lie_without_work_is_found(t):
    """An index of the ring that the guest writes, while it has nothing to write: found at the event, not with the next page."""
    guest.load()
    before = guest.counter("violations")
    guest.serve("--trick", "cons-far:1")
    t.wait("the violation", lambda: guest.counter("violations") > before)
    guest.attached()


def no_space_fails_at_once(t):
    """A store that the donors have no room for fails, is counted, and the page stays where it was."""
    guest.load()
    before = guest.counter("nospace")
    guest.serve("--trick", "nospace:3")
    guest.swapon()
    guest.page(seed=8)
    assert guest.counter("nospace") > before
    guest.swapoff()
    guest.stop()
    t.sh("guest0", "dmesg -c >/dev/null")      # the kernel's line about the failed write was expected


def hibernation_is_refused(t):
    """The kernel would look for a block device under the swap, and there is none."""
    guest.load()
    guest.serve()
    guest.swapon()
    r = t.exec("guest0", "sh", "-c", "echo disk >/sys/power/state")
    assert r.status != 0, "the guest went into hibernation"
    log = t.sh("guest0", "dmesg | grep memx_swap | tail -1")
    assert "hibernation refused" in log, log
    guest.page(touches=100, seed=9)


def hung_client_is_survived(t):
    """rmmod while a stopped client maps the rings: bounded, counted, and the next load works."""
    guest.unload()
    guest.load()
    guest.serve()
    guest.attached()
    t.sh("host0", "kill -STOP $(cat /tmp/client.pid)")
    began = time.monotonic()
    t.sh("guest0", "rmmod memx_swap")
    took = time.monotonic() - began
    log = t.sh("guest0", "dmesg | tail -3")
    leaked = re.search(r"(\d+) pages are leaked", log)
    assert leaked, log
    assert took < 60, f"rmmod took {took:.0f} s"
    print(f"# rmmod took {took:.1f} s: {log.strip().splitlines()[-1]}")
    t.sh("guest0", "dmesg -c >/dev/null")
    guest.stop()
    guest.load()
    assert guest.counter("leaked") == int(leaked.group(1)), f"{guest.counter('leaked')} counted, {log}"
    assert f'memx-leaked = "{leaked.group(1)}"' in guest.nodes(), guest.nodes()
    guest.serve()
    guest.attached()
    guest.unload()


def loads_leave_nothing(t):
    """Loaded and unloaded over and over, with a client and without: no grant, port, node or page is left."""
    guest.unload()
    guest.load()
    guest.unload()
    held, free = guest.held(), guest.free()
    t.sh("guest0", f"i=0; while [ $i -lt {LOADS} ]; do insmod {MODULE} && rmmod memx_swap || exit 1; i=$((i + 1)); done")
    guest.serve()
    for _ in range(5):
        guest.load()
        guest.attached()
        t.sh("guest0", "rmmod memx_swap")
    guest.stop()
    assert guest.held() == held, f"before {held}, after {guest.held()}"
    lost = free - guest.free()
    print(f"# {LOADS + 5} loads: {lost} KiB less free, {held['grants']} grants, {held['ports']} ports")
    assert lost < 1024, f"{lost} KiB are gone after {LOADS + 5} loads"


TESTS = [dom0_refuses, bad_parameter, waits_without_relay, refused_says_why, pages_through_libxenvchan, sysfs_as_written_down,
         seen_by_tracers, lies_are_found, lie_without_work_is_found, no_space_fails_at_once, hibernation_is_refused, hung_client_is_survived, loads_leave_nothing]


def main():
    global guest
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    kernel, kind = sys.argv[1:3]
    wanted = set(sys.argv[3:])
    tests = [test for test in TESTS if not wanted or test.__name__ in wanted]
    testbed = xenlib.Testbed(f"vchan-{kernel}-{kind}", kernel=kernel, guest_type=kind, guests=1, swap=0)
    guest = Guest(testbed, kernel)
    xenlib.run(testbed, tests)


main()
