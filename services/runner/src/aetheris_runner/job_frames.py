"""Shows in every stack trace which job the code runs for.

Each task of a job, and each of its functions in a thread, is called by a frame that is named after the job:

    File "<job>", line 1 in job_0190c1d8a6f07a3b9f2e6c1d5b7a4e10

A trace that is written without the interpreter's lock (`faulthandler`, a debugger) has no other way to tell, for it
shows the names of functions and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from types import FunctionType
from typing import Any
from uuid import UUID

_NAMED = re.compile(r" in job_([0-9a-f]{32})\b")

Inner = Coroutine[Any, Any, Any]

# Calls a coroutine by a frame that is named after the job of this context.
_frame: ContextVar[Callable[[Inner], Inner] | None] = ContextVar("aetheris_job_frame", default=None)


async def _awaiting(inner: Inner) -> Any:
    return await inner


def _calling(function: Callable[[], Any]) -> Any:
    return function()


def _named(template: Any, job_id: UUID) -> Any:
    code = template.__code__.replace(co_name=f"job_{job_id.hex}", co_filename="<job>")
    return FunctionType(code, {})


def enter_job(job_id: UUID) -> None:
    """From here on, the tasks that are started in this context run for this job."""
    _frame.set(_named(_awaiting, job_id))


def in_thread(job_id: UUID, function: Callable[[], Any]) -> Callable[[], Any]:
    """`function`, called by a frame that is named after the job."""
    return partial(_named(_calling, job_id), function)


def task_factory(loop: asyncio.AbstractEventLoop, coro: Inner, **options: Any) -> asyncio.Task[Any]:
    """The tasks of a user loop."""
    frame = _frame.get()
    if frame is None:
        return asyncio.Task(coro, loop=loop, **options)
    task = asyncio.Task(frame(coro), loop=loop, **options)
    # A task that is cancelled before its first turn never calls `coro`, which Python would complain about.
    task.add_done_callback(lambda _: coro.close())
    return task


def jobs_in(trace: str) -> list[UUID]:
    """The jobs whose code a trace shows."""
    return [UUID(found) for found in dict.fromkeys(_NAMED.findall(trace))]
