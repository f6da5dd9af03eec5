"""What an application may say about its own hand-over. Every handler has a default that does nothing."""

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
    """What goes along when the application stands still: what has changed since the export, and connections."""

    changed: Mapping[str, Any] = field(default_factory=dict)
    drop: Iterable[str] = ()
    connections: Sequence[Connection] = ()


@dataclass(frozen=True, slots=True)
class Resumed:
    """This process serves on, or again.

    `connections` are those it may read from; `lost` were closed, because a dead successor touched them or
    because nothing proves that it did not. `state` is what the successor had changed; `whole` is false if some
    of that is missing.
    """

    connections: Sequence[Connection] = ()
    lost: Sequence[Connection] = ()
    state: State = field(default_factory=State)
    whole: bool = True


@dataclass(slots=True)
class Handlers:
    export: Callable[[], Mapping[str, Any]] = dict
    freeze: Callable[[], Frozen] = Frozen
    resume: Callable[[Resumed], None] = lambda _resumed: None
    retired: Callable[[], None] = lambda: None
    migrate: Callable[[int, State], Mapping[str, Any]] | None = None

    def tell_resumed(self, resumed: Resumed) -> None:
        """Whatever the application makes of it: the conversation with the supervisor goes on."""
        try:
            self.resume(resumed)
        except Exception:
            log.exception("[Aeterna-SDK] on_resume failed")

    def tell_retired(self) -> None:
        try:
            self.retired()
        except Exception:
            log.exception("[Aeterna-SDK] on_retired failed")
