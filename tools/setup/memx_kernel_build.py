# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that the project builds itself from Debian's source, for its own tests; made once, then only read.

A build directory in <cache>/kernels is named by the source's version, the configuration's text and the compiler. The
configuration is a list of options: what they do not say takes the kernel's defaults, and an option that the kernel's
own rules refuse is an error, for a test kernel without its detectors would find nothing.
"""

import hashlib
import os
import re
import subprocess
import sys
import time

import memx_debs
import memx_kernels


def options(paths):
    """The options of the files, one line each, later ones winning."""
    wanted = {}
    for path in paths:
        with open(path, encoding="utf-8") as handle:
            for line in handle:
                found = re.match(r"^(?:# )?(CONFIG_\w+)(=.*| is not set)$", line.strip())
                if found:
                    wanted[found[1]] = line.strip()
    return wanted


def build(name, release, arch, config, targets, settings=()):
    """The build directory of a kernel called name, built where it is not there yet.

    settings are variables for its make, as NAME=value.
    """
    source = memx_kernels.source(release)
    wanted = options(config)
    compiler = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    text = "\n".join([os.path.basename(source), arch, compiler, *targets, *settings, *wanted.values()])
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    with memx_kernels.made_once(f"{name}-{release}-{digest}") as (final, temporary):
        if temporary:
            make(name, release, arch, source, temporary, wanted, [*settings, *targets])
    return final


def make(name, release, arch, source, directory, wanted, targets):
    memx_kernels.say(f"building {name} kernel {release} (some minutes, once)")
    begin = time.monotonic()
    log = os.path.join(directory, "build.log")
    command = ["make", "-C", source, f"O={directory}", f"ARCH={arch}", "KBUILD_BUILD_USER=memx",
               "KBUILD_BUILD_HOST=memx", f"-j{os.environ.get('JOBS') or os.cpu_count()}"]
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CC", "CFLAGS", "LDFLAGS", "KCONFIG_CONFIG")}
    with open(os.path.join(directory, ".config"), "w", encoding="utf-8") as handle:
        handle.write("\n".join(wanted.values()) + "\n")
    with open(log, "wb") as output:
        for goals in (["olddefconfig"], list(targets)):
            done = subprocess.run(command + goals, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                  env=environment, check=False)
            if done.returncode:
                raise memx_debs.DebsError(f"building the {name} kernel failed:\n" + tail(log))
            if goals == ["olddefconfig"]:
                refused = lost(os.path.join(directory, ".config"), wanted)
                if refused:
                    raise memx_debs.DebsError(f"kernel {release} does not take: {' '.join(refused)}")
    memx_kernels.say(f"{name} kernel {release} built in {time.monotonic() - begin:.0f} s")


def lost(path, wanted):
    """The options that the kernel's rules changed."""
    with open(path, encoding="utf-8") as handle:
        lines = set(handle.read().splitlines())
    return [line for option, line in wanted.items()
            if line not in lines and not (line.endswith("is not set") and not any(
                other.startswith(option + "=") for other in lines))]


def tail(path, lines=15):
    with open(path, encoding="utf-8", errors="replace") as handle:
        return "\n".join("  " + line.rstrip() for line in handle.readlines()[-lines:])


def main(function):
    """The body of a program that prints what function() gives, or says why not."""
    try:
        print(function())
    except memx_debs.DebsError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        return 1
    return 0
