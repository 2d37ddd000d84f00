#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The relay on real Xen: who is let in, how domains end, what a save and a restore keep. Prints TAP."""

import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tools", "xen-tests"))
from xenlib import Testbed, run         # noqa: E402

FILES = 14          # of 4 MB each, with the guest's own needs more than its memory


def relay_log(t):
    return t.sh("host0", "cat /var/log/memx/*relay*.log 2>/dev/null || cat /var/log/memx/*")


def attached(t):
    return any(s["attached"] for s in t.memctl("host0", "sessions"))


def pages_at_donors(t):
    return sum(d["pages_used"] for d in t.memctl("host0", "donors"))


def memxctl_knows_the_guest(t):
    guest, = t.memctl("host0", "guests")
    assert (guest["name"], guest["state"], guest["lanes"]) == ("guest0", "attached", 2), guest
    session, = t.memctl("host0", "sessions")
    assert session["attached"] and session["vm"] == guest["uuid"] and session["slots"] * 4096 == 160 << 20, session
    out = t.sh("host0", "memxctl donors")
    assert out.count("usable") == 2, out


def write_files(t):
    t.sh("guest0", f"mkdir -p /mnt/f && mount -t tmpfs -o size=120m t /mnt/f && i=0; while [ $i -lt {FILES} ]; do "
                   "head -c 4000000 /dev/urandom > /mnt/f/$i || exit 1; i=$((i+1)); done; md5sum /mnt/f/* > /tmp/sums")
    size, used = next(iter(t.swaps("guest0").values()))
    assert used > 1000, f"{used} of {size} KiB of swap are used: the files fit into memory"


def files_are_right(t):
    out = t.sh("guest0", "md5sum -c /tmp/sums")
    assert out.count(": OK") == FILES, out


def relay_ends_in_good_order_and_comes_back(t):
    t.sh("host0", "kill -TERM $(pidof memx-dom0-relay); while pidof memx-dom0-relay >/dev/null; do usleep 100000; done")
    assert " stopped status=0" in relay_log(t), relay_log(t)[-2000:]
    t.must("relay", "host0", "start")
    t.wait("the guest attaches again", lambda: attached(t))
    files_are_right(t)


def relay_comes_and_goes_while_the_guest_stands_still(t):
    """The guest is paused while a relay connects to it and is killed: when it runs again it knows that nobody is there."""
    domid = t.sh("host0", "xl domid guest0").strip()
    t.must("relay", "host0", "kill")
    t.wait("the guest offers", lambda: "offered" in t.exec("host0", "xenstore-read", f"/local/domain/{domid}/data/memx/state").out)
    t.sh("host0", "xl pause guest0")
    links = relay_log(t).count("guest-link")
    t.must("relay", "host0", "start")
    t.wait("the relay connects", lambda: relay_log(t).count("guest-link") > links)
    t.must("relay", "host0", "kill")
    t.sh("host0", "xl unpause guest0")
    t.must("relay", "host0", "start")
    t.wait("the guest attaches again", lambda: attached(t))
    files_are_right(t)


def save_keeps_restore_finds(t):
    """Pages outlive their domain where it was suspended, and the restored one, with another domain id, has them."""
    t.sh("host0", "xl save guest0 /tmp/guest0.save", timeout=600)
    t.wait("the relay saw the domain go", lambda: "end=suspend" in relay_log(t))
    session, = t.memctl("host0", "sessions")
    assert not session["attached"], session
    assert pages_at_donors(t) > 0, "the donors gave the pages up"
    t.sh("host0", "xl restore /tmp/guest0.save && rm /tmp/guest0.save", timeout=600)
    t.wait("the restored guest attaches", lambda: attached(t))
    assert t.memctl("host0", "sessions")[0]["epoch"] > session["epoch"], "the epoch was not raised"
    files_are_right(t)


def destroy_frees(t):
    t.sh("host0", "xl destroy guest0")
    t.wait("the session is freed", lambda: t.memctl("host0", "sessions") == [])
    t.wait("the donors have their memory back", lambda: pages_at_donors(t) == 0)
    assert "end=for-good" in relay_log(t), relay_log(t)[-2000:]


def a_guest_that_is_not_allowed(t):
    """The same guest, no longer in the configuration: no channel, a reason in its log, and it is let in once it is allowed."""
    t.sh("host0", "cp /etc/memx/relay.conf /tmp/relay.conf; sed -i '/^\\[guest/,$d' /etc/memx/relay.conf; "
                  "kill -HUP $(pidof memx-dom0-relay); xl create /etc/xen/guest0.cfg", timeout=300)
    t.wait("the relay refuses it", lambda: "guest-refused" in relay_log(t), timeout=300)
    assert t.memctl("host0", "guests") == [], "a guest that is not allowed has a channel"
    t.wait("the guest says why", lambda: "refused by the relay: not allowed" in t.sh("guest0", "dmesg"), timeout=300)
    t.sh("host0", "cp /tmp/relay.conf /etc/memx/relay.conf; kill -HUP $(pidof memx-dom0-relay)")
    t.wait("it attaches once it is allowed", lambda: attached(t), timeout=300)


run(Testbed("relay", guests=1, guest_type="pv", guest_mem=128, kernel="6.1", swap=160, donors=2, donor_mem=256, replicas=2),
    [memxctl_knows_the_guest, write_files, files_are_right, relay_ends_in_good_order_and_comes_back,
     relay_comes_and_goes_while_the_guest_stands_still, save_keeps_restore_finds,
     destroy_frees, a_guest_that_is_not_allowed])
