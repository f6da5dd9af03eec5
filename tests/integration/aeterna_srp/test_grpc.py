"""grpc.aio with a default client while the server is replaced: no call fails. The control server stops too early."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

PROGRAM = str(Path(__file__).parent / "grpc_child.py")
UPGRADES = int(os.environ.get("AETERNA_UPGRADES", "3"))


class Server:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, port: int, how: str) -> tuple["Server", dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, PROGRAM, f"port={port}", f"how={how}", stdout=asyncio.subprocess.PIPE
        )
        server = cls(process)
        return server, await server.says()

    async def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 10)
        fact: dict[str, Any] = json.loads(line)
        return fact

    async def end(self) -> dict[str, Any]:
        self.process.terminate()
        fact = await self.says()
        await asyncio.wait_for(self.process.wait(), 10)
        return fact


async def calls(port: int, tally: Counter[str], seen: set[bytes], stop: asyncio.Event) -> None:
    async def unary(channel: Any) -> None:
        try:
            answer = await channel.unary_unary("/test/Echo")(b"x", timeout=5)
        except grpc.RpcError as failed:
            tally[f"failed {failed.code().name}"] += 1
        else:
            tally["unary"] += 1
            seen.add(answer)

    async def persistent() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            while not stop.is_set():
                await unary(channel)

    async def fresh() -> None:
        while not stop.is_set():
            local = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=local) as channel:
                await unary(channel)

    async def streams() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            while not stop.is_set():
                try:
                    got = [each async for each in channel.unary_stream("/test/Count")(b"15", timeout=10)]
                except grpc.RpcError as failed:
                    tally[f"stream failed {failed.code().name}"] += 1
                else:
                    tally["streams"] += len(got) == 15

    async with asyncio.TaskGroup() as group:
        for work in (persistent, persistent, persistent, fresh, fresh, streams, streams):
            group.create_task(work())


async def replaced(how: str, upgrades: int) -> tuple[Counter[str], set[bytes], list[dict[str, Any]]]:
    server, fact = await Server.start(0, how)
    port = fact["port"]
    tally: Counter[str] = Counter()
    seen: set[bytes] = set()
    stop = asyncio.Event()
    facts = [fact]
    load = asyncio.create_task(calls(port, tally, seen, stop))
    try:
        for _ in range(upgrades):
            before = tally["unary"]
            while tally["unary"] < before + 50:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            new, fact = await Server.start(port, how)
            facts.append(fact)
            facts.append(await server.end())
            server = new
    finally:
        stop.set()
        await load
        await server.end()
    return tally, seen, facts


async def test_no_call_fails_while_the_server_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    tally, seen, facts = await replaced("steered", UPGRADES)

    with capsys.disabled():
        sys.stdout.write(f"\n  {UPGRADES} upgrades: {dict(tally)} ")
    assert [fact for fact in facts if fact.get("mode", "steered") != "steered"] == []
    assert all(fact["left"] == 0 for fact in facts if fact["did"] == "ends")
    assert {name: count for name, count in tally.items() if "failed" in name} == {}
    assert len(seen) == UPGRADES + 1


async def test_stopping_before_the_clients_have_gone_fails_calls() -> None:
    """The control: these clients notice a server that stops in the middle."""
    deadline = time.monotonic() + 14
    failed: Counter[str] = Counter()
    while not failed and time.monotonic() < deadline:
        tally, _, _ = await replaced("hasty", 3)
        failed.update({name: count for name, count in tally.items() if "failed" in name})

    assert failed
