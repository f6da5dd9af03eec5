"""The jobs that this runner holds: one task for each lease. Parked jobs stay in memory for a while.

The lease number shows whether a parked job in memory is still current: if the next lease on this runner has the very
next number, no other runner held the job in between.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import structlog
from aetheris_engine import metrics, ports
from aetheris_engine.host import HostFor
from aetheris_engine.job import Run
from aetheris_engine.ports import Notice, Services
from aetheris_journal.commands import Program
from aetheris_kernel.errors import ChainBroken, Fenced, Refusal

log = structlog.get_logger()

# How long a job parks after this runner failed to run it for a reason that is not the job's.
_FAULT_DELAY = timedelta(seconds=5)


class Reports(Protocol):
    """The session with the scheduler, which outcomes are reported to."""

    def outcome(self, job_id: UUID, lease: int, outcome: ports.Outcome) -> asyncio.Future[bool]: ...

    def progressed(self, job_id: UUID, lease: int, fraction: float | None, note: str) -> None: ...

    async def cancel_reason(self, job_id: UUID) -> str: ...

    def free(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Offered:
    """An agent that this runner can run: its program, its host, and a short name of its code."""

    program: Program
    host_for: HostFor
    version: str


@dataclass(slots=True)
class _Holding:
    run: Run
    lease: int
    task: asyncio.Task[None]


class HeldJobs:
    def __init__(self, agents: Mapping[str, Offered], services: Services, reports: Reports, *, warm_max: int) -> None:
        self._agents, self._services, self._reports, self._warm_max = agents, services, reports, warm_max
        self._holdings: dict[UUID, _Holding] = {}
        self._warm: OrderedDict[UUID, Run] = OrderedDict()
        self._ending: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def held(self) -> Sequence[tuple[UUID, int]]:
        return [(job_id, holding.lease) for job_id, holding in self._holdings.items()]

    def assign(self, assignment: ports.Assignment) -> None:
        stale = self._holdings.pop(assignment.job_id, None)
        if stale is not None:
            self._forget(stale)
        run = self._warm.pop(assignment.job_id, None)
        if run is not None and run.lease + 1 != assignment.lease:
            self._end(run.close())
            run = None
        if run is None:
            offered = self._agents.get(assignment.agent)
            if offered is None:
                reason = f"no agent {assignment.agent!r} here"
                self._reports.outcome(assignment.job_id, assignment.lease, ports.Released(reason, _FAULT_DELAY))
                return
            run = Run(
                assignment, offered.program, offered.host_for, offered.version, self._services, self._reports.progressed
            )
        if self._draining:
            run.leave("the runner stops")
        task = asyncio.get_running_loop().create_task(self._hold(run, assignment))
        self._holdings[assignment.job_id] = _Holding(run, assignment.lease, task)
        self._count()

    def notice(self, job_id: UUID, lease: int, notice: Notice) -> None:
        holding = self._holdings.get(job_id)
        if holding is None or holding.lease != lease:
            return
        match notice:
            case Notice.WAKE:
                holding.run.wake()
            case Notice.CANCEL:
                self._end(self._cancel(holding))
            case Notice.PAUSE:
                holding.run.leave("paused")
            case Notice.LOST:
                self.lose(job_id, lease)

    def lose(self, job_id: UUID, lease: int) -> None:
        """Stop a job whose lease is lost, and report no outcome: another runner may hold the job by now."""
        holding = self._holdings.get(job_id)
        if holding is not None and holding.lease == lease:
            del self._holdings[job_id]
            log.warning("job lost", job_id=str(job_id), lease=lease)
            metrics.JOBS.labels("lost").inc()
            self._forget(holding)
            self._reports.free()

    def lose_all(self) -> None:
        for job_id, lease in self.held:
            self.lose(job_id, lease)
        while self._warm:
            self._end(self._warm.popitem()[1].close())

    def drain(self) -> None:
        """Hand every job back at its next command."""
        self._draining = True
        for holding in self._holdings.values():
            holding.run.leave("the runner stops")

    async def drained(self, deadline_s: float) -> None:
        """Wait until every job is handed back. A job that does not come to rest in time is stopped where it stands."""
        self.drain()
        tasks = {holding.task for holding in self._holdings.values()}
        if tasks:
            await asyncio.wait(tasks, timeout=deadline_s)
        for job_id, holding in list(self._holdings.items()):
            del self._holdings[job_id]
            holding.task.cancel()
            await asyncio.wait([holding.task])
            await holding.run.close()
            self._reports.outcome(job_id, holding.lease, ports.Released("the runner stops"))

    async def close(self) -> None:
        self.lose_all()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _cancel(self, holding: _Holding) -> None:
        holding.run.cancel(await self._reports.cancel_reason(holding.run.job_id))

    async def _hold(self, run: Run, assignment: ports.Assignment) -> None:
        job_id, lease = run.job_id, assignment.lease
        outcome = await self._outcome(run, assignment)
        if outcome is None:
            self._release(job_id, lease)
            self._reports.free()
            await run.close()
            return
        metrics.JOBS.labels(type(outcome).__name__.lower()).inc()
        warm = isinstance(outcome, ports.Parked) and not self._draining and not outcome.operator
        if warm:
            # Removed before the outcome is reported: the scheduler's acknowledgement may bring the job's next
            # assignment.
            self._keep_warm(run)
        self._release(job_id, lease)
        effective = await self._reports.outcome(job_id, lease, outcome)
        if not warm:
            await run.close()
        elif not effective and self._warm.get(job_id) is run and run.lease == lease:
            del self._warm[job_id]
            await run.close()

    async def _outcome(self, run: Run, assignment: ports.Assignment) -> ports.Outcome | None:
        """The outcome with which the lease ends; None if the lease was lost."""
        bound = log.bind(job_id=str(run.job_id), lease=assignment.lease)
        try:
            return await run.hold(assignment)
        except Fenced:
            bound.warning("job fenced")
            metrics.JOBS.labels("fenced").inc()
            return None
        except ChainBroken as broken:
            bound.error("chain broken", problem=broken.message)
            return ports.Parked(f"chain broken: {broken.message}", operator=True)
        except Refusal as refusal:
            bound.warning("job handed back", reason=refusal.message)
            return ports.Released(refusal.message, _FAULT_DELAY)
        except Exception as fault:
            # An unexpected error would probably come again, so the job parks until an operator requeues it.
            bound.exception("job parked after a fault")
            return ports.Parked(f"fault in the runner: {type(fault).__name__}: {fault}"[:1_024], operator=True)

    def _release(self, job_id: UUID, lease: int) -> None:
        holding = self._holdings.get(job_id)
        if holding is not None and holding.lease == lease:
            del self._holdings[job_id]
            self._count()
            # Kept until the scheduler has acknowledged the outcome, although the job is no longer held.
            self._ending.add(holding.task)
            holding.task.add_done_callback(self._ending.discard)

    def _keep_warm(self, run: Run) -> None:
        self._warm[run.job_id] = run
        if len(self._warm) > self._warm_max:
            self._end(self._warm.popitem(last=False)[1].close())
        self._count()

    def _forget(self, holding: _Holding) -> None:
        async def stop() -> None:
            holding.task.cancel()
            await asyncio.wait([holding.task])
            await holding.run.close()

        self._end(stop())
        self._count()

    def _end(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _count(self) -> None:
        metrics.HELD.set(len(self._holdings))
        metrics.WARM.set(len(self._warm))
