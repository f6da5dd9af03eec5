"""`.ci/within.py`, with which CI limits what it runs: no process is left in the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.embedded import alive

SCRIPT = Path(__file__).parents[3] / ".ci" / "within.py"
# Leaves a process in a session of its own whose parent has ended, as PostgreSQL does, and one that ignores SIGTERM.
# Both write their process ids once they are there.
LEAVES = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(600)
    os._exit(0)
os.wait()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)
{end}
"""


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


def started(limit_s: int, end: str, errors: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """The script, and the processes that its command has left behind."""
    command = [sys.executable, str(SCRIPT), str(limit_s), sys.executable, "-c", LEAVES.format(end=end)]
    with errors.open("w") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
    assert process.stdout is not None
    return process, [int(process.stdout.readline()) for _ in range(2)]


def code_of(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=18)
    return process.returncode


def none_is_left(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def test_a_command_that_ends_by_itself_leaves_no_process_and_its_exit_code(errors: Path) -> None:
    process, pids = started(600, "sys.exit(7)", errors)

    assert code_of(process) == 7
    assert none_is_left(pids)
    assert errors.read_text() == ""


def test_a_command_over_its_limit_is_ended_with_all_that_it_started(errors: Path) -> None:
    process, pids = started(5, "time.sleep(600)", errors)

    assert code_of(process) == 124
    assert none_is_left(pids)
    assert "ended by its limit of 5 seconds" in errors.read_text()


def test_a_signal_ends_the_command_with_all_that_it_started(errors: Path) -> None:
    process, pids = started(600, "time.sleep(600)", errors)
    process.send_signal(signal.SIGTERM)

    assert code_of(process) == 128 + signal.SIGTERM
    assert none_is_left(pids)
