"""The dispatcher: everything that changes jobs passes here, one tick after another.

    submissions, orders ──► BatchWriter ─┐
    outcomes, credits  ──► (a nudge) ────┼─► tick: one transaction ─► after its commit: answers, assignments
    timers, lost leases ─► (a sweep) ────┘                            and acknowledgements leave

While one tick is written the next collects. Nothing is told to anybody before it is durable. A tick whose
fate is unknown is made good by the next: outcomes are said again, and what is leased to a session that does
not know of it is handed over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from typing import TypeAlias
from uuid import UUID

from aetheris_chassis.batch import BatchWriter
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Refusal, Unavailable

from aetheris_scheduler import metrics
from aetheris_scheduler.core.claim import Backlog, Room
from aetheris_scheduler.core.job import Job, State
from aetheris_scheduler.core.lifecycle import End, Park, Progress, Release, Steer
from aetheris_scheduler.core.session import Hello, Session, Skills
from aetheris_scheduler.core.submission import Submission
from aetheris_scheduler.loops.waiters import Waiters
from aetheris_scheduler.runners.connection import Seat
from aetheris_scheduler.runners.connections import Draining, Seats
from aetheris_scheduler.store.contract import Look, Store
from aetheris_scheduler.store.tick import Order, Outcome, Placement, Steered, Submitted, Sweep, Tick, Ticked

# What one tick takes at the most. A batch of submissions is cut up, so that what others want, and what becomes
# of running jobs, does not wait for all of it.
ITEMS_MAX = 512
SUBMISSIONS_MAX = 250
QUEUE_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Submit:
    submissions: Sequence[Submission]


@dataclass(frozen=True, slots=True)
class Nudge:
    """There are outcomes, or somebody has room."""


Item: TypeAlias = Submit | Order | Sweep | Nudge
Answer: TypeAlias = list[Submitted | Refusal] | Steered | Ticked | None


class Dispatcher:
    """`due_in` is told in how many seconds something becomes due, and `due_at` at which moment of the store's clock."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        waiters: Waiters,
        *,
        lease_s: float,
        grace_s: float,
        crash_limit: int,
        queue_ready_max: int = 0,
    ) -> None:
        self.lease_s = lease_s
        self.seats = Seats(clock, lease_s=lease_s)
        self.due_at: Callable[[datetime], None] = lambda moment: None
        self.due_in: Callable[[float], None] = lambda seconds: None
        # Told of every stream that is over, so that its lease is shortened.
        self.left: Callable[[Seat], None] = lambda seat: None
        self._store = store
        self._clock = clock
        self._waiters = waiters
        self._grace_s = grace_s
        self._crash_limit = crash_limit
        self._queue_ready_max = queue_ready_max
        self._writer: BatchWriter[Item, Answer] = BatchWriter(
            self._write, name="scheduler", rows_max=ITEMS_MAX, queue_max=QUEUE_MAX
        )
        self._outcomes: list[Outcome] = []
        self._backlog = Backlog()
        self._nudged = False
        # It is not known, or not yet, what became of the last tick.
        self._unsure = False
        self._draining = False

    async def run(self) -> None:
        await self._writer.run()

    # For callers.

    async def submit(self, submissions: Sequence[Submission]) -> list[Submitted | Refusal]:
        """Each is answered in its place."""
        answers: list[Submitted | Refusal] = []
        for first in range(0, len(submissions), SUBMISSIONS_MAX):
            part = await self._writer.submit(Submit(submissions[first : first + SUBMISSIONS_MAX]))
            assert isinstance(part, list)
            answers += part
        return answers

    async def order(self, job: UUID, steer: Steer) -> State:
        """Where it stands then. Raises what the order is refused with."""
        steered = await self._writer.submit(Order(job, steer))
        assert isinstance(steered, Steered)
        if steered.refused is not None:
            raise steered.refused
        return steered.state

    async def sweep(self, *, timers: bool, deadlines: bool, sessions: bool) -> bool:
        """Whether there is more of it. A session that is known to be well stays, whatever the clock says."""
        well = [seat.session.id for seat in self.seats.well()]
        ticked = await self._writer.submit(
            Sweep(timers=timers, deadlines=deadlines, sessions=sessions, keep=well, crash_limit=self._crash_limit)
        )
        return isinstance(ticked, Ticked) and ticked.more

    # For streams.

    async def open(self, hello: Hello, *, beat: int, saying: Iterable[tuple[UUID, int]]) -> Seat:
        """A runner's stream begins. It holds the jobs of the outcomes that it brings along until they are settled."""
        if self._draining:
            raise Draining("this scheduler is draining")
        heard_at = self._clock.monotonic()
        claimed = replace(hello, held={**hello.held, **dict(saying)})
        opened = await self._store.open(claimed, lease_s=self.lease_s)
        session = Session(
            id=hello.session,
            stream=hello.stream,
            runner_id=hello.runner_id,
            skills=hello.skills,
            capacity=hello.capacity,
            fresh_at=heard_at,
            held=dict(opened.kept),
            beat=beat,
            renewed=beat,
        )
        seat = Seat(session, grace_s=self._grace_s)
        lost = [(job, lease) for job, lease in hello.held.items() if opened.kept.get(job) != lease]
        seat.outbox.welcome(self.lease_s, lost)
        if beat:
            seat.outbox.renew(beat)
        if opened.draining:
            seat.drain()
        self.seats.take(seat)
        self._backlog.forget()
        return seat

    def hear(self, seat: Seat, *, beat: int, more: int, said: Sequence[Outcome]) -> None:
        """A frame of a runner, with `more` credits. Only a beat is a sign of life."""
        if beat:
            seat.session.beats(beat, self._clock.monotonic())
        for outcome in said:
            seat.says(outcome.job, outcome.lease, goes_on=isinstance(outcome.said, Progress))
        self._outcomes += said
        seat.session.grant(more)
        if said or (more and self._backlog.busy([seat.session.skills])):
            self.nudge()

    def close(self, seat: Seat) -> None:
        """Its stream is over. Unless it ended because of us, what it held is kept for the grace only."""
        seat.ended.set()
        if self.seats.give_up(seat) and not self._draining:
            self.left(seat)

    def drain(self) -> None:
        """This process is about to stop: runners go elsewhere, and keep their leases on the way."""
        self._draining = True
        self.seats.end(Draining("this scheduler is draining"))

    # For the loops around.

    def looked(self, look: Look) -> None:
        """What another scheduler may have brought about, or a failed tick left behind."""
        self.seats.news(look.news)
        self._backlog.appeared(look.lanes)
        waiting = look.lanes and any(session.room for session in self.seats.sessions())
        if waiting or self._outcomes or self._unsure:
            self.nudge()

    @property
    def hungry(self) -> bool:
        return any(session.room for session in self.seats.sessions())

    def nudge(self) -> None:
        """Have a tick soon."""
        if self._nudged:
            return
        try:
            self._writer.submit_nowait(Nudge()).add_done_callback(_hear_out)
        except Refusal:
            # So much waits that a tick is near, or this process stops.
            return
        self._nudged = True

    # The tick.

    async def _write(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        self._nudged = False
        if self._unsure:
            await self._recover()
        outcomes, self._outcomes = self._outcomes, []
        tick = self._tick(items, outcomes)
        began = perf_counter()
        self._unsure = True
        try:
            ticked = await self._store.tick(tick) if _asks(tick) else Ticked()
        except Refusal:
            self._outcomes = [*outcomes, *self._outcomes]
            raise
        except Exception:
            # Whatever it is, saying it again would bring it again: those who said it start over.
            for session in {outcome.session for outcome in outcomes}:
                seat = self.seats.at(session)
                if seat is not None:
                    seat.end(Unavailable("what this runner said could not be written"))
            raise
        metrics.TICK_SECONDS.observe(perf_counter() - began)
        self._take_effect(tick, ticked)
        self._unsure = False
        return _answers(items, tick, ticked)

    def _tick(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> Tick:
        submissions = [submission for item in items if isinstance(item, Submit) for submission in item.submissions]
        sessions = self.seats.sessions(without=_returning(outcomes))
        busy = self._backlog.busy({session.skills for session in sessions})
        room = Room(sessions)
        tick = Tick(
            outcomes=outcomes,
            bequests=self.seats.bequests(_released(outcomes)),
            sweep=next((item for item in reversed(items) if isinstance(item, Sweep)), None),
            placements=_placed(submissions, room, busy),
            orders=[item for item in items if isinstance(item, Order)],
            queue_ready_max=self._queue_ready_max,
        )
        return replace(tick, claims=room.claims(busy, may_ready=tick.may_ready))

    async def _recover(self) -> None:
        seats = self.seats.open
        leased = await self._store.leased_to([seat.session.id for seat in seats]) if seats else []
        for seat in seats:
            self.seats.reconcile(seat, [job for job in leased if job.session == seat.session.id])
        self._backlog.forget()
        self._unsure = False

    def _take_effect(self, tick: Tick, ticked: Ticked) -> None:
        ended: Counter[State] = Counter()
        for outcome, effective in zip(tick.outcomes, ticked.settled, strict=True):
            self._settled(outcome, effective, ended)
        created = [
            (placement, answer.job)
            for placement, answer in zip(tick.placements, ticked.submitted, strict=True)
            if isinstance(answer, Submitted) and answer.created
        ]
        for placement, job in created:
            self._created(placement, job)
        slots = [*(slot for claim in tick.claims for slot in claim.slots), *(each.slot for each in tick.bequests)]
        streams = {slot.session: slot.stream for slot in slots} if ticked.leased else {}
        for leased in ticked.leased:
            self._leased(leased.job, streams, leased.waited_s)
        for order, steered in zip(tick.orders, ticked.steered, strict=True):
            self.seats.tell(order.job, steered)
        for parent, woken in zip(ticked.parents, ticked.woken, strict=True):
            self.seats.tell(parent, woken)
        for order_id, steered in zip(ticked.overdue_jobs, ticked.overdue, strict=True):
            self.seats.tell(order_id, steered)
        self.seats.lose(ticked.lost)
        self.seats.expire(ticked.expired)
        self._remember(tick, ticked)
        for state, jobs in ended.items():
            metrics.ENDED.labels(state.name.lower()).inc(jobs)
        metrics.SUBMITTED.inc(len(created))
        metrics.RECLAIMED.inc(len(ticked.lost))
        metrics.POISONED.inc(sum(lost.poisoned for lost in ticked.lost))

    def _settled(self, outcome: Outcome, effective: bool, ended: Counter[State]) -> None:
        seat = self.seats.at(outcome.session)
        if seat is not None:
            seat.settle(outcome.job, outcome.lease, effective)
            if not effective:
                seat.lose(outcome.job, outcome.lease)
        match outcome.said:
            case End(state=state) if effective:
                ended[state] += 1
                self._waiters.ended(outcome.job)
            case Park(wake_at=datetime() as wake_at):
                self.due_at(wake_at)
            case Release(delay=delay) if delay:
                self.due_in(delay.total_seconds())
            case _:
                pass

    def _created(self, placement: Placement, job: Job) -> None:
        if job.state is State.LEASED and placement.slot is not None:
            self._leased(job, {placement.slot.session: placement.slot.stream}, 0.0)
        for moment in (job.wake_at, job.deadline):
            if moment is not None:
                self.due_at(moment)

    def _leased(self, job: Job, streams: Mapping[UUID, UUID], waited_s: float) -> None:
        assert job.session is not None
        metrics.LEASED.inc()
        metrics.START_SECONDS.observe(waited_s)
        self.seats.assign(job, streams[job.session])

    def _remember(self, tick: Tick, ticked: Ticked) -> None:
        """For whom jobs may be waiting after this."""
        if ticked.readied:
            self._backlog.forget()
        for claim, leased in zip(tick.claims, ticked.claimed, strict=True):
            if leased is not None:
                self._backlog.claimed(claim, leased)
        sessions = self.seats.sessions(without=_returning(tick.outcomes))
        busy = self._backlog.busy({session.skills for session in sessions})
        if any(session.room and session.skills in busy for session in sessions):
            self.nudge()


def _returning(outcomes: Sequence[Outcome]) -> set[UUID]:
    """Who hands jobs back is about to leave: it is not given the same ones again at once."""
    return set(_released(outcomes))


def _released(outcomes: Sequence[Outcome]) -> dict[UUID, list[UUID]]:
    """By session, what it hands back at once."""
    released: dict[UUID, list[UUID]] = {}
    for outcome in outcomes:
        if isinstance(outcome.said, Release) and not outcome.said.delay:
            released.setdefault(outcome.session, []).append(outcome.job)
    return released


def _placed(submissions: Sequence[Submission], room: Room, busy: set[Skills]) -> list[Placement]:
    """The more urgent get a place first; the answers keep the order of the questions."""
    placements: list[Placement] = [Placement(submission) for submission in submissions]
    for n in sorted(range(len(submissions)), key=lambda n: -submissions[n].priority):
        if submissions[n].start_after is None:
            placements[n] = Placement(submissions[n], room.take_for(submissions[n].agent, submissions[n].queue, busy))
    return placements


def _asks(tick: Tick) -> bool:
    asked = tick.outcomes or tick.placements or tick.orders or tick.sweep is not None
    return bool(asked) or any(claim.always for claim in tick.claims)


def _answers(items: Sequence[Item], tick: Tick, ticked: Ticked) -> list[Answer | Exception]:
    submitted = iter(ticked.submitted)
    steered = iter(ticked.steered)
    answers: list[Answer | Exception] = []
    for item in items:
        match item:
            case Submit(submissions=submissions):
                answers.append([next(submitted) for _ in submissions])
            case Order():
                answers.append(next(steered))
            case Sweep():
                answers.append(ticked)
            case Nudge():
                answers.append(None)
    return answers


def _hear_out(answer: asyncio.Future[Answer]) -> None:
    """Nobody waits for a nudge's answer; what fails in its tick is told to those who do."""
    if not answer.cancelled():
        answer.exception()
