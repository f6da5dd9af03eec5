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
    race,
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
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import Cancel

from harness.cluster_simulation import ClusterSimulation
from harness.crash import Fuse
from harness.world import World, turns

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


async def lived(build: Build, fuse: Fuse, *, warm: bool = True) -> tuple[ClusterSimulation, UUID]:
    world = World()
    agents = build(world)
    cluster = ClusterSimulation(agents, world)
    root = await cluster.submit(agents[-1])
    await cluster.live([fuse], warm=warm)
    return cluster, root


async def check_all(cluster: ClusterSimulation, where: str) -> None:
    """Every chain is whole, ends once, and replays."""
    for job in cluster.scheduler.jobs.values():
        events = cluster.world.events(job.id)
        assert first_break(job.id, cluster.world.commits(job.id)) is None, where
        assert sum(isinstance(event, (e.JobCompleted, e.JobFailed, e.JobCancelled)) for event in events) == 1, where
        await check(cluster.agent(job.agent), events, job.id)
    assert set(cluster.world.outside.calls.values()) <= {1}, where
    assert cluster.world.outside.without_intent == [], where


def result_of(cluster: ClusterSimulation, job: UUID) -> Any:
    return json.loads(cluster.scheduler.jobs[job].result or b"null")


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_anywhere_makes_each_child_once_and_hears_of_it_once(after: bool, warm: bool) -> None:
    counted = Fuse(-1)
    await lived(trade, counted, warm=warm)
    assert counted.calls > 15
    for number in range(counted.calls):
        cluster, root = await lived(trade, Fuse(number, after=after), warm=warm)

        where = f"{'after' if after else 'before'} write {number} of {counted.calls}"
        assert result_of(cluster, root) == EXPECTED, where
        assert len(cluster.children(root)) == 4, where
        assert len(cluster.scheduler.jobs) == 6, where
        assert sorted(cluster.world.outside.calls.values()) == [1, 1, 1], where
        ends = [event.child_job_id for event in cluster.world.events(root) if isinstance(event, e.ChildCompleted)]
        assert sorted(ends) == [str(child.id) for child in cluster.children(root)], where
        await check_all(cluster, where)


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

    async def run(fuse: Fuse) -> tuple[ClusterSimulation, UUID]:
        world = World()
        cluster = ClusterSimulation(closing(world), world)
        root = await cluster.submit(cluster.agent("parent"), json.dumps({"args": [how]}).encode())

        def cancel() -> bool:
            open_now = cluster.scheduler.jobs[root].state is JobState.PARKED and not cluster.scheduler.jobs[root].cancel
            if open_now:
                cluster.soon(Cancel("enough"), root)
            return open_now

        cluster.meanwhile = cancel
        await cluster.live([fuse])
        return cluster, root

    counted = Fuse(-1)
    await run(counted)
    for number in range(counted.calls):
        cluster, root = await run(Fuse(number, after=after))

        where = f"{how}: {'after' if after else 'before'} write {number} of {counted.calls}"
        ended = {"return": JobState.COMPLETED, "raise": JobState.FAILED, "wait": JobState.CANCELLED}[how]
        assert cluster.scheduler.jobs[root].state is ended, where
        first, middle, left = cluster.children(root)
        assert first.state is JobState.CANCELLED, where
        assert middle.state is JobState.CANCELLED, where
        # If the child had not run yet, there is no grandchild.
        assert {child.state for child in cluster.children(middle.id)} <= {JobState.CANCELLED}, where
        assert left.state is JobState.COMPLETED, where
        assert "its parent has ended" in first.cancel_reason, where
        await check_all(cluster, where)


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

    cluster, root = await lived(build, Fuse(-1))

    assert result_of(cluster, root)[:3] == ["a", "b", "b"]
    assert len(cluster.children(root)) == 2


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
    cluster = ClusterSimulation(agents, world)
    root = await cluster.submit(agents[-1])

    def cancel() -> bool:
        (child,) = cluster.children(root)
        cluster.soon(Cancel("not wanted"), child.id)
        return True

    cluster.meanwhile = cancel
    await cluster.live()

    assert result_of(cluster, root) == "not wanted"


async def test_each_child_costs_one_request() -> None:
    """The parent asks about each child by name once; after that it reads on from the last end it saw, at every wake."""

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

    cluster, root = await lived(build, Fuse(-1))

    assert result_of(cluster, root) == sum(range(300))
    assert sum(cluster.asked) == 300
    assert len(cluster.asked) < 100


async def test_the_scheduler_away_holds_a_parent_up_and_nothing_else() -> None:
    world = World()
    agents = trade(world)
    cluster = ClusterSimulation(agents, world)
    root = await cluster.submit(agents[-1])
    cluster.away = True

    def back() -> bool:
        cluster.away = False
        return False

    cluster.meanwhile = back
    await cluster.live()

    assert result_of(cluster, root) == EXPECTED


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

    cluster, root = await lived(build, Fuse(-1))

    assert result_of(cluster, root) is True


async def test_a_child_that_its_former_holder_was_about_to_submit_is_closed_too() -> None:
    """Its parent dies between writing the child down and asking for it, and is cancelled before it goes on."""
    world = World()
    agents = closing(world)
    cluster = ClusterSimulation(agents, world)
    root = await cluster.submit(cluster.agent("parent"), b'{"args":["wait"]}')
    await cluster.live([Fuse(1)], once=True)
    (started,) = [event for event in world.events(root) if isinstance(event, e.ChildStarted)]
    assert not cluster.children(root)
    await cluster.order(root, Cancel("enough"))
    await cluster.live()
    (child,) = cluster.children(root)

    assert cluster.scheduler.jobs[root].state is JobState.CANCELLED
    assert (str(child.id), child.state) == (started.child_job_id, JobState.CANCELLED)


def quoting(world: World) -> list[AgentDefinition[Any]]:
    """A parent that races two children, cancels the slower, and says how both ended."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        if idempotency_key in world.outside.results:
            return Happened(world.outside.results[idempotency_key])
        return DidNotHappen()

    async def release(order: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"released {order}"))

    @tool(verify=find, compensate=tool(verify=find, name="release")(release))
    async def reserve(order: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"reserved {order}"))

    @agent("quote")
    async def quote(order: str, hours: int) -> str:
        await reserve(order)
        await sleep(f"{hours}h")
        return f"quote for {order}"

    @agent("buyer")
    async def buyer() -> list[str]:
        slow, third = await spawn(quote, "slow", 48), await spawn(quote, "third", 72)

        async def fast() -> str:
            return str(await (await spawn(quote, "fast", 1)))

        won = await race(slow, fast())
        await third.cancel()
        ends = []
        for child in (slow, third):
            try:
                ends.append(str(await child))
            except ChildCancelled as cancelled:
                ends.append(f"cancelled: {cancelled}")
        return [won, *ends]

    return [quote, buyer]


QUOTED = ["quote for fast", "cancelled: its parent cancelled it", "cancelled: its parent cancelled it"]


async def test_a_child_that_loses_a_race_or_is_cancelled_takes_back_what_it_did_and_its_parent_records_the_end():
    world = World()
    cluster = ClusterSimulation(quoting(world), world)
    parent = await cluster.submit(cluster.agent("buyer"))

    await cluster.live()

    assert json.loads(cluster.scheduler.jobs[parent].result) == QUOTED
    states = {json.loads(job.input)["args"][0]: job.state for job in cluster.children(parent)}
    assert states == {"fast": JobState.COMPLETED, "slow": JobState.CANCELLED, "third": JobState.CANCELLED}
    assert sorted(world.outside.results.values()) == [
        "released slow", "released third", "reserved fast", "reserved slow", "reserved third",
    ]  # fmt: skip
    completed = [event for event in world.events(parent) if isinstance(event, e.ChildCompleted)]
    assert sorted(event.failure.type if event.failure else "" for event in completed) == ["", "Cancelled", "Cancelled"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_x1_of_a_race_between_children_a_crash_at_any_write_changes_nothing(after: bool):
    fuse = Fuse(-1)
    world = World()
    cluster = ClusterSimulation(quoting(world), world)
    await cluster.submit(cluster.agent("buyer"))
    await cluster.live([fuse])
    for number in range(fuse.calls):
        world = World()
        cluster = ClusterSimulation(quoting(world), world)
        parent = await cluster.submit(cluster.agent("buyer"))
        await cluster.live([Fuse(number, after=after)], warm=number % 2 == 0)

        assert json.loads(cluster.scheduler.jobs[parent].result) == QUOTED, number
        assert set(world.outside.calls.values()) == {1}, number
        assert len(world.outside.calls) == 5, number
        assert first_break(parent, world.commits(parent)) is None, number
