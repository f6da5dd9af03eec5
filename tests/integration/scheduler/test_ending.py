"""Jobs that are to be ended: by any runner where it takes no code, and at once where they are terminated."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from aetheris_scheduler.core.claim import Slot
from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.lifecycle import Cancel, Notice, Park, Release, Requeue, Resume, Terminate, Wake
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.store.tick import Leased, Sweep, Tick

from .conftest import World


async def end_any(world: World, runner: Hello, jobs: int = 1) -> Sequence[Leased]:
    slots = [Slot(runner.session, runner.stream, "")] * jobs
    return (await world.store.tick(Tick(ending=slots))).leased


async def causes(world: World) -> list[str]:
    return [found.cause for found in await world.store.stuck("acme", None, 10, patience=timedelta(minutes=5))]


async def test_a10_a_cancelled_job_of_an_agent_that_no_runner_offers_is_ended_by_any_runner(world: World) -> None:
    runner = await world.runner(agents=["other"])
    job = await world.submit(agent="misspelt")
    assert await end_any(world, runner) == []
    await world.order(job, Cancel("a typing error", "ada"))

    assert (await world.store.look([], keep=[])).ending
    (leased,) = await end_any(world, runner)
    assert (leased.job.id, leased.job.cancel, leased.job.cancel_reason) == (job.id, True, "a typing error")
    assert not (await world.store.look([], keep=[])).ending


async def test_a10_a_deadline_of_such_a_job_ends_it_too(world: World) -> None:
    runner = await world.runner(agents=["other"], lease_s=10_000)
    now = (await world.store.look([], keep=[])).now
    job = await world.submit(agent="misspelt", deadline=now + timedelta(hours=1))
    await world.pass_time(3700)
    await world.sweep()

    assert [leased.job.id for leased in await end_any(world, runner)] == [job.id]


async def test_a10_a_job_whose_agent_was_retired_while_it_was_parked_is_ended_by_any_runner(world: World) -> None:
    old = await world.runner(agents=["retired"])
    job = await world.leased(old, agent="retired")
    await world.says(old, job, Park("signal: go"))
    await world.store.drain(old.session)
    runner = await world.runner(agents=["other"])
    await world.order(job, Cancel())

    assert [leased.job.id for leased in await end_any(world, runner)] == [job.id]


async def test_a_cancel_goes_to_a_runner_with_the_code_where_one_is_connected(world: World) -> None:
    """It can compensate, and it need not find out first whether the record owes that."""
    with_code, other = await world.runner(agents=["a"]), await world.runner(agents=["b"])
    job = await world.submit(agent="a")
    await world.order(job, Cancel())

    assert not (await world.store.look([], keep=[])).ending
    assert await end_any(world, other) == []
    assert [leased.job.id for leased in await world.claim(with_code)] == [job.id]


async def test_a10_a_job_that_owes_a_compensation_waits_for_its_code_and_says_so(world: World) -> None:
    runner = await world.runner(agents=["other"], lease_s=10_000)
    job = await world.submit(agent="retired")
    await world.order(job, Cancel())
    (leased,) = await end_any(world, runner)
    await world.says(runner, leased.job, Release("owes a compensation", needs_code=True))

    assert await end_any(world, runner) == []
    assert not (await world.store.look([], keep=[])).ending
    await world.pass_time(11)
    (stuck,) = await world.store.stuck("acme", None, 10, patience=timedelta(minutes=5))
    assert stuck.cause == "cannot be compensated"
    assert "a runner that offers the agent" in stuck.remedy
    assert "aetheris terminate" in stuck.remedy
    with_code = await world.runner(agents=["retired"])
    assert [one.job.id for one in await world.claim(with_code)] == [job.id]


async def test_d6_a_job_that_is_terminated_needs_no_code(world: World) -> None:
    """Also where it owes a compensation, is paused, waits for an operator, or has a runner with its code."""
    with_code, other = await world.runner(agents=["a"]), await world.runner(agents=["b"])
    parked = await world.leased(with_code, agent="a")
    await world.says(with_code, parked, Park("compensation failed", operator=True))
    owing = await world.leased(with_code, agent="a")
    await world.order(owing, Cancel())
    await world.says(with_code, owing, Release("owes", needs_code=True))
    for job in (parked, owing):
        assert (await world.order(job, Terminate("enough", "ada"))).state is JobState.READY
    leased = {one.job.id: one.job for one in await end_any(world, other, 5)}

    assert set(leased) == {parked.id, owing.id}
    assert all(job.terminate and job.cancel and job.cancel_reason == "enough" for job in leased.values())


async def test_d6_the_holder_is_told_and_a_holder_that_does_not_end_the_job_loses_it(world: World) -> None:
    hanging, other = await world.runner(lease_s=10_000), await world.runner(lease_s=10_000)
    job = await world.leased(hanging)
    told = await world.order(job, Terminate("it hangs", "ada"))
    assert (told.notice, told.session) == (Notice.TERMINATE, hanging.session)
    assert (await world.store.tick(Tick(sweep=Sweep(terminations=True)))).lost == []
    await world.pass_time(6)
    (lost,) = (await world.store.tick(Tick(sweep=Sweep(terminations=True)))).lost

    assert (lost.job, lost.session, lost.lease, lost.poisoned) == (job.id, hanging.session, job.lease, False)
    (leased,) = await end_any(world, other)
    assert leased.job.lease == job.lease + 2
    assert leased.job.crash_count == 0
    # It is no crash, and what the old holder still says changes nothing.
    assert not await world.says(hanging, job, Park("late"))


async def test_d6_a_job_that_does_not_end_is_listed_with_what_it_waits_for(world: World) -> None:
    runner = await world.runner(agents=["greeter"], lease_s=10_000)
    jobs: list[Job] = [await world.leased(runner) for _ in range(2)]
    jobs.append(await world.submit(agent="unserved"))
    for job in jobs:
        await world.order(job, Cancel())
    await world.says(runner, jobs[1], Park("crossed the cancel"))
    (again,) = await world.claim(runner)
    await world.says(runner, again.job, Park("compensation failed: refund", operator=True))
    assert "does not end" not in await causes(world)
    await world.pass_time(11)
    stuck = {one.job.id: one for one in await world.store.stuck("acme", None, 10, patience=timedelta(minutes=5))}

    assert {job: one.cause for job, one in stuck.items()} == {
        jobs[0].id: "does not end",
        jobs[1].id: "does not end",
        jobs[2].id: "no runner ends it",
    }
    assert "compensation failed: refund" in stuck[jobs[1].id].remedy
    assert all("aetheris terminate" in one.remedy for one in stuck.values())


async def test_a_job_to_be_terminated_is_not_held_up(world: World) -> None:
    runner = await world.runner()
    job = await world.submit(start_after=(await world.store.look([], keep=[])).now + timedelta(hours=1))
    await world.order(job, Terminate())
    for order in (Wake(), Resume(), Requeue(), Cancel("later")):
        await world.order(job, order)

    (leased,) = await end_any(world, runner)
    assert (leased.job.id, leased.job.cancel_reason) == (job.id, "")
