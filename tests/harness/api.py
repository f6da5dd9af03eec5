"""A suite over REST, for tests. A module of its own, because several folders of tests share it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx


class Api:
    """A client of the suite. A test's agents write their side effects to files in `folder`."""

    def __init__(self, http: httpx.AsyncClient, folder: Path) -> None:
        self.http, self.folder = http, folder

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
