"""E6, J9: what stands between a job and its end: a doubt that only a person can settle, a cancel that comes late."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

from aetheris import Unchanged, agent, tool
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.effect import EffectResolution
from aetheris_journal.events import Resolution, Source

from harness.world import JOB, World

from .conftest import Started

OTHER = UUID("018f0000-0000-7000-8000-000000000002")


async def test_e6_a_cancelled_job_does_not_end_over_a_doubt_that_it_would_have_to_take_back(
    world: World, started: Started
):

    async def undo(result: str, *, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, f"undo {result}")

    @tool(compensate=undo)
    async def act() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    @agent("acts")
    async def acts() -> str:
        return await act()

    held = await started(acts, at=lambda: world.store.rows)
    await held.lose()
    world.cancelled = "too dear"
    parked = await world.drive(acts, JOB)
    ((key, row),) = world.store.rows.items()
    resolution = EffectResolution(Resolution.COMMITTED, Source.PERSON, b'"it"', "ann")
    world.store.rows[key] = replace(row, resolution=resolution)

    assert isinstance(parked, ports.Parked)
    assert (parked.reason, parked.operator) == ("in doubt: act", True)
    assert await world.drive(acts, JOB) == ports.Cancelled("too dear")
    assert list(world.outside.results.values()) == ["undo it"]


async def test_the_text_of_an_error_is_recorded_with_any_characters():
    """Half a character would make the commit, or the park, unwritable, and the job would hang."""
    world = World()

    async def undo() -> None:
        raise Unchanged("half \ud800")

    @tool(compensate=undo)
    async def act() -> None: ...

    @tool
    async def doubtful() -> None:
        raise ValueError("half \ud800")

    @agent("acts")
    async def acts() -> None:
        await act()
        raise ValueError("half \ud800")

    @agent("doubts")
    async def doubts() -> None:
        await doubtful()

    parked = await world.drive(acts, JOB)
    doubting = await world.drive(doubts, OTHER)

    assert isinstance(parked, ports.Parked)
    assert parked.reason == "compensation failed: act.compensate: half ?"
    assert isinstance(doubting, ports.Parked)
    (doubt,) = [event for event in world.events(OTHER) if isinstance(event, e.EffectInDoubt)]
    assert doubt.reason == "it raised ValueError: half ?"


async def test_e6_a_cancel_of_a_job_that_failed_and_waits_to_take_back_leaves_it_failed():
    world = World()
    refused = asyncio.Event()

    async def undo(*, idempotency_key: str) -> None:
        if not refused.is_set():
            refused.set()
            raise Unchanged("closed")
        await world.outside.do(idempotency_key, "undo")

    @tool(compensate=undo)
    async def act(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "act"))

    @agent("acts")
    async def acts() -> None:
        await act()
        raise ValueError("no")

    run, assignment, _ = world.run(acts, 1)
    parked = await run.hold(assignment)
    outcome = await run.hold(replace(assignment, lease=2, cancel_requested=True, cancel_reason="too late"))
    await run.close()

    assert isinstance(parked, ports.Parked)
    assert isinstance(outcome, ports.Failed)
    assert list(world.outside.results.values()) == ["act", "undo"]
    assert [type(event) for event in world.events(JOB) if isinstance(event, e.TERMINAL)] == [e.JobFailed]
