"""Heartbeats: how a long step or tool reports that it is alive, and its progress. A module of its own because authors,
hosts and threads share it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

NOTE_CHARACTERS_MAX = 256


class Pulse(Protocol):
    """Receives the heartbeats of the running code."""

    def beat(self, fraction: float | None, note: str) -> None:
        """May be called from any thread, any number of times."""


# Set by the runner around a step's or tool's own code.
pulse_in_hand: ContextVar[Pulse | None] = ContextVar("aetheris_pulse", default=None)


def heartbeat(fraction: float | None = None, note: str = "") -> None:
    """Report inside a step or tool that it is making progress: `heartbeat(0.4, "page 12 of 30")`.

    It restarts the `heartbeat=` limit, and people see the note. Outside a runner it does nothing.
    """
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError("fraction is a number from 0 to 1")
    pulse = pulse_in_hand.get()
    if pulse is not None:
        # Characters that cannot be encoded are replaced, so that the note can be sent.
        pulse.beat(fraction, note.encode("utf-8", "replace").decode()[:NOTE_CHARACTERS_MAX])
