"""X5 with real processes: the database has no connection left, or no room left, while jobs run on."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from harness.postgres import Server

from .load import until
from .world import World, world_in

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]

JOBS = 20
DISK_MB = 192
_WRITING = """
    CREATE TABLE IF NOT EXISTS ballast (x text);
    INSERT INTO ballast SELECT repeat(md5(g::text), 30) FROM generate_series(1, 2000) AS g
"""
# Without a connection, or without room.
AWAY_S = 4.0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aetheris-"))
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mounting, check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip(f"no disk of its own: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture
def few_connections() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="aetheris-"))
    with Server(folder / "data", {"max_connections": "24", "superuser_reserved_connections": "0"}) as server:
        yield server
        server.delete()
    shutil.rmtree(folder, ignore_errors=True)


async def _work(world: World) -> None:
    """Half of the jobs are in the middle; the others come while the trouble lasts."""
    await world.slow(JOBS, 2.0)
    await world.charged(JOBS // 2)


async def _more_work(world: World) -> None:
    """Accepted when its key was answered, however often it was asked for."""
    for number in range(JOBS):

        async def accepted(number: int = number) -> bool:
            with suppress(AssertionError):  # not now, says the gateway
                await world.submit("pay", [1_000 + number, 0.0], [1_000 + number, 1_001 + number])
                return True
            return False

        await until(accepted, within_s=60, every_s=0.2)


async def test_x5_jobs_outlast_a_database_without_a_free_connection(few_connections: Server, tmp_path: Path) -> None:
    dsn = few_connections.dsn()
    async with world_in(tmp_path, database=dsn) as world:
        await _work(world)
        taken: list[asyncpg.Connection[asyncpg.Record]] = []
        first = await asyncpg.connect(dsn)
        taken.append(first)
        # The services reconnect while all connections are taken.
        await first.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'aetheris%'"
        )
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await asyncpg.connect(dsn))
        pressing = asyncio.ensure_future(_press(dsn, taken))
        more = asyncio.ensure_future(_more_work(world))
        await asyncio.sleep(AWAY_S)
        pressing.cancel()
        await asyncio.gather(pressing, return_exceptions=True)
        await asyncio.gather(*(connection.close() for connection in taken))
        await more
        await world.all_ended(within_s=60)

        assert len(taken) > 10
        assert await world.breaks() == []
        assert len((await world.history()).rows) == 2 * JOBS


async def _press(dsn: str, taken: list[asyncpg.Connection[asyncpg.Record]]) -> None:
    """Connections that become free are taken, too."""
    while True:
        with suppress(asyncpg.TooManyConnectionsError):
            taken.append(await asyncpg.connect(dsn))
        await asyncio.sleep(0.01)


async def test_x5_jobs_outlast_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    # So little is kept for later that what is written soon needs new room.
    settings = {"min_wal_size": "32MB", "max_wal_size": "64MB", "checkpoint_timeout": "30s"}
    server = Server(small_disk / "data", settings)
    server.start()
    async with world_in(tmp_path, database=server.dsn()) as world:
        await _work(world)
        balloon = small_disk / "balloon"
        _fill(balloon)
        full = asyncio.ensure_future(asyncio.to_thread(_write_until_refused, server))
        more = asyncio.ensure_future(_more_work(world))
        refused = await full
        await asyncio.sleep(AWAY_S)
        balloon.unlink()
        if not server.running:
            await asyncio.to_thread(server.start)
        await more
        await world.all_ended(within_s=60)

        assert "No space left" in refused
        assert await world.breaks() == []
        assert len((await world.history()).rows) == 2 * JOBS
    server.delete()


def _fill(balloon: Path) -> None:
    with balloon.open("wb") as file, suppress(OSError):
        while True:
            file.write(os.urandom(64 * 1024))


def _write_until_refused(server: Server) -> str:
    """What the database says when there is no room; its own log where it died of that."""
    try:
        for _ in range(200):
            server.sql(_WRITING)
    except RuntimeError as refused:
        return f"{refused}\n{(server.data / 'log').read_text() if (server.data / 'log').exists() else ''}"
    return "it never refused"
