"""Spans, in a process of its own: a process sets them up once. The collector is a real one, as small as can be."""

from __future__ import annotations

import json
import subprocess
import sys

from harness.environment import environment

CODE = """
import asyncio, json
import grpc
from aeterna.grpc import started
from aetheris_chassis.traces import setup_traces
from harness.probe import METHODS, Probe, ask, probing
from aetheris_kernel.errors import NotFound
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb, trace_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

spans = []

class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    async def Export(self, request, context):
        for resource in request.resource_spans:
            attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
            spans.extend((attributes["service.name"], s) for scope in resource.scope_spans for s in scope.spans)
        return pb.ExportTraceServiceResponse()

async def answer(request):
    if request == b"refuse":
        raise NotFound("no")
    return request

async def main():
    collector = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), collector)
    port = collector.add_insecure_port("127.0.0.1:0")
    async with started(collector):
        await trace(port)

async def trace(port):
    stop = setup_traces("probe", f"http://127.0.0.1:{port}")
    async with probing(Probe(answer)) as (_, channel):
        for method in METHODS:
            assert await ask(channel, method, b"a") == [b"a"]
        try:
            await ask(channel, "Unary", b"refuse")
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    await asyncio.to_thread(stop)
    print(json.dumps([
        {
            "service": service,
            "method": s.name.rpartition("/")[2],
            "kind": s.kind,
            "id": s.span_id.hex(),
            "parent": s.parent_span_id.hex(),
            "trace": s.trace_id.hex(),
            "code": next((a.value.int_value for a in s.attributes if a.key == "rpc.grpc.status_code"), None),
        }
        for service, s in spans
    ]))

asyncio.run(main())
"""
SERVER, CLIENT = 2, 3


def test_calls_with_one_request_are_spans_and_the_servers_continue_the_clients():
    done = subprocess.run([sys.executable, "-c", CODE], env=environment(), capture_output=True, text=True, timeout=15)
    assert done.returncode == 0, done.stderr
    spans = json.loads(done.stdout.splitlines()[-1])
    served = [span for span in spans if span["kind"] == SERVER]
    made = {span["id"]: span for span in spans if span["kind"] == CLIENT}

    assert {span["service"] for span in spans} == {"aetheris-probe"}
    # Collect has one answer, so its handler is spanned; its client, like those of both ways, is a stream.
    assert sorted(span["method"] for span in served) == ["Collect", "Unary", "Unary", "Yielding"]
    assert all(made[span["parent"]]["trace"] == span["trace"] for span in served if span["method"] != "Collect")
    assert sorted(span["code"] for span in served if span["method"] == "Unary") == [0, 5]


AWAY = """
from aetheris_chassis.traces import setup_traces
from opentelemetry import trace
stop = setup_traces("probe", "http://127.0.0.1:1")
with trace.get_tracer("probe").start_as_current_span("span"):
    pass
stop()
"""


def test_a_collector_that_is_away_does_not_hold_up_the_end():
    # By itself the exporter tries for longer than this.
    done = subprocess.run([sys.executable, "-c", AWAY], capture_output=True, text=True, check=False, timeout=15)

    assert done.returncode == 0, done.stderr
