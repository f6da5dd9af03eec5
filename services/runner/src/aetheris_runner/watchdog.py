"""Notices that the code of an agent blocks its user loop, and has the loop abandoned.

The I/O loop asks the user loop to answer, and looks at its thread while no answer comes. A loop that has much to do is
not blocked: it enters one callback after the other. Blocked is a loop that stays in the same one, and how long it may
do so is the limit of the step that it executes.
"""

from __future__ import annotations

import asyncio
from types import FrameType

import structlog
from aetheris_engine import ports
from aetheris_kernel.clock import Clock

from aetheris_runner.blocking import find
from aetheris_runner.user_loop import UserLoop
from aetheris_runner.user_loops import UserLoops

log = structlog.get_logger()

_LOOK_S = 0.25
# A loop is not abandoned sooner, even if the step's own limit is shorter: that costs all other jobs a takeover.
_BLOCKED_MIN_S = 1.0


class Watchdog:
    def __init__(self, loops: UserLoops, clock: Clock, *, blocked_max_s: float) -> None:
        self._loops, self._clock, self._blocked_max_s = loops, clock, blocked_max_s
        self._asked: UserLoop | None = None
        self._entered: FrameType | None = None
        self._blocked_s = 0.0
        self._looked_at = 0.0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Called every quarter of a second."""
        loop, now = self._loops.active, self._clock.monotonic()
        # A process that was stopped, or got no processor, has not given its user loop the time either.
        passed, self._looked_at = min(now - self._looked_at, 2 * _LOOK_S), now
        if self._asked is not loop:
            self._entered, self._blocked_s = None, 0.0
            if self._loops.held:
                self._asked = loop
                loop.crossing.inbox.post(self._answered)
            return
        entered = loop.entered()
        if entered is None or entered is not self._entered:
            self._entered, self._blocked_s = entered, 0.0
            return
        self._blocked_s += passed
        if self._blocked_s >= _BLOCKED_MIN_S:
            self._judge(loop)

    def _answered(self) -> None:
        """Called by the user loop."""
        self._asked = None

    def _judge(self, loop: UserLoop) -> None:
        found = find(loop)
        limit_s = found.limit_s(self._blocked_max_s)
        if self._blocked_s < limit_s and not loop.crossing.inbox.full:
            return
        blocked = found.blocked(limit_s)

        def of(assignment: ports.Assignment) -> ports.Blocked | None:
            return blocked if assignment.job_id == found.job_id else None

        self._asked = self._entered = None
        self._loops.abandon(of, found.stack)
