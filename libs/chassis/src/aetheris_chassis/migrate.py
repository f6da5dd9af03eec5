"""Migrations: a package's `sql/migrations/NNNN_{pre,post}_what.sql`, applied in order, forward only.

`pre` is safe before the new code rolls out, `post` only after the old code is gone. Each migration is
one transaction together with its own row in `aetheris.migrations`, under a lock that ends with the
transaction: any number of migrators may run at once, through any pooler, and each migration is applied
once. The checksum of an applied file is stored, and an edited file is refused. Statements that cannot run in a
transaction (CREATE INDEX CONCURRENTLY) cannot be in a migration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Literal

import asyncpg
import structlog
from aetheris_kernel.errors import Conflict, Unavailable

from aetheris_chassis.client import retrying
from aetheris_chassis.postgres import WAIT_S, Connection, Pool, acquiring, connected

log = structlog.get_logger()

Phase = Literal["pre", "post"]

_FILE = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")
# The key of the advisory lock. All packages share it, because they share the table.
_LOCK = 0x61657468
_TABLE = """
CREATE SCHEMA IF NOT EXISTS aetheris;
CREATE TABLE IF NOT EXISTS aetheris.migrations (
    package    text        NOT NULL,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT migrations_pkey PRIMARY KEY (package, name)
);
"""
_APPLIED = "SELECT name, checksum FROM aetheris.migrations WHERE package = $1"
_RECORD = "INSERT INTO aetheris.migrations (package, name, checksum) VALUES ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    phase: Phase
    sql: str
    checksum: str


def migrations_of(package: str) -> list[Migration]:
    """In the order in which they apply."""
    found: list[Migration] = []
    for source in files(package).joinpath("sql", "migrations").iterdir():
        if not source.name.endswith(".sql"):
            continue
        match = _FILE.fullmatch(source.name)
        if match is None:
            raise ValueError(f"{package}: {source.name} is not named NNNN_pre_what.sql or NNNN_post_what.sql")
        sql = source.read_text(encoding="utf-8")
        phase: Phase = "pre" if match[2] == "pre" else "post"
        found.append(Migration(source.name.removesuffix(".sql"), phase, sql, sha256(sql.encode()).hexdigest()))
    found.sort(key=lambda migration: migration.name)
    numbers = [migration.name[:4] for migration in found]
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"{package}: two migrations share a number: {[m.name for m in found]}")
    return found


async def migrate(dsn: str, package: str, *, phase: Phase | None = None, lock_s: float = 10.0) -> list[str]:
    """Apply the missing migrations and return their names. `phase="pre"` leaves out the `post` migrations at the end.

    A migration that waits for a table's lock for longer than `lock_s` is given up, because all other statements on that
    table would queue behind it: Unavailable, with nothing of that migration applied.
    """
    wanted = migrations_of(package)
    if phase == "pre":
        while wanted and wanted[-1].phase == "post":
            wanted.pop()
    done: list[str] = []
    async with connected(dsn) as connection:
        while (name := await _apply_next(connection, package, wanted, lock_s)) is not None:
            log.info("migration applied", package=package, migration=name)
            done.append(name)
    return done


async def require_migrated(pool: Pool, package: str) -> None:
    """Raises Unavailable while the schema is older than the code. Missing `post` migrations do not count.

    If the database goes away meanwhile, it is asked again, for as long as a service waits for its database.
    """
    needed = [migration for migration in migrations_of(package) if migration.phase == "pre"]

    async def read() -> dict[str, str]:
        async with acquiring(pool) as connection:
            try:
                return await _applied(connection, package)
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                return {}

    applied = await retrying(read, deadline_s=WAIT_S)
    missing = [migration.name for migration in needed if migration.name not in applied]
    if missing:
        raise Unavailable(
            f"the database is older than this code: run `python -m {package} migrate`", missing=", ".join(missing)
        )


async def _apply_next(connection: Connection, package: str, wanted: list[Migration], lock_s: float) -> str | None:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        pending = _pending(package, wanted, await _applied(connection, package))
        if pending is None:
            return None
        await connection.execute(f"SET LOCAL lock_timeout = {int(lock_s * 1000)}")
        try:
            await connection.execute(pending.sql)
        except asyncpg.LockNotAvailableError as held:
            raise Unavailable(
                f"{package}: {pending.name} waited too long for a lock; nothing of it is applied, run it again",
                migration=pending.name,
            ) from held
        await connection.execute(_RECORD, package, pending.name, pending.checksum)
        return pending.name


def _pending(package: str, wanted: list[Migration], applied: dict[str, str]) -> Migration | None:
    """The next migration to apply. Applied ones that this code does not have come from a newer version and stay."""
    for migration in wanted:
        checksum = applied.get(migration.name)
        if checksum is not None and checksum != migration.checksum:
            raise Conflict(
                f"{package}: {migration.name}.sql was edited after it had been applied; restore it and write a new "
                "migration instead",
                migration=migration.name,
            )
    missing = [migration for migration in wanted if migration.name not in applied]
    if not missing:
        return None
    latest = max(applied, default="")
    if missing[0].name < latest:
        raise Conflict(
            f"{package}: {missing[0].name}.sql comes before {latest}, which is applied; give it a higher number",
            migration=missing[0].name,
        )
    return missing[0]


async def _applied(connection: Connection, package: str) -> dict[str, str]:
    return {row["name"]: row["checksum"] for row in await connection.fetch(_APPLIED, package)}
