"""A runner as the scheduler sees one: it says what a test tells it to say, and remembers what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as api

WITHIN_S = 15.0


class Stream:
    """One stream of a runner's session."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.welcome: pb.Welcome | None = None
        self.assignments: list[pb.Assignment] = []
        self.settled: list[pb.Settled] = []
        self.notices: list[pb.Notice] = []
        self.renewals: list[int] = []
        self.drained = False
        self.over = False
        self.code: grpc.StatusCode | None = None
        self._heard = asyncio.Condition()
        self._beat = 1
        # gRPC fails a write that begins before the one before it has ended.
        self._writing = asyncio.Lock()

    @property
    def jobs(self) -> list[str]:
        return [assignment.job.job_id for assignment in self.assignments]

    def job(self, job_id: str) -> pb.Job:
        """As it was last assigned."""
        return next(a.job for a in reversed(self.assignments) if a.job.job_id == job_id)

    async def until(self, holds: Callable[[], Any], within_s: float = WITHIN_S) -> None:
        async with asyncio.timeout(within_s), self._heard:
            await self._heard.wait_for(holds)

    async def say(self, *outcomes: pb.Outcome, credits: int = 0, beat: bool = False) -> None:  # noqa: A002
        frame = pb.WorkRequest(outcomes=outcomes, credits=credits)
        if beat:
            self._beat += 1
            frame.beat.number = self._beat
        async with self._writing:
            await self.call.write(frame)

    async def ended(self, *jobs: pb.Job, credits: int = 0, state: Any = pb.JOB_STATE_COMPLETED) -> None:  # noqa: A002
        await self.say(*(ended(job, state) for job in jobs), credits=credits)

    async def goodbye(self) -> None:
        await self.call.done_writing()

    async def listen(self) -> None:
        try:
            while (response := await self.call.read()) is not grpc.aio.EOF:
                async with self._heard:
                    self._hear(response)
                    self._heard.notify_all()
            self.code = await self.call.code()
        except grpc.aio.AioRpcError as error:
            self.code = error.code()
        finally:
            async with self._heard:
                self.over = True
                self._heard.notify_all()

    async def keep_beating(self, every_s: float) -> None:
        while not self.over:
            await self.say(beat=True)
            await asyncio.sleep(every_s)

    def _hear(self, response: pb.WorkResponse) -> None:
        if response.HasField("welcome"):
            self.welcome = response.welcome
        if response.HasField("renewal"):
            self.renewals.append(response.renewal.beat)
        self.assignments += response.assignments
        self.settled += response.settled
        self.notices += response.notices
        self.drained |= response.drain


class Peer:
    """A runner's process: its session, over as many streams as it takes."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        agents: Sequence[str] = ("*",),
        capacity: int = 10,
        session: str = "",
        **more: Any,
    ) -> None:
        self.api = api.SchedulerStub(channel)
        self.session = session or str(uuid4())
        self.agents, self.capacity, self.more = agents, capacity, more

    @asynccontextmanager
    async def stream(
        self,
        *,
        held: Iterable[pb.Job] = (),
        outcomes: Iterable[pb.Outcome] = (),
        credits: int | None = None,  # noqa: A002
        beating_s: float | None = 0.1,
        listening: bool = True,
    ) -> AsyncIterator[Stream]:
        held = list(held)
        stream = Stream(self.api.Work())
        hello = pb.Hello(
            session_id=self.session,
            runner_id="peer",
            agents=self.agents,
            capacity=self.capacity,
            held=[pb.Held(job_id=job.job_id, lease=job.lease) for job in held],
            **self.more,
        )
        room = self.capacity - len(held) if credits is None else credits
        await stream.call.write(pb.WorkRequest(hello=hello, beat=pb.Beat(number=1), outcomes=outcomes, credits=room))
        tasks = [asyncio.ensure_future(stream.listen())] if listening else []
        if beating_s is not None:
            tasks.append(asyncio.ensure_future(stream.keep_beating(beating_s)))
        try:
            if listening:
                await stream.until(lambda: stream.welcome is not None or stream.over)
            yield stream
        finally:
            stream.call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def ended(job: pb.Job, state: Any = pb.JOB_STATE_COMPLETED) -> pb.Outcome:
    result = b'"done"' if state == pb.JOB_STATE_COMPLETED else b""
    return pb.Outcome(job_id=job.job_id, lease=job.lease, ended=pb.Ended(state=state, result=result))


def parked(job: pb.Job, reason: str = "signal: go", *, operator: bool = False, wake_time: Any = None) -> pb.Outcome:
    what = pb.Parked(reason=reason, operator=operator, wake_time=wake_time)
    return pb.Outcome(job_id=job.job_id, lease=job.lease, parked=what)


def released(job: pb.Job, delay: timedelta | None = None) -> pb.Outcome:
    return pb.Outcome(job_id=job.job_id, lease=job.lease, released=pb.Released(reason="leaving", delay=delay))


def progressed(job: pb.Job, **said: Any) -> pb.Outcome:
    return pb.Outcome(job_id=job.job_id, lease=job.lease, progressed=pb.Progressed(**said))


def submission(**fields: Any) -> pb.SubmitRequest:
    return pb.SubmitRequest(**{"tenant": "acme", "agent": "greeter", "input": b'{"args": []}', **fields})
