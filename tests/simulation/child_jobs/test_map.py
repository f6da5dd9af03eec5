"""One function over many items: so many at a time, in their order, and the same again wherever the process dies."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aetheris import DidNotHappen, Happened, MapFailed, agent, map, sleep, step, tool  # noqa: A004 - what it is called
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.chain import first_break

from harness.crash import Fuse
from harness.world import JOB, World, turns

BAD = (1, 4)


def batch(world: World, *, tolerate: float, limit: int = 2) -> AgentDefinition[Any]:
    """Six items, each with an effect, a wait and a step; two of them fail."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        if idempotency_key in world.outside.results:
            return Happened(world.outside.results[idempotency_key])
        return DidNotHappen()

    @tool(verify=find)
    async def mail(n: int, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"mail {n}"))

    @step
    async def judge(n: int) -> int:
        if n in BAD:
            raise ValueError(f"bad {n}")
        return n

    async def item(n: int) -> int:
        await mail(n)
        await sleep(1 + (n * 5) % 3)
        return await judge(n)

    @agent("batch")
    async def batch() -> list[Any]:
        try:
            results = await map(item, range(6), limit=limit, tolerate=tolerate)
        except MapFailed as failed:
            results = ["failed", *sorted(failed.failures)]
        last = await judge(9)
        return [*(str(result) for result in results), last]

    return batch


async def batched(fuse: Fuse, tolerate: float, *, cold: bool = False) -> tuple[World, ports.Outcome]:
    world = World()
    return world, await world.drive(batch(world, tolerate=tolerate), JOB, fuses=[fuse], cold=cold)


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("tolerate", [0, 1, 2, 0.5])
async def test_a_crash_anywhere_changes_nothing(tolerate: float, cold: bool) -> None:
    counted = Fuse(-1)
    _, expected = await batched(counted, tolerate, cold=cold)
    assert isinstance(expected, ports.Completed)
    if tolerate >= 2 or tolerate == 0.5:
        assert json.loads(expected.result) == ["0", "bad 1", "2", "3", "bad 4", "5", 9]
    for number, after in itertools.product(range(counted.calls), (False, True)):
        world, outcome = await batched(Fuse(number, after=after), tolerate, cold=cold)

        where = f"{'after' if after else 'before'} write {number} of {counted.calls}"
        assert isinstance(outcome, ports.Completed), where
        assert set(world.outside.calls.values()) == {1}, where
        assert world.outside.without_intent == [], where
        assert first_break(JOB, world.commits(JOB)) is None, where
        if tolerate >= 2 or tolerate == 0.5:
            assert outcome == expected, where
        else:
            found = json.loads(outcome.result)
            assert (found[0], found[-1]) == ("failed", 9), where
            assert len(found) == int(tolerate) + 3, where


async def _in_order(order: Sequence[int], *, limit: int, tolerate: float, bad: Sequence[int] = ()) -> dict[str, Any]:
    """Items end when they are told to. What was seen: what was begun when, how many at once, and the end."""
    world = World()
    begun: list[int] = []
    doors = {n: asyncio.Event() for n in order}
    seen: dict[str, Any] = {"begun": begun, "most": 0}
    inside: set[int] = set()

    @step
    async def work(n: int) -> int:
        begun.append(n)
        inside.add(n)
        seen["most"] = max(seen["most"], len(inside))
        await doors[n].wait()
        inside.discard(n)
        if n in bad:
            raise ValueError(f"bad {n}")
        return n * n

    @agent("ordered")
    async def ordered() -> Any:
        try:
            return [str(found) for found in await map(work, range(len(order)), limit=limit, tolerate=tolerate)]
        except MapFailed as failed:
            return {str(n): str(error) for n, error in failed.failures.items()}

    run, assignment, _ = world.run(ordered, 1)
    hold = asyncio.ensure_future(run.hold(assignment))
    for n in order:
        while n not in begun and not hold.done():
            await turns(5)
            if not inside & set(order[: order.index(n)]) and n not in begun and len(begun) >= limit:
                break
        doors[n].set()
        await turns(5)
    outcome = await hold
    assert isinstance(outcome, ports.Completed)
    seen["result"] = json.loads(outcome.result)
    await run.close()
    return seen


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_the_results_are_in_the_order_of_the_items_and_not_of_their_ends(order: tuple[int, ...]) -> None:
    seen = await _in_order(order, limit=4, tolerate=0)

    assert seen["result"] == ["0", "1", "4", "9"]
    assert seen["begun"] == [0, 1, 2, 3]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_all_failures_are_told_in_any_order(order: tuple[int, ...]) -> None:
    seen = await _in_order(order, limit=4, tolerate=1, bad=(0, 3))

    assert seen["result"] == {"0": "bad 0", "3": "bad 3"}


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_no_more_than_the_limit_run_at_once_and_they_begin_in_order(limit: int) -> None:
    seen = await _in_order(range(6), limit=limit, tolerate=0)

    assert seen["most"] == limit
    assert seen["begun"] == [0, 1, 2, 3, 4, 5]


async def test_one_failure_too_many_begins_nothing_new_and_lets_the_rest_end() -> None:
    seen = await _in_order([0, 1, 2, 3, 4, 5], limit=2, tolerate=0, bad=(0,))

    assert seen["result"] == {"0": "bad 0"}
    assert seen["begun"] == [0, 1]


async def test_what_a_failed_map_had_begun_is_what_every_later_run_begins() -> None:
    """The item that failed first may be another the next time; the record says how far it came."""
    world = World()
    slow = [True]

    async def item(n: int) -> int:
        if n < 2 and not slow[0]:
            raise ValueError(f"bad {n}")
        await turns(3 + 10 * n)
        raise ValueError(f"bad {n}")

    @agent("marked")
    async def marked() -> list[int]:
        try:
            await map(item, range(9), limit=2)
        except MapFailed as failed:
            found = sorted(failed.failures)
        await sleep(1)
        return found

    def quicker(parked: ports.Parked) -> bool:
        slow[0] = False
        return False

    world.meanwhile = quicker
    outcome = await world.drive(marked, JOB, cold=True)
    (mark,) = [event for event in world.events(JOB) if isinstance(event, e.StepCommitted)]

    assert isinstance(outcome, ports.Completed)
    assert outcome.result == mark.result


async def test_what_an_earlier_run_had_begun_is_begun_again_in_any_order_of_failures() -> None:
    """The first item failed when the third was under way; taken over, it fails before the third is begun."""
    world = World()

    @step
    async def judge(n: int) -> int:
        if n == 0:
            raise ValueError("bad")
        return n

    async def item(n: int) -> int:
        if n == 0:
            await sleep(1)
        found = await judge(n)
        if n == 2:
            await sleep(100)
        return found

    @agent("early")
    async def early() -> list[int]:
        try:
            await map(item, range(9), limit=2)
        except MapFailed as failed:
            return sorted(failed.failures)
        return []

    outcome = await world.drive(early, JOB, cold=True)
    begun = [event.result for event in world.events(JOB) if isinstance(event, e.StepCommitted) and event.name == "map"]

    assert outcome == ports.Completed(b"[0]")
    assert begun == [b"[0,1,2]"]


@pytest.mark.parametrize(("call", "error"), [({"limit": 0}, "limit"), ({"tolerate": -1}, "tolerate")])
async def test_what_makes_no_sense_is_refused(call: dict[str, Any], error: str) -> None:
    @agent("wrong")
    async def wrong() -> None:
        await map(abs, [1], **call)

    outcome = await World().drive(wrong, JOB)

    assert isinstance(outcome, ports.Failed)
    assert error in outcome.failure.message


@pytest.mark.parametrize("work", [abs, lambda n: n + 1])
async def test_nothing_and_plain_functions_are_mapped_too(work: Callable[[int], int]) -> None:
    @agent("plain")
    async def plain() -> list[Any]:
        return [await map(work, []), await map(work, [-2, 3], limit=1)]

    assert await World().drive(plain, JOB) == ports.Completed(
        json.dumps([[], [work(-2), work(3)]]).replace(" ", "").encode()
    )
