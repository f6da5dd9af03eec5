"""The boundary between an author's code and ours: the only place that catches everything.

    what comes out of author's code                          becomes
    a value                                                  is written by its codec; if that fails, ValueRefused
    an Exception; an exception group                         the error of the step, tool or agent
    any other BaseException: SystemExit, KeyboardInterrupt,  the same: the process belongs to all of its jobs
      the panic of an extension module, a GeneratorExit or
      StopIteration that the code raises by itself
    CancelledError in a task that was asked to stop          passes on
    CancelledError in any other task                         RuntimeError("… was cancelled from within"), for a step or
                                                             tool; an agent that raises it ends, and its job fails
    GeneratorExit, because the coroutine is being closed     passes on
    Restart, after a checkpoint                              passes on
    an error whose text, class or attributes raise           is recorded as far as it can be read (see `failures`)

Nothing about an error is trusted: its `str()`, its attributes, its metaclass and its `__class__` are code of the
author, too, and are looked at through `contained` or not at all.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

_ancestors: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__


class Restart(BaseException):
    """Unwinds the agent after a checkpoint. Not an Exception, so that the agent's error handlers do not catch it."""


@dataclass(frozen=True, slots=True)
class Returned(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class Threw:
    """The code raised this. A value, because a future or a task that raises SystemExit takes its event loop along."""

    error: BaseException


def contained(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Returned[T] | Threw:
    """Call a piece of the author's code that awaits nothing, and return what comes out of it."""
    try:
        return Returned(function(*args, **kwargs))
    except BaseException as error:
        return Threw(error)


def is_a(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether an `except` clause for these classes would catch the error. `isinstance` would also ask the error's own
    `__class__`, and its metaclass."""
    return any(ancestor is kind for ancestor in _ancestors(type(error)) for kind in kinds)


class Crossing:
    """Surrounds a call of a step's or tool's code:

        with Crossing() as crossing:
            return write(await code())
        return failed(crossing.error)

    What passes on is raised; anything else is `error`. `self_cancelled` is what a code that cancels itself is said to
    have raised.
    """

    __slots__ = ("_error", "_task")

    _error: BaseException | None
    _task: asyncio.Task[object] | None

    def __enter__(self) -> Crossing:
        # Not in a constructor, because every step comes through here and a call costs as much as all the rest.
        self._error, self._task = None, current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or self._passes(error):
            return False
        self._error = error
        return True

    @property
    def error(self) -> BaseException:
        assert self._error is not None, "nothing was raised"
        return self._error

    @property
    def raised(self) -> bool:
        return self._error is not None

    def _passes(self, error: BaseException) -> bool:
        if is_a(error, asyncio.CancelledError):
            return self._task is None or self._task.cancelling() > 0
        # Closing a coroutine raises GeneratorExit in it, from a task that is not its own.
        return is_a(error, Restart) or (is_a(error, GeneratorExit) and self._task is not current_task())


class AgentCrossing(Crossing):
    """The same around the code of an agent or of one of its branches: the engine decides about every CancelledError."""

    __slots__ = ()

    def _passes(self, error: BaseException) -> bool:
        return is_a(error, asyncio.CancelledError) or Crossing._passes(self, error)


def recordable(error: BaseException, name: str) -> BaseException:
    """The error of the step or tool `name` that is recorded. CancelledError would mean that the engine had cancelled
    it, and no coroutine can raise StopIteration."""
    if is_a(error, asyncio.CancelledError):
        return RuntimeError(f"{name} was cancelled from within")
    if is_a(error, StopIteration):
        shown = contained(repr, error)
        return RuntimeError(f"the function raised {shown.value if isinstance(shown, Returned) else 'StopIteration'}")
    return error
