"""A question to people, and when it is answered.

    pending ──► approved    as many yeses as it asks for, all for the same arguments
       ├──────► rejected    the first no
       ├──────► expired     its time is over
       └──────► withdrawn   its job needs no answer any more

A yes or a no is given once per person. Whoever may answer may hand their answer to somebody else instead:
then that one answers in their place. Whoever submitted the job does not answer, unless the question allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum

from aetheris_kernel.errors import Conflict, Forbidden, Invalid

PERSON = "person:"


class ApprovalState(IntEnum):
    """As stored and as sent."""

    PENDING = 1
    APPROVED = 2
    REJECTED = 3
    EXPIRED = 4
    WITHDRAWN = 5


class Vote(IntEnum):
    """As stored."""

    YES = 1
    NO = 2
    DELEGATED = 3


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever answers. `owner`: alone on their own machine, where everybody is this person."""

    actor: str
    roles: frozenset[str] = frozenset()
    owner: bool = False

    @property
    def named(self) -> bool:
        return self.actor != "anonymous"

    def is_one_of(self, approver: str) -> bool:
        if approver.startswith(PERSON):
            return approver.removeprefix(PERSON) == self.actor
        return approver in self.roles


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    approver: str  # a role, or person:NAME
    title: str
    detail: bytes = b""  # JSON
    arguments: bytes = b""  # JSON; empty where nothing can be edited
    requester: str = ""
    requester_may_decide: bool = False
    quorum: int = 1
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    actor: str
    vote: Vote
    comment: str
    at: datetime
    edited: bytes = b""  # the arguments as they want them; empty for as asked
    delegate: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    request: ApprovalRequest
    state: ApprovalState = ApprovalState.PENDING
    decisions: Sequence[Decision] = ()

    @property
    def answers(self) -> list[Decision]:
        return [decision for decision in self.decisions if decision.vote is not Vote.DELEGATED]

    @property
    def arguments(self) -> bytes:
        """What was agreed to: as edited, or as asked."""
        edited = next((answer.edited for answer in self.answers if answer.vote is Vote.YES), b"")
        return edited or self.request.arguments

    def seen(self, now: datetime) -> ApprovalState:
        """Where it stands, also where nobody has come yet to write down that its time is over."""
        deadline = self.request.deadline
        if self.state is ApprovalState.PENDING and deadline is not None and deadline <= now:
            return ApprovalState.EXPIRED
        return self.state


def decide(
    approval: Approval, person: Person, *, approved: bool, comment: str, edited: bytes, now: datetime
) -> Approval:
    """With the person's answer, and with what that decides. The same answer again changes nothing."""
    if edited == approval.request.arguments:
        edited = b""
    vote = Vote.YES if approved else Vote.NO
    if any((said.actor, said.vote, said.edited) == (person.actor, vote, edited) for said in approval.answers):
        return approval
    _require_open(approval, now)
    _require_entitled(approval, person)
    if edited and not approval.request.arguments:
        raise Invalid("this question has no arguments to edit", field="arguments")
    if edited and not approved:
        raise Invalid("a no edits nothing", field="arguments")
    answered = _with(approval, Decision(person.actor, vote, comment, now, edited))
    if not approved:
        return replace(answered, state=ApprovalState.REJECTED)
    yeses = [answer for answer in answered.answers if answer.vote is Vote.YES]
    if yeses[0].edited != edited:
        raise Conflict(
            f"{yeses[0].actor} has said yes to other arguments; a yes must be to the same, or say no",
            actor=yeses[0].actor,
        )
    enough = len(yeses) >= approval.request.quorum
    return replace(answered, state=ApprovalState.APPROVED) if enough else answered


def delegate(approval: Approval, person: Person, *, to: str, comment: str, now: datetime) -> Approval:
    """With the person's answer handed to `to`, a role or person:NAME."""
    last = next((said for said in reversed(approval.decisions) if said.actor == person.actor), None)
    if last is not None and last.delegate == to:
        return approval
    _require_open(approval, now)
    _require_entitled(approval, person)
    if Person(person.actor, person.roles).is_one_of(to) and to.startswith(PERSON):
        raise Invalid("that would hand it to yourself", field="to")
    if not to.startswith(PERSON) and approval.request.quorum > 1:
        raise Invalid("one answer of several is handed to one person: person:NAME", field="to")
    request = approval.request
    if to == f"{PERSON}{request.requester}" and not request.requester_may_decide:
        raise Forbidden("whoever submitted the job does not answer its question")
    return _with(approval, Decision(person.actor, Vote.DELEGATED, comment, now, delegate=to))


def expire(approval: Approval) -> Approval:
    return replace(approval, state=ApprovalState.EXPIRED) if approval.state is ApprovalState.PENDING else approval


def withdraw(approval: Approval) -> Approval:
    return replace(approval, state=ApprovalState.WITHDRAWN) if approval.state is ApprovalState.PENDING else approval


def _with(approval: Approval, decision: Decision) -> Approval:
    return replace(approval, decisions=(*approval.decisions, decision))


def _require_open(approval: Approval, now: datetime) -> None:
    state = approval.seen(now)
    if state is not ApprovalState.PENDING:
        raise Conflict(_CLOSED[state], state=state.name.lower())


_CLOSED = {
    ApprovalState.APPROVED: "it has been approved already",
    ApprovalState.REJECTED: "it has been rejected already",
    ApprovalState.EXPIRED: "it has expired",
    ApprovalState.WITHDRAWN: "it was withdrawn: its job needs no answer any more",
}


def _require_entitled(approval: Approval, person: Person) -> None:
    request = approval.request
    if not person.named:
        raise Forbidden("say who you are: a decision goes on record under a name", approver=request.approver)
    if any(answer.actor == person.actor for answer in approval.answers):
        raise Conflict("you have answered this already", actor=person.actor)
    if person.owner:
        return
    if person.actor == request.requester and not request.requester_may_decide:
        raise Forbidden("whoever submitted the job does not answer its question", actor=person.actor)
    if not _entitled(approval, person):
        raise Forbidden(f"this is for {_called(request.approver)} to decide", approver=request.approver)


def _entitled(approval: Approval, person: Person) -> bool:
    """What was handed on is gone, until somebody hands it back."""
    entitled = person.is_one_of(approval.request.approver)
    for decision in approval.decisions:
        if decision.vote is not Vote.DELEGATED:
            continue
        if decision.actor == person.actor:
            entitled = False
        elif person.is_one_of(decision.delegate):
            entitled = True
    return entitled


def _called(approver: str) -> str:
    return approver.removeprefix(PERSON) if approver.startswith(PERSON) else f"the role {approver}"
