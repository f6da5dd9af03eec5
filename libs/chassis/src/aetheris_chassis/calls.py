"""The interceptor that every call passes: refusals become status codes, and each call is counted, timed and
logged in one line.

Its cost is per call and never per message: a bidirectional handler that reads and writes its context runs unchanged,
and one that yields is iterated here instead of by gRPC.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from time import perf_counter
from types import TracebackType
from typing import Any

import grpc
import structlog
from prometheus_client import Counter

from aetheris_chassis import metrics, status

log = structlog.get_logger()

_HANDLED = metrics.counter("aetheris_rpc_handled_total", "Calls answered.", ["method", "code"])
_SECONDS = metrics.histogram(
    "aetheris_rpc_seconds", "How long calls took, streams from first to last.", ["method"], buckets=metrics.SECONDS
)
_IN_FLIGHT = metrics.gauge("aetheris_rpc_in_flight", "Calls being answered.", ["method"])

# Called every few seconds by probes, so logged at debug level only.
_QUIET = ("/grpc.health.", "/grpc.reflection.")


class Calls(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self) -> None:
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        self._active = 0
        self._last_left = asyncio.Event()
        self._last_left.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        name = handler_call_details.method
        known = self._wrapped.get(name)
        if known is None or known[0] is not handler:
            known = self._wrapped[name] = (handler, _wrapped(handler, _Method(self, name)))
        return known[1]

    async def idle(self) -> None:
        """Wait until no handler runs."""
        await self._last_left.wait()

    def entered(self) -> None:
        self._active += 1
        self._last_left.clear()

    def left(self) -> None:
        self._active -= 1
        if self._active == 0:
            self._last_left.set()


class _Method:
    """The metrics of one method, looked up once."""

    def __init__(self, calls: Calls, name: str) -> None:
        self.calls = calls
        self.name = name
        self.in_flight = _IN_FLIGHT.labels(name)
        self._seconds = _SECONDS.labels(name)
        self._handled: dict[str, Counter] = {}
        self._quiet = name.startswith(_QUIET)

    def record(self, code: str, seconds: float) -> None:
        handled = self._handled.get(code)
        if handled is None:
            handled = self._handled[code] = _HANDLED.labels(self.name, code)
        handled.inc()
        self._seconds.observe(seconds)
        write = log.debug if self._quiet else log.info
        write("call answered", method=self.name, code=code, seconds=round(seconds, 6))


class _Call:
    """One call from its handler's first line to its last."""

    __slots__ = ("_began", "_context", "_method")

    def __init__(self, method: _Method, context: Any) -> None:
        self._method = method
        self._context = context
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = perf_counter()
        self._method.calls.entered()
        self._method.in_flight.inc()

    async def __aexit__(
        self, _: type[BaseException] | None, failure: BaseException | None, __: TracebackType | None
    ) -> None:
        cancelled = isinstance(failure, asyncio.CancelledError)
        try:
            # gRPC's own errors mean that the call is being aborted already, or that the client is gone.
            if isinstance(failure, Exception) and not isinstance(failure, grpc.aio.BaseError):
                await status.abort(self._context, failure, self._method.name)
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            self._method.calls.left()
            self._method.in_flight.dec()
            self._method.record("CANCELLED" if cancelled else _code(self._context), perf_counter() - self._began)


def _code(context: Any) -> str:
    code = context.code()
    if code is None or code == 0:
        return "OK"
    return code.name if isinstance(code, grpc.StatusCode) else str(code)


def _wrapped(handler: Any, method: _Method) -> Any:
    if handler.request_streaming and handler.response_streaming:
        behaviour = handler.stream_stream
        run = (_writing if inspect.isasyncgenfunction(behaviour) else _awaiting)(behaviour, method)
        return _rebuilt(handler, grpc.stream_stream_rpc_method_handler, run)
    if handler.response_streaming:
        behaviour = handler.unary_stream
        run = (_yielding if inspect.isasyncgenfunction(behaviour) else _awaiting)(behaviour, method)
        return _rebuilt(handler, grpc.unary_stream_rpc_method_handler, run)
    if handler.request_streaming:
        return _rebuilt(handler, grpc.stream_unary_rpc_method_handler, _awaiting(handler.stream_unary, method))
    return _rebuilt(handler, grpc.unary_unary_rpc_method_handler, _awaiting(handler.unary_unary, method))


def _rebuilt(handler: Any, make: Callable[..., Any], behaviour: Callable[..., Any]) -> Any:
    return make(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _awaiting(behaviour: Callable[..., Awaitable[Any]], method: _Method) -> Callable[..., Any]:
    """A handler that returns one answer, or writes its answers to the context."""

    async def run(request: Any, context: Any) -> Any:
        async with _Call(method, context):
            return await behaviour(request, context)

    return run


def _writing(behaviour: Callable[..., Any], method: _Method) -> Callable[..., Any]:
    """A bidirectional handler that yields, iterated here instead of by gRPC, so that no layer is added."""

    async def run(request: Any, context: Any) -> None:
        async with _Call(method, context), aclosing(behaviour(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)

    return run


def _yielding(behaviour: Callable[..., Any], method: _Method) -> Callable[..., Any]:
    """A handler that yields and stays a generator, because the tracing around it expects one."""

    async def run(request: Any, context: Any) -> AsyncIterator[Any]:
        async with _Call(method, context), aclosing(behaviour(request, context)) as answers:
            async for answer in answers:
                yield answer

    return run
