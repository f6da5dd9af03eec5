"""Runners that die, freeze and stop, each a real process, under load."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from harness.suite import SCHEMAS, Suite

pytestmark = pytest.mark.migrated(*SCHEMAS)

JOBS = 200


async def submit(api: httpx.AsyncClient, agent: str, *args: object) -> str:
    answer = await api.post(f"/api/agents/{agent}/message", json={"input": {"args": list(args)}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


async def ended(api: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    answer = await api.get(f"/api/jobs/{job_id}", params={"wait": 60})
    return dict(answer.json())


async def trace(api: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    return dict((await api.get(f"/api/jobs/{job_id}/trace")).json())


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.02)


def charged(payments: httpx.Client) -> dict[str, int]:
    return dict(payments.get("/calls").json())


@pytest.mark.timeout(120)
async def test_a_killed_runners_jobs_all_complete_on_another_and_no_customer_pays_twice(
    suite: Suite, api: httpx.AsyncClient, payments: httpx.Client
):
    jobs = [await submit(api, "pay", number, 4.0) for number in range(JOBS)]

    async def all_held() -> bool:
        return [runner["held"] for runner in (await api.get("/api/runners")).json()["runners"]] == [JOBS]

    await until(all_held)
    # It finds nothing to do, because the first runner holds everything.
    second = await suite.start_runner()

    async def in_the_middle() -> bool:
        return len(charged(payments)) >= JOBS // 2

    await until(in_the_middle)
    suite.kill("runner-1", signal.SIGKILL)
    results = await asyncio.gather(*(ended(api, job_id) for job_id in jobs))

    assert [result["status"] for result in results] == ["completed"] * JOBS
    assert sorted(result["result"] for result in results) == [6 + 1 + number for number in range(JOBS)]
    calls = charged(payments)
    assert len(calls) == 2 * JOBS
    assert set(calls.values()) == {1}
    for job_id in jobs:
        leases = [lease["runner_id"] for lease in (await trace(api, job_id))["leases"]]
        assert leases == ["runner-1", second]
        verdict = (await api.get(f"/api/jobs/{job_id}/verify")).json()
        assert verdict["intact"], verdict


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_frozen_runner_that_continues_writes_nothing_and_charges_no_customer(
    suite: Suite, api: httpx.AsyncClient, payments: httpx.Client
):
    """X2"""
    jobs = [await submit(api, "pay", number, 1.5) for number in range(20)]

    async def charging() -> bool:
        return len(charged(payments)) == 20

    await until(charging)
    suite.kill("runner-1", signal.SIGSTOP)
    await suite.start_runner()
    results = await asyncio.gather(*(ended(api, job_id) for job_id in jobs))
    before = charged(payments)
    suite.kill("runner-1", signal.SIGCONT)

    async def stopped() -> bool:
        return "lease over" in suite.log("runner-1") or "session refused" in suite.log("runner-1")

    await until(stopped)
    assert [result["status"] for result in results] == ["completed"] * 20
    assert set(before.values()) == {1}
    assert charged(payments) == before
    for job_id in jobs:
        assert (await api.get(f"/api/jobs/{job_id}/verify")).json()["intact"]
        leases = [lease["runner_id"] for lease in (await trace(api, job_id))["leases"]]
        assert leases == ["runner-1", "runner-2"]


@pytest.mark.timeout(60)
async def test_a_runner_that_stops_hands_its_jobs_back_at_once(
    suite: Suite, api: httpx.AsyncClient, payments: httpx.Client
):
    """J3"""
    jobs = [await submit(api, "pay", number, 0.5) for number in range(50)]

    async def charging() -> bool:
        return len(charged(payments)) >= 25

    await until(charging)
    await suite.start_runner()
    code = await suite.stop("runner-1")
    results = await asyncio.gather(*(ended(api, job_id) for job_id in jobs))

    assert code == 0
    assert [result["status"] for result in results] == ["completed"] * 50
    assert set(charged(payments).values()) == {1}
    assert len(charged(payments)) == 100


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "member", ["ledger", *(pytest.param(name, marks=pytest.mark.slow) for name in ("scheduler", "gateway"))]
)
async def test_a_service_killed_under_load_loses_and_doubles_nothing(
    suite: Suite, api: httpx.AsyncClient, payments: httpx.Client, member: str
):
    """X4"""
    jobs = [await submit(api, "pay", number, 0.3) for number in range(60)]

    async def charging() -> bool:
        return len(charged(payments)) >= 30

    await until(charging)
    suite.kill(member, signal.SIGKILL)
    await suite.ended(member)
    await suite.start(member)
    results = await asyncio.gather(*(ended(api, job_id) for job_id in jobs))

    assert [result["status"] for result in results] == ["completed"] * 60
    assert len(charged(payments)) == 120
    assert set(charged(payments).values()) == {1}
    for job_id in jobs:
        assert (await api.get(f"/api/jobs/{job_id}/verify")).json()["intact"]


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_signal_reaches_its_job_across_the_death_of_its_runner(suite: Suite, api: httpx.AsyncClient):
    jobs = [await submit(api, "ask") for _ in range(20)]

    async def parked() -> bool:
        states = [(await api.get(f"/api/jobs/{job_id}")).json()["status"] for job_id in jobs]
        return states == ["parked"] * len(jobs)

    await until(parked)
    suite.kill("runner-1", signal.SIGKILL)
    for number, job_id in enumerate(jobs):
        for _ in range(2):
            body = {"correlation_key": "answer", "payload": number}
            assert (await api.post(f"/api/jobs/{job_id}/signal", json=body)).status_code == 200
    await suite.start_runner()
    results = await asyncio.gather(*(ended(api, job_id) for job_id in jobs))

    assert [result["result"] for result in results] == list(range(20))
    for job_id in jobs:
        events = (await api.get(f"/api/jobs/{job_id}/events")).text
        assert events.count('"wait_completed"') == 1
