"""Turns errors into recorded failures, and back.

An agent must catch the same error on the first run and on every resume. So it never gets the error that was raised, but
one that is made from the record: from its class and its text.
"""

from __future__ import annotations

import asyncio
import builtins
import sys
import traceback

from aetheris_journal.events import Failure
from aetheris_journal.limits import FAILURE_MESSAGE_BYTES_MAX, FAILURE_STACK_BYTES_MAX, FAILURE_TYPE_BYTES_MAX

from aetheris.errors import StepFailed


class Restart(BaseException):
    """Unwinds the agent after a checkpoint. Not an Exception, so that the agent's error handlers do not catch it."""


# Exceptions that pass through the code of agents, steps and tools unchanged. Every other BaseException that such code
# raises is recorded as its error: SystemExit too, because the process belongs to all of its jobs.
UNCONTAINED = (asyncio.CancelledError, GeneratorExit, Restart)

# A recorded error is known by the module that had its class when it was first released. These modules were renamed
# since; records keep the first name, because a replay compares it and older runners look the class up by it.
_RECORDED_AS = {"aetheris.child": "aetheris.children"}
_FOUND_IN = {recorded: module for module, recorded in _RECORDED_AS.items()}


def described(error: BaseException, *, retryable: bool = False) -> Failure:
    kind = type(error)
    module = _RECORDED_AS.get(kind.__module__, kind.__module__)
    name = kind.__qualname__ if module == "builtins" else f"{module}:{kind.__qualname__}"
    if isinstance(error, StepFailed) and error.error_type:
        name = error.error_type
    stack = _stack(error)
    return Failure(
        cut(name, FAILURE_TYPE_BYTES_MAX),
        cut(said(error), FAILURE_MESSAGE_BYTES_MAX),
        retryable,
        cut(stack, FAILURE_STACK_BYTES_MAX),
    )


def said(error: BaseException) -> str:
    """The text of an error, also if `str(error)` raises."""
    try:
        return str(error)
    except Exception as broken:
        return f"(its text cannot be had: {type(broken).__name__})"


def _stack(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        # The text of the error, or of one of its causes, raises.
        return "".join(traceback.format_tb(error.__traceback__))


def revived(failure: Failure) -> Exception:
    """The error from the record. It has the recorded class, if that is loaded and can be made from a message; otherwise
    it is a StepFailed."""
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
    found: object = builtins if not module else sys.modules.get(_FOUND_IN.get(module, module))
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    return None


def cut(text: str, bytes_max: int) -> str:
    """The beginning of `text` that can be recorded: at most `bytes_max` bytes of valid UTF-8."""
    # A lone surrogate (half a character) in a message would make the whole commit impossible to encode.
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")
