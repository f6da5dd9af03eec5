"""A clock that only the test moves."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta

from aetheris_kernel.ids import uuid7

START = datetime(2026, 1, 1, tzinfo=UTC)


class SimClock:
    """Time passes only in `advance`. The same seed gives the same ids, in ascending order."""

    def __init__(self, *, seed: int = 0, start: datetime = START) -> None:
        self._now = start
        self._elapsed = timedelta()
        self._random = random.Random(seed)
        self._issued = 0

    def now(self) -> datetime:
        return self._now + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed.total_seconds()

    def new_id(self) -> uuid.UUID:
        # The counter is in the highest of the 74 bits, so that ids made at one moment ascend as well.
        self._issued += 1
        moment_ms = int(self.now().timestamp() * 1_000)
        return uuid7(moment_ms, (self._issued % (1 << 20)) << 54 | self._random.getrandbits(54))

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("time does not go back")
        self._elapsed += timedelta(seconds=seconds)

    def set_wall(self, moment: datetime) -> None:
        """Step the wall clock, as an operator or NTP might; monotonic time goes on as before."""
        self._now = moment - self._elapsed
