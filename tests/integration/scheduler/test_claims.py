"""Claims: which session gets which job, and which jobs none gets. In memory and in PostgreSQL."""

from __future__ import annotations

import asyncio

from aetheris_scheduler.core.claim import Claim, Slot
from aetheris_scheduler.core.job import Failure, JobState
from aetheris_scheduler.core.lifecycle import Cancel, End, Park, Pause, Resume, Wake
from aetheris_scheduler.core.session import Skills
from aetheris_scheduler.store.tick import JobOrder, Tick

from .conftest import World

DONE = End(JobState.COMPLETED, b'"done"')


async def test_j1_every_job_is_leased_once(world: World) -> None:
    runners = [await world.runner() for _ in range(64)]
    jobs = {(await world.submit()).id for _ in range(100)}
    claims = await asyncio.gather(*(world.claim(runner, 2) for runner in runners))
    # Claims that meet may pass each other by; then the next ones find what is left.
    rest = [await world.claim(runner, 2) for runner in runners]

    leased = [one.job.id for claim in [*claims, *rest] for one in claim]
    assert len(leased) == len(set(leased)) == 100
    assert set(leased) == jobs
    assert {job.lease for job in (await world.store.get(list(jobs))).values()} == {1}


async def test_the_urgent_come_first_and_then_the_old(world: World) -> None:
    runner = await world.runner()
    made = [
        (await world.submit(priority=priority, agent=f"agent-{n % 2}")).id
        for n, priority in enumerate([0, 5, 0, -3, 5, 9])
    ]
    order = [leased.job.id for _ in range(6) for leased in await world.claim(runner)]

    assert order == [made[n] for n in (5, 1, 4, 0, 2, 3)]


async def test_a_runner_gets_only_what_it_serves(world: World) -> None:
    runner = await world.runner()
    wanted = await world.submit(agent="a", queue="q")
    for agent, queue in (("a", "other"), ("b", "q"), ("aa", "q")):
        await world.submit(agent=agent, queue=queue)
    skills = Skills(frozenset({"a"}), frozenset({"q"}))
    leased = await world.claim(runner, 10, skills)

    assert [one.job.id for one in leased] == [wanted.id]
    by_agent = await world.claim(runner, 10, Skills(frozenset({"b", "c"}), frozenset()))
    assert [one.job.agent for one in by_agent] == ["b"]
    assert len(await world.claim(runner, 10)) == 2


async def test_places_are_filled_in_their_order(world: World) -> None:
    one, two = await world.runner(), await world.runner()
    jobs = [(await world.submit(priority=-n)).id for n in range(4)]
    slots = [Slot(runner.session, runner.stream, "") for runner in (one, two, one, two)]
    leased = (await world.store.tick(Tick(claims=[Claim(Skills(), slots, always=True)]))).leased

    found = {one.job.id: one.job.session for one in leased}
    assert [found[job] for job in jobs] == [one.session, two.session, one.session, two.session]


async def test_a_claim_is_made_only_if_something_became_ready_or_waits(world: World) -> None:
    runner = await world.runner()
    parked = await world.leased(runner)
    await world.says(runner, parked, Park("signal"))
    claim = Claim(Skills(), [Slot(runner.session, runner.stream, "")], always=False)

    assert (await world.store.tick(Tick(claims=[claim]))).claimed == [None]
    ticked = await world.store.tick(Tick(orders=[JobOrder(parked.id, Wake())], claims=[claim]))
    assert ticked.claimed == [1]
    assert [leased.job.id for leased in ticked.leased] == [parked.id]


async def test_j4_a_parked_job_is_never_leased_and_never_reclaimed(world: World) -> None:
    runner = await world.runner(lease_s=1)
    job = await world.leased(runner)
    await world.says(runner, job, Park("signal: go"))
    await world.pass_time(3600)
    other = await world.runner()
    await world.sweep()

    assert await world.claim(other, 10) == []
    found = await world.job(job)
    assert (found.state, found.lease, found.crash_count) == (JobState.PARKED, 1, 0)


async def test_a_cancel_reaches_a_paused_job_and_one_that_waits_for_an_operator(world: World) -> None:
    runner = await world.runner()
    paused = await world.submit()
    await world.order(paused, Pause())
    parked = await world.leased(runner)
    await world.says(runner, parked, Park("in doubt", operator=True))
    await world.order(paused, Cancel("enough", "ada"))
    await world.order(parked, Cancel("enough", "ada"))

    leased = {one.job.id: one.job for one in await world.claim(runner, 10)}
    assert set(leased) == {paused.id, parked.id}
    assert all(job.cancel and job.reason == Failure("Cancelled", "enough") for job in leased.values())


async def test_a_paused_job_is_not_leased_before_it_is_resumed(world: World) -> None:
    runner = await world.runner()
    job = await world.submit()
    await world.order(job, Pause())

    assert await world.claim(runner) == []
    await world.order(job, Resume())
    assert len(await world.claim(runner)) == 1


async def test_a_job_parked_for_a_pause_goes_on_when_it_is_resumed(world: World) -> None:
    """Also where the resume comes before the park."""
    runner = await world.runner()
    early, late = await world.leased(runner), await world.leased(runner)
    for job in (early, late):
        await world.order(job, Pause())
    await world.says(runner, late, Park("paused"))
    for job in (early, late):
        await world.order(job, Resume())
    await world.says(runner, early, Park("paused"))

    assert {leased.job.id for leased in await world.claim(runner, 10)} == {early.id, late.id}


async def test_a_cancelling_job_can_wait_without_spinning(world: World) -> None:
    """Its holder knows of the cancel, so a park for a retry or for an operator is a park."""
    runner = await world.runner()
    job = await world.leased(runner)
    await world.order(job, Cancel())
    await world.says(runner, job, Park("crossed the cancel"))
    (again,) = await world.claim(runner)
    await world.says(runner, again.job, Park("compensation in doubt", operator=True))

    assert (await world.job(job)).state is JobState.PARKED
    # Cancelled twice is cancelled once.
    assert (await world.order(job, Cancel())).state is JobState.PARKED
