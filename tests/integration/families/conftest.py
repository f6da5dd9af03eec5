from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aetheris_testkit.suite import Suite

AGENTS = Path(__file__).parent / "agents.py"


class Api:
    """The suite over REST, and what its agents left in the world."""

    def __init__(self, http: httpx.AsyncClient, folder: Path) -> None:
        self.http, self._folder = http, folder

    async def submit(self, agent: str, *args: object, actor: str = "", **more: object) -> str:
        body = {"input": {"args": list(args)}, **more}
        headers = {"Aetheris-Actor": actor} if actor else {}
        answer = await self.http.post(f"/api/agents/{agent}/message", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    async def post(self, path: str, body: object = None, *, actor: str = "", roles: str = "") -> httpx.Response:
        headers = {"Aetheris-Actor": actor, "Aetheris-Roles": roles} if actor else {}
        return await self.http.post(path, json=body, headers=headers)

    async def job(self, job_id: str, *, wait: float = 0) -> dict[str, Any]:
        return dict((await self.http.get(f"/api/jobs/{job_id}", params={"wait": wait})).json())

    async def events(self, job_id: str) -> list[dict[str, Any]]:
        answer = await self.http.get(f"/api/jobs/{job_id}/events")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["events"])

    async def intact(self, job_id: str) -> bool:
        return bool((await self.http.get(f"/api/jobs/{job_id}/verify")).json()["intact"])

    async def children(self, job_id: str) -> list[dict[str, Any]]:
        answer = await self.http.get("/api/jobs", params={"parent": job_id, "limit": 1_000})
        return list(answer.json()["jobs"])

    def made(self) -> int:
        return len(list(self._folder.glob("*.made")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    """The four services and a runner, each a process of its own."""
    folder = tmp_path_factory.mktemp("families")
    environment = {"runner": {"FAMILIES_FOLDER": str(folder)}}
    async with Suite(folder, runners=1, agents=[AGENTS], environment=environment) as suite:
        yield suite


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(suite: Suite) -> AsyncIterator[Api]:
    async with httpx.AsyncClient(base_url=suite.http, timeout=30) as http:
        yield Api(http, suite.folder)
