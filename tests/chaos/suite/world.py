"""What the scenarios share: asking for jobs, and holding everything that was seen against the record."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from harness import evidence
from harness.counter import counting
from harness.history import Chain, History, Submission
from harness.invariants import Violation, check
from harness.suite import Launch, Suite

from .load import until

AGENTS = Path(__file__).parent / "agents.py"
LEASE_S, GRACE_S = 1.5, 0.3


class World:
    """A suite, its provider, and a client that remembers what it asked for."""

    def __init__(self, suite: Suite, api: httpx.AsyncClient, provider: httpx.AsyncClient) -> None:
        self.suite, self.api, self._provider = suite, api, provider
        self.submissions: list[Submission] = []

    async def submit(self, agent: str, args: Sequence[Any], result: Any) -> str:
        key = f"{agent}-{len(self.submissions)}"
        body = {"input": {"args": list(args)}, "idempotency_key": key}
        answer = await self.api.post(f"/api/agents/{agent}/message", json=body)
        assert answer.status_code == 202, answer.text
        job_id = str(answer.json()["job_id"])
        self.submissions.append(Submission(key, agent, (job_id,), result=result))
        return job_id

    async def slow(self, jobs: int, seconds: float) -> list[str]:
        """Jobs that charge, take so long, and charge again."""
        numbers = range(0, jobs * 10, 10)
        return [await self.submit("slow", [number, seconds], [number, number + 1]) for number in numbers]

    async def calls(self) -> Mapping[str, Any]:
        return dict((await self._provider.get("/calls")).json())

    async def charged(self, count: int, *, within_s: float = 20) -> None:
        """Until so many different charges were made."""

        async def made() -> bool:
            return len(await self.calls()) >= count

        await until(made, within_s=within_s)

    async def all_ended(self, *, within_s: float = 30) -> None:
        async def none_left() -> bool:
            return not await evidence.unfinished(self.suite)

        with contextlib.suppress(TimeoutError):  # what has not ended, the checker names
            await until(none_left, within_s=within_s)

    async def history(self) -> History:
        rows = await evidence.rows(self.suite)
        return History(
            submissions=self.submissions,
            chains=await evidence.chains(self.suite, rows),
            rows=rows,
            calls=evidence.calls(await self.calls()),
            idempotent=frozenset({"deliver"}),
        )

    async def breaks(self) -> list[Violation]:
        """Everything that is wrong with what happened here."""
        return check(await self.history())


def holders(chain: Chain) -> list[str]:
    """The runners that held the job, one after the other."""
    return [event.runner_id for event in chain.events if hasattr(event, "runner_id")]


@contextlib.asynccontextmanager
async def world_in(
    folder: Path,
    *,
    runners: int = 1,
    database: str = "",
    launches: Mapping[str, Launch] | None = None,
    environment: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[World]:
    more = environment or {}
    with counting(more=more.get("counter")) as counter:
        settings = {
            **more,
            "scheduler": {
                "AETHERIS_LEASE_S": str(LEASE_S),
                "AETHERIS_GRACE_S": str(GRACE_S),
                **more.get("scheduler", {}),
            },
            "runner": {"COUNTER_URL": counter, **more.get("runner", {})},
        }
        async with (
            Suite(
                folder,
                runners=runners,
                agents=[AGENTS],
                environment=settings,
                database=database,
                launches=launches,
            ) as suite,
            httpx.AsyncClient(base_url=suite.http, timeout=30) as api,
            httpx.AsyncClient(base_url=counter, timeout=30) as provider,
        ):
            yield World(suite, api, provider)


async def stopped_by(task: asyncio.Task[Any]) -> None:
    """The job once it has ended, in any state."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
