"""Questions and decisions at rest, in PostgreSQL.

A decision, what it makes of the question, and the note that tells the job are one transaction, under the
lock of the question's row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from aetheris_chassis.postgres import Pool, acquiring
from aetheris_chassis.queries import load_queries
from aetheris_kernel.errors import NotFound

from aetheris_gateway.core.approval import Approval, ApprovalRequest, ApprovalState, Decision, Vote
from aetheris_gateway.store.inbox import EntryDraft, write_entries

_sql = load_queries("aetheris_gateway")


@dataclass(frozen=True, slots=True)
class StoredApproval:
    """A question with its place in the world."""

    approval_id: UUID
    tenant: str
    job_id: UUID
    path: str
    created_at: datetime
    approval: Approval


class ApprovalStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self, approval_id: UUID, tenant: str, job_id: UUID, path: str, request: ApprovalRequest) -> UUID:
        """The question's id: `approval_id`, or that of the first that asked the same."""
        async with acquiring(self._pool) as connection:
            made: UUID | None = await connection.fetchval(
                _sql.open_approval,
                approval_id,
                tenant,
                job_id,
                path,
                request.approver,
                request.title,
                request.detail,
                request.arguments,
                request.requester,
                request.requester_may_decide,
                request.quorum,
                request.deadline,
            )
            if made is None:
                made = await connection.fetchval(_sql.standing_approval, job_id, tenant, path)
        if made is None:
            raise RuntimeError(f"the question at {path} was neither stored nor repeated")
        return made

    async def get(self, tenant: str, approval_id: UUID) -> StoredApproval:
        async with acquiring(self._pool) as connection:
            row = await connection.fetchrow(_sql.approval, approval_id, tenant)
            [found] = await _with_decisions(connection, [_existing(row)])
        return found

    async def list(
        self,
        tenant: str,
        *,
        states: Sequence[ApprovalState],
        now: datetime,
        job_id: UUID | None,
        approver: str,
        after: UUID | None,
        limit: int,
    ) -> list[StoredApproval]:
        async with acquiring(self._pool) as connection:
            if list(states) == [ApprovalState.PENDING]:
                rows = await connection.fetch(_sql.pending_approvals, tenant, after, now, job_id, approver, limit)
            else:
                rows = await connection.fetch(_sql.approvals, tenant, after, now, states, job_id, approver, limit)
            return await _with_decisions(connection, rows)

    async def change(
        self, tenant: str, approval_id: UUID, decide: Callable[[StoredApproval], tuple[Approval, EntryDraft | None]]
    ) -> StoredApproval:
        """What `decide` makes of the question, with the note that tells its job; or nothing, where it raises."""
        async with acquiring(self._pool) as connection, connection.transaction():
            row = _existing(await connection.fetchrow(_sql.approval_to_decide, approval_id, tenant))
            [before] = await _with_decisions(connection, [row])
            after, note = decide(before)
            for place, decision in enumerate(after.decisions[len(before.approval.decisions) :]):
                await connection.execute(
                    _sql.add_decision,
                    approval_id,
                    len(before.approval.decisions) + place + 1,
                    decision.actor,
                    decision.vote,
                    decision.comment,
                    decision.edited,
                    decision.delegate,
                    decision.at,
                )
            if after.state is not before.approval.state:
                await connection.execute(_sql.set_approval_state, approval_id, after.state)
            if note is not None and await write_entries(connection, [note]) != {note.note_id}:
                raise RuntimeError(f"approval {approval_id} was decided before")
        return StoredApproval(approval_id, tenant, before.job_id, before.path, before.created_at, after)

    async def close(self, tenant: str, job_id: UUID, path: str, state: ApprovalState) -> int:
        """How many questions of the job this closed; at `path`, or all where it is empty."""
        async with acquiring(self._pool) as connection:
            return len(await connection.fetch(_sql.close_approvals, job_id, tenant, path, state))


def _existing(row: Any) -> Any:
    if row is None:
        raise NotFound("there is no such approval")
    return row


async def _with_decisions(connection: Any, rows: Sequence[Any]) -> list[StoredApproval]:
    decisions: defaultdict[UUID, list[Decision]] = defaultdict(list)
    for row in await connection.fetch(_sql.decisions, [row["id"] for row in rows]):
        decisions[row["approval_id"]].append(
            Decision(
                row["actor"],
                Vote(row["verdict"]),
                row["comment"],
                row["decided_at"],
                row["edited"],
                row["delegate"],
            )
        )
    return [_asked(row, decisions[row["id"]]) for row in rows]


def _asked(row: Any, decisions: Sequence[Decision]) -> StoredApproval:
    request = ApprovalRequest(
        approver=row["approver"],
        title=row["title"],
        detail=row["detail"],
        arguments=row["arguments"],
        requester=row["requester"],
        requester_may_decide=row["requester_may_decide"],
        quorum=row["quorum"],
        deadline=row["deadline"],
    )
    approval = Approval(request, ApprovalState(row["state"]), tuple(decisions))
    return StoredApproval(row["id"], row["tenant"], row["job_id"], row["path"], row["created_at"], approval)
