# SPDX-License-Identifier: GPL-2.0-only
"""The way from a Dom0 to the donors.

QEMU's own user network carries frames of 1500 bytes, acknowledges each of them,
and does so under the lock that the emulated CPU needs for its devices: moving
pages through it takes longer than all else that is done to them. passt carries
large frames in a process of its own, also for a user without privileges. Where
there is no passt, or it may not run, the donors are reached through QEMU.
"""
import contextlib
import os
import shutil
import socket
import struct
import time

from . import procs

DOM0 = "10.0.3.15"
DONORS = "10.0.3.2"         # this machine's 127.0.0.1, as passt shows it
DONORS_BY_QEMU = "10.0.2.2"
MTU = 31000                 # a frame with its buffer's overhead stays below 32 KiB
PROBE_WAIT = 5.0
MAC = b"\x52\x54\x00\x12\x34\x56"         # QEMU's first, until Dom0 says its own
ARP = 0x806
BUFFER = 4 << 20
SO_SNDBUFFORCE = 33         # needs a privilege, ignores the system's limit


class Wire:
    """A passt and the end of its line that is for QEMU."""

    def __init__(self, log):
        ours, its = socket.socketpair()
        with its:
            # passt drops what does not fit, and takes seconds to send it again.
            for option in (socket.SO_SNDBUF, SO_SNDBUFFORCE):
                with contextlib.suppress(OSError):
                    its.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            self.process = procs.spawn(
                ["passt", "--foreground", "--quiet", "--stderr", "--ipv4-only", "--fd",
                 str(its.fileno()), "--address", DOM0, "--netmask", "24", "--gateway", DONORS,
                 "--mtu", str(MTU), "--tcp-ports", "none", "--udp-ports", "none"],
                log, pass_fds=[its.fileno()])
        self.line = ours

    def answers(self):
        """Does it answer the question who has the donors' address?"""
        frame = (b"\xff" * 6 + MAC + struct.pack("!HHHBBH", ARP, 1, 0x800, 6, 4, 1) +
                 MAC + socket.inet_aton(DOM0) + bytes(6) + socket.inet_aton(DONORS))
        deadline = time.monotonic() + PROBE_WAIT
        try:
            self.line.settimeout(PROBE_WAIT)
            self.line.sendall(struct.pack("!I", len(frame)) + frame)
            while time.monotonic() < deadline:
                length = struct.unpack("!I", self._read(4))[0]
                reply = self._read(length)
                if reply[12:14] == struct.pack("!H", ARP) and reply[28:32] == socket.inet_aton(DONORS):
                    self.line.settimeout(None)
                    return True
        except (OSError, EOFError):
            pass
        return False

    def _read(self, length):
        data = b""
        while len(data) < length:
            part = self.line.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def close(self):
        with contextlib.suppress(OSError):
            self.line.close()
        procs.end([self.process])


def open_all(count, directory):
    """A wire for each host, or none for any."""
    if not shutil.which("passt"):
        return []
    wires = [Wire(os.path.join(directory, "passt.log")) for _ in range(count)]
    if all([wire.answers() for wire in wires]):
        return wires
    for wire in wires:
        wire.close()
    return []
