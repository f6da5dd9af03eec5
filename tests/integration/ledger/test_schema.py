"""The schema that people read is the one that migrations make."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import asyncpg
import pytest
from aetheris_chassis.migrate import migrate
from aetheris_kernel.errors import Unavailable

SQL = files("aetheris_ledger").joinpath("sql")


def dumped(server: Any, dsn: str) -> list[str]:
    text = server.run("pg_dump", "--schema-only", "--schema=ledger", "--no-owner", "--restrict-key=x", dsn)
    return [line for line in text.splitlines() if line and not line.startswith("--")]


@pytest.mark.migrated("aetheris_ledger")
async def test_the_snapshot_is_the_sum_of_the_migrations(database, postgres_server):
    dsn = postgres_server.create_database("ledger_snapshot")
    connection = await asyncpg.connect(dsn)
    await connection.execute(SQL.joinpath("schema.sql").read_text())
    await connection.close()
    try:
        assert dumped(postgres_server, dsn) == dumped(postgres_server, database)
        assert "CREATE TABLE ledger.commits (" in dumped(postgres_server, dsn)
    finally:
        postgres_server.drop_database("ledger_snapshot")


@pytest.mark.migrated("aetheris_ledger")
async def test_migrating_again_does_nothing(database):
    assert await migrate(database, "aetheris_ledger") == []


async def test_a_database_that_is_not_migrated_is_refused_with_the_command(database, replica):
    with pytest.raises(Unavailable, match="python -m aetheris_ledger migrate"):
        async with replica(database):
            pass


@pytest.mark.migrated("aetheris_ledger")
async def test_a_step_takes_less_than_300_bytes_on_disk(database, open_store, holder, happened):
    """§12: a commit of one step with a small result, its share of the index included, fifty jobs interleaved."""
    async with open_store(database) as store:
        jobs = [await holder().begin(store) for _ in range(50)]
        bodies = 0
        for n in range(60):
            appends = [job.next(happened.step(str(n), b'{"id":"order-1","total":12.5}')) for job in jobs]
            for job, append, answer in zip(jobs, appends, await store.append(appends), strict=True):
                job.took(append, answer)
                bodies = len(append.body)
    connection = await asyncpg.connect(database)
    size, rows = await connection.fetchrow(
        "SELECT (SELECT sum(pg_table_size(relid) + pg_indexes_size(relid)) FROM pg_partition_tree('ledger.commits')), "
        "count(*) FROM ledger.commits"
    )
    await connection.close()

    assert 60 < bodies < 120
    assert size / rows < 300
