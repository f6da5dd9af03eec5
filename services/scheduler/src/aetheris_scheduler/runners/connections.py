"""All the runners whose streams end at this process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, NotFound, Refusal, Unavailable

from aetheris_scheduler import metrics
from aetheris_scheduler.core.claim import Bequest, Slot
from aetheris_scheduler.core.job import Job
from aetheris_scheduler.core.session import Session
from aetheris_scheduler.runners.connection import Seat
from aetheris_scheduler.store.contract import News
from aetheris_scheduler.store.tick import Lost, Steered


class Draining(Unavailable):
    """Another replica takes it."""

    reason = "DRAINING"


class Seats:
    def __init__(self, clock: Clock, *, lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._seats: dict[UUID, Seat] = {}

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._seats.values()))

    def __len__(self) -> int:
        return len(self._seats)

    def at(self, session: UUID) -> Seat | None:
        return self._seats.get(session)

    def take(self, seat: Seat) -> None:
        """Its stream speaks for the session from now on; an earlier one is told."""
        session = seat.session.id
        before = self._seats.get(session)
        self._seats[session] = seat
        metrics.SESSIONS.set(len(self._seats))
        if before is not None:
            before.end(Conflict("the session goes on in another stream", session_id=session))

    def give_up(self, seat: Seat) -> bool:
        """False where another stream has taken over."""
        if self._seats.get(seat.session.id) is not seat:
            return False
        del self._seats[seat.session.id]
        metrics.SESSIONS.set(len(self._seats))
        return True

    def hold(self, job: UUID) -> bool:
        """Is it in the hands of one of these runners, as far as is known here?"""
        return any(job in seat.session.held for seat in self._seats.values())

    @property
    def open(self) -> Sequence[Seat]:
        return [seat for seat in self._seats.values() if not seat.ended.is_set()]

    def well(self) -> Sequence[Seat]:
        """Those whose runner is well, by this process's own clock."""
        now = self._clock.monotonic()
        return [seat for seat in self.open if seat.well(now, self._lease_s)]

    def sessions(self, *, without: Collection[UUID] = ()) -> Sequence[Session]:
        """Those that may be given jobs."""
        return [seat.session for seat in self.open if seat.session.id not in without]

    def assign(self, job: Job, stream: UUID) -> None:
        """Leased to this stream. A session that has come back in another one since was asked what it holds, and
        has given back what it did not know of."""
        seat = None if job.session is None else self._seats.get(job.session)
        if seat is not None and seat.session.stream == stream:
            seat.assign(job)

    def tell(self, job: UUID, steered: Steered) -> None:
        seat = None if steered.session is None else self._seats.get(steered.session)
        if seat is not None and steered.tell is not None:
            seat.notify(job, steered.lease, steered.tell)

    def news(self, news: Iterable[News]) -> None:
        """What another scheduler may have been asked: said once per lease."""
        for one in news:
            seat = self._seats.get(one.session)
            if seat is not None:
                for kind in sorted(one.kinds):
                    seat.notify(one.job, one.lease, kind, again=False)

    def expire(self, sessions: Iterable[UUID]) -> None:
        for session in sessions:
            seat = self._seats.get(session)
            if seat is not None:
                seat.expire(Conflict("this session has expired; start a new one", session_id=session))

    def lose(self, lost: Iterable[Lost]) -> None:
        for one in lost:
            seat = self._seats.get(one.session)
            if seat is not None:
                seat.lose(one.job, one.lease)

    def bequeath(self, session: UUID, heir: UUID) -> int:
        """What `session` hands back from now on is the heir's. How many jobs it holds."""
        seat, successor = self._seats.get(session), self._seats.get(heir)
        for each, found in ((session, seat), (heir, successor)):
            if found is None or found.ended.is_set():
                raise NotFound("no such session here", session_id=each)
        assert seat is not None
        assert successor is not None
        if session == heir or successor.session.draining:
            raise Conflict("the successor is leaving itself", session_id=heir)
        seat.session.heir = heir
        return len(seat.session.held)

    def bequests(self, released: Mapping[UUID, Sequence[UUID]]) -> list[Bequest]:
        """Of what these sessions hand back, what their heirs get. An heir has room for it: it is what was held."""
        found = []
        for session, jobs in released.items():
            seat = self._seats.get(session)
            heir = None if seat is None or seat.session.heir is None else self._seats.get(seat.session.heir)
            if heir is not None and not heir.ended.is_set() and not heir.session.draining:
                slot = Slot(heir.session.id, heir.session.stream, heir.session.runner_id)
                found.append(Bequest(heir.session.skills, slot, jobs))
        return found

    def drain(self, session: UUID) -> None:
        seat = self._seats.get(session)
        if seat is not None:
            seat.drain()

    def end(self, refusal: Refusal) -> None:
        for seat in self._seats.values():
            seat.end(refusal)

    def reconcile(self, seat: Seat, leased: Sequence[Job]) -> None:
        """What the store says this session holds, where it is not known what became of the last tick: what it
        was never told of is handed over, and what is not its own any more it loses."""
        if self._seats.get(seat.session.id) is not seat:
            return
        known = {**seat.unsettled, **seat.session.held}
        for job in leased:
            if known.get(job.id) != job.lease:
                seat.assign(job)
        theirs = {job.id: job.lease for job in leased}
        for job_id, lease in list(seat.session.held.items()):
            if theirs.get(job_id) != lease:
                seat.lose(job_id, lease)
