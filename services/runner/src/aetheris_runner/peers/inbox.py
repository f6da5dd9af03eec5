"""The inbox, as a runner calls it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from uuid import UUID

import grpc
import structlog
from aetheris_chassis.client import retrying
from aetheris_engine.core.waits import EntryKind, InboxEntry
from aetheris_engine.ports import Assignment, InboxPage
from aetheris_kernel.errors import Refusal
from aetheris_proto.gateway.v1 import signals_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2_grpc as rpc

log = structlog.get_logger()

FETCH_DEADLINE_S = 10.0
_SETTLE_ENTRIES_MAX = 1_000
_SETTLE_PAUSE_S = 1.0


class GatewayInbox:
    """`ports.Inbox` over gRPC. `run` tells the gateway which entries are settled, many at a time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rpc.SignalsStub(channel)
        self._unsettled: dict[tuple[str, UUID], list[str]] = defaultdict(list)
        self._due = asyncio.Event()

    async def fetch(self, job: Assignment, after: str) -> InboxPage:
        request = pb.FetchRequest(job_id=str(job.job_id), tenant=job.tenant, after_note_id=after)
        page = await retrying(lambda: self._stub.Fetch(request, timeout=5), deadline_s=FETCH_DEADLINE_S)
        return InboxPage([_from_note(note) for note in page.notes], page.more)

    def unsettled(self, job: Assignment) -> Collection[str]:
        return self._unsettled.get((job.tenant, job.job_id), ())

    def settle(self, job: Assignment, entry_ids: Sequence[str]) -> None:
        self._unsettled[job.tenant, job.job_id].extend(entry_ids)
        self._due.set()

    async def run(self) -> None:
        while True:
            await self._due.wait()
            (tenant, job_id), entry_ids = next(iter(self._unsettled.items()))
            some = entry_ids[:_SETTLE_ENTRIES_MAX]
            request = pb.SettleRequest(job_id=str(job_id), tenant=tenant, note_ids=some)
            try:
                await self._stub.Settle(request, timeout=5)
            except (grpc.aio.AioRpcError, Refusal) as error:
                log.warning("inbox not told", job_id=str(job_id), entries=len(some), error=str(error))
                await asyncio.sleep(_SETTLE_PAUSE_S)
                continue
            del entry_ids[: len(some)]
            if not entry_ids:
                del self._unsettled[tenant, job_id]
            if not self._unsettled:
                self._due.clear()


def _from_note(note: pb.Note) -> InboxEntry:
    return InboxEntry(note.note_id, note.name, note.payload, note.actor, EntryKind(note.kind))
