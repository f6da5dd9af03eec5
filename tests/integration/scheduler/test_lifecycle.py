"""Both stores do what the lifecycle table says: every state, every flag, every event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from aetheris_scheduler.core import lifecycle
from aetheris_scheduler.core.job import Failure, Job, JobState
from aetheris_scheduler.core.lifecycle import (
    Cancel,
    End,
    Event,
    Fire,
    Lease,
    Lose,
    Park,
    Pause,
    Progress,
    Release,
    Requeue,
    Resume,
    Revoke,
    Serve,
    Terminate,
    Unserve,
    Wake,
)
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Sweep, Tick, Ticked

from .conftest import World, comparable, flags

LIMIT = 3
HOUR = timedelta(hours=1)


def every_job(world: World, holder: UUID) -> Iterator[Job]:
    """Each state with each combination of flags that it can have."""
    now = world.clock.now()
    for state in JobState:
        for flag in flags("wake", "cancel", "paused", "progressed"):
            for crash_count in (0, LIMIT - 1):
                made = Job(
                    id=world.clock.new_id(),
                    tenant="acme",
                    agent="greeter",
                    queue="default",
                    state=state,
                    since=now - HOUR,
                    created_at=now - HOUR,
                    lease=7,
                    session=holder if state is JobState.LEASED else None,
                    crash_count=crash_count,
                    **flag,
                )
                yield from _parked(made, world) if state is JobState.PARKED else [made]
                if state is JobState.READY:
                    yield replace(made, id=world.clock.new_id(), version="v1", pinned=True)
                if made.cancel:
                    made = replace(made, id=world.clock.new_id(), terminate=True, end_asked_at=now - 9 * HOUR)
                    yield from _parked(made, world) if state is JobState.PARKED else [made]


def _parked(made: Job, world: World) -> Iterator[Job]:
    now = world.clock.now()
    made = replace(made, park_reason="signal: go")
    yield made
    yield replace(made, id=world.clock.new_id(), operator_only=True)
    yield replace(made, id=world.clock.new_id(), operator_only=True, version="v1", pinned=True)
    # Long due, and due in a century, whichever clock the store goes by.
    yield replace(made, id=world.clock.new_id(), wake_at=now - 100 * HOUR)
    yield replace(made, id=world.clock.new_id(), wake_at=now + 876_000 * HOUR)
    for start in (now - 100 * HOUR, now + 876_000 * HOUR):
        yield replace(made, id=world.clock.new_id(), wake_at=start, start_after=start, lease=0)


EVENTS: list[Event] = [
    Lease(uuid4()),
    Park("signal: stop"),
    Park("sleep", wake_at=datetime(2130, 1, 1, tzinfo=UTC)),
    Park("in doubt", operator=True),
    Release("leaving"),
    Release("tools are away", timedelta(seconds=30)),
    End(JobState.COMPLETED, result=b'"done"'),
    End(JobState.FAILED, failure=Failure("Boom", "it went off", retryable=True, stack="here")),
    End(JobState.CANCELLED),
    Progress(),
    Progress(0.5, "half"),
    Progress(note="still at it"),
    Lose(LIMIT, alone=False),
    Park("changed code", wants="v1"),
    Release("changed code", wants="v1"),
    Serve(),
    Unserve(),
    Revoke(),
    Wake(),
    Fire(),
    Cancel("no longer needed", "ada"),
    Terminate("at once", "ada"),
    Release("owes", needs_code=True),
    Pause(),
    Resume(),
    Requeue(),
]


async def happens(world: World, event: Event, jobs: Sequence[Job], holder: Hello, other: Hello) -> Ticked:
    match event:
        case Lease():
            leased = await world.claim(other, len(jobs))
            return Ticked(leased=leased)
        case Lose():
            await world.pass_time(120)
            return await world.store.tick(Tick(sweep=Sweep(sessions=True, keep=[other.session], crash_limit=LIMIT)))
        case Revoke():
            await world.store.open(replace(holder, stream=uuid4(), held={}), lease_s=60)
            return Ticked()
        case Serve():
            await world.runner(versions={"greeter": "v1"})
            return await world.store.tick(Tick(versions=True))
        case Unserve():
            return await world.store.tick(Tick(versions=True))
        case Fire():
            return await world.store.tick(Tick(sweep=Sweep(timers=True)))
        case Park() | Release() | End() | Progress():
            return await world.store.tick(
                Tick(outcomes=[JobOutcome(holder.session, job.id, job.lease, event) for job in jobs])
            )
        case _:
            return await world.store.tick(Tick(orders=[JobOrder(job.id, event) for job in jobs]))


def _due(job: Job, event: Event, world: World) -> bool:
    """A timer that is not due does not fire, and a claim leases no job that is to run alone, or on another version; the
    table is asked only about the others."""
    if isinstance(event, Lease):
        return not job.runs_alone and not job.pinned
    if isinstance(event, Unserve):
        return not job.cancel
    return not (isinstance(event, Fire) and job.wake_at is not None and job.wake_at > world.clock.now())


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{type(event).__name__}-{EVENTS.index(event)}")
async def test_the_store_moves_every_job_as_the_table_says(world: World, event: Event) -> None:
    holder, other = await world.runner(), await world.runner()
    jobs = list(every_job(world, holder.session))
    await world.put(jobs)
    before = await world.store.get([job.id for job in jobs])

    ticked = await happens(world, event, jobs, holder, other)

    after = await world.store.get([job.id for job in jobs])
    shift = timedelta(seconds=120) if isinstance(event, Lose) else timedelta()
    named = replace(event, session=other.session, version="") if isinstance(event, Lease) else event
    for job in jobs:
        was = before[job.id]
        if shift:
            was = _older(was, shift, world)
        # A tick in which a job wants a version also looks which of the others are served.
        looks = isinstance(event, (Park, Release)) and bool(event.wants)
        happened = Unserve() if looks and job.state is JobState.READY and not job.cancel else named
        expected = lifecycle.evolve(was, happened, world.clock.now() + HOUR) if _due(job, event, world) else was
        assert comparable(after[job.id], was) == comparable(expected, was), (job, event)
    _check_answers(ticked, event, jobs, before)


def _older(job: Job, shift: timedelta, world: World) -> Job:
    if type(world).__name__ == "MemoryWorld":
        return job
    moved = {
        name: getattr(job, name) - shift
        for name in ("since", "created_at", "wake_at", "start_after", "end_asked_at")
        if getattr(job, name)
    }
    return replace(job, **moved)


def _check_answers(ticked: Ticked, event: Event, jobs: Sequence[Job], before: dict[UUID, Any]) -> None:
    if isinstance(event, (Park, Release, End, Progress)):
        leased_then = [job.state is JobState.LEASED for job in jobs]
        # No other session has held them since, so for the store the others are repetitions.
        assert [effective for effective, leased in zip(ticked.settled, leased_then, strict=True) if leased] == [
            True
        ] * sum(leased_then)
    for answer, job in zip(ticked.ordered, jobs, strict=False):
        transition = lifecycle.decide(before[job.id], event)
        refused = lifecycle.refusal(job.state, event)  # type: ignore[arg-type]

        assert answer.state is lifecycle.evolve(before[job.id], event, job.since).state, (job, event)
        assert answer.notice is transition.notice, (job, event)
        assert type(answer.refused) is type(refused), (job, event)
        if answer.notice is not None:
            assert (answer.session, answer.lease) == (job.session, job.lease)
