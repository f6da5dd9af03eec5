"""Turns errors into recorded failures, and back.

An agent must catch the same error on the first run and on every resume. So it never gets the error that was raised, but
one that is made from the record: from its class and its text.
"""

from __future__ import annotations

import builtins
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

from aetheris_journal.events import Failure
from aetheris_journal.limits import FAILURE_MESSAGE_BYTES_MAX, FAILURE_STACK_BYTES_MAX, FAILURE_TYPE_BYTES_MAX

from aetheris.contract.frames import module_that_raised
from aetheris.driving.boundary import Returned, Threw, contained, is_a
from aetheris.errors import ContractViolation, StepFailed

# The class's own facts. A metaclass of the author may answer anything where they are asked for as attributes.
_name_of: Callable[[type], object] = type.__dict__["__name__"].__get__
_module_of: Callable[[type], object] = type.__dict__["__module__"].__get__
_qualname_of: Callable[[type], object] = type.__dict__["__qualname__"].__get__
traceback_of: Callable[[BaseException], TracebackType | None] = BaseException.__dict__["__traceback__"].__get__

# A recorded error is known by the module that had its class when it was first released. These modules were renamed
# since; records keep the first name, because a replay compares it and older runners look the class up by it.
_RECORDED_AS = {"aetheris.child": "aetheris.children"}
_FOUND_IN = {recorded: module for module, recorded in _RECORDED_AS.items()}


def described(error: BaseException, *, retryable: bool = False) -> Failure:
    name = class_name(error)
    if is_a(error, StepFailed):
        recorded = contained(getattr, error, "error_type", "")
        if isinstance(recorded, Returned) and type(recorded.value) is str and recorded.value:
            name = recorded.value
    return Failure(
        cut(name, FAILURE_TYPE_BYTES_MAX),
        cut(said(error), FAILURE_MESSAGE_BYTES_MAX),
        retryable,
        cut(_stack(error), FAILURE_STACK_BYTES_MAX),
    )


# The modules that raise what the record says: the failure of a step, a time-out, a rejection, the end of a child.
_FROM_THE_RECORD = frozenset(
    f"aetheris.{module}"
    for module in ("approvals", "awakeables", "child", "driving.program", "driving.verdicts", "mapping", "racing")
)


def is_of_code(error: BaseException) -> bool:
    """Whether the agent's own code has raised the error, and not the record: other code would not raise it."""
    return is_a(error, ContractViolation) or module_that_raised(traceback_of(error)) not in _FROM_THE_RECORD


def said(error: BaseException) -> str:
    """The text of an error, also if `str(error)` raises."""
    text = contained(str, error)
    if isinstance(text, Threw):
        return f"(its text cannot be had: {short_name(text.error)})"
    # `str()` may return an object of a subclass, whose methods are the author's.
    return str.__str__(text.value)


def class_name(error: BaseException) -> str:
    """The name under which the class of an error is recorded."""
    module, qualname = _fact(_module_of, error), _fact(_qualname_of, error)
    module = _RECORDED_AS.get(module, module)
    return qualname if module == "builtins" else f"{module}:{qualname}"


def short_name(error: BaseException) -> str:
    """What `type(error).__name__` is for any ordinary class."""
    return _fact(_name_of, error)


def _fact(of: Callable[[type], object], error: BaseException) -> str:
    found = contained(of, type(error))
    if isinstance(found, Returned) and issubclass(type(found.value), str):
        return str.__str__(found.value)
    return "?"


def _stack(error: BaseException) -> str:
    found = contained(lambda: "".join(traceback.format_exception(error)))
    if isinstance(found, Threw):
        # The text of the error, or of one of its causes, raises.
        found = contained(lambda: "".join(traceback.format_tb(traceback_of(error))))
    return found.value if isinstance(found, Returned) else ""


def revived(failure: Failure) -> Exception:
    """The error from the record. It has the recorded class, if that is loaded and can be made from a message; otherwise
    it is a StepFailed."""
    made = contained(_made, failure)
    if isinstance(made, Returned) and made.value is not None:
        return made.value
    return StepFailed(failure.message, failure.type)


def _made(failure: Failure) -> Exception | None:
    kind = _class(failure.type)
    if kind is None:
        return None
    error = kind.__new__(kind)
    error.args = (failure.message,)
    str(error)
    return error if is_a(error, kind) else None


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
    return text[:bytes_max].encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")
