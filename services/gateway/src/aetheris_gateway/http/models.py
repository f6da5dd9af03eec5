"""The shapes of REST answers, as OpenAPI describes them. A field that holds JSON of somebody else is Any."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    code: str = Field(description="Which rule spoke, e.g. JOB_FINISHED.")
    message: str = Field(description="For people.")
    details: dict[str, Any] = Field(description="Facts, e.g. the field that is wrong.")


class Error(BaseModel):
    error: ErrorDetail


class Failure(BaseModel):
    type: str
    message: str
    retryable: bool
    stack: str


class JobLinks(BaseModel):
    self: str
    events: str
    trace: str
    page: str
    stream: str
    children: str


class AcceptedJob(BaseModel):
    job_id: str
    id: str
    status: str
    agent: str
    created: bool = Field(description="False where an earlier request with this key had made it.")
    hint: str | None = Field(None, description="What you may want to know, e.g. that no runner offers the agent now.")
    links: JobLinks


class Fork(BaseModel):
    job_id: str = Field(description="Whose history this one began with.")
    at_seq: int
    before_path: str | None
    effects: str


class Progress(BaseModel):
    fraction: float = Field(description="0 to 1.")
    note: str
    at: str | None


class Job(BaseModel):
    id: str
    agent: str
    status: str = Field(description="ready, running, parked, completed, failed or cancelled.")
    queue: str
    priority: int
    input: Any = Field(None, description="As submitted; left out of lists.")
    result: Any = Field(None, description="What the agent returned, once completed; left out of lists.")
    error: Failure | None = Field(None, description="What it raised, once failed; why, once cancelled.")
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    park_reason: str | None = Field(None, description="What a parked job waits for.")
    wake_at: str | None = Field(None, description="When a parked job wakes by itself.")
    paused: bool
    cancel_requested: bool
    runner_id: str | None = Field(None, description="Who runs it.")
    lease: int = Field(description="How often it was given to a runner.")
    crash_count: int = Field(description="Runners lost in a row without progress.")
    parent_job_id: str | None
    actor: str | None = Field(description="Who submitted it.")
    fork: Fork | None = Field(description="Where its history comes from, if it is a fork.")
    progress: Progress | None = Field(description="How far it is, as its running step says.")
    idempotency_key: str | None
    deadline: str | None
    links: JobLinks


class JobPage(BaseModel):
    jobs: list[Job] = Field(description="Newest first.")
    next_cursor: str | None


class Event(BaseModel):
    seq: int = Field(description="The commit it is in.")
    type: str = Field(description="e.g. step_committed.")
    at: str | None = Field(description="When the runner saw it.")
    recorded_at: str = Field(description="When the ledger had it.")
    lease: int
    hash: str = Field(description="Of its commit, in hex.")
    data: dict[str, Any]


class EventPage(BaseModel):
    events: list[Event]
    next_after: int | None = Field(description="Where the next page begins; null on the last.")


class Commit(BaseModel):
    seq: int
    lease: int
    recorded_at: str
    hash: str
    events: list[Event]


class StoredCommit(BaseModel):
    seq: int
    lease: int
    time: str = Field(description="When the ledger accepted it, to the microsecond.")
    hash: str = Field(description="SHA-256(parent ‖ job ‖ seq ‖ lease ‖ time ‖ body), in hex; the next one's parent.")
    body: str = Field(description="The exact bytes that were hashed, in base64: an aetheris.ledger.v1.Body.")


class CommitPage(BaseModel):
    commits: list[StoredCommit]
    next_after: int | None = Field(description="Where the next page begins; null on the last.")


class Attempt(BaseModel):
    number: int
    started_at: str | None
    duration_ms: float | None
    error: Failure | None
    retry_at: str | None
    lease: int


class Wait(BaseModel):
    kind: str
    name: str
    since: str | None
    deadline: str | None
    ended_at: str | None
    timed_out: bool
    detail: Any
    payload: Any
    actor: str | None


class Doubt(BaseModel):
    reason: str
    since: str | None
    resolved_at: str | None
    verdict: str | None
    source: str | None
    actor: str | None
    note: str | None


class Compensation(BaseModel):
    since: str | None
    ended_at: str | None
    result: Any


class Step(BaseModel):
    path: str = Field(description="Where in the program: 3, or 2.1.0 in branch 1 of the parallel block at 2.")
    block: str | None = Field(description="The parallel block it stands in.")
    branch: str | None
    depth: int
    name: str
    kind: str = Field(description="step, effect, wait, child, value, checkpoint or plan.")
    status: str = Field(
        description="running, completed, failed, retrying, waiting, in_doubt, timed_out or compensated."
    )
    outcome: str | None = Field(description="pure, side_effect_committed, retryable, permanent_failure or compensated.")
    attempts: int
    started_at: str | None
    ended_at: str | None
    duration_ms: float | None
    arguments: Any
    result: Any
    error: Failure | None
    key: str | None = Field(description="An effect's idempotency key.")
    child_job_id: str | None
    recorded_job_id: str | None = Field(description="The job whose effect this one's result was taken from.")
    tries: list[Attempt]
    waits: list[Wait]
    doubts: list[Doubt]
    compensation: Compensation | None


class Lease(BaseModel):
    number: int
    runner_id: str
    code_version: str | None
    since: str | None
    until: str | None


class Message(BaseModel):
    channel: str
    message_id: str
    payload: Any
    actor: str | None
    received_at: str | None


class Trace(BaseModel):
    job: Job
    steps: list[Step] = Field(description="In the order of the program.")
    leases: list[Lease] = Field(description="Who held the job; more than one is a takeover.")
    messages: list[Message]
    events: int
    complete: bool = Field(description="False where the record is too long and this is its beginning.")


class Verdict(BaseModel):
    job_id: str
    intact: bool
    commits: int
    events: int
    effects: int
    head: str = Field(description="The hash of the last good commit, in hex.")
    bad_seq: int | None = Field(description="The first bad commit.")
    problem: str | None


class SignalAnswer(BaseModel):
    signal_id: str
    created: bool = Field(description="False where an earlier signal of this key stands.")


class MessageAnswer(BaseModel):
    message_id: str
    created: bool = Field(description="False where an earlier message of this id stands.")


class TokenAnswer(BaseModel):
    job_id: str = Field(description="The job that hears it.")
    created: bool = Field(description="False where the same had been said before.")


class Decision(BaseModel):
    actor: str
    answer: str = Field(description="yes, no or delegated.")
    comment: str
    arguments: Any = Field(None, description="As this person edited them; null for as asked.")
    diff: list[dict[str, Any]] = Field(description="What they edited: a list of {path, from, to}.")
    delegate: str | None = Field(None, description="To whom they handed their answer.")
    at: str


class ApprovalLinks(BaseModel):
    self: str
    job: str
    page: str


class Approval(BaseModel):
    id: str
    job_id: str
    path: str = Field(description="Where in the job's program it was asked.")
    state: str = Field(description="pending, approved, rejected, expired or withdrawn.")
    approver: str = Field(description="Who is asked: a role, or person:NAME.")
    title: str
    detail: Any = Field(None, description="What it is about.")
    arguments: Any = Field(None, description="What will be done; whoever says yes may edit it. Null: nothing to edit.")
    requester: str | None = Field(description="Who submitted the job.")
    requester_may_decide: bool
    quorum: int = Field(description="How many yeses it takes.")
    yeses: int = Field(description="How many there are.")
    deadline: str | None
    created_at: str
    decisions: list[Decision]
    links: ApprovalLinks


class ApprovalPage(BaseModel):
    approvals: list[Approval] = Field(description="Oldest first.")
    next_cursor: str | None


class Effect(BaseModel):
    key: str
    state: str
    tool: str
    job_id: str
    seq: int
    lease: int
    arguments_digest: str
    result_digest: str | None
    updated_at: str | None
    verdict: str | None = Field(description="What a person or a late outcome said, waiting for the job's holder.")


class EffectPage(BaseModel):
    effects: list[Effect]
    next_cursor: str | None


class Runner(BaseModel):
    session_id: str
    runner_id: str
    agents: list[str]
    capacity: int
    held: int
    lease_until: str | None
    draining: bool


class RunnerPage(BaseModel):
    runners: list[Runner]
    next_cursor: str | None


class Agent(BaseModel):
    id: str = Field(description="* where a runner takes any.")
    runners: int
    capacity: int
    held: int


class AgentList(BaseModel):
    agents: list[Agent]


class StuckJob(BaseModel):
    job: Job
    cause: str
    remedy: str
    since: str | None


class StuckPage(BaseModel):
    jobs: list[StuckJob]
    next_cursor: str | None


class Check(BaseModel):
    status: str = Field(description="ok or down.")
    message: str | None = None


class Health(BaseModel):
    status: str = Field(description="ok; degraded (signals are accepted, not everything works); draining; or down.")
    checks: dict[str, Check]
