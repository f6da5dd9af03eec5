"""X3 with real runners: one direction of the stream between runner and scheduler is dead, the other lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.stalling_proxy import StallingProxy, Way
from harness.suite import Launch

from .world import holders, world_in

JOBS = 10
# A runner that is deaf is found out by its own pings, which are answered within 15 s or never.
WITHIN_S = {Way.THERE: 25.0, Way.BACK: 40.0}


@pytest.mark.chaos
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "way",
    [
        pytest.param(Way.THERE, id="its beats do not arrive"),
        pytest.param(Way.BACK, id="its beats arrive and it hears nothing"),
    ],
)
async def test_x3_a_runner_that_is_half_dead_leaves_no_zombie_and_runs_nothing_twice(way: Way, tmp_path: Path) -> None:
    async with world_in(tmp_path, runners=0) as world, StallingProxy(world.suite.scheduler) as proxy:
        await world.suite.start_runner(Launch({"AETHERIS_SCHEDULER_ADDRESS": proxy.address}))
        jobs = await world.slow(JOBS, 3.0)
        await world.charged(JOBS)
        proxy.hold(way)
        await world.suite.start_runner()
        await world.all_ended(within_s=WITHIN_S[way])
        called = await world.calls()
        proxy.release()
        # It is well again, and what it held is not its own any more: a new job is, and nothing else happens.
        await world.submit("steps", [3], 6)
        await world.all_ended()
        history = await world.history()

        assert await world.breaks() == []
        assert await world.calls() == called
        assert len(called) == 2 * JOBS
        assert {tuple(sorted(set(holders(history.chains[job])))) for job in jobs} == {("runner-1", "runner-2")}
        assert "job lost" in world.suite.log("runner-1")
