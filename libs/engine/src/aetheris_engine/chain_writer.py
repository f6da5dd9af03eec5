"""Writes one job's chain: sends what `core.tail` decides, and tells the commands that wait for an answer.

There is no task per commit and no timer. What a turn of the event loop recorded is sent at the end of that turn; while
that commit is on its way the rest collects, and the answer sends the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from aetheris_journal.append import Answer, AppendOutcome
from aetheris_journal.events import EffectStarted, Event
from aetheris_kernel.errors import Fenced

from aetheris_engine.core.tail import EventTooLarge, Tail
from aetheris_engine.ports import Journal


class RecordClosed(RuntimeError):
    """An event was recorded although nothing is written any more: the lease is lost, or the run was taken down."""


class ChainWriter:
    """When nothing can be written any more, the error goes to every command that waits and, once, to `on_stop`."""

    def __init__(self, tail: Tail, journal: Journal) -> None:
        self._tail, self._journal = tail, journal
        self._stop: Callable[[Exception], None] | None = None
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._due = False
        self._stopped = False
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._intents: dict[str, Callable[[Answer], None]] = {}
        self._asking: set[asyncio.Future[Answer]] = set()
        self._progressed: Callable[[], None] | None = None
        self._progress_due = 0.0

    @property
    def full(self) -> bool:
        return self._tail.full

    @property
    def lease(self) -> int:
        return self._tail.lease

    @property
    def written_bytes(self) -> int:
        """The sizes of the job's commits since its last checkpoint."""
        return self._tail.written_bytes

    def forget_written(self, kept_bytes: int) -> None:
        """The program begins again from a checkpoint, with a state of so many bytes."""
        self._tail.written_bytes = kept_bytes

    @property
    def unwritten(self) -> Sequence[Event]:
        """The events that were recorded here and that the ledger has not acknowledged."""
        return self._tail.outstanding

    def record(self, event: Event) -> int:
        ticket = self._record(event)
        self.send_soon()
        return ticket

    def open(self, event: Event) -> None:
        """Record without sending: the event that begins a lease goes into one commit with the first that follow."""
        self._record(event)

    def send_soon(self) -> None:
        if not self._due and not self._tail.in_flight:
            self._due = True
            self._loop.call_soon(self._send)

    @property
    def stopped(self) -> bool:
        """Nothing is written any more."""
        return self._stopped

    async def intend(self, event: EffectStarted, decided: Callable[[Answer], None]) -> Answer:
        """Record an intent. The ledger's answer is the permission to act, or the reason why not. `decided` gets it even
        if the caller is cancelled before it comes."""
        self.record(event)
        permission: asyncio.Future[Answer] = self._loop.create_future()
        self._asking.add(permission)
        permission.add_done_callback(self._asking.discard)

        def answered(answer: Answer) -> None:
            decided(answer)
            if not permission.done():
                permission.set_result(answer)

        self._intents[event.key] = answered
        return await permission

    async def durable(self, ticket: int) -> None:
        """Return when `ticket` and everything before it is safe."""
        if self._tail.durable < ticket:
            self.send_soon()
            waiter = self._loop.create_future()
            self._waiters.append((ticket, waiter))
            await waiter

    async def settled(self) -> None:
        await self.durable(self._tail.recorded)

    async def room(self) -> None:
        """Wait until the holder may run further ahead of its record."""
        while self._tail.full:
            await self.durable(self._tail.durable + 1)

    def lease_again(self, lease: int) -> None:
        """Go on under the very next lease. Its number shows that no other runner held the job in between."""
        self._tail.lease = lease

    def on_progress(self, progressed: Callable[[], None], *, after_s: float) -> None:
        """Call `progressed` once, when a commit becomes durable `after_s` from now or later."""
        self._progressed = progressed
        self._progress_due = self._loop.time() + after_s

    def on_stop(self, stop: Callable[[Exception], None]) -> None:
        """Call `stop` once nothing can be written any more; at once where that is so already."""
        self._stop = stop
        if self._error is not None:
            stop(self._error)

    def close(self) -> None:
        self._stopped = True

    def _record(self, event: Event) -> int:
        if self._stopped:
            raise RecordClosed(f"{type(event).__name__} after this run has lost its record") from self._error
        try:
            return self._tail.record(event)
        except EventTooLarge as error:
            # A record with a hole in it is worse than none: the run stops here, as at a fault.
            self._fail(error)
            raise

    def _send(self) -> None:
        self._due = False
        if self._stopped:
            return
        append = self._tail.take()
        if append is not None:
            self._journal.append(append).add_done_callback(self._answered)

    def _answered(self, sent: asyncio.Future[Answer]) -> None:
        if sent.cancelled() or self._stopped:
            return
        error = sent.exception()
        if error is not None:
            self._fail(error if isinstance(error, Exception) else RuntimeError(str(error)))
            return
        answer = sent.result()
        match answer.outcome:
            case AppendOutcome.APPENDED:
                self._appended(answer)
            case AppendOutcome.RECORDED | AppendOutcome.IN_FLIGHT | AppendOutcome.IN_DOUBT | AppendOutcome.SPENT:
                self._tail.withdraw(answer.key)
                self._permit(answer.key, answer)
                self._tell_waiters()
            case AppendOutcome.FENCED:
                self._fail(Fenced("another lease wrote to the chain", lease=self._tail.lease))
                return
            case AppendOutcome.REFUSED:
                self._fail(RuntimeError(f"the ledger refuses the append: {answer.message}"))
                return
        self._send()

    def _appended(self, answer: Answer) -> None:
        for key in self._tail.acknowledge(answer.hash):
            self._permit(key, answer)
        self._tell_waiters()
        if self._progressed is not None and self._loop.time() >= self._progress_due:
            self._progressed()
            self._progressed = None

    def _tell_waiters(self) -> None:
        # Commands wait for tickets almost in order, so a queue is enough. A ticket that is waited for out of order is
        # answered together with the tickets around it.
        while self._waiters and self._waiters[0][0] <= self._tail.durable:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _permit(self, key: str, answer: Answer) -> None:
        answered = self._intents.pop(key, None)
        if answered is not None:
            answered(answer)

    def _fail(self, error: Exception) -> None:
        self._stopped = True
        waiters: list[asyncio.Future[None] | asyncio.Future[Answer]] = [waiter for _, waiter in self._waiters]
        for waiter in (*waiters, *self._asking):
            if not waiter.done():
                waiter.set_exception(error)
        self._error = error
        if self._stop is not None:
            self._stop(error)
