"""Timers, delays and deadlines. In memory and in PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import Cancel, End, Notice, Park, Pause, Release, Requeue, Resume, Wake

from .conftest import World

DONE = End(JobState.COMPLETED, b'"done"')


async def test_timers_fire_once_and_only_when_they_are_due(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    jobs = [await world.leased(runner) for _ in range(3)]
    for hours, job in enumerate(jobs, 1):
        await world.says(
            runner, job, Park("sleep", wake_at=(await world.store.look([], keep=[])).now + timedelta(hours=hours))
        )
    assert (await world.sweep()).readied == 0
    await world.pass_time(3600 * 2 + 60)

    assert (await world.sweep()).readied == 2
    assert [leased.job.id for leased in await world.claim(runner, 10)] == [jobs[0].id, jobs[1].id]
    assert (await world.sweep()).readied == 0
    assert (await world.job(jobs[2])).state is JobState.PARKED


async def test_an_operator_park_has_no_timer(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    await world.says(runner, job, Park("in doubt", world.clock.now() - timedelta(days=9000), operator=True))

    assert (await world.sweep()).readied == 0
    assert (await world.store.look([], keep=[])).wake_at is None


async def test_a_released_job_waits_its_delay(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    job = await world.leased(runner)
    await world.says(runner, job, Release("tools are away", timedelta(seconds=30)))
    assert await world.claim(runner) == []
    await world.pass_time(31)
    await world.sweep()

    assert len(await world.claim(runner)) == 1


async def test_jobs_beyond_their_deadline_are_cancelled(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    now = (await world.store.look([], keep=[])).now
    held = await world.leased(runner, deadline=now + timedelta(hours=1))
    ready = await world.submit(deadline=now + timedelta(hours=1))
    later = await world.submit(deadline=now + timedelta(hours=9))
    assert (await world.sweep()).overdue_jobs == []
    await world.pass_time(3700)
    ticked = await world.sweep()

    assert set(ticked.overdue_jobs) == {held.id, ready.id}
    told = {job: answer.notice for job, answer in zip(ticked.overdue_jobs, ticked.overdue, strict=True)}
    assert told == {held.id: Notice.CANCEL, ready.id: None}
    found = await world.job(ready)
    assert (found.cancel, found.cancel_reason, found.cancel_actor) == (True, "deadline", "scheduler")
    assert not (await world.job(later)).cancel
    assert (await world.sweep()).overdue_jobs == []


async def test_a_look_tells_what_is_due_next(world: World) -> None:
    runner, mine = await world.runner(lease_s=30), await world.runner(lease_s=5)
    now = (await world.store.look([], keep=[])).now
    assert (await world.store.look([], keep=[runner.session, mine.session])).lease_deadline is None
    job = await world.leased(runner)
    await world.says(runner, job, Park("sleep", wake_at=now + timedelta(hours=1)))
    await world.submit(agent="b", deadline=now + timedelta(hours=2))
    await world.submit(agent="a", queue="q")
    held = await world.leased(mine, priority=50)
    await world.order(held, Cancel())
    look = await world.store.look([mine.session], keep=[mine.session])

    assert list(look.lanes) == [("a", "q"), ("b", "default")]
    assert (look.wake_at, look.deadline) == (now + timedelta(hours=1), now + timedelta(hours=2))
    assert look.lease_deadline is not None
    assert abs(look.lease_deadline - now - timedelta(seconds=30)) < timedelta(seconds=2)
    assert [(news.job, news.lease, news.kinds) for news in look.news] == [(held.id, 1, {Notice.WAKE, Notice.CANCEL})]
    assert (await world.store.look([runner.session], keep=[])).news == []


async def test_c3_no_order_but_an_end_starts_a_job_before_its_time(world: World) -> None:
    """Not a wake, nor a resume, nor a requeue, nor the end of a child."""
    runner = await world.runner(lease_s=10_000)
    start = (await world.store.look([], keep=[])).now + timedelta(minutes=10)
    early = await world.submit(start_after=start)
    child = await world.leased(runner, parent=early.id)
    for order in (Wake(), Pause(), Resume(), Requeue(), Wake()):
        await world.order(early, order)
    await world.says(runner, child, DONE)
    await world.sweep()

    found = await world.job(early)
    assert (found.state, found.wake_at, found.start_after) == (JobState.PARKED, start, start)
    assert (found.park_reason, found.paused, found.wake) == ("not before its time", False, False)
    assert await world.claim(runner, 10) == []
    await world.pass_time(601)
    await world.sweep()
    assert [leased.job.id for leased in await world.claim(runner, 10)] == [early.id]


async def test_c3_a_job_is_ended_before_its_time(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    early = await world.submit(start_after=(await world.store.look([], keep=[])).now + timedelta(minutes=10))
    await world.order(early, Cancel("no longer wanted", "ada"))

    assert [leased.job.id for leased in await world.claim(runner, 10)] == [early.id]
