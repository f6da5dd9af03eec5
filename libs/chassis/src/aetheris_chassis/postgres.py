"""PostgreSQL: a pool that waits for its database, and the one place that turns broken connections into refusals.

No state lives in a connection: no SET, no LISTEN, no session lock, no temporary table, no cursor outside
a transaction. So any pooler in transaction mode may be used, and giving a connection back costs
no round trip. The only thing that outlives a transaction is the cache of prepared statements; poolers
that do not track those (PgBouncer before 1.21, or with max_prepared_statements = 0) need
`statement_cache=False`, which sends every statement unnamed.

Every wait has a limit: for a connection to each host of the DSN (`database_hosts.py`), for a free connection of the
pool, and for each statement (`limited_connection.py`). A server that freezes therefore never holds a writer for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar, cast
from weakref import WeakSet

import asyncpg
import structlog
from aetheris_kernel.errors import Invalid, Unavailable
from asyncpg.pool import PoolConnectionProxy

from aetheris_chassis.database_hosts import HOST_FAULTS, DatabaseHosts
from aetheris_chassis.limited_connection import LimitedConnection

log = structlog.get_logger()

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

T = TypeVar("T")

WAIT_S = 30.0
ACQUIRE_S = 10.0
# Longer than any statement of a service takes on a database that works.
STATEMENT_S = 10.0
_CLOSE_S = 5.0

# After these faults the same request may succeed if it is sent again.
FAULTS: tuple[type[Exception], ...] = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ReadOnlySQLTransactionError,  # the primary became a standby
    asyncpg.InvalidCachedStatementError,  # a migration ran between two executions
    asyncpg.OutdatedSchemaCacheError,
)
_RELEASE_FAULTS: tuple[type[Exception], ...] = (asyncpg.InterfaceError, *FAULTS)
_CONNECT_FAULTS: tuple[type[Exception], ...] = (*HOST_FAULTS, *FAULTS)


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    size_max: int = 4,
    application_name: str = "aetheris",
    statement_cache: bool = True,
    keep_plans: bool = False,
    statement_s: float = STATEMENT_S,
    wait_s: float = WAIT_S,
) -> AsyncIterator[Pool]:
    """A pool on `dsn`, once the database answers. Raises Unavailable after `wait_s`. A statement that takes longer than
    `statement_s` costs its connection, and raises Unavailable. With `keep_plans`, a prepared statement is planned once
    and not for each call; that is for statements whose plan does not depend on the values."""
    _require_named(dsn)
    members = _Members(dsn, statement_s)

    async def opened() -> Pool:
        pool: Pool = await asyncpg.create_pool(
            min_size=1,
            max_size=size_max,
            max_queries=10_000_000,
            statement_cache_size=200 if statement_cache else 0,
            server_settings={"application_name": application_name},
            # The stubs ask for a function of their own form; asyncpg calls it with the arguments of `connect`.
            connect=cast("Any", members.connect),
            connection_class=LimitedConnection,
            reset=_nothing_to_reset,
            # Without prepared statements there is no plan to keep.
            init=_keep_plans if keep_plans and statement_cache else None,
        )
        return pool

    pool = await _once_answering(opened, wait_s)
    try:
        yield pool
    finally:
        await _closed(pool)


@asynccontextmanager
async def connected(dsn: str, *, wait_s: float = WAIT_S) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """One connection outside any pool, for a task such as a migration. Its statements have no limit."""
    _require_named(dsn)

    hosts = DatabaseHosts(dsn)

    async def opened() -> asyncpg.Connection[asyncpg.Record]:
        found: asyncpg.Connection[asyncpg.Record] = await hosts.connect(
            statement_cache_size=0, server_settings={"application_name": "aetheris"}
        )
        return found

    connection = await _once_answering(opened, wait_s)
    try:
        yield connection
    finally:
        with suppress(TimeoutError):
            await connection.close(timeout=_CLOSE_S)


@asynccontextmanager
async def acquiring(pool: Pool, *, wait_s: float = ACQUIRE_S) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
    """A connection of the pool. All errors of a lost or busy database become Unavailable here."""
    try:
        async with asyncio.timeout(wait_s):
            connection = await pool.acquire()
    except TimeoutError as late:
        raise Unavailable("no connection to the database is free", waited_s=wait_s) from late
    except _CONNECT_FAULTS as fault:
        raise Unavailable("the database cannot be reached") from fault
    except asyncpg.InterfaceError as fault:
        if pool.is_closing():
            raise Unavailable("the service is stopping") from fault
        raise
    member: LimitedConnection = cast("Any", connection).itself
    try:
        try:
            yield connection
        except Exception as fault:
            # The connection was cut when the caller was cancelled, and so the end of the transaction fails.
            if member.given_up:
                raise asyncio.CancelledError from fault
            raise
    except FAULTS as fault:
        raise Unavailable("the database did not finish the request") from fault
    except asyncpg.InterfaceError as fault:
        # asyncpg raises this for a connection that died between two statements.
        if _gone(connection):
            raise Unavailable("the database closed the connection") from fault
        raise
    except asyncpg.InternalClientError as fault:
        # The database is closing the connection: asyncpg has read a part of its last message, waits for the rest, and
        # takes no statement meanwhile.
        connection.terminate()
        raise Unavailable("the database is closing the connection") from fault
    finally:
        await _released(pool, connection)


class _Members:
    """The connections of one pool. If one was cut, its idle neighbours are closed: they lead to the same server."""

    def __init__(self, dsn: str, statement_s: float) -> None:
        self._hosts = DatabaseHosts(dsn)
        self._statement_s = statement_s
        self._open: WeakSet[LimitedConnection] = WeakSet()

    async def connect(self, _: object = None, **options: Any) -> LimitedConnection:
        made: LimitedConnection = await self._hosts.connect(**options)
        made.statement_s = self._statement_s
        made.on_cut = self._leave
        self._open.add(made)
        return made

    def _leave(self) -> None:
        self._hosts.leave()
        for member in list(self._open):
            if member.idle:
                member.terminate()


async def _keep_plans(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute("SET plan_cache_mode = force_generic_plan")


def _require_named(dsn: str) -> None:
    if not dsn:
        raise Invalid("no database is named: set AETHERIS_DATABASE_URL", field="database_url")


async def _once_answering(connect: Callable[[], Awaitable[T]], wait_s: float) -> T:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    pause_s = 0.05
    while True:
        try:
            return await connect()
        except _CONNECT_FAULTS as fault:
            if loop.time() + pause_s > deadline:
                raise Unavailable("the database does not answer", waited_s=wait_s) from fault
            log.warning("waiting for the database", problem=str(fault) or type(fault).__name__)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, 2.0)


def _gone(connection: PoolConnectionProxy[asyncpg.Record]) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool has taken the dead connection out of its proxy, and every call of that raises this.
        return True


async def _released(pool: Pool, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
    try:
        await pool.release(connection)
    except _RELEASE_FAULTS:
        # The caller has its answer; the pool has dropped the connection and opens another one.
        log.debug("connection lost on its way back")


async def _closed(pool: Pool) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await pool.close()
    except _CONNECT_FAULTS:
        pool.terminate()


async def _nothing_to_reset(_: asyncpg.Connection[asyncpg.Record]) -> None:
    """asyncpg itself rolls an open transaction back; by the rule above there is nothing else."""
