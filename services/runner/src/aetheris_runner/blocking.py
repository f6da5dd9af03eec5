"""Finds out whose code blocks a user loop, from outside its thread.

The blocked thread executes a step, a tool or an agent. Its stack shows the host's frame for the step or tool where that
runs in the job's own task. A task that the code has started itself has a copy of the context in which it was started,
and the context names the call.
"""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from types import CoroutineType, FrameType
from typing import Any
from uuid import UUID

from aetheris.context import enclosing_step
from aetheris.definitions import Executed
from aetheris.driving.failures import cut
from aetheris.outcomes import effect_in_hand, step_in_hand
from aetheris.progress import pulse_in_hand
from aetheris_engine import ports
from aetheris_engine.job import Run
from aetheris_journal.events import Failure

from aetheris_runner.hosts.python import Beats, PythonHost
from aetheris_runner.user_loop import UserLoop

_STACK_MAX = 8 * 1024
_FRAMES_MAX = 50

_STEP, _CODE = PythonHost.step.__code__, PythonHost._code.__code__


@dataclass(frozen=True, slots=True)
class Blocking:
    """The code that a user loop executes. Without `job_id` it is the code of no job that this runner knows of."""

    stack: str
    job_id: UUID | None = None
    # The attempt of a step, or the key of a tool. Without both it is the agent's own code.
    path: str = ""
    attempt: int = 0
    key: str = ""
    definition: Executed[Any] | None = None

    def limit_s(self, default_s: float) -> float:
        """How long it may block the loop: as long as the step or tool may take."""
        timeout = None if self.definition is None else self.definition.timeout
        return default_s if timeout is None else timeout.total_seconds()

    def blocked(self, limit_s: float) -> ports.Blocked:
        """What the job's record says of it."""
        definition = self.definition
        name = "the agent" if definition is None else f"{definition.name}:"
        timed = definition is not None and definition.timeout is not None
        what = "it takes longer than" if timed else "it blocked the event loop for more than"
        if definition is None:
            what = what.removeprefix("it ")
        # The class and, where the step has a limit, the text are those of a step that takes too long without blocking.
        error = TimeoutError(f"{name} {what} {limit_s:g} s")
        return ports.Blocked(
            Failure("TimeoutError", str(error), stack=self.stack),
            path=self.path,
            attempt=self.attempt,
            key=self.key,
            final=definition is not None and definition.retry.hopeless(error),
        )


def find(loop: UserLoop) -> Blocking:
    """What the loop executes at this moment."""
    innermost = loop.frame()
    frames = [] if innermost is None else list(_outwards(innermost))
    found = Blocking(_stack(frames))
    for frame in frames:
        if frame.f_code is _CODE or frame.f_code is _STEP:
            return _of_host(found, frame, loop.current_task())
    task = loop.current_task()
    if task is None or loop.jobs is None:
        return found
    runs = loop.jobs.runs
    job = next((run.job_id for run, holding in runs if task is holding or task in run.tasks), None)
    if job is not None:
        return replace(found, job_id=job)
    return _of_context(found, _context(task), [run for run, _ in runs])


def _of_host(found: Blocking, frame: FrameType, task: asyncio.Task[Any] | None) -> Blocking:
    """The code of a step or tool, by the host's frame around it."""
    local = frame.f_locals
    found = replace(found, job_id=local["self"].job_id)
    if frame.f_code is _STEP:
        definition = local["command"].code.definition
        return replace(found, path=local["path"], attempt=local["attempt"], definition=definition)
    found = replace(found, definition=local["definition"])
    if local["entry"] is not None:
        return replace(found, key=local["entry"].key)
    step = None if task is None else _context(task).get(step_in_hand)
    return found if step is None else replace(found, path=step.path, attempt=step.attempt)


def _of_context(found: Blocking, context: Context, runs: Sequence[Run]) -> Blocking:
    """A task that the code of a step or tool has started itself."""
    effect, step = context.get(effect_in_hand), context.get(step_in_hand)
    if effect is not None:
        return replace(found, job_id=UUID(effect.job_id), key=effect.key)
    if step is not None:
        return replace(found, job_id=UUID(step.job_id), path=step.path, attempt=step.attempt)
    pulse, name = context.get(pulse_in_hand), context.get(enclosing_step)
    if not isinstance(pulse, Beats):
        return found
    run = next((run for run in runs if run.job_id == pulse.job_id), None)
    for task in () if run is None else run.tasks:
        for frame in _awaited(task):
            if frame.f_code is _STEP and frame.f_locals["command"].name == name:
                return _of_host(found, frame, task)
    return replace(found, job_id=pulse.job_id)


def _context(task: asyncio.Task[Any]) -> Context:
    """The context of a task. Python 3.11 does not give it out, but its garbage collector sees it."""
    found = [each for each in gc.get_referents(task) if isinstance(each, Context)]
    return found[0] if found else Context()


def _awaited(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames of a suspended task, outermost first."""
    coroutine: Any = task.get_coro()
    for _ in range(_FRAMES_MAX):
        if not isinstance(coroutine, CoroutineType) or coroutine.cr_frame is None:
            return
        yield coroutine.cr_frame
        coroutine = coroutine.cr_await


def _outwards(frame: FrameType) -> Iterator[FrameType]:
    current: FrameType | None = frame
    while current is not None and not UserLoop.runs(current):
        yield current
        current = current.f_back


def _stack(frames: Sequence[FrameType]) -> str:
    """The innermost frames as text, in the order of a traceback."""
    shown = [traceback.FrameSummary(f.f_code.co_filename, f.f_lineno, f.f_code.co_name) for f in frames[:_FRAMES_MAX]]
    return cut("".join(traceback.StackSummary.from_list(shown[::-1]).format()), _STACK_MAX)
