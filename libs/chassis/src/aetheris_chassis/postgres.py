"""PostgreSQL: a pool that waits for its database, and one place that says what a broken connection means.

No state lives in a connection: no SET, no LISTEN, no session lock, no temporary table, no cursor outside
a transaction. So any pooler in transaction mode may stand in between, and giving a connection back costs
no round trip. The one thing that does outlive a transaction is the cache of prepared statements; poolers
that do not track those (PgBouncer before 1.21, or with max_prepared_statements = 0) need
`statement_cache=False`, which sends every statement unnamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

import asyncpg
import structlog
from aetheris_kernel.errors import Invalid, Unavailable
from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger()

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

T = TypeVar("T")

WAIT_S = 30.0
ACQUIRE_S = 10.0
_CONNECT_S = 5.0

# The same request, sent again, may well succeed.
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
# While connecting, anything the operating system says is about the way there: no socket, no route, no name.
_CONNECT_FAULTS: tuple[type[Exception], ...] = (OSError, TimeoutError, *FAULTS)


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    size_max: int = 4,
    application_name: str = "aetheris",
    statement_cache: bool = True,
    wait_s: float = WAIT_S,
) -> AsyncIterator[Pool]:
    """A pool on `dsn`, once the database answers; Unavailable after `wait_s`."""
    _require_named(dsn)

    async def opened() -> Pool:
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size_max,
            max_queries=10_000_000,
            timeout=_CONNECT_S,
            statement_cache_size=200 if statement_cache else 0,
            server_settings={"application_name": application_name},
            reset=_nothing_to_reset,
        )

    pool = await _once_answering(opened, wait_s)
    try:
        yield pool
    finally:
        await _closed(pool)


@asynccontextmanager
async def connected(dsn: str, *, wait_s: float = WAIT_S) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """One connection beside any pool, for a task that is done soon."""
    _require_named(dsn)

    async def opened() -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            dsn, timeout=_CONNECT_S, statement_cache_size=0, server_settings={"application_name": "aetheris"}
        )

    connection = await _once_answering(opened, wait_s)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def acquiring(pool: Pool, *, wait_s: float = ACQUIRE_S) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
    """A connection of the pool. Whatever a lost or busy database raises becomes Unavailable here."""
    try:
        async with asyncio.timeout(wait_s):
            connection = await pool.acquire()
    except TimeoutError as late:
        raise Unavailable("no connection to the database is free", waited_s=wait_s) from late
    except _CONNECT_FAULTS as fault:
        raise Unavailable("the database is not to be reached") from fault
    except asyncpg.InterfaceError as fault:
        if pool.is_closing():
            raise Unavailable("the service is stopping") from fault
        raise
    try:
        yield connection
    except FAULTS as fault:
        raise Unavailable("the database did not finish the request") from fault
    except asyncpg.InterfaceError as fault:
        # The client's own word for a connection that died between two statements.
        if _gone(connection):
            raise Unavailable("the database closed the connection") from fault
        raise
    except asyncpg.InternalClientError as fault:
        # It was told that it is over, and the end itself is still on its way: the client waits for the rest of what
        # the database said, and takes no statement meanwhile.
        connection.terminate()
        raise Unavailable("the database is closing the connection") from fault
    finally:
        await _released(pool, connection)


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
        # The pool has taken a dead connection out of its proxy, which then answers nothing.
        return True


async def _released(pool: Pool, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
    try:
        await pool.release(connection)
    except _RELEASE_FAULTS:
        # The request has its answer; the pool has dropped the connection and opens another.
        log.debug("connection lost on its way back")


async def _closed(pool: Pool) -> None:
    try:
        async with asyncio.timeout(_CONNECT_S):
            await pool.close()
    except _CONNECT_FAULTS:
        pool.terminate()


async def _nothing_to_reset(_: asyncpg.Connection[asyncpg.Record]) -> None:
    """asyncpg itself rolls an open transaction back; by the rule above there is nothing else."""
