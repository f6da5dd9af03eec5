"""Traces: OpenTelemetry spans, sent by OTLP where an endpoint is set, and not made otherwise.

Calls with one request get a span from the interceptors here. A bidirectional stream gets none: it lives
for hours and carries many jobs, and each of its messages brings its own trace context, so a span of the whole stream
would say nothing.

The SDK is imported only where it is used: that takes a third of a service's start, and most services run without.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from opentelemetry import trace

# The limit of one export with its retries, so that a collector that is away does not delay the end of the process.
_EXPORT_S = 2


def setup_traces(service: str, endpoint: str) -> Callable[[], None]:
    """Called once by the entry point of a process. The returned function sends the remaining spans and stops."""
    if not endpoint:
        return lambda: None
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"aetheris-{service}"}))
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=_EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def active() -> bool:
    """Whether spans are set up in this process."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def server_interceptors() -> list[Any]:
    return [_ServerSpans()] if active() else []


def client_interceptors() -> list[Any]:
    if not active():
        return []
    from opentelemetry.instrumentation.grpc import _aio_client

    tracer = trace.get_tracer(__name__)
    makers: list[Any] = [_aio_client.UnaryUnaryAioClientInterceptor, _aio_client.UnaryStreamAioClientInterceptor]
    return [make(tracer) for make in makers]


class _ServerSpans(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self) -> None:
        from opentelemetry.instrumentation.grpc import _aio_server, filters

        make: Any = _aio_server.OpenTelemetryAioServerInterceptor
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
