"""The keys that sign tokens, in PostgreSQL.

The first gateway that needs a key makes it. A newer key signs from the moment it is stored; tokens of an older key are
accepted until that key is deleted.
"""

from __future__ import annotations

import secrets

from aetheris_chassis.postgres import Pool, acquiring
from aetheris_chassis.queries import load_queries

SECRET_BYTES = 32

_sql = load_queries("aetheris_gateway")


class TokenKeys:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # The keys of which this process knows that a standby has them.
        self._confirmed: set[int] = set()

    async def signing(self) -> tuple[int, bytes]:
        """The newest key, made if there is none."""
        keys = await self.all()
        if not keys:
            await self._add(1)
            keys = await self.all()
        newest = max(keys)
        if newest not in self._confirmed:
            async with acquiring(self._pool) as connection:
                await connection.fetch(_sql.confirm_token_key, newest)
            self._confirmed.add(newest)
        return newest, keys[newest]

    async def all(self) -> dict[int, bytes]:
        """All keys, read from the database each time, so that a deleted key is refused at once."""
        async with acquiring(self._pool) as connection:
            return {row["id"]: row["secret"] for row in await connection.fetch(_sql.token_keys)}

    async def rotate(self) -> None:
        """Add a key, which signs from now on."""
        await self._add(max(await self.all(), default=0) + 1)

    async def _add(self, key_id: int) -> None:
        async with acquiring(self._pool) as connection:
            await connection.execute(_sql.add_token_key, key_id, secrets.token_bytes(SECRET_BYTES))
