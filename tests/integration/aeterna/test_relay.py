"""The supervisor and the broker together: state in memory survives an upgrade."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from aeterna.testing.supervised import Supervised


def config(directory: Path, *, env: dict[str, str] | None = None, **orchestration: Any) -> dict[str, Any]:
    handoff = {"enabled": True, "socket_path": str(directory / "srp.sock"), "timeout": "2s"}
    return {
        "service": {"command": [sys.executable, "-m", "aeterna.testing.counting_sample"], "env": env or {}},
        "orchestration": {
            "startup": {"timeout": "4s", **orchestration.pop("startup", {})},
            "canary": {"soak_time": "100ms", **orchestration.pop("canary", {})},
            "state_handoff": {**handoff, **orchestration.pop("state_handoff", {})},
            **orchestration,
        },
    }


def ask(it: Supervised) -> tuple[int, int]:
    with socket.create_connection(it.address(), 10.0) as connection:
        connection.sendall(b"?\n")
        generation, count = connection.recv(100).split()
    return int(generation), int(count)


def test_the_count_goes_on_over_upgrades_and_re_execs(tmp_path: Path) -> None:
    with Supervised(tmp_path, config(tmp_path)) as it:
        assert ask(it) == (1, 1)
        assert it.reload()["ok"]
        assert ask(it) == (2, 2)
        assert it.ask("reexec")["ok"]
        it.until(lambda s: s["state"] == "running")
        assert ask(it) == (2, 3)
        assert it.reload()["ok"]
        assert ask(it) == (3, 4)
        page = it.ask("metrics")["text"]

    assert "aeterna_state_transfer_bytes_count 2" in page
    assert "aeterna_handover_duration_seconds_count 2" in page


def test_a_rollback_returns_the_count_of_the_successor(tmp_path: Path) -> None:
    with Supervised(tmp_path, config(tmp_path, canary={"soak_time": "20s"})) as it:
        assert ask(it) == (1, 1)
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "soaking")
        assert [ask(it) for _ in range(3)] == [(2, 2), (2, 3), (2, 4)]
        assert it.ask("rollback")["ok"]

        assert ask(it) == (1, 5)


def test_the_old_one_serves_again_before_the_new_one_has_gone(tmp_path: Path) -> None:
    lingers = config(tmp_path, env={"COUNTING_LINGER_S": "2"}, canary={"soak_time": "20s"})
    with Supervised(tmp_path, lingers) as it:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "soaking")
        assert ask(it) == (2, 1)
        it.ask("rollback", wait=False)
        it.until(lambda s: s["state"] == "rolling-back")

        assert ask(it) == (1, 2)
        assert it.status()["state"] == "rolling-back"


def test_a_standby_takes_over(tmp_path: Path) -> None:
    with Supervised(tmp_path, config(tmp_path, startup={"standby": True})) as it:
        ask(it)
        waiting = it.until(lambda s: s["standby"] is not None)["standby"]
        assert it.reload()["ok"]

        status = it.status()
        assert status["serving"]["pid"] == waiting["pid"]
        assert ask(it)[1] == 2
        it.until(lambda s: s["standby"] is not None)


def test_a_standby_of_another_version_is_not_taken(tmp_path: Path) -> None:
    with Supervised(tmp_path, config(tmp_path, startup={"standby": True})) as it:
        waiting = it.until(lambda s: s["standby"] is not None)["standby"]
        it.write(config(tmp_path, env={"CHANGED": "1"}))
        assert it.reload()["ok"]

        assert it.status()["serving"]["pid"] != waiting["pid"]


def test_a_successor_that_cannot_take_over_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    stuck = config(
        tmp_path,
        env={"COUNTING_STALL": "before PREPARED@2", "COUNTING_STALL_S": "10"},
        state_handoff={"timeout": "500ms"},
    )
    with Supervised(tmp_path, stuck) as it:
        assert ask(it) == (1, 1)
        outcome = it.reload()

        assert (outcome["result"], outcome["kind"], outcome["code"]) == ("abandoned", "handover", 3003)
        assert ask(it) == (1, 2)


def test_a_successor_starts_cold_if_it_is_configured(tmp_path: Path) -> None:
    """The old process does not give its state in time. Starting without state must be configured."""
    forgetful = config(
        tmp_path,
        env={"COUNTING_STALL": "heard PREPARE@1", "COUNTING_STALL_S": "3"},
        state_handoff={"timeout": "500ms", "on_failure": "cold-start"},
        drain={"timeout": "1s"},
    )
    with Supervised(tmp_path, forgetful) as it:
        assert ask(it) == (1, 1)
        assert it.reload()["ok"]

        assert ask(it) == (2, 1)


def test_a_successor_that_loads_for_long_is_waited_for(tmp_path: Path) -> None:
    """`warmup_delay` makes only the first process ready: a successor is ready when it has its state."""
    slow = config(tmp_path, env={"COUNTING_LOAD_S": "0.5"}, startup={"warmup_delay": "50ms"})
    with Supervised(tmp_path, slow) as it:
        assert ask(it)[1] == 1
        assert it.reload()["ok"]

        assert ask(it) == (2, 2)


def test_a_process_that_asks_for_nothing_is_upgraded_all_the_same(tmp_path: Path) -> None:
    plain = config(tmp_path, startup={"warmup_delay": "100ms"})
    del plain["service"]
    with Supervised(tmp_path, plain) as it:
        outcome = it.reload()

        assert outcome["ok"], outcome
