# SPDX-License-Identifier: GPL-2.0-only
"""Processes that end with the supervisor, whatever ends it."""
import ctypes
import os
import signal
import subprocess

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def spawn(argv, log, cwd=None, env=None, pass_fds=()):
    """A child with its output appended to log, killed when this thread ends.

    In a session of its own, so that a Ctrl-C at the terminal does not reach it.
    """
    with open(log, "ab") as out:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                cwd=cwd, env=env, start_new_session=True, pass_fds=pass_fds,
                                preexec_fn=_die_with_parent)


def end(processes, grace=5.0):
    """SIGTERM, then SIGKILL; returns when all have ended."""
    running = [process for process in processes if process and process.poll() is None]
    for process in running:
        # One that was stopped must run to hear the SIGTERM.
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
    for process in running:
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pidfd_wait(pid, timeout):
    """Wait for a process that is not a child to end; False where it did not."""
    import select
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout)[0])
    finally:
        os.close(fd)
