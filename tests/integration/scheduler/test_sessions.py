"""Sessions and their leases. In memory and in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from aetheris_kernel.errors import Conflict, NotFound
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import End, Park, Requeue, Wake

from .conftest import World

DONE = End(JobState.COMPLETED, b'"done"')


async def test_a_lost_session_gives_up_its_jobs_and_their_crashes_are_counted(world: World) -> None:
    runner = await world.runner(lease_s=5)
    jobs = [await world.leased(runner) for _ in range(3)]
    assert (await world.sweep()).expired == []
    await world.pass_time(6)
    ticked = await world.sweep()

    assert ticked.expired == [runner.session]
    assert {(lost.job, lost.lease, lost.poisoned) for lost in ticked.lost} == {(job.id, 1, False) for job in jobs}
    assert {(job.state, job.crash_count) for job in (await world.store.get([j.id for j in jobs])).values()} == {
        (JobState.READY, 1)
    }
    assert (await world.sweep()).expired == []
    assert await world.store.runners(None, 10) == []


async def test_a_session_that_is_known_to_be_well_is_not_lost(world: World) -> None:
    """A set clock does not expire it, because its own scheduler gets its beats."""
    runner = await world.runner(lease_s=5)
    await world.leased(runner)
    await world.pass_time(600)

    assert (await world.sweep(keep=[runner.session])).expired == []
    assert runner.session in await world.store.renew([(runner.session, runner.stream)], lease_s=5)
    assert (await world.sweep()).expired == []


async def test_a_job_that_loses_its_lease_again_and_again_is_poisoned(world: World) -> None:
    job = await world.submit()
    for crash in range(1, 4):
        runner = await world.runner(lease_s=1)
        # After two crashes it runs alone.
        assert len(await world.claim(runner)) == (crash <= 2)
        assert await world.claim_alone(runner) == (None if crash <= 2 else job.id)
        await world.pass_time(2)
        ticked = await world.sweep(crash_limit=3)
        assert [lost.poisoned for lost in ticked.lost] == [crash == 3]
    runner = await world.runner()
    found = await world.job(job)

    assert (found.state, found.operator_only) == (JobState.PARKED, True)
    assert found.park_reason == "poisoned: its lease was lost 3 times in a row without progress"
    assert await world.claim(runner) == []
    await world.order(job, Wake())
    assert await world.claim(runner) == []
    assert (await world.order(job, Requeue())).state is JobState.READY
    (again,) = await world.claim(runner)
    assert again.job.crash_count == 0


async def test_a_returning_session_keeps_what_it_holds_and_gives_back_what_it_never_got(world: World) -> None:
    runner = await world.runner()
    kept, unknown = await world.leased(runner), await world.leased(runner)
    held = {kept.id: 1, world.clock.new_id(): 4}
    opened = await world.store.open(replace(runner, stream=uuid4(), held=held), lease_s=60)

    assert (opened.kept, opened.revoked) == ({kept.id: 1}, True)
    given_back = await world.job(unknown)
    assert (given_back.state, given_back.lease, given_back.crash_count) == (JobState.READY, 2, 0)


async def test_a_session_that_has_expired_is_refused(world: World) -> None:
    runner = await world.runner(lease_s=1)
    await world.pass_time(2)
    again = replace(runner, stream=uuid4())
    with pytest.raises(Conflict):
        await world.store.open(again, lease_s=60)
    await world.sweep()
    with pytest.raises(Conflict):
        await world.store.open(again, lease_s=60)

    assert await world.store.renew([(runner.session, runner.stream)], lease_s=60) == {}


async def test_a_lost_stream_leaves_the_grace_and_no_more_than_the_lease(world: World) -> None:
    short, long = await world.runner(lease_s=0.5), await world.runner(lease_s=60)
    for runner in (short, long):
        await world.leased(runner)
        assert not await world.store.leave(runner.session, runner.stream, grace_s=2)
    await world.pass_time(1)

    assert (await world.sweep()).expired == [short.session]
    await world.pass_time(1.5)
    assert (await world.sweep()).expired == [long.session]


async def test_a_session_that_leaves_with_nothing_held_is_gone(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    await world.says(runner, job, Park("signal"))

    assert await world.store.leave(runner.session, runner.stream, grace_s=2)
    assert await world.store.runners(None, 10) == []
    # And may come again as if for the first time.
    await world.store.open(runner, lease_s=60)


async def test_what_an_older_stream_says_of_its_session_is_void(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    later = replace(runner, stream=uuid4(), held={job.id: 1})
    await world.store.open(later, lease_s=60)

    assert await world.store.renew([(runner.session, runner.stream)], lease_s=60) == {}
    assert not await world.store.leave(runner.session, runner.stream, grace_s=0)
    await world.pass_time(1)
    assert (await world.sweep()).expired == []
    await world.submit()
    assert await world.claim(runner) == []
    assert len(await world.claim(later)) == 1


async def test_drain(world: World) -> None:
    runner = await world.runner()
    await world.store.drain(runner.session)

    assert await world.store.renew([(runner.session, runner.stream)], lease_s=60) == {runner.session: True}
    assert (await world.store.open(replace(runner, stream=uuid4()), lease_s=60)).draining
    with pytest.raises(NotFound):
        await world.store.drain(uuid4())
