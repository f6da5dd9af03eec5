"""A connection whose statements have a limit, and that is closed as soon as it cannot be trusted.

When a statement is given up, the driver asks the server to cancel it and then waits for the server without any limit.
That wait is endless where the server is frozen. And where a commit waits for its standby, the cancel makes the commit
visible although no standby has it. So a statement that is over its limit, or whose caller is cancelled, costs the
connection: it is cut, and nothing more is sent to the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
from aetheris_kernel.errors import Unavailable

T = TypeVar("T")

# The C function of the server that reports a commit which no longer waits for its standby. Its name stands in the
# message whatever the server's language is.
_SYNC_REPLICATION = "SyncRepWaitForLSN"


class LimitedConnection(asyncpg.Connection):
    """`statement_s` bounds each statement, `on_cut` hears of a server that did not keep to it."""

    statement_s = 10.0
    on_cut: Callable[[], None] | None = None
    # Its caller was cancelled in the middle of a statement.
    given_up = False
    _running = False
    _overdue = False
    _unreplicated = False

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        return await self._within_limit(super().execute(*arguments, **options))

    async def executemany(self, *arguments: Any, **options: Any) -> Any:
        return await self._within_limit(super().executemany(*arguments, **options))

    async def fetch(self, *arguments: Any, **options: Any) -> Any:
        return await self._within_limit(super().fetch(*arguments, **options))

    async def fetchrow(self, *arguments: Any, **options: Any) -> Any:
        return await self._within_limit(super().fetchrow(*arguments, **options))

    async def fetchval(self, *arguments: Any, **options: Any) -> Any:
        return await self._within_limit(super().fetchval(*arguments, **options))

    @property
    def itself(self) -> LimitedConnection:
        """This connection, asked of the pool's proxy: the proxy loses it when it is cut."""
        return self

    @property
    def idle(self) -> bool:
        return not self.is_closed() and not self._running and not self.is_in_transaction()

    def cut(self) -> None:
        """Close the connection without a word to the server, which is no longer the one to talk to."""
        self.terminate()
        if self.on_cut is not None:
            self.on_cut()

    async def _within_limit(self, statement: Awaitable[T]) -> T:
        self._running = True
        watch = asyncio.get_running_loop().call_later(self.statement_s, self._cut_overdue)
        try:
            answer = await statement
        except asyncio.CancelledError:
            self.given_up = True
            self.terminate()
            raise
        except asyncpg.ReadOnlySQLTransactionError:
            # The leader became a standby. Behind a proxy the connection would stay with it.
            self.cut()
            raise
        except Exception as fault:
            if self._overdue:
                raise Unavailable("the database did not answer in time", limit_s=self.statement_s) from fault
            raise
        finally:
            watch.cancel()
            self._running = False
        if self._unreplicated:
            self.cut()
            raise Unavailable("the database has stored the change, but no standby has confirmed it")
        return answer

    def _cut_overdue(self) -> None:
        self._overdue = True
        self.cut()

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        # An operator who cancels a commit that waits for its standby makes it a success with this warning.
        if fields.get("R") == _SYNC_REPLICATION:
            self._unreplicated = True
        super()._process_log_message(fields, last_query)  # type: ignore[misc]
