"""Calls of an author's code: a coroutine in a task, or a plain function in a thread. And which tools are inside.

A call's end is a value and never an exception. A call that is given up may still run on: then it is *left behind*, and
what it brings in the end goes to `late`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from threading import Lock

# The plain function, imported before the contract guard wraps the one in the module.
from time import monotonic
from typing import Any

from aetheris.driving.boundary import Returned, Threw
from aetheris.threads import FunctionCall, Withdrawn

Ended = Returned[Any] | Threw | Withdrawn
Late = Callable[[Ended], None]


class InsideTools:
    """The tools that are running in this process, by the keys of their effects. It outlives the runs of jobs: a runner
    that is given its own job again knows that its former run is still inside. Any thread may enter, leave and ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside: Counter[str] = Counter()

    def __contains__(self, key: str) -> bool:
        return key in self._inside

    @contextmanager
    def entered(self, key: str) -> Iterator[None]:
        with self._lock:
            self._inside[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside[key] -= 1
                if not self._inside[key]:
                    del self._inside[key]


class CoroutineCall:
    """A coroutine function, in a task of its own. `code` never raises, unless it is cancelled."""

    def __init__(self, code: Coroutine[Any, Any, Ended], late: Late | None) -> None:
        self.entered_at: float | None = monotonic()
        self._late = late
        self._task = asyncio.get_running_loop().create_task(code)

    @property
    def ended(self) -> Ended | None:
        if not self._task.done():
            return None
        return Threw(asyncio.CancelledError()) if self._task.cancelled() else self._task.result()

    @property
    def by_itself(self) -> bool:
        """It has ended, and not by its cancellation."""
        return self._task.done() and not self._task.cancelled()

    async def wait(self, timeout_s: float | None) -> None:
        if not self._task.done():
            await asyncio.wait({self._task}, timeout=timeout_s)

    def give_up(self) -> None:
        self._task.cancel()

    def leave_behind(self) -> None:
        if self._late is not None:
            self._task.add_done_callback(self._ended_late)

    def _ended_late(self, task: asyncio.Task[Ended]) -> None:
        if self._late is not None and not task.cancelled():
            self._late(task.result())


class ThreadCall:
    """A plain function, in a thread."""

    def __init__(self, call: FunctionCall[Any], late: Late | None) -> None:
        self._call, self._late = call, late

    @property
    def entered_at(self) -> float | None:
        return self._call.entered_at

    @property
    def ended(self) -> Ended | None:
        return self._call.ended.result() if self._call.ended.done() else None

    @property
    def by_itself(self) -> bool:
        return self._call.ended.done() and not isinstance(self._call.ended.result(), Withdrawn)

    async def wait(self, timeout_s: float | None) -> None:
        if not self._call.ended.done():
            await asyncio.wait({self._call.ended}, timeout=timeout_s)

    def give_up(self) -> None:
        """Withdraw the call. A thread that has entered it is left behind."""
        self._call.give_up()

    def leave_behind(self) -> None:
        if self._late is not None:
            late = self._late
            self._call.ended.add_done_callback(lambda ended: late(ended.result()))


CodeCall = CoroutineCall | ThreadCall
