"""What real processes left in the ledger and in the world, held against the model; one was killed in its tool."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aetheris_journal import codec
from aetheris_journal import events as e

from harness.suite import Suite

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "spec"))

from house import Plan, Step
from traces import RECORD, first_impossible

HERE = Path(__file__).parent
NAMES = {
    e.JobLeased: "leased", e.EffectStarted: "started", e.EffectCommitted: "committed", e.EffectInDoubt: "in_doubt",
    e.EffectResolved: "committed", e.JobWaiting: "waiting", e.WaitCompleted: "got_signal", e.JobCompleted: "completed",
}  # fmt: skip
JOBS = 4


async def appended(api: httpx.AsyncClient, job_id: str) -> list[tuple[float, Step]]:
    page: dict[str, Any] = (await api.get(f"/api/jobs/{job_id}/commits")).json()
    found: list[tuple[float, Step]] = []
    for commit in page["commits"]:
        at = datetime.fromisoformat(commit["time"]).timestamp()
        for event in codec.decode(base64.b64decode(commit["body"])):
            if type(event) in NAMES:
                place = int(getattr(event, "path", -1))
                found.append((at, Step("appended", 0, commit["lease"], NAMES[type(event)], place)))
    return found


async def parked(api: httpx.AsyncClient, jobs: list[str]) -> None:
    async with asyncio.timeout(40):
        for job_id in jobs:
            while (await api.get(f"/api/jobs/{job_id}")).json()["status"] != "parked":  # noqa: ASYNC110 - in other processes
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_model_takes_what_real_processes_did(tmp_path: Path):
    world = tmp_path / "world"
    environment = {"runner": {"SHOP_WORLD": str(world)}}
    traces: list[list[Step]] = []
    async with (
        Suite(tmp_path / "suite", runners=1, agents=[HERE / "shop.py"], environment=environment) as suite,
        httpx.AsyncClient(base_url=suite.http, timeout=60) as api,
    ):
        jobs = []
        for _ in range(JOBS):
            answer = await api.post("/api/agents/shop/message", json={"input": {"args": [0.5]}})
            jobs.append(str(answer.json()["job_id"]))
        async with asyncio.timeout(20):
            while not world.exists() or len(world.read_text().splitlines()) < JOBS:  # noqa: ASYNC110 - in other processes
                await asyncio.sleep(0.01)
        suite.kill("runner-1", signal.SIGKILL)
        await suite.start_runner()
        await parked(api, jobs)
        for job_id in jobs:
            body = {"correlation_key": "go", "payload": "yes"}
            assert (await api.post(f"/api/jobs/{job_id}/signal", json=body)).status_code == 200
        for job_id in jobs:
            assert (await api.get(f"/api/jobs/{job_id}", params={"wait": 30})).json()["result"] == "yes"
        entered = [json.loads(line) for line in world.read_text().splitlines()]
        for job_id in jobs:
            steps = await appended(api, job_id)
            keys = {event["key"] for event in entered}
            assert len(keys) == len(entered) == JOBS
            mine = await _key_of(api, job_id)
            steps += [(each["at"], Step("entered", 0, each["lease"], "", 0)) for each in entered if each["key"] == mine]
            traces.append([step for _, step in sorted(steps, key=lambda pair: pair[0])])

    for trace in traces:
        assert [step.what for step in trace].count("entered") == 1
        assert "in_doubt" in [step.event for step in trace]
        assert first_impossible(trace, Plan(faults=1), seen=RECORD) is None, trace
        twice = [step for step in trace for _ in range(2 if step.what == "entered" else 1)]
        assert first_impossible(twice, Plan(faults=1), seen=RECORD) is not None
        fenceless = [step for step in trace if (step.event, step.lease) != ("leased", trace[-1].lease)]
        assert first_impossible(fenceless, Plan(faults=1), seen=RECORD) is not None


async def _key_of(api: httpx.AsyncClient, job_id: str) -> str:
    page = (await api.get(f"/api/jobs/{job_id}/commits")).json()
    events = [event for commit in page["commits"] for event in codec.decode(base64.b64decode(commit["body"]))]
    (key,) = {event.key for event in events if isinstance(event, e.EffectStarted)}
    return key
