# SPDX-License-Identifier: GPL-2.0-only
"""Debian's kernels for building against, made without root from their packages.

    headers(release)  a kernel build directory for out-of-tree modules, as linux-headers-* would give
    source(release)   the unpacked linux-source-* tree; shared by all, never built in

Both live in <cache>/kernels under a name that holds the package version, are made once and then only read. Whoever
makes one holds its lock and renames the finished tree into place; a reader that sees the name may use it.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys

import memx_debs

# release: suite, and the expression that the name of its headers matches
RELEASES = {
    "6.1": ("bookworm", r"^linux-headers-6\.1\.[0-9]+-[0-9]+-amd64$"),
    "6.12": ("bookworm", r"^linux-headers-6\.12\.[0-9]+\+deb12-amd64$"),
    "7.3": ("trixie-backports", r"^linux-headers-7\.3\.[0-9]+\+deb13-amd64$"),
}

# The release that this project is built on. Tools of other suites run with that suite's libraries.
NATIVE = "bookworm"


def say(text):
    print(f"kernels: {text}", file=sys.stderr, flush=True)


def kernels_dir():
    return os.path.join(memx_debs.cache_dir(), "kernels")


@contextlib.contextmanager
def made_once(name):
    """Gives (final, temporary): a directory to fill in and where it will be, or a None as temporary when it is there.

    Paths that are written into files must be those of final.
    """
    final = os.path.join(kernels_dir(), name)
    if os.path.isdir(final):
        yield final, None
        return
    locks = os.path.join(kernels_dir(), "locks")
    os.makedirs(locks, exist_ok=True)
    with open(os.path.join(locks, name), "w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.isdir(final):
            yield final, None
            return
        temporary = final + ".part"
        shutil.rmtree(temporary, ignore_errors=True)
        os.makedirs(temporary)
        yield final, temporary
        os.rename(temporary, final)


def key(*parts):
    """Names a tree by what it was made from, this file and its own place included (trees hold absolute paths)."""
    with open(os.path.realpath(__file__), "rb") as handle:
        digest = hashlib.sha256(handle.read())
    for part in (kernels_dir(), *parts):
        digest.update(b"\0" + part.encode())
    return digest.hexdigest()[:12]


def remembered(release, function):
    """What function(release) gave since the package index was last refreshed: asking apt takes seconds."""
    suite = memx_debs.Suite(RELEASES[release][0])
    suite.refresh()
    memo = os.path.join(kernels_dir(), f"{function.__name__}-{release}-{key()}.memo")
    with contextlib.suppress(FileNotFoundError):
        if os.stat(memo).st_mtime > os.stat(suite.stamp).st_mtime:
            with open(memo, encoding="utf-8") as handle:
                path = handle.read()
            if os.path.isdir(path):
                return path
    path = function(suite, release)
    memx_debs.write_if_changed(memo, path)
    os.utime(memo)
    return path


def check(release):
    if release not in RELEASES:
        raise memx_debs.DebsError(f"unknown kernel '{release}': one of {' '.join(RELEASES)}")


def rewrite(path, old, new):
    """Changes a text file that may be hard linked to the package's."""
    with open(path, encoding="utf-8") as handle:
        text = handle.read()
    changed = re.sub(old, new, text, flags=re.M)
    if changed != text:
        mode = os.stat(path).st_mode
        os.unlink(path)
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(changed)
        os.chmod(path, mode)


def unpack_headers(suite, name):
    """The unpacked packages, with usr/src and usr/lib."""
    if suite.name != NATIVE:
        # With all that its tools and its compiler need.
        return memx_debs.unpack(suite.name, [name], deps=True)
    kbuild = [package for package, _ in suite.closure([name]) if package.startswith("linux-kbuild-")]
    common = re.sub(r"-amd64$", "-common", name)
    return memx_debs.unpack(suite.name, [name, common, *kbuild])


def make_headers(suite, release):
    name = suite.latest(RELEASES[release][1])
    unpacked = unpack_headers(suite, name)
    with made_once(f"headers-{release}-{key(unpacked, name)}") as (final, temporary):
        if temporary:
            say(f"preparing {name}")
            native = suite.name == NATIVE
            for part in ("usr/src", "usr/lib") if native else ("usr",):
                subprocess.run(["cp", "-al", "--parents", part, temporary], cwd=unpacked, check=True)
            relocate(temporary, final, name)
            if not native:
                relocate_tools(temporary, final, name)
    return os.path.join(final, "usr/src", name)


def relocate(temporary, final, name):
    build = os.path.join(temporary, "usr/src", name)
    rewrite(os.path.join(build, "Makefile"), r"(?<![\w.])/usr/src/", f"{final}/usr/src/")
    # Debian's kernel could make BTF for modules, from the vmlinux in the headers package and with pahole installed.
    # Nothing here reads it. Only make's view changes; autoconf.h, which lays out struct module, stays.
    rewrite(os.path.join(build, "include/config/auto.conf"), r"^CONFIG_DEBUG_INFO_BTF_MODULES=y\n", "")


def is_program(path):
    """An ELF file with an interpreter of its own."""
    if os.path.islink(path) or not os.access(path, os.X_OK):
        return False
    with open(path, "rb") as handle:
        if handle.read(4) != b"\x7fELF":
            return False
    return subprocess.run(["patchelf", "--print-interpreter", path], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False).returncode == 0


def relocate_tools(temporary, final, name):
    """Makes compiler, binutils and kbuild's tools of a newer suite run on this one, with their own libc."""
    libraries = f"{final}/usr/lib/x86_64-linux-gnu"
    for folder in ("usr/bin", "usr/libexec/gcc", "usr/lib/gcc", "usr/lib"):
        top = os.path.join(temporary, folder)
        for where, _, files in os.walk(top):
            if folder == "usr/lib" and "/linux-kbuild-" not in where:
                continue
            for entry in files:
                path = os.path.join(where, entry)
                if not is_program(path):
                    continue
                shutil.copy2(path, path + ".own")
                os.rename(path + ".own", path)
                subprocess.run(["patchelf", "--set-interpreter", f"{libraries}/ld-linux-x86-64.so.2",
                                "--force-rpath", "--set-rpath", libraries, path], check=True)
    rewrite(os.path.join(temporary, "usr/src", name, ".kernelvariables"),
            r"^override CROSS_COMPILE = ", f"PAHOLE = {final}/usr/bin/pahole\noverride CROSS_COMPILE = {final}/usr/bin/")
    # Newer kernels ask this script, which the packages lack, whether sparse knows __typeof_unqual__. Debian's does not,
    # and needs not: it gets the plain __typeof__ in its place. Nor does it take the length of a literal for a constant,
    # as MODULE_INFO() wants it to.
    build = os.path.join(temporary, "usr/src", name)
    script = os.path.join(build, "scripts/checker-valid.sh")
    if not os.path.exists(script):
        with open(script, "w", encoding="ascii") as handle:
            handle.write("#!/bin/sh\necho 1\n")
        os.chmod(script, 0o755)
        with open(os.path.join(build, ".kernelvariables"), "a", encoding="ascii") as handle:
            handle.write("CHECKFLAGS += -D__typeof_unqual__=__typeof__ '-D__builtin_strlen(x)=(sizeof(x)-1)'\n")


def make_source(suite, release):
    package = f"linux-source-{release}"
    version = suite.candidate(package)
    with made_once(f"source-{release}-{version.replace(':', '_')}") as (final, temporary):
        if temporary:
            say(f"unpacking {package} {version}")
            unpacked = memx_debs.unpack(suite.name, [package])
            archive = os.path.join(unpacked, "usr/src", f"{package}.tar.xz")
            subprocess.run(["tar", "-xJf", archive, "-C", temporary, "--strip-components=1"], check=True)
    return final


def headers(release):
    check(release)
    return remembered(release, make_headers)


def source(release):
    check(release)
    return remembered(release, make_source)


def command(function):
    """The body of the programs kernel-headers and kernel-source."""
    name = os.path.basename(sys.argv[0])
    if len(sys.argv) != 2 or sys.argv[1] not in RELEASES:
        print(f"usage: {name} {'|'.join(RELEASES)}", file=sys.stderr)
        return 2
    try:
        print(function(sys.argv[1]))
    except memx_debs.DebsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{name}: {' '.join(map(str, error.cmd))} failed with status {error.returncode}", file=sys.stderr)
        return 1
    return 0
