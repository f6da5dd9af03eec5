"""Messages that have come and that nobody has asked for yet: each channel a queue, all of them bounded.

A sender may be faster than its job by any measure, so what does not fit is not kept. Of each channel that
lost something the place is known from which on its messages are missing: read the inbox again from there,
and nothing is out of order or twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

HELD_NOTES_MAX = 1_000
HELD_BYTES_MAX = 4 * 1024 * 1024


class Letter(Protocol):
    @property
    def note_id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def payload(self) -> bytes: ...


N = TypeVar("N", bound=Letter)


@dataclass(frozen=True, slots=True)
class _Held(Generic[N]):
    note: N
    # The note before it in the inbox; empty where it is the first.
    before: str


class Mail(Generic[N]):
    def __init__(self) -> None:
        self._held: dict[str, deque[_Held[N]]] = {}
        self._notes = 0
        self._bytes = 0
        # After which note the messages of a channel are missing.
        self._missing: dict[str, str] = {}
        # Everything held or given out: the inbox may offer it again.
        self._taken: set[str] = set()

    def put(self, note: N, before: str, wanted: Collection[str]) -> None:
        """Keep a message. `wanted` are the channels that somebody waits on: one of their messages is always
        kept, for else nobody would get on."""
        if note.note_id in self._taken or note.name in self._missing:
            return
        if self._full:
            self._drop_all_but(wanted)
            if note.name in self._missing:
                return
        if self._full and (note.name not in wanted or self._held.get(note.name)):
            self._missing[note.name] = before
            return
        self._held.setdefault(note.name, deque()).append(_Held(note, before))
        self._taken.add(note.note_id)
        self._notes += 1
        self._bytes += len(note.payload)

    def take(self, channel: str) -> N | None:
        """The next message of a channel. Nobody gets it again."""
        queue = self._held.get(channel)
        if not queue:
            return None
        note = queue.popleft().note
        if not queue:
            del self._held[channel]
        self._notes -= 1
        self._bytes -= len(note.payload)
        return note

    def missing(self, channels: Collection[str]) -> list[str]:
        """Those of `channels` whose next message is known to be in the inbox, and not here."""
        return sorted(channel for channel in channels if channel in self._missing and channel not in self._held)

    def reread(self, channel: str) -> str:
        """After which note to read the inbox for what is missing of a channel; what comes is kept again."""
        return self._missing.pop(channel)

    def miss(self, channel: str, after: str) -> None:
        """What comes behind `after` is missing too: the inbox is not read on."""
        self._missing.setdefault(channel, after)

    @property
    def plenty(self) -> bool:
        """Enough is here for now, and another page may not fit."""
        return 2 * self._notes >= HELD_NOTES_MAX or 2 * self._bytes >= HELD_BYTES_MAX

    @property
    def _full(self) -> bool:
        return self._notes >= HELD_NOTES_MAX or self._bytes >= HELD_BYTES_MAX

    def _drop_all_but(self, wanted: Collection[str]) -> None:
        for channel in [channel for channel in self._held if channel not in wanted]:
            queue = self._held.pop(channel)
            # What was missing before lies behind what is dropped now.
            self._missing[channel] = queue[0].before
            self._notes -= len(queue)
            self._bytes -= sum(len(held.note.payload) for held in queue)
            self._taken.difference_update(held.note.note_id for held in queue)
