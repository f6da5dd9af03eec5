"""Requests that change something, with every field checked.

REST and gRPC each build these from what they received. A value of one of these types is valid, so the service layer
checks none of its fields again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from aetheris_api.statuses import ForkEffects, ResolutionChoice
from aetheris_kernel.errors import Invalid

from aetheris_gateway.core import intake
from aetheris_gateway.core.intake import Content
from aetheris_gateway.core.token import RESERVED


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    agent: str
    input: Content
    idempotency_key: str = ""
    queue: str = "default"
    priority: int = 0
    deadline: datetime | None = None
    start_after: datetime | None = None

    def __post_init__(self) -> None:
        intake.name(self.agent, "agent")
        intake.key(self.idempotency_key, "idempotency_key", required=False)
        intake.name(self.queue, "queue")
        intake.priority(self.priority)
        if self.deadline is not None:
            intake.moment(self.deadline, "deadline")
        if self.start_after is not None:
            intake.moment(self.start_after, "start_after")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFork:
    job_id: str
    at_seq: int = 0
    before_path: str = ""
    effects: str = ForkEffects.REUSE
    idempotency_key: str = ""

    def __post_init__(self) -> None:
        if self.effects not in set(ForkEffects):
            raise Invalid(f"effects is one of {', '.join(ForkEffects)}", field="effects")
        intake.key(self.before_path, "before_path", required=False)
        intake.key(self.idempotency_key, "idempotency_key", required=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignal:
    job_id: UUID
    correlation_key: str
    payload: Content

    def __post_init__(self) -> None:
        intake.key(self.correlation_key, "correlation_key")
        if self.correlation_key.startswith(RESERVED):
            raise Invalid(
                f"keys that begin with {RESERVED} are reserved: use the token that the agent gave away",
                field="correlation_key",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    job_id: UUID
    channel: str
    message_id: str
    payload: Content

    def __post_init__(self) -> None:
        intake.key(self.channel, "channel")
        intake.key(self.message_id, "message_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDecision:
    """A yes, a no, or, with `delegate`, neither: another person or role decides instead."""

    approval_id: UUID
    approved: bool = False
    comment: str = ""
    edited: Content | None = None
    delegate: str = ""

    def __post_init__(self) -> None:
        intake.sentence(self.comment, "comment")
        if self.delegate:
            intake.approver(self.delegate, "to")
            if self.approved or self.edited:
                raise Invalid("either decide, or delegate the decision; not both", field="to")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTokenContent:
    """What the owner of a token sends with it. `content` is {"payload": …} or {"error": …}, as the job receives it."""

    token: str
    content: Content

    def __post_init__(self) -> None:
        if len(self.token) > intake.TOKEN_CHARS_MAX:
            raise Invalid("the token is too long to be one", field="token")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewResolution:
    """What a person says about an effect in doubt."""

    key: str
    resolution: ResolutionChoice
    result: Content | None = None
    note: str = ""

    def __post_init__(self) -> None:
        intake.effect_key(self.key)
        intake.sentence(self.note, "note")
        if self.result and self.resolution is not ResolutionChoice.COMMITTED:
            raise Invalid("only a committed effect has a result", field="result")


def token_payload(content: Content) -> Content:
    return Content(b'{"payload":%b}' % content.raw)


def token_error(text: str) -> Content:
    if not text:
        raise Invalid("say what went wrong: the error is empty", field="error")
    return Content(intake.dump({"error": intake.sentence(text, "error")}))
