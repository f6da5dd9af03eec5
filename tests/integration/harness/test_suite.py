"""The suite as real processes keeps its word to those who kill it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.embedded import alive
from harness.environment import environment
from harness.suite import SCHEMAS, Suite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90), pytest.mark.migrated(*SCHEMAS)]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aetheris-test-") as made:
        yield Path(made)


async def test_every_member_is_a_process_of_its_own_and_all_end_together(folder: Path, database: str) -> None:
    async with Suite(folder, runners=2, database=database) as suite:
        pids = {name: suite.pid(name) for name in suite.members}
        async with httpx.AsyncClient(base_url=suite.http) as api:
            health = (await api.get("/api/health")).json()

    assert set(pids) == {"ledger", "scheduler", "gateway", "runner-1", "runner-2"}
    assert len(set(pids.values())) == 5
    assert health["status"] == "ok"
    assert not any(alive(pid) for pid in pids.values())


async def test_a_killed_member_is_known_to_be_dead_and_comes_back_where_it_was(folder: Path, database: str) -> None:
    async with Suite(folder, runners=0, database=database) as suite:
        before = suite.pid("ledger"), suite.ledger
        suite.kill("ledger", signal.SIGKILL)

        assert await suite.ended("ledger") == -signal.SIGKILL
        assert "ledger" not in suite.members
        await suite.start("ledger")
        assert suite.pid("ledger") != before[0]
        assert suite.ledger == before[1]


async def test_a_frozen_member_can_still_be_stopped(folder: Path, database: str) -> None:
    async with Suite(folder, runners=1, database=database) as suite:
        suite.kill("runner-1", signal.SIGSTOP)
        pid = suite.pid("runner-1")

    assert not alive(pid)


async def test_a_member_that_does_not_start_says_why(folder: Path, database: str) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with Suite(folder, agents=["/nowhere.py"], database=database):
            pass

    assert "no such file" in str(raised.value.exceptions[0])


CHILD = """
import asyncio, sys
from pathlib import Path
from harness.suite import Suite

async def main():
    async with Suite(Path(sys.argv[1]), runners=1, database=sys.argv[2]) as suite:
        print(*(suite.pid(name) for name in suite.members), flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_no_member_outlives_the_process_that_started_it(folder: Path, database: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), database], env=environment(), stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert len(pids) == 4
