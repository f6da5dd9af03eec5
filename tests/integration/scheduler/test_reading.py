"""Lists, stuck jobs, runners. In memory and in PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.lifecycle import End, Park, Pause, Progress
from aetheris_scheduler.core.page import JobListing
from aetheris_scheduler.core.session import Hello, Skills
from aetheris_scheduler.store.tick import Sweep, Tick

from .conftest import World

DONE = End(JobState.COMPLETED, b'"done"')


async def test_lists_are_paged_newest_first_and_filtered(world: World) -> None:
    runner = await world.runner()
    parent = await world.submit(agent="parent")
    made: list[Job] = []
    for n in range(10):
        made.append(await world.submit(agent=f"a{n % 2}", queue=f"q{n % 3}", parent=parent.id if n % 4 == 0 else None))
    await world.submit(tenant="other")
    taken = {leased.job.id for leased in await world.claim(runner, 4)}
    newest = [job.id for job in reversed(made)] + [parent.id]

    async def ids(**fields: object) -> list[object]:
        return [job.id for job in await world.store.list_jobs(JobListing(tenant="acme", **fields))]  # type: ignore[arg-type]

    assert await ids() == newest
    assert await ids(limit=4) == newest[:4]
    assert await ids(limit=4, before=newest[3]) == newest[4:8]
    assert await ids(states=[JobState.LEASED]) == [job for job in newest if job in taken]
    assert await ids(states=[JobState.LEASED, JobState.READY]) == newest
    assert await ids(states=[JobState.FAILED]) == []
    assert await ids(agent="a1") == [job.id for job in reversed(made) if job.agent == "a1"]
    assert await ids(queue="q0", agent="a0") == [j.id for j in reversed(made) if (j.queue, j.agent) == ("q0", "a0")]
    assert await ids(parent=parent.id) == [job.id for job in reversed(made) if job.parent == parent.id]
    assert await ids(parent=parent.id, limit=1, before=made[8].id) == [made[4].id]
    assert {job.input for job in await world.store.list_jobs(JobListing(tenant="acme"))} == {b""}


async def test_stuck_jobs_are_listed_with_cause_and_remedy_the_longest_first(world: World) -> None:
    runner = await world.runner(lease_s=100_000)
    doubtful, sleepy, frozen, well = [await world.leased(runner) for _ in range(4)]
    await world.says(runner, doubtful, Park("effect in doubt: charge", operator=True))
    now = (await world.store.look([], keep=[])).now
    await world.says(runner, sleepy, Park("sleep", wake_at=now + timedelta(seconds=30)))
    await world.says(runner, well, Progress())
    waiting = await world.submit(agent="nobody")
    paused = await world.submit()
    await world.order(paused, Pause())
    dying = await world.runner(lease_s=1)
    crashed = await world.submit(agent="fragile")
    await world.claim(dying, 1, Skills(frozenset({"fragile"})))
    await world.pass_time(400)
    await world.store.tick(Tick(sweep=Sweep(sessions=True, keep=[runner.session])))
    other = await world.submit(tenant="other")
    patience = timedelta(seconds=300)
    found = await world.store.stuck("acme", None, 100, patience=patience)

    causes = {one.job.id: one.cause for one in found}
    assert causes == {
        doubtful.id: "waits for an operator",
        sleepy.id: "wait overdue",
        frozen.id: "no progress",
        waiting.id: "no runner takes it",
        crashed.id: "crashes",
    }
    assert other.id not in causes
    assert "charge" in next(one.remedy for one in found if one.job.id == doubtful.id)
    assert [one.since for one in found] == sorted(one.since for one in found)
    first = await world.store.stuck("acme", None, 2, patience=patience)
    rest = await world.store.stuck("acme", (first[-1].since, first[-1].job.id), 100, patience=patience)
    assert [*(one.job.id for one in first), *(one.job.id for one in rest)] == [one.job.id for one in found]


async def test_runners_are_listed_by_name_with_what_they_hold(world: World) -> None:
    runners = [
        Hello(uuid4(), uuid4(), runner_id=name, agents=("a", "b"), capacity=7) for name in ("zoe", "ann", "bob", "ann")
    ]
    for runner in runners:
        await world.store.open(runner, lease_s=60)
    job = await world.submit(agent="a")
    await world.claim(runners[2])
    found = await world.store.runners(None, 10)

    assert [runner.runner_id for runner in found] == ["ann", "ann", "bob", "zoe"]
    assert [(runner.held, list(runner.agents), runner.capacity) for runner in found if runner.runner_id == "bob"] == [
        (1, ["a", "b"], 7)
    ]
    assert (await world.job(job)).runner_id == "bob"
    page = await world.store.runners(None, 1)
    rest = await world.store.runners((page[0].runner_id, page[0].session), 10)
    assert [runner.session for runner in [*page, *rest]] == [runner.session for runner in found]


async def test_get_and_ended_speak_of_the_jobs_there_are(world: World) -> None:
    runner = await world.runner()
    done = await world.leased(runner)
    await world.says(runner, done, DONE)
    ready = await world.submit()

    assert set(await world.store.get([done.id, ready.id, uuid4()])) == {done.id, ready.id}
    assert set(await world.store.ended([done.id, ready.id, uuid4()])) == {done.id}
    assert await world.store.count_ready(10) == 1
