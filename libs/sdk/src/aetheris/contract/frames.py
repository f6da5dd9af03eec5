"""Decides whether the agent's own code is acting, or the runner, or a library on the way to a log line.

The stack is walked outward from the function that was called. The first frame of this package decides: if it is the
driver, which calls agent code, the agent acts; if it is any other, that module acts. A call on the way to a log line,
an import or a traceback cannot change what the agent decides, so it is allowed.

    time.time ◄─ requests ◄─ checkout() ◄─ driver          the agent acts
    time.time ◄─ steps.py ◄─ step() ◄─ checkout() ◄─ …      the runner acts
    time.time ◄─ logging ◄─ checkout() ◄─ driver            allowed
"""

from __future__ import annotations

import linecache
import site
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

OURS = frozenset(
    f"aetheris{name}"
    for name in ("", "_chassis", "_embedded", "_engine", "_gateway", "_journal", "_kernel", "_ledger", "_proto",
                 "_runner", "_scheduler")
)  # fmt: skip
BYSTANDERS = frozenset((
    "importlib", "_frozen_importlib", "_frozen_importlib_external", "zipimport", "logging", "structlog", "loguru",
    "traceback", "linecache", "warnings", "inspect", "zoneinfo", "dateutil", "pytz", "opentelemetry", "coverage",
    "pdb", "bdb",
))  # fmt: skip

# By identity, because hashing a code object reads all of it. The objects are kept, so that no new one can get the same
# identity.
_drivers: dict[int, CodeType] = {}


def drives(function: F) -> F:
    """Marks a function that calls agent code directly."""
    code: CodeType = function.__code__
    _drivers[id(code)] = code
    return function


@dataclass(frozen=True, slots=True)
class Place:
    """A line of source code."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


def acting(frame: FrameType | None) -> Place | None:
    """The agent's line that leads to `frame`, or None if it is not the agent that acts."""
    inner: FrameType | None = None
    own: FrameType | None = None
    while frame is not None:
        root = _root(frame)
        if root in OURS:
            if id(frame.f_code) not in _drivers:
                return None
            return None if inner is None else _place(own or inner)
        if root in BYSTANDERS or frame.f_code.co_name == "__del__":
            return None
        if own is None and not is_library(frame.f_code.co_filename):
            own = frame
        inner, frame = frame, frame.f_back
    return None


def nearest(frame: FrameType | None) -> Place | None:
    """The innermost line of the author's code: where a command was given. None if the stack of the branch has no such
    line, because the command was given before the branch ran."""
    inner: FrameType | None = None
    while frame is not None:
        if is_own(frame):
            return _place(frame)
        if _root(frame) not in OURS:
            inner = frame
        elif id(frame.f_code) in _drivers:
            break
        frame = frame.f_back
    return None if inner is None or frame is None else _place(inner)


def raised_at(traceback: TracebackType | None) -> Place | None:
    """The innermost line of the author's code in an error's traceback."""
    found: Place | None = None
    while traceback is not None:
        frame = traceback.tb_frame
        if is_own(frame):
            found = Place(frame.f_code.co_filename, traceback.tb_lineno, frame.f_code.co_qualname)
        traceback = traceback.tb_next
    return found


def module_that_raised(traceback: TracebackType | None) -> str:
    """The module whose code raised the error that has this traceback."""
    module = ""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    return module


def is_own(frame: FrameType) -> bool:
    """Whether the file is the author's: neither this package's nor a library's."""
    return _root(frame) not in OURS and not is_library(frame.f_code.co_filename)


def is_ours(module: str) -> bool:
    """Whether the module is one of Aetheris' own."""
    return module.partition(".")[0] in OURS


def _root(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


def _library_folders() -> tuple[str, ...]:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(f"{folder}/" for folder in {*folders, *site.getsitepackages()} if folder)


_LIBRARIES = _library_folders()


def is_library(file: str) -> bool:
    """Whether the file belongs to Python or to an installed package."""
    return file.startswith((*_LIBRARIES, "<frozen"))
