"""The values of one tick: what a scheduler asks a store to change in one transaction, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from aetheris_kernel.errors import Refusal

from aetheris_scheduler.core.claim import Bequest, Claim, Slot
from aetheris_scheduler.core.job import Job, State
from aetheris_scheduler.core.lifecycle import Cancel, End, Notice, Pause, Progress, Requeue, Resume, Said, Steer, Wake
from aetheris_scheduler.core.session import Skills
from aetheris_scheduler.core.submission import Submission

# Within a tick, whatever the order they came in.
ORDER_OF_STEERS: tuple[type[Steer], ...] = (Requeue, Resume, Pause, Cancel, Wake)
SWEEP_JOBS_MAX = 1_000
SWEEP_SESSIONS_MAX = 16
CRASH_LIMIT = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a holder says about a job."""

    session: UUID
    job: UUID
    lease: int
    said: Said


@dataclass(frozen=True, slots=True)
class Placement:
    """A new job, and the place it goes to if there is one."""

    submission: Submission
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants of a job."""

    job: UUID
    steer: Steer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What time has brought. `keep` are sessions that are known to be well, whatever the clock says."""

    timers: bool = False
    deadlines: bool = False
    sessions: bool = False
    keep: Collection[UUID] = ()
    crash_limit: int = CRASH_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """All of it takes place, in this order, or nothing does."""

    outcomes: Sequence[Outcome] = ()
    # Of the jobs that the outcomes have made ready.
    bequests: Sequence[Bequest] = ()
    sweep: Sweep | None = None
    placements: Sequence[Placement] = ()
    orders: Sequence[Order] = ()
    claims: Sequence[Claim] = ()
    # How many ready jobs a queue may hold before submissions are refused; 0 for any number.
    queue_ready_max: int = 0

    @property
    def may_ready(self) -> bool:
        """Whether anything can become ready by it. Nothing does by progress, or by a new job that has its place;
        by an ending only a parent that waits, and the next tick is soon enough for it."""
        return bool(
            self.sweep is not None
            or self.orders
            or any(placement.slot is None for placement in self.placements)
            or any(not isinstance(outcome.said, (End, Progress)) for outcome in self.outcomes)
        )


@dataclass(frozen=True, slots=True)
class Submitted:
    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class Steered:
    """Where a job stands after an order, or why the order was refused; and the news for its holder."""

    state: State
    refused: Refusal | None = None
    tell: Notice | None = None
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
    """The answers, each in its place."""

    settled: list[bool] = field(default_factory=list)  # whether the outcome took effect, now or before
    submitted: list[Submitted | Refusal] = field(default_factory=list)
    steered: list[Steered] = field(default_factory=list)
    leased: list[Leased] = field(default_factory=list)
    claimed: list[int | None] = field(default_factory=list)  # jobs per claim; None where it was not made
    expired: list[UUID] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    overdue: list[Steered] = field(default_factory=list)  # cancelled for their deadline
    overdue_jobs: list[UUID] = field(default_factory=list)
    # Parents of which a child has ended.
    parents: list[UUID] = field(default_factory=list)
    woken: list[Steered] = field(default_factory=list)
    # Jobs that became ready and were not leased at once; before the claims.
    readied: int = 0
    # A sweep that reached its bound has left something for the next.
    more: bool = False


def claim_for(
    session: UUID, stream: UUID, *, jobs: int = 1, skills: Skills | None = None, runner_id: str = ""
) -> Claim:
    """A claim for one session, made whatever else the tick brings."""
    return Claim(skills or Skills(), [Slot(session, stream, runner_id)] * jobs, always=True)
