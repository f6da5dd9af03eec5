"""One runner's `Work` stream: its frames go to the dispatcher, and frames of its connection's outbox go to it.

The stream ends when the runner closes it or is gone, when this process drains, or when the session has expired. In
every case the runner first gets what is in the outbox, if it still reads.
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
from aetheris_scheduler.runners.connection import RunnerConnection

# How long sending the last frames may take.
_LAST_FRAMES_S = 1.0
OUTCOMES_MAX = 10_000
SUSPECTS_MAX = 16


class _Over(Exception):
    """Ends the stream's tasks. The reason is the connection's `refusal`."""


class WorkStream:
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
        # Each stream has an id: of several that claim one session, the last speaks for it.
        hello = convert.hello(first.hello, uuid.uuid4())
        check_hello(hello)
        unsettled = [(convert.job_id(outcome.job_id), outcome.lease) for outcome in first.outcomes]
        connection = await self._dispatcher.open(hello, beat=first.beat.number, unsettled=unsettled)
        try:
            await self._exchange(connection, first)
        finally:
            self._dispatcher.close(connection)
        if connection.refusal is not None:
            raise connection.refusal

    async def _exchange(self, connection: RunnerConnection, first: pb.WorkRequest) -> None:
        self._hear(connection, first)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection), name="read")
                tasks.create_task(_cut_off(connection), name="cut off")
                await self._write(connection)
                raise _Over
        except* _Over:
            pass

    async def _read(self, connection: RunnerConnection) -> None:
        while (frame := await self._context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            if frame.HasField("hello"):
                connection.end(Invalid("a stream says hello once", field="hello"))
                return
            try:
                self._hear(connection, frame)
            except Invalid as invalid:
                connection.end(invalid)
                return
        # The runner closed its side, and still gets the answers to its last outcomes.
        await connection.all_settled()
        connection.end(None)

    def _hear(self, connection: RunnerConnection, frame: pb.WorkRequest) -> None:
        if len(frame.outcomes) > OUTCOMES_MAX:
            raise Invalid(f"at most {OUTCOMES_MAX} outcomes in one frame", field="outcomes")
        outcomes = [convert.outcome(outcome, connection.session.id) for outcome in frame.outcomes]
        if len(frame.suspects) > SUSPECTS_MAX:
            raise Invalid(f"at most {SUSPECTS_MAX} sessions with suspects in one frame", field="suspects")
        self._dispatcher.suspect([convert.suspects(named, connection.session.id) for named in frame.suspects])
        self._dispatcher.hear(connection, beat=frame.beat.number, more=frame.credits, outcomes=outcomes)

    async def _write(self, connection: RunnerConnection) -> None:
        while (frame := await connection.outbox.take()) is not None:
            connection.writing_since = self._clock.monotonic()
            await self._context.write(convert.to_frame(frame, connection.session.features))
            connection.writing_since = None


async def _cut_off(connection: RunnerConnection) -> None:
    """Bound the time that the last frames may take once the connection has ended."""
    await connection.ended.wait()
    await asyncio.sleep(_LAST_FRAMES_S)
    raise _Over
