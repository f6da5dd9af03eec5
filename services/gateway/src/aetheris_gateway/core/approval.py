"""An approval, and how decisions close it.

    pending ──► approved    as many yeses as the quorum, all for the same arguments
       ├──────► rejected    the first no
       ├──────► expired     its deadline has passed
       └──────► withdrawn   its job needs no decision any more

Each approver votes yes or no once. Instead of voting, an approver may delegate: then the person or role named there
decides in the approver's place. The requester of the job does not decide, unless the approval allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from aetheris_api.statuses import ApprovalState, Vote
from aetheris_kernel.errors import Conflict, Forbidden, Invalid

PERSON = "person:"


@dataclass(frozen=True, slots=True)
class Person:
    """The person that sends a request. `owner`: of this machine, which only its owner can reach; the owner may decide
    every approval."""

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
    """What a job asks people."""

    approver: str  # a role, or person:NAME
    title: str
    detail: bytes = b""  # JSON
    arguments: bytes = b""  # JSON; empty if there is nothing to edit
    requester: str = ""
    requester_may_decide: bool = False
    quorum: int = 1
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """One approver's vote."""

    actor: str
    vote: Vote
    comment: str
    at: datetime
    edited: bytes = b""  # the arguments as the approver edited them; empty if not edited
    delegate: str = ""
    # What the edit changed, JSON. Empty without an edit, and in decisions from before it was stored.
    difference: bytes = b""


@dataclass(frozen=True, slots=True)
class Approval:
    request: ApprovalRequest
    state: ApprovalState = ApprovalState.PENDING
    decisions: Sequence[Decision] = ()

    @property
    def votes(self) -> list[Decision]:
        """The decisions that are a yes or a no."""
        return [decision for decision in self.decisions if decision.vote is not Vote.DELEGATED]

    @property
    def arguments(self) -> bytes:
        """The arguments that were agreed to: as the first yes edited them, or as the job asked."""
        edited = next((decision.edited for decision in self.votes if decision.vote is Vote.YES), b"")
        return edited or self.request.arguments

    def seen(self, now: datetime) -> ApprovalState:
        """The state that callers see at `now`. After its deadline an approval is expired, although its row says so only
        once the job's holder has closed it."""
        deadline = self.request.deadline
        if self.state is ApprovalState.PENDING and deadline is not None and deadline <= now:
            return ApprovalState.EXPIRED
        return self.state


def decide(
    approval: Approval,
    person: Person,
    *,
    approved: bool,
    comment: str,
    edited: bytes,
    difference: bytes = b"",
    now: datetime,
) -> Approval:
    """The approval with this person's vote and the state that follows. Repeating the same vote changes nothing."""
    if edited == approval.request.arguments:
        edited = difference = b""
    vote = Vote.YES if approved else Vote.NO
    if any((earlier.actor, earlier.vote, earlier.edited) == (person.actor, vote, edited) for earlier in approval.votes):
        return approval
    _require_open(approval, now)
    _require_entitled(approval, person)
    if edited and not approval.request.arguments:
        raise Invalid("this approval has no arguments to edit", field="arguments")
    if edited and not approved:
        raise Invalid("only a yes can edit the arguments", field="arguments")
    decided = _with(approval, Decision(person.actor, vote, comment, now, edited, difference=difference))
    if not approved:
        return replace(decided, state=ApprovalState.REJECTED)
    yeses = [decision for decision in decided.votes if decision.vote is Vote.YES]
    if yeses[0].edited != edited:
        raise Conflict(
            f"{yeses[0].actor} has said yes to other arguments; say yes to the same arguments, or say no",
            actor=yeses[0].actor,
        )
    enough = len(yeses) >= approval.request.quorum
    return replace(decided, state=ApprovalState.APPROVED) if enough else decided


def delegate(approval: Approval, person: Person, *, to: str, comment: str, now: datetime) -> Approval:
    """The approval with this person's vote delegated to `to`, a role or person:NAME."""
    last = next((decision for decision in reversed(approval.decisions) if decision.actor == person.actor), None)
    if last is not None and last.delegate == to:
        return approval
    _require_open(approval, now)
    _require_entitled(approval, person)
    if Person(person.actor, person.roles).is_one_of(to) and to.startswith(PERSON):
        raise Invalid("a person cannot delegate to themselves", field="to")
    if not to.startswith(PERSON) and approval.request.quorum > 1:
        raise Invalid("an approval with a quorum is delegated to one person: person:NAME", field="to")
    request = approval.request
    if to == f"{PERSON}{request.requester}" and not request.requester_may_decide:
        raise Forbidden("the requester of the job may not decide this approval")
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
        raise Conflict(_CLOSED[state], state=state.value)


_CLOSED = {
    ApprovalState.APPROVED: "the approval has been approved already",
    ApprovalState.REJECTED: "the approval has been rejected already",
    ApprovalState.EXPIRED: "the approval has expired",
    ApprovalState.WITHDRAWN: "the approval was withdrawn: its job needs no decision any more",
}


def _require_entitled(approval: Approval, person: Person) -> None:
    request = approval.request
    if not person.named:
        raise Forbidden("say who you are: a decision goes on record under a name", approver=request.approver)
    if any(decision.actor == person.actor for decision in approval.votes):
        raise Conflict("you have decided this approval already", actor=person.actor)
    if person.owner:
        return
    if person.actor == request.requester and not request.requester_may_decide:
        raise Forbidden("the requester of the job may not decide this approval", actor=person.actor)
    if not _entitled(approval, person):
        raise Forbidden(f"this is for {_called(request.approver)} to decide", approver=request.approver)


def _entitled(approval: Approval, person: Person) -> bool:
    """Whether the person may vote. A person who has delegated may not, until the vote is delegated back."""
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
