"""X2 with real processes: a runner is stopped beyond its lease and goes on afterwards."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from .load import until
from .world import LEASE_S, holders, world_in

JOBS = 10


@pytest.mark.chaos
@pytest.mark.timeout(120)
async def test_x2_a_runner_that_was_frozen_writes_nothing_calls_no_tool_and_works_again(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        jobs = await world.slow(JOBS, 3.0)
        await world.charged(JOBS)
        world.suite.kill("runner-1", signal.SIGSTOP)
        await world.suite.start_runner()
        await world.all_ended()
        called = await world.calls()
        # By now its lease is over, and so is everything its steps were waiting for.
        await asyncio.sleep(LEASE_S)
        world.suite.kill("runner-1", signal.SIGCONT)

        async def gave_up() -> bool:
            return world.suite.log("runner-1").count("job lost") == JOBS

        await until(gave_up)
        world.suite.kill("runner-2", signal.SIGKILL)
        again = await world.submit("steps", [3], 6)
        await world.all_ended()
        history = await world.history()

        assert await world.calls() == called
        assert await world.breaks() == []
        assert {tuple(holders(history.chains[job])) for job in jobs} == {("runner-1", "runner-2")}
        assert holders(history.chains[again]) == ["runner-1"]
