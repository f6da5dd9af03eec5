"""Reports a job's progress at most once a second. Any thread may report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_APART_S = 1.0


class ProgressReports:
    """Of several reports within a second only the latest is passed on. The very last one always is."""

    def __init__(self, report: Callable[[float | None, str], None]) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._latest: tuple[float | None, str] | None = None
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0

    def say(self, fraction: float | None, note: str) -> None:
        self._latest = fraction, note
        if not self._due:
            # Two threads may pass this check at once; then progress is reported twice, which does no harm.
            self._due = True
            self._loop.call_soon_threadsafe(self._arrange)

    def close(self) -> None:
        """Report nothing more."""
        self._due = True
        if self._timer is not None:
            self._timer.cancel()

    def _arrange(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(max(self._next, self._loop.time()), self._tell)

    def _tell(self) -> None:
        self._due, self._timer = False, None
        self._next = self._loop.time() + _APART_S
        if self._latest is not None:
            self._report(*self._latest)
