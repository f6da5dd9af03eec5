"""X6 with real processes: the clock of the whole machine, the database's included, is set by ten minutes."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.postgres import Server

from .world import holders, world_in

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

JOBS = 10
PRELOADED = "libfaketime.so.1"


class Clock:
    """What every process that is started with `environment` takes for the time."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # Looked up again each second, and never what a process measures its own patience with.
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    def set(self, seconds: int) -> None:
        self._file.write_text(f"{seconds:+d}\n")
        self._file.chmod(0o644)


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{PRELOADED}"))
    if not found:
        pytest.skip(f"there is no {PRELOADED} here: install faketime")
    # Where the database's own user can read it.
    folder = Path(tempfile.mkdtemp(prefix="aetheris-"))
    folder.chmod(0o755)
    yield Clock(folder, found[0])
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="aetheris-"))
    own = Server(folder / "data")
    with monkeypatch.context() as environment:
        for name, value in clock.environment.items():
            environment.setenv(name, value)
        own.start()
    yield own
    own.delete()
    shutil.rmtree(folder, ignore_errors=True)


def seconds_ahead(server: Server) -> float:
    """How far the database's clock is from this process's."""
    return float(server.sql("SELECT extract(epoch FROM clock_timestamp())")) - time.time()


@pytest.mark.parametrize("minutes", [10, -10])
async def test_x6_a_clock_that_jumps_loses_no_lease_and_steals_none(
    minutes: int, clock: Clock, server: Server, tmp_path: Path
) -> None:
    everybody = dict.fromkeys(("ledger", "scheduler", "gateway", "runner", "counter"), clock.environment)
    async with world_in(tmp_path, runners=2, database=server.dsn(), environment=everybody) as world:
        held = await world.slow(JOBS, 8.0)
        await world.charged(JOBS)
        clock.set(minutes * 60)
        await world.all_ended()
        ahead = seconds_ahead(server)
        history = await world.history()

        assert abs(ahead - minutes * 60) < 5
        assert {len(holders(history.chains[job])) for job in held} == {1}
        assert await world.breaks() == []

        # A runner that really dies is still noticed.
        lost = await world.slow(JOBS, 3.0)
        await world.charged(3 * JOBS)
        world.suite.kill("runner-1", signal.SIGKILL)
        await world.all_ended()
        history = await world.history()

        assert {holders(history.chains[job])[-1] for job in lost} == {"runner-2"}
        assert await world.breaks() == []
