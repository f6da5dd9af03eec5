"""The checks and counters that every request passes: the names in `origin.py`, metrics, one log line."""

from __future__ import annotations

from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aetheris_gateway.http.errors import error_response
from aetheris_gateway.http.origin import AllowedHosts
from aetheris_gateway.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger()

# Probes and Prometheus ask for these every few seconds; they are logged at debug level.
_QUIET = ("/api/health", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMiddleware:
    """The outermost layer, so that a fault in any other layer is still answered and counted."""

    def __init__(self, app: ASGIApp, *, hosts: AllowedHosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status, complete = 0, False

        async def send_noted(message: Message) -> None:
            nonlocal status, complete
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-content-type-options", b"nosniff"))
            await send(message)

        try:
            refused = self._hosts.refusal(scope["method"], scope["headers"])
            if refused is None:
                await self._app(scope, receive, send_noted)
            else:
                answer = error_response(refused.status, refused.code, refused.message, {"field": refused.field})
                await answer(scope, receive, send_noted)
        except ClientDisconnect:
            status = status or 499
        except Exception:
            # Starlette answers a fault through our handler and raises it as well; then the answer is complete. If it is
            # not, the server must learn of the fault, and must not end the answer as if it were complete.
            if not complete:
                raise
        finally:
            _count(scope, status, perf_counter() - began)


def _count(scope: Scope, status: int, seconds: float) -> None:
    # Label by the route's template: the path itself holds ids and arbitrary text, of which there is no end.
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    HTTP_REQUESTS.labels(method, route, status or 499).inc()
    HTTP_SECONDS.labels(method, route).observe(seconds)
    log_line = log.debug if route in _QUIET else log.info
    log_line("request answered", method=method, route=route, status=status or 499, seconds=round(seconds, 6))
