# SPDX-License-Identifier: GPL-2.0-only
"""The images that a testbed boots, from Debian packages, cached by content.

A host's initramfs is several archives end to end: Dom0 itself, the guests'
kernel and initramfs as files in it, this project's binaries, and what belongs
to one testbed only. The first two change with the packages, so a rebuilt
binary costs no rebuilt image.
"""
import os
import re
import subprocess

from . import cpio, elf, store
from .store import memx_debs

KERNELS = ("6.1", "6.12", "7.3")
# Kernels with detectors, which the project builds itself: tools/setup/debug-kernel.
DEBUG_KERNELS = ("debug-pv", "debug-pvh")
DOM0_KERNEL = r"^linux-image-6\.1\.[0-9].*-amd64$"

# In Dom0: drivers of the emulated machine, Xen's back ends and devices, the
# bridge, and what takes a donor's packets away.
DOM0_MODULES = (
    "virtio_pci virtio_net xen_privcmd xen_evtchn xen_gntdev xen_gntalloc xenfs xen_netback "
    "bridge sch_ingress cls_flower act_gact sch_netem sch_tbf sch_prio").split()
GUEST_MODULES = ["xen_netfront"]
# Here also /proc/xen, by which the relay's unit knows Xen.
SYSTEMD_MODULES = GUEST_MODULES + ["xenfs"]

DOM0_PACKAGES = ["xen-utils-4.17", "xenstore-utils", "iproute2", "libxenmisc4.17",
                 "dash"]
XEN_BIN = "usr/lib/xen-4.17/bin"
DOM0_PROGRAMS = {
    f"{XEN_BIN}/xl": "usr/sbin/xl",
    f"{XEN_BIN}/xenstored": "usr/sbin/xenstored",
    f"{XEN_BIN}/xenconsoled": "usr/sbin/xenconsoled",
    f"{XEN_BIN}/xen-init-dom0": "usr/sbin/xen-init-dom0",
    f"{XEN_BIN}/libxl-save-helper": f"{XEN_BIN}/libxl-save-helper",
    f"{XEN_BIN}/xenconsole": f"{XEN_BIN}/xenconsole",
    f"{XEN_BIN}/lsevtchn": "usr/sbin/lsevtchn",
    f"{XEN_BIN}/xenctx": "usr/sbin/xenctx",
    f"{XEN_BIN}/xen-diag": "usr/sbin/xen-diag",
    # busybox's own shell prefers its applets to the real ip and tc.
    "bin/dash": "bin/dash",
}
XENSTORE_TOOLS = ("xenstore-chmod xenstore-exists xenstore-list xenstore-ls xenstore-read "
                  "xenstore-rm xenstore-watch xenstore-write").split()
# In guests: util-linux's own view of a swap area, and a shell that finds it, for busybox's prefers its applets.
GUEST_PACKAGES = ["mount", "dash"]
GUEST_PROGRAMS = {name: name for name in
                  "sbin/swapon sbin/swapoff bin/mount bin/umount bin/dash".split()}
LIBRARY_DIRS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64")
LIB = "usr/lib/x86_64-linux-gnu"

DIRECTORIES = "dev proc sys run root tmp etc var/log var/lib var/run mnt lib64 usr/local/bin".split()


class ImageError(Exception):
    """An image cannot be made; the text says what is missing."""


def quiet(_text):
    """Where nobody wants to hear of progress."""


def packages_key(directory):
    """What an unpacked directory was made of."""
    return store.read(directory + ".packages")


def unpack(suite, packages, deps=False):
    return memx_debs.unpack(suite, packages, deps)


def latest(suite, regex):
    root = memx_debs.Suite(suite)
    root.refresh()
    return root.latest(regex)


def agent(note=quiet):
    """The agent's static binary, compiled here."""
    directory = os.path.join(store.TESTBED, "agent")
    names = sorted(os.listdir(directory))
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror",
             "-static", "-s"]
    compiler = os.environ.get("CC", "gcc")
    try:
        version = subprocess.run([compiler, "--version"], check=True,
                                 capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ImageError(f"no compiler for the agent ({compiler}): {error}") from error

    def make(path):
        sources = [os.path.join(directory, name) for name in names if name.endswith(".c")]
        done = subprocess.run([compiler, *flags, "-o", path, *sources], check=False,
                              stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise ImageError("the agent does not compile:\n" + done.stderr)

    key = store.digest(version, *flags, *names,
                       *(store.read(os.path.join(directory, name)) for name in names))
    return store.made("agent", key, make, note)


class Modules:
    """The modules of one unpacked kernel, found by name, in loading order."""

    def __init__(self, *roots):
        self.paths = {}
        for root in roots:
            for base in ("lib/modules", "usr/lib/modules"):
                for directory, _, files in os.walk(os.path.join(root, base)):
                    for name in files:
                        if ".ko" in name:
                            short = name.split(".ko")[0].replace("-", "_")
                            self.paths[short] = os.path.join(directory, name)

    def load(self, name):
        return elf.decompress(store.read(self.paths[name]))

    def ordered(self, names):
        """[(name, bytes)] of names and all that they need, what is needed first.

        A name that is not a module is part of the kernel: left out.
        """
        done = {}

        def visit(name):
            if name in done or name not in self.paths:
                return
            image = self.load(name)
            for other in elf.module_depends(image):
                visit(other)
            done[name] = image

        for name in names:
            visit(name)
        return list(done.items())


def add_modules(archive, modules, names):
    """Modules under /lib/modules-testbed and the order in which to load them."""
    rows = modules.ordered(names)
    for name, image in rows:
        archive.data(f"lib/testbed/{name}.ko", image)
    archive.data("lib/testbed/order", "".join(f"{name}\n" for name, _ in rows))


def add_busybox(archive, root):
    """busybox and a link per applet, so that the usual small tools are there."""
    binary = os.path.join(root, "bin/busybox")
    archive.file("bin/busybox", binary, 0o755)
    applets = subprocess.run([binary, "--list-full"], check=True, capture_output=True,
                             text=True).stdout.split()
    for applet in applets:
        if applet not in ("bin/busybox", "sbin/init", "linuxrc") and not archive.has(applet):
            archive.symlink(applet, "/bin/busybox")


def begin(out, links=None):
    archive = cpio.Writer(out, links)
    archive.make_links()
    for name in DIRECTORIES:
        archive.directory(name)
    archive.character_device("dev/console", 5, 1)
    archive.character_device("dev/null", 1, 3)
    return archive


def rootfs(*names):
    return os.path.join(store.TESTBED, "rootfs", *names)


def tree_key(directory):
    """Names, bits and bytes of a small directory of ours."""
    parts = []
    for base, dirs, files in os.walk(directory):
        dirs.sort()
        for name in sorted(files):
            path = os.path.join(base, name)
            parts += [os.path.relpath(path, directory), str(os.stat(path).st_mode & 0o111),
                      store.read(path)]
    return store.digest(*parts)


def add_tree(archive, directory):
    for base, dirs, files in os.walk(directory):
        dirs.sort()
        for name in sorted(files):
            path = os.path.join(base, name)
            archive.file(os.path.relpath(path, directory), path)


def own_code_key():
    return store.digest(*(store.read(os.path.join(store.TESTBED, "memx_testbed", name))
                          for name in ("images.py", "cpio.py", "elf.py")))


def hypervisor(note=quiet):
    """Xen itself, unpacked: QEMU boots it as a multiboot kernel."""
    root = unpack("bookworm", ["xen-hypervisor-4.17-amd64"])

    def make(path):
        with open(path, "wb") as out:
            out.write(elf.decompress(store.read(os.path.join(root, "boot/xen-4.17-amd64.gz"))))

    return store.made("xen", store.digest(packages_key(root)), make, note)


def kernel_packages(kver):
    """(suite, [packages]) that have image and modules of a kernel."""
    if kver == "7.3":
        image = latest("trixie-backports", r"^linux-binary-7\.3\.[0-9].*-amd64$")
        modules = latest("trixie-backports", r"^linux-modules-7\.3\.[0-9].*-amd64$")
        return "trixie-backports", [image, modules]
    return "bookworm", [latest("bookworm", rf"^linux-image-{kver}\.[0-9].*-amd64$".replace(
        f"-{kver}.", "-" + kver.replace(".", r"\.") + r"\."))]


def debug_kernel(kver):
    """The build directory of a kernel of the project's own, built where it is not there yet."""
    program = os.path.join(store.TREE, "tools", "setup", "debug-kernel")
    done = subprocess.run([program, kver.removeprefix("debug-")], check=False, text=True,
                          stdout=subprocess.PIPE)
    if done.returncode:
        raise ImageError(f"no kernel {kver}")
    return done.stdout.strip()


def unpacked_kernel(kver):
    if kver in DEBUG_KERNELS:
        return os.path.join(debug_kernel(kver), "package")
    suite, packages = kernel_packages(kver)
    return unpack(suite, packages)


def find_vmlinuz(root):
    for base, pattern in (("boot", "vmlinuz-"), ("usr/lib/modules", "vmlinuz")):
        for directory, _, files in os.walk(os.path.join(root, base)):
            for name in files:
                if name.startswith(pattern):
                    return os.path.join(directory, name)
    raise ImageError(f"no kernel image in {root}")


def kernel(kver, note=quiet):
    """A kernel's vmlinux."""
    root = unpacked_kernel(kver)

    def make(path):
        with open(path, "wb") as out:
            out.write(elf.kernel_payload(find_vmlinuz(root)))

    return store.made(f"vmlinux-{kver}", store.digest(packages_key(root)), make, note)


def library_lookup(root):
    def lookup(soname):
        for directory in LIBRARY_DIRS:
            path = os.path.join(root, directory, soname)
            if os.path.exists(path):
                return path
        return None
    return lookup


def add_programs(archive, root, programs, more=(), opened=()):
    """Programs {path below root: name in the archive}, and the libraries that they and more need, or open."""
    lookup = library_lookup(root)
    libraries = elf.library_closure([os.path.join(root, name) for name in programs] + list(more), lookup)
    libraries.update((soname, lookup(soname)) for soname in opened)
    for source, target in programs.items():
        archive.file(target, os.path.realpath(os.path.join(root, source)), 0o755)
    for soname, path in sorted(libraries.items()):
        folder = "lib64" if soname.startswith("ld-linux") else LIB
        archive.file(f"{folder}/{soname}", os.path.realpath(path), 0o755)


def dom0(note=quiet):
    """Dom0's initramfs: Xen's tools, busybox, ip and tc, modules, the agent."""
    tools = unpack("bookworm", DOM0_PACKAGES, deps=True)
    busybox = unpack("bookworm", ["busybox-static"])
    linux = unpacked_kernel("6.1")
    agent_path = agent(note)
    own = rootfs("dom0")

    def make(path):
        with open(path, "wb") as out:
            archive = begin(out)
            fill_dom0(archive, tools)
            add_tree(archive, own)
            archive.file("sbin/memx-agent", agent_path, 0o755)
            add_modules(archive, Modules(linux), DOM0_MODULES)
            add_busybox(archive, busybox)
            archive.finish()

    key = store.digest(packages_key(tools), packages_key(busybox), packages_key(linux),
                       store.read(agent_path), tree_key(own), own_code_key())
    return store.made("dom0", key, make, note)


def fill_dom0(archive, tools):
    programs = dict(DOM0_PROGRAMS)
    for name in ("bin/ip", "bin/ss", "sbin/tc", "sbin/bridge"):
        programs[name] = f"usr/sbin/{os.path.basename(name)}"
    for name in XENSTORE_TOOLS:
        programs[f"usr/bin/{name}"] = f"usr/bin/{name}"
    # All of Xen's libraries, for test programs that are pushed and use them.
    directory = os.path.join(tools, LIB)
    extra = [os.path.join(directory, name) for name in sorted(os.listdir(directory))
             if name.startswith("libxen") and ".so." in name and
             not os.path.islink(os.path.join(directory, name))]
    # libgcc_s is opened by glibc itself when a thread is cancelled, which xl does.
    add_programs(archive, tools, programs, extra, ["libgcc_s.so.1"])
    for path in extra:
        link = f"{os.path.basename(path).split('.so.')[0]}.so.{soname_suffix(path)}"
        if not archive.has(f"{LIB}/{link}"):
            archive.file(f"{LIB}/{link}", path, 0o755)
    archive.symlink("bin/sh", "dash")
    archive.data("etc/xen/xl.conf", "")
    archive.data("etc/ld.so.conf", f"/{LIB}\n")


def soname_suffix(path):
    """4.17 of libxenctrl.so.4.17.0 and 1 of libxencall.so.1.3."""
    version = os.path.basename(path).split(".so.")[1]
    return version.rsplit(".", 1)[0] if "." in version else version


def release(kver):
    """A kernel's own name of its version."""
    root = unpacked_kernel(kver)
    for base in ("lib/modules", "usr/lib/modules"):
        directory = os.path.join(root, base)
        if os.path.isdir(directory):
            return os.listdir(directory)[0]
    raise ImageError(f"no modules in {root}")


def guest(kver, note=quiet, init="small"):
    """The guests' initramfs."""
    if init == "systemd":
        return systemd_guest(kver, note)
    tools = unpack("bookworm", GUEST_PACKAGES, deps=True)
    busybox = unpack("bookworm", ["busybox-static"])
    linux = unpacked_kernel(kver)
    agent_path = agent(note)
    own = rootfs("guest")

    def make(path):
        with open(path, "wb") as out:
            archive = begin(out)
            add_tree(archive, own)
            archive.file("sbin/memx-agent", agent_path, 0o755)
            add_programs(archive, tools, GUEST_PROGRAMS)
            archive.symlink("bin/sh", "dash")
            add_modules(archive, Modules(linux), GUEST_MODULES)
            add_busybox(archive, busybox)
            archive.finish()

    key = store.digest(kver, packages_key(tools), packages_key(busybox), packages_key(linux),
                       store.read(agent_path), tree_key(own), own_code_key())
    return store.made(f"guest-{kver}", key, make, note)


# A guest with systemd and udev, as Debian has them.

SYSTEMD_PACKAGES = ["systemd", "systemd-sysv", "udev", "util-linux", "kmod", "mount", "dash", "coreutils", "procps"]
# What nothing of it needs while it runs, and would only fill a guest's memory.
SYSTEMD_WITHOUT = re.compile(
    r"usr/share/|usr/bin/perl|usr/lib/udev/hwdb\.d/|usr/lib/x86_64-linux-gnu/(perl|libperl|gconv)|var/|"
    r"usr/bin/(localedef|dpkg|deb|tar)|usr/sbin/(ldconfig|dpkg)|usr/lib/dpkg/")
# What wants more than there is: D-Bus, logins, a history of the machine.
SYSTEMD_MASKED = ("systemd-logind.service getty.target proc-sys-fs-binfmt_misc.automount "
                  "systemd-journal-catalog-update.service systemd-hwdb-update.service "
                  "systemd-update-utmp.service systemd-update-utmp-runlevel.service").split()
SYSTEMD_GROUPS = ("root adm:4 tty:5 disk:6 lp:7 kmem:15 dialout:20 cdrom:24 tape:26 audio:29 utmp:43 video:44 users:100 "
                  "input:101 sgx:102 kvm:103 render:104 systemd-journal:105 nogroup:65534")


def add_packages(archive, root, without):
    """All of an unpacked directory of packages but what without matches."""
    for base, dirs, files in os.walk(root):
        dirs.sort()
        for name in sorted(files + [name for name in dirs if os.path.islink(os.path.join(base, name))]):
            path = os.path.join(base, name)
            member = archive.place(os.path.relpath(path, root))
            if without.match(member) or archive.has(member):
                continue
            if os.path.islink(path):
                archive.symlink(member, os.readlink(path))
            else:
                archive.file(member, path)


def fill_systemd(archive):
    """What an installation leaves in /etc, as little of it as there has to be."""
    archive.symlink("init", "/lib/systemd/systemd")
    archive.symlink("bin/sh", "dash")
    archive.symlink("var/run", "/run")
    groups = [(row.split(":") + ["0"])[:2] for row in SYSTEMD_GROUPS.split()]
    archive.data("etc/group", "".join(f"{name}:x:{number}:\n" for name, number in groups))
    archive.data("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
                               "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
    archive.data("etc/fstab", "tmpfs /tmp tmpfs mode=1777 0 0\n")
    archive.data("etc/os-release", 'PRETTY_NAME="Debian 12 in a MemX testbed"\nID=debian\n')
    archive.data("etc/machine-id", "6d656d786d656d786d656d786d656d78\n")
    archive.data("etc/hosts", "127.0.0.1 localhost\n")
    archive.symlink("etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
    for name in SYSTEMD_MASKED:
        archive.symlink(f"etc/systemd/system/{name}", "/dev/null")


def systemd_guest(kver, note=quiet):
    """The initramfs of a guest that systemd and udev run; the agent is a service there."""
    tools = unpack("bookworm", SYSTEMD_PACKAGES, deps=True)
    busybox = unpack("bookworm", ["busybox-static"])
    linux = unpacked_kernel(kver)
    agent_path = agent(note)
    own = rootfs("guest-systemd")

    def make(path):
        with open(path, "wb") as out:
            archive = begin(out, cpio.MERGED)
            add_tree(archive, own)
            archive.symlink("etc/systemd/system/multi-user.target.wants/testbed-agent.service",
                            "/etc/systemd/system/testbed-agent.service")
            archive.file("sbin/memx-agent", agent_path, 0o755)
            fill_systemd(archive)
            add_packages(archive, tools, SYSTEMD_WITHOUT)
            add_modules(archive, Modules(linux), SYSTEMD_MODULES)
            add_busybox(archive, busybox)
            archive.finish()

    key = store.digest(kver, packages_key(tools), packages_key(busybox), packages_key(linux),
                       store.read(agent_path), tree_key(own), own_code_key())
    return store.made(f"guest-systemd-{kver}", key, make, note)
