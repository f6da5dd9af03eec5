"""Messages that were read from the inbox and that no wait has taken yet: one bounded queue for each channel.

A sender can be much faster than its job, so a message that does not fit is not kept. The buffer remembers, for each
channel that lost messages, the inbox entry behind which they are missing, and how many they are: reading the inbox
again from there restores them in order, each once.

Nothing is remembered of a message that was taken. The inbox is read from front to back (`put`), so an entry comes twice
only where a gap is read again (`put_again`), and there the gap's length says where the known messages end.
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
    # The entry before it in the inbox; empty where it is the first, None where that is not known any more.
    before: str | None


@dataclass(slots=True)
class _Gap:
    """Messages of one channel that are in the inbox and not in the buffer."""

    # The entry behind which they are.
    after: str
    count: int


class MessageBuffer(Generic[N]):
    def __init__(self) -> None:
        self._held: dict[str, deque[_Held[N]]] = {}
        self._entries = 0
        self._bytes = 0
        self._missing: dict[str, _Gap] = {}
        # Of the channels that are being read again: how many of their missing messages have not come yet.
        self._rereading: dict[str, int] = {}
        # The last entry that `put` was given.
        self._last = ""

    def put(self, entry: N, before: str, wanted: Collection[str]) -> None:
        """Keep the next message of the inbox. `wanted` are the channels with an open wait. One message of each of them
        is always kept: without it the job could not go on, and the buffer would never empty."""
        if entry.entry_id == self._last:
            return
        self._last = entry.entry_id
        if self._full and entry.name not in self._missing:
            self._drop_all_but(wanted)
        gap = self._missing.get(entry.name)
        if gap is not None:
            gap.count += 1
        elif self._has_room(entry, wanted):
            self._keep(entry, before)
        else:
            self._missing[entry.name] = _Gap(before, 1)

    def put_again(self, entry: N, before: str, wanted: Collection[str]) -> None:
        """Keep a message of a channel that is read again. Messages behind the gap are known already, or `put` will
        bring them."""
        left = self._rereading.get(entry.name, 0)
        if not left:
            return
        if self._full:
            self._drop_all_but(wanted)
        if entry.name not in self._rereading:
            return
        if self._has_room(entry, wanted):
            self._keep(entry, before)
            self._rereading[entry.name] = left - 1
            if left == 1:
                del self._rereading[entry.name]
        else:
            self._missing[entry.name] = _Gap(before, self._rereading.pop(entry.name))

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
        """A message that was taken and not recorded is the next one of its channel again. It is never dropped: its
        place in the inbox is not known any more."""
        self._held.setdefault(entry.name, deque()).appendleft(_Held(entry, None))
        self._entries += 1
        self._bytes += len(entry.payload)

    def missing(self, channels: Collection[str]) -> list[str]:
        """The channels among `channels` whose next message is in the inbox and not in the buffer."""
        return sorted(channel for channel in channels if channel in self._missing and channel not in self._held)

    def reread(self, channel: str) -> str:
        """The entry behind which the inbox has the channel's missing messages, which `put_again` is given next."""
        gap = self._missing.pop(channel)
        self._rereading[channel] = gap.count
        return gap.after

    def miss(self, channel: str, after: str) -> None:
        """Note that the channel's messages behind `after` are still missing, because reading stopped there."""
        left = self._rereading.pop(channel, 0)
        if left:
            self._missing[channel] = _Gap(after, left)

    def reread_ended(self, channel: str) -> None:
        """Note that the inbox was read to its end. If fewer messages came than were missing, the inbox has them no
        more."""
        self._rereading.pop(channel, None)

    @property
    def plenty(self) -> bool:
        """Half of the room is used, so another page may not fit."""
        return 2 * self._entries >= HELD_ENTRIES_MAX or 2 * self._bytes >= HELD_BYTES_MAX

    @property
    def held_bytes(self) -> int:
        return self._bytes

    @property
    def _full(self) -> bool:
        return self._entries >= HELD_ENTRIES_MAX or self._bytes >= HELD_BYTES_MAX

    def _has_room(self, entry: N, wanted: Collection[str]) -> bool:
        return not self._full or (entry.name in wanted and not self._held.get(entry.name))

    def _keep(self, entry: N, before: str) -> None:
        self._held.setdefault(entry.name, deque()).append(_Held(entry, before))
        self._entries += 1
        self._bytes += len(entry.payload)

    def _drop_all_but(self, wanted: Collection[str]) -> None:
        for channel in [channel for channel in self._held if channel not in wanted]:
            dropped = self._held.pop(channel)
            kept: deque[_Held[N]] = deque()
            while dropped and dropped[0].before is None:
                kept.append(dropped.popleft())
            if kept:
                self._held[channel] = kept
            if not dropped:
                continue
            # The channel's earlier gap, if it has one, is behind the messages dropped now, so the first of them is the
            # place to read from.
            gap = self._missing.pop(channel, None)
            behind = self._rereading.pop(channel, 0) if gap is None else gap.count
            self._missing[channel] = _Gap(str(dropped[0].before), len(dropped) + behind)
            self._entries -= len(dropped)
            self._bytes -= sum(len(held.entry.payload) for held in dropped)
