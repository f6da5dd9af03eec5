"""Keeps the leases of the sessions whose streams end at this process.

Sessions that beat are renewed three times in a lease, all in one statement; sessions that fell silent are ended; a
session whose stream is gone keeps its lease for the grace only.

Silence is measured by this process's monotonic clock, never by a wall clock: setting a clock, here or at the database,
neither loses a lease nor keeps a dead one.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, Unavailable

from aetheris_scheduler.loops.alarm import Alarm
from aetheris_scheduler.runners.connection import RunnerConnection, RunnerConnections
from aetheris_scheduler.store.contract import Store

log = structlog.get_logger()

RENEWALS_PER_LEASE = 3


class Leases:
    def __init__(
        self, store: Store, connections: RunnerConnections, alarm: Alarm, clock: Clock, *, lease_s: float
    ) -> None:
        self._store = store
        self._connections = connections
        self._alarm = alarm
        self._clock = clock
        self._lease_s = lease_s
        self._every_s = lease_s / RENEWALS_PER_LEASE
        self._left: deque[RunnerConnection] = deque()
        self._one_left = asyncio.Event()

    def left(self, connection: RunnerConnection) -> None:
        """The stream is over: shorten the session's lease."""
        self._left.append(connection)
        self._one_left.set()

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
                # The leases run on by the database's clock. Sessions that beat meanwhile are renewed once it is back.
                log.warning("leases not renewed", problem=away.message)
                await asyncio.sleep(self._every_s / 10)
            except Exception:
                log.exception("leases not renewed")
                await asyncio.sleep(self._every_s / 10)
            await self._until(renew_at)

    async def shorten(self) -> None:
        while self._left:
            connection = self._left.popleft()
            try:
                over = await self._store.leave(
                    connection.session.id, connection.session.stream, grace_s=connection.grace_s
                )
            except Unavailable:
                self._left.appendleft(connection)
                raise
            if not over:
                self._alarm.due_in(connection.grace_s)

    def give_up_silent(self) -> None:
        now = self._clock.monotonic()
        for connection in self._connections.open:
            if not connection.well(now, self._lease_s):
                session = connection.session
                log.warning("runner fell silent", session_id=session.id, runner_id=session.runner_id)
                connection.expire(Conflict("this session neither beat nor listened for too long; start a new one"))

    async def renew(self) -> None:
        beating = [connection for connection in self._connections.open if self._beats(connection)]
        if not beating:
            return
        beats = [connection.session.beat for connection in beating]
        keys = [(connection.session.id, connection.session.stream) for connection in beating]
        renewed = await self._store.renew(keys, lease_s=self._lease_s)
        for connection, beat in zip(beating, beats, strict=True):
            session = connection.session
            draining = renewed.get(session.id)
            if draining is None:
                connection.expire(Conflict("this session has expired; start a new one", session_id=session.id))
                continue
            session.renewed = beat
            connection.outbox.renew(beat)
            if draining:
                connection.drain()

    def _beats(self, connection: RunnerConnection) -> bool:
        """Whether the runner beat since its last renewal, and reads what it is sent."""
        session = connection.session
        return connection.hears(self._clock.monotonic(), self._every_s) and session.beat > session.renewed

    async def _until(self, moment: float) -> None:
        self._one_left.clear()
        if self._left:
            return
        try:
            async with asyncio.timeout(max(moment - self._clock.monotonic(), 0)):
                await self._one_left.wait()
        except TimeoutError:
            pass
