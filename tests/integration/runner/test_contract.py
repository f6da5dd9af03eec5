"""S1: a runner that serves holds its agents to the contract, from before they are imported."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aetheris.contract import guard
from aetheris_engine import ports
from aetheris_runner.app import serve
from aetheris_runner.settings import Settings

from harness.world import JOB, World

AGENT = """
from time import time as clock
from aetheris import agent

@agent
async def stamped():
    return clock()
"""


async def test_s1_a_runner_imports_its_agents_under_the_contract_and_runs_them_under_it(tmp_path: Path):
    (tmp_path / "stamped_agent.py").write_text(AGENT)
    nobody = f"unix:{tmp_path}/nobody"
    started = asyncio.Event()
    settings = Settings(
        listen=f"unix:{tmp_path}/runner", scheduler_address=nobody, ledger_address=nobody, gateway_address=nobody,
        agents=str(tmp_path / "stamped_agent.py"), drain_s=0.0,
    )  # fmt: skip
    serving = asyncio.create_task(serve(settings, started=started))
    try:
        async with asyncio.timeout(10):
            await started.wait()
        held = guard.held()
        outcome = await World().drive(sys.modules["stamped_agent"].stamped, JOB)
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        del sys.modules["stamped_agent"]

    assert held
    assert isinstance(outcome, ports.Failed)
    assert outcome.failure.message.startswith("AE101: the agent reads the clock by time.time() at ")
    assert not guard.held()
