"""A service's role in the database can do what the service's statements do, and nothing else."""

from __future__ import annotations

import uuid

import asyncpg
import pytest
from aetheris_chassis.grants import grant
from aetheris_chassis.migrate import require_migrated
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.queries import load_queries
from aetheris_kernel.errors import Conflict

from harness.postgres import fresh_database

PACKAGES = ("aetheris_gateway", "aetheris_ledger", "aetheris_scheduler")

pytestmark = pytest.mark.migrated(*PACKAGES)

# What the owner of the tables could do, each of it enough to forge a record or to lose what was accepted.
ATTACKS = {
    "aetheris_ledger": [
        "UPDATE ledger.commits SET body = 'x'",
        "DELETE FROM ledger.commits",
        "TRUNCATE ledger.commits",
        "ALTER TABLE ledger.commits DISABLE TRIGGER commits_stay",
        "DROP TRIGGER commits_stay ON ledger.commits",
        "DELETE FROM ledger.effects",
        "UPDATE ledger.effects SET key = 'other'",
        "UPDATE ledger.effects SET tenant = 'other'",
        "CREATE TABLE ledger.mine ()",
    ],
    "aetheris_scheduler": [
        "DELETE FROM scheduler.jobs",
        "TRUNCATE scheduler.jobs",
        "UPDATE scheduler.child_ends SET number = 1",
        "DELETE FROM scheduler.child_ends",
        "ALTER TABLE scheduler.jobs DROP CONSTRAINT jobs_state_check",
    ],
    "aetheris_gateway": [
        "UPDATE gateway.notes SET payload = 'x'",
        "DELETE FROM gateway.notes",
        "UPDATE gateway.decisions SET actor = 'mallory'",
        "DELETE FROM gateway.decisions",
        "UPDATE gateway.approvals SET approver = 'me'",
        "UPDATE gateway.token_keys SET secret = 'x'",
        "DELETE FROM gateway.token_keys",
    ],
}
EVERYWHERE = [
    "UPDATE aetheris.migrations SET checksum = ''",
    "DELETE FROM aetheris.migrations",
    "CREATE SCHEMA mine",
]


@pytest.fixture
def role(postgres_server):
    """A role of this test alone; roles belong to the whole server."""
    name = f"service {uuid.uuid4().hex[:8]}"
    postgres_server.sql(f'CREATE ROLE "{name}" LOGIN')
    yield name
    postgres_server.sql(f'DROP ROLE IF EXISTS "{name}"')


@pytest.fixture
async def granted(postgres_server, role):
    """A function: the DSN with which the service of a package connects to a database that all packages share."""
    async with fresh_database(postgres_server, *PACKAGES) as dsn:

        async def dsn_of(package: str) -> str:
            await grant(dsn, package, role)
            return dsn.replace("postgres@", f"{role.replace(' ', '%20')}@", 1)

        yield dsn_of


async def refused(connection, statement: str) -> bool:
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


@pytest.mark.parametrize("package", PACKAGES)
async def test_each_statement_of_a_service_is_permitted_to_its_role(granted, package):
    """EXPLAIN checks the permissions of a statement and does not run it."""
    connection = await asyncpg.connect(await granted(package))
    wrong: dict[str, str] = {}
    try:
        for name, text in load_queries(package):
            try:
                await connection.execute(f"EXPLAIN (GENERIC_PLAN) {text}")
            except asyncpg.PostgresError as error:
                wrong[name] = str(error)
    finally:
        await connection.close()

    assert wrong == {}, f"grant it in sql/grants.sql of {package}"


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_service_starts_with_its_role(granted, package):
    async with open_pool(await granted(package)) as pool:
        await require_migrated(pool, package)


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_role_can_do_nothing_beyond_its_services_statements(granted, package):
    others = [
        f"SELECT * FROM {table}"
        for other, tables in {
            "aetheris_ledger": ["ledger.commits", "ledger.effects"],
            "aetheris_scheduler": ["scheduler.jobs", "scheduler.heads"],
            "aetheris_gateway": ["gateway.token_keys", "gateway.notes"],
        }.items()
        for table in tables
        if other != package
    ]
    connection = await asyncpg.connect(await granted(package))
    try:
        permitted = [each for each in [*ATTACKS[package], *EVERYWHERE, *others] if not await refused(connection, each)]
    finally:
        await connection.close()

    assert permitted == []


async def test_a_grant_that_is_in_the_file_no_more_is_taken_back(postgres_server, role):
    async with fresh_database(postgres_server, "aetheris_gateway") as dsn:
        owner = await asyncpg.connect(dsn)
        await owner.execute(
            f'GRANT ALL ON gateway.notes TO "{role}"; GRANT UPDATE (actor) ON gateway.decisions TO "{role}"'
        )
        await owner.close()
        await grant(dsn, "aetheris_gateway", role)
        await grant(dsn, "aetheris_gateway", role)
        connection = await asyncpg.connect(dsn.replace("postgres@", f"{role.replace(' ', '%20')}@", 1))
        try:
            assert await refused(connection, "DELETE FROM gateway.notes")
            assert await refused(connection, "UPDATE gateway.decisions SET actor = 'mallory'")
        finally:
            await connection.close()


async def test_the_role_that_migrates_cannot_be_limited(database):
    with pytest.raises(Conflict, match="owns the tables"):
        await grant(database, "aetheris_ledger", "postgres")
