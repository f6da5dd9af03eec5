"""The parts of a trace: steps with their attempts, waits, doubts and compensations, leases and messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from aetheris_api.statuses import JobStatus, StepKind, StepOutcome, StepStatus
from aetheris_journal.events import Failure, Resolution, Source, WaitKind
from aetheris_journal.path import COMPENSATION

# A step in one of these is not over.
OPEN = frozenset({StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING, StepStatus.IN_DOUBT})


@dataclass(slots=True)
class TracedAttempt:
    number: int
    started_at: datetime
    lease: int
    elapsed: timedelta | None = None  # None while it runs, and for ever if its runner was lost
    failure: Failure | None = None
    retry_at: datetime | None = None


@dataclass(slots=True)
class TracedWait:
    kind: WaitKind
    name: str
    since: datetime
    deadline: datetime | None
    detail: bytes
    ended_at: datetime | None = None
    timed_out: bool = False
    payload: bytes = b""
    source_id: str = ""
    actor: str = ""


@dataclass(slots=True)
class TracedDoubt:
    reason: str
    since: datetime
    resolved_at: datetime | None = None
    resolution: Resolution | None = None
    source: Source | None = None
    actor: str = ""
    note: str = ""


@dataclass(slots=True)
class TracedCompensation:
    since: datetime
    ended_at: datetime | None = None
    result: bytes = b""


@dataclass(slots=True)
class TracedStep:
    path: str
    name: str
    kind: StepKind
    started_at: datetime
    status: StepStatus = StepStatus.RUNNING
    outcome: StepOutcome = StepOutcome.NONE
    ended_at: datetime | None = None
    elapsed: timedelta | None = None
    arguments: bytes = b""
    result: bytes = b""
    failure: Failure | None = None
    key: str = ""
    child_job_id: str = ""
    recorded_job_id: str = ""
    tries: list[TracedAttempt] = field(default_factory=list)
    waits: list[TracedWait] = field(default_factory=list)
    doubts: list[TracedDoubt] = field(default_factory=list)
    compensation: TracedCompensation | None = None

    @property
    def attempts(self) -> int:
        return max((attempt.number for attempt in self.tries), default=1)

    @property
    def undoes(self) -> str:
        """The path of the effect that this step compensates, or nothing. Such a step is in no block."""
        return self.path.removeprefix(COMPENSATION) if self.path.startswith(COMPENSATION) else ""

    @property
    def depth(self) -> int:
        """In how many parallel blocks it is."""
        return 0 if self.undoes else (len(self.path.split(".")) - 1) // 2

    @property
    def block(self) -> str:
        """The path of the parallel block that holds it, or nothing."""
        return "" if self.undoes else ".".join(self.path.split(".")[:-2])

    @property
    def branch(self) -> str:
        """Its branch of that block, or nothing."""
        parts = self.path.split(".")
        return parts[-2] if len(parts) > 2 and not self.undoes else ""


@dataclass(slots=True)
class TracedLease:
    number: int
    runner_id: str
    since: datetime
    code_version: str
    until: datetime | None = None  # when the next one began or the chain ended


@dataclass(slots=True)
class TracedMessage:
    channel: str
    message_id: str
    payload: bytes
    actor: str
    received_at: datetime


@dataclass(slots=True)
class JobTrace:
    """A job's record. `steps` are in the order of the program, not of the clock."""

    agent: str = ""
    tenant: str = ""
    queue: str = ""
    input: bytes = b""
    parent_job_id: str = ""
    idempotency_key: str = ""
    created_at: datetime | None = None
    ended_at: datetime | None = None
    ending: JobStatus | None = None
    result: bytes = b""
    failure: Failure | None = None
    actor: str = ""  # who cancelled it
    steps: list[TracedStep] = field(default_factory=list)
    leases: list[TracedLease] = field(default_factory=list)
    messages: list[TracedMessage] = field(default_factory=list)
    events: int = 0

    @property
    def holders(self) -> list[str]:
        """The runners that held the job, in turn. A runner that parked it and got it again counts once."""
        return [runner_id for runner_id, _ in groupby(lease.runner_id for lease in self.leases)]


_NUMBER = re.compile(r"[0-9]{1,9}")


def in_order(steps: Iterable[TracedStep]) -> list[TracedStep]:
    """In the order of the program; compensations follow at the end, in the order in which they ran."""
    each = list(steps)
    program = sorted((step for step in each if not step.undoes), key=lambda step: program_order(step.path))
    return program + sorted((step for step in each if step.undoes), key=lambda step: step.started_at)


def program_order(path: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key for paths: "2" comes before "10", and a branch's steps follow their block together."""
    return tuple((0, int(part), "") if _NUMBER.fullmatch(part) else (1, 0, part) for part in path.split("."))
