"""What a job waits for, and what ends each wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from aetheris_journal.events import WaitKind


@dataclass(frozen=True, slots=True)
class Note:
    """What the inbox holds for the job."""

    note_id: str
    name: str
    payload: bytes
    actor: str


@dataclass(frozen=True, slots=True)
class Wait:
    path: str
    kind: WaitKind
    name: str
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Delivered:
    wait: Wait
    note: Note


@dataclass(frozen=True, slots=True)
class TimeUp:
    wait: Wait


@dataclass(frozen=True, slots=True)
class Another:
    """A new lease: try again what an operator or another job held up."""

    wait: Wait


Ending = Delivered | TimeUp | Another


class Waits:
    """The open waits of one job. Each ends once, and whoever comes second finds it gone."""

    def __init__(self) -> None:
        self._open: dict[str, Wait] = {}
        self._notes: dict[str, Note] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def open(self, wait: Wait) -> Delivered | None:
        """Begin a wait, unless what it waits for is already here."""
        if wait.kind is WaitKind.SIGNAL and (note := self._notes.get(wait.name)) is not None:
            return Delivered(wait, note)
        self._open[wait.path] = wait
        return None

    def deliver(self, notes: Iterable[Note]) -> list[Delivered]:
        """Notes from the inbox; those that nobody waits for yet are kept for whoever will."""
        ended = []
        for note in notes:
            self._notes.setdefault(note.name, note)
            for wait in [w for w in self._open.values() if w.kind is WaitKind.SIGNAL and w.name == note.name]:
                ended.append(Delivered(self._open.pop(wait.path), note))
        return ended

    def due(self, now: datetime) -> list[TimeUp]:
        over = [w for w in self._open.values() if w.deadline is not None and w.deadline <= now]
        return [TimeUp(self._open.pop(wait.path)) for wait in over]

    def leased_again(self) -> list[Another]:
        held_up = [w for w in self._open.values() if w.kind is WaitKind.OPERATOR]
        return [Another(self._open.pop(wait.path)) for wait in held_up]

    @property
    def wake_at(self) -> datetime | None:
        return min((w.deadline for w in self._open.values() if w.deadline is not None), default=None)

    @property
    def needs_operator(self) -> bool:
        """True where nothing but a person can move the job."""
        return bool(self._open) and all(w.kind is WaitKind.OPERATOR for w in self._open.values())

    @property
    def wants_signals(self) -> bool:
        return any(w.kind is WaitKind.SIGNAL for w in self._open.values())

    @property
    def reason(self) -> str:
        """What a person reads on the parked job; the most urgent first."""
        waits = sorted(self._open.values(), key=lambda w: (w.kind is not WaitKind.OPERATOR, w.path))
        shown = ", ".join(_said(wait) for wait in waits[:3])
        return shown if len(waits) <= 3 else f"{shown} and {len(waits) - 3} more"


def _said(wait: Wait) -> str:
    match wait.kind:
        case WaitKind.TIMER:
            return "sleep"
        case WaitKind.SIGNAL:
            return f"signal: {wait.name}"
        case _:
            return wait.name
