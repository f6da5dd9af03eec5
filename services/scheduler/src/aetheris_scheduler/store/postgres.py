"""The scheduler's store in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from aetheris_chassis.postgres import Connection, Pool, acquiring
from aetheris_chassis.queries import load_queries
from aetheris_kernel.errors import Conflict, NotFound, Unavailable

from aetheris_scheduler.core import lifecycle
from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.page import JobListing
from aetheris_scheduler.core.session import Hello, split_held
from aetheris_scheduler.core.stuck import OVERDUE, UNENDED, Diagnosis, diagnose
from aetheris_scheduler.store import rows
from aetheris_scheduler.store.contract import ConnectedRunner, DeployedVersion, Ended, Ends, Look, News, Opened
from aetheris_scheduler.store.tick import Tick, Ticked
from aetheris_scheduler.store.write import statements_max, write_tick

PACKAGE = "aetheris_scheduler"
QUERIES = load_queries(PACKAGE)

# Two schedulers locked rows in different orders: PostgreSQL failed one of the transactions, which may be tried again.
_CONTENDED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_TRIES = 5

_FIRST = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
_LAST_ID = UUID(int=(1 << 128) - 1)


class PostgresStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def tick(self, asked: Tick) -> Ticked:
        in_one = statements_max(asked) <= 1
        async with _acquiring(self._pool) as connection:
            for last in (*(False for _ in range(_TRIES - 1)), True):
                try:
                    if in_one:
                        return await write_tick(connection, QUERIES, asked)
                    async with connection.transaction():
                        return await write_tick(connection, QUERIES, asked)
                except _CONTENDED:
                    if last:
                        raise
        raise AssertionError("unreachable")

    async def open(self, hello: Hello, *, lease_s: float) -> Opened:
        async with _acquiring(self._pool) as connection, connection.transaction():
            # Lock the session first: jobs that another scheduler is leasing to it are then committed and seen below.
            if await connection.fetchval(QUERIES.find_session, hello.session):
                raise Conflict("this session has expired; start a new one", session_id=hello.session)
            draining = await connection.fetchval(
                QUERIES.open_session,
                hello.session,
                hello.stream,
                hello.runner_id,
                hello.agents,
                hello.queues,
                hello.capacity,
                lease_s,
                rows.from_versions(hello.versions),
            )
            leased = await connection.fetch(QUERIES.held_by, hello.session)
            kept, unreceived = split_held(hello.held, [(row["id"], row["lease"]) for row in leased])
            if unreceived:
                await connection.execute(QUERIES.revoke, sorted(unreceived), hello.session)
        return Opened(kept, bool(draining), bool(unreceived))

    async def renew(self, sessions: Sequence[tuple[UUID, UUID]], *, lease_s: float) -> Mapping[UUID, bool]:
        ids, streams = [session for session, _ in sessions], [stream for _, stream in sessions]
        return {row["session"]: row["draining"] for row in await self._fetch(QUERIES.renew, ids, streams, lease_s)}

    async def leave(self, session: UUID, stream: UUID, *, grace_s: float) -> bool:
        async with _acquiring(self._pool) as connection, connection.transaction():
            # Lock the session first, for the same reason as in `open`.
            await connection.fetchval(QUERIES.find_session, session)
            if await connection.fetchval(QUERIES.close_session, session, stream) is not None:
                return True
            await connection.execute(QUERIES.shorten_session, session, stream, grace_s)
            return False

    async def drain(self, session: UUID) -> None:
        if not await self._fetch(QUERIES.drain_session, session):
            raise NotFound("no such session", session_id=session)

    async def leased_to(self, sessions: Sequence[UUID]) -> Sequence[Job]:
        return [rows.to_job(row) for row in await self._fetch(QUERIES.leased_to, list(sessions))]

    async def look(self, sessions: Sequence[UUID], *, keep: Sequence[UUID]) -> Look:
        (row,) = await self._fetch(QUERIES.look, list(sessions), list(keep))
        return Look(
            now=row["now"],
            lanes=list(zip(row["agents"] or (), row["queues"] or (), strict=True)),
            wake_at=row["wake_at"],
            deadline=row["deadline"],
            lease_deadline=row["lease_deadline"],
            ending=row["ending"],
            terminate_at=row["terminate_at"],
            alone=[(agent, queue) for agent, queue in json.loads(row["alone"] or "[]")],
            versions=row["versions"],
            news=[_news(*item) for item in json.loads(row["news"] or "[]")],
        )

    async def get(self, jobs: Sequence[UUID]) -> Mapping[UUID, Job]:
        return {row["id"]: rows.to_job(row) for row in await self._fetch(QUERIES.get, list(jobs))}

    async def ended(self, jobs: Sequence[UUID]) -> Collection[UUID]:
        return {row["id"] for row in await self._fetch(QUERIES.ended, list(jobs))}

    async def ends(self, asked: Ends) -> Ended:
        (row,) = await self._fetch(QUERIES.child_ends, asked.parent, asked.after, asked.limit, list(asked.named))
        jobs = {*(row["since"] or ()), *(row["named"] or ())}
        last = row["head"] if asked.after is None else row["last"] or asked.after
        return Ended(jobs, last, last < row["head"])

    async def list_jobs(self, listing: JobListing) -> Sequence[Job]:
        asked: list[Any] = [
            listing.tenant,
            list(listing.states or JobState),
            listing.before or _LAST_ID,
            listing.agent or None,
            listing.queue or None,
            listing.limit,
        ]
        if listing.parent is not None:
            return [rows.to_job(row) for row in await self._fetch(QUERIES.list_children, *asked, listing.parent)]
        return [rows.to_job(row) for row in await self._fetch(QUERIES.list, *asked)]

    async def stuck(
        self, tenant: str, after: tuple[datetime, UUID] | None, limit: int, *, patience: timedelta
    ) -> Sequence[Diagnosis]:
        found = await self._fetch(
            QUERIES.stuck,
            tenant,
            *(after or _FIRST),
            patience.total_seconds(),
            OVERDUE.total_seconds(),
            limit,
            UNENDED.total_seconds(),
        )
        diagnoses = (diagnose(rows.to_job(row), row["asked_at"], patience) for row in found)
        return [diagnosis for diagnosis in diagnoses if diagnosis is not None]

    async def runners(self, after: tuple[str, UUID] | None, limit: int) -> Sequence[ConnectedRunner]:
        return [
            ConnectedRunner(
                session=row["session"],
                runner_id=row["runner_id"],
                agents=row["agents"],
                capacity=row["capacity"],
                held=row["held"],
                lease_deadline=row["lease_deadline"],
                draining=row["draining"],
                versions=rows.to_versions(row["versions"]),
            )
            for row in await self._fetch(QUERIES.runners, *(after or ("", UUID(int=0))), limit)
        ]

    async def deployments(
        self, tenant: str, agent: str, after: tuple[str, str], limit: int
    ) -> Sequence[DeployedVersion]:
        found = await self._fetch(QUERIES.deployments, tenant, agent, *after, limit)
        return [DeployedVersion(**row) for row in found]

    async def count_ready(self, limit: int) -> int:
        (row,) = await self._fetch(QUERIES.count_ready, limit)
        count: int = row["count"]
        return count

    async def _fetch(self, query: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        async with _acquiring(self._pool) as connection:
            return await connection.fetch(query, *arguments)


@asynccontextmanager
async def _acquiring(pool: Pool) -> AsyncIterator[Connection]:
    try:
        async with acquiring(pool) as connection:
            yield connection
    except asyncpg.InternalClientError as fault:
        # asyncpg raises this for a connection that dies between preparing a statement and sending it.
        raise Unavailable("the database closed the connection") from fault


def _news(job: str, lease: int, session: str, wake: bool, cancel: bool, paused: bool, terminate: bool) -> News:
    return News(UUID(job), lease, UUID(session), lifecycle.news(wake, cancel, paused, terminate))
