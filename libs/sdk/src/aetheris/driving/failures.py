"""Errors as values, and back.

What an agent catches must be the same on the first run and on every resume, so an error always goes
through its record before the agent sees it: its class and what it said.
"""

from __future__ import annotations

import asyncio
import builtins
import sys
import traceback

from aetheris_journal.events import Failure

from aetheris.errors import StepFailed


class Restart(BaseException):
    """Unwinds the agent after a checkpoint. Not an Exception: no handler of an agent's errors is meant by it."""


# What passes through the code of agents, steps and tools as it is. Every other BaseException that they raise is an
# error of theirs: SystemExit too, because the process belongs to all of its jobs.
UNCONTAINED = (asyncio.CancelledError, GeneratorExit, Restart)

# A recorded error is known by the module that had its class when it was first released. These modules were renamed
# since; records keep the first name, because a replay compares it and older runners look the class up by it.
_RECORDED_AS = {"aetheris.child": "aetheris.children"}
_FOUND_IN = {recorded: module for module, recorded in _RECORDED_AS.items()}

_MESSAGE_MAX = 8 * 1024
_STACK_MAX = 16 * 1024


def described(error: BaseException, *, retryable: bool = False) -> Failure:
    kind = type(error)
    module = _RECORDED_AS.get(kind.__module__, kind.__module__)
    name = kind.__qualname__ if module == "builtins" else f"{module}:{kind.__qualname__}"
    if isinstance(error, StepFailed) and error.error_type:
        name = error.error_type
    stack = _stack(error)
    return Failure(name, cut(said(error), _MESSAGE_MAX), retryable, cut(stack, _STACK_MAX))


def said(error: BaseException) -> str:
    """What an error says, also where its own text raises."""
    try:
        return str(error)
    except Exception as broken:
        return f"(its text cannot be had: {type(broken).__name__})"


def _stack(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        # The text of the error, or of one behind it, raises.
        return "".join(traceback.format_tb(error.__traceback__))


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
    found: object = builtins if not module else sys.modules.get(_FOUND_IN.get(module, module))
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    return None


def cut(text: str, bytes_max: int) -> str:
    """Text that can be written down, whatever it was made of."""
    # Through bytes: a lone surrogate in a message would make the whole commit unwritable.
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")
