"""Kill any process at any point of an upgrade: no connection is refused, one process owns, and the count is right."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aeterna.testing.supervised import Supervised

Kill = Callable[[Supervised], set[int]]


def when(state: str, *roles: str) -> Kill:
    """Kill the processes with these roles in this state."""

    def kill(it: Supervised) -> set[int]:
        status = it.until(lambda s: s["state"] == state)
        if state == "preparing":  # the state goes no further: the new process has everything and sends nothing more
            status = it.until(lambda s: s["successor"]["status"] == "stalled")
        pids = {status[role]["pid"] for role in roles}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return pids

    return kill


def stuck_before_it_tells(it: Supervised) -> set[int]:
    """Kill the new process just before it sends its first delta: no client has that answer yet."""
    status = it.until(lambda s: s["state"] == "soaking" and s["successor"]["status"] == "stalled")
    os.kill(status["successor"]["pid"], signal.SIGKILL)
    return {status["successor"]["pid"]}


@dataclass(frozen=True)
class Point:
    """One crash. `serves`: the generations that may own afterwards; `kept`: is the count as if no crash had
    happened?"""

    serves: set[int]
    kept: bool = True
    crash: str = ""
    stall: str = ""
    stall_s: float = 1.0
    kill: Kill | None = None
    more: dict[str, Any] = field(default_factory=dict)


def new(step: str) -> Point:
    return Point(serves={1}, crash=f"{step}@2")


def old(step: str, kept: bool) -> Point:
    return Point(serves={2}, crash=f"{step}@1", kept=kept)


SLOW_HOOK = {"pre_flight": [{"command": "sleep 0.3"}]}
POINTS = {
    # The new process dies: the old one goes on serving and has lost nothing.
    **{f"new {step}": new(step) for step in (
        "heard OFFER", "heard PART", "heard END", "before PREPARED", "after PREPARED", "heard COMMIT",
        "before INSTALLED", "after INSTALLED", "heard RELEASE", "before READY",
    )},
    "new after READY": new("after READY"),
    "new after DELTA": new("after DELTA"),
    "new before it tells": Point({1}, kill=stuck_before_it_tells, stall="before DELTA@2", stall_s=30),
    "new in its soak": Point({1}, kill=when("soaking", "successor")),
    # The old process dies: an ordinary crash before it has given its state; after that nothing is lost.
    "old in the pre-flight": Point({2, 3}, kept=False, kill=when("preflight", "serving"), more=SLOW_HOOK),
    "old heard PREPARE": old("heard PREPARE", kept=False),
    "old before OFFER": old("before OFFER", kept=False),
    "old after OFFER": old("after OFFER", kept=False),
    "old after PART": old("after PART", kept=False),
    "old before END": old("before END", kept=False),
    "old after END": old("after END", kept=True),
    "old while the new one prepares": Point({2}, kill=when("preparing", "serving"), stall="before PREPARED@2"),
    "old while the new one is stuck": Point(
        {3}, kept=False, kill=when("preparing", "serving"), stall="before PREPARED@2", stall_s=30
    ),
    "old heard DONE": old("heard DONE", kept=True),
    "old in the soak": Point({2}, kill=when("soaking", "serving")),
    # Both die: the service is restarted, as after any crash.
    "both while preparing": Point(
        {3}, kept=False, kill=when("preparing", "serving", "successor"), stall="heard OFFER@2"
    ),
    "both in the soak": Point({2, 3}, kept=False, kill=when("soaking", "serving", "successor")),
}  # fmt: skip
SHORT = ("new before it tells", "old while the new one is stuck", "new heard RELEASE", "old after END")


class CountingClient:
    """Sends one request after the other and remembers the answers."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.answers: list[tuple[int, int, int]] = []  # generation, count, failures before it
        self.failures: list[str] = []
        self._address = address
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> CountingClient:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(15)

    def _run(self) -> None:
        unsure = 0
        while not self._ending.is_set():
            try:
                with socket.create_connection(self._address, 10) as connection:
                    connection.sendall(b"?\n")
                    generation, count = connection.recv(100).split()
                self.answers.append((int(generation), int(count), unsure))
                unsure = 0
            except (OSError, ValueError) as problem:
                unsure += 1
                self.failures.append(repr(problem))
            time.sleep(0.001)

    def check(self, kept: bool) -> None:
        """No count appears twice; a count is missing only if its answer was lost."""
        assert not [failure for failure in self.failures if "refused" in failure]
        assert len(self.failures) <= 2
        resets = 0
        for (_, before, _), (_, after, unsure) in zip(self.answers, self.answers[1:], strict=False):
            if after <= before:
                resets += 1
            else:
                assert after - before <= 1 + unsure
        assert resets <= (0 if kept else 2)


def at_rest(killed: set[int], status: dict[str, Any]) -> bool:
    if status["state"] != "running" or not status["last_upgrade"] or not status["serving"]:
        return False
    return not status["successor"] and not status["retiring"] and status["serving"]["pid"] not in killed


def strike(directory: Path, point: Point) -> None:
    orchestration = {
        "startup": {"timeout": "3s"},
        "canary": {"soak_time": "250ms"},
        "drain": {"timeout": "2s"},
        "state_handoff": {"enabled": True, "socket_path": str(directory / "srp.sock"), "timeout": "2s"},
        **point.more,
    }
    config = {
        "service": {
            "command": [sys.executable, "-m", "aeterna.testing.counting_sample"],
            "env": {
                "COUNTING_CRASH": point.crash,
                "COUNTING_STALL": point.stall,
                "COUNTING_STALL_S": str(point.stall_s),
            },
        },
        "orchestration": orchestration,
        "restart": {"first": "20ms"},
    }
    with Supervised(directory, config) as it, CountingClient(it.address()) as client:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] != "running" or s["last_upgrade"] is not None)
        killed = point.kill(it) if point.kill else set()
        status = it.until(partial(at_rest, killed))
        told = len(client.answers)
        it.until(lambda _: len(client.answers) > told + 3)
        serving = status["serving"]["generation"]
        answered_by = {generation for generation, _, _ in client.answers[told + 2 :]}

        assert serving in point.serves, it.log.read_text()
        assert answered_by == {serving}
    client.check(point.kept)


# Ten were run for the figures in docs/guarantees/hot-relay.md.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))


@pytest.mark.parametrize("name", SHORT)
def test_one_process_owns_after_a_crash_of(name: str, tmp_path: Path) -> None:
    strike(tmp_path, POINTS[name])


@pytest.mark.chaos
@pytest.mark.parametrize("name", POINTS)
def test_one_process_owns_after_each_crash_again_and_again(name: str, tmp_path: Path) -> None:
    for i in range(ROUNDS):
        (tmp_path / str(i)).mkdir()
        strike(tmp_path / str(i), POINTS[name])


@pytest.mark.parametrize("state", ["preparing"])
def test_when_the_supervisor_dies_all_end_and_the_next_one_serves(state: str, tmp_path: Path) -> None:
    lose_the_supervisor(state, tmp_path)


@pytest.mark.chaos
@pytest.mark.parametrize("state", ["preflight", "spawning", "preparing", "soaking", "draining"])
def test_the_next_supervisor_serves_after_kills_in_every_phase(state: str, tmp_path: Path) -> None:
    for i in range(ROUNDS):
        (tmp_path / str(i)).mkdir()
        lose_the_supervisor(state, tmp_path / str(i))


def lose_the_supervisor(state: str, directory: Path) -> None:
    config = {
        "service": {
            "command": [sys.executable, "-m", "aeterna.testing.counting_sample"],
            "env": {
                "COUNTING_STALL": "before PREPARED@2" if state == "preparing" else "",
                "COUNTING_LOAD_S": "0.3" if state == "spawning" else "0",
                "COUNTING_LINGER_S": "1" if state == "draining" else "0",
            },
        },
        "orchestration": {
            **SLOW_HOOK,
            "canary": {"soak_time": "10ms" if state == "draining" else "5s"},
            "state_handoff": {"enabled": True, "socket_path": str(directory / "srp.sock")},
        },
    }
    with Supervised(directory, config) as it:
        port = it.address()[1]
        it.ask("reload", wait=False)
        status = it.until(lambda s: s["state"] == state)
        pids = [status[role]["pid"] for role in ("serving", "successor", "retiring") if status[role]]
        it.signal(signal.SIGKILL)
        it.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        it.write({**config, "listeners": [f"127.0.0.1:{port}"]})
        it.start()
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"?\n")
            assert connection.recv(100) == b"1 1\n"
