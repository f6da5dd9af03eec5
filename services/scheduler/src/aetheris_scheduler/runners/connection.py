"""A runner's place at the scheduler, for as long as one stream of it lasts."""

from __future__ import annotations

import asyncio
from uuid import UUID

from aetheris_kernel.errors import Refusal

from aetheris_scheduler.core.job import Job
from aetheris_scheduler.core.lifecycle import Notice
from aetheris_scheduler.core.session import Session
from aetheris_scheduler.runners.outbox import Outbox


class Seat:
    def __init__(self, session: Session, *, grace_s: float) -> None:
        self.session = session
        self.outbox = Outbox()
        # What is kept of its lease once the stream is gone.
        self.grace_s = grace_s
        self.refusal: Refusal | None = None
        self.ended = asyncio.Event()
        # Since when a frame has been on its way out, by the monotonic clock; a runner that does not read
        # what it is told does not know that its lease was renewed, so then it is not.
        self.writing_since: float | None = None
        # Outcomes under way, job → lease: let go by the runner, not settled yet.
        self.unsettled: dict[UUID, int] = {}
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._told: dict[UUID, set[Notice]] = {}

    def well(self, now: float, lease_s: float) -> bool:
        """It gave a sign of life within the lease, and hears what it is told."""
        return self.hears(now, lease_s) and not self.session.stale(now, lease_s)

    def hears(self, now: float, within_s: float) -> bool:
        return self.writing_since is None or now - self.writing_since <= within_s

    def assign(self, job: Job) -> None:
        self.session.take(job.id, job.lease)
        self.outbox.assign(job)

    def says(self, job: UUID, lease: int, *, goes_on: bool) -> None:
        """An outcome came in. Unless the job goes on, its place is free at once."""
        if not goes_on:
            self.session.let_go(job, lease)
            self._told.pop(job, None)
            self.unsettled[job] = lease
            self._quiet.clear()

    def settle(self, job: UUID, lease: int, effective: bool) -> None:
        self.outbox.settle(job, lease, effective)
        if self.unsettled.get(job) == lease:
            del self.unsettled[job]
        if not self.unsettled:
            self._quiet.set()

    def notify(self, job: UUID, lease: int, notice: Notice, *, again: bool = True) -> None:
        """News about a job it holds. Without `again`, only what it has not been told under this lease."""
        if self.session.held.get(job) != lease:
            return
        told = self._told.setdefault(job, set())
        if again or notice not in told:
            told.add(notice)
            self.outbox.notify(job, lease, notice)

    def lose(self, job: UUID, lease: int) -> None:
        self.notify(job, lease, Notice.LOST)
        self.session.let_go(job, lease)
        self._told.pop(job, None)

    def drain(self) -> None:
        if not self.session.draining:
            self.session.draining = True
            self.outbox.drain()

    async def quiet(self) -> None:
        """Everything it said is settled."""
        await self._quiet.wait()

    def end(self, refusal: Refusal | None, *, grace_s: float | None = None) -> None:
        """Say goodbye once everything that is to be said is said. The first reason stands."""
        if self.ended.is_set():
            return
        self.refusal = refusal
        if grace_s is not None:
            self.grace_s = grace_s
        self.ended.set()
        self.outbox.close()

    def expire(self, refusal: Refusal) -> None:
        """Nothing it holds is its own any more."""
        for job, lease in list(self.session.held.items()):
            self.lose(job, lease)
        self.end(refusal, grace_s=0.0)
