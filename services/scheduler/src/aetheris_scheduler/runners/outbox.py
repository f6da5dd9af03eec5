"""What is to be sent to one runner. All that comes up while a frame is being sent makes the next frame."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from aetheris_scheduler.core.job import Job
from aetheris_scheduler.core.lifecycle import Notice

# Well below the largest message that gRPC takes. A single input is smaller than this.
FRAME_BYTES_MAX = 4 * 1024 * 1024
_SMALL_BYTES = 256


@dataclass(slots=True)
class WorkFrame:
    # The lease in seconds, and the (job, lease) pairs that the runner has lost; in the first frame only.
    welcome: tuple[float, list[tuple[UUID, int]]] | None = None
    renewal: int | None = None
    assignments: list[Job] = field(default_factory=list)
    settled: list[tuple[UUID, int, bool]] = field(default_factory=list)
    # In order, each once: a dict keeps both.
    notices: dict[tuple[UUID, int, Notice], None] = field(default_factory=dict)
    drain: bool = False


class Outbox:
    def __init__(self) -> None:
        self._frame = WorkFrame()
        self._later: deque[Job] = deque()
        self._due = asyncio.Event()
        self._closed = False

    def welcome(self, lease_s: float, lost: list[tuple[UUID, int]]) -> None:
        self._frame.welcome = (lease_s, lost)
        self._due.set()

    def renew(self, beat: int) -> None:
        self._frame.renewal = beat
        self._due.set()

    def assign(self, job: Job) -> None:
        self._later.append(job)
        self._due.set()

    def settle(self, job: UUID, lease: int, effective: bool) -> None:
        self._frame.settled.append((job, lease, effective))
        self._due.set()

    def notify(self, job: UUID, lease: int, notice: Notice) -> None:
        self._frame.notices[job, lease, notice] = None
        self._due.set()

    def drain(self) -> None:
        self._frame.drain = True
        self._due.set()

    def close(self) -> None:
        """Send what is here, and then nothing more."""
        self._closed = True
        self._due.set()

    async def take(self) -> WorkFrame | None:
        """The next frame; None after the last."""
        while not self._due.is_set():
            await self._due.wait()
        frame, self._frame = self._frame, WorkFrame()
        size = 0
        while self._later and size < FRAME_BYTES_MAX:
            if size + len(self._later[0].input) > FRAME_BYTES_MAX and size:
                break
            size += len(self._later[0].input) + _SMALL_BYTES
            frame.assignments.append(self._later.popleft())
        if not self._later and not self._closed:
            self._due.clear()
        return None if self._closed and frame == WorkFrame() else frame
