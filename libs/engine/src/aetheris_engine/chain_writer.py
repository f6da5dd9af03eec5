"""Writes one job's chain: the arm of `core.tail`.

There is no task per commit and no timer. What a turn of the event loop recorded goes out at its end;
while that is on its way the rest collects; the answer sends the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from aetheris_journal.events import EffectStarted, Event
from aetheris_kernel.errors import Fenced

from aetheris_engine.core.tail import Tail
from aetheris_engine.ports import Answer, Decision, Journal


class Scribe:
    """`stop` is told once when nothing can be written any more; whoever waits is told too."""

    def __init__(self, tail: Tail, journal: Journal, stop: Callable[[Exception], None]) -> None:
        self._tail, self._journal, self._stop = tail, journal, stop
        self._loop = asyncio.get_running_loop()
        self._due = False
        self._stopped = False
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._intents: dict[str, asyncio.Future[Answer]] = {}
        self._progressed: Callable[[], None] | None = None
        self._progress_due = 0.0

    @property
    def full(self) -> bool:
        return self._tail.full

    @property
    def lease(self) -> int:
        return self._tail.lease

    @property
    def unwritten(self) -> Sequence[Event]:
        """What was recorded and is not known to be durable."""
        return self._tail.outstanding

    def record(self, event: Event, value_bytes: int = 0) -> int:
        ticket = self._tail.record(event, value_bytes)
        self.send_soon()
        return ticket

    def open(self, event: Event) -> None:
        """Record without sending: what begins a lease travels with what it brings about."""
        self._tail.record(event)

    def send_soon(self) -> None:
        if not self._due and not self._tail.in_flight:
            self._due = True
            self._loop.call_soon(self._send)

    def intend(self, event: EffectStarted, value_bytes: int) -> asyncio.Future[Answer]:
        """Record an intent. The answer is the permission to act, or why not."""
        permission = self._loop.create_future()
        self._intents[event.key] = permission
        self.record(event, value_bytes)
        return permission

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
        """The same holder under a later lease, with nobody in between: the chain is where it was."""
        self._tail.lease = lease

    def on_progress(self, progressed: Callable[[], None], *, after_s: float) -> None:
        """Tell somebody, once, when a commit becomes durable that long from now or later."""
        self._progressed = progressed
        self._progress_due = self._loop.time() + after_s

    def on_stop(self, stop: Callable[[Exception], None]) -> None:
        """Tell somebody else from here on."""
        self._stop = stop

    def close(self) -> None:
        self._stopped = True

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
        match answer.decision:
            case Decision.APPENDED:
                self._appended(answer)
            case Decision.RECORDED | Decision.IN_FLIGHT | Decision.IN_DOUBT | Decision.SPENT:
                self._tail.withdraw(answer.key)
                self._permit(answer.key, answer)
                self._tell_waiters()
            case Decision.FENCED:
                self._fail(Fenced("another lease wrote to the chain", lease=self._tail.lease))
                return
            case Decision.REFUSED:
                self._fail(RuntimeError(f"the ledger refuses the append: {answer.message}"))
                return
        self._send()

    def _appended(self, answer: Answer) -> None:
        for key in self._tail.acknowledge(answer.head):
            self._permit(key, answer)
        self._tell_waiters()
        if self._progressed is not None and self._loop.time() >= self._progress_due:
            self._progressed()
            self._progressed = None

    def _tell_waiters(self) -> None:
        # Tickets are asked for in order but for rare overtakers, which wait for their neighbours.
        while self._waiters and self._waiters[0][0] <= self._tail.durable:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _permit(self, key: str, answer: Answer) -> None:
        permission = self._intents.pop(key, None)
        if permission is not None and not permission.done():
            permission.set_result(answer)

    def _fail(self, error: Exception) -> None:
        self._stopped = True
        for waiter in [waiter for _, waiter in self._waiters] + list(self._intents.values()):
            if not waiter.done():
                waiter.set_exception(error)
        self._stop(error)
