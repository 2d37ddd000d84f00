# SPDX-License-Identifier: GPL-2.0-only
"""What the images need to know of binaries: their libraries, a kernel's payload,
a module's dependencies. Only x86-64, as Debian builds it."""
import ctypes
import ctypes.util
import gzip
import lzma
import os
import struct


class ElfError(Exception):
    """A file that is not what its name says."""


def _sections(image):
    if image[:6] != b"\x7fELF\x02\x01":
        return
    offset, = struct.unpack_from("<Q", image, 40)
    size, count, _ = struct.unpack_from("<HHH", image, 58)
    for index in range(count):
        yield struct.unpack_from("<IIQQQQIIQQ", image, offset + index * size)


def needed(path):
    """Names of the shared libraries that path names, its interpreter's included."""
    with open(path, "rb") as handle:
        image = handle.read()
    sections = list(_sections(image))
    names = []
    for section in sections:
        if section[1] != 6:     # SHT_DYNAMIC
            continue
        strings = sections[section[6]]
        for at in range(section[4], section[4] + section[5], 16):
            tag, value = struct.unpack_from("<qQ", image, at)
            if tag == 1:        # DT_NEEDED
                start = strings[4] + value
                names.append(image[start:image.index(b"\0", start)].decode())
    return names


def library_closure(paths, lookup):
    """{soname: path} of all libraries that paths need, found by lookup(soname)."""
    found = {}
    todo = list(paths)
    while todo:
        for soname in needed(todo.pop()):
            if soname in found:
                continue
            path = lookup(soname)
            if path is None:
                raise ElfError(f"library {soname} is in none of the packages")
            found[soname] = path
            todo.append(path)
    return found


def module_depends(image):
    """Names of the modules that a module's bytes name as needed."""
    at = image.find(b"\0depends=")
    if at < 0:
        return []
    value = image[at + 9:image.index(b"\0", at + 9)].decode()
    return [name.replace("-", "_") for name in value.split(",") if name]


def decompress(data):
    """Undo xz, gzip or zstd; anything else comes back as it is."""
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return _unzstd(data)
    return data


def _unzstd(data):
    # dpkg needs this library, so every Debian machine has it.
    lib = ctypes.CDLL("libzstd.so.1")
    lib.ZSTD_createDCtx.restype = ctypes.c_void_p
    lib.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
    lib.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
    lib.ZSTD_decompress.restype = ctypes.c_size_t
    frame = lib.ZSTD_findFrameCompressedSize(data, ctypes.c_size_t(len(data)))
    if lib.ZSTD_isError(ctypes.c_size_t(frame)):
        raise ElfError("broken zstd data")
    size = lib.ZSTD_getFrameContentSize(data, ctypes.c_size_t(len(data)))
    if size > 1 << 30:          # unknown or absurd: what a kernel has is below that
        size = 256 << 20
    out = ctypes.create_string_buffer(size)
    done = lib.ZSTD_decompress(out, ctypes.c_size_t(size), data, ctypes.c_size_t(frame))
    if lib.ZSTD_isError(ctypes.c_size_t(done)):
        raise ElfError("broken zstd data")
    return out.raw[:done]


def kernel_payload(path):
    """The vmlinux inside a bzImage.

    Unpacked here at full speed, once, and not on every boot under emulation.
    """
    with open(path, "rb") as handle:
        image = handle.read()
    if image[0x202:0x206] != b"HdrS":
        raise ElfError(f"{os.path.basename(path)} is not a bzImage")
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (image[0x1f1] + 1) * 512 + offset
    payload = decompress(image[start:start + length])
    if payload[:4] != b"\x7fELF":
        raise ElfError(f"{os.path.basename(path)}: payload of an unknown kind")
    return payload
