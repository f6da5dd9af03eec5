"""What one holder may do, and how far it may run ahead of its record."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from uuid import UUID

import pytest
from aetheris import agent, gather, signal, sleep, step, tool
from aetheris_engine import ports
from aetheris_engine.core.tail import BACKLOG_EVENTS_MAX
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_kernel.errors import ChainBroken, Fenced

from harness.world import JOB, World, turns

OTHER = UUID("018f0000-0000-7000-8000-000000000002")


async def test_a_holder_that_was_frozen_writes_nothing_more_and_stops_its_step():
    """X2, J6"""
    world = World()
    inside, stopped = asyncio.Event(), asyncio.Event()

    @step
    async def quick(number: int) -> int:
        return number

    @step
    async def long() -> str:
        inside.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            stopped.set()
            raise
        return ""

    @agent("frozen")
    async def frozen() -> str:
        await quick(1)
        # The second branch goes on recording while the first is inside its step.
        await gather(long(), talk())
        return "done"

    async def talk() -> None:
        await go.wait()
        await quick(2)

    go = asyncio.Event()
    old, assignment, _ = world.run(frozen, 1)
    held = asyncio.ensure_future(old.hold(assignment))
    await inside.wait()
    await turns()
    new, taken, _ = world.run(frozen, 2)
    inside.clear()
    successor = asyncio.ensure_future(new.hold(taken))
    await inside.wait()
    before = len(world.commits(JOB))
    stopped.clear()
    go.set()

    with pytest.raises(Fenced):
        await held
    await old.close()

    assert stopped.is_set()
    assert all(commit.lease == 2 for commit in world.commits(JOB)[before - 1 :])
    assert first_break(JOB, world.commits(JOB)) is None
    successor.cancel()
    await asyncio.wait([successor])
    await new.close()


async def test_a_commit_between_reading_the_chain_and_fencing_it_is_read_again():
    world = World()
    ran: list[int] = []

    @step
    async def note(number: int) -> int:
        ran.append(number)
        return number

    @agent("raced")
    async def raced() -> int:
        return await note(1) + await note(2)

    old, assignment, journal = world.run(raced, 1)
    journal.open.clear()
    held = asyncio.ensure_future(old.hold(assignment))
    await turns()
    new, taken, slow = world.run(raced, 2)
    slow.open.clear()
    successor = asyncio.ensure_future(new.hold(taken))
    await turns()
    journal.open.set()
    assert await held == ports.Completed(b"3")
    slow.open.set()

    assert await successor == ports.Completed(b"3")
    assert ran == [1, 2]
    assert not any(commit.lease == 2 for commit in world.commits(JOB))
    await old.close()
    await new.close()


async def test_a_holder_of_an_older_lease_than_the_chain_never_starts():
    world = World()

    @agent("late")
    async def late() -> None: ...

    await world.drive(late, OTHER)

    @agent("parked")
    async def parked() -> None:
        await signal("never")

    first, assignment, _ = world.run(parked, 1)
    await first.hold(assignment)
    third, taken, _ = world.run(parked, 3)
    await third.hold(taken)
    second, stale, _ = world.run(parked, 2)

    with pytest.raises(Fenced):
        await second.hold(stale)
    for run in (first, second, third):
        await run.close()


async def test_a_broken_chain_is_never_built_on():
    world = World()

    @agent("parked")
    async def parked() -> None:
        await signal("never")

    run, assignment, _ = world.run(parked, 1)
    await run.hold(assignment)
    await run.close()
    chain = world.store.chains[JOB]
    chain[1] = replace(chain[1], body=chain[1].body + b"\x00")
    successor, taken, _ = world.run(parked, 2)

    with pytest.raises(ChainBroken) as caught:
        await successor.hold(taken)
    assert caught.value.facts["seq"] == 1


async def test_a_tool_waits_for_its_intent_and_a_pure_step_for_nothing():
    """X7"""
    world = World()
    ran: list[str] = []

    @step
    async def pure(number: int) -> int:
        ran.append(f"step {number}")
        return number

    @tool
    async def act(*, idempotency_key: str) -> str:
        ran.append("tool")
        return str(await world.outside.do(idempotency_key, "done"))

    @agent("ahead")
    async def ahead() -> str:
        await pure(1)
        await pure(2)
        return await act()

    run, assignment, journal = world.run(ahead, 1)
    journal.open.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await turns()
    while_away = list(ran)
    journal.open.set()
    outcome = await held

    assert while_away == ["step 1", "step 2"]
    assert outcome == ports.Completed(b'"done"')
    assert world.outside.without_intent == []
    await run.close()


async def test_nothing_is_told_outside_while_the_ledger_is_away():
    """X7: neither a park nor an end."""
    world = World()

    @agent("ends")
    async def ends() -> int:
        return 1

    @agent("parks")
    async def parks() -> None:
        await sleep("1h")

    for definition, job in ((ends, JOB), (parks, OTHER)):
        run, assignment, journal = world.run(definition, 1, job)
        journal.open.clear()
        held = asyncio.ensure_future(run.hold(assignment))
        await turns()
        early = held.done()
        journal.open.set()
        await held

        assert not early
        await run.close()


async def test_a_job_runs_only_so_far_ahead_of_its_record():
    """X7: the bound holds while the ledger is away."""
    world = World()
    ran = 0

    @step
    async def count(number: int) -> None:
        nonlocal ran
        ran += 1

    @agent("far")
    async def far() -> None:
        for number in range(3 * BACKLOG_EVENTS_MAX):
            await count(number)

    run, assignment, journal = world.run(far, 1)
    journal.open.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await turns(5_000)
    ahead = ran
    journal.open.set()
    outcome = await held

    assert BACKLOG_EVENTS_MAX - 10 <= ahead <= BACKLOG_EVENTS_MAX
    assert outcome == ports.Completed(b"null")
    assert ran == 3 * BACKLOG_EVENTS_MAX
    await run.close()


async def test_the_cost_of_a_step_does_not_grow_with_the_history():
    """R5: resumed with ten times the history, the frontier's steps ask the record for nothing."""
    world = World()

    @step
    async def count(number: int) -> int:
        return number

    @agent("long")
    async def long(before: int) -> int:
        for number in range(before):
            await count(number)
        await signal("go")
        for number in range(100):
            await count(number)
        return before

    sizes = []
    for job, before in ((JOB, 100), (OTHER, 1_000)):
        world.signals = {"go": b"1"}
        await world.drive(long, job, json.dumps({"args": [before]}).encode())
        events = world.events(job)
        woken = next(n for n, event in enumerate(events) if isinstance(event, e.WaitCompleted))
        sizes.append(len(codec.encode(events[woken:])))

    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
