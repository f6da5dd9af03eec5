"""Runs a command for at most so many seconds: `within.py SECONDS COMMAND ARGUMENT…`. Exits as the command does.

In the end no process that the command started is left, neither after its limit (exit code 124), nor when this process
gets SIGTERM or SIGINT, nor when the command has ended by itself. `timeout` ends a process group, and tests start
processes in sessions of their own: services, supervisors, PostgreSQL. So this process is the subreaper of all of
them: a process whose parent has ended becomes its child, and can be found.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.1
# How long the command has after SIGTERM to say what it was doing, and how long killed processes take to go.
_GRACE_S, _GONE_S = 15.0, 10.0
OVER = 124

Exits = dict[int, int]


def run(command: list[str], limit_s: float) -> int:
    """The exit code."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: signals.append(received))
    # A session of its own, so that its process group holds nothing else.
    pid = os.posix_spawnp(command[0], command, os.environ, setsid=True)
    exits: Exits = {}
    deadline = time.monotonic() + limit_s
    while pid not in exits and not signals and time.monotonic() < deadline:
        _reap(exits)
        time.sleep(_LOOK_S)
    if pid in exits:
        code = exits[pid]
    elif signals:
        code = 128 + signals[0]
    else:
        code = OVER
        sys.stderr.write(f"ended by its limit of {limit_s:.0f} seconds: {' '.join(command)}\n")
    if pid not in exits:
        os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while pid not in exits and time.monotonic() < deadline:
            _reap(exits)
            time.sleep(_LOOK_S)
    _kill_descendants(exits)
    return code


def _kill_descendants(exits: Exits) -> None:
    deadline = time.monotonic() + _GONE_S
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _reap(exits)
        time.sleep(_LOOK_S / 10)


def _reap(exits: Exits) -> None:
    """Collect the exit codes of all children that have ended, also of those that others left to this process."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        exits[pid] = code if code >= 0 else 128 - code


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, nearest first."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The name before the state may hold spaces and brackets.
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:], float(sys.argv[1])))
