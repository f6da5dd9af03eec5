"""The command as people run it: a process of its own, against a suite in this one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Command = Callable[..., Awaitable[Said]]


@pytest.fixture
def aetheris(request: pytest.FixtureRequest) -> Command:
    """Run it with these arguments, on the world of the test if it has one."""

    async def run(*arguments: str, **environment: str) -> Said:
        url = {"AETHERIS_URL": request.getfixturevalue("world").url} if "world" in request.fixturenames else {}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aetheris.cli",
            *arguments,
            env=os.environ | {"TZ": "UTC"} | url | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        # Starting takes half a second; the limit is for a busy machine.
        async with asyncio.timeout(45):
            out, err = await process.communicate()
        assert process.returncode is not None
        said = Said(process.returncode, out.decode(), err.decode())
        assert "Traceback" not in said.err, said.err
        return said

    return run
