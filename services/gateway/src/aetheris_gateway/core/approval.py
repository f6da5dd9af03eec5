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


class State(IntEnum):
    """As stored and as sent."""

    PENDING = 1
    APPROVED = 2
    REJECTED = 3
    EXPIRED = 4
    WITHDRAWN = 5


class Verdict(IntEnum):
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
class Question:
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
    verdict: Verdict
    comment: str
    at: datetime
    edited: bytes = b""  # the arguments as they want them; empty for as asked
    delegate: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    question: Question
    state: State = State.PENDING
    decisions: Sequence[Decision] = ()

    @property
    def answers(self) -> list[Decision]:
        return [decision for decision in self.decisions if decision.verdict is not Verdict.DELEGATED]

    @property
    def arguments(self) -> bytes:
        """What was agreed to: as edited, or as asked."""
        edited = next((answer.edited for answer in self.answers if answer.verdict is Verdict.YES), b"")
        return edited or self.question.arguments

    def seen(self, now: datetime) -> State:
        """Where it stands, also where nobody has come yet to write down that its time is over."""
        deadline = self.question.deadline
        if self.state is State.PENDING and deadline is not None and deadline <= now:
            return State.EXPIRED
        return self.state


def decide(
    approval: Approval, person: Person, *, approved: bool, comment: str, edited: bytes, now: datetime
) -> Approval:
    """With the person's answer, and with what that decides. The same answer again changes nothing."""
    if edited == approval.question.arguments:
        edited = b""
    verdict = Verdict.YES if approved else Verdict.NO
    if any((said.actor, said.verdict, said.edited) == (person.actor, verdict, edited) for said in approval.answers):
        return approval
    _require_open(approval, now)
    _require_entitled(approval, person)
    if edited and not approval.question.arguments:
        raise Invalid("this question has no arguments to edit", field="arguments")
    if edited and not approved:
        raise Invalid("a no edits nothing", field="arguments")
    answered = _with(approval, Decision(person.actor, verdict, comment, now, edited))
    if not approved:
        return replace(answered, state=State.REJECTED)
    yeses = [answer for answer in answered.answers if answer.verdict is Verdict.YES]
    if yeses[0].edited != edited:
        raise Conflict(
            f"{yeses[0].actor} has said yes to other arguments; a yes must be to the same, or say no",
            actor=yeses[0].actor,
        )
    enough = len(yeses) >= approval.question.quorum
    return replace(answered, state=State.APPROVED) if enough else answered


def delegate(approval: Approval, person: Person, *, to: str, comment: str, now: datetime) -> Approval:
    """With the person's answer handed to `to`, a role or person:NAME."""
    last = next((said for said in reversed(approval.decisions) if said.actor == person.actor), None)
    if last is not None and last.delegate == to:
        return approval
    _require_open(approval, now)
    _require_entitled(approval, person)
    if Person(person.actor, person.roles).is_one_of(to) and to.startswith(PERSON):
        raise Invalid("that would hand it to yourself", field="to")
    if not to.startswith(PERSON) and approval.question.quorum > 1:
        raise Invalid("one answer of several is handed to one person: person:NAME", field="to")
    question = approval.question
    if to == f"{PERSON}{question.requester}" and not question.requester_may_decide:
        raise Forbidden("whoever submitted the job does not answer its question")
    return _with(approval, Decision(person.actor, Verdict.DELEGATED, comment, now, delegate=to))


def expire(approval: Approval) -> Approval:
    return replace(approval, state=State.EXPIRED) if approval.state is State.PENDING else approval


def withdraw(approval: Approval) -> Approval:
    return replace(approval, state=State.WITHDRAWN) if approval.state is State.PENDING else approval


def _with(approval: Approval, decision: Decision) -> Approval:
    return replace(approval, decisions=(*approval.decisions, decision))


def _require_open(approval: Approval, now: datetime) -> None:
    state = approval.seen(now)
    if state is not State.PENDING:
        raise Conflict(_CLOSED[state], state=state.name.lower())


_CLOSED = {
    State.APPROVED: "it has been approved already",
    State.REJECTED: "it has been rejected already",
    State.EXPIRED: "it has expired",
    State.WITHDRAWN: "it was withdrawn: its job needs no answer any more",
}


def _require_entitled(approval: Approval, person: Person) -> None:
    question = approval.question
    if not person.named:
        raise Forbidden("say who you are: a decision goes on record under a name", approver=question.approver)
    if any(answer.actor == person.actor for answer in approval.answers):
        raise Conflict("you have answered this already", actor=person.actor)
    if person.owner:
        return
    if person.actor == question.requester and not question.requester_may_decide:
        raise Forbidden("whoever submitted the job does not answer its question", actor=person.actor)
    if not _entitled(approval, person):
        raise Forbidden(f"this is for {_called(question.approver)} to decide", approver=question.approver)


def _entitled(approval: Approval, person: Person) -> bool:
    """What was handed on is gone, until somebody hands it back."""
    entitled = person.is_one_of(approval.question.approver)
    for decision in approval.decisions:
        if decision.verdict is not Verdict.DELEGATED:
            continue
        if decision.actor == person.actor:
            entitled = False
        elif person.is_one_of(decision.delegate):
            entitled = True
    return entitled


def _called(approver: str) -> str:
    return approver.removeprefix(PERSON) if approver.startswith(PERSON) else f"the role {approver}"
