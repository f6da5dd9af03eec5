"""Messages of the gRPC API ↔ what the gateway works with.

Requests that change something are checked here, field by field, by becoming a value of `core.requests`. The other
requests are filters and ids, which the services check themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from aetheris_api.statuses import ApprovalState, ForkEffects, ResolutionChoice, Vote
from aetheris_journal import codec
from aetheris_journal.limits import APPROVAL_ARGUMENTS_BYTES_MAX
from aetheris_kernel.errors import Invalid
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb
from aetheris_proto.ledger.v1 import event_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from aetheris_gateway.core import intake, requests
from aetheris_gateway.core.approval import ApprovalRequest, Decision
from aetheris_gateway.core.difference import json_difference
from aetheris_gateway.core.steps import TracedStep
from aetheris_gateway.store.approvals import StoredApproval
from aetheris_gateway.store.inbox import EntryKind, InboxEntry

RESOLUTIONS: Mapping[ResolutionChoice, event_pb2.EffectResolved.Verdict] = MappingProxyType(
    {
        ResolutionChoice.COMMITTED: event_pb2.EffectResolved.VERDICT_COMMITTED,
        ResolutionChoice.NOT_EXECUTED: event_pb2.EffectResolved.VERDICT_NOT_EXECUTED,
        ResolutionChoice.ABANDONED: event_pb2.EffectResolved.VERDICT_ABANDONED,
    }
)
APPROVAL_STATES: Mapping[ApprovalState, pb.Approval.State] = MappingProxyType(
    {
        ApprovalState.PENDING: pb.Approval.STATE_PENDING,
        ApprovalState.APPROVED: pb.Approval.STATE_APPROVED,
        ApprovalState.REJECTED: pb.Approval.STATE_REJECTED,
        ApprovalState.EXPIRED: pb.Approval.STATE_EXPIRED,
        ApprovalState.WITHDRAWN: pb.Approval.STATE_WITHDRAWN,
    }
)
_KINDS = {
    EntryKind.SIGNAL: signals_pb.Note.KIND_SIGNAL,
    EntryKind.MESSAGE: signals_pb.Note.KIND_MESSAGE,
    EntryKind.DECISION: signals_pb.Note.KIND_DECISION,
}


# From the wire.


def moment(stamp: Timestamp, field: str = "deadline") -> datetime:
    if not 0 <= stamp.seconds < intake.YEAR_10000_S or not 0 <= stamp.nanos < 10**9:
        raise Invalid(f"the {field} is not a moment between 1970 and 9999", field=field)
    return codec.from_timestamp(stamp)


def new_job(request: pb.SubmitRequest) -> requests.NewJob:
    match request.WhichOneof("what"):
        case "message":
            content = intake.message_input(request.message)
        case "input":
            content = intake.raw_call_input(request.input)
        case _:
            raise Invalid('say what the agent shall do: send {"message": "…"}', field="message")
    return requests.NewJob(
        agent=request.agent,
        input=content,
        idempotency_key=request.idempotency_key,
        queue=request.queue or "default",
        priority=request.priority,
        deadline=moment(request.deadline) if request.HasField("deadline") else None,
        start_after=moment(request.start_after, "start_after") if request.HasField("start_after") else None,
    )


def new_fork(request: pb.ForkJobRequest) -> requests.NewFork:
    return requests.NewFork(
        job_id=request.job_id,
        at_seq=request.at_seq,
        before_path=request.before_path,
        effects=request.effects or ForkEffects.REUSE,
        idempotency_key=request.idempotency_key,
    )


def new_signal(request: pb.SignalRequest) -> requests.NewSignal:
    return requests.NewSignal(
        job_id=parse_job_id(request.job_id),
        correlation_key=request.correlation_key,
        payload=intake.raw_content(request.payload, "payload"),
    )


def new_message(request: pb.SendMessageRequest) -> requests.NewMessage:
    return requests.NewMessage(
        job_id=parse_job_id(request.job_id),
        channel=request.channel,
        message_id=request.message_id,
        payload=intake.raw_content(request.payload, "payload"),
    )


def approval_id(text: str) -> UUID:
    try:
        parsed = UUID(text)
    except ValueError:
        parsed = None
    # UUID() also reads capitals, braces and text without dashes; an approval has one spelling.
    if parsed is None or str(parsed) != text:
        raise Invalid("an approval's id is a lower-case UUID; the list of approvals shows it", field="approval_id")
    return parsed


def new_decision(request: pb.DecideRequest) -> requests.NewDecision:
    return requests.NewDecision(
        approval_id=approval_id(request.approval_id),
        approved=request.approved,
        comment=request.comment,
        edited=_arguments(request.edited),
        delegate=request.delegate,
    )


def _arguments(raw: bytes) -> intake.Content | None:
    return intake.raw_content(raw, "arguments", bytes_max=APPROVAL_ARGUMENTS_BYTES_MAX) if raw else None


def approval_state(state: pb.Approval.State) -> ApprovalState:
    for name, wire in APPROVAL_STATES.items():
        if wire == state:
            return name
    raise Invalid("an approval has no such state", field="states")


def new_token_content(request: pb.CompleteTokenRequest) -> requests.NewTokenContent:
    if request.WhichOneof("what") == "error":
        content = requests.token_error(request.error)
    else:
        content = requests.token_payload(intake.raw_content(request.payload, "payload"))
    return requests.NewTokenContent(token=request.token, content=content)


def new_resolution(request: pb.ResolveEffectRequest) -> requests.NewResolution:
    return requests.NewResolution(
        key=request.key,
        resolution=_resolution(request.verdict),
        result=intake.raw_content(request.result, "result") if request.result else None,
        note=request.note,
    )


def _resolution(verdict: event_pb2.EffectResolved.Verdict) -> ResolutionChoice:
    for name, wire in RESOLUTIONS.items():
        if wire == verdict:
            return name
    raise Invalid(f"the verdict is one of {', '.join(RESOLUTIONS)}", field="verdict")


def approval_request(request: signals_pb.OpenApprovalRequest) -> ApprovalRequest:
    if request.quorum > intake.QUORUM_MAX:
        raise Invalid(f"the quorum is at most {intake.QUORUM_MAX}", field="quorum")
    detail = intake.raw_content(request.detail, "detail") if request.detail else None
    arguments = _arguments(request.arguments)
    return ApprovalRequest(
        approver=intake.approver(request.approver, "approver"),
        title=intake.sentence(request.title, "title"),
        detail=b"" if detail is None else detail.raw,
        arguments=b"" if arguments is None else arguments.raw,
        requester=intake.actor(request.requester, "requester"),
        requester_may_decide=request.requester_may_decide,
        quorum=request.quorum or 1,
        deadline=moment(request.deadline) if request.HasField("deadline") else None,
    )


# To the wire.


def entry_to_wire(entry: InboxEntry) -> signals_pb.Note:
    return signals_pb.Note(
        note_id=str(entry.entry_id),
        kind=_KINDS[entry.kind],
        name=entry.name,
        payload=entry.payload,
        actor=entry.actor,
        message_id=entry.message_id,
        accept_time=codec.to_timestamp(entry.accepted_at),
    )


def approval_to_wire(stored: StoredApproval, now: datetime) -> pb.Approval:
    """The approval as it stands at `now`: one whose deadline has passed is shown as expired."""
    request = stored.approval.request
    return pb.Approval(
        approval_id=str(stored.approval_id),
        job_id=str(stored.job_id),
        path=stored.path,
        approver=request.approver,
        title=request.title,
        detail=request.detail,
        requester=request.requester,
        deadline=None if request.deadline is None else codec.to_timestamp(request.deadline),
        quorum=request.quorum,
        decisions=[
            pb.Decision(
                actor=decision.actor,
                approved=decision.vote is Vote.YES,
                comment=decision.comment,
                edited=decision.edited,
                decide_time=codec.to_timestamp(decision.at),
                delegate=decision.delegate,
                difference=_difference(request.arguments, decision),
            )
            for decision in stored.approval.decisions
        ],
        create_time=codec.to_timestamp(stored.created_at),
        state=APPROVAL_STATES[stored.approval.seen(now)],
        arguments=request.arguments,
        requester_may_decide=request.requester_may_decide,
        tenant=stored.tenant,
    )


def _difference(arguments: bytes, decision: Decision) -> bytes:
    if not decision.edited or decision.difference:
        return decision.difference
    return json_difference(arguments, decision.edited)


def step_to_wire(step: TracedStep) -> pb.TraceStep:
    return pb.TraceStep(
        path=step.path,
        name=step.name,
        kind=step.kind,
        status=step.status,
        outcome=step.outcome,
        attempts=step.attempts,
        start_time=codec.to_timestamp(step.started_at),
        elapsed=None if step.elapsed is None else codec.to_duration(step.elapsed),
        arguments=step.arguments,
        result=step.result,
        failure=None if step.failure is None else codec.to_failure(step.failure),
        key=step.key,
    )
