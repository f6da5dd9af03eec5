"""Cancel scopes: the losers of a race, what a deadline covers, a branch that was cancelled by its handle.

A scope is the prefix that its paths begin with. Cancelling it interrupts its tasks once no tool of it is entered; from
then on each of its commands that is not recorded raises CancelledError. A run that resumes the job takes the same way,
because what is recorded is answered as before and the first command beyond the record is refused in the same place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

# After so many refused commands a branch is taken to suppress its cancellation for good.
_REFUSALS_MAX = 100


class CancellationSuppressed(RuntimeError):
    """The job is parked with this: its code goes on giving commands in a cancelled scope."""


@dataclass(slots=True)
class _Cancelled:
    prefix: str
    # The task that runs the scope's own code, where it is not a branch of the scope.
    owner: asyncio.Task[Any] | None
    interrupted: bool = False
    refusals: int = 0


class Scopes:
    """`tasks` are the branches with the prefixes of their paths, `open_tools` the paths of the entered tools."""

    def __init__(
        self,
        tasks: Mapping[asyncio.Task[Any], str],
        open_tools: Collection[str],
        nudge: Callable[[], None],
        stop: Callable[[Exception], None],
    ) -> None:
        self.cancelled: dict[str, _Cancelled] = {}
        self._tasks, self._open_tools, self._nudge, self._stop = tasks, open_tools, nudge, stop
        # What to do when the wait of a deadline is over, by the deadline's path.
        self._deadlines: dict[str, Callable[[], None]] = {}

    def cancel(self, prefix: str, owner: asyncio.Task[Any] | None = None) -> None:
        if prefix not in self.cancelled:
            self.cancelled[prefix] = _Cancelled(prefix, owner)
            self.interrupt()

    def covers(self, path: str) -> bool:
        """Whether `path` is in a cancelled scope."""
        return any(path.startswith(prefix) for prefix in self.cancelled)

    def interrupt(self) -> None:
        """Cancel the tasks of each cancelled scope, as soon as none of its tools is entered."""
        for scope in self.cancelled.values():
            if scope.interrupted or any(path.startswith(scope.prefix) for path in self._open_tools):
                continue
            scope.interrupted = True
            for task, prefix in tuple(self._tasks.items()):
                if task is scope.owner or prefix.startswith(scope.prefix):
                    task.cancel()
            self._nudge()

    async def refuse(self, path: str) -> None:
        """Raise CancelledError where `path` is in a cancelled scope."""
        for scope in self.cancelled.values():
            if path.startswith(scope.prefix):
                scope.refusals += 1
                if scope.refusals > _REFUSALS_MAX:
                    self._stop(CancellationSuppressed(f"the code at {path} goes on after it was cancelled"))
                    await asyncio.get_running_loop().create_future()
                # So that code which suppresses its cancellation in a loop lets other jobs run.
                await asyncio.sleep(0)
                raise asyncio.CancelledError

    def close(self, prefix: str) -> None:
        """The scope's code is over, so no task of it is left to interrupt."""
        self.cancelled.pop(prefix, None)

    def watch(self, path: str, expired: Callable[[], None]) -> None:
        self._deadlines[path] = expired

    def unwatch(self, path: str) -> None:
        self._deadlines.pop(path, None)

    def expired(self, path: str) -> None:
        """The wait at `path` is over. Where it is a deadline's, its scope is cancelled."""
        expired = self._deadlines.pop(path, None)
        if expired is not None:
            expired()
