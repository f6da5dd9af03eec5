"""What one run knows of its children beside the record, and how it hears of their ends.

A wait asks about its child once; what ends later is behind the number that came with that answer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from aetheris_journal import events as e
from aetheris_kernel.errors import Refusal, Unavailable

if TYPE_CHECKING:
    from aetheris_engine.execution import Stage

log = structlog.get_logger()

ASKED_MAX = 1_000
# How soon a scheduler that was away is asked again. The job is not let go meanwhile: it might miss an end.
_AGAIN_S = 0.5


class Family:
    def __init__(self, stage: Stage) -> None:
        # The children that the scheduler has, as far as this run knows.
        self.submitted: set[str] = set()
        self._stage = stage
        self._heard = False
        self._under_way = False
        # Up to which number the ends are known.
        self._after: int | None = None
        # The children that are waited for and had not ended when they were asked about.
        self._asked: set[str] = set()

    def hear(self) -> None:
        """A child may have ended."""
        self._heard = False

    def soon(self) -> None:
        """Ask, if there is anything to ask. The job does not come to rest meanwhile."""
        if self._under_way or not self._wanted():
            return
        self._under_way = True
        self._stage.spawn_listener(self._listen())

    def ended(self, path: str, job_id: str, result: bytes, failure: e.Failure | None) -> None:
        """Write down how a child ended."""
        completed = e.ChildCompleted(path, job_id, result, failure, at=self._stage.now())
        self._stage.scribe.record(completed, value_bytes=len(result))
        self._stage.replay.child_completed(completed)

    def _wanted(self) -> bool:
        awaited = self._stage.waits.children
        return bool(awaited) and (not self._heard or not awaited <= self._asked)

    async def _listen(self) -> None:
        try:
            while self._wanted():
                try:
                    await self._ask()
                except Unavailable as away:
                    log.warning("scheduler away", job_id=str(self._stage.job_id), problem=away.message)
                    self._heard = False
                    await asyncio.sleep(_AGAIN_S)
        except Refusal as refusal:
            self._stage.stop(refusal)
        finally:
            self._under_way = False

    async def _ask(self) -> None:
        stage, more = self._stage, True
        self._heard = True
        while more:
            fresh = sorted(stage.waits.children - self._asked)[:ASKED_MAX]
            page = await stage.hands.children.ended(stage.assignment, self._after, fresh)
            for job_id in page.job_ids:
                await self._tell(job_id)
            self._asked.update(set(fresh).difference(page.job_ids))
            self._asked.difference_update(page.job_ids)
            self._after, more = page.next, page.more

    async def _tell(self, job_id: str) -> None:
        """Whoever waits for it. Where nobody does, whoever will, asks."""
        stage = self._stage
        if not stage.waits.for_child(job_id):
            return
        if job_id not in stage.replay.child_ends:
            outcome = await stage.hands.children.outcome(stage.assignment, job_id)
            waiting = stage.waits.for_child(job_id)
            if not waiting:
                # The program is over, and so may be the record.
                return
            self.ended(waiting[0].path, job_id, outcome.result, outcome.failure)
        stage.end(stage.waits.child_ended(job_id))
