"""Runners under load: a plain restart as the control for upgrades, and upgrades that are rolled back."""

from __future__ import annotations

import asyncio
import os
import signal
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
        jobs = await upgrades.working(api, tmp_path / "end")
        await suite.restart(runner)
        stalls = await upgrades.finished(api, jobs, tmp_path / "end")

        with capsys.disabled():
            sys.stdout.write(f"\n  {len(stalls)} jobs waited: p50 {median(stalls) * 1000:.0f} ms ")
        assert stalls


@pytest.mark.chaos
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["by an operator", "by its death"])
async def test_an_upgrade_that_is_taken_back_costs_no_job_and_the_next_one_inherits(
    how: str, tmp_path: Path, payments: httpx.Client
) -> None:
    """The session of the rolled-back successor is gone; the next successor gets another."""
    async with upgrades.world(tmp_path, payments) as (suite, api, _):
        with upgrades.runner_under_aeterna(tmp_path / "aeterna", suite, payments, soak="3s") as it:
            jobs = await upgrades.working(api, tmp_path / "end")
            it.ask("reload", wait=False)
            soaking = await asyncio.to_thread(it.until, lambda s: s["state"] == "soaking")
            if how == "by an operator":
                it.ask("rollback", wait=False)
            else:
                os.kill(soaking["successor"]["pid"], signal.SIGKILL)
            await asyncio.to_thread(it.until, lambda s: s["state"] == "running" and s["last_upgrade"] is not None)
            assert it.status()["serving"]["generation"] == 1
            outcome = await asyncio.to_thread(it.reload)
            assert outcome["ok"], it.log.read_text()[-4000:]
            await upgrades.finished(api, jobs, tmp_path / "end")
            log = it.log.read_text()

        assert log.count("heir named") == 1
        calls = (await asyncio.to_thread(payments.get, "/calls")).json()
        assert set(calls.values()) == {1}
