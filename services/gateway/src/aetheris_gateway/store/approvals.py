"""Approvals and decisions in PostgreSQL.

A decision, the state in which it leaves the approval, and the inbox entry that tells the job are one transaction, under
the lock of the approval's row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from aetheris_api.statuses import ApprovalState, Vote
from aetheris_chassis.postgres import Pool, acquiring
from aetheris_chassis.queries import load_queries
from aetheris_kernel.errors import NotFound

from aetheris_gateway.core.approval import Approval, ApprovalRequest, Decision
from aetheris_gateway.store.inbox import EntryDraft, write_entries

# A page of approvals fits into one gRPC message.
PAGE_BYTES_MAX = 8 * 1024 * 1024

_sql = load_queries("aetheris_gateway")

_STATE_CODES = {
    ApprovalState.PENDING: 1,
    ApprovalState.APPROVED: 2,
    ApprovalState.REJECTED: 3,
    ApprovalState.EXPIRED: 4,
    ApprovalState.WITHDRAWN: 5,
}
_STATES = {code: state for state, code in _STATE_CODES.items()}
_VOTE_CODES = {Vote.YES: 1, Vote.NO: 2, Vote.DELEGATED: 3}
_VOTES = {code: vote for vote, code in _VOTE_CODES.items()}


@dataclass(frozen=True, slots=True)
class StoredApproval:
    """An approval with its id, its job and its path in the job's program."""

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
        """The id of the approval at this path: `approval_id`, or the id of the row that was stored first."""
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
            raise RuntimeError(f"the approval at {path} was neither stored nor found")
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
    ) -> tuple[list[StoredApproval], bool]:
        """A page, which ends at `limit` approvals or at PAGE_BYTES_MAX, and whether more follow."""
        page = (limit + 1, PAGE_BYTES_MAX)
        async with acquiring(self._pool) as connection:
            if list(states) == [ApprovalState.PENDING]:
                rows = await connection.fetch(_sql.pending_approvals, tenant, after, now, job_id, approver, *page)
            else:
                codes = [_STATE_CODES[state] for state in states]
                rows = await connection.fetch(_sql.approvals, tenant, after, now, codes, job_id, approver, *page)
            more = bool(rows) and rows[0]["found"] > len(rows[:limit])
            return await _with_decisions(connection, rows[:limit]), more

    async def change(
        self, tenant: str, approval_id: UUID, decide: Callable[[StoredApproval], tuple[Approval, EntryDraft | None]]
    ) -> StoredApproval:
        """Store what `decide` returns for the locked approval: its new form, and an inbox entry for its job. Nothing is
        stored if `decide` raises."""
        async with acquiring(self._pool) as connection, connection.transaction():
            row = _existing(await connection.fetchrow(_sql.approval_to_decide, approval_id, tenant))
            [before] = await _with_decisions(connection, [row])
            after, entry = decide(before)
            for place, decision in enumerate(after.decisions[len(before.approval.decisions) :]):
                await connection.execute(
                    _sql.add_decision,
                    approval_id,
                    len(before.approval.decisions) + place + 1,
                    decision.actor,
                    _VOTE_CODES[decision.vote],
                    decision.comment,
                    decision.edited,
                    decision.delegate,
                    decision.at,
                    decision.difference,
                )
            if after.state is not before.approval.state:
                await connection.execute(_sql.set_approval_state, approval_id, _STATE_CODES[after.state])
            if entry is not None and await write_entries(connection, [entry]) != {entry.entry_id}:
                raise RuntimeError(f"approval {approval_id} was decided before")
        return StoredApproval(approval_id, tenant, before.job_id, before.path, before.created_at, after)

    async def close(self, tenant: str, job_id: UUID, path: str, state: ApprovalState) -> int:
        """Close the job's pending approval at `path`, or all of them if `path` is empty; how many that were."""
        async with acquiring(self._pool) as connection:
            return len(await connection.fetch(_sql.close_approvals, job_id, tenant, path, _STATE_CODES[state]))


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
                _VOTES[row["verdict"]],
                row["comment"],
                row["decided_at"],
                row["edited"],
                row["delegate"],
                row["difference"] or b"",
            )
        )
    return [_stored(row, decisions[row["id"]]) for row in rows]


def _stored(row: Any, decisions: Sequence[Decision]) -> StoredApproval:
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
    approval = Approval(request, _STATES[row["state"]], tuple(decisions))
    return StoredApproval(row["id"], row["tenant"], row["job_id"], row["path"], row["created_at"], approval)
