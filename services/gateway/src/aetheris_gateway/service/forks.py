"""Forks: jobs that begin with a copy of another job's history."""

from __future__ import annotations

from aetheris_api.statuses import ForkEffects
from aetheris_kernel.errors import Conflict
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from aetheris_gateway.core.fork import Cut, SourceChain
from aetheris_gateway.core.requests import NewFork
from aetheris_gateway.identity import Caller
from aetheris_gateway.service.jobs import JobService
from aetheris_gateway.service.record import RecordService
from aetheris_gateway.states import STATUSES


class ForkService:
    def __init__(self, jobs: JobService, record: RecordService) -> None:
        self._jobs = jobs
        self._record = record

    async def fork(self, caller: Caller, new: NewFork, *, traceparent: str = "") -> pb.ForkJobResponse:
        """Submit a job with the source's agent, input, queue and priority, and the history before the cut."""
        source = await self._jobs.owned(caller, new.job_id)
        history = await self._history(new.job_id)
        cut = history.cut(seq=new.at_seq, before_path=new.before_path)
        job, created = await self._forked(
            caller, source, cut, effects=new.effects, key=new.idempotency_key, traceparent=traceparent
        )
        return pb.ForkJobResponse(job=job, created=created)

    async def retry(self, caller: Caller, job_id: str, *, traceparent: str = "") -> pb.RetryJobResponse:
        """A parked job goes on; of a failed one, a fork goes on before the step that failed."""
        source = await self._jobs.owned(caller, job_id)
        if source.state == scheduler_pb.JOB_STATE_PARKED:
            requeued = await self._jobs.requeue(caller, pb.RequeueJobRequest(job_id=job_id))
            return pb.RetryJobResponse(job=requeued.job)
        if source.state != scheduler_pb.JOB_STATE_FAILED:
            state = STATUSES[source.state]
            raise Conflict(f"only a parked or a failed job is retried; this one is {state}", state=state)
        cut = (await self._history(job_id)).cut_before_failure()
        job, created = await self._forked(
            caller,
            source,
            cut,
            effects=ForkEffects.REUSE,
            key=f"retry of {job_id}",
            traceparent=traceparent,
            retry=True,
        )
        return pb.RetryJobResponse(job=job, created=created)

    async def _history(self, job_id: str) -> SourceChain:
        history = await self._record.history(job_id)
        if not history.last_seq:
            raise Conflict("nothing is on record of the job yet; submit it again instead", job_id=job_id)
        return history

    async def _forked(
        self,
        caller: Caller,
        source: scheduler_pb.Job,
        cut: Cut,
        *,
        effects: str,
        key: str,
        traceparent: str,
        retry: bool = False,
    ) -> tuple[scheduler_pb.Job, bool]:
        return await self._jobs.start(
            scheduler_pb.SubmitRequest(
                tenant=caller.tenant,
                agent=source.agent,
                input=source.input,
                idempotency_key=key,
                queue=source.queue,
                priority=source.priority,
                actor=caller.actor,
                fork=scheduler_pb.Fork(
                    from_job_id=source.job_id,
                    at_seq=cut.seq,
                    before_path=cut.before_path,
                    effects=effects,
                    retry=retry,
                ),
            ),
            traceparent,
        )
