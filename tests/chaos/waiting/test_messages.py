"""H4 in full: ten thousand messages to one job while those who carry them are killed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.suite import Suite

pytestmark = pytest.mark.chaos

AGENTS = Path(__file__).parents[2] / "integration" / "waiting" / "agents.py"
COUNT = 10_000


async def _accepted(http: httpx.AsyncClient, job_id: str, number: int) -> None:
    """Send it until a gateway answers that it is accepted."""
    body = {"channel": "orders", "message_id": f"m{number}", "payload": number}
    while True:
        try:
            answer = await http.post(f"/api/jobs/{job_id}/message", json=body)
        except httpx.TransportError:
            await asyncio.sleep(0.1)
            continue
        if answer.status_code == 200:
            return
        assert answer.status_code in (429, 503), answer.text
        await asyncio.sleep(0.1)


@pytest.mark.timeout(600)
async def test_h4_ten_thousand_messages_arrive_in_order_and_once_while_their_carriers_are_killed(tmp_path: Path):
    victims = ["runner-1", "gateway", "scheduler", "ledger", "runner-1"]
    async with (
        Suite(tmp_path, agents=[AGENTS], environment={"runner": {"WAITING_FOLDER": str(tmp_path)}}) as suite,
        httpx.AsyncClient(base_url=suite.http, timeout=30) as http,
    ):
        submitted = await http.post("/api/agents/listens/message", json={"input": {"args": [COUNT]}})
        job_id = submitted.json()["job_id"]
        for number in range(COUNT):
            await _accepted(http, job_id, number)
            if number % (COUNT // 5) == COUNT // 10:
                victim = victims.pop(0)
                suite.kill(victim, signal.SIGKILL)
                await suite.ended(victim)
                await suite.start(victim)
        job: dict[str, Any] = (await http.get(f"/api/jobs/{job_id}", params={"wait": 60})).json()
        intact = (await http.get(f"/api/jobs/{job_id}/verify")).json()["intact"]

    assert job["result"] == list(range(COUNT))
    assert intact
    assert victims == []
