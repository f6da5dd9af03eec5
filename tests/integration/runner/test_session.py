"""A runner's session over real gRPC, with a scheduler that was away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
from aeterna.grpc import started
from aetheris_chassis.client import open_channel
from aetheris_chassis.server import MESSAGE_MAX_BYTES
from aetheris_engine import ports
from aetheris_kernel.clock import SystemClock
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as rpc
from aetheris_runner.peers.session import NO_JOBS, Session
from aetheris_runner.peers.work_frames import FRAME_BYTES_MAX
from google.protobuf.duration_pb2 import Duration


class Scheduler(rpc.SchedulerServicer):
    """Acknowledges every outcome, and writes down the frames."""

    def __init__(self) -> None:
        self.frames: list[pb.WorkRequest] = []

    async def Work(self, request: AsyncIterator[pb.WorkRequest], context: Any) -> AsyncIterator[pb.WorkResponse]:
        async for frame in request:
            self.frames.append(frame)
            response = pb.WorkResponse(
                settled=[pb.Settled(job_id=end.job_id, lease=end.lease, effective=True) for end in frame.outcomes]
            )
            if frame.HasField("hello"):
                response.welcome.lease.CopyFrom(Duration(seconds=5))
            if frame.HasField("beat"):
                response.renewal.beat = frame.beat.number
            yield response


@asynccontextmanager
async def open_session(address: str) -> AsyncIterator[Session]:
    async with open_channel(address) as channel:
        session = Session(
            channel, SystemClock(), runner_id="r", agents=["a"], queues=[], capacity=100, session_id=str(UUID(int=1))
        )
        running = asyncio.ensure_future(session.run(NO_JOBS))
        yield session
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def serving(scheduler: Scheduler, address: str) -> AsyncIterator[None]:
    options = [("grpc.max_receive_message_length", MESSAGE_MAX_BYTES)]
    server = grpc.aio.server(options=options)
    rpc.add_SchedulerServicer_to_server(scheduler, server)
    server.add_insecure_port(address)
    async with started(server):
        yield


async def test_b3_sixty_large_results_reach_a_scheduler_that_was_away(tmp_path: Path) -> None:
    address, scheduler = f"unix:{tmp_path}/scheduler", Scheduler()
    async with open_session(address) as session:
        result = b'"' + b"x" * 500_000 + b'"'
        effective = [session.outcome(UUID(int=number), 1, ports.Completed(result)) for number in range(60)]
        async with serving(scheduler, address), asyncio.timeout(15):
            taken = await asyncio.gather(*effective)

    first = scheduler.frames[0]
    assert taken == [True] * 60
    # A job that a returning session does not name is taken back: those whose outcomes come later are named, too.
    assert {held.job_id for held in first.hello.held} == {str(UUID(int=number)) for number in range(60)}
    assert len(first.outcomes) < 60
    assert max(frame.ByteSize() for frame in scheduler.frames) <= FRAME_BYTES_MAX + 10_000
    assert [end.job_id for frame in scheduler.frames for end in frame.outcomes] == [
        str(UUID(int=number)) for number in range(60)
    ]


async def test_b3_many_small_outcomes_are_sent_in_several_frames(tmp_path: Path) -> None:
    address, scheduler = f"unix:{tmp_path}/scheduler", Scheduler()
    async with open_session(address) as session:
        effective = [session.outcome(UUID(int=number), 1, ports.Completed(b"1")) for number in range(2_500)]
        async with serving(scheduler, address), asyncio.timeout(15):
            await asyncio.gather(*effective)

    assert max(len(frame.outcomes) for frame in scheduler.frames) <= 1_000
