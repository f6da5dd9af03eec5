"""What happens when many want the same at once, over two schedulers on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import grpc
import pytest
from aetheris_chassis.postgres import acquiring
from aetheris_kernel.errors import Unavailable
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_scheduler.core.claim import Slot
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import Cancel, Order, Park, Pause, Requeue, Resume, Wake
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.store.postgres import QUERIES
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Placement, Submitted, Sweep, Tick, claim_for
from aetheris_scheduler.store.write import write_tick

from .conftest import PostgresWorld, Served, eventually, serving_scheduler
from .peer import Stream, ended, submission

T = TypeVar("T")


@pytest.fixture
async def two(postgres_world: PostgresWorld, tmp_path: Path) -> AsyncIterator[tuple[Served, Served]]:
    async with (
        serving_scheduler(postgres_world.dsn, tmp_path, lease_s=5.0) as one,
        serving_scheduler(postgres_world.dsn, tmp_path, lease_s=5.0) as other,
    ):
        yield one, other


async def test_j1_sixty_four_runners_race_for_one_job(two: tuple[Served, Served]) -> None:
    async with AsyncExitStack() as stack:
        runners = [
            await stack.enter_async_context(two[n % 2].peer(capacity=1).stream(credits=0, beating_s=1.0))
            for n in range(64)
        ]
        job = await two[0].submit()
        await asyncio.gather(*(runner.say(credits=1) for runner in runners))
        await two[0].until(job.job_id, pb.JOB_STATE_LEASED)
        # Both schedulers look again a few times before they have nothing more to give.
        await asyncio.gather(*(runner.say(beat=True) for runner in runners))
        await runners[0].until(lambda: len(runners[0].renewals) >= 1)

        holders = [runner for runner in runners if runner.jobs]
        assert [holder.jobs for holder in holders] == [[job.job_id]]
        found = await two[1].job(job.job_id)
        assert (found.state, found.lease) == (pb.JOB_STATE_LEASED, 1)


async def test_j1_many_jobs_are_leased_once_each_and_all_of_them_end(two: tuple[Served, Served]) -> None:
    jobs: set[str] = set()

    async def submit(scheduler: Served) -> None:
        for _ in range(10):
            batch = pb.SubmitBatchRequest(requests=[submission() for _ in range(50)])
            results = (await scheduler.api.SubmitBatch(batch)).results
            jobs.update(result.accepted.job.job_id for result in results)

    async def work(runner: Stream) -> None:
        told: list[str] = []

        def more() -> bool:
            return len(runner.assignments) > len(told) or runner.over

        while not runner.over:
            await runner.until(more, within_s=20)
            fresh = [assignment.job for assignment in runner.assignments[len(told) :]]
            told += [job.job_id for job in fresh]
            await runner.say(*map(ended, fresh), credits=len(fresh))

    async with AsyncExitStack() as stack:
        runners = [await stack.enter_async_context(two[n % 2].peer(capacity=8).stream(beating_s=1.0)) for n in range(6)]
        working = [asyncio.ensure_future(work(runner)) for runner in runners]
        await asyncio.gather(*(submit(scheduler) for scheduler in two))
        given: list[str] = []

        async def all_settled() -> bool | None:
            return sum(len(runner.settled) for runner in runners) >= len(jobs) or None

        await eventually(all_settled, 15)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        for runner in runners:
            given += runner.jobs

    assert len(jobs) == 1_000
    assert sorted(given) == sorted(jobs)
    assert all(settled.effective for runner in runners for settled in runner.settled)


async def test_j13_thirty_two_submissions_of_one_key_make_one_job(two: tuple[Served, Served]) -> None:
    requests = [submission(idempotency_key="invoice-42") for _ in range(32)]
    answers = await asyncio.gather(*(two[n % 2].api.Submit(request) for n, request in enumerate(requests)))

    assert len({answer.job.job_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1


async def test_j13_of_two_bodies_under_one_key_one_is_refused(two: tuple[Served, Served]) -> None:
    async def submit(n: int) -> str | grpc.StatusCode:
        request = submission(idempotency_key="k", input=b'{"args": [%d]}' % (n % 2))
        try:
            return (await two[n % 2].api.Submit(request)).job.job_id
        except grpc.aio.AioRpcError as refused:
            return refused.code()

    answers = await asyncio.gather(*(submit(n) for n in range(32)))

    jobs = [answer for answer in answers if isinstance(answer, str)]
    assert len(jobs) == 16
    assert len(set(jobs)) == 1
    assert set(answers) - set(jobs) == {grpc.StatusCode.FAILED_PRECONDITION}


HEAD_ON = """
CREATE SEQUENCE scheduler.met;
CREATE FUNCTION scheduler.meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('scheduler.met') <= {times} THEN RAISE EXCEPTION 'two met head on' USING ERRCODE = '40P01'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER meet BEFORE UPDATE ON scheduler.jobs FOR EACH ROW EXECUTE FUNCTION scheduler.meet();
"""


@pytest.mark.parametrize(("times", "takes_place"), [(3, True), (100, False)])
async def test_a_tick_that_is_sent_away_for_a_deadlock_is_tried_again(
    postgres_world: PostgresWorld, times: int, takes_place: bool
) -> None:
    """Two schedulers that lock the same rows in opposite order: that takes a second to be noticed; this is as if."""
    world = postgres_world
    runner = await world.runner()
    one, other = await world.leased(runner), await world.leased(runner)
    asked = Tick(
        outcomes=[JobOutcome(runner.session, one.id, one.lease, Park("x"))],
        orders=[JobOrder(other.id, Cancel("enough"))],
    )
    async with acquiring(world.pool) as connection:
        await connection.execute(HEAD_ON.format(times=times))
    if takes_place:
        assert (await world.store.tick(asked)).settled == [True]
    else:
        with pytest.raises(Unavailable):
            await world.store.tick(asked)

    assert ((await world.job(one)).state is JobState.PARKED) is takes_place
    assert (await world.job(other)).cancel is takes_place


# Park and wake, in every interleaving.

CROSSING: Sequence[tuple[str, Order]] = [
    ("signal: go", Wake()),
    ("signal: go", Cancel("enough")),
    ("paused", Resume()),
    ("in doubt", Requeue()),
    ("in doubt", Wake()),
]


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
@pytest.mark.parametrize("park_first", [True, False], ids=["park first", "order first"])
@pytest.mark.parametrize(("reason", "steer"), CROSSING, ids=lambda value: str(value).replace(": ", "-"))
async def test_j5_a_park_and_an_order_that_are_written_at_once(
    postgres_world: PostgresWorld, reason: str, steer: Order, park_first: bool, commits: bool
) -> None:
    """One of the two is in its transaction when the other comes, and then it commits or it fails and is sent again."""
    world = postgres_world
    runner = await world.runner()
    job = await world.leased(runner)
    if isinstance(steer, Resume):
        await world.order(job, Pause())
    park = Tick(outcomes=[JobOutcome(runner.session, job.id, job.lease, Park(reason, operator=reason == "in doubt"))])
    order = Tick(orders=[JobOrder(job.id, steer)])
    first, second = (park, order) if park_first else (order, park)
    async with acquiring(world.pool) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await write_tick(connection, QUERIES, first)
        blocked = asyncio.ensure_future(world.store.tick(second))
        await _waits_for_a_lock(world)
        await (transaction.commit() if commits else transaction.rollback())
        await blocked
    if not commits:
        await world.store.tick(first)

    found = await world.job(job)
    if reason == "in doubt" and isinstance(steer, Wake):
        # A wake that comes before an operator's park makes it look again; one that comes after does not.
        woken_before = park_first is not commits
        assert (found.state is JobState.READY) is woken_before
        assert found.wake
    else:
        assert found.state is JobState.READY
        assert [leased.job.id for leased in await world.claim(runner)] == [job.id]


async def _waits_for_a_lock(world: PostgresWorld) -> None:
    async def waiting() -> bool | None:
        found = await world.sql(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(found) or None

    await eventually(waiting)


async def _begun(world: PostgresWorld, asked: Tick, then: Callable[[], Awaitable[T]]) -> T:
    """Write `asked`, begin `then` before it is committed, and commit."""
    async with acquiring(world.pool) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await write_tick(connection, QUERIES, asked)
        waiting = asyncio.ensure_future(then())
        await _waits_for_a_lock(world)
        await transaction.commit()
        return await waiting


def _claims(hello: Hello) -> Tick:
    return Tick(claims=[claim_for(hello.session, hello.stream)])


async def test_a_job_leased_while_its_session_comes_back_is_not_lost(
    postgres_world: PostgresWorld,
) -> None:
    """The assignment would go to the stream that is gone, and the new one would never hear of it."""
    world = postgres_world
    runner = await world.runner()
    job = await world.submit()
    again = replace(runner, stream=uuid4())
    opened = await _begun(world, _claims(runner), lambda: world.store.open(again, lease_s=60))

    assert opened.revoked
    assert (await world.job(job)).state is JobState.READY


async def test_a_session_that_leaves_while_it_is_being_leased_a_job_is_not_gone(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    runner = await world.runner()
    job = await world.submit()
    leave = _begun(world, _claims(runner), lambda: world.store.leave(runner.session, runner.stream, grace_s=1))

    assert not await leave
    await world.pass_time(2)
    assert (await world.sweep()).expired == [runner.session]
    assert (await world.job(job)).state is JobState.READY


async def test_a_session_that_is_being_leased_a_job_expires_after_that_and_with_it(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    runner = await world.runner(lease_s=1)
    job = await world.submit()
    await world.pass_time(2)
    async with acquiring(world.pool) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await write_tick(connection, QUERIES, _claims(runner))
        # It neither waits nor takes a part of what the session holds.
        assert (await world.sweep()).expired == []
        await transaction.commit()

    assert [lost.job for lost in (await world.sweep()).lost] == [job.id]


async def test_a_session_that_is_expiring_is_leased_nothing(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    runner = await world.runner(lease_s=1)
    slot = Slot(runner.session, runner.stream, "")
    await world.submit()
    await world.pass_time(2)
    async with acquiring(world.pool) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await write_tick(connection, QUERIES, Tick(sweep=Sweep(sessions=True)))
        asked = replace(_claims(runner), placements=[Placement(world.submission(), slot)])
        ticked = await world.store.tick(asked)
        await transaction.commit()

    assert ticked.leased == []
    assert [answer.job.state for answer in ticked.submitted if isinstance(answer, Submitted)] == [JobState.READY]
