"""Commits are partitioned by the moment at which their job was made; a database of an earlier version comes along."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aetheris_chassis.migrate import migrate, migrations_of
from aetheris_journal.append import AppendOutcome
from aetheris_journal.chain import commit_hash
from aetheris_kernel.ids import uuid7
from aetheris_ledger.store.contract import Want
from aetheris_ledger.verify import verify

from .test_sealed import sealing

PACKAGE = "aetheris_ledger"
# The last migration of the version before format 2 and partitions, and what that version wrote with.
EARLIER = 2
EARLIER_APPEND = """
INSERT INTO ledger.commits (seq, lease, time_us, job_id, hash, body, checkpoint)
VALUES ($1, $2, $3, $4, $5, $6, false)
"""


async def partitions(database: str) -> dict[str, int]:
    """The rows of each partition."""
    connection = await asyncpg.connect(database)
    names = await connection.fetch(
        "SELECT relid::regclass::text AS name FROM pg_partition_tree('ledger.commits') WHERE isleaf ORDER BY 1"
    )
    found = {row["name"]: await connection.fetchval(f"SELECT count(*) FROM {row['name']}") for row in names}
    await connection.close()
    return found


def made_at(*moment: int) -> UUID:
    return uuid7(int(datetime(*moment, tzinfo=UTC).timestamp() * 1000), 5)  # type: ignore[misc]


@pytest.mark.migrated(PACKAGE)
async def test_months_are_added_ahead_and_each_jobs_commits_stand_in_the_month_in_which_it_was_made(
    database, open_store, holder, happened
):
    async with open_store(database) as store:
        added = await store.add_partitions(datetime(2027, 4, 15, tzinfo=UTC))
        again = await store.add_partitions(datetime(2027, 4, 15, tzinfo=UTC))
        for job_id in (made_at(2026, 12, 31), made_at(2027, 2, 1), made_at(2027, 4, 30), made_at(2027, 5, 1), uuid4()):
            job = holder()
            job.job = job_id
            await job.begin(store, happened.step())

            assert (await verify(store, job_id)).intact

    assert (added, again) == (3, 0)
    assert await partitions(database) == {
        "ledger.commits_first": 1,
        "ledger.commits_2027_02": 1,
        "ledger.commits_2027_03": 0,
        "ledger.commits_2027_04": 1,
        "ledger.commits_rest": 2,
    }


@pytest.mark.migrated(PACKAGE)
async def test_ledgers_that_add_partitions_at_one_time_add_each_once(database, open_store):
    async with open_store(database) as store, open_store(database) as other:
        until = datetime(2027, 12, 1, tzinfo=UTC)

        assert sum(await asyncio.gather(store.add_partitions(until), other.add_partitions(until))) == 11


@pytest.mark.migrated(PACKAGE)
async def test_a_partition_refuses_changes_as_the_whole_table_does(database, open_store):
    async with open_store(database) as store:
        await store.add_partitions(datetime(2027, 3, 1, tzinfo=UTC))
    connection = await asyncpg.connect(database)
    for name in await partitions(database):
        for statement in (f"UPDATE {name} SET lease = 9", f"DELETE FROM {name}", f"TRUNCATE {name}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="what happened stays"):
                await connection.execute(statement)
    await connection.close()


@pytest.mark.migrated(PACKAGE)
async def test_a_month_is_dropped_by_its_partition_and_the_others_stay(database, open_store, holder, happened):
    async with open_store(database) as store:
        await store.add_partitions(datetime(2027, 3, 15, tzinfo=UTC))
        jobs = []
        for job_id in (made_at(2027, 2, 3), made_at(2027, 3, 3)):
            job = holder()
            job.job = job_id
            jobs.append(await job.begin(store))
        connection = await asyncpg.connect(database)
        await connection.execute("ALTER TABLE ledger.commits DETACH PARTITION ledger.commits_2027_02")
        await connection.execute("DROP TABLE ledger.commits_2027_02")
        await connection.close()
        gone, kept = [(await store.load([Want(job.job)]))[0] for job in jobs]

    assert (len(gone.commits), len(kept.commits)) == (0, 1)


async def earlier_database(dsn: str) -> None:
    """The schema of the earlier version, with its migrations noted as applied."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE SCHEMA aetheris; CREATE TABLE aetheris.migrations (package text NOT NULL, name text NOT NULL, "
        "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (package, name))"
    )
    folder = files(PACKAGE).joinpath("sql", "migrations")
    for migration in migrations_of(PACKAGE)[:EARLIER]:
        await connection.execute(folder.joinpath(f"{migration.name}.sql").read_text())
        await connection.execute(
            "INSERT INTO aetheris.migrations VALUES ($1, $2, $3)", PACKAGE, migration.name, migration.checksum
        )
    await connection.close()


async def written_earlier(connection: Any, job: Any, *events: Any) -> None:
    """One commit as the earlier version wrote it."""
    append = job.next(*events)
    digest = commit_hash(append.parent, append.job_id, append.seq, append.lease, 7, append.body)
    await connection.execute(EARLIER_APPEND, append.seq, append.lease, 7, append.job_id, digest, append.body)
    job.seq, job.parent = append.seq, digest


async def test_a_database_of_an_earlier_version_is_migrated_while_its_jobs_run(database, open_store, holder, happened):
    """Writers of the earlier version go on through every migration; then this version takes each job over."""
    await earlier_database(database)
    connection, writing = await asyncpg.connect(database), await asyncpg.connect(database)
    jobs = [holder() for _ in range(20)]
    for job in jobs:
        await written_earlier(connection, job, happened.created(), happened.leased())
    ready, done = asyncio.Event(), asyncio.Event()

    async def go_on() -> int:
        """The jobs go on, commit by commit, until the migration is over."""
        number = 0
        while not done.is_set() or number < 3:
            for job in jobs:
                await written_earlier(writing, job, happened.step(str(number)))
            number += 1
            ready.set()
        return number

    running = asyncio.create_task(go_on())
    await ready.wait()
    applied = await migrate(database, PACKAGE)
    done.set()
    steps = await running
    await connection.close()
    await writing.close()

    assert len(applied) == len(migrations_of(PACKAGE)) - EARLIER
    async with open_store(database) as store:
        for job in jobs:
            append = sealing(job, happened.step("last"), happened.completed(), new_job_key=True)
            (answer,) = await store.append([append])
            report = await verify(store, job.job)

            assert answer.outcome is AppendOutcome.APPENDED
            assert (report.intact, report.commits) == (True, steps + 2)
    assert (await partitions(database))["ledger.commits_first"] == 20 * (steps + 2)


async def test_ids_that_no_clock_made_come_along(database, open_store, holder, happened):
    await earlier_database(database)
    connection = await asyncpg.connect(database)
    job = holder()
    job.job = UUID("fffffff0-0000-4000-8000-000000000000")
    await written_earlier(connection, job, happened.created(), happened.leased())
    await connection.close()
    await migrate(database, PACKAGE)
    async with open_store(database) as store:
        assert await store.add_partitions(datetime.now(UTC) + timedelta(days=400)) == 0
        await job.write(store, happened.step())

        assert (await verify(store, job.job)).intact
    assert (await partitions(database))["ledger.commits_first"] == 2


def test_the_first_partition_ends_where_the_migration_says():
    text = files(PACKAGE).joinpath("sql", "migrations", "0007_pre_first_ids.sql").read_text()
    moment = int(datetime(2027, 2, 1, tzinfo=UTC).timestamp() * 1000)

    assert str(UUID(int=moment << 80)) in text
