# SPDX-License-Identifier: GPL-2.0-only
"""Debian packages of several suites, fetched and unpacked without root.

A private apt root per suite lives in the cache, so the machine's own package
lists, its installed packages and its architecture pins play no part. Which
mirror to ask comes from the machine's apt configuration, as do proxies and the
like. Packages are verified by apt against debian-archive-keyring.

Layout below <cache>/debs:
  <suite>/           apt's state, lists, and sources for that suite
  pool/NAME_VERSION_ARCH/*.deb   one directory per downloaded package
  unpacked/KEY/      packages unpacked together; KEY names their versions
  locks/             one file per lock, never removed

Whoever changes an entry holds its lock and renames the finished thing into
place; a reader that sees a name may use it without a lock.
"""
import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

SUITES = ("bookworm", "trixie", "trixie-backports")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
INDEX_MAX_AGE = 24 * 3600
RETRY_AGE = 600     # a refresh that failed is not tried again before that
TRUST_AGE = 3600    # so long the machine's sources are taken to be as they were

# What of the machine's configuration must not act on a private root.
APT_CONF = """\
#clear APT::Update;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::CNF;
APT::Sandbox::User "";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Default-Release "{default}";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::State::extended_states "{root}/extended_states";
Dir::Cache "{root}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Debug::NoLocking "true";
"""


class DebsError(Exception):
    """Something the person at the keyboard has to know; the text says what."""


def say(text):
    """One line for the person watching; stdout belongs to the results."""
    print(f"memx-debs: {text}", file=sys.stderr, flush=True)


def cache_dir():
    """The project's cache, outside the tree."""
    base = os.environ.get("MEMX_CACHE")
    if not base:
        xdg = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        base = os.path.join(xdg, "memx")
    return os.path.abspath(base)


def debs_dir():
    return os.path.join(cache_dir(), "debs")


@contextlib.contextmanager
def locked(name):
    """Exclusive between processes; the lock file stays."""
    path = os.path.join(debs_dir(), "locks", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(argv, **kwargs):
    """Run a command, give its stdout, raise with its last words on failure."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, text=True, check=False,
                          env=dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive"),
                          **kwargs)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise DebsError(f"{' '.join(argv[:1] + argv[-3:])} failed with status "
                        f"{done.returncode}:\n  " + "\n  ".join(words))
    return done.stdout


@functools.lru_cache(maxsize=None)
def machine_sources():
    """[(repository, release, component)] of the machine's apt sources.

    apt-get indextargets reads one-line and deb822 files alike, and needs no
    package lists.
    """
    out = run(["apt-get", "indextargets", "--format",
               "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"])
    rows = []
    for line in out.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields not in rows:
            rows.append(fields)
    return [tuple(row) for row in rows]


def main_mirror():
    """The repository from which this machine takes Debian's main archive."""
    codenames = ("bookworm", "trixie", "forky", "sid", "stable", "oldstable",
                 "testing", "unstable")
    for repo, release, component in machine_sources():
        if release in codenames and component == "main":
            return repo
    raise DebsError("no Debian main archive among this machine's apt sources "
                    "(apt-get indextargets lists none); add one to /etc/apt/sources.list")


def suite_sources(suite):
    """Source lines of a suite: [(repository, release)]."""
    if suite == "bookworm":
        found = []
        for repo, release, component in machine_sources():
            row = (repo, release)
            if component == "main" and row not in found and \
               release in ("bookworm", "bookworm-updates", "bookworm-security"):
                found.append(row)
        if not any(release == "bookworm" for _, release in found):
            found.insert(0, (main_mirror(), "bookworm"))
        return found
    if suite == "trixie":
        return [(main_mirror(), "trixie")]
    return [(main_mirror(), "trixie"), (main_mirror(), "trixie-backports")]


class Suite:
    """The private apt root of one suite."""

    def __init__(self, name):
        if name not in SUITES:
            raise DebsError(f"suite '{name}' is not known; one of {', '.join(SUITES)}")
        self.name = name
        self.root = os.path.join(debs_dir(), name)
        self.stamp = os.path.join(self.root, "refreshed")
        self.tried = os.path.join(self.root, "tried")
        self.candidates = {}

    def apt(self, tool, *args, **kwargs):
        return run([tool, "-c", os.path.join(self.root, "apt.conf"), *args], **kwargs)

    def configure(self):
        """(Re)write the root's configuration; True where its sources changed."""
        for sub in ("state/lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(self.root, sub), exist_ok=True)
        if not os.path.exists(KEYRING):
            raise DebsError(f"{KEYRING} is missing; install debian-archive-keyring")
        lines = [f"deb [arch=amd64 signed-by={KEYRING}] {repo} {release} main\n"
                 for repo, release in suite_sources(self.name)]
        # With no default release, candidates follow the archives' own priorities.
        default = self.name if self.name == "trixie-backports" else ""
        conf = APT_CONF.format(root=self.root, default=default)
        write_if_changed(os.path.join(self.root, "status"), "")
        write_if_changed(os.path.join(self.root, "apt.conf"), conf)
        return write_if_changed(os.path.join(self.root, "sources.list"), "".join(lines))

    def refresh(self, force=False):
        """Bring the index up to date where it is old, missing, or force says so."""
        if not force and age(self.stamp) < TRUST_AGE:
            return
        with locked(f"index-{self.name}"):
            changed = self.configure()
            have = os.path.exists(self.stamp) and not changed
            if have and not force and (age(self.stamp) < INDEX_MAX_AGE or
                                       age(self.tried) < RETRY_AGE):
                return
            if have and force and age(self.stamp) < 60:
                return      # somebody else was quicker
            say(f"refreshing the index of {self.name}")
            touch(self.tried)
            try:
                self.apt("apt-get", "-o", "APT::Update::Error-Mode=any", "update")
            except DebsError as error:
                if not have:
                    raise
                say(f"index of {self.name} not refreshed, the old one is used: {error}")
                return
            self.candidates.clear()
            shutil.rmtree(os.path.join(self.root, "answers"), ignore_errors=True)
            self.apt("apt-cache", "gencaches")
            touch(self.stamp)

    def remembered(self, what, find):
        """find()'s answer, kept until the index changes: apt is slow to ask."""
        key = hashlib.sha256(json.dumps([what, os.stat(self.stamp).st_mtime_ns]).encode())
        path = os.path.join(self.root, "answers", key.hexdigest()[:24])
        try:
            with open(path, encoding="ascii") as handle:
                return json.load(handle)
        except FileNotFoundError:
            answer = find()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(path), delete=False) as out:
            json.dump(answer, out)
        os.rename(out.name, path)
        return answer

    def candidate(self, package):
        """The version that this suite would install, or an error."""
        return self.remembered(["candidate", package], lambda: self._candidate(package))

    def latest(self, regex):
        """Name of the package with the highest version among those that match."""
        return self.remembered(["latest", regex], lambda: self._latest(regex))

    def closure(self, packages):
        """[(name, version)] of packages and all that they depend on, libc included."""
        rows = self.remembered(["closure", packages], lambda: self._closure(packages))
        return [tuple(row) for row in rows]

    def _candidate(self, package):
        if package not in self.candidates:
            out = self.apt("apt-cache", "policy", package)
            found = re.search(r"^ +Candidate: (\S+)", out, re.M)
            version = found.group(1) if found else "(none)"
            self.candidates[package] = None if version == "(none)" else version
        if not self.candidates[package]:
            raise DebsError(f"{self.name} has no package '{package}'")
        return self.candidates[package]

    def _latest(self, regex):
        pattern = re.compile(regex)
        names = [name for name in self.apt("apt-cache", "pkgnames").split()
                 if pattern.search(name)]
        best = None
        # One source builds many flavours of one version: the plainest name wins.
        for name in sorted(names, key=lambda name: (len(name), name)):
            try:
                version = self._candidate(name)
            except DebsError:
                continue
            if best is None or newer(version, best[1]):
                best = (name, version)
        if best is None:
            raise DebsError(f"{self.name} has no package that matches '{regex}'")
        return best[0]

    def _closure(self, packages):
        wanted = [f"{name}={self.candidate(name)}" for name in packages]
        out = self.apt("apt-get", "-s", "-y", "-q", "--no-install-recommends",
                       "install", *wanted)
        rows = re.findall(r"^Inst (\S+) \((\S+) ", out, re.M)
        return sorted((name.split(":")[0], version) for name, version in rows)


def age(path):
    """Seconds since path was written; very old where it is missing."""
    try:
        return time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return float("inf")


def touch(path):
    with open(path, "w", encoding="ascii"):
        pass


def write_if_changed(path, text):
    """Write text to path atomically; True where that changed anything."""
    try:
        with open(path, encoding="utf-8") as handle:
            if handle.read() == text:
                return False
    except FileNotFoundError:
        pass
    with open(path + ".new", "w", encoding="utf-8") as handle:
        handle.write(text)
    os.rename(path + ".new", path)
    return True


def newer(left, right):
    return subprocess.run(["dpkg", "--compare-versions", left, "gt", right],
                          check=False).returncode == 0


def pool_path(name, version):
    return os.path.join(debs_dir(), "pool", f"{name}_{urllib.parse.quote(version, '+~')}")


def pooled(name, version):
    """The .deb in the pool, or None."""
    directory = pool_path(name, version)
    if os.path.isdir(directory):
        for entry in os.listdir(directory):
            if entry.endswith(".deb"):
                return os.path.join(directory, entry)
    return None


def download(suite, rows):
    """Have every (name, version) in the pool; verified by apt."""
    with locked("pool"):
        missing = [row for row in rows if not pooled(*row)]
        if not missing:
            return
        say("downloading " + " ".join(f"{name}={version}" for name, version in missing))
        pool = os.path.join(debs_dir(), "pool")
        os.makedirs(pool, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=pool, prefix=".part-") as part:
            suite.apt("apt-get", "-q", "download",
                      *(f"{name}={version}" for name, version in missing), cwd=part)
            debs = {entry.split("_")[0]: entry for entry in os.listdir(part)}
            for name, version in missing:
                if name not in debs:
                    raise DebsError(f"apt-get download gave no file for {name}={version}")
                target = tempfile.mkdtemp(dir=pool, prefix=".new-")
                os.chmod(target, 0o755)
                os.rename(os.path.join(part, debs[name]), os.path.join(target, debs[name]))
                os.rename(target, pool_path(name, version))


def resolve(suite, packages, deps):
    if deps:
        return suite.closure(packages)
    return sorted((name, suite.candidate(name)) for name in set(packages))


def unpack_key(rows):
    text = "\n".join(f"{name}={version}" for name, version in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def unpacked_dir(key):
    return os.path.join(debs_dir(), "unpacked", key)


def unpack(suite_name, packages, deps=False):
    """Unpack packages together; the directory, the same for the same versions.

    With deps also all that they depend on. Blocks on the network where
    something is not cached yet, and on other processes doing the same.
    """
    suite = Suite(suite_name)
    suite.refresh()
    rows = resolve(suite, packages, deps)
    target = unpacked_dir(unpack_key(rows))
    if os.path.isdir(target):
        return target
    try:
        download(suite, rows)
    except DebsError as error:
        # The archive moved on since the index was made: look again, once.
        say(f"trying again with a fresh index: {error}")
        suite.refresh(force=True)
        rows = resolve(suite, packages, deps)
        target = unpacked_dir(unpack_key(rows))
        download(suite, rows)
    with locked("unpack-" + os.path.basename(target)):
        if not os.path.isdir(target):
            extract(rows, target)
    return target


def extract(rows, target):
    parent = os.path.dirname(target)
    os.makedirs(parent, exist_ok=True)
    say("unpacking " + " ".join(name for name, _ in rows))
    part = tempfile.mkdtemp(dir=parent, prefix=".part-")
    try:
        os.chmod(part, 0o755)
        for name, version in rows:
            run(["dpkg-deb", "-x", pooled(name, version), part])
        with open(target + ".packages", "w", encoding="ascii") as handle:
            handle.writelines(f"{name} {version}\n" for name, version in rows)
        os.rename(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def parser():
    top = argparse.ArgumentParser(
        prog="memx-debs", description="Fetch and unpack Debian packages without root. "
        "Results go to stdout, messages to stderr.")
    verbs = top.add_subparsers(dest="verb", required=True)
    cmd = verbs.add_parser("unpack", help="unpack packages together and print the directory")
    cmd.add_argument("--deps", action="store_true",
                     help="with all that they depend on, libc included")
    cmd.add_argument("packages", nargs="+", metavar="PKG")
    cmd.add_argument("--suite", required=True, choices=SUITES)
    cmd = verbs.add_parser("version", help="print the version that the suite has")
    cmd.add_argument("package", metavar="PKG")
    cmd.add_argument("--suite", required=True, choices=SUITES)
    cmd = verbs.add_parser("latest", help="print the newest package whose name matches")
    cmd.add_argument("regex", metavar="REGEX")
    cmd.add_argument("--suite", required=True, choices=SUITES)
    return top


def main(argv):
    args = parser().parse_args(argv)
    try:
        if args.verb == "unpack":
            print(unpack(args.suite, args.packages, args.deps))
            return 0
        suite = Suite(args.suite)
        suite.refresh()
        if args.verb == "version":
            print(suite.candidate(args.package))
        else:
            print(suite.latest(args.regex))
        return 0
    except (DebsError, OSError, re.error) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
