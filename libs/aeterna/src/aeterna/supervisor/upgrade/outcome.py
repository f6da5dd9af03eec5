"""How upgrades end, and the clients that wait for the end of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

# The numbers the specification gives its failures.
CODES = {
    "config": 1001,
    "preflight": 2001,
    "listen": 3001,
    "start": 3002,
    "handover": 3003,
    "load": 3004,
    "soak": 4001,
    "rollback": 4002,
    "stopped": 1000,
}


@dataclass(frozen=True)
class UpgradeOutcome:
    """How one upgrade has ended. The names are the keys of the answers and are stored across a re-exec."""

    result: str  # done | abandoned
    kind: str  # which of CODES, empty when done
    reason: str
    generation: int  # that serves now
    seconds: float
    at: float

    @property
    def code(self) -> int:
        """0 when done."""
        return 0 if self.result == "done" else CODES.get(self.kind, 1000)

    def view(self) -> dict[str, Any]:
        """As JSON, for answers and for the next image."""
        return {**asdict(self), "code": self.code}


@dataclass(frozen=True, eq=False)
class Waiter:
    """A client that waits for an upgrade. `passes` gets each state and its limit in seconds, `ended` the outcome."""

    ended: Callable[[UpgradeOutcome], None]
    passes: Callable[[str, float | None], None] = lambda _state, _limit_s: None


class Upgrades:
    """At most one upgrade is under way; at most one more is queued."""

    def __init__(self) -> None:
        self.last: UpgradeOutcome | None = None
        self.under_way = False
        self.successor_started = False  # then an abandoned upgrade counts as a rollback
        self.blame: tuple[str, str] = ("", "")
        self._since = 0.0
        self._waiters: list[Waiter] = []
        self._later: list[Waiter] = []

    def begin(self, now: float) -> None:
        """An upgrade begins. Clients that waited for the queued upgrade get this one's outcome."""
        self.under_way, self._since, self.blame = True, now, ("", "")
        self.successor_started = False
        self._waiters += self._later
        self._later = []

    def fail(self, kind: str, reason: str) -> None:
        """Note why the upgrade will be abandoned. Only the first reason counts; later failures follow from it."""
        if not self.blame[0]:
            self.blame = (kind, reason)

    def end(self, result: str, generation: int, now: float) -> UpgradeOutcome | None:
        """The upgrade is over. None if none was under way."""
        if not self.under_way:
            return None
        kind, reason = self.blame if result != "done" else ("", "")
        self.under_way = False
        self.last = UpgradeOutcome(result, kind, reason, generation, now - self._since, time.time())
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.ended(self.last)
        return self.last

    def passes(self, state: str, limit_s: float | None) -> None:
        """The upgrade has come to this state."""
        for waiter in self._waiters if self.under_way else ():
            waiter.passes(state, limit_s)

    def wait(self, waiter: Waiter, *, queued: bool) -> None:
        """Call the waiter about the upgrade under way or, if `queued`, the one after it."""
        if queued and self.under_way:
            waiter.passes("queued", None)
        (self._later if queued else self._waiters).append(waiter)

    def forget(self, waiter: Waiter) -> None:
        """The client has hung up."""
        for waiters in (self._waiters, self._later):
            if waiter in waiters:
                waiters.remove(waiter)

    @property
    def awaited(self) -> bool:
        """Does a client wait?"""
        return bool(self._waiters or self._later)

    def resume(self, kept: dict[str, Any] | None) -> None:
        """The last outcome, as an earlier image has stored it."""
        if kept is not None:
            self.last = UpgradeOutcome(**{key: value for key, value in kept.items() if key != "code"})
