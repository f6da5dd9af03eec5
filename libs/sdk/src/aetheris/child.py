"""Jobs that an agent starts: each has a record, a lease and an end of its own.

ship = await spawn(shipping, order.id)      # durable here; made once, however often this runs
…
receipt = await ship                        # its result, or ChildFailed, or ChildCancelled
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from aetheris_journal.commands import Settled
from pydantic_core import from_json

from aetheris.context import _context
from aetheris.definitions import AgentDefinition
from aetheris.errors import AetherisError
from aetheris.values import Codec, canonical

# The failure type of a child that was cancelled.
CANCELLED = "Cancelled"
ON_PARENT_CLOSE = ("cancel", "abandon")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


class ChildFailed(AetherisError):
    """The child failed. `type` is the class of its error; the message has the error's text."""

    def __init__(self, type: str, message: str) -> None:  # noqa: A002 - what it is
        super().__init__(f"{type}: {message}")
        self.type, self.message = type, message


class ChildCancelled(AetherisError):
    """The child was cancelled; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """A child before it is started."""

    agent: str
    input: bytes
    key: str = ""
    queue: str = ""
    on_parent_close: str = "cancel"
    result: Codec | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """A child job. Awaiting it gives its result; it may be awaited again and again.

    `job_id` is text and may go into a checkpoint's state; `Child(job_id)` is the same child again.
    """

    job_id: str
    result: Codec | None = field(default=None, repr=False, compare=False)

    def __await__(self) -> Generator[Any, None, Any]:
        return _context("a child job").child(self).__await__()

    async def cancel(self) -> None:
        """Cancel the child: it takes its effects back. Returns when the child has ended; awaiting it then gives its
        end."""
        await _context("a child job").cancel_child(self)


async def spawn(
    agent: AgentDefinition[Any] | str,
    /,
    *args: Any,
    key: str | None = None,
    queue: str | None = None,
    on_parent_close: str = "cancel",
    **kwargs: Any,
) -> Child:
    """Start a job of `agent` (an agent of yours, or an agent's name) and go on; `await` the returned child for its
    result.

    With `key`, all calls under that key in this job give the same child. If this job ends first, the child is
    cancelled; with `on_parent_close="abandon"` it runs on.
    """
    if on_parent_close not in ON_PARENT_CLOSE:
        raise ValueError(f"on_parent_close is one of {', '.join(ON_PARENT_CLOSE)}")
    name = agent.name if isinstance(agent, AgentDefinition) else agent
    for text, what in ((name, "an agent's name"), (queue or "default", "a queue's name")):
        if not isinstance(text, str) or not _NAME.match(text):
            raise ValueError(f"{text!r}: {what} has 1 to 128 letters, digits, dots, dashes or underscores")
    if key is not None and (not 1 <= len(key) <= 256 or not key.isprintable()):
        raise ValueError("a child's key has 1 to 256 printable characters")
    result = None
    if isinstance(agent, AgentDefinition):
        agent.signature.bind(args, kwargs)
        result = agent.signature.result
    given = canonical({"args": args, "kwargs": kwargs}, f"an argument of {name!r}")
    child: Child = await _context("spawn()").spawn(Spawn(name, given, key or "", queue or "", on_parent_close, result))
    return child


def read_end(child: Child, ended: Settled) -> Any:
    """The child's result, or the error that its parent gets."""
    failure = ended.failure
    if failure is None:
        return from_json(ended.value or b"null") if child.result is None else child.result.read(ended.value)
    if failure.type == CANCELLED:
        raise ChildCancelled(failure.message or "cancelled")
    raise ChildFailed(failure.type, failure.message)
