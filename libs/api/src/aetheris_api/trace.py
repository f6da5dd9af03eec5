"""A trace: a job's record as steps, for people to read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from aetheris_api.errors import Failure
from aetheris_api.jobs import Job
from aetheris_api.shape import Shape, one_of
from aetheris_api.statuses import StepKind, StepOutcome, StepStatus


class Attempt(Shape):
    number: int
    started_at: datetime | None
    duration_ms: float | None
    error: Failure | None
    retry_at: datetime | None
    lease: int


class Wait(Shape):
    kind: str
    name: str
    since: datetime | None
    deadline: datetime | None
    ended_at: datetime | None
    timed_out: bool
    detail: Any
    payload: Any
    actor: str | None


class Doubt(Shape):
    reason: str
    since: datetime | None
    resolved_at: datetime | None
    verdict: str | None
    source: str | None
    actor: str | None
    note: str | None


class Compensation(Shape):
    since: datetime | None
    ended_at: datetime | None
    result: Any


class Step(Shape):
    """One line of a trace."""

    path: str = Field(description="The path in the program: 3, or 2.1.0 in branch 1 of the parallel block at 2.")
    block: str | None = Field(None, description="The path of the parallel block that holds the step.")
    branch: str | None = None
    depth: int = 0
    name: str
    kind: str = Field(description=f"{one_of(StepKind)}.")
    status: str = Field(description=f"{one_of(StepStatus)}.")
    outcome: str | None = Field(description=f"{one_of(name for name in StepOutcome if name)}.")
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    duration_ms: float | None
    arguments: Any
    result: Any
    error: Failure | None
    key: str | None = Field(description="An effect's idempotency key.")
    child_job_id: str | None = None
    recorded_job_id: str | None = Field(None, description="The job from whose effect the result was taken.")
    tries: list[Attempt] = Field(default_factory=list)
    waits: list[Wait] = Field(default_factory=list)
    doubts: list[Doubt] = Field(default_factory=list)
    compensation: Compensation | None = None

    def __str__(self) -> str:
        took = "" if self.duration_ms is None else f" {self.duration_ms:g} ms"
        return f"{self.path} {self.name} {self.status}{took}"


class Lease(Shape):
    """A runner's right to run the job, with the time for which the runner had it."""

    number: int
    runner_id: str
    code_version: str | None = None
    since: datetime | None
    until: datetime | None


class Message(Shape):
    """A message that the job received."""

    channel: str
    message_id: str
    payload: Any
    actor: str | None
    received_at: datetime | None


class Trace(Shape):
    job: Job
    steps: list[Step] = Field(description="In the order of the program.")
    leases: list[Lease] = Field(description="The runners that held the job; more than one means a takeover.")
    messages: list[Message]
    events: int
    complete: bool = Field(description="False if the record is too long; then this is its beginning.")

    def __str__(self) -> str:
        return "\n".join([str(self.job), *(f"  {step}" for step in self.steps)])
