"""The values of one tick: what a scheduler asks a store to change in one transaction, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from aetheris_kernel.errors import Refusal

from aetheris_scheduler.core.claim import AloneClaim, Claim, JobHandover, Lane, Slot
from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.lifecycle import (
    Cancel,
    End,
    Notice,
    Order,
    Outcome,
    Pause,
    Progress,
    Requeue,
    Resume,
    Terminate,
    Wake,
)
from aetheris_scheduler.core.session import Skills
from aetheris_scheduler.core.submission import Submission

# Within one tick, orders are carried out kind by kind in this sequence, so that both stores answer alike.
ORDERS_IN_SEQUENCE: tuple[type[Order], ...] = (Requeue, Resume, Pause, Cancel, Terminate, Wake)
SWEEP_JOBS_MAX = 1_000
SWEEP_SESSIONS_MAX = 16
CRASH_LIMIT = 8
# How long the holder of a job has to terminate it, before the lease is taken from it and another runner does it.
TERMINATE_S = 5.0


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What the holder reports about a job."""

    session: UUID
    job: UUID
    lease: int
    what: Outcome


@dataclass(frozen=True, slots=True)
class Suspects:
    """The jobs whose code was running when a session's process died or blocked. The loss of that session is a crash of
    these jobs only."""

    session: UUID
    jobs: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Placement:
    """A new job, and the slot that gets it at once, if there is one."""

    submission: Submission
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a caller wants done with a job: wake, cancel, terminate, pause, resume, requeue."""

    job: UUID
    what: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What has become due. Sessions in `keep` are known to be well and do not expire, even if their lease is over."""

    timers: bool = False
    deadlines: bool = False
    sessions: bool = False
    # Take the leases from holders that have not terminated a job in time.
    terminations: bool = False
    keep: Collection[UUID] = ()
    crash_limit: int = CRASH_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One transaction: all of it takes effect, in this order, or nothing does."""

    suspects: Sequence[Suspects] = ()
    outcomes: Sequence[JobOutcome] = ()
    # Look which jobs that wait for a version can be served, and which can no longer.
    versions: bool = False
    # Of the jobs that these outcomes make ready, those that go to a successor.
    handovers: Sequence[JobHandover] = ()
    sweep: Sweep | None = None
    placements: Sequence[Placement] = ()
    orders: Sequence[JobOrder] = ()
    # For jobs that are to be ended and whose agent no connected runner offers, or that are to be terminated.
    ending: Sequence[Slot] = ()
    alone: AloneClaim | None = None
    claims: Sequence[Claim] = ()
    # How many ready jobs a queue may hold before submissions are refused; 0 for any number.
    queue_ready_max: int = 0

    @property
    def may_ready(self) -> bool:
        """Whether this tick can make a job ready. Progress does not, nor does a new job with a slot. The end of a child
        may make its waiting parent ready, but the next tick is soon enough to lease that."""
        return bool(
            self.sweep is not None
            or self.versions
            or self.orders
            or any(placement.slot is None for placement in self.placements)
            or any(not isinstance(outcome.what, (End, Progress)) for outcome in self.outcomes)
        )


@dataclass(frozen=True, slots=True)
class Submitted:
    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """A job's state after an order, or why the order was refused, and the notice for the job's holder."""

    state: JobState
    refused: Refusal | None = None
    notice: Notice | None = None
    session: UUID | None = None
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Leased:
    job: Job
    # How long it had been ready.
    waited_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """A lease that expired with its session."""

    session: UUID
    job: UUID
    lease: int
    poisoned: bool


@dataclass(slots=True, kw_only=True)
class Ticked:
    """What came of a tick. Answers stand in the order of what they answer."""

    settled: list[bool] = field(default_factory=list)  # whether the outcome took effect, now or before
    submitted: list[Submitted | Refusal] = field(default_factory=list)
    ordered: list[OrderAnswer] = field(default_factory=list)
    leased: list[Leased] = field(default_factory=list)
    ending: int = 0  # jobs that were leased to be ended without their code
    alone: UUID | None = None  # the job that was leased to run alone
    claimed: list[int | None] = field(default_factory=list)  # jobs per claim; None where the claim was not made
    cut_at: list[Lane | None] = field(default_factory=list)  # per claim, its last lane, if there are more behind it
    expired: list[UUID] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    overdue: list[OrderAnswer] = field(default_factory=list)  # cancelled for their deadline
    overdue_jobs: list[UUID] = field(default_factory=list)
    # Parents of which a child has ended.
    parents: list[UUID] = field(default_factory=list)
    woken: list[OrderAnswer] = field(default_factory=list)
    # Jobs that became ready and were not leased at once, before the claims are made.
    readied: int = 0
    # Whether the sweep reached its bound, so that more is due.
    more: bool = False


def claim_for(
    session: UUID, stream: UUID, *, jobs: int = 1, skills: Skills | None = None, runner_id: str = ""
) -> Claim:
    """A claim for one session, which is made even if the tick makes no job ready."""
    return Claim(skills or Skills(), [Slot(session, stream, runner_id)] * jobs, always=True)
