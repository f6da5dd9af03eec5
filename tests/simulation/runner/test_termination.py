"""D6: every job ends within some seconds of a cancel, or says for what it waits, and then it is terminated."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aetheris import agent, gather, signal, step, tool
from aetheris_engine import ports
from aetheris_engine.run_without_code import RunWithoutCode
from aetheris_journal import events as e
from aetheris_journal.effect import EffectState

from harness.crash import Fuse
from harness.world import JOB, World, python_run, turns


def terminated(assignment: ports.Assignment) -> ports.Assignment:
    return replace(assignment, lease=2, cancel_requested=True, cancel_reason="enough", terminate=True)


def ended(world: World) -> e.JobCancelled:
    last = world.events(JOB)[-1]
    assert isinstance(last, e.JobCancelled)
    return last


def states(world: World) -> list[EffectState]:
    return [row.state for row in world.store.rows.values()]


def without_code(world: World, assignment: ports.Assignment) -> RunWithoutCode:
    """The next lease, with which the scheduler orders the end."""
    return RunWithoutCode(assignment, world.process(Fuse(-1))[2])


class Deaf:
    """Code that suppresses every cancellation, until it is let go."""

    def __init__(self) -> None:
        self.inside, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> str:
        self.inside.set()
        while not self.go.is_set():
            with suppress(asyncio.CancelledError):
                await self.go.wait()
        return "late"


@pytest.mark.parametrize("where", ["agent", "step", "limited step", "tool", "limited tool", "branch"])
async def test_d6_a_job_whose_code_suppresses_everything_is_terminated(where: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aetheris_engine.execution._CANCEL_S", 0.02)
    monkeypatch.setattr("aetheris_engine.execution._STOP_S", 0.02)
    monkeypatch.setattr("aetheris_runner.hosts.python._UNWIND_S", 0.02)
    world, deaf = World(), Deaf()
    limits: dict[str, Any] = {"timeout": "1h"} if where.startswith("limited") else {}
    kind = tool if where.endswith("tool") else step

    @kind(**limits)
    async def hangs() -> str:
        return await deaf()

    @agent("hangs")
    async def job() -> Any:
        match where:
            case "agent":
                return await deaf()
            case "branch":
                return list(await gather(deaf(), signal("never")))
        return await hangs()

    run, assignment, _ = world.run(job, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await deaf.inside.wait()
    await turns()
    run.lost()
    held.cancel()
    closing = asyncio.ensure_future(run.close())
    order = terminated(assignment)

    assert await without_code(world, order).hold(order) == ports.Cancelled("enough")
    assert (ended(world).reason, ended(world).terminated) == ("enough", True)
    assert states(world) == ([EffectState.IN_DOUBT] if where.endswith("tool") else [])
    deaf.go.set()
    await asyncio.wait({held, closing})
    await turns()
    if where.endswith("tool"):
        (late,) = world.late_outcomes.reports
        assert late.result == b'"late"'


@pytest.mark.parametrize("where", ["agent", "step", "limited step", "thread", "branch"])
async def test_d6_a_cancel_ends_a_job_whose_code_suppresses_it(where: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aetheris_engine.execution._REST_S", 0.05)
    monkeypatch.setattr("aetheris_engine.execution._CANCEL_S", 0.02)
    monkeypatch.setattr("aetheris_engine.execution._STOP_S", 0.02)
    monkeypatch.setattr("aetheris_runner.hosts.python._UNWIND_S", 0.02)
    world, deaf, go = World(), Deaf(), threading.Event()
    limits: dict[str, Any] = {"timeout": "1h"} if where.startswith("limited") else {}
    loop = asyncio.get_running_loop()

    @step(**limits)
    async def hangs() -> str:
        return await deaf()

    @step
    def hangs_in_a_thread() -> None:
        loop.call_soon_threadsafe(deaf.inside.set)
        go.wait(20)

    @agent("hangs")
    async def job() -> Any:
        match where:
            case "agent":
                return await deaf()
            case "branch":
                return list(await gather(deaf(), signal("never")))
            case "thread":
                return await hangs_in_a_thread()
        return await hangs()

    run, assignment, _ = world.run(job, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await deaf.inside.wait()
    run.cancel("stop")

    assert await held == ports.Cancelled("stop")
    assert (ended(world).reason, ended(world).terminated) == ("stop", False)
    deaf.go.set()
    go.set()
    await run.close()


async def test_d6_people_are_told_for_which_tool_a_cancel_waits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aetheris_engine.execution._REST_S", 0.02)
    world, inside, go = World(), asyncio.Event(), asyncio.Event()
    told: list[str] = []
    heard = asyncio.Event()

    @tool
    async def charge() -> None:
        inside.set()
        await go.wait()

    @agent("pays")
    async def pays() -> None:
        await charge()

    def hear(job_id: object, lease: int, fraction: float | None, note: str) -> None:
        told.append(note)
        heard.set()

    services = world.process(Fuse(-1))[2]
    assignment = world.assignment(pays, JOB, 1, b'{"args":[]}')
    run = python_run(assignment, pays, services, hear)
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    run.cancel("stop")
    async with asyncio.timeout(20):
        await heard.wait()
    waits = not held.done()
    go.set()

    assert await held == ports.Cancelled("stop")
    assert waits
    assert told[0] == "cancelled, and waits for tool charge at 0"
    await run.close()


async def test_d6_a_tool_in_a_thread_that_never_returns_holds_up_no_termination():
    world, go, inside = World(), threading.Event(), threading.Event()

    @tool
    def charge() -> str:
        inside.set()
        go.wait(20)
        return "receipt"

    @agent("pays")
    async def pays() -> str:
        return await charge()

    run, assignment, _ = world.run(pays, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await asyncio.to_thread(inside.wait, 20)
    run.cancel("first, kindly")
    await turns()
    waits = not held.done()
    run.lost()
    held.cancel()
    order = terminated(assignment)

    assert await without_code(world, order).hold(order) == ports.Cancelled("enough")
    assert waits
    assert states(world) == [EffectState.IN_DOUBT]
    await run.close()
    go.set()
    async with asyncio.timeout(20):
        await world.late_outcomes.heard.wait()
    assert world.late_outcomes.reports[0].result == b'"receipt"'


async def lost_inside_a_tool(world: World) -> ports.Assignment:
    """A job whose runner is lost while it is inside its tool."""
    inside = asyncio.Event()

    @tool
    async def charge() -> None:
        inside.set()
        await asyncio.get_running_loop().create_future()

    @agent("retired")
    async def pays() -> None:
        await charge()
        await signal("never")

    run, assignment, _ = world.run(pays, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    held.cancel()
    await asyncio.wait({held})
    await run.close()
    return replace(assignment, lease=2)


async def test_a3_a_cancelled_job_whose_runner_was_lost_inside_a_tool_ends_with_a_doubt():
    """The agent is cancelled before it comes to the call that its record has open."""
    world = World()
    again = await lost_inside_a_tool(world)

    @agent("retired")
    async def slow() -> None:
        await signal("never")

    run, assignment, _ = world.run(slow, 2)
    held = asyncio.ensure_future(run.hold(replace(assignment, cancel_requested=True, cancel_reason="stop")))

    assert await held == ports.Cancelled("stop")
    assert states(world) == [EffectState.IN_DOUBT]
    assert again.lease == 2
    await run.close()
