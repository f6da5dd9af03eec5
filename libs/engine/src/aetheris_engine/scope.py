"""Cancel scopes: the losers of a race, and what a deadline cuts off.

A scope is a branch or a block: the prefix that its paths begin with. Once it is cancelled, each of its commands that is
not recorded raises CancelledError. A branch that already waits at such a command is interrupted there. A running tool
is not interrupted; it runs to its outcome. Nothing else is interrupted, so a run that resumes the job behaves the same:
recorded commands are answered as before, and the first command beyond the record is refused in the same place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aetheris_journal.path import prefixes

# After this many refused commands in one scope, the engine concludes that the code suppresses its cancellation for
# good.
_REFUSALS_MAX = 100


class CancellationSuppressed(RuntimeError):
    """The code keeps giving commands in a cancelled scope. The job is parked with this error."""


class Scopes:
    """The scopes of one run. `stop` stops the run."""

    def __init__(self, stop: Callable[[Exception], None]) -> None:
        # The cancelled scopes, each with how many commands were refused in it.
        self.cancelled: dict[str, int] = {}
        # The races that no branch has won and the deadlines that are not over, by their paths.
        self.open: set[str] = set()
        self._stop = stop
        # The tasks that a cancellation may interrupt where they stand, by each scope that they stand in.
        self._standing: dict[str, dict[asyncio.Task[Any], None]] = {}
        self._interrupted: set[asyncio.Task[Any]] = set()
        # The callbacks to run when a deadline passes, by the deadline's path.
        self._deadlines: dict[str, Callable[[], None]] = {}

    def cancel(self, prefix: str) -> None:
        self.cancelled.setdefault(prefix, 0)
        for task in self._standing.get(prefix, ()):
            if task not in self._interrupted:
                self._interrupted.add(task)
                task.cancel()

    def close(self, prefix: str) -> None:
        """Forget a scope whose code has ended: no further command of it can come."""
        self.cancelled.pop(prefix, None)

    def covers(self, path: str) -> bool:
        """Whether `path` is in a cancelled scope."""
        return bool(self.cancelled) and any(prefix in self.cancelled for prefix in prefixes(path))

    @contextmanager
    def standing(self, path: str) -> Iterator[None]:
        """Surrounds an await at the frontier, so that cancelling a scope that contains `path` interrupts it."""
        task = asyncio.current_task()
        assert task is not None
        scopes = list(prefixes(path))
        for scope in scopes:
            self._standing.setdefault(scope, {})[task] = None
        try:
            yield
        finally:
            for scope in scopes:
                self._leave(scope, task)
            if task in self._interrupted:
                # The interruption is handled. Clear it, so that later awaits of this task do not count as cancelled.
                self._interrupted.discard(task)
                task.uncancel()

    async def refuse(self, path: str) -> None:
        """Raise CancelledError where `path` is in a cancelled scope."""
        for prefix in prefixes(path):
            if prefix in self.cancelled:
                self.cancelled[prefix] += 1
                if self.cancelled[prefix] > _REFUSALS_MAX:
                    self._stop(CancellationSuppressed(f"the code at {path} goes on after it was cancelled"))
                    await asyncio.get_running_loop().create_future()
                # Code that suppresses its cancellation in a loop must still let other jobs run.
                await asyncio.sleep(0)
                raise asyncio.CancelledError

    def _leave(self, scope: str, task: asyncio.Task[Any]) -> None:
        tasks = self._standing[scope]
        del tasks[task]
        if not tasks:
            del self._standing[scope]

    def watch(self, path: str, expired: Callable[[], None]) -> None:
        self.open.add(path)
        self._deadlines[path] = expired

    def unwatch(self, path: str) -> None:
        self.open.discard(path)
        self._deadlines.pop(path, None)

    def expired(self, path: str) -> None:
        """Called when the time of the wait at `path` is over. If the wait belongs to a deadline, its scope is
        cancelled."""
        expired = self._deadlines.pop(path, None)
        if expired is not None:
            expired()
