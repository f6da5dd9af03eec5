"""Everything that can happen in a job.

The names are stored, so they are for ever. Values (`arguments`, `result`, `payload`, …) are JSON
bytes and are never opened on the way. `path` is the place in the agent's program: "3" is the fourth
command of the agent, "2.1.0" the first command of branch 1 of the parallel block at "2".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum


class WaitKind(IntEnum):
    TIMER = 1
    SIGNAL = 2
    MESSAGE = 3
    APPROVAL = 4
    CHILD = 5
    RETRY = 6
    OPERATOR = 7


class ValueKind(IntEnum):
    TIME = 1
    RANDOM = 2
    UUID = 3
    TOKEN = 4


class Resolution(IntEnum):
    """How an effect in doubt was resolved."""

    COMMITTED = 1
    NOT_EXECUTED = 2
    ABANDONED = 3


class Source(IntEnum):
    VERIFY = 1
    LATE_OUTCOME = 2
    PERSON = 3
    IDEMPOTENT = 4


@dataclass(frozen=True, slots=True)
class Failure:
    type: str
    message: str
    retryable: bool = False
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    # When the holder recorded it. Given last and by keyword in every constructor call.
    at: datetime = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class JobCreated(Event):
    agent: str
    tenant: str
    queue: str
    input: bytes
    parent_job_id: str = ""
    idempotency_key: str = ""
    actor: str = ""
    forked_from_job_id: str = ""
    forked_at_seq: int = 0
    fork_effects: str = ""
    # The ids of the job's children are in its bucket; False in jobs of earlier versions.
    buckets: bool = False


@dataclass(frozen=True, slots=True)
class JobLeased(Event):
    lease: int
    runner_id: str
    code_version: str = ""


@dataclass(frozen=True, slots=True)
class PlanGenerated(Event):
    path: str
    plan: bytes


@dataclass(frozen=True, slots=True)
class StepCommitted(Event):
    path: str
    name: str
    arguments: bytes
    result: bytes
    attempt: int
    elapsed: timedelta


@dataclass(frozen=True, slots=True)
class StepFailed(Event):
    path: str
    name: str
    arguments: bytes
    failure: Failure
    attempt: int
    elapsed: timedelta
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EffectStarted(Event):
    path: str
    name: str
    arguments: bytes
    key: str
    attempt: int
    # The tool that takes it back if the job fails or is cancelled, if there is one.
    compensate: str = ""


@dataclass(frozen=True, slots=True)
class EffectCommitted(Event):
    path: str
    key: str
    result: bytes
    attempt: int
    elapsed: timedelta
    # Set if a business key gave another job's result. No intent precedes this event, so these fields name the call.
    recorded_job_id: str = ""
    name: str = ""
    arguments: bytes = b""
    # The result is too large to be recorded; `result` says its size and its digest.
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class EffectFailed(Event):
    path: str
    key: str
    failure: Failure
    attempt: int
    elapsed: timedelta
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EffectInDoubt(Event):
    path: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class EffectResolved(Event):
    path: str
    key: str
    verdict: Resolution
    source: Source
    result: bytes = b""
    actor: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class JobWaiting(Event):
    path: str
    kind: WaitKind
    name: str
    deadline: datetime | None = None
    detail: bytes = b""


@dataclass(frozen=True, slots=True)
class WaitCompleted(Event):
    path: str
    payload: bytes = b""
    timed_out: bool = False
    source_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class MessageReceived(Event):
    channel: str
    message_id: str
    payload: bytes
    actor: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    path: str
    state: bytes
    carried: bytes = b""


@dataclass(frozen=True, slots=True)
class ValueRecorded(Event):
    path: str
    kind: ValueKind
    value: bytes


@dataclass(frozen=True, slots=True)
class ChildStarted(Event):
    path: str
    child_job_id: str
    agent: str
    input: bytes
    parent_close: str = ""
    queue: str = ""


@dataclass(frozen=True, slots=True)
class ChildCompleted(Event):
    path: str
    child_job_id: str
    result: bytes = b""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class CompensationStarted(Event):
    path: str
    key: str


@dataclass(frozen=True, slots=True)
class StepCompensated(Event):
    path: str
    key: str
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class JobCancelled(Event):
    reason: str = ""
    actor: str = ""
    # An operator ended the job at once: nothing was taken back.
    terminated: bool = False


@dataclass(frozen=True, slots=True)
class JobFailed(Event):
    failure: Failure


@dataclass(frozen=True, slots=True)
class JobCompleted(Event):
    result: bytes


# The events that end a job. No event may follow one of them.
TERMINAL = (JobCompleted, JobFailed, JobCancelled)
