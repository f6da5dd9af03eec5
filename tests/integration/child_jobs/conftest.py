from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from harness.api import Api
from harness.suite import Suite

AGENTS = Path(__file__).parent / "agents.py"


class World(Api):
    """The suite, and what its agents left in the world."""

    async def children(self, job_id: str) -> list[dict[str, Any]]:
        answer = await self.http.get("/api/jobs", params={"parent": job_id, "limit": 1_000})
        return list(answer.json()["jobs"])

    def made(self) -> int:
        return len(list(self.folder.glob("*.made")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    """The four services and a runner, each a process of its own."""
    folder = tmp_path_factory.mktemp("child_jobs")
    environment = {"runner": {"FAMILIES_FOLDER": str(folder)}}
    async with Suite(folder, runners=1, agents=[AGENTS], environment=environment) as suite:
        yield suite


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(suite: Suite) -> AsyncIterator[World]:
    async with httpx.AsyncClient(base_url=suite.http, timeout=30) as http:
        yield World(http, suite.folder)
