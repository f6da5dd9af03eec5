"""Anybody with the token ends the wait: a web hook, a partner's system, a link in a mail."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import from_json

from aetheris.context import _context
from aetheris.durations import to_span
from aetheris.errors import AetherisError, WaitTimedOut
from aetheris.values import canonical

# Signals whose key begins so are sent by whoever holds a token, and by nobody else.
RESERVED = "awakeable/"


class AwakeableFailed(AetherisError):
    """Whoever held the token said that it did not work out; the message is what they said."""


@dataclass(frozen=True, slots=True)
class Awakeable:
    """Something to wait for, and the token that ends it: give the token away in a tool call, then `await` this.

    What is awaited is the payload; AwakeableFailed where an error was said instead, WaitTimedOut where
    nothing was said in time.
    """

    token: str
    path: str
    deadline: datetime | None

    @property
    def key(self) -> str:
        return f"{RESERVED}{self.path}"

    def __await__(self) -> Generator[Any, None, Any]:
        return _context("an awakeable").awakened(self).__await__()


def write_token(token: str, deadline: datetime | None) -> bytes:
    """A token as it is recorded."""
    return canonical({"token": token, "deadline": None if deadline is None else deadline.isoformat()})


def read_token(path: str, value: bytes) -> Awakeable:
    """The awakeable of a recorded token."""
    said = from_json(value)
    deadline = said["deadline"]
    return Awakeable(said["token"], path, None if deadline is None else datetime.fromisoformat(deadline))


def read_completion(payload: bytes, *, timed_out: bool) -> Any:
    """What the end of the wait means to the agent."""
    if timed_out:
        raise WaitTimedOut("nobody used the token in time")
    said = from_json(payload) if payload else {}
    if "error" in said:
        raise AwakeableFailed(str(said["error"]))
    return said.get("payload")


async def awakeable(*, timeout: str | float | timedelta | None = None) -> Awakeable:
    """A token, and the wait that it ends. With a timeout, counted from here, the token expires."""
    made: Awakeable = await _context("awakeable()").awakeable(None if timeout is None else to_span(timeout))
    return made
