from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from harness.suite import Suite

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
AGENTS = HERE / "agents.py"


@pytest.fixture
def payments() -> Iterator[httpx.Client]:
    """A payment provider in another process, which counts."""
    provider = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "checkout" / "provider.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert provider.stdout is not None
    port = provider.stdout.readline().strip()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client
    provider.terminate()
    provider.wait()
    provider.stdout.close()


@pytest.fixture
async def suite(tmp_path: Path, payments: httpx.Client, database: str) -> AsyncIterator[Suite]:
    """The four services and one runner, each a process of its own, because the tests kill them. The PostgreSQL is that
    of all tests, which no test here stops."""
    environment = {"runner": {"PAYMENTS_URL": str(payments.base_url)}}
    async with Suite(tmp_path, runners=1, agents=[AGENTS], environment=environment, database=database) as suite:
        yield suite


@pytest.fixture
async def api(suite: Suite) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=suite.http, timeout=90) as client:
        yield client
