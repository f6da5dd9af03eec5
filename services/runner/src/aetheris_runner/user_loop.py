"""A user loop: the event loop, in a thread of its own, on which agents, steps and tools of this runner run.

    serving ──► stopped                 the runner stops, and the loop has handed its jobs back
       └──────► abandoned ──► ended     its code has blocked it for too long: nothing that it does counts any more

A thread cannot be killed. An abandoned one is interrupted: as soon as it executes Python code again, `Abandoned` is
raised in it, all its tasks are cancelled before any of them goes on, and the thread ends. If it never executes Python
code again, it stays, and counts against the limit on user loops.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread, get_ident
from types import FrameType
from typing import Any

import structlog
import uvloop

from aetheris_runner.crossing import LoopCrossing
from aetheris_runner.held_jobs import AnyRun, HeldJobs
from aetheris_runner.job_frames import task_factory

log = structlog.get_logger()

# How long the tasks of an abandoned loop may take to end once they are cancelled.
_WIND_UP_S = 5.0


class Abandoned(SystemExit):
    """Raised in the thread of an abandoned loop. An event loop lets SystemExit through, wherever in it it is raised."""


class UserLoop:
    """`start` starts the thread. All methods but `_run` are called by the I/O loop's thread."""

    def __init__(self, number: int) -> None:
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        # The stubs describe a factory that is given a generator. It is given a coroutine.
        self.loop.set_task_factory(task_factory)  # type: ignore[arg-type]
        self.crossing = LoopCrossing(self.loop)
        # Set before `start`.
        self.jobs: HeldJobs | None = None
        self._stopping = self._abandoned = False
        # In the context of the runner, so that lines which are logged on this loop name the service, too.
        context = contextvars.copy_context()
        self._thread = Thread(target=context.run, args=(self._run,), name=f"aetheris-user-{number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def frame(self) -> FrameType | None:
        """The innermost frame of what the loop runs at this moment; None while it waits or has ended."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return None if frame is None or self.runs(frame) else frame

    @staticmethod
    def runs(frame: FrameType) -> bool:
        """Whether this is the frame that runs the loop, below everything that the loop calls."""
        return frame.f_code is _RUN

    def entered(self) -> FrameType | None:
        """The outermost frame of it: the coroutine or callback that the loop has called."""
        frame = self.frame()
        while frame is not None:
            outer = frame.f_back
            if outer is None or self.runs(outer):
                return frame
            frame = outer
        return None

    def current_task(self) -> asyncio.Task[Any] | None:
        return asyncio.current_task(self.loop)

    def abandon(self) -> None:
        """Hear nothing more of this loop, and have it end as soon as it can."""
        self._abandoned = True
        self.crossing.close()
        self.interrupt()

    def interrupt(self) -> None:
        """Raise `Abandoned` in the thread. User code may suppress it, so this is called again until the thread ends."""
        if not self.alive or self._stopping or self._thread.ident is None:
            return
        # Raised between two instructions of the code that the thread executes.
        _raise_in(self._thread.ident, ctypes.py_object(Abandoned))
        # Raised by the loop, should the code have returned to it.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._leave)

    def stop(self) -> None:
        """End the loop, once its jobs are closed."""
        self._stopping = True
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)

    async def ended(self, within_s: float) -> bool:
        """Whether the thread has ended in time."""
        deadline = asyncio.get_running_loop().time() + within_s
        while self.alive and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - a thread sets no event
            await asyncio.sleep(0.005)
        return not self.alive

    # Called by the thread of this loop.

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping and not self._abandoned:
            try:
                self.loop.run_forever()
            except Abandoned:
                break
            except (SystemExit, KeyboardInterrupt) as left:
                # A task or callback of user code that nothing of ours has wrapped. The process belongs to all jobs.
                log.error("code of an agent left the event loop", error=repr(left))
        if self._abandoned:
            with suppress(Abandoned):
                self._wind_up()
        with suppress(Abandoned):
            self.loop.close()

    def _wind_up(self) -> None:
        """Cancel all tasks before any of them goes on, and close the runs: their tools' outcomes are evidence."""
        # From here on the thread is not interrupted any more.
        self._stopping = True
        _raise_in(get_ident(), None)
        log.warning("abandoned user loop ends", thread=self._thread.name)
        runs: Sequence[AnyRun] = [] if self.jobs is None else self.jobs.give_up()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        closing = asyncio.wait_for(_closed(runs), _WIND_UP_S)
        with suppress(TimeoutError, SystemExit, KeyboardInterrupt):
            self.loop.run_until_complete(closing)

    def _leave(self) -> None:
        if not self._stopping:
            raise Abandoned


async def _closed(runs: Sequence[AnyRun]) -> None:
    await asyncio.gather(*(run.close() for run in runs), return_exceptions=True)


def _raise_in(thread: int, error: ctypes.py_object[type[BaseException]] | None) -> None:
    """Raise `error` in a thread, or take back what was not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)


_RUN = UserLoop._run.__code__
