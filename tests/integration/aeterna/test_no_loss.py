"""Every request is answered, however often the process is replaced. Each promise has a control run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from aeterna.testing.load import Load, answered, datagrams, fresh, kept_alive, queue
from aeterna.testing.plain import Plain
from aeterna.testing.supervised import Supervised

TAKEOVERS = 8


def config(sharing: str = "inherited", **more: Any) -> dict[str, Any]:
    return {
        "listeners": {"main": {"address": "127.0.0.1:0", "sharing": sharing}, "udp": "udp://127.0.0.1:0"},
        "orchestration": {
            "canary": {"soak_time": "30ms", "fraction": "30%"},
            "startup": {"readiness": "notify"},
            "drain": {"timeout": "5s"},
            **more,
        },
    }


@pytest.mark.parametrize("sharing", ["inherited", "steered"])
def test_no_new_connection_fails(tmp_path: Path, sharing: str) -> None:
    with Supervised(tmp_path, config(sharing)) as it, Load(fresh, it.address("main")) as load:
        for _ in range(TAKEOVERS):
            assert it.reload()["ok"]
        load.until(load.done + 50)
        # No connection was left in the queue of a process that had exited; otherwise one more generation would have
        # started.
        assert it.status()["serving"]["generation"] == TAKEOVERS + 1

    assert load.failed == {}
    assert len(load.generations) >= TAKEOVERS


def test_control_a_plain_restart_fails() -> None:
    with Plain("restart") as it, Load(fresh, it.address) as load:
        for _ in range(3):
            it.reload()

    assert load.failed


@pytest.mark.parametrize("sharing", ["inherited", "steered"])
def test_all_queued_connections_are_answered(tmp_path: Path, sharing: str) -> None:
    slow = {**config(sharing), "service": {"env": ["SAMPLE_SLOW=0.001@1"]}}
    with Supervised(tmp_path, slow) as it:
        serving = it.status()["serving"]["pid"]
        os.kill(serving, signal.SIGSTOP)
        waiting = queue(it.address("main"), 500)
        assert it.status()["listeners"][0]["queued"] == 500
        os.kill(serving, signal.SIGCONT)
        it.reload()
        it.until(lambda s: s["state"] == "running")

        assert answered(waiting) == 500
        assert it.status()["serving"]["generation"] == 2


def test_connections_queued_at_a_process_that_never_accepts_are_answered(tmp_path: Path) -> None:
    """It is killed at its drain deadline, and another process serves the connections in its half of a steered pair."""
    deaf = config("steered", drain={"timeout": "500ms"})
    deaf["service"] = {"env": ["SAMPLE_DEAF=30@1"]}
    with Supervised(tmp_path, deaf) as it:
        waiting = queue(it.address("main"), 100)
        it.reload()

        assert answered(waiting) == 100
        it.until(lambda s: s["state"] == "running" and s["serving"]["generation"] == 3)


def test_control_two_listeners_without_steering_lose_connections() -> None:
    with Plain("overlap") as it:
        os.kill(it.process.pid, signal.SIGSTOP)
        waiting = queue(it.address, 300)
        old = it.process
        os.kill(old.pid, signal.SIGTERM)
        os.kill(old.pid, signal.SIGCONT)
        it.reload()

        assert answered(waiting) < 300


def test_no_datagram_is_lost(tmp_path: Path) -> None:
    with Supervised(tmp_path, config()) as it, Load(datagrams, it.address("udp"), threads=2) as load:
        for _ in range(TAKEOVERS):
            assert it.reload()["ok"]

    assert load.failed == {}
    assert load.done > 1000


def test_control_a_plain_restart_loses_datagrams() -> None:
    with Plain("restart") as it, Load(datagrams, it.address, threads=2) as load:
        for _ in range(3):
            it.reload()

    assert load.failed


def test_no_request_on_a_kept_alive_connection_fails(tmp_path: Path) -> None:
    with Supervised(tmp_path, config()) as it, Load(kept_alive, it.address("main")) as load:
        for _ in range(TAKEOVERS):
            assert it.reload()["ok"]

    assert load.failed == {}


def test_control_a_plain_restart_fails_requests() -> None:
    with Plain("restart") as it, Load(kept_alive, it.address) as load:
        for _ in range(3):
            it.reload()

    assert load.failed
