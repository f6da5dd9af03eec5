"""Readiness, timers and signals, in one thread."""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count

from aeterna.supervisor import log

Callback = Callable[[], None]


class Timer:
    """One callback in the future."""

    __slots__ = ("callback", "cancelled")

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """The callback will not be called. No effect if it has been called."""
        self.cancelled = True
        self.callback = _nothing  # so that objects it refers to are freed now


def _nothing() -> None:
    pass


class Loop:
    """Calls back when a file descriptor can be read or written, a time has come or a signal has arrived."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._stopped = False
        self._on_signal: dict[int, Callable[[int], None]] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.add_reader(self._wake_read, self._signalled)

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Call back whenever `fd` can be read."""
        self._readers[fd] = callback
        self._watch(fd)

    def remove_reader(self, fd: int) -> None:
        """Stop watching."""
        if self._readers.pop(fd, None) is not None:
            self._watch(fd)

    def add_writer(self, fd: int, callback: Callback) -> None:
        """Call back whenever `fd` can be written."""
        self._writers[fd] = callback
        self._watch(fd)

    def remove_writer(self, fd: int) -> None:
        """Stop watching."""
        if self._writers.pop(fd, None) is not None:
            self._watch(fd)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, not before `seconds` are over."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), timer))
        return timer

    def on_signals(self, signals: Iterable[int], callback: Callable[[int], None]) -> None:
        """Call back from the loop, never from inside other code, for each of `signals`."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in signals:
            self._on_signal[number] = callback
            # The handler does nothing: Python writes the signal's number to the pipe, and the loop reads it.
            signal.signal(number, lambda _number, _frame: None)

    def run(self) -> None:
        """Run until `stop`."""
        while not self._stopped:
            for key, mask in self._selector.select(self._due()):
                if mask & selectors.EVENT_READ and key.fd in self._readers:
                    self._guarded(self._readers[key.fd])
                if mask & selectors.EVENT_WRITE and key.fd in self._writers:
                    self._guarded(self._writers[key.fd])
            self._fire()

    def stop(self) -> None:
        """End the loop after the present callback."""
        self._stopped = True

    def close(self) -> None:
        """Close all descriptors. A forked child calls it too, so that it cannot wake its parent."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _watch(self, fd: int) -> None:
        wanted = (selectors.EVENT_READ if fd in self._readers else 0) | (
            selectors.EVENT_WRITE if fd in self._writers else 0
        )
        known = fd in self._selector.get_map()
        if wanted and known:
            self._selector.modify(fd, wanted)
        elif wanted:
            self._selector.register(fd, wanted)
        elif known:
            self._selector.unregister(fd)

    def _due(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else None

    def _fire(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                callback = timer.callback
                timer.cancel()
                self._guarded(callback)

    def _signalled(self) -> None:
        try:
            numbers = os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        # Several signals of one kind count as one, as in the kernel.
        for number in dict.fromkeys(numbers):
            if number in self._on_signal:
                self._guarded(partial(self._on_signal[number], number))

    def _guarded(self, callback: Callback) -> None:
        """An error in one callback does not end PID 1: all processes of the container would end with it."""
        try:
            callback()
        except Exception as problem:
            log.fault("a callback failed", problem)
