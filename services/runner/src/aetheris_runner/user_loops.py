"""The runner's jobs as its session sees them: which leases it holds, and on which user loop each job runs.

    session ── assign, notice, lose ──► the user loop of the job
    user loop ── an outcome ──► still held under this lease? ──► session

This is the side of the I/O loop. It knows the leases without asking a user loop, because that may be blocked. A blocked
loop is abandoned: the job that blocks it goes on, on the next loop, with the failure of the step that did it; all other
jobs are handed back at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace

# The plain function, imported before the contract guard wraps the one in the module.
from time import monotonic
from typing import Any
from uuid import UUID

import structlog
from aetheris_engine import ports
from aetheris_kernel.errors import Unavailable

from aetheris_runner import metrics
from aetheris_runner.crossing import CrossingReports, LoopCrossing
from aetheris_runner.held_jobs import HeldJobs
from aetheris_runner.peers.session import Session
from aetheris_runner.user_loop import UserLoop

log = structlog.get_logger()

# How often one job may block a user loop of this process before it waits for an operator.
BLOCKS_MAX = 3

# How long a user loop may take to answer when the runner stops, beyond the time that its jobs have.
_ANSWER_S = 1.0
_END_S = 2.0

_INTERRUPT_S = 1.0

_HANDED_BACK = ports.Released("another job blocked the runner")

# Makes the held jobs of a user loop, which report to `CrossingReports`.
JobsOn = Callable[[LoopCrossing, CrossingReports, ports.LeaseClock], HeldJobs]


@dataclass(slots=True)
class _Lease:
    assignment: ports.Assignment
    loop: UserLoop


class _Reported:
    """What the jobs of one user loop report, heard until the loop is abandoned."""

    def __init__(self, loops: UserLoops, loop: UserLoop) -> None:
        self._loops, self._loop = loops, loop

    def ended(self, job_id: UUID, lease: int, outcome: ports.Outcome, effective: asyncio.Future[bool]) -> None:
        self._loops.ended(self._loop, job_id, lease, outcome, effective)

    def progressed(self, job_id: UUID, lease: int, fraction: float | None, note: str) -> None:
        self._loops.session.progressed(job_id, lease, fraction, note)

    async def cancel_reason(self, job_id: UUID) -> str:
        return await self._loops.session.cancel_reason(job_id)

    def free(self) -> None:
        self._loops.session.free()


class _Leases(ports.LeaseClock):
    """The leases of one user loop, as its threads ask for them before they enter code. They cannot ask the run alone:
    its loop may not have heard yet that the lease is lost."""

    def __init__(self, loops: UserLoops, loop: UserLoop) -> None:
        super().__init__()
        self._loops, self._loop = loops, loop

    def mine(self, job_id: UUID, lease: int) -> bool:
        return self._loops.runs_on(self._loop, job_id, lease)


class UserLoops:
    """`peers.session.Jobs`. Every method is called on the I/O loop."""

    def __init__(self, jobs_on: JobsOn, session: Session, *, loops_max: int) -> None:
        self._jobs_on, self.session, self._loops_max = jobs_on, session, loops_max
        self._leases: dict[UUID, _Lease] = {}
        self._abandoned: list[UserLoop] = []
        # How often each job has blocked a loop.
        self._blocks: dict[UUID, int] = {}
        self._made = 0
        self._draining = False
        # Set when no further loop may be started.
        self.exhausted = asyncio.Event()
        self.active = self._start()

    # Called by the session.

    @property
    def held(self) -> Sequence[tuple[UUID, int]]:
        return [(job_id, lease.assignment.lease) for job_id, lease in self._leases.items()]

    def assign(self, assignment: ports.Assignment) -> None:
        loop = self.active
        self._leases[assignment.job_id] = _Lease(assignment, loop)
        loop.crossing.inbox.post(_jobs(loop).assign, assignment)

    def notice(self, job_id: UUID, lease: int, notice: ports.Notice) -> None:
        if notice is ports.Notice.LOST:
            self.lose(job_id, lease)
        elif (held := self._holds(job_id, lease)) is not None:
            held.loop.crossing.inbox.post(_jobs(held.loop).notice, job_id, lease, notice)

    def lose(self, job_id: UUID, lease: int) -> None:
        held = self._holds(job_id, lease)
        if held is not None:
            del self._leases[job_id]
            self._blocks.pop(job_id, None)
            held.loop.crossing.inbox.post(_jobs(held.loop).lose, job_id, lease)

    def lose_all(self) -> None:
        self._leases.clear()
        self._blocks.clear()
        self.active.crossing.inbox.post(_jobs(self.active).lose_all)

    def drain(self) -> None:
        self._draining = True
        self.active.crossing.inbox.post(_jobs(self.active).drain)

    # Called by any thread.

    def runs_on(self, loop: UserLoop, job_id: UUID, lease: int) -> bool:
        """Whether the lease certainly lasts now, and its run is on that loop."""
        held = self._leases.get(job_id)
        return (
            held is not None
            and held.loop is loop
            and held.assignment.lease == lease
            and monotonic() < self.session.alive_until
        )

    # Called for the user loops.

    def ended(
        self, loop: UserLoop, job_id: UUID, lease: int, outcome: ports.Outcome, effective: asyncio.Future[bool]
    ) -> None:
        held = self._holds(job_id, lease)
        if held is None or held.loop is not loop:
            # The lease was lost, or its job moved to another loop, while this was on its way.
            loop.crossing.inbox.post(_set, effective, False)
            return
        del self._leases[job_id]
        self._blocks.pop(job_id, None)
        reported = self.session.outcome(job_id, lease, outcome)
        reported.add_done_callback(lambda settled: loop.crossing.answer(effective, settled))

    def abandon(self, blocked: Callable[[ports.Assignment], ports.Blocked | None], stack: str) -> None:
        """Give the active loop up, because its code blocks it. `blocked` says of a job whether it is the one, and what
        of it blocks."""
        old, leases = self.active, self._leases
        metrics.ABANDONED.inc()
        log.error("user loop blocked and abandoned", held=len(leases), stack=stack)
        old.abandon()
        self._abandoned = [*(loop for loop in self._abandoned if loop.alive), old]
        self._leases = {}
        if len(self._abandoned) >= self._loops_max:
            log.error("too many user loops are blocked; the runner ends", blocked=len(self._abandoned))
            self.exhausted.set()
        else:
            self.active = self._start()
        for job_id, lease in leases.items():
            self._continue(job_id, lease.assignment, blocked(lease.assignment))

    def _continue(self, job_id: UUID, assignment: ports.Assignment, blocked: ports.Blocked | None) -> None:
        if blocked is None or self.exhausted.is_set():
            self.session.outcome(job_id, assignment.lease, _HANDED_BACK)
            return
        blocks = self._blocks.pop(job_id, 0) + 1
        if blocked.in_step and blocks < BLOCKS_MAX:
            self._blocks[job_id] = blocks
            self.assign(replace(assignment, blocked=blocked))
        else:
            # The agent's own code, or a step that is tried again and blocks again.
            reason = f"{blocked.failure.message}\n{blocked.failure.stack}"[:1_024]
            self.session.outcome(job_id, assignment.lease, ports.Parked(reason, operator=True))

    # The life of the runner.

    async def interrupt_abandoned(self) -> None:
        """Interrupt abandoned threads again and again, for their code may suppress it."""
        while True:
            await asyncio.sleep(_INTERRUPT_S)
            self._abandoned = [loop for loop in self._abandoned if loop.alive]
            for loop in self._abandoned:
                loop.interrupt()

    async def watch(self) -> None:
        """Raise Unavailable when too many loops are blocked."""
        await self.exhausted.wait()
        raise Unavailable("too many user loops are blocked: the code of this runner's agents blocks its event loop")

    async def drained(self, deadline_s: float) -> None:
        """Hand every job back, also if the user loop does not answer."""
        self.drain()
        loop = self.active
        waiting = asyncio.ensure_future(_called(loop, lambda: _jobs(loop).drained(deadline_s)))
        await asyncio.wait([waiting], timeout=deadline_s + _ANSWER_S)
        waiting.cancel()
        for job_id, lease in self.held:
            del self._leases[job_id]
            self.session.outcome(job_id, lease, ports.Released("the runner stops"))

    async def close(self) -> None:
        loop = self.active
        waiting = asyncio.ensure_future(_called(loop, lambda: _jobs(loop).close()))
        await asyncio.wait([waiting], timeout=_END_S)
        waiting.cancel()
        loop.stop()
        if not await loop.ended(_END_S):
            log.warning("the user loop does not end; the process ends without it")

    def _holds(self, job_id: UUID, lease: int) -> _Lease | None:
        held = self._leases.get(job_id)
        return held if held is not None and held.assignment.lease == lease else None

    def _start(self) -> UserLoop:
        self._made += 1
        loop = UserLoop(self._made)
        loop.jobs = self._jobs_on(
            loop.crossing, CrossingReports(_Reported(self, loop), loop.crossing), _Leases(self, loop)
        )
        if self._draining:
            loop.crossing.inbox.post(loop.jobs.drain)
        loop.start()
        return loop


async def _called(loop: UserLoop, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Await `call` on the user loop."""
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), loop.loop))


def _jobs(loop: UserLoop) -> HeldJobs:
    assert loop.jobs is not None
    return loop.jobs


def _set(effective: asyncio.Future[bool], value: bool) -> None:
    if not effective.done():
        effective.set_result(value)
