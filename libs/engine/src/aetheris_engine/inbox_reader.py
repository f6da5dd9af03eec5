"""How a job hears: it reads its inbox on from where it last stopped, and gives what came to its waits.

    woken, leased ───► read on ──► waits end
    a deadline ──────► withdraw the question ──► read on ──► what came wins; else the time is over
    the inbox away ──► listen again soon; a deadline that has waited for it long enough wins, but not over a
                       question: somebody may have been told that their answer counts

A note that was accepted before its wait's deadline is never beaten by it, because whoever says "timed out"
has looked once more since. However often the job is woken, a note is fetched once; a message that there
was no room for, once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import structlog
from aetheris_journal.events import WaitKind
from aetheris_kernel.errors import Refusal, Unavailable

from aetheris_engine.core.waits import Note, Wait
from aetheris_engine.execution import Stage
from aetheris_engine.ports import Page

log = structlog.get_logger()

# How soon an inbox that was away is listened to again, at first and at last. Whatever comes anew wakes the job.
AGAIN, AGAIN_MAX = timedelta(seconds=2), timedelta(seconds=32)


class Listening:
    """The ear of one run."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._heard = False
        self._under_way = False
        self._again = AGAIN
        # The last note that was read.
        self._after = ""
        # What the chain had when the job was taken over. It alone may be settled on sight: what this run
        # has recorded since may not be durable yet.
        self._recorded: frozenset[str] = frozenset()

    def begin(self, recorded: Iterable[str]) -> None:
        """The job has been taken over, and these notes are in its chain."""
        self._recorded = frozenset(recorded)

    def hear(self) -> None:
        """Something came, or may have."""
        self._heard = False
        self._stage.deaf_until = None

    def soon(self) -> None:
        """Listen, if there is anything to listen for. The job does not come to rest meanwhile."""
        if self._under_way or not self._wanted():
            return
        self._under_way = True
        self._stage.spawn_listener(self._listen())

    def _wanted(self) -> bool:
        stage = self._stage
        contested = stage.waits.contested(stage.time)
        if stage.deaf_until is not None and stage.time < stage.deaf_until:
            return any(wait.kind is not WaitKind.APPROVAL for wait in contested)
        return bool(contested) or (stage.waits.wants_notes and (not self._heard or bool(stage.waits.missing)))

    async def _listen(self) -> None:
        stage = self._stage
        contested: Sequence[Wait] = stage.waits.contested(stage.time)
        stale, self._heard = bool(contested) or not self._heard, True
        try:
            await self._withdraw(contested)
            if stale:
                await self._read_on()
            await self._read_missing()
            stage.deaf_until, self._again = None, AGAIN
        except Unavailable as away:
            log.warning("inbox away", job_id=str(stage.job_id), problem=away.message, deadlines=len(contested))
            self._heard = False
            stage.deaf_until = stage.time + self._again
            self._again = min(2 * self._again, AGAIN_MAX)
            contested = [wait for wait in contested if wait.kind is not WaitKind.APPROVAL]
        except Refusal as refusal:
            stage.stop(refusal)
            return
        finally:
            self._under_way = False
        stage.end(stage.waits.give_up(contested))

    async def _withdraw(self, contested: Sequence[Wait]) -> None:
        """A question whose time is over takes no more answers. One that came before is in the inbox."""
        for wait in contested:
            if wait.kind is WaitKind.APPROVAL:
                await self._stage.hands.desk.close(self._stage.assignment, wait.key, "expired")

    async def _read_on(self) -> None:
        stage, more = self._stage, True
        while more:
            after = self._after
            page = await self._page(after)
            more = page.more
            if not page.notes:
                return
            fresh = [note for note in page.notes if note.note_id not in self._recorded]
            stale = [note.note_id for note in page.notes if note.note_id in self._recorded]
            if stale:
                stage.hands.inbox.settle(stage.assignment, stale)
            self._after = page.notes[-1].note_id
            stage.end(stage.waits.deliver(fresh, after))

    async def _read_missing(self) -> None:
        """Messages that there was no room for when they came."""
        stage = self._stage
        for channel in stage.waits.missing:
            after, more = stage.waits.reread(channel), True
            while more:
                try:
                    page = await self._page(after)
                except BaseException:
                    stage.waits.miss(channel, after)
                    raise
                fresh: list[Note] = [note for note in page.notes if note.note_id not in self._recorded]
                stage.end(stage.waits.deliver_missing(channel, fresh, after))
                more = page.more
                if page.notes:
                    after = page.notes[-1].note_id
                if more and stage.waits.plenty:
                    stage.waits.miss(channel, after)
                    break

    async def _page(self, after: str) -> Page:
        return await self._stage.hands.inbox.fetch(self._stage.assignment, after)
