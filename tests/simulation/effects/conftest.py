"""A job in the hands of a runner, at a moment that the test names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_engine.job import Run

from harness.world import MemoryJournal, World, turns

# In turns of the loop.
_PATIENCE_TURNS = 100_000


@dataclass(slots=True)
class HeldJob:
    run: Run
    journal: MemoryJournal
    outcome: asyncio.Future[ports.Outcome]

    async def lose(self) -> None:
        """The runner loses the job, with all that it remembers of it, in the middle of what it does."""
        self.outcome.cancel()
        await asyncio.wait([self.outcome])
        await self.run.close()


Started = Callable[..., Awaitable[HeldJob]]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def started(world: World) -> AsyncIterator[Started]:
    """`await started(agent, at=…)`: a runner holds the job, and has come to this moment.

    The moment is an event that the agent's code sets, or a condition. Without it, the runner has left the job: it has
    parked or ended, and the runner has forgotten it. `assigned` is what the scheduler says of the job.
    """
    runs: list[Run] = []

    async def start(
        agent: AgentDefinition[Any],
        *,
        at: asyncio.Event | Callable[[], object] | None = None,
        lease: int = 1,
        **assigned: Any,
    ) -> HeldJob:
        run, assignment, journal = world.run(agent, lease)
        runs.append(run)
        held = HeldJob(run, journal, asyncio.ensure_future(run.hold(replace(assignment, **assigned))))
        match at:
            case None:
                await asyncio.wait([held.outcome])
                await run.close()
            case asyncio.Event():
                ended = asyncio.ensure_future(at.wait())
                await asyncio.wait([ended, held.outcome], return_when=asyncio.FIRST_COMPLETED)
                assert ended.done(), f"the runner left the job before: {held.outcome!r}"
            case condition:
                for _ in range(_PATIENCE_TURNS):
                    if condition():
                        break
                    assert not held.outcome.done(), f"the runner left the job before: {held.outcome!r}"
                    await turns(1)
                else:
                    raise AssertionError(f"not within {_PATIENCE_TURNS} turns")
        return held

    yield start
    for run in runs:
        await run.close()
