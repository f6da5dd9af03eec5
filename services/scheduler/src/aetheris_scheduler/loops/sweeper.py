"""What time brings: timers that are due, deadlines that have passed, leases that have run out.

One look at the store, a few index heads in one statement, tells what is due and when the next will be; what
this process itself sets is known without looking. So a timer fires within milliseconds, and an idle
scheduler asks two or three times a second if a runner of its own has room, and else once.

Leases of other schedulers' sessions expire by the database's clock. If that clock leaps, they are given time
to renew before anything is taken from them; the sessions of this one are known to be well.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Unavailable

from aetheris_scheduler.loops.dispatcher import Dispatcher
from aetheris_scheduler.store.contract import Look, Store

log = structlog.get_logger()

LOOK_HUNGRY_S = 0.4
LOOK_S = 1.0
# Two sweeps are at least this far apart, however many timers are due one after another.
_PAUSE_S = 0.002
# Further than this the two clocks do not drift apart between two looks; one of them was set.
_LEAP_S = 0.5


class Sweeper:
    def __init__(self, store: Store, dispatcher: Dispatcher, clock: Clock) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        # The store's clock minus ours, at the last look.
        self._ahead_s: float | None = None
        # When, by our clock, the next thing that we know of is due.
        self._due_at = float("inf")
        self._spare_until = float("-inf")
        self._sooner = asyncio.Event()

    def due_in(self, seconds: float) -> None:
        self._due(self._clock.monotonic() + seconds)

    def due_at(self, moment: datetime) -> None:
        """By the store's clock. Before the first look nothing is known of that; it will see for itself."""
        if self._ahead_s is not None:
            self._due(moment.timestamp() - self._ahead_s)

    async def run(self) -> None:
        while True:
            try:
                await self.turn()
                pause_s = LOOK_HUNGRY_S if self._dispatcher.hungry else LOOK_S
            except Unavailable as away:
                log.warning("cannot look what is due", problem=away.message)
                pause_s = self._again_later()
            except Exception:
                log.exception("cannot look what is due")
                pause_s = self._again_later()
            await self._sleep(pause_s)

    async def turn(self) -> None:
        """Look, and sweep what is due, until nothing is."""
        while True:
            self._due_at = float("inf")
            sessions = [seat.session.id for seat in self._dispatcher.seats.open]
            well = [seat.session.id for seat in self._dispatcher.seats.well()]
            look = await self._store.look(sessions, keep=well)
            self._mind_leaps(look.now.timestamp() - self._clock.monotonic())
            self._dispatcher.looked(look)
            timers, deadlines = _due(look.wake_at, look), _due(look.deadline, look)
            sessions_over = _due(look.lease_deadline, look) and self._clock.monotonic() >= self._spare_until
            if not (timers or deadlines or sessions_over):
                self._note(look)
                return
            await self._dispatcher.sweep(timers=timers, deadlines=deadlines, sessions=sessions_over)
            await asyncio.sleep(_PAUSE_S)

    def _again_later(self) -> float:
        self._due_at = float("inf")
        return LOOK_HUNGRY_S

    def _note(self, look: Look) -> None:
        for moment in (look.wake_at, look.deadline, look.lease_deadline):
            if moment is not None and moment > look.now:
                self.due_at(moment)
        if self._clock.monotonic() < self._spare_until:
            self._due(self._spare_until)

    def _mind_leaps(self, ahead_s: float) -> None:
        if self._ahead_s is not None and abs(ahead_s - self._ahead_s) > _LEAP_S:
            log.warning("the database's clock was set", seconds=round(ahead_s - self._ahead_s, 3))
            self._spare_until = self._clock.monotonic() + self._dispatcher.lease_s
        self._ahead_s = ahead_s

    def _due(self, at: float) -> None:
        if at < self._due_at:
            self._due_at = at
            self._sooner.set()

    async def _sleep(self, pause_s: float) -> None:
        until = self._clock.monotonic() + pause_s
        while (left := min(until, self._due_at) - self._clock.monotonic()) > 0:
            self._sooner.clear()
            try:
                async with asyncio.timeout(left):
                    await self._sooner.wait()
            except TimeoutError:
                return


def _due(moment: datetime | None, look: Look) -> bool:
    return moment is not None and moment <= look.now
