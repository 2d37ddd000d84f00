#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The udev rule and the units, with Debian's udev and systemd as process 1 of a guest: test-systemd.py KERNEL pv|pvh

What "make install-guest" lays down switches the swap on by itself and off when asked. The daemons' units run there as well, on what
"make install" lays down, each in its sandbox, and serve a native guest: what that leaves out is the relay's way to Xen's devices.
Prints TAP.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time

import xenlib

sys.path.insert(0, os.path.dirname(xenlib.TESTBED))
from memx_testbed import configs, elf  # noqa: E402

SWAP_MIB = 256
MIB = 184           # some 110 are free
SWAP_FILE = "/run/memx/swap"
UNIT = "memx-swap.service"
DAEMONS = ("memx-server", "memx-dom0-relay")
TOOLS = ("memxctl", "memx-guest")
PAGES = 2048
# What the sample configurations are turned into; as it is, the server's gives more memory than the guest has.
SERVER = "sed 's/^memory = .*/memory = 48M/'"
RELAY = """\
[relay]
xenstore = no
shm = /run/memx-relay/shm.sock
replicas = 1
[donor d1]
address = 127.0.0.1:7700
[guest native]
quota = 16M
"""


def unit(t, name, *properties):
    """Properties of a unit."""
    shown = t.sh("guest0", f"systemctl show {name} " + " ".join(f"-p {p}" for p in properties))
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def active(t, name):
    return t.exec("guest0", "systemctl", "is-active", name).out.strip()


def journal(t, name):
    return t.sh("guest0", f"journalctl -o cat --no-pager -u {name}")


def is_on(t):
    assert active(t, UNIT) == "active", f"{UNIT} is {active(t, UNIT)}: {journal(t, UNIT)}"
    shown = t.sh("guest0", "swapon --show=NAME,PRIO --noheadings --raw").split()
    assert shown == [SWAP_FILE, "100"], f"swapon --show: {shown}"


def is_off(t):
    assert not t.swaps("guest0"), t.swaps("guest0")
    assert " memx " not in t.sh("guest0", "cat /proc/mounts"), "it is still mounted"


def on_by_itself(t):
    """Loaded while the guest boots, before udev listens, the swap is on when it has booted, and no unit failed."""
    state = t.exec("guest0", "systemctl", "is-system-running", "--wait").out.strip()
    assert state == "running", f"the system is {state}: {t.exec('guest0', 'systemctl', '--failed', '--no-pager').out}"
    is_on(t)
    wanted = unit(t, UNIT, "WantedBy", "Type", "FragmentPath")
    print(f"# {wanted}")
    assert wanted["WantedBy"] == "sys-devices-platform-memx.device", "it was not udev that started it"
    print(f"# {t.pages('guest0', MIB, '--touches', 100)}")


def stop_and_load_again(t):
    """Stopped, it is off and the module can go; loaded again, the uevent of its first attach switches it on."""
    for _ in range(2):
        t.sh("guest0", f"systemctl stop {UNIT}")
        assert active(t, UNIT) == "inactive", active(t, UNIT)
        is_off(t)
        t.sh("guest0", "rmmod memx_swap && modprobe memx_swap")
        t.wait("the swap to be on by itself", lambda: active(t, UNIT) == "active")
        is_on(t)


def stays_on_where_memory_is_short(t):
    """What does not fit into memory keeps the swap on; the log says so, and the unit can be started and stopped again."""
    job = t.pages_start("guest0", MIB, "--seconds", 3600, "--seed", 3)
    t.wait("the job to be swapped", lambda: next(iter(t.swaps("guest0").values()))[1] > 50 * 1024)
    stop = t.exec("guest0", "systemctl", "stop", UNIT)
    print(f"# systemctl stop: {stop.status} {stop.err.strip()}; now {active(t, UNIT)}")
    assert SWAP_FILE in t.swaps("guest0"), "the swap is off"
    assert active(t, UNIT) == "failed", active(t, UNIT)
    assert f"{SWAP_FILE} stays on" in journal(t, UNIT), journal(t, UNIT)
    t.pages_enough(job)
    t.sh("guest0", f"systemctl start {UNIT}")
    is_on(t)
    t.sh("guest0", f"systemctl stop {UNIT}")
    is_off(t)
    t.sh("guest0", f"systemctl start {UNIT}")
    is_on(t)


def install(t):
    """What "make install" lays down, with the libraries that packages would bring, into the guest."""
    there = set(t.sh("guest0", "ls /usr/lib/x86_64-linux-gnu").split())
    with tempfile.TemporaryDirectory(dir=os.environ.get("MEMX_TMP")) as folder:
        dest = os.path.join(folder, "dest")
        subprocess.run(["make", "-s", "install", f"DESTDIR={dest}"], cwd=xenlib.TOP, check=True, stdin=subprocess.DEVNULL, stdout=2)
        for name in TOOLS:
            if not os.path.exists(os.path.join(dest, "usr/local/bin", name)):
                subprocess.run(["install", "-D", os.path.join(xenlib.BIN, name), os.path.join(dest, "usr/local/bin", name)], check=True)
        programs = [os.path.join(xenlib.BIN, name) for name in DAEMONS + TOOLS]
        bundle = os.path.join(folder, "install.tar")
        with tarfile.open(bundle, "w", dereference=True) as out:
            out.add(os.path.join(dest, "usr/local"), "usr/local")
            for soname, path in elf.library_closure(programs, configs.host_library).items():
                if soname not in there and not soname.startswith("ld-linux"):
                    out.add(path, f"usr/lib/x86_64-linux-gnu/{soname}")
        t.must("push", "guest0", bundle, "/tmp/install.tar")
    t.sh("guest0", "tar -C / -xf /tmp/install.tar && rm /tmp/install.tar && systemctl daemon-reload")


def sandbox(t, name, root):
    """What the kernel knows of a daemon's sandbox."""
    pid = unit(t, name, "MainPID")["MainPID"]
    rows = dict(line.split(":", 1) for line in t.sh("guest0", f"cat /proc/{pid}/status").splitlines())
    seen = {key: rows[key].split()[0] for key in ("Uid", "NoNewPrivs", "Seccomp", "CapBnd", "CapEff")}
    print(f"# {name}: {seen}")
    assert seen["NoNewPrivs"] == "1" and seen["Seccomp"] == "2", f"{name} is not in its sandbox: {seen}"
    assert (seen["Uid"] == "0") == root, f"{name} runs as {seen['Uid']}"
    if not root:
        assert int(seen["CapBnd"], 16) == 0, f"{name} may have capabilities: {seen}"
    else:
        # CAP_IPC_LOCK, CAP_SYS_RAWIO and CAP_SYS_ADMIN, which hypercalls take.
        assert int(seen["CapBnd"], 16) == 1 << 14 | 1 << 17 | 1 << 21, f"{name} may have other capabilities: {seen}"


def runs(t, name):
    """A unit that its daemon said to be ready, and that its daemon keeps from the watchdog."""
    t.wait(f"{name} to be active", lambda: active(t, name) in ("active", "failed"))
    assert active(t, name) == "active", journal(t, name)
    seen = unit(t, name, "Type", "StatusText", "WatchdogUSec", "WatchdogTimestampMonotonic", "NRestarts")
    print(f"# {name}: {seen}")
    assert seen["Type"] == "notify" and seen["StatusText"], seen
    assert seen["WatchdogUSec"] == "30s" and seen["WatchdogTimestampMonotonic"] != "0", seen
    return int(seen["NRestarts"])


def daemons_under_their_units(t):
    """A mistake in its file ends the server for good; with a right one both daemons come up, serve, and come back when killed."""
    install(t)
    server, relay = DAEMONS
    t.sh("guest0", f"install -D -m 644 /usr/local/share/doc/memx/server.conf /etc/memx/server.conf && systemctl enable {server}")
    t.exec("guest0", "systemctl", "start", server)
    t.wait("the unit to have failed", lambda: active(t, server) == "failed")
    mistake = unit(t, server, "ExecMainStatus", "NRestarts", "Result")
    assert mistake == {"ExecMainStatus": "2", "NRestarts": "0", "Result": "exit-code"}, f"{mistake}: {journal(t, server)}"
    assert re.search(r"/etc/memx/server\.conf:\d+: .*memory.*accepted", journal(t, server)), journal(t, server)

    t.sh("guest0", f"{SERVER} /usr/local/share/doc/memx/server.conf >/etc/memx/server.conf && systemctl start {server}")
    assert runs(t, server) == 0
    sandbox(t, server, root=False)
    t.sh("guest0", f"cat >/etc/memx/relay.conf <<'EOF'\n{RELAY}EOF\n"
         f"mkdir -p /proc/xen && mount -t xenfs xenfs /proc/xen && systemctl start {relay}")
    assert runs(t, relay) == 0
    sandbox(t, relay, root=True)
    store_and_fetch(t)

    for name in DAEMONS:
        t.sh("guest0", f"systemctl kill -s KILL --kill-whom=main {name}")
        t.wait(f"{name} to be started again", lambda n=name: unit(t, n, "NRestarts")["NRestarts"] == "1" and active(t, n) == "active")
    store_and_fetch(t)
    t.sh("guest0", f"systemctl reload {server} {relay} && systemctl stop {relay} {server}")
    for name in DAEMONS:
        assert unit(t, name, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}, journal(t, name)


def store_and_fetch(t):
    """A native guest stores and fetches through the relay's unit and the server's."""
    # A relay refuses until it has found its donor.
    said = t.sh("guest0", f"printf '%s\\n' 'wait 30000' 'wait 30000' 'wait 30000' 'fill 0 {PAGES} 5' 'verify 0 {PAGES} 5' |"
                f" memx-guest --socket /run/memx-relay/shm.sock --name native --slots {PAGES} --replicas 1").splitlines()
    print(f"# {said[-2:]}")
    assert len(said) == 5 and all(line.startswith("ok") for line in said[3:]), said
    used = t.sh("guest0", "memxctl donors")
    print(f"# {used.splitlines()}")


def ends_and_begins_with_the_machine(t):
    """A guest that is shut down with much in its swap ends, and its pages with it; booted again it has its swap by itself."""
    t.pages_start("guest0", MIB, "--seconds", 3600, "--seed", 4)
    t.wait("the job to be swapped", lambda: next(iter(t.swaps("guest0").values()))[1] > 50 * 1024)
    before = [row["session"] for row in t.memctl("host0", "sessions")]
    bad = t.log_complaints("guest0")
    assert not bad, "\n".join(bad)
    began = time.monotonic()
    t.exec("guest0", "systemctl", "poweroff")
    t.wait("the guest to have ended", lambda: t.exec("host0", "xl", "domid", "guest0").status != 0)
    print(f"# it took {time.monotonic() - began:.0f} s to power off")
    t.kill_jobs()
    t.wait("its pages to be freed", lambda: not t.memctl("host0", "sessions"))
    t.sh("host0", "xl create -q /etc/xen/guest0.cfg")
    t.wait("the guest to answer", lambda: t.answers("guest0"))
    t.wait("the swap to be on by itself", lambda: active(t, UNIT) == "active")
    is_on(t)
    after = [row["session"] for row in t.memctl("host0", "sessions")]
    assert len(after) == 1 and after != before, f"sessions {before}, then {after}"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    kernel, kind = sys.argv[1:]
    t = xenlib.Testbed(f"systemd-{kind}-{kernel}", kernel=kernel, guest_type=kind, guest_init="systemd", guest_mem=256, swap=SWAP_MIB,
                       donors=2, donor_mem=1024)
    xenlib.run(t, [on_by_itself, stop_and_load_again, stays_on_where_memory_is_short, daemons_under_their_units,
                   ends_and_begins_with_the_machine])


main()
