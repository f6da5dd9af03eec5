"""What a job waits for, and what ends each wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from itertools import islice

from aetheris_journal.events import WaitKind

from aetheris_engine.core.mail import Mail


class NoteKind(IntEnum):
    """What somebody said to the job."""

    SIGNAL = 1
    MESSAGE = 2
    DECISION = 3


@dataclass(frozen=True, slots=True)
class Note:
    """What the inbox holds for the job."""

    note_id: str
    name: str  # the signal's key, the message's channel, the name of the question that is decided
    payload: bytes
    actor: str
    kind: NoteKind = NoteKind.SIGNAL


@dataclass(frozen=True, slots=True)
class Wait:
    path: str
    kind: WaitKind
    name: str
    deadline: datetime | None
    # By which name the inbox has what ends it, where that is another one.
    key: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    wait: Wait
    note: Note


@dataclass(frozen=True, slots=True)
class TimeUp:
    wait: Wait


@dataclass(frozen=True, slots=True)
class Another:
    """Look again: what was held up by an operator or another job, or what a child's end is."""

    wait: Wait


Ending = Delivered | TimeUp | Another

# Signals of whoever holds a token: the name goes on with the token's place in the program.
TOKEN = "awakeable/"

# What the inbox may end. A deadline ends such a wait only after one more look into it.
HEARD = {
    WaitKind.SIGNAL: NoteKind.SIGNAL,
    WaitKind.MESSAGE: NoteKind.MESSAGE,
    WaitKind.APPROVAL: NoteKind.DECISION,
}


class Waits:
    """The open waits of one job. Each ends once, and whoever comes second finds it gone."""

    def __init__(self) -> None:
        self._open: dict[str, Wait] = {}
        # Of those, who listens for which note: by kind and name, in the order in which they began.
        self._listeners: dict[NoteKind, dict[str, dict[str, Wait]]] = {kind: {} for kind in NoteKind}
        self._signals: dict[str, Note] = {}
        self._decisions: dict[str, Note] = {}
        self._mail: Mail[Note] = Mail()

    def __bool__(self) -> bool:
        return bool(self._open)

    def open(self, wait: Wait) -> Delivered | None:
        """Begin a wait, unless what it waits for is already here."""
        note = self._note_for(wait)
        if note is not None:
            return Delivered(wait, note)
        self._open[wait.path] = wait
        if wait.kind in HEARD:
            self._listeners[HEARD[wait.kind]].setdefault(wait.key or wait.name, {})[wait.path] = wait
        return None

    def withdraw(self, path: str) -> None:
        """Whoever waited there does not any more."""
        if path in self._open:
            self._close(path)

    def deliver(self, notes: Iterable[Note], after: str = "") -> list[Delivered]:
        """Notes from the inbox, in its order and behind the note `after`. Those that nobody waits for yet are
        kept for whoever will."""
        ended: list[Delivered] = []
        for note in notes:
            match note.kind:
                case NoteKind.SIGNAL:
                    self._signals.setdefault(note.name, note)
                case NoteKind.DECISION:
                    self._decisions.setdefault(note.name, note)
                case NoteKind.MESSAGE:
                    self._mail.put(note, after, self._listeners[NoteKind.MESSAGE])
            ended += self._end_for(note)
            after = note.note_id
        return ended

    def deliver_missing(self, channel: str, notes: Iterable[Note], after: str) -> list[Delivered]:
        """The same notes once more, for the sake of one channel."""
        ended: list[Delivered] = []
        for note in notes:
            if note.kind is NoteKind.MESSAGE and note.name == channel:
                ended += self.deliver([note], after)
            after = note.note_id
        return ended

    @property
    def missing(self) -> list[str]:
        """Channels that somebody waits on and whose messages did not fit when they came."""
        return self._mail.missing(self._listeners[NoteKind.MESSAGE])

    def reread(self, channel: str) -> str:
        return self._mail.reread(channel)

    def miss(self, channel: str, after: str) -> None:
        self._mail.miss(channel, after)

    @property
    def plenty(self) -> bool:
        """There is enough mail for now."""
        return self._mail.plenty

    def forget_facts(self, read: Iterable[str]) -> None:
        """The agent begins anew behind a checkpoint: signals and decisions that ended a wait are history."""
        gone = set(read)
        self._signals = {name: note for name, note in self._signals.items() if note.note_id not in gone}
        self._decisions = {name: note for name, note in self._decisions.items() if note.note_id not in gone}

    @property
    def children(self) -> set[str]:
        """The children that somebody waits for."""
        return {w.name for w in self._open.values() if w.kind is WaitKind.CHILD}

    def for_child(self, job_id: str) -> list[Wait]:
        return [w for w in self._open.values() if w.kind is WaitKind.CHILD and w.name == job_id]

    def child_ended(self, job_id: str) -> list[Another]:
        """A child's end is a fact, and ends every wait for it."""
        return [Another(self._open.pop(wait.path)) for wait in self.for_child(job_id)]

    def contested(self, now: datetime) -> list[Wait]:
        """Waits whose time is over, and which the inbox may end all the same."""
        return [w for w in self._open.values() if w.kind in HEARD and w.deadline is not None and w.deadline <= now]

    def due(self, now: datetime) -> list[TimeUp]:
        """What time alone ends."""
        over = [w for w in self._open.values() if w.deadline is not None and w.deadline <= now]
        return [TimeUp(self._open.pop(wait.path)) for wait in over if wait.kind not in HEARD]

    def give_up(self, contested: Iterable[Wait]) -> list[TimeUp]:
        """Those of `contested` that nothing has ended since."""
        return [TimeUp(self._close(wait.path)) for wait in contested if self._open.get(wait.path) is wait]

    def leased_again(self) -> list[Another]:
        held_up = [w for w in self._open.values() if w.kind is WaitKind.OPERATOR]
        return [Another(self._open.pop(wait.path)) for wait in held_up]

    @property
    def wake_at(self) -> datetime | None:
        return min((w.deadline for w in self._open.values() if w.deadline is not None), default=None)

    def wake_after(self, now: datetime) -> datetime | None:
        """The earliest deadline that is not over."""
        deadlines = (w.deadline for w in self._open.values() if w.deadline is not None)
        return min((at for at in deadlines if at > now), default=None)

    @property
    def needs_operator(self) -> bool:
        """True where nothing but a person can move the job."""
        return bool(self._open) and all(w.kind is WaitKind.OPERATOR for w in self._open.values())

    @property
    def wants_notes(self) -> bool:
        return any(self._listeners.values())

    @property
    def reason(self) -> str:
        """What a person reads on the parked job; the most urgent first."""
        waits = sorted(self._open.values(), key=lambda w: (w.kind is not WaitKind.OPERATOR, w.path))
        shown = ", ".join(_said(wait) for wait in waits[:3])
        return shown if len(waits) <= 3 else f"{shown} and {len(waits) - 3} more"

    def _note_for(self, wait: Wait) -> Note | None:
        match wait.kind:
            case WaitKind.SIGNAL:
                return self._signals.get(wait.name)
            case WaitKind.APPROVAL:
                return self._decisions.get(wait.key)
            case WaitKind.MESSAGE:
                return self._mail.take(wait.name)
        return None

    def _end_for(self, note: Note) -> list[Delivered]:
        """What `note` ends: every wait for a signal, one for a message, the earliest."""
        ended = []
        listeners = self._listeners[note.kind].get(note.name, {}).values()
        for wait in list(islice(listeners, 1 if note.kind is NoteKind.MESSAGE else None)):
            found = self._note_for(wait)
            if found is None:
                break
            ended.append(Delivered(self._close(wait.path), found))
        return ended

    def _close(self, path: str) -> Wait:
        """An open wait is over."""
        wait = self._open.pop(path)
        if wait.kind in HEARD:
            waiting, name = self._listeners[HEARD[wait.kind]], wait.key or wait.name
            del waiting[name][path]
            if not waiting[name]:
                del waiting[name]
        return wait


def _said(wait: Wait) -> str:
    match wait.kind:
        case WaitKind.TIMER:
            return "sleep"
        case WaitKind.SIGNAL:
            place = wait.name.removeprefix(TOKEN)
            return f"signal: {wait.name}" if place == wait.name else f"token: {place}"
        case WaitKind.MESSAGE:
            return f"message: {wait.name}"
        case WaitKind.APPROVAL:
            return f"approval: {wait.name}"
        case WaitKind.CHILD:
            return f"child: {wait.name}"
        case _:
            return wait.name
