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
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from aetheris_scheduler.core.job import Job, State
from aetheris_scheduler.core.lifecycle import Notice
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.core.stuck import Diagnosis
from aetheris_scheduler.store.tick import Tick, Ticked

ENDS_MAX = 1_000


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
