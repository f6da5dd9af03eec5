"""Upgrades that succeed and that fail: after every failure the old process goes on serving."""

from __future__ import annotations

import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aeterna.testing.load import Load, answered, fresh, queue
from aeterna.testing.supervised import Supervised

Config = dict[str, Any]


def config(*env: str, sharing: str = "inherited", soak: str = "0s", **orchestration: Any) -> Config:
    canary = {"enabled": True, "soak_time": soak, **orchestration.pop("canary", {})}
    startup = {"readiness": "notify", "timeout": "15s", **orchestration.pop("startup", {})}
    return {
        "service": {"env": list(env)},
        "listeners": {"main": {"address": "127.0.0.1:0", "sharing": sharing}},
        "orchestration": {"canary": canary, "startup": startup, "drain": {"timeout": "10s"}, **orchestration},
        "restart": {"first": "50ms"},
    }


def serves(generation: int, status: dict[str, Any]) -> bool:
    return bool(status["state"] == "running" and status["serving"]["generation"] == generation)


def ask(it: Supervised) -> str:
    with socket.create_connection(it.address(), 5.0) as connection:
        connection.sendall(b"who\n")
        return connection.recv(100).decode().split()[0]


def test_the_new_one_serves_and_the_old_one_is_gone(tmp_path: Path) -> None:
    with Supervised(tmp_path, config(soak="50ms")) as it:
        old = it.status()["serving"]["pid"]
        outcome = it.reload()

        assert (outcome["result"], outcome["generation"]) == ("done", 2)
        assert ask(it) == "2"
        assert not Path(f"/proc/{old}").exists()


def test_sighup_upgrades(tmp_path: Path) -> None:
    with Supervised(tmp_path, config()) as it:
        it.signal(signal.SIGHUP)

        it.until(lambda s: s["state"] == "running" and s["serving"]["generation"] == 2)


# What is left alone takes ten minutes, and the test does not: each failure is noticed by itself.
FAILURES = {
    "never ready": (config("SAMPLE_UNREADY=1@2", startup={"timeout": "300ms"}), "start", 3002),
    "dies at once": (config("SAMPLE_EXIT=7@2"), "start", 3002),
    "dies in the soak": (config("SAMPLE_CRASH_AFTER=0.1@2", soak="600s"), "start", 3002),
    "a hook fails": (config(pre_flight=[{"name": "no", "command": ["false"]}]), "preflight", 2001),
    "a hook hangs": (
        config(pre_flight=[{"name": "long", "command": "sleep 600", "timeout": "200ms"}]),
        "preflight",
        2001,
    ),
    "too many errors": (
        config(
            "SAMPLE_REQUESTS=100@2",
            "SAMPLE_ERRORS=9@2",
            soak="600s",
            canary={
                "error_rate": {
                    "url": "http://127.0.0.1:1/",
                    "requests": "r",
                    "errors": "e",
                    "max": "5%",
                    "interval": "60s",
                }
            },
        ),
        "soak",
        4001,
    ),
    "checks fail": (
        config(soak="600s", canary={"failures": 2, "health_check": {"command": "false", "interval": "20ms"}}),
        "soak",
        4001,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_old_one_serves_on_when(name: str, tmp_path: Path) -> None:
    wanted, kind, code = FAILURES[name]
    with Supervised(tmp_path, wanted) as it, Load(fresh, it.address(), threads=2) as load:
        outcome = it.reload()
        load.until(load.done + 20)

        assert (outcome["result"], outcome["kind"], outcome["code"]) == ("abandoned", kind, code)
        status = it.status()
        assert (status["state"], status["serving"]["generation"], status["successor"]) == ("running", 1, None)
        assert ask(it) == "1"
    # Only a client that was being answered by the process that died may fail.
    assert sum(load.failed.values()) <= (2 if name == "dies in the soak" else 0)


def test_an_invalid_configuration_changes_nothing(tmp_path: Path) -> None:
    with Supervised(tmp_path, config()) as it:
        it.file.write_text("service: {command: x, nmae: y}")
        outcome = it.reload()

        assert (outcome["kind"], outcome["code"]) == ("config", 1001)
        assert "did you mean 'name'" in outcome["reason"]
        assert ask(it) == "1"


def test_a_reload_warns_about_keys_that_it_does_not_change(tmp_path: Path) -> None:
    with Supervised(tmp_path, config()) as it:
        wanted = config(state_handoff={"enabled": True, "socket_path": str(tmp_path / "late.sock")})
        it.write({**wanted, "observability": {"metrics_port": "127.0.0.1:0"}})
        assert it.reload()["ok"]

        assert it.status()["metrics_port"] is None
        environment = Path(f"/proc/{it.status()['serving']['pid']}/environ").read_bytes()
        assert b"AETERNA_STATE_SOCK" not in environment
        for key in ("metrics_port", "state_handoff.enabled", "state_handoff.socket_path"):
            assert f'{key}"' in it.log.read_text()


def test_several_sighups_during_an_upgrade_queue_one_more(tmp_path: Path) -> None:
    with Supervised(tmp_path, config(soak="300ms")) as it:
        it.signal(signal.SIGHUP)
        it.until(lambda s: s["state"] == "soaking")
        for _ in range(3):
            it.signal(signal.SIGHUP)
            it.until(lambda s: s["queued"])
        it.until(lambda s: s["state"] == "running" and s["serving"]["generation"] == 3)

        outcome = it.status()["last_upgrade"]
        assert outcome["generation"] == 3
        assert not it.status()["queued"]


def test_a_waiter_for_a_queued_upgrade_gets_the_outcome_of_that_upgrade(tmp_path: Path) -> None:
    with Supervised(tmp_path, config(soak="200ms")) as it:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "soaking")

        assert it.reload()["generation"] == 3


def test_an_operator_ends_a_soak(tmp_path: Path) -> None:
    with Supervised(tmp_path, config(soak="600s")) as it:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "soaking")
        outcome = it.ask("rollback")

        assert (outcome["ok"], outcome["kind"]) == (True, "rollback")
        assert ask(it) == "1"


def test_an_operator_goes_back_to_the_version_before(tmp_path: Path) -> None:
    with Supervised(tmp_path, {**config(), "service": {"release": "one"}}) as it:
        assert it.ask("rollback")["code"] == 409
        it.write({**config(), "service": {"release": "two"}})
        assert it.reload()["ok"]
        assert it.status()["serving"]["release"] == "two"
        assert it.ask("rollback")["ok"]

        assert it.status()["serving"]["release"] == "one"


def test_a_rollback_without_an_earlier_version_is_refused(tmp_path: Path) -> None:
    with Supervised(tmp_path, config("SAMPLE_LINGER=1@1")) as it:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "draining")

        assert it.ask("rollback")["code"] == 409


def test_a_process_that_does_not_drain_is_killed_at_its_deadline(tmp_path: Path) -> None:
    stubborn = config("SAMPLE_DEAF=600@1", drain={"timeout": "200ms"})
    with Supervised(tmp_path, stubborn) as it:
        outcome = it.reload()

        assert outcome["result"] == "done"
        assert "aeterna_drain_killed_total 1" in it.ask("metrics")["text"]


def test_hooks_run_before_and_after(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    hooked = config(
        pre_flight=[{"command": ["sh", "-c", f"echo before >> {notes}"]}, {"command": "false", "block_on_fail": False}],
        post_process={
            "on_success": [{"command": ["sh", "-c", f"echo done >> {notes}"]}],
            "on_failure": [{"command": ["sh", "-c", f"echo failed >> {notes}"]}],
        },
    )
    with Supervised(tmp_path, hooked) as it:
        assert it.reload()["ok"]
        it.until(lambda _: notes.read_text() == "before\ndone\n")
        it.write({**hooked, "service": {"env": ["SAMPLE_EXIT=1@3"]}})
        assert not it.reload()["ok"]

        it.until(lambda _: notes.read_text() == "before\ndone\nbefore\nfailed\n")


PROBES: dict[str, Any] = {
    "notify": "notify",
    "fd": "fd",
    "auto": "auto",
    "http": {"http_get": {"port": 0, "path": "/healthz"}},
    "tcp": {"tcp": "127.0.0.1:0"},
    "command": {"command": ["sh", "-c", "kill -0 $AETERNA_PID"]},
}


@pytest.mark.parametrize("kind", PROBES)
def test_readiness_by(kind: str, tmp_path: Path) -> None:
    with socket.socket() as scout:
        scout.bind(("127.0.0.1", 0))
        port = scout.getsockname()[1]
    probe = PROBES[kind]
    if kind == "http":
        probe = {"http": f"http://127.0.0.1:{port}/healthz", "interval": "20ms"}
    elif kind == "tcp":
        probe = {"tcp": f"127.0.0.1:{port}", "interval": "20ms"}
    wanted = config("SAMPLE_READY_AFTER=0.1", sharing="steered", startup={"readiness": probe, "warmup_delay": "50ms"})
    wanted["listeners"]["main"]["address"] = f"127.0.0.1:{port}"
    with Supervised(tmp_path, wanted) as it:
        assert it.reload()["ok"]
        assert ask(it) == "2"


def test_a_check_reaches_the_successor_and_no_other_process(tmp_path: Path) -> None:
    """Only the new process is broken. It gets no traffic, and its health check still reaches it."""
    with socket.socket() as scout:
        scout.bind(("127.0.0.1", 0))
        port = scout.getsockname()[1]
    check = {"http": f"http://127.0.0.1:{port}/", "interval": "20ms"}
    wanted = config("SAMPLE_BROKEN=1@2", sharing="steered", soak="600s", canary={"fraction": 0, "health_check": check})
    wanted["listeners"]["main"]["address"] = f"127.0.0.1:{port}"
    with Supervised(tmp_path, wanted) as it, Load(fresh, it.address(), threads=2) as load:
        outcome = it.reload()

        assert outcome["kind"] == "soak"
        assert "500" in it.log.read_text()
    assert set(load.generations) == {"1"}
    assert load.failed == {}


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_share_of_new_connections_goes_to_the_successor(tmp_path: Path, share: float) -> None:
    with Supervised(tmp_path, config(sharing="steered", soak="600s", canary={"fraction": share})) as it:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "soaking")
        with Load(fresh, it.address()) as load:
            load.until(2000)

    total = sum(load.generations.values())
    # Three standard deviations.
    assert abs(load.generations["2"] / total - share) < 3 * (share * (1 - share) / total) ** 0.5 + 0.005
    assert load.failed == {}


def test_a_successor_that_dies_in_its_soak_gets_nothing_after_that(tmp_path: Path) -> None:
    dies = config("SAMPLE_CRASH_AFTER=1.5@2", sharing="steered", soak="600s", canary={"fraction": "50%"})
    with Supervised(tmp_path, dies) as it:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "soaking")
        it.until(lambda s: s["state"] == "running")
        seen = {ask(it) for _ in range(100)}

    assert seen == {"1"}


def test_a_new_connection_is_not_sent_to_a_successor_that_was_found_dead(tmp_path: Path) -> None:
    """The serving process answers it, or the process of the same release that was started for connections which the
    dead one had not accepted, and which has its share of connections while it is watched."""
    with Supervised(tmp_path, config(sharing="steered", soak="600s", canary={"fraction": "50%"})) as it:
        it.ask("reload", wait=False)
        pid = it.until(lambda s: s["state"] == "soaking")["successor"]["pid"]
        os.kill(pid, signal.SIGKILL)
        it.until(lambda s: s["successor"] is None or s["successor"]["pid"] != pid)
        seen = {ask(it) for _ in range(100)}

    assert seen <= {"1", "3"}


def test_connections_queued_at_a_successor_that_dies_are_answered(tmp_path: Path) -> None:
    """The successor never accepts its share of the connections, so they wait in its half of the pair."""
    dies = config("SAMPLE_DEAF=600@2", sharing="steered", soak="600s", canary={"fraction": 1})
    with Supervised(tmp_path, dies) as it:
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "soaking")
        waiting = queue(it.address(), 50)
        os.kill(it.status()["successor"]["pid"], signal.SIGKILL)

        assert answered(waiting) == 50
        # The process that was started for them goes through a soak like any other, and none is started after it.
        it.ask("rollback", wait=False)
        it.until(partial(serves, 1))


def test_a_crash_of_the_only_process_refuses_no_connection(tmp_path: Path) -> None:
    """The socket belongs to the supervisor, so connections in the meantime wait in its queue."""
    with Supervised(tmp_path, config()) as it, Load(fresh, it.address(), threads=4) as load:
        for number in range(1, 4):
            os.kill(it.status()["serving"]["pid"], signal.SIGKILL)
            it.until(partial(serves, number + 1))
        load.until(load.done + 20)

    assert not any("refused" in reason for reason in load.failed)
    assert sum(load.failed.values()) <= 3 * 4  # requests that the dead process had accepted


@pytest.mark.parametrize(("service", "passes"), [("", True), ("app", True), ("sick", False), ("unknown", False)])
def test_the_health_of_a_real_grpc_server(service: str, passes: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from aeterna.supervisor.probes import grpc_health
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("app", health_pb2.HealthCheckResponse.SERVING)
    servicer.set("sick", health_pb2.HealthCheckResponse.NOT_SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
            problem = grpc_health.check(connection, "localhost", service)
    finally:
        server.stop(None).wait()

    assert (problem == "") is passes
