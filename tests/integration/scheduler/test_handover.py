"""Jobs that a session hands back go to its successor at once: before other sessions, without a wait or a crash."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_scheduler.core.claim import Claim, JobHandover, Slot
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import Pause, Release
from aetheris_scheduler.core.session import Hello, Skills
from aetheris_scheduler.store.tick import JobOutcome, Tick
from aetheris_scheduler.store.write import statements_max

from .conftest import MemoryWorld, Served, World
from .peer import ended, released


def slot(runner: Hello) -> Slot:
    return Slot(runner.session, runner.stream, runner.runner_id)


async def test_jobs_handed_back_go_to_the_successor_before_any_claim(world: World) -> None:
    old, heir, other = [await world.runner() for _ in range(3)]
    job = await world.leased(old)
    waiting = await world.submit(priority=5)

    ticked = await world.store.tick(
        Tick(
            outcomes=[JobOutcome(old.session, job.id, job.lease, Release("the runner stops"))],
            handovers=[JobHandover(Skills(), slot(heir), [job.id])],
            claims=[Claim(Skills(), [slot(other)] * 5, always=False)],
        )
    )
    found = await world.job(job)

    assert ticked.settled == [True]
    assert [(leased.job.id, leased.job.session, leased.job.lease) for leased in ticked.leased] == [
        (job.id, heir.session, job.lease + 1)
    ]
    assert (found.state, found.session, found.crash_count) == (JobState.LEASED, heir.session, 0)
    assert ticked.readied == 0  # nothing for the others to look for, so they do not
    assert (await world.job(waiting)).state is JobState.READY


async def test_a_successor_gets_only_jobs_that_it_can_run_and_that_may_run(world: World) -> None:
    old = await world.runner()
    heir = await world.runner(agents=["painter"])
    strange, paused = await world.leased(old), await world.leased(old, agent="painter")
    good = await world.leased(old, agent="painter")
    await world.order(paused, Pause())
    jobs = [strange, paused, good]

    ticked = await world.store.tick(
        Tick(
            outcomes=[JobOutcome(old.session, job.id, job.lease, Release("the runner stops")) for job in jobs],
            handovers=[JobHandover(heir.skills, slot(heir), [job.id for job in jobs])],
        )
    )

    assert [leased.job.id for leased in ticked.leased] == [good.id]
    assert [(await world.job(job)).state for job in (strange, paused)] == [JobState.READY, JobState.READY]


async def test_a_successor_that_has_moved_to_another_stream_gets_nothing(world: World) -> None:
    old, heir = await world.runner(), await world.runner()
    job = await world.leased(old)
    await world.store.open(replace(heir, stream=uuid4()), lease_s=60)

    ticked = await world.store.tick(
        Tick(
            outcomes=[JobOutcome(old.session, job.id, job.lease, Release("the runner stops"))],
            handovers=[JobHandover(Skills(), slot(heir), [job.id])],
        )
    )

    assert ticked.leased == []
    assert (await world.job(job)).state is JobState.READY


async def test_said_twice_it_is_inherited_once(world: World) -> None:
    old, heir = await world.runner(), await world.runner()
    job = await world.leased(old)
    twice = Tick(
        outcomes=[JobOutcome(old.session, job.id, job.lease, Release("the runner stops"))],
        handovers=[JobHandover(Skills(), slot(heir), [job.id])],
    )

    assert len((await world.store.tick(twice)).leased) == 1
    assert (await world.store.tick(twice)).leased == []
    assert (await world.job(job)).lease == job.lease + 1


async def test_handover_drains_the_one_and_gives_to_the_other(scheduler: Served) -> None:
    """Also where a third has more room, and where older work waits for all of them."""
    old, heir, third = (scheduler.peer(capacity=size) for size in (5, 3, 100))
    async with AsyncExitStack() as stack:
        leaving = await stack.enter_async_context(old.stream())
        jobs = [(await scheduler.submit()).job_id for _ in range(5)]
        await leaving.until(lambda: len(leaving.jobs) == 5)
        for _ in range(4):
            await scheduler.submit(priority=9)
        taking = await stack.enter_async_context(heir.stream(credits=0))
        other = await stack.enter_async_context(third.stream(credits=0))
        request = pb.HandoverRequest(session_id=old.session, successor_session_id=heir.session)

        answer = await scheduler.api.Handover(request)
        assert await scheduler.api.Handover(request) == answer
        await leaving.until(lambda: leaving.drained)
        await leaving.say(*(released(assignment.job) for assignment in leaving.assignments))
        await taking.until(lambda: len(taking.jobs) == 5)
        await other.say(credits=10)
        await other.until(lambda: len(other.jobs) == 4)

        assert answer.held == 5
        assert sorted(taking.jobs) == sorted(jobs)
        assert {assignment.job.lease for assignment in taking.assignments} == {2}
        assert {assignment.job.crash_count for assignment in taking.assignments} == {0}
        # It was given more than it had asked for: what it grants next only makes up for that.
        await taking.say(*(ended(assignment.job) for assignment in taking.assignments), credits=5)
        await scheduler.submit()
        await other.until(lambda: len(other.jobs) == 5)
        assert len(taking.jobs) == 5


async def test_a_release_with_a_delay_is_nobodys_inheritance(scheduler: Served) -> None:
    """It is handed back because it cannot run just now, not because its runner leaves."""
    old, heir = scheduler.peer(), scheduler.peer()
    async with old.stream() as leaving:
        job = await scheduler.submit()
        await leaving.until(lambda: leaving.jobs)
        async with heir.stream() as taking:
            await scheduler.api.Handover(pb.HandoverRequest(session_id=old.session, successor_session_id=heir.session))
            await leaving.say(released(leaving.job(job.job_id), timedelta(seconds=30)))
            await leaving.until(lambda: leaving.settled)

            assert (await scheduler.job(job.job_id)).state == pb.JOB_STATE_PARKED
            assert taking.jobs == []


async def test_what_cannot_be_handed_over_is_refused(scheduler: Served) -> None:
    old, heir = scheduler.peer(), scheduler.peer()

    async def code(session: str, successor: str) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await scheduler.api.Handover(pb.HandoverRequest(session_id=session, successor_session_id=successor))
        return refused.value.code()

    async with old.stream() as stream:
        assert await code(old.session, heir.session) is grpc.StatusCode.NOT_FOUND
        assert await code(heir.session, old.session) is grpc.StatusCode.NOT_FOUND
        assert await code("nonsense", old.session) is grpc.StatusCode.NOT_FOUND
        assert await code(old.session, old.session) is grpc.StatusCode.FAILED_PRECONDITION
        async with heir.stream():
            await scheduler.api.Drain(pb.DrainRequest(session_id=heir.session))
            assert await code(old.session, heir.session) is grpc.StatusCode.FAILED_PRECONDITION
        assert not stream.drained


async def test_letting_go_and_inheriting_are_one_transaction() -> None:
    world = MemoryWorld()
    old, heir = await world.runner(), await world.runner()
    job = await world.leased(old)
    outcome = JobOutcome(old.session, job.id, job.lease, Release("the runner stops"))

    assert statements_max(Tick(outcomes=[outcome], handovers=[JobHandover(Skills(), slot(heir), [job.id])])) == 2
