"""A job, as the scheduler knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID


class JobState(IntEnum):
    """A job's state. The numbers are stored and sent, so they never change."""

    READY = 1
    LEASED = 2
    PARKED = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6

    @property
    def ended(self) -> bool:
        return self >= JobState.COMPLETED


# A job with a priority of one more is placed as if it had come this much earlier. So a job is overtaken by jobs that
# came up to the difference of their priorities, times this, after it, and by no later ones.
PRIORITY_STEP = timedelta(seconds=10)
# After so many crashes in a row a job runs alone, which shows whether it is the cause.
ALONE_AFTER = 2

OPEN = (JobState.READY, JobState.LEASED, JobState.PARKED)
ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed or was cancelled, as a value."""

    type: str
    message: str
    retryable: bool = False
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Fork:
    """The job and the commit at which this job forks off: it begins with that job's history up to there."""

    from_job: UUID
    at_seq: int
    effects: str = ""
    before_path: str = ""
    # It goes on in the place of the source, which has failed.
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: UUID
    tenant: str
    agent: str
    queue: str
    # The version of the agent's code that held it last; empty where none has, or where the runner did not say.
    version: str = ""
    # Only a runner of `version` may hold it: an earlier holder said so.
    pinned: bool = False
    priority: int = 0
    state: JobState
    # When it came into this state: of a ready job its place in the order, of a leased one the beginning of the lease.
    since: datetime
    created_at: datetime
    started_at: datetime | None = None
    # Grows with every lease, and once more when a lease is lost, so that outcomes sent under a lost lease do not count.
    lease: int = 0
    session: UUID | None = None
    runner_id: str = ""
    # A wake came while a runner held the job. Parking makes it ready instead, so that a runner looks at what came.
    wake: bool = False
    cancel: bool = False
    cancel_reason: str = ""
    cancel_actor: str = ""
    # It is to be ended without its code and without compensation; `cancel` is set as well.
    terminate: bool = False
    # When it was last asked to end, by a cancel or to be terminated.
    end_asked_at: datetime | None = None
    # A runner without the agent's code was to end it and could not, because its record owes a compensation.
    needs_code: bool = False
    paused: bool = False
    # Parked until an operator requeues or cancels it; nothing else makes it ready.
    operator_only: bool = False
    # The holder has reported progress under this lease.
    progressed: bool = False
    # How far the job is: the holder's last report, and its lease. The report counts only while that lease runs.
    progress_lease: int = 0
    progress_fraction: float | None = None
    progress_note: str = ""
    progress_at: datetime | None = None
    # Leases lost in a row without progress.
    crash_count: int = 0
    park_reason: str = ""
    wake_at: datetime | None = None
    # No runner holds it before this moment, except to end it. Until then it is parked with a timer for this moment.
    start_after: datetime | None = None
    deadline: datetime | None = None
    parent: UUID | None = None
    idempotency_key: str = ""
    # Digest of the submission, by which the same key with another request is noticed.
    digest: bytes = b""
    traceparent: str = ""
    input: bytes = b""
    result: bytes | None = None
    failure: Failure | None = None
    # The requester that submitted the job; of a child, the one that submitted its parent.
    actor: str = ""
    fork: Fork | None = None
    # The fork that goes on in its place.
    retried_as: UUID | None = None

    @property
    def early(self) -> bool:
        """Whether it is parked until `start_after`: no runner has held it, and a timer is set. Only the timer or an
        order to end it makes such a job ready."""
        return self.lease == 0 and self.wake_at is not None

    @property
    def ends_anywhere(self) -> bool:
        """Whether it is to be ended and, as far as is known, any runner can do it."""
        return self.terminate or (self.cancel and not self.needs_code)

    @property
    def place(self) -> datetime:
        """Its place among the ready jobs of its tenant: the earlier is leased first."""
        return self.since - self.priority * PRIORITY_STEP

    @property
    def runs_alone(self) -> bool:
        """Whether it has been present at so many crashes that its runner holds nothing else beside it."""
        return self.crash_count >= ALONE_AFTER

    @property
    def has_progress(self) -> bool:
        """Whether the present holder has reported how far the job is; an earlier holder's report does not count."""
        return self.state is JobState.LEASED and self.progress_at is not None and self.progress_lease == self.lease

    @property
    def reason(self) -> Failure | None:
        """The error of a failed job, or the reason of a cancel, also before the cancel has taken effect."""
        if self.failure is None and self.cancel and self.state is not JobState.COMPLETED:
            return Failure(type="Cancelled", message=self.cancel_reason)
        return self.failure
