"""Waits, signals and parallel branches, however the memory of them is lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from aetheris import agent, gather, signal, sleep, step
from aetheris_engine import ports
from aetheris_journal import events as e

from harness.world import JOB, World, turns

OTHER = UUID("018f0000-0000-7000-8000-000000000002")


async def test_a_wide_parallel_block_keeps_every_event():
    """R6"""
    world = World()

    @step
    async def part(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @agent("wide")
    async def wide() -> list[int]:
        return await gather(*(part(number) for number in range(32)))

    outcome = await world.drive(wide, JOB)

    assert outcome == ports.Completed(json.dumps(list(range(32)), separators=(",", ":")).encode())
    paths = [event.path for event in world.events(JOB) if isinstance(event, e.StepCommitted)]
    assert sorted(paths) == sorted(f"0.{number}.0" for number in range(32))


async def test_a_signal_ends_one_wait_and_only_once_however_often_it_is_heard():
    """H1, J5: heard before, during and after; the chain has one end."""
    world = World()

    @agent("waits")
    async def waits() -> list[Any]:
        return [await signal("go"), await signal("go")]

    run, assignment, _ = world.run(waits, 1)
    parked = await run.hold(assignment)
    world.signals = {"go": b"7"}
    world.pass_time(JOB, ports.Parked("signal: go"))
    again = world.assignment(waits, JOB, 2, b"{}")
    held = asyncio.ensure_future(run.hold(again))
    for _ in range(3):
        run.wake()
        await turns(2)

    assert isinstance(parked, ports.Parked)
    assert await held == ports.Completed(b"[7,7]")
    ends = [event for event in world.events(JOB) if isinstance(event, e.WaitCompleted)]
    assert [(event.path, event.payload) for event in ends] == [("0", b"7"), ("1", b"7")]
    assert set(world.inbox.settled) == {f"{JOB}:go"}
    await run.close()


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_signal_is_there_for_a_second_wait_on_every_run(cold: bool):
    world = World()
    world.signals = {"go": b"7"}

    @agent("twice")
    async def twice() -> list[Any]:
        first = await signal("go")
        await sleep("1h")
        return [first, await signal("go")]

    assert await world.drive(twice, JOB, cold=cold) == ports.Completed(b"[7,7]")


async def test_a_note_that_is_in_the_chain_but_still_offered_is_settled_again():
    world = World()
    world.signals = {"go": b"7"}

    @agent("asks")
    async def asks() -> list[Any]:
        return [await signal("go"), await signal("then")]

    run, assignment, _ = world.run(asks, 1)
    world.pass_time(JOB, ports.Parked("signal: go"))
    await run.hold(assignment)
    await run.close()
    world.inbox.settled.clear()
    again, taken, _ = world.run(asks, 2)
    await again.hold(taken)

    assert world.inbox.settled == [f"{JOB}:go"]
    assert len([event for event in world.events(JOB) if isinstance(event, e.WaitCompleted)]) == 1
    await again.close()
