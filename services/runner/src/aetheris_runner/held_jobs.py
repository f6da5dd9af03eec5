"""The jobs that this runner holds: one task for each lease. Parked jobs stay in memory for a while.

The lease number shows whether a parked job in memory is still current: if the next lease on this runner has the very
next number, no other runner held the job in between.
"""

from __future__ import annotations

import asyncio
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
from aetheris_engine.run_without_code import RunWithoutCode
from aetheris_journal.commands import Program
from aetheris_kernel.errors import ChainBroken, Fenced, Refusal

from aetheris_runner.hosts.blocked import after_blocking
from aetheris_runner.job_frames import enter_job
from aetheris_runner.warm_jobs import WARM_BYTES_MAX, WarmJobs

log = structlog.get_logger()

# How long a job parks after this runner failed to run it for a reason that is not the job's.
_FAULT_DELAY = timedelta(seconds=5)

# Reported where a run ended in a way that should be impossible.
_UNACCOUNTED: ports.Outcome = ports.Parked("fault in the runner: the run ended without an outcome", operator=True)


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


AnyRun = Run | RunWithoutCode


@dataclass(slots=True)
class _Holding:
    run: AnyRun
    lease: int
    task: asyncio.Task[None]


class HeldJobs:
    def __init__(
        self,
        agents: Mapping[str, Offered],
        services: Services,
        reports: Reports,
        *,
        warm_max: int,
        warm_bytes_max: int = WARM_BYTES_MAX,
    ) -> None:
        self._agents, self._services, self._reports = agents, services, reports
        self._holdings: dict[UUID, _Holding] = {}
        self._warm = WarmJobs(warm_max, warm_bytes_max)
        self._ending: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def held(self) -> Sequence[tuple[UUID, int]]:
        return [(job_id, holding.lease) for job_id, holding in self._holdings.items()]

    @property
    def runs(self) -> Sequence[tuple[Run, asyncio.Task[None]]]:
        """The held runs of programs, each with the task that holds it."""
        return [(held.run, held.task) for held in self._holdings.values() if isinstance(held.run, Run)]

    def assign(self, assignment: ports.Assignment) -> None:
        stale = self._holdings.pop(assignment.job_id, None)
        if stale is not None:
            self._forget(stale)
        warm = self._warm.pop(assignment.job_id)
        if warm is not None and (warm.lease + 1 != assignment.lease or assignment.terminate):
            self._end(warm.close())
            warm = None
        run = warm or self._run_for(assignment)
        if run is None:
            reason = f"no agent {assignment.agent!r} here"
            self._reports.outcome(assignment.job_id, assignment.lease, ports.Released(reason, _FAULT_DELAY))
            return
        if self._draining:
            run.leave("the runner stops")
        task = asyncio.get_running_loop().create_task(self._hold(run, assignment))
        self._holdings[assignment.job_id] = _Holding(run, assignment.lease, task)
        self._count()

    def _run_for(self, assignment: ports.Assignment) -> AnyRun | None:
        offered = self._agents.get(assignment.agent)
        if assignment.terminate or (offered is None and assignment.cancel_requested):
            return RunWithoutCode(assignment, self._services)
        if offered is None:
            return None
        blocked = assignment.blocked
        host_for = offered.host_for if blocked is None else after_blocking(offered.host_for, blocked)
        return Run(assignment, offered.program, host_for, offered.version, self._services, self._reports.progressed)

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
            case Notice.TERMINATE:
                self._hand_back(holding, "to be terminated")

    def lose(self, job_id: UUID, lease: int) -> None:
        """Stop a job whose lease is lost, and report no outcome: another runner may hold the job by now."""
        holding = self._holdings.get(job_id)
        if holding is not None and holding.lease == lease:
            del self._holdings[job_id]
            log.warning("job lost", job_id=str(job_id), lease=lease)
            metrics.JOBS.labels("lost").inc()
            self._forget(holding)
            self._reports.free()

    def _hand_back(self, holding: _Holding, reason: str) -> None:
        """Stop the job where it stands. The scheduler leases it again with the order to end it without its code, and
        that lease is the fence before anything that this run may still write."""
        job_id = holding.run.job_id
        del self._holdings[job_id]
        self._forget(holding)
        self._reports.outcome(job_id, holding.lease, ports.Released(reason))

    def lose_all(self) -> None:
        for job_id, lease in self.held:
            self.lose(job_id, lease)
        for run in self._warm.clear():
            self._end(run.close())

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

    def give_up(self) -> list[AnyRun]:
        """The loop of these jobs is given up: their leases are not kept here any more. Returns all runs in memory."""
        runs = [holding.run for holding in self._holdings.values()]
        self._holdings.clear()
        return [*runs, *self._warm.clear()]

    async def _cancel(self, holding: _Holding) -> None:
        holding.run.cancel(await self._reports.cancel_reason(holding.run.job_id))

    async def _hold(self, run: AnyRun, assignment: ports.Assignment) -> None:
        """Run the job under one lease, and report how the lease ended."""
        enter_job(run.job_id)
        outcome, how, reported = _UNACCOUNTED, "unaccounted", None
        try:
            outcome, how = await self._outcome(run, assignment)
        finally:
            # Also where an error came through that nothing has accounted for: a lease without a task would be renewed
            # for ever.
            if self._holds(run, assignment.lease):
                reported = self._report(run, assignment.lease, outcome, how)
        if reported is None or self._warm.get(run.job_id) is not run:
            await run.close()
        elif not await reported and self._warm.get(run.job_id) is run and run.lease == assignment.lease:
            self._warm.pop(run.job_id)
            await run.close()

    def _holds(self, run: AnyRun, lease: int) -> bool:
        """Whether the lease is still this run's. It is not if the lease was lost meanwhile."""
        holding = self._holdings.get(run.job_id)
        return holding is not None and holding.run is run and holding.lease == lease

    def _report(self, run: AnyRun, lease: int, outcome: ports.Outcome, how: str) -> asyncio.Future[bool]:
        metrics.JOBS.labels(how).inc()
        if outcome is _UNACCOUNTED:
            log.error("run ended without an outcome", job_id=str(run.job_id), lease=lease)
            self._end(run.close())
        parked = isinstance(outcome, ports.Parked) and not outcome.operator
        if parked and not self._draining and isinstance(run, Run):
            # Removed before the outcome is reported: the scheduler's acknowledgement may bring the job's next
            # assignment.
            self._keep_warm(run)
        self._release(run.job_id, lease)
        return self._reports.outcome(run.job_id, lease, outcome)

    async def _outcome(self, run: AnyRun, assignment: ports.Assignment) -> tuple[ports.Outcome, str]:
        """The outcome with which the lease ends, and how the metric names it."""
        bound = log.bind(job_id=str(run.job_id), lease=assignment.lease)
        try:
            outcome = await run.hold(assignment)
        except Fenced as fenced:
            bound.warning("job fenced")
            # Where another runner has the lease, which is the rule, this outcome comes too late to matter. If the
            # scheduler believes that this runner holds the job, something else has written to the chain.
            return ports.Parked(f"fenced: {fenced.message}", operator=True), "fenced"
        except ChainBroken as broken:
            bound.error("chain broken", problem=broken.message)
            return ports.Parked(f"chain broken: {broken.message}", operator=True), "parked"
        except Refusal as refusal:
            bound.warning("job handed back", reason=refusal.message)
            return ports.Released(refusal.message, _FAULT_DELAY), "released"
        except Exception as fault:
            # An unexpected error would probably come again, so the job parks until an operator requeues it.
            bound.exception("job parked after a fault")
            reason = f"fault in the runner: {type(fault).__name__}: {fault}"[:1_024]
            return ports.Parked(reason, operator=True), "parked"
        return outcome, type(outcome).__name__.lower()

    def _release(self, job_id: UUID, lease: int) -> None:
        holding = self._holdings.get(job_id)
        if holding is not None and holding.lease == lease:
            del self._holdings[job_id]
            self._count()
            # Kept until the scheduler has acknowledged the outcome, although the job is no longer held.
            self._ending.add(holding.task)
            holding.task.add_done_callback(self._ending.discard)

    def _keep_warm(self, run: Run) -> None:
        for oldest in self._warm.keep(run):
            self._end(oldest.close())
        self._count()

    def _forget(self, holding: _Holding) -> None:
        holding.run.lost()

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
        metrics.WARM_BYTES.set(self._warm.bytes)
