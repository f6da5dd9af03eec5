"""Forks: jobs that begin with a copy of another job's history."""

from __future__ import annotations

from aetheris_kernel.errors import Conflict
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from aetheris_gateway.core.requests import NewFork
from aetheris_gateway.identity import Caller
from aetheris_gateway.service.jobs import JobService
from aetheris_gateway.service.record import RecordService


class ForkService:
    def __init__(self, jobs: JobService, record: RecordService) -> None:
        self._jobs = jobs
        self._record = record

    async def fork(self, caller: Caller, new: NewFork, *, traceparent: str = "") -> pb.ForkJobResponse:
        """Submit a job with the source's agent, input, queue and priority, and the history before the cut."""
        source = await self._jobs.owned(caller, new.job_id)
        history = await self._record.history(new.job_id)
        if not history.last_seq:
            raise Conflict("nothing is on record of the job yet; submit it again instead", job_id=new.job_id)
        cut = history.cut(seq=new.at_seq, before_path=new.before_path)
        job, created = await self._jobs.start(
            scheduler_pb.SubmitRequest(
                tenant=caller.tenant,
                agent=source.agent,
                input=source.input,
                idempotency_key=new.idempotency_key,
                queue=source.queue,
                priority=source.priority,
                actor=caller.actor,
                fork=scheduler_pb.Fork(
                    from_job_id=source.job_id, at_seq=cut.seq, before_path=cut.before_path, effects=new.effects
                ),
            ),
            traceparent,
        )
        return pb.ForkJobResponse(job=job, created=created)
