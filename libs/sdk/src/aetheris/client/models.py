"""What the API answers, as values. A field that a newer server adds is ignored here, never an error."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

FINISHED = frozenset({"completed", "failed", "cancelled"})


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Failure(Model):
    """An error as a value."""

    type: str
    message: str = ""
    retryable: bool = False
    stack: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Fork(Model):
    """Where a job's history comes from."""

    job_id: str
    at_seq: int
    before_path: str | None
    effects: str


class Progress(Model):
    """How far a job is, as its running step says."""

    fraction: float
    note: str
    at: datetime | None

    def __str__(self) -> str:
        return f"{self.fraction:.0%} {self.note}".rstrip()


class Job(Model):
    """A job. `status` is ready, running, parked, completed, failed or cancelled."""

    id: str
    status: str
    agent: str
    created: bool = True  # after a submission: False where an earlier request with this key had made it
    queue: str = "default"
    priority: int = 0
    input: Any = None
    result: Any = None
    error: Failure | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    park_reason: str | None = None
    wake_at: datetime | None = None
    paused: bool = False
    cancel_requested: bool = False
    runner_id: str | None = None
    lease: int = 0
    crash_count: int = 0
    parent_job_id: str | None = None
    actor: str | None = None
    fork: Fork | None = None
    progress: Progress | None = None
    hint: str | None = None  # after a submission: what you may want to know
    idempotency_key: str | None = None
    deadline: datetime | None = None
    links: dict[str, str] = {}

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def __str__(self) -> str:
        return f"{self.id} {self.agent} {self.status}"


class StoredCommit(Model):
    """A commit as it is stored: its body in base64 is what was hashed."""

    seq: int
    lease: int
    time: datetime
    hash: str
    body: str


class Event(Model):
    """One thing that happened in a job, e.g. type "step_committed"."""

    seq: int
    type: str
    at: datetime | None
    recorded_at: datetime
    lease: int
    hash: str
    data: dict[str, Any]

    def __str__(self) -> str:
        name = self.data.get("name") or self.data.get("agent") or ""
        return f"{self.seq} {self.type} {name}".rstrip()


class Attempt(Model):
    number: int
    started_at: datetime | None
    duration_ms: float | None
    error: Failure | None
    retry_at: datetime | None
    lease: int


class Wait(Model):
    kind: str
    name: str
    since: datetime | None
    deadline: datetime | None
    ended_at: datetime | None
    timed_out: bool
    detail: Any
    payload: Any
    actor: str | None


class Doubt(Model):
    reason: str
    since: datetime | None
    resolved_at: datetime | None
    verdict: str | None
    source: str | None
    actor: str | None
    note: str | None


class Step(Model):
    """One line of a trace.

    `kind` is step, effect, wait, child, value, checkpoint or plan; `outcome`, once there is one, is pure,
    side_effect_committed, retryable, permanent_failure or compensated.
    """

    path: str
    name: str
    kind: str
    status: str
    outcome: str | None
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    duration_ms: float | None
    arguments: Any
    result: Any
    error: Failure | None
    key: str | None
    block: str | None = None
    branch: str | None = None
    depth: int = 0
    child_job_id: str | None = None
    recorded_job_id: str | None = None
    tries: list[Attempt] = []
    waits: list[Wait] = []
    doubts: list[Doubt] = []

    def __str__(self) -> str:
        took = "" if self.duration_ms is None else f" {self.duration_ms:g} ms"
        return f"{self.path} {self.name} {self.status}{took}"


class Lease(Model):
    """Who held the job, and until when."""

    number: int
    runner_id: str
    since: datetime | None
    until: datetime | None


class Message(Model):
    channel: str
    message_id: str
    payload: Any
    actor: str | None
    received_at: datetime | None


class Trace(Model):
    """A job's record as steps, in the order of its program."""

    job: Job
    steps: list[Step]
    leases: list[Lease]
    messages: list[Message]
    events: int
    complete: bool

    def __str__(self) -> str:
        return "\n".join([str(self.job), *(f"  {step}" for step in self.steps)])


class Verdict(Model):
    """Whether a job's chain is whole."""

    job_id: str
    intact: bool
    commits: int
    events: int
    effects: int
    head: str
    bad_seq: int | None
    problem: str | None


class SignalAnswer(Model):
    signal_id: str
    created: bool  # False where an earlier signal of this key stands


class MessageAnswer(Model):
    message_id: str
    created: bool


class TokenAnswer(Model):
    job_id: str
    created: bool  # False where the same had been said before


class Decision(Model):
    """One person's answer: yes, no or delegated."""

    actor: str
    answer: str
    comment: str
    arguments: Any
    diff: list[dict[str, Any]]
    delegate: str | None
    at: datetime


class Approval(Model):
    """A question to people. `state` is pending, approved, rejected, expired or withdrawn."""

    id: str
    job_id: str
    path: str
    state: str
    approver: str
    title: str
    detail: Any
    arguments: Any
    requester: str | None
    requester_may_decide: bool
    quorum: int
    yeses: int
    deadline: datetime | None
    created_at: datetime
    decisions: list[Decision]

    def __str__(self) -> str:
        return f"{self.id} {self.state} {self.title}"


class Effect(Model):
    key: str
    state: str
    tool: str
    job_id: str
    seq: int
    lease: int
    updated_at: datetime | None
    verdict: str | None


class Runner(Model):
    session_id: str
    runner_id: str
    agents: list[str]
    capacity: int
    held: int
    lease_until: datetime | None
    draining: bool


class Agent(Model):
    id: str
    runners: int
    capacity: int
    held: int


class StuckJob(Model):
    job: Job
    cause: str
    remedy: str
    since: datetime | None


class Check(Model):
    status: str
    message: str | None = None


class Health(Model):
    """`status` is ok, degraded, draining or down."""

    status: str
    checks: dict[str, Check]
