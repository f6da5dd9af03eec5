"""The tail of one job's chain: which events are durable, which commit is on its way, which events wait to be sent.

One commit is on its way at a time; events recorded meanwhile go into the next one. The holder may be ahead of its
durable record by a stated bound. Each event is encoded once, when it is recorded, so the size of a commit is known to
the byte and a commit that the ledger would refuse for its size cannot be built. This module does no input or output.

    record() ──► pending ── take() ──► in flight ── acknowledge() ──► durable
                    ▲                      │
                    └────── withdraw() ────┘   an intent that another job's effect answers
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from aetheris_journal.append import Append
from aetheris_journal.chain import GENESIS
from aetheris_journal.effect import Change, EffectState, change_of
from aetheris_journal.events import TERMINAL, CheckpointSaved, Event
from aetheris_journal.limits import COMMIT_BYTES_MAX, COMMIT_EVENTS_MAX, EVENT_BYTES_MAX

# What a job may hold that is not durable yet.
BACKLOG_EVENTS_MAX = 2_000
BACKLOG_BYTES_MAX = 2 * 1024 * 1024


class AfterTheEnd(RuntimeError):
    """An event was recorded after the one that ends the job."""


class EventTooLarge(RuntimeError):
    """An event was recorded that no commit can hold."""


class BodyWriter(Protocol):
    """Writes the bodies of one job's commits, in one of the formats. `codec` has both."""

    @property
    def job_key(self) -> bytes:
        """The key that the ledger keeps beside the chain; empty where the format needs none."""

    def entry(self, event: Event) -> tuple[bytes, tuple[bytes, ...]]:
        """The event's own bytes in a body, and its payloads."""

    def body(self, seq: int, entries: Iterable[bytes], payloads: Sequence[bytes]) -> bytes:
        """The body of commit `seq`. Beside these bytes it has at most BODY_HEAD_BYTES_MAX."""


@dataclass(slots=True)
class _Item:
    ticket: int
    event: Event
    change: Change | None
    entry: bytes
    payloads: tuple[bytes, ...]
    size: int


class Tail:
    """The holder's end of a chain. Tickets count what was recorded."""

    def __init__(
        self,
        job_id: UUID,
        tenant: str,
        lease: int,
        bodies: BodyWriter,
        *,
        seq: int = 0,
        head: bytes = GENESIS,
        new_job_key: bool = False,
    ) -> None:
        self._job_id, self._tenant, self._bodies = job_id, tenant, bodies
        # No commit with the job's key is stored yet.
        self._new_job_key = new_job_key
        self.lease, self.seq, self.head = lease, seq, head
        self.recorded = 0
        self._pending: list[_Item] = []
        self._flight: list[_Item] = []
        self._backlog_bytes = 0
        self._ended = False
        # The sizes of the commits that were sent or taken over, since the last checkpoint.
        self.written_bytes = 0

    @property
    def durable(self) -> int:
        """The last ticket such that it and all tickets before it are durable. A withdrawn intent delays no later
        ticket."""
        outstanding = self._flight or self._pending
        return outstanding[0].ticket - 1 if outstanding else self.recorded

    @property
    def in_flight(self) -> bool:
        return bool(self._flight)

    @property
    def outstanding(self) -> Sequence[Event]:
        """What is recorded and not known to be durable, in order."""
        return [item.event for item in (*self._flight, *self._pending)]

    @property
    def full(self) -> bool:
        """True where the holder must wait before it records more."""
        events = len(self._pending) + len(self._flight)
        return events >= BACKLOG_EVENTS_MAX or self._backlog_bytes >= BACKLOG_BYTES_MAX

    def record(self, event: Event) -> int:
        """The event's ticket. Raises AfterTheEnd where the job's end is recorded: nothing may follow it."""
        if self._ended:
            raise AfterTheEnd(f"{type(event).__name__} after the end of the job")
        entry, payloads = self._bodies.entry(event)
        size = len(entry)
        for payload in payloads:
            size += len(payload)
        if size > EVENT_BYTES_MAX:
            raise EventTooLarge(f"{type(event).__name__} has {size} bytes, and {EVENT_BYTES_MAX} is the most")
        self._ended = isinstance(event, TERMINAL)
        self.recorded += 1
        self._pending.append(_Item(self.recorded, event, change_of(event), entry, payloads, size))
        self._backlog_bytes += size
        return self.recorded

    def take(self) -> Append | None:
        """The next commit; None if one is on its way or no event is pending."""
        if self._flight or not self._pending:
            return None
        count = self._fitting()
        self._flight, self._pending = self._pending[:count], self._pending[count:]
        entries = [item.entry for item in self._flight]
        body = self._bodies.body(self.seq + 1, entries, [each for item in self._flight for each in item.payloads])
        self.written_bytes += len(body)
        return Append(
            job_id=self._job_id,
            tenant=self._tenant,
            seq=self.seq + 1,
            parent=self.head,
            lease=self.lease,
            body=body,
            changes=tuple(item.change for item in self._flight if item.change is not None),
            checkpoint=any(isinstance(item.event, CheckpointSaved) for item in self._flight),
            terminal=isinstance(self._flight[-1].event, TERMINAL),
            job_key=self._bodies.job_key,
            new_job_key=self._new_job_key,
        )

    def acknowledge(self, head: bytes) -> Sequence[str]:
        """Note that the commit on its way is durable, with the hash `head`. Returns the keys of its intents, whose
        tools may now be entered."""
        moved = [item.change for item in self._flight if item.change is not None]
        self._backlog_bytes -= sum(item.size for item in self._flight)
        self._flight = []
        self._new_job_key = False
        self.seq, self.head = self.seq + 1, head
        return [change.key for change in moved if change.state is EffectState.STARTED]

    def withdraw(self, key: str) -> None:
        """Drop the intent for `key`, because of which the ledger did not store the commit. The commit's other events
        are sent again."""
        kept = [item for item in self._flight if item.change is None or item.change.key != key]
        if len(kept) == len(self._flight):
            raise ValueError(f"no intent for {key} is on its way")
        self._backlog_bytes -= sum(item.size for item in self._flight) - sum(item.size for item in kept)
        self._pending = kept + self._pending
        self._flight = []

    def _fitting(self) -> int:
        """How many pending events make one commit: bounded, and no effect moves twice in it."""
        moved: set[str] = set()
        size = 0
        for count, item in enumerate(self._pending):
            size += item.size
            again = item.change is not None and item.change.key in moved
            if count and (count >= COMMIT_EVENTS_MAX or size > COMMIT_BYTES_MAX or again):
                return count
            if item.change is not None:
                moved.add(item.change.key)
        return len(self._pending)
