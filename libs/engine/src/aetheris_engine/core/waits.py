"""The open waits of a job, and the inbox entries, deadlines and children that end them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from itertools import islice

from aetheris_journal.events import WaitKind

from aetheris_engine.core.message_buffer import MessageBuffer


class EntryKind(IntEnum):
    """What an inbox entry holds."""

    SIGNAL = 1
    MESSAGE = 2
    DECISION = 3


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One row of the job's inbox, as the runner reads it."""

    entry_id: str
    name: str  # the signal's key, the message's channel, the name of the approval that is decided
    payload: bytes
    actor: str
    kind: EntryKind = EntryKind.SIGNAL


@dataclass(frozen=True, slots=True)
class Wait:
    path: str
    kind: WaitKind
    name: str
    deadline: datetime | None
    # The name of the inbox entry that ends this wait, if it differs from `name`.
    key: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    wait: Wait
    entry: InboxEntry


@dataclass(frozen=True, slots=True)
class TimeUp:
    wait: Wait


@dataclass(frozen=True, slots=True)
class Another:
    """The waiting command looks again: an operator or another job has acted, or the child has ended."""

    wait: Wait


Ending = Delivered | TimeUp | Another

# The key of a signal that is sent with a token: this prefix and the place where the token was made.
TOKEN = "awakeable/"

# The waits that an inbox entry ends. A deadline ends one only after the inbox was read once more.
HEARD = {
    WaitKind.SIGNAL: EntryKind.SIGNAL,
    WaitKind.MESSAGE: EntryKind.MESSAGE,
    WaitKind.APPROVAL: EntryKind.DECISION,
}


class Waits:
    """The open waits of one job. Each ends once: of two endings the second finds no open wait."""

    def __init__(self) -> None:
        self._open: dict[str, Wait] = {}
        # The open waits for inbox entries, by kind and name, in the order in which they began.
        self._listeners: dict[EntryKind, dict[str, dict[str, Wait]]] = {kind: {} for kind in EntryKind}
        self._signals: dict[str, InboxEntry] = {}
        self._decisions: dict[str, InboxEntry] = {}
        self._messages: MessageBuffer[InboxEntry] = MessageBuffer()

    def __bool__(self) -> bool:
        return bool(self._open)

    def open(self, wait: Wait) -> Delivered | None:
        """Begin a wait. If the inbox entry that ends it is already here, return that instead."""
        entry = self._entry_for(wait)
        if entry is not None:
            return Delivered(wait, entry)
        self._open[wait.path] = wait
        if wait.kind in HEARD:
            self._listeners[HEARD[wait.kind]].setdefault(wait.key or wait.name, {})[wait.path] = wait
        return None

    def withdraw(self, path: str) -> None:
        """Remove the wait of a branch that was cancelled."""
        if path in self._open:
            self._close(path)

    def deliver(self, entries: Iterable[InboxEntry], after: str = "") -> list[Delivered]:
        """End the waits that these inbox entries end. `entries` are in the inbox's order, directly behind the entry
        `after`. An entry that ends no wait is kept for a later one."""
        ended: list[Delivered] = []
        for entry in entries:
            match entry.kind:
                case EntryKind.SIGNAL:
                    self._signals.setdefault(entry.name, entry)
                case EntryKind.DECISION:
                    self._decisions.setdefault(entry.name, entry)
                case EntryKind.MESSAGE:
                    self._messages.put(entry, after, self._listeners[EntryKind.MESSAGE])
            ended += self._end_for(entry)
            after = entry.entry_id
        return ended

    def give_back(self, ending: Ending) -> list[Delivered]:
        """Take back an ending that its branch could not record because it was cancelled. A message goes to the next
        wait for its channel or back into the buffer. Signals and decisions were never removed, so nothing has to be
        done."""
        if not isinstance(ending, Delivered) or ending.entry.kind is not EntryKind.MESSAGE:
            return []
        self._messages.put_back(ending.entry)
        return self._end_for(ending.entry)

    def deliver_missing(self, channel: str, entries: Iterable[InboxEntry], after: str) -> list[Delivered]:
        """Deliver one channel's messages among `entries` once more: they did not fit the first time."""
        ended: list[Delivered] = []
        for entry in entries:
            if entry.kind is EntryKind.MESSAGE and entry.name == channel:
                self._messages.put_again(entry, after, self._listeners[EntryKind.MESSAGE])
                ended += self._end_for(entry)
            after = entry.entry_id
        return ended

    @property
    def missing(self) -> list[str]:
        """Channels with an open wait whose messages did not fit when they came."""
        return self._messages.missing(self._listeners[EntryKind.MESSAGE])

    def reread(self, channel: str) -> str:
        return self._messages.reread(channel)

    def miss(self, channel: str, after: str) -> None:
        self._messages.miss(channel, after)

    def reread_ended(self, channel: str) -> None:
        self._messages.reread_ended(channel)

    @property
    def plenty(self) -> bool:
        """The buffer is half full, so reading pauses."""
        return self._messages.plenty

    @property
    def held_bytes(self) -> int:
        """The bytes of the entries that are kept for later waits."""
        facts = (*self._signals.values(), *self._decisions.values())
        return self._messages.held_bytes + sum(len(entry.payload) for entry in facts)

    def forget_facts(self, read: Iterable[str]) -> None:
        """Drop the signals and decisions that ended a wait before a checkpoint, because the agent begins again behind
        it."""
        gone = set(read)
        self._signals = {name: entry for name, entry in self._signals.items() if entry.entry_id not in gone}
        self._decisions = {name: entry for name, entry in self._decisions.items() if entry.entry_id not in gone}

    @property
    def children(self) -> set[str]:
        """The children with an open wait."""
        return {w.name for w in self._open.values() if w.kind is WaitKind.CHILD}

    def for_child(self, job_id: str) -> list[Wait]:
        return [w for w in self._open.values() if w.kind is WaitKind.CHILD and w.name == job_id]

    def child_ended(self, job_id: str) -> list[Another]:
        """A child's end is a fact, and ends every wait for it."""
        return [Another(self._open.pop(wait.path)) for wait in self.for_child(job_id)]

    def contested(self, now: datetime) -> list[Wait]:
        """Waits whose deadline has passed, but which an inbox entry that was accepted before the deadline may still
        end."""
        return [w for w in self._open.values() if w.kind in HEARD and w.deadline is not None and w.deadline <= now]

    def due(self, now: datetime) -> list[TimeUp]:
        """End the waits that only time ends and whose deadline has passed."""
        over = [w for w in self._open.values() if w.deadline is not None and w.deadline <= now]
        return [TimeUp(self._open.pop(wait.path)) for wait in over if wait.kind not in HEARD]

    def give_up(self, contested: Iterable[Wait]) -> list[TimeUp]:
        """End the waits among `contested` that no inbox entry has ended since."""
        return [TimeUp(self._close(wait.path)) for wait in contested if self._open.get(wait.path) is wait]

    def leased_again(self) -> list[Another]:
        held_up = [w for w in self._open.values() if w.kind is WaitKind.OPERATOR]
        return [Another(self._open.pop(wait.path)) for wait in held_up]

    @property
    def wake_at(self) -> datetime | None:
        return min((w.deadline for w in self._open.values() if w.deadline is not None), default=None)

    def wake_after(self, now: datetime) -> datetime | None:
        """The earliest deadline after `now`."""
        deadlines = (w.deadline for w in self._open.values() if w.deadline is not None)
        return min((at for at in deadlines if at > now), default=None)

    @property
    def needs_operator(self) -> bool:
        """True if every open wait needs an operator."""
        return bool(self._open) and all(w.kind is WaitKind.OPERATOR for w in self._open.values())

    @property
    def wants_entries(self) -> bool:
        return any(self._listeners.values())

    @property
    def reason(self) -> str:
        """Why the job is parked, in words for people; waits for an operator come first."""
        waits = sorted(self._open.values(), key=lambda w: (w.kind is not WaitKind.OPERATOR, w.path))
        shown = ", ".join(_said(wait) for wait in waits[:3])
        return shown if len(waits) <= 3 else f"{shown} and {len(waits) - 3} more"

    def _entry_for(self, wait: Wait) -> InboxEntry | None:
        match wait.kind:
            case WaitKind.SIGNAL:
                return self._signals.get(wait.name)
            case WaitKind.APPROVAL:
                return self._decisions.get(wait.key)
            case WaitKind.MESSAGE:
                return self._messages.take(wait.name)
        return None

    def _end_for(self, entry: InboxEntry) -> list[Delivered]:
        """The waits that `entry` ends: every one for its signal, but only the earliest for a message."""
        ended = []
        listeners = self._listeners[entry.kind].get(entry.name, {}).values()
        for wait in list(islice(listeners, 1 if entry.kind is EntryKind.MESSAGE else None)):
            found = self._entry_for(wait)
            if found is None:
                break
            ended.append(Delivered(self._close(wait.path), found))
        return ended

    def _close(self, path: str) -> Wait:
        """Remove an open wait."""
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
            return wait.name or "sleep"
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
