"""A whole suite behind the client, with a runner by hand; and a server that answers by script."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.gateway.world import World


@pytest.fixture
def sockets() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aetheris-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def world(database: str, sockets: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        world = World(database, sockets)
        stack.push_async_callback(world.close)
        await world.start_everything()
        yield world


class Scripted:
    """An HTTP server that does with each request what comes next in its script: bytes to answer with, after
    which it hangs up. Nothing left means: hang up without a word."""

    def __init__(self) -> None:
        self.script: list[bytes] = []
        self.requests: list[bytes] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.requests.append(head + await reader.readexactly(length))
            if self.script:
                writer.write(self.script.pop(0))
                await writer.drain()
        finally:
            writer.close()


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield server
