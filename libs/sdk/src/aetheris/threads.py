"""Threads for plain functions. The process does not wait for them: a function that never returns does not keep it from
ending."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Condition, Thread
from typing import Any, TypeVar

T = TypeVar("T")

# The most threads at once in one process, with those that were left behind. Further calls wait for a thread.
THREADS_MAX = 64


class Threads:
    """A pool of daemon threads. A thread is made when no other is idle. The standard library's pools are joined when
    the process ends, so a thread that hangs would hang the process."""

    def __init__(self, most: int = THREADS_MAX) -> None:
        self._most = most
        self._calls: deque[Callable[[], None]] = deque()
        self._changed = Condition()
        self._idle = self._alive = 0

    def start(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run `function` in a thread, in the current context. Cancelling the future does not stop the function: its
        result is dropped."""
        loop, context = asyncio.get_running_loop(), copy_context()
        future: asyncio.Future[T] = loop.create_future()

        def call() -> None:
            try:
                result = context.run(function)
            except BaseException as error:
                tell(future.set_exception, _bearable(error))
            else:
                tell(future.set_result, result)

        def tell(settle: Callable[[Any], None], value: Any) -> None:
            # The event loop is closed, so the result has no receiver.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: None if future.done() else settle(value))

        with self._changed:
            self._calls.append(call)
            self._changed.notify()
            # Each idle thread will take one call, also a thread that was woken and does not run yet. So a new thread is
            # needed only for more calls than that.
            needed = len(self._calls) > self._idle and self._alive < self._most
            self._alive += needed
        if needed:
            Thread(target=self._work, name="aetheris-function", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._calls:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                call = self._calls.popleft()
            call()
            # Dropped before waiting for the next call, so that the last result can be freed.
            del call


def _bearable(error: BaseException) -> BaseException:
    # A future cannot carry StopIteration.
    return RuntimeError(f"the function raised {error!r}") if isinstance(error, StopIteration) else error


threads = Threads()
