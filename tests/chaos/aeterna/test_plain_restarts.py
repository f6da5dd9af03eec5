"""The control of the upgrades: the same load, and a plain restart."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.integration.suite import test_upgrades as upgrades
from tests.integration.suite.conftest import payments

__all__ = ["payments"]


@pytest.mark.chaos
@pytest.mark.timeout(90)
async def test_a_runner_that_is_restarted_plainly_lets_its_jobs_wait(
    tmp_path: Path,
    payments: httpx.Client,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with upgrades.world(tmp_path, payments) as (suite, api, _):
        runner = await suite.start_runner()
        jobs = await upgrades.working(api)
        await suite.restart(runner)
        stalls = await upgrades.finished(api, jobs)

        with capsys.disabled():
            sys.stdout.write(f"\n  {len(stalls)} jobs waited: p50 {median(stalls) * 1000:.0f} ms ")
        assert median(stalls) >= 0.5
