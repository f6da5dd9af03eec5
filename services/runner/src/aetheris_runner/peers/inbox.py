"""The inbox, as a runner calls it.

`fetch` is called on the loop of the peers. `settle` and `unsettled` may be called from any thread, because the run of a
job calls them on a loop of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from uuid import UUID

import grpc
import structlog
from aetheris_chassis.client import retrying
from aetheris_chassis.status import refusal_from
from aetheris_engine.core.waits import EntryKind, InboxEntry
from aetheris_engine.ports import Assignment, InboxPage
from aetheris_kernel.errors import Refusal, Unavailable
from aetheris_proto.gateway.v1 import signals_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2_grpc as rpc

log = structlog.get_logger()

FETCH_DEADLINE_S = 10.0
_SETTLE_ENTRIES_MAX = 1_000
# The pause after the gateway was away, and the shortest and the longest pause of a job whose entries it refused.
_SETTLE_PAUSE_S, _SETTLE_PAUSE_MAX_S = 1.0, 60.0


@dataclass(slots=True)
class _Unsettled:
    """The entries of one job that the gateway does not know to be settled."""

    entry_ids: list[str] = field(default_factory=list)
    # How many are sent at once: fewer after a refusal, so that one refused entry is found and holds up no other.
    at_once: int = _SETTLE_ENTRIES_MAX
    # How many single entries were refused since one was last accepted.
    refused: int = 0
    pause_s: float = _SETTLE_PAUSE_S
    not_before: float = 0.0


class GatewayInbox:
    """`ports.Inbox` over gRPC. `run` tells the gateway which entries are settled, many at a time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rpc.SignalsStub(channel)
        self._lock = Lock()
        # In the order in which the jobs are told of. A job whose entries were refused goes to the end.
        self._unsettled: dict[tuple[str, UUID], _Unsettled] = {}
        self._due = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        # A call that sets `_due` is on its way to the loop of `run`.
        self._told = False

    async def fetch(self, job: Assignment, after: str) -> InboxPage:
        request = pb.FetchRequest(job_id=str(job.job_id), tenant=job.tenant, after_note_id=after)
        page = await retrying(lambda: self._stub.Fetch(request, timeout=5), deadline_s=FETCH_DEADLINE_S)
        return InboxPage([_from_note(note) for note in page.notes], page.more)

    def unsettled(self, job: Assignment) -> Collection[str]:
        with self._lock:
            found = self._unsettled.get((job.tenant, job.job_id))
            return () if found is None else tuple(found.entry_ids)

    def settle(self, job: Assignment, entry_ids: Sequence[str]) -> None:
        with self._lock:
            self._unsettled.setdefault((job.tenant, job.job_id), _Unsettled()).entry_ids.extend(entry_ids)
            if self._told or self._loop is None:
                return
            self._told = True
            loop = self._loop
        loop.call_soon_threadsafe(self._wake)

    async def run(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._unsettled:
                self._due.set()
        while True:
            await self._wait()
            await self._settle_next()

    def _wake(self) -> None:
        self._told = False
        self._due.set()

    async def _wait(self) -> None:
        """Return when there is a job to tell of."""
        while True:
            now = monotonic()
            with self._lock:
                earliest = min((job.not_before for job in self._unsettled.values()), default=None)
                if earliest is not None and earliest <= now:
                    return
                self._due.clear()
            try:
                async with asyncio.timeout(None if earliest is None else earliest - now):
                    await self._due.wait()
            except TimeoutError:
                return

    async def _settle_next(self) -> None:
        now = monotonic()
        with self._lock:
            place = next((place for place, job in self._unsettled.items() if job.not_before <= now), None)
            if place is None:
                return
            job = self._unsettled[place]
            some = job.entry_ids[: job.at_once]
        tenant, job_id = place
        try:
            await self._settle(tenant, job_id, some)
        except Unavailable as away:
            log.warning("inbox not told", job_id=str(job_id), entries=len(some), error=away.message)
            self._to_the_end(place, job)
            await asyncio.sleep(_SETTLE_PAUSE_S)
        except Refusal as refusal:
            log.warning("settled entries refused", job_id=str(job_id), entries=len(some), error=refusal.message)
            self._refused(place, job, len(some))
        else:
            self._settled(place, job, len(some))

    async def _settle(self, tenant: str, job_id: UUID, entry_ids: Sequence[str]) -> None:
        request = pb.SettleRequest(job_id=str(job_id), tenant=tenant, note_ids=entry_ids)
        try:
            await self._stub.Settle(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            raise refusal_from(error) from error

    def _settled(self, place: tuple[str, UUID], job: _Unsettled, count: int) -> None:
        with self._lock:
            del job.entry_ids[:count]
            job.at_once = min(2 * job.at_once, _SETTLE_ENTRIES_MAX)
            job.refused, job.pause_s = 0, _SETTLE_PAUSE_S
            if not job.entry_ids:
                del self._unsettled[place]

    def _to_the_end(self, place: tuple[str, UUID], job: _Unsettled) -> None:
        """The next try is another job's, so that one job that times out again and again holds up no other."""
        with self._lock:
            self._unsettled[place] = self._unsettled.pop(place, job)

    def _refused(self, place: tuple[str, UUID], job: _Unsettled, count: int) -> None:
        """Try with half as many. A single refused entry goes behind the others of its job, and if all of them are
        refused, the job pauses. The entry is not dropped: as long as it is listed as unsettled, a checkpoint remembers
        it, and it is not received twice."""
        with self._lock:
            job.at_once = max(count // 2, 1)
            if count == 1:
                job.entry_ids.append(job.entry_ids.pop(0))
                job.refused += 1
            if job.refused >= len(job.entry_ids):
                job.refused = 0
                job.not_before = monotonic() + job.pause_s
                job.pause_s = min(2 * job.pause_s, _SETTLE_PAUSE_MAX_S)
        self._to_the_end(place, job)


def _from_note(note: pb.Note) -> InboxEntry:
    return InboxEntry(note.note_id, note.name, note.payload, note.actor, EntryKind(note.kind))
