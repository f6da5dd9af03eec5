"""One runner with two hundred healthy jobs, and one job of each kind that misbehaves, each a real process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness.suite import Suite

AGENTS = Path(__file__).parent / "misbehaving_agents.py"
HEALTHY = 200
LEASE_S = 2.0


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Suite]:
    environment = {
        "scheduler": {"AETHERIS_LEASE_S": str(LEASE_S)},
        "runner": {"AETHERIS_BLOCKED_MAX_S": "1.5"},
    }
    async with Suite(tmp_path, runners=1, agents=[AGENTS], environment=environment) as suite:
        yield suite


@pytest.fixture
async def api(suite: Suite) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=suite.http, timeout=120) as client:
        yield client


async def submit(api: httpx.AsyncClient, agent: str, *args: object) -> str:
    answer = await api.post(f"/api/agents/{agent}/message", json={"input": {"args": list(args)}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


async def settled(api: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job once it has ended, or waits for an operator."""
    async with asyncio.timeout(120):
        while True:
            job = dict((await api.get(f"/api/jobs/{job_id}", params={"wait": 2})).json())
            if job["status"] in ("completed", "failed", "cancelled") or "blocked" in str(job["park_reason"]):
                return job


async def crashes(api: httpx.AsyncClient, job_id: str) -> int:
    return int((await api.get(f"/api/jobs/{job_id}")).json()["crash_count"])


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_b1_two_hundred_healthy_jobs_complete_beside_code_that_blocks_and_hangs(api: httpx.AsyncClient):
    healthy = [await submit(api, "healthy", 1.0) for _ in range(HEALTHY)]
    bad = {agent: await submit(api, agent) for agent in ("sleeper", "spinner", "spinning_agent", "hanger")}
    ended = await asyncio.gather(*(settled(api, job) for job in healthy))
    seen = {agent: await settled(api, job) for agent, job in bad.items()}

    assert [job["status"] for job in ended] == ["completed"] * HEALTHY
    # A loop that was blocked is no crash of any job.
    assert [job for job in healthy if await crashes(api, job)] == []
    assert seen["sleeper"]["result"] == "sleep_on_the_loop: it takes longer than 1 s"
    assert seen["spinner"]["result"] == "spin: it takes longer than 1 s"
    assert seen["hanger"]["result"] == "hang: it takes longer than 1 s"
    assert seen["spinning_agent"]["status"] == "parked"


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_b1_code_that_holds_the_interpreter_beyond_the_lease_costs_the_others_at_most_one(
    suite: Suite, api: httpx.AsyncClient
):
    healthy = [await submit(api, "healthy", 1.5) for _ in range(HEALTHY)]
    holder = await submit(api, "lock_holder", 2 * LEASE_S)
    ended = await asyncio.gather(*(settled(api, job) for job in healthy))

    assert [job["status"] for job in ended] == ["completed"] * HEALTHY
    assert max([await crashes(api, job) for job in healthy]) <= 1
    assert (await settled(api, holder))["status"] == "completed"
    # The stacks that were written meanwhile show one job.
    assert f"job_{UUID(holder).hex}" in suite.log("runner-1")
    assert '"jobs": 1' in suite.log("runner-1")
