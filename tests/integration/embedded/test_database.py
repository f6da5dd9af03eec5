"""The bundled PostgreSQL, with everything that an earlier start may have left behind."""

from __future__ import annotations

import os
import pwd
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from aetheris_embedded.database import Database
from aetheris_embedded.folder import claimed
from aetheris_kernel.errors import Unavailable

Start = Callable[[], Database]


@pytest.fixture
def started(folder: Path) -> Iterator[Start]:
    made: list[Database] = []

    def start() -> Database:
        made.append(Database(folder))
        made[-1].start()
        return made[-1]

    yield start
    for database in made:
        database.stop()


def postgres_pid(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


async def ask(database: Database, question: str) -> object:
    connection = await asyncpg.connect(database.dsn)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit", "full_page_writes"])
async def test_what_was_answered_is_on_disk(started: Start, setting: str) -> None:
    assert await ask(started(), f"SHOW {setting}") == "on"


async def test_what_was_written_is_there_after_a_stop_and_a_start(started: Start) -> None:
    database = started()
    await ask(database, "CREATE TABLE kept AS SELECT 42 AS answer")
    database.stop()

    assert await ask(started(), "SELECT answer FROM kept") == 42


async def test_no_other_user_of_this_machine_can_connect(started: Start, folder: Path) -> None:
    database = started()
    for path in (folder / "pg", folder / "postgres"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700

    assert await ask(database, "SHOW listen_addresses") == ""


def test_no_other_user_passes_through_the_folder(started: Start, folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "postgres.log").touch(0o644)
    with claimed(folder, "--data-dir"):
        started()
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "postgres.log")]

    # For root, PostgreSQL runs as another user, whose group may pass.
    assert modes == [0o710 if os.geteuid() == 0 else 0o700, 0o600]


def test_a_new_folder_is_for_this_user_alone(folder: Path) -> None:
    with claimed(folder / "new", "--data-dir"):
        assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o700


async def test_one_that_still_runs_is_used(started: Start, folder: Path) -> None:
    started()
    pid = postgres_pid(folder)
    second = started()

    assert postgres_pid(folder) == pid
    assert await ask(second, "SELECT 1") == 1


async def test_one_that_is_on_its_way_down_is_waited_for(started: Start, folder: Path) -> None:
    started()
    pid = postgres_pid(folder)
    os.kill(pid, signal.SIGINT)
    second = started()

    assert await ask(second, "SELECT 1") == 1
    assert postgres_pid(folder) != pid


async def test_a_process_id_that_is_anothers_by_now_is_not_taken_for_it(started: Start, folder: Path) -> None:
    database = started()
    record = folder / "postgres" / "postmaster.pid"
    text = record.read_text()
    database.stop()
    record.write_text(text.replace(text.split()[0], str(os.getpid()), 1))

    assert await ask(started(), "SELECT 1") == 1


async def test_a_first_start_that_was_cut_off_leaves_nothing_in_the_way(started: Start, folder: Path) -> None:
    half_made = folder / "postgres.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")

    assert await ask(started(), "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_runs_it_as_the_owner_of_the_data(started: Start, folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    database = started()
    database.stop()
    for path in (folder / "postgres", *(folder / "postgres").rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    started()

    assert Path(f"/proc/{postgres_pid(folder)}").stat().st_uid == nobody.pw_uid


def test_data_of_another_version_is_left_alone(started: Start, folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("16\n")

    with pytest.raises(Unavailable, match="written by PostgreSQL 16"):
        started()


def test_the_reason_why_it_does_not_start_is_said(started: Start, folder: Path) -> None:
    started().stop()
    with (folder / "postgres" / "postgresql.auto.conf").open("a") as conf:
        conf.write("shared_buffers = 'plenty'\n")

    with pytest.raises(Unavailable, match="shared_buffers"):
        started()
