"""Every statement of every service runs on its migrated schema, and the snapshot of that schema is true."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest
from aetheris_chassis.migrate import migrations_of
from aetheris_chassis.queries import load_queries

from harness.postgres import fresh_database
from harness.schema import migrated_schema, snapshot_path, snapshot_schema

ROOT = Path(__file__).parents[2]
STORING = sorted(folder.parents[1].name for folder in ROOT.glob("services/*/src/*/sql/migrations"))

# What takes rows away, or changes a commit that was written.
LOSING = ("DELETE", "TRUNCATE", "DROP", "UPDATE LEDGER.COMMITS")


def test_the_services_that_store_are_the_ones_we_think():
    assert STORING == ["aetheris_gateway", "aetheris_ledger", "aetheris_scheduler"]


@pytest.mark.parametrize("package", STORING)
async def test_every_query_prepares_against_the_migrated_schema(package, postgres_server):
    queries = dict(load_queries(package))
    wrong: dict[str, str] = {}
    async with fresh_database(postgres_server, package) as dsn:
        connection = await asyncpg.connect(dsn)
        for name, text in queries.items():
            try:
                await connection.prepare(text)
            except asyncpg.PostgresError as error:
                wrong[name] = str(error)
        await connection.close()

    assert queries
    assert wrong == {}


@pytest.mark.parametrize("package", STORING)
async def test_the_snapshot_makes_the_schema_that_the_migrations_make(package, postgres_server):
    assert snapshot_path(package).exists(), f"write it: PYTHONPATH=tests python -m harness.schema {package}"
    assert await snapshot_schema(postgres_server, package) == await migrated_schema(postgres_server, package)


@pytest.mark.parametrize("package", STORING)
async def test_a_service_keeps_to_its_own_schema(package, postgres_server):
    own = package.removeprefix("aetheris_")
    async with fresh_database(postgres_server, package) as dsn:
        connection = await asyncpg.connect(dsn)
        rows = await connection.fetch(
            "SELECT DISTINCT nspname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'aetheris')"
        )
        await connection.close()

    assert {row[0] for row in rows} == {own}


@pytest.mark.parametrize("package", STORING)
def test_migrations_begin_before_the_code_and_fit_into_transactions(package):
    migrations = migrations_of(package)

    assert migrations[0].name.startswith("0001_pre_")
    assert not [migration.name for migration in migrations if "CONCURRENTLY" in migration.sql.upper()]


def test_e7_nothing_that_the_ledger_has_recorded_is_ever_deleted():
    """There is no retention yet. The change that adds it must keep the effects of open jobs, and update this test."""
    folder = ROOT / "services" / "ledger" / "src" / "aetheris_ledger" / "sql"
    statements = {file.name: file.read_text().upper() for file in folder.rglob("*.sql")}
    losing = {
        name: word for name, text in statements.items() for word in LOSING if re.search(rf"^\s*{word}\b", text, re.M)
    }

    assert statements
    assert losing == {}
