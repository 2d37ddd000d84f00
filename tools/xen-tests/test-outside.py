#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The guests' kernels and image on a machine that is not Xen's: test-outside.py KERNEL...

There the module is not loaded, with ENODEV and a line that says why, and nothing of it stays. A plain QEMU per kernel, no
testbed: an init of our own in the image does it and tells the serial line. Prints TAP.
"""

import io
import os
import re
import subprocess
import sys

import xenlib

sys.path.insert(0, os.path.dirname(xenlib.TESTBED))
from memx_testbed import configs, cpio, images, state, store  # noqa: E402

LIMIT_S = 300       # it takes 3 seconds on an idle processor
INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
modprobe memx_swap
echo "modprobe ended with $?"
echo "memx in /proc/modules, /proc/filesystems: $(cat /proc/modules /proc/filesystems | grep -c memx)"
test ! -e /sys/devices/platform/memx || echo "/sys/devices/platform/memx is there"
dmesg -r | sed 's/^/log /'
poweroff -f
"""


def boot(kernel, path):
    """What the machine said on its serial line."""
    image = io.BytesIO(store.read(images.guest(kernel)))
    image.seek(0, os.SEEK_END)
    archive = cpio.Writer(image)
    overlay = configs.guest_overlay(state.Spec(swap=64, kernel=kernel, module=configs.module(kernel)), images.release(kernel))
    for name, (content, mode) in sorted(overlay.items()):
        archive.data(name, content, mode)
    archive.data("outside", INIT, 0o755)
    archive.finish()
    with open(path, "wb") as out:
        out.write(image.getvalue())
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "256", "-smp", "1", "-display", "none", "-nodefaults",
               "-no-user-config", "-no-reboot", "-serial", "stdio", "-kernel", images.kernel(kernel), "-initrd", path,
               "-append", "console=ttyS0 rootfstype=ramfs panic=-1 quiet rdinit=/outside"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S,
                          check=False)
    said = done.stdout.decode(errors="replace").replace("\r", "")
    assert done.returncode == 0, f"QEMU ended with {done.returncode}:\n{said[-2000:]}"
    return said


def refused(kernel, path):
    said = boot(kernel, path)
    words = [line for line in said.splitlines() if not line.startswith("log ")]
    try:
        assert any("memx_swap" in line and "No such device" in line for line in words), "modprobe does not say ENODEV"
        assert "modprobe ended with 1" in words, "modprobe's status is not 1"
        assert "memx in /proc/modules, /proc/filesystems: 0" in words, "something of the module stayed"
        assert "/sys/devices/platform/memx is there" not in words, "the device stayed"
        ours = re.findall(r"^log <(\d)>.*?\] memx_swap: (?!loading out-of-tree|module verification)(.*)$", said, re.M)
        # busybox tries a second way of loading when the first one failed.
        assert set(ours) == {("3", "not loaded: this kernel does not run as a Xen guest")}, f"the log has {ours}"
        bad = [line for line in said.splitlines() if xenlib.BAD_LOG.search(line)]
        assert not bad, "\n".join(bad)
    except AssertionError as problem:
        raise AssertionError(f"{problem}\n{said[-3000:]}") from problem


def main():
    kernels = sys.argv[1:]
    if not kernels:
        sys.exit(__doc__)
    path = os.path.join(os.environ.get("MEMX_TMP", "."), "outside.img")
    print(f"1..{len(kernels)}", flush=True)
    failed = 0
    for number, kernel in enumerate(kernels, 1):
        try:
            refused(kernel, path)
        except (AssertionError, subprocess.TimeoutExpired) as problem:
            failed += 1
            print("".join(f"# {line}\n" for line in str(problem).splitlines()), end="")
            print("not ", end="")
        finally:
            if os.path.exists(path):
                os.unlink(path)
        print(f"ok {number} - Linux {kernel} outside Xen does not load the module and says why", flush=True)
    sys.exit(1 if failed else 0)


main()
