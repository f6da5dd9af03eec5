"""Submissions, as every store promises: in memory and in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from aetheris_kernel.errors import Exhausted, KeyReused
from aetheris_scheduler.core.claim import Claim, Slot
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import End
from aetheris_scheduler.core.page import JobListing
from aetheris_scheduler.core.session import Skills
from aetheris_scheduler.store.tick import Placement, Submitted, Tick

from .conftest import World

DONE = End(JobState.COMPLETED, b'"done"')


async def test_j13_the_same_key_makes_one_job(world: World) -> None:
    first = await world.submit(idempotency_key="invoice-42")
    again = (
        await world.store.tick(Tick(placements=[Placement(world.submission(idempotency_key="invoice-42"))]))
    ).submitted

    assert isinstance(again[0], Submitted)
    assert (again[0].job.id, again[0].created) == (first.id, False)
    # Keys belong to a tenant and an agent.
    assert (await world.submit(idempotency_key="invoice-42", tenant="other")).id != first.id
    assert (await world.submit(idempotency_key="invoice-42", agent="other")).id != first.id


@pytest.mark.parametrize(
    "change", [{"input": b'{"args": [2]}'}, {"queue": "slow"}, {"priority": 3}, {"parent": uuid4()}]
)
async def test_j13_the_same_key_with_another_body_is_refused(world: World, change: dict[str, object]) -> None:
    first = await world.submit(idempotency_key="invoice-42")
    other = world.submission(idempotency_key="invoice-42", **change)
    (refused,) = (await world.store.tick(Tick(placements=[Placement(other)]))).submitted

    assert isinstance(refused, KeyReused)
    assert refused.facts["job_id"] == first.id
    assert len(await world.store.list_jobs(JobListing(tenant="acme"))) == 1


async def test_a_retry_may_bring_another_id_another_trace_and_other_moments(world: World) -> None:
    now = world.clock.now()
    first = await world.submit(idempotency_key="k", deadline=now + timedelta(days=400), traceparent="00-a")
    again = await world.submit(idempotency_key="k", deadline=now + timedelta(days=500), traceparent="00-b")

    assert (again.id, again.deadline) == (first.id, first.deadline)


async def test_a_chosen_id_is_a_key_too(world: World) -> None:
    chosen = world.clock.new_id()
    first = await world.submit(id=chosen)
    again = await world.submit(id=chosen)
    (refused,) = (
        await world.store.tick(Tick(placements=[Placement(world.submission(id=chosen, agent="other"))]))
    ).submitted

    assert first.id == again.id == chosen
    assert isinstance(refused, KeyReused)


async def test_in_one_tick_the_first_of_a_key_makes_the_job(world: World) -> None:
    # The other's id is older: it is not the order of the ids that counts.
    other = world.submission(idempotency_key="k", input=b'{"args": [1]}')
    same = [world.submission(idempotency_key="k") for _ in range(32)]
    answers = (await world.store.tick(Tick(placements=[Placement(one) for one in [*same, other]]))).submitted

    accepted = [answer for answer in answers if isinstance(answer, Submitted)]
    assert sum(answer.created for answer in accepted) == 1
    assert len({answer.job.id for answer in accepted}) == 1
    assert [type(answer) for answer in answers if not isinstance(answer, Submitted)] == [KeyReused]


async def test_a_submission_with_a_place_is_leased_at_once(world: World) -> None:
    runner = await world.runner()
    slot = Slot(runner.session, runner.stream, "r1")
    (answer,) = (await world.store.tick(Tick(placements=[Placement(world.submission(), slot)]))).submitted

    assert isinstance(answer, Submitted)
    job = answer.job
    assert (job.state, job.lease, job.session, job.runner_id) == (JobState.LEASED, 1, runner.session, "r1")
    assert job.started_at == job.since
    assert await world.says(runner, job, DONE)


async def test_a_place_of_a_session_that_is_gone_is_none(world: World) -> None:
    gone, moved = await world.runner(lease_s=1), await world.runner()
    await world.store.open(replace(moved, stream=uuid4()), lease_s=60)
    await world.pass_time(2)
    await world.sweep()
    slots = [Slot(runner.session, runner.stream, "") for runner in (gone, moved)]
    tick = Tick(
        placements=[Placement(world.submission(), slot) for slot in slots],
        claims=[Claim(Skills(), slots, always=True)],
    )
    ticked = await world.store.tick(tick)

    assert [answer.job.state for answer in ticked.submitted if isinstance(answer, Submitted)] == [JobState.READY] * 2
    assert ticked.leased == []


async def test_a_full_queue_refuses_and_says_when_to_come_back(world: World) -> None:
    placements = [Placement(world.submission(queue="small", idempotency_key=f"k{n}")) for n in range(5)]
    first = (await world.store.tick(Tick(placements=placements[:2], queue_ready_max=3))).submitted
    rest = (await world.store.tick(Tick(placements=placements, queue_ready_max=3))).submitted
    other = (await world.store.tick(Tick(placements=[Placement(world.submission())], queue_ready_max=3))).submitted

    assert all(isinstance(answer, Submitted) and answer.created for answer in first)
    # What is known is answered, also by a full queue.
    assert [type(answer) for answer in rest] == [Submitted, Submitted, Submitted, Exhausted, Exhausted]
    assert isinstance(rest[3], Exhausted)
    assert rest[3].facts["retry_after_s"] == 1.0
    assert isinstance(other[0], Submitted)


async def test_a_job_that_starts_later_is_parked_until_then(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    job = await world.submit(start_after=world.clock.now() + timedelta(days=36_500))
    soon = await world.submit(start_after=world.clock.now() - timedelta(days=36_500))

    assert job.state is JobState.PARKED
    assert [leased.job.id for leased in await world.claim(runner, 2)] == [soon.id]


async def test_a_full_queue_refuses_all_who_share_a_key(world: World) -> None:
    await world.submit()
    twice = [Placement(world.submission(idempotency_key="k")) for _ in range(2)]
    answers = (await world.store.tick(Tick(placements=twice, queue_ready_max=1))).submitted

    assert [type(answer) for answer in answers] == [Exhausted, Exhausted]
