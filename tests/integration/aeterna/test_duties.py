"""The duties of PID 1, also when the supervisor runs as another process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aeterna.supervisor.control.status import resident
from aeterna.testing import namespaces
from aeterna.testing.supervised import Supervised, descendants

ORPHANS = """
import os, sys, time
for _ in range({count}):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            time.sleep(0.01)
        os._exit(0)
    os.wait()
print("made", flush=True)
time.sleep(60)
"""


TOO_LATE = """
import os, signal, time
from aeterna.supervisor.processes import child

parent, forget = os.getpid(), child._forget_signals
def lose_the_parent():
    os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        time.sleep(0.001)
    forget()
child._forget_signals = lose_the_parent
program = child.ChildProgram(["echo", "nothing supervises this process"], dict(os.environ))
child.ChildProcesses().spawn(program, lambda code: None)
time.sleep(60)
"""


def run(command: list[str], **more: Any) -> dict[str, Any]:
    return {
        "service": {"command": command},
        "listeners": [],
        "orchestration": {"startup": {"warmup_delay": "10ms"}},
        **more,
    }


def zombies(pid: int) -> int:
    count = 0
    for child in descendants(pid):
        try:
            count += Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
    return count


def test_every_orphan_is_reaped(tmp_path: Path) -> None:
    count = 300
    with Supervised(tmp_path, run([sys.executable, "-I", "-S", "-c", ORPHANS.format(count=count)])) as it:
        it.until(lambda s: s["orphans_reaped"] >= count)

        assert zombies(it.pid) == 0
        assert f"aeterna_zombies_reaped_total {count}" in it.ask("metrics")["text"]


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_services(tmp_path: Path, code: int) -> None:
    it = Supervised(tmp_path, run(["sh", "-c", f"exit {code}"], restart="never"))
    it.launch()

    assert it.wait() == code


def test_a_death_by_signal_is_128_and_its_number(tmp_path: Path) -> None:
    it = Supervised(tmp_path, run(["sh", "-c", "kill -KILL $$"], restart="never"))
    it.launch()

    assert it.wait() == 128 + signal.SIGKILL


def test_a_command_that_is_not_there_is_127(tmp_path: Path) -> None:
    it = Supervised(tmp_path, run(["/no/such/program"], restart="never"))
    it.launch()

    assert it.wait() == 127


def heard(notes: Path, name: str, _status: object) -> bool:
    return notes.exists() and name in notes.read_text()


@contextmanager
def trapping(folder: Path, traps: str, **more: Any) -> Iterator[Supervised]:
    """A service of shell code that has set `traps`. Before that, a signal does what it does by default."""
    set_ = folder / "traps-are-set"
    script = f"{traps}; : > {set_}; while :; do sleep 0.02; done"
    with Supervised(folder, run(["sh", "-c", script], **more)) as it:
        it.until(lambda _: set_.exists())
        yield it


def test_signals_go_to_the_service(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    traps = "; ".join(f"trap 'echo {name} >> {notes}' {name}" for name in ("USR1", "USR2", "WINCH"))
    with trapping(tmp_path, traps) as it:
        for name in ("USR1", "USR2", "WINCH"):
            it.signal(getattr(signal, f"SIG{name}"))
            it.until(partial(heard, notes, name))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_the_stop_signal_is_passed_on_unchanged(tmp_path: Path, name: str) -> None:
    with trapping(tmp_path, f"trap 'exit 42' {name.removeprefix('SIG')}") as it:
        it.signal(getattr(signal, name))

        assert it.wait() == 42


def test_a_service_that_ignores_a_stop_is_killed_at_its_deadline(tmp_path: Path) -> None:
    soon = {"startup": {"warmup_delay": "10ms"}, "drain": {"timeout": "200ms"}}
    with trapping(tmp_path, "trap '' TERM", orchestration=soon) as it:
        assert it.stop() == 128 + signal.SIGKILL


def test_a_second_stop_does_not_wait_for_the_drain(tmp_path: Path) -> None:
    with trapping(tmp_path, "trap '' TERM") as it:
        it.signal(signal.SIGTERM)
        it.until(lambda s: s["state"] == "stopping")
        it.signal(signal.SIGTERM)

        assert it.wait(5) == 128 + signal.SIGKILL


def test_a_crash_is_restarted_with_back_off_and_given_up_in_the_end(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    it = Supervised(
        tmp_path,
        run(["sh", "-c", f"echo x >> {notes}; exit 3"], restart={"policy": "always", "first": "20ms", "attempts": 3}),
    )
    it.launch()

    assert it.wait() == 3
    assert notes.read_text() == "x\n" * 4


def test_an_upgrade_repairs_a_service_that_cannot_start(tmp_path: Path) -> None:
    it = Supervised(tmp_path, run(["sh", "-c", "exit 3"], restart={"policy": "always", "first": "60s"}))
    it.launch()
    try:
        it.until(lambda s: s["state"] == "backing-off")
        it.write(run(["sleep", "60"]))

        assert it.reload()["result"] == "done"
    finally:
        it.close()


def test_workers_do_not_outlive_their_main_process(tmp_path: Path) -> None:
    notes = tmp_path / "pid"
    with Supervised(tmp_path, run(["sh", "-c", f"sleep 600 & echo $! > {notes}; sleep 600"])) as it:
        it.until(lambda _: notes.exists() and notes.read_text().strip() != "")
        os.kill(it.status()["serving"]["pid"], signal.SIGKILL)
        it.until(lambda s: s["serving"] is not None and s["serving"]["generation"] == 2)
        worker = Path(f"/proc/{notes.read_text().strip()}")

        assert not worker.exists() or it.status()["serving"]["pid"]


def test_the_process_is_named_aeterna_and_uses_little_memory(tmp_path: Path) -> None:
    with Supervised(tmp_path, {"observability": {"metrics_port": "127.0.0.1:0"}}) as it:
        for _ in range(5):
            it.reload()
        assert Path(f"/proc/{it.pid}/comm").read_text() == "aeterna\n"
        pages = int(Path(f"/proc/{it.pid}/statm").read_text().split()[1])

        assert pages * os.sysconf("SC_PAGE_SIZE") < 30 << 20
        assert resident() > 0


def weight(pid: int) -> tuple[int, int]:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE")


def test_upgrades_in_a_row_leave_nothing_behind(tmp_path: Path) -> None:
    with Supervised(tmp_path, {"orchestration": {"startup": {"readiness": "notify"}}}) as it:
        for _ in range(10):
            it.reload()
        it.until(lambda s: s["state"] == "running")
        fds, memory = weight(it.pid)
        for _ in range(25):
            assert it.reload()["ok"]
            assert it.status()["state"] == "running"
        more_fds, more_memory = weight(it.pid)

        # The connection of this test to the control socket may be closed on one side only.
        assert abs(more_fds - fds) <= 1
        assert more_memory - memory < 1 << 20
        assert zombies(it.pid) == 0


def test_when_the_supervisor_is_killed_no_process_is_left(tmp_path: Path) -> None:
    """Without being PID 1, the supervisor cannot rely on the end of the namespace: its children get a signal."""
    with Supervised(tmp_path, {}) as it:
        address = it.address()
        child = Path(f"/proc/{it.status()['serving']['pid']}")
        it.signal(signal.SIGKILL)
        it.wait()
        deadline = time.monotonic() + 10
        while child.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not child.exists()
        # … and the next supervisor has the port again.
        it.write({"listeners": [f"127.0.0.1:{address[1]}"]})
        it.start()
        assert it.address() == address


def test_a_second_supervisor_of_one_service_is_refused(tmp_path: Path) -> None:
    with Supervised(tmp_path, {}) as it:
        second = subprocess.run(
            [sys.executable, "-m", "aeterna", "start", "-c", str(it.file)], capture_output=True, text=True, timeout=10
        )

        assert second.returncode == 78
        assert "cannot start" in second.stderr
        assert it.status()["state"] == "running"


needs_namespaces = pytest.mark.skipif(
    shutil.which("setpriv") is None or not namespaces.can_make("--pid", "--mount"),
    reason="no namespaces of its own can be made here",
)
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
READ_ONLY = 'mount --bind / / && mount -o remount,ro,bind / && cd / && exec "$0" "$@"'


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""  # the process of a check that has been answered


def python_for_everybody() -> str | None:
    """An interpreter outside of home directories."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        # Through a shell: setpriv itself may execute files that uid 65534 may not.
        version = "import sys; sys.exit(sys.version_info < (3, 11))"
        trial = [*NOBODY, "sh", "-c", 'exec "$0" "$@"', candidate, "-c", version]
        if Path(candidate).exists() and subprocess.run(trial, capture_output=True).returncode == 0:
            return candidate
    return None


@needs_namespaces
def test_pid_1_works_without_rights_on_a_read_only_root(tmp_path: Path) -> None:
    """As in a container: pid 1, uid 65534, no capabilities, no new privileges, nothing writable."""
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python here that uid 65534 may run")
    for directory in [tmp_path, *list(tmp_path.parents)[:3]]:
        directory.chmod(directory.stat().st_mode | 0o055)
    import aeterna.supervisor
    import yaml

    paths = [str(Path(module.__file__ or "").parents[up]) for module, up in ((aeterna.supervisor, 2), (yaml, 1))]
    prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "sh", "-c", READ_ONLY, *NOBODY]
    wanted = {"orchestration": {"startup": {"readiness": "notify"}}}
    it = Supervised(tmp_path, wanted, prefix=prefix, python=python, env={"PYTHONPATH": ":".join(paths)}, uid=65534)
    it.launch()
    try:
        it.until(lambda s: s["state"] == "running")
        # unshare → sh → … → pid 1 of the namespace; inside it has that number.
        assert it.status()["supervisor_pid"] == 1
        outcome = it.reload()
        assert (outcome["result"], outcome["generation"]) == ("done", 2)
        assert it.ask("reexec")["ok"]
        it.until(lambda s: s["state"] == "running" and s["supervisor_pid"] == 1)
        assert it.reload()["generation"] == 3
        inside = next(pid for pid in descendants(it.pid) if name_of(pid) == "aeterna")
        status = Path(f"/proc/{inside}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "\nUid:\t65534\t65534" in status
        os.kill(inside, signal.SIGHUP)
        it.until(lambda s: s["state"] == "running" and s["serving"]["generation"] == 4)
        os.kill(inside, signal.SIGTERM)
        assert it.wait() == 0
    finally:
        it.close()


def test_a_child_whose_supervisor_dies_during_the_fork_ends() -> None:
    """The kernel signals a parent's death only after the child has asked for it, so there is a gap."""
    ended = subprocess.run([sys.executable, "-c", TOO_LATE], stdout=subprocess.PIPE, timeout=10)  # until both have gone

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b""
