"""A job, as the scheduler knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from uuid import UUID


class State(IntEnum):
    """Where a job stands. The numbers are stored and sent, so they are for ever."""

    READY = 1
    LEASED = 2
    PARKED = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6

    @property
    def ended(self) -> bool:
        return self >= State.COMPLETED


OPEN = (State.READY, State.LEASED, State.PARKED)
ENDED = (State.COMPLETED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a value; of a cancelled job, why."""

    type: str
    message: str
    retryable: bool = False
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Fork:
    """Whose history a job begins with."""

    from_job: UUID
    at_seq: int
    effects: str = ""
    before_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: UUID
    tenant: str
    agent: str
    queue: str
    priority: int = 0
    state: State
    # Since when it is in this state: its place among the ready, the beginning of its lease, its end.
    since: datetime
    created_at: datetime
    started_at: datetime | None = None
    # Grows with every lease, and once more when one is lost: what was said under it then counts no more.
    lease: int = 0
    session: UUID | None = None
    runner_id: str = ""
    # Something came while a runner held it; it must not park without having looked.
    wake: bool = False
    cancel: bool = False
    cancel_reason: str = ""
    cancel_actor: str = ""
    paused: bool = False
    # Parked until an operator says otherwise; nothing else wakes it.
    operator_only: bool = False
    # This lease has made progress.
    progressed: bool = False
    # How far it is, as its holder said last, and under which lease. It counts while that lease runs.
    progress_lease: int = 0
    progress_fraction: float | None = None
    progress_note: str = ""
    progress_at: datetime | None = None
    # Leases lost in a row without progress.
    crash_count: int = 0
    park_reason: str = ""
    wake_at: datetime | None = None
    deadline: datetime | None = None
    parent: UUID | None = None
    idempotency_key: str = ""
    # Of the request that made it, so that the same key with another request is noticed.
    digest: bytes = b""
    traceparent: str = ""
    input: bytes = b""
    result: bytes | None = None
    failure: Failure | None = None
    # Who submitted it; of a child, who submitted its parent.
    actor: str = ""
    fork: Fork | None = None

    @property
    def tells_progress(self) -> bool:
        """Whether its holder says how far it is; what another said before it counts no more."""
        return self.state is State.LEASED and self.progress_at is not None and self.progress_lease == self.lease

    @property
    def reason(self) -> Failure | None:
        """The error of a failed job; why, of one that is cancelled or is going to be."""
        if self.failure is None and self.cancel and self.state is not State.COMPLETED:
            return Failure(type="Cancelled", message=self.cancel_reason)
        return self.failure
