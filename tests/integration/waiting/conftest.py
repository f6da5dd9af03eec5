from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from harness.api import Api
from harness.suite import Suite

AGENTS = Path(__file__).parent / "agents.py"


class World(Api):
    """The suite, and what its agents left in the world."""

    def told(self, job: str) -> list[str]:
        file = self.folder / f"{job}.txt"
        return file.read_text().splitlines() if file.exists() else []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    """The four services and two runners, each a process of its own."""
    folder = tmp_path_factory.mktemp("waiting")
    environment = {"runner": {"WAITING_FOLDER": str(folder)}}
    async with Suite(folder, runners=1, agents=[AGENTS], environment=environment) as suite:
        yield suite


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(suite: Suite) -> AsyncIterator[World]:
    async with httpx.AsyncClient(base_url=suite.http, timeout=30) as http:
        yield World(http, suite.folder)
