"""Traces to the messages of the gRPC API."""

from __future__ import annotations

from aetheris_journal import codec
from aetheris_proto.gateway.v1 import gateway_pb2 as pb

from aetheris_gateway.core.steps import Step


def step_to_wire(step: Step) -> pb.TraceStep:
    return pb.TraceStep(
        path=step.path,
        name=step.name,
        kind=step.kind,
        status=step.status,
        outcome=step.outcome,
        attempts=step.attempts,
        start_time=codec.to_timestamp(step.started_at),
        elapsed=None if step.elapsed is None else codec.to_duration(step.elapsed),
        arguments=step.arguments,
        result=step.result,
        failure=None if step.failure is None else codec.to_failure(step.failure),
        key=step.key,
    )
