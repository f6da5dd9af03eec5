"""What an agent can ask of the runner.

The functions here are an agent's whole vocabulary beside its own steps and tools. They find the runner through a
context variable; outside an agent it is not set, and each of them says so.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol, TypeVar, overload
from uuid import UUID

from aetheris.durations import to_span

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


class Context(Protocol):
    """What answers an agent's commands: `aetheris.driving.program`. Definitions, approvals, children and tokens import
    this module, so their types stand there and not here."""

    async def step(self, definition: Any, arguments: dict[str, Any]) -> Any: ...

    async def tool(self, definition: Any, arguments: dict[str, Any], once: str | None) -> Any: ...

    async def sleep(self, span: timedelta) -> None: ...

    async def signal(self, key: str, timeout: timedelta | None) -> Any: ...

    async def receive(self, channel: str, timeout: timedelta | None) -> Any: ...

    async def approval(self, command: Any) -> Any: ...

    async def awakeable(self, timeout: timedelta | None) -> Any: ...

    async def awakened(self, handle: Any) -> Any: ...

    async def gather(self, work: tuple[Awaitable[Any], ...]) -> list[Any]: ...

    async def map(self, work: Any) -> list[Any]: ...

    async def race(self, work: tuple[Awaitable[Any], ...]) -> Any: ...

    async def open_deadline(self, span: timedelta) -> Any: ...

    async def close_deadline(self, opened: Any, cancelled: bool) -> bool: ...

    async def spawn(self, asked: Any) -> Any: ...

    async def cancel_child(self, child: Any) -> None: ...

    async def child(self, child: Any) -> Any: ...

    async def checkpoint(self, state: Any) -> NoReturn: ...

    async def value(self, kind: str) -> Any: ...

    async def compensate(self) -> None: ...


# Set inside an agent. None outside, and inside a step: there everything is an ordinary call.
current: ContextVar[Context | None] = ContextVar("aetheris_context", default=None)

# The step whose body runs, so that a tool can refuse to be hidden in it.
enclosing_step: ContextVar[str | None] = ContextVar("aetheris_enclosing_step", default=None)


def _context(what: str) -> Context:
    context = current.get()
    if context is None:
        raise LookupError(f"{what} works inside an agent, between its steps: call it from a function marked @agent")
    return context


async def sleep(span: str | float | timedelta) -> None:
    """Sleep durably: `sleep("3d")`, `sleep(90)`, `sleep(timedelta(weeks=2))`. No worker is held."""
    await _context("sleep()").sleep(to_span(span))


async def signal(key: str, *, timeout: str | float | timedelta | None = None) -> Any:
    """Wait for the signal `key` and return its payload. It may have come before anybody waited.

    With a timeout, WaitTimedOut is raised when it is over first.
    """
    _check_key(key, "a signal's key")
    if key.startswith("awakeable/"):
        raise ValueError("a key that begins with 'awakeable/' belongs to a token: await its awakeable")
    return await _context("signal()").signal(key, None if timeout is None else to_span(timeout))


async def receive(channel: str = "default", *, timeout: str | float | timedelta | None = None) -> Any:
    """Wait for the next message of `channel` and return what it says. Each message is received once, and
    those of a channel in the order in which they were accepted.

    With a timeout, WaitTimedOut is raised when it is over first; a message that comes later waits for the
    next `receive`.
    """
    _check_key(channel, "a channel")
    return await _context("receive()").receive(channel, None if timeout is None else to_span(timeout))


def _check_key(key: str, what: str) -> None:
    if not 1 <= len(key) <= 256 or not key.isprintable():
        raise ValueError(f"{what} has 1 to 256 printable characters")


@overload
async def gather(__a: Awaitable[A]) -> list[A]: ...
@overload
async def gather(__a: Awaitable[A], __b: Awaitable[B]) -> tuple[A, B]: ...
@overload
async def gather(*branches: Awaitable[T]) -> list[T]: ...
async def gather(*branches: Awaitable[Any]) -> Any:
    """Run branches side by side; their results in the order of the arguments.

    All of them end before this does. If some raise, the first by position is raised, so that every
    run of the same history takes the same way.
    """
    return await _context("gather()").gather(branches)


async def now() -> datetime:
    """The time, recorded: a resumed run gets the same."""
    return datetime.fromisoformat(await _context("now()").value("time"))


async def random() -> float:
    """A number in [0, 1), recorded."""
    return float(await _context("random()").value("random"))


async def uuid() -> UUID:
    """A fresh UUIDv7, recorded."""
    return UUID(await _context("uuid()").value("uuid"))


async def checkpoint(state: Any) -> NoReturn:
    """Begin anew from the top, with `state` as the agent's keyword argument of that name, and forget what was
    before: a job that goes on for years is taken over at the cost of what it did since its last checkpoint.

    Never returns. It is for the agent itself, not for a branch of it. What was done before is settled: it is
    not compensated any more, and a signal that was read is forgotten. Children go on.
    """
    await _context("checkpoint()").checkpoint(state)


async def compensate() -> None:
    """Take back, newest first, every effect so far that has a `compensate`; then the agent goes on.

    A job that fails or is cancelled does this by itself.
    """
    await _context("compensate()").compensate()
