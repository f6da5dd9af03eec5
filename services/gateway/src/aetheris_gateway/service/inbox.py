"""The inbox: what the world says to a job, accepted once and kept until the job has it.

    look at the job ──► make the note durable ──► (answer) ──► wake the job ──► remember that it was woken
       404, 409            the point of no return

While the scheduler is away nobody can look, and the note is accepted without it; the sweep wakes the job
later. A note that says what another note said before changes nothing and is answered like the first, also
after the job has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from aetheris_chassis.batch import BatchWriter
from aetheris_journal.codec import to_timestamp
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Exhausted, Invalid, JobFinished, NotFound, Unavailable
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway.core import intake
from aetheris_gateway.core.token import RESERVED
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import SIGNALS
from aetheris_gateway.service.jobs import JobService, page_size
from aetheris_gateway.states import FINISHED
from aetheris_gateway.store.inbox import Accepted, EntryDraft, EntryKind, InboxEntry, InboxStore
from aetheris_gateway.wakes import WakeQueue

BATCH_ROWS = 256
QUEUE_MAX = 20_000
# What waits to be written is in memory.
QUEUE_BYTES_MAX = 128 * 1024 * 1024
NOTES_MAX = 1_000

_KINDS = {
    EntryKind.SIGNAL: signals_pb.Note.KIND_SIGNAL,
    EntryKind.MESSAGE: signals_pb.Note.KIND_MESSAGE,
    EntryKind.DECISION: signals_pb.Note.KIND_DECISION,
}


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
            tasks.create_task(self._accepting.run(), name="accept-notes")
            tasks.create_task(self._settling.run(), name="settle-notes")

    # --- the sender's side

    async def signal(self, caller: Caller, request: pb.SignalRequest) -> pb.SignalResponse:
        draft = EntryDraft(
            note_id=self._clock.new_id(),
            tenant=caller.tenant,
            job_id=parse_job_id(request.job_id),
            kind=EntryKind.SIGNAL,
            name=_free(intake.key(request.correlation_key, "correlation_key")),
            message_id=None,
            payload=intake.payload(request.payload),
            actor=caller.actor,
        )
        accepted = await self.say(caller, draft)
        return pb.SignalResponse(signal_id=str(accepted.note_id), created=accepted.created)

    async def send_message(self, caller: Caller, request: pb.SendMessageRequest) -> pb.SendMessageResponse:
        draft = EntryDraft(
            note_id=self._clock.new_id(),
            tenant=caller.tenant,
            job_id=parse_job_id(request.job_id),
            kind=EntryKind.MESSAGE,
            name=intake.key(request.channel, "channel"),
            message_id=intake.key(request.message_id, "message_id"),
            payload=intake.payload(request.payload),
            actor=caller.actor,
        )
        accepted = await self.say(caller, draft)
        return pb.SendMessageResponse(created=accepted.created)

    async def say(self, caller: Caller, draft: EntryDraft) -> Accepted:
        """Accept a note, once."""
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
            return await self._accept(draft), "accepted_unchecked"
        if job.state in FINISHED:
            standing = await self._store.standing(draft)
            if standing is None:
                raise JobFinished("the job has ended and takes no more", job_id=job_id)
            return Accepted(standing, False), "duplicate"
        return await self._accept(draft), "accepted"

    async def _accept(self, draft: EntryDraft) -> Accepted:
        size = len(draft.payload)
        if self._bytes_waiting + size > QUEUE_BYTES_MAX:
            raise Exhausted("too much waits to be written", retry_after_s=1)
        self._bytes_waiting += size
        try:
            accepted = await self._accepting.submit_nowait(draft)
        finally:
            self._bytes_waiting -= size
        if accepted.created:
            self._wake_queue.wake(draft.job_id, accepted.note_id)
        return accepted

    # --- the holder's side

    async def fetch(self, request: signals_pb.FetchRequest) -> signals_pb.FetchResponse:
        after = _note_id(request.after_note_id, "after_note_id") if request.after_note_id else None
        size = page_size(request.page_size, default=NOTES_MAX, most=NOTES_MAX)
        tenant = intake.name(request.tenant, "tenant") if request.tenant else ""
        notes, more = await self._store.fetch(parse_job_id(request.job_id), after, size, tenant=tenant)
        return signals_pb.FetchResponse(notes=[_to_wire(note) for note in notes], more=more)

    async def settle(self, request: signals_pb.SettleRequest) -> signals_pb.SettleResponse:
        job_id = parse_job_id(request.job_id)
        if len(request.note_ids) > NOTES_MAX:
            raise Invalid(f"at most {NOTES_MAX} notes are settled at once", field="note_ids")
        notes = [(job_id, _note_id(note, "note_ids")) for note in request.note_ids]
        if notes:
            await self._settling.submit_nowait(notes)
        return signals_pb.SettleResponse()

    async def _write_settled(self, batch: Sequence[Sequence[tuple[UUID, UUID]]]) -> Sequence[None]:
        await self._store.settle([note for notes in batch for note in notes])
        return [None] * len(batch)


def _free(name: str) -> str:
    if name.startswith(RESERVED):
        raise Invalid(f"{RESERVED}… is said with the token that the agent gave away", field="correlation_key")
    return name


def _note_id(text: str, field: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as fault:
        raise Invalid("a note id is a UUID, as Fetch returned it", field=field) from fault


def _to_wire(note: InboxEntry) -> signals_pb.Note:
    return signals_pb.Note(
        note_id=str(note.note_id),
        kind=_KINDS[note.kind],
        name=note.name,
        payload=note.payload,
        actor=note.actor,
        message_id=note.message_id,
        accept_time=to_timestamp(note.accepted_at),
    )
