"""Grants: a package's `sql/grants.sql`, for the role as which its service connects.

Where that role is not the one that migrates, it owns nothing: a service that was taken over can do what its statements
do and no more. `{role}` in the file stands for the role. The grants are made anew after each run of the migrations, so
that a new table is granted and a grant that is no longer in the file is gone.
"""

from __future__ import annotations

from importlib.resources import files

from aetheris_kernel.errors import Conflict

from aetheris_chassis.postgres import connected
from aetheris_chassis.queries import GRANTS

_READ_MIGRATIONS = """
GRANT USAGE ON SCHEMA aetheris TO {role};
GRANT SELECT ON aetheris.migrations TO {role};
"""


async def grant(dsn: str, package: str, role: str) -> None:
    """Give `role` what the service of `package` needs, and take all else from it that it had in the service's schema.

    Raises Conflict for the role that migrates, which owns the tables and so cannot be limited.
    """
    schema = package.removeprefix("aetheris_")
    async with connected(dsn) as connection, connection.transaction():
        if await connection.fetchval("SELECT current_user = $1", role):
            raise Conflict(
                f"the role {role} migrates and owns the tables: let the service connect as another one, or leave "
                "AETHERIS_DATABASE_ROLE empty",
                field="AETHERIS_DATABASE_ROLE",
            )
        named = '"' + role.replace('"', '""') + '"'
        await connection.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {named}")
        # Grants on columns outlive a REVOKE on their table.
        for table, columns in await connection.fetch(_COLUMNS, schema, role):
            listed = ", ".join(f'"{column}"' for column in columns)
            await connection.execute(f'REVOKE ALL ({listed}) ON {schema}."{table}" FROM {named}')
        text = files(package).joinpath("sql", GRANTS).read_text(encoding="utf-8") + _READ_MIGRATIONS
        await connection.execute(text.replace("{role}", named))


_COLUMNS = """
SELECT table_name, array_agg(DISTINCT column_name::text) FROM information_schema.column_privileges
WHERE table_schema = $1 AND grantee = $2 GROUP BY table_name
"""
