"""Approvals: what jobs ask people, and what people decide.

    decide ──► the decision, the approval's new state and the job's inbox entry: one transaction ──► wake the job
                                        the point of no return

A decision, an expiry and a withdrawal may come at the same moment. The first to lock the approval's row takes effect,
and the others are refused with the state that it left.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from aetheris_api.statuses import ApprovalState, Vote
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, Forbidden, Invalid, JobFinished, NotFound, Unavailable
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway import convert
from aetheris_gateway.core import approval as core
from aetheris_gateway.core import intake
from aetheris_gateway.core.approval import Approval
from aetheris_gateway.core.difference import NO_CHANGES, json_difference
from aetheris_gateway.core.requests import NewDecision
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import APPROVALS
from aetheris_gateway.service.jobs import JobService, page_size
from aetheris_gateway.states import FINISHED
from aetheris_gateway.store.approvals import ApprovalStore, StoredApproval
from aetheris_gateway.store.inbox import EntryDraft, EntryKind
from aetheris_gateway.wakes import WakeQueue

# Why a job's holder closes an approval, and the state in which that leaves it.
_CLOSED = {
    "expired": ApprovalState.EXPIRED,
    "cancelled": ApprovalState.WITHDRAWN,
    "ended": ApprovalState.WITHDRAWN,
}


class ApprovalService:
    def __init__(self, store: ApprovalStore, jobs: JobService, wake_queue: WakeQueue, clock: Clock) -> None:
        self._store = store
        self._jobs = jobs
        self._wake_queue = wake_queue
        self._clock = clock

    # --- for people

    async def get(self, caller: Caller, request: pb.GetApprovalRequest) -> pb.GetApprovalResponse:
        stored = await self._store.get(caller.tenant, convert.approval_id(request.approval_id))
        return pb.GetApprovalResponse(approval=convert.approval_to_wire(stored, self._clock.now()))

    async def list(self, caller: Caller, request: pb.ListApprovalsRequest) -> pb.ListApprovalsResponse:
        size, now = page_size(request.page_size), self._clock.now()
        found, more = await self._store.list(
            caller.tenant,
            states=[convert.approval_state(state) for state in request.states] or [ApprovalState.PENDING],
            now=now,
            job_id=parse_job_id(request.job_id) if request.job_id else None,
            approver=intake.approver(request.approver, "approver") if request.approver else "",
            after=_cursor(request.page_token),
            limit=size,
        )
        return pb.ListApprovalsResponse(
            approvals=[convert.approval_to_wire(stored, now) for stored in found],
            next_page_token=str(found[-1].approval_id) if more else "",
        )

    async def decide(self, caller: Caller, new: NewDecision) -> pb.DecideResponse:
        await self._require_unfinished(caller, new.approval_id)

        def decided(stored: StoredApproval) -> tuple[Approval, EntryDraft | None]:
            before, now = stored.approval, self._clock.now()
            if new.delegate:
                return core.delegate(before, caller.person, to=new.delegate, comment=new.comment, now=now), None
            edited, changes = _edit(before.request.arguments, new.edited.raw if new.edited else b"")
            after = core.decide(
                before,
                caller.person,
                approved=new.approved,
                comment=new.comment,
                edited=edited,
                difference=changes,
                now=now,
            )
            closes = after is not before and after.state is not ApprovalState.PENDING
            return after, self._entry(stored, after, caller) if closes else None

        stored = await self._write(caller, new.approval_id, decided)
        APPROVALS.labels("delegated" if new.delegate else Vote.YES if new.approved else Vote.NO).inc()
        return pb.DecideResponse(approval=convert.approval_to_wire(stored, self._clock.now()))

    async def _require_unfinished(self, caller: Caller, approval_id: UUID) -> None:
        """JobFinished if the approval's job has ended; then its approvals are withdrawn as well. While the scheduler
        cannot say how the job stands, the decision goes on as if it had not ended."""
        stored = await self._store.get(caller.tenant, approval_id)
        if stored.approval.state is not ApprovalState.PENDING:
            return  # `core.decide` says why it is closed
        try:
            job = await self._jobs.glance(caller, str(stored.job_id))
        except (Unavailable, NotFound):
            return
        if job.state in FINISHED:
            await self._store.close(caller.tenant, stored.job_id, "", ApprovalState.WITHDRAWN)
            raise JobFinished("the job has ended and needs no decision any more", job_id=str(stored.job_id))

    async def _write(
        self, caller: Caller, approval_id: UUID, decided: Callable[[StoredApproval], tuple[Approval, EntryDraft | None]]
    ) -> StoredApproval:
        """Apply `decided` to the approval's row in one transaction, then wake its job if that closed the approval."""
        entries: list[EntryDraft] = []

        def remembered(stored: StoredApproval) -> tuple[Approval, EntryDraft | None]:
            after, entry = decided(stored)
            entries[:] = [] if entry is None else [entry]
            return after, entry

        try:
            stored = await self._store.change(caller.tenant, approval_id, remembered)
        except (Forbidden, Conflict):
            APPROVALS.labels("refused").inc()
            raise
        for entry in entries:
            self._wake_queue.wake(entry.job_id, entry.entry_id)
        return stored

    def _entry(self, stored: StoredApproval, after: Approval, caller: Caller) -> EntryDraft:
        return EntryDraft(
            entry_id=self._clock.new_id(),
            tenant=stored.tenant,
            job_id=stored.job_id,
            kind=EntryKind.DECISION,
            name=stored.path,
            message_id=None,
            payload=verdict_of(after),
            actor=caller.actor,
        )

    # --- for the job's holder

    async def open(self, request: signals_pb.OpenApprovalRequest) -> signals_pb.OpenApprovalResponse:
        job_id = parse_job_id(request.job_id)
        wanted = convert.approval_request(request)
        path, tenant = intake.key(request.path, "path"), intake.name(request.tenant, "tenant")
        new_id = self._clock.new_id()
        standing = await self._store.open(new_id, tenant, job_id, path, wanted)
        if standing == new_id:
            APPROVALS.labels("asked").inc()
        return signals_pb.OpenApprovalResponse(approval_id=str(standing))

    async def close(self, request: signals_pb.CloseApprovalRequest) -> signals_pb.CloseApprovalResponse:
        job_id = parse_job_id(request.job_id)
        state = _CLOSED.get(request.reason)
        if state is None:
            raise Invalid(f"the reason is one of {', '.join(_CLOSED)}", field="reason")
        path = intake.key(request.path, "path", required=False)
        closed = await self._store.close(intake.name(request.tenant, "tenant"), job_id, path, state)
        APPROVALS.labels(state).inc(closed)
        return signals_pb.CloseApprovalResponse()


def verdict_of(approval: Approval) -> bytes:
    """The verdict that the job receives: JSON, with the arguments byte for byte as they were asked or edited."""
    arguments = approval.arguments
    # The yes that edited the arguments has the difference; one from before it was stored has not.
    edit = next((vote for vote in approval.votes if vote.edited and vote.edited == arguments), None)
    changes = (edit.difference if edit else b"") or json_difference(approval.request.arguments, arguments)
    decisions = intake.dump(
        [
            {
                "actor": decision.actor,
                "approved": decision.vote is Vote.YES,
                "comment": decision.comment,
                "at": decision.at.isoformat(),
            }
            for decision in approval.votes
        ]
    )
    approved = b"true" if approval.state is ApprovalState.APPROVED else b"false"
    return b'{"approved":%b,"decisions":%b,"arguments":%b,"diff":%b}' % (
        approved,
        decisions,
        arguments or b"null",
        changes,
    )


def _edit(before: bytes, edited: bytes) -> tuple[bytes, bytes]:
    """The edited arguments and what they change; nothing, if they are the same value in another spelling."""
    if not edited or not before:
        return edited, b""
    changes = json_difference(before, edited)
    return (b"", b"") if changes == NO_CHANGES else (edited, changes)


def _cursor(token: str) -> UUID | None:
    try:
        return UUID(token) if token else None
    except ValueError as fault:
        raise Invalid("this cursor was not returned by a page", field="page_token") from fault
