"""`race()`: the first of several branches. `deadline()`: a time limit around commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from aetheris.context import _context
from aetheris.durations import to_span
from aetheris.errors import DeadlineExceeded

T = TypeVar("T")


async def race(*branches: Awaitable[T]) -> T:
    """Run branches side by side until the first of them ends. Its result is returned, or its error raised; the others
    are cancelled.

        answer = await race(signal("answer"), revoked(), give_up_after("2d"))

    A cancelled branch gets CancelledError at its next command. If it is inside a tool, the tool first runs to its
    outcome; if that stays unknown, the doubt is recorded. Children that it started are cancelled, too, and have ended
    when the race returns. A signal, message or decision that no branch took stays for a later wait.
    """
    if not branches:
        raise ValueError("race() takes at least one branch")
    result: T = await _context("race()").race(branches)
    return result


class deadline:  # noqa: N801 - reads like the function that it is used as
    """Cancel the commands inside when the time is over, and raise DeadlineExceeded:

        async with deadline("10m"):
            order = await look_up(number)
            await signal("paid")

    The moment is recorded when the block is entered, so it holds while the job is parked and on another runner. A
    running tool runs to its outcome first.
    """

    def __init__(self, span: str | float | timedelta) -> None:
        self._span = to_span(span)
        self._opened: Any = None

    async def __aenter__(self) -> Self:
        self._opened = await _context("deadline()").open_deadline(self._span)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception | asyncio.CancelledError):
            # The agent is being unwound and gives no more commands.
            return
        cancelled = isinstance(error, asyncio.CancelledError)
        if await _context("deadline()").close_deadline(self._opened, cancelled):
            # An agent can fail with this text, it is recorded, and a replay compares it: it never changes.
            raise DeadlineExceeded(f"not done within {self._span}") from None
