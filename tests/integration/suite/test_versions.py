"""Two versions of an agent side by side: a job goes on under the code that fits its record."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from harness.suite import SCHEMAS, Launch, Suite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.migrated(*SCHEMAS)]

OLD = """
from aetheris import agent, signal, step

@step
async def look_up(number: int) -> int:
    return number

@agent("shop")
async def shop(number: int) -> int:
    found = await look_up(number)
    await signal("go")
    return found
"""
NEW = OLD.replace("look_up(number)\n    await", "look_up(number + 1)\n    await")
JOBS = 20


async def test_b5_jobs_that_wait_go_on_under_the_version_that_recorded_them(tmp_path: Path, database: str):
    """D4: a rolling deployment. No job waits for an operator, and none fails."""
    files = []
    for name, text in {"old": OLD, "new": NEW}.items():
        files.append(tmp_path / name / "shop.py")
        files[-1].parent.mkdir()
        files[-1].write_text(text)
    async with (
        Suite(tmp_path, runners=1, agents=files[:1], database=database) as suite,
        httpx.AsyncClient(base_url=suite.http, timeout=60) as api,
    ):
        jobs = []
        for number in range(JOBS):
            answer = await api.post("/api/agents/shop/message", json={"input": {"args": [number]}})
            jobs.append(answer.json()["job_id"])
        await until(api, jobs, "parked")
        await suite.start_runner(Launch(environment={"AETHERIS_AGENTS": str(files[1])}))
        for job in jobs:
            answer = await api.post(f"/api/jobs/{job}/signal", json={"correlation_key": "go", "payload": 1})
            assert answer.status_code == 200, answer.text
        await until(api, jobs, "completed")


async def until(api: httpx.AsyncClient, jobs: list[str], status: str) -> None:
    """All of the jobs have this status."""
    async with asyncio.timeout(60):
        for job in jobs:
            while (found := (await api.get(f"/api/jobs/{job}")).json())["status"] != status:
                assert found["status"] not in ("failed", "cancelled"), found
                await asyncio.sleep(0.1)
