"""One runner's stream: frames up to the dispatcher, frames of its outbox down.

A stream is over when the runner says goodbye or is gone, when this process drains, or when the session has
expired. Either way everything that is due to the runner is said first, if it still listens.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Invalid
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb

from aetheris_scheduler import convert
from aetheris_scheduler.core.session import check_hello
from aetheris_scheduler.loops.dispatcher import Dispatcher
from aetheris_scheduler.runners.connection import Seat

# How long the last words may take.
_LAST_WORDS_S = 1.0
OUTCOMES_MAX = 10_000


class _Over(Exception):
    """The stream's tasks are to end; why is said elsewhere."""


class Conversation:
    def __init__(self, dispatcher: Dispatcher, clock: Clock, context: Any) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._context = context

    async def run(self) -> None:
        first = await self._context.read()
        if first is grpc.aio.EOF:  # type: ignore[attr-defined]
            return
        if not first.HasField("hello"):
            raise Invalid("the first frame says hello", field="hello")
        # A stream has a name of its own: of several that claim a session the last speaks for it.
        hello = convert.hello(first.hello, uuid.uuid4())
        check_hello(hello)
        saying = [(convert.job_id(said.job_id), said.lease) for said in first.outcomes]
        seat = await self._dispatcher.open(hello, beat=first.beat.number, saying=saying)
        try:
            await self._converse(seat, first)
        finally:
            self._dispatcher.close(seat)
        if seat.refusal is not None:
            raise seat.refusal

    async def _converse(self, seat: Seat, first: pb.WorkRequest) -> None:
        self._hear(seat, first)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(seat), name="read")
                tasks.create_task(_cut_off(seat), name="cut off")
                await self._write(seat)
                raise _Over
        except* _Over:
            pass

    async def _read(self, seat: Seat) -> None:
        while (frame := await self._context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            if frame.HasField("hello"):
                seat.end(Invalid("a stream says hello once", field="hello"))
                return
            try:
                self._hear(seat, frame)
            except Invalid as invalid:
                seat.end(invalid)
                return
        # Goodbye: but what it said last is still to be answered.
        await seat.quiet()
        seat.end(None)

    def _hear(self, seat: Seat, frame: pb.WorkRequest) -> None:
        if len(frame.outcomes) > OUTCOMES_MAX:
            raise Invalid(f"at most {OUTCOMES_MAX} outcomes in one frame", field="outcomes")
        said = [convert.outcome(outcome, seat.session.id) for outcome in frame.outcomes]
        self._dispatcher.hear(seat, beat=frame.beat.number, more=frame.credits, said=said)

    async def _write(self, seat: Seat) -> None:
        while (frame := await seat.outbox.take()) is not None:
            seat.writing_since = self._clock.monotonic()
            await self._context.write(convert.to_frame(frame))
            seat.writing_since = None


async def _cut_off(seat: Seat) -> None:
    await seat.ended.wait()
    await asyncio.sleep(_LAST_WORDS_S)
    raise _Over
