"""The interceptor every call passes: refusals become status codes, and each call is counted, timed and
told in one canonical line.

It costs once per call and never per message: a bidirectional handler that reads and writes is run as it
is, and one that yields is run by the same loop that gRPC would have run it with.
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

from aetheris_chassis import metrics, status

log = structlog.get_logger()

_HANDLED = metrics.counter("aetheris_rpc_handled_total", "Calls answered.", ["method", "code"])
_SECONDS = metrics.histogram(
    "aetheris_rpc_seconds", "How long calls took, streams from first to last.", ["method"], buckets=metrics.SECONDS
)
_IN_FLIGHT = metrics.gauge("aetheris_rpc_in_flight", "Calls being answered.", ["method"])

# Asked every few seconds by whoever watches; not worth a line each.
_QUIET = ("/grpc.health.", "/grpc.reflection.")


class Calls(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self) -> None:
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        self._active = 0
        self._last_left: asyncio.Event = asyncio.Event()
        self._last_left.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, _wrapped(handler, self, method))
        return known[1]

    async def idle(self) -> None:
        """Until no handler runs."""
        await self._last_left.wait()

    def entered(self) -> None:
        self._active += 1
        self._last_left.clear()

    def left(self) -> None:
        self._active -= 1
        if self._active == 0:
            self._last_left.set()


class _Call:
    """One call from its handler's first line to its last."""

    __slots__ = ("_began", "_calls", "_context", "_in_flight", "_method")

    def __init__(self, calls: Calls, method: str, context: Any) -> None:
        self._calls = calls
        self._method = method
        self._context = context
        self._in_flight = _IN_FLIGHT.labels(method)
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = perf_counter()
        self._calls.entered()
        self._in_flight.inc()

    async def __aexit__(
        self, _: type[BaseException] | None, failure: BaseException | None, __: TracebackType | None
    ) -> None:
        cancelled = isinstance(failure, asyncio.CancelledError)
        try:
            # What gRPC itself raises is an abort under way, or a client that has left.
            if isinstance(failure, Exception) and not isinstance(failure, grpc.aio.BaseError):
                await status.abort(self._context, failure, self._method)
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            self._calls.left()
            self._in_flight.dec()
            self._tell("CANCELLED" if cancelled else _code(self._context))

    def _tell(self, code: str) -> None:
        seconds = perf_counter() - self._began
        _HANDLED.labels(self._method, code).inc()
        _SECONDS.labels(self._method).observe(seconds)
        tell = log.debug if self._method.startswith(_QUIET) else log.info
        tell("call answered", method=self._method, code=code, seconds=round(seconds, 6))


def _code(context: Any) -> str:
    code = context.code()
    if code is None or code == 0:
        return "OK"
    return code.name if isinstance(code, grpc.StatusCode) else str(code)


def _wrapped(handler: Any, calls: Calls, method: str) -> Any:
    if handler.request_streaming and handler.response_streaming:
        behaviour = handler.stream_stream
        run = (_writing if inspect.isasyncgenfunction(behaviour) else _awaiting)(behaviour, calls, method)
        return _rebuilt(handler, grpc.stream_stream_rpc_method_handler, run)
    if handler.response_streaming:
        behaviour = handler.unary_stream
        run = (_yielding if inspect.isasyncgenfunction(behaviour) else _awaiting)(behaviour, calls, method)
        return _rebuilt(handler, grpc.unary_stream_rpc_method_handler, run)
    if handler.request_streaming:
        return _rebuilt(handler, grpc.stream_unary_rpc_method_handler, _awaiting(handler.stream_unary, calls, method))
    return _rebuilt(handler, grpc.unary_unary_rpc_method_handler, _awaiting(handler.unary_unary, calls, method))


def _rebuilt(handler: Any, make: Callable[..., Any], behaviour: Callable[..., Any]) -> Any:
    return make(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _awaiting(behaviour: Callable[..., Awaitable[Any]], calls: Calls, method: str) -> Callable[..., Any]:
    """One answer, or a handler that writes its answers to the context."""

    async def run(request: Any, context: Any) -> Any:
        async with _Call(calls, method, context):
            return await behaviour(request, context)

    return run


def _writing(behaviour: Callable[..., Any], calls: Calls, method: str) -> Callable[..., Any]:
    """A handler that yields, driven here instead of by gRPC, which adds no layer to it."""

    async def run(request: Any, context: Any) -> None:
        async with _Call(calls, method, context), aclosing(behaviour(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)

    return run


def _yielding(behaviour: Callable[..., Any], calls: Calls, method: str) -> Callable[..., Any]:
    """A handler that yields and stays one, for the tracing around it."""

    async def run(request: Any, context: Any) -> AsyncIterator[Any]:
        async with _Call(calls, method, context), aclosing(behaviour(request, context)) as answers:
            async for answer in answers:
                yield answer

    return run
