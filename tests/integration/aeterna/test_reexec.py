"""The supervisor replaces its own image."""

from __future__ import annotations

import os
from pathlib import Path

from aeterna.testing.load import Load, fresh
from aeterna.testing.supervised import Supervised

CONFIG = {
    "listeners": {"a": {"address": "127.0.0.1:0", "sharing": "steered"}},
    "orchestration": {"startup": {"readiness": "notify"}},
    "observability": {"metrics_port": "127.0.0.1:0"},
}


def test_no_request_fails_and_the_service_goes_on(tmp_path: Path) -> None:
    with Supervised(tmp_path, CONFIG) as it, Load(fresh, it.address()) as load:
        it.reload()
        before = it.status()
        for _ in range(3):
            assert it.ask("reexec")["ok"]
            it.until(lambda s: s["state"] == "running")
        after = it.status()
        assert it.reload()["generation"] == 3
        assert 'aeterna_handovers_total{result="done"} 2' in it.ask("metrics")["text"]

    assert load.failed == {}
    assert after["supervisor_pid"] == before["supervisor_pid"]
    assert after["serving"]["pid"] == before["serving"]["pid"]
    assert after["last_upgrade"] == before["last_upgrade"]
    assert after["previous"]


def test_a_child_that_dies_after_a_re_exec_is_reaped(tmp_path: Path) -> None:
    with Supervised(tmp_path, {**CONFIG, "restart": {"first": "10ms"}}) as it:
        it.ask("reexec")
        serving = it.until(lambda s: s["state"] == "running")["serving"]["pid"]
        os.kill(serving, 9)

        it.until(lambda s: s["state"] == "running" and s["serving"]["generation"] == 2)


def test_an_image_that_cannot_read_the_configuration_is_not_used(tmp_path: Path) -> None:
    with Supervised(tmp_path, CONFIG) as it:
        it.file.write_text("service: [")
        answer = it.ask("reexec")

        assert answer["code"] == 409
        assert it.status()["state"] == "running"


def test_not_in_the_middle_of_an_upgrade(tmp_path: Path) -> None:
    with Supervised(tmp_path, {**CONFIG, "orchestration": {"canary": {"soak_time": "20s"}}}) as it:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] != "running")

        assert it.ask("reexec")["code"] == 409


def test_nothing_leaks(tmp_path: Path) -> None:
    with Supervised(tmp_path, CONFIG) as it:
        it.ask("reexec")
        it.until(lambda s: s["state"] == "running")
        fds = sorted(path.name for path in Path(f"/proc/{it.pid}/fd").iterdir())
        for _ in range(3):
            it.ask("reexec")
            it.until(lambda s: s["state"] == "running")

        # One more may be the control connection of this test, if its end has not been read yet.
        assert len(list(Path(f"/proc/{it.pid}/fd").iterdir())) <= len(fds) + 1
        serving = it.status()["serving"]["pid"]
        assert len(list(Path(f"/proc/{serving}/fd").iterdir())) < 12


def test_the_metrics_page_keeps_its_port(tmp_path: Path) -> None:
    with Supervised(tmp_path, CONFIG) as it:
        port = it.status()["metrics_port"]
        it.ask("reexec")
        it.until(lambda s: s["state"] == "running")

        assert it.status()["metrics_port"] == port
