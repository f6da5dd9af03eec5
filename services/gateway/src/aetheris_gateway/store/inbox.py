"""The inbox in PostgreSQL. Its table is called `notes`, the name under which it was created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any
from uuid import UUID

from aetheris_chassis.postgres import Pool, acquiring
from aetheris_chassis.queries import load_queries
from aetheris_kernel.errors import Invalid

# A page of entries fits into one gRPC message.
FETCH_BYTES_MAX = 8 * 1024 * 1024

_sql = load_queries("aetheris_gateway")


class EntryKind(IntEnum):
    SIGNAL = 1
    MESSAGE = 2
    DECISION = 3


@dataclass(frozen=True, slots=True)
class EntryDraft:
    """An inbox entry that is not durable yet."""

    entry_id: UUID
    tenant: str
    job_id: UUID
    kind: EntryKind
    name: str
    message_id: str | None
    payload: bytes
    actor: str

    @property
    def once(self) -> str:
        """Of two entries of a job with the same text here, only the first is stored."""
        return self.name if self.message_id is None else self.message_id


@dataclass(frozen=True, slots=True)
class Accepted:
    entry_id: UUID  # of the entry that was stored first
    created: bool


@dataclass(frozen=True, slots=True)
class InboxEntry:
    entry_id: UUID
    kind: EntryKind
    name: str
    message_id: str
    payload: bytes
    actor: str
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class UnwokenEntry:
    entry_id: UUID
    job_id: UUID
    position: int


class InboxStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def accept(self, drafts: Sequence[EntryDraft]) -> Sequence[Accepted | Exception]:
        """Make the drafts durable, in their order. A draft that repeats a stored entry changes nothing."""
        async with acquiring(self._pool) as connection:
            created = await write_entries(connection, drafts)
        answers: list[Accepted | Exception] = [Accepted(draft.entry_id, draft.entry_id in created) for draft in drafts]
        repeated = [place for place, draft in enumerate(drafts) if draft.entry_id not in created]
        if repeated:
            standing = await self._standing([drafts[place] for place in repeated])
            for place, entry_id in zip(repeated, standing, strict=True):
                fault = RuntimeError(f"entry {drafts[place].entry_id} was neither stored nor found")
                answers[place] = fault if entry_id is None else Accepted(entry_id, False)
        return answers

    async def payload(self, entry_id: UUID) -> bytes:
        """An entry's payload; empty if there is no entry of that id."""
        async with acquiring(self._pool) as connection:
            return await connection.fetchval(_sql.payload_of, entry_id) or b""

    async def standing(self, draft: EntryDraft) -> UUID | None:
        """The id of the stored entry that `draft` repeats, if there is one."""
        return (await self._standing([draft]))[0]

    async def _standing(self, drafts: Sequence[EntryDraft]) -> list[UUID | None]:
        found: list[UUID | None] = [None] * len(drafts)
        queries = {EntryKind.SIGNAL: _sql.standing_signals, EntryKind.MESSAGE: _sql.standing_messages}
        async with acquiring(self._pool) as connection:
            for kind, query in queries.items():
                asked = [(place, draft) for place, draft in enumerate(drafts) if draft.kind is kind]
                if not asked:
                    continue
                rows = await connection.fetch(
                    query,
                    [draft.job_id for _, draft in asked],
                    [draft.tenant for _, draft in asked],
                    [draft.once for _, draft in asked],
                )
                for row in rows:
                    found[asked[row["place"] - 1][0]] = row["id"]
        return found

    async def fetch(
        self, job_id: UUID, after: UUID | None, limit: int, *, tenant: str = ""
    ) -> tuple[list[InboxEntry], bool]:
        """The oldest unsettled entries of a job, and whether more follow them."""
        async with acquiring(self._pool) as connection:
            rows = await connection.fetch(_sql.fetch, job_id, after, limit + 1, FETCH_BYTES_MAX, tenant)
            if not rows and after is not None and not await connection.fetchval(_sql.is_of_job, after, job_id):
                raise Invalid("the job has no such entry", field="after_note_id")
        entries = [
            InboxEntry(
                row["id"],
                EntryKind(row["kind"]),
                row["name"],
                row["message_id"] or "",
                row["payload"],
                row["actor"],
                row["accepted_at"],
            )
            for row in rows[:limit]
        ]
        # A page that was cut by its bytes looks complete; asking once more costs little.
        cut = sum(len(entry.payload) + 1024 for entry in entries) >= FETCH_BYTES_MAX
        return entries, len(rows) > limit or cut

    async def settle(self, entries: Sequence[tuple[UUID, UUID]]) -> Sequence[None]:
        """Settle (job, entry) pairs. An entry of another job, or one that is settled already, stays as it is."""
        async with acquiring(self._pool) as connection:
            await connection.execute(_sql.settle, [job for job, _ in entries], [entry for _, entry in entries])
        return [None] * len(entries)

    async def mark_woken(self, entries: Sequence[UUID]) -> Sequence[None]:
        async with acquiring(self._pool) as connection:
            await connection.execute(_sql.mark_woken, entries)
        return [None] * len(entries)

    async def unwoken(self, after: int, older_than_s: float, limit: int) -> list[UnwokenEntry]:
        async with acquiring(self._pool) as connection:
            rows = await connection.fetch(_sql.unwoken, after, timedelta(seconds=older_than_s), limit)
        return [UnwokenEntry(row["id"], row["job_id"], row["position"]) for row in rows]

    async def healthy(self) -> bool:
        async with acquiring(self._pool) as connection:
            return bool(await connection.fetchval("SELECT true"))


async def write_entries(connection: Any, drafts: Sequence[EntryDraft]) -> set[UUID]:
    """Store the drafts, in the caller's transaction if it has one; the ids of those that are new."""
    rows = await connection.fetch(
        _sql.accept,
        sorted({_lock(draft.job_id) for draft in drafts}),
        [draft.entry_id for draft in drafts],
        [draft.tenant for draft in drafts],
        [draft.job_id for draft in drafts],
        [draft.kind for draft in drafts],
        [draft.name for draft in drafts],
        [draft.message_id for draft in drafts],
        [draft.payload for draft in drafts],
        [draft.actor for draft in drafts],
    )
    return {row["id"] for row in rows}


def _lock(job_id: UUID) -> int:
    """The number of the job's advisory lock, from the random bits of its id. Two jobs may share a number; then they
    wait for each other, which does no harm."""
    return int.from_bytes(job_id.bytes[-4:], signed=True)
