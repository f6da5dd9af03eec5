"""The inbox: signals and messages for a job, accepted once and kept until the job has recorded them.

    look at the job ──► make the entry durable ──► (answer) ──► wake the job ──► remember that it was woken
       404, 409            the point of no return

While the scheduler is away, the gateway accepts entries without having looked at their job; the sweep wakes the job
later. An entry that repeats an earlier one changes nothing and is answered like the first, also after the job has
ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from aetheris_chassis.batch import BatchWriter
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Exhausted, Invalid, JobFinished, NotFound, Unavailable
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway import convert
from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewMessage, NewSignal
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import SIGNALS
from aetheris_gateway.service.jobs import JobService, page_size
from aetheris_gateway.states import FINISHED
from aetheris_gateway.store.inbox import Accepted, EntryDraft, EntryKind, InboxStore
from aetheris_gateway.wakes import WakeQueue

BATCH_ROWS = 256
QUEUE_MAX = 20_000
# Entries that wait to be written are kept in memory.
QUEUE_BYTES_MAX = 128 * 1024 * 1024
ENTRIES_MAX = 1_000


class InboxService:
    def __init__(self, store: InboxStore, jobs: JobService, wake_queue: WakeQueue, clock: Clock) -> None:
        self._store = store
        self._jobs = jobs
        self._wake_queue = wake_queue
        self._clock = clock
        self._bytes_waiting = 0
        self._accepting: BatchWriter[EntryDraft, Accepted] = BatchWriter(
            store.accept, name="notes", rows_max=BATCH_ROWS, queue_max=QUEUE_MAX
        )
        self._settling: BatchWriter[Sequence[tuple[UUID, UUID]], None] = BatchWriter(
            self._write_settled, name="settled", rows_max=64, queue_max=10_000
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._accepting.run(), name="accept-entries")
            tasks.create_task(self._settling.run(), name="settle-entries")

    # --- for the sender

    async def signal(self, caller: Caller, new: NewSignal) -> Accepted:
        return await self.accept(
            caller,
            EntryDraft(
                entry_id=self._clock.new_id(),
                tenant=caller.tenant,
                job_id=new.job_id,
                kind=EntryKind.SIGNAL,
                name=new.correlation_key,
                message_id=None,
                payload=new.payload.raw,
                actor=caller.actor,
            ),
        )

    async def send_message(self, caller: Caller, new: NewMessage) -> Accepted:
        return await self.accept(
            caller,
            EntryDraft(
                entry_id=self._clock.new_id(),
                tenant=caller.tenant,
                job_id=new.job_id,
                kind=EntryKind.MESSAGE,
                name=new.channel,
                message_id=new.message_id,
                payload=new.payload.raw,
                actor=caller.actor,
            ),
        )

    async def accept(self, caller: Caller, draft: EntryDraft) -> Accepted:
        """Accept an entry once, and count what became of it."""
        kind = draft.kind.name.lower()
        try:
            accepted, result = await self._judge(caller, draft)
        except NotFound:
            SIGNALS.labels(kind, "unknown").inc()
            raise
        except JobFinished:
            SIGNALS.labels(kind, "finished").inc()
            raise
        except Exception:
            SIGNALS.labels(kind, "failed").inc()
            raise
        SIGNALS.labels(kind, result if accepted.created else "duplicate").inc()
        return accepted

    async def _judge(self, caller: Caller, draft: EntryDraft) -> tuple[Accepted, str]:
        job_id = str(draft.job_id)
        try:
            job = await self._jobs.glance(caller, job_id)
        except Unavailable:
            return await self._write(draft), "accepted_unchecked"
        if job.state in FINISHED:
            standing = await self._store.standing(draft)
            if standing is None:
                raise JobFinished("the job has ended and accepts nothing more", job_id=job_id)
            return Accepted(standing, False), "duplicate"
        return await self._write(draft), "accepted"

    async def _write(self, draft: EntryDraft) -> Accepted:
        size = len(draft.payload)
        if self._bytes_waiting + size > QUEUE_BYTES_MAX:
            raise Exhausted("too much waits to be written", retry_after_s=1)
        self._bytes_waiting += size
        try:
            accepted = await self._accepting.submit_nowait(draft)
        finally:
            self._bytes_waiting -= size
        if accepted.created:
            self._wake_queue.wake(draft.job_id, accepted.entry_id)
        return accepted

    # --- for the job's holder

    async def fetch(self, request: signals_pb.FetchRequest) -> signals_pb.FetchResponse:
        after = _entry_id(request.after_note_id, "after_note_id") if request.after_note_id else None
        size = page_size(request.page_size, default=ENTRIES_MAX, most=ENTRIES_MAX)
        tenant = intake.name(request.tenant, "tenant") if request.tenant else ""
        entries, more = await self._store.fetch(parse_job_id(request.job_id), after, size, tenant=tenant)
        return signals_pb.FetchResponse(notes=[convert.entry_to_wire(entry) for entry in entries], more=more)

    async def settle(self, request: signals_pb.SettleRequest) -> signals_pb.SettleResponse:
        job_id = parse_job_id(request.job_id)
        if len(request.note_ids) > ENTRIES_MAX:
            raise Invalid(f"at most {ENTRIES_MAX} entries are settled at once", field="note_ids")
        entries = [(job_id, _entry_id(entry, "note_ids")) for entry in request.note_ids]
        if entries:
            await self._settling.submit_nowait(entries)
        return signals_pb.SettleResponse()

    async def _write_settled(self, batch: Sequence[Sequence[tuple[UUID, UUID]]]) -> Sequence[None]:
        await self._store.settle([entry for entries in batch for entry in entries])
        return [None] * len(batch)


def _entry_id(text: str, field: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as fault:
        raise Invalid("an entry's id is a UUID, as Fetch returned it", field=field) from fault
