"""Parents, children and endless agents on real processes that are really killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.suite import Suite

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

CHILDREN = 50


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.02)


async def test_r6_fifty_children_end_once_each_although_the_runner_dies(suite: Suite, api: Any) -> None:
    job_id = await api.submit("parent", CHILDREN)

    async def half_have_ended() -> bool:
        return bool(api.made() >= CHILDREN // 2)

    await until(half_have_ended)
    suite.kill("runner-1", signal.SIGKILL)
    await suite.ended("runner-1")
    await suite.start("runner-1")
    job = await api.job(job_id, wait=30)
    children = await api.children(job_id)
    ends = [event["data"]["child_job_id"] for event in await api.events(job_id) if event["type"] == "child_completed"]

    assert job["result"] == sum(range(CHILDREN))
    assert [child["status"] for child in children] == ["completed"] * CHILDREN
    assert sorted(ends) == sorted(child["id"] for child in children)
    assert api.made() == CHILDREN
    assert await api.intact(job_id)


async def test_j9_a_cancel_goes_on_to_children_and_grandchildren(api: Any) -> None:
    job_id = await api.submit("grandparent", "never")

    async def all_there() -> bool:
        children = await api.children(job_id)
        middles = [child for child in children if child["agent"] == "middle"]
        return len(children) == 2 and bool(await api.children(middles[0]["id"]))

    await until(all_there)
    assert (await api.post(f"/api/jobs/{job_id}/stop")).status_code in (200, 202)
    job = await api.job(job_id, wait=20)
    family = {child["agent"]: child for child in await api.children(job_id)}
    (grandchild,) = await api.children(family["middle"]["id"])
    ended = [await api.job(each["id"], wait=20) for each in (family["middle"], grandchild, family["leaf"])]

    assert job["status"] == "cancelled"
    assert [each["status"] for each in ended] == ["cancelled", "cancelled", "completed"]


async def test_an_endless_agent_goes_on_from_its_checkpoint_when_its_runner_dies(suite: Suite, api: Any) -> None:
    job_id = await api.submit("counts", 40)
    for number in range(40):
        body = {"channel": "default", "message_id": f"m{number}", "payload": number}
        assert (await api.post(f"/api/jobs/{job_id}/message", body)).status_code == 200
        if number == 20:
            suite.kill("runner-1", signal.SIGKILL)
            await suite.ended("runner-1")
            await suite.start("runner-1")
    job = await api.job(job_id, wait=30)

    assert job["result"] == sum(range(40))
    assert await api.intact(job_id)
