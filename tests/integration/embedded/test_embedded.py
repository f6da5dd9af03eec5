from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aetheris_embedded.folder import socket_folder

from harness.embedded import Embedded, alive

Start = Callable[..., Embedded]

DEADLINE_S = 60.0
AGENT = """
from aetheris import agent, signal, step

@step
async def double(text: str) -> str:
    return text * 2

@agent("waits")
async def waits(text: str) -> str:
    doubled = await double(text)
    return doubled + await signal("go")
"""

pytestmark = pytest.mark.timeout(120)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def agent_file(folder: Path) -> str:
    path = folder / "waits.py"
    path.write_text(AGENT)
    return str(path)


def test_it_says_where_everything_is_and_runs_a_job(start: Start, agent_file: str) -> None:
    embedded = start(agent_file)
    said = embedded.welcomed()
    job = embedded.job(embedded.submit("default", "hello"), wait=10)

    for place in ("/api/health", "/docs", "/trace/page", f"127.0.0.1:{embedded.grpc}", "default, waits"):
        assert place in said
    assert "/api/agents/waits/message" in said
    assert job["status"] == "completed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_everything_with_it(start: Start, number: signal.Signals) -> None:
    embedded = start()
    embedded.welcomed()
    postgres = embedded.postgres_pid()
    code = embedded.stopped(number)

    assert code == 0
    assert not alive(postgres)
    assert not (embedded.data_dir / "run").exists()
    assert embedded.said == ""


def test_the_next_start_finds_what_this_one_kept(start: Start, agent_file: str) -> None:
    first = start(agent_file)
    first.welcomed()
    done, waiting = first.submit("default", "hello"), first.submit("waits", "ab")
    assert first.job(done, wait=10)["status"] == "completed"
    until(lambda: first.job(waiting)["status"] == "parked")
    first.stopped()

    second = start(agent_file)
    second.welcomed()
    second.api.post(f"/api/jobs/{waiting}/signal", json={"correlation_key": "go", "payload": "!"}).raise_for_status()

    assert second.job(done)["status"] == "completed"
    assert second.job(waiting, wait=10)["result"] == "abab!"


def test_a_directory_has_one_master(start: Start, data_dir: Path) -> None:
    first = start()
    first.welcomed()
    second = start()
    code = second.process.wait(DEADLINE_S)

    assert code == 1
    assert f"{data_dir} is in use by process {first.process.pid}" in second.said
    assert "--data-dir" in second.said
    assert second.said.count("\n") == 1
    assert first.api.get("/api/health").status_code == 200


@pytest.mark.parametrize("option", ["--http-listen", "--grpc-listen"])
def test_a_taken_port_is_named_and_nothing_is_started(start: Start, data_dir: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        embedded = start(option, f"127.0.0.1:{port}")
        code = embedded.process.wait(DEADLINE_S)

    assert code == 1
    assert f"port {port} on 127.0.0.1" in embedded.said
    assert option in embedded.said
    assert embedded.said.count("\n") == 1
    assert not data_dir.exists()


def test_killed_it_leaves_its_database_and_the_next_start_takes_that_over(start: Start, agent_file: str) -> None:
    first = start(agent_file)
    first.welcomed()
    job = first.submit("waits", "ab")
    until(lambda: first.job(job)["status"] == "parked")
    first.process.kill()
    first.process.wait()
    postgres = first.postgres_pid()
    assert alive(postgres)

    second = start(agent_file)
    second.welcomed()
    second.api.post(f"/api/jobs/{job}/signal", json={"correlation_key": "go", "payload": "!"}).raise_for_status()

    assert second.postgres_pid() == postgres
    assert second.job(job, wait=10)["result"] == "abab!"
    assert second.stopped() == 0
    assert not alive(postgres)


def test_agents_run_in_processes_that_are_started_again_when_they_die(start: Start, agent_file: str) -> None:
    embedded = start(agent_file, "--runners", "2")
    embedded.welcomed()
    before = [embedded.runner_pid(1), embedded.runner_pid(2)]
    os.kill(before[0], signal.SIGKILL)

    def replaced() -> bool:
        try:
            return embedded.runner_pid(1) not in before
        except (FileNotFoundError, ValueError):
            return False

    until(replaced)
    until(lambda: len(embedded.api.get("/api/runners").json()["runners"]) == 2)
    job = embedded.job(embedded.submit("default", "hello"), wait=10)

    after = [embedded.runner_pid(1), embedded.runner_pid(2)]

    assert after[1] == before[1]
    assert job["status"] == "completed"
    assert embedded.stopped() == 0
    assert not any(alive(pid) for pid in after)


def test_runner_processes_do_not_outlive_it(start: Start) -> None:
    embedded = start("--runners", "2")
    embedded.welcomed()
    pids = [embedded.runner_pid(1), embedded.runner_pid(2)]
    embedded.process.kill()
    embedded.process.wait()

    until(lambda: not any(alive(pid) for pid in pids))


def test_a_path_too_long_for_a_socket_works(start: Start, folder: Path) -> None:
    deep = folder.joinpath(*["a-directory-with-quite-a-long-name"] * 4)
    deep.mkdir(parents=True)
    embedded = start(data_dir=deep / "data")
    embedded.welcomed()

    assert embedded.job(embedded.submit("default", "hello"), wait=10)["status"] == "completed"
    assert embedded.stopped() == 0
    assert not socket_folder(deep / "data", "run").exists()
    assert not socket_folder(deep / "data", "pg").exists()


def test_a_database_of_ones_own_is_used_instead(start: Start, data_dir: Path, database: str) -> None:
    embedded = start(AETHERIS_DATABASE_URL=database)
    embedded.welcomed()

    assert embedded.job(embedded.submit("default", "hello"), wait=10)["status"] == "completed"
    assert not (data_dir / "postgres").exists()


@pytest.mark.parametrize("runners", ["0", "2"])
@pytest.mark.parametrize(
    ("text", "reason"), [(None, "no such file"), ("x = 1\n", "no agent in it"), ("1 +\n", "SyntaxError")]
)
def test_an_agent_that_cannot_be_loaded_is_named(
    start: Start, folder: Path, text: str | None, reason: str, runners: str
) -> None:
    path = folder / "mine.py"
    if text is not None:
        path.write_text(text)
    embedded = start(str(path), "--runners", runners)
    code = embedded.process.wait(DEADLINE_S)

    assert code == 1
    assert str(path) in embedded.said
    assert reason in embedded.said


def test_a_directory_that_cannot_be_used_is_named(start: Start, folder: Path) -> None:
    (folder / "file").write_text("in the way")
    embedded = start(data_dir=folder / "file" / "data")

    assert embedded.process.wait(DEADLINE_S) == 1
    assert embedded.said == f"{folder / 'file' / 'data'}: Not a directory\n"


def test_the_network_is_refused_without_being_trusted(start: Start) -> None:
    embedded = start("--http-listen", "0.0.0.0:0")
    code = embedded.process.wait(DEADLINE_S)

    assert code == 1
    assert "AETHERIS_TRUST_NETWORK" in embedded.said
