"""Reads a job's inbox from where it last stopped and delivers every entry to the waits.

    woken, leased ────► read on ──► waits end
    a deadline ───────► withdraw the approval ──► read on ──► an entry that came wins; else the time is over
    the gateway away ─► read again soon; a deadline that has waited for the gateway long enough wins, but not over an
                        approval: an approver may have been told that the decision counts

The inbox is read once more before a wait times out, so an entry that the gateway accepted before the deadline always
wins. An entry is fetched once, no matter how often the job is woken; a message that did not fit into the buffer is
fetched once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import structlog
from aetheris_journal.events import WaitKind
from aetheris_kernel.errors import Refusal

from aetheris_engine.core.waits import InboxEntry, Wait
from aetheris_engine.execution import Execution
from aetheris_engine.ports import UNANSWERED, InboxPage

log = structlog.get_logger()

# The first and the longest pause before the inbox is read again after the gateway was away. A new entry wakes the job
# anyway.
AGAIN, AGAIN_MAX = timedelta(seconds=2), timedelta(seconds=32)


class InboxReader:
    """Reads the inbox of one run."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._up_to_date = False
        self._under_way = False
        self._again = AGAIN
        # The last entry that was read.
        self._after = ""
        # The entries that the chain had when the job was taken over. If the inbox delivers one of them again, it is
        # settled at once. Entries that this run has recorded are settled later, because their record may not be durable
        # yet.
        self._recorded: frozenset[str] = frozenset()
        # Those of them that the inbox has delivered again.
        self._repeated: set[str] = set()

    def begin(self, recorded: Iterable[str]) -> None:
        """Note the entries that were in the chain when the job was taken over."""
        self._recorded = frozenset(recorded)

    def wake(self) -> None:
        """Note that the inbox may have a new entry."""
        self._up_to_date = False
        self._execution.inbox_away_until = None

    def soon(self) -> None:
        """Read the inbox, if a wait needs it. The job does not park meanwhile."""
        if self._under_way or not self._wanted():
            return
        self._under_way = True
        self._execution.spawn_listener(self._read())

    def _wanted(self) -> bool:
        execution = self._execution
        contested = execution.waits.contested(execution.time)
        if execution.inbox_away_until is not None and execution.time < execution.inbox_away_until:
            return any(wait.kind is not WaitKind.APPROVAL for wait in contested)
        return bool(contested) or (
            execution.waits.wants_entries and (not self._up_to_date or bool(execution.waits.missing))
        )

    async def _read(self) -> None:
        execution = self._execution
        contested: Sequence[Wait] = execution.waits.contested(execution.time)
        stale, self._up_to_date = bool(contested) or not self._up_to_date, True
        try:
            await self._withdraw(contested)
            if stale:
                await self._read_on()
            await self._read_missing()
            execution.inbox_away_until, self._again = None, AGAIN
        except UNANSWERED as away:
            log.warning("inbox away", job_id=str(execution.job_id), problem=away.message, deadlines=len(contested))
            self._up_to_date = False
            execution.inbox_away_until = execution.time + self._again
            self._again = min(2 * self._again, AGAIN_MAX)
            contested = [wait for wait in contested if wait.kind is not WaitKind.APPROVAL]
        except Refusal as refusal:
            execution.stop(refusal)
            return
        finally:
            self._under_way = False
        execution.end(execution.waits.give_up(contested))

    async def _withdraw(self, contested: Sequence[Wait]) -> None:
        """Withdraw an approval whose deadline has passed, so that the gateway accepts no more decisions. An earlier
        decision is in the inbox then."""
        for wait in contested:
            if wait.kind is WaitKind.APPROVAL:
                await self._execution.services.approvals.close(self._execution.assignment, wait.key, "expired")

    async def _read_on(self) -> None:
        execution, more = self._execution, True
        while more:
            after = self._after
            page = await self._page(after)
            more = page.more
            if not page.entries:
                break
            fresh = [entry for entry in page.entries if entry.entry_id not in self._recorded]
            stale = [entry.entry_id for entry in page.entries if entry.entry_id in self._recorded]
            if stale:
                execution.services.inbox.settle(execution.assignment, stale)
                self._repeated.update(stale)
            self._after = page.entries[-1].entry_id
            execution.end(execution.waits.deliver(fresh, after))
        # The inbox is read to its end: it has no other entry any more that was recorded before the takeover.
        self._recorded = frozenset(self._repeated)

    async def _read_missing(self) -> None:
        """Read the messages again that did not fit into the buffer."""
        execution = self._execution
        for channel in execution.waits.missing:
            after, more = execution.waits.reread(channel), True
            while more:
                try:
                    page = await self._page(after)
                except BaseException:
                    execution.waits.miss(channel, after)
                    raise
                fresh: list[InboxEntry] = [entry for entry in page.entries if entry.entry_id not in self._recorded]
                execution.end(execution.waits.deliver_missing(channel, fresh, after))
                more = page.more
                if page.entries:
                    after = page.entries[-1].entry_id
                if not more:
                    execution.waits.reread_ended(channel)
                elif execution.waits.plenty:
                    execution.waits.miss(channel, after)
                    break

    async def _page(self, after: str) -> InboxPage:
        return await self._execution.services.inbox.fetch(self._execution.assignment, after)
