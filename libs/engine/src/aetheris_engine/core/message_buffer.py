"""Messages that were read from the inbox and that no wait has taken yet: one bounded queue for each channel.

A sender can be much faster than its job, so a message that does not fit is not kept. The buffer remembers,
for each channel that lost a message, the inbox entry behind which the channel's messages are missing: reading the
inbox again from there restores them in order, each once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

HELD_ENTRIES_MAX = 1_000
HELD_BYTES_MAX = 4 * 1024 * 1024


class Buffered(Protocol):
    @property
    def entry_id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def payload(self) -> bytes: ...


N = TypeVar("N", bound=Buffered)


@dataclass(frozen=True, slots=True)
class _Held(Generic[N]):
    entry: N
    # The entry before it in the inbox; empty where it is the first.
    before: str


class MessageBuffer(Generic[N]):
    def __init__(self) -> None:
        self._held: dict[str, deque[_Held[N]]] = {}
        self._entries = 0
        self._bytes = 0
        # After which entry the messages of a channel are missing.
        self._missing: dict[str, str] = {}
        # Every entry that was put into a queue, also if it was taken since: the inbox may deliver an entry twice.
        self._taken: set[str] = set()

    def put(self, entry: N, before: str, wanted: Collection[str]) -> None:
        """Keep a message. `wanted` are the channels with an open wait. One message of each of them is always kept:
        without it the job could not go on, and the buffer would never empty."""
        if entry.entry_id in self._taken or entry.name in self._missing:
            return
        if self._full:
            self._drop_all_but(wanted)
            if entry.name in self._missing:
                return
        if self._full and (entry.name not in wanted or self._held.get(entry.name)):
            self._missing[entry.name] = before
            return
        self._held.setdefault(entry.name, deque()).append(_Held(entry, before))
        self._taken.add(entry.entry_id)
        self._entries += 1
        self._bytes += len(entry.payload)

    def take(self, channel: str) -> N | None:
        """The next message of a channel, which leaves the buffer."""
        queue = self._held.get(channel)
        if not queue:
            return None
        entry = queue.popleft().entry
        if not queue:
            del self._held[channel]
        self._entries -= 1
        self._bytes -= len(entry.payload)
        return entry

    def put_back(self, entry: N) -> None:
        """A message that was taken and not recorded is the next one of its channel again."""
        # Its place in the inbox is not known any more. If it is dropped and read again, reading starts at the
        # beginning.
        self._held.setdefault(entry.name, deque()).appendleft(_Held(entry, ""))
        self._entries += 1
        self._bytes += len(entry.payload)

    def missing(self, channels: Collection[str]) -> list[str]:
        """The channels among `channels` whose next message is in the inbox and not in the buffer."""
        return sorted(channel for channel in channels if channel in self._missing and channel not in self._held)

    def reread(self, channel: str) -> str:
        """The entry behind which the inbox has the channel's missing messages. From now on the buffer accepts messages
        of this channel again."""
        return self._missing.pop(channel)

    def miss(self, channel: str, after: str) -> None:
        """Note that the channel's messages behind `after` are missing too, because reading stopped there."""
        self._missing.setdefault(channel, after)

    @property
    def plenty(self) -> bool:
        """Half of the room is used, so another page may not fit."""
        return 2 * self._entries >= HELD_ENTRIES_MAX or 2 * self._bytes >= HELD_BYTES_MAX

    @property
    def _full(self) -> bool:
        return self._entries >= HELD_ENTRIES_MAX or self._bytes >= HELD_BYTES_MAX

    def _drop_all_but(self, wanted: Collection[str]) -> None:
        for channel in [channel for channel in self._held if channel not in wanted]:
            queue = self._held.pop(channel)
            # The channel's earlier gap, if it has one, is behind the messages dropped now, so this entry is the place
            # to read from.
            self._missing[channel] = queue[0].before
            self._entries -= len(queue)
            self._bytes -= sum(len(held.entry.payload) for held in queue)
            self._taken.difference_update(held.entry.entry_id for held in queue)
