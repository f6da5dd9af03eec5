"""Steps that write your own PostgreSQL exactly once.

The function's rows, and a row that says that it ran, are written into your database in one transaction. If the runner
crashes before the job's record has the result, the step runs again, finds that row and returns the result stored there.

    begin ─► claim (job, path) in aetheris.steps ─┬─ first ──► your function ─► its result beside the claim ─► commit
                                                  └─ taken ──► the result that stands there

    from aetheris.postgres import tx_step

    @tx_step(dsn="postgresql://…")
    async def book(tx: asyncpg.Connection, order_id: str) -> int:
        return await tx.fetchval("INSERT INTO bookings (order_id) VALUES ($1) RETURNING id", order_id)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from inspect import isawaitable
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from aetheris.definitions import StepDefinition
from aetheris.driving.boundary import is_a
from aetheris.errors import AetherisError, ContractViolation
from aetheris.outcomes import StepInHand, step_in_hand
from aetheris.retry import Retry
from aetheris.values import canonical

R = TypeVar("R")

# Created on first use, in the database that has the function's own rows.
TABLE = """
CREATE SCHEMA IF NOT EXISTS aetheris;
CREATE TABLE IF NOT EXISTS aetheris.steps (
    job_id           uuid        NOT NULL,
    path             text        NOT NULL,
    name             text        NOT NULL,
    arguments_digest bytea       NOT NULL,
    result           bytea,
    attempt          integer     NOT NULL,
    lease            bigint      NOT NULL,
    written_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT steps_pkey PRIMARY KEY (job_id, path)
);
"""
# A lock, because two transactions that create the table at once would fail.
_ALONE = "SELECT pg_advisory_xact_lock(7161923041)"
# A second transaction for the same step waits here for the first one's commit, and then inserts no row.
_CLAIM = """
INSERT INTO aetheris.steps (job_id, path, name, arguments_digest, attempt, lease) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT ON CONSTRAINT steps_pkey DO NOTHING RETURNING true
"""
_TAKEN = "SELECT name, arguments_digest, result FROM aetheris.steps WHERE job_id = $1 AND path = $2"
_FILL = "UPDATE aetheris.steps SET result = $3 WHERE job_id = $1 AND path = $2"

_LOST = (asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError,
         asyncpg.CrashShutdownError, asyncpg.TooManyConnectionsError, OSError)  # fmt: skip
# How long a step that failed asks whether its rows are written after all.
_LOOK_S = 5.0
_MISSING = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)


class DatabaseAway(AetherisError):
    """The database cannot be reached, or the connection was lost. The next attempt finds out whether the transaction
    was committed."""


class _UntilItIsBack(Retry):
    """The retry policy: wait for a database that is away; an error of the function is final."""

    def hopeless(self, error: BaseException) -> bool:
        return not isinstance(error, DatabaseAway)


_PATIENT = _UntilItIsBack(attempts=10_000, first="500ms", most="1m")


class TxStepDefinition(StepDefinition[R]):
    """A step whose function gets a connection, inside a transaction, as its parameter `tx`."""

    injected = frozenset({"tx"})
    can_tell = True

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        opened: Callable[[], Awaitable[AbstractAsyncContextManager[Any]]],
        **limits: Any,
    ) -> None:
        limits["retry"] = _PATIENT if limits.get("retry") is None else limits["retry"]
        super().__init__(function, name, False, **limits)
        if not self.is_async or "tx" not in self.signature.injected:
            raise TypeError(f"{self.name}: a tx_step is an `async def` with a parameter `tx`, the connection")
        self._opened = opened
        # The claim needs the step's job and path, which only a runner gives.
        self.plain = False

    async def call(self, arguments: dict[str, Any], **injected: Any) -> R:
        if "tx" in injected:
            return await super().call(arguments, **injected)
        try:
            opened = await self._opened()
        except (*_LOST, TimeoutError) as away:
            raise DatabaseAway(f"{self.name}: the database is away: {away}") from away
        async with opened as connection:
            try:
                return await self._written(connection, arguments)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                # The function itself may raise these errors. While the connection is open, they are the function's and
                # not the database's.
                if isinstance(error, _LOST[:-1]) or connection.is_closed():
                    raise DatabaseAway(f"{self.name}: the connection was lost: {error}") from error
                raise

    async def landed(self, arguments: dict[str, Any], error: BaseException) -> R:
        """The result, if the transaction was committed although the step did not hear of it: its time was over between
        the commit and the answer, or the connection was lost then. Raises `error` if it was not committed, and
        DatabaseAway if that cannot be found out."""
        step = step_in_hand.get()
        if step is None or not is_a(error, TimeoutError, DatabaseAway):
            raise error
        try:
            async with asyncio.timeout(_LOOK_S), await self._opened() as connection:
                written = await self._looked_up(connection, step, arguments)
        except (*_LOST, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as away:
            raise DatabaseAway(f"{self.name}: it is not known whether its rows are written: {away}") from error
        if written is None:
            raise error
        found: R = self.signature.result.read(written)
        return found

    async def _looked_up(self, connection: Any, step: StepInHand, arguments: dict[str, Any]) -> bytes | None:
        """What the step has written. The claim waits for a transaction that is still being committed, and is not
        kept."""
        who, digest = (UUID(step.job_id), step.path), sha256(canonical(arguments)).digest()
        transaction = connection.transaction()
        await transaction.start()
        try:
            if await connection.fetchval(_CLAIM, *who, self.name, digest, step.attempt, step.lease):
                return None
            return await self._taken(connection, step, digest)
        except _MISSING as missing:
            if not _is_ours(missing):
                raise
            return None
        finally:
            await transaction.rollback()

    async def _taken(self, connection: Any, step: StepInHand, digest: bytes) -> bytes:
        taken = await connection.fetchrow(_TAKEN, UUID(step.job_id), step.path)
        if (taken["name"], taken["arguments_digest"]) != (self.name, digest):
            raise ContractViolation(
                f"{self.name}: aetheris.steps has {taken['name']} with other arguments for job {step.job_id} "
                f"at {step.path}: the code has changed under the job"
            )
        written: bytes = taken["result"]
        return written

    async def _written(self, connection: Any, arguments: dict[str, Any]) -> R:
        step = step_in_hand.get()
        if step is None:
            async with connection.transaction():
                return await super().call(arguments, tx=connection)
        try:
            return await self._once(connection, step, arguments)
        except _MISSING as missing:
            if not _is_ours(missing):
                raise
        await _create(connection)
        return await self._once(connection, step, arguments)

    async def _once(self, connection: Any, step: StepInHand, arguments: dict[str, Any]) -> R:
        who = UUID(step.job_id), step.path
        digest = sha256(canonical(arguments)).digest()
        async with connection.transaction():
            if await connection.fetchval(_CLAIM, *who, self.name, digest, step.attempt, step.lease):
                result = await super().call(arguments, tx=connection)
                written = self.signature.result.write(result)
                await connection.execute(_FILL, *who, written)
            else:
                written = await self._taken(connection, step, digest)
        found: R = self.signature.result.read(written)
        return found


def _is_ours(missing: BaseException) -> bool:
    return "aetheris" in str(missing)


@asynccontextmanager
async def _closing(connection: Any) -> AsyncIterator[Any]:
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _released(pool: Any, connection: Any) -> AsyncIterator[Any]:
    try:
        yield connection
    finally:
        await pool.release(connection)


async def _create(connection: Any) -> None:
    async with connection.transaction():
        await connection.execute(_ALONE)
        await connection.execute(TABLE)


def tx_step(
    *,
    dsn: str | Callable[[], str] | None = None,
    pool: Callable[[], Any] | None = None,
    name: str | None = None,
    retry: Retry | int | None = None,
    timeout: str | float | timedelta | None = None,
    heartbeat: str | float | timedelta | None = None,
) -> Callable[[Callable[..., Awaitable[R]]], TxStepDefinition[R]]:
    """Mark an `async def` whose parameter `tx` is an asyncpg connection in a transaction.

    `dsn` opens a connection for each step; `pool` is a function that returns an `asyncpg.Pool`, for many steps. Both
    may be functions, so that importing the module reads no settings. Without `retry`, the step waits for a database
    that is away, and an error of the function is final.
    """
    if (dsn is None) == (pool is None):
        raise TypeError("tx_step takes either dsn= or pool=")

    async def opened() -> AbstractAsyncContextManager[Any]:
        if dsn is not None:
            return _closing(await asyncpg.connect(dsn if isinstance(dsn, str) else dsn()))
        assert pool is not None
        given = pool()
        # Awaiting a pool opens it.
        given = await given if isawaitable(given) else given
        return _released(given, await given.acquire())

    return lambda function: TxStepDefinition(function, name, opened, retry=retry, timeout=timeout, heartbeat=heartbeat)
