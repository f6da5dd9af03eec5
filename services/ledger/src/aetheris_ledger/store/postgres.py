"""The ledger's store in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import groupby
from uuid import UUID

import asyncpg
from aetheris_chassis.postgres import Connection, Pool, acquiring
from aetheris_journal.append import Answer, Append, AppendOutcome
from aetheris_journal.chain import Commit
from aetheris_journal.effect import EffectResolution
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Invalid, Unavailable

from aetheris_ledger.core.append import check, microseconds
from aetheris_ledger.core.effect import Effect
from aetheris_ledger.store import rows, write
from aetheris_ledger.store.contract import (
    PAGE_BYTES_MAX,
    PAGE_COMMITS_MAX,
    RESOLUTION_BYTES,
    ChainPage,
    EffectListing,
    ResolutionPage,
    Want,
    resolution_bytes,
)
from aetheris_ledger.store.write import Q

# Longer than any write takes. After it the connection is dropped, and whether the batch was stored is not known.
WRITE_S = 30.0

_NEWEST = (2**63 - 1, "")


class PostgresStore:
    """`writing` is a pool for appends alone, so that readers never keep appends waiting for a connection."""

    def __init__(self, writing: Pool, reading: Pool, clock: Clock) -> None:
        self._writing = writing
        self._reading = reading
        self._clock = clock

    async def append(self, appends: Sequence[Append]) -> Sequence[Answer]:
        answers: write.Answers = {}
        items: list[write.Item] = []
        for place, append in enumerate(appends):
            try:
                items.append(write.Item(place, append, check(append)))
            except Invalid as refusal:
                answers[place] = Answer(AppendOutcome.REFUSED, message=refusal.message)
        try:
            for part in write.parts(items):
                async with _acquiring(self._writing) as connection, asyncio.timeout(WRITE_S):
                    await write.write(connection, part, microseconds(self._clock.now()), answers)
        except Unavailable as refusal:
            write.leave(items, answers, refusal.message)
        except TimeoutError:
            write.leave(items, answers, "the database is slow")
        return [answers[place] for place in range(len(appends))]

    async def load(
        self, wants: Sequence[Want], *, commits_max: int = PAGE_COMMITS_MAX, bytes_max: int = PAGE_BYTES_MAX
    ) -> Sequence[ChainPage]:
        async with _acquiring(self._reading) as connection:
            return await _load(connection, wants, commits_max, bytes_max)

    async def last_checkpoint(self, job: UUID) -> int:
        async with _acquiring(self._reading) as connection:
            found = await connection.fetchval(Q.last_checkpoint, job)
        return found or 0

    async def moved(self, tails: Mapping[UUID, int]) -> Mapping[UUID, int]:
        if not tails:
            return {}
        jobs = list(tails)
        async with _acquiring(self._reading) as connection:
            found = await connection.fetch(Q.moved_chains, jobs, list(tails.values()), min(jobs), max(jobs))
        return {row["job_id"]: row["tail"] for row in found}

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresSnapshot]:
        async with (
            _acquiring(self._reading) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield PostgresSnapshot(connection)

    async def effect(self, tenant: str, key: str) -> Effect | None:
        async with _acquiring(self._reading) as connection:
            row = await connection.fetchrow(Q.effects_confirmed, [tenant], [key])
        return None if row is None else rows.to_effect(row)

    async def effects(self, listing: EffectListing) -> Sequence[Effect]:
        common = (listing.tenant, listing.states, *(listing.before or _NEWEST), listing.limit)
        async with _acquiring(self._reading) as connection:
            if listing.job is None:
                found = await connection.fetch(Q.list_effects, *common)
            else:
                found = await connection.fetch(Q.list_job_effects, *common, listing.job)
        return [rows.to_effect(row) for row in found]

    async def resolutions(
        self, tenant: str, job: UUID, keys: Sequence[str], *, bytes_max: int = PAGE_BYTES_MAX
    ) -> ResolutionPage:
        async with _acquiring(self._reading) as connection:
            found = await connection.fetch(Q.resolutions, tenant, job, keys, RESOLUTION_BYTES, bytes_max)
        left = [(row["key"], resolution) for row in found if (resolution := rows.to_resolution(row)) is not None]
        if sum(resolution_bytes(resolution) for _, resolution in left) < bytes_max:
            return ResolutionPage(left, len(keys))
        return ResolutionPage(left, found[-1]["n"])

    async def add_partitions(self, until: datetime) -> int:
        async with _acquiring(self._reading) as connection:
            try:
                added: int = await connection.fetchval(Q.add_partitions, until)
            except asyncpg.LockNotAvailableError as held:
                raise Unavailable("a partition of commits is locked by others") from held
        return added

    async def leave_resolution(self, was: Effect, resolution: EffectResolution) -> bool:
        async with _acquiring(self._reading) as connection:
            status = await connection.execute(Q.leave_resolution, *rows.resolution(was, resolution))
        return rows.count(status) == 1


class PostgresSnapshot:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def load(self, wants: Sequence[Want]) -> Sequence[ChainPage]:
        return await _load(self._connection, wants, PAGE_COMMITS_MAX, PAGE_BYTES_MAX)

    async def effects_started(self, job: UUID, first: int, last: int, limit: int) -> Sequence[Effect]:
        found = await self._connection.fetch(Q.effects_started, job, first, last, limit)
        return [rows.to_effect(row) for row in found]

    async def effects_named(self, tenant: str, keys: Sequence[str]) -> Sequence[Effect]:
        found = await self._connection.fetch(Q.effects_named, [tenant] * len(keys), keys)
        return [rows.to_effect(row) for row in found]


@asynccontextmanager
async def _acquiring(pool: Pool) -> AsyncIterator[Connection]:
    try:
        async with acquiring(pool) as connection:
            yield connection
    except asyncpg.InternalClientError as fault:
        # asyncpg raises this where the server has closed an idle connection and the client has not noticed it fully.
        raise Unavailable("the database ended the connection") from fault


async def _load(connection: Connection, wants: Sequence[Want], commits_max: int, bytes_max: int) -> list[ChainPage]:
    jobs = [want.job for want in wants]
    # Two more than a page: the commit at `after`, and one behind the page, which says that there are more.
    found = await connection.fetch(
        Q.load_commits,
        jobs,
        [want.after for want in wants],
        commits_max + 2,
        bytes_max,
        min(jobs),
        max(jobs),
    )
    chains: dict[int, list[Commit]] = {
        n: [rows.to_commit(row) for row in chain] for n, chain in groupby(found, key=lambda row: row["n"])
    }
    spent = sum(len(commit.body) for chain in chains.values() for commit in chain) >= bytes_max
    # The query ended at its byte limit within one chain. Of the chains after that one nothing was read.
    known_to = max(chains, default=0) - 1 if spent else len(wants)
    keys = {row["n"]: row["job_key"] or b"" for row in found}
    pages = []
    for n, want in enumerate(wants, 1):
        chain = chains.get(n, [])
        anchor = chain.pop(0) if chain and chain[0].seq == want.after else None
        pages.append(ChainPage(anchor, chain[:commits_max], len(chain) > commits_max or n > known_to, keys.get(n, b"")))
    return pages
