# SPDX-License-Identifier: GPL-2.0-only
"""Files made from other files, kept in the cache under a hash of all inputs."""
import contextlib
import fcntl
import hashlib
import os
import sys
import time

KEEP_S = 14 * 24 * 3600     # an image that nothing used for so long goes

_HERE = os.path.dirname(os.path.realpath(__file__))
TESTBED = os.path.dirname(_HERE)
TREE = os.path.dirname(os.path.dirname(TESTBED))

sys.path.insert(0, os.path.join(TREE, "tools", "setup"))
import memx_debs  # noqa: E402


def cache_dir():
    return memx_debs.cache_dir()


def digest(*parts):
    """A key over strings and bytes."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()[:24]


def read(path):
    with open(path, "rb") as handle:
        return handle.read()


@contextlib.contextmanager
def locked(name):
    path = os.path.join(cache_dir(), "testbed", "locks", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def made(kind, key, make, note=None):
    """The cached file of that kind and key; make(path) builds it when missing."""
    directory = os.path.join(cache_dir(), "testbed", "images")
    path = os.path.join(directory, f"{kind}-{key}")
    if os.path.exists(path):
        os.utime(path)      # so that the least recently used can be found
        return path
    os.makedirs(directory, exist_ok=True)
    with locked(f"{kind}-{key}"):
        if os.path.exists(path):
            return path
        if note:
            note(f"building {kind}")
        part = f"{path}.part"
        make(part)
        os.rename(part, path)
        forget_old(directory, kind)
    return path


def forget_old(directory, kind):
    """Remove what was made of older inputs and not used for long."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.rpartition("-")[0] == kind and time.time() - os.stat(path).st_mtime > KEEP_S:
            os.unlink(path)
