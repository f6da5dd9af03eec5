"""The handlers that an application may set for its own hand-over. Each has a default that does nothing."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aeterna.sdk.connections.connection import Connection
from aeterna.srp.wire.state import State

log = logging.getLogger("aeterna.sdk")


class HandoverFailed(RuntimeError):
    """The predecessor serves on; this process has nothing and should exit."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"[Aeterna-SDK] the hand-over failed: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frozen:
    """The result of a freeze: values that changed since the export, keys to drop, and connections to hand over."""

    changed: Mapping[str, Any] = field(default_factory=dict)
    drop: Iterable[str] = ()
    connections: Sequence[Connection] = ()


@dataclass(frozen=True, slots=True)
class Resumed:
    """This process goes on serving, or serves again.

    It may read from `connections`. The connections in `lost` are closed: a dead successor has touched them, or nothing
    proves that it has not. `state` holds the changes of the successor; `whole` is false if some of them are missing.
    """

    connections: Sequence[Connection] = ()
    lost: Sequence[Connection] = ()
    state: State = field(default_factory=State)
    whole: bool = True


@dataclass(slots=True)
class Handlers:
    """One function for each question that the protocol puts to the application."""

    export: Callable[[], Mapping[str, Any]] = dict
    freeze: Callable[[], Frozen] = Frozen
    resume: Callable[[Resumed], None] = lambda _resumed: None
    retired: Callable[[], None] = lambda: None
    migrate: Callable[[int, State], Mapping[str, Any]] | None = None

    def tell_resumed(self, resumed: Resumed) -> None:
        """Call the application. An exception is logged, and the connection to the supervisor goes on."""
        try:
            self.resume(resumed)
        except Exception:
            log.exception("[Aeterna-SDK] on_resume failed")

    def tell_retired(self) -> None:
        try:
            self.retired()
        except Exception:
            log.exception("[Aeterna-SDK] on_retired failed")
