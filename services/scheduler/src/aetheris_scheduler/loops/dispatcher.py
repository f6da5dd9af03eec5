"""The dispatcher: everything that changes jobs passes here, one tick after another.

    submissions, orders ──► BatchWriter ─┐
    outcomes, credits  ──► (a nudge) ────┼─► tick: one transaction ─► after its commit: answers, assignments
    timers, lost leases ─► (a sweep) ────┘                            and acknowledgements leave

While one tick is written, the next one collects. Nothing is sent to a runner or a caller before it is durable. After a
tick of which it is not known whether it was committed, the next tick writes the same outcomes again, and jobs that the
store has leased to a session are sent to a runner that never got them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from typing import TypeAlias
from uuid import UUID

from aetheris_chassis.batch import BatchWriter
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Refusal, ReplicaDraining, Unavailable

from aetheris_scheduler import metrics
from aetheris_scheduler.core.claim import Backlog, Room
from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.lifecycle import End, Order, Park, Progress, Release, Terminate
from aetheris_scheduler.core.session import Hello, Session, Skills
from aetheris_scheduler.core.submission import Submission
from aetheris_scheduler.loops.alarm import Alarm
from aetheris_scheduler.loops.leases import Leases
from aetheris_scheduler.loops.waiters import Waiters
from aetheris_scheduler.runners.connection import RunnerConnection, RunnerConnections
from aetheris_scheduler.runners.quarantine import Quarantine
from aetheris_scheduler.store.contract import Look, Store
from aetheris_scheduler.store.tick import (
    TERMINATE_S,
    JobOrder,
    JobOutcome,
    OrderAnswer,
    Placement,
    Submitted,
    Suspects,
    Sweep,
    Tick,
    Ticked,
)

# The most that one tick takes. A batch of submissions is cut up, so that other callers' requests and the outcomes of
# running jobs do not wait for all of it.
ITEMS_MAX = 512
SUBMISSIONS_MAX = 250
QUEUE_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Submit:
    submissions: Sequence[Submission]


@dataclass(frozen=True, slots=True)
class Nudge:
    """Asks for a tick: outcomes have come, or a session has room."""


Item: TypeAlias = Submit | JobOrder | Sweep | Nudge
Answer: TypeAlias = list[Submitted | Refusal] | OrderAnswer | Ticked | None


class Dispatcher:
    def __init__(
        self,
        store: Store,
        connections: RunnerConnections,
        leases: Leases,
        alarm: Alarm,
        waiters: Waiters,
        clock: Clock,
        *,
        lease_s: float,
        grace_s: float,
        crash_limit: int,
        queue_ready_max: int = 0,
    ) -> None:
        self.lease_s = lease_s
        self.connections = connections
        self._store = store
        self._leases = leases
        self._alarm = alarm
        self._waiters = waiters
        self._clock = clock
        self._grace_s = grace_s
        self._crash_limit = crash_limit
        self._queue_ready_max = queue_ready_max
        self._writer: BatchWriter[Item, Answer] = BatchWriter(
            self._write, name="scheduler", rows_max=ITEMS_MAX, queue_max=QUEUE_MAX
        )
        self._outcomes: list[JobOutcome] = []
        self._backlog = Backlog()
        self._nudged = False
        # Whether it is unknown, or not known yet, if the last tick was committed.
        self._unsure = False
        self._draining = False
        # Whether jobs may wait for any runner to end them.
        self._ending = False
        self._suspects: list[Suspects] = []
        # Whether jobs wait for a version that is offered now, or can no longer be served.
        self._versions = False
        self._quarantine = Quarantine()

    async def run(self) -> None:
        await self._writer.run()

    # Called for callers.

    async def submit(self, submissions: Sequence[Submission]) -> list[Submitted | Refusal]:
        """One answer for each submission, in the same order."""
        answers: list[Submitted | Refusal] = []
        for first in range(0, len(submissions), SUBMISSIONS_MAX):
            part = await self._writer.submit(Submit(submissions[first : first + SUBMISSIONS_MAX]))
            assert isinstance(part, list)
            answers += part
        return answers

    async def order(self, job: UUID, order: Order) -> JobState:
        """The state of the job afterwards. Raises the refusal where the order is refused."""
        answer = await self._writer.submit(JobOrder(job, order))
        assert isinstance(answer, OrderAnswer)
        if answer.refused is not None:
            raise answer.refused
        return answer.state

    async def sweep(self, *, timers: bool, deadlines: bool, sessions: bool, terminations: bool = False) -> bool:
        """Whether more is due. Sessions known to be well stay, even if the store's clock says that they expired."""
        well = [connection.session.id for connection in self.connections.well()]
        ticked = await self._writer.submit(
            Sweep(
                timers=timers,
                deadlines=deadlines,
                sessions=sessions,
                terminations=terminations,
                keep=well,
                crash_limit=self._crash_limit,
            )
        )
        return isinstance(ticked, Ticked) and ticked.more

    # Called for runners' streams.

    async def open(self, hello: Hello, *, beat: int, unsettled: Iterable[tuple[UUID, int]]) -> RunnerConnection:
        """A runner's stream begins. The runner holds the jobs of the unsettled outcomes in its first frame, too, until
        they are settled."""
        if self._draining:
            raise ReplicaDraining("this scheduler is draining")
        heard_at = self._clock.monotonic()
        claimed = replace(hello, held={**hello.held, **dict(unsettled)})
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
            features=hello.features,
            versions=hello.versions,
        )
        connection = RunnerConnection(session, grace_s=self._grace_s)
        lost = [(job, lease) for job, lease in hello.held.items() if opened.kept.get(job) != lease]
        connection.outbox.welcome(self.lease_s, lost)
        if beat:
            connection.outbox.renew(beat)
        if opened.draining:
            connection.drain()
        self.connections.add(connection)
        self._backlog.forget()
        # Jobs may wait for the versions of this runner: the next look shows it.
        self._alarm.due_in(0)
        return connection

    def suspect(self, suspects: Sequence[Suspects]) -> None:
        """A runner names the jobs that are suspected of a session's death. The next tick writes it."""
        if suspects:
            self._suspects += suspects
            self.nudge()

    def hear(self, connection: RunnerConnection, *, beat: int, more: int, outcomes: Sequence[JobOutcome]) -> None:
        """A frame came from a runner, with `more` credits. Only a beat in it counts as a sign of life."""
        if beat:
            connection.session.beats(beat, self._clock.monotonic())
        for outcome in outcomes:
            connection.says(outcome.job, outcome.lease, goes_on=isinstance(outcome.what, Progress))
        self._outcomes += outcomes
        connection.session.grant(more)
        if outcomes or (more and self._backlog.busy([connection.session.skills])):
            self.nudge()

    def close(self, connection: RunnerConnection) -> None:
        """The stream is over. The session keeps its jobs for the grace; for the whole lease if this process drains."""
        connection.ended.set()
        if self.connections.remove(connection) and not self._draining:
            self._leases.left(connection)

    def drain(self) -> None:
        """This process is about to stop: runners connect to other schedulers and keep their leases meanwhile."""
        self._draining = True
        self.connections.end(ReplicaDraining("this scheduler is draining"))

    # Called by the other loops.

    def looked(self, look: Look) -> None:
        """A look has found what other schedulers did, and jobs that a failed tick left waiting."""
        self.connections.news(look.news)
        self._backlog.appeared(look.lanes)
        self._ending, self._versions = look.ending, look.versions
        for connection in self._quarantine.looked(look.alone, self.connections.open):
            connection.hand_back_all()
        may_lease = (look.lanes or look.ending) and self.has_room
        if may_lease or look.versions or self._outcomes or self._unsure or self._may_run_alone:
            self.nudge()

    @property
    def _may_run_alone(self) -> bool:
        return self._quarantine.claim(self.connections.open) is not None

    @property
    def has_room(self) -> bool:
        return any(session.room for session in self.connections.sessions())

    def nudge(self) -> None:
        """Make a tick happen soon."""
        if self._nudged:
            return
        try:
            self._writer.submit_nowait(Nudge()).add_done_callback(_ignore)
        except Refusal:
            # The queue is full, so a tick is near anyway; or this process stops.
            return
        self._nudged = True

    # The tick.

    async def _write(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        self._nudged = False
        if self._unsure:
            await self._recover()
        outcomes, self._outcomes = self._outcomes, []
        suspects, self._suspects = self._suspects, []
        tick = self._tick(items, outcomes, suspects)
        began = perf_counter()
        self._unsure = True
        try:
            ticked = await self._store.tick(tick) if _not_empty(tick) else Ticked()
        except Refusal:
            self._outcomes = [*outcomes, *self._outcomes]
            self._suspects = [*suspects, *self._suspects]
            raise
        except Exception:
            # A fault, so writing the same outcomes again would fail again: the runners that sent them reconnect.
            for session in {outcome.session for outcome in outcomes}:
                connection = self.connections.of(session)
                if connection is not None:
                    connection.end(Unavailable("this runner's outcomes could not be written"))
            raise
        metrics.TICK_SECONDS.observe(perf_counter() - began)
        self._take_effect(tick, ticked)
        self._unsure = False
        return _answers(items, tick, ticked)

    def _tick(self, items: Sequence[Item], outcomes: Sequence[JobOutcome], suspects: Sequence[Suspects]) -> Tick:
        submissions = [submission for item in items if isinstance(item, Submit) for submission in item.submissions]
        sessions = self.connections.sessions(without=_returning(outcomes))
        busy = self._backlog.busy({session.skills for session in sessions})
        room = Room(sessions)
        orders = [item for item in items if isinstance(item, JobOrder)]
        self._ending |= any(isinstance(order.what, Terminate) for order in orders)
        tick = Tick(
            suspects=suspects,
            versions=self._versions,
            outcomes=outcomes,
            handovers=self.connections.handovers(_released(outcomes)),
            sweep=next((item for item in reversed(items) if isinstance(item, Sweep)), None),
            placements=_placed(submissions, room, busy),
            orders=orders,
            ending=room.to_end() if self._ending else (),
            alone=self._quarantine.claim(self.connections.open),
            queue_ready_max=self._queue_ready_max,
        )
        held = self.connections.held_by_tenant()
        return replace(tick, claims=room.claims(busy, may_ready=tick.may_ready, held=held, backlog=self._backlog))

    async def _recover(self) -> None:
        connections = self.connections.open
        sessions = [connection.session.id for connection in connections]
        leased = await self._store.leased_to(sessions) if sessions else []
        for connection in connections:
            jobs = [job for job in leased if job.session == connection.session.id]
            self.connections.reconcile(connection, jobs)
        self._backlog.forget()
        self._unsure = False

    def _take_effect(self, tick: Tick, ticked: Ticked) -> None:
        ended: Counter[JobState] = Counter()
        for outcome, effective in zip(tick.outcomes, ticked.settled, strict=True):
            self._settled(outcome, effective, ended)
        created = [
            (placement, answer.job)
            for placement, answer in zip(tick.placements, ticked.submitted, strict=True)
            if isinstance(answer, Submitted) and answer.created
        ]
        for placement, job in created:
            self._created(placement, job)
        slots = [*(slot for claim in tick.claims for slot in claim.slots), *(each.slot for each in tick.handovers)]
        slots += tick.ending
        if tick.alone is not None:
            slots.append(tick.alone.slot)
        streams = {slot.session: slot.stream for slot in slots} if ticked.leased else {}
        for leased in ticked.leased:
            self._leased(leased.job, streams, leased.waited_s)
        for order, answer in zip(tick.orders, ticked.ordered, strict=True):
            self.connections.notify(order.job, answer)
        for parent, woken in zip(ticked.parents, ticked.woken, strict=True):
            self.connections.notify(parent, woken)
        for job_id, cancelled in zip(ticked.overdue_jobs, ticked.overdue, strict=True):
            self.connections.notify(job_id, cancelled)
        self.connections.lose(ticked.lost)
        self.connections.expire(ticked.expired)
        self._versions = False
        if tick.alone is not None:
            self._quarantine.claimed(tick.alone, ticked.alone, self.connections.of(tick.alone.slot.session))
        self._remember(tick, ticked)
        if any(isinstance(order.what, Terminate) for order in tick.orders):
            self._alarm.due_in(TERMINATE_S)
        for state, jobs in ended.items():
            metrics.ENDED.labels(state.name.lower()).inc(jobs)
        metrics.SUBMITTED.inc(len(created))
        metrics.RECLAIMED.inc(len(ticked.lost))
        metrics.POISONED.inc(sum(lost.poisoned for lost in ticked.lost))

    def _settled(self, outcome: JobOutcome, effective: bool, ended: Counter[JobState]) -> None:
        connection = self.connections.of(outcome.session)
        if connection is not None:
            connection.settle(outcome.job, outcome.lease, effective)
            if not effective:
                connection.lose(outcome.job, outcome.lease)
        match outcome.what:
            case End(state=state) if effective:
                ended[state] += 1
                self._waiters.ended(outcome.job)
            case Park(wake_at=datetime() as wake_at):
                self._alarm.due_at(wake_at)
            case Release(delay=delay) if delay:
                self._alarm.due_in(delay.total_seconds())
            case _:
                pass

    def _created(self, placement: Placement, job: Job) -> None:
        if job.state is JobState.LEASED and placement.slot is not None:
            self._leased(job, {placement.slot.session: placement.slot.stream}, 0.0)
        for moment in (job.wake_at, job.deadline):
            if moment is not None:
                self._alarm.due_at(moment)

    def _leased(self, job: Job, streams: Mapping[UUID, UUID], waited_s: float) -> None:
        assert job.session is not None
        metrics.LEASED.inc()
        metrics.START_SECONDS.observe(waited_s)
        self.connections.assign(job, streams[job.session])

    def _remember(self, tick: Tick, ticked: Ticked) -> None:
        """Note for which skills jobs may be waiting after this tick."""
        if ticked.ending < len(tick.ending):
            self._ending = False
        if ticked.readied:
            self._backlog.forget()
        for claim, leased, cut_at in zip(tick.claims, ticked.claimed, ticked.cut_at, strict=True):
            if leased is not None:
                self._backlog.claimed(claim, leased, cut_at)
        sessions = self.connections.sessions(without=_returning(tick.outcomes))
        busy = self._backlog.busy({session.skills for session in sessions})
        if any(session.room and session.skills in busy for session in sessions):
            self.nudge()


def _returning(outcomes: Sequence[JobOutcome]) -> set[UUID]:
    """The sessions that hand jobs back. They are about to leave, so they are not leased the same jobs again."""
    return set(_released(outcomes))


def _released(outcomes: Sequence[JobOutcome]) -> dict[UUID, list[UUID]]:
    """By session, the jobs that it hands back without a delay."""
    released: dict[UUID, list[UUID]] = {}
    for outcome in outcomes:
        if isinstance(outcome.what, Release) and not outcome.what.delay:
            released.setdefault(outcome.session, []).append(outcome.job)
    return released


def _placed(submissions: Sequence[Submission], room: Room, busy: set[Skills]) -> list[Placement]:
    """Submissions with a higher priority get a slot first; the placements keep the order of the submissions."""
    placements: list[Placement] = [Placement(submission) for submission in submissions]
    for n in sorted(range(len(submissions)), key=lambda n: -submissions[n].priority):
        if submissions[n].start_after is None:
            placements[n] = Placement(submissions[n], room.take_for(submissions[n].agent, submissions[n].queue, busy))
    return placements


def _not_empty(tick: Tick) -> bool:
    asked = tick.outcomes or tick.placements or tick.orders or tick.ending or tick.suspects or tick.versions
    return bool(asked) or tick.sweep is not None or tick.alone is not None or any(claim.always for claim in tick.claims)


def _answers(items: Sequence[Item], tick: Tick, ticked: Ticked) -> list[Answer | Exception]:
    submitted = iter(ticked.submitted)
    ordered = iter(ticked.ordered)
    answers: list[Answer | Exception] = []
    for item in items:
        match item:
            case Submit(submissions=submissions):
                answers.append([next(submitted) for _ in submissions])
            case JobOrder():
                answers.append(next(ordered))
            case Sweep():
                answers.append(ticked)
            case Nudge():
                answers.append(None)
    return answers


def _ignore(answer: asyncio.Future[Answer]) -> None:
    """A nudge has no caller: a failure of its tick goes to the callers of that tick. Reading it here keeps asyncio from
    reporting it as never retrieved."""
    if not answer.cancelled():
        answer.exception()
