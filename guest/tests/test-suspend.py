#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A guest that is paging is checkpointed, saved and restored on real Xen: test-suspend.py KERNEL pv|pvh [TEST...]

The relay and the donors are the real ones. A second guest is only there to leave its memory to the copy. Suspends that are
refused, and one that must not be, come last. Prints TAP.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "xen-tests"))
import xenlib  # noqa: E402

STATISTICS = "/sys/devices/platform/memx/statistics"
MIB = 88
IMAGE = "/tmp/guest0.save"
CONSOLE = "/var/log/xen/console/guest-guest0.log"
SHY = "/sys/fs/cgroup/shy"
SHY_FILE = "/dev/shm/shy"
COPY_CONFIG = "/tmp/copy.cfg"
COPY_CONSOLE = "/var/log/xen/console/guest-copy.log"
# The copy has the original's addresses, so its interface leads nowhere.
ALONE = f"""cat >/tmp/vif-alone <<'END'
#!/bin/sh
test "$1" != online || xenstore-write "$XENBUS_PATH/hotplug-status" connected
END
chmod 755 /tmp/vif-alone
sed -e 's/guest0/copy/' -e 's#/etc/xen/scripts/vif-testbed#/tmp/vif-alone#' /etc/xen/guest0.cfg >{COPY_CONFIG}"""


def counter(t, name):
    return int(t.sh("guest0", f"cat {STATISTICS}/{name}"))


def session(t):
    return t.sh("guest0", "cat /sys/devices/platform/memx/session").strip()


def state(t):
    return t.sh("guest0", "cat /sys/devices/platform/memx/state").strip()


def in_flight(t):
    return int(t.sh("guest0", "cat /sys/devices/platform/memx/inflight"))


def begin(t, seed, *how):
    """A job that pages, and has begun to."""
    before = counter(t, "stores")
    job = t.pages_start("guest0", MIB, *(how or ("--touches", 1500)), "--seed", seed)
    t.wait("the job to be swapped out", lambda: counter(t, "stores") > before + 500)
    return job


def checkpoint(t):
    """
    Suspended, kept in a file, and gone on; then the copy is restored while the original pages. The original has attached
    with a lineage that the copy does not know: the copy learns that it is superseded and says so, the original loses nothing.
    """
    t.sh("host0", "xl destroy guest1")
    job = begin(t, 1, "--seconds", 120)
    attaches, who = counter(t, "attaches"), session(t)
    t.sh("host0", f"xl save -c guest0 {IMAGE}")
    t.wait("the guest to attach with a new lineage", lambda: counter(t, "attaches") > attaches)
    assert session(t) == who
    stores = counter(t, "stores")
    t.wait("the guest to page on", lambda: counter(t, "stores") > stores + 100)

    t.sh("host0", ALONE)
    t.sh("host0", f"xl restore {COPY_CONFIG} {IMAGE} && rm {IMAGE}")
    t.wait("the copy to give up", lambda: "giving up: another copy" in t.sh("host0", f"cat {COPY_CONSOLE} 2>/dev/null; true"))
    assert counter(t, "attaches") == attaches + 1, "the copy cost the original its channel"
    t.sh("host0", "xl destroy copy")
    assert job.running(), "the job was over too early to say anything"
    print(f"# {t.pages_end(job)}")
    assert session(t) == who and state(t) == "attached"
    assert counter(t, "fetch_errors") == 0 and counter(t, "corrupt") == 0 and counter(t, "absent") == 0
    line = t.sh("host0", f"grep 'giving up' {COPY_CONSOLE}")
    print(f"# {line.strip()}")


def checkpoint_without_relay(t):
    """The relay is away when the suspend begins and when it ends: what is in flight and what is stored meanwhile waits."""
    job = begin(t, 4)
    attaches = counter(t, "attaches")
    t.must("relay", "host0", "kill")
    t.must("relay", "host0", "start")
    # While it starts: the suspend waits for what is in flight, with the session still at work.
    t.sh("host0", f"xl save -c guest0 {IMAGE} && rm {IMAGE}")
    t.must("relay", "host0", "kill")
    t.must("relay", "host0", "start")
    t.wait("the session to attach again", lambda: counter(t, "attaches") > attaches)
    print(f"# {t.pages_end(job)}")
    assert counter(t, "fetch_errors") == 0 and counter(t, "corrupt") == 0


def save_and_restore(t):
    """Another domain: grants, port and XenStore are new, the session and its pages are the same."""
    job = begin(t, 2)
    attaches, who = counter(t, "attaches"), session(t)
    t.sh("host0", f"xl save guest0 {IMAGE}")
    t.sh("host0", f"xl restore {IMAGE} && rm {IMAGE}")
    t.wait("the guest to answer", lambda: t.answers("guest0"))
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


def shy_file(t, kib):
    """
    A file in shared memory that leaves it when it is told to: no program waits for its pages, where there are fewer than
    the module has room for. Its checksum.
    """
    t.sh("guest0", f"test -d {SHY} || {{ mount -t cgroup2 cgroup2 /sys/fs/cgroup && "
                   f"echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir {SHY}; }}")
    t.sh("guest0", f"sh -c 'echo $$ >{SHY}/cgroup.procs && exec dd if=/dev/urandom of={SHY_FILE} bs=1K count={kib} 2>/dev/null'")
    return t.sh("guest0", f"md5sum {SHY_FILE}")


def push_out(t):
    """As far as that goes; where no relay is there the kernel says that it did not get as much as was asked for."""
    t.sh("guest0", f"echo 4M >{SHY}/memory.reclaim || true")


def suspend_is_refused(t):
    """
    Pages are on their way and there is no relay, so the guest refuses to be suspended. It is not left as a suspended one: what
    waits goes on with the next relay, writes are taken, and swap goes off and on.
    """
    checksum = shy_file(t, 768)
    t.must("relay", "host0", "kill")
    t.wait("the channel to be lost", lambda: state(t) != "attached")
    push_out(t)
    assert in_flight(t), "nothing waits for a relay"
    refusals = int(t.sh("host0", f"grep -c 'suspend refused' {CONSOLE} || true"))
    # As the toolstack asks for it, which would wait a minute more than the guest does.
    t.sh("host0", "xenstore-write /local/domain/$(xl domid guest0)/control/shutdown suspend")
    t.wait("the guest to refuse", lambda: int(t.sh("host0", f"grep -c 'suspend refused' {CONSOLE} || true")) > refusals)
    assert "s" not in t.sh("host0", "xl list guest0 | tail -n 1").split()[4], "the guest refused and is suspended"
    line = t.sh("host0", f"grep 'suspend refused' {CONSOLE} | tail -n 1")
    print(f"# {line.strip()}")
    t.must("relay", "host0", "start")
    t.wait("the session to attach again", lambda: state(t) == "attached")
    assert t.sh("guest0", f"md5sum {SHY_FILE}") == checksum
    shy_file(t, 768)
    stores = counter(t, "stores")
    push_out(t)
    t.wait("pages to be stored again", lambda: counter(t, "stores") > stores)
    who = session(t)
    t.sh("guest0", "memx-swapon off && memx-swapon on")
    assert session(t) != who, "swap came on again with the session that was given up"
    t.sh("guest0", f"rm {SHY_FILE}")
    print(f"# {t.pages('guest0', MIB, '--touches', 200, '--seed', 6)}")


def discards_wait(t):
    """Freed slots are found while the relay stands still, and no page but theirs is out."""
    t.sh("guest0", "memx-swapon off && memx-swapon on")
    shy_file(t, 8192)
    stores = counter(t, "stores")
    push_out(t)
    t.wait("pages to be stored", lambda: counter(t, "stores") > stores + 200)
    t.must("relay", "host0", "stop")
    trimmed = counter(t, "trimmed")
    t.sh("guest0", f"rm {SHY_FILE}")
    t.wait("freed slots to be found", lambda: counter(t, "trimmed") > trimmed)


def discards_do_not_refuse(t):
    """A job was over and its pages were being discarded when the relay died: nobody waits for them, though swap is on."""
    discards_wait(t)
    t.must("relay", "host0", "kill")
    t.wait("the channel to be lost", lambda: state(t) not in ("attached", "detaching"))
    assert in_flight(t), "no discard waits for a relay"
    t.sh("host0", f"xl save -c guest0 {IMAGE} && rm {IMAGE}")
    assert not in_flight(t)
    discards = counter(t, "discards")
    t.must("relay", "host0", "start")
    t.wait("the slots to be found again", lambda: counter(t, "discards") > discards)


def swap_off_does_not_refuse(t):
    """
    Discards are on their way when the relay goes, and swap goes off: nobody waits for them any more, and the suspend is not
    refused. A swapon that waits for the next session holds it up for as long as it waits, and fails.
    """
    discards_wait(t)
    t.sh("guest0", "memx-swapon off")
    assert in_flight(t), "no discard waits for a relay"
    t.must("relay", "host0", "kill")
    t.wait("the channel to be lost", lambda: state(t) not in ("attached", "detaching"))
    who = session(t)
    job = t.start("guest0", "memx-swapon", "on")
    t.wait("swapon to be called", lambda: t.sh("guest0", "pidof swapon || true").strip())
    t.sh("host0", f"xl save -c guest0 {IMAGE} && rm {IMAGE}")
    assert job.end().status, "swap came on without a relay"
    t.must("relay", "host0", "start")
    t.wait("the session to be freed, and the next to attach", lambda: state(t) == "attached" and session(t) != who)
    t.sh("guest0", "memx-swapon on")
    print(f"# {t.pages('guest0', MIB, '--touches', 200, '--seed', 7)}")
    assert counter(t, "fetch_errors") == 0 and counter(t, "corrupt") == 0 and counter(t, "violations") == 0


ALL = [checkpoint, checkpoint_without_relay, save_and_restore, relay_is_away, suspend_is_refused, discards_do_not_refuse,
       swap_off_does_not_refuse]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    kernel, kind, *names = sys.argv[1:]
    tests = [f for f in ALL if not names or f.__name__ in names]
    if len(tests) < len(names):
        sys.exit(f"test-suspend.py: there are these tests: {', '.join(f.__name__ for f in ALL)}")
    testbed = xenlib.Testbed(f"suspend-{kernel}-{kind}", kernel=kernel, guest_type=kind, guests=2, swap=192, donors=2, replicas=2)
    xenlib.run(testbed, tests)


main()
