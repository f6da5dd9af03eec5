"""A whole suite behind the client, with a runner by hand; and a server that answers by script.

`connect` is each of the two clients in turn: a test that uses it holds for both.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aetheris.client import AsyncClient, Client

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


class Threaded:
    """The ordinary client behind the face of the other one: each call in a thread."""

    def __init__(self, url: str, **options: Any) -> None:
        self._client = Client(url, **options)

    async def __aenter__(self) -> Threaded:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if inspect.isgeneratorfunction(found):
            return lambda *args, **kwargs: stepped(found(*args, **kwargs))
        return functools.partial(asyncio.to_thread, found)


async def stepped(items: Iterator[Any]) -> AsyncIterator[Any]:
    nothing = object()
    while (item := await asyncio.to_thread(next, items, nothing)) is not nothing:
        yield item


@pytest.fixture(params=[AsyncClient, Threaded], ids=["async", "sync"])
def connect(request: pytest.FixtureRequest) -> Any:
    return request.param


class Scripted:
    """An HTTP server that does with each request what comes next in its script: bytes to answer with, seconds
    to be silent for, or a list of both; then it hangs up. Nothing left means: hang up without a word."""

    def __init__(self) -> None:
        self.script: list[bytes | list[bytes | float]] = []
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
            parts = self.script.pop(0) if self.script else b""
            for part in parts if isinstance(parts, list) else [parts]:
                if isinstance(part, bytes):
                    writer.write(part)
                    await writer.drain()
                else:
                    await asyncio.sleep(part)
        finally:
            writer.close()


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield server
