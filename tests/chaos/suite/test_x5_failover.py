"""X5 with a database that fails over: three PostgreSQL under Patroni, synchronous and strict.

Jobs run and are submitted all the while. However the leader is lost, the services find the new one,
everything that was answered is there, and each tool was entered once. `make chaos-ha` installs what this needs.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import asyncpg
import httpx
import pytest

from harness.builds import ROOT
from harness.patroni import PatroniCluster, may_run, patroni_cluster

from .load import until
from .world import World, world_in

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400, func_only=True)]

JOBS = 10


@pytest.fixture(scope="module")
def cluster() -> Iterator[PatroniCluster]:
    named = re.search(r"^HA := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named is not None
    programs = ROOT / named[1] / "bin"
    if not (programs.parent / "ready").exists():
        pytest.skip("there is no Patroni here: `make chaos-ha` installs it")
    if not may_run(programs / "python"):
        pytest.skip("no Python here that the user of PostgreSQL may run")
    with patroni_cluster(programs) as started:
        yield started


class Traffic:
    """Submissions, one after the other, each sent again until it is answered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.answered = 0
        # How often the hardest submission was sent.
        self.tries_max = 0

    async def run(self) -> None:
        number = 100_000
        while True:
            for tries in count(1):
                self.tries_max = max(self.tries_max, tries)
                with suppress(AssertionError, httpx.HTTPError):
                    await self._world.submit("pay", [number, 0.0], [number, number + 1])
                    break
                await asyncio.sleep(0.1)
            self.answered += 1
            number += 10
            await asyncio.sleep(0.1)

    async def goes_on(self, more: int = 5, *, within_s: float = 120) -> None:
        wanted = self.answered + more

        async def enough() -> bool:
            return self.answered >= wanted

        await until(enough, within_s=within_s)


def frozen(cluster: PatroniCluster, leader: str) -> None:
    cluster.freeze(leader)


def killed(cluster: PatroniCluster, leader: str) -> None:
    cluster.kill(leader)


def without_its_server(cluster: PatroniCluster, leader: str) -> None:
    cluster.kill_postgres(leader)


def switched_over(cluster: PatroniCluster, leader: str) -> None:
    cluster.switch_over(leader)


@pytest.mark.parametrize(
    "disaster", [switched_over, without_its_server, frozen, killed], ids=lambda each: each.__name__
)
async def test_x5_a_database_that_fails_over_loses_and_doubles_nothing(
    cluster: PatroniCluster,
    tmp_path: Path,
    disaster: Callable[[PatroniCluster, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    await asyncio.to_thread(cluster.whole_again)
    # Each disaster has tables of its own.
    await _emptied(cluster)
    leader = await asyncio.to_thread(cluster.leader)
    assert leader is not None
    async with world_in(tmp_path, runners=2, database=cluster.dsn) as world:
        traffic = Traffic(world)
        task = asyncio.create_task(traffic.run())
        try:
            await world.slow(JOBS, 3.0)
            await world.charged(JOBS // 2)
            await traffic.goes_on()
            await asyncio.to_thread(disaster, cluster, leader)
            await asyncio.to_thread(cluster.new_leader, leader)
            await traffic.goes_on()
            if disaster is frozen:
                await asyncio.to_thread(cluster.thaw, leader)
                assert not await _acknowledges(cluster.dsn_of(leader))
            elif disaster is killed:
                await asyncio.to_thread(cluster.run, leader)
            await traffic.goes_on()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if disaster is frozen:
                # Also where the test fails: the next one needs all three nodes.
                cluster.thaw(leader)
        await asyncio.to_thread(cluster.whole_again)
        await world.all_ended(within_s=90)
        breaks = await world.breaks()
    with capsys.disabled():
        sys.stdout.write(
            f"\n  {disaster.__name__}: {traffic.answered} submissions, one of them sent {traffic.tries_max} times "
        )

    assert breaks == []


async def _emptied(cluster: PatroniCluster) -> None:
    connection = await asyncpg.connect(cluster.dsn)
    try:
        for schema in ("aetheris", "ledger", "scheduler", "gateway"):
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    finally:
        await connection.close()


async def _acknowledges(dsn: str) -> bool:
    """Whether a leader that was frozen and has thawed acknowledges a write, before it knows that it leads no more."""
    with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection = await asyncpg.connect(dsn, timeout=2)
        try:
            await connection.execute("CREATE TABLE of_the_old_leader ()", timeout=3)
        finally:
            connection.terminate()
        return True
    return False
