"""Crashes on demand: an object whose n-th awaited call is the last thing its process does."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any


class Crash(BaseException):
    """The process is gone. Not an Exception: no handler survives it."""


class Fuse:
    """Counts awaited calls over all objects that share it, and raises Crash at one of them."""

    def __init__(self, step: int, *, after: bool = False) -> None:
        self.step = step
        self.after = after
        self.calls = 0
        self.burnt = False

    def before(self) -> int:
        if self.burnt:
            raise Crash("after the end")
        number, self.calls = self.calls, self.calls + 1
        if number == self.step and not self.after:
            self._burn(number)
        return number

    def then(self, number: int) -> None:
        if number == self.step:
            self._burn(number)
        elif self.burnt:
            # Another call crashed the process while this one was under way.
            raise Crash("while it waited")

    def _burn(self, number: int) -> None:
        self.burnt = True
        raise Crash(f"{'after' if self.after else 'before'} call {number}")


class Process:
    """One runner process in a simulation: after its crash, nothing that it does has an effect."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.crashed = asyncio.Event()

    def before(self) -> int:
        try:
            return self.fuse.before()
        except Crash:
            self.crashed.set()
            raise

    def then(self, number: int) -> None:
        try:
            self.fuse.then(number)
        except Crash:
            self.crashed.set()
            raise


class CrashAt:
    """`target`, until its awaited call number `step` (from 0): that one raises Crash, either before it is made
    or, with `after`, once it has done its work. From then on every call raises Crash: a dead process does
    nothing more, not even in its `finally`s.

    `fuse` shares one count between several objects: `CrashAt(other, fuse=first.fuse)`.
    """

    fuse: Fuse

    def __init__(self, target: object, step: int = -1, *, after: bool = False, fuse: Fuse | None = None) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "fuse", fuse or Fuse(step, after=after))

    @property
    def calls(self) -> int:
        """How many awaited calls began."""
        return self.fuse.calls

    def __getattr__(self, name: str) -> Any:
        target = object.__getattribute__(self, "_target")
        found = getattr(target, name)
        if not callable(found):
            return found
        if inspect.iscoroutinefunction(found):
            return _fused(found, self.fuse)
        return _fused_if_awaited(found, self.fuse)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(object.__getattribute__(self, "_target"), name, value)


def _fused(method: Any, fuse: Fuse) -> Any:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        number = fuse.before()
        result = await method(*args, **kwargs)
        fuse.then(number)
        return result

    return call


def _fused_if_awaited(method: Any, fuse: Fuse) -> Any:
    """A plain method may still return something to await, e.g. a future."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if not inspect.isawaitable(result):
            return result

        async def awaited() -> Any:
            number = fuse.before()
            answer = await result
            fuse.then(number)
            return answer

        return awaited()

    return call
