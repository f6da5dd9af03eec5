"""Keeps the leases of the sessions whose streams end here: renews those that beat, three times in a lease and
all in one statement; gives up those that fell silent; shortens those whose stream is gone.

A runner's silence is measured by this process's monotonic clock, never by a wall clock: a clock that is set,
here or at the database, neither loses a lease nor keeps a dead one.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, Unavailable

from aetheris_scheduler.loops.dispatcher import Dispatcher
from aetheris_scheduler.runners.connection import Seat
from aetheris_scheduler.store.contract import Store

log = structlog.get_logger()

RENEWALS_PER_LEASE = 3


class Leases:
    def __init__(self, store: Store, dispatcher: Dispatcher, clock: Clock) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._every_s = dispatcher.lease_s / RENEWALS_PER_LEASE
        self._gone: deque[Seat] = deque()
        self._somebody_left = asyncio.Event()

    def left(self, seat: Seat) -> None:
        """Its stream is over."""
        self._gone.append(seat)
        self._somebody_left.set()

    async def run(self) -> None:
        renew_at = self._clock.monotonic()
        while True:
            try:
                await self.shorten()
                if (now := self._clock.monotonic()) >= renew_at:
                    self.give_up_silent()
                    await self.renew()
                    renew_at = now + self._every_s
            except Unavailable as away:
                # The leases run on by the database's clock; whoever beats meanwhile is renewed once it is back.
                log.warning("leases not renewed", problem=away.message)
                await asyncio.sleep(self._every_s / 10)
            except Exception:
                log.exception("leases not renewed")
                await asyncio.sleep(self._every_s / 10)
            await self._until(renew_at)

    async def shorten(self) -> None:
        while self._gone:
            seat = self._gone.popleft()
            try:
                over = await self._store.leave(seat.session.id, seat.session.stream, grace_s=seat.grace_s)
            except Unavailable:
                self._gone.appendleft(seat)
                raise
            if not over:
                self._dispatcher.due_in(seat.grace_s)

    def give_up_silent(self) -> None:
        now = self._clock.monotonic()
        for seat in self._dispatcher.seats.open:
            if not seat.well(now, self._dispatcher.lease_s):
                log.warning("runner fell silent", session_id=seat.session.id, runner_id=seat.session.runner_id)
                seat.expire(Conflict("this session neither beat nor listened for too long; start a new one"))

    async def renew(self) -> None:
        beating = [seat for seat in self._dispatcher.seats.open if self._beats(seat)]
        if not beating:
            return
        beats = [seat.session.beat for seat in beating]
        keys = [(seat.session.id, seat.session.stream) for seat in beating]
        renewed = await self._store.renew(keys, lease_s=self._dispatcher.lease_s)
        for seat, beat in zip(beating, beats, strict=True):
            draining = renewed.get(seat.session.id)
            if draining is None:
                seat.expire(Conflict("this session has expired; start a new one", session_id=seat.session.id))
                continue
            seat.session.renewed = beat
            seat.outbox.renew(beat)
            if draining:
                seat.drain()

    def _beats(self, seat: Seat) -> bool:
        """It gave a sign of life since its last renewal, and hears what it is told."""
        return seat.hears(self._clock.monotonic(), self._every_s) and seat.session.beat > seat.session.renewed

    async def _until(self, moment: float) -> None:
        self._somebody_left.clear()
        if self._gone:
            return
        try:
            async with asyncio.timeout(max(moment - self._clock.monotonic(), 0)):
                await self._somebody_left.wait()
        except TimeoutError:
            pass
