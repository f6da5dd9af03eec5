"""Traces: OpenTelemetry spans, sent by OTLP where an endpoint is set and made nowhere else.

Calls with one request get a span from the interceptors here. A bidirectional stream gets none: it lives
for hours and carries many jobs, each of its messages brings its own trace context along, and none should
pay for a span that tells nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import filters
from opentelemetry.instrumentation.grpc._aio_client import (
    UnaryStreamAioClientInterceptor,
    UnaryUnaryAioClientInterceptor,
)
from opentelemetry.instrumentation.grpc._aio_server import OpenTelemetryAioServerInterceptor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def setup_traces(service: str, endpoint: str) -> Callable[[], None]:
    """Once per process, by its entry point. The result sends what is left and stops."""
    if not endpoint:
        return lambda: None
    provider = TracerProvider(resource=Resource.create({"service.name": f"aetheris-{service}"}))
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def active() -> bool:
    """Whether this process makes spans."""
    return isinstance(trace.get_tracer_provider(), TracerProvider)


def server_interceptors() -> list[Any]:
    return [_ServerSpans()] if active() else []


def client_interceptors() -> list[Any]:
    tracer = trace.get_tracer(__name__)
    makers: list[Any] = [UnaryUnaryAioClientInterceptor, UnaryStreamAioClientInterceptor]
    return [make(tracer) for make in makers] if active() else []


class _ServerSpans(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self) -> None:
        make: Any = OpenTelemetryAioServerInterceptor
        self._spans = make(trace.get_tracer(__name__), filters.negate(filters.health_check()))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or (handler.response_streaming and not inspect.isasyncgenfunction(handler.unary_stream)):
            return handler

        async def found(_: grpc.HandlerCallDetails) -> Any:
            return handler

        return await self._spans.intercept_service(found, handler_call_details)
