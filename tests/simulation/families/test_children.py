"""J9 and R6: children are made once, heard of once, and closed with their parent, wherever the process dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from aetheris import (
    Child,
    ChildCancelled,
    ChildFailed,
    DidNotHappen,
    Happened,
    agent,
    gather,
    signal,
    sleep,
    spawn,
    step,
    tool,
)
from aetheris.definitions import AgentDefinition
from aetheris.replay import check
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_scheduler.core.job import State
from aetheris_scheduler.core.lifecycle import Cancel
from aetheris_testkit.crash import Fuse
from aetheris_testkit.household import Household
from aetheris_testkit.world import World, turns

Build = Callable[[World], list[AgentDefinition[Any]]]


def trade(world: World) -> list[AgentDefinition[Any]]:
    """A parent with four children: two act, one fails, one has a child of its own."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        if idempotency_key in world.outside.results:
            return Happened(world.outside.results[idempotency_key])
        return DidNotHappen()

    @tool(verify=find)
    async def ship(what: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"shipped {what}"))

    @agent("leaf")
    async def leaf(what: str) -> str:
        await sleep("1h")
        return await ship(what)

    @agent("broken")
    async def broken() -> None:
        raise ValueError("no such thing")

    @agent("middle")
    async def middle(what: str) -> str:
        return f"middle {await (await spawn(leaf, what))}"

    @agent("parent")
    async def parent() -> list[Any]:
        a, b = await gather(spawn(leaf, "a"), spawn("leaf", "b"))
        c = await spawn(middle, "c", key="c")
        again = await spawn(middle, "c", key="c")
        d = await spawn(broken)
        try:
            await d
        except ChildFailed as failed:
            said = [failed.type, failed.message]
        # In another order than they end, and one of them twice.
        results = [await c, *await gather(a, again), await b, await Child(a.job_id)]
        return [*results, said]

    return [leaf, broken, middle, parent]


EXPECTED = [
    "middle shipped c",
    "shipped a",
    "middle shipped c",
    "shipped b",
    "shipped a",
    ["ValueError", "no such thing"],
]


async def lived(build: Build, fuse: Fuse, *, warm: bool = True) -> tuple[Household, UUID]:
    world = World()
    agents = build(world)
    house = Household(agents, world)
    root = await house.submit(agents[-1])
    await house.live([fuse], warm=warm)
    return house, root


async def check_all(house: Household, where: str) -> None:
    """Every chain is whole, ends once, and replays."""
    for job in house.scheduler.jobs.values():
        events = house.world.events(job.id)
        assert first_break(job.id, house.world.commits(job.id)) is None, where
        assert sum(isinstance(event, (e.JobCompleted, e.JobFailed, e.JobCancelled)) for event in events) == 1, where
        await check(house.agent(job.agent), events, job.id)
    assert set(house.world.outside.calls.values()) <= {1}, where
    assert house.world.outside.without_intent == [], where


def result_of(house: Household, job: UUID) -> Any:
    return json.loads(house.scheduler.jobs[job].result or b"null")


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_anywhere_makes_each_child_once_and_hears_of_it_once(after: bool, warm: bool) -> None:
    counted = Fuse(-1)
    await lived(trade, counted, warm=warm)
    assert counted.calls > 15
    for number in range(counted.calls):
        house, root = await lived(trade, Fuse(number, after=after), warm=warm)

        where = f"{'after' if after else 'before'} write {number} of {counted.calls}"
        assert result_of(house, root) == EXPECTED, where
        assert len(house.children(root)) == 4, where
        assert len(house.scheduler.jobs) == 6, where
        assert sorted(house.world.outside.calls.values()) == [1, 1, 1], where
        ends = [event.child_job_id for event in house.world.events(root) if isinstance(event, e.ChildCompleted)]
        assert sorted(ends) == [str(child.id) for child in house.children(root)], where
        await check_all(house, where)


def closing(world: World) -> list[AgentDefinition[Any]]:
    """A parent that ends while its children and a grandchild wait, and one child is to be left alone."""

    @agent("waits")
    async def waits() -> str:
        await sleep("1d")
        return "done"

    @agent("middle")
    async def middle() -> str:
        return str(await (await spawn(waits)))

    @agent("parent")
    async def parent(how: str = "return") -> str:
        await spawn(waits)
        await spawn(middle)
        await spawn(waits, on_parent_close="abandon")
        if how == "raise":
            raise ValueError("enough")
        if how == "wait":
            await signal("never")
        return "over"

    return [waits, middle, parent]


@pytest.mark.parametrize("how", ["return", "raise", "wait"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_parent_that_ends_takes_its_children_and_theirs_along(how: str, after: bool) -> None:
    """J9, in a child: completed, failed, or cancelled itself."""

    async def run(fuse: Fuse) -> tuple[Household, UUID]:
        world = World()
        house = Household(closing(world), world)
        root = await house.submit(house.agent("parent"), json.dumps({"args": [how]}).encode())

        def cancel() -> bool:
            open_now = house.scheduler.jobs[root].state is State.PARKED and not house.scheduler.jobs[root].cancel
            if open_now:
                house.soon(Cancel("enough"), root)
            return open_now

        house.meanwhile = cancel
        await house.live([fuse])
        return house, root

    counted = Fuse(-1)
    await run(counted)
    for number in range(counted.calls):
        house, root = await run(Fuse(number, after=after))

        where = f"{how}: {'after' if after else 'before'} write {number} of {counted.calls}"
        ended = {"return": State.COMPLETED, "raise": State.FAILED, "wait": State.CANCELLED}[how]
        assert house.scheduler.jobs[root].state is ended, where
        first, middle, left = house.children(root)
        assert first.state is State.CANCELLED, where
        assert middle.state is State.CANCELLED, where
        # Where nobody had come to its grandchild, there is none.
        assert {child.state for child in house.children(middle.id)} <= {State.CANCELLED}, where
        assert left.state is State.COMPLETED, where
        assert "its parent has ended" in first.cancel_reason, where
        await check_all(house, where)


async def test_the_same_key_with_other_arguments_is_no_child() -> None:
    def build(world: World) -> list[AgentDefinition[Any]]:
        @agent("leaf")
        async def leaf(what: str) -> str:
            return what

        @agent("parent")
        async def parent() -> list[str]:
            one, other = await spawn(leaf, "a", key="k"), await spawn(leaf, "b", key="k2")
            third = await spawn(leaf, "b", key="k2")
            try:
                await (await spawn(leaf, "c", key="k3", queue="q" * 129))
            except ValueError as error:
                said = str(error)
            return [await one, await other, await third, said]

        return [leaf, parent]

    house, root = await lived(build, Fuse(-1))

    assert result_of(house, root)[:3] == ["a", "b", "b"]
    assert len(house.children(root)) == 2


async def test_a_child_that_was_cancelled_says_so_to_its_parent() -> None:
    def build(world: World) -> list[AgentDefinition[Any]]:
        @agent("leaf")
        async def leaf() -> None:
            await signal("never")

        @agent("parent")
        async def parent() -> str:
            try:
                await (await spawn(leaf))
            except ChildCancelled as cancelled:
                return str(cancelled)
            return "?"

        return [leaf, parent]

    world = World()
    agents = build(world)
    house = Household(agents, world)
    root = await house.submit(agents[-1])

    def cancel() -> bool:
        (child,) = house.children(root)
        house.soon(Cancel("not wanted"), child.id)
        return True

    house.meanwhile = cancel
    await house.live()

    assert result_of(house, root) == "not wanted"


async def test_each_child_costs_one_question() -> None:
    """Each is asked about by name once; what ends later is read on from there, whatever woke the parent."""

    def build(world: World) -> list[AgentDefinition[Any]]:
        @agent("leaf")
        async def leaf(number: int) -> int:
            await sleep(number % 7)
            return number

        @agent("parent")
        async def parent() -> int:
            children = [await spawn(leaf, number) for number in range(300)]
            return sum(await gather(*children))

        return [leaf, parent]

    house, root = await lived(build, Fuse(-1))

    assert result_of(house, root) == sum(range(300))
    assert sum(house.asked) == 300
    assert len(house.asked) < 100


async def test_the_scheduler_away_holds_a_parent_up_and_nothing_else() -> None:
    world = World()
    agents = trade(world)
    house = Household(agents, world)
    root = await house.submit(agents[-1])
    house.away = True

    def back() -> bool:
        house.away = False
        return False

    house.meanwhile = back
    await house.live()

    assert result_of(house, root) == EXPECTED


async def test_a_busy_parent_hears_of_its_child_at_once() -> None:
    """It is held, for a step of its runs; the child's end ends the wait of another branch."""
    heard = []

    def build(world: World) -> list[AgentDefinition[Any]]:
        @agent("leaf")
        async def leaf() -> int:
            return 7

        @step
        async def busy() -> bool:
            for _ in range(500):
                await turns(1)
                if heard:
                    return True
            return False

        async def listening() -> None:
            heard.append(await (await spawn(leaf)))

        @agent("parent")
        async def parent() -> bool:
            return (await gather(busy(), listening()))[0]

        return [leaf, parent]

    house, root = await lived(build, Fuse(-1))

    assert result_of(house, root) is True


async def test_a_child_that_its_former_holder_was_about_to_submit_is_closed_too() -> None:
    """Its parent dies between writing the child down and asking for it, and is cancelled before it goes on."""
    world = World()
    agents = closing(world)
    house = Household(agents, world)
    root = await house.submit(house.agent("parent"), b'{"args":["wait"]}')
    await house.live([Fuse(1)], once=True)
    (started,) = [event for event in world.events(root) if isinstance(event, e.ChildStarted)]
    assert not house.children(root)
    await house.order(root, Cancel("enough"))
    await house.live()
    (child,) = house.children(root)

    assert house.scheduler.jobs[root].state is State.CANCELLED
    assert (str(child.id), child.state) == (started.child_job_id, State.CANCELLED)
