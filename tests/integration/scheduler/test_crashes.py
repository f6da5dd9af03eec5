"""Killed between any two writes: all of a tick took place or nothing of it, and sending it again is safe."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from aetheris_chassis.postgres import acquiring
from aetheris_kernel.errors import Unavailable
from aetheris_scheduler.core.claim import Claim, Slot
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import Cancel, End, Park, Progress, Wake
from aetheris_scheduler.core.session import Skills
from aetheris_scheduler.store.postgres import QUERIES
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Placement, Submitted, Sweep, Tick
from aetheris_scheduler.store.write import write_tick

from harness.crash import Crash, CrashAt

from .conftest import PostgresWorld

STATEMENTS = 11


async def full_tick(world: PostgresWorld) -> Tick:
    """One of everything."""
    runner = await world.runner(lease_s=100)
    dying = await world.runner(lease_s=1)
    slot = Slot(runner.session, runner.stream, "")
    ending, parking, going, waking, cancelling = [await world.leased(runner) for _ in range(5)]
    await world.leased(dying)
    await world.says(runner, waking, Park("signal"))
    await world.submit(start_after=(await world.store.look([], keep=[])).now + timedelta(seconds=1))
    await world.pass_time(2)
    outcomes = [(ending, End(JobState.COMPLETED, b"1")), (parking, Park("x")), (going, Progress())]
    return Tick(
        outcomes=[JobOutcome(runner.session, job.id, job.lease, said) for job, said in outcomes],
        sweep=Sweep(timers=True, deadlines=True, sessions=True),
        placements=[
            Placement(world.submission(idempotency_key="placed"), slot),
            Placement(world.submission(idempotency_key="ready")),
        ],
        orders=[JobOrder(waking.id, Wake()), JobOrder(cancelling.id, Cancel("enough"))],
        claims=[Claim(Skills(), [slot], always=True)],
    )


class Statements:
    """A connection, as far as a tick needs it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, *asked: Any) -> Any:
        return await self._connection.fetch(*asked)

    async def execute(self, *asked: Any) -> Any:
        return await self._connection.execute(*asked)


async def everything(world: PostgresWorld) -> Any:
    jobs = await world.sql("SELECT * FROM scheduler.jobs ORDER BY id")
    runners = await world.sql("SELECT * FROM scheduler.runners ORDER BY session")
    return jobs, runners


@pytest.mark.parametrize(("step", "after"), list(itertools.product(range(STATEMENTS), [False, True])))
async def test_j13_a_tick_cut_off_anywhere_changes_nothing(
    postgres_world: PostgresWorld, step: int, after: bool
) -> None:
    world = postgres_world
    asked = await full_tick(world)
    before = await everything(world)
    async with acquiring(world.pool) as connection:
        fused: Any = CrashAt(Statements(connection), step, after=after)
        with pytest.raises(Crash):
            async with connection.transaction():
                await write_tick(fused, QUERIES, asked)
    assert await everything(world) == before

    ticked = await world.store.tick(asked)
    assert ticked.settled == [True, True, True]
    assert all(isinstance(answer, Submitted) and answer.created for answer in ticked.submitted)
    assert len(ticked.leased) == 1


async def test_the_tick_of_that_test_has_that_many_statements(postgres_world: PostgresWorld) -> None:
    asked = await full_tick(postgres_world)
    async with acquiring(postgres_world.pool) as connection:
        counted: Any = CrashAt(Statements(connection), -1)
        async with connection.transaction():
            await write_tick(counted, QUERIES, asked)

    assert counted.calls == STATEMENTS


async def test_x4_a_tick_that_was_written_but_not_answered_can_be_sent_again(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    asked = await full_tick(world)
    await world.store.tick(asked)
    jobs = len((await everything(world))[0])
    again = await world.store.tick(asked)

    assert again.settled[:2] == [True, True]
    assert [answer.created for answer in again.submitted if isinstance(answer, Submitted)] == [False, False]
    assert [answer.refused for answer in again.ordered] == [None, None]
    assert len((await everything(world))[0]) == jobs


async def test_x5_a_tick_whose_connection_is_killed_says_so(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    job = world.submission(idempotency_key="k")
    await world.sql("SELECT 1")
    async with acquiring(world.pool) as killer:
        for _ in range(3):
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            try:
                await world.store.tick(Tick(placements=[Placement(job)]))
            except Unavailable:
                continue
    (answer,) = (await world.store.tick(Tick(placements=[Placement(job)]))).submitted

    assert isinstance(answer, Submitted)
    assert answer.job.id == job.id
