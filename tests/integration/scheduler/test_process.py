"""The scheduler as a process: it migrates, serves, and stops cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from aetheris_chassis.client import open_channel
from aetheris_chassis.migrate import migrations_of
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb

from .conftest import eventually
from .peer import Peer, submission


def environment(dsn: str, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "AETHERIS_LISTEN": f"unix:{folder}/s.sock",
        "AETHERIS_DATABASE_URL": dsn,
        "AETHERIS_LOG_LEVEL": "warning",
    }


def run(dsn: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aetheris_scheduler", *arguments]
    return subprocess.run(
        command, env=environment(dsn, folder), capture_output=True, text=True, timeout=15, check=False
    )


def test_it_migrates_once_and_says_what_it_did(database: str, tmp_path: Path) -> None:
    first, second = run(database, tmp_path, "migrate"), run(database, tmp_path, "migrate")

    names = [migration.name for migration in migrations_of("aetheris_scheduler")]
    assert names[:3] == ["0001_pre_jobs", "0005_pre_progress", "0006_pre_families"]
    assert (first.returncode, first.stdout) == (0, "".join(f"applied {name}\n" for name in names))
    assert (second.returncode, second.stdout) == (0, "aetheris_scheduler: nothing to apply\n")


def test_it_refuses_a_database_that_is_older_than_itself(database: str, tmp_path: Path) -> None:
    done = run(database, tmp_path)

    assert done.returncode == 1
    assert "python -m aetheris_scheduler migrate" in done.stderr


@pytest.fixture
def process(database: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-m", "aetheris_scheduler"], env=environment(database, tmp_path))
    yield started
    started.kill()
    started.wait()


@pytest.mark.migrated("aetheris_scheduler")
async def test_it_stops_at_once_although_a_runner_is_connected(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    async with open_channel(f"unix:{tmp_path}/s.sock") as channel:
        peer = Peer(channel)
        job = (await peer.api.Submit(submission(), wait_for_ready=True, timeout=15)).job
        async with peer.stream() as runner:
            await runner.until(lambda: job.job_id in runner.jobs)
            process.send_signal(signal.SIGTERM)

            async def ended() -> int | None:
                return process.poll()

            assert await eventually(ended) == 0
            assert runner.code is grpc.StatusCode.UNAVAILABLE
            assert runner.job(job.job_id).state == pb.JOB_STATE_LEASED
