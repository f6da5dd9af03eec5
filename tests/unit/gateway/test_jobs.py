"""What a submission becomes on its way to the scheduler."""

from __future__ import annotations

import asyncio

from aetheris_api.jobs import SubmitBody
from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewJob
from aetheris_gateway.http.routes.jobs import new_job
from aetheris_gateway.identity import Caller
from aetheris_gateway.service import JobService
from aetheris_kernel.clock import SystemClock
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from opentelemetry import trace

SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Scheduler:
    async def submit(self, request: scheduler_pb.SubmitRequest) -> scheduler_pb.SubmitResponse:
        self.request = request
        return scheduler_pb.SubmitResponse(job=scheduler_pb.Job(job_id=request.job_id), created=True)


async def traceparent_of(sent: str) -> str:
    scheduler = Scheduler()
    jobs = JobService(scheduler, SystemClock(), asyncio.Event())  # type: ignore[arg-type]
    await jobs.submit(Caller("default", "ada"), NewJob(agent="a", input=intake.message_input("x")), traceparent=sent)
    return scheduler.request.traceparent


async def test_a_job_joins_its_callers_trace():
    assert await traceparent_of(SENT) == SENT
    assert await traceparent_of("rubbish") == ""


async def test_where_spans_are_made_a_job_belongs_to_the_one_of_its_request():
    ours = trace.SpanContext(int("1" * 32, 16), int("2" * 16, 16), False, trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(ours)):
        assert await traceparent_of(SENT) == f"00-{'1' * 32}-{'2' * 16}-01"


async def test_an_input_is_parsed_where_it_enters_and_not_again(monkeypatch):
    def again(*_: object, **__: object) -> None:
        raise AssertionError("the input is parsed a second time")

    sent = SubmitBody(input={"args": [1]})  # as body.read returns it, parsed and checked
    monkeypatch.setattr(intake.json, "loads", again)
    scheduler = Scheduler()
    jobs = JobService(scheduler, SystemClock(), asyncio.Event())  # type: ignore[arg-type]
    await jobs.submit(Caller("default", "ada"), new_job("a", sent, None))

    assert (scheduler.request.input, scheduler.request.input_checked) == (b'{"args":[1],"kwargs":{}}', True)
