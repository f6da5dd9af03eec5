"""Children and their parents: a child's end and its parent's wake are one, and no end is missed or told twice."""

from __future__ import annotations

import asyncio
import itertools
from uuid import UUID, uuid4

import pytest
from aetheris_kernel.errors import Invalid, KeyReused
from aetheris_scheduler.core.job import Fork, JobState
from aetheris_scheduler.core.lifecycle import End, Notice, Park, Pause
from aetheris_scheduler.store.contract import Ended, Ends
from aetheris_scheduler.store.tick import JobOutcome, Placement, Tick

from .conftest import PostgresWorld, World

DONE = End(JobState.COMPLETED, b"1")


async def test_a_childs_end_wakes_a_parent_that_is_parked(world: World) -> None:
    runner = await world.runner()
    parent = await world.leased(runner)
    child = await world.leased(runner, parent=parent.id)
    await world.says(runner, parent, Park("child"))
    await world.says(runner, child, DONE)

    assert (await world.job(parent)).state is JobState.READY
    assert await world.store.ends(Ends(parent.id, 0)) == Ended({child.id}, 1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_child_that_ends_while_its_parent_parks_is_never_missed(world: World, order: tuple[int, ...]) -> None:
    """In every order in which the three outcomes may come, and in any number of ticks."""
    for cut in range(3):
        await world.clear()
        runner = await world.runner()
        parent = await world.leased(runner)
        first, second = [await world.leased(runner, parent=parent.id) for _ in range(2)]
        said = [
            JobOutcome(runner.session, parent.id, parent.lease, Park("child")),
            JobOutcome(runner.session, first.id, first.lease, DONE),
            JobOutcome(runner.session, second.id, second.lease, DONE),
        ]
        in_order = [said[n] for n in order]
        for part in (in_order[:cut], in_order[cut:]):
            await world.store.tick(Tick(outcomes=part))

        assert (await world.job(parent)).state is JobState.READY
        assert (await world.store.ends(Ends(parent.id, 0))).jobs == {first.id, second.id}


async def test_the_holder_of_a_parent_is_told(world: World) -> None:
    runner = await world.runner()
    parent = await world.leased(runner)
    child = await world.leased(runner, parent=parent.id)
    ticked = await world.store.tick(Tick(outcomes=[JobOutcome(runner.session, child.id, child.lease, DONE)]))

    assert ticked.parents == [parent.id]
    assert [(woken.notice, woken.session) for woken in ticked.woken] == [(Notice.WAKE, runner.session)]
    assert (await world.job(parent)).wake


async def test_an_end_that_is_said_twice_is_told_once(world: World) -> None:
    runner = await world.runner()
    parent = await world.leased(runner)
    child = await world.leased(runner, parent=parent.id)
    for _ in range(2):
        assert await world.says(runner, child, DONE)

    assert await world.store.ends(Ends(parent.id, 0)) == Ended({child.id}, 1)


async def test_a_parent_that_has_ended_hears_nothing(world: World) -> None:
    runner = await world.runner()
    parent = await world.leased(runner)
    child = await world.leased(runner, parent=parent.id)
    await world.says(runner, parent, DONE)
    await world.says(runner, child, DONE)

    assert (await world.job(parent)).state is JobState.COMPLETED
    assert (await world.job(child)).state is JobState.COMPLETED


async def test_a_paused_parent_and_one_for_an_operator_stay_where_they_are(world: World) -> None:
    runner = await world.runner()
    parents = [await world.leased(runner) for _ in range(2)]
    children = [await world.leased(runner, parent=parent.id) for parent in parents]
    await world.says(runner, parents[0], Park("doubt", operator=True))
    await world.order(parents[1], Pause())
    await world.says(runner, parents[1], Park("paused"))
    for child in children:
        await world.says(runner, child, DONE)

    assert (await world.job(parents[0])).state is JobState.PARKED
    assert (await world.job(parents[0])).wake
    assert not await world.claim(runner)


async def test_ends_are_read_on_page_by_page_and_by_name(world: World) -> None:
    runner = await world.runner()
    parent = await world.leased(runner)
    children = [await world.leased(runner, parent=parent.id) for _ in range(5)]
    for child in children:
        await world.says(runner, child, DONE)
    ids = [child.id for child in children]

    assert await world.store.ends(Ends(parent.id, 0, limit=2)) == Ended(set(ids[:2]), 2, more=True)
    assert await world.store.ends(Ends(parent.id, 2, limit=9)) == Ended(set(ids[2:]), 5)
    assert await world.store.ends(Ends(parent.id, 5)) == Ended(set(), 5)
    assert await world.store.ends(Ends(parent.id, None, [ids[3], uuid4()])) == Ended({ids[3]}, 5)
    assert await world.store.ends(Ends(uuid4(), None, ids)) == Ended(set(), 0)


async def test_two_schedulers_number_the_ends_without_a_gap(postgres_world: PostgresWorld) -> None:
    """A number that becomes visible after a greater one would never be read."""
    world = postgres_world
    runner = await world.runner()
    parent = await world.leased(runner)
    children = [await world.leased(runner, parent=parent.id) for _ in range(24)]
    seen: list[UUID] = []

    async def read_on() -> None:
        after = 0
        while len(seen) < len(children):
            page = await world.store.ends(Ends(parent.id, after))
            seen.extend(page.jobs)
            after = page.next

    reading = asyncio.create_task(read_on())
    await asyncio.gather(*(world.says(runner, child, DONE) for child in children))
    await asyncio.wait_for(reading, 10)

    assert sorted(seen) == sorted(child.id for child in children)


async def test_who_submitted_a_job_and_whose_fork_it_is_are_kept(world: World) -> None:
    fork = Fork(uuid4(), 7, "ask", "3.1")
    runner = await world.runner()
    submitted = await world.submit(actor="ann", fork=fork)
    (leased,) = await world.claim(runner)

    for job in (submitted, leased.job, await world.job(submitted)):
        assert (job.actor, job.fork) == ("ann", fork)


async def test_a_fork_is_another_request_and_another_sender_is_not(world: World) -> None:
    fork = Fork(uuid4(), 7, "ask")
    first = await world.submit(idempotency_key="k", actor="ann", fork=fork)
    again = await world.submit(idempotency_key="k", actor="bob", fork=fork)
    tick = Tick(placements=[Placement(world.submission(idempotency_key="k"))])
    (refused,) = (await world.store.tick(tick)).submitted

    assert again.id == first.id
    assert isinstance(refused, KeyReused)


async def test_no_job_is_its_own_parent(world: World) -> None:
    me = world.clock.new_id()
    with pytest.raises(Invalid):
        world.submission(id=me, parent=me)
