"""The commands that an agent can give beside its own steps and tools.

The functions here, and those of `approvals`, `awakeables`, `branches`, `child`, `mapping` and `racing`, find the runner
through a context variable. Outside an agent it is not set, and they raise an error that says so.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol, TypeVar, overload
from uuid import UUID

from aetheris.durations import to_span

_CHANGE = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


class Context(Protocol):
    """Answers an agent's commands: implemented in `aetheris.driving.program`. The modules of definitions, approvals,
    children and tokens import this one, so their types cannot be named here."""

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

    async def open_branches(self) -> Any: ...

    def start_branch(self, opened: Any, work: Awaitable[Any]) -> Any: ...

    async def await_branch(self, started: Any) -> Any: ...

    async def cancel_branch(self, started: Any) -> None: ...

    async def close_branches(self, opened: Any, error: BaseException | None) -> None: ...

    async def open_deadline(self, span: timedelta) -> Any: ...

    async def close_deadline(self, opened: Any, cancelled: bool) -> bool: ...

    async def spawn(self, asked: Any) -> Any: ...

    async def cancel_child(self, child: Any) -> None: ...

    async def child(self, child: Any) -> Any: ...

    async def checkpoint(self, state: Any) -> NoReturn: ...

    async def value(self, kind: str) -> Any: ...

    async def changed(self, name: str) -> bool: ...

    async def compensate(self) -> None: ...


# Set inside an agent. None outside, and inside a step, where every call is an ordinary one.
current: ContextVar[Context | None] = ContextVar("aetheris_context", default=None)

# The step whose body is running, so that a tool that is called inside it can refuse.
enclosing_step: ContextVar[str | None] = ContextVar("aetheris_enclosing_step", default=None)


def _context(what: str) -> Context:
    context = current.get()
    if context is None:
        raise LookupError(f"{what} works inside an agent, between its steps: call it from a function marked @agent")
    return context


async def sleep(span: str | float | timedelta) -> None:
    """Sleep durably: `sleep("3d")`, `sleep(90)`, `sleep(timedelta(weeks=2))`. The sleeping job occupies no runner."""
    await _context("sleep()").sleep(to_span(span))


async def signal(key: str, *, timeout: str | float | timedelta | None = None) -> Any:
    """Wait for the signal `key` and return its payload. The signal may have come before the wait.

    With a timeout, WaitTimedOut is raised if the signal does not come in time.
    """
    _check_key(key, "a signal's key")
    if key.startswith("awakeable/"):
        raise ValueError("a key that begins with 'awakeable/' belongs to a token: await its awakeable")
    return await _context("signal()").signal(key, None if timeout is None else to_span(timeout))


async def receive(channel: str = "default", *, timeout: str | float | timedelta | None = None) -> Any:
    """Wait for the next message of `channel` and return its payload. Each message is received once, and the messages of
    a channel in the order in which the gateway accepted them.

    With a timeout, WaitTimedOut is raised if no message comes in time; a message that comes later is for the next
    `receive`.
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
    """Run branches side by side and return their results in the order of the arguments.

    It returns when all branches have ended. If some raise, the error of the first by position is raised, so that every
    run of the same record raises the same one.
    """
    return await _context("gather()").gather(branches)


async def now() -> datetime:
    """The time. It is recorded, so a resumed run gets the same."""
    return datetime.fromisoformat(await _context("now()").value("time"))


async def random() -> float:
    """A number in [0, 1), recorded."""
    return float(await _context("random()").value("random"))


async def uuid() -> UUID:
    """A fresh UUIDv7, recorded."""
    return UUID(await _context("uuid()").value("uuid"))


async def checkpoint(state: Any) -> NoReturn:
    """Begin the agent again from its start, with `state` as its keyword argument of that name, and never read the
    record before this point again. So a runner can take over a job that runs for years at the cost of the events since
    its last checkpoint.

    Never returns. Only the agent itself may call it, not one of its branches. Effects from before are not compensated
    any more, and a signal that was read is forgotten. Children go on.
    """
    await _context("checkpoint()").checkpoint(state)


async def compensate() -> None:
    """Take back every effect so far that has a `compensate`, newest first; then go on.

    A job that fails or is cancelled does so by itself.
    """
    await _context("compensate()").compensate()


async def changed(name: str) -> bool:
    """Whether this job gets code that is new:

        if await changed("fraud-check"):
            await check_for_fraud(order)
        await charge(order)

    True for a job that comes to this place for the first time under this code: it is recorded, and every later run of
    the job gets it. False for a job that has passed this place before: it goes on as it began.
    """
    if not _CHANGE.match(name):
        raise ValueError(f"{name!r}: a change's name has 1 to 128 letters, digits, dots, dashes or underscores")
    return await _context("changed()").changed(name)
