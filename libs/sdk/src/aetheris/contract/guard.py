"""Holds agent code to the step contract while it runs.

It works in two ways, because neither is enough alone. An audit hook sees when the interpreter opens files, sockets,
processes and threads. The clock, random numbers and the event loop cause no audit event, so their functions are
replaced by wrappers: functions in their modules, methods in their classes, those of `datetime` in the type's own
dictionary. An alias made after the guard is in place (`from time import time as t`) gets the wrapper, too.

Outside agent code both cost one read of a context variable. They cannot see a function that was imported from its
module before the guard was installed, an extension in C that calls the system itself, `os.stat` and `os.environ`, which
cause no audit event, and the order of a set. `aetheris lint` finds some of these in the source.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any
from zoneinfo import TZPATH

from aetheris.context import current
from aetheris.contract.frames import acting
from aetheris.contract.rules import EVENTS, FUNCTIONS, HARMLESS_WITH, LOOP_METHODS, METHODS, Rule
from aetheris.errors import ContractViolation

_in_force = 0
_installed = False


@contextmanager
def in_force() -> Iterator[None]:
    """While this is entered, agent code that acts raises ContractViolation. Enter it before the agents' modules are
    imported."""
    global _in_force
    _install()
    _in_force += 1
    try:
        yield
    finally:
        _in_force -= 1


def held() -> bool:
    """Whether agent code of this process is held to the contract now."""
    return _in_force > 0


def _refuse(rule: Rule, what: str) -> None:
    """Raise ContractViolation, if it is agent code that acts."""
    place = acting(sys._getframe(2))
    if place is not None:
        # An agent can fail with this text, it is recorded, and a replay compares it: it never changes.
        text = f": `{place.text}`" if place.text else ""
        raise ContractViolation(
            f"{rule.id}: the agent {rule.title} by {what} at {place}{text}. Between steps, {rule.why}; {rule.remedy}"
        )


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    rule = EVENTS.get(event)
    if rule is not None and _in_force and current.get() is not None and not _is_time_zone(event, arguments):
        _refuse(rule, f"{event}{_shown(event, arguments)}")


def _is_time_zone(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether the path is a time zone's. `ZoneInfo` opens its file from C, so no frame shows that it does."""
    return event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(TZPATH)


def _shown(event: str, arguments: tuple[Any, ...]) -> str:
    """The path or address for the message; empty if there is none."""
    first = [each for each in arguments[:2] if isinstance(each, str | bytes | tuple)]
    return f"({first[0]!r})" if first and event != "subprocess.Popen" else "()"


def _install() -> None:
    """Once in a process: an audit hook cannot be taken out again."""
    global _installed
    if _installed:
        return
    _installed = True
    for name, rule in FUNCTIONS.items():
        module, _, function = name.rpartition(".")
        _stand_in(importlib.import_module(module), function, name, rule)
    for name, rule in METHODS.items():
        path, _, method = name.rpartition(".")
        module, _, kind = path.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
        if module == "datetime":
            _stand_in_of_c_type(owner, method, name, rule)
        else:
            _stand_in(owner, method, name, rule)
    for loop in _loops():
        for method, rule in LOOP_METHODS.items():
            _stand_in(loop, method, f"{loop.__name__}.{method}", rule)
    sys.addaudithook(_hear)


def _loops() -> list[type]:
    loops: list[type] = [asyncio.SelectorEventLoop]
    with suppress(ImportError):
        loops.append(importlib.import_module("uvloop").Loop)
    return loops


def _stand_in(owner: Any, attribute: str, name: str, rule: Rule) -> None:
    """The wrapper for a function of a module or a method of a class."""
    original = getattr(owner, attribute, None)
    if original is not None:
        setattr(owner, attribute, _guarded(original, name, rule, 1 if isinstance(owner, type) else 0))


def _guarded(original: Callable[..., Any], name: str, rule: Rule, bound: int) -> Callable[..., Any]:
    harmless = HARMLESS_WITH.get(name)

    @wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if _in_force and current.get() is not None and not _is_harmless(args[bound:], kwargs, harmless):
            _refuse(rule, f"{name}()")
        return original(*args, **kwargs)

    return guarded


def _is_harmless(args: tuple[Any, ...], kwargs: dict[str, Any], harmless: int | None) -> bool:
    given = [each for each in (*args, *kwargs.values()) if each is not None]
    return harmless is not None and len(given) >= harmless


def _stand_in_of_c_type(kind: type, method: str, name: str, rule: Rule) -> None:
    """Put a wrapper into a built-in type, which refuses assignment.

    A subclass in its place would be another type for every `isinstance` and annotation. So the wrapper goes into the
    type's own dictionary, which the garbage collector finds through the read-only view: the view refers to nothing else
    in every CPython so far. Should that change, only the linter finds these calls.
    """
    found = [each for each in gc.get_referents(kind.__dict__) if isinstance(each, dict) and method in each]
    if len(found) != 1:
        return
    original = found[0][method]

    @wraps(original)
    def guarded(cls: type, *args: Any, **kwargs: Any) -> Any:
        if _in_force and current.get() is not None:
            _refuse(rule, f"{name}()")
        return original.__get__(None, cls)(*args, **kwargs)

    found[0][method] = classmethod(guarded)
    # The interpreter caches attributes of types; this drops the cache.
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
