"""Time as a dependency, so that a test can hold it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from secrets import randbits
from time import monotonic, time_ns
from typing import Protocol

from aetheris_kernel.ids import uuid7

# Taken once, before anybody watches who asks for the time: it is asked for at every step of every job.
_now = datetime.now


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock, aware, in UTC. For the record; no deadline hangs on it."""

    def monotonic(self) -> float:
        """Seconds that only grow. What a process measures its own deadlines with."""

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
