# SPDX-License-Identifier: GPL-2.0-only
"""newc archives, the format of an initramfs, written without root.

Equal content gives equal bytes: no times, no owners, entries in the order added.
"""
import os
import stat

# Where the folders at the top lead on a system with a merged /usr.
MERGED = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}


def names(path):
    """Names of all members of an archive."""
    found = []
    with open(path, "rb") as handle:
        while head := handle.read(110):
            if head[:6] != b"070701":
                break           # padding after the last archive
            size, length = int(head[54:62], 16), int(head[94:102], 16)
            name = handle.read(length + (-(110 + length) % 4))[:length - 1].decode()
            if name == "TRAILER!!!":
                break
            found.append(name)
            handle.seek(size + (-size % 4), os.SEEK_CUR)
    return found


class Writer:
    """Writes one archive to a binary file object; the caller closes the file.

    With links, {name at the top: where it leads}, what goes below such a name is put where the link
    leads: the kernel would make way for a directory by removing the link.
    """

    def __init__(self, out, links=None):
        self.out = out
        self.links = links or {}
        self.inode = 0
        self.seen = set()

    def place(self, name):
        """A member's own name."""
        top, slash, rest = name.strip("/").partition("/")
        return f"{self.links.get(top, top)}/{rest}" if slash else self.links.get(top, top)

    def has(self, name):
        return self.place(name) in self.seen

    def make_links(self):
        for name, target in self.links.items():
            self.directory(target)
            self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        self.inode += 1
        raw = name.encode() + b"\0"
        head = "070701" + "".join(f"{field:08X}" for field in (
            self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(raw), 0))
        block = head.encode() + raw
        self.out.write(block + b"\0" * (-len(block) % 4))
        self.out.write(data)
        self.out.write(b"\0" * (-len(data) % 4))
        self.seen.add(name)

    def directory(self, name):
        """A directory and its parents, where they are not there yet."""
        name = self.place(name)
        if not name or name in self.seen:
            return
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFDIR | 0o755)

    def data(self, name, content, mode=0o644):
        """A file with content (bytes or str)."""
        name = self.place(name)
        self.directory(os.path.dirname(name))
        if isinstance(content, str):
            content = content.encode()
        self._entry(name, stat.S_IFREG | mode, content)

    def file(self, name, path, mode=None):
        """The file at path; its own permission bits unless mode says otherwise."""
        if mode is None:
            mode = 0o755 if os.stat(path).st_mode & 0o111 else 0o644
        with open(path, "rb") as handle:
            self.data(name, handle.read(), mode)

    def symlink(self, name, target):
        name = self.place(name)
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name, major, minor):
        name = self.place(name)
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def finish(self):
        self.inode = -1
        self._entry("TRAILER!!!", 0)
        # Archives are joined end to end; the kernel wants each on 4 bytes.
        self.out.write(b"\0" * (-self.out.tell() % 512))
