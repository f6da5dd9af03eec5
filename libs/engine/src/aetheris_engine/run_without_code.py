"""The end of a job without its agent's code: of one that is to be terminated, or that is cancelled where no runner
offers its agent. The record alone decides what is left to do.

    take over ──► a compensation is owed? ── yes, and not terminated ──► Released(needs_code)
                     │ no, or terminated
                     └──► cancel the children ──► effects without an outcome are in doubt ──► job_cancelled
"""

from __future__ import annotations

from uuid import UUID

import structlog
from aetheris_journal import events as e
from aetheris_journal.replay import ChildRecord
from aetheris_kernel.errors import JobFinished, Refusal

from aetheris_engine import approval, compensation, effect
from aetheris_engine.ports import UNANSWERED, Assignment, Cancelled, Outcome, Released, Services
from aetheris_engine.takeover import Taken, take_over

log = structlog.get_logger()

_PARENT_ENDED = "its parent has ended"


class RunWithoutCode:
    """Stands in the place of a `Run` for one lease. It gives no command, so there is nothing to wake, and it parks
    never."""

    def __init__(self, assignment: Assignment, services: Services) -> None:
        self.job_id: UUID = assignment.job_id
        self.lease: int = assignment.lease
        self._services = services

    async def hold(self, assignment: Assignment) -> Outcome:
        """End the job and return its outcome. Raises Fenced if the lease is already over."""
        services = self._services
        taken = await take_over(assignment, "", services)
        if not isinstance(taken, Taken):
            return taken
        await taken.writer.settled()
        owed = compensation.open_effects(taken.replay)
        if owed and not assignment.terminate:
            reason = f"the effect at step {owed[0]} is to be compensated, which takes the code of {assignment.agent!r}"
            return Released(reason, needs_code=True)
        for child in tuple(taken.replay.children.values()):
            if child.parent_close != "abandon":
                await self._cancel_child(assignment, child)
        now = services.clock.now()
        for event in effect.without_outcome(taken.replay, now):
            taken.writer.record(event)
        terminated = assignment.terminate
        taken.writer.record(e.JobCancelled(assignment.cancel_reason, terminated=terminated, at=now))
        await taken.writer.settled()
        await approval.withdraw_all(services, assignment, taken.replay)
        return Cancelled(assignment.cancel_reason)

    def wake(self) -> None:
        """Nothing waits here."""

    def cancel(self, reason: str) -> None:
        """The job is being ended already."""

    def leave(self, reason: str) -> None:
        """The end is so near that the job is not handed back."""

    def lost(self) -> None:
        """No code runs that would have to be stopped."""

    async def close(self) -> None:
        """No code runs that would have to be stopped."""

    async def _cancel_child(self, assignment: Assignment, child: ChildRecord) -> None:
        """Raises Unavailable while the scheduler is away: then the job is handed back and ended a little later."""
        try:
            # Submitted before it is cancelled: a former holder may still be about to submit it, and a cancel that came
            # first would miss it.
            await self._services.children.submit(assignment, child)
            await self._services.children.cancel(assignment, child.job_id, _PARENT_ENDED)
        except UNANSWERED:
            raise
        except JobFinished:
            return
        except Refusal as refusal:
            log.warning("child not cancelled", child_job_id=child.job_id, problem=refusal.message)
