"""The connections of runners: one runner's `Work` stream as this scheduler sees it, and all that end at this process.

A connection keeps what its runner holds and what it was sent. It ends with its stream; the session, which lives in the
database, may go on in another stream, here or at another scheduler.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, NotFound, Refusal

from aetheris_scheduler import metrics
from aetheris_scheduler.core.claim import JobHandover, Slot
from aetheris_scheduler.core.job import Job
from aetheris_scheduler.core.lifecycle import Notice
from aetheris_scheduler.core.session import Session
from aetheris_scheduler.runners.outbox import Outbox
from aetheris_scheduler.store.contract import News
from aetheris_scheduler.store.tick import Lost, OrderAnswer


class RunnerConnection:
    def __init__(self, session: Session, *, grace_s: float) -> None:
        self.session = session
        self.outbox = Outbox()
        # How long the session keeps its lease once the stream is gone.
        self.grace_s = grace_s
        self.refusal: Refusal | None = None
        self.ended = asyncio.Event()
        # Since when a frame has been on its way out, by the monotonic clock. A runner that does not read its stream
        # does not learn that its lease was renewed, so its lease is not renewed then.
        self.writing_since: float | None = None
        # Outcomes that the runner has sent and no tick has settled yet, job → lease.
        self.unsettled: dict[UUID, int] = {}
        self._settled = asyncio.Event()
        self._settled.set()
        self._notified: dict[UUID, set[Notice]] = {}

    def well(self, now: float, lease_s: float) -> bool:
        """Whether the runner beat within the lease, and reads what it is sent."""
        return self.hears(now, lease_s) and not self.session.stale(now, lease_s)

    def hears(self, now: float, within_s: float) -> bool:
        return self.writing_since is None or now - self.writing_since <= within_s

    def assign(self, job: Job) -> None:
        self.session.take(job.id, job.lease, job.tenant)
        self.outbox.assign(job)

    def says(self, job: UUID, lease: int, *, goes_on: bool) -> None:
        """An outcome came in. Unless the job goes on, the runner has room for another job at once."""
        if goes_on:
            self.session.goes_on(job)
        else:
            self.session.let_go(job, lease)
            self._notified.pop(job, None)
            self.unsettled[job] = lease
            self._settled.clear()

    def settle(self, job: UUID, lease: int, effective: bool) -> None:
        self.outbox.settle(job, lease, effective)
        if self.unsettled.get(job) == lease:
            del self.unsettled[job]
        if not self.unsettled:
            self._settled.set()

    def notify(self, job: UUID, lease: int, notice: Notice, *, again: bool = True) -> None:
        """Send a notice about a job that the runner holds. Without `again`, each notice once under one lease."""
        if self.session.held.get(job) != lease:
            return
        notified = self._notified.setdefault(job, set())
        if again or notice not in notified:
            notified.add(notice)
            self.outbox.notify(job, lease, notice)

    def lose(self, job: UUID, lease: int) -> None:
        self.notify(job, lease, Notice.LOST)
        self.session.let_go(job, lease)
        self._notified.pop(job, None)

    def hand_back_all(self) -> None:
        """Ask the runner to hand back what it holds, each job at its next command."""
        for job, lease in list(self.session.held.items()):
            self.notify(job, lease, Notice.PAUSE, again=False)

    def drain(self) -> None:
        if not self.session.draining:
            self.session.draining = True
            self.outbox.drain()

    async def all_settled(self) -> None:
        """Until every outcome of the runner is settled."""
        await self._settled.wait()

    def end(self, refusal: Refusal | None, *, grace_s: float | None = None) -> None:
        """Close the stream once its outbox is sent. The first reason to end stands."""
        if self.ended.is_set():
            return
        self.refusal = refusal
        if grace_s is not None:
            self.grace_s = grace_s
        self.ended.set()
        self.outbox.close()

    def expire(self, refusal: Refusal) -> None:
        """The session is over: the runner loses all jobs that it holds."""
        for job, lease in list(self.session.held.items()):
            self.lose(job, lease)
        self.end(refusal, grace_s=0.0)


class RunnerConnections:
    """The connections that end at this process, at most one of a session."""

    def __init__(self, clock: Clock, *, lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._connections: dict[UUID, RunnerConnection] = {}

    def __iter__(self) -> Iterator[RunnerConnection]:
        return iter(list(self._connections.values()))

    def __len__(self) -> int:
        return len(self._connections)

    def of(self, session: UUID) -> RunnerConnection | None:
        return self._connections.get(session)

    def add(self, connection: RunnerConnection) -> None:
        """From now on this connection's stream speaks for the session; an earlier one is ended."""
        session = connection.session.id
        before = self._connections.get(session)
        self._connections[session] = connection
        metrics.SESSIONS.set(len(self._connections))
        if before is not None:
            before.end(Conflict("the session goes on in another stream", session_id=session))

    def remove(self, connection: RunnerConnection) -> bool:
        """False where the session already goes on in another stream."""
        if self._connections.get(connection.session.id) is not connection:
            return False
        del self._connections[connection.session.id]
        metrics.SESSIONS.set(len(self._connections))
        return True

    def hold(self, job: UUID) -> bool:
        """Whether one of these runners holds the job, as far as this process knows."""
        return any(job in connection.session.held for connection in self._connections.values())

    @property
    def open(self) -> Sequence[RunnerConnection]:
        return [connection for connection in self._connections.values() if not connection.ended.is_set()]

    def well(self) -> Sequence[RunnerConnection]:
        """Those whose runner is well, by this process's own clock."""
        now = self._clock.monotonic()
        return [connection for connection in self.open if connection.well(now, self._lease_s)]

    def sessions(self, *, without: Collection[UUID] = ()) -> Sequence[Session]:
        """The sessions that may be given jobs."""
        return [connection.session for connection in self.open if connection.session.id not in without]

    def held_by_tenant(self) -> Mapping[str, int]:
        """How many jobs of each tenant the runners of this process hold. Empty for a single tenant, which needs no
        turn."""
        held = Counter(tenant for each in self._connections.values() for tenant in each.session.tenants.values())
        return held if len(held) > 1 else {}

    def assign(self, job: Job, stream: UUID) -> None:
        """The job is leased to this stream. A session that meanwhile came back in another stream does not get it here:
        when it came back, the store revoked all jobs that it did not know of."""
        connection = None if job.session is None else self._connections.get(job.session)
        if connection is not None and connection.session.stream == stream:
            connection.assign(job)

    def notify(self, job: UUID, steered: OrderAnswer) -> None:
        connection = None if steered.session is None else self._connections.get(steered.session)
        if connection is not None and steered.notice is not None:
            connection.notify(job, steered.lease, steered.notice)

    def news(self, news: Iterable[News]) -> None:
        """Orders that another scheduler may have taken: each notice is sent once under one lease."""
        for one in news:
            connection = self._connections.get(one.session)
            if connection is not None:
                for kind in sorted(one.kinds):
                    connection.notify(one.job, one.lease, kind, again=False)

    def expire(self, sessions: Iterable[UUID]) -> None:
        for session in sessions:
            connection = self._connections.get(session)
            if connection is not None:
                connection.expire(Conflict("this session has expired; start a new one", session_id=session))

    def lose(self, lost: Iterable[Lost]) -> None:
        for one in lost:
            connection = self._connections.get(one.session)
            if connection is not None:
                connection.lose(one.job, one.lease)

    def name_successor(self, session: UUID, successor: UUID) -> int:
        """From now on the jobs that `session` hands back are leased to `successor`. Returns how many jobs it holds."""
        leaving, taking = self._connections.get(session), self._connections.get(successor)
        for each, found in ((session, leaving), (successor, taking)):
            if found is None or found.ended.is_set():
                raise NotFound("no such session here", session_id=each)
        assert leaving is not None
        assert taking is not None
        if session == successor or taking.session.draining:
            raise Conflict("the successor is leaving itself", session_id=successor)
        leaving.session.successor = successor
        return len(leaving.session.held)

    def handovers(self, released: Mapping[UUID, Sequence[UUID]]) -> list[JobHandover]:
        """Of the jobs that these sessions hand back, those that go to a successor. A successor may take more jobs than
        its capacity here, because its predecessor's jobs end as its own begin."""
        found = []
        for session, jobs in released.items():
            leaving = self._connections.get(session)
            named = None if leaving is None else leaving.session.successor
            taking = None if named is None else self._connections.get(named)
            if taking is not None and not taking.ended.is_set() and not taking.session.draining:
                to = taking.session
                slot = Slot(to.id, to.stream, to.runner_id, to.versions)
                found.append(JobHandover(to.skills, slot, jobs))
        return found

    def drain(self, session: UUID) -> None:
        connection = self._connections.get(session)
        if connection is not None:
            connection.drain()

    def end(self, refusal: Refusal) -> None:
        for connection in self._connections.values():
            connection.end(refusal)

    def reconcile(self, connection: RunnerConnection, leased: Sequence[Job]) -> None:
        """Make a connection agree with the store after a tick whose result is not known: assign the jobs that the store
        leased to the session and the runner was never sent, and take from the runner those that are not its own."""
        if self._connections.get(connection.session.id) is not connection:
            return
        known = {**connection.unsettled, **connection.session.held}
        for job in leased:
            if known.get(job.id) != job.lease:
                connection.assign(job)
        stored = {job.id: job.lease for job in leased}
        for job_id, lease in list(connection.session.held.items()):
            if stored.get(job_id) != lease:
                connection.lose(job_id, lease)
