"""What became of each upgrade, and who waits to hear it."""

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
class Outcome:
    """One upgrade, ended."""

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
        """As it is shown."""
        return {**asdict(self), "code": self.code}


@dataclass(frozen=True, eq=False)
class Waiter:
    """Somebody who wants to hear of an upgrade: each state it comes to, with its limit in seconds, and how it ended."""

    ended: Callable[[Outcome], None]
    passes: Callable[[str, float | None], None] = lambda _state, _limit_s: None


class Upgrades:
    """At most one is under way."""

    def __init__(self) -> None:
        self.last: Outcome | None = None
        self.under_way = False
        self.blame: tuple[str, str] = ("", "")
        self._since = 0.0
        self._waiters: list[Waiter] = []
        self._later: list[Waiter] = []

    def begin(self, now: float) -> None:
        """Those who wait for the next one wait for this one."""
        self.under_way, self._since, self.blame = True, now, ("", "")
        self._waiters += self._later
        self._later = []

    def fail(self, kind: str, reason: str) -> None:
        """Why it will be abandoned. The first reason is the reason; the others follow from it."""
        if not self.blame[0]:
            self.blame = (kind, reason)

    def end(self, result: str, generation: int, now: float) -> Outcome | None:
        """It is over, if there was one."""
        if not self.under_way:
            return None
        kind, reason = self.blame if result != "done" else ("", "")
        self.under_way = False
        self.last = Outcome(result, kind, reason, generation, now - self._since, time.time())
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.ended(self.last)
        return self.last

    def passes(self, state: str, limit_s: float | None) -> None:
        """It has come to that state."""
        for waiter in self._waiters if self.under_way else ():
            waiter.passes(state, limit_s)

    def wait(self, waiter: Waiter, *, queued: bool) -> None:
        """Tell them how the one under way ends, or, `queued`, the one after it."""
        if queued and self.under_way:
            waiter.passes("queued", None)
        (self._later if queued else self._waiters).append(waiter)

    def forget(self, waiter: Waiter) -> None:
        """They have hung up."""
        for waiters in (self._waiters, self._later):
            if waiter in waiters:
                waiters.remove(waiter)

    @property
    def awaited(self) -> bool:
        """Does anybody wait?"""
        return bool(self._waiters or self._later)

    def resume(self, kept: dict[str, Any] | None) -> None:
        """The last one, as an older image knew it."""
        if kept is not None:
            self.last = Outcome(**{key: value for key, value in kept.items() if key != "code"})
