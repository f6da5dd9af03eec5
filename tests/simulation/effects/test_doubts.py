"""Many effects in doubt at once, and a ledger that is away while their resolutions are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aetheris import DidNotHappen, Happened, agent, gather, signal, step, tool
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.effect import EffectResolution, EffectState
from aetheris_journal.events import Resolution, Source

from harness.world import JOB, World, turns


def left_inside(world: World, count: int, **policy: Any) -> Any:
    """An agent with that many tools at once, which never return in the first lease."""

    @tool(**policy)
    async def charge(number: int, *, idempotency_key: str) -> int:
        if number not in world.outside.results:
            world.outside.results[str(number)] = number
            await asyncio.get_running_loop().create_future()
        return number

    @agent("pays")
    async def pays() -> int:
        return sum(await gather(*(charge(number) for number in range(count))))

    return pays


async def until(happened: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if happened():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


async def crashed(world: World, agent_: Any, count: int) -> None:
    """The first holder dies while it is inside all of its tools."""
    run, assignment, journal = world.run(agent_, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await until(lambda: sum(row.state is EffectState.STARTED for row in world.store.rows.values()) == count)
    journal.open.clear()
    held.cancel()
    await asyncio.wait({held})
    await run.close()


async def test_a4_two_thousand_doubts_are_resolved_with_a_few_requests():
    world, count = World(), 2_000
    pays = left_inside(world, count)
    await crashed(world, pays, count)
    for number, (name, row) in enumerate(world.store.rows.items()):
        told = EffectResolution(Resolution.COMMITTED, Source.PERSON, b"%d" % number)
        world.store.rows[name] = replace(row, resolution=told)

    run, assignment, journal = world.run(pays, 2)
    outcome = await run.hold(assignment)
    await run.close()

    assert outcome == ports.Completed(b"%d" % sum(range(count)))
    assert sum(journal.asked) == count
    assert len(journal.asked) < 10


async def test_a4_a_ledger_that_is_away_while_a_doubt_is_resolved_is_waited_for():
    """The agent would see an error that no replay of its record gives."""
    world = World()
    seen: list[BaseException] = []

    async def find() -> Any:
        return Happened(0)

    pays = left_inside(world, 1, verify=find)

    @agent("pays")
    async def watched() -> Any:
        try:
            return await pays.function()
        except BaseException as error:
            seen.append(error)
            raise

    await crashed(world, watched, 1)
    seen.clear()
    run, assignment, journal = world.run(watched, 2)
    journal.answering.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await until(lambda: bool(journal.asked))
    await turns(200)
    waiting = not held.done()
    journal.answering.set()

    assert await held == ports.Completed(b"0")
    assert waiting
    assert seen == []
    await run.close()


async def test_a4_a_doubt_of_a_branch_that_was_cancelled_keeps_no_other_from_its_resolution():
    world, count = World(), 3

    async def find() -> Any:
        return DidNotHappen()

    pays = left_inside(world, count, verify=find)
    await crashed(world, pays, count)

    run, assignment, journal = world.run(pays, 2)
    held = asyncio.ensure_future(run.hold(assignment))
    await until(lambda: bool(journal.asked))
    run.cancel("stop")

    assert await held == ports.Cancelled("stop")
    await run.close()


@pytest.mark.parametrize("entered", [True, False], ids=["inside", "asking"])
async def test_an_effect_whose_run_stops_at_a_divergence_is_not_left_open(entered: bool):
    """The run can still record: a doubt if the tool was entered; else that it was not, once the permission comes."""
    world, inside, asked = World(), asyncio.Event(), asyncio.Event()
    change = 1

    @tool
    async def charge() -> None:
        inside.set()
        await asyncio.get_running_loop().create_future()

    @step
    async def look(number: int) -> int:
        return number

    async def other() -> None:
        await asked.wait()
        await look(change)
        await signal("never")

    async def pays_first() -> None:
        if change == 1:
            # No command, so nothing of this branch is in the record of the first run.
            await asyncio.get_running_loop().create_future()
        await charge()

    @agent("changes")
    async def changes() -> None:
        await gather(pays_first(), other())

    asked.set()
    run, assignment, _ = world.run(changes, 1)
    first = asyncio.ensure_future(run.hold(assignment))
    await until(lambda: any(isinstance(event, e.JobWaiting) for event in world.events(JOB)))
    first.cancel()
    await asyncio.wait({first})
    await run.close()
    asked.clear()
    change = 2
    run, assignment, journal = world.run(changes, 2)
    held = asyncio.ensure_future(run.hold(assignment))
    if entered:
        await inside.wait()
    else:
        commits = len(world.commits(JOB))
        await until(lambda: len(world.commits(JOB)) > commits)
        journal.open.clear()
        await turns()
    asked.set()
    await turns()
    journal.open.set()
    outcome = await held
    await run.close()

    assert isinstance(outcome, ports.Parked)
    assert "non-determinism" in outcome.reason
    assert EffectState.STARTED not in {row.state for row in world.store.rows.values()}
