"""The scheduler's calls for a parent and its children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
from aetheris_chassis.client import retrying
from aetheris_engine.ports import Assignment, ChildOutcome, EndedChildren
from aetheris_journal import codec
from aetheris_journal.events import Failure
from aetheris_journal.replay import ChildRecord
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as rpc

DEADLINE_S = 10.0

T = TypeVar("T")


class SchedulerChildren:
    """`ports.ChildJobs` over gRPC. Every call may be repeated, so a failed one is retried."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rpc.SchedulerStub(channel)

    async def submit(self, parent: Assignment, child: ChildRecord) -> None:
        request = pb.SubmitRequest(
            tenant=parent.tenant,
            agent=child.agent,
            input=child.input,
            queue=child.queue,
            job_id=child.job_id,
            parent_job_id=str(parent.job_id),
            actor=parent.actor,
        )
        await _asked(lambda: self._stub.Submit(request, timeout=5))

    async def ended(self, parent: Assignment, after: int | None, named: Sequence[str]) -> EndedChildren:
        request = pb.ListEndedRequest(parent_job_id=str(parent.job_id), after=after, job_ids=named)
        answer = await _asked(lambda: self._stub.ListEnded(request, timeout=5))
        return EndedChildren(list(answer.job_ids), answer.next, answer.more)

    async def outcome(self, parent: Assignment, job_id: str) -> ChildOutcome:
        request = pb.GetRequest(job_id=job_id)
        job = (await _asked(lambda: self._stub.Get(request, timeout=5))).job
        match job.state:
            case pb.JOB_STATE_COMPLETED:
                return ChildOutcome(job.result)
            case pb.JOB_STATE_CANCELLED:
                return ChildOutcome(failure=Failure("Cancelled", job.failure.message))
            case _:
                return ChildOutcome(failure=codec.from_failure(job.failure))

    async def cancel(self, parent: Assignment, job_id: str, reason: str) -> None:
        request = pb.CancelRequest(job_id=job_id, reason=reason, actor=f"job {parent.job_id}")
        await _asked(lambda: self._stub.Cancel(request, timeout=5))


async def _asked(call: Callable[[], Awaitable[T]]) -> T:
    return await retrying(call, deadline_s=DEADLINE_S)
