"""What the scheduler asks of a store. `postgres.PostgresStore` keeps jobs; `memory.MemoryStore` is for tests and
simulations. One suite of tests holds both to this contract.

All changes of jobs go through `tick`: a plain value in, a plain value out, one transaction. So a simulation drives a
store without any server, stream or loop:

    await store.open(Hello(session=s, stream=t, agents=("greeter",)), lease_s=5)
    ticked = await store.tick(Tick(placements=[Placement(checked(submission))], claims=[claim_for(s, t)]))
    job = ticked.leased[0].job
    await store.tick(Tick(outcomes=[JobOutcome(s, job.id, job.lease, Park("signal: go"))]))
    await store.tick(Tick(orders=[JobOrder(job.id, Wake())]))
    await store.tick(Tick(sweep=Sweep(timers=True, sessions=True)))

Leases and timers go by the store's clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from aetheris_scheduler.core.job import Job
from aetheris_scheduler.core.lifecycle import Notice
from aetheris_scheduler.core.page import JobListing
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.core.stuck import Diagnosis
from aetheris_scheduler.store.tick import Tick, Ticked

ENDS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class News:
    """Notices that the holder of a job should have received. Another scheduler may have taken the orders."""

    job: UUID
    lease: int
    session: UUID
    kinds: frozenset[Notice]


@dataclass(frozen=True, slots=True)
class Look:
    """What is due and what waits, read in one statement. Moments are by the store's clock."""

    now: datetime
    lanes: Sequence[tuple[str, str]]  # the (agent, queue) pairs with ready jobs
    wake_at: datetime | None
    deadline: datetime | None
    lease_deadline: datetime | None
    # Whether ready jobs wait for a runner to end them without their code.
    ending: bool
    # When a job was asked to be terminated that its holder has not ended yet, the earliest.
    terminate_at: datetime | None
    # The agents and queues of ready jobs that are to run alone, the first few.
    alone: Sequence[tuple[str, str]]
    # Whether a job that waits for a version could be served now, or one that is ready for it no longer can.
    versions: bool
    news: Sequence[News]


@dataclass(frozen=True, slots=True)
class Opened:
    """`kept` are the jobs that the session keeps, with their leases. `revoked` says whether jobs became ready because
    they were leased to the session and never reached it."""

    kept: Mapping[UUID, int]
    draining: bool
    revoked: bool


@dataclass(frozen=True, slots=True)
class ConnectedRunner:
    session: UUID
    runner_id: str
    agents: Sequence[str]
    capacity: int
    held: int
    lease_deadline: datetime
    draining: bool
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeployedVersion:
    """A version of an agent that a connected runner offers or an open job was held by. Empty: no version is known."""

    agent: str
    version: str
    runners: int
    # Counting stops at 10,000.
    open_jobs: int
    wanted_by_jobs: int


@dataclass(frozen=True, slots=True)
class Ends:
    """The question which children of a job have ended: of those in `named`, and of all with a number above `after`."""

    parent: UUID
    after: int | None  # None asks for the named ones only
    named: Sequence[UUID] = ()
    limit: int = ENDS_MAX


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that is neither in `jobs` nor has a number up to `next` had not ended when this was read."""

    jobs: Collection[UUID]
    next: int
    more: bool = False


class Store(Protocol):
    async def tick(self, tick: Tick) -> Ticked:
        """Raises Unavailable where it is not known whether the tick was committed. Sending it again is safe."""

    async def open(self, hello: Hello, *, lease_s: float) -> Opened:
        """Raises Conflict for a session that has expired."""

    async def renew(self, sessions: Sequence[tuple[UUID, UUID]], *, lease_s: float) -> Mapping[UUID, bool]:
        """Session → whether it is to drain. Missing are sessions that expired or went on in another stream."""

    async def leave(self, session: UUID, stream: UUID, *, grace_s: float) -> bool:
        """The stream is gone. True where the session held no job and so is over; otherwise it lasts for `grace_s` at
        most."""

    async def drain(self, session: UUID) -> None:
        """Raises NotFound for a session that does not exist."""

    async def leased_to(self, sessions: Sequence[UUID]) -> Sequence[Job]: ...

    async def look(self, sessions: Sequence[UUID], *, keep: Sequence[UUID]) -> Look:
        """With the news for `sessions`. The sessions in `keep` do not count for the next lease to expire."""

    async def get(self, jobs: Sequence[UUID]) -> Mapping[UUID, Job]: ...

    async def ended(self, jobs: Sequence[UUID]) -> Collection[UUID]:
        """Which of these have ended."""

    async def ends(self, asked: Ends) -> Ended: ...

    async def list_jobs(self, listing: JobListing) -> Sequence[Job]:
        """Without input and result."""

    async def stuck(
        self, tenant: str, after: tuple[datetime, UUID] | None, limit: int, *, patience: timedelta
    ) -> Sequence[Diagnosis]: ...

    async def runners(self, after: tuple[str, UUID] | None, limit: int) -> Sequence[ConnectedRunner]: ...

    async def deployments(
        self, tenant: str, agent: str, after: tuple[str, str], limit: int
    ) -> Sequence[DeployedVersion]:
        """By agent and version. An empty tenant counts the jobs of all."""

    async def count_ready(self, limit: int) -> int:
        """How many jobs are ready. Counting stops at the limit."""
