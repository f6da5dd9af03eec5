"""Threads for plain functions. Nothing waits for them: one that never returns keeps no process from ending."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Condition, Thread
from typing import Any, TypeVar

T = TypeVar("T")

# How many run at once in one process, those that were given up on included. The others wait for one to end.
THREADS_MAX = 64


class Threads:
    """A pool of daemon threads, each made when no other is idle. The pools of the standard library are joined
    when the process ends, and a thread that hangs would hang it."""

    def __init__(self, most: int = THREADS_MAX) -> None:
        self._most = most
        self._calls: deque[Callable[[], None]] = deque()
        self._changed = Condition()
        self._idle = self._alive = 0

    def start(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """What `function` brings, in this context. Cancelling it stops nothing: the result is dropped."""
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
            # The loop may be gone: then nobody is left to be told.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: None if future.done() else settle(value))

        with self._changed:
            self._calls.append(call)
            self._changed.notify()
            # Each idle one takes one, also where it was woken and has not got so far yet.
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
            # Kept while the next is waited for, it would keep alive what it brought.
            del call


def _bearable(error: BaseException) -> BaseException:
    # A future cannot carry it.
    return RuntimeError(f"the function raised {error!r}") if isinstance(error, StopIteration) else error


threads = Threads()
