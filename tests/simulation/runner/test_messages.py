"""H4: the messages of a job, in order and once, however its memory is lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aetheris import agent, gather, receive, signal, step
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_engine.core.message_buffer import HELD_ENTRIES_MAX
from aetheris_journal import events as e
from aetheris_journal.chain import first_break

from harness.crash import Fuse
from harness.world import JOB, World, turns


def ends(world: World) -> list[e.WaitCompleted]:
    return [event for event in world.events(JOB) if isinstance(event, e.WaitCompleted)]


def conversation(count: int) -> AgentDefinition[Any]:
    @step
    async def note(heard: int) -> int:
        return heard

    @agent("conversation")
    async def conversation() -> list[Any]:
        heard = []
        for _ in range(count):
            heard.append(await note(await receive()))
        other = await receive("other")
        return [heard, other]

    return conversation


def talkative(world: World, count: int) -> None:
    """Two messages are there before the job; the others come one by one, whenever it waits."""
    sent = iter(range(2, count))
    world.inbox.message(JOB, 0, 0)
    world.inbox.message(JOB, 1, 1)

    def meanwhile(parked: ports.Parked) -> bool:
        if "message: other" in parked.reason:
            world.inbox.message(JOB, 0, "bye", "other")
        elif "message" in parked.reason:
            number = next(sent, None)
            if number is not None:
                world.inbox.message(JOB, number, number)
        return True

    world.meanwhile = meanwhile


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_before_or_after_any_write_neither_loses_nor_doubles_a_message(after: bool, cold: bool):
    measured = World()
    talkative(measured, 5)
    fuse = Fuse(-1)
    await measured.drive(conversation(5), JOB, fuses=[fuse], cold=cold)
    for number in range(fuse.calls):
        world = World()
        talkative(world, 5)
        outcome = await world.drive(conversation(5), JOB, fuses=[Fuse(number, after=after)], cold=cold)

        assert outcome == ports.Completed(b'[[0,1,2,3,4],"bye"]'), number
        assert len(ends(world)) == len({end.source_id for end in ends(world)}) == 6, number
        assert first_break(JOB, world.commits(JOB)) is None, number


async def test_ten_thousand_messages_arrive_in_order_and_once_at_a_flat_cost():
    """H4"""
    count = 10_000
    world = World()
    for number in range(count):
        world.inbox.message(JOB, number, number)

    @agent("reads")
    async def reads() -> int:
        last = -1
        for _ in range(count):
            number = await receive()
            assert number == last + 1
            last = number
        return last

    outcome = await world.drive(reads, JOB)

    assert outcome == ports.Completed(str(count - 1).encode())
    assert [json.loads(end.payload) for end in ends(world)] == list(range(count))
    # Each is fetched once when the job looks, and once more where there was no room for it.
    assert sum(world.inbox.fetched) <= 2 * count
    assert len(world.inbox.fetched) <= 4 * (count / HELD_ENTRIES_MAX)
    assert sorted(world.inbox.settled) == sorted(f"default-{number}" for number in range(count))


async def test_a_wake_fetches_what_came_since_and_nothing_else():
    world = World()
    for number in range(500):
        world.inbox.message(JOB, number, number)

    @agent("reads")
    async def reads() -> None:
        await receive("other")

    run, assignment, _ = world.run(reads, 1)
    await run.hold(assignment)
    before = sum(world.inbox.fetched)
    for lease in range(2, 12):
        world.inbox.message(JOB, 500 + lease, lease)
        await run.hold(world.assignment(reads, JOB, lease, b"{}"))

    assert before == 500
    assert sum(world.inbox.fetched) == 510
    await run.close()


async def test_messages_without_a_wait_hold_up_neither_a_signal_nor_another_channel():
    world = World()
    for number in range(3 * HELD_ENTRIES_MAX):
        world.inbox.message(JOB, number, number)
    world.inbox.message(JOB, 0, "here", "quiet")
    world.signals = {"go": b"1"}

    @agent("choosy")
    async def choosy() -> list[Any]:
        quiet = await receive("quiet")
        await signal("go")
        return [quiet, [await receive() for _ in range(3 * HELD_ENTRIES_MAX)] == list(range(3 * HELD_ENTRIES_MAX))]

    assert await world.drive(choosy, JOB) == ports.Completed(b'["here",true]')


async def test_branches_that_wait_on_one_channel_share_its_messages():
    world = World()
    for number in range(4):
        world.inbox.message(JOB, number, number)

    async def reader() -> list[int]:
        return [await receive(), await receive()]

    @agent("shares")
    async def shares() -> list[list[int]]:
        return await gather(reader(), reader())

    outcome = await world.drive(shares, JOB)

    assert isinstance(outcome, ports.Completed)
    halves = json.loads(outcome.result)
    assert sorted(number for half in halves for number in half) == [0, 1, 2, 3]
    assert all(half == sorted(half) for half in halves)


async def test_a_note_is_settled_only_once_its_record_is_durable():
    world = World()
    world.inbox.message(JOB, 0, 0)

    @agent("reads")
    async def reads() -> list[Any]:
        return [await receive(), await receive()]

    run, assignment, journal = world.run(reads, 1)
    journal.open.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await turns()
    world.inbox.message(JOB, 1, 1)
    for _ in range(3):
        run.wake()
        await turns()
    early = list(world.inbox.settled)
    journal.open.set()

    assert early == []
    assert await held == ports.Completed(b"[0,1]")
    assert world.inbox.settled == ["default-0", "default-1"]
    await run.close()
