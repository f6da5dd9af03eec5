"""Waits that end when a token is used: by a web hook, a partner's system, a link in a mail."""

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

# The prefix of the keys of signals that can only be sent with a token.
RESERVED = "awakeable/"


class AwakeableFailed(AetherisError):
    """The token was used with an error. The message is the one that was sent with it."""


@dataclass(frozen=True, slots=True)
class Awakeable:
    """A wait and the token that ends it: give the token away in a tool call, then `await` this.

    Awaiting it gives the payload. Raises AwakeableFailed if an error was sent instead, WaitTimedOut if the token was
    not used in time.
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
    """A token in the form in which it is recorded."""
    return canonical({"token": token, "deadline": None if deadline is None else deadline.isoformat()})


def read_token(path: str, value: bytes) -> Awakeable:
    """The awakeable of a recorded token."""
    said = from_json(value)
    deadline = said["deadline"]
    return Awakeable(said["token"], path, None if deadline is None else datetime.fromisoformat(deadline))


def read_completion(payload: bytes, *, timed_out: bool) -> Any:
    """The payload that ended the wait, or the error that the agent gets."""
    if timed_out:
        # An agent can fail with this text, it is recorded, and a replay compares it: it never changes.
        raise WaitTimedOut("nobody used the token in time")
    said = from_json(payload) if payload else {}
    if "error" in said:
        raise AwakeableFailed(str(said["error"]))
    return said.get("payload")


async def awakeable(*, timeout: str | float | timedelta | None = None) -> Awakeable:
    """Make a token and the wait that it ends. With a timeout, counted from here, the token expires."""
    made: Awakeable = await _context("awakeable()").awakeable(None if timeout is None else to_span(timeout))
    return made
