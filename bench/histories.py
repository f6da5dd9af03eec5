"""What a takeover costs after a history of so many events, with checkpoints and without: real processes.

    .venv/bin/python bench/histories.py --events 1000 10000 100000

The job is taken over by a new runner after its own was killed; the seconds are from the moment at which the new one
serves until the job has answered a message that came after it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from harness.suite import Suite

AGENTS = """
from aetheris import agent, checkpoint, receive, step

@step
async def work(n: int) -> int:
    return n

@agent("plain")
async def plain(count: int) -> list:
    total = 0
    for n in range(count):
        total += await work(n)
    return [total, await receive("on"), await receive("end")]

@agent("saved")
async def saved(count: int, *, state: int = 0) -> list:
    for n in range(state, min(state + 500, count)):
        await work(n)
    if state + 500 < count:
        return await checkpoint(state + 500)
    return [count, await receive("on"), await receive("end")]
"""


async def measured(suite: Suite, http: httpx.AsyncClient, agent: str, events: int) -> dict[str, Any]:
    began = time.monotonic()
    answer = await http.post(f"/api/agents/{agent}/message", json={"input": {"args": [events]}})
    job = answer.json()["job_id"]
    while (await http.get(f"/api/jobs/{job}")).json()["status"] != "parked":  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    ran_s = time.monotonic() - began
    suite.kill("runner-1", signal.SIGKILL)
    await suite.ended("runner-1")
    await suite.start("runner-1")
    began = time.monotonic()
    await _say(http, job, "on")
    while not (await _waits_for(http, job, "end")):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    took_s = time.monotonic() - began
    await _say(http, job, "end")
    assert (await http.get(f"/api/jobs/{job}", params={"wait": 30})).json()["status"] == "completed"
    assert (await http.get(f"/api/jobs/{job}/verify")).json()["intact"]
    return {
        "agent": agent,
        "events": events,
        "ran_s": round(ran_s, 2),
        "each_us": round(ran_s / events * 1e6),
        "takeover_s": round(took_s, 3),
    }


async def _say(http: httpx.AsyncClient, job: str, channel: str) -> None:
    body = {"channel": channel, "message_id": channel, "payload": None}
    (await http.post(f"/api/jobs/{job}/message", json=body)).raise_for_status()


async def _waits_for(http: httpx.AsyncClient, job: str, channel: str) -> bool:
    found = (await http.get(f"/api/jobs/{job}")).json()
    return found["status"] == "parked" and channel in json.dumps(found)


async def main(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        agents = Path(folder) / "long.py"
        agents.write_text(AGENTS)
        async with (
            Suite(Path(folder), agents=[agents]) as suite,
            httpx.AsyncClient(base_url=suite.http, timeout=60) as http,
        ):
            for events in sizes:
                for agent in ("plain", "saved"):
                    print(json.dumps(await measured(suite, http, agent, events)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    asyncio.run(main(parser.parse_args().events))
