#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The testbed tests itself on real Xen: what other tests take for granted.

Plain Xen, a guest and donors, none of MemX's own moving parts. Prints TAP.
"""
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
TESTBED = os.path.join(os.path.dirname(HERE), "memx-testbed")
DEMO = os.path.join(os.path.dirname(os.path.dirname(HERE)), "demo", "memx-demo")
sys.path.insert(0, os.path.dirname(HERE))
sys.dont_write_bytecode = True
from memx_testbed import cli, state  # noqa: E402

NAME = f"self-{os.getpid()}"
OTHER = f"self-{os.getpid()}-b"
SCRATCH = tempfile.mkdtemp(dir=os.environ.get("MEMX_TMP"))
SOON = 60           # seconds within which a thing that must happen happens, on a busy machine too
CUT_SILENCE = 2     # seconds in which a thing that must not happen would have
CUT_PATIENCE = 5    # seconds that a connection which is cut survives at least


def testbed(*args, **kwargs):
    """Run memx-testbed to its end."""
    kwargs.setdefault("timeout", 300)
    kwargs.setdefault("stdin", subprocess.DEVNULL if "input" not in kwargs else None)
    if kwargs["stdin"] is None:
        del kwargs["stdin"]
    return subprocess.run([TESTBED, *args], capture_output=True, check=False, **kwargs)


def must(*args, **kwargs):
    done = testbed(*args, **kwargs)
    assert done.returncode == 0, (args, done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout


def execute(target, *argv, name=NAME, **kwargs):
    return testbed("exec", "--name", name, target, "--", *argv, **kwargs)


def begin(target, *argv, **kwargs):
    """An exec that goes on while others run."""
    return subprocess.Popen([TESTBED, "exec", "--name", NAME, target, "--", *argv],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, **kwargs)


def until(what, condition, seconds=SOON):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def processes(name):
    """Identities of everything that belongs to a testbed."""
    data = state.load(name)
    return [data["supervisor"]] + [entry["pid"] for entry in data["hosts"] + data["donors"]
                                   if entry["pid"]]


def status(name=NAME):
    return json.loads(must("status", "--name", name, "--json"))


# -- the tests, in this order

def test_what_donors_give_unless_told():
    """Room for all copies, but never more than this machine has: memx-server would refuse that."""
    def given(*words):
        return cli.spec_of(cli.parser().parse_args(["up", "--name", NAME, *words])).donor_mem
    with open("/proc/meminfo", encoding="ascii") as handle:
        total = int(re.search(r"MemTotal:\s+(\d+)", handle.read())[1]) // 1024
    assert given("--guests", "2", "--swap", "100") == min(400, total * 3 // 4)
    assert 64 <= given("--guests", "64", "--swap", "1048576") < total
    assert given("--swap", "100", "--donor-mem", str(2 * total)) == 2 * total, "who asks for it gets it"


def test_up_refuses_what_cannot_be():
    """At once and with a sentence, not after a boot."""
    for words, said in (("--kernel 7.3 --guest-type pvh", "use pv"), ("--replicas 4 --donors 4", "1 to 3"),
                        ("--replicas 3 --donors 2", "there are 2"), ("--donors 0", "at least one donor"), ("--guests 65", "64"),
                        ("--guest-init systemd", "--guest-mem 256"), ("--module /no/such.ko", "no such file"),
                        ("--guest-mem 8", "96 MiB or more"), ("--swap 99999999", "0 to 16777215"), ("--donor-mem 1", "16 MiB or more")):
        done = testbed("up", "--name", NAME, *words.split())
        assert done.returncode == 1 and said in done.stderr.decode(), (words, done)
        assert len(done.stderr.splitlines()) == 1, done.stderr.decode()


def test_up_two_side_by_side():
    ups = [subprocess.Popen([TESTBED, "up", "--name", name, "--swap", "0", "--donors", count],
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
           for name, count in ((NAME, "2"), (OTHER, "0"))]
    for one in ups:
        _, words = one.communicate(timeout=600)
        assert one.returncode == 0, words.decode(errors="replace")
    for name in (NAME, OTHER):
        report = status(name)
        assert report["up"]
        assert [row["state"] for row in report["hosts"]] == ["up"], report
        assert [row["state"] for row in report["guests"]] == ["running"], report


def test_up_refuses_a_name_in_use():
    done = testbed("up", "--name", NAME, "--swap", "0")
    assert done.returncode == 1 and b"up already" in done.stderr, done


def test_is_found_whatever_the_login():
    """A login shell sets XDG_RUNTIME_DIR; sudo, cron and services do not."""
    without = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    for env in (without, dict(without, XDG_RUNTIME_DIR=SCRATCH)):
        assert NAME in must("list", env=env).decode().split(), env.get("XDG_RUNTIME_DIR")


def test_exec_statuses():
    for target in ("host0", "guest0", "donor0"):
        for argv, expected in ((["true"], 0), (["sh", "-c", "exit 7"], 7),
                               (["/no/such/program"], 127), (["no-such-program"], 127),
                               (["/etc"], 126)):
            done = execute(target, *argv)
            assert done.returncode == expected, (target, argv, done)
    for target in ("host0", "guest0", "donor0"):
        done = execute(target, "sh", "-c", "kill -9 $$")
        assert done.returncode == 137, (target, done)


def test_exec_unknown_target():
    done = execute("guest9", "true")
    assert done.returncode == 125 and b"guest0" in done.stderr, done


def test_outputs_are_byte_exact():
    every = bytes(range(256)) * 2048
    for target in ("host0", "guest0"):
        done = execute(target, "sh", "-c", "cat; printf 'on\\0err\\n' >&2", input=every)
        assert done.stdout == every, f"{target}: {len(done.stdout)} of {len(every)} bytes"
        assert done.stderr == b"on\0err\n", done.stderr
        assert done.returncode == 0


def test_read():
    for target in ("host0", "guest0"):
        out = must("read", "--name", NAME, target, "/proc/uptime", "/no/such/file", "/proc/meminfo").decode()
        parts = re.findall(r"^==> (.*) <==\n((?:(?!==> ).*\n)*)", out, re.M)
        assert [name for name, _ in parts] == ["/proc/uptime", "/no/such/file", "/proc/meminfo"], out
        assert float(parts[0][1].split()[0]) > 0 and parts[1][1] == "\n" and "MemTotal:" in parts[2][1], out


def test_arguments_are_passed_as_they_are():
    args = ["a b", "", "'\"$HOME`\\", "two\nlines", "*", "\u00e4"]
    done = execute("guest0", "sh", "-c", 'for a; do printf "%s\\0" "$a"; done', "x", *args)
    assert done.stdout.decode().split("\0")[:-1] == args, done


def test_output_after_the_input_is_refused():
    """A command that reads nothing still gives all it has to say."""
    done = execute("guest0", "sh", "-c", "exec <&-; seq 20000", input=b"x" * (4 << 20))
    expected = "".join(f"{number}\n" for number in range(1, 20001)).encode()
    assert done.returncode == 0 and done.stdout == expected, len(done.stdout)


def test_commands_have_no_privilege_of_the_agent():
    """No real-time class, no NOIO, no exemption from the OOM killer, nothing locked."""
    done = execute("guest0", "sh", "-c", "cat /proc/self/stat /proc/self/oom_score_adj; "
                   "grep VmLck /proc/self/status")
    stat, score, locked = done.stdout.decode().splitlines()
    fields = stat.rpartition(")")[2].split()
    assert int(fields[6]) & 0x80000 == 0, f"PF_MEMALLOC_NOIO: {stat}"
    assert (fields[15], fields[38]) == ("20", "0"), f"scheduling class: {stat}"
    assert (score, locked.split()[1]) == ("0", "0"), (score, locked)


def test_two_at_once():
    with begin("guest0", "cat") as waiting:
        for _ in range(3):
            assert execute("guest0", "echo", "meanwhile").stdout == b"meanwhile\n"
        assert waiting.poll() is None
        out, _ = waiting.communicate(b"late", timeout=SOON)
    assert out == b"late" and waiting.returncode == 0


def test_more_at_once_than_the_agent_has_room_for():
    many = [begin("guest0", "cat") for _ in range(16)]
    for index, one in enumerate(many):
        out, _ = one.communicate(b"%d" % index, timeout=60)
        assert out == b"%d" % index and one.returncode == 0


def test_a_command_ends_with_its_client():
    with begin("guest0", "sh", "-c", "echo $$; exec sleep 100000") as orphan:
        pid = orphan.stdout.readline().strip().decode()
        assert execute("guest0", "kill", "-0", pid).returncode == 0
        orphan.kill()
    until("the command has ended", lambda: execute("guest0", "kill", "-0", pid).returncode)


def test_push_and_pull():
    for target in ("host0", "guest0", "donor0"):
        there, back = "/root/some dir/data" if target != "donor0" else "data", "back"
        source = os.path.join(SCRATCH, "source")
        content = os.urandom(5 << 20)
        with open(source, "wb") as out:
            out.write(content)
        os.chmod(source, 0o641)
        must("push", "--name", NAME, target, source, there)
        if target != "donor0":
            told = execute(target, "sha256sum", there).stdout.split()[0].decode()
            assert told == hashlib.sha256(content).hexdigest(), target
            assert execute(target, "stat", "-c", "%a", there).stdout == b"641\n"
        must("pull", "--name", NAME, target, there, os.path.join(SCRATCH, back))
        with open(os.path.join(SCRATCH, back), "rb") as handle:
            assert handle.read() == content, target
        assert os.stat(os.path.join(SCRATCH, back)).st_mode & 0o777 == 0o641
        os.unlink(os.path.join(SCRATCH, back))


def test_pull_of_what_is_not_there():
    local = os.path.join(SCRATCH, "absent")
    done = testbed("pull", "--name", NAME, "guest0", "/absent", local)
    assert done.returncode == 1 and b"No such file" in done.stderr, done
    assert not os.path.exists(local)


def test_a_static_program_runs_in_the_guest():
    source = os.path.join(SCRATCH, "program.c")
    program = os.path.join(SCRATCH, "program")
    with open(source, "w", encoding="ascii") as out:
        out.write("#include <stdio.h>\nint main(int c, char **v)\n"
                  '{ printf("%d %s\\n", c, v[1]); return 42; }\n')
    subprocess.run(["gcc", "-static", "-o", program, source], check=True)
    must("push", "--name", NAME, "guest0", program, "/root/")
    done = execute("guest0", "/root/program", "argument")
    assert (done.returncode, done.stdout) == (42, b"2 argument\n"), done


def test_logs():
    assert b"Xen version" in must("log", "--name", NAME, "host0")
    assert b"testbed: up" in must("log", "--name", NAME, "guest0")
    assert b"started" in must("log", "--name", NAME, "donor0")


def test_memxctl_finds_the_donor():
    for words in (("status",), ("-s", "server.sock", "status")):
        done = execute("donor1", "memxctl", *words)
        assert done.returncode == 0 and b"role               donor" in done.stdout, (words, done)
    assert execute("donor1", "memxctl", "limit").returncode == 0


def test_donor_faults():
    def donor(action):
        must("donor", "--name", NAME, "1", action)
        return status()["donors"][1]["state"]
    assert [donor(action) for action in ("stop", "cont", "kill", "start")] == \
        ["stopped", "up", "down", "up"]
    done = testbed("donor", "--name", NAME, "1", "start")
    assert done.returncode == 1 and b"runs already" in done.stderr, done


def outside_address():
    """What this machine is called in Dom0: on the donors' own wire where there is one."""
    wire = execute("host0", "test", "-e", "/sys/class/net/eth1").returncode == 0
    return "10.0.3.2" if wire else "10.0.2.2"


def reaches(address):
    host, port = address.split(":")
    assert host == "127.0.0.1"
    return execute("host0", "sh", "-c",
                   f"nc -w 3 {outside_address()} {port} </dev/null").returncode == 0


def test_cut_and_heal_by_the_verb():
    one, two = (row["address"] for row in status()["donors"])
    assert reaches(one) and reaches(two)
    must("donor", "--name", NAME, "0", "cut")
    assert not reaches(one) and reaches(two)
    must("donor", "--name", NAME, "0", "heal")
    assert reaches(one)


def received(stream, seconds):
    """Whether a byte, or an end, arrives within that time."""
    os.set_blocking(stream.fileno(), False)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        data = stream.read(100)
        if data is not None:
            return data
        time.sleep(0.05)
    return None


def cut_and_heal(listener, port):
    """One connection, cut for a while: False where it was given up because that while was long."""
    with begin("host0", "nc", outside_address(), port) as inside:
        try:
            outside, _ = listener.accept()
            outside.settimeout(SOON)
            inside.stdin.write(b"one")
            inside.stdin.flush()
            assert outside.recv(100) == b"one"
            outside.sendall(b"two")
            assert received(inside.stdout, SOON) == b"two"
            began = time.monotonic()
            assert execute("host0", "/sbin/testbed-cut", "cut", port).returncode == 0
            inside.stdin.write(b"three")
            inside.stdin.flush()
            outside.sendall(b"four")
            assert received(inside.stdout, CUT_SILENCE) is None
            outside.settimeout(0.1)
            try:
                assert False, f"arrived: {outside.recv(100)}"
            except TimeoutError:
                pass
            outside.settimeout(60)
            assert execute("host0", "/sbin/testbed-cut", "heal", port).returncode == 0
            cut = time.monotonic() - began
            try:
                assert outside.recv(100) == b"three"
            except ConnectionResetError:
                # The way out gives up a connection of which the machine inside acknowledges nothing for some seconds.
                assert cut > CUT_PATIENCE, f"reset after {cut:.1f} s"
                return False
            assert received(inside.stdout, 60) == b"four"
            outside.close()
            inside.stdin.close()
            inside.wait(SOON)
            return True
        finally:
            inside.kill()


def test_a_cut_is_silent_on_an_open_connection():
    """Nothing arrives on either side, no reset either; healed, all arrives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SOON)
        assert any(cut_and_heal(listener, str(listener.getsockname()[1])) for _ in range(8)), "always too late to heal"


def test_side_by_side_means_apart():
    execute("guest0", "touch", "/here")
    assert execute("guest0", "test", "-e", "/here").returncode == 0
    assert execute("guest0", "test", "-e", "/here", name=OTHER).returncode == 1


def test_a_killed_supervisor_leaves_nothing():
    pids = processes(OTHER)
    os.kill(pids[0][0], signal.SIGKILL)
    until("all of it has ended", lambda: not any(map(state.alive, pids)))
    assert status()["up"], "the other testbed is unharmed"
    must("down", "--name", OTHER)
    assert not os.path.exists(state.directory(OTHER))


def test_down_leaves_nothing():
    pids = processes(NAME)
    assert len(pids) == 4 and all(map(state.alive, pids)), pids
    must("down", "--name", NAME)
    assert not any(map(state.alive, pids))
    assert not os.path.exists(state.directory(NAME))
    done = execute("guest0", "true")
    assert done.returncode == 125 and b"memx-testbed up" in done.stderr, done


def test_two_hosts():
    """Each has a Dom0 and guests of its own; guests are dealt out."""
    try:
        must("up", "--name", NAME, "--hosts", "2", "--guests", "2", "--swap", "0", timeout=700)
        report = status()
        assert [row["state"] for row in report["hosts"]] == ["up", "up"], report
        assert [row["state"] for row in report["guests"]] == ["running", "running"], report
        pids = processes(NAME)
        for index in "01":
            domains = must("exec", "--name", NAME, f"host{index}", "--", "xl", "list").decode().split("\n")[1:-1]
            assert [row.split()[0] for row in domains] == ["Domain-0", f"guest{index}"], domains
            assert execute(f"guest{index}", "hostname").stdout.decode() == f"guest{index}\n"
        assert len(pids) == 3, pids
    finally:
        must("down", "--name", NAME)
    assert not any(map(state.alive, pids))


def ends_with_all_that_it_began(argv, number, expected, name=None):
    """Runs argv, sends it a signal as soon as a machine runs, and looks for what is left of its testbed."""
    def heed():
        # Whoever started this test may have it ignored, as shells do with SIGINT for what they run in the background.
        signal.signal(number, signal.SIG_DFL)
    with subprocess.Popen(argv, preexec_fn=heed, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as one:
        name = name or f"demo-{one.pid}"
        try:
            until("the machine runs", lambda: one.poll() is not None or (state.load(name) or {}).get("hosts"), 120)
            assert one.poll() is None, one.communicate()[1].decode(errors="replace")
            pids = processes(name)
            one.send_signal(number)
            words = one.communicate(timeout=60)[1].decode(errors="replace")
            assert one.returncode == expected, (one.returncode, words)
            assert not any(map(state.alive, pids)), f"{signal.Signals(number).name} leaves processes"
            assert not os.path.exists(state.directory(name))
        finally:
            one.kill()
            testbed("down", "--name", name)


def test_an_interrupted_up_leaves_nothing():
    for number in (signal.SIGINT, signal.SIGHUP):
        ends_with_all_that_it_began([TESTBED, "up", "--name", NAME, "--swap", "0", "--donors", "1"], number, 130, NAME)


def test_an_interrupted_demo_leaves_nothing():
    """timeout(1) sends SIGTERM; whoever closes the terminal, SIGHUP."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        ends_with_all_that_it_began([DEMO], number, 128 + number)


def test_a_failed_up_says_why_and_leaves_nothing():
    done = testbed("up", "--name", NAME, "--swap", "0", "--timeout", "2")
    assert done.returncode == 1, done
    assert b"host0 did not come up" in done.stderr and b"logs:" in done.stderr, done.stderr
    assert not os.path.exists(state.directory(NAME))


def main():
    tests = [(name[5:].replace("_", " "), test) for name, test in globals().items()
             if name.startswith("test_")]
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    try:
        for number, (name, test) in enumerate(tests, 1):
            try:
                test()
                print(f"ok {number} - {name}", flush=True)
            except Exception:
                failed += 1
                traceback.print_exc()
                print(f"not ok {number} - {name}", flush=True)
    finally:
        for name in (NAME, OTHER):
            testbed("down", "--name", name)
        subprocess.run(["rm", "-rf", SCRATCH], check=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
