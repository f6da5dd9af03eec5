"""Fixtures: an empty world, and one in which everything runs."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from .world import World


@pytest.fixture
def sockets() -> Any:
    # A socket's path has at most 107 bytes, and a test's own folder may be longer than that.
    folder = Path(tempfile.mkdtemp(prefix="aetheris-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def empty_world(database: str, sockets: Path) -> AsyncIterator[World]:
    """Nothing runs yet."""
    async with AsyncExitStack() as stack:
        world = World(database, sockets)
        stack.push_async_callback(world.close)
        yield world


@pytest.fixture
async def world(empty_world: World) -> World:
    """Scheduler, ledger and gateway run."""
    await empty_world.start_scheduler()
    await empty_world.start_ledger()
    await empty_world.start_gateway()
    return empty_world


@pytest.fixture
async def real(empty_world: World) -> World:
    """The same with the real scheduler."""
    await empty_world.start_real_scheduler()
    await empty_world.start_ledger()
    await empty_world.start_gateway()
    return empty_world


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.http() as client:
        yield client


@pytest.fixture
def until() -> Callable[..., Coroutine[Any, Any, None]]:
    async def until(condition: Callable[[], Any], *, within_s: float = 15.0) -> None:
        """Wait for a state, with a deadline."""
        async with asyncio.timeout(within_s):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.005)

    return until
