"""X4 with real processes: a service is killed after its commit, before it gets the database's answer. Its caller
repeats the request, and gets the same answer as if it had been the first."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from harness.postgres import Server
from harness.stalling_proxy import StallingProxy
from harness.suite import Launch

from .load import until
from .world import World, stopped_by, world_in

WORD = "unheard"
# What is said last before the row is durable, and the row. An intent is written in a transaction of several
# statements, the others in one.
UNHEARD = {
    "scheduler": ([WORD.encode()], "SELECT count(*) FROM scheduler.jobs WHERE idempotency_key = 'unheard'"),
    "ledger": (
        [WORD.encode(), b"COMMIT"],
        "SELECT count(*) FROM ledger.commits WHERE seq = 1 AND encode(body, 'escape') LIKE '%unheard%'",
    ),
    "gateway": ([WORD.encode()], "SELECT count(*) FROM gateway.notes WHERE encode(payload, 'escape') LIKE '%unheard%'"),
}


@pytest.fixture
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="aetheris-"))
    own = Server(folder / "data")
    own.start()
    yield own
    own.delete()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[StallingProxy]:
    """In front of the database."""
    sockets = parse_qs(urlsplit(server.dsn()).query)["host"][0]
    folder = tempfile.mkdtemp(prefix="aetheris-")
    async with StallingProxy(f"unix:{sockets}/.s.PGSQL.5432", f"unix:{folder}/.s.PGSQL.5432") as proxy:
        yield proxy
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("member", ["scheduler", "gateway", pytest.param("ledger", marks=pytest.mark.chaos)])
async def test_x4_killed_between_commit_and_reply(
    member: str, server: Server, proxy: StallingProxy, tmp_path: Path
) -> None:
    words, count = UNHEARD[member]
    through = f"postgresql://postgres@/postgres?host={Path(proxy.address.removeprefix('unix:')).parent}"
    launches = {member: Launch({"AETHERIS_DATABASE_URL": through})}
    async with world_in(tmp_path, database=server.dsn(), launches=launches) as world:
        path, body = await request_of(world, member)
        proxy.hold_answer_to(*words)
        asking = asyncio.ensure_future(world.api.post(path, json=body))
        await asyncio.wait_for(proxy.answer_held.wait(), 10)

        async def durable() -> bool:
            return await asyncio.to_thread(server.sql, count) == "1\n"

        await until(durable)
        world.suite.kill(member, signal.SIGKILL)
        await world.suite.ended(member)
        proxy.release()
        await world.suite.start(member)
        await stopped_by(asking)
        first, second = [await said(world, path, body) for _ in range(2)]
        if member == "gateway":
            await said(world, path, {"correlation_key": "second", "payload": 2})
        await world.all_ended()

        assert _lasting(first) == _lasting(second)
        assert await asyncio.to_thread(server.sql, count) == "1\n"
        assert len((await world.history()).rows) == 1
        assert await world.breaks() == []


def _lasting(answer: httpx.Response) -> dict[str, object]:
    """The answer without what may change between two requests: a runner may have taken the job."""
    return {name: value for name, value in answer.json().items() if name not in ("status", "hint")}


async def request_of(world: World, member: str) -> tuple[str, dict[str, object]]:
    if member == "gateway":
        job_id = await world.submit("ask", [1], [WORD, 1, 2])
        return f"/api/jobs/{job_id}/signal", {"correlation_key": "first", "payload": WORD}
    return "/api/agents/buy/message", {"input": {"args": [WORD]}, "idempotency_key": WORD}


async def said(world: World, path: str, body: dict[str, object]) -> httpx.Response:
    answers: list[httpx.Response] = []

    async def answered() -> bool:
        answers.append(await world.api.post(path, json=body))
        return answers[-1].status_code != 503

    await until(answered)
    assert answers[-1].status_code in (200, 202), answers[-1].text
    return answers[-1]
