"""What holders say and what others want of a job. In memory and in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from aetheris_kernel.errors import Conflict
from aetheris_scheduler.core.job import Failure, JobState
from aetheris_scheduler.core.lifecycle import Cancel, End, Notice, Park, Pause, Progress, Release, Requeue, Resume, Wake
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Tick

from .conftest import World

DONE = End(JobState.COMPLETED, b'"done"')


# Outcomes.


async def test_an_outcome_counts_only_under_the_lease_and_from_its_session(world: World) -> None:
    runner, other = await world.runner(), await world.runner()
    job = await world.leased(runner)

    assert not await world.says(other, job, DONE)
    assert not await world.says(runner, replace(job, lease=2), DONE)
    assert not (await world.store.tick(Tick(outcomes=[JobOutcome(runner.session, uuid4(), 1, DONE)]))).settled[0]
    assert (await world.job(job)).state is JobState.LEASED
    assert await world.says(runner, job, DONE)


@pytest.mark.parametrize(
    "said", [DONE, Park("signal"), Park("doubt", operator=True), Release(), Release("", timedelta(seconds=9))]
)
async def test_an_outcome_said_again_counts_as_it_did(world: World, said: object) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    twice = [JobOutcome(runner.session, job.id, 1, said)] * 2  # type: ignore[arg-type]

    assert (await world.store.tick(Tick(outcomes=twice))).settled == [True, True]
    before = await world.job(job)
    assert await world.says(runner, job, said)
    assert await world.job(job) == before


async def test_j6_what_is_said_after_the_lease_was_lost_changes_nothing(world: World) -> None:
    runner = await world.runner(lease_s=1)
    job = await world.leased(runner)
    await world.pass_time(2)
    await world.sweep()

    for said in (DONE, Park("signal"), Release(), Progress()):
        assert not await world.says(runner, job, said)
    assert (await world.job(job)).state is JobState.READY


async def test_progress_forgets_crashes_and_holds_on(world: World) -> None:
    runner = await world.runner(lease_s=1)
    job = await world.leased(runner)
    await world.pass_time(2)
    await world.sweep()
    other = await world.runner()
    (again,) = await world.claim(other)
    both = [JobOutcome(other.session, job.id, again.job.lease, said) for said in (Progress(), DONE)]

    assert again.job.crash_count == 1
    assert (await world.store.tick(Tick(outcomes=both))).settled == [True, True]
    found = await world.job(job)
    assert (found.state, found.crash_count, found.result) == (JobState.COMPLETED, 0, b'"done"')


async def test_a_failure_is_kept_as_it_was_said(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    failure = Failure("CardDeclined", "no \u2603 money", retryable=True, stack="line 1\nline 2")
    await world.says(runner, job, End(JobState.FAILED, failure=failure))

    found = await world.job(job)
    assert (found.state, found.failure, found.reason, found.result) == (JobState.FAILED, failure, failure, None)


# Orders.


async def test_what_an_order_cannot_do_is_refused(world: World) -> None:
    runner = await world.runner()
    done, cancelled, ready = await world.leased(runner), await world.leased(runner), None
    await world.says(runner, done, DONE)
    await world.says(runner, cancelled, End(JobState.CANCELLED))
    ready = await world.submit()
    cases = [
        (done, Wake(), None),
        (done, Cancel(), "JOB_FINISHED"),
        (done, Pause(), "JOB_FINISHED"),
        (done, Resume(), "JOB_FINISHED"),
        (done, Requeue(), "CONFLICT"),
        (cancelled, Cancel(), None),
        (cancelled, Pause(), "JOB_FINISHED"),
        (ready, Requeue(), "CONFLICT"),
        (ready, Resume(), None),
        (uuid4(), Wake(), "NOT_FOUND"),
        (uuid4(), Requeue(), "NOT_FOUND"),
    ]
    for job, steer, reason in cases:
        refused = (await world.order(job, steer)).refused
        assert (refused.reason if refused else None) == reason, (job, steer)


async def test_a_requeue_that_crosses_the_park_is_not_lost(world: World) -> None:
    """It is refused, for the job is not parked yet; but the job looks again instead of waiting for ever."""
    runner = await world.runner()
    job = await world.leased(runner)
    crossed = await world.order(job, Requeue())
    await world.says(runner, job, Park("in doubt", operator=True))

    assert isinstance(crossed.refused, Conflict)
    assert crossed.notice is Notice.WAKE
    assert (await world.job(job)).state is JobState.READY


async def test_many_orders_for_one_job_in_one_tick(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    orders = [JobOrder(job.id, steer) for steer in (Wake(), Pause(), Resume(), Wake(), Cancel("a"), Cancel("b"))]
    ticked = await world.store.tick(Tick(outcomes=[JobOutcome(runner.session, job.id, 1, Park("x"))], orders=orders))

    assert [answer.refused for answer in ticked.ordered] == [None] * 6
    found = await world.job(job)
    assert (found.state, found.cancel) == (JobState.READY, True)
