"""The bundled PostgreSQL, whatever the last start left behind."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aetheris_embedded.database import Database
from aetheris_kernel.errors import Unavailable


@pytest.fixture(autouse=True)
def stopped(folder: Path) -> Iterator[None]:
    yield
    if (pid := postgres_pid(folder)) is not None and psutil.pid_exists(pid):
        psutil.Process(pid).send_signal(signal.SIGQUIT)
        psutil.Process(pid).wait(10)


def postgres_pid(folder: Path) -> int | None:
    record = folder / "postgres" / "postmaster.pid"
    return int(record.read_text().split()[0]) if record.exists() else None


def started(folder: Path) -> Database:
    database = Database(folder)
    database.start()
    return database


async def ask(database: Database, question: str) -> object:
    connection = await asyncpg.connect(database.dsn)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit", "full_page_writes"])
async def test_what_was_answered_is_on_disk(folder: Path, setting: str) -> None:
    assert await ask(started(folder), f"SHOW {setting}") == "on"


async def test_what_was_written_is_there_after_a_stop_and_a_start(folder: Path) -> None:
    database = started(folder)
    await ask(database, "CREATE TABLE kept AS SELECT 42 AS answer")
    database.stop()

    assert await ask(started(folder), "SELECT answer FROM kept") == 42


async def test_nobody_else_on_this_machine_can_connect(folder: Path) -> None:
    database = started(folder)
    for path in (folder / "pg", folder / "postgres"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700

    assert await ask(database, "SHOW listen_addresses") == ""


async def test_one_that_still_runs_is_used(folder: Path) -> None:
    started(folder)
    pid = postgres_pid(folder)
    second = started(folder)

    assert postgres_pid(folder) == pid
    assert await ask(second, "SELECT 1") == 1


async def test_one_that_is_on_its_way_down_is_waited_for(folder: Path) -> None:
    started(folder)
    pid = postgres_pid(folder)
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    second = started(folder)

    assert await ask(second, "SELECT 1") == 1
    assert postgres_pid(folder) != pid


async def test_a_process_id_that_is_somebody_elses_by_now_is_not_taken_for_a_database(folder: Path) -> None:
    database = started(folder)
    record = folder / "postgres" / "postmaster.pid"
    text = record.read_text()
    database.stop()
    record.write_text(text.replace(text.split()[0], str(os.getpid()), 1))

    assert await ask(started(folder), "SELECT 1") == 1


async def test_a_first_start_that_was_cut_off_leaves_nothing_in_the_way(folder: Path) -> None:
    half_made = folder / "postgres.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")

    assert await ask(started(folder), "SELECT 1") == 1


def test_data_of_another_version_is_left_alone(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("16\n")

    with pytest.raises(Unavailable, match="written by PostgreSQL 16"):
        started(folder)


def test_the_reason_why_it_does_not_start_is_said(folder: Path) -> None:
    started(folder).stop()
    with (folder / "postgres" / "postgresql.auto.conf").open("a") as conf:
        conf.write("shared_buffers = 'plenty'\n")

    with pytest.raises(Unavailable, match="shared_buffers"):
        started(folder)
