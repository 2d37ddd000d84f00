# SPDX-License-Identifier: GPL-2.0-only
"""An emulated host: one QEMU with Xen, its Dom0, and guests in it.

Made and owned by the supervisor; every method runs in its one thread.
"""
import io
import os
import subprocess
import time

from . import agent, cpio, procs, state, store, wire
from .state import TestbedError

DOM0_MEM = 448
XEN_MEM = 96            # the hypervisor's own, with its tables for guests
GUEST_EXTRA = 24        # per guest: its grant, shadow and page tables
TAIL = 15
SWAP_WAIT = 240         # seconds from a guest's start to its swap
REFUSAL_WAIT = 15       # seconds for which a refusal may still turn into a yes
MODULE_DIR = "/sys/devices/platform/memx"

# Without erms everybody copies and clears memory word by word, not byte by byte, which
# is how the emulator carries rep movsb out.
CPU = "max,-smap,-la57,-pku,-erms,+svm,+npt"
# Lazy switching of the FPU between domains goes wrong under this emulation: SSE
# registers of one domain turn up in another, and its programs die of it.
XEN_OPTIONS = (f"dom0_mem={DOM0_MEM}M,max:{DOM0_MEM}M com1=115200 console=com1 loglvl=warning "
               "guest_loglvl=warning noreboot spec-ctrl=eager-fpu")
DOM0_OPTIONS = ("console=hvc0 rootfstype=ramfs panic=-1 mitigations=off init_on_alloc=0 "
                "quiet")


def tail(text, lines=TAIL):
    """The last lines of a log, indented under a message."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    rows = [row.rstrip() for row in text.splitlines() if row.strip()]
    return "".join(f"\n    {row}" for row in rows[-lines:])


def guest_config(spec, index, uuid):
    """xl's configuration of a guest."""
    extra = ["console=hvc0", "rootfstype=ramfs", "loglevel=5", "panic=5", "sysrq_always_enabled",
             f"testbed.host=guest{index}", f"testbed.ip={spec.guest_ip(index)}",
             f"testbed.tmp={max(64, spec.swap)}"]
    if spec.swap:
        extra.append(f"testbed.swap={spec.swap}")
    if spec.guest_init == "systemd":
        extra += ["net.ifnames=0", "systemd.condition-needs-update=0"]
    if spec.guest_cmdline:
        extra.append(spec.guest_cmdline)
    lines = {
        "name": f"guest{index}", "type": spec.guest_type, "uuid": uuid,
        "memory": spec.guest_mem, "maxmem": spec.guest_mem, "vcpus": spec.guest_vcpus,
        "kernel": "/guest/vmlinux", "ramdisk": "/guest/ramdisk", "extra": " ".join(extra),
        "vif": [f"mac={spec.guest_mac(index)},bridge=xenbr0,"
                "script=/etc/xen/scripts/vif-testbed"],
        # A guest that died stays to be looked at; status shows it.
        "on_crash": "preserve", "on_reboot": "preserve",
        # Scaling the TSC fails under this emulation, and where Xen answers each RDTSC of
        # a PV guest itself, as it does by default here, that takes a quarter of the time:
        # the kernel reads the TSC with every return to user space.
        "tsc_mode": "native",
    }
    if spec.guest_type == "pvh":
        # The size of the XSAVE area that such a guest reads now and then belongs to another vCPU under this
        # emulation, which its kernel warns of. Without XSAVE there is nothing to be read.
        lines["cpuid"] = "host,xsave=0"
    return "".join(f"{key} = {value!r}\n" for key, value in lines.items())


def add_files(out, files, links=None):
    """Another archive at the end of out."""
    archive = cpio.Writer(out, links)
    for name, (content, mode) in sorted(files.items()):
        archive.data(name, content, mode)
    archive.finish()


class Host:
    """One emulated host."""

    def __init__(self, spec, index, directory, images, overlays, way):
        self.spec = spec
        self.index = index
        self.name = f"host{index}"
        self.dir = directory
        self.images = images
        self.wire = way                                 # to the donors; None: through QEMU
        self.dom0_files, self.guest_files = overlays    # member -> (content, mode)
        self.console = os.path.join(directory, f"{self.name}.console")
        self.initrd = os.path.join(directory, f"{self.name}.initrd")
        self.process = None
        self.port = None
        self.guest_ports = []

    def describe(self):
        return {"name": self.name, "pid": state.identity(self.process.pid), "port": self.port,
                "guest_ports": self.guest_ports, "console": self.console}

    def own_guests(self):
        return [index for index in range(self.spec.guests)
                if index % self.spec.hosts == self.index]

    def _write_initrd(self):
        ramdisk = io.BytesIO(store.read(self.images["guest"]))
        ramdisk.seek(0, os.SEEK_END)
        add_files(ramdisk, self.guest_files, cpio.MERGED if self.spec.guest_init == "systemd" else None)
        with open(self.initrd, "wb") as out:
            out.write(store.read(self.images["dom0"]))
            files = dict(self.dom0_files)
            files["guest/vmlinux"] = (store.read(self.images["guest_kernel"]), 0o644)
            files["guest/ramdisk"] = (ramdisk.getvalue(), 0o644)
            add_files(out, files)

    def _command(self):
        forwards = [f"hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:4077"] + [
            f"hostfwd=tcp:127.0.0.1:{port}-{self.spec.guest_ip(index)}:4077"
            for index, port in enumerate(self.guest_ports)]
        memory = DOM0_MEM + XEN_MEM + self.spec.guests * (self.spec.guest_mem + GUEST_EXTRA)
        command = [
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", CPU, "-m", str(memory), "-smp", "1",
            "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot",
            "-serial", f"file:{self.console}",
            "-kernel", self.images["xen"], "-append", XEN_OPTIONS,
            "-initrd", f"{self.images['dom0_kernel']} {DOM0_OPTIONS} "
                       f"testbed.host={self.name},{self.initrd}",
            "-netdev", "user,id=net0,ipv6=off," + ",".join(forwards),
            "-device", "virtio-net-pci,netdev=net0,romfile=",
        ]
        if self.wire:
            command += ["-netdev", "stream,id=net1,server=off,addr.type=fd,"
                                   f"addr.str={self.wire.line.fileno()}",
                        "-device", "virtio-net-pci,netdev=net1,romfile="]
        return command

    def start(self):
        """Start QEMU; another try with other ports where somebody was quicker."""
        self._write_initrd()
        log = os.path.join(self.dir, f"{self.name}.qemu.log")
        for _ in range(3):
            self.port, *self.guest_ports = state.free_ports(1 + self.spec.guests)
            self.process = procs.spawn(self._command(), log,
                                       pass_fds=[self.wire.line.fileno()] if self.wire else [])
            # Where a port is taken QEMU ends before it emulates anything.
            try:
                self.process.wait(0.3)
            except subprocess.TimeoutExpired:
                if self.wire:
                    self.wire.line.close()      # QEMU's alone: passt ends with it
                return
            with open(log, "rb") as handle:
                words = handle.read()
            if b"forwarding" not in words:
                break
        raise TestbedError(f"{self.name}: QEMU ended at once:{tail(words)}")

    def console_words(self):
        """All of the console so far; QEMU may not have opened it yet."""
        try:
            return store.read(self.console)
        except FileNotFoundError:
            return b""

    def console_tail(self):
        return tail(self.console_words())

    def check_alive(self):
        if self.process.poll() is not None:
            raise TestbedError(f"{self.name}: the machine stopped (QEMU's status "
                               f"{self.process.returncode}):{self.console_tail()}")
        words = self.console_words()
        for sign in (b"testbed: FAILED", b"Kernel panic", b"Panic on CPU"):
            if sign in words:
                raise TestbedError(f"{self.name} did not come up:{tail(words)}")

    def wait_up(self, deadline, check):
        """Until Dom0's agent answers."""
        def look():
            check()
            self.check_alive()
        try:
            agent.connect([self.port], deadline - time.monotonic(), look).close()
        except agent.AgentError as error:
            raise TestbedError(f"{self.name} did not come up: {error}"
                               f"{self.console_tail()}") from error
        os.unlink(self.initrd)

    def run(self, *argv, source=None, timeout=120):
        """A command in Dom0 that has to succeed; its output."""
        try:
            status, out, err = agent.capture([self.port], list(argv), source, timeout=timeout)
        except (agent.AgentError, agent.RunError) as error:
            raise TestbedError(f"{self.name}: {' '.join(argv)}: {error}") from error
        if status:
            raise TestbedError(f"{self.name}: {' '.join(argv)} ended with {status}:"
                               f"{tail(out + err)}")
        return out.decode(errors="replace")

    def create_guest(self, index):
        name = f"guest{index}"
        try:
            self.run("xl", "create", f"/etc/xen/{name}.cfg", timeout=180)
        except TestbedError as error:
            raise TestbedError(f"{name} was not created: {error}{self.guest_log(name)}") from error

    def guest_log(self, name):
        """The end of a guest's console; all of it is kept in the testbed's directory."""
        try:
            text = self.run("cat", f"/var/log/xen/console/guest-{name}.log", timeout=20)
        except TestbedError:
            return ""
        with open(os.path.join(self.dir, f"{name}.console"), "w", encoding="utf-8") as out:
            out.write(text)
        return tail(text)

    def check_guest(self, name):
        """Complain about a guest that is dead."""
        rows = self.run("xl", "list").splitlines()[1:]
        for row in rows:
            fields = row.split()
            if fields[0] == name:
                if "c" in fields[4] or "s" in fields[4]:
                    raise TestbedError(f"{name} crashed:{self.guest_log(name)}")
                return
        raise TestbedError(f"{name} is gone from {self.name}:{self.guest_log(name)}")

    def swap_state(self, index):
        """(MiB of swap that a guest has on, why the module was refused or None)."""
        look = f"cat /proc/swaps; cd {MODULE_DIR} && cat state reason"
        try:
            _, out, _ = agent.capture([self.guest_ports[index]], ["sh", "-c", look],
                                      wait=20, timeout=20)
        except (agent.AgentError, agent.RunError):
            return 0, None
        rows = out.decode(errors="replace").splitlines()[1:]
        sizes = [int(row.split()[2]) for row in rows if row.startswith("/")]
        words = [row for row in rows if not row.startswith("/")]
        reason = " ".join(words[1:]) if words[:1] == ["refused"] else None
        return sum(sizes) // 1024, reason

    def why_no_swap(self, index):
        """What relay and guest have to say of a swap that is not on."""
        words = ""
        try:
            words = "\n  relay:" + tail(self.run("tail", "-n", "8", "/var/log/memx/relay.log"))
        except TestbedError as error:
            words = f"\n  relay: {error}"
        try:
            _, out, _ = agent.capture([self.guest_ports[index]],
                                      ["sh", "-c", "dmesg | grep -i memx | tail -n 8"], timeout=10)
            words += f"\n  guest{index}:{tail(out)}"
        except (agent.AgentError, agent.RunError) as error:
            words += f"\n  guest{index}: {error}"
        return words

    def wait_swap(self, index, deadline, check):
        """Until the guest's swap is on; its size in MiB."""
        deadline = min(deadline, time.monotonic() + SWAP_WAIT)
        refused = None
        while True:
            check()
            size, reason = self.swap_state(index)
            if size:
                return size
            # A relay that just found its donors may say no once, and yes later.
            refused = (refused or time.monotonic()) if reason is not None else None
            if refused and time.monotonic() > refused + REFUSAL_WAIT:
                raise TestbedError(f"guest{index} was refused: {reason}"
                                   f"{self.why_no_swap(index)}")
            self.check_alive()
            self.check_guest(f"guest{index}")
            if self.run("/sbin/testbed-relay", "status").strip() != "up":
                raise TestbedError(f"the relay on {self.name} ended:{self.why_no_swap(index)}")
            if time.monotonic() > deadline:
                raise TestbedError(f"guest{index} has no swap after {SWAP_WAIT} s:"
                                   f"{self.why_no_swap(index)}")
            time.sleep(0.2)

    def wait_guest(self, index, deadline, check):
        """Until the guest's agent answers."""
        name = f"guest{index}"
        last = [time.monotonic()]

        def look():
            check()
            if time.monotonic() - last[0] > 3:
                self.check_alive()
                self.check_guest(name)
                last[0] = time.monotonic()

        try:
            agent.connect([self.guest_ports[index]], deadline - time.monotonic(), look).close()
        except agent.AgentError as error:
            raise TestbedError(f"{name} did not come up: {error}{self.guest_log(name)}") from error
