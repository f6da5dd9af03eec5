"""Approvals: questions that jobs put before people, and what people answer.

    decide ──► the answer, what it makes of the question and the note for the job: one transaction ──► wake
                                        the point of no return

Of an answer, an expiry and a withdrawal at one moment, the first to hold the question's row decides; whoever
comes later is told so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

from aetheris_journal.codec import from_timestamp, to_timestamp
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, Forbidden, Invalid, JobFinished, NotFound, Unavailable
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway.core import approval as core
from aetheris_gateway.core import intake
from aetheris_gateway.core.approval import Approval, ApprovalRequest, ApprovalState, Vote
from aetheris_gateway.core.difference import difference
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import APPROVALS
from aetheris_gateway.service.jobs import JobService, moment_of, page_size
from aetheris_gateway.states import FINISHED
from aetheris_gateway.store.approvals import ApprovalStore, StoredApproval
from aetheris_gateway.store.inbox import EntryDraft, EntryKind
from aetheris_gateway.wakes import WakeQueue

_REASONS = {"expired": ApprovalState.EXPIRED, "cancelled": ApprovalState.WITHDRAWN, "ended": ApprovalState.WITHDRAWN}


class ApprovalService:
    def __init__(self, store: ApprovalStore, jobs: JobService, wake_queue: WakeQueue, clock: Clock) -> None:
        self._store = store
        self._jobs = jobs
        self._wake_queue = wake_queue
        self._clock = clock

    # --- the side of people

    async def get(self, caller: Caller, request: pb.GetApprovalRequest) -> pb.GetApprovalResponse:
        found = await self._store.get(caller.tenant, _approval_id(request.approval_id))
        return pb.GetApprovalResponse(approval=self._to_wire(found))

    async def list(self, caller: Caller, request: pb.ListApprovalsRequest) -> pb.ListApprovalsResponse:
        size = page_size(request.page_size)
        found = await self._store.list(
            caller.tenant,
            states=[_state(asked) for asked in request.states] or [ApprovalState.PENDING],
            now=self._clock.now(),
            job_id=parse_job_id(request.job_id) if request.job_id else None,
            approver=intake.approver(request.approver, "approver") if request.approver else "",
            after=_cursor(request.page_token),
            limit=size + 1,
        )
        token = str(found[size - 1].approval_id) if len(found) > size else ""
        return pb.ListApprovalsResponse(
            approvals=[self._to_wire(asked) for asked in found[:size]], next_page_token=token
        )

    async def decide(self, caller: Caller, request: pb.DecideRequest) -> pb.DecideResponse:
        approval_id = _approval_id(request.approval_id)
        comment = intake.sentence(request.comment, "comment")
        edited = intake.arguments(request.edited, "arguments")
        to = intake.approver(request.delegate, "to") if request.delegate else ""
        if to and (request.approved or edited):
            raise Invalid("either an answer is given or it is handed on", field="to")
        await self._require_alive(caller, approval_id)

        def decided(asked: StoredApproval) -> tuple[Approval, EntryDraft | None]:
            now = self._clock.now()
            if to:
                return core.delegate(asked.approval, caller.person, to=to, comment=comment, now=now), None
            wanted = _unless_the_same(edited, asked.approval.request.arguments)
            after = core.decide(
                asked.approval, caller.person, approved=request.approved, comment=comment, edited=wanted, now=now
            )
            told = after is not asked.approval and after.state is not ApprovalState.PENDING
            return after, self._note(asked, after, caller) if told else None

        asked = await self._written(caller, approval_id, decided)
        APPROVALS.labels("delegated" if to else "yes" if request.approved else "no").inc()
        return pb.DecideResponse(approval=self._to_wire(asked))

    async def _require_alive(self, caller: Caller, approval_id: UUID) -> None:
        """A question of a job that has ended is withdrawn, and the caller is told. While nobody can say how
        the job stands, it is taken for alive."""
        asked = await self._store.get(caller.tenant, approval_id)
        if asked.approval.state is not ApprovalState.PENDING:
            return  # why it is closed is said by the decision
        try:
            job = await self._jobs.glance(caller, str(asked.job_id))
        except (Unavailable, NotFound):
            return
        if job.state in FINISHED:
            await self._store.close(caller.tenant, asked.job_id, "", ApprovalState.WITHDRAWN)
            raise JobFinished("the job has ended and needs no answer any more", job_id=str(asked.job_id))

    async def _written(
        self, caller: Caller, approval_id: UUID, decided: Callable[[StoredApproval], tuple[Approval, EntryDraft | None]]
    ) -> StoredApproval:
        notes: list[EntryDraft] = []

        def remembered(asked: StoredApproval) -> tuple[Approval, EntryDraft | None]:
            after, note = decided(asked)
            notes[:] = [] if note is None else [note]
            return after, note

        try:
            asked = await self._store.change(caller.tenant, approval_id, remembered)
        except (Forbidden, Conflict):
            APPROVALS.labels("refused").inc()
            raise
        for note in notes:
            self._wake_queue.wake(note.job_id, note.note_id)
        return asked

    def _note(self, asked: StoredApproval, after: Approval, caller: Caller) -> EntryDraft:
        return EntryDraft(
            note_id=self._clock.new_id(),
            tenant=asked.tenant,
            job_id=asked.job_id,
            kind=EntryKind.DECISION,
            name=asked.path,
            message_id=None,
            payload=verdict_of(after),
            actor=caller.actor,
        )

    # --- the side of the job's holder

    async def open(self, request: signals_pb.OpenApprovalRequest) -> signals_pb.OpenApprovalResponse:
        job_id = parse_job_id(request.job_id)
        if request.quorum > intake.QUORUM_MAX:
            raise Invalid(f"at most {intake.QUORUM_MAX} yeses are asked for", field="quorum")
        if request.detail:
            intake.payload(request.detail)
        wanted = ApprovalRequest(
            approver=intake.approver(request.approver, "approver"),
            title=intake.sentence(request.title, "title"),
            detail=request.detail,
            arguments=intake.arguments(request.arguments, "arguments"),
            requester=intake.actor(request.requester, "requester"),
            requester_may_decide=request.requester_may_decide,
            quorum=request.quorum or 1,
            deadline=from_timestamp(moment_of(request.deadline)) if request.HasField("deadline") else None,
        )
        path = intake.key(request.path, "path")
        tenant = intake.name(request.tenant, "tenant")
        asked = self._clock.new_id()
        standing = await self._store.open(asked, tenant, job_id, path, wanted)
        if standing == asked:
            APPROVALS.labels("asked").inc()
        return signals_pb.OpenApprovalResponse(approval_id=str(standing))

    async def close(self, request: signals_pb.CloseApprovalRequest) -> signals_pb.CloseApprovalResponse:
        job_id = parse_job_id(request.job_id)
        state = _REASONS.get(request.reason)
        if state is None:
            raise Invalid(f"the reason is one of {', '.join(_REASONS)}", field="reason")
        path = intake.key(request.path, "path", required=False)
        closed = await self._store.close(intake.name(request.tenant, "tenant"), job_id, path, state)
        APPROVALS.labels(state.name.lower()).inc(closed)
        return signals_pb.CloseApprovalResponse()

    def _to_wire(self, asked: StoredApproval) -> pb.Approval:
        request = asked.approval.request
        return pb.Approval(
            approval_id=str(asked.approval_id),
            job_id=str(asked.job_id),
            path=asked.path,
            approver=request.approver,
            title=request.title,
            detail=request.detail,
            requester=request.requester,
            deadline=None if request.deadline is None else to_timestamp(request.deadline),
            quorum=request.quorum,
            decisions=[
                pb.Decision(
                    actor=decision.actor,
                    approved=decision.vote is Vote.YES,
                    comment=decision.comment,
                    edited=decision.edited,
                    decide_time=to_timestamp(decision.at),
                    delegate=decision.delegate,
                )
                for decision in asked.approval.decisions
            ],
            create_time=to_timestamp(asked.created_at),
            state=asked.approval.seen(self._clock.now()).value,  # type: ignore[arg-type]
            arguments=request.arguments,
            requester_may_decide=request.requester_may_decide,
            tenant=asked.tenant,
        )


def verdict_of(approval: Approval) -> bytes:
    """What the job gets: JSON, with the arguments byte for byte as they were asked or edited."""
    arguments = approval.arguments
    changed = _difference(approval.request.arguments, arguments)
    said = [
        {
            "actor": answer.actor,
            "approved": answer.vote is Vote.YES,
            "comment": answer.comment,
            "at": answer.at.isoformat(),
        }
        for answer in approval.answers
    ]
    approved = b"true" if approval.state is ApprovalState.APPROVED else b"false"
    decisions, changes = intake.dump(said), intake.dump(changed)
    return b'{"approved":%b,"decisions":%b,"arguments":%b,"diff":%b}' % (
        approved,
        decisions,
        arguments or b"null",
        changes,
    )


def _difference(asked: bytes, edited: bytes) -> list[dict[str, object]]:
    return [] if asked == edited else difference(json.loads(asked), json.loads(edited))


def _unless_the_same(edited: bytes, asked: bytes) -> bytes:
    """Nothing, where an edit only writes the same value otherwise."""
    return b"" if edited and asked and not _difference(asked, edited) else edited


def _approval_id(text: str) -> UUID:
    try:
        parsed = UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text:
        raise Invalid("an approval's id is a lower-case UUID; the list of approvals shows it", field="approval_id")
    return parsed


def _state(asked: pb.Approval.State) -> ApprovalState:
    try:
        return ApprovalState(asked)
    except ValueError as fault:
        raise Invalid("this is no state of an approval", field="states") from fault


def _cursor(token: str) -> UUID | None:
    try:
        return UUID(token) if token else None
    except ValueError as fault:
        raise Invalid("the cursor is none that a page returned", field="page_token") from fault
