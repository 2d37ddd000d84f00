# SPDX-License-Identifier: GPL-2.0-only
"""The command line of memx-testbed."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys

from . import agent, configs, donors, elf, faults, images, procs, state, status, store, supervisor
from .state import Spec, TestbedError, View
from .store import memx_debs

SYSTEMD_MEM = 256       # MiB
GUEST_MEM_MIN = 96      # MiB; of 128 some 80 are the kernel's and the initramfs'
DONOR_MEM_MIN = 16      # MiB
SWAP_MAX = (1 << 24) - 1        # MiB, of memx_swap's size_mb
MAX_COPIES = 3          # of a page: what relay.conf takes
OWN_FAULT = 125         # exit status for the tool's own troubles, in exec

DESCRIPTION = """\
Real Xen in QEMU's software emulation: hosts with a Dom0, guests, relays, and
donors as processes of this machine. Needs no root. Every verb takes --name NAME
right after it, so that several testbeds run side by side.
"""
TARGETS = "host0, guest0, donor0 ..."


def say(text):
    print(f"memx-testbed: {text}", file=sys.stderr, flush=True)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def natural(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("0 or more")
    return value


def add_up_options(cmd):
    cmd.add_argument("--hosts", type=positive, default=1, metavar="N",
                     help="emulated hosts, each a Xen with its own Dom0 (1)")
    cmd.add_argument("--guests", type=natural, default=1, metavar="N",
                     help="guests, dealt out over the hosts (1)")
    cmd.add_argument("--guest-type", choices=("pv", "pvh"), default="pv",
                     help="paravirtualised, or in a light hardware container (pv)")
    cmd.add_argument("--guest-mem", type=positive, default=128, metavar="MIB")
    cmd.add_argument("--guest-vcpus", type=positive, default=1, metavar="N")
    cmd.add_argument("--guest-cmdline", default="", metavar="WORDS",
                     help="added to the guests' kernel command line")
    cmd.add_argument("--guest-init", choices=("small", "systemd"), default="small",
                     help="the testbed's own, or Debian's systemd and udev, which want --guest-mem 256 or more (small)")
    cmd.add_argument("--module-args", default="", metavar="WORDS",
                     help="parameters for memx_swap in the guests")
    cmd.add_argument("--module", default="", metavar="FILE",
                     help="loaded as memx_swap.ko in the guests (build/module/KERNEL/memx_swap.ko)")
    cmd.add_argument("--swap", type=natural, default=512, metavar="MIB",
                     help="swap of each guest; 0: Xen and guests only, nothing of MemX (512)")
    cmd.add_argument("--donors", type=natural, default=None, metavar="N",
                     help="memx-server processes (2; none where there is no swap)")
    cmd.add_argument("--donor-mem", type=positive, default=None, metavar="MIB",
                     help="memory that each donor gives (enough for all the swap, but at most three "
                          "quarters of this machine's memory)")
    cmd.add_argument("--replicas", type=positive, default=None, metavar="R",
                     help="copies of each page, 1 to 3 (2 where there are two donors, else 1)")
    cmd.add_argument("--kernel", choices=images.KERNELS + ("debug",), default="6.1",
                     help="the guests' Debian kernel (6.1), or one with many detectors")
    cmd.add_argument("--timeout", type=positive, default=600, metavar="S",
                     help="for all to be up (600)")


def parser():
    top = argparse.ArgumentParser(prog="memx-testbed", description=DESCRIPTION,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--name", dest="early_name", help=argparse.SUPPRESS)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name, text):
        cmd = verbs.add_parser(name, help=text, description=text)
        cmd.add_argument("--name", metavar="NAME", help="which testbed (default)")
        return cmd

    add_up_options(verb("up", "start a testbed; returns when every guest has its swap on"))
    cmd = verb("exec", "run a command as root in a target; passes on its output and status")
    cmd.add_argument("target", metavar="TARGET", help=TARGETS)
    cmd.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD...")
    cmd = verb("read", "print files of a target's /proc and /sys; needs no memory for a process there")
    cmd.add_argument("target", metavar="TARGET", help=TARGETS)
    cmd.add_argument("paths", nargs="+", metavar="PATH")
    cmd = verb("push", "copy a file to a target")
    cmd.add_argument("target", metavar="TARGET", help=TARGETS)
    cmd.add_argument("local", metavar="LOCAL")
    cmd.add_argument("remote", metavar="REMOTE")
    cmd = verb("pull", "copy a file from a target")
    cmd.add_argument("target", metavar="TARGET", help=TARGETS)
    cmd.add_argument("remote", metavar="REMOTE")
    cmd.add_argument("local", metavar="LOCAL")
    cmd = verb("log", "print a target's log: a console, or a daemon's")
    cmd.add_argument("target", metavar="TARGET", help="host0, guest0, donor0, relay0 ...")
    cmd = verb("status", "what runs and how it is")
    cmd.add_argument("--json", action="store_true")
    verb("down", "end a testbed and all that belongs to it")
    cmd = verb("donor", "make a donor fail, or bring it back")
    cmd.add_argument("index", type=natural, metavar="N")
    cmd.add_argument("action", choices=donors.ACTIONS + faults.CUTS)
    cmd = verb("relay", "make a host's relay fail, or bring it back")
    cmd.add_argument("host", metavar="HOST", help="host0, or 0")
    cmd.add_argument("action", choices=faults.RELAY_ACTIONS)
    cmd = verb("images", "build all images ahead, as up does when they are missing")
    cmd.add_argument("--kernel", choices=images.KERNELS, action="append", dest="kernels")
    verb("list", "names of the testbeds that are up")
    return top


# -- up and down

def machine_mib():
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def spec_of(args):
    """The Spec of up's arguments, defaults filled in."""
    swap = args.swap
    count = args.donors if args.donors is not None else (2 if swap else 0)
    replicas = args.replicas or min(2, max(1, count))
    if swap and not count:
        raise TestbedError("--swap needs at least one donor; --swap 0 does without MemX")
    if replicas > MAX_COPIES:
        raise TestbedError(f"--replicas {replicas}: accepted are 1 to {MAX_COPIES}")
    if count and replicas > count:
        raise TestbedError(f"--replicas {replicas} needs as many donors, there are {count}")
    if args.kernel == "7.3" and args.guest_type == "pvh":
        raise TestbedError("kernel 7.3 does not boot as PVH on the emulated CPU; use pv")
    if args.module and not os.path.isfile(args.module):
        raise TestbedError(f"--module {args.module}: there is no such file")
    if args.guest_init == "systemd" and args.guest_mem < SYSTEMD_MEM:
        raise TestbedError(f"--guest-init systemd needs --guest-mem {SYSTEMD_MEM} or more: all of it lies in the guest's memory")
    if args.guest_mem < GUEST_MEM_MIN:
        raise TestbedError(f"--guest-mem {args.guest_mem}: a Debian kernel and what it starts from want {GUEST_MEM_MIN} MiB or more")
    if swap > SWAP_MAX:
        raise TestbedError(f"--swap {swap}: accepted are 0 to {SWAP_MAX} MiB, which is the most that memx_swap asks for")
    if args.donor_mem is not None and args.donor_mem < DONOR_MEM_MIN:
        raise TestbedError(f"--donor-mem {args.donor_mem}: accepted are {DONOR_MEM_MIN} MiB or more")
    if args.guests > 64:
        raise TestbedError("at most 64 guests")
    kernel = f"debug-{args.guest_type}" if args.kernel == "debug" else args.kernel
    # Every copy of every guest's swap on any one donor, and room to repair; but a donor refuses
    # to give more than its machine has, and takes memory only as pages come.
    memory = args.donor_mem or max(64, min(swap * max(1, args.guests) * 2, machine_mib() * 3 // 4))
    return Spec(name=args.name, hosts=args.hosts, guests=args.guests,
                guest_type=args.guest_type, guest_mem=args.guest_mem,
                guest_vcpus=args.guest_vcpus, guest_cmdline=args.guest_cmdline,
                guest_init=args.guest_init, swap=swap,
                module=os.path.abspath(args.module) if args.module else configs.module(kernel),
                module_args=args.module_args, donors=count, donor_mem=memory, replicas=replicas,
                kernel=kernel, timeout=args.timeout)


def build_images(kernel, init):
    return {"xen": images.hypervisor(say), "dom0": images.dom0(say),
            "dom0_kernel": images.kernel("6.1", say), "guest": images.guest(kernel, say, init),
            "guest_kernel": images.kernel(kernel, say), "release": images.release(kernel)}


def build_tree(spec):
    """Have this project's own programs, where somebody forgot to make them."""
    if not configs.missing(spec):
        return
    say("building what is missing: " + ", ".join(
        os.path.relpath(path, store.TREE) for path in configs.missing(spec)))
    for target in (["all"], [f"module-{spec.kernel}"]):
        done = subprocess.run(["make", "-C", store.TREE, *target], check=False, stdout=2)
        if done.returncode:
            raise TestbedError(f"make {' '.join(target)} failed; the testbed needs its results, "
                               "or --swap 0")
    if configs.missing(spec):
        raise TestbedError("the build did not make " + ", ".join(configs.missing(spec)))


def claim(name):
    """Make the testbed's directory; what a dead one left goes first."""
    directory = state.directory(name)
    with store.locked("claim"):
        data = state.load(name)
        if data and state.alive(data["supervisor"]):
            raise TestbedError(f"testbed '{name}' is up already; memx-testbed down "
                               f"--name {name} ends it")
        if os.path.isdir(directory):
            clear(directory, data)
        os.makedirs(directory, mode=0o700)
        state.save(os.path.join(directory, "state.json"),
                   {"supervisor": state.identity(os.getpid()), "spec": {"name": name},
                    "up": False, "hosts": [], "guests": [], "donors": []})
    return directory


def clear(directory, data):
    """Remove a testbed whose supervisor is gone (its children went with it)."""
    for entry in (data or {}).get("hosts", []) + (data or {}).get("donors", []):
        if state.alive(entry["pid"]):
            os.kill(entry["pid"][0], signal.SIGKILL)
    subprocess.run(["rm", "-rf", directory], check=True)


def up(args):
    spec = spec_of(args)
    if not shutil.which("qemu-system-x86_64"):
        raise TestbedError("qemu-system-x86_64 is missing; it is in the package qemu-system-x86, "
                           "which `make check` and `make demo` install")
    directory = claim(spec.name)
    child = None
    try:
        if spec.swap:
            build_tree(spec)
        plan = {"spec": vars(spec), "images": build_images(spec.kernel, spec.guest_init)}
        with open(os.path.join(directory, "supervisor.log"), "ab") as log:
            child = subprocess.Popen(
                [sys.executable, os.path.join(store.TESTBED, "memx-testbed"), "--supervise"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True, cwd="/")
        with child.stdin as pipe:
            json.dump(plan, pipe)
        return follow(child, spec)
    finally:
        # Whatever ended this before all was up ends the testbed too.
        if child is None:
            clear(directory, None)
        elif child.returncode is None and not getattr(child, "is_up", False):
            child.terminate()
            child.wait()


def follow(child, spec):
    """Pass on what the supervisor tells until all is up, or it failed."""
    for line in child.stdout:
        news = json.loads(line)
        if "progress" in news:
            say(news["progress"])
        elif "failure" in news:
            child.wait()
            raise TestbedError(f"{news['failure']}\n  logs: {news['logs']}")
        elif "ready" in news:
            child.is_up = True
            say(f"testbed '{spec.name}' is up")
            return 0
    child.wait()
    raise TestbedError(f"the supervisor ended with status {child.returncode}")


def down(args):
    try:
        view = View(args.name)
    except TestbedError:
        directory = state.directory(args.name)
        if os.path.isdir(directory):
            clear(directory, state.load(args.name))
        say(f"no testbed '{args.name}' is up")
        return 0
    pid = view.data["supervisor"][0]
    try:
        if view.data["up"]:
            supervisor.request(view, verb="down")
        else:
            os.kill(pid, signal.SIGTERM)
    except (TestbedError, ProcessLookupError):
        pass
    if not procs.pidfd_wait(pid, 30) and state.alive(view.data["supervisor"]):
        os.kill(pid, signal.SIGKILL)
        procs.pidfd_wait(pid, 30)
    if os.path.isdir(view.dir):
        clear(view.dir, view.data)
    return 0


def list_names(_args):
    root = state.run_root()
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        data = state.load(name)
        if data and state.alive(data["supervisor"]):
            print(name)
    return 0


def build(args):
    say("xen: " + images.hypervisor(say))
    say("dom0: " + images.dom0(say))
    images.kernel("6.1", say)
    for kernel in args.kernels or images.KERNELS:
        images.kernel(kernel, say)
        say(f"guest {kernel}: " + images.guest(kernel, say))
    return 0


# -- inside

def write_all(stream, data):
    while data:
        data = data[os.write(stream, data):]


def standard_input():
    """Descriptor 0 where it is something to pass on; a terminal stays ours."""
    try:
        os.fstat(0)
        return None if os.isatty(0) else 0
    except OSError:
        return None


def execute(args):
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise TestbedError("exec TARGET -- CMD...: the command is missing")
    view = View(args.name)
    kind, index = view.target(args.target)
    if kind == "donor":
        donor = view.data["donors"][index]
        try:
            status = subprocess.run(command, cwd=donor["dir"], check=False,
                                    env=dict(os.environ, **donor["env"])).returncode
            return status if status >= 0 else 128 - status
        except OSError as error:
            raise agent.RunError(error.errno, command[0]) from error
    sock = agent.connect(view.ports(kind, index), wait=120)
    return agent.Command(sock, command, standard_input(), write_all).run()


def read_files(args):
    view = View(args.name)
    kind, index = view.target(args.target)
    if kind == "donor":
        raise TestbedError("read is for hosts and guests")
    for path, text in zip(args.paths, agent.read(view.ports(kind, index), args.paths)):
        write_all(1, f"==> {path} <==\n{text}{'' if text.endswith(chr(10)) else chr(10)}".encode())
    return 0


def transfer(args, verb, *names):
    view = View(args.name)
    kind, index = view.target(args.target)
    if kind == "donor":
        directory = view.data["donors"][index]["dir"]
        source, sink = names
        if verb == "push":
            sink = os.path.join(directory, sink)
        else:
            source = os.path.join(directory, source)
        return subprocess.run(["cp", "-p", "--", source, sink], check=False).returncode
    move = agent.push if verb == "push" else agent.pull
    code, complaint = move(view.ports(kind, index), *names, wait=120)
    if code:
        raise TestbedError(f"{verb} {args.target}: {complaint.decode(errors='replace').strip()}")
    return 0


def log(args):
    view = View(args.name)
    kind, index = view.target(args.target)
    if kind in ("host", "donor"):
        path = view.data[kind + "s"][index]["console" if kind == "host" else "log"]
        with open(path, "rb") as handle:
            while block := handle.read(1 << 16):
                write_all(1, block)
        return 0
    path, hosts = "/var/log/memx/relay.log", [index]
    if kind == "guest":
        # Where it began, then wherever it may have moved to.
        path = f"/var/log/xen/console/guest-guest{index}.log"
        first = index % view.spec.hosts
        hosts = [first] + [host for host in range(view.spec.hosts) if host != first]
    for host in hosts:
        sock = agent.connect(view.host_ports(host), wait=60)
        code = agent.Command(sock, ["cat", path], None, write_all if host == hosts[0] else
                             lambda stream, data: stream == 1 and write_all(1, data)).run()
        if code and host == hosts[0]:
            return code
    return 0


def fault(args):
    view = View(args.name)
    if args.verb == "relay":
        text = args.host if args.host.startswith("host") else f"host{args.host}"
        _, index = view.target(text)
        faults.relay(view, index, args.action)
        return 0
    view.target(f"donor{args.index}")
    if args.action in faults.CUTS:
        faults.cut(view, args.index, args.action)
    else:
        supervisor.request(view, verb="donor", index=args.index, action=args.action)
    return 0


VERBS = {
    "up": up, "down": down, "exec": execute, "log": log, "donor": fault, "relay": fault,
    "images": build, "list": list_names, "status": status.show, "read": read_files,
    "push": lambda args: transfer(args, "push", args.local, args.remote),
    "pull": lambda args: transfer(args, "pull", args.remote, args.local),
}


def interrupted(*_):
    raise KeyboardInterrupt()


def main(argv):
    if argv == ["--supervise"]:
        return supervisor.main()
    args = parser().parse_args(argv)
    args.name = args.name or args.early_name or "default"
    # A SIGTERM or a terminal's end unwinds like a Ctrl-C, so that nothing is left behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupted)
    try:
        return VERBS[args.verb](args)
    except agent.RunError as error:
        say(str(error))
        return error.status
    except (TestbedError, images.ImageError, agent.AgentError, memx_debs.DebsError,
            elf.ElfError) as error:
        say(f"{args.target}: {error}" if isinstance(error, agent.AgentError) else str(error))
        return OWN_FAULT if args.verb == "exec" else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        say(str(error))
        return OWN_FAULT if args.verb == "exec" else 1
    except KeyboardInterrupt:
        return 130
