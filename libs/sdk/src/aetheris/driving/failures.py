"""Errors as values, and back.

What an agent catches must be the same on the first run and on every resume, so an error always goes
through its record before the agent sees it: its class and what it said.
"""

from __future__ import annotations

import builtins
import sys
import traceback

from aetheris_journal.events import Failure

from aetheris.errors import StepFailed

# An agent that asks for its process to end asks too much: the process is everybody's. For it, it is an error.
EXITS = (SystemExit, KeyboardInterrupt)

_MESSAGE_MAX = 8 * 1024
_STACK_MAX = 16 * 1024


def described(error: BaseException, *, retryable: bool = False) -> Failure:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}:{kind.__qualname__}"
    if isinstance(error, StepFailed) and error.error_type:
        name = error.error_type
    stack = "".join(traceback.format_exception(error))
    return Failure(name, cut(str(error), _MESSAGE_MAX), retryable, cut(stack, _STACK_MAX))


def revived(failure: Failure) -> Exception:
    """The error again. Its class where a class of that name is loaded and can be made from a message;
    StepFailed otherwise."""
    kind = _class(failure.type)
    if kind is not None:
        try:
            error = kind.__new__(kind)
            error.args = (failure.message,)
            str(error)
        except Exception:
            return StepFailed(failure.message, failure.type)
        return error
    return StepFailed(failure.message, failure.type)


def _class(name: str) -> type[Exception] | None:
    module, _, qualname = name.rpartition(":")
    found: object = builtins if not module else sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    return None


def cut(text: str, bytes_max: int) -> str:
    """Text that can be written down, whatever it was made of."""
    # Through bytes: a lone surrogate in a message would make the whole commit unwritable.
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")
