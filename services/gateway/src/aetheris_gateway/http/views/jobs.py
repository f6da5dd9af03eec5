"""Jobs in the shapes of REST."""

from __future__ import annotations

from aetheris_api import jobs as shapes
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from aetheris_gateway.http.render import embed
from aetheris_gateway.http.views.fields import failure_of, time_of
from aetheris_gateway.states import STATUSES


def links(job_id: str) -> shapes.JobLinks:
    here = f"/api/jobs/{job_id}"
    return {
        "self": here,
        "events": f"{here}/events",
        "trace": f"{here}/trace",
        "page": f"{here}/trace/page",
        "stream": f"{here}/stream",
        "children": f"/api/jobs?parent={job_id}",
    }


def accepted(response: pb.SubmitResponse | pb.ForkJobResponse | pb.RetryJobResponse) -> shapes.AcceptedJob:
    job = response.job
    hint = response.hint if isinstance(response, pb.SubmitResponse) else ""
    return shapes.AcceptedJob(
        job_id=job.job_id,
        id=job.job_id,
        status=STATUSES[job.state],
        agent=job.agent,
        created=response.created,
        hint=hint or None,
        links=links(job.job_id),
    )


def job(found: scheduler_pb.Job) -> shapes.Job:
    return shapes.Job(
        id=found.job_id,
        agent=found.agent,
        status=STATUSES[found.state],
        queue=found.queue,
        priority=found.priority,
        input=embed(found.input),
        result=embed(found.result),
        error=failure_of(found.failure) if found.HasField("failure") else None,
        created_at=time_of(found, "create_time"),
        started_at=time_of(found, "start_time"),
        finished_at=time_of(found, "finish_time"),
        park_reason=found.park_reason or None,
        wake_at=time_of(found, "wake_time"),
        paused=found.paused,
        cancel_requested=found.cancel_requested,
        terminate_requested=found.terminate_requested,
        runner_id=found.runner_id or None,
        lease=found.lease,
        crash_count=found.crash_count,
        parent_job_id=found.parent_job_id or None,
        actor=found.actor or None,
        fork=_fork(found.fork) if found.HasField("fork") else None,
        progress=_progress(found.progress) if found.HasField("progress") else None,
        idempotency_key=found.idempotency_key or None,
        version=found.version or None,
        wants_version=found.wants_version or None,
        retried_as_job_id=found.retried_as_job_id or None,
        deadline=time_of(found, "deadline"),
        start_after=time_of(found, "start_after"),
        links=links(found.job_id),
    )


def _fork(found: scheduler_pb.Fork) -> shapes.Fork:
    return shapes.Fork(
        job_id=found.from_job_id, at_seq=found.at_seq, before_path=found.before_path or None, effects=found.effects
    )


def _progress(found: scheduler_pb.Progress) -> shapes.Progress:
    return shapes.Progress(fraction=found.fraction, note=found.note, at=time_of(found, "time"))


def job_page(page: pb.ListJobsResponse) -> shapes.JobPage:
    return shapes.JobPage(jobs=[job(found) for found in page.jobs], next_cursor=page.next_page_token or None)


def stuck_page(page: pb.ListStuckResponse) -> shapes.StuckPage:
    return shapes.StuckPage(
        jobs=[
            shapes.StuckJob(
                job=job(found.job), cause=found.cause, remedy=found.remedy, since=time_of(found, "since_time")
            )
            for found in page.jobs
        ],
        next_cursor=page.next_page_token or None,
    )
