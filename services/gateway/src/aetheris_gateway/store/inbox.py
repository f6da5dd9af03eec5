"""The inbox at rest: notes in PostgreSQL."""

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

# A page of notes fits into one gRPC message.
FETCH_BYTES_MAX = 8 * 1024 * 1024

_sql = load_queries("aetheris_gateway")


class EntryKind(IntEnum):
    SIGNAL = 1
    MESSAGE = 2
    DECISION = 3


@dataclass(frozen=True, slots=True)
class EntryDraft:
    """A note that is not durable yet."""

    note_id: UUID
    tenant: str
    job_id: UUID
    kind: EntryKind
    name: str
    message_id: str | None
    payload: bytes
    actor: str

    @property
    def once(self) -> str:
        """What must be unique in its job."""
        return self.name if self.message_id is None else self.message_id


@dataclass(frozen=True, slots=True)
class Accepted:
    note_id: UUID  # of the first that said it
    created: bool


@dataclass(frozen=True, slots=True)
class InboxEntry:
    note_id: UUID
    kind: EntryKind
    name: str
    message_id: str
    payload: bytes
    actor: str
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class UnwokenEntry:
    note_id: UUID
    job_id: UUID
    position: int


class InboxStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def accept(self, drafts: Sequence[EntryDraft]) -> Sequence[Accepted | Exception]:
        """Make the drafts durable, in their order. One that says what was said before changes nothing."""
        async with acquiring(self._pool) as connection:
            created = await write_entries(connection, drafts)
        answers: list[Accepted | Exception] = [Accepted(draft.note_id, draft.note_id in created) for draft in drafts]
        repeated = [place for place, draft in enumerate(drafts) if draft.note_id not in created]
        if repeated:
            standing = await self._standing([drafts[place] for place in repeated])
            for place, note_id in zip(repeated, standing, strict=True):
                fault = RuntimeError(f"note {drafts[place].note_id} was neither stored nor repeated")
                answers[place] = fault if note_id is None else Accepted(note_id, False)
        return answers

    async def payload(self, note_id: UUID) -> bytes:
        """What a note says; empty where there is none of that id."""
        async with acquiring(self._pool) as connection:
            return await connection.fetchval(_sql.payload_of, note_id) or b""

    async def standing(self, draft: EntryDraft) -> UUID | None:
        """The note that says the same as `draft`, if there is one."""
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
        """The oldest unsettled notes of a job, and whether more wait behind them."""
        async with acquiring(self._pool) as connection:
            rows = await connection.fetch(_sql.fetch, job_id, after, limit + 1, FETCH_BYTES_MAX, tenant)
            if not rows and after is not None and not await connection.fetchval(_sql.is_of_job, after, job_id):
                raise Invalid("the job has no such note", field="after_note_id")
        notes = [
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
        cut = sum(len(note.payload) + 1024 for note in notes) >= FETCH_BYTES_MAX
        return notes, len(rows) > limit or cut

    async def settle(self, notes: Sequence[tuple[UUID, UUID]]) -> Sequence[None]:
        """Settle (job, note) pairs. A note that is another job's, or settled, is left alone."""
        async with acquiring(self._pool) as connection:
            await connection.execute(_sql.settle, [job for job, _ in notes], [note for _, note in notes])
        return [None] * len(notes)

    async def mark_woken(self, notes: Sequence[UUID]) -> Sequence[None]:
        async with acquiring(self._pool) as connection:
            await connection.execute(_sql.mark_woken, notes)
        return [None] * len(notes)

    async def unwoken(self, after: int, older_than_s: float, limit: int) -> list[UnwokenEntry]:
        async with acquiring(self._pool) as connection:
            rows = await connection.fetch(_sql.unwoken, after, timedelta(seconds=older_than_s), limit)
        return [UnwokenEntry(row["id"], row["job_id"], row["position"]) for row in rows]

    async def healthy(self) -> bool:
        async with acquiring(self._pool) as connection:
            return bool(await connection.fetchval("SELECT true"))


async def write_entries(connection: Any, drafts: Sequence[EntryDraft]) -> set[UUID]:
    """The ids of those that are new; in the caller's transaction, if it has one."""
    rows = await connection.fetch(
        _sql.accept,
        sorted({_lock(draft.job_id) for draft in drafts}),
        [draft.note_id for draft in drafts],
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
    """The job's lock: its random bits. Two jobs that share one wait for each other, and that is all."""
    return int.from_bytes(job_id.bytes[-4:], signed=True)
