"""When the sweeper must look next: the earliest timer, deadline or lease that this process knows of.

Ticks and the sweeper's own looks set it. Moments by the store's clock are translated to this process's monotonic clock
with the difference that the last look has measured.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from aetheris_kernel.clock import Clock


class Alarm:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The store's clock minus this process's, as the last look has measured it; None before the first look.
        self.ahead_s: float | None = None
        # By this process's clock.
        self._due_at = float("inf")
        self._sooner = asyncio.Event()

    def due_in(self, seconds: float) -> None:
        self.due(self._clock.monotonic() + seconds)

    def due_at(self, moment: datetime) -> None:
        """`moment` is by the store's clock. Before the first look it is ignored, because that look finds it."""
        if self.ahead_s is not None:
            self.due(moment.timestamp() - self.ahead_s)

    def due(self, at: float) -> None:
        """`at` is by this process's monotonic clock."""
        if at < self._due_at:
            self._due_at = at
            self._sooner.set()

    def clear(self) -> None:
        self._due_at = float("inf")

    async def sleep(self, pause_s: float) -> None:
        """Until the next moment is due, and no longer than `pause_s`."""
        until = self._clock.monotonic() + pause_s
        while (left := min(until, self._due_at) - self._clock.monotonic()) > 0:
            self._sooner.clear()
            try:
                async with asyncio.timeout(left):
                    await self._sooner.wait()
            except TimeoutError:
                return
