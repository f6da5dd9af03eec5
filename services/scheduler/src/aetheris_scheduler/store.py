"""What the scheduler asks of a store. `postgres.PostgresStore` is the one that lasts, `memory.MemoryStore` the
one that tests and simulations are quick with; one contract suite holds for both.

Everything that changes jobs goes through `tick`: a plain value in, a plain value out, one transaction. So
a simulation drives a store without any server, stream or loop:

    await store.open(Hello(session=s, stream=t, agents=("greeter",)), lease_s=5)
    ticked = await store.tick(Tick(placements=[Placement(checked(submission))], claims=[claim_for(s, t)]))
    job = ticked.leased[0].job
    await store.tick(Tick(outcomes=[Outcome(s, job.id, job.lease, Park("signal: go"))]))
    await store.tick(Tick(orders=[Order(job.id, Wake())]))
    await store.tick(Tick(sweep=Sweep(timers=True, sessions=True)))

A store's clock is the one that leases and timers go by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from aetheris_kernel.errors import Refusal

from aetheris_scheduler.core.claim import Bequest, Claim, Slot
from aetheris_scheduler.core.job import Job, State
from aetheris_scheduler.core.lifecycle import Cancel, End, Notice, Pause, Progress, Requeue, Resume, Said, Steer, Wake
from aetheris_scheduler.core.session import Hello, Skills
from aetheris_scheduler.core.stuck import Diagnosis
from aetheris_scheduler.core.submission import Submission

# Within a tick, whatever the order they came in.
ORDER_OF_STEERS: tuple[type[Steer], ...] = (Requeue, Resume, Pause, Cancel, Wake)
SWEEP_JOBS_MAX = 1_000
SWEEP_SESSIONS_MAX = 16
CRASH_LIMIT = 8
ENDS_MAX = 1_000


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


@dataclass(frozen=True, slots=True)
class News:
    job: UUID
    lease: int
    session: UUID
    kinds: frozenset[Notice]


@dataclass(frozen=True, slots=True)
class Look:
    """What is to do, at a glance: moments by the store's clock."""

    now: datetime
    lanes: Sequence[tuple[str, str]]  # (agent, queue) of which something is ready
    wake_at: datetime | None
    deadline: datetime | None
    lease_deadline: datetime | None
    news: Sequence[News]


@dataclass(frozen=True, slots=True)
class Opened:
    """`revoked` is whether something became ready: leased to the session, and never received by it."""

    kept: Mapping[UUID, int]
    draining: bool
    revoked: bool


@dataclass(frozen=True, slots=True)
class Runner:
    session: UUID
    runner_id: str
    agents: Sequence[str]
    capacity: int
    held: int
    lease_deadline: datetime
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of a tenant's jobs, newest first. Empty and None mean any."""

    tenant: str
    states: Sequence[State] = ()
    agent: str = ""
    queue: str = ""
    parent: UUID | None = None
    before: UUID | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Ends:
    """Which children of a job have ended: of those named, and of all, behind a number."""

    parent: UUID
    after: int | None  # None for none but the named
    named: Sequence[UUID] = ()
    limit: int = ENDS_MAX


@dataclass(frozen=True, slots=True)
class Ended:
    """Whatever is neither here nor numbered up to `next` had not ended when this was read."""

    jobs: Collection[UUID]
    next: int
    more: bool = False


class Store(Protocol):
    async def tick(self, tick: Tick) -> Ticked:
        """Raises Unavailable where it is not known whether it took place; sending it again is safe."""

    async def open(self, hello: Hello, *, lease_s: float) -> Opened:
        """Conflict for a session that has expired."""

    async def renew(self, sessions: Sequence[tuple[UUID, UUID]], *, lease_s: float) -> Mapping[UUID, bool]:
        """Session → whether it is to drain. Of those (session, stream) that still speak."""

    async def leave(self, session: UUID, stream: UUID, *, grace_s: float) -> bool:
        """The stream is gone. True where nothing was held, and with it the session; otherwise it lives on for
        the grace, at the most."""

    async def drain(self, session: UUID) -> None:
        """NotFound for a session that is not there."""

    async def leased_to(self, sessions: Sequence[UUID]) -> Sequence[Job]: ...

    async def look(self, sessions: Sequence[UUID], *, keep: Sequence[UUID]) -> Look:
        """With the news for `sessions`, and the next lease to expire beside those of `keep`."""

    async def get(self, jobs: Sequence[UUID]) -> Mapping[UUID, Job]: ...

    async def ended(self, jobs: Sequence[UUID]) -> Collection[UUID]:
        """Which of these have ended."""

    async def ends(self, asked: Ends) -> Ended: ...

    async def list_jobs(self, listing: Listing) -> Sequence[Job]:
        """Without input and result."""

    async def stuck(
        self, tenant: str, after: tuple[datetime, UUID] | None, limit: int, *, patience: timedelta
    ) -> Sequence[Diagnosis]: ...

    async def runners(self, after: tuple[str, UUID] | None, limit: int) -> Sequence[Runner]: ...

    async def count_ready(self, limit: int) -> int:
        """No further than the limit."""


def claim_for(
    session: UUID, stream: UUID, *, jobs: int = 1, skills: Skills | None = None, runner_id: str = ""
) -> Claim:
    """A claim for one session, made whatever else the tick brings."""
    return Claim(skills or Skills(), [Slot(session, stream, runner_id)] * jobs, always=True)
