# SPDX-License-Identifier: GPL-2.0-only
"""What is generated for one testbed: the daemons' configurations, and the files
of this project that go on top of the cached images."""
import os
import subprocess
import tempfile

from . import cpio, elf, store
from .state import TestbedError

DOM0_PROGRAMS = ("memx-dom0-relay", "memxctl")
HOST_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/local/lib")
GLUE = "memx-swapon"


def built(*names):
    """A file that the tree's build makes."""
    return os.path.join(store.TREE, "build", *names)


def module(kernel):
    return built("module", kernel, "memx_swap.ko")


def glue():
    return os.path.join(store.TREE, "guest", "udev", GLUE)


def missing(spec):
    """What has to be built before a testbed with swap can start."""
    paths = [built("bin", name) for name in DOM0_PROGRAMS + ("memx-server",)]
    return [path for path in paths + [spec.module] if not os.path.exists(path)]


def server(donor, spec):
    """memx-server's configuration; each donor is a failure domain of its own."""
    return (f"[server]\nlisten = 127.0.0.1:{donor.port}\nmemory = {spec.donor_mem}M\n"
            f"domain = rack{donor.index}\nid_file = {donor.dir}/server.id\n"
            f"control = {donor.control}\nlock = try\n")


def relay(spec, uuids, donors, address):
    """memx-dom0-relay's configuration; the same on every host, guests may move."""
    lines = ["[relay]", "control = /run/memx-relay/relay.sock", "xenstore = yes",
             "id_file = /var/lib/memx-relay/relay.id", f"replicas = {spec.replicas}",
             # Emulated, a whole host now and then stands still for longer than the default allows a donor.
             "donor_timeout = 3s"]
    for donor in donors:
        lines += ["", f"[donor {donor.name}]", f"address = {address}:{donor.port}"]
    for index, name in enumerate(spec.guest_names()):
        lines += ["", f"[guest {name}]", f"uuid = {uuids[index]}", f"quota = {spec.swap}M",
                  f"replicas = {spec.replicas}"]
    return "\n".join(lines) + "\n"


def host_library(soname):
    for directory in HOST_LIBRARIES:
        path = os.path.join(directory, soname)
        if os.path.exists(path):
            return path
    return None


def _stripped(path):
    """A module without its debug information, which would fill a small guest."""
    def make(target):
        done = subprocess.run(["objcopy", "--strip-debug", path, target], check=False,
                              capture_output=True, text=True)
        if done.returncode:
            raise TestbedError(f"objcopy of {path} failed: {done.stderr.strip()}")

    return store.read(store.made("module", store.digest(store.read(path)), make))


def _read(path, mode):
    return store.read(os.path.realpath(path)), mode


def dom0_overlay(spec, uuids, donors, address, base):
    """{archive member: (content, mode)} of a Dom0, on top of the archive base, for donors at address.

    The programs were linked on this machine, so the libraries that the base
    image does not have come from here too.
    """
    if not spec.swap:
        return {}
    files = {"etc/memx/relay.conf": (relay(spec, uuids, donors, address).encode(), 0o644)}
    programs = [built("bin", name) for name in DOM0_PROGRAMS]
    for path in programs:
        files[f"usr/sbin/{os.path.basename(path)}"] = _read(path, 0o755)
    have = {os.path.basename(name) for name in cpio.names(base)}
    try:
        libraries = elf.library_closure(programs, host_library)
    except elf.ElfError as error:
        raise TestbedError(f"{error}; it is needed by {' or '.join(DOM0_PROGRAMS)}") from error
    for soname, path in libraries.items():
        if soname not in have:
            files[f"usr/lib/x86_64-linux-gnu/{soname}"] = _read(path, 0o755)
    return files


def _folder(directory):
    """{archive member: (content, mode)} of all files below directory."""
    found = {}
    for base, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(base, name)
            found[os.path.relpath(path, directory)] = _read(path, os.stat(path).st_mode & 0o777)
    return found


def _run(*command):
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise TestbedError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def systemd_glue(spec, release):
    """The same with systemd and udev: what "make install-guest" lays down, modules as depmod knows them, loaded at boot."""
    with tempfile.TemporaryDirectory() as directory:
        folder = os.path.join(directory, "lib", "modules", release)
        os.makedirs(os.path.join(folder, "extra"))
        with open(os.path.join(folder, "extra", "memx_swap.ko"), "wb") as out:
            out.write(_stripped(spec.module))
        for name in ("modules.order", "modules.builtin"):
            with open(os.path.join(folder, name), "wb"):
                pass
        _run("/sbin/depmod", "-b", directory, release)
        _run("make", "-s", "-C", store.TREE, "install-guest", f"DESTDIR={directory}")
        return dict(_folder(directory), **{"etc/modules-load.d/memx.conf": (b"memx_swap\n", 0o644)})


def guest_overlay(spec, release):
    """{archive member: (content, mode)} of a guest: the module and its glue."""
    if not spec.swap:
        return {}
    if spec.guest_init == "systemd":
        files = systemd_glue(spec, release)
    else:
        base = f"lib/modules/{release}"
        files = {
            f"{base}/extra/memx_swap.ko": (_stripped(spec.module), 0o644),
            f"{base}/modules.dep": (b"extra/memx_swap.ko:\n", 0o644),
            f"usr/sbin/{GLUE}": _read(glue(), 0o755),
        }
    if spec.module_args:
        files["etc/modprobe.d/memx.conf"] = (
            f"options memx_swap {spec.module_args}\n".encode(), 0o644)
    return files
