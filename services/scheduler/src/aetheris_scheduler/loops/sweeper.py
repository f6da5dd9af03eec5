"""Finds what has become due: timers, deadlines, and the leases of sessions that did not renew.

One look at the store, a few index heads in one statement, says what is due and when the next will be. What this process
itself sets is known without a look: the alarm has it. So a timer fires within milliseconds, and an idle scheduler looks
two or three times a second if a runner of its own has room, and otherwise once.

The leases of other schedulers' sessions expire by the database's clock. If that clock is set, all sessions get time to
renew before one is expired; this process's own sessions are known to be well.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Unavailable

from aetheris_scheduler.loops.alarm import Alarm
from aetheris_scheduler.loops.dispatcher import Dispatcher
from aetheris_scheduler.store.contract import Look, Store
from aetheris_scheduler.store.tick import TERMINATE_S

log = structlog.get_logger()

# How long to wait for the next look, with and without room at this process's runners.
LOOK_WITH_ROOM_S = 0.4
LOOK_S = 1.0
# Two sweeps are at least this far apart, however many timers are due one after another.
_PAUSE_S = 0.002
# Two clocks do not drift apart by more than this between two looks; beyond it, one of them was set.
_LEAP_S = 0.5


class Sweeper:
    def __init__(self, store: Store, dispatcher: Dispatcher, alarm: Alarm, clock: Clock) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._alarm = alarm
        self._clock = clock
        # Until then, by this process's clock, no session of another scheduler is expired.
        self._spare_until = float("-inf")

    async def run(self) -> None:
        while True:
            try:
                await self.turn()
                pause_s = LOOK_WITH_ROOM_S if self._dispatcher.has_room else LOOK_S
            except Unavailable as away:
                log.warning("cannot look what is due", problem=away.message)
                pause_s = self._again_later()
            except Exception:
                log.exception("cannot look what is due")
                pause_s = self._again_later()
            await self._alarm.sleep(pause_s)

    async def turn(self) -> None:
        """Look and sweep, until nothing is due."""
        connections = self._dispatcher.connections
        while True:
            self._alarm.clear()
            sessions = [connection.session.id for connection in connections.open]
            well = [connection.session.id for connection in connections.well()]
            look = await self._store.look(sessions, keep=well)
            self._measure_clock(look.now.timestamp() - self._clock.monotonic())
            self._dispatcher.looked(look)
            timers, deadlines = _due(look.wake_at, look), _due(look.deadline, look)
            expired = _due(look.lease_deadline, look) and self._clock.monotonic() >= self._spare_until
            late = None if look.terminate_at is None else look.terminate_at + timedelta(seconds=TERMINATE_S)
            terminations = _due(late, look)
            if not (timers or deadlines or expired or terminations):
                self._set_alarm(look)
                return
            await self._dispatcher.sweep(
                timers=timers, deadlines=deadlines, sessions=expired, terminations=terminations
            )
            await asyncio.sleep(_PAUSE_S)

    def _again_later(self) -> float:
        self._alarm.clear()
        return LOOK_WITH_ROOM_S

    def _set_alarm(self, look: Look) -> None:
        for moment in (look.wake_at, look.deadline, look.lease_deadline):
            if moment is not None and moment > look.now:
                self._alarm.due_at(moment)
        if self._clock.monotonic() < self._spare_until:
            self._alarm.due(self._spare_until)

    def _measure_clock(self, ahead_s: float) -> None:
        before_s = self._alarm.ahead_s
        if before_s is not None and abs(ahead_s - before_s) > _LEAP_S:
            log.warning("the database's clock was set", seconds=round(ahead_s - before_s, 3))
            self._spare_until = self._clock.monotonic() + self._dispatcher.lease_s
        self._alarm.ahead_s = ahead_s


def _due(moment: datetime | None, look: Look) -> bool:
    return moment is not None and moment <= look.now
