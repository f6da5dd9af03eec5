"""How a job ends, and how it is let go: by its code, by a cancel, by its runner."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import pytest
from aetheris import agent, gather, signal, step, tool
from aetheris_engine import ports
from aetheris_journal import events as e

from harness.world import JOB, World, turns

OTHER = UUID("018f0000-0000-7000-8000-000000000002")


async def test_changed_code_parks_the_job_and_shows_both_sides():
    """R2"""
    world = World()

    @step(name="look_up")
    async def look_up(number: int) -> int:
        return number

    @agent("program")
    async def before() -> None:
        await look_up(1)
        await signal("go")

    @agent("program")
    async def after() -> None:
        await look_up(2)
        await signal("go")

    run, assignment, _ = world.run(before, 1)
    await run.hold(assignment)
    await run.close()
    changed, taken, _ = world.run(after, 2)
    outcome = await changed.hold(taken)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert 'step look_up({"number":1})' in outcome.reason
    assert 'step look_up({"number":2})' in outcome.reason
    await changed.close()
    fixed, again, _ = world.run(before, 3)
    world.signals = {"go": b"1"}
    world.pass_time(JOB, ports.Parked("signal: go"))
    assert await fixed.hold(again) == ports.Completed(b"null")
    await fixed.close()


async def test_code_that_ends_before_its_record_does_parks_the_job():
    """R2"""
    world = World()

    @step
    async def part(number: int) -> int:
        return number

    @agent("program")
    async def before() -> None:
        await gather(part(1), part(2))
        await signal("go")

    @agent("program")
    async def after() -> None:
        return None

    run, assignment, _ = world.run(before, 1)
    await run.hold(assignment)
    await run.close()
    changed, taken, _ = world.run(after, 2)
    outcome = await changed.hold(taken)

    assert isinstance(outcome, ports.Parked)
    assert "the end of the agent" in outcome.reason
    await changed.close()


async def test_a_cancelled_job_ends_in_the_chain_and_runs_nothing_more():
    world = World()
    ran: list[str] = []

    @step
    async def after() -> None:
        ran.append("after")

    @agent("waits")
    async def waits() -> None:
        await signal("never")
        await after()

    run, assignment, _ = world.run(waits, 1)
    await run.hold(assignment)
    cancelled = replace(assignment, lease=2, cancel_requested=True, cancel_reason="stop")

    assert await run.hold(cancelled) == ports.Cancelled("stop")
    assert isinstance(world.events(JOB)[-1], e.JobCancelled)
    assert ran == []
    await run.close()


async def test_an_agent_that_will_not_hear_of_a_cancel_is_cancelled_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aetheris_engine.execution._STOP_S", 0.05)
    world = World()

    @agent("deaf")
    async def deaf() -> None:
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await signal("never")

    run, assignment, _ = world.run(deaf, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await turns(3)
    run.cancel("stop")

    assert await held == ports.Cancelled("stop")
    assert isinstance(world.events(JOB)[-1], e.JobCancelled)
    for _ in range(3):
        await run.close()


@pytest.mark.parametrize("where", ["agent", "step", "branch"])
async def test_an_agent_that_exits_ends_its_job_and_not_its_runner(where: str):
    world = World()

    @step
    async def leaves() -> None:
        raise SystemExit(3)

    async def branch() -> None:
        raise SystemExit(3)

    @agent("exits")
    async def exits() -> None:
        if where == "step":
            await leaves()
        if where == "branch":
            await gather(branch())
        raise SystemExit(3)

    outcome = await world.drive(exits, JOB)

    assert isinstance(outcome, ports.Failed)
    assert "SystemExit" in outcome.failure.type


async def test_a_cancel_lets_the_tool_inside_the_world_come_out_first():
    world = World()
    inside, go = asyncio.Event(), asyncio.Event()

    @tool
    async def act(*, idempotency_key: str) -> str:
        inside.set()
        await go.wait()
        return str(await world.outside.do(idempotency_key, "done"))

    @agent("acts")
    async def acts() -> str:
        return await act() + await act()

    run, assignment, _ = world.run(acts, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    run.cancel("stop")
    await turns()
    early = held.done()
    go.set()

    assert await held == ports.Cancelled("stop")
    assert not early
    assert list(world.outside.calls.values()) == [1]
    assert [type(event).__name__ for event in world.events(JOB)][-2:] == ["EffectCommitted", "JobCancelled"]
    await run.close()


async def test_a_runner_that_stops_gives_the_job_back_at_its_next_command():
    """J3"""
    world = World()
    inside, go = asyncio.Event(), asyncio.Event()

    @step
    async def first() -> int:
        inside.set()
        await go.wait()
        return 1

    @step
    async def second() -> int:
        return 2

    @agent("two")
    async def two() -> int:
        return await first() + await second()

    run, assignment, _ = world.run(two, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    run.leave("the runner stops")
    go.set()

    assert await held == ports.Released("the runner stops")
    assert [event.name for event in world.events(JOB) if isinstance(event, e.StepCommitted)] == ["first"]
    await run.close()
    successor, taken, _ = world.run(two, 2)
    assert await successor.hold(taken) == ports.Completed(b"3")
    await successor.close()


async def test_a_pause_ends_with_the_park_that_it_caused_and_the_warm_job_goes_on():
    """A job that was told to come to rest while it waited is not held up by that under its next lease."""
    world = World()

    @step
    async def after() -> str:
        return "after"

    @agent("waits")
    async def waits() -> str:
        await signal("go")
        return await after()

    run, assignment, journal = world.run(waits, 1)
    journal.open.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await turns()
    run.leave("paused")
    journal.open.set()
    parked = await held
    world.signals = {"go": b"1"}
    world.pass_time(JOB, ports.Parked("signal: go"))

    assert isinstance(parked, ports.Parked)
    assert await run.hold(world.assignment(waits, JOB, 2, b"{}")) == ports.Completed(b'"after"')
    await run.close()
