"""Time as a dependency, so that a test can control it. Alone in its module, because every other package needs it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from secrets import randbits
from time import monotonic, time_ns
from typing import Protocol

from aetheris_kernel.ids import uuid7

# Bound here, before the contract guard wraps datetime.now: the wrapper inspects its caller's frame, which would be too
# slow for a call at every step of every job.
_now = datetime.now


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock, in UTC. Only for the record: no deadline is measured by it."""

    def monotonic(self) -> float:
        """Seconds that only grow, by which a process measures its own deadlines."""

    def new_id(self) -> uuid.UUID:
        """A fresh UUIDv7."""


class SystemClock:
    """The machine's own time and randomness."""

    def now(self) -> datetime:
        return _now(UTC)

    def monotonic(self) -> float:
        return monotonic()

    def new_id(self) -> uuid.UUID:
        return uuid7(time_ns() // 1_000_000, randbits(74))
