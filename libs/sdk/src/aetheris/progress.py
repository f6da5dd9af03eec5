"""How a long step or tool says that it is alive, and how far it is."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

NOTE_CHARACTERS_MAX = 256


class Pulse(Protocol):
    """Whoever watches the code that runs."""

    def beat(self, fraction: float | None, note: str) -> None:
        """From any thread, as often as it likes."""


# Set by the runner around a step's or tool's own code.
pulse_in_hand: ContextVar[Pulse | None] = ContextVar("aetheris_pulse", default=None)


def heartbeat(fraction: float | None = None, note: str = "") -> None:
    """Say inside a step or tool that it gets on: `heartbeat(0.4, "page 12 of 30")`.

    It begins the `heartbeat=` limit anew, and people see the note. Outside a runner it does nothing.
    """
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError("fraction is a number from 0 to 1")
    pulse = pulse_in_hand.get()
    if pulse is not None:
        # Whatever a note was made of, it can be sent.
        pulse.beat(fraction, note.encode("utf-8", "replace").decode()[:NOTE_CHARACTERS_MAX])
