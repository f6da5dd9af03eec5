"""The schema that a package's migrations make, as text; its `sql/schema.sql` shows the same to people.

    PYTHONPATH=tests .venv/bin/python -m harness.schema aetheris_ledger …

migrates a throwaway database and writes the snapshot. One written by hand, with its reasons beside the
columns, is just as good: a test only asks that both make the same schema.
"""

from __future__ import annotations

import asyncio
import re
import sys
from importlib.resources import files
from pathlib import Path

from aetheris_chassis.queries import SNAPSHOT

from harness.postgres import Server, fresh_database, throwaway_server

_HEADER = "-- The sum of the migrations, for reading. Written by `python -m harness.schema {package}`.\n\n"
# pg_dump's comments and session settings.
_NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)$", re.MULTILINE)


def snapshot_path(package: str) -> Path:
    return Path(str(files(package))) / "sql" / SNAPSHOT


async def migrated_schema(server: Server, package: str) -> str:
    """What the migrations of `package` make of an empty database."""
    async with fresh_database(server, package) as dsn:
        return _dump(server, dsn)


async def snapshot_schema(server: Server, package: str) -> str:
    """What the package's `schema.sql` makes of an empty database."""
    async with fresh_database(server) as dsn:
        server.run("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={snapshot_path(package)}", dsn)
        return _dump(server, dsn)


def _dump(server: Server, dsn: str) -> str:
    """Canonical text, without the table of applied migrations."""
    dump = server.run(
        "pg_dump", "--schema-only", "--no-owner", "--no-privileges", "--exclude-schema=aetheris", f"--dbname={dsn}"
    )
    return re.sub(r"\n{3,}", "\n\n", _NOISE.sub("", dump)).strip() + "\n"


def main(packages: list[str]) -> None:
    if not packages:
        sys.exit("usage: python -m harness.schema PACKAGE…")
    with throwaway_server() as server:
        for package in packages:
            schema = asyncio.run(migrated_schema(server, package))
            snapshot_path(package).write_text(_HEADER.format(package=package) + schema)


if __name__ == "__main__":
    main(sys.argv[1:])
