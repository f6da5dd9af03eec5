"""Jobs: how they are submitted, shown, listed and operated."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field
from typing_extensions import TypedDict

from aetheris_api.errors import Failure
from aetheris_api.shape import Body, Shape, one_of
from aetheris_api.statuses import FINISHED, JobStatus


class JobLinks(TypedDict, total=False):
    """Addresses of what belongs to a job."""

    self: str
    events: str
    trace: str
    page: str
    stream: str
    children: str


class AcceptedJob(Shape):
    """The answer to a submission or a fork."""

    job_id: str = Field("", description="The same as `id`.")
    id: str
    status: str
    agent: str
    created: bool = Field(True, description="False if an earlier request with the same key had created the job.")
    hint: str | None = Field(None, description="Advice for the caller, e.g. that no connected runner offers the agent.")
    links: JobLinks = Field(default_factory=JobLinks)

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def __str__(self) -> str:
        return f"{self.id} {self.agent} {self.status}"


class Fork(Shape):
    """Where a fork's history comes from."""

    job_id: str = Field(description="The job whose history this one began with.")
    at_seq: int
    before_path: str | None
    effects: str


class Progress(Shape):
    """How far a job is, as its running step reports it."""

    fraction: float = Field(description="0 to 1.")
    note: str
    at: datetime | None

    def __str__(self) -> str:
        return f"{self.fraction:.0%} {self.note}".rstrip()


class Job(Shape):
    id: str
    agent: str
    status: str = Field(description=f"{one_of(JobStatus)}.")
    queue: str = "default"
    priority: int = 0
    input: Any = Field(None, description="As submitted; left out of lists.")
    result: Any = Field(None, description="What the agent returned, once completed; left out of lists.")
    error: Failure | None = Field(None, description="What the agent raised, if it failed; the reason, if cancelled.")
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    park_reason: str | None = Field(None, description="What a parked job waits for.")
    wake_at: datetime | None = Field(None, description="When a parked job wakes without any signal.")
    paused: bool = False
    cancel_requested: bool = False
    terminate_requested: bool = Field(False, description="It is to end at once and without compensation.")
    runner_id: str | None = Field(None, description="The runner that runs it.")
    lease: int = Field(0, description="How often the job was given to a runner.")
    crash_count: int = Field(0, description="Runners lost in a row without progress.")
    parent_job_id: str | None = None
    actor: str | None = Field(None, description="The requester: the caller that submitted it.")
    fork: Fork | None = Field(None, description="Where its history comes from, if it is a fork.")
    progress: Progress | None = Field(None, description="How far it is, as its running step reports it.")
    idempotency_key: str | None = None
    version: str | None = Field(None, description="The version of the agent's code that held it last.")
    wants_version: str | None = Field(None, description="The only version that may hold it.")
    retried_as_job_id: str | None = Field(None, description="The fork that goes on in its place.")
    deadline: datetime | None = None
    start_after: datetime | None = Field(None, description="No runner starts it before this moment.")
    links: JobLinks = Field(default_factory=JobLinks)

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def __str__(self) -> str:
        return f"{self.id} {self.agent} {self.status}"


class JobPage(Shape):
    jobs: list[Job] = Field(description="Newest first.")
    next_cursor: str | None


class StuckJob(Shape):
    """A job that does not continue without help."""

    job: Job
    cause: str
    remedy: str
    since: datetime | None


class StuckPage(Shape):
    jobs: list[StuckJob]
    next_cursor: str | None = None


class SubmitBody(Body):
    content: str | None = Field(None, description="What the agent shall do.")
    message: str | None = Field(None, description="The same as content.")
    input: dict[str, Any] | None = Field(
        None, description='For agents that are called like functions: {"args": […], "kwargs": {…}}.'
    )
    idempotency_key: str | None = Field(
        None,
        max_length=256,
        description="A second request with this key gets the same job. Or the header Idempotency-Key.",
    )
    queue: str = Field("", max_length=128)
    priority: int = Field(0, ge=-100, le=100, description="Jobs with a higher number run first.")
    deadline: str = Field("", max_length=64, description="When it must have ended, ISO 8601 with a time zone.")
    start_after: str = Field(
        "", max_length=64, description="No runner starts it before this moment, ISO 8601 with a time zone."
    )


class CancelBody(Body):
    reason: str = Field("", max_length=1024, description="It goes on record.")


class TerminateBody(Body):
    reason: str = Field("", max_length=1024, description="It goes on record.")


class EmptyBody(Body):
    """For orders that need no words: pause, resume, requeue, retry."""


class ForkBody(Body):
    at_seq: int = Field(0, ge=0, le=2**63 - 1, description="The last commit that is copied; 0 means all of them.")
    before_path: str = Field(
        "", max_length=256, description="Instead: the first step that is not copied, e.g. 3 or 2.1.0."
    )
    effects: str = Field(
        "",
        max_length=16,
        description="What happens when the fork would repeat an effect of the history that it left out: reuse its "
        "result (the default), ask a person, or block it.",
    )
    idempotency_key: str = Field("", max_length=256, description="A second request with this key gets the same job.")
