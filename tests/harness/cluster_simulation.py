"""A simulated cluster: the scheduler's store in memory decides which job is leased; there is one runner at a time.

    ClusterSimulation.live(): claim ready jobs ─► hold ─► outcome ─► claim …   until every job has ended
                                └── crash: the session and all leases are lost, and a new process begins

Everything that a runner writes, to the ledger, the gateway or the scheduler, is a place where it can crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any
from uuid import UUID

from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_engine.job import Run
from aetheris_engine.ports import Services
from aetheris_journal import events as e
from aetheris_journal.replay import ChildRecord
from aetheris_kernel.errors import Refusal, Unavailable
from aetheris_scheduler.core import lifecycle
from aetheris_scheduler.core.claim import AloneClaim, Claim
from aetheris_scheduler.core.job import Failure, Job, JobState
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.core.submission import Submission, checked
from aetheris_scheduler.store.contract import Ends
from aetheris_scheduler.store.memory import MemoryStore
from aetheris_scheduler.store.tick import (
    JobOrder,
    JobOutcome,
    OrderAnswer,
    Placement,
    Submitted,
    Sweep,
    Tick,
    Ticked,
    claim_for,
)

from harness.crash import Crash, Fuse, Process
from harness.world import World, python_run

LEASE_S = 5.0
ROUNDS_MAX = 2_000


class MemoryChildren:
    """`ports.Children` on the scheduler's store, for one runner process: its writes fail once that has crashed."""

    def __init__(self, cluster: ClusterSimulation, process: Process) -> None:
        self._cluster, self._process = cluster, process

    async def submit(self, parent: ports.Assignment, child: ChildRecord) -> None:
        asked = checked(
            Submission(
                id=UUID(child.job_id),
                tenant=parent.tenant,
                agent=child.agent,
                queue=child.queue,
                input=child.input,
                parent=parent.job_id,
                actor=parent.actor,
            )
        )
        ticked = await self._written(Tick(placements=[Placement(asked)]))
        if isinstance(ticked.submitted[0], Refusal):
            raise ticked.submitted[0]

    async def ended(self, parent: ports.Assignment, after: int | None, named: Sequence[str]) -> ports.EndedChildren:
        await self._heard()
        self._cluster.asked.append(len(named))
        page = await self._cluster.scheduler.ends(
            Ends(parent.job_id, after, [UUID(job) for job in named], self._cluster.page)
        )
        return ports.EndedChildren(sorted(map(str, page.jobs)), page.next, page.more)

    async def outcome(self, parent: ports.Assignment, job_id: str) -> ports.ChildOutcome:
        await self._heard()
        job = self._cluster.scheduler.jobs[UUID(job_id)]
        if job.state is JobState.COMPLETED:
            return ports.ChildOutcome(job.result or b"")
        assert job.reason is not None
        told = e.Failure("Cancelled" if job.state is JobState.CANCELLED else job.reason.type, job.reason.message)
        return ports.ChildOutcome(failure=told)

    async def cancel(self, parent: ports.Assignment, job_id: str, reason: str) -> None:
        ticked = await self._written(Tick(orders=[JobOrder(UUID(job_id), lifecycle.Cancel(reason))]))
        if ticked.ordered[0].refused is not None:
            raise ticked.ordered[0].refused

    async def _heard(self) -> None:
        await asyncio.sleep(0)
        if self._cluster.away:
            raise Unavailable("the scheduler is away")

    async def _written(self, tick: Tick) -> Ticked:
        await self._heard()
        try:
            number = self._process.before()
            ticked = await self._cluster.tick(tick)
            self._process.then(number)
        except Crash:
            # A crashed process does nothing more, not even its `finally` blocks.
            await asyncio.get_running_loop().create_future()
        return ticked


@dataclass(slots=True)
class _Held:
    run: Run
    lease: int
    task: asyncio.Task[ports.Outcome]


class ClusterSimulation:
    """Jobs, their parents, and one runner at a time."""

    def __init__(self, agents: Iterable[AgentDefinition[Any]], world: World | None = None) -> None:
        self.world = world or World()
        self.scheduler = MemoryStore(self.world.clock)
        self.crashes = 0
        # How many children each request for ends named, and how many ends a response may hold.
        self.asked: list[int] = []
        self.page = 1_000
        self.away = False
        # Called when no job is held. Returns true if it changed something; else time passes until the next timer.
        self.meanwhile: Callable[[], bool] = lambda: False
        self._agents: Mapping[str, AgentDefinition[Any]] = {agent.name: agent for agent in agents}
        self._orders: list[JobOrder] = []
        self._changed = asyncio.Event()
        self._held: dict[UUID, _Held] = {}
        self._warm: dict[UUID, Run] = {}
        self._hello: Hello
        self._process: Process
        self._services: Services

    async def submit(self, agent: AgentDefinition[Any], input: bytes = b'{"args":[]}') -> UUID:  # noqa: A002
        asked = checked(Submission(id=self.world.clock.new_id(), tenant="default", agent=agent.name, input=input))
        (answer,) = (await self.tick(Tick(placements=[Placement(asked)]))).submitted
        assert isinstance(answer, Submitted)
        return answer.job.id

    def agent(self, name: str) -> AgentDefinition[Any]:
        return self._agents[name]

    async def order(self, job: UUID, steer: lifecycle.Order) -> None:
        await self.tick(Tick(orders=[JobOrder(job, steer)]))

    def soon(self, steer: lifecycle.Order, job: UUID) -> None:
        """An operator's order, carried out in the next transaction."""
        self._orders.append(JobOrder(job, steer))

    async def tick(self, tick: Tick) -> Ticked:
        """One transaction of the scheduler; the run that holds a job is told what changed about it."""
        ticked = await self.scheduler.tick(tick)
        self._changed.set()
        for order, answer in zip(tick.orders, ticked.ordered, strict=True):
            self._tell(order.job, answer)
        for parent, woken in zip(ticked.parents, ticked.woken, strict=True):
            self._tell(parent, woken)
        return ticked

    async def live(self, fuses: Iterable[Fuse] = (), *, warm: bool = True, once: bool = False) -> None:
        """Run until every job has ended or waits for an operator; with `once`, until a process has crashed."""
        lit = chain(fuses, repeat(Fuse(-1)))
        await self._begin(next(lit))
        for _ in range(ROUNDS_MAX):
            await self._claim()
            if not self._held:
                if not self.open:
                    await self._replayed()
                    return
                self._pass_time()
                orders, self._orders = self._orders, []
                await self.tick(Tick(sweep=Sweep(timers=True, deadlines=True), orders=orders))
                continue
            self._changed.clear()
            news = [asyncio.ensure_future(event.wait()) for event in (self._process.crashed, self._changed)]
            tasks = {held.task for held in self._held.values()}
            await asyncio.wait({*news, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for each in news:
                each.cancel()
            if self._process.crashed.is_set():
                self.crashes += 1
                await self._die()
                if once:
                    return
                await self._begin(next(lit))
            else:
                await self._settle(warm=warm)
        raise AssertionError(f"still open after {ROUNDS_MAX} rounds: {self.open}")

    async def _replayed(self) -> None:
        """The record of every job replays to its end, also after crashes."""
        for job in self.scheduler.jobs.values():
            if job.state.ended and self.world.commits(job.id):
                await self.world.replayed(self._agents[job.agent], job.id)

    @property
    def open(self) -> Sequence[Job]:
        return [job for job in self.scheduler.jobs.values() if not job.state.ended and not job.operator_only]

    def children(self, parent: UUID) -> list[Job]:
        return sorted((job for job in self.scheduler.jobs.values() if job.parent == parent), key=lambda job: job.id)

    async def _begin(self, fuse: Fuse) -> None:
        self._process, _, services = self.world.process(fuse)
        self._services = replace(services, children=MemoryChildren(self, self._process))
        self._hello = Hello(self.world.clock.new_id(), self.world.clock.new_id(), capacity=1_000)
        await self.scheduler.open(self._hello, lease_s=LEASE_S)

    async def _claim(self) -> None:
        claim = claim_for(self._hello.session, self._hello.stream, jobs=100)
        # A job that was present at two crashes runs alone: the runner gets it when it holds nothing, and then no other.
        alone = [] if self._held else (await self._ticked_alone(claim)).leased
        for leased in alone or (await self.tick(Tick(claims=[claim]))).leased:
            job = leased.job
            assignment = ports.Assignment(
                job.id, job.tenant, job.agent, job.queue, job.input, job.lease, job.since,
                cancel_requested=job.cancel, cancel_reason=job.cancel_reason,
                parent_job_id=str(job.parent or ""), actor=job.actor,
            )  # fmt: skip
            run = self._warm.pop(job.id, None) or python_run(assignment, self._agents[job.agent], self._services)
            self._held[job.id] = _Held(run, job.lease, asyncio.ensure_future(run.hold(assignment)))

    async def _ticked_alone(self, claim: Claim) -> Ticked:
        return await self.tick(Tick(alone=AloneClaim(claim.skills, claim.slots[0])))

    async def _settle(self, *, warm: bool) -> None:
        over = [(job, held) for job, held in self._held.items() if held.task.done()]
        for job, held in over:
            del self._held[job]
            outcome = held.task.result()
            said = JobOutcome(self._hello.session, job, held.lease, _said(outcome))
            await self.tick(Tick(outcomes=[said]))
            if warm and isinstance(outcome, ports.Parked):
                self._warm[job] = held.run
            else:
                await held.run.close()

    async def _die(self) -> None:
        for held in self._held.values():
            held.task.cancel()
            await asyncio.wait({held.task})
            await held.run.close()
        for run in self._warm.values():
            await run.close()
        self._held.clear()
        self._warm.clear()
        self.world.crashes += 1
        self.world.clock.advance(LEASE_S + 1)
        await self.tick(Tick(sweep=Sweep(sessions=True, crash_limit=1_000)))

    def _pass_time(self) -> None:
        if self.meanwhile():
            return
        moments = [job.wake_at for job in self.open if job.wake_at is not None]
        assert moments, f"nothing will ever move: {[(job.id, job.state, job.park_reason) for job in self.open]}"
        self.world.clock.advance(max((min(moments) - self.world.clock.now()).total_seconds(), 0.0))

    def _tell(self, job: UUID, answer: OrderAnswer) -> None:
        held = self._held.get(job)
        if held is None or answer.notice is None or answer.lease != held.lease:
            return
        match answer.notice:
            case lifecycle.Notice.WAKE:
                held.run.wake()
            case lifecycle.Notice.CANCEL:
                held.run.cancel(self.scheduler.jobs[job].cancel_reason)
            case _:
                pass


def _said(outcome: ports.Outcome) -> lifecycle.Outcome:
    match outcome:
        case ports.Parked(reason=reason, wake_at=wake_at, operator=operator):
            return lifecycle.Park(reason, wake_at, operator)
        case ports.Completed(result=result):
            return lifecycle.End(JobState.COMPLETED, result)
        case ports.Failed(failure=failure):
            return lifecycle.End(JobState.FAILED, failure=Failure(failure.type, failure.message))
        case ports.Cancelled(reason=reason):
            return lifecycle.End(JobState.CANCELLED, failure=Failure("Cancelled", reason))
        case ports.Released(reason=reason, delay=delay):
            return lifecycle.Release(reason, delay)
