"""Approvals: what jobs ask people, and what people decide."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field
from typing_extensions import TypedDict

from aetheris_api.shape import Body, Shape, one_of
from aetheris_api.statuses import ApprovalState, Vote


class Decision(Shape):
    """One approver's vote."""

    actor: str
    answer: str = Field(description=f"{one_of(Vote)}.")
    comment: str
    arguments: Any = Field(None, description="The arguments as this approver edited them; null if not edited.")
    diff: list[dict[str, Any]] = Field(
        default_factory=list, description="What the approver edited: a list of {path, from, to}."
    )
    delegate: str | None = Field(None, description="The role or person to whom the approver delegated.")
    at: datetime


class ApprovalLinks(TypedDict, total=False):
    """Addresses of what belongs to an approval."""

    self: str
    job: str
    page: str


class Approval(Shape):
    id: str
    job_id: str
    path: str = Field(description="The path of the approval in the job's program.")
    state: str = Field(description=f"{one_of(ApprovalState)}.")
    approver: str = Field(description="Who may decide: a role, or person:NAME.")
    title: str
    detail: Any = Field(None, description="What the approval is about.")
    arguments: Any = Field(
        None, description="What will be done after a yes; an approver may edit it. Null: there is nothing to edit."
    )
    requester: str | None = Field(description="The caller that submitted the job.")
    requester_may_decide: bool
    quorum: int = Field(description="How many yeses it needs.")
    yeses: int = Field(description="How many yeses it has.")
    deadline: datetime | None
    created_at: datetime
    decisions: list[Decision]
    links: ApprovalLinks = Field(default_factory=ApprovalLinks)

    def __str__(self) -> str:
        return f"{self.id} {self.state} {self.title}"


class ApprovalPage(Shape):
    approvals: list[Approval] = Field(description="Oldest first.")
    next_cursor: str | None


class ApproveBody(Body):
    comment: str = Field("", max_length=1024, description="The reason; it goes on record.")
    arguments: Any = Field(None, description="The edited arguments; left out to keep them. At most 128 KiB.")


class RejectBody(Body):
    comment: str = Field("", max_length=1024, description="The reason; it goes on record.")


class DelegateBody(Body):
    to: str = Field(max_length=256, description="Who decides instead: a role, or person:NAME.")
    comment: str = Field("", max_length=1024, description="The reason; it goes on record.")
