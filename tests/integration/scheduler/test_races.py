"""What happens when many want the same at once, over two schedulers on one database."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from aetheris_chassis.postgres import acquiring
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_scheduler import tick
from aetheris_scheduler.core.job import Job, State
from aetheris_scheduler.core.lifecycle import Cancel, Park, Pause, Requeue, Resume, Steer, Wake
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.memory import MemoryStore
from aetheris_scheduler.postgres import QUERIES
from aetheris_scheduler.store import Order, Outcome, Placement, Tick, claim_for
from aetheris_testkit.clock import SimClock

from .conftest import MemoryWorld, PostgresWorld, Served, eventually, serving_scheduler
from .peer import Stream, ended, submission


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


async def test_ticks_that_cross_each_other_all_take_place(postgres_world: PostgresWorld) -> None:
    """Two schedulers that lock the same rows in opposite order meet head on; one of them tries again."""
    world = postgres_world
    runner = await world.runner()
    jobs = [await world.leased(runner) for _ in range(2)]
    ticks = [
        Tick(
            outcomes=[Outcome(runner.session, first.id, first.lease, Park("x"))],
            orders=[Order(second.id, Wake())],
        )
        for first, second in (jobs, jobs[::-1])
    ]
    for _ in range(5):
        await asyncio.gather(*(world.store.tick(one) for one in ticks))
        for leased in await world.claim(runner, 2):
            await world.says(runner, leased.job, Park("again"))

    assert {(await world.job(job)).state for job in jobs} <= {State.PARKED, State.READY}


# Park and wake, in every interleaving.

CROSSING: Sequence[tuple[str, Steer]] = [
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
    postgres_world: PostgresWorld, reason: str, steer: Steer, park_first: bool, commits: bool
) -> None:
    """One of the two is in its transaction when the other comes, and then it commits or it fails and is sent again."""
    world = postgres_world
    runner = await world.runner()
    job = await world.leased(runner)
    if isinstance(steer, Resume):
        await world.order(job, Pause())
    park = Tick(outcomes=[Outcome(runner.session, job.id, job.lease, Park(reason, operator=reason == "in doubt"))])
    order = Tick(orders=[Order(job.id, steer)])
    first, second = (park, order) if park_first else (order, park)
    async with acquiring(world.pool) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await tick.write(connection, QUERIES, first)
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
        assert (found.state is State.READY) is woken_before
        assert found.wake
    else:
        assert found.state is State.READY
        assert [leased.job.id for leased in await world.claim(runner)] == [job.id]


async def _waits_for_a_lock(world: PostgresWorld) -> None:
    async def waiting() -> bool | None:
        found = await world.sql(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(found) or None

    await eventually(waiting)


def interleavings(*lengths: int) -> Iterator[tuple[int, ...]]:
    """Every order in which actors with so many steps each can take turns."""
    actors = [actor for actor, length in enumerate(lengths) for _ in range(length)]
    yield from sorted(set(itertools.permutations(actors)))


class Holder:
    """Whoever is leased the job: takes it, looks into the inbox, parks if there is nothing."""

    def __init__(self, store: MemoryStore, hello: Hello, inbox: set[str], wanted: int) -> None:
        self.store, self.hello, self.inbox, self.wanted = store, hello, inbox, wanted
        self.job: Job | None = None
        self.seen: set[str] | None = None
        self.done = False

    async def step(self) -> bool:
        """False where there is nothing to do: the job is not to be had."""
        if self.done:
            return True
        if self.job is None:
            leased = (await self.store.tick(Tick(claims=[claim_for(self.hello.session, self.hello.stream)]))).leased
            self.job, self.seen = (leased[0].job if leased else None), None
            return bool(leased)
        if self.seen is None:
            self.seen = set(self.inbox)
            self.done = len(self.seen) == self.wanted
            return True
        outcome = Outcome(self.hello.session, self.job.id, self.job.lease, Park("signal"))
        await self.store.tick(Tick(outcomes=[outcome]))
        self.job = None
        return True


@pytest.mark.parametrize("order", list(interleavings(2, 2, 4)), ids=lambda order: "".join(map(str, order)))
async def test_j5_no_wake_is_lost_however_two_senders_and_the_holder_take_turns(order: tuple[int, ...]) -> None:
    clock = SimClock()
    store = MemoryStore(clock)
    world = MemoryWorld()
    hello = Hello(clock.new_id(), clock.new_id(), capacity=1)
    await store.open(hello, lease_s=60)
    await store.tick(Tick(placements=[Placement(world.submission(id=clock.new_id()))]))
    (job_id,) = store.jobs
    inbox: set[str] = set()
    holder = Holder(store, hello, inbox, wanted=2)
    sent: dict[int, int] = {0: 0, 1: 0}
    for actor in order:
        if actor == 2:
            await holder.step()
        elif sent[actor] == 0:
            # First it is durable, then the job is woken.
            inbox.add(f"signal {actor}")
            sent[actor] = 1
        else:
            await store.tick(Tick(orders=[Order(job_id, Wake())]))
    for _ in range(20):
        if holder.done or not await holder.step():
            break

    assert holder.done, f"parked for ever with {inbox} unseen"
    assert store.jobs[job_id].state in (State.LEASED, State.READY)


def test_the_interleavings_are_all_there_are() -> None:
    found: list[Any] = list(interleavings(2, 2, 4))

    assert len(found) == len(set(found)) == 420
